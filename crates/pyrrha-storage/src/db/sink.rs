//! The heads as the log's sink.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use pyrrha_model::{StoreError, TenantId};

use super::Shared;
use super::tenant::Tenant;
use crate::head::{CommitLog, Pending};
use crate::wal::{LogBatch, LogPosition, Wal, WalSink};

/// All tenants by id.
#[derive(Debug, Default)]
pub(crate) struct Tenants {
    by_id: RwLock<BTreeMap<TenantId, Arc<Tenant>>>,
    opening: Mutex<()>,
}

impl Tenants {
    pub(crate) fn get(&self, id: &TenantId) -> Option<Arc<Tenant>> {
        self.by_id.read().get(id).cloned()
    }

    /// The tenant, or a new one. Opening it touches the disk, which others do not wait for.
    pub(crate) fn get_or_open<E>(
        &self,
        id: &TenantId,
        open: impl FnOnce() -> Result<Tenant, E>,
    ) -> Result<Arc<Tenant>, E> {
        let _one = self.opening.lock();
        if let Some(tenant) = self.get(id) {
            return Ok(tenant);
        }
        let tenant = Arc::new(open()?);
        self.by_id.write().insert(id.clone(), tenant.clone());
        Ok(tenant)
    }

    /// Does `first` while no tenant is being opened, and gives those that were opened before.
    pub(crate) fn all_after(&self, first: impl FnOnce()) -> Vec<Arc<Tenant>> {
        let _none = self.opening.lock();
        first();
        self.all()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Tenant>> {
        self.by_id.read().values().cloned().collect()
    }
}

/// Applies what the log has made durable.
#[derive(Debug)]
pub(crate) struct HeadSink {
    shared: Arc<Shared>,
    /// Everything that comes is at or behind this place in the log.
    position: Mutex<LogPosition>,
}

impl HeadSink {
    pub(crate) fn new(shared: Arc<Shared>, position: LogPosition) -> Self {
        Self { shared, position: Mutex::new(position) }
    }

    /// Everything that is not applied yet lies here or behind it.
    pub(crate) fn position(&self) -> LogPosition {
        *self.position.lock()
    }
}

impl WalSink for HeadSink {
    fn labels(&self, tenant: &TenantId, series: u32, visit: &mut dyn FnMut(&str, &str)) {
        if let Some(tenant) = self.shared.tenants.get(tenant) {
            tenant.head.visit_labels(series, visit);
        }
    }

    fn apply(&self, batches: Vec<LogBatch>, position: LogPosition) {
        let before = self.position();
        for batch in batches {
            if let Some(tenant) = self.shared.tenants.get(&batch.tenant) {
                tenant.head.apply(&batch, before);
                tenant.head.settled(true);
            }
        }
        *self.position.lock() = position;
    }

    fn abandon(&self, batches: Vec<LogBatch>) {
        for batch in batches {
            if let Some(tenant) = self.shared.tenants.get(&batch.tenant) {
                tenant.head.settled(false);
            }
        }
    }
}

impl CommitLog for Wal {
    fn submit(&self, batch: LogBatch) -> Result<Pending, StoreError> {
        let ticket = Wal::submit(self, batch)?;
        Ok(Box::new(move || Ok(ticket.wait()?)))
    }
}
