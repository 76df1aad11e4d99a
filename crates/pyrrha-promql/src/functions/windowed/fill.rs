//! Whole columns of rates, increases and differences: the bits of single steps ([`Part::value`]), but first
//! what steps look at is gathered, and then a loop without branches computes.

use pyrrha_encoding::windows::Windows;

use super::{Part, RangePlan, StepRange};
use crate::function::FunctionId;
use crate::functions::rate::Extrapolation;
use crate::functions::slide::Span;
use crate::value::Column;

/// Steps that go through the loops together; then it is asked whether to go on.
const BLOCK: usize = 256;

/// Fills a column by such a function, as long as the query goes on; false if it is another one. Ranges of
/// `asked` ms were asked for.
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
    match function {
        F::Rate => extrapolate::<true>(windows, plan, None, column, go_on),
        F::Increase => extrapolate::<true>(windows, plan, Some(asked), column, go_on),
        F::Delta => extrapolate::<false>(windows, plan, Some(asked), column, go_on),
        _ => return false,
    }
    true
}

/// `asked`: how far values went over ranges of that length, ms; else per second.
fn extrapolate<const COUNTER: bool>(
    windows: &Windows,
    plan: &RangePlan,
    asked: Option<i64>,
    column: &mut Column,
    go_on: impl Fn() -> bool,
) {
    let mut block = Block::default();
    let (floats, present) = column.floats_mut();
    for (i, ranges) in plan.steps().chunks(BLOCK).enumerate().take_while(|_| go_on()) {
        block.gather(windows, ranges, COUNTER);
        let samples = block.spans.iter().zip(&block.firsts);
        for (value, (span, &first)) in block.values.iter_mut().zip(samples) {
            *value = span.extrapolate::<COUNTER>(first, *value, asked.is_none());
        }
        for (&step, value) in block.steps.iter().zip(&mut block.values) {
            let length = ranges[step].end - ranges[step].start;
            // Where the range is not that of the windows, what it would be at the same pace.
            if let Some(asked) = asked.filter(|asked| *asked != length) {
                *value *= asked as f64 / length as f64;
            }
            floats[i * BLOCK + step] = *value;
        }
        if block.steps.len() == ranges.len() {
            present.set_range(i * BLOCK..i * BLOCK + ranges.len());
        } else {
            block.steps.iter().for_each(|step| present.set(i * BLOCK + step));
        }
    }
}

/// Some steps, as far as their ranges have two samples.
#[derive(Default)]
struct Block {
    steps: Vec<usize>,
    firsts: Vec<f64>,
    /// How far values went, and then what is made of that.
    values: Vec<f64>,
    spans: Vec<Span>,
    /// Scrapes come at equal distances, so that most ranges have the times of the one before.
    before: (Times, Span),
}

/// ms from the start of a range to its first sample, from there to the last, and to the end; samples.
type Times = (i64, i64, i64, usize);

impl Block {
    fn gather(&mut self, windows: &Windows, ranges: &[StepRange], is_counter: bool) {
        self.steps.clear();
        self.firsts.clear();
        self.values.clear();
        self.spans.clear();
        for (step, range) in ranges.iter().enumerate() {
            // What was asked for does not matter here.
            let part = Part::new(windows, range, 0);
            if part.range.is_empty() {
                continue;
            }
            let Some((samples, first, difference)) = part.difference(is_counter) else { continue };
            self.steps.push(step);
            self.firsts.push(first);
            self.values.push(difference);
            let span = self.span(&samples);
            self.spans.push(span);
        }
    }

    fn span(&mut self, samples: &Extrapolation) -> Span {
        let &Extrapolation { start, end, first, last, samples: count, .. } = samples;
        let times = (first - start, last - first, end - last, count);
        if self.before.0 != times {
            self.before = (times, Span::of(samples));
        }
        self.before.1
    }
}

#[cfg(test)]
mod tests;
