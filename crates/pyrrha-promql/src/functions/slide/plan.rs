//! What range functions need of a series' times alone. The series of a scrape have the same times,
//! and those that follow each other share one plan.

use std::ops::Range;

use pyrrha_model::Timestamp;

use crate::functions::rate::Extrapolation;
use crate::value::{Bits, Column};

/// Where the windows of all steps lie in the samples of a series.
#[derive(Debug, Default)]
pub(crate) struct WindowPlan {
    /// Start (exclusive) and end of each step's window, and its length, s.
    bounds: Vec<(Timestamp, Timestamp, f64)>,
    /// The times it was made for.
    times: Vec<Timestamp>,
    /// Per step, the first sample of its window and the one behind the last.
    windows: Vec<(u32, u32)>,
    /// Samples in all windows.
    points: usize,
    /// Of windows with two samples or more: first and last sample.
    edges: Vec<(u32, u32)>,
    /// Of the same windows.
    spans: Vec<Span>,
    /// The steps of the same windows.
    steps: Bits,
    /// Of the same windows, what the function at work puts there: first values and differences.
    pub(super) values: (Vec<f64>, Vec<f64>),
}

/// The times of a window.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    /// From its first to its last sample, s.
    sampled: f64,
    /// How far before the first and behind the last sample it extends, s.
    to_start: f64,
    to_end: f64,
    /// Length of the range, s.
    range: f64,
}

impl Span {
    /// What a difference between first and last sample becomes over the whole range; see
    /// [`Extrapolation::factor`], of which this has the bits.
    #[inline(always)]
    pub(crate) fn extrapolate<const COUNTER: bool>(&self, first: f64, difference: f64, is_rate: bool) -> f64 {
        let mut to_start = self.to_start;
        if COUNTER {
            let since_zero = to_start.min(self.sampled * (first / difference));
            to_start = if difference > 0.0 && first >= 0.0 { since_zero } else { to_start };
        }
        let factor = (self.sampled + to_start + self.to_end) / self.sampled;
        difference * if is_rate { factor / self.range } else { factor }
    }
}

impl WindowPlan {
    /// The plan for a series with these times: the one that is there, if it was made for the same.
    /// `bounds` gives the start (exclusive) and end of each step's window; both ascend, or stay, and
    /// are the same for all series.
    pub(crate) fn prepare(
        &mut self,
        times: &[Timestamp],
        steps: usize,
        bounds: impl Fn(usize) -> (Timestamp, Timestamp),
    ) {
        if self.windows.len() == steps && self.times == times {
            return;
        }
        if self.bounds.len() != steps {
            let bounds = (0..steps).map(bounds);
            self.bounds = bounds.map(|(start, end)| (start, end, (end - start) as f64 / 1000.0)).collect();
        }
        self.times.clear();
        self.times.extend_from_slice(times);
        self.windows.clear();
        self.edges.clear();
        self.spans.clear();
        self.points = 0;
        let mut window = 0..0;
        for &(start, end, range) in &self.bounds {
            window = advance(times, window, start, end);
            self.points += window.len();
            self.windows.push((window.start as u32, window.end as u32));
            if window.len() >= 2 {
                let last = window.end - 1;
                self.edges.push((window.start as u32, last as u32));
                let (samples, first, last) = (window.len(), times[window.start], times[last]);
                let extrapolation = Extrapolation { start, end, first, last, samples, counter: None };
                let (sampled, to_start, to_end) = extrapolation.reach();
                self.spans.push(Span { sampled, to_start, to_end, range });
            }
        }
        if self.edges.len() == steps {
            self.steps = Bits::all(steps);
        } else {
            self.steps = Bits::none(steps);
            let pairs = self.windows.iter().enumerate().filter(|(_, (start, end))| end - start >= 2);
            pairs.for_each(|(step, _)| self.steps.set(step));
        }
    }

    /// The windows of all steps.
    pub(crate) fn windows(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.windows.iter().map(|&(start, end)| start as usize..end as usize)
    }

    /// Samples in all windows; one in several windows counts as often.
    pub(crate) fn points(&self) -> usize {
        self.points
    }

    /// First and last sample of each window that has two or more.
    pub(crate) fn edges(&self) -> &[(u32, u32)] {
        &self.edges
    }

    /// The times of the same windows.
    pub(crate) fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Puts a value for each of the same windows into an empty column.
    pub(crate) fn scatter(&self, values: &[f64], column: &mut Column) {
        let (floats, present) = column.floats_mut();
        if values.len() == floats.len() {
            floats.copy_from_slice(values);
        } else {
            self.steps.iter().zip(values).for_each(|(step, value)| floats[step] = *value);
        }
        present.union(&self.steps);
    }
}

/// Moves a window forward to the samples in `(from, to]`. Steps ascend, or stay.
#[inline]
pub(crate) fn advance(
    times: &[Timestamp],
    window: Range<usize>,
    from: Timestamp,
    to: Timestamp,
) -> Range<usize> {
    let Range { mut start, mut end } = window;
    while start < times.len() && times[start] <= from {
        start += 1;
    }
    end = end.max(start);
    while end < times.len() && times[end] <= to {
        end += 1;
    }
    start..end
}
