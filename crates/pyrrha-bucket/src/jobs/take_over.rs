//! Leases of workers that are taken for dead.

use std::sync::atomic::Ordering;

use pyrrha_model::{StoreError, TenantId};
use pyrrha_storage::block::BlockId;
use pyrrha_storage::manifest::{Change, Manifest};

use super::directory::{BoardJob, HeldLease, JobDirectory};
use super::record::{JobRecord, JobState};
use super::runner::Compactor;

impl Compactor {
    /// Ends leases of dead workers: what they made can be committed no more. What the job was about is
    /// planned anew.
    pub(super) fn take_over(
        &self,
        tenant: &TenantId,
        manifest: &Manifest,
        directory: &JobDirectory,
        job: &BoardJob,
        dead: &[&HeldLease],
    ) -> Result<bool, StoreError> {
        let Some(last) = dead.last() else { return Ok(false) };
        let record = JobRecord {
            lease: BlockId::new(self.clock()),
            worker: self.worker(),
            beat: 0,
            taken_over: dead.iter().map(|lease| lease.record.lease).collect(),
            abandoned: dead.iter().flat_map(|lease| lease.record.all_outputs()).collect(),
            roots: dead.iter().flat_map(|lease| lease.record.roots.clone()).collect(),
            outputs: Vec::new(),
            ..last.record.clone()
        };
        let epoch = job.newest.saturating_add(1);
        if !directory.claim(&job.id, epoch, &record)? {
            return Ok(false);
        }
        let mut live = manifest.refresh()?;
        let revoked: Vec<BlockId> = record
            .abandoned
            .iter()
            .filter(|block| !live.blocks.contains_key(block) && !live.revoked.contains(block))
            .copied()
            .collect();
        if !revoked.is_empty() {
            live = manifest.commit_change(&Change { revoked, ..Change::default() })?;
        }
        // From here on their workers cannot commit. One did, maybe, if what it replaces is not live.
        let committed = record.replaces.iter().any(|block| !live.blocks.contains_key(block));
        let mut end = JobRecord { state: JobState::Done, committed, ..record };
        end.name_only(|block| !live.blocks.contains_key(block));
        directory.end(&job.id, epoch, &end)?;
        self.metrics().jobs_taken_over.fetch_add(1, Ordering::Relaxed);
        tracing::info!(%tenant, job = job.id, worker = %last.record.worker, "job of a dead worker ended");
        Ok(true)
    }
}
