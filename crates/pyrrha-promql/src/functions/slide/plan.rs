//! What range functions need of a series' times alone. The series of one target have the same times,
//! and share one plan.

use std::ops::Range;

use foldhash::HashMap;

use pyrrha_model::Timestamp;

use crate::functions::rate::Extrapolation;
use crate::functions::windowed::RangePlan;
use crate::value::{Bits, Column};

/// Most bytes of plans that are kept.
const KEPT_BYTES: usize = 4 << 20;

/// Most times of which it is known that they came once.
const SEEN_MAX: usize = 4096;

/// The plans of the series before.
#[derive(Debug, Default)]
pub(crate) struct WindowPlans {
    /// Start (exclusive) and end of each step's window, and its length, s.
    bounds: Vec<(Timestamp, Timestamp, f64)>,
    /// The plan made last that is not kept.
    last: WindowPlan,
    /// By first time, where the series' plan is among those kept; `None`: it came once. A plan is kept
    /// when its times come again other than at once.
    seen: HashMap<Timestamp, Option<usize>>,
    kept: Vec<WindowPlan>,
    kept_bytes: usize,
    /// Room for what a function puts into windows: first values and differences.
    pub(super) values: (Vec<f64>, Vec<f64>),
    /// Of the series before that had windows of downsampled samples.
    pub(crate) downsampled: RangePlan,
}

/// Where the windows of all steps lie in the samples of a series.
#[derive(Debug, Clone, Default)]
pub(crate) struct WindowPlan {
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
}

/// The times of a window.
#[derive(Debug, Clone, Copy, Default)]
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
    /// Of the samples of a window.
    pub(crate) fn of(samples: &Extrapolation) -> Self {
        let (sampled, to_start, to_end) = samples.reach();
        Self { sampled, to_start, to_end, range: (samples.end - samples.start) as f64 / 1000.0 }
    }

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

impl WindowPlans {
    /// The plan for a series with these times, and room for values. `bounds` gives the start (exclusive)
    /// and end of each step's window; both ascend, or stay, and are the same for all series.
    pub(crate) fn prepare(
        &mut self,
        times: &[Timestamp],
        steps: usize,
        bounds: impl Fn(usize) -> (Timestamp, Timestamp),
    ) -> (&WindowPlan, &mut (Vec<f64>, Vec<f64>)) {
        if self.bounds.len() != steps {
            let bounds = (0..steps).map(bounds);
            self.bounds = bounds.map(|(start, end)| (start, end, (end - start) as f64 / 1000.0)).collect();
        }
        let Self { bounds, last, seen, kept, kept_bytes, values, .. } = self;
        if last.is_for(times, steps) {
            return (last, values);
        }
        let first = times.first().copied().unwrap_or(Timestamp::MIN);
        let place = match seen.get_mut(&first) {
            Some(Some(place)) => Some(*place),
            Some(came) if *kept_bytes < KEPT_BYTES => {
                kept.push(WindowPlan::default());
                *kept_bytes += WindowPlan::bytes(times.len(), steps);
                *came = Some(kept.len() - 1);
                *came
            }
            Some(None) => None,
            None => {
                if seen.len() < SEEN_MAX {
                    seen.insert(first, None);
                }
                None
            }
        };
        let plan = place.map_or(last, |place| &mut kept[place]);
        if !plan.is_for(times, steps) {
            plan.make(times, bounds);
        }
        (plan, values)
    }

    /// Bytes of the plans that are kept, about.
    pub(crate) fn bytes(&self) -> usize {
        self.kept_bytes + self.downsampled.bytes()
    }
}

impl WindowPlan {
    fn is_for(&self, times: &[Timestamp], steps: usize) -> bool {
        self.windows.len() == steps && self.times == times
    }

    /// What a plan takes, about.
    fn bytes(times: usize, steps: usize) -> usize {
        times * size_of::<Timestamp>() + steps * (2 * size_of::<(u32, u32)>() + size_of::<Span>())
    }

    fn make(&mut self, times: &[Timestamp], bounds: &[(Timestamp, Timestamp, f64)]) {
        self.times.clear();
        self.times.extend_from_slice(times);
        self.windows.clear();
        self.edges.clear();
        self.spans.clear();
        self.points = 0;
        let mut window = 0..0;
        for &(start, end, range) in bounds {
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
        if self.edges.len() == bounds.len() {
            self.steps = Bits::all(bounds.len());
        } else {
            self.steps = Bits::none(bounds.len());
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
