//! Removal of what jobs left: inputs that were replaced, outputs that came to nothing. Nothing that
//! no job of ours has named is touched (decision 17).

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pyrrha_model::{StoreError, TenantId};
use pyrrha_storage::block::BlockId;
use pyrrha_storage::manifest::Change;

use super::directory::JobDirectory;
use super::record::JobState;
use super::runner::{BoardJob, Compactor};
use crate::door::Bucket;
use crate::error::BucketError;
use crate::marks::{self, MarkFiles};

const META: &str = "meta.json";

/// Removes the files of a block: `meta.json` first, so that nobody takes the rest for a block, and marks
/// last, so that all know why it is not whole.
pub(crate) async fn remove_block(
    bucket: &Bucket,
    tenant: &TenantId,
    block: BlockId,
) -> Result<u64, BucketError> {
    let dir = format!("{tenant}/{block}");
    let there = bucket.list(&dir).await?;
    let removed = there.len() as u64;
    let meta = format!("{dir}/{META}");
    if there.iter().any(|o| o.key == meta) {
        bucket.delete(&meta).await?;
    }
    let is_mark = |key: &str| key.ends_with(marks::SUFFIX);
    let (last, first): (Vec<_>, Vec<_>) =
        there.iter().filter(|o| o.key != meta).partition(|o| is_mark(&o.key));
    for object in first.iter().chain(&last) {
        bucket.delete(&object.key).await?;
    }
    if !last.is_empty() {
        MarkFiles::new(bucket.clone(), tenant).forget(block).await?;
    }
    Ok(removed)
}

impl Compactor {
    /// Removes what ended jobs of a tenant left, once it has been so for the delay.
    pub(super) fn clean_up(&self, tenant: &TenantId) -> Result<(), StoreError> {
        let directory = self.directory(tenant);
        let ended: Vec<BoardJob> = self
            .board(tenant, &directory)?
            .into_values()
            .filter(|job| job.record.state != JobState::Running)
            .collect();
        if ended.is_empty() {
            return Ok(());
        }
        let delay = self.config().delete_delay;
        let now = if delay.is_zero() { i64::MAX } else { directory.store_now_ms()? };
        let wait = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
        let mut result = Ok(());
        for job in ended.iter().filter(|job| job.files.modified_ms.saturating_add(wait) <= now) {
            if let Err(error) = self.clean_up_job(tenant, &directory, job) {
                tracing::warn!(%tenant, job = job.id, %error, "what a job left could not be removed, it is tried again");
                result = result.and(Err(error));
            }
        }
        result
    }

    /// None of the job's epochs commits any more: this one ended, and those before were revoked. So
    /// what it names and the newest manifest does not list is garbage for good.
    fn clean_up_job(
        &self,
        tenant: &TenantId,
        directory: &JobDirectory,
        job: &BoardJob,
    ) -> Result<(), StoreError> {
        let manifest = self.tenants().manifest(tenant)?;
        let live = manifest.refresh()?;
        let named: BTreeSet<BlockId> = job.record.named().collect();
        for block in named.into_iter().filter(|block| !live.blocks.contains_key(block)) {
            let (bucket, owner) = (self.tenants().bucket().clone(), tenant.clone());
            let removed = self.runtime().wait(async move { remove_block(&bucket, &owner, block).await })?;
            if removed > 0 {
                self.metrics().blocks_removed.fetch_add(1, Ordering::Relaxed);
                tracing::info!(%tenant, %block, job = job.id, "block removed from the bucket");
            }
        }
        let outputs = job.record.all_outputs();
        let revoked: Vec<BlockId> = outputs.into_iter().filter(|b| live.revoked.contains(b)).collect();
        if !revoked.is_empty() {
            // A worker that sleeps could still commit what was revoked, were that forgotten while all
            // that it wants live is.
            if job.record.wants_live().all(|block| live.blocks.contains_key(&block)) {
                return Ok(());
            }
            manifest.commit_change(&Change { revocations_done: revoked, ..Change::default() })?;
        }
        directory.remove(&job.id, &job.files)
    }

    /// Removes what this worker uploaded for a job that came to nothing.
    pub(super) fn discard(&self, tenant: &TenantId, outputs: &[BlockId]) {
        let (bucket, owner, outputs) = (self.tenants().bucket().clone(), tenant.clone(), outputs.to_vec());
        let removed = self.runtime().wait(async move {
            for block in outputs {
                remove_block(&bucket, &owner, block).await?;
            }
            Ok(())
        });
        if let Err(error) = removed {
            tracing::debug!(%tenant, %error, "uploads of a job could not be removed, cleanup does it");
        }
    }
}

/// How long a job that failed waits for its next attempt.
pub(super) fn backoff(failures: u32) -> Duration {
    Duration::from_secs(60).saturating_mul(1 << failures.saturating_sub(1).min(6))
}
