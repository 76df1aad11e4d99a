//! What jobs make of marks: those of other tools are taken in, and what is marked for deletion goes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pyrrha_model::{StoreError, TenantId, Timestamp};
use pyrrha_storage::block::BlockId;
use pyrrha_storage::manifest::{BlockEntry, Manifest, ManifestState};

use super::retention::removal_of;
use super::runner::Compactor;
use super::{JobKind, JobSpec};
use crate::block_files::is_adopted;
use crate::marks::{MarkFiles, MarkKind, mark_of, take_in};

/// Adopted blocks of a tenant beside which a round looks for marks.
const LOOKED_AT: usize = 16;
/// From one look at all of them to the next.
const LOOK_EVERY: Duration = Duration::from_secs(3600);

/// Which adopted blocks were looked at, by tenant.
#[derive(Debug, Default)]
pub(super) struct MarkLooks(Mutex<BTreeMap<TenantId, Pass>>);

/// A look at all adopted blocks of a tenant, in the order of their ids.
#[derive(Debug, Clone, Copy)]
struct Pass {
    /// Monotonic.
    began: Duration,
    last: Option<BlockId>,
}

impl MarkLooks {
    /// Those of `all`, by id, that are to be looked at now.
    fn next(&self, tenant: &TenantId, all: &[Arc<BlockEntry>], now: Duration) -> Vec<Arc<BlockEntry>> {
        let mut passes = self.0.lock();
        let pass = passes.entry(tenant.clone()).or_insert(Pass { began: now, last: None });
        let after = |last: Option<BlockId>| all.partition_point(|block| Some(block.ulid) <= last);
        if after(pass.last) == all.len() && now.saturating_sub(pass.began) >= LOOK_EVERY {
            *pass = Pass { began: now, last: None };
        }
        let next: Vec<_> = all.iter().skip(after(pass.last)).take(LOOKED_AT).cloned().collect();
        pass.last = next.last().map(|block| block.ulid).or(pass.last);
        next
    }
}

impl Compactor {
    /// Takes marks that others have put beside a job's inputs into the manifest. True if there were some:
    /// then other jobs are to be done.
    pub(super) fn take_in_marks(
        &self,
        tenant: &TenantId,
        manifest: &Manifest,
        state: &ManifestState,
        spec: &JobSpec,
    ) -> Result<bool, StoreError> {
        let inputs = spec.inputs.iter().filter_map(|id| state.blocks.get(id).cloned()).collect();
        self.take_in_marks_of(tenant, manifest, inputs)
    }

    /// Takes marks that others have put beside adopted blocks into the manifest, whether a job has them as inputs
    /// or not: some in each round, and each block once an hour at most.
    pub(super) fn look_for_marks(&self, tenant: &TenantId) -> Result<(), StoreError> {
        if self.config().leaves.contains(&JobKind::Retain) {
            return Ok(());
        }
        let manifest = self.tenants().manifest(tenant)?;
        let state = manifest.current();
        let adopted: Vec<_> = state.blocks.values().filter(|block| is_adopted(block)).cloned().collect();
        let next = self.mark_looks().next(tenant, &adopted, self.clock().monotonic());
        self.take_in_marks_of(tenant, &manifest, next).map(drop)
    }

    fn take_in_marks_of(
        &self,
        tenant: &TenantId,
        manifest: &Manifest,
        blocks: Vec<Arc<BlockEntry>>,
    ) -> Result<bool, StoreError> {
        if blocks.is_empty() {
            return Ok(false);
        }
        let files = MarkFiles::new(self.tenants().bucket().clone(), tenant);
        let found = self.runtime().wait(async move { files.found(&blocks).await })?;
        for (block, kind, mark) in &found {
            tracing::info!(
                %tenant, %block, mark = kind.name(), reason = mark.reason, details = mark.details,
                "block was marked by another tool"
            );
        }
        Ok(!take_in(manifest, &found)?.is_empty())
    }

    /// The removal of a tenant's blocks that have been marked for deletion for the delay.
    pub(super) fn marked_for_deletion(
        &self,
        tenant: &TenantId,
        state: &ManifestState,
    ) -> Result<Option<JobSpec>, StoreError> {
        let mark = |block| mark_of(block, MarkKind::Deletion);
        if self.config().leaves.contains(&JobKind::Retain) {
            return Ok(None);
        }
        if !state.blocks.values().any(|block| mark(block).is_some()) {
            return Ok(None);
        }
        let delay = self.config().delete_delay;
        let now = match delay.is_zero() {
            true => Timestamp::MAX,
            false => match self.agreed_time(tenant)? {
                Some(now) => now,
                None => return Ok(None),
            },
        };
        let wait = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
        let due = |at: Timestamp| at.saturating_add(wait) <= now;
        let due = state.blocks.values().filter(|block| mark(block).is_some_and(|mark| due(mark.at)));
        Ok(removal_of(due))
    }
}
