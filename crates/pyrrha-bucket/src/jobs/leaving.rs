//! Blocks that leave: jobs have replaced them, or given them up, and their files stay for a delay.

use std::collections::BTreeMap;

use pyrrha_model::{StoreError, TenantId, Timestamp};
use pyrrha_storage::block::BlockId;

use super::directory::JobDirectory;

/// A block that is garbage for good, unless a manifest that is read after this says that it is live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeavingBlock {
    /// Its directory in the bucket.
    pub(crate) dir: String,
    /// Since when, by the store's clock, ms.
    pub(crate) since: Timestamp,
}

/// All blocks that jobs of a tenant which have ended name. Those that have a later life are in the newest
/// manifest, which is to be read afterwards: no lease that has ended commits any more.
pub(crate) fn leaving(
    directory: &JobDirectory,
    tenant: &TenantId,
) -> Result<BTreeMap<BlockId, LeavingBlock>, StoreError> {
    let mut found = BTreeMap::new();
    for ended in directory.load()?.values().flat_map(|job| job.ended()) {
        for block in ended.record.named() {
            let new = || LeavingBlock { dir: ended.record.dir_of(tenant, block), since: ended.modified_ms };
            let known = found.entry(block).or_insert_with(new);
            known.since = known.since.min(ended.modified_ms);
        }
    }
    Ok(found)
}
