//! The long-term tier: blocks and manifests on an object store, or in a directory that looks like
//! one.
//!
//! ```text
//! <prefix>/<tenant>/manifest/00000000000000000001.json   numbered manifests, the newest counts
//!                   manifest/hint                        a number near the newest
//!          <tenant>/<ULID>/index, chunks/000001...       data of a block
//!          <tenant>/<ULID>/meta.json                     uploaded after the data
//! ```
//!
//! [`Bucket`] is the only door to the store. Everything here but [`BucketRuntime`] is asynchronous
//! and runs on that runtime's threads; synchronous callers wait outside of them.

pub mod attach;
pub mod backup;
mod block_files;
pub mod config;
#[cfg(test)]
mod day;
mod deletes;
mod door;
pub mod downsample;
mod error;
mod external;
#[cfg(test)]
mod faulty;
mod fetch;
mod gateway;
mod jobs;
mod manifest_store;
mod marks;
mod mimir_index;
mod mirror;
mod rebuild;
pub mod rewrite;
mod runtime;
mod selector;
mod shard;
mod shipper;
mod sources;
mod tenants;
pub mod tools;
mod upload_block;
#[cfg(test)]
mod worlds;

pub use deletes::BucketDeletes;
pub use door::{Bucket, Counters, Created, ObjectInfo, Operation, RetryPolicy};
pub use error::BucketError;
pub use gateway::{BucketQueryable, CacheStats, Gateway, GatewayConfig, GatewayStats, LocalSources};
pub use jobs::{
    Compactor, CompactorConfig, CompactorMetrics, Expiring, JobKind, JobOverview, JobPhase, JobSpec, Ladder,
    MatcherRetention, Retention, RewrittenBlock, Round, SetAside, TenantOverview,
};
pub use manifest_store::BucketManifestStore;
pub use marks::{Mark, MarkKind, marks};
pub use mirror::{Mirror, MirrorConfig, MirrorKind, MirrorMetrics, unread_by_thanos};
pub use rebuild::{FoundBlocks, find_blocks, rebuild_manifest};
pub use runtime::BucketRuntime;
pub use shard::BlockTargets;
pub use shipper::{Shipper, ShipperMetrics};
pub use tenants::BucketTenants;
