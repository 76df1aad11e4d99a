//! Rewriting blocks: series and samples are deleted, or all others are, and labels are changed. What is
//! done is said by Thanos' configuration of `tools bucket rewrite`.
//!
//! ```yaml
//! # --rewrite.to-delete-config, and of the same form --rewrite.to-keep-config
//! - matchers: '{__name__=~"debug_.*"}'
//!   intervals: [{mint: 1700000000000, maxt: 1700003600000}]   # none: all of it
//! # --rewrite.to-relabel-config
//! - action: labeldrop
//!   regex: pod_template_hash
//! ```
//!
//! Deletion comes first, by the labels that series have in the block; then those that stay are relabelled.

mod changes;
mod exemplars;
mod relabel;
mod series;
mod sorted;

use pyrrha_model::{Labels, Matcher, TimeRange, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use changes::Changes;
pub(crate) use changes::{CHANGE_LOG, ChangeLog};
pub(crate) use exemplars::{deleted_exemplars, exemplars};
pub use relabel::RelabelConfig;
pub(crate) use series::{Rewritten, Stage};
pub(crate) use sorted::{sorted, spool};

use relabel::Relabel;

/// Why rules do not read.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// The YAML does not parse.
    #[error("rules do not parse: {what}: {message}")]
    Yaml {
        /// Which.
        what: &'static str,
        /// Why.
        message: String,
    },
    /// One says something that is not possible.
    #[error("rule is not possible: {what} rule={number}: {message}")]
    Rule {
        /// Which.
        what: &'static str,
        /// Its place, from 1.
        number: usize,
        /// Why.
        message: String,
    },
    /// Nothing is to be done.
    #[error("no rule says what is to be rewritten")]
    Nothing,
}

impl RulesError {
    /// What the caller should do next.
    pub fn kind(&self) -> pyrrha_model::ErrorKind {
        match self {
            Self::Yaml { .. } | Self::Rule { .. } | Self::Nothing => pyrrha_model::ErrorKind::Invalid,
        }
    }
}

/// Samples of some series.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct SelectionText {
    /// A selector of series.
    matchers: String,
    /// Of these times, with both ends; of all, if there are none.
    #[serde(default)]
    intervals: Vec<IntervalText>,
    /// A name for it, which is noted in the block.
    #[serde(default)]
    request_id: String,
}

#[derive(Debug, Clone, Copy, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct IntervalText {
    #[serde(alias = "Mint", alias = "min_time")]
    mint: Timestamp,
    #[serde(alias = "Maxt", alias = "max_time")]
    maxt: Timestamp,
}

/// Samples of some series.
#[derive(Debug, Clone)]
struct Selection {
    text: SelectionText,
    matchers: Vec<Matcher>,
}

impl Selection {
    fn is_of(&self, labels: &Labels) -> bool {
        self.matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or("")))
    }

    fn intervals(&self) -> impl Iterator<Item = TimeRange> + '_ {
        self.text.intervals.iter().map(|i| TimeRange::new(i.mint, i.maxt))
    }
}

/// What is to be rewritten.
#[derive(Debug, Clone, Default)]
pub struct RewriteRules {
    delete: Vec<Selection>,
    keep: Vec<Selection>,
    relabel: Vec<Relabel>,
    relabel_text: Vec<RelabelConfig>,
}

/// What becomes of a series' samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// All stay.
    Stays,
    /// None stays.
    Goes,
    /// Those of these intervals go: sorted, and none overlaps another.
    Cut(Vec<TimeRange>),
}

/// Reads a selector of series; the error says why it is none.
pub type ParseSelector<'a> = &'a dyn Fn(&str) -> Result<Vec<Matcher>, String>;

impl RewriteRules {
    /// Reads rules: what is to be deleted, what is to be kept alone, and how labels change. `parse` reads a
    /// selector of series.
    pub fn parse(
        delete: Option<&str>,
        keep: Option<&str>,
        relabel: Option<&str>,
        parse: ParseSelector<'_>,
    ) -> Result<Self, RulesError> {
        let relabel_text: Vec<RelabelConfig> = yaml("relabel", relabel)?;
        let compile = |(i, config): (usize, &RelabelConfig)| {
            let bad = |message| RulesError::Rule { what: "relabel", number: i + 1, message };
            Relabel::new(config).map_err(bad)
        };
        let rules = Self {
            delete: selections("delete", delete, parse)?,
            keep: selections("keep", keep, parse)?,
            relabel: relabel_text.iter().enumerate().map(compile).collect::<Result<_, _>>()?,
            relabel_text,
        };
        match rules.delete.is_empty() && rules.keep.is_empty() && rules.relabel.is_empty() {
            true => Err(RulesError::Nothing),
            false => Ok(rules),
        }
    }

    /// Whether labels change, and with them the order of series.
    pub(crate) fn relabels(&self) -> bool {
        !self.relabel.is_empty()
    }

    /// What becomes of the samples of a series.
    pub(crate) fn fate(&self, labels: &Labels) -> Fate {
        let mut cut: Vec<TimeRange> = Vec::new();
        for rule in self.delete.iter().filter(|rule| rule.is_of(labels)) {
            if rule.text.intervals.is_empty() {
                return Fate::Goes;
            }
            cut.extend(rule.intervals());
        }
        if !self.keep.is_empty() {
            let mut kept: Vec<TimeRange> = Vec::new();
            let mut all = false;
            for rule in self.keep.iter().filter(|rule| rule.is_of(labels)) {
                all |= rule.text.intervals.is_empty();
                kept.extend(rule.intervals());
            }
            match (all, kept.is_empty()) {
                (true, _) => {}
                (false, true) => return Fate::Goes,
                (false, false) => cut.extend(gaps(joined(kept))),
            }
        }
        let cut = joined(cut);
        if cut.is_empty() { Fate::Stays } else { Fate::Cut(cut) }
    }

    /// The labels that a series gets; `None` if it goes.
    pub(crate) fn relabelled(&self, labels: &Labels) -> Option<Labels> {
        let mut labels = labels.clone();
        for rule in &self.relabel {
            labels = rule.apply(&labels)?;
        }
        (!labels.is_empty()).then_some(labels)
    }

    /// What `meta.json` says of it, as Thanos notes it.
    pub(crate) fn note(&self, sources: &[pyrrha_storage::block::BlockId]) -> Value {
        let one = |rule: &Selection| {
            json!({
                "matchers": rule.text.matchers,
                "intervals": rule.text.intervals.iter()
                    .map(|i| json!({"Mint": i.mint, "Maxt": i.maxt})).collect::<Vec<_>>(),
                "request_id": rule.text.request_id,
            })
        };
        let all = |rules: &[Selection]| rules.iter().map(one).collect::<Vec<_>>();
        let mut note = json!({"sources": sources.iter().map(ToString::to_string).collect::<Vec<_>>()});
        if !self.delete.is_empty() {
            note["deletions_applied"] = all(&self.delete).into();
        }
        if !self.keep.is_empty() {
            note["kept"] = all(&self.keep).into();
        }
        // Only a map with keys that are not strings can fail.
        if let (false, Ok(relabels)) =
            (self.relabel_text.is_empty(), serde_json::to_value(&self.relabel_text))
        {
            note["relabels_applied"] = relabels;
        }
        note
    }
}

fn yaml<T: serde::de::DeserializeOwned>(
    what: &'static str,
    text: Option<&str>,
) -> Result<Vec<T>, RulesError> {
    let Some(text) = text.filter(|text| !text.trim().is_empty()) else { return Ok(Vec::new()) };
    serde_saphyr::from_str(text).map_err(|error| RulesError::Yaml { what, message: error.to_string() })
}

fn selections(
    what: &'static str,
    text: Option<&str>,
    parse: ParseSelector<'_>,
) -> Result<Vec<Selection>, RulesError> {
    let one = |(i, text): (usize, SelectionText)| {
        let bad = |message: String| RulesError::Rule { what, number: i + 1, message };
        if let Some(wrong) = text.intervals.iter().find(|i| i.mint > i.maxt) {
            return Err(bad(format!(
                "interval ends before it begins mint={} maxt={}",
                wrong.mint, wrong.maxt
            )));
        }
        let matchers = parse(&text.matchers).map_err(bad)?;
        Ok(Selection { text, matchers })
    };
    yaml(what, text)?.into_iter().enumerate().map(one).collect()
}

/// The intervals, sorted, those that touch as one.
fn joined(mut intervals: Vec<TimeRange>) -> Vec<TimeRange> {
    intervals.sort_unstable_by_key(|i| (i.start, i.end));
    let mut all: Vec<TimeRange> = Vec::with_capacity(intervals.len());
    for interval in intervals {
        match all.last_mut() {
            Some(last) if interval.start <= last.end.saturating_add(1) => {
                last.end = last.end.max(interval.end)
            }
            _ => all.push(interval),
        }
    }
    all
}

/// What lies between intervals that are joined, before and after them.
fn gaps(intervals: Vec<TimeRange>) -> Vec<TimeRange> {
    let (mut gaps, mut from) = (Vec::with_capacity(intervals.len() + 1), Some(Timestamp::MIN));
    for interval in intervals {
        if let Some(start) = from
            && start < interval.start
        {
            gaps.push(TimeRange::new(start, interval.start - 1));
        }
        from = interval.end.checked_add(1);
    }
    gaps.extend(from.map(|start| TimeRange::new(start, Timestamp::MAX)));
    gaps
}

#[cfg(test)]
mod tests;
