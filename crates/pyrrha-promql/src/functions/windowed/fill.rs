//! Whole columns of the functions that dashboards ask most, each in a loop of its own.

use pyrrha_encoding::windows::Windows;

use super::{Part, RangePlan};
use crate::function::FunctionId;
use crate::functions::rate::Extrapolation;
use crate::value::Column;

/// Steps after which a loop over windows of floats asks whether to go on.
const STEPS_UNASKED: usize = 1024;

/// Fills a column by such a function, as long as the query goes on; false if it is another one.
pub(crate) fn fill(
    function: FunctionId,
    windows: &Windows,
    (plan, asked): (&RangePlan, i64),
    column: &mut Column,
    go_on: impl Fn() -> bool,
) -> bool {
    use FunctionId as F;
    if !windows.has_edges() {
        return false;
    }
    let each = (windows, plan, asked);
    match function {
        F::Rate => each_step(each, column, go_on, |part, reach| part.extrapolated(true, true, reach)),
        F::Increase => each_step(each, column, go_on, |part, reach| part.extrapolated(true, false, reach)),
        F::Delta => each_step(each, column, go_on, |part, reach| part.extrapolated(false, false, reach)),
        _ => return false,
    }
    true
}

/// What the times of a range say. Scrapes come at equal distances, so that most ranges of a series say the
/// same.
#[derive(Debug, Default)]
pub(super) struct Reach {
    /// ms from the start of the range to its first sample, from there to the last, and to the end; samples.
    of: (i64, i64, i64, usize),
    /// See [`Extrapolation::reach`].
    pub(super) extends: (f64, f64, f64),
    /// Length of the range, s.
    pub(super) length: f64,
}

impl Reach {
    #[inline]
    pub(super) fn look(&mut self, range: &Extrapolation) {
        let &Extrapolation { start, end, first, last, samples, .. } = range;
        let of = (first - start, last - first, end - last, samples);
        if self.of != of {
            *self = Self { of, extends: range.reach(), length: (end - start) as f64 / 1000.0 };
        }
    }
}

#[inline(always)]
fn each_step(
    (windows, plan, asked): (&Windows, &RangePlan, i64),
    column: &mut Column,
    go_on: impl Fn() -> bool,
    value: impl Fn(&Part<'_>, &mut Reach) -> Option<f64>,
) {
    let mut reach = Reach::default();
    for (i, steps) in plan.steps().chunks(STEPS_UNASKED).enumerate().take_while(|_| go_on()) {
        for (step, range) in (i * STEPS_UNASKED..).zip(steps) {
            let part = Part::new(windows, range, asked);
            if !part.range.is_empty()
                && let Some(value) = value(&part, &mut reach)
            {
                column.set_float(step, value);
            }
        }
    }
}

#[cfg(test)]
mod tests;
