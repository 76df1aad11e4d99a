//! The series of a block that a query selects.

use std::sync::Arc;

use pyrrha_index::{RoaringBitmap, SeriesRow};
use pyrrha_model::contract::{MemoryBudget, QueryContext, SelectHints, SeriesBatch, SeriesEntry, SeriesSet};
use pyrrha_model::{ErrorKind, Label, Labels, StoreError, TimeRange};
use smallvec::SmallVec;

use super::deletes::Hidden;
use super::dense::Columns;
use super::error::BlockError;
use super::labels::LabelTranslation;
use super::reader::Parts;

/// How many series are skipped between two looks at the cancel flag.
const CHECK_EVERY: u32 = 256;

/// Most damaged places that an incomplete answer names one by one.
const MOST_GAPS: usize = 100;

/// Memory of a query, given back when this drops.
#[derive(Debug)]
pub(super) struct Reserved {
    budget: MemoryBudget,
    bytes: usize,
}

impl Reserved {
    pub(super) fn new(budget: &MemoryBudget, bytes: usize) -> Result<Self, StoreError> {
        budget.reserve(bytes)?;
        Ok(Self { budget: budget.clone(), bytes })
    }

    /// Reserves more.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), StoreError> {
        self.budget.reserve(bytes)?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.budget.release(self.bytes);
    }
}

/// Series of a block in the order of their references, which is that of their labels.
pub(super) struct BlockSet {
    block: Arc<Parts>,
    hidden: Arc<Hidden>,
    ctx: QueryContext,
    range: TimeRange,
    shard: Option<(u32, u32)>,
    /// Series that may still be handed out.
    left: usize,
    series: <RoaringBitmap as IntoIterator>::IntoIter,
    translation: LabelTranslation,
    row: SeriesRow,
    looked_at: u32,
    columns: Columns,
    /// Most bytes that `columns` has held.
    columns_bytes: usize,
    reserved: Reserved,
}

impl BlockSet {
    pub(super) fn new(
        block: Arc<Parts>,
        hidden: Arc<Hidden>,
        ctx: &QueryContext,
        series: RoaringBitmap,
        range: TimeRange,
        hints: &SelectHints,
    ) -> Result<Self, StoreError> {
        let reserved =
            Reserved::new(&ctx.budget, series.serialized_size() + LabelTranslation::bytes(&block.index))?;
        Ok(Self {
            ctx: ctx.clone(),
            range,
            shard: hints.shard,
            left: if hints.limit == 0 { usize::MAX } else { hints.limit },
            series: series.into_iter(),
            translation: LabelTranslation::new(&block.index, hints),
            row: SeriesRow::default(),
            looked_at: 0,
            columns: Columns::default(),
            columns_bytes: 0,
            reserved,
            block,
            hidden,
        })
    }

    /// Adds the next series that has chunks in range; false at the end.
    fn push_next(&mut self, batch: &mut SeriesBatch) -> Result<bool, StoreError> {
        for series in self.series.by_ref() {
            self.looked_at = self.looked_at.wrapping_add(1);
            if self.looked_at.is_multiple_of(CHECK_EVERY) {
                self.ctx.cancel.check()?;
            }
            if let Err(error) = self.block.row(series, &mut self.row) {
                leave_out(&self.ctx, self.block.meta.range(), error)?;
                continue;
            }
            self.row.chunks.retain(|c| TimeRange::new(c.min_time, c.max_time).overlaps(&self.range));
            let deleted = drop_deleted(&self.block, &self.hidden, series, &mut self.row);
            if self.row.chunks.is_empty() || !in_shard(&self.block, &self.row, self.shard)? {
                continue;
            }
            let mut entry = SeriesEntry { deleted, ..SeriesEntry::default() };
            entry.chunks = SmallVec::with_capacity(self.row.chunks.len());
            for chunk in &self.row.chunks {
                match self.block.chunk(chunk, &mut self.columns) {
                    Ok(found) => entry.chunks.push(found),
                    Err(error) => {
                        leave_out(&self.ctx, TimeRange::new(chunk.min_time, chunk.max_time), error)?;
                    }
                }
            }
            if entry.chunks.is_empty() {
                continue;
            }
            let held = self.columns.bytes();
            if held > self.columns_bytes {
                self.reserved.grow(held - self.columns_bytes)?;
                self.columns_bytes = held;
            }
            let start = batch.labels.len() as u32;
            self.translation
                .append(&self.ctx, &self.block.index, &self.row.labels, &mut batch.labels)
                .map_err(|e| self.block.blame.index(e))?;
            entry.labels = start..batch.labels.len() as u32;
            batch.series.push(entry);
            return Ok(true);
        }
        Ok(false)
    }
}

impl SeriesSet for BlockSet {
    fn next_batch(&mut self, max: usize, batch: &mut SeriesBatch) -> Result<bool, StoreError> {
        batch.clear();
        self.ctx.cancel.check()?;
        while batch.series.len() < max && self.left > 0 && self.push_next(batch)? {
            self.left -= 1;
        }
        Ok(!batch.series.is_empty())
    }
}

/// Where an incomplete answer is wanted, it lacks only what is damaged, and says so; where that is much, it
/// lacks the rest of the block.
fn leave_out(ctx: &QueryContext, range: TimeRange, error: BlockError) -> Result<(), StoreError> {
    let error = StoreError::from(error);
    let few = || ctx.notices.gap_count() < MOST_GAPS;
    if error.kind() != ErrorKind::Corrupt || !ctx.partial_response || !few() {
        return Err(error);
    }
    ctx.notices.gap(range, error.to_string());
    Ok(())
}

/// Removes the chunks of which nothing is left, and gives what is deleted of the others.
pub(super) fn drop_deleted(
    block: &Parts,
    hidden: &Hidden,
    series: u32,
    row: &mut SeriesRow,
) -> SmallVec<[TimeRange; 0]> {
    let mut deleted = SmallVec::from_slice(block.tombstones.of(u64::from(series)));
    hidden.of(series, &mut deleted);
    if !deleted.is_empty() {
        row.chunks.retain(|c| !deleted.iter().any(|d| d.start <= c.min_time && c.max_time <= d.end));
        let extent = |c: &pyrrha_index::ChunkMeta| TimeRange::new(c.min_time, c.max_time);
        deleted.retain(|d| row.chunks.iter().any(|c| d.overlaps(&extent(c))));
    }
    deleted
}

/// Whether a series is in a shard, by the hash that every source uses.
fn in_shard(block: &Parts, row: &SeriesRow, shard: Option<(u32, u32)>) -> Result<bool, StoreError> {
    let Some((index, count)) = shard else { return Ok(true) };
    let labels = block.labels(row)?;
    Ok(labels.prometheus_hash() % u64::from(count.max(1)) == u64::from(index))
}

impl Parts {
    /// The labels of a row as strings.
    pub(super) fn labels(&self, row: &SeriesRow) -> Result<Labels, StoreError> {
        let mut labels = Vec::with_capacity(row.labels.len());
        for &(name, value) in &row.labels {
            let text = |reference| self.index.symbol(reference).map_err(|e| self.blame.index(e));
            let (name, value) = (text(name)?.to_owned(), text(value)?.to_owned());
            if !value.is_empty() {
                labels.push(Label { name, value });
            }
        }
        Ok(Labels::from_sorted(labels))
    }
}
