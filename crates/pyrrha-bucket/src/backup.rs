//! Backups: what was live in a bucket as of one manifest number, in another bucket.
//!
//! ```text
//! <tenant>/<ULID>/…               blocks, shared by all backups that have them
//! <tenant>/backups/<ULID>.json    a backup: the entries of its blocks, and the deletes that stood
//! ```
//!
//! Blocks come first and the backup's own file last, so a backup is whole or does not exist. What is there
//! is not copied again: a backup that was interrupted goes on, and the next one copies what is new. There is
//! no `manifest/`, so nobody takes a bucket of backups for one that lives. See `docs/format/backup.md`.

mod create;
mod record;
mod restore;
mod verify;

use pyrrha_model::{ErrorKind, StoreError, TenantId};
use pyrrha_storage::block::BlockId;

pub use create::{BackedUp, BackupOptions};
pub use record::BackupInfo;
pub use restore::{DamagedBlock, RestoreOptions, Restored};
pub use verify::{BackupIssue, BackupReport};

use crate::tools::BucketTools;
use record::BackupRecord;

/// Directory of a tenant's backups, below its own.
const BACKUPS: &str = "backups";

/// A backup, or which one does not read, and why.
type Read = Result<BackupRecord, (BlockId, String)>;

/// The backups in a bucket. They wait for requests, so they must not be used on a thread of a runtime.
#[derive(Debug, Clone)]
pub struct Backups {
    tools: BucketTools,
}

/// Which backup of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BackupChoice {
    /// The newest.
    #[default]
    Newest,
    /// That of an id.
    Id(BlockId),
}

impl Backups {
    /// Those in the bucket of `tools`.
    pub fn new(tools: BucketTools) -> Self {
        Self { tools }
    }

    /// Tenants that may have backups: those that are `wanted`, which must have a directory, or if none is, all
    /// that have one.
    pub fn tenant_ids(&self, wanted: &[TenantId]) -> Result<Vec<TenantId>, StoreError> {
        self.tools.tenant_ids(wanted)
    }

    /// The backups of a tenant, the oldest first. Those that do not read are left out; verification names
    /// them.
    pub fn list(&self, tenant: &TenantId) -> Result<Vec<BackupInfo>, StoreError> {
        Ok(self.records(tenant)?.into_iter().filter_map(Result::ok).map(|r| r.info()).collect())
    }

    fn key(tenant: &TenantId, id: BlockId) -> String {
        format!("{tenant}/{BACKUPS}/{id}.json")
    }

    /// All backups of a tenant, the oldest first; the inner error names one that does not read, and says
    /// why.
    fn records(&self, tenant: &TenantId) -> Result<Vec<Read>, StoreError> {
        self.ids(tenant)?.into_iter().map(|id| self.record(tenant, id)).collect()
    }

    /// The ids of a tenant's backups, the oldest first.
    fn ids(&self, tenant: &TenantId) -> Result<Vec<BlockId>, StoreError> {
        let (bucket, dir) = (self.tools.tenants.bucket().clone(), format!("{tenant}/{BACKUPS}"));
        let listed = self.tools.runtime.wait(async move { bucket.list(&dir).await })?;
        let name = |key: &str| key.rsplit('/').next()?.strip_suffix(".json")?.parse::<BlockId>().ok();
        let mut ids: Vec<BlockId> = listed.iter().filter_map(|object| name(&object.key)).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// One backup; the inner error says why it does not read.
    fn record(&self, tenant: &TenantId, id: BlockId) -> Result<Read, StoreError> {
        let (bucket, key) = (self.tools.tenants.bucket().clone(), Self::key(tenant, id));
        let bytes = self.tools.runtime.wait(async move { bucket.get(&key, record::MAX).await })?;
        let Some(bytes) = bytes else {
            let text = format!("there is no such backup: tenant={tenant} backup={id}");
            return Err(StoreError::new(ErrorKind::NotFound, text));
        };
        Ok(BackupRecord::decode(id, &bytes).map_err(|why| (id, why)))
    }

    /// The backup that is chosen; it must read.
    fn chosen(&self, tenant: &TenantId, choice: BackupChoice) -> Result<BackupRecord, StoreError> {
        let id = match choice {
            BackupChoice::Id(id) => id,
            BackupChoice::Newest => self.ids(tenant)?.pop().ok_or_else(|| {
                StoreError::new(ErrorKind::NotFound, format!("there is no backup: tenant={tenant}"))
            })?,
        };
        self.record(tenant, id)?.map_err(|(id, why)| {
            StoreError::new(ErrorKind::Corrupt, format!("backup does not read: {why} backup={id}"))
        })
    }
}

#[cfg(test)]
mod tests;
