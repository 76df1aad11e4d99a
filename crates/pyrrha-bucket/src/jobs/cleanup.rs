//! Removal of what jobs left: inputs that were replaced, outputs that came to nothing. Nothing that
//! no job of ours has named is touched (decision 17).

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pyrrha_model::{StoreError, TenantId};
use pyrrha_storage::block::BlockId;
use pyrrha_storage::manifest::Change;

use super::directory::{Board, BoardJob, HeldLease, JobDirectory};
use super::record::JobRecord;
use super::runner::Compactor;
use crate::block_files::META;
use crate::door::Bucket;
use crate::error::BucketError;
use crate::marks::{self, MarkFiles};

/// Failures are remembered for longer than the longest wait before the next attempt, however soon files go.
const FAILURE_KNOWN: Duration = Duration::from_secs(3 * 3600);

/// Removes the files of a block in its directory: `meta.json` first, so that nobody takes the rest for a
/// block, and marks last, so that all know why it is not whole.
pub(crate) async fn remove_block(
    bucket: &Bucket,
    tenant: &TenantId,
    block: BlockId,
    dir: &str,
) -> Result<u64, BucketError> {
    let there = bucket.list(dir).await?;
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
    /// Removes what ended leases of a tenant left, once they have been over for the delay.
    pub(super) fn clean_up(&self, tenant: &TenantId, board: &Board) -> Result<(), StoreError> {
        let directory = self.directory(tenant);
        if board.values().all(|job| job.ended().next().is_none()) {
            return Ok(());
        }
        let live = self.tenants().manifest(tenant)?.current();
        // The last failure of a job that may come again says how often it was tried, and when it is the next time.
        let counts = |job: &BoardJob, ended: &HeldLease| {
            let of_last = |failed: &HeldLease| {
                failed.end == ended.end && failed.record.wants_live().all(|b| live.blocks.contains_key(&b))
            };
            job.failed().is_some_and(of_last)
        };
        let delay = self.config().delete_delay;
        let asks = !delay.is_zero() || board.values().any(|job| job.ended().any(|ended| counts(job, ended)));
        let now = if asks { self.store_now_ms(&directory)? } else { i64::MAX };
        let is_due = |job: &BoardJob, ended: &HeldLease| {
            let wait = if counts(job, ended) { delay.max(FAILURE_KNOWN) } else { delay };
            let wait = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
            wait == 0 || ended.modified_ms.saturating_add(wait) <= now
        };
        let mut result = Ok(());
        for job in board.values() {
            for ended in job.ended().filter(|ended| is_due(job, ended)) {
                if let Err(error) = self.clean_up_lease(tenant, &directory, job, ended) {
                    tracing::warn!(%tenant, job = job.id, %error, "what a job left could not be removed, it is tried again");
                    result = result.and(Err(error));
                }
            }
        }
        result
    }

    /// Neither the lease that ended nor those that it took over commit any more: it said so itself, and
    /// they were revoked. So what it names and the newest manifest does not list is garbage for good.
    /// Only then its own files go, and those of the leases that it took over, as they were listed.
    ///
    /// The listing may be hours old. That the end is gone says that another worker has cleaned up: what it named
    /// may be somebody's since, who brings it back.
    fn clean_up_lease(
        &self,
        tenant: &TenantId,
        directory: &JobDirectory,
        job: &BoardJob,
        ended: &HeldLease,
    ) -> Result<(), StoreError> {
        let Some(end) = &ended.end else { return Ok(()) };
        if !directory.has(end)? {
            return Ok(());
        }
        let manifest = self.tenants().manifest(tenant)?;
        let live = manifest.refresh()?;
        let record = &ended.record;
        let named: BTreeSet<BlockId> = record.named().collect();
        for block in named.into_iter().filter(|block| !live.blocks.contains_key(block)) {
            let (bucket, owner) = (self.tenants().bucket().clone(), tenant.clone());
            let dir = record.dir_of(tenant, block);
            let removed =
                self.runtime().wait(async move { remove_block(&bucket, &owner, block, &dir).await })?;
            if removed > 0 {
                self.metrics().blocks_removed.fetch_add(1, Ordering::Relaxed);
                tracing::info!(%tenant, %block, job = job.id, "block removed from the bucket");
            }
        }
        // A worker that sleeps could still commit what was revoked, were that forgotten while all that
        // it wants live is. What the lease itself might have made it has given up.
        let awaited = record.abandoned.iter().any(|block| live.revoked.contains(block))
            && record.wants_live().all(|block| live.blocks.contains_key(&block));
        let forgotten: &[BlockId] = if awaited { &[] } else { &record.abandoned };
        let done = record.outputs.iter().chain(forgotten).filter(|b| live.revoked.contains(b));
        let revocations_done: Vec<BlockId> = done.copied().collect();
        if !revocations_done.is_empty() {
            manifest.commit_change(&Change { revocations_done, ..Change::default() })?;
        }
        if awaited {
            return Ok(());
        }
        let mine = |lease: &&HeldLease| {
            lease.record.lease == record.lease || record.taken_over.contains(&lease.record.lease)
        };
        let under_way = job.leases.iter().filter(mine).flat_map(|lease| lease.under_way.iter().cloned());
        // Its end last: as long as it is there, the rest is known to be over.
        directory.remove(under_way.chain([end.clone()]).collect())
    }

    /// Removes what this worker uploaded for a job that came to nothing.
    pub(super) fn discard(&self, tenant: &TenantId, record: &JobRecord) {
        let (bucket, owner) = (self.tenants().bucket().clone(), tenant.clone());
        let dirs: Vec<(BlockId, String)> =
            record.outputs.iter().map(|block| (*block, record.dir_of(tenant, *block))).collect();
        let removed = self.runtime().wait(async move {
            for (block, dir) in dirs {
                remove_block(&bucket, &owner, block, &dir).await?;
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
