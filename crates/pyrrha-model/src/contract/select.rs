//! The read half of the contract.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use super::{LabelQuery, QueryContext};
use crate::{
    ChunkEncoding, Exemplar, Label, Labels, Matcher, Metadata, StoreError, SymbolId, SymbolTable, TimeRange,
    Timestamp,
};

/// A source of series: head, block, bucket, remote store, or several of them as one.
pub trait Queryable: Send + Sync {
    /// The series that satisfy all matchers and have data in `range`, sorted by their full label
    /// sets. Samples outside `range` may come along; readers cut. Each append batch is seen wholly
    /// or not at all.
    fn select(
        &self,
        ctx: &QueryContext,
        matchers: &[Matcher],
        range: TimeRange,
        hints: &SelectHints,
    ) -> Result<Box<dyn SeriesSet>, StoreError>;

    /// Label names of the series that the query asks for, sorted, unique.
    fn label_names(&self, ctx: &QueryContext, query: &LabelQuery) -> Result<Vec<String>, StoreError>;

    /// Values of their label `name`, sorted, unique.
    fn label_values(
        &self,
        ctx: &QueryContext,
        name: &str,
        query: &LabelQuery,
    ) -> Result<Vec<String>, StoreError>;

    /// Their label sets, sorted, unique.
    fn series(&self, ctx: &QueryContext, query: &LabelQuery) -> Result<Vec<Labels>, StoreError>;

    /// Exemplars in the range of the series that the query asks for, sorted by labels; the limit is
    /// one of series.
    fn exemplars(&self, ctx: &QueryContext, query: &LabelQuery) -> Result<Vec<Exemplars>, StoreError>;

    /// Metadata by metric family; only `metric`'s if one is named.
    fn metadata(
        &self,
        ctx: &QueryContext,
        metric: Option<&str>,
    ) -> Result<BTreeMap<String, Vec<Metadata>>, StoreError>;
}

/// The exemplars of one series.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplars {
    /// Labels of the series.
    pub series: Labels,
    /// Its exemplars, by time.
    pub exemplars: Vec<Exemplar>,
}

/// What a source may use to do less. A source that ignores all of it is correct, except for
/// `shard`.
#[derive(Debug, Clone, Default)]
pub struct SelectHints {
    /// Step of the query, ms; 0 for an instant query.
    pub step_ms: i64,
    /// Length of the range selector, ms; 0 for an instant selector.
    pub range_ms: i64,
    /// Function or aggregation directly above the selector, "" if none ("series" when only labels
    /// are wanted).
    pub function: String,
    /// Labels that the query needs of each series; the others may be missing from the batches.
    /// `None`: all are needed.
    pub projection: Option<Projection>,
    /// Only series of shard `index` of `count` (by hash of all labels).
    pub shard: Option<(u32, u32)>,
    /// At most so many series; 0: all.
    pub limit: usize,
    /// Of each series only the newest sample in the range matters, as where an instant selector has
    /// one evaluation time: a source that knows it without reading chunks may give a chunk of that
    /// sample alone. Whoever adds `deleted` intervals to the series of another source asks it
    /// without this, or the sample before a deleted one would be missing.
    pub newest_only: bool,
    /// Whether chunks may hold windows of downsampled samples, [`ChunkEncoding::Windows`], instead of
    /// samples. `None`: samples alone are understood. A chunk of windows then stands for all that
    /// its series has in `[min_time, max_time]`: samples of other sources in there do not count.
    pub windows: Option<WindowHints>,
}

/// What a query makes of windows of downsampled samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WindowHints {
    /// It needs first and last samples.
    pub edges: bool,
    /// It needs sums and extremes.
    pub values: bool,
    /// It looks at a counter: of aggregates without first and last samples the counter stands for
    /// them; else the mean of each window does.
    pub counter: bool,
    /// Longest windows it takes where finer data exists, ms; 0: samples.
    pub max_resolution_ms: i64,
}

impl SelectHints {
    /// For sources that are merged: by all their labels.
    pub fn with_all_labels(&self) -> Self {
        Self { projection: None, ..self.clone() }
    }
}

/// Which labels of a series a query needs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Projection {
    /// True: only `labels`. False: all but `labels`.
    pub include: bool,
    /// Label names, sorted.
    pub labels: Vec<String>,
}

impl Projection {
    /// Whether label `name` is needed.
    pub fn needs(&self, name: &str) -> bool {
        self.labels.iter().any(|l| l == name) == self.include
    }
}

/// A label-sorted stream of series, pulled in batches. Threads of one query pull in turn, and
/// decode what they pulled in parallel.
pub trait SeriesSet: Send {
    /// Replaces `batch` with the next series, at most `max` of them. Returns false, with an empty
    /// batch, at the end. A batch holds `max` series unless it is the last, or the memory that is left
    /// asks for fewer.
    fn next_batch(&mut self, max: usize, batch: &mut SeriesBatch) -> Result<bool, StoreError>;
}

/// Some consecutive series of a set.
#[derive(Debug, Default)]
pub struct SeriesBatch {
    /// Label pairs of all series, one series after another.
    pub labels: Vec<(SymbolId, SymbolId)>,
    /// The series.
    pub series: Vec<SeriesEntry>,
}

/// One series of a batch.
#[derive(Debug, Clone, Default)]
pub struct SeriesEntry {
    /// Its label pairs within [`SeriesBatch::labels`], sorted by name.
    pub labels: std::ops::Range<u32>,
    /// Its chunks, by min time; they may overlap, and of overlapping chunks the earlier in this
    /// list has precedence for equal timestamps.
    pub chunks: SmallVec<[ChunkRef; 4]>,
    /// Deleted intervals, which the reader cuts out.
    pub deleted: SmallVec<[TimeRange; 0]>,
}

/// An encoded chunk.
#[derive(Debug, Clone)]
pub struct ChunkRef {
    /// Time of the first sample.
    pub min_time: Timestamp,
    /// Time of the last sample.
    pub max_time: Timestamp,
    /// How `bytes` are encoded.
    pub encoding: ChunkEncoding,
    /// Where the timestamps are.
    pub timestamps: Timestamps,
    /// The chunk's data, without length, encoding byte and checksum; verified.
    pub bytes: Bytes,
}

/// Where a chunk's timestamps are.
#[derive(Debug, Clone, Default)]
pub enum Timestamps {
    /// In its bytes.
    #[default]
    Own,
    /// In a column shared with other chunks, as long as the chunk has samples.
    Shared(Arc<[Timestamp]>),
}

impl SeriesBatch {
    /// Removes all series, keeps the allocations.
    pub fn clear(&mut self) {
        self.labels.clear();
        self.series.clear();
    }

    /// Label pairs of a series of this batch.
    pub fn labels_of(&self, entry: &SeriesEntry) -> &[(SymbolId, SymbolId)] {
        &self.labels[entry.labels.start as usize..entry.labels.end as usize]
    }

    /// Adds a series; its labels are interned into `symbols`.
    pub fn push(
        &mut self,
        symbols: &SymbolTable,
        labels: &Labels,
        chunks: impl IntoIterator<Item = ChunkRef>,
    ) {
        let start = self.labels.len() as u32;
        self.labels.extend(labels.iter().map(|l| (symbols.intern(&l.name), symbols.intern(&l.value))));
        self.series.push(SeriesEntry {
            labels: start..self.labels.len() as u32,
            chunks: chunks.into_iter().collect(),
            deleted: SmallVec::new(),
        });
    }

    /// The labels of a series as strings.
    pub fn resolve(&self, symbols: &SymbolTable, entry: &SeriesEntry) -> Labels {
        let text = |id| symbols.resolve(id).to_string();
        Labels::from_sorted(
            self.labels_of(entry).iter().map(|&(n, v)| Label { name: text(n), value: text(v) }).collect(),
        )
    }
}
