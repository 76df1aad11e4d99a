//! What jobs make of marks: those of other tools are taken in, and what is marked for deletion goes.

use pyrrha_model::{StoreError, TenantId, Timestamp};
use pyrrha_storage::manifest::{Manifest, ManifestState};

use super::retention::removal_of;
use super::runner::Compactor;
use super::{JobKind, JobSpec};
use crate::marks::{MarkFiles, MarkKind, mark_of, take_in};

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
        let inputs: Vec<_> = spec.inputs.iter().filter_map(|id| state.blocks.get(id).cloned()).collect();
        let files = MarkFiles::new(self.tenants().bucket().clone(), tenant);
        let found = self.runtime().wait(async move { files.found(&inputs).await })?;
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
