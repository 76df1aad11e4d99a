//! Which optional parts of PromQL are switched on, by Prometheus' flag names.

/// Optional parts of PromQL. All are off by default, as in Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Features {
    /// `promql-experimental-functions`: functions and aggregations marked experimental.
    pub experimental_functions: bool,
    /// `promql-extended-range-selectors`: `anchored` and `smoothed`.
    pub extended_range_selectors: bool,
    /// `promql-binop-fill-modifiers`: `fill`, `fill_left`, `fill_right`.
    pub binop_fill_modifiers: bool,
    /// `promql-delayed-name-removal`: names are dropped at the end of the evaluation.
    pub delayed_name_removal: bool,
    /// `use-start-timestamps`: counter functions look at start timestamps.
    pub use_start_timestamps: bool,
    /// `type-and-unit-labels`: `__type__` and `__unit__` take part in annotations.
    pub type_and_unit_labels: bool,
    /// `promql-per-step-stats`: statistics by step.
    pub per_step_stats: bool,
}

impl Features {
    /// Everything on.
    pub fn all() -> Self {
        Self {
            experimental_functions: true,
            extended_range_selectors: true,
            binop_fill_modifiers: true,
            delayed_name_removal: true,
            use_start_timestamps: true,
            type_and_unit_labels: true,
            per_step_stats: true,
        }
    }

    /// The features of the given flag names, and the names that are none of PromQL's.
    pub fn from_names<'a>(names: impl IntoIterator<Item = &'a str>) -> (Self, Vec<&'a str>) {
        let mut features = Self::default();
        let mut unknown = Vec::new();
        for name in names {
            match name {
                "promql-experimental-functions" => features.experimental_functions = true,
                "promql-extended-range-selectors" => features.extended_range_selectors = true,
                "promql-binop-fill-modifiers" => features.binop_fill_modifiers = true,
                "promql-delayed-name-removal" => features.delayed_name_removal = true,
                "use-start-timestamps" => features.use_start_timestamps = true,
                "type-and-unit-labels" => features.type_and_unit_labels = true,
                "promql-per-step-stats" => features.per_step_stats = true,
                // On for everybody since 3.14.
                "promql-duration-expr" => {}
                other => unknown.push(other),
            }
        }
        (features, unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flag_names_switch_features_on_and_unknown_ones_are_named() {
        let (features, unknown) =
            Features::from_names(["promql-binop-fill-modifiers", "promql-duration-expr", "agent"]);
        assert!(features.binop_fill_modifiers && !features.experimental_functions);
        assert_eq!(unknown, ["agent"]);
    }
}
