//! Range functions over series that hold floats only: one pass over the samples, windows slide,
//! and every value has the bits that a computation window by window would give (decision 29).

use std::collections::VecDeque;
use std::ops::Range;

use pyrrha_model::Timestamp;

use crate::functions::float_sum::{Mean, Sum};
use crate::functions::rate::{Counter, Extrapolation};
use crate::value::Column;

/// A function that can slide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slide {
    Rate,
    Increase,
    Delta,
    Irate,
    Idelta,
    Resets,
    Changes,
    Sum,
    Avg,
    Min,
    Max,
    Count,
    First,
    Last,
    Present,
}

/// The window of a step, given the window before: its samples, start and end.
pub(crate) trait NextWindow:
    FnMut(usize, Range<usize>) -> (Range<usize>, Timestamp, Timestamp)
{
}
impl<F: FnMut(usize, Range<usize>) -> (Range<usize>, Timestamp, Timestamp)> NextWindow for F {}

impl Slide {
    /// Fills `column` from the samples of a series without stale markers.
    pub(crate) fn run(
        self,
        times: &[Timestamp],
        values: &[f64],
        column: &mut Column,
        mut next: impl NextWindow,
    ) {
        match self {
            Self::Rate => extrapolated(times, values, column, next, true, true),
            Self::Increase => extrapolated(times, values, column, next, true, false),
            Self::Delta => extrapolated(times, values, column, next, false, false),
            Self::Irate => each(column, next, |w, _, _| last_two(times, values, w, true)),
            Self::Idelta => each(column, next, |w, _, _| last_two(times, values, w, false)),
            Self::Resets => pairs(values, column, next, |a, b| b < a),
            Self::Changes => pairs(values, column, next, |a, b| b != a && !(a.is_nan() && b.is_nan())),
            Self::Sum if sums_are_exact(values) => exact_sum(values, column, next, |sum, _| sum),
            Self::Avg if sums_are_exact(values) => {
                exact_sum(values, column, next, |sum, count| sum / count as f64)
            }
            Self::Sum => each(column, next, |w, _, _| {
                let mut sum = Sum::default();
                values[w].iter().for_each(|v| sum.add(*v));
                Some(sum.value())
            }),
            Self::Avg => each(column, next, |w, _, _| {
                let mut mean = Mean::default();
                values[w].iter().for_each(|v| mean.add(*v));
                Some(mean.value())
            }),
            Self::Min => extreme(values, column, next, |back, new| back > new),
            Self::Max => extreme(values, column, next, |back, new| back < new),
            Self::Count => each(column, next, |w, _, _| Some(w.len() as f64)),
            Self::First => each(column, next, |w, _, _| Some(values[w.start])),
            Self::Last => each(column, next, |w, _, _| Some(values[w.end - 1])),
            Self::Present => {
                each(column, &mut next, |_, _, _| Some(1.0));
            }
        }
    }
}

/// Calls `value` for every window that holds a sample.
fn each(
    column: &mut Column,
    mut next: impl NextWindow,
    mut value: impl FnMut(Range<usize>, Timestamp, Timestamp) -> Option<f64>,
) {
    let mut window = 0..0;
    for step in 0..column.steps() {
        let (moved, start, end) = next(step, window);
        window = moved;
        if !window.is_empty()
            && let Some(value) = value(window.clone(), start, end)
        {
            column.set_float(step, value);
        }
    }
}

fn extrapolated(
    times: &[Timestamp],
    values: &[f64],
    column: &mut Column,
    next: impl NextWindow,
    is_counter: bool,
    is_rate: bool,
) {
    // Indices of samples below their predecessor, ascending; only those inside the window are kept.
    let mut resets = VecDeque::new();
    let mut scanned = 1;
    each(column, next, |window, start, end| {
        if window.len() < 2 {
            return None;
        }
        let (first, last) = (window.start, window.end - 1);
        let mut difference = values[last] - values[first];
        if is_counter {
            scanned = scanned.max(first + 1);
            for i in scanned..=last {
                if values[i] < values[i - 1] {
                    resets.push_back(i);
                }
            }
            scanned = scanned.max(last + 1);
            while resets.front().is_some_and(|i| *i <= first) {
                resets.pop_front();
            }
            for &i in &resets {
                difference += values[i - 1];
            }
        }
        let counter = is_counter.then(|| Counter { first: values[first], increase: difference });
        let factor = Extrapolation {
            start,
            end,
            first: times[first],
            last: times[last],
            samples: window.len(),
            counter,
        }
        .factor();
        let factor = if is_rate { factor / ((end - start) as f64 / 1000.0) } else { factor };
        Some(difference * factor)
    });
}

fn last_two(times: &[Timestamp], values: &[f64], window: Range<usize>, is_rate: bool) -> Option<f64> {
    if window.len() < 2 {
        return None;
    }
    let i = window.end - 1;
    let (a, b) = (values[i - 1], values[i]);
    if !is_rate {
        return Some(b - a);
    }
    let difference = if b < a { b } else { b - a };
    Some(difference / ((times[i] - times[i - 1]) as f64 / 1000.0))
}

/// Counts neighbours inside the window that `differ`.
fn pairs(values: &[f64], column: &mut Column, next: impl NextWindow, differ: impl Fn(f64, f64) -> bool) {
    let mut count = 0u64;
    let mut known = 0..0;
    each(column, next, |window, _, _| {
        if window.start >= known.end {
            (count, known) = (0, window.start..window.start + 1);
        }
        for i in known.start..window.start {
            count -= u64::from(differ(values[i], values[i + 1]));
        }
        for i in known.end..window.end {
            count += u64::from(differ(values[i - 1], values[i]));
        }
        known = window;
        Some(count as f64)
    });
}

/// Whether any sum of these values, in any order, is exact: integers whose total stays below 2^53.
fn sums_are_exact(values: &[f64]) -> bool {
    let mut total = 0.0;
    for v in values {
        if v.trunc() != *v {
            return false;
        }
        total += v.abs();
    }
    total < 9_007_199_254_740_992.0
}

fn exact_sum(values: &[f64], column: &mut Column, next: impl NextWindow, finish: impl Fn(f64, usize) -> f64) {
    let (mut sum, mut known) = (0.0, 0..0);
    each(column, next, |window, _, _| {
        if window.start >= known.end {
            (sum, known) = (0.0, window.start..window.start);
        }
        values[known.start..window.start].iter().for_each(|v| sum -= v);
        values[known.end..window.end].iter().for_each(|v| sum += v);
        known = window.clone();
        // Never a negative zero: a sum starts from zero.
        Some(finish(sum + 0.0, window.len()))
    });
}

/// The first of the greatest (or least) values that are no NaN; NaN if there are none.
fn extreme(values: &[f64], column: &mut Column, next: impl NextWindow, beaten: impl Fn(f64, f64) -> bool) {
    let mut candidates: VecDeque<usize> = VecDeque::new();
    let mut scanned = 0;
    each(column, next, |window, _, _| {
        for i in scanned.max(window.start)..window.end {
            if values[i].is_nan() {
                continue;
            }
            while candidates.back().is_some_and(|b| beaten(values[*b], values[i])) {
                candidates.pop_back();
            }
            candidates.push_back(i);
        }
        scanned = window.end;
        while candidates.front().is_some_and(|i| *i < window.start) {
            candidates.pop_front();
        }
        Some(candidates.front().map_or(f64::NAN, |i| values[*i]))
    });
}

#[cfg(test)]
mod tests;
