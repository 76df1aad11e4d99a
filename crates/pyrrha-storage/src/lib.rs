//! Write log, head, blocks, block merge, the per-tenant database.

pub mod attach;
pub mod backfill;
pub mod block;
pub mod compact;
pub mod config;
mod db;
mod durable;
mod error;
mod head;
pub mod manifest;
mod metric_type;
pub mod metrics;
pub mod prometheus;
mod query;
mod space;
pub mod tsdb;
pub mod wal;

pub use config::StorageConfig;
pub use db::{BlockCounts, Db, HeadStats, RecoveryPhase, RecoveryStatus};
pub use error::StorageError;
pub use head::Cardinality;
pub use metrics::Metrics;
pub use query::{compare_labels, merge};
