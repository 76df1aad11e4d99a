//! Instant selectors with `smoothed`: between the samples around a step, on a straight line.

use std::sync::Arc;

use pyrrha_model::{CounterResetHint, FloatHistogram, Timestamp};

use super::Instant;
use crate::annotations::{Annotation, HistogramOperation, Note};
use crate::exec::samples::Samples;
use crate::functions::extended::{self, Between};
use crate::functions::slide::advance;
use crate::labels::LabelIds;
use crate::value::Column;

impl Instant<'_> {
    /// Fills `column`. Without a sample after the step the one before goes on; without one before
    /// there is nothing.
    pub(super) fn interpolate(
        &self,
        samples: &Samples,
        labels: &LabelIds,
        column: &mut Column,
        notes: &mut Vec<Annotation>,
    ) {
        let clean = samples.without_stale();
        let samples = clean.as_ref().unwrap_or(samples);
        let mut note = |note| {
            let metric = labels.metric_name(&self.exec.ctx.symbols);
            notes.push(Annotation { note, metric, pos: self.pos });
        };
        let (mut floats, mut histograms) = (0..0, 0..0);
        for step in 0..self.times.steps.count {
            let t = self.times.at(step);
            let (from, to) = (t.saturating_sub(self.exec.lookback), t.saturating_add(self.exec.lookback));
            floats = advance(&samples.floats.times, floats, from, to);
            histograms = advance(&samples.histograms.times, histograms, from, to);
            if !floats.is_empty() && !histograms.is_empty() {
                note(Note::MixedFloatsHistograms);
            } else if !floats.is_empty() {
                let values = &samples.floats.values[floats.clone()];
                if let Some((i, between)) = around(&samples.floats.times[floats.clone()], t) {
                    let value = match between {
                        Some(between) => between.on_line(values[i], values[i + 1]),
                        None => values[i],
                    };
                    column.set_float(step, value);
                }
            } else if let Some((i, at)) = around(&samples.histograms.times[histograms.clone()], t) {
                let values = &samples.histograms.values[histograms.clone()];
                let value = match at {
                    Some(at) => between(&values[i], &values[i + 1], at.share(), &mut note),
                    None => Some(values[i].clone()),
                };
                if let Some(value) = value {
                    column.set_histogram(step, value);
                }
            }
        }
    }
}

/// The sample at or before `t`, and where `t` lies between it and the one after it, if it does.
fn around(times: &[Timestamp], t: Timestamp) -> Option<(usize, Option<Between>)> {
    let i = times.partition_point(|time| *time <= t).checked_sub(1)?;
    let after = times.get(i + 1).filter(|_| times[i] < t);
    Some((i, after.map(|after| Between::new(times[i], t, *after))))
}

fn between(
    before: &FloatHistogram,
    after: &FloatHistogram,
    share: f64,
    note: &mut impl FnMut(Note),
) -> Option<Arc<FloatHistogram>> {
    let counter = after.counter_reset_hint != CounterResetHint::Gauge;
    let Ok((mut value, combined)) = extended::interpolate(before, after, share, counter) else {
        note(Note::MixedExponentialCustom);
        return None;
    };
    if combined.reconciled_bounds {
        note(Note::MismatchedCustomBuckets(HistogramOperation::Subtraction));
    }
    value.compact(0);
    Some(Arc::new(value))
}
