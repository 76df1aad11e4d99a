//! Which windows of a series lie in the range of each step. Most series have windows of the same times, and
//! share one plan.

use std::ops::Range;

use pyrrha_encoding::WindowSpan;
use pyrrha_model::Timestamp;

use super::AsOf;
use crate::functions::slide::advance;

/// The plan of the series before.
#[derive(Debug, Default)]
pub(crate) struct RangePlan {
    /// The windows that it was made for: their ends, and the times for which they stand.
    ends: Vec<Timestamp>,
    spans: Vec<WindowSpan>,
    steps: Vec<StepRange>,
    /// Windows in all ranges.
    points: usize,
}

/// The range of a step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StepRange {
    /// Start (exclusive) and end of the range of windows.
    pub(crate) start: Timestamp,
    pub(crate) end: Timestamp,
    windows: (u32, u32),
}

impl StepRange {
    /// The windows in it.
    #[inline]
    pub(crate) fn windows(&self) -> Range<usize> {
        self.windows.0 as usize..self.windows.1 as usize
    }
}

impl RangePlan {
    /// The plan for windows with these ends, which stand for the times of `spans`. `bounds` gives the start
    /// (exclusive) and end of each step's range, which are the same for all series.
    pub(crate) fn prepare(
        &mut self,
        ends: &[Timestamp],
        spans: &[WindowSpan],
        steps: usize,
        bounds: impl Fn(usize) -> (Timestamp, Timestamp),
    ) -> &Self {
        if self.steps.len() == steps && self.spans == spans && self.ends == ends {
            return self;
        }
        self.ends.clear();
        self.ends.extend_from_slice(ends);
        self.spans.clear();
        self.spans.extend_from_slice(spans);
        self.steps.clear();
        self.points = 0;
        let (as_of, mut windows, mut before) = (AsOf(spans), 0..0, (Timestamp::MIN, Timestamp::MIN));
        for step in 0..steps {
            let (start, end) = bounds(step);
            let (start, end) = as_of.range(start, end);
            if start < before.0 || end < before.1 {
                windows = 0..0;
            }
            before = (start, end);
            windows = advance(ends, windows, start, end);
            self.points += windows.len();
            let windows = (windows.start as u32, windows.end as u32);
            self.steps.push(StepRange { start, end, windows });
        }
        self
    }

    /// The ranges of all steps.
    pub(crate) fn steps(&self) -> &[StepRange] {
        &self.steps
    }

    /// Windows in all ranges; one in several ranges counts as often.
    pub(crate) fn points(&self) -> usize {
        self.points
    }

    /// Bytes held, about.
    pub(crate) fn bytes(&self) -> usize {
        self.ends.capacity() * size_of::<Timestamp>()
            + self.spans.capacity() * size_of::<WindowSpan>()
            + self.steps.capacity() * size_of::<StepRange>()
    }
}
