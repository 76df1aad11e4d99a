//! The synchronous end of a block's answer: waits for pieces that the bucket's threads prefetch.

use std::sync::Arc;
use std::time::Duration;

use pyrrha_model::contract::{QueryContext, SeriesBatch, SeriesSet};
use pyrrha_model::{ErrorKind, StoreError, TimeRange};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::AbortHandle;

use super::pace::Pace;
use super::stream::{Piece, Selection, Sent};
use crate::error::BucketError;

/// How often a waiting query looks at its cancel flag.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The series of one block of the bucket.
pub(super) struct BucketSet {
    ctx: QueryContext,
    /// Where it lies, for messages.
    block: String,
    /// What is missing if the block cannot be read.
    range: TimeRange,
    pace: Arc<Pace>,
    /// Whether a block that is gone is an error, so that somebody looks for what took its place.
    tells_gone: bool,
    handle: Handle,
    receive: Receiver<Sent>,
    task: AbortHandle,
    piece: Option<Piece>,
    next: usize,
    done: bool,
}

impl BucketSet {
    /// Starts fetching.
    pub(super) fn start(handle: &Handle, selection: Selection) -> Self {
        let (ctx, range, pace) = (selection.ctx.clone(), selection.block.range(), selection.pace.clone());
        let (send, receive) = channel(pace.ahead(selection.windows().is_some()));
        let (tells_gone, block) = (selection.tells_gone, selection.block.id().to_string());
        let task = handle.spawn(selection.run(send)).abort_handle();
        let handle = handle.clone();
        Self { ctx, block, range, pace, tells_gone, handle, receive, task, piece: None, next: 0, done: false }
    }

    /// The next piece; false at the end.
    fn receive(&mut self) -> Result<bool, StoreError> {
        // Its series are in the batch that is being made.
        self.piece.take().into_iter().for_each(|piece| self.pace.keep(piece.memory));
        self.next = 0;
        loop {
            self.ctx.cancel.check()?;
            // This thread is none of a runtime's: queries are evaluated on threads of their own.
            let received =
                self.handle.block_on(async { tokio::time::timeout(LOOK_EVERY, self.receive.recv()).await });
            let error = match received {
                Err(_) => continue,
                Ok(Some(Ok(Some(piece)))) => {
                    self.piece = Some(piece);
                    return Ok(true);
                }
                Ok(Some(Ok(None))) => return Ok(false),
                Ok(Some(Err(error))) => error,
                // It panicked, or the bucket's threads were stopped.
                Ok(None) => {
                    let text =
                        format!("reader of a block ended before it had read all: block={}", self.block);
                    StoreError::new(ErrorKind::Internal, text)
                }
            };
            if !self.may_lack(&error) {
                return Err(error);
            }
            self.ctx.notices.gap(self.range, error.to_string());
            return Ok(false);
        }
    }
}

impl BucketSet {
    /// Whether the answer may do without the block.
    fn may_lack(&self, error: &StoreError) -> bool {
        self.ctx.partial_response
            && self.ctx.cancel.reason().is_none()
            && !(self.tells_gone && BucketError::is_gone(error))
    }
}

impl SeriesSet for BucketSet {
    fn next_batch(&mut self, max: usize, batch: &mut SeriesBatch) -> Result<bool, StoreError> {
        batch.clear();
        let max = self.pace.batch(max);
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
