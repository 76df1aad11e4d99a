//! Group commit: one fdatasync for all batches that wait.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::metrics::WalMetrics;
use super::queue::{Group, Outcome, Queue};
use super::writer::Writer;
use super::{LogBatch, WalConfig, WalError, WalSink};

/// What the log, its thread and its tickets share.
pub(super) struct Shared {
    config: WalConfig,
    pub(super) metrics: Arc<WalMetrics>,
    pub(super) writer: Mutex<Writer>,
    queue: Mutex<Queue>,
    work: Condvar,
    sink: OnceLock<Arc<dyn WalSink>>,
    threaded: AtomicBool,
    /// Duration of the last group commit, ns: how long a group may wait for company.
    last_commit: Mutex<Duration>,
}

/// A batch on its way to the disk.
#[must_use = "a batch is acknowledged only after waiting"]
pub struct Ticket {
    outcome: Arc<Outcome>,
    shared: Arc<Shared>,
}

impl Ticket {
    /// Blocks until the batch is durable and applied. On an error it is not applied and never will
    /// be, though a crash may bring it back.
    pub fn wait(self) -> Result<(), WalError> {
        while !self.shared.threaded.load(Ordering::Acquire) {
            if let Some(result) = self.outcome.get() {
                return result;
            }
            self.shared.commit_group();
        }
        self.outcome.wait()
    }
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ticket").field("outcome", &self.outcome).finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(config: WalConfig, metrics: Arc<WalMetrics>, writer: Writer) -> Self {
        Self {
            config,
            metrics,
            writer: Mutex::new(writer),
            queue: Mutex::default(),
            work: Condvar::new(),
            sink: OnceLock::new(),
            threaded: AtomicBool::new(false),
            last_commit: Mutex::default(),
        }
    }

    pub(super) fn attach(&self, sink: Arc<dyn WalSink>, threaded: bool) {
        // A second sink is a mistake that changes nothing.
        let _ = self.sink.set(sink);
        self.threaded.store(threaded, Ordering::Release);
    }

    pub(super) fn submit(self: &Arc<Self>, batch: LogBatch) -> Result<Ticket, WalError> {
        if self.sink.get().is_none() {
            return Err(WalError::Closed);
        }
        let mut queue = self.queue.lock();
        let pushed = queue.push(batch, self.config.queue_bytes);
        self.metrics.queued_bytes.set(queue.bytes as u64);
        drop(queue);
        if matches!(pushed, Err(WalError::QueueFull { .. })) {
            self.metrics.rejected.add(1);
        }
        self.work.notify_one();
        Ok(Ticket { outcome: pushed?, shared: self.clone() })
    }

    pub(super) fn close(&self) {
        self.queue.lock().closed = true;
        self.work.notify_all();
    }

    /// Commits one group on the calling thread; gives the number of its batches.
    pub(super) fn commit_group(&self) -> usize {
        let Some(sink) = self.sink.get() else { return 0 };
        let mut writer = self.writer.lock();
        let group = self.queue.lock().take_group(self.config.group_bytes);
        let Group { batches, waiters, charged } = group;
        let count = batches.len();
        if count == 0 {
            return 0;
        }
        let before = writer.clock.monotonic();
        let result = writer.commit(&batches, &**sink);
        *self.last_commit.lock() = writer.clock.monotonic().saturating_sub(before);
        match result {
            Ok(position) => {
                self.metrics.groups.add(1);
                sink.apply(batches, position);
                self.release(&charged);
                waiters.into_iter().for_each(|w| w.finish(Ok(())));
            }
            Err(error) => {
                self.metrics.failed_groups.add(1);
                // What waits behind the group was admitted as if the group would succeed.
                let rest = self.queue.lock().take_all();
                let all = batches.into_iter().chain(rest.batches).collect();
                sink.abandon(all);
                self.release(&charged);
                self.release(&rest.charged);
                for waiter in waiters.into_iter().chain(rest.waiters) {
                    waiter.finish(Err(error.clone()));
                }
            }
        }
        self.metrics.segments.set(writer.size().0);
        count
    }

    fn release(&self, charged: &[(pyrrha_model::TenantId, usize)]) {
        let mut queue = self.queue.lock();
        queue.release(charged);
        self.metrics.queued_bytes.set(queue.bytes as u64);
    }

    /// The committer thread.
    pub(super) fn run(&self) {
        while self.wait_for_work() {
            if catch_unwind(AssertUnwindSafe(|| self.commit_group())).is_err() {
                tracing::error!("log committer panicked; the log is closed");
                self.close();
                drop(self.queue.lock().take_all());
                return;
            }
        }
    }

    /// Waits for a group to commit; false once the log is closed and everything is committed.
    fn wait_for_work(&self) -> bool {
        let mut queue = self.queue.lock();
        while queue.batches == 0 {
            if queue.closed {
                return false;
            }
            self.work.wait(&mut queue);
        }
        // A lone writer is not delayed. Where many wait, the disk is the bottleneck, and a moment
        // more fills the group.
        if queue.batches >= self.config.window_writers {
            let (least, most) = self.config.window;
            let window = (*self.last_commit.lock() / 2).clamp(least, most.max(least));
            let full = |queue: &mut Queue| queue.bytes < self.config.group_bytes && !queue.closed;
            let _ = self.work.wait_while_for(&mut queue, full, window);
        }
        true
    }
}
