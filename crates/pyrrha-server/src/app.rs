//! What the handlers share: settings, store, engine, pools, metrics.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pyrrha_bucket::TenantOverview;
use pyrrha_bucket::attach::AttachedBucket;
use pyrrha_env::Clock;
use pyrrha_ingest::IngestLimits;
use pyrrha_ingest::remote_write::RemoteWriter;
use pyrrha_model::contract::{Deletes, Ingest, Queryable};
use pyrrha_model::{ErrorKind, StoreError, TenantId, Timestamp};
use pyrrha_promql::{Engine, EngineOptions, Features};
use pyrrha_storage::Cardinality;
use pyrrha_storage::block::BlockMeta;
use tokio::sync::{Notify, Semaphore};

use crate::active::ActiveQueries;
use crate::budgets::Budgets;
use crate::config::Settings;
use crate::features::FeatureSet;
use crate::http::cors::CorsPolicy;
use crate::query_log::QueryLog;
use crate::query_pool::QueryPool;
use crate::telemetry::Telemetry;

/// Queries that may wait for each one that may run.
const WAITING_PER_RUNNING: usize = 50;
/// Write requests that are decoded or wait for the log at once.
const WRITES_AT_ONCE: usize = 64;
/// Bytes of write requests that are held at once, in units of 1 KiB.
pub(crate) const WRITE_KIB_MAX: usize = 256 << 10;

/// Time for a body to arrive.
const BODY_TIME_MAX: Duration = Duration::from_secs(60);
/// Bytes of forms that are held at once, in units of 1 KiB.
const FORM_KIB_MAX: usize = 64 << 10;

/// What replay is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReplayState {
    /// It has not begun.
    #[default]
    Waiting,
    /// It goes on.
    InProgress,
    /// Everything acknowledged before the start can be read.
    Done,
}

impl ReplayState {
    /// The word that clients of Prometheus know.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::InProgress => "in progress",
            Self::Done => "done",
        }
    }
}

/// How far a store has come after its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReplayProgress {
    /// What replay is doing.
    pub state: ReplayState,
    /// First segment to replay.
    pub min: u64,
    /// Last segment to replay.
    pub max: u64,
    /// Segment that is being replayed.
    pub current: u64,
}

/// The store behind the API.
pub trait Store: Ingest + Queryable {
    /// Whether everything that was acknowledged before the start can be read.
    fn is_recovered(&self) -> bool {
        self.replay().state == ReplayState::Done
    }

    /// What the series of a tenant that are in no block yet are made of; of each list the `limit` greatest.
    fn cardinality(&self, tenant: &TenantId, limit: usize) -> Cardinality;

    /// What the blocks of a tenant say of themselves, by time.
    fn blocks(&self, tenant: &TenantId) -> Vec<BlockMeta> {
        let _ = tenant;
        Vec::new()
    }

    /// Makes a snapshot of all tenants in the directory of snapshots.
    fn snapshot(&self, name: &str, skip_head: bool) -> Result<(), StoreError> {
        let _ = (name, skip_head);
        Err(StoreError::new(ErrorKind::Unavailable, "this store makes no snapshots"))
    }

    /// Work on the tenant's blocks in the bucket: planned, under way, waiting.
    fn bucket_jobs(&self, tenant: &TenantId) -> Result<TenantOverview, StoreError> {
        let _ = tenant;
        Err(StoreError::new(ErrorKind::NotFound, "this store has no bucket"))
    }

    /// Buckets of others that its reads span.
    fn attached_buckets(&self) -> &[Arc<AttachedBucket>] {
        &[]
    }

    /// Its deletes, if it has any.
    fn deletes(&self) -> Option<&dyn Deletes> {
        None
    }

    /// Progress of replay. A store without a log is recovered from the start.
    fn replay(&self) -> ReplayProgress {
        ReplayProgress { state: ReplayState::Done, ..ReplayProgress::default() }
    }
}

/// Why the server could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The setting for origins is no regular expression.
    #[error("bad setting: web.cors-origin={value:?}: {message}")]
    CorsOrigin {
        /// The setting.
        value: String,
        /// What is wrong.
        message: String,
    },
    /// The file for queries cannot be written.
    #[error("cannot open the query log: {0}")]
    QueryLog(std::io::Error),
}

impl AppError {
    /// What the caller should do next.
    pub fn kind(&self) -> pyrrha_model::ErrorKind {
        match self {
            Self::CorsOrigin { .. } => pyrrha_model::ErrorKind::Invalid,
            Self::QueryLog(_) => pyrrha_model::ErrorKind::Unavailable,
        }
    }
}

/// What a tenant's queries may do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueryLimits {
    /// Parts of PromQL that are switched on.
    pub(crate) features: Features,
    /// Samples that a query may hold.
    pub(crate) max_samples: usize,
    /// Deadline of a query.
    pub(crate) timeout: Duration,
    /// Memory of one query, bytes.
    pub(crate) memory_budget: usize,
}

/// What the handlers share.
pub struct App {
    pub(crate) settings: Settings,
    pub(crate) features: FeatureSet,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) engine: Engine,
    pub(crate) queries: QueryPool,
    pub(crate) active: Arc<ActiveQueries>,
    pub(crate) query_log: QueryLog,
    pub(crate) budgets: Budgets,
    pub(crate) writer: RemoteWriter,
    pub(crate) write_slots: Semaphore,
    pub(crate) write_kib: Semaphore,
    pub(crate) form_kib: Arc<Semaphore>,
    /// Time for a body to arrive: a sender that stalls holds memory that others wait for.
    pub(crate) body_time: Duration,
    pub(crate) telemetry: Telemetry,
    pub(crate) cors: Arc<CorsPolicy>,
    pub(crate) started_ms: Timestamp,
    store: OnceLock<Arc<dyn Store>>,
    stopping: std::sync::atomic::AtomicBool,
    pub(crate) stop: Notify,
}

impl App {
    /// Puts everything together but the store, which comes when it is open.
    pub fn new(settings: Settings, clock: Arc<dyn Clock>) -> Result<Self, AppError> {
        let (features, unknown) = FeatureSet::from_names(settings.features.iter().map(String::as_str));
        for name in unknown {
            tracing::warn!(name, "unknown feature");
        }
        for (tenant, limits) in &settings.limits {
            for name in &limits.unknown_features {
                tracing::warn!(name, %tenant, "unknown feature");
            }
        }
        let cors = CorsPolicy::new(&settings.cors_origin)
            .map_err(|message| AppError::CorsOrigin { value: settings.cors_origin.clone(), message })?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let running = settings.query_max_concurrency;
        let waiting = settings.query_max_concurrency.saturating_mul(WAITING_PER_RUNNING);
        let limits = IngestLimits { request_bytes_max: settings.max_body_bytes, ..IngestLimits::default() };
        Ok(Self {
            engine: Engine::new(EngineOptions {
                lookback_delta_ms: settings.query_lookback_ms,
                max_samples: settings.query_max_samples,
                threads: cores,
                features: features.promql,
                ..EngineOptions::default()
            }),
            queries: QueryPool::new(running, waiting, clock.clone()),
            active: Arc::default(),
            query_log: QueryLog::open(
                settings.query_log_slower_than,
                settings.query_log_file.as_deref(),
                clock.clone(),
            )
            .map_err(AppError::QueryLog)?,
            budgets: Budgets::new(
                settings.query_process_memory_budget,
                settings.query_tenant_memory_budget,
                settings.limits.iter().filter_map(|(t, l)| Some((t.clone(), l.memory_budget?))).collect(),
            ),
            writer: RemoteWriter::new(limits),
            write_slots: Semaphore::new(WRITES_AT_ONCE),
            write_kib: Semaphore::new(WRITE_KIB_MAX),
            form_kib: Arc::new(Semaphore::new(FORM_KIB_MAX)),
            body_time: BODY_TIME_MAX,
            telemetry: Telemetry::new(),
            cors: Arc::new(cors),
            started_ms: clock.now_ms(),
            store: OnceLock::new(),
            stopping: false.into(),
            stop: Notify::new(),
            features,
            clock,
            settings,
        })
    }

    /// Gives the handlers their store; of several calls the first counts.
    pub fn set_store(&self, store: Arc<dyn Store>) {
        if self.store.set(store).is_err() {
            tracing::debug!("the store was set before");
        }
    }

    /// The store, once it takes writes and until the server stops.
    pub(crate) fn store(&self) -> Option<Arc<dyn Store>> {
        if self.is_stopping() { None } else { self.store.get().cloned() }
    }

    /// What a tenant's queries may do.
    pub(crate) fn limits(&self, tenant: &TenantId) -> QueryLimits {
        let (settings, own) = (&self.settings, self.settings.limits.get(tenant));
        QueryLimits {
            features: own.and_then(|l| l.features).unwrap_or(self.features.promql),
            max_samples: own.and_then(|l| l.query_max_samples).unwrap_or(settings.query_max_samples),
            timeout: own.and_then(|l| l.query_timeout).unwrap_or(settings.query_timeout),
            memory_budget: own.and_then(|l| l.query_memory_budget).unwrap_or(settings.query_memory_budget),
        }
    }

    /// From now on nothing is ready.
    pub(crate) fn begin_stop(&self) {
        self.stopping.store(true, std::sync::atomic::Ordering::Relaxed);
        self.stop.notify_waiters();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Time since the server's start.
    pub(crate) fn uptime(&self) -> Duration {
        let ms = self.clock.now_ms().saturating_sub(self.started_ms);
        Duration::from_millis(u64::try_from(ms).unwrap_or(0))
    }
}
