//! Functions over `anchored` and `smoothed` ranges: nothing is extrapolated. Anchored ranges begin
//! at the last sample at or before their start; smoothed ranges are cut on a straight line between
//! the samples around each edge. Start timestamps play no part.

use std::ops::Range;
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
        let edges =
            Edges::new(w.floats.times, w.start, w.end, SMOOTHED)?.before_end(w.floats.times, w.end)?;
        return Some(Sample::Float(edges.float_difference(w.floats.values, COUNTER) / seconds));
    }
    let edges =
        Edges::new(w.histograms.times, w.start, w.end, SMOOTHED)?.before_end(w.histograms.times, w.end)?;
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

/// A time between two samples.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Between {
    /// From the first to that time, ms.
    part: i64,
    /// From the first to the second, ms.
    whole: i64,
}

impl Between {
    pub(crate) fn new(first: Timestamp, at: Timestamp, second: Timestamp) -> Self {
        Self { part: at - first, whole: second - first }
    }

    /// How far it is on the way.
    pub(crate) fn share(self) -> f64 {
        self.part as f64 / self.whole as f64
    }

    /// The value on a straight line. Multiplied before it is divided: so are Prometheus' last digits,
    /// and where it overflows.
    pub(crate) fn on_line(self, first: f64, second: f64) -> f64 {
        first + (second - first) * self.part as f64 / self.whole as f64
    }
}

/// Which samples a range uses, and where it is cut between two of them.
struct Edges {
    first: usize,
    last: usize,
    /// Samples inside the range, the one at its end left out.
    inside: Range<usize>,
    /// Where between `first` and the sample after it the range begins.
    into_first: Option<Between>,
    /// Where between the sample before `last` and `last` it ends.
    into_last: Option<Between>,
}

impl Edges {
    /// None if no sample is after the start. A smoothed range whose samples all lie after its end has
    /// edges, but no [difference](Self::before_end).
    fn new(times: &[Timestamp], start: Timestamp, end: Timestamp, smoothed: bool) -> Option<Self> {
        let highest = times.len().checked_sub(1)?;
        let first = times.partition_point(|t| *t <= start).saturating_sub(1);
        let last = if smoothed { times.partition_point(|t| *t < end).min(highest) } else { highest };
        if times[last] <= start {
            return None;
        }
        let from = first + usize::from(times[first] <= start);
        let to = if times[last] >= end { last } else { last + 1 };
        Some(Self {
            first,
            last,
            inside: from..to.max(from),
            into_first: (smoothed && times[first] < start)
                .then(|| Between::new(times[first], start, times[first + 1])),
            into_last: (smoothed && last > 0 && times[last] > end)
                .then(|| Between::new(times[last - 1], end, times[last])),
        })
    }

    /// The same, if a sample lies at the end or before it.
    fn before_end(self, times: &[Timestamp], end: Timestamp) -> Option<Self> {
        (times[self.first] <= end).then_some(self)
    }

    /// The values where the range begins and ends.
    fn float_values(&self, values: &[f64], counter: bool) -> (f64, f64) {
        let at = |i: usize, between: Between| {
            let (a, b) = (values[i], values[i + 1]);
            // Across a reset a counter rises from zero.
            between.on_line(if counter && b < a { 0.0 } else { a }, b)
        };
        let left = self.into_first.map_or(values[self.first], |between| at(self.first, between));
        let right = self.into_last.map_or(values[self.last], |between| at(self.last - 1, between));
        (left, right)
    }

    fn float_difference(&self, values: &[f64], counter: bool) -> f64 {
        let (left, right) = self.float_values(values, counter);
        let mut difference = right - left;
        if counter {
            // What stood before each reset, summed up by itself.
            let (mut before, mut lost) = (left, 0.0);
            for value in values[self.inside.clone()].iter().copied().chain([right]) {
                if value < before {
                    lost += before;
                }
                before = value;
            }
            difference += lost;
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
        let mut edge = |i: usize, between: Option<Between>, at: usize| match between {
            None => Ok((*values[at]).clone()),
            Some(between) => {
                let (value, found) = interpolate(&values[i], &values[i + 1], between.share(), counter)?;
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
