//! Adopts what others upload, again and again, for a server that is the only one to merge and remove in a bucket
//! of theirs (decision 17).
//!
//! A round is a listing of the bucket, or of each tenant's part of it, and a look at the jobs of each tenant; what
//! small objects say is remembered between rounds. It commits only if there is something new.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use pyrrha_model::contract::CancelToken;
use pyrrha_model::{StoreError, TenantId, Timestamp};
use pyrrha_storage::block::BlockId;

use super::{Adoption, BucketTools};
use crate::attach::{AttachConfig, Candidate, Metas};
use crate::block_files;

/// What may be another server's own is left to its shipper so long, ms: that may hang, or its server be down.
const LEFT_TO_SHIPPERS: i64 = 24 * 3_600_000;

/// What an adopter did, and what it found last.
#[derive(Debug, Default)]
pub struct AdopterMetrics {
    /// Blocks that were adopted.
    pub blocks: AtomicU64,
    /// Rounds that failed.
    pub failures: AtomicU64,
    /// Adopted blocks that somebody has removed, as of the last round.
    pub missing: AtomicU64,
    left_out: Mutex<BTreeMap<String, u64>>,
}

impl AdopterMetrics {
    /// How many blocks the last round left out, by the word of why.
    pub fn left_out(&self) -> BTreeMap<String, u64> {
        self.left_out.lock().clone()
    }
}

/// Adopts the blocks of one bucket.
#[derive(Debug)]
pub struct Adopter {
    tools: BucketTools,
    config: AttachConfig,
    /// Metas and marks that were read before.
    known: Arc<Mutex<Metas>>,
    /// What was complained of.
    told: Mutex<HashSet<String>>,
    metrics: AdopterMetrics,
}

impl Adopter {
    /// An adopter that reads the bucket of `tools` by the rules of `config`.
    pub fn new(tools: BucketTools, config: AttachConfig) -> Self {
        Self {
            tools,
            config,
            known: Arc::default(),
            told: Mutex::default(),
            metrics: AdopterMetrics::default(),
        }
    }

    /// What it did.
    pub fn metrics(&self) -> &AdopterMetrics {
        &self.metrics
    }

    /// Lists what is new in the manifests of its tenants. Blocks that are `ours` are not taken for somebody else's:
    /// who uploads them commits them, too. Waits for requests, so it must not be called on a thread of a runtime.
    pub fn round(
        &self,
        ours: &dyn Fn(&TenantId) -> BTreeSet<BlockId>,
        cancel: &CancelToken,
    ) -> Result<Adoption, StoreError> {
        let done = self.try_round(ours, cancel);
        match &done {
            Ok(done) => self.tell(done),
            Err(_) => {
                self.metrics.failures.fetch_add(1, Ordering::Relaxed);
            }
        }
        done
    }

    fn try_round(
        &self,
        ours: &dyn Fn(&TenantId) -> BTreeSet<BlockId>,
        cancel: &CancelToken,
    ) -> Result<Adoption, StoreError> {
        let mut found = self.tools.theirs_knowing(&self.config, self.known.clone(), cancel)?;
        let now = self.tools.clock.now_ms();
        for (tenant, blocks) in &mut found.tenants {
            let ours = ours(tenant);
            blocks.retain(|block| !ours.contains(&block.entry.ulid) && !may_be_shipped(tenant, block, now));
        }
        cancel.check()?;
        self.tools.adopt_found(found, &self.config, &[], false)
    }

    /// Counts, and warns of what was not warned of before.
    fn tell(&self, done: &Adoption) {
        let blocks: usize = done.tenants.iter().map(|tenant| tenant.blocks.len()).sum();
        let missing: usize = done.tenants.iter().map(|tenant| tenant.missing.len()).sum();
        self.metrics.blocks.fetch_add(blocks as u64, Ordering::Relaxed);
        self.metrics.missing.store(missing as u64, Ordering::Relaxed);
        let mut left_out = BTreeMap::new();
        for left in &done.left_out {
            *left_out.entry(left.why.clone()).or_default() += 1;
        }
        *self.metrics.left_out.lock() = left_out;
        let mut told = HashSet::new();
        let before = &mut *self.told.lock();
        for left in done.left_out.iter().filter(|left| left.is_lost()) {
            let text = format!("{}: {}", left.dir, left.detail);
            if !before.contains(&text) {
                tracing::warn!(dir = %left.dir, why = %left.why, detail = %left.detail, "block is not adopted");
            }
            told.insert(text);
        }
        for tenant in &done.tenants {
            for block in tenant.missing.iter() {
                let text = format!("{}/{block}", tenant.tenant);
                if !before.contains(&text) {
                    tracing::warn!(tenant = %tenant.tenant, %block, "somebody has removed an adopted block");
                }
                told.insert(text);
            }
        }
        *before = told;
    }
}

/// Whether a block may be another server's, which commits it in a moment, and knows more of it than a listing says:
/// it lies where servers ship to, nobody has said a word of Thanos or Mimir about it, and it was made lately.
fn may_be_shipped(tenant: &TenantId, block: &Candidate, now: Timestamp) -> bool {
    let made = i64::try_from(block.entry.ulid.timestamp_ms()).unwrap_or(i64::MAX);
    block.dir == block_files::dir_under(tenant, None, block.entry.ulid)
        && block.meta.as_ref().is_some_and(|meta| meta.thanos.is_none())
        && now.saturating_sub(made) < LEFT_TO_SHIPPERS
}

#[cfg(test)]
mod tests;
