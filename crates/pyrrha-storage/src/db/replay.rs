//! Brings heads back from the log.

use std::collections::BTreeMap;
use std::sync::Arc;

use pyrrha_model::TenantId;

use super::Shared;
use super::tenant::Tenant;
use crate::error::StorageError;
use crate::wal::{LogBatch, LogEntry, LogPosition};

const UNKNOWN: u32 = u32::MAX;

/// Takes log entries in order.
pub(crate) struct Replayer<'a> {
    shared: &'a Shared,
    tenants: BTreeMap<TenantId, Replayed>,
}

/// A tenant being replayed.
struct Replayed {
    tenant: Arc<Tenant>,
    /// References of the log as references of the head.
    refs: Vec<u32>,
}

impl<'a> Replayer<'a> {
    pub(crate) fn new(shared: &'a Shared) -> Self {
        Self { shared, tenants: BTreeMap::new() }
    }

    fn tenant(&mut self, id: &TenantId) -> Result<&mut Replayed, StorageError> {
        if !self.tenants.contains_key(id) {
            let tenant = self.shared.tenant(id)?;
            self.tenants.insert(id.clone(), Replayed { tenant, refs: Vec::new() });
        }
        Ok(self.tenants.get_mut(id).expect("inserted above"))
    }

    /// Takes the next entry.
    pub(crate) fn take(&mut self, entry: LogEntry) -> Result<(), StorageError> {
        match entry {
            LogEntry::Series { tenant, series, labels } => {
                let replayed = self.tenant(&tenant)?;
                let index = series as usize;
                // The log's references are dense; a damaged one must not make the table huge.
                let known = replayed.refs.len();
                if index >= known && index - known > 1 << 24 {
                    return Ok(());
                }
                if index >= known {
                    replayed.refs.resize(index + 1, UNKNOWN);
                }
                replayed.refs[index] = replayed.tenant.head.recover_series(&labels);
            }
            LogEntry::Batch { position, batch } => {
                let replayed = self.tenant(&batch.tenant)?;
                replayed.apply(batch, position);
            }
        }
        Ok(())
    }

    /// Makes the heads ready for writes.
    pub(crate) fn finish(self) {
        for tenant in self.shared.tenants.all() {
            tenant.head.recovered();
        }
    }
}

impl Replayed {
    fn apply(&self, mut batch: LogBatch, position: LogPosition) {
        let head_ref = |series: &mut u32| {
            *series = self.refs.get(*series as usize).copied().unwrap_or(UNKNOWN);
        };
        batch.refs.iter_mut().for_each(head_ref);
        batch.histograms.iter_mut().for_each(|h| head_ref(&mut h.series));
        batch.exemplars.iter_mut().for_each(|(series, _)| head_ref(series));
        self.tenant.head.recover(&mut batch, position);
    }
}
