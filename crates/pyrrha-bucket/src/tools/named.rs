//! Which blocks must not become live in a tenant's manifest: those that jobs name, and those whose data went
//! for good.

use std::collections::BTreeSet;

use pyrrha_model::{StoreError, TenantId};
use pyrrha_storage::block::BlockId;
use pyrrha_storage::manifest::{BlockEntry, ManifestState};

use super::BucketTools;
use super::adopt::LeftOut;
use crate::jobs::JobDirectory;
use crate::sources::{Went, went};

/// Blocks that the jobs of a tenant name.
#[derive(Debug, Default)]
pub(crate) struct Named {
    /// What jobs under way may make.
    pub(crate) working: BTreeSet<BlockId>,
    /// What ended jobs have left, and what jobs under way replace.
    pub(crate) leaving: BTreeSet<BlockId>,
}

impl BucketTools {
    /// What the jobs of a tenant name. The manifest has to be read afterwards: then what a job has committed,
    /// or replaced, in between is either live or named here.
    pub(crate) fn named_by_jobs(&self, tenant: &TenantId) -> Result<Named, StoreError> {
        let directory = JobDirectory::new(self.tenants.bucket().clone(), self.runtime.clone(), tenant);
        let mut named = Named::default();
        for lease in directory.load()?.values().flat_map(|job| &job.leases) {
            match lease.is_running() {
                true => {
                    named.working.extend(lease.record.all_outputs());
                    named.leaving.extend(&lease.record.replaces);
                }
                false => named.leaving.extend(lease.record.named()),
            }
        }
        Ok(named)
    }
}

impl Named {
    /// Whether a block, which is not live, is a job's: its files go, or it may be committed yet, or was revoked.
    pub(crate) fn has(&self, state: &ManifestState, block: BlockId) -> bool {
        self.working.contains(&block) || self.leaving.contains(&block) || state.revoked.contains(&block)
    }

    /// Why a block from elsewhere, which lies in `dir` there, cannot become live as of a state; `None` if it can.
    pub(super) fn bars(
        &self,
        tenant: &TenantId,
        state: &ManifestState,
        entry: &BlockEntry,
        dir: &str,
    ) -> Option<LeftOut> {
        let detail = "a job there makes it, or has replaced it: it may come when cleanup has removed that";
        self.has(state, entry.ulid).then(|| left_out(tenant, dir, "job", detail))
    }
}

/// Why a copy of a block would bring back data that went for good, as far as it is known; `None` if it would not.
pub(super) fn went_away(
    tenant: &TenantId,
    state: &ManifestState,
    entry: &BlockEntry,
    dir: &str,
) -> Option<LeftOut> {
    let (why, detail) = match went(state, entry) {
        Went::Not => return None,
        Went::Wholly => ("gone", "its data was there, and went for good by retention or deletes"),
        Went::Partly => {
            ("gone-partly", "some of its data was there, and went for good by retention or deletes")
        }
        Went::Forgotten => (
            "forgotten",
            "it is older than what is remembered there of data that went for good: it may be such",
        ),
    };
    Some(left_out(tenant, dir, why, detail))
}

fn left_out(tenant: &TenantId, dir: &str, why: &str, detail: &str) -> LeftOut {
    LeftOut {
        tenant: Some(tenant.to_string()),
        dir: dir.to_owned(),
        why: why.to_owned(),
        detail: detail.to_owned(),
    }
}
