//! Functions over `anchored` and `smoothed` ranges: nothing is extrapolated. Anchored ranges begin
//! at the last sample at or before their start; smoothed ranges are cut on a straight line between
//! the samples around each edge. Start timestamps play no part.

use std::sync::Arc;

use pyrrha_model::histogram::{Combined, IncompatibleSchemas};
use pyrrha_model::{CounterResetHint, FloatHistogram, Timestamp};

use crate::annotations::{HistogramOperation, Note};
use crate::ast::RangeMode;
use crate::function::FunctionId;
use crate::functions::rate;
use crate::kernel::{
    FloatSlice, HISTOGRAMS_UNASKED, HistogramSlice, KernelArgs, KernelNotes, RangeKernel, Window,
};
use crate::value::Sample;

/// The kernel of a function that allows the mode.
pub(super) fn kernel(function: FunctionId, mode: RangeMode) -> Option<RangeKernel> {
    use FunctionId as F;
    use RangeMode::{Anchored, Classic, Smoothed};
    Some(match (mode, function) {
        (Anchored, F::Rate) => difference::<false, true, true>,
        (Anchored, F::Increase) => difference::<false, true, false>,
        (Anchored, F::Delta) => difference::<false, false, false>,
        (Anchored, F::Changes) => anchored_changes,
        (Anchored, F::Resets) => anchored_resets,
        (Smoothed, F::Rate) => difference::<true, true, true>,
        (Smoothed, F::Increase) => difference::<true, true, false>,
        (Smoothed, F::Delta) => difference::<true, false, false>,
        (Anchored | Smoothed | Classic, _) => return None,
    })
}

fn anchored_changes(w: &Window<'_>, args: &KernelArgs<'_>, notes: &mut KernelNotes<'_>) -> Option<Sample> {
    rate::changes(&anchored(w)?, args, notes)
}

fn anchored_resets(w: &Window<'_>, args: &KernelArgs<'_>, notes: &mut KernelNotes<'_>) -> Option<Sample> {
    rate::resets(&anchored(w)?, args, notes)
}

/// The samples from the last one at or before the start of the range on; None if none is inside.
fn anchored<'a>(w: &Window<'a>) -> Option<Window<'a>> {
    let inside = |times: &[Timestamp]| times.last().is_some_and(|t| *t > w.start);
    if !inside(w.floats.times) && !inside(w.histograms.times) {
        return None;
    }
    let before = |times: &[Timestamp]| times.partition_point(|t| *t <= w.start);
    let (mut float, mut histogram) = (before(w.floats.times), before(w.histograms.times));
    let anchor = |times: &[Timestamp], at: usize| at.checked_sub(1).map(|i| times[i]);
    if anchor(w.floats.times, float) > anchor(w.histograms.times, histogram) {
        float -= 1;
    } else {
        histogram = histogram.saturating_sub(1);
    }
    let floats =
        FloatSlice { times: &w.floats.times[float..], values: &w.floats.values[float..], starts: &[] };
    let histograms = HistogramSlice {
        times: &w.histograms.times[histogram..],
        values: &w.histograms.values[histogram..],
        starts: &[],
    };
    Some(Window { floats, histograms, ..*w })
}

fn difference<const SMOOTHED: bool, const COUNTER: bool, const RATE: bool>(
    w: &Window<'_>,
    _: &KernelArgs<'_>,
    notes: &mut KernelNotes<'_>,
) -> Option<Sample> {
    if !w.floats.times.is_empty() && !w.histograms.times.is_empty() {
        notes.add(0, Note::MixedFloatsHistograms);
        return None;
    }
    let seconds = if RATE { w.range() as f64 / 1000.0 } else { 1.0 };
    if w.histograms.times.is_empty() {
        let edges = Edges::new(w.floats.times, w.start, w.end, SMOOTHED)?;
        return Some(Sample::Float(edges.float_difference(w.floats.values, COUNTER) / seconds));
    }
    let edges = Edges::new(w.histograms.times, w.start, w.end, SMOOTHED)?;
    let mut difference = edges.histogram_difference(w.histograms.values, COUNTER, notes)?;
    if RATE {
        difference.divide(seconds);
    }
    Some(Sample::Histogram(Arc::new(difference)))
}

/// The points of the range itself, from `start` to `end`: one at each edge and the samples between them.
pub(crate) fn points(
    times: &[Timestamp],
    values: &[f64],
    (start, end): (Timestamp, Timestamp),
    smoothed: bool,
) -> Vec<(Timestamp, f64)> {
    let Some(edges) = Edges::new(times, start, end, smoothed) else { return Vec::new() };
    let (left, right) = edges.float_values(values, false);
    let from = times.partition_point(|t| *t <= start);
    let inside = from..times.partition_point(|t| *t < end).max(from);
    let mut points = Vec::with_capacity(inside.len() + 2);
    points.push((start, left));
    points.extend(inside.map(|i| (times[i], values[i])));
    points.push((end, right));
    points
}

/// Which samples a range uses, and where it is cut between two of them.
struct Edges {
    first: usize,
    last: usize,
    /// How far between `first` and the sample after it the range begins.
    into_first: Option<f64>,
    /// How far between the sample before `last` and `last` it ends.
    into_last: Option<f64>,
}

impl Edges {
    fn new(times: &[Timestamp], start: Timestamp, end: Timestamp, smoothed: bool) -> Option<Self> {
        let highest = times.len().checked_sub(1)?;
        let first = times.partition_point(|t| *t <= start).saturating_sub(1);
        let last = if smoothed { times.partition_point(|t| *t < end).min(highest) } else { highest };
        if times[last] <= start || times[first] > end {
            return None;
        }
        let share = |i: usize, at: Timestamp| (at - times[i]) as f64 / (times[i + 1] - times[i]) as f64;
        Some(Self {
            first,
            last,
            into_first: (smoothed && times[first] < start).then(|| share(first, start)),
            into_last: (smoothed && last > 0 && times[last] > end).then(|| share(last - 1, end)),
        })
    }

    /// The values where the range begins and ends.
    fn float_values(&self, values: &[f64], counter: bool) -> (f64, f64) {
        let between = |i: usize, share: f64| {
            let (a, b) = (values[i], values[i + 1]);
            // Across a reset a counter rises from zero.
            let a = if counter && b < a { 0.0 } else { a };
            a + (b - a) * share
        };
        let left = self.into_first.map_or(values[self.first], |share| between(self.first, share));
        let right = self.into_last.map_or(values[self.last], |share| between(self.last - 1, share));
        (left, right)
    }

    fn float_difference(&self, values: &[f64], counter: bool) -> f64 {
        let (left, right) = self.float_values(values, counter);
        let mut difference = right - left;
        if counter {
            for i in self.resettable() {
                if values[i + 1] < values[i] {
                    difference += values[i];
                }
            }
        }
        difference
    }

    /// Samples after which a reset adds what stood before it. Where the range begins inside a
    /// stretch, its reset is part of the value at the edge already.
    fn resettable(&self) -> std::ops::Range<usize> {
        self.first + usize::from(self.into_first.is_some())..self.last
    }

    fn histogram_difference(
        &self,
        values: &[Arc<FloatHistogram>],
        counter: bool,
        notes: &mut KernelNotes<'_>,
    ) -> Option<FloatHistogram> {
        let used = &values[self.first..=self.last];
        let gauge = |h: &Arc<FloatHistogram>| h.counter_reset_hint == CounterResetHint::Gauge;
        if counter && used.iter().any(gauge) {
            notes.add(0, Note::NativeNotCounter);
        }
        let gauges = gauge(&values[self.first]) && gauge(&values[self.last]);
        if !counter && !gauges {
            notes.add(0, Note::NativeNotGauge);
        }
        let custom = used[0].uses_custom_buckets();
        if used.iter().any(|h| h.uses_custom_buckets() != custom) {
            notes.add(0, Note::MixedExponentialCustom);
            return None;
        }
        let mut combined = Combined::default();
        let difference = self.subtract(values, counter, &mut combined, notes);
        if combined.reconciled_bounds {
            notes.add(0, Note::MismatchedCustomBuckets(HistogramOperation::Subtraction));
        }
        let Ok(mut difference) = difference else {
            notes.add(0, Note::MixedExponentialCustom);
            return None;
        };
        difference.counter_reset_hint = CounterResetHint::Gauge;
        difference.compact(0);
        Some(difference)
    }

    fn subtract(
        &self,
        values: &[Arc<FloatHistogram>],
        counter: bool,
        combined: &mut Combined,
        notes: &KernelNotes<'_>,
    ) -> Result<FloatHistogram, IncompatibleSchemas> {
        let mut edge = |i: usize, share: Option<f64>, at: usize| match share {
            None => Ok((*values[at]).clone()),
            Some(share) => {
                let (value, found) = interpolate(&values[i], &values[i + 1], share, counter)?;
                *combined = combined.or(found);
                Ok(value)
            }
        };
        let left = edge(self.first, self.into_first, self.first)?;
        let mut difference = edge(self.last.saturating_sub(1), self.into_last, self.last)?;
        *combined = combined.or(difference.sub(&left)?);
        if counter {
            for i in self.resettable() {
                if i % HISTOGRAMS_UNASKED == 0 && notes.stopped() {
                    break;
                }
                if values[i + 1].is_reset_after(&values[i]) {
                    *combined = combined.or(difference.add(&values[i])?);
                }
            }
        }
        Ok(difference)
    }
}

/// The histogram at a share of the way between two; across a reset a counter rises from zero.
pub(crate) fn interpolate(
    before: &FloatHistogram,
    after: &FloatHistogram,
    share: f64,
    counter: bool,
) -> Result<(FloatHistogram, Combined), IncompatibleSchemas> {
    if before.uses_custom_buckets() != after.uses_custom_buckets() {
        return Err(IncompatibleSchemas);
    }
    let mut value = after.clone();
    if counter && after.is_reset_after(before) {
        value.scale(share);
        return Ok((value, Combined::default()));
    }
    let combined = value.sub(before)?;
    value.scale(share);
    let combined = combined.or(value.add(before)?);
    Ok((value, combined))
}
