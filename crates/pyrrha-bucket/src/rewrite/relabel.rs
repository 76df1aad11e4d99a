//! Rules that change the labels of a series, as Prometheus' `relabel_configs`.

use pyrrha_model::go_regex::{GoRegex, GoReplacer};
use pyrrha_model::{Labels, LabelsBuilder};
use serde::{Deserialize, Serialize};

/// A rule as users write it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelabelConfig {
    /// Labels whose values are joined.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source_labels: Vec<String>,
    /// What stands between them.
    #[serde(default = "separator")]
    pub separator: String,
    /// What the joined values, or the names of labels, have to match.
    #[serde(default = "everything")]
    pub regex: String,
    /// The label that is set.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub target_label: String,
    /// Its value, with groups of the expression.
    #[serde(default = "first_group")]
    pub replacement: String,
    /// What is done.
    #[serde(default)]
    pub action: RelabelAction,
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RelabelAction {
    /// Sets a label to what the expression makes of the values.
    #[default]
    Replace,
    /// Series that do not match go.
    Keep,
    /// Series that match go.
    Drop,
    /// Series of which the target label has another value go.
    KeepEqual,
    /// Series of which the target label has the value go.
    DropEqual,
    /// Sets a label to the values in lower case.
    Lowercase,
    /// In upper case.
    Uppercase,
    /// Gives labels whose names match another name, too.
    LabelMap,
    /// Labels whose names match go.
    LabelDrop,
    /// Labels whose names do not match go.
    LabelKeep,
}

fn separator() -> String {
    ";".to_owned()
}

fn everything() -> String {
    "(.*)".to_owned()
}

fn first_group() -> String {
    "$1".to_owned()
}

/// A rule that can be applied.
#[derive(Debug, Clone)]
pub(super) struct Relabel {
    config: RelabelConfig,
    regex: GoRegex,
    replacer: GoReplacer,
    /// Of the name of the label that is set.
    target: Option<GoReplacer>,
}

impl Relabel {
    /// The error says what is wrong with a rule.
    pub(super) fn new(config: &RelabelConfig) -> Result<Self, String> {
        use RelabelAction::{DropEqual, KeepEqual, Lowercase, Replace, Uppercase};
        let needs_target = matches!(config.action, Replace | KeepEqual | DropEqual | Lowercase | Uppercase);
        if needs_target && config.target_label.is_empty() {
            return Err("a target_label is needed".to_owned());
        }
        let regex = GoRegex::anchored(&config.regex).map_err(|e| e.to_string())?;
        let replacer = GoReplacer::new(&config.regex, &config.replacement).map_err(|e| e.to_string())?;
        let target = (config.action == Replace)
            .then(|| GoReplacer::new(&config.regex, &config.target_label).map_err(|e| e.to_string()))
            .transpose()?;
        Ok(Self { config: config.clone(), regex, replacer, target })
    }

    /// The labels that a series gets; `None` if it goes.
    pub(super) fn apply(&self, labels: &Labels) -> Option<Labels> {
        let values = self.config.source_labels.iter().map(|name| labels.get(name).unwrap_or(""));
        let value = values.collect::<Vec<_>>().join(&self.config.separator);
        let mut builder = labels.to_builder();
        let target = self.config.target_label.as_str();
        let is_equal = || labels.get(target).unwrap_or("") == value;
        match self.config.action {
            RelabelAction::Keep if !self.regex.is_match(&value) => return None,
            RelabelAction::Drop if self.regex.is_match(&value) => return None,
            RelabelAction::KeepEqual if !is_equal() => return None,
            RelabelAction::DropEqual if is_equal() => return None,
            RelabelAction::Keep
            | RelabelAction::Drop
            | RelabelAction::KeepEqual
            | RelabelAction::DropEqual => return Some(labels.clone()),
            RelabelAction::Replace => self.replace(&value, &mut builder),
            RelabelAction::Lowercase => set(&mut builder, target, value.to_lowercase()),
            RelabelAction::Uppercase => set(&mut builder, target, value.to_uppercase()),
            RelabelAction::LabelMap => {
                for label in labels.iter() {
                    if let Some(name) = self.replacer.replace(&label.name) {
                        set(&mut builder, &name, label.value.to_string());
                    }
                }
            }
            RelabelAction::LabelDrop => drop(builder.retain(|label| !self.regex.is_match(&label.name))),
            RelabelAction::LabelKeep => drop(builder.retain(|label| self.regex.is_match(&label.name))),
        }
        Some(builder.build())
    }

    fn replace(&self, value: &str, builder: &mut LabelsBuilder) {
        let Some(replacement) = self.replacer.replace(value) else { return };
        let Some(target) = self.target.as_ref().and_then(|target| target.replace(value)) else { return };
        set(builder, &target, replacement);
    }
}

/// An empty value is that of a label that is not there.
fn set(builder: &mut LabelsBuilder, name: &str, value: String) {
    match value.is_empty() || name.is_empty() {
        true => drop(builder.remove(name)),
        false => drop(builder.set(name, value)),
    }
}
