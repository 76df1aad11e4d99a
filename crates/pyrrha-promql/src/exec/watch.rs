//! Counts and times what operators do: always per selector, by step and by operator when asked for.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use pyrrha_model::Timestamp;

use crate::annotations::Annotation;
use crate::error::QueryError;
use crate::exec::aggregate::Picked;
use crate::exec::pipeline::{Names, Pipeline, Stage};
use crate::exec::samples::Samples;
use crate::exec::table::footprint;
use crate::exec::{Exec, Table};
use crate::functions::windowed::histograms;
use crate::observe::{NodeStats, PerStep, Progress, QueryTimes, Stopwatch};
use crate::plan::{Aggregate, Kind, Node};
use crate::value::{Column, Series, Steps, histogram_weight};

thread_local! {
    /// When this thread began what it works on.
    static LAP: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// What is counted of one query.
pub(crate) struct Watch {
    pub(crate) progress: Arc<Progress>,
    stopwatch: Option<Stopwatch>,
    /// Whether operators are timed and counted, too.
    explain: bool,
    /// By the number of the node.
    nodes: Vec<Counts>,
    per_step: Option<StepCounts>,
    /// The selector that was opened last.
    opened: AtomicUsize,
    /// ns
    sorting: AtomicU64,
}

#[derive(Default)]
struct Counts {
    series: AtomicU64,
    samples: AtomicU64,
    bytes: AtomicU64,
    nanoseconds: AtomicU64,
    /// Whether the time includes what is below.
    whole: AtomicBool,
}

struct StepCounts {
    steps: Steps,
    total: Vec<AtomicU64>,
    read: Vec<AtomicU64>,
}

/// What is to be watched.
pub(crate) struct Wanted {
    pub(crate) progress: Arc<Progress>,
    pub(crate) stopwatch: Option<Stopwatch>,
    pub(crate) explain: bool,
    pub(crate) per_step: bool,
}

impl Watch {
    pub(crate) fn new(wanted: Wanted, nodes: usize, steps: Steps) -> Self {
        let counts = |n: usize| (0..n).map(|_| AtomicU64::new(0)).collect();
        Self {
            progress: wanted.progress,
            explain: wanted.explain && wanted.stopwatch.is_some(),
            stopwatch: wanted.stopwatch,
            nodes: (0..nodes).map(|_| Counts::default()).collect(),
            per_step: wanted.per_step.then(|| StepCounts {
                steps,
                total: counts(steps.count),
                read: counts(steps.count),
            }),
            opened: AtomicUsize::new(0),
            sorting: AtomicU64::new(0),
        }
    }

    /// Time, where there is a stopwatch.
    pub(crate) fn now(&self) -> Duration {
        self.stopwatch.as_ref().map_or(Duration::ZERO, Stopwatch::elapsed)
    }

    /// Remembers which selector asks the store.
    pub(crate) fn opens(&self, node: usize) {
        self.opened.store(node, Ordering::Relaxed);
    }

    /// This thread begins something of which [`Watch::lap`] will say whose it was.
    #[inline]
    pub(crate) fn begin(&self) {
        if self.explain {
            LAP.set(self.now());
        }
    }

    /// What this thread did since it began was the work of `node`.
    #[inline]
    pub(crate) fn lap(&self, node: usize) {
        if self.explain {
            let now = self.now();
            let took = now.saturating_sub(LAP.replace(now));
            self.took(node, took);
        }
    }

    fn took(&self, node: usize, took: Duration) {
        if let Some(counts) = self.nodes.get(node) {
            let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
            counts.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
        }
    }

    fn passed(&self, node: usize, series: usize, samples: usize, bytes: usize) {
        if let Some(counts) = self.nodes.get(node) {
            counts.series.fetch_add(series as u64, Ordering::Relaxed);
            counts.samples.fetch_add(samples as u64, Ordering::Relaxed);
            counts.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// The selector that read the most bytes, or asked last: its node's number and what it did.
    pub(crate) fn dearest(&self) -> (usize, NodeStats) {
        let bytes = |i: usize| self.nodes.get(i).map_or(0, |n| n.bytes.load(Ordering::Relaxed));
        let opened = self.opened.load(Ordering::Relaxed);
        let dearest =
            (0..self.nodes.len()).fold(opened, |best, i| if bytes(i) > bytes(best) { i } else { best });
        (dearest, self.stats(dearest).0)
    }

    /// What a node did, and whether its time includes what is below.
    pub(crate) fn stats(&self, node: usize) -> (NodeStats, bool) {
        let Some(counts) = self.nodes.get(node) else { return Default::default() };
        let stats = NodeStats {
            series: counts.series.load(Ordering::Relaxed),
            samples: counts.samples.load(Ordering::Relaxed),
            bytes: counts.bytes.load(Ordering::Relaxed),
            time: Duration::from_nanos(counts.nanoseconds.load(Ordering::Relaxed)),
        };
        (stats, counts.whole.load(Ordering::Relaxed))
    }

    pub(crate) fn per_step(&self) -> Option<PerStep> {
        let counts = self.per_step.as_ref()?;
        let values = |counts: &[AtomicU64]| counts.iter().map(|n| n.load(Ordering::Relaxed)).collect();
        Some(PerStep {
            times: (0..counts.steps.count).map(|i| counts.steps.time(i)).collect(),
            total: values(&counts.total),
            read: values(&counts.read),
        })
    }

    pub(crate) fn times(&self, began: Duration, prepared: Duration) -> QueryTimes {
        QueryTimes {
            preparation: prepared.saturating_sub(began),
            evaluation: self.now().saturating_sub(prepared),
            sorting: Duration::from_nanos(self.sorting.load(Ordering::Relaxed)),
        }
    }

    /// Sorts the result.
    pub(crate) fn sorting<T>(&self, sort: impl FnOnce() -> T) -> T {
        let began = self.now();
        let sorted = sort();
        let took = u64::try_from(self.now().saturating_sub(began).as_nanos()).unwrap_or(0);
        self.sorting.fetch_add(took, Ordering::Relaxed);
        sorted
    }

    /// Whether samples are counted by step.
    #[inline]
    pub(crate) fn counts_steps(&self) -> bool {
        self.per_step.is_some()
    }

    /// Counts samples that a window brought to a step, without the total.
    #[inline]
    pub(crate) fn count_at(&self, step: usize, samples: usize) {
        if let Some(counts) = &self.per_step
            && let Some(count) = counts.total.get(step)
        {
            count.fetch_add(samples as u64, Ordering::Relaxed);
        }
    }

    /// Counts the samples of an instant selector's column.
    pub(crate) fn count_column(&self, column: &Column) {
        self.progress.count_total(column.weight() as u64);
        if self.counts_steps() {
            column.floats().1.iter().for_each(|step| self.count_at(step, 1));
            column
                .histograms()
                .iter()
                .for_each(|(step, h)| self.count_at(*step as usize, histogram_weight(h)));
        }
    }

    /// What was counted as brought to steps so far.
    pub(crate) fn counted(&self) -> Counted {
        Counted {
            total: self.progress.total(),
            steps: self
                .per_step
                .iter()
                .flat_map(|c| c.total.iter().map(|n| n.load(Ordering::Relaxed)))
                .collect(),
        }
    }

    /// What was counted since `before`.
    pub(crate) fn counted_since(&self, before: &Counted) -> Counted {
        let now = self.counted();
        Counted {
            total: now.total.wrapping_sub(before.total),
            steps: now.steps.iter().zip(&before.steps).map(|(a, b)| a.wrapping_sub(*b)).collect(),
        }
    }

    /// Counts the same again: what is evaluated once for several places.
    pub(crate) fn count_again(&self, counted: &Counted) {
        self.progress.count_total(counted.total);
        if let Some(counts) = &self.per_step {
            add_all(&counts.total, &counted.steps);
        }
    }

    /// What was counted since `before` for one step happens at each of `steps` steps.
    pub(crate) fn count_each_step(&self, before: &Counted, steps: usize) {
        let once = self.progress.total().wrapping_sub(before.total);
        self.progress.count_total(once.saturating_mul(steps.saturating_sub(1) as u64));
        if let Some(counts) = &self.per_step {
            counts.total.iter().skip(1).for_each(|n| {
                n.fetch_add(once, Ordering::Relaxed);
            });
        }
    }
}

/// Samples that windows brought to steps, counted by one thread; the watch has them when it is dropped.
pub(crate) struct Tally<'a> {
    watch: &'a Watch,
    /// None if steps are not counted.
    by_step: Vec<u64>,
}

impl<'a> Tally<'a> {
    pub(crate) fn new(watch: &'a Watch) -> Self {
        Self { watch, by_step: vec![0; watch.per_step.as_ref().map_or(0, |counts| counts.total.len())] }
    }

    /// Whether samples are counted by step.
    pub(crate) fn counts(&self) -> bool {
        !self.by_step.is_empty()
    }

    /// Counts samples that a window brought to a step.
    #[inline]
    pub(crate) fn count_at(&mut self, step: usize, samples: usize) {
        if let Some(count) = self.by_step.get_mut(step) {
            *count += samples as u64;
        }
    }
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        if let Some(counts) = &self.watch.per_step {
            add_all(&counts.total, &self.by_step);
        }
    }
}

/// Adds by step.
fn add_all(counts: &[AtomicU64], more: &[u64]) {
    let more = counts.iter().zip(more).filter(|(_, more)| **more > 0);
    more.for_each(|(count, more)| {
        count.fetch_add(*more, Ordering::Relaxed);
    });
}

/// Samples brought to steps, in all and by step.
pub(crate) struct Counted {
    total: u64,
    steps: Vec<u64>,
}

/// What a selector reads; counted when it is dropped.
pub(crate) struct Reads<'a> {
    watch: &'a Watch,
    node: usize,
    /// ms
    offset: i64,
    series: usize,
    samples: usize,
    bytes: usize,
    /// Samples by the first step that needs them; none if steps are not counted.
    by_step: Vec<u64>,
}

impl<'a> Reads<'a> {
    /// Reads of the selector with that number, whose samples lie `offset` ms before their steps.
    pub(crate) fn new(watch: &'a Watch, node: usize, offset: i64) -> Self {
        let by_step = vec![0; watch.per_step.as_ref().map_or(0, |counts| counts.read.len())];
        Self { watch, node, offset, series: 0, samples: 0, bytes: 0, by_step }
    }

    /// Counts a series.
    pub(crate) fn add(&mut self, samples: &Samples, labels: usize) {
        let weight: usize = samples.histograms.values.iter().map(|h| histogram_weight(h)).sum();
        let windows = &samples.histogram_windows;
        let weight = weight + histograms::weight(windows, 0..windows.len());
        let points = samples.floats.times.len() + samples.windows.len() + weight;
        self.series += 1;
        self.samples += points;
        self.bytes += 16 * points + 8 * labels + size_of::<Series>();
        if !self.by_step.is_empty() {
            self.count_at_steps(&samples.floats.times, |_| 1);
            self.count_at_steps(&samples.windows.ends, |_| 1);
            self.count_at_steps(&windows.ends, |i| histograms::weight(windows, i..i + 1) as u64);
            let weight =
                |i: usize| samples.histograms.values.get(i).map_or(0, |h| histogram_weight(h) as u64);
            self.count_at_steps(&samples.histograms.times, weight);
        }
    }

    /// Counts samples of ascending times.
    fn count_at_steps(&mut self, times: &[Timestamp], weight: impl Fn(usize) -> u64) {
        let Some(StepCounts { steps, .. }) = &self.watch.per_step else { return };
        let (mut step, last) = (0, self.by_step.len().saturating_sub(1));
        for (i, t) in times.iter().enumerate() {
            let t = t.saturating_add(self.offset);
            while step < last && steps.time(step) < t {
                step += 1;
            }
            if let Some(count) = self.by_step.get_mut(step) {
                *count += weight(i);
            }
        }
    }
}

impl Drop for Reads<'_> {
    fn drop(&mut self) {
        self.watch.progress.count_read(self.series as u64, self.samples as u64);
        self.watch.passed(self.node, self.series, self.samples, self.bytes);
        if let Some(counts) = &self.watch.per_step {
            add_all(&counts.read, &self.by_step);
        }
    }
}

/// Counts and times what comes out of an operator of a stream.
struct Probe<'a> {
    watch: &'a Watch,
    node: usize,
    /// Selectors count what they read instead.
    counts: bool,
}

impl Stage for Probe<'_> {
    fn apply(&self, series: Series, _: &mut Vec<Annotation>) -> Result<Option<Series>, QueryError> {
        self.watch.lap(self.node);
        if self.counts {
            let (bytes, samples) = footprint(std::slice::from_ref(&series));
            self.watch.passed(self.node, 1, samples, bytes);
        }
        Ok(Some(series))
    }
}

impl<'a> Exec<'a> {
    /// Watches what comes out of the stream of a node.
    pub(crate) fn probed(&'a self, node: &Node, pipeline: Pipeline<'a>) -> Pipeline<'a> {
        if !self.watch.explain {
            return pipeline;
        }
        let counts = !matches!(node.kind, Kind::Select(_));
        pipeline.with(Probe { watch: &self.watch, node: node.number, counts }, Names::Unique)
    }

    /// Watches the evaluation of a node into a table.
    pub(crate) fn watched(
        &'a self,
        node: &Node,
        evaluate: impl FnOnce() -> Result<Table<'a>, QueryError>,
    ) -> Result<Table<'a>, QueryError> {
        let began = self.watch.now();
        let table = evaluate()?;
        self.evaluated(node, &table, began);
        Ok(table)
    }

    /// Watches an aggregation that picks, and is the whole query.
    pub(crate) fn pick_watched(
        &'a self,
        node: &Node,
        aggregate: &'a Aggregate,
        steps: Steps,
    ) -> Result<Picked<'a>, QueryError> {
        let began = self.watch.now();
        let picked = self.pick(aggregate, steps)?;
        self.evaluated(node, &picked.table, began);
        Ok(picked)
    }

    fn evaluated(&self, node: &Node, table: &Table<'_>, began: Duration) {
        if !self.watch.explain {
            return;
        }
        self.watch.took(node.number, self.watch.now().saturating_sub(began));
        if let Some(counts) = self.watch.nodes.get(node.number) {
            counts.whole.store(true, Ordering::Relaxed);
        }
        let (bytes, samples) = footprint(&table.series);
        self.watch.passed(node.number, table.series.len(), samples, bytes);
    }
}
