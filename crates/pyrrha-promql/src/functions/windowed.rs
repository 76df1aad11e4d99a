//! Range functions and lookups over windows of downsampled samples.
//!
//! A window counts as a whole: it lies in a range `(a, b]` if its end does. So times inside of a
//! window mean the end of the one before, and where ranges begin and end with windows, values are
//! those of the samples. What samples follow the windows are windows of one sample each.

mod fill;
pub(crate) mod histograms;
pub(crate) mod mixed;
mod plan;

use std::borrow::Cow;
use std::ops::Range;

use pyrrha_encoding::windows::Windows;
use pyrrha_encoding::{FloatColumn, WindowSpan};
use pyrrha_model::contract::WindowHints;
use pyrrha_model::{Timestamp, is_stale_nan, stale_nan};

use crate::exec::samples::Samples;
use crate::function::FunctionId;
use crate::functions::float_sum::Sum;
use crate::functions::rate::{Counter, Extrapolation};
pub(crate) use fill::fill;
pub(crate) use plan::{RangePlan, StepRange};

/// What a range function needs of windows.
pub(crate) fn needs(function: FunctionId, max_resolution_ms: i64) -> WindowHints {
    use FunctionId as F;
    let counter = matches!(function, F::Rate | F::Increase | F::Irate);
    let (edges, values) = match function {
        F::SumOverTime | F::AvgOverTime | F::MinOverTime | F::MaxOverTime => (false, true),
        F::StddevOverTime | F::StdvarOverTime | F::QuantileOverTime | F::MadOverTime => (false, true),
        F::TsOfMaxOverTime | F::TsOfMinOverTime => (true, true),
        _ => (true, false),
    };
    WindowHints { edges, values, counter, max_resolution_ms }
}

/// What an instant selector needs of windows.
pub(crate) fn lookup(max_resolution_ms: i64) -> WindowHints {
    WindowHints { edges: true, values: false, counter: false, max_resolution_ms }
}

/// The times for which windows stand, and how long they are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AsOf<'a>(pub(crate) &'a [WindowSpan]);

impl AsOf<'_> {
    fn resolution(&self, t: Timestamp) -> Option<i64> {
        // The newest times are asked for most, and there are hardly ever more than three spans.
        self.0.iter().rev().find(|span| span.range.contains(t)).map(|span| span.resolution)
    }

    /// The last time up to `t` of which windows tell; `t` itself where samples do.
    #[inline]
    pub(crate) fn at(&self, t: Timestamp) -> Timestamp {
        self.resolution(t).map_or(t, |resolution| t - (t + 1).rem_euclid(resolution))
    }

    /// The range of windows for the range `(start, end]`: one window if that is longer. Where it begins in
    /// windows and ends in samples, all of it is moved back to the end of a window, so that it stays as long.
    pub(crate) fn range(&self, start: Timestamp, end: Timestamp) -> (Timestamp, Timestamp) {
        let length = end - start;
        let (from, end) = match self.resolution(end) {
            Some(_) => (self.at(start), end),
            None => (self.at(start), self.at(start) + length),
        };
        let to = self.at(end);
        match self.resolution(end) {
            Some(resolution) if resolution > length => (to - resolution, to),
            _ => (from, to),
        }
    }
}

/// Some windows, or some samples, that come next by time.
#[derive(Debug, Clone, PartialEq)]
enum Turn {
    Windows(Range<usize>),
    Samples(Range<usize>),
}

/// Windows that begin at `starts`, and samples at `times` between them, in turn. Both ascend.
fn turns(starts: &[Timestamp], times: &[Timestamp]) -> impl Iterator<Item = Turn> {
    let (mut window, mut sample) = (0, 0);
    std::iter::from_fn(move || {
        let windows =
            starts[window..].iter().take_while(|start| times.get(sample).is_none_or(|t| *start < t));
        let to = window + windows.count();
        if to > window {
            return Some(Turn::Windows(std::mem::replace(&mut window, to)..to));
        }
        let samples =
            times[sample..].iter().take_while(|t| starts.get(window).is_none_or(|start| *t <= start));
        let to = sample + samples.count();
        (to > sample).then(|| Turn::Samples(std::mem::replace(&mut sample, to)..to))
    })
}

/// Windows and samples of a series as windows by time, without stale markers.
pub(crate) fn unified(samples: &Samples) -> Cow<'_, Windows> {
    let (windows, FloatColumn { times, values, .. }) = (&samples.windows, &samples.floats);
    if times.is_empty() {
        return Cow::Borrowed(windows);
    }
    let (edges, totals) = (windows.has_edges(), windows.has_values());
    let mut out = Windows::default();
    let add = |out: &mut Windows, t: Timestamp, v: f64| {
        out.starts.push(t);
        out.ends.push(t);
        out.counts.push(1);
        if edges {
            let e = &mut out.edges;
            e.first_times.push(t);
            e.last_times.push(t);
            e.first_values.push(v);
            e.last_values.push(v);
            e.corrections.push(0.0);
            [&mut e.resets, &mut e.changes, &mut e.stale].into_iter().for_each(|c| c.push(0));
        }
        if totals {
            let s = &mut out.values;
            s.sums.push(if v.is_nan() { 0.0 } else { v });
            s.mins.push(v);
            s.maxs.push(v);
            s.nans.push(u32::from(v.is_nan()));
            s.deviations.push(0.0);
        }
    };
    for turn in turns(&windows.starts, times) {
        match turn {
            Turn::Windows(range) => out.extend(windows, range),
            Turn::Samples(range) => {
                range.filter(|i| !is_stale_nan(values[*i])).for_each(|i| add(&mut out, times[i], values[i]));
            }
        }
    }
    Cow::Owned(out)
}

/// What lookups find in windows: the last sample of each, and a stale marker where one follows it.
pub(crate) fn last_samples(samples: &Samples) -> Samples {
    let (windows, raw) = (&samples.windows, &samples.floats);
    let mut floats = FloatColumn::default();
    let edges = &windows.edges;
    let starts = if windows.has_edges() { &*windows.starts } else { &[] };
    for turn in turns(starts, &raw.times) {
        let ends = match turn {
            Turn::Windows(range) => range,
            Turn::Samples(range) => {
                floats.times.extend_from_slice(&raw.times[range.clone()]);
                floats.values.extend_from_slice(&raw.values[range]);
                continue;
            }
        };
        for i in ends {
            floats.times.push(edges.last_times[i]);
            floats.values.push(edges.last_values[i]);
            if edges.stale[i] != 0 && edges.last_times[i] < windows.ends[i] {
                floats.times.push(edges.last_times[i] + 1);
                floats.values.push(stale_nan());
            }
        }
    }
    Samples { floats, histograms: histograms::last_samples(samples), ..Samples::default() }
}

/// The windows of a series in one range.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    pub(crate) windows: &'a Windows,
    /// At least one.
    pub(crate) range: Range<usize>,
    /// Start (exclusive) and end of the range of windows.
    pub(crate) start: Timestamp,
    pub(crate) end: Timestamp,
    /// Length of the range that was asked for, ms.
    pub(crate) asked: i64,
}

/// A function's value, or how it is to be had.
#[derive(Debug, PartialEq)]
pub(crate) enum Found {
    Value(f64),
    Nothing,
    /// From samples that stand for the windows ([`Part::samples`]).
    FromSamples,
}

impl<'a> Part<'a> {
    /// The windows in the range of a step, if there are any. Ranges of `asked` ms were asked for.
    #[inline]
    pub(crate) fn new(windows: &'a Windows, range: &StepRange, asked: i64) -> Self {
        Self { windows, range: range.windows(), start: range.start, end: range.end, asked }
    }

    /// The value of a function.
    pub(crate) fn value(&self, function: FunctionId) -> Found {
        use FunctionId as F;
        let (edges, values) = (self.windows.has_edges(), self.windows.has_values());
        let value = match function {
            F::CountOverTime => Some(self.count() as f64),
            F::PresentOverTime | F::AbsentOverTime => Some(1.0),
            F::SumOverTime if values => Some(self.sum()),
            F::AvgOverTime if values => Some(self.mean()),
            F::MinOverTime if values => {
                Some(self.extreme(&self.windows.values.mins, |new, known| new < known))
            }
            F::MaxOverTime if values => {
                Some(self.extreme(&self.windows.values.maxs, |new, known| new > known))
            }
            F::StdvarOverTime if values => Some(self.variance()),
            F::StddevOverTime if values => Some(self.variance().sqrt()),
            F::FirstOverTime if edges => Some(self.windows.edges.first_values[self.first()]),
            F::LastOverTime if edges => Some(self.windows.edges.last_values[self.last()]),
            F::TsOfFirstOverTime if edges => {
                Some(self.windows.edges.first_times[self.first()] as f64 / 1000.0)
            }
            F::TsOfLastOverTime if edges => Some(self.windows.edges.last_times[self.last()] as f64 / 1000.0),
            F::TsOfMaxOverTime if edges && values => {
                Some(self.extreme_time(&self.windows.values.maxs, |new, known| new >= known))
            }
            F::TsOfMinOverTime if edges && values => {
                Some(self.extreme_time(&self.windows.values.mins, |new, known| new <= known))
            }
            F::Rate if edges => self.extrapolated(true, true),
            F::Increase if edges => self.extrapolated(true, false),
            F::Delta if edges => self.extrapolated(false, false),
            F::Irate if edges => self.newest(true),
            F::Idelta if edges => self.newest(false),
            F::Resets if edges => Some(self.pairs(&self.windows.edges.resets, |a, b| b < a)),
            F::Changes if edges => {
                Some(self.pairs(&self.windows.edges.changes, |a, b| b != a && !(a.is_nan() && b.is_nan())))
            }
            _ => return Found::FromSamples,
        };
        value.map_or(Found::Nothing, Found::Value)
    }

    pub(super) fn first(&self) -> usize {
        self.range.start
    }

    pub(super) fn last(&self) -> usize {
        self.range.end - 1
    }

    pub(super) fn count(&self) -> u64 {
        self.windows.counts[self.range.clone()].iter().map(|c| u64::from(*c)).sum()
    }

    fn has_nan(&self) -> bool {
        self.windows.values.nans[self.range.clone()].iter().any(|n| *n > 0)
    }

    fn sum(&self) -> f64 {
        if self.has_nan() {
            return f64::NAN;
        }
        let mut sum = Sum::default();
        self.windows.values.sums[self.range.clone()].iter().for_each(|s| sum.add(*s));
        sum.value()
    }

    fn mean(&self) -> f64 {
        let (sum, count) = (self.sum(), self.count() as f64);
        if !sum.is_infinite() {
            return sum / count;
        }
        // Sums may be too large where their mean is not.
        self.windows.values.sums[self.range.clone()].iter().map(|s| s / count).sum()
    }

    fn variance(&self) -> f64 {
        if self.has_nan() {
            return f64::NAN;
        }
        let (mean, count, values) = (self.mean(), self.count() as f64, &self.windows.values);
        let mut squares = Sum::default();
        for i in self.range.clone() {
            let n = f64::from(self.windows.counts[i]);
            let distance = values.sums[i] / n - mean;
            squares.add(values.deviations[i]);
            squares.add(n * distance * distance);
        }
        squares.value() / count
    }

    fn extreme(&self, column: &[f64], beats: impl Fn(f64, f64) -> bool) -> f64 {
        let pick = |known: f64, new: &f64| if beats(*new, known) || known.is_nan() { *new } else { known };
        column[self.range.clone()].iter().fold(f64::NAN, pick)
    }

    fn extreme_time(&self, column: &[f64], beats: impl Fn(f64, f64) -> bool) -> f64 {
        let (mut best, mut at) = (column[self.first()], self.first());
        for i in self.range.clone() {
            if beats(column[i], best) || best.is_nan() {
                (best, at) = (column[i], i);
            }
        }
        self.windows.edges.last_times[at] as f64 / 1000.0
    }

    /// The times of samples as they extend a difference, the first value, and how far values went; none of
    /// less than two. Of a counter, what stood before resets is added in their order.
    #[inline]
    fn difference(&self, is_counter: bool) -> Option<(Extrapolation, f64, f64)> {
        let e = &self.windows.edges;
        let samples = usize::try_from(self.count()).ok()?;
        let (first, last) = (e.first_times[self.first()], e.last_times[self.last()]);
        if samples < 2 || first >= last {
            return None;
        }
        let first_value = e.first_values[self.first()];
        let mut difference = e.last_values[self.last()] - first_value;
        if is_counter {
            for i in self.range.clone() {
                if i > self.first() && e.first_values[i] < e.last_values[i - 1] {
                    difference += e.last_values[i - 1];
                }
                if e.corrections[i] != 0.0 {
                    difference += e.corrections[i];
                }
            }
        }
        let (start, end) = (self.start, self.end);
        Some((Extrapolation { start, end, first, last, samples, counter: None }, first_value, difference))
    }

    fn extrapolated(&self, is_counter: bool, is_rate: bool) -> Option<f64> {
        let (range, first, increase) = self.difference(is_counter)?;
        let counter = is_counter.then_some(Counter { first, increase });
        let factor = Extrapolation { counter, ..range }.factor();
        let length = self.end - self.start;
        Some(match is_rate {
            true => increase * (factor / (length as f64 / 1000.0)),
            // Where the range is not that of the windows, what it would be at the same pace.
            false if length != self.asked => increase * factor * (self.asked as f64 / length as f64),
            false => increase * factor,
        })
    }

    /// Between the last two samples; within a window of more, between its neighbours on average.
    fn newest(&self, is_rate: bool) -> Option<f64> {
        let (e, i) = (&self.windows.edges, self.last());
        let count = self.windows.counts[i];
        let (before, after, seconds, steps) = if count > 1 {
            let seconds = (e.last_times[i] - e.first_times[i]) as f64 / 1000.0;
            (e.first_values[i], e.last_values[i] + e.corrections[i], seconds, f64::from(count - 1))
        } else if i > self.first() {
            let seconds = (e.first_times[i] - e.last_times[i - 1]) as f64 / 1000.0;
            (e.last_values[i - 1], e.first_values[i], seconds, 1.0)
        } else {
            return None;
        };
        match is_rate {
            true if seconds <= 0.0 => None,
            true => Some(if after < before { after } else { after - before } / seconds),
            false => Some((e.last_values[i] - before) / steps),
        }
    }

    fn pairs(&self, within: &[u32], differ: impl Fn(f64, f64) -> bool) -> f64 {
        let e = &self.windows.edges;
        let inside: u64 = within[self.range.clone()].iter().map(|n| u64::from(*n)).sum();
        let between = self.range.clone().skip(1).filter(|&i| differ(e.last_values[i - 1], e.first_values[i]));
        (inside + between.count() as u64) as f64
    }

    /// Samples that stand for the windows: the least, the mean and the greatest of each, or its first
    /// and last, where these are known. Times ascend.
    pub(crate) fn samples(&self, out: &mut FloatColumn) {
        out.times.clear();
        out.values.clear();
        let (w, edges) = (self.windows, self.windows.has_edges());
        let mut push = |t: Timestamp, v: f64| {
            if out.times.last().is_none_or(|last| *last < t) {
                out.times.push(t);
                out.values.push(v);
            }
        };
        for i in self.range.clone() {
            if edges {
                push(w.edges.first_times[i], w.edges.first_values[i]);
                push(w.edges.last_times[i], w.edges.last_values[i]);
                continue;
            }
            let (count, nans) = (w.counts[i], w.values.nans[i]);
            if count > 1 {
                push(w.ends[i].saturating_sub(2), w.values.mins[i]);
            }
            if count > 2 {
                let mean = w.values.sums[i] / f64::from(count - nans);
                push(w.ends[i].saturating_sub(1), if nans > 0 { f64::NAN } else { mean });
            }
            push(w.ends[i], w.values.maxs[i]);
        }
    }
}

#[cfg(test)]
mod tests;
