//! Range functions over series that hold floats only: one pass over the samples, windows slide,
//! and every value has the bits that a computation window by window would give (decision 29).

use std::collections::VecDeque;
use std::ops::Range;

use pyrrha_model::Timestamp;

use crate::functions::float_sum::{Mean, Sum};
use crate::kernel::FLOATS_UNASKED;
use crate::value::Column;

mod plan;

pub(crate) use plan::{Span, WindowPlan, WindowPlans, advance};

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

/// Steps and their windows, ascending.
trait Steps: Iterator<Item = (usize, Range<usize>)> {}
impl<I: Iterator<Item = (usize, Range<usize>)>> Steps for I {}

impl Slide {
    /// Fills `column` from the samples of a series without stale markers, whose windows are planned;
    /// or a part of it, if it is `cancelled`.
    pub(crate) fn run(
        self,
        times: &[Timestamp],
        values: &[f64],
        column: &mut Column,
        (plan, room): (&WindowPlan, &mut (Vec<f64>, Vec<f64>)),
        cancelled: impl Fn() -> bool,
    ) {
        let go_on = || !cancelled();
        match self {
            Self::Rate => return extrapolated::<true>(values, column, plan, room, true, go_on),
            Self::Increase => return extrapolated::<true>(values, column, plan, room, false, go_on),
            Self::Delta => return extrapolated::<false>(values, column, plan, room, false, go_on),
            _ => {}
        }
        let windows = plan.windows().enumerate().take_while(|_| go_on());
        match self {
            Self::Rate | Self::Increase | Self::Delta => {}
            Self::Irate => each(column, windows, |w| last_two(times, values, w, true)),
            Self::Idelta => each(column, windows, |w| last_two(times, values, w, false)),
            Self::Resets => pairs(values, column, windows, go_on, |a, b| b < a),
            Self::Changes => {
                pairs(values, column, windows, go_on, |a, b| b != a && !(a.is_nan() && b.is_nan()))
            }
            Self::Sum if sums_are_exact(values, go_on) => {
                exact_sum(values, column, windows, go_on, |sum, _| sum)
            }
            Self::Avg if sums_are_exact(values, go_on) => {
                exact_sum(values, column, windows, go_on, |sum, count| sum / count as f64)
            }
            Self::Sum => each(column, windows, |w| {
                let mut sum = Sum::default();
                blocks(&values[w], go_on).flatten().for_each(|v| sum.add(*v));
                Some(sum.value())
            }),
            Self::Avg => each(column, windows, |w| {
                let mut mean = Mean::default();
                blocks(&values[w], go_on).flatten().for_each(|v| mean.add(*v));
                Some(mean.value())
            }),
            Self::Min => extreme(values, column, windows, go_on, |back, new| back > new),
            Self::Max => extreme(values, column, windows, go_on, |back, new| back < new),
            Self::Count => each(column, windows, |w| Some(w.len() as f64)),
            Self::First => each(column, windows, |w| Some(values[w.start])),
            Self::Last => each(column, windows, |w| Some(values[w.end - 1])),
            Self::Present => each(column, windows, |_| Some(1.0)),
        }
    }
}

/// Calls `value` for every window that holds a sample.
fn each(column: &mut Column, windows: impl Steps, mut value: impl FnMut(Range<usize>) -> Option<f64>) {
    for (step, window) in windows {
        if !window.is_empty()
            && let Some(value) = value(window)
        {
            column.set_float(step, value);
        }
    }
}

/// Rates, increases and differences. All that depends on times alone has been planned; what is left
/// goes over arrays without branches.
fn extrapolated<const COUNTER: bool>(
    values: &[f64],
    column: &mut Column,
    plan: &WindowPlan,
    (firsts, differences): &mut (Vec<f64>, Vec<f64>),
    is_rate: bool,
    go_on: impl Fn() -> bool,
) {
    firsts.clear();
    differences.clear();
    for &(first, last) in plan.edges() {
        let (first, last) = (values[first as usize], values[last as usize]);
        firsts.push(first);
        differences.push(last - first);
    }
    if COUNTER && falls(values, go_on) {
        add_resets(values, plan.edges(), differences);
    }
    let spans = plan.spans().iter().zip(firsts.iter());
    for (difference, (span, &first)) in differences.iter_mut().zip(spans) {
        *difference = span.extrapolate::<COUNTER>(first, *difference, is_rate);
    }
    plan.scatter(differences, column);
}

/// Whether a value is less than the one before.
fn falls(values: &[f64], go_on: impl Fn() -> bool) -> bool {
    let starts = (0..values.len()).step_by(FLOATS_UNASKED).take_while(|_| go_on());
    starts.fold(false, |falls, start| {
        // With the first value of the next block.
        let block = &values[start..values.len().min(start + FLOATS_UNASKED + 1)];
        falls | block.windows(2).fold(false, |falls, pair| falls | (pair[1] < pair[0]))
    })
}

/// Adds to each window's difference the values before its resets, in their order.
fn add_resets(values: &[f64], edges: &[(u32, u32)], differences: &mut [f64]) {
    let resets: Vec<u32> =
        (1..).zip(values.windows(2)).filter(|(_, pair)| pair[1] < pair[0]).map(|(i, _)| i).collect();
    let mut passed = 0;
    for (&(first, last), difference) in edges.iter().zip(differences) {
        while resets.get(passed).is_some_and(|i| *i <= first) {
            passed += 1;
        }
        for &i in resets[passed..].iter().take_while(|i| **i <= last) {
            *difference += values[i as usize - 1];
        }
    }
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

/// The values in blocks, as long as the query goes on.
fn blocks(values: &[f64], go_on: impl Fn() -> bool) -> impl Iterator<Item = &[f64]> {
    values.chunks(FLOATS_UNASKED).take_while(move |_| go_on())
}

/// Whether `i` is a place to ask whether the query goes on.
#[inline]
fn asks(i: usize) -> bool {
    i % FLOATS_UNASKED == FLOATS_UNASKED - 1
}

/// Counts neighbours inside the window that `differ`.
fn pairs(
    values: &[f64],
    column: &mut Column,
    windows: impl Steps,
    go_on: impl Fn() -> bool,
    differ: impl Fn(f64, f64) -> bool,
) {
    let mut count = 0u64;
    let mut known = 0..0;
    each(column, windows, |window| {
        if window.start >= known.end {
            (count, known) = (0, window.start..window.start + 1);
        }
        for i in known.start..window.start {
            count -= u64::from(differ(values[i], values[i + 1]));
        }
        for i in known.end..window.end {
            if asks(i) && !go_on() {
                return None;
            }
            count += u64::from(differ(values[i - 1], values[i]));
        }
        known = window;
        Some(count as f64)
    });
}

/// Whether any sum of these values, in any order, is exact: integers whose total stays below 2^53.
fn sums_are_exact(values: &[f64], go_on: impl Fn() -> bool) -> bool {
    let mut total = 0.0;
    for v in blocks(values, go_on).flatten() {
        if v.trunc() != *v {
            return false;
        }
        total += v.abs();
    }
    total < 9_007_199_254_740_992.0
}

fn exact_sum(
    values: &[f64],
    column: &mut Column,
    windows: impl Steps,
    go_on: impl Fn() -> bool,
    finish: impl Fn(f64, usize) -> f64,
) {
    let (mut sum, mut known) = (0.0, 0..0);
    each(column, windows, |window| {
        if window.start >= known.end {
            (sum, known) = (0.0, window.start..window.start);
        }
        values[known.start..window.start].iter().for_each(|v| sum -= v);
        blocks(&values[known.end..window.end], &go_on).flatten().for_each(|v| sum += v);
        known = window.clone();
        // Never a negative zero: a sum starts from zero.
        Some(finish(sum + 0.0, window.len()))
    });
}

/// The first of the greatest (or least) values that are no NaN; NaN if there are none.
fn extreme(
    values: &[f64],
    column: &mut Column,
    windows: impl Steps,
    go_on: impl Fn() -> bool,
    beaten: impl Fn(f64, f64) -> bool,
) {
    let mut candidates: VecDeque<usize> = VecDeque::new();
    let mut scanned = 0;
    each(column, windows, |window| {
        for i in scanned.max(window.start)..window.end {
            if asks(i) && !go_on() {
                return None;
            }
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
