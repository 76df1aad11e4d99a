//! The synchronous end of a block's answer: waits for pieces that the bucket's threads prefetch.

use std::time::Duration;

use pyrrha_model::contract::{QueryContext, SeriesBatch, SeriesSet};
use pyrrha_model::{StoreError, TimeRange};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::AbortHandle;

use super::stream::{Piece, Selection};

/// Pieces that are ready before the query asks for them.
const AHEAD: usize = 2;
/// How often a waiting query looks at its cancel flag.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The series of one block of the bucket.
pub(super) struct BucketSet {
    ctx: QueryContext,
    /// What is missing if the block cannot be read.
    range: TimeRange,
    handle: Handle,
    receive: Receiver<Result<Piece, StoreError>>,
    task: AbortHandle,
    piece: Option<Piece>,
    next: usize,
    done: bool,
}

impl BucketSet {
    /// Starts fetching.
    pub(super) fn start(handle: &Handle, selection: Selection) -> Self {
        let (send, receive) = channel(AHEAD);
        let (ctx, range) = (selection.ctx.clone(), selection.block.range());
        let task = handle.spawn(selection.run(send)).abort_handle();
        Self { ctx, range, handle: handle.clone(), receive, task, piece: None, next: 0, done: false }
    }

    /// The next piece; false at the end.
    fn receive(&mut self) -> Result<bool, StoreError> {
        self.piece = None;
        self.next = 0;
        loop {
            self.ctx.cancel.check()?;
            // This thread is none of a runtime's: queries are evaluated on threads of their own.
            let received =
                self.handle.block_on(async { tokio::time::timeout(LOOK_EVERY, self.receive.recv()).await });
            match received {
                Err(_) => {}
                Ok(Some(Ok(piece))) => {
                    self.piece = Some(piece);
                    return Ok(true);
                }
                Ok(Some(Err(error))) if self.ctx.partial_response && self.ctx.cancel.reason().is_none() => {
                    self.ctx.notices.gap(self.range, error.to_string());
                    return Ok(false);
                }
                Ok(Some(Err(error))) => return Err(error),
                Ok(None) => return Ok(false),
            }
        }
    }
}

impl SeriesSet for BucketSet {
    fn next_batch(&mut self, max: usize, batch: &mut SeriesBatch) -> Result<bool, StoreError> {
        batch.clear();
        while batch.series.len() < max && !self.done {
            let ready = self.piece.as_ref().is_some_and(|p| self.next < p.batch.series.len());
            if !ready && !self.receive()? {
                self.done = true;
                break;
            }
            let Some(piece) = &mut self.piece else { break };
            let Some(entry) = piece.batch.series.get_mut(self.next) else { continue };
            let mut entry = std::mem::take(entry);
            self.next += 1;
            let start = batch.labels.len() as u32;
            let labels = entry.labels.start as usize..entry.labels.end as usize;
            batch.labels.extend_from_slice(&piece.batch.labels[labels]);
            entry.labels = start..batch.labels.len() as u32;
            batch.series.push(entry);
        }
        Ok(!batch.series.is_empty())
    }
}

impl Drop for BucketSet {
    fn drop(&mut self) {
        self.task.abort();
    }
}
