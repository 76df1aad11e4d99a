//! What belongs to one tenant: its head, and which of its ranges are read from blocks.

use std::sync::Arc;

use parking_lot::RwLock;
use pyrrha_model::{StoreError, TenantId};

use super::Shared;
use crate::error::StorageError;
use crate::head::{Head, HeadView};

/// One tenant of the database.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) head: Arc<Head>,
    /// What a query reads, taken at once, so that a cut neither hides nor doubles a sample.
    pub(crate) view: RwLock<TenantView>,
}

/// The sources of a query at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct TenantView {
    /// What of the head is to be read.
    pub(crate) head: HeadView,
}

impl Shared {
    /// The tenant, created if it is new.
    pub(crate) fn tenant(&self, id: &TenantId) -> Result<Arc<Tenant>, StoreError> {
        if let Some(tenant) = self.tenants.get(id) {
            return Ok(tenant);
        }
        let dir = self.head_dir(id);
        self.disk.create_dir_all(&dir).map_err(StorageError::io("create directory", &dir))?;
        Ok(self.tenants.get_or_insert(id, || Tenant {
            head: Arc::new(Head::new(
                id.clone(),
                self.config.clone(),
                self.clock.clone(),
                self.metrics.clone(),
            )),
            view: RwLock::default(),
        }))
    }

    /// Moves sealed chunks from memory to files; `all` includes pages that are not full.
    pub(crate) fn write_head_chunks(&self, tenant: &Tenant, all: bool) -> Result<(), StorageError> {
        let dir = self.head_dir(&tenant.head.tenant);
        tenant.head.write_chunks(&*self.disk, &dir, all).map_err(StorageError::io("write head chunks", &dir))
    }
}
