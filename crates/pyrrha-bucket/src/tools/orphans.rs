//! Removal, by hand, of what neither manifest nor jobs name.

use std::time::Duration;

use pyrrha_model::{ErrorKind, StoreError, TenantId};
use pyrrha_storage::block::BlockId;

use super::{BucketTools, ObjectClass};
use crate::block_files::{dir_under, is_adopted};
use crate::jobs::{JobDirectory, remove_block};

/// Objects of a block that nobody names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// The block.
    pub block: BlockId,
    /// Objects in its directory.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When the last of them was written, by the store's clock, ms.
    pub modified_ms: i64,
}

impl BucketTools {
    /// Removes blocks that neither the manifest nor a job names and of which nothing was written for
    /// `older_than`, by the store's clock; gives them, oldest first. With `dry_run` they stay. Workers
    /// never do that (decision 17): it may be an upload that goes on, or somebody else's block, so
    /// whoever asks for it must know that there is none as old.
    pub fn remove_orphans(
        &self,
        tenant: &TenantId,
        older_than: Duration,
        dry_run: bool,
    ) -> Result<Vec<Orphan>, StoreError> {
        let survey = self.survey(tenant)?;
        // Others upload there: what is not listed yet is theirs.
        if survey.state.blocks.values().any(|entry| is_adopted(entry)) {
            let text =
                format!("tenant has adopted blocks, and what is not listed may be others': tenant={tenant}");
            return Err(StoreError::new(ErrorKind::Invalid, text));
        }
        let directory = JobDirectory::new(self.tenants.bucket().clone(), self.runtime.clone(), tenant);
        let age = i64::try_from(older_than.as_millis()).unwrap_or(i64::MAX);
        let before = if age == 0 { i64::MAX } else { directory.store_now_ms()?.saturating_sub(age) };
        let mut found = Vec::new();
        for block in survey.blocks_of(ObjectClass::Orphaned) {
            let objects = survey.files_of(block);
            let orphan = Orphan {
                block,
                objects: objects.len() as u64,
                bytes: objects.values().map(|o| o.bytes).fold(0, u64::saturating_add),
                modified_ms: objects.values().map(|o| o.modified_ms).max().unwrap_or(i64::MAX),
            };
            if orphan.modified_ms <= before {
                found.push(orphan);
            }
        }
        found.sort_by_key(|orphan| (orphan.modified_ms, orphan.block));
        if dry_run || found.is_empty() {
            return Ok(found);
        }
        // It may have been committed since the survey.
        let live = self.state(tenant)?;
        found.retain(|orphan| !live.blocks.contains_key(&orphan.block));
        for orphan in &found {
            let (bucket, owner, block) = (self.tenants.bucket().clone(), tenant.clone(), orphan.block);
            let dir = dir_under(tenant, None, block);
            self.runtime.wait(async move { remove_block(&bucket, &owner, block, &dir).await })?;
        }
        Ok(found)
    }
}
