//! Streams of series: a source, stages that change one series at a time, and a fold that takes
//! them. Batches run on all threads and are folded in order, so that no result depends on threads.

mod run;
mod shares;

use pyrrha_encoding::{SeriesDecoder, SeriesSamples, Want};
use pyrrha_model::contract::{SeriesBatch, SeriesEntry, SeriesSet, WindowHints};
use pyrrha_model::{StoreError, TimeRange};

use crate::annotations::Annotation;
use crate::error::QueryError;
use crate::exec::select::Lookups;
use crate::exec::watch::{Reads, Tally};
use crate::exec::{Charge, Exec, Table, samples::Samples};
use crate::functions::slide::WindowPlans;
use crate::labels::LabelIds;
use crate::plan::Selector;
use crate::value::{Series, Steps};

/// Series per batch. Sums fold in batches of this size, whatever the number of threads (decision 28).
pub(crate) const BATCH: usize = 256;

/// Turns the samples of one stored series into a column.
pub(crate) trait Head: Sync {
    /// What it needs of each sample.
    fn want(&self) -> Want;

    /// Times outside of which samples do not matter.
    fn range(&self) -> TimeRange;

    /// Counts what is read for it.
    fn reads(&self) -> Reads<'_>;

    /// The number of its selector.
    fn node(&self) -> usize;

    /// Whether only the newest sample in the range matters.
    fn newest_only(&self) -> bool {
        false
    }

    /// What it makes of windows of downsampled samples, if it understands them.
    fn windows(&self) -> Option<WindowHints> {
        None
    }

    /// The series' column, or nothing.
    fn series(
        &self,
        samples: &Samples,
        labels: LabelIds,
        work: &mut Work<'_>,
    ) -> Result<Option<Series>, QueryError>;
}

/// Changes one series.
pub(crate) trait Stage: Sync {
    /// The changed series, or nothing.
    fn apply(&self, series: Series, notes: &mut Vec<Annotation>) -> Result<Option<Series>, QueryError>;
}

/// What one thread keeps between series.
pub(crate) struct Work<'a> {
    exec: &'a Exec<'a>,
    decoder: SeriesDecoder,
    decoded: SeriesSamples,
    samples: Samples,
    /// Windows of the series before.
    pub(crate) plans: WindowPlans,
    /// What windows brought to steps.
    pub(crate) tally: Tally<'a>,
    /// Lookups of the series before.
    pub(crate) lookups: Lookups,
    /// Labels of the series before.
    labels: LabelIds,
    /// Annotations of the current batch.
    pub(crate) notes: Vec<Annotation>,
    charge: Charge<'a>,
    charged: usize,
}

/// Where series come from.
pub(crate) enum Source<'a> {
    Store(Box<dyn SeriesSet>, Box<dyn Head + 'a>),
    Table(Table<'a>),
}

/// A stream of series, not yet run.
pub(crate) struct Pipeline<'a> {
    pub(crate) source: Source<'a>,
    pub(crate) stages: Vec<Box<dyn Stage + 'a>>,
    /// What the stages may do to labels.
    pub(crate) names: Names,
    /// The columns that threads work on, one each.
    in_flight: Charge<'a>,
}

/// Whether label sets may have become equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Names {
    /// Labels are unique.
    Unique,
    /// Names were dropped: equal sets merge where no step has both.
    Dropped,
    /// Names were dropped by a range function: equal sets are an error.
    DroppedByRange,
}

impl<'a> Pipeline<'a> {
    pub(crate) fn new(exec: &'a Exec<'a>, source: Source<'a>) -> Self {
        Self { source, stages: Vec::new(), names: Names::Unique, in_flight: Charge::new(exec) }
    }

    pub(crate) fn table(exec: &'a Exec<'a>, table: Table<'a>) -> Self {
        Self::new(exec, Source::Table(table))
    }

    /// Charges the columns of `steps` steps that are made before anything knows how full they are.
    pub(crate) fn charge_columns(&mut self, exec: &Exec<'_>, steps: Steps) -> Result<(), QueryError> {
        // A float, a presence bit, and once more as samples below a subquery.
        const BYTES_PER_STEP: usize = 9 + 16;
        let threads = exec.options.threads.max(1);
        self.in_flight.grow(steps.count.saturating_mul(BYTES_PER_STEP).saturating_mul(threads), 0)
    }

    /// Adds a stage. `names`: what it does to labels.
    pub(crate) fn with(mut self, stage: impl Stage + 'a, names: Names) -> Self {
        self.stages.push(Box::new(stage));
        self.names = self.names.max(names);
        self
    }
}

impl<'a> Work<'a> {
    fn new(exec: &'a Exec<'a>) -> Self {
        Self {
            exec,
            decoder: exec.decoders.take(),
            decoded: SeriesSamples::default(),
            samples: Samples::default(),
            plans: WindowPlans::default(),
            tally: Tally::new(&exec.watch),
            lookups: Lookups::default(),
            labels: LabelIds::empty(),
            notes: Vec::new(),
            charge: Charge::new(exec),
            charged: 0,
        }
    }

    /// Decodes a series into `samples`.
    fn decode(
        &mut self,
        exec: &Exec<'_>,
        batch: &SeriesBatch,
        entry: &SeriesEntry,
        range: TimeRange,
        want: Want,
        reads: &mut Reads<'_>,
    ) -> Result<(), QueryError> {
        let go_on = || exec.ctx.cancel.reason().is_none();
        self.decoder.decode_while(entry, range, want, &mut self.decoded, go_on).map_err(|e| {
            let labels = batch.resolve(&exec.ctx.symbols, entry);
            QueryError::Store(StoreError::caused(e.kind(), format!("series={labels}"), e))
        })?;
        exec.check()?;
        self.samples.take(&mut self.decoded);
        if want.histogram_stats_only {
            self.samples.keep_stats_only();
        }
        self.charge_held()?;
        reads.add(&self.samples, entry.labels.len());
        Ok(())
    }
}

impl Work<'_> {
    /// Charges what is held from series to series. What the decoder knows of times is worth less than
    /// the query: it goes where it cannot be afforded.
    fn charge_held(&mut self) -> Result<(), QueryError> {
        let needed = self.samples.bytes() + self.plans.bytes();
        let bytes = needed + self.decoder.bytes();
        if bytes <= self.charged {
            return Ok(());
        }
        if self.charge.grow(bytes - self.charged, 0).is_ok() {
            self.charged = bytes;
            return Ok(());
        }
        self.decoder = SeriesDecoder::default();
        if needed > self.charged {
            self.charge.grow(needed - self.charged, 0)?;
            self.charged = needed;
        }
        Ok(())
    }
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        self.exec.decoders.put(std::mem::take(&mut self.decoder));
    }
}

/// What takes the series of a stream: `begin` a part per batch, `add` series to it, `fold` parts
/// in order.
pub(crate) trait Fold: Sync {
    type Part: Send;
    type Total: Send;

    fn begin(&self) -> Result<Self::Part, QueryError>;
    fn add(
        &self,
        part: &mut Self::Part,
        series: Series,
        notes: &mut Vec<Annotation>,
    ) -> Result<(), QueryError>;
    fn fold(&self, total: &mut Self::Total, part: Self::Part) -> Result<(), QueryError>;
}

impl<'a> Exec<'a> {
    /// Runs a stream into `total`.
    pub(crate) fn run<F: Fold>(
        &'a self,
        pipeline: Pipeline<'a>,
        fold: &F,
        total: &mut F::Total,
    ) -> Result<(), QueryError> {
        let stages = pipeline.stages.as_slice();
        let _in_flight = pipeline.in_flight;
        match pipeline.source {
            Source::Table(table) => self.run_table(table, stages, fold, total),
            Source::Store(mut set, head) => {
                let mut batch = SeriesBatch::default();
                self.watch.begin();
                let any = set.next_batch(BATCH, &mut batch).map_err(QueryError::from_store)?;
                self.watch.lap(head.node());
                if !any {
                    return Ok(());
                }
                run::Run { exec: self, head: &*head, stages, fold }.all(set, batch, total)
            }
        }
    }

    fn run_table<F: Fold>(
        &'a self,
        table: Table<'a>,
        stages: &[Box<dyn Stage + 'a>],
        fold: &F,
        total: &mut F::Total,
    ) -> Result<(), QueryError> {
        let Table { series, charge } = table;
        let mut notes = Vec::new();
        let mut series = series.into_iter().peekable();
        while series.peek().is_some() {
            let mut part = fold.begin()?;
            for series in series.by_ref().take(BATCH) {
                self.check()?;
                self.watch.begin();
                if let Some(series) = apply(stages, series, &mut notes)? {
                    fold.add(&mut part, series, &mut notes)?;
                }
            }
            self.annotate(notes.drain(..));
            fold.fold(total, part)?;
        }
        drop(charge);
        Ok(())
    }

    /// Runs a stream into a table, and looks after label sets that became equal.
    pub(crate) fn collect(&'a self, pipeline: Pipeline<'a>) -> Result<Table<'a>, QueryError> {
        let names = pipeline.names;
        if let (Source::Table(_), true) = (&pipeline.source, pipeline.stages.is_empty())
            && let Source::Table(table) = pipeline.source
        {
            return Ok(table);
        }
        let mut table = Table::empty(self);
        self.run(pipeline, &Collect(self), &mut table)?;
        self.unify(table, names)
    }

    /// Calls `each` with the samples of every series of a selector, in order.
    pub(crate) fn each_series(
        &'a self,
        selector: &Selector,
        range: TimeRange,
        steps: Steps,
        mut each: impl FnMut(&Samples, LabelIds) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let mut set = self.open_set(selector, range, steps, false, None)?;
        let (mut batch, mut work) = (SeriesBatch::default(), Work::new(self));
        while set.next_batch(BATCH, &mut batch).map_err(QueryError::from_store)? {
            self.charge_symbols()?;
            let mut reads = Reads::new(&self.watch, selector.number, selector.offset);
            for entry in &batch.series {
                work.decode(self, &batch, entry, range, Want::default(), &mut reads)?;
                each(&work.samples, LabelIds::from_sorted(batch.labels_of(entry)))?;
            }
        }
        Ok(())
    }

    pub(crate) fn check(&self) -> Result<(), QueryError> {
        self.ctx.cancel.check().map_err(QueryError::Stopped)
    }
}

/// Collects series into a table.
struct Collect<'a>(&'a Exec<'a>);

impl<'a> Fold for Collect<'a> {
    type Part = Table<'a>;
    type Total = Table<'a>;

    fn begin(&self) -> Result<Table<'a>, QueryError> {
        Ok(Table::empty(self.0))
    }

    fn add(&self, part: &mut Table<'a>, series: Series, _: &mut Vec<Annotation>) -> Result<(), QueryError> {
        part.push(series)
    }

    fn fold(&self, total: &mut Table<'a>, part: Table<'a>) -> Result<(), QueryError> {
        total.charge.absorb(part.charge);
        total.series.extend(part.series);
        Ok(())
    }
}

fn apply<'a>(
    stages: &[Box<dyn Stage + 'a>],
    mut series: Series,
    notes: &mut Vec<Annotation>,
) -> Result<Option<Series>, QueryError> {
    for stage in stages {
        match stage.apply(series, notes)? {
            Some(changed) => series = changed,
            None => return Ok(None),
        }
    }
    Ok(Some(series))
}
