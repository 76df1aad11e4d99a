//! The shipper: local blocks go up to the bucket, one at a time, beside the traffic.
//!
//! What is to be shipped is no list of its own but a comparison: a local block whose sources the
//! bucket's manifest does not cover. So a restart, a crash in the middle or a failed attempt need
//! nothing to be remembered. Order: data, `meta.json`, manifest; a block counts from the last.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pyrrha_env::Disk;
use pyrrha_model::contract::{CancelToken, MemoryBudget, QueryContext};
use pyrrha_model::{ErrorKind, StoreError, TenantId};
use pyrrha_storage::block::{Block, BlockId, Layout, UNFINISHED};
use pyrrha_storage::compact::to_standard;
use pyrrha_storage::manifest::{Change, ManifestState};

use crate::block_files;
use crate::deletes::commit;
use crate::jobs::{JobDirectory, note_replaced};
use crate::runtime::BucketRuntime;
use crate::sources::held_by;
use crate::tenants::BucketTenants;
use crate::upload_block::{Upload, local};

/// Memory for writing a dense block as others read it.
const CONVERSION_MEMORY: usize = 256 << 20;

/// Ships blocks of local stores.
#[derive(Debug)]
pub struct Shipper {
    tenants: Arc<BucketTenants>,
    runtime: Arc<BucketRuntime>,
    disk: Arc<dyn Disk>,
    metrics: ShipperMetrics,
}

/// What a shipper has done, and has before it.
#[derive(Debug, Default)]
pub struct ShipperMetrics {
    /// Blocks that the last look found to ship.
    pub backlog_blocks: AtomicU64,
    /// Their bytes.
    pub backlog_bytes: AtomicU64,
    /// Blocks shipped.
    pub shipped_blocks: AtomicU64,
    /// Their bytes.
    pub shipped_bytes: AtomicU64,
    /// Attempts that failed.
    pub failures: AtomicU64,
}

impl Shipper {
    /// A shipper to the bucket of `tenants`, of blocks that are on `disk`.
    pub fn new(tenants: Arc<BucketTenants>, runtime: Arc<BucketRuntime>, disk: Arc<dyn Disk>) -> Self {
        Self { tenants, runtime, disk, metrics: ShipperMetrics::default() }
    }

    /// What it has done.
    pub fn metrics(&self) -> &ShipperMetrics {
        &self.metrics
    }

    /// Counts what of `blocks` is to be shipped, by what is known of the bucket without asking it: of a tenant
    /// whose manifest was not read yet that is all.
    pub fn look(&self, blocks: &[(TenantId, Vec<Block>)]) {
        let (mut count, mut bytes) = (0u64, 0u64);
        for (tenant, blocks) in blocks {
            let state = self.tenants.known(tenant);
            for block in blocks.iter().filter(|b| !state.as_ref().is_some_and(|state| is_covered(state, b))) {
                count += 1;
                bytes = bytes.saturating_add(block.bytes());
            }
        }
        self.metrics.backlog_blocks.store(count, Ordering::Relaxed);
        self.metrics.backlog_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Those of `blocks` of which the bucket holds all data.
    pub fn shipped(&self, tenant: &TenantId, blocks: &[Block]) -> Result<Vec<BlockId>, StoreError> {
        let state = self.tenants.manifest(tenant)?.current();
        Ok(blocks.iter().filter(|b| is_covered(&state, b)).map(|b| b.meta().ulid).collect())
    }

    /// Ships what of `blocks`, the live blocks of each tenant, is not in the bucket, oldest first.
    /// A block that fails is tried again at the next call; the first error is given when all were
    /// tried. Waits for requests, so it must not be called on a thread of a runtime. `stop` ends it
    /// between two blocks.
    pub fn ship(&self, blocks: &[(TenantId, Vec<Block>)], stop: &dyn Fn() -> bool) -> Result<(), StoreError> {
        let mut result = Ok(());
        let mut backlog = Vec::new();
        for (tenant, blocks) in blocks {
            match self.tenants.manifest(tenant) {
                Ok(manifest) => {
                    let state = manifest.current();
                    let open = blocks.iter().filter(|b| !is_covered(&state, b));
                    backlog.extend(open.map(|block| (tenant, block)));
                }
                Err(error) => result = result.and(Err(error)),
            }
        }
        backlog.sort_by_key(|(_, block)| (block.meta().min_time, block.meta().ulid));
        self.look(blocks);
        for (tenant, block) in backlog {
            if stop() {
                break;
            }
            if let Err(error) = self.ship_block(tenant, block) {
                self.metrics.failures.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%tenant, block = %block.meta().ulid, %error, "block could not be shipped and is tried again");
                result = result.and(Err(error));
                continue;
            }
            self.metrics.shipped_blocks.fetch_add(1, Ordering::Relaxed);
            self.metrics.shipped_bytes.fetch_add(block.bytes(), Ordering::Relaxed);
            self.metrics.backlog_blocks.fetch_sub(1, Ordering::Relaxed);
            self.metrics.backlog_bytes.fetch_sub(block.bytes(), Ordering::Relaxed);
        }
        result
    }

    fn ship_block(&self, tenant: &TenantId, block: &Block) -> Result<(), StoreError> {
        if block.layout() == Layout::Standard {
            return self.upload(tenant, block);
        }
        if block.is_undoable() {
            let text = format!("dense block has a delete that can be undone block={}", block.meta().ulid);
            return Err(StoreError::new(ErrorKind::Unavailable, text));
        }
        // Others read the bucket too. What a crash leaves behind, the next start removes.
        let draft = block.dir().with_file_name(format!("{}.shipping{UNFINISHED}", block.meta().ulid));
        let shipped = self.ship_standard(tenant, block, &draft);
        if let Err(error) = self.disk.remove_dir_all(&draft) {
            tracing::warn!(%tenant, block = %block.meta().ulid, %error, "draft of a block could not be removed");
        }
        shipped
    }

    fn ship_standard(&self, tenant: &TenantId, block: &Block, draft: &Path) -> Result<(), StoreError> {
        self.disk.remove_dir_all(draft).map_err(local(draft))?;
        let budget = MemoryBudget::new("shipping", CONVERSION_MEMORY, None);
        let ctx = QueryContext::new(tenant.clone(), budget, CancelToken::default());
        if to_standard(&self.disk, block, draft, &ctx)?.is_none() {
            return Ok(());
        }
        self.upload(tenant, &Block::open(&*self.disk, draft)?)
    }

    fn upload(&self, tenant: &TenantId, block: &Block) -> Result<(), StoreError> {
        let bucket = self.tenants.bucket().clone();
        let dir = block_files::dir_under(tenant, None, block.meta().ulid);
        let upload = Upload::new(bucket, self.disk.clone(), dir, block.clone());
        let files = self.runtime.wait(async move { upload.run().await })?;
        let entry = block_files::entry_of(block, files);
        let manifest = self.tenants.manifest(tenant)?;
        // What it was made from leaves with the same commit.
        let before = manifest.current();
        let replaced = held_by(&before, &entry);
        let change = Change { added: vec![entry.clone()], removed: replaced.clone(), ..Change::default() };
        commit(&manifest, &change)?;
        let directory = JobDirectory::new(self.tenants.bucket().clone(), self.runtime.clone(), tenant);
        note_replaced(&directory, tenant, &before, &replaced, &entry);
        tracing::info!(%tenant, block = %block.meta().ulid, bytes = block.bytes(), "block shipped");
        Ok(())
    }
}

/// Whether the bucket holds the data of all blocks that a block was made from.
fn is_covered(state: &ManifestState, block: &Block) -> bool {
    let meta = block.meta();
    if state.blocks.contains_key(&meta.ulid) {
        return true;
    }
    let sources = &meta.compaction.sources;
    !sources.is_empty() && sources.iter().all(|&source| state.covers(source))
}

#[cfg(test)]
mod tests;
