//! The write-ahead log: what is acknowledged and not yet in a block (decisions 1-3, 9).
//!
//! One log serves all tenants. Batches are admitted in order, a committer writes everything that
//! waits as one group with one fdatasync, hands it to the head, and only then are the writers told.
//! The format is in `docs/format/wal.md`.
//!
//! ```text
//! submit ─► queue ─► committer: encode ─► write ─► fdatasync ─► WalSink::apply ─► Ticket::wait
//! open ─► recover: end and repair segments ─► Replay: definitions and batches
//! ```

mod batch;
pub mod checkpoint;
mod committer;
mod damage;
mod definitions;
mod deletes;
mod error;
mod frame;
mod histogram;
mod inspect;
mod metrics;
mod packed;
mod queue;
mod record;
mod recover;
mod replay;
mod segment;
mod walk;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pyrrha_env::{Clock, Disk};

use crate::durable;

pub use batch::{LogBatch, LogEntry, LogHistogram, LogPosition, WalSink};
use checkpoint::UsedSegments;
use committer::Shared;
pub use committer::Ticket;
pub use damage::{Damage, DamageReason, DamageReport};
pub use deletes::LogDelete;
pub(crate) use deletes::{MAX_HIDDEN, put_delete, put_hidden, take_delete, take_hidden};
pub use error::WalError;
pub use inspect::{LogContents, inspect};
pub use metrics::{Count, SYNC_BOUNDS, WalMetrics};
pub use packed::PackedBatch;
pub use replay::{OldLog, Replay, ReplaySink};
pub(crate) use segment::{number_of as segment_number, path as segment_path};
use writer::Writer;

/// Settings of the log.
#[derive(Debug, Clone)]
pub struct WalConfig {
    /// Size to which a segment file is allocated and at which the next one begins, in bytes.
    pub segment_bytes: u64,
    /// Bytes of one tenant that may wait for the disk.
    pub queue_bytes: usize,
    /// Bytes of a group commit, as they are in memory, about.
    pub group_bytes: usize,
    /// From this many waiting writers on, a group waits a moment for more of them.
    pub window_writers: usize,
    /// The shortest and longest such moment.
    pub window: (Duration, Duration),
    /// Refuse to open a damaged log instead of keeping what is readable.
    pub strict: bool,
}

impl Default for WalConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 128 << 20,
            queue_bytes: 64 << 20,
            group_bytes: 16 << 20,
            window_writers: 8,
            window: (Duration::from_millis(2), Duration::from_millis(10)),
            strict: false,
        }
    }
}

/// Bytes that one batch may take in memory.
const MAX_BATCH_BYTES: usize = 1 << 30;

/// The log. Dropping it commits what waits and ends its thread.
pub struct Wal {
    shared: Arc<Shared>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Wal {
    /// Opens the log in `dir`, creating it if there is none, and gives what it holds from `from` on
    /// (default: everything).
    ///
    /// Fails if the disk does, if a segment has another format version, or, in strict mode, if
    /// anything is damaged.
    pub fn open(
        config: WalConfig,
        dir: &Path,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        from: LogPosition,
    ) -> Result<(Self, Replay), WalError> {
        let strict = config.strict;
        let (wal, old) = Self::open_beside(config, dir, disk, clock, from.into())?;
        if strict {
            old.check(from)?;
        }
        Ok((wal, old.replay(from)))
    }

    /// As [`open`](Self::open), for a caller who does not know yet where replay starts, only which
    /// segments are `used`. It reads the headers of the segments and the
    /// records of the last one, so the time it takes does not grow with the log. New batches never
    /// go to a segment that is there already, so writing may start before the replay has.
    pub fn open_beside(
        config: WalConfig,
        dir: &Path,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        used: UsedSegments,
    ) -> Result<(Self, OldLog), WalError> {
        durable::create_dir(&*disk, dir).map_err(|e| WalError::io("create directory", dir, e))?;
        let recovered = recover::recover(&disk, dir, used)?;
        let metrics = Arc::new(WalMetrics::default());
        metrics.torn_bytes.add(recovered.torn_bytes);
        let mut writer = Writer::new(dir, disk.clone(), clock, metrics.clone(), config.segment_bytes);
        writer.closed.clone_from(&recovered.closed);
        writer.next = recovered.next;
        metrics.segments.set(writer.size().0);
        let shared = Arc::new(Shared::new(config, metrics.clone(), writer));
        let old = OldLog { disk, metrics, recovered };
        Ok((Self { shared, thread: Mutex::new(None) }, old))
    }

    /// Sets the head side, without a thread: the thread that waits for a batch commits it.
    pub fn attach(&self, sink: Arc<dyn WalSink>) {
        self.shared.attach(sink, false);
    }

    /// Sets the head side and starts the committer thread. Fails if the system has no thread left.
    pub fn start(&self, sink: Arc<dyn WalSink>) -> Result<(), WalError> {
        self.shared.attach(sink, true);
        let shared = self.shared.clone();
        let thread = std::thread::Builder::new()
            .name("wal-commit".into())
            .spawn(move || shared.run())
            .map_err(|e| WalError::io("start thread", "", e))?;
        *self.thread.lock() = Some(thread);
        Ok(())
    }

    /// Queues a batch. Batches of a tenant are logged in the order in which they are submitted. An
    /// empty batch is a barrier: it is done when all of its tenant's batches before it are.
    ///
    /// Fails at once if the tenant's queue is full, the log is closed or has no sink, or the batch
    /// can never be logged.
    pub fn submit(&self, batch: LogBatch) -> Result<Ticket, WalError> {
        record::check_columns(&batch)?;
        if batch.bytes() > MAX_BATCH_BYTES {
            return Err(WalError::BadBatch("it takes more than 1 GiB"));
        }
        self.shared.submit(batch)
    }

    /// Commits on the calling thread all that waits; gives the number of batches.
    pub fn commit_pending(&self) -> usize {
        let mut done = 0;
        loop {
            match self.shared.commit_group() {
                0 => return done,
                n => done += n,
            }
        }
    }

    /// Ends the current segment. Everything applied so far lies before the position that it gives,
    /// everything applied later at or after it. Must not be called from the sink.
    pub fn cut_segment(&self) -> LogPosition {
        let mut writer = self.shared.writer.lock();
        writer.cut();
        writer.position()
    }

    /// Where the next record will start.
    pub fn position(&self) -> LogPosition {
        self.shared.writer.lock().position()
    }

    /// Deletes the segments that lie wholly before a position.
    pub fn truncate_before(&self, position: LogPosition) -> Result<(), WalError> {
        let mut writer = self.shared.writer.lock();
        let result = writer.truncate(position.segment);
        self.shared.metrics.segments.set(writer.size().0);
        result
    }

    /// Bytes of the log, without what is allocated ahead.
    pub fn bytes(&self) -> u64 {
        self.shared.writer.lock().size().1
    }

    /// Segments with their bytes, oldest first, without what is allocated ahead.
    pub fn segment_sizes(&self) -> Vec<(u64, u64)> {
        self.shared.writer.lock().sizes()
    }

    /// What the log counts.
    pub fn metrics(&self) -> &Arc<WalMetrics> {
        &self.shared.metrics
    }

    /// Takes no more batches, commits those that wait, and ends the thread. Dropping does the same.
    pub fn stop(&self) {
        self.shared.close();
        if let Some(thread) = self.thread.lock().take() {
            // A panic on it has been told to every writer that waited.
            let _ = thread.join();
        }
        self.commit_pending();
    }
}

impl Drop for Wal {
    fn drop(&mut self) {
        self.stop();
    }
}

impl std::fmt::Debug for Wal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wal").field("metrics", &self.shared.metrics).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
