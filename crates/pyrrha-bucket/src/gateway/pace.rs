//! How much the blocks that a query reads may hold of its budget: pieces are the smaller the more blocks
//! there are, so that a query over thousands of blocks holds as much as one over a few.
//!
//! A selector takes a quarter of what the budget has left beside what a block takes at any rate. Of each
//! block it holds the piece that is read, those that are ready, and some entries of series; and of series
//! that were merged as many as of a piece.

use std::sync::Arc;

use parking_lot::Mutex;
use pyrrha_model::StoreError;
use pyrrha_model::contract::{QueryContext, SeriesBatch, SeriesSet};
use pyrrha_storage::manifest::BlockEntry;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::budget::Reserved;

/// Most series of a piece.
const SERIES_MAX: u64 = 64;
/// Of windows, which are small: fewer requests get them all.
const WINDOWED_MAX: u64 = 128;
/// Most and least bytes of chunks after which a piece is full. A single series may have more.
const BYTES: std::ops::RangeInclusive<u64> = (4 << 10)..=(1 << 20);
/// Most entries of series that are read ahead of their chunks, and what one takes, about.
const ROWS_MAX: u64 = 256;
const ROW_BYTES: u64 = 512;
/// What a series takes of a block of which that is not known, and beside its chunks.
const SERIES_BYTES: u64 = 1024;
const ENTRY_BYTES: u64 = 640;
/// Pages that are fetched for a series and not kept, about.
const FETCHED_PER_SERIES: u64 = 64 << 10;
/// Blocks of a selector that send requests at once.
const AT_WORK_MAX: u64 = 32;
/// Of so many blocks no more than one piece waits.
const MANY: usize = 64;
/// Memory of a block that is read, beside what it reads: its task and its channel.
pub(super) const BLOCK_BYTES: u64 = 12 << 10;

/// What the blocks of one selector share.
#[derive(Debug)]
pub(crate) struct Pace {
    at_work: Semaphore,
    /// Series of a piece.
    series: usize,
    /// Series of a piece of windows.
    windowed: usize,
    /// Bytes of chunks after which a piece is full.
    pub(super) bytes: u64,
    /// Entries of series that are read at once.
    pub(super) rows: usize,
    /// Pieces that are ready before the query asks for them.
    ahead: usize,
    /// Memory of pieces whose series are in the batch that is being made.
    read: Mutex<Vec<Reserved>>,
}

impl Pace {
    /// The pace of a query that reads these blocks.
    pub(crate) fn of<'a>(ctx: &QueryContext, blocks: impl Iterator<Item = &'a BlockEntry>) -> Arc<Self> {
        let (mut count, mut of_one_series) = (0, 0u64);
        for block in blocks {
            count += 1;
            let known = block.bytes.checked_div(block.series).filter(|bytes| *bytes > 0);
            let bytes = known.unwrap_or(SERIES_BYTES).saturating_add(ENTRY_BYTES);
            of_one_series = of_one_series.saturating_add(bytes);
        }
        let left = (ctx.budget.available() as u64).saturating_sub(count as u64 * BLOCK_BYTES);
        Arc::new(Self::new(left / 4, count, of_one_series))
    }

    /// So many bytes for so many blocks, of which a series that all have takes `of_one_series`.
    fn new(share: u64, blocks: usize, of_one_series: u64) -> Self {
        let ahead = if blocks > MANY { 1 } else { 2 };
        let pieces = ahead as u64 + 2;
        let of_block = share / blocks.max(1) as u64;
        let of_one_series = of_one_series.max(1);
        let fit = share / pieces / of_one_series;
        let series = fit.clamp(1, SERIES_MAX);
        // At most half of what such a block has is read: edges or totals, and no aggregate chunks.
        let windowed = fit.saturating_mul(2).clamp(1, WINDOWED_MAX);
        let bytes = (of_block / pieces).clamp(*BYTES.start(), *BYTES.end());
        let at_work = (share / (2 * bytes + FETCHED_PER_SERIES * series)).clamp(1, AT_WORK_MAX);
        Self {
            at_work: Semaphore::new(at_work as usize),
            series: series as usize,
            windowed: windowed as usize,
            bytes,
            rows: (of_block / pieces / ROW_BYTES).clamp(series, ROWS_MAX) as usize,
            ahead,
            read: Mutex::default(),
        }
    }

    /// Series of a piece, of windows or of samples.
    pub(super) fn series(&self, of_windows: bool) -> usize {
        if of_windows { self.windowed } else { self.series }
    }

    /// Pieces that are ready before the query asks for them: of windows, which are larger, one.
    pub(super) fn ahead(&self, of_windows: bool) -> usize {
        if of_windows { 1 } else { self.ahead }
    }

    /// Waits until the block may send requests.
    pub(super) async fn work(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.at_work.acquire().await.ok()
    }

    /// Most series of a batch that holds no more than pieces do; `max` if pieces are as large as they get.
    pub(super) fn batch(&self, max: usize) -> usize {
        if self.series as u64 == SERIES_MAX { max } else { max.min(self.series) }
    }

    /// Keeps the memory of a piece, whose series are in a batch, until the next one.
    pub(super) fn keep(&self, memory: Reserved) {
        self.read.lock().push(memory);
    }
}

/// A set made of blocks of one pace.
pub(crate) struct Paced {
    set: Box<dyn SeriesSet>,
    pace: Arc<Pace>,
    /// Whether nobody else holds series of the pace once the next batch is asked for.
    is_last: bool,
}

impl Paced {
    /// The set that is read by whoever asked.
    pub(crate) fn new(set: Box<dyn SeriesSet>, pace: Arc<Pace>) -> Self {
        Self { set, pace, is_last: true }
    }

    /// One of several of the same pace.
    pub(crate) fn part(set: Box<dyn SeriesSet>, pace: Arc<Pace>) -> Self {
        Self { set, pace, is_last: false }
    }
}

impl SeriesSet for Paced {
    fn next_batch(&mut self, max: usize, batch: &mut SeriesBatch) -> Result<bool, StoreError> {
        // The batch before is done with.
        batch.clear();
        if self.is_last {
            self.pace.read.lock().clear();
        }
        self.set.next_batch(self.pace.batch(max), batch)
    }
}

impl Drop for Paced {
    fn drop(&mut self) {
        if self.is_last {
            self.pace.read.lock().clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_blocks_read_in_large_pieces_and_many_in_small_ones() {
        let few = Pace::new(256 << 20, 10, 10 << 10);
        assert_eq!((few.series, few.bytes, few.rows, few.ahead), (64, 1 << 20, 256, 2));
        assert_eq!((few.batch(256), few.at_work.available_permits()), (256, 32));
        assert_eq!((few.series(false), few.series(true)), (64, 128));
        let many = Pace::new(16 << 20, 10_000, 10_000 * 100);
        assert_eq!((many.series, many.bytes, many.rows, many.ahead), (5, 4 << 10, 5, 1));
        assert_eq!(many.batch(256), 5);
        let nothing_left = Pace::new(0, 10_000, u64::MAX);
        assert_eq!((nothing_left.series, nothing_left.rows), (1, 1));
        assert_eq!(nothing_left.at_work.available_permits(), 1);
    }

    #[test]
    fn what_pieces_hold_is_within_the_share() {
        for blocks in [1, 3, 20, 300, 4_000, 50_000] {
            for of_series in [100, 5_000, 100_000] {
                let share = 64 << 20;
                let pace = Pace::new(share, blocks, of_series * blocks as u64);
                let pieces = pace.ahead as u64 + 2;
                let held = pieces * pace.series as u64 * of_series * blocks as u64;
                assert!(held <= share || pace.series == 1, "{blocks} {of_series} {held}");
                let held = pieces * pace.windowed as u64 * of_series * blocks as u64 / 2;
                assert!(held <= share || pace.windowed == 1, "{blocks} {of_series} {held}");
            }
        }
    }
}
