//! Deletes of a [`ModelDb`]: samples move aside, and back.

use pyrrha_model::contract::{Delete, DeleteId, Deletes};
use pyrrha_model::{ErrorKind, Matcher, StoreError, TenantId, TimeRange};

use super::ModelDb;
use super::select::satisfies_any;

impl Deletes for ModelDb {
    fn delete(
        &self,
        tenant: &TenantId,
        matcher_sets: &[Vec<Matcher>],
        range: TimeRange,
    ) -> Result<Option<DeleteId>, StoreError> {
        let mut tenants = self.tenants.lock();
        let Some(tenant) = tenants.get_mut(tenant) else { return Ok(None) };
        tenant.last_delete += 1;
        let id = DeleteId(tenant.last_delete);
        let at = self.rules.clock.as_ref().map_or(0, |clock| clock.now_ms());
        let delete = Delete { id, matcher_sets: matcher_sets.to_vec(), range, at, is_final: false };
        tenant.deletes.insert(id, delete);
        for series in tenant.series.iter_mut().filter(|s| satisfies_any(&s.labels, matcher_sets)) {
            let (gone, kept) =
                std::mem::take(&mut series.samples).into_iter().partition(|(t, _)| range.contains(*t));
            series.samples = kept;
            series.hidden.insert(id, gone);
            series.chunks = None;
        }
        Ok(Some(id))
    }

    fn undo_delete(&self, tenant: &TenantId, id: DeleteId) -> Result<(), StoreError> {
        let mut tenants = self.tenants.lock();
        let none = || StoreError::new(ErrorKind::NotFound, format!("no such delete stands id={id}"));
        let tenant = tenants.get_mut(tenant).ok_or_else(none)?;
        if tenant.deletes.get(&id).ok_or_else(none)?.is_final {
            return Err(StoreError::new(ErrorKind::Invalid, format!("delete is final id={id}")));
        }
        tenant.deletes.remove(&id);
        for series in &mut tenant.series {
            let back = series.hidden.remove(&id).unwrap_or_default();
            for (t, sample) in back {
                // Another delete that stands may hide it too.
                let again = tenant.deletes.values().find(|d| {
                    d.id > id && d.range.contains(t) && satisfies_any(&series.labels, &d.matcher_sets)
                });
                match again {
                    Some(delete) => {
                        series.hidden.entry(delete.id).or_default().insert(t, sample);
                    }
                    None => {
                        series.samples.entry(t).or_insert(sample);
                    }
                }
            }
            series.chunks = None;
        }
        Ok(())
    }

    fn standing_deletes(&self, tenant: &TenantId) -> Result<Vec<Delete>, StoreError> {
        let tenants = self.tenants.lock();
        Ok(tenants.get(tenant).map(|t| t.deletes.values().cloned().collect()).unwrap_or_default())
    }

    fn purge_deletes(&self, tenant: &TenantId) -> Result<(), StoreError> {
        if let Some(tenant) = self.tenants.lock().get_mut(tenant) {
            tenant.deletes.clear();
            for series in &mut tenant.series {
                // What is purged keeps its time: nothing older may come.
                let gone = std::mem::take(&mut series.hidden);
                let samples = gone.into_values().flatten().collect();
                series.hidden.insert(DeleteId::default(), samples);
            }
        }
        Ok(())
    }
}
