//! The queries that wait, run or send their result: listing and cancelling them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pyrrha_model::contract::{CancelReason, CancelToken, MemoryBudget, QueryContext};
use pyrrha_model::{TenantId, Timestamp};
use pyrrha_promql::Progress;
use tokio::sync::Notify;

/// Longest text that is kept of a query, bytes.
const TEXT_MAX: usize = 8 << 10;

/// What an active query is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It waits for a thread.
    Queued,
    /// It is evaluated.
    Running,
    /// The client reads the result.
    Sending,
}

impl State {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Sending => "sending",
        }
    }
}

/// One query between its arrival and its last byte.
#[derive(Debug)]
pub(crate) struct ActiveQuery {
    pub(crate) id: u64,
    /// Its text, cut if it is very long.
    pub(crate) text: String,
    pub(crate) tenant: TenantId,
    /// Arrival, ms since the Unix epoch.
    pub(crate) started_ms: Timestamp,
    /// Arrival on the monotonic clock.
    pub(crate) began: Duration,
    pub(crate) budget: MemoryBudget,
    pub(crate) progress: Arc<Progress>,
    cancel: CancelToken,
    state: AtomicU8,
    /// Wakes whoever waits with it in the queue.
    cancelled: Notify,
    /// The result on its way. Taking it away frees its memory and breaks the connection.
    result: Mutex<Option<Sending>>,
}

/// An answer that is made, or given away, piece by piece.
pub(crate) trait Pieces: Send {
    /// Replaces `out` with the next piece; false, with `out` empty, at the end.
    fn next_piece(&mut self, out: &mut Vec<u8>) -> bool;
}

/// A result that is being sent.
pub(crate) struct Sending {
    pub(crate) encoder: Box<dyn Pieces>,
    /// Bytes of the query's budget; given back with the result.
    pub(crate) _reservation: Reservation,
    /// When the client last took a piece, on the monotonic clock.
    pub(crate) last_read: Duration,
}

impl std::fmt::Debug for Sending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sending").field("last_read", &self.last_read).finish_non_exhaustive()
    }
}

/// Bytes of a budget, given back on drop.
pub(crate) struct Reservation {
    budget: MemoryBudget,
    bytes: usize,
}

impl Reservation {
    /// Takes `bytes` out of `budget`.
    pub(crate) fn take(budget: &MemoryBudget, bytes: usize) -> Result<Self, pyrrha_model::StoreError> {
        budget.reserve(bytes)?;
        Ok(Self { budget: budget.clone(), bytes })
    }

    /// Takes more.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), pyrrha_model::StoreError> {
        self.budget.reserve(bytes)?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.release(self.bytes);
    }
}

impl ActiveQuery {
    pub(crate) fn state(&self) -> State {
        match self.state.load(Ordering::Relaxed) {
            0 => State::Queued,
            1 => State::Running,
            _ => State::Sending,
        }
    }

    /// A thread took it.
    pub(crate) fn run(&self) {
        self.state.store(1, Ordering::Relaxed);
    }

    /// Ends once somebody cancels it.
    pub(crate) async fn cancelled(&self) {
        self.cancelled.notified().await;
    }

    /// Ends it, wherever it is.
    pub(crate) fn cancel(&self) {
        self.cancel.cancel(CancelReason::Canceled);
        self.cancelled.notify_one();
        drop(self.result.lock().take());
    }

    /// The result is complete; from now on it is read.
    pub(crate) fn send(&self, sending: Sending) {
        self.state.store(2, Ordering::Relaxed);
        *self.result.lock() = Some(sending);
    }

    /// Calls `piece` on the result; `None` if it was taken away.
    pub(crate) fn with_result<T>(&self, piece: impl FnOnce(&mut Sending) -> T) -> Option<T> {
        self.result.lock().as_mut().map(piece)
    }
}

/// All active queries by id.
#[derive(Debug, Default)]
pub(crate) struct ActiveQueries {
    last: AtomicU64,
    queries: Mutex<BTreeMap<u64, Arc<ActiveQuery>>>,
}

impl ActiveQueries {
    /// Lists a query until the guard is dropped.
    pub(crate) fn begin(
        self: &Arc<Self>,
        ctx: &QueryContext,
        text: &str,
        progress: Arc<Progress>,
        now_ms: Timestamp,
        now: Duration,
    ) -> ActiveGuard {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let query = Arc::new(ActiveQuery {
            id,
            text: cut(text),
            tenant: ctx.tenant.clone(),
            started_ms: now_ms,
            began: now,
            budget: ctx.budget.clone(),
            progress,
            cancel: ctx.cancel.clone(),
            state: AtomicU8::new(0),
            cancelled: Notify::new(),
            result: Mutex::new(None),
        });
        self.queries.lock().insert(id, query.clone());
        ActiveGuard { all: self.clone(), query }
    }

    /// The active queries, all or those of a tenant, oldest first.
    pub(crate) fn list(&self, tenant: Option<&TenantId>) -> Vec<Arc<ActiveQuery>> {
        let queries = self.queries.lock();
        queries.values().filter(|q| tenant.is_none_or(|t| *t == q.tenant)).cloned().collect()
    }

    /// Cancels a query; false if there is none (of this tenant).
    pub(crate) fn cancel(&self, id: u64, tenant: Option<&TenantId>) -> bool {
        let query = self.queries.lock().get(&id).cloned();
        match query.filter(|q| tenant.is_none_or(|t| *t == q.tenant)) {
            Some(query) => {
                self.end(&query);
                true
            }
            None => false,
        }
    }

    /// Ends a query. One that was being sent is over: its client may take long to notice that the rest
    /// does not come.
    fn end(&self, query: &ActiveQuery) {
        query.cancel();
        if query.state() == State::Sending {
            self.queries.lock().remove(&query.id);
        }
    }

    /// Drops results whose clients took nothing for `patience` (decision 38).
    pub(crate) fn drop_stalled(&self, now: Duration, patience: Duration) {
        for query in self.list(None) {
            let stalled = query.with_result(|s| now.saturating_sub(s.last_read) >= patience);
            if stalled == Some(true) {
                tracing::warn!(id = query.id, tenant = %query.tenant, "the client reads nothing and is dropped");
                self.end(&query);
            }
        }
    }
}

/// The first bytes of a text, whole characters.
fn cut(text: &str) -> String {
    if text.len() <= TEXT_MAX {
        return text.to_owned();
    }
    let end = (0..=TEXT_MAX).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    format!("{}…", &text[..end])
}

/// Takes a query off the list when it is dropped.
#[derive(Debug)]
pub(crate) struct ActiveGuard {
    all: Arc<ActiveQueries>,
    pub(crate) query: Arc<ActiveQuery>,
}

impl Drop for ActiveGuard {
    fn drop(&mut self) {
        self.all.queries.lock().remove(&self.query.id);
        // Somebody may still hold the query in a list.
        drop(self.query.result.lock().take());
    }
}

#[cfg(test)]
mod tests;
