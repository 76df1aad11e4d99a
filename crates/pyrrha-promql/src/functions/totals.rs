//! Sums, means, extremes and counts over ranges, window by window.

use std::sync::Arc;

use pyrrha_model::histogram::{Combined, HistogramMean, IncompatibleSchemas, KahanHistogram};
use pyrrha_model::{CounterResetHint, FloatHistogram};

use crate::annotations::{HistogramOperation, Note};
use crate::functions::float_sum::{Mean, Sum};
use crate::kernel::{HISTOGRAMS_UNASKED, KernelArgs, KernelNotes, Window};
use crate::value::Sample;

pub(crate) fn sum(w: &Window<'_>, _: &KernelArgs<'_>, notes: &mut KernelNotes<'_>) -> Option<Sample> {
    if mixed(w, notes) {
        return None;
    }
    let Some(first) = w.histograms.values.first() else {
        let mut sum = Sum::default();
        notes.each_float(w.floats.values, |v| sum.add(v));
        return Some(Sample::Float(sum.value()));
    };
    let mut total = KahanHistogram::new((**first).clone());
    fold(w.histograms.values, notes, |h| total.add(h))?;
    Some(finish(total.finish()))
}

pub(crate) fn avg(w: &Window<'_>, _: &KernelArgs<'_>, notes: &mut KernelNotes<'_>) -> Option<Sample> {
    if mixed(w, notes) {
        return None;
    }
    let Some(first) = w.histograms.values.first() else {
        let mut mean = Mean::default();
        notes.each_float(w.floats.values, |v| mean.add(v));
        return Some(Sample::Float(mean.value()));
    };
    let mut total = HistogramMean::new((**first).clone());
    fold(w.histograms.values, notes, |h| total.add(h))?;
    Some(finish(total.finish()))
}

pub(crate) fn finish(mut h: FloatHistogram) -> Sample {
    h.compact(0);
    Sample::Histogram(Arc::new(h))
}

/// Whether the window holds floats and histograms, which have no sum.
fn mixed(w: &Window<'_>, notes: &mut KernelNotes<'_>) -> bool {
    let mixed = !w.floats.times.is_empty() && !w.histograms.times.is_empty();
    if mixed {
        notes.add(0, Note::MixedFloatsHistograms);
    }
    mixed
}

/// Which hints about resets occurred among some histograms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Resets {
    reset: bool,
    not_reset: bool,
}

impl Resets {
    /// The hints of all of them.
    fn seen(histograms: &[Arc<FloatHistogram>]) -> Self {
        let mut seen = Self::default();
        histograms.iter().for_each(|h| seen.add(h.counter_reset_hint));
        seen
    }

    /// Adds a hint.
    pub(crate) fn add(&mut self, hint: CounterResetHint) {
        self.reset |= hint == CounterResetHint::Reset;
        self.not_reset |= hint == CounterResetHint::NotReset;
    }

    /// Adds those of `other`.
    pub(crate) fn merge(&mut self, other: Self) {
        self.reset |= other.reset;
        self.not_reset |= other.not_reset;
    }

    /// Whether they contradict each other.
    pub(crate) fn conflict(self) -> bool {
        self.reset && self.not_reset
    }
}

/// Adds up all but the first, with the notes that this asks for; nothing where there is no sum.
pub(crate) fn fold(
    all: &[Arc<FloatHistogram>],
    notes: &mut KernelNotes<'_>,
    mut add: impl FnMut(&FloatHistogram) -> Result<Combined, IncompatibleSchemas>,
) -> Option<()> {
    let mut noteworthy = Combined::default();
    for (i, h) in all.iter().enumerate().skip(1) {
        if i % HISTOGRAMS_UNASKED == 0 && notes.stopped() {
            return None;
        }
        match add(h) {
            Ok(combined) => noteworthy = noteworthy.or(combined),
            Err(IncompatibleSchemas) => {
                notes.add(0, Note::MixedExponentialCustom);
                return None;
            }
        }
    }
    if Resets::seen(all).conflict() {
        notes.add(0, Note::CounterResetCollision(HistogramOperation::Aggregation));
    }
    if noteworthy.reconciled_bounds {
        notes.add(0, Note::MismatchedCustomBuckets(HistogramOperation::Aggregation));
    }
    Some(())
}

pub(crate) fn min(w: &Window<'_>, _: &KernelArgs<'_>, notes: &mut KernelNotes<'_>) -> Option<Sample> {
    extreme(w, notes, |known, new| known > new)
}

pub(crate) fn max(w: &Window<'_>, _: &KernelArgs<'_>, notes: &mut KernelNotes<'_>) -> Option<Sample> {
    extreme(w, notes, |known, new| known < new)
}

fn extreme(w: &Window<'_>, notes: &mut KernelNotes<'_>, beaten: impl Fn(f64, f64) -> bool) -> Option<Sample> {
    let (first, others) = w.floats.values.split_first()?;
    if !w.histograms.times.is_empty() {
        notes.add(0, Note::HistogramIgnoredInMixedRange);
    }
    let mut known = *first;
    notes.each_float(others, |new| {
        if beaten(known, new) || known.is_nan() {
            known = new;
        }
    });
    Some(Sample::Float(known))
}

pub(crate) fn count(w: &Window<'_>, _: &KernelArgs<'_>, _: &mut KernelNotes<'_>) -> Option<Sample> {
    Some(Sample::Float((w.floats.times.len() + w.histograms.times.len()) as f64))
}

pub(crate) fn present(_: &Window<'_>, _: &KernelArgs<'_>, _: &mut KernelNotes<'_>) -> Option<Sample> {
    Some(Sample::Float(1.0))
}

pub(crate) fn first(w: &Window<'_>, _: &KernelArgs<'_>, _: &mut KernelNotes<'_>) -> Option<Sample> {
    match (w.floats.times.first(), w.histograms.times.first()) {
        (Some(f), h) if h.is_none_or(|h| f < h) => w.floats.values.first().map(|v| Sample::Float(*v)),
        _ => w.histograms.values.first().map(|h| Sample::Histogram(h.clone())),
    }
}

pub(crate) fn last(w: &Window<'_>, _: &KernelArgs<'_>, _: &mut KernelNotes<'_>) -> Option<Sample> {
    match (w.floats.times.last(), w.histograms.times.last()) {
        (Some(f), h) if h.is_none_or(|h| f > h) => w.floats.values.last().map(|v| Sample::Float(*v)),
        _ => w.histograms.values.last().map(|h| Sample::Histogram(h.clone())),
    }
}
