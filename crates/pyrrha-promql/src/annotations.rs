//! Annotations: warnings and infos about a query's result, with Prometheus' texts and positions.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use pyrrha_model::go_fmt::{General, quote};
use pyrrha_model::{Timestamp, rfc3339};

use crate::ast::{AggregateOp, BinaryOp, Pos};

/// What a histogram was being used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HistogramOperation {
    /// `+`
    Addition,
    /// `-`
    Subtraction,
    /// `sum`, `avg` and their over-time forms.
    Aggregation,
}

impl fmt::Display for HistogramOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Addition => "addition",
            Self::Subtraction => "subtraction",
            Self::Aggregation => "aggregation",
        })
    }
}

/// How far classic buckets had to be changed to be monotonic.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Monotonicity {
    /// Time of the first changed sample, ms.
    pub min_time: Timestamp,
    /// Time of the last changed sample, ms.
    pub max_time: Timestamp,
    /// Lowest changed bucket's upper bound.
    pub min_bucket: f64,
    /// Highest changed bucket's upper bound.
    pub max_bucket: f64,
    /// Greatest change of a count.
    pub max_diff: f64,
    /// Number of changed samples; 1 for one.
    pub samples: usize,
}

/// What an annotation says; the metric name that some texts end with is kept beside it.
#[derive(Debug, Clone, PartialEq)]
pub enum Note {
    // Warnings.
    /// A ratio of `limit_ratio` outside -1..1: the ratio and what it was capped to.
    InvalidRatio(f64, f64),
    /// A quantile outside 0..1.
    InvalidQuantile(f64),
    /// An `le` label that is missing or no number: its value.
    BadBucketLabel(String),
    /// Floats and histograms of one metric in one range.
    MixedFloatsHistograms,
    /// Floats and histograms in one group.
    MixedFloatsHistogramsAggregation,
    /// Classic and native histograms of one metric at one step.
    MixedClassicNative,
    /// A gauge histogram where a counter is needed.
    NativeNotCounter,
    /// A counter histogram where a gauge is needed.
    NativeNotGauge,
    /// Exponential and custom buckets in one range or group.
    MixedExponentialCustom,
    /// Histograms that `op` cannot combine.
    IncompatibleBucketLayout(BinaryOp),
    /// A sort in a range query.
    SortInRangeQuery,
    /// Counter-reset hints that contradict each other.
    CounterResetCollision(HistogramOperation),
    /// A start timestamp before the previous sample.
    StartTimeOverlap,
    // Infos.
    /// `rate` or `increase` of something whose name says nothing of a counter.
    PossibleNonCounter,
    /// Likewise by its `__type__` label, whose value this is.
    PossibleNonCounterType(String),
    /// Classic buckets that are not monotonic.
    ForcedMonotonicity(Monotonicity),
    /// Operands that `op` cannot combine: what is left and right of it ("float", "histogram").
    IncompatibleTypes(&'static str, BinaryOp, &'static str),
    /// A histogram in an aggregation that has no meaning for it.
    HistogramIgnoredInAggregation(AggregateOp),
    /// Histograms between floats in a range, where only floats count.
    HistogramIgnoredInMixedRange,
    /// A quantile that NaN observations make NaN.
    NanQuantile,
    /// A quantile that NaN observations push up.
    NanQuantileSkewed,
    /// A fraction that leaves NaN observations out.
    NanFraction,
    /// Custom buckets whose common bounds were used.
    MismatchedCustomBuckets(HistogramOperation),
}

impl Note {
    /// Whether it is a warning; else it is an info.
    pub fn is_warning(&self) -> bool {
        match self {
            Self::InvalidRatio(..)
            | Self::InvalidQuantile(_)
            | Self::BadBucketLabel(_)
            | Self::MixedFloatsHistograms
            | Self::MixedFloatsHistogramsAggregation
            | Self::MixedClassicNative
            | Self::NativeNotCounter
            | Self::NativeNotGauge
            | Self::MixedExponentialCustom
            | Self::IncompatibleBucketLayout(_)
            | Self::SortInRangeQuery
            | Self::CounterResetCollision(_)
            | Self::StartTimeOverlap => true,
            Self::PossibleNonCounter
            | Self::PossibleNonCounterType(_)
            | Self::ForcedMonotonicity(_)
            | Self::IncompatibleTypes(..)
            | Self::HistogramIgnoredInAggregation(_)
            | Self::HistogramIgnoredInMixedRange
            | Self::NanQuantile
            | Self::NanQuantileSkewed
            | Self::NanFraction
            | Self::MismatchedCustomBuckets(_) => false,
        }
    }

    /// Whether repetitions add to its text instead of being dropped.
    pub fn merges(&self) -> bool {
        matches!(self, Self::ForcedMonotonicity(_) | Self::StartTimeOverlap)
    }
}

/// One annotation.
#[derive(Debug, Clone, PartialEq)]
pub struct Annotation {
    /// What it says.
    pub note: Note,
    /// The metric it is about, or "".
    pub metric: Arc<str>,
    /// Where in the query.
    pub pos: Pos,
}

impl fmt::Display for Annotation {
    /// The text without position.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.note.is_warning() { "PromQL warning: " } else { "PromQL info: " })?;
        let metric = quote(&self.metric);
        let about = if self.metric.is_empty() { String::new() } else { format!(" for metric name {metric}") };
        match &self.note {
            Note::InvalidRatio(got, capped) => write!(
                f,
                "ratio value should be between -1 and 1, got {}, capping to {}",
                General(*got),
                General(*capped)
            ),
            Note::InvalidQuantile(got) => {
                write!(f, "quantile value should be between 0 and 1, got {}", General(*got))
            }
            Note::BadBucketLabel(le) => {
                write!(f, "bucket label \"le\" is missing or has a malformed value of {}{about}", quote(le))
            }
            Note::MixedFloatsHistograms => {
                write!(f, "encountered a mix of histograms and floats for metric name {metric}")
            }
            Note::MixedFloatsHistogramsAggregation => {
                f.write_str("encountered a mix of histograms and floats for aggregation")
            }
            Note::MixedClassicNative => {
                write!(f, "vector contains a mix of classic and native histograms{about}")
            }
            Note::NativeNotCounter => write!(f, "this native histogram metric is not a counter: {metric}"),
            Note::NativeNotGauge => write!(f, "this native histogram metric is not a gauge: {metric}"),
            Note::MixedExponentialCustom => write!(
                f,
                "vector contains a mix of histograms with exponential and custom buckets schemas for metric name {metric}"
            ),
            Note::IncompatibleBucketLayout(op) => {
                write!(f, "incompatible bucket layout encountered for binary operator {}", op.as_str())
            }
            Note::SortInRangeQuery => f.write_str(
                "sort is ineffective for range queries since results are always ordered by labels",
            ),
            Note::CounterResetCollision(operation) => {
                write!(f, "conflicting counter resets during histogram {operation}")
            }
            Note::StartTimeOverlap => write!(
                f,
                "sample has start time that overlaps with previous sample timestamp for metric {metric}"
            ),
            Note::PossibleNonCounter => write!(
                f,
                "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {metric}"
            ),
            Note::PossibleNonCounterType(label) => write!(
                f,
                "metric might not be a counter, __type__ label is not set to \"counter\" or \"histogram\", got {}: {metric}",
                quote(label)
            ),
            Note::ForcedMonotonicity(_) => write!(
                f,
                "input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile){about}"
            ),
            Note::IncompatibleTypes(left, op, right) => write!(
                f,
                "incompatible sample types encountered for binary operator {}: {left} {} {right}",
                quote(op.as_str()),
                op.as_str()
            ),
            Note::HistogramIgnoredInAggregation(op) => {
                write!(f, "ignored histogram in {} aggregation", op.as_str())
            }
            Note::HistogramIgnoredInMixedRange => write!(
                f,
                "ignored histograms in a range containing both floats and histograms for metric name {metric}"
            ),
            Note::NanQuantile => {
                write!(f, "input to histogram_quantile has NaN observations, result is NaN{about}")
            }
            Note::NanQuantileSkewed => {
                write!(f, "input to histogram_quantile has NaN observations, result is skewed higher{about}")
            }
            Note::NanFraction => write!(
                f,
                "input to histogram_fraction has NaN observations, which are excluded from all fractions{about}"
            ),
            Note::MismatchedCustomBuckets(operation) => {
                write!(f, "mismatched custom buckets were reconciled during {operation}")
            }
        }
    }
}

/// All annotations of a query, one per text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Annotations {
    by_text: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone, PartialEq)]
struct Entry {
    annotation: Annotation,
    occurrences: usize,
}

impl Annotations {
    /// Adds an annotation. Of several with the same text the last one's position counts, and those
    /// that carry measurements add up.
    pub fn add(&mut self, annotation: Annotation) {
        match self.by_text.entry(annotation.to_string()) {
            std::collections::btree_map::Entry::Vacant(vacant) => {
                vacant.insert(Entry { annotation, occurrences: 1 });
            }
            std::collections::btree_map::Entry::Occupied(mut occupied) => {
                occupied.get_mut().merge(annotation, 1);
            }
        }
    }

    /// Adds all annotations of `other`.
    pub fn extend(&mut self, annotations: impl IntoIterator<Item = Annotation>) {
        annotations.into_iter().for_each(|a| self.add(a));
    }

    /// Adds all annotations of `other`, as if they came after these.
    pub(crate) fn merge(&mut self, other: Self) {
        for (text, entry) in other.by_text {
            match self.by_text.entry(text) {
                std::collections::btree_map::Entry::Vacant(vacant) => {
                    vacant.insert(entry);
                }
                std::collections::btree_map::Entry::Occupied(mut occupied) => {
                    occupied.get_mut().merge(entry.annotation, entry.occurrences);
                }
            }
        }
    }

    /// The same annotations at positions `by` bytes further on (modulo 2³²).
    pub(crate) fn moved(&self, by: u32) -> Self {
        let mut moved = self.clone();
        for entry in moved.by_text.values_mut() {
            let pos = &mut entry.annotation.pos;
            // What has no position has none elsewhere.
            if *pos == Pos::default() {
                continue;
            }
            *pos = Pos { start: pos.start.wrapping_add(by), end: pos.end.wrapping_add(by) };
        }
        moved
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_text.is_empty()
    }

    /// The annotations, by text.
    pub fn iter(&self) -> impl Iterator<Item = &Annotation> {
        self.by_text.values().map(|e| &e.annotation)
    }

    /// Texts of the warnings with their position in `query`, sorted.
    pub fn warnings(&self, query: &str) -> Vec<String> {
        self.texts(query, true)
    }

    /// Texts of the infos with their position in `query`, sorted.
    pub fn infos(&self, query: &str) -> Vec<String> {
        self.texts(query, false)
    }

    fn texts(&self, query: &str, warnings: bool) -> Vec<String> {
        self.by_text
            .iter()
            .filter(|(_, e)| e.annotation.note.is_warning() == warnings)
            .map(|(text, e)| {
                format!("{text}{} ({})", e.details(), line_and_column(query, e.annotation.pos.start))
            })
            .collect()
    }
}

impl Entry {
    fn merge(&mut self, new: Annotation, occurrences: usize) {
        self.occurrences += occurrences;
        let merged = match (&self.annotation.note, &new.note) {
            (Note::ForcedMonotonicity(a), Note::ForcedMonotonicity(b)) => {
                Note::ForcedMonotonicity(Monotonicity {
                    min_time: a.min_time.min(b.min_time),
                    max_time: a.max_time.max(b.max_time),
                    min_bucket: a.min_bucket.min(b.min_bucket),
                    max_bucket: a.max_bucket.max(b.max_bucket),
                    max_diff: a.max_diff.max(b.max_diff),
                    samples: a.samples + b.samples,
                })
            }
            (_, note) => note.clone(),
        };
        self.annotation = Annotation { note: merged, ..new };
    }

    /// What repetitions add to the text.
    fn details(&self) -> String {
        match &self.annotation.note {
            Note::StartTimeOverlap if self.occurrences > 1 => format!(" ({} occurrences)", self.occurrences),
            Note::ForcedMonotonicity(m) => format!(
                ", from buckets {} to {}, with a max diff of {:.2}, over {} samples from {} to {}",
                General(m.min_bucket),
                General(m.max_bucket),
                General(m.max_diff),
                m.samples,
                rfc3339::format_seconds(m.min_time),
                rfc3339::format_seconds(m.max_time)
            ),
            _ => String::new(),
        }
    }
}

/// `line:column` of a byte offset, both 1-based, columns in bytes.
pub fn line_and_column(query: &str, offset: u32) -> String {
    let before = &query.as_bytes()[..query.len().min(offset as usize)];
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|b| **b != b'\n').count() + 1;
    format!("{line}:{column}")
}

#[cfg(test)]
mod tests;
