//! A batch that several threads work on: its owner from the front, helpers that have no batch of their own
//! from the back. What they make is taken by the owner, in order.

use std::collections::BTreeMap;
use std::ops::Range;

use parking_lot::{Condvar, Mutex, RwLock};
use pyrrha_model::contract::SeriesBatch;

use crate::annotations::Annotation;
use crate::engine::EngineOptions;
use crate::error::QueryError;
use crate::exec::Charge;
use crate::value::Series;

/// Shares of a batch, so that threads end at about the same time.
const SHARES: usize = 32;

/// What a series costs besides its chunks, in bytes of chunks that could be read instead.
const SERIES: usize = 128;

/// About how much work a batch is, in bytes of chunks.
fn work_of(batch: &SeriesBatch) -> usize {
    let chunks: usize = batch.series.iter().flat_map(|s| &s.chunks).map(|c| c.bytes.len()).sum();
    chunks + SERIES * batch.series.len()
}

/// How much work a stream has been so far.
pub(super) struct Stream {
    /// In batches before the next.
    done: usize,
    /// Series of a batch behind which there is likely more.
    full: usize,
}

impl Stream {
    /// Of a store that gives batches of `full` series.
    pub(super) fn new(full: usize) -> Self {
        Self { done: 0, full }
    }

    /// How many threads more than one are worth having for what begins with `batch`. Behind a full batch there
    /// is likely more, as much as there was.
    pub(super) fn helpers(&mut self, batch: &SeriesBatch, options: &EngineOptions) -> usize {
        let (work, series) = (work_of(batch), batch.series.len());
        let is_full = series >= self.full;
        self.done += work;
        // A store may give smaller batches where memory asks for it. Another one says that there was more.
        self.full = self.full.min(series.max(1));
        let most = options.threads.saturating_sub(1);
        if is_full {
            return if self.done >= options.thread_worth { most } else { 0 };
        }
        let chunks = work - SERIES * series;
        most.min(chunks.checked_div(options.thread_worth).unwrap_or(most)).min(series / 2)
    }
}

/// What a helper made of a share.
pub(super) struct Made<'a> {
    /// Series that came of it, each with its annotations.
    pub(super) series: Vec<(Series, Vec<Annotation>)>,
    /// Annotations of what came to nothing behind the last of them.
    pub(super) notes: Vec<Annotation>,
    /// What holds them in the query's budget.
    pub(super) charge: Charge<'a>,
}

/// The place of one thread's batch.
#[derive(Default)]
pub(super) struct Slot<'a> {
    /// Written by its owner while there are no shares.
    pub(super) batch: RwLock<SeriesBatch>,
    shares: Mutex<Shares<'a>>,
    came_back: Condvar,
}

#[derive(Default)]
struct Shares<'a> {
    /// Series that nobody has taken.
    left: Range<usize>,
    /// Series of a share.
    size: usize,
    /// Shares that helpers work on.
    lent: usize,
    /// What helpers made, by its first series.
    made: BTreeMap<usize, Result<Made<'a>, QueryError>>,
}

impl<'a> Slot<'a> {
    /// Offers the shares of the batch.
    pub(super) fn open(&self) {
        let series = self.batch.read().series.len();
        *self.shares.lock() =
            Shares { left: 0..series, size: series.div_ceil(SHARES).max(1), ..Shares::default() };
    }

    /// The next share for the owner.
    pub(super) fn take(&self) -> Option<Range<usize>> {
        let Shares { left, size, .. } = &mut *self.shares.lock();
        let end = left.end.min(left.start + *size);
        let start = std::mem::replace(&mut left.start, end);
        (start < end).then_some(start..end)
    }

    /// The last share, for a helper.
    pub(super) fn lend(&self) -> Option<Lent<'_, 'a>> {
        let Shares { left, size, lent, .. } = &mut *self.shares.lock();
        let start = left.start.max(left.end.saturating_sub(*size));
        let end = std::mem::replace(&mut left.end, start);
        (start < end).then(|| {
            *lent += 1;
            Lent { slot: self, series: start..end, made: None }
        })
    }

    /// Offers nothing any more, and waits for what was lent: what came of it, in order.
    pub(super) fn close(&self) -> impl Iterator<Item = Result<Made<'a>, QueryError>> + use<'a> {
        let mut shares = self.shares.lock();
        shares.left = 0..0;
        while shares.lent > 0 {
            self.came_back.wait(&mut shares);
        }
        std::mem::take(&mut shares.made).into_values()
    }
}

/// A share that a helper works on. It comes back when this is dropped, so that the owner never waits for a
/// thread that panicked.
pub(super) struct Lent<'s, 'a> {
    pub(super) slot: &'s Slot<'a>,
    pub(super) series: Range<usize>,
    pub(super) made: Option<Result<Made<'a>, QueryError>>,
}

impl Drop for Lent<'_, '_> {
    fn drop(&mut self) {
        let mut shares = self.slot.shares.lock();
        shares.lent -= 1;
        if let Some(made) = self.made.take() {
            shares.made.insert(self.series.start, made);
        }
        if shares.lent == 0 {
            self.slot.came_back.notify_all();
        }
    }
}

#[cfg(test)]
mod tests;
