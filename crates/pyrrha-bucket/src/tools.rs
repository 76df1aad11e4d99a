//! What people ask of a bucket by hand: what is there, whether it is sound, how much room it takes.
//!
//! Commands print; what they print is found here. Nothing of this runs beside queries, so it takes
//! the plain way: the manifest, one listing of a tenant, and the objects that are asked about.

mod adopt;
mod adopter;
mod compare;
pub(crate) mod copy;
mod mark;
mod migrate;
mod named;
mod orphans;
mod replicate;
mod survey;
mod theirs;
mod usage;
mod verify;

use std::sync::Arc;

use futures::stream::{StreamExt, TryStreamExt};
use pyrrha_env::{Clock, Disk};
use pyrrha_model::{ErrorKind, StoreError, TenantId};
use pyrrha_storage::block::{BlockId, BlockMeta};
use pyrrha_storage::manifest::{BlockEntry, Manifest, ManifestState};

pub use crate::selector::BlockSelector;
pub use adopt::{AdoptedBlock, AdoptedTenant, Adoption, LeftOut};
pub use adopter::{Adopter, AdopterMetrics};
pub use compare::{ComparedRange, Digest};
pub use copy::CopyOptions;
pub use mark::{Marked, Unmark};
pub use migrate::{ComparedTenant, CopiedTenant, MigrationPlan, PlannedTenant};
pub use orphans::Orphan;
pub use replicate::Replicated;
pub use survey::{FileKind, ObjectClass, Survey, SurveyedObject};
pub use usage::{Usage, UsageRow};
pub use verify::{Depth, Issue, IssueKind, Severity, VerifyOptions, VerifyReport};

use crate::block_files::{self, META};
use crate::error::BucketError;
use crate::manifest_store::BucketManifestStore;
use crate::rebuild::{FoundBlocks, META_MAX, find_blocks, rebuild_manifest};
use crate::runtime::BucketRuntime;
use crate::tenants::{BucketTenants, tenants_in};

/// Requests for small objects under way at once.
const REQUESTS_AT_ONCE: usize = 16;

/// Told how far long work has come: what is done, so many of so many bytes (0: not known).
pub type Progress<'a> = &'a mut dyn FnMut(&str, u64, u64);

/// The tools over one bucket. They wait for requests, so they must not be used on a thread of a
/// runtime.
#[derive(Debug, Clone)]
pub struct BucketTools {
    pub(crate) tenants: Arc<BucketTenants>,
    pub(crate) runtime: Arc<BucketRuntime>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl BucketTools {
    /// Tools over the bucket of `tenants`, with local files on `disk`.
    pub fn new(
        tenants: Arc<BucketTenants>,
        runtime: Arc<BucketRuntime>,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { tenants, runtime, disk, clock }
    }

    /// The bucket's tenants: those that are `wanted`, or if none is, every directory that may be one's.
    pub fn tenant_ids(&self, wanted: &[TenantId]) -> Result<Vec<TenantId>, StoreError> {
        let bucket = self.tenants.bucket().clone();
        let found = self.runtime.wait(async move { tenants_in(&bucket).await })?;
        match wanted.iter().find(|tenant| !found.contains(tenant)) {
            Some(tenant) => Err(StoreError::new(
                ErrorKind::NotFound,
                format!("bucket has no such tenant: tenant={tenant}"),
            )),
            None if wanted.is_empty() => Ok(found),
            None => Ok(wanted.to_vec()),
        }
    }

    /// The newest state of a tenant.
    pub fn state(&self, tenant: &TenantId) -> Result<Arc<ManifestState>, StoreError> {
        Ok(self.tenants.manifest(tenant)?.refresh()?)
    }

    /// The metas of blocks, in their order; the inner error says why one does not read.
    pub fn metas(
        &self,
        tenant: &TenantId,
        entries: &[Arc<BlockEntry>],
    ) -> Result<Vec<Result<BlockMeta, String>>, StoreError> {
        let wanted: Vec<(BlockId, String)> =
            entries.iter().map(|e| (e.ulid, format!("{}/{META}", block_files::dir(tenant, e)))).collect();
        let bucket = self.tenants.bucket().clone();
        Ok(self.runtime.wait(async move {
            let reads = wanted.into_iter().map(|(block, key)| {
                let bucket = bucket.clone();
                async move {
                    let json = match bucket.get(&key, META_MAX).await {
                        Ok(Some(json)) => json,
                        Ok(None) => return Ok(Err("there is no meta.json".to_owned())),
                        Err(error @ BucketError::TooLarge { .. }) => return Ok(Err(error.to_string())),
                        Err(error) => return Err(error),
                    };
                    Ok(BlockMeta::parse(&block.to_string(), &json).map_err(|e| e.to_string()))
                }
            });
            futures::stream::iter(reads).buffered(REQUESTS_AT_ONCE).try_collect().await
        })?)
    }

    /// Commits a manifest made of nothing but the blocks that are there, and gives what was found; with
    /// `dry_run` only looks. Refuses, unless it is `forced`, where the newest manifest reads: blocks that
    /// were replaced or let go and are not removed yet would be live again.
    pub fn rebuild(&self, tenant: &TenantId, forced: bool, dry_run: bool) -> Result<FoundBlocks, StoreError> {
        let (bucket, owner) = (self.tenants.bucket().clone(), tenant.clone());
        let store = BucketManifestStore::new(bucket.clone(), self.runtime.clone(), tenant);
        match Manifest::read(&store) {
            Ok(state) if state.number > 0 && !forced => {
                let text = format!(
                    "manifest reads, and is rebuilt only if forced: tenant={tenant} manifest={} blocks={}",
                    state.number,
                    state.blocks.len()
                );
                return Err(StoreError::new(ErrorKind::Invalid, text));
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Corrupt => {}
            Err(error) => return Err(error.into()),
        }
        if dry_run {
            return Ok(self.runtime.wait(async move { find_blocks(&bucket, &owner).await })?);
        }
        Ok(rebuild_manifest(&bucket, &self.runtime, tenant, self.clock.clone())?.1)
    }
}

/// The external labels of a live block.
pub fn external_labels(entry: &BlockEntry) -> std::collections::BTreeMap<String, String> {
    block_files::external_labels(entry)
}

/// The shard of all series that a live block has, `i_of_N`; `None` if that is all of them.
pub fn shard(entry: &BlockEntry) -> Option<String> {
    crate::shard::Shard::of(entry).text()
}

/// Why a live block takes no part in compaction, if it was set aside.
pub fn set_aside(entry: &BlockEntry) -> Option<&str> {
    block_files::set_aside(entry)
}

#[cfg(test)]
pub(crate) mod tests;
