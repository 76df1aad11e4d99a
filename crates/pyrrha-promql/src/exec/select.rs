//! Selectors: opening a store, and instant lookups with lookback and staleness.

mod smoothed;

use pyrrha_encoding::Want;
use pyrrha_model::contract::{SelectHints, SeriesSet, WindowHints};
use pyrrha_model::{TimeRange, Timestamp, is_stale_nan};

use crate::ast::{Pos, RangeMode};
use crate::error::QueryError;
use crate::exec::pipeline::{Head, Pipeline, Source, Work};
use crate::exec::watch::Reads;
use crate::exec::{Exec, samples::Samples};
use crate::functions::windowed::{self, AsOf};
use crate::kernel::InfoSeries;
use crate::labels::LabelIds;
use crate::plan::Selector;
use crate::value::{Bits, Column, Sample, Series, Steps};

/// The times that a selector looks at: one per step, moved by `@` and `offset`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    steps: Steps,
    at: Option<Timestamp>,
    offset: i64,
}

impl Times {
    pub(crate) fn new(steps: Steps, at: Option<Timestamp>, offset: i64) -> Self {
        Self { steps, at, offset }
    }

    /// The time looked at in step `i`.
    #[inline]
    pub(crate) fn at(&self, i: usize) -> Timestamp {
        self.at.unwrap_or_else(|| self.steps.time(i)).saturating_sub(self.offset)
    }

    /// How far samples lie before their steps, ms.
    pub(crate) fn offset(&self) -> i64 {
        self.offset
    }

    /// Whether the same time is looked at in every step.
    fn is_one(&self) -> bool {
        self.steps.count == 1 || self.at.is_some()
    }

    /// The times of all steps, widened by `before` (exclusive) and `after`.
    pub(crate) fn span(&self, before: i64, after: i64) -> TimeRange {
        let first = self.at(0).saturating_sub(before).saturating_add(1);
        TimeRange::new(first, self.at(self.steps.count.saturating_sub(1)).saturating_add(after))
    }
}

/// What an instant selector gives of the sample it found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Take {
    /// Its value.
    Value,
    /// Its timestamp, seconds.
    Timestamp,
    /// Its start timestamp, seconds.
    Start,
}

impl<'a> Exec<'a> {
    /// Opens the store for a selector, as a stream.
    pub(crate) fn open(
        &'a self,
        selector: &Selector,
        range: TimeRange,
        steps: Steps,
        head: impl Head + 'a,
    ) -> Result<Pipeline<'a>, QueryError> {
        let set = self.open_set(selector, range, steps, head.newest_only(), head.windows())?;
        let mut pipeline = Pipeline::new(self, Source::Store(set, Box::new(head)));
        pipeline.charge_columns(self, steps)?;
        Ok(pipeline)
    }

    /// Opens the store for a selector.
    pub(crate) fn open_set(
        &self,
        selector: &Selector,
        range: TimeRange,
        steps: Steps,
        newest_only: bool,
        windows: Option<WindowHints>,
    ) -> Result<Box<dyn SeriesSet>, QueryError> {
        let hints = SelectHints {
            step_ms: if steps.count > 1 { steps.step } else { 0 },
            range_ms: selector.range,
            function: selector.above.to_owned(),
            projection: selector.projection.clone(),
            shard: None,
            limit: 0,
            newest_only,
            windows,
        };
        self.watch.opens(selector.number);
        self.watch.begin();
        let set = self.store.select(self.ctx, &selector.matchers, range, &hints);
        self.watch.lap(selector.number);
        set.map_err(QueryError::from_store)
    }

    /// An instant selector.
    pub(crate) fn select(
        &'a self,
        selector: &Selector,
        steps: Steps,
        take: Take,
    ) -> Result<Pipeline<'a>, QueryError> {
        let times = Times::new(steps, selector.at, selector.offset);
        // Only values are smoothed: `timestamp()` looks at the samples themselves.
        let smoothed = selector.mode == RangeMode::Smoothed && take == Take::Value;
        let range = times.span(self.lookback, if smoothed { self.lookback } else { 0 });
        let head = Instant {
            exec: self,
            times,
            range,
            take,
            smoothed,
            stats_only: selector.stats_only,
            pos: selector.pos,
            node: selector.number,
            counted: selector.counted,
        };
        self.open(selector, range, steps, head)
    }

    /// An instant selector with the timestamps of the samples found.
    pub(crate) fn select_with_times(
        &'a self,
        selector: &Selector,
        steps: Steps,
    ) -> Result<Vec<InfoSeries>, QueryError> {
        let values = self.collect(self.select(selector, steps, Take::Value)?)?;
        let times = self.collect(self.select(selector, steps, Take::Timestamp)?)?;
        let milliseconds = |column: &Column| {
            column.floats().0.iter().map(|seconds| (seconds * 1000.0).round() as Timestamp).collect()
        };
        // Both selections see the same series in the same order, unless the store grew in between.
        let mut found = times.series.iter();
        Ok(values
            .series
            .iter()
            .filter_map(|s| {
                let times = found.by_ref().find(|t| t.labels == s.labels)?;
                Some(InfoSeries {
                    labels: s.labels.clone(),
                    column: s.column.clone(),
                    times: milliseconds(&times.column),
                })
            })
            .collect())
    }
}

/// An instant selector's lookups.
struct Instant<'a> {
    exec: &'a Exec<'a>,
    times: Times,
    range: TimeRange,
    take: Take,
    smoothed: bool,
    stats_only: bool,
    /// Where the selector stands.
    pos: Pos,
    /// Its node's number.
    node: usize,
    counted: bool,
}

impl Head for Instant<'_> {
    fn want(&self) -> Want {
        Want { starts: self.take == Take::Start, histogram_stats_only: self.stats_only }
    }

    fn range(&self) -> TimeRange {
        self.range
    }

    fn reads(&self) -> Reads<'_> {
        Reads::new(&self.exec.watch, self.node, self.times.offset)
    }

    fn node(&self) -> usize {
        self.node
    }

    fn newest_only(&self) -> bool {
        self.times.is_one() && !self.smoothed && self.take != Take::Start
    }

    fn windows(&self) -> Option<WindowHints> {
        let understood = !self.smoothed && self.take != Take::Start;
        understood.then(|| windowed::lookup(self.exec.max_resolution()))
    }

    fn series(
        &self,
        samples: &Samples,
        labels: LabelIds,
        work: &mut Work<'_>,
    ) -> Result<Option<Series>, QueryError> {
        let steps = self.times.steps.count;
        let mut column = Column::new(steps);
        if self.smoothed {
            self.interpolate(samples, &labels, &mut column, &mut work.notes);
        } else if samples.has_windows() {
            let as_of = AsOf(&samples.window_spans);
            self.mixed(&windowed::last_samples(samples), &mut column, |t| as_of.at(t));
        } else if self.take == Take::Value && samples.histograms.times.is_empty() {
            work.lookups.prepare(&samples.floats.times, self.times, self.exec.lookback);
            work.lookups.floats(&samples.floats.values, &mut column);
        } else {
            self.mixed(samples, &mut column, |t| t);
        }
        if self.counted {
            self.exec.watch.count_column(&column);
        }
        Ok((!column.is_empty()).then_some(Series { labels, drop_name: false, column }))
    }
}

/// Which sample each step finds. The series of a scrape have the same times, and those that follow
/// each other share the answer.
#[derive(Debug, Default)]
pub(crate) struct Lookups {
    /// The times it was made for.
    times: Vec<Timestamp>,
    /// Per step the latest sample of `(t - lookback, t]`, or [`Lookups::NOTHING`].
    found: Vec<u32>,
    /// Steps that find one, once it was made.
    steps: Option<Bits>,
    /// Whether all steps do.
    all: bool,
}

impl Lookups {
    const NOTHING: u32 = u32::MAX;

    fn prepare(&mut self, times: &[Timestamp], at: Times, lookback: i64) {
        if self.steps.is_some() && self.times == times {
            return;
        }
        self.times.clear();
        self.times.extend_from_slice(times);
        self.found.clear();
        let mut next = 0;
        self.found.extend((0..at.steps.count).map(|step| {
            let t = at.at(step);
            while next < times.len() && times[next] <= t {
                next += 1;
            }
            let found = next > 0 && times[next - 1] > t.saturating_sub(lookback);
            if found { next as u32 - 1 } else { Self::NOTHING }
        }));
        self.all = self.found.iter().all(|found| *found != Self::NOTHING);
        let steps = self.steps.insert(Bits::all(at.steps.count));
        if !self.all {
            let found = self.found.iter().enumerate();
            found.filter(|(_, i)| **i == Self::NOTHING).for_each(|(step, _)| steps.clear(step));
        }
    }

    /// Puts what was found into an empty column; stale markers are nothing.
    fn floats(&self, values: &[f64], column: &mut Column) {
        let (floats, present) = column.floats_mut();
        let mut stale = false;
        if self.all {
            for (float, &i) in floats.iter_mut().zip(&self.found) {
                *float = values[i as usize];
                stale |= is_stale_nan(*float);
            }
        } else {
            for (float, &i) in floats.iter_mut().zip(&self.found).filter(|(_, i)| **i != Self::NOTHING) {
                *float = values[i as usize];
                stale |= is_stale_nan(*float);
            }
        }
        if let Some(steps) = &self.steps {
            present.union(steps);
        }
        if stale {
            for (step, float) in floats.iter_mut().enumerate().filter(|(_, float)| is_stale_nan(**float)) {
                *float = 0.0;
                present.clear(step);
            }
        }
    }
}

impl Instant<'_> {
    /// Looks samples up at the times that `seen` makes of those of the steps; they ascend too.
    fn mixed(&self, samples: &Samples, column: &mut Column, seen: impl Fn(Timestamp) -> Timestamp) {
        let (floats, histograms) = (&samples.floats, &samples.histograms);
        let (mut f, mut h) = (0, 0);
        for step in 0..self.times.steps.count {
            let t = seen(self.times.at(step));
            while f < floats.times.len() && floats.times[f] <= t {
                f += 1;
            }
            while h < histograms.times.len() && histograms.times[h] <= t {
                h += 1;
            }
            let float = f.checked_sub(1).map(|i| (floats.times[i], i));
            let histogram = h.checked_sub(1).map(|i| (histograms.times[i], i));
            let oldest = t.saturating_sub(self.exec.lookback);
            let found = match (float, histogram) {
                (Some((tf, i)), other) if other.is_none_or(|(th, _)| th < tf) => {
                    let start = floats.starts.get(i).copied().unwrap_or(0);
                    (tf > oldest && !is_stale_nan(floats.values[i]))
                        .then(|| (tf, start, Sample::Float(floats.values[i])))
                }
                (_, Some((th, i))) => {
                    let start = histograms.starts.get(i).copied().unwrap_or(0);
                    (th > oldest && !histograms.values[i].is_stale())
                        .then(|| (th, start, Sample::Histogram(histograms.values[i].clone())))
                }
                _ => None,
            };
            match (found, self.take) {
                (None, _) => {}
                (Some((_, _, value)), Take::Value) => column.set(step, value),
                (Some((time, _, _)), Take::Timestamp) => column.set_float(step, time as f64 / 1000.0),
                (Some((_, start, _)), Take::Start) => column.set_float(step, start as f64 / 1000.0),
            }
        }
    }
}
