//! The database: a head per tenant over one log, under one data directory.
//!
//! ```text
//! <data>/VERSION  LOCK  reserve  wal/  checkpoint/  head/<tenant>/  snapshots/<name>/
//!        bucket/<tenant>/<ULID>/  bucket/<tenant>/manifest/  bucket/<tenant>/jobs/
//!        index-tables/<tenant>/<ULID>
//! ```

mod awaiting;
mod checkpoint;
mod compaction;
mod cut;
mod deletes;
mod drain;
mod index_tables;
mod jobs;
mod open;
mod quarantine;
mod queryable;
mod read_ahead;
mod recovery;
mod replay;
mod retention;
mod shipping;
mod sink;
mod snapshot;
mod tenant;
mod unread;
mod verification;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;
use pyrrha_env::{Clock, Disk, DiskLock};
use pyrrha_model::contract::{Appender, Ingest, Queryable};
use pyrrha_model::{ErrorKind, StoreError, TenantId};

use crate::block::{Block, BlockMeta};
use crate::config::StorageConfig;
use crate::error::StorageError;
use crate::head::{Cardinality, CommitLog, HeadAppender};
use crate::metrics::Metrics;
use crate::space::Reserve;
use crate::wal::checkpoint::Checkpoints;
use crate::wal::{DamageReport, LogPosition, Wal};
use checkpoint::LastCheckpoint;
use compaction::Compactor;
pub(crate) use deletes::MARK as DELETES_MARK;
use recovery::{Driver, Recovery};
pub use recovery::{RecoveryPhase, RecoveryStatus};
use retention::RetentionState;
use sink::{HeadSink, Tenants};
use unread::Unread;
pub(crate) use unread::{check_read as check_log_read, listed as unread_segments};

/// An open data directory.
#[derive(Debug)]
pub struct Db {
    shared: Arc<Shared>,
    wal: Arc<Wal>,
    log: Arc<dyn CommitLog>,
    sink: Arc<HeadSink>,
    checkpoints: Checkpoints,
    last_checkpoint: Mutex<LastCheckpoint>,
    /// When retention looked last.
    retention: Mutex<RetentionState>,
    compactor: Compactor,
    /// Whether there may be threads beside the caller's.
    threaded: bool,
    /// Housekeeping is done by one thread at a time.
    housekeeping: Mutex<()>,
    recoverer: Mutex<Recoverer>,
    /// The log has nothing before this.
    truncated: Mutex<LogPosition>,
    closed: AtomicBool,
    _lock: Box<dyn DiskLock>,
}

/// Who drives recovery.
#[derive(Debug, Default)]
enum Recoverer {
    #[default]
    Nobody,
    Thread(std::thread::JoinHandle<()>),
    Caller(Box<Driver>),
}

/// What the database and its readers share.
#[derive(Debug)]
pub(crate) struct Shared {
    config: Arc<StorageConfig>,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    tenants: Tenants,
    reserve: Reserve,
    recovery: Recovery,
    unread: Unread,
    /// Known once it is open.
    log: OnceLock<Weak<dyn CommitLog>>,
}

impl Db {
    /// What the database has counted.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.shared.metrics
    }

    /// The log.
    pub fn wal(&self) -> &Arc<Wal> {
        &self.wal
    }

    /// What could not be read of the log. Known when all of it is replayed.
    pub fn log_damage(&self) -> DamageReport {
        self.shared.recovery.damage()
    }

    /// How far recovery has come.
    pub fn recovery_status(&self) -> RecoveryStatus {
        self.shared.recovery.status()
    }

    /// Whether everything acknowledged before the start can be read.
    pub fn is_recovered(&self) -> bool {
        self.shared.recovery.is_done()
    }

    /// Waits until everything acknowledged before the start can be read; false if nobody drives
    /// recovery or it failed.
    pub fn wait_recovered(&self) -> bool {
        self.shared.recovery.wait_until(|| self.is_recovered(), || false)
    }

    /// Lets recovery begin, see [`open_held`](Self::open_held).
    pub fn release_recovery(&self) {
        self.shared.recovery.release();
    }

    /// Does a bit of recovery where that is the caller's job; false when all is done.
    pub fn recover_step(&self) -> Result<bool, StorageError> {
        match &mut *self.recoverer.lock() {
            Recoverer::Caller(driver) => driver.step(),
            Recoverer::Nobody | Recoverer::Thread(_) => Ok(false),
        }
    }

    /// Ends the thread of recovery, wherever it is.
    fn stop_recovery(&self) {
        self.shared.recovery.stop();
        if let Recoverer::Thread(thread) = std::mem::take(&mut *self.recoverer.lock()) {
            // What it panicked with has been told.
            let _ = thread.join();
        }
    }

    /// Whether writes are refused because the disk is full.
    pub fn is_disk_full(&self) -> bool {
        self.shared.reserve.is_full()
    }

    /// How often the disk's reserve was released, and how many writes were refused for a full disk.
    pub fn reserve_counts(&self) -> (u64, u64) {
        (self.shared.reserve.released.get(), self.shared.reserve.refused.get())
    }

    /// Where blocks of a tenant are.
    pub fn bucket_dir(&self, tenant: &TenantId) -> PathBuf {
        self.shared.bucket_dir(tenant)
    }

    /// The live blocks of a tenant that can be read, by time.
    pub fn open_blocks(&self, tenant: &TenantId) -> Vec<Block> {
        self.shared.tenants.get(tenant).map(|t| t.blocks()).unwrap_or_default()
    }

    /// Tenants that have a head or blocks, sorted.
    pub fn tenants(&self) -> Vec<TenantId> {
        self.shared.tenants.all().iter().map(|t| t.head.tenant.clone()).collect()
    }

    /// What the live, readable blocks of a tenant say of themselves, by time.
    pub fn blocks(&self, tenant: &TenantId) -> Vec<BlockMeta> {
        let tenant = self.shared.tenants.get(tenant);
        tenant.map_or_else(Vec::new, |t| t.blocks().iter().map(|b| b.meta().clone()).collect())
    }

    /// Reads of all tenants: each query reads the tenant of its context.
    pub fn queryable(&self) -> Arc<dyn Queryable> {
        Arc::new(queryable::DbQueryable::new(self.shared.clone()))
    }

    /// Sizes of all heads together.
    pub fn head_stats(&self) -> HeadStats {
        let mut stats = HeadStats::default();
        for tenant in self.shared.tenants.all() {
            tenant.head.add_stats(&mut stats);
        }
        stats
    }

    /// What the series of a tenant's head are made of, of each list the `limit` greatest.
    pub fn cardinality(&self, tenant: &TenantId, limit: usize) -> Cardinality {
        let tenant = self.shared.tenants.get(tenant);
        tenant.map_or_else(Cardinality::default, |tenant| {
            let view = tenant.view.read().clone();
            tenant.head.cardinality(&view.head.cut, limit)
        })
    }

    /// How many blocks there are, of all tenants.
    pub fn block_stats(&self) -> BlockCounts {
        let mut counts = BlockCounts::default();
        for tenant in self.shared.tenants.all() {
            let view = tenant.view.read().clone();
            counts.blocks += (view.blocks.len() + view.missing.len()) as u64;
            let set_aside = view.quarantined.values().filter(|q| q.damage.is_some()).count();
            counts.damaged += (view.missing.len() + set_aside) as u64;
            counts.bytes += tenant.manifest.current().blocks.values().map(|b| b.bytes).sum::<u64>();
        }
        counts
    }

    /// Stops writes and makes restart quick. Further writes fail with `Unavailable`.
    pub fn close(&self) -> Result<(), StorageError> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.stop_recovery();
        self.wal.stop();
        let _one = self.housekeeping.lock();
        self.compactor.stop();
        // A head that is not recovered has nothing that the log has not.
        if self.shared.keeps_whole_log() || !self.is_recovered() { Ok(()) } else { self.checkpoint() }
    }

    /// Housekeeping; to be called about once a second, by one thread. Before the database is
    /// recovered nothing is cut, removed or checkpointed.
    pub fn maintain(&self) -> Result<(), StorageError> {
        let _one = self.housekeeping.lock();
        let result = if self.is_recovered() { self.keep_house() } else { Ok(()) };
        self.shared.reserve.restore();
        result
    }

    /// Whatever fails does not keep the rest from being done; gives the first error.
    fn keep_house(&self) -> Result<(), StorageError> {
        let mut results = Vec::new();
        let log = cut::LogSizes::of(&self.wal);
        // Before anything is cut or merged that lacks what could not be read.
        let may_cut = self.shared.keep_unread();
        let cuts = may_cut.is_ok();
        results.push(may_cut);
        for tenant in self.shared.tenants.all() {
            let written = self.shared.write_head_chunks(&tenant, false);
            // On a full disk chunks stay in memory, and what follows makes room.
            results.push(written.or_else(|error| if self.is_disk_full() { Ok(()) } else { Err(error) }));
            self.shared.reopen(&tenant);
            if cuts {
                self.cut_ranges(&tenant, &log);
            }
            results.push(self.settle_deletes(&tenant));
            if !self.is_disk_full() {
                self.shared.keep_index_tables(&tenant);
            }
        }
        results.push(self.retain());
        if cuts {
            results.push(self.compact_beside());
        }
        if !self.shared.keeps_whole_log() {
            results.push(self.truncate_log());
            if !self.is_disk_full() {
                self.checkpoint_if_due();
            }
        }
        results.into_iter().collect()
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::warn!(%error, "database did not close cleanly");
        }
    }
}

impl Ingest for Db {
    fn appender(&self, tenant: &TenantId) -> Result<Box<dyn Appender + '_>, StoreError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(StoreError::new(ErrorKind::Unavailable, "database is closed"));
        }
        self.shared.reserve.check_writable()?;
        let tenant = self.shared.tenant(tenant)?;
        if !tenant.head.is_recovered() {
            self.shared.check_side_heads()?;
        }
        Ok(Box::new(HeadAppender::open(tenant.head.clone(), self.log.clone())?))
    }
}

impl Shared {
    fn head_dir(&self, tenant: &TenantId) -> PathBuf {
        self.config.dir.join("head").join(tenant.as_str())
    }

    fn bucket_dir(&self, tenant: &TenantId) -> PathBuf {
        self.config.dir.join("bucket").join(tenant.as_str())
    }
}

/// Sizes of heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HeadStats {
    /// Series.
    pub series: u64,
    /// Sealed chunks.
    pub chunks: u64,
    /// Chunks of out-of-order samples, sealed or not.
    pub late_chunks: u64,
    /// Bytes on the heap, about.
    pub memory_bytes: u64,
    /// Those of them for labels: symbols, postings, rows.
    pub index_bytes: u64,
    /// Bytes of sealed chunks in mapped files.
    pub file_bytes: u64,
    /// Earliest and latest sample time, ms.
    pub times: Option<(i64, i64)>,
}

/// Live blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BlockCounts {
    /// Their number.
    pub blocks: u64,
    /// Bytes of their files.
    pub bytes: u64,
    /// Those that do not open, or proved damaged.
    pub damaged: u64,
}

#[cfg(test)]
pub(crate) mod tests;
