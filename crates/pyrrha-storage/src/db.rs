//! The database: a head per tenant over one log, under one data directory.
//!
//! ```text
//! <data>/VERSION  LOCK  wal/  checkpoint/  head/<tenant>/  bucket/<tenant>/<ULID>/
//! ```

mod checkpoint;
mod compaction;
mod cut;
mod jobs;
mod open;
mod quarantine;
mod queryable;
mod replay;
mod retention;
mod shipping;
mod sink;
mod snapshot;
mod tenant;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
use crate::wal::{DamageReason, DamageReport, LogPosition, Wal};
use checkpoint::LastCheckpoint;
use compaction::Compactor;
use retention::RetentionState;
use sink::{HeadSink, Tenants};

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
    /// What could not be read of the log.
    damage: DamageReport,
    /// The log has nothing before this.
    truncated: Mutex<LogPosition>,
    closed: AtomicBool,
    _lock: Box<dyn DiskLock>,
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

    /// What could not be read of the log when the database was opened.
    pub fn log_damage(&self) -> &DamageReport {
        &self.damage
    }

    /// Whether the disk refused to give a part of the log. Another start may find it readable: in
    /// this run nothing of the log is truncated or passed over by a checkpoint.
    fn keeps_whole_log(&self) -> bool {
        self.damage.places.iter().any(|place| place.reason == DamageReason::Unreadable)
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
        self.wal.stop();
        let _one = self.housekeeping.lock();
        self.compactor.stop();
        if self.keeps_whole_log() { Ok(()) } else { self.checkpoint() }
    }

    /// Housekeeping; to be called about once a second, by one thread.
    pub fn maintain(&self) -> Result<(), StorageError> {
        let _one = self.housekeeping.lock();
        let result = self.keep_house();
        self.shared.reserve.restore();
        result
    }

    /// Whatever fails does not keep the rest from being done; gives the first error.
    fn keep_house(&self) -> Result<(), StorageError> {
        let mut results = Vec::new();
        let log = cut::LogSizes::of(&self.wal);
        for tenant in self.shared.tenants.all() {
            let written = self.shared.write_head_chunks(&tenant, false);
            // On a full disk chunks stay in memory, and what follows makes room.
            results.push(written.or_else(|error| if self.is_disk_full() { Ok(()) } else { Err(error) }));
            self.cut_ranges(&tenant, &log);
        }
        results.push(self.retain());
        results.push(self.compact_beside());
        if !self.keeps_whole_log() {
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
    /// Bytes on the heap, about.
    pub memory_bytes: u64,
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
