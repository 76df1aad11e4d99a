//! Counters and gauges over ranges: `rate`, `increase`, `delta`, `irate`, `idelta`, `resets`,
//! `changes`, window by window.

use std::sync::Arc;

use pyrrha_model::histogram::{Combined, IncompatibleSchemas};
use pyrrha_model::{CounterResetHint, FloatHistogram, Timestamp};

use crate::annotations::{HistogramOperation, Note};
use crate::functions::starts::{Stamp, Starts, is_reset};
use crate::kernel::{FLOATS_UNASKED, HISTOGRAMS_UNASKED, HistogramSlice, KernelArgs, KernelNotes, Window};
use crate::value::Sample;

/// A counter's first value and how far it rose.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counter {
    pub(crate) first: f64,
    pub(crate) increase: f64,
}

/// How a difference between samples is extended to the edges of its range.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extrapolation {
    /// Start of the range, ms.
    pub(crate) start: Timestamp,
    /// End of the range, ms.
    pub(crate) end: Timestamp,
    /// Time of the first sample, ms.
    pub(crate) first: Timestamp,
    /// Time of the last sample, ms.
    pub(crate) last: Timestamp,
    pub(crate) samples: usize,
    /// Set for counters, which start at zero.
    pub(crate) counter: Option<Counter>,
}

impl Extrapolation {
    /// What the difference is multiplied with. A sample further than 1.1 average intervals from an
    /// edge extends by half an interval only; a counter not below zero.
    #[inline]
    pub(crate) fn factor(&self) -> f64 {
        let (sampled, mut to_start, to_end) = self.reach();
        if let Some(Counter { first, increase }) = self.counter
            && increase > 0.0
            && first >= 0.0
        {
            to_start = to_start.min(sampled * (first / increase));
        }
        (sampled + to_start + to_end) / sampled
    }

    /// From the first sample to the last, and how far the edges of the range extend that at most, by
    /// times alone; seconds.
    #[inline]
    pub(crate) fn reach(&self) -> (f64, f64, f64) {
        let mut to_start = (self.first - self.start) as f64 / 1000.0;
        let mut to_end = (self.end - self.last) as f64 / 1000.0;
        let sampled = (self.last - self.first) as f64 / 1000.0;
        let interval = sampled / (self.samples - 1) as f64;
        let threshold = interval * 1.1;
        if to_start >= threshold {
            to_start = interval / 2.0;
        }
        if to_end >= threshold {
            to_end = interval / 2.0;
        }
        (sampled, to_start, to_end)
    }

    /// The same where the counter is known to have been zero at `zero`, inside the range: nothing
    /// is extended to the left.
    fn factor_from_zero(&self, zero: Timestamp) -> f64 {
        let sampled = (self.last - zero) as f64 / 1000.0;
        let mut to_end = (self.end - self.last) as f64 / 1000.0;
        let gaps = self.samples.saturating_sub(1).max(1) as f64;
        let interval = (self.last - self.first) as f64 / 1000.0 / gaps;
        if to_end >= interval * 1.1 {
            to_end = interval / 2.0;
        }
        (sampled + to_end) / sampled
    }
}

pub(crate) fn rate(w: &Window<'_>, args: &KernelArgs<'_>, notes: &mut KernelNotes<'_>) -> Option<Sample> {
    extrapolated(w, args, notes, true, true)
}

pub(crate) fn increase(w: &Window<'_>, args: &KernelArgs<'_>, notes: &mut KernelNotes<'_>) -> Option<Sample> {
    extrapolated(w, args, notes, true, false)
}

pub(crate) fn delta(w: &Window<'_>, args: &KernelArgs<'_>, notes: &mut KernelNotes<'_>) -> Option<Sample> {
    extrapolated(w, args, notes, false, false)
}

fn extrapolated(
    w: &Window<'_>,
    _args: &KernelArgs<'_>,
    notes: &mut KernelNotes<'_>,
    is_counter: bool,
    is_rate: bool,
) -> Option<Sample> {
    let (floats, histograms) = (&w.floats, &w.histograms);
    if !floats.times.is_empty() && !histograms.times.is_empty() {
        notes.add(0, Note::MixedFloatsHistograms);
        return None;
    }
    let starts = if floats.times.is_empty() {
        Starts { times: histograms.times, starts: histograms.starts }
    } else {
        Starts { times: floats.times, starts: floats.starts }
    };
    let (first, last) = (*starts.times.first()?, *starts.times.last()?);
    let zero = if is_counter { starts.zero_after(w.start) } else { None };
    if starts.times.len() < 2 && zero.is_none() {
        return None;
    }
    if is_counter {
        starts.note_overlaps(notes);
    }
    let factor = |counter| {
        let samples = starts.times.len();
        let extrapolation = Extrapolation { start: w.start, end: w.end, first, last, samples, counter };
        let factor = match zero {
            Some(zero) => extrapolation.factor_from_zero(zero),
            None => extrapolation.factor(),
        };
        if is_rate { factor / (w.range() as f64 / 1000.0) } else { factor }
    };
    if histograms.times.is_empty() {
        let difference = float_difference(floats.values, starts, zero.is_some(), is_counter, notes);
        let counter = is_counter.then(|| Counter { first: floats.values[0], increase: difference });
        return Some(Sample::Float(difference * factor(counter)));
    }
    let mut difference = histogram_difference(histograms.values, starts, zero.is_some(), is_counter, notes)?;
    let counter =
        is_counter.then(|| Counter { first: histograms.values[0].count, increase: difference.count });
    difference.scale(factor(counter));
    Some(Sample::Histogram(Arc::new(difference)))
}

/// As `rate` and its like see histograms of which some, that tell nothing, may be missing: how far they
/// went, and what that is multiplied with. There were `samples` in `(start, end]`.
pub(crate) fn thinned_difference(
    histograms: &HistogramSlice<'_>,
    (start, end): (Timestamp, Timestamp),
    samples: usize,
    is_counter: bool,
    notes: &mut KernelNotes<'_>,
) -> Option<(FloatHistogram, f64)> {
    let starts = Starts { times: histograms.times, starts: &[] };
    let (first, last) = (*starts.times.first()?, *starts.times.last()?);
    if samples < 2 || first >= last {
        return None;
    }
    let difference = histogram_difference(histograms.values, starts, false, is_counter, notes)?;
    let counter =
        is_counter.then(|| Counter { first: histograms.values[0].count, increase: difference.count });
    let factor = Extrapolation { start, end, first, last, samples, counter }.factor();
    Some((difference, factor))
}

/// How far values went; for a counter that is known to come from zero, from there.
fn float_difference(
    values: &[f64],
    starts: Starts<'_>,
    from_zero: bool,
    is_counter: bool,
    notes: &KernelNotes<'_>,
) -> f64 {
    let mut difference = values[values.len() - 1] - if from_zero { 0.0 } else { values[0] };
    if is_counter {
        for (i, pair) in values.windows(2).enumerate() {
            if i % FLOATS_UNASKED == 0 && notes.stopped() {
                break;
            }
            if pair[1] < pair[0] || starts.is_reset(i + 1) {
                difference += pair[0];
            }
        }
    }
    difference
}

/// The last histogram less the first, plus what stood before each reset; a gauge. `None` where
/// schemas have nothing in common.
fn histogram_difference(
    points: &[Arc<FloatHistogram>],
    starts: Starts<'_>,
    from_zero: bool,
    is_counter: bool,
    notes: &mut KernelNotes<'_>,
) -> Option<FloatHistogram> {
    let (first, last) = (points.first()?, points.last()?);
    let gauge = |h: &FloatHistogram| h.counter_reset_hint == CounterResetHint::Gauge;
    if is_counter {
        if points.iter().any(|h| gauge(h)) {
            notes.add(0, Note::NativeNotCounter);
        }
    } else if !gauge(first) || !gauge(last) {
        notes.add(0, Note::NativeNotGauge);
    }
    let is_reset = |i: usize, before: &FloatHistogram| points[i].is_reset_after(before) || starts.is_reset(i);
    // A reset after the first sample takes it out of the calculation, its layout too.
    let empty_like = |h: &FloatHistogram| FloatHistogram {
        schema: h.schema,
        zero_threshold: h.zero_threshold,
        custom_values: h.custom_values.clone(),
        ..FloatHistogram::default()
    };
    let empty;
    let mut previous: &FloatHistogram = first;
    let mut rest = 1..points.len();
    if from_zero {
        empty = empty_like(first);
        (previous, rest.start) = (&empty, 0);
    } else if is_counter && is_reset(1, first) {
        empty = empty_like(&points[1]);
        previous = &empty;
    }
    let custom = previous.uses_custom_buckets();
    let between = if is_counter { &points[rest.start..points.len() - 1] } else { &[] };
    if last.uses_custom_buckets() != custom || between.iter().any(|h| h.uses_custom_buckets() != custom) {
        notes.add(0, Note::MixedExponentialCustom);
        return None;
    }
    let schema =
        between.iter().map(|h| h.schema).fold(previous.schema.min(last.schema), |least, s| least.min(s));
    let mut difference = if custom { (**last).clone() } else { last.to_schema(schema) };
    // Conflicting hints are expected here: resets are what this is about.
    let combined = difference.sub(previous);
    report(combined, HistogramOperation::Subtraction, notes)?;
    if is_counter {
        for i in rest {
            if i % HISTOGRAMS_UNASKED == 0 && notes.stopped() {
                return None;
            }
            if i > 0 && is_reset(i, previous) {
                let combined = difference.add(previous);
                report(combined, HistogramOperation::Addition, notes)?;
            }
            previous = &points[i];
        }
    }
    difference.counter_reset_hint = CounterResetHint::Gauge;
    difference.compact(0);
    Some(difference)
}

fn report(
    result: Result<Combined, IncompatibleSchemas>,
    operation: HistogramOperation,
    notes: &mut KernelNotes<'_>,
) -> Option<()> {
    match result {
        Err(IncompatibleSchemas) => {
            notes.add(0, Note::MixedExponentialCustom);
            None
        }
        Ok(combined) => {
            if combined.reconciled_bounds {
                notes.add(0, Note::MismatchedCustomBuckets(operation));
            }
            Some(())
        }
    }
}

pub(crate) fn irate(w: &Window<'_>, _: &KernelArgs<'_>, notes: &mut KernelNotes<'_>) -> Option<Sample> {
    last_two(w, notes, true)
}

pub(crate) fn idelta(w: &Window<'_>, _: &KernelArgs<'_>, notes: &mut KernelNotes<'_>) -> Option<Sample> {
    last_two(w, notes, false)
}

fn last_two(w: &Window<'_>, notes: &mut KernelNotes<'_>, is_rate: bool) -> Option<Sample> {
    let mut merged = merged(w, notes).rev();
    let (newer_stamp, newer) = merged.next()?;
    let (older_stamp, older) = merged.next()?;
    let seconds = (newer_stamp.0 - older_stamp.0) as f64 / 1000.0;
    let started = is_reset(older_stamp, newer_stamp);
    match (older, newer) {
        (Value::Float(a), Value::Float(b)) => {
            let difference = if is_rate && (b < a || started) { b } else { b - a };
            Some(Sample::Float(if is_rate { difference / seconds } else { difference }))
        }
        (Value::Histogram(a), Value::Histogram(b)) => {
            let gauges = [a, b].map(|h| h.counter_reset_hint == CounterResetHint::Gauge);
            if is_rate && gauges.contains(&true) {
                notes.add(0, Note::NativeNotCounter);
            }
            if !is_rate && gauges.contains(&false) {
                notes.add(0, Note::NativeNotGauge);
            }
            let mut difference = b.clone();
            if !is_rate || !(b.is_reset_after(a) || started) {
                let combined = difference.sub(a);
                report(combined, HistogramOperation::Subtraction, notes)?;
            }
            difference.counter_reset_hint = CounterResetHint::Gauge;
            difference.compact(0);
            if is_rate {
                difference.divide(seconds);
            }
            Some(Sample::Histogram(Arc::new(difference)))
        }
        _ => {
            notes.add(0, Note::MixedFloatsHistograms);
            None
        }
    }
}

/// A sample of a window.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'a> {
    Float(f64),
    Histogram(&'a FloatHistogram),
}

/// All samples of a window by time; some of them, if the query is cancelled meanwhile.
pub(crate) fn merged<'a>(
    w: &Window<'a>,
    notes: &KernelNotes<'_>,
) -> impl DoubleEndedIterator<Item = (Stamp, Value<'a>)> + use<'a> {
    let (floats, histograms) = (w.floats, w.histograms);
    let (mut f, mut h) = (0..floats.times.len(), 0..histograms.times.len());
    // Indices from the front and from the back; both sides take what comes next in time.
    let mut order = Vec::with_capacity(f.len() + h.len());
    loop {
        if order.len() % FLOATS_UNASKED == FLOATS_UNASKED - 1 && notes.stopped() {
            break;
        }
        let float_first = match (f.clone().next(), h.clone().next()) {
            (None, None) => break,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(i), Some(j)) => floats.times[i] < histograms.times[j],
        };
        if float_first {
            order.extend(
                f.next().map(|i| (stamp(floats.times, floats.starts, i), Value::Float(floats.values[i]))),
            );
        } else {
            order.extend(h.next().map(|j| {
                (stamp(histograms.times, histograms.starts, j), Value::Histogram(&histograms.values[j]))
            }));
        }
    }
    order.into_iter()
}

fn stamp(times: &[Timestamp], starts: &[Timestamp], i: usize) -> Stamp {
    (times[i], starts.get(i).copied().unwrap_or(0))
}

pub(crate) fn resets(w: &Window<'_>, _: &KernelArgs<'_>, notes: &mut KernelNotes<'_>) -> Option<Sample> {
    Some(Sample::Float(count_pairs(w, notes, |(before, a), (now, b)| {
        is_reset(before, now)
            || match (a, b) {
                (Value::Float(a), Value::Float(b)) => b < a,
                (Value::Histogram(a), Value::Histogram(b)) => b.is_reset_after(a),
                _ => true,
            }
    })))
}

pub(crate) fn changes(w: &Window<'_>, _: &KernelArgs<'_>, notes: &mut KernelNotes<'_>) -> Option<Sample> {
    Some(Sample::Float(count_pairs(w, notes, |(_, a), (_, b)| match (a, b) {
        (Value::Float(a), Value::Float(b)) => b != a && !(a.is_nan() && b.is_nan()),
        (Value::Histogram(a), Value::Histogram(b)) => !a.same_distribution(b),
        _ => true,
    })))
}

type Point<'a> = (Stamp, Value<'a>);

fn count_pairs(
    w: &Window<'_>,
    notes: &KernelNotes<'_>,
    differ: impl Fn(Point<'_>, Point<'_>) -> bool,
) -> f64 {
    let mut samples = merged(w, notes);
    let Some(mut previous) = samples.next() else { return 0.0 };
    let mut count = 0.0;
    for (i, current) in samples.enumerate() {
        if i % HISTOGRAMS_UNASKED == 0 && notes.stopped() {
            break;
        }
        if differ(previous, current) {
            count += 1.0;
        }
        previous = current;
    }
    count
}
