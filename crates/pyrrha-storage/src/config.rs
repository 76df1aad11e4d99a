//! Settings of the database, all with defaults.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use pyrrha_model::TenantId;

use crate::block::Layout;
use crate::wal::WalConfig;

/// How the database stores.
#[derive(Debug, Clone)]
pub struct StorageConfig {
    /// The data directory.
    pub dir: PathBuf,
    /// Settings of the log.
    pub wal: WalConfig,
    /// Length of a block cut from the head, ms.
    pub block_range_ms: i64,
    /// Samples in a full chunk.
    pub samples_per_chunk: u16,
    /// How far a sample may lie ahead of the wall clock, ms.
    pub future_limit_ms: i64,
    /// How far behind its tenant's newest sample, or the wall clock if that is behind it, an
    /// out-of-order sample may lie, ms; 0: none is taken.
    pub out_of_order_window_ms: i64,
    /// The same for single tenants.
    pub tenant_out_of_order_window_ms: BTreeMap<TenantId, i64>,
    /// Whether start timestamps are stored (XOR2 and ST chunks). Off, they are dropped and counted.
    pub start_timestamps: bool,
    /// Whether blocks are written in the dense layout, which only Pyrrha reads.
    pub dense: bool,
    /// The same for single tenants.
    pub tenant_dense: BTreeMap<TenantId, bool>,
    /// Most series in the head of one tenant; 0: any number.
    pub max_series_per_tenant: usize,
    /// Most exemplars of one tenant that are in no block yet; the oldest go.
    pub max_exemplars_per_tenant: usize,
    /// Most metric families of one tenant whose metadata is kept; that of more is dropped.
    pub max_metadata_per_tenant: usize,
    /// A head range that newer data has passed is cut only after nothing came for it for so long:
    /// whoever loads history may take its time.
    pub quiet_before_cut: Duration,
    /// A head range that lies well in the past is cut when nothing was appended to it for so long.
    pub idle_cut_after: Duration,
    /// Memory for the heads of all tenants, bytes. Beyond it ranges are cut as soon as they can be, and
    /// a start makes blocks of what it has read of the log before it reads on; 0: any amount.
    pub head_memory_bytes: u64,
    /// Memory for samples that come in before the log is replayed, in bytes. Beyond it writes are
    /// turned away until recovery has made room.
    pub side_head_bytes: u64,
    /// Longest time between two checkpoints while samples come in.
    pub checkpoint_every: Duration,
    /// Samples in the log since the last checkpoint that cause the next one; with many series it
    /// takes more.
    pub checkpoint_after_samples: u64,
    /// Bytes of the disk that are kept for cuts to go on when it is full; 0: none.
    pub disk_reserve_bytes: u64,
    /// Bytes of the log that one tenant may keep from being truncated; beyond, its ranges are cut
    /// as soon as they can be.
    pub log_limit_bytes: u64,
    /// A delete can be undone for so long; then its samples are removed from the disk.
    pub delete_undo: Duration,
    /// Data older than this is removed; zero: never.
    pub retention: Duration,
    /// Tenants with a retention of their own; zero: never.
    pub tenant_retention: BTreeMap<TenantId, Duration>,
    /// Blocks, log and head chunks together, of all tenants: beyond so many bytes the oldest blocks
    /// are removed; 0: any number.
    pub retention_bytes: u64,
    /// Whether blocks go to a bucket: then retention removes none that is not there.
    pub keep_unshipped: bool,
    /// Whether blocks are compacted here.
    pub compaction: bool,
    /// Each block is read as a whole once in so long, to find damage before it is needed; zero: never.
    pub verify_every: Duration,
    /// Memory that a compaction may take, bytes.
    pub compaction_memory_bytes: usize,
    /// Blocks of which the index has so many symbols and label pairs get a file of its tables, so that
    /// the next start opens them without reading them; [`u64::MAX`]: none does.
    pub index_tables_from: u64,
}

impl StorageConfig {
    /// Defaults for a data directory.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            // A start looks through what is allocated of the last segment.
            wal: WalConfig { segment_bytes: 64 << 20, ..WalConfig::default() },
            block_range_ms: 2 * 3_600_000,
            samples_per_chunk: 120,
            future_limit_ms: 10 * 60_000,
            out_of_order_window_ms: 2 * 3_600_000,
            tenant_out_of_order_window_ms: BTreeMap::new(),
            start_timestamps: false,
            dense: false,
            tenant_dense: BTreeMap::new(),
            max_series_per_tenant: 0,
            max_exemplars_per_tenant: 100_000,
            max_metadata_per_tenant: 100_000,
            quiet_before_cut: Duration::from_secs(60),
            idle_cut_after: Duration::from_secs(30 * 60),
            head_memory_bytes: 0,
            side_head_bytes: 512 << 20,
            checkpoint_every: Duration::from_secs(3 * 60),
            checkpoint_after_samples: 2_000_000,
            disk_reserve_bytes: 64 << 20,
            log_limit_bytes: 4 << 30,
            delete_undo: Duration::from_secs(24 * 3600),
            retention: Duration::ZERO,
            tenant_retention: BTreeMap::new(),
            retention_bytes: 0,
            keep_unshipped: false,
            compaction: true,
            verify_every: Duration::from_secs(7 * 24 * 3600),
            compaction_memory_bytes: 256 << 20,
            // A smaller index is read as quickly as one more file is opened.
            index_tables_from: 4096,
        }
    }

    /// How long data of a tenant is kept; zero: for ever.
    pub fn retention_of(&self, tenant: &TenantId) -> Duration {
        self.tenant_retention.get(tenant).copied().unwrap_or(self.retention)
    }

    /// How a tenant's blocks are written.
    pub fn layout_of(&self, tenant: &TenantId) -> Layout {
        if self.tenant_dense.get(tenant).copied().unwrap_or(self.dense) {
            Layout::Dense
        } else {
            Layout::Standard
        }
    }

    /// Length of a tenant's out-of-order window, ms.
    pub fn out_of_order_window_of(&self, tenant: &TenantId) -> i64 {
        self.tenant_out_of_order_window_ms.get(tenant).copied().unwrap_or(self.out_of_order_window_ms)
    }
}
