//! `--enable-feature`: Prometheus' names.

use pyrrha_promql::Features;

/// What the names of `--enable-feature` switch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FeatureSet {
    /// Parts of PromQL.
    pub promql: Features,
    /// `st-storage`: start timestamps are stored.
    pub start_timestamps: bool,
}

/// Names that Prometheus knows and that change nothing here: what they switch is always on, or
/// has no counterpart.
const WITHOUT_EFFECT: &[&str] = &[
    "auto-reload-config",
    "concurrent-rule-eval",
    "created-timestamp-zero-ingestion",
    "delayed-compaction",
    "exemplar-storage",
    "extra-scrape-metrics",
    "fast-startup",
    "histograms-st-encoding",
    "memory-snapshot-on-shutdown",
    "metadata-wal-records",
    "native-histograms",
    "old-ui",
    "ooo-native-histograms",
    "otlp-deltatocumulative",
    "otlp-native-delta-ingestion",
    "promql-at-modifier",
    "promql-duration-expr",
    "promql-negative-offset",
    "remote-write-receiver",
    "search-api",
    "st-synthesis",
    "use-uncached-io",
    "xor2-encoding",
];

/// The name of the feature that stores start timestamps.
pub(crate) const ST_STORAGE: &str = "st-storage";
/// Names that exclude each other, as Prometheus has it.
const EITHER_OR: [&str; 2] = ["otlp-deltatocumulative", "otlp-native-delta-ingestion"];

/// Says so if names exclude each other.
pub(crate) fn check(names: &[String]) -> Result<(), String> {
    match EITHER_OR.iter().all(|name| names.iter().any(|other| other.trim() == *name)) {
        true => Err(format!("{} exclude each other: name one of them", EITHER_OR.join(" and "))),
        false => Ok(()),
    }
}

impl FeatureSet {
    /// Switches on what is named; returns the unknown names too.
    pub fn from_names<'a>(names: impl IntoIterator<Item = &'a str>) -> (Self, Vec<&'a str>) {
        let names = names.into_iter().map(str::trim).filter(|n| !n.is_empty());
        let (promql, others) = Features::from_names(names);
        let mut set = Self { promql, start_timestamps: false };
        let mut unknown = Vec::new();
        for name in others {
            match name {
                ST_STORAGE => set.start_timestamps = true,
                name if WITHOUT_EFFECT.contains(&name) => {}
                name => unknown.push(name),
            }
        }
        (set, unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_exclude_each_other_are_refused() {
        assert!(EITHER_OR.iter().all(|name| check(&[(*name).to_owned()]).is_ok()));
        assert!(check(&[EITHER_OR[1].to_owned(), "x".to_owned(), EITHER_OR[0].to_owned()]).is_err());
    }

    #[test]
    fn unknown_names_are_told_not_refused() {
        let names = ["promql-experimental-functions", "native-histograms", "warp-drive", "", "st-storage"];
        let (set, unknown) = FeatureSet::from_names(names);
        assert!(set.promql.experimental_functions && !set.promql.delayed_name_removal);
        assert!(set.start_timestamps);
        assert_eq!(unknown, ["warp-drive"]);
    }
}
