//! The simplest correct store: sorted maps in memory. Oracle of the real one, and the store under
//! PromQL scripts.

mod append;
mod delete;
mod select;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use pyrrha_encoding::encode_series;
use pyrrha_env::Clock;
use pyrrha_model::contract::{Appender, ChunkRef, Delete, DeleteId, Ingest, Value};
use pyrrha_model::{Exemplar, Labels, Metadata, SeriesRef, StoreError, TenantId, TimeRange, Timestamp};

/// What a [`ModelDb`] takes.
#[derive(Debug, Clone)]
pub struct ModelRules {
    /// How far a sample that is out of order may lie behind the tenant's newest one, or behind the
    /// wall clock if that is earlier, ms; 0: none is taken.
    pub out_of_order_window_ms: i64,
    /// Judges "too far in the future" (10 min) and "too old"; without a clock nothing is too far
    /// in the future.
    pub clock: Option<Arc<dyn Clock>>,
    /// Whether chunks carry start timestamps.
    pub start_timestamps: bool,
}

impl Default for ModelRules {
    /// No out-of-order window, no clock, with start timestamps.
    fn default() -> Self {
        Self { out_of_order_window_ms: 0, clock: None, start_timestamps: true }
    }
}

/// A store without durability: every rule in its plainest form.
#[derive(Debug, Default)]
pub struct ModelDb {
    rules: ModelRules,
    tenants: Mutex<BTreeMap<TenantId, Tenant>>,
}

#[derive(Debug, Default)]
struct Tenant {
    refs: BTreeMap<Labels, SeriesRef>,
    /// By reference.
    series: Vec<Series>,
    newest: Option<Timestamp>,
    /// What has left the head.
    cut: Vec<TimeRange>,
    metadata: BTreeMap<String, Metadata>,
    deletes: BTreeMap<DeleteId, Delete>,
    last_delete: u128,
}

#[derive(Debug, Default)]
struct Series {
    labels: Labels,
    /// What readers see.
    samples: BTreeMap<Timestamp, (Timestamp, Value)>,
    /// What deletes hide, by the delete that did so first.
    hidden: BTreeMap<DeleteId, BTreeMap<Timestamp, (Timestamp, Value)>>,
    /// What a head still has: no other value of its time is taken.
    in_head: BTreeMap<Timestamp, Value>,
    /// The newest sample that came in order.
    last: Option<(Timestamp, Value)>,
    exemplars: Vec<Exemplar>,
    /// All samples, encoded; `None` since the last change.
    chunks: Option<Vec<ChunkRef>>,
}

impl ModelDb {
    /// An empty store with the default rules.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store.
    pub fn with_rules(rules: ModelRules) -> Self {
        Self { rules, tenants: Mutex::default() }
    }

    /// Samples of the range leave the head. From now on samples for it are out of order, and where
    /// one comes for a time that is taken, the merge decides.
    pub fn cut(&self, tenant: &TenantId, range: TimeRange) {
        let mut tenants = self.tenants.lock();
        let tenant = tenants.entry(tenant.clone()).or_default();
        tenant.cut.push(range);
        tenant.series.iter_mut().for_each(|series| series.in_head.retain(|t, _| !range.contains(*t)));
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.tenants.lock().clear();
    }

    /// Every sample of a tenant: (start timestamp, time, value) by series.
    pub fn dump(&self, tenant: &TenantId) -> BTreeMap<Labels, Vec<(Timestamp, Timestamp, Value)>> {
        let tenants = self.tenants.lock();
        let series = tenants.get(tenant).map(|t| t.series.as_slice()).unwrap_or_default();
        series
            .iter()
            .filter(|s| !s.samples.is_empty())
            .map(|s| {
                let samples = s.samples.iter().map(|(t, (start, v))| (*start, *t, v.clone()));
                (s.labels.clone(), samples.collect())
            })
            .collect()
    }
}

impl Ingest for ModelDb {
    fn appender(&self, tenant: &TenantId) -> Result<Box<dyn Appender + '_>, StoreError> {
        Ok(Box::new(append::Batch::new(self, tenant.clone())))
    }
}

impl Tenant {
    fn resolve(&mut self, labels: &Labels) -> SeriesRef {
        if let Some(&known) = self.refs.get(labels) {
            return known;
        }
        let new = SeriesRef(self.series.len() as u64);
        self.series.push(Series { labels: labels.clone(), ..Series::default() });
        self.refs.insert(labels.clone(), new);
        new
    }
}

impl Series {
    /// The series' chunks. They cover all samples: what a reader learns of counter resets does not
    /// depend on the range it asks for.
    fn chunks(&mut self, start_timestamps: bool) -> &[ChunkRef] {
        let samples = &self.samples;
        self.chunks.get_or_insert_with(|| {
            let samples: Vec<_> =
                samples.iter().map(|(t, (start, value))| (*start, *t, value.clone())).collect();
            encode_series(&samples, start_timestamps)
        })
    }
}
