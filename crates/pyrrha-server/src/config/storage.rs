//! Settings of storage: how long and how much is kept, and how the store looks after itself.

use std::time::Duration;

use clap::Args;
use pyrrha_model::time::DurationDisplay;
use pyrrha_storage::StorageConfig;
use serde::Deserialize;

use super::ConfigError;
use super::file::Storage;
use super::size::YamlBytes;
use super::value::{bytes_or_none, setting, span};

const RETENTION_TIME: &str = "storage.tsdb.retention.time";
const RETENTION_SIZE: &str = "storage.tsdb.retention.size";
const COMPACTION_BUDGET: &str = "storage.compaction-memory-budget";
const HEAD_MEMORY: &str = "storage.head-memory";
const DISK_RESERVE: &str = "storage.disk-reserve";
const LOG_LIMIT: &str = "storage.log-limit";

/// Flags of storage, by Prometheus' names where it has them.
#[derive(Debug, Default, Args)]
pub struct StorageFlags {
    /// How long samples are kept; 0 keeps them for ever [default: 0].
    #[arg(
        long = "storage.tsdb.retention.time",
        env = "PYRRHA_STORAGE_TSDB_RETENTION_TIME",
        value_name = "DURATION"
    )]
    pub retention_time: Option<String>,
    /// Bytes of blocks, log and head chunks beyond which the oldest blocks go; 0 is no limit
    /// [default: 0].
    #[arg(
        long = "storage.tsdb.retention.size",
        env = "PYRRHA_STORAGE_TSDB_RETENTION_SIZE",
        value_name = "BYTES"
    )]
    pub retention_size: Option<String>,
    /// Merge blocks into larger ones [default: true].
    #[arg(long = "storage.compaction", env = "PYRRHA_STORAGE_COMPACTION", value_name = "BOOL",
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub compaction: Option<bool>,
    /// Write blocks in the dense layout, which takes a third of the room and only Pyrrha reads
    /// [default: false].
    #[arg(long = "storage.dense", env = "PYRRHA_STORAGE_DENSE", value_name = "BOOL",
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub dense: Option<bool>,
    /// Keep tables of large indexes in files of their own, with which a start opens blocks without reading
    /// them [default: true].
    #[arg(long = "storage.index-tables", env = "PYRRHA_STORAGE_INDEX_TABLES", value_name = "BOOL",
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub index_tables: Option<bool>,
    /// Memory of a compaction [default: 256MiB].
    #[arg(
        long = "storage.compaction-memory-budget",
        env = "PYRRHA_STORAGE_COMPACTION_MEMORY_BUDGET",
        value_name = "BYTES"
    )]
    pub compaction_memory_budget: Option<String>,
    /// Memory for the heads of all tenants, beyond which ranges are cut early and a start drains the log
    /// into blocks; 0 is no limit [default: 0].
    #[arg(long = "storage.head-memory", env = "PYRRHA_STORAGE_HEAD_MEMORY", value_name = "BYTES")]
    pub head_memory: Option<String>,
    /// Bytes of the disk kept so that a full one can be left again; 0 keeps none [default: 64MiB].
    #[arg(long = "storage.disk-reserve", env = "PYRRHA_STORAGE_DISK_RESERVE", value_name = "BYTES")]
    pub disk_reserve: Option<String>,
    /// Bytes of the log that one tenant may hold back before it is cut early [default: 4GiB].
    #[arg(long = "storage.log-limit", env = "PYRRHA_STORAGE_LOG_LIMIT", value_name = "BYTES")]
    pub log_limit: Option<String>,
}

/// The file's keys of storage besides the path and the log's.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Tsdb {
    retention: Retention,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Retention {
    time: Option<String>,
    size: Option<YamlBytes>,
}

/// Settings of storage, resolved. Zero of time or size is no limit.
#[derive(Debug, Clone, Default)]
pub struct StorageSettings {
    /// How long samples are kept.
    pub retention: Duration,
    /// Most bytes kept.
    pub retention_bytes: u64,
    /// Whether blocks are compacted.
    pub compaction: bool,
    /// Whether blocks are written in the dense layout.
    pub dense: bool,
    /// Whether files of the tables of large indexes are kept.
    pub index_tables: bool,
    /// Memory of a compaction, bytes.
    pub compaction_memory_bytes: usize,
    /// Memory of all heads, bytes.
    pub head_memory_bytes: u64,
    /// Bytes of the disk's reserve.
    pub disk_reserve_bytes: u64,
    /// Bytes of the log that one tenant may hold back.
    pub log_limit_bytes: u64,
}

impl StorageSettings {
    pub(super) fn resolve(flags: StorageFlags, file: &Storage) -> Result<Self, ConfigError> {
        let Retention { time, size } = file.tsdb.retention.clone();
        let bytes = |key, flag: Option<String>, file: &Option<YamlBytes>, default: &str| {
            setting(key, flag, file.clone(), default, bytes_or_none)
        };
        let budget = flags.compaction_memory_budget;
        Ok(Self {
            retention: setting(RETENTION_TIME, flags.retention_time, time, "0", span)?,
            retention_bytes: bytes(RETENTION_SIZE, flags.retention_size, &size, "0")? as u64,
            compaction: flags.compaction.or(file.compaction).unwrap_or(true),
            dense: flags.dense.or(file.dense).unwrap_or(false),
            index_tables: flags.index_tables.or(file.index_tables).unwrap_or(true),
            compaction_memory_bytes: bytes(
                COMPACTION_BUDGET,
                budget,
                &file.compaction_memory_budget,
                "256MiB",
            )?,
            head_memory_bytes: bytes(HEAD_MEMORY, flags.head_memory, &file.head_memory, "0")? as u64,
            disk_reserve_bytes: bytes(DISK_RESERVE, flags.disk_reserve, &file.disk_reserve, "64MiB")? as u64,
            log_limit_bytes: bytes(LOG_LIMIT, flags.log_limit, &file.log_limit, "4GiB")? as u64,
        })
    }

    /// Gives the database these settings.
    pub(crate) fn apply(&self, config: &mut StorageConfig) {
        config.retention = self.retention;
        config.retention_bytes = self.retention_bytes;
        config.compaction = self.compaction;
        config.dense = self.dense;
        if !self.index_tables {
            config.index_tables_from = u64::MAX;
        }
        config.compaction_memory_bytes = self.compaction_memory_bytes;
        config.head_memory_bytes = self.head_memory_bytes;
        config.disk_reserve_bytes = self.disk_reserve_bytes;
        config.log_limit_bytes = self.log_limit_bytes;
    }

    /// The retention as Prometheus says it: `15d`, `100GB`, `15d or 100GB`; empty if there is none.
    pub(crate) fn retention_text(&self) -> String {
        let time = (!self.retention.is_zero()).then(|| self.time_text());
        let size = (self.retention_bytes > 0).then(|| format!("{}B", self.retention_bytes));
        time.into_iter().chain(size).collect::<Vec<_>>().join(" or ")
    }

    fn time_text(&self) -> String {
        DurationDisplay(i64::try_from(self.retention.as_millis()).unwrap_or(i64::MAX)).to_string()
    }

    /// The settings as flags.
    pub(super) fn as_flags(&self) -> [(&'static str, String); 9] {
        [
            (RETENTION_TIME, self.time_text()),
            (RETENTION_SIZE, format!("{}B", self.retention_bytes)),
            ("storage.compaction", self.compaction.to_string()),
            ("storage.dense", self.dense.to_string()),
            ("storage.index-tables", self.index_tables.to_string()),
            (COMPACTION_BUDGET, self.compaction_memory_bytes.to_string()),
            (HEAD_MEMORY, self.head_memory_bytes.to_string()),
            (DISK_RESERVE, self.disk_reserve_bytes.to_string()),
            (LOG_LIMIT, self.log_limit_bytes.to_string()),
        ]
    }
}
