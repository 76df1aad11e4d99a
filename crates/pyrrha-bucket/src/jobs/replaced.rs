//! Blocks that no job has replaced, but one that somebody brought, and that has all of their data.

use pyrrha_model::TenantId;
use pyrrha_storage::block::BlockId;
use pyrrha_storage::manifest::{BlockEntry, ManifestState};

use super::directory::JobDirectory;
use super::places::roots_of;
use super::record::{JobRecord, JobState};
use super::retention::removal_of;
use crate::block_files::is_adopted;

/// Says of blocks, live as of `before`, that `by` has replaced them: cleanup removes their files after the delay,
/// as it does after a job. What others have made stays where it is. If it cannot be said the blocks are left
/// behind, which is logged: their data is safe.
pub(crate) fn note_replaced(
    directory: &JobDirectory,
    tenant: &TenantId,
    before: &ManifestState,
    replaced: &[BlockId],
    by: &BlockEntry,
) {
    let entries = replaced.iter().filter_map(|block| before.blocks.get(block));
    let Some(spec) = removal_of(entries.filter(|entry| !is_adopted(entry))) else { return };
    // Whoever brings the same block says the same.
    let taken = JobRecord::taken(&spec, by.ulid, by.ulid, Vec::new(), 0, None);
    let roots = roots_of(before, &spec, &[]);
    let record = JobRecord { state: JobState::Done, committed: true, roots, ..taken };
    if let Err(error) = directory.end(&spec.id(), 1, &record) {
        tracing::warn!(%tenant, by = %by.ulid, blocks = spec.replaces.len(), %error, "blocks that were replaced are left in the bucket, remove them as orphans");
    }
}
