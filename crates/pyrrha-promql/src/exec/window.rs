//! Range windows over samples and subqueries.

use std::ops::Range;

use pyrrha_encoding::{FloatColumn, Want};
use pyrrha_model::contract::WindowHints;
use pyrrha_model::{TimeRange, Timestamp};

use crate::annotations::Annotation;
use crate::ast::{Pos, RangeMode};
use crate::error::QueryError;
use crate::exec::pipeline::{Head, Stage, Work};
use crate::exec::select::Times;
use crate::exec::watch::{Reads, Tally};
use crate::exec::{Exec, samples::Samples};
use crate::function::FunctionId;
use crate::functions::slide::{Slide, WindowPlans, advance};
use crate::functions::windowed::histograms::{self, HistogramPart};
use crate::functions::windowed::{self, Found, Part, StepRange, mixed};
use crate::kernel::{FloatSlice, HistogramSlice, KernelArgs, KernelNotes, RangeKernel, Window};
use crate::labels::LabelIds;
use crate::value::{Column, ScalarColumn, Series, Steps, histogram_weight};

/// A range function over the windows of a series.
pub(crate) struct Windows<'a> {
    pub(crate) exec: &'a Exec<'a>,
    pub(crate) steps: Steps,
    pub(crate) times: Times,
    /// ms
    pub(crate) range: i64,
    /// How far before the range and after its end samples are wanted, ms.
    pub(crate) widen: (i64, i64),
    pub(crate) kernel: RangeKernel,
    pub(crate) function: FunctionId,
    /// A faster way for series that hold floats only.
    pub(crate) slide: Option<Slide>,
    pub(crate) scalars: Vec<ScalarColumn>,
    pub(crate) positions: &'a [Pos],
    pub(crate) keeps_name: bool,
    /// Whether a result of floats has to look like a counter's.
    pub(crate) counter_name: Option<usize>,
    /// Whether the samples of the windows are counted.
    pub(crate) counted: bool,
}

impl<'a> Windows<'a> {
    /// How far around the range a mode looks.
    pub(crate) fn widened(mode: RangeMode, lookback: i64) -> (i64, i64) {
        match mode {
            RangeMode::Classic => (0, 0),
            RangeMode::Anchored => (lookback, 0),
            RangeMode::Smoothed => (lookback, lookback),
        }
    }

    /// Times that samples may have.
    pub(crate) fn span(&self) -> TimeRange {
        self.times.span(self.range.saturating_add(self.widen.0), self.widen.1)
    }

    fn args(&self) -> KernelArgs<'_> {
        KernelArgs { scalars: &self.scalars, ..self.exec.kernel_args(self.steps) }
    }

    /// The function's column over the windows of a series without stale markers.
    fn column(
        &self,
        samples: &Samples,
        labels: &LabelIds,
        (plans, tally): (&mut WindowPlans, &mut Tally<'_>),
        notes: &mut Vec<Annotation>,
    ) -> Result<Column, QueryError> {
        let mut column = Column::new(self.steps.count);
        if samples.has_windows() {
            self.by_windows(samples, labels, &mut column, (plans, tally), notes)?;
            return Ok(column);
        }
        let floats_only = samples.histograms.times.is_empty();
        match self.slide {
            Some(slide) if floats_only && samples.floats.starts.is_empty() => {
                let FloatColumn { times, values, .. } = &samples.floats;
                let (plan, room) = plans.prepare(times, self.steps.count, |step| self.bounds(step));
                let cancel = &self.exec.ctx.cancel;
                slide.run(times, values, &mut column, (plan, room), || cancel.reason().is_some());
                self.exec.check()?;
                self.count(plan.points());
                self.count_steps(tally, plan.windows());
            }
            _ => self.by_window(samples, labels, &mut column, tally, notes)?,
        }
        Ok(column)
    }

    fn by_window(
        &self,
        samples: &Samples,
        labels: &LabelIds,
        column: &mut Column,
        tally: &mut Tally<'_>,
        notes: &mut Vec<Annotation>,
    ) -> Result<(), QueryError> {
        let mut found = KernelNotes::new(&self.exec.ctx.symbols, self.positions).until(&self.exec.ctx.cancel);
        found.about(Some(labels));
        let mut args = self.args();
        let (mut floats, mut histograms, mut points) = (0..0, 0..0, 0);
        for step in 0..self.steps.count {
            self.exec.check()?;
            let (start, end) = self.bounds(step);
            let (from, to) = (start.saturating_sub(self.widen.0), end.saturating_add(self.widen.1));
            floats = advance(&samples.floats.times, floats, from, to);
            histograms = advance(&samples.histograms.times, histograms, from, to);
            let weight: usize = samples
                .histograms
                .values
                .get(histograms.clone())
                .into_iter()
                .flatten()
                .map(|h| histogram_weight(h))
                .sum();
            points += floats.len() + weight;
            if self.counted {
                tally.count_at(step, floats.len() + weight);
            }
            if floats.is_empty() && histograms.is_empty() {
                continue;
            }
            let window = Window {
                floats: samples.float_slice(floats.clone()),
                histograms: samples.histogram_slice(histograms.clone()),
                start,
                end,
                time: self.steps.time(step),
            };
            args.step = step;
            if let Some(value) = (self.kernel)(&window, &args, &mut found) {
                column.set(step, value);
            }
        }
        self.exec.check()?;
        self.count(points);
        notes.append(&mut found.take());
        found.take_failure().map_or(Ok(()), Err)
    }

    /// Over windows of downsampled samples.
    fn by_windows(
        &self,
        samples: &Samples,
        labels: &LabelIds,
        column: &mut Column,
        (plans, tally): (&mut WindowPlans, &mut Tally<'_>),
        notes: &mut Vec<Annotation>,
    ) -> Result<(), QueryError> {
        let (all, histograms) = (windowed::unified(samples), histograms::unified(samples));
        let (plan, cancel) = (&mut plans.downsampled, &self.exec.ctx.cancel);
        let bounds = |step| self.bounds(step);
        let plan = plan.prepare(&all.ends, &samples.window_spans, self.steps.count, bounds);
        let go_on = || cancel.reason().is_none();
        if histograms.is_empty() && windowed::fill(self.function, &all, (plan, self.range), column, go_on) {
            self.exec.check()?;
            self.count(plan.points());
            self.count_steps(tally, plan.steps().iter().map(StepRange::windows));
            return Ok(());
        }
        let mut found = KernelNotes::new(&self.exec.ctx.symbols, self.positions).until(cancel);
        found.about(Some(labels));
        let (mut args, mut floats) = (self.args(), FloatColumn::default());
        let (mut histogram_range, mut points) = (0..0, 0);
        let mut before = Timestamp::MIN;
        for (step, range) in plan.steps().iter().enumerate() {
            self.exec.check()?;
            let StepRange { start, end, .. } = *range;
            if start < before {
                histogram_range = 0..0;
            }
            before = start;
            histogram_range = advance(&histograms.ends, histogram_range, start, end);
            let part = Part::new(&all, range, self.range);
            let weight = part.range.len() + histograms::weight(&histograms, histogram_range.clone());
            points += weight;
            if self.counted {
                tally.count_at(step, weight);
            }
            args.step = step;
            if !histogram_range.is_empty() {
                let range = histogram_range.clone();
                let others = HistogramPart { windows: &histograms, range, start, end, asked: self.range };
                let value = if part.range.is_empty() {
                    Some(others.value(self.function, &args, &mut found))
                } else {
                    mixed::value(&part, &others, self.function, &args, &mut found)
                };
                if let Some(value) = value {
                    value.into_iter().for_each(|value| column.set(step, value));
                    continue;
                }
            }
            if part.range.is_empty() {
                continue;
            }
            match part.value(self.function) {
                Found::Value(value) => column.set_float(step, value),
                Found::Nothing => {}
                Found::FromSamples => {
                    part.samples(&mut floats);
                    let floats = FloatSlice { times: &floats.times, values: &floats.values, starts: &[] };
                    let histograms = HistogramSlice::default();
                    let window = Window { floats, histograms, start, end, time: self.steps.time(step) };
                    if let Some(value) = (self.kernel)(&window, &args, &mut found) {
                        column.set(step, value);
                    }
                }
            }
        }
        self.exec.check()?;
        self.count(points);
        notes.append(&mut found.take());
        found.take_failure().map_or(Ok(()), Err)
    }

    /// Counts samples that windows brought to steps.
    fn count(&self, points: usize) {
        if self.counted {
            self.exec.watch.progress.count_total(points as u64);
        }
    }

    /// Counts them by step, where that is asked for.
    fn count_steps(&self, tally: &mut Tally<'_>, windows: impl Iterator<Item = Range<usize>>) {
        if self.counted && tally.counts() {
            windows.enumerate().for_each(|(step, window)| tally.count_at(step, window.len()));
        }
    }

    #[inline]
    fn bounds(&self, step: usize) -> (Timestamp, Timestamp) {
        let end = self.times.at(step);
        (end.saturating_sub(self.range), end)
    }

    /// The finished series.
    fn finish(
        &self,
        samples: &Samples,
        mut series: Series,
        room: (&mut WindowPlans, &mut Tally<'_>),
        notes: &mut Vec<Annotation>,
    ) -> Result<Option<Series>, QueryError> {
        series.column = self.column(samples, &series.labels, room, notes)?;
        if series.column.is_empty() {
            return Ok(None);
        }
        if let Some(arg) = self.counter_name
            && !series.column.floats().1.is_empty()
        {
            self.exec.note_counter_name(&series.labels, self.positions.get(arg).copied(), notes);
        }
        if !self.keeps_name {
            self.exec.drop_name(&mut series);
        }
        Ok(Some(series))
    }
}

/// A range function over a range selector.
pub(crate) struct RangeHead<'a> {
    pub(crate) windows: Windows<'a>,
    /// Whether of histograms only count and sum are needed.
    pub(crate) stats_only: bool,
    /// The number of the selector.
    pub(crate) node: usize,
    /// Whether the range is one that windows can answer.
    pub(crate) understands_windows: bool,
}

impl Head for RangeHead<'_> {
    fn want(&self) -> Want {
        Want {
            starts: self.windows.exec.options.features.use_start_timestamps,
            histogram_stats_only: self.stats_only,
        }
    }

    fn range(&self) -> TimeRange {
        self.windows.span()
    }

    fn reads(&self) -> Reads<'_> {
        Reads::new(&self.windows.exec.watch, self.node, self.windows.times.offset())
    }

    fn windows(&self) -> Option<WindowHints> {
        self.understands_windows
            .then(|| windowed::needs(self.windows.function, self.windows.exec.max_resolution()))
    }

    fn node(&self) -> usize {
        self.node
    }

    fn series(
        &self,
        samples: &Samples,
        labels: LabelIds,
        work: &mut Work<'_>,
    ) -> Result<Option<Series>, QueryError> {
        // Windows look after stale markers themselves.
        let clean = if samples.has_windows() { None } else { samples.without_stale() };
        let series = Series { labels, drop_name: false, column: Column::default() };
        let room = (&mut work.plans, &mut work.tally);
        self.windows.finish(clean.as_ref().unwrap_or(samples), series, room, &mut work.notes)
    }
}

/// A range function over the columns of a subquery.
pub(crate) struct SubqueryStage<'a> {
    pub(crate) windows: Windows<'a>,
    /// The steps of the subquery's columns.
    pub(crate) inner: Steps,
}

impl Stage for SubqueryStage<'_> {
    fn apply(&self, mut series: Series, notes: &mut Vec<Annotation>) -> Result<Option<Series>, QueryError> {
        let samples = Samples::from_column(&std::mem::take(&mut series.column), self.inner, || {
            self.windows.exec.check()
        })?;
        let (mut plans, mut tally) = (WindowPlans::default(), Tally::new(&self.windows.exec.watch));
        self.windows.finish(&samples, series, (&mut plans, &mut tally), notes)
    }
}
