//! Who asks for a job waits for others that hold its blocks: until they are seen to live, or are dead.

use std::collections::BTreeMap;
use std::time::Duration;

use pyrrha_model::contract::CancelToken;
use pyrrha_model::{ErrorKind, StoreError, TenantId};
use pyrrha_storage::block::BlockId;
use pyrrha_storage::manifest::Manifest;

use super::JobSpec;
use super::directory::{Board, BoardJob, JobDirectory};
use super::runner::Compactor;

/// Looks at leases in the time after which their workers are taken for dead.
const LOOKS: u32 = 12;
/// Who waits looks so often whether it is to stop.
const PIECE: Duration = Duration::from_millis(100);

/// A job that holds a block.
fn holds(job: &BoardJob, spec: &JobSpec) -> bool {
    let wanted = |block: BlockId| spec.inputs.contains(&block) || spec.replaces.contains(&block);
    job.running().any(|lease| lease.record.wants_live().any(wanted))
}

impl Compactor {
    /// The jobs of a tenant once none holds a block of `spec`. Leases that say nothing for the timeout are ended;
    /// one that lives is an error, which names it. What failed and waits for its next attempt holds nothing.
    pub(super) fn free(
        &self,
        tenant: &TenantId,
        manifest: &Manifest,
        directory: &JobDirectory,
        spec: &JobSpec,
        cancel: &CancelToken,
    ) -> Result<Board, StoreError> {
        let timeout = self.config().lease_timeout;
        let mut beats: BTreeMap<BlockId, u64> = BTreeMap::new();
        loop {
            cancel.check()?;
            let board = self.board(tenant, directory)?;
            let holders: Vec<&BoardJob> = board.values().filter(|job| holds(job, spec)).collect();
            if holders.is_empty() {
                return Ok(board);
            }
            let first = beats.is_empty();
            for (job, lease) in holders.iter().flat_map(|job| job.running().map(move |lease| (job, lease))) {
                let beat = lease.record.beat;
                if *beats.entry(lease.record.lease).or_insert(beat) != beat {
                    let text = format!(
                        "a job has a block, run it again when that is done: job={} worker={} inputs={}",
                        job.id,
                        lease.record.worker,
                        lease.record.inputs.len()
                    );
                    return Err(StoreError::new(ErrorKind::Unavailable, text));
                }
                if first {
                    tracing::warn!(
                        %tenant, job = job.id, worker = %lease.record.worker, timeout_s = timeout.as_secs(),
                        "a job has a block; it is ended if its worker says nothing for the timeout"
                    );
                }
            }
            let mut ended = false;
            for job in holders {
                let dead = job.dead(timeout);
                ended |= !dead.is_empty() && self.take_over(tenant, manifest, directory, job, &dead)?;
            }
            if !ended {
                self.pause(timeout / LOOKS, cancel);
            }
        }
    }

    fn pause(&self, time: Duration, cancel: &CancelToken) {
        let until = self.clock().monotonic().saturating_add(time);
        while cancel.reason().is_none() {
            let left = until.saturating_sub(self.clock().monotonic());
            if left.is_zero() {
                return;
            }
            self.clock().sleep(left.min(PIECE));
        }
    }
}
