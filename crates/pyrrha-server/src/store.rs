//! The database as the server's store: contract, housekeeping, metrics.

mod attached;
mod attached_buckets;
mod attached_metrics;
mod bucket;
mod bucket_metrics;
mod metrics;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use pyrrha_bucket::attach::{AttachedBucket, WithBuckets};
use pyrrha_bucket::{BucketDeletes, TenantOverview};
use pyrrha_env::{Clock, OsDisk};
use pyrrha_model::contract::{
    Appender, Deletes, Exemplars, Ingest, LabelQuery, QueryContext, Queryable, SelectHints, SeriesSet,
};
use pyrrha_model::{ErrorKind, Labels, Matcher, Metadata, StoreError, TenantId, TimeRange};
use pyrrha_storage::attach::{Attached, Spanning};
use pyrrha_storage::block::BlockMeta;
use pyrrha_storage::{Cardinality, Db, RecoveryPhase, StorageConfig};

use crate::app::{App, ReplayProgress, ReplayState, Store};
use crate::config::{Settings, TenantLimits};
use crate::query_pool::waiting_elsewhere;
use crate::server::OpenStore;
use attached_buckets::AttachedBuckets;
use attached_metrics::AttachedCollector;
use bucket::{Compacting, LongTerm, Shipping};
use bucket_metrics::{BucketCollector, CacheCollector};

/// Time between two rounds of housekeeping.
const ROUND: Duration = Duration::from_secs(1);

/// Opens the data directory of the settings.
pub(crate) fn open(settings: &Settings, clock: Arc<dyn Clock>, app: &App) -> Result<OpenStore, String> {
    let mut config = StorageConfig::new(&settings.storage_path);
    settings.storage.apply(&mut config);
    let own =
        settings.limits.iter().filter_map(|(id, limits)| limits.retention.map(|time| (id.clone(), time)));
    config.tenant_retention = own.collect();
    config.wal.strict = settings.wal_strict;
    config.out_of_order_window_ms = settings.out_of_order_window_ms;
    let window = |(tenant, limits): (&TenantId, &TenantLimits)| {
        limits.out_of_order_window_ms.map(|window| (tenant.clone(), window))
    };
    config.tenant_out_of_order_window_ms = settings.limits.iter().filter_map(window).collect();
    config.tenant_dense = settings.limits.iter().filter_map(|(t, l)| Some((t.clone(), l.dense?))).collect();
    config.start_timestamps = app.features.start_timestamps;
    let attached = attached::open(&settings.attach)?;
    let attached_buckets = AttachedBuckets::open(settings, &clock)?;
    let long_term = LongTerm::open(settings, clock.clone())?;
    if long_term.is_some() {
        // With a bucket only the bucket compacts, and nothing leaves before it is there.
        config.compaction = false;
        config.keep_unshipped = true;
    }
    let db = Db::open(config.clone(), Arc::new(OsDisk), clock.clone()).map_err(|e| e.to_string())?;
    let db = Arc::new(db);
    app.telemetry.add_collector(metrics::DbCollector::new(db.clone()));
    let thread = |e: std::io::Error| format!("cannot start a thread: {e}");
    let housekeeper = Housekeeper::start(db.clone(), attached.clone()).map_err(thread)?;
    let mut store = DbStore::spanning(db.clone(), attached);
    let (mut shipping, mut compacting) = (None, None);
    let buckets = attached_buckets.as_ref().map(|attached| attached.buckets.clone()).unwrap_or_default();
    if long_term.is_some() || !buckets.is_empty() {
        app.telemetry.add_collector(CacheCollector::new(long_term.clone(), buckets));
    }
    if let Some(long_term) = long_term {
        app.telemetry.add_collector(BucketCollector::new(long_term.clone()));
        store.read_bucket(&long_term, config);
        compacting = Some(Compacting::start(long_term.clone(), &db, settings).map_err(thread)?);
        shipping = Some(Shipping::start(long_term, db.clone()).map_err(thread)?);
    }
    if let Some(attached) = &attached_buckets {
        app.telemetry.add_collector(AttachedCollector::new(&attached.buckets, clock));
        store.queryable = Arc::new(WithBuckets::new(store.queryable, attached.buckets.clone()));
        store.attached = attached.buckets.clone();
    }
    let close = Box::new(move || {
        housekeeper.stop();
        if let Some(attached) = attached_buckets {
            attached.stop();
        }
        if let Some(compacting) = compacting {
            compacting.stop();
        }
        if let Some(shipping) = shipping {
            shipping.stop();
        }
        db.close().map_err(|e| e.to_string())
    });
    let store = Arc::new(store);
    Ok(OpenStore { store, close })
}

/// Cuts, checkpoints and truncates beside the traffic.
struct Housekeeper {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Housekeeper {
    fn start(db: Arc<Db>, attached: Vec<Arc<Attached>>) -> std::io::Result<Self> {
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new().name("housekeeper".into()).spawn(move || {
            let mut rounds = Duration::ZERO;
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(ROUND) {
                rounds += ROUND;
                if rounds >= attached::LOOK_EVERY {
                    rounds = Duration::ZERO;
                    attached::look(&attached);
                }
                if let Err(error) = db.maintain() {
                    tracing::error!(%error, "housekeeping failed and is tried again");
                }
            }
        })?;
        Ok(Self { stop, thread })
    }

    fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("housekeeping panicked");
        }
    }
}

/// [`Db`] behind the contract.
pub(crate) struct DbStore {
    db: Arc<Db>,
    queryable: Arc<dyn Queryable>,
    /// Buckets of others that reads span.
    attached: Vec<Arc<AttachedBucket>>,
    /// Where blocks are, too, and deletes that reach them there.
    long_term: Option<(Arc<LongTerm>, BucketDeletes)>,
}

impl DbStore {
    pub(crate) fn new(db: Arc<Db>) -> Self {
        Self { queryable: db.queryable(), db, attached: Vec::new(), long_term: None }
    }

    /// Reads span what is attached, too.
    fn spanning(db: Arc<Db>, attached: Vec<Arc<Attached>>) -> Self {
        if attached.is_empty() {
            return Self::new(db);
        }
        let queryable = Arc::new(Spanning::new(db.queryable(), attached));
        Self { queryable, ..Self::new(db) }
    }

    /// Reads span the bucket, too.
    fn read_bucket(&mut self, long_term: &Arc<LongTerm>, config: StorageConfig) {
        let here_for = move |tenant: &TenantId| config.retention_of(tenant);
        self.queryable = long_term.queryable(self.queryable.clone(), &self.db, here_for);
        self.long_term = Some((long_term.clone(), long_term.deletes(&self.db)));
    }
}

impl DbStore {
    /// Before the log is replayed reads wait for it, and need no processor meanwhile.
    fn read<T>(&self, read: impl FnOnce(&dyn Queryable) -> T) -> T {
        if self.db.is_recovered() {
            return read(&*self.queryable);
        }
        waiting_elsewhere(|| read(&*self.queryable))
    }
}

impl Store for DbStore {
    fn cardinality(&self, tenant: &TenantId, limit: usize) -> Cardinality {
        self.db.cardinality(tenant, limit)
    }

    fn snapshot(&self, name: &str, skip_head: bool) -> Result<(), StoreError> {
        self.db.snapshot(name, skip_head).map(|_| ()).map_err(StoreError::from)
    }

    fn blocks(&self, tenant: &TenantId) -> Vec<BlockMeta> {
        self.db.blocks(tenant)
    }

    fn bucket_jobs(&self, tenant: &TenantId) -> Result<TenantOverview, StoreError> {
        let none = || StoreError::new(ErrorKind::NotFound, "this server has no bucket");
        let (long_term, _) = self.long_term.as_ref().ok_or_else(none)?;
        long_term.compactor.overview_of(tenant)
    }

    fn replay(&self) -> ReplayProgress {
        let status = self.db.recovery_status();
        let state = match status.phase {
            RecoveryPhase::Waiting => ReplayState::Waiting,
            RecoveryPhase::Replaying | RecoveryPhase::Failed => ReplayState::InProgress,
            RecoveryPhase::Done => ReplayState::Done,
        };
        ReplayProgress {
            state,
            min: status.first_segment,
            max: status.last_segment,
            current: status.current_segment,
        }
    }

    fn attached_buckets(&self) -> &[Arc<AttachedBucket>] {
        &self.attached
    }

    fn deletes(&self) -> Option<&dyn Deletes> {
        match &self.long_term {
            Some((_, deletes)) => Some(deletes),
            None => Some(&*self.db),
        }
    }
}

impl Ingest for DbStore {
    fn appender(&self, tenant: &TenantId) -> Result<Box<dyn Appender + '_>, StoreError> {
        self.db.appender(tenant)
    }
}

impl Queryable for DbStore {
    fn select(
        &self,
        ctx: &QueryContext,
        matchers: &[Matcher],
        range: TimeRange,
        hints: &SelectHints,
    ) -> Result<Box<dyn SeriesSet>, StoreError> {
        self.read(|db| db.select(ctx, matchers, range, hints))
    }

    fn label_names(&self, ctx: &QueryContext, query: &LabelQuery) -> Result<Vec<String>, StoreError> {
        self.read(|db| db.label_names(ctx, query))
    }

    fn label_values(
        &self,
        ctx: &QueryContext,
        name: &str,
        query: &LabelQuery,
    ) -> Result<Vec<String>, StoreError> {
        self.read(|db| db.label_values(ctx, name, query))
    }

    fn series(&self, ctx: &QueryContext, query: &LabelQuery) -> Result<Vec<Labels>, StoreError> {
        self.read(|db| db.series(ctx, query))
    }

    fn exemplars(&self, ctx: &QueryContext, query: &LabelQuery) -> Result<Vec<Exemplars>, StoreError> {
        self.read(|db| db.exemplars(ctx, query))
    }

    fn metadata(
        &self,
        ctx: &QueryContext,
        metric: Option<&str>,
    ) -> Result<BTreeMap<String, Vec<Metadata>>, StoreError> {
        self.read(|db| db.metadata(ctx, metric))
    }
}
