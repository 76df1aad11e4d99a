//! Blocks of which a bucket holds all data: which they are, and when they leave this disk.

use pyrrha_model::{TenantId, Timestamp};

use super::tenant::Tenant;
use super::{Db, Shared};
use crate::block::BlockId;
use crate::error::StorageError;

impl Db {
    /// Says which live blocks of a tenant a bucket holds too. It replaces what was said before.
    pub fn set_shipped(&self, tenant: &TenantId, shipped: impl IntoIterator<Item = BlockId>) {
        if let Some(tenant) = self.shared.tenants.get(tenant) {
            *tenant.shipped.lock() = shipped.into_iter().collect();
        }
    }

    /// Removes the shipped blocks of a tenant that end at or before `horizon`.
    pub fn remove_shipped(&self, tenant: &TenantId, horizon: Timestamp) -> Result<(), StorageError> {
        let Some(tenant) = self.shared.tenants.get(tenant) else { return Ok(()) };
        let shipped = tenant.shipped.lock().clone();
        self.shared.remove_blocks(&tenant, "in the bucket", |block| {
            block.max_time <= horizon && shipped.contains(&block.ulid)
        })
    }
}

impl Shared {
    /// Whether a block may be removed: where blocks go to a bucket, only if it is there.
    pub(crate) fn may_leave(&self, tenant: &Tenant, block: BlockId) -> bool {
        !self.config.keep_unshipped || tenant.shipped.lock().contains(&block)
    }
}
