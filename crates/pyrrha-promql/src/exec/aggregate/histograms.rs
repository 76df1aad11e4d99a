//! Sums and means of histograms by step.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use pyrrha_model::FloatHistogram;
use pyrrha_model::histogram::{Combined, HistogramMean, IncompatibleSchemas, KahanHistogram};

use crate::annotations::{HistogramOperation, Note};
use crate::functions::totals::Resets;
use crate::value::Column;

/// What a group holds of histograms at one step; `None` once schemas were incompatible.
#[derive(Debug, Clone)]
enum State {
    Sum(Box<KahanHistogram>),
    Mean(Box<HistogramMean>),
    Incompatible,
}

/// A group's histograms at one step.
#[derive(Debug, Clone)]
struct Step {
    state: State,
    count: f64,
    resets: Resets,
}

/// Histograms of a group, summed or averaged by step.
#[derive(Debug, Clone, Default)]
pub(super) struct HistogramTotals {
    steps: BTreeMap<u32, Step>,
}

impl HistogramTotals {
    /// Adds the histograms of a column.
    pub(super) fn add(&mut self, column: &Column, mean: bool, note: &mut impl FnMut(Note)) {
        for (step, h) in column.histograms() {
            let step = match self.steps.entry(*step) {
                Entry::Vacant(vacant) => {
                    let first = (**h).clone();
                    let state = if mean {
                        State::Mean(Box::new(HistogramMean::new(first)))
                    } else {
                        State::Sum(Box::new(KahanHistogram::new(first)))
                    };
                    vacant.insert(Step { state, count: 1.0, resets: Resets::default() })
                }
                Entry::Occupied(occupied) => {
                    let step = occupied.into_mut();
                    step.count += 1.0;
                    step.state.add(h, note);
                    step
                }
            };
            step.resets.add(h.counter_reset_hint);
        }
    }

    /// Adds the totals of a later batch.
    pub(super) fn merge(&mut self, other: Self, note: &mut impl FnMut(Note)) {
        for (step, theirs) in other.steps {
            match self.steps.entry(step) {
                Entry::Vacant(vacant) => {
                    vacant.insert(theirs);
                }
                Entry::Occupied(occupied) => {
                    let known = occupied.into_mut();
                    match theirs.state.finish() {
                        None => known.state = State::Incompatible,
                        Some(total) => known.state.merge(&total, known.count, theirs.count, note),
                    }
                    known.count += theirs.count;
                    known.resets.merge(theirs.resets);
                }
            }
        }
    }

    /// Whether hints about resets contradict each other at some step.
    pub(super) fn conflicting_resets(&self) -> bool {
        self.steps.values().any(|s| s.resets.conflict())
    }

    /// Steps that hold histograms, compatible or not.
    pub(super) fn steps(&self) -> impl Iterator<Item = u32> + '_ {
        self.steps.keys().copied()
    }

    /// Puts the totals into `column`, at steps for which `keep` holds.
    pub(super) fn finish(self, column: &mut Column, mut keep: impl FnMut(usize) -> bool) {
        for (step, Step { state, .. }) in self.steps {
            if keep(step as usize)
                && let Some(mut total) = state.finish()
            {
                total.compact(0);
                column.set_histogram(step as usize, Arc::new(total));
            }
        }
    }
}

impl State {
    fn add(&mut self, h: &FloatHistogram, note: &mut impl FnMut(Note)) {
        let result = match self {
            Self::Sum(sum) => sum.add(h),
            Self::Mean(mean) => mean.add(h),
            Self::Incompatible => return,
        };
        if report(result, note).is_none() {
            *self = Self::Incompatible;
        }
    }

    /// Adds the total (or mean) of `theirs` histograms to that of `known`.
    fn merge(&mut self, total: &FloatHistogram, known: f64, theirs: f64, note: &mut impl FnMut(Note)) {
        match self {
            Self::Sum(_) => self.add(total, note),
            Self::Incompatible => {}
            Self::Mean(mean) => {
                // Two means weigh by their counts: m = a·(n/(n+k)) + b·(k/(n+k)).
                let mut sum = mean.clone().finish();
                sum.scale(known / (known + theirs));
                let mut part = total.clone();
                part.scale(theirs / (known + theirs));
                match report(sum.add(&part), note) {
                    None => *self = Self::Incompatible,
                    Some(()) => **mean = HistogramMean::new(sum),
                }
            }
        }
    }

    fn finish(self) -> Option<FloatHistogram> {
        match self {
            Self::Sum(sum) => Some(sum.finish()),
            Self::Mean(mean) => Some(mean.finish()),
            Self::Incompatible => None,
        }
    }
}

fn report(result: Result<Combined, IncompatibleSchemas>, note: &mut impl FnMut(Note)) -> Option<()> {
    let Ok(combined) = result else {
        note(Note::MixedExponentialCustom);
        return None;
    };
    if combined.reconciled_bounds {
        note(Note::MismatchedCustomBuckets(HistogramOperation::Aggregation));
    }
    Some(())
}
