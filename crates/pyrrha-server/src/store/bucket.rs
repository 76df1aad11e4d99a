//! The bucket beside the database: blocks are shipped to it, and read from it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use pyrrha_bucket::tools::{Adopter, BucketTools};
use pyrrha_bucket::{
    Bucket, BucketDeletes, BucketError, BucketQueryable, BucketRuntime, BucketTenants, Compactor, Gateway,
    Mirror, Operation, Retention, Shipper, config,
};
use pyrrha_env::{Clock, Disk, OsDisk};
use pyrrha_model::contract::{CancelReason, CancelToken, Delete, Queryable};
use pyrrha_model::{StoreError, TenantId};
use pyrrha_storage::Db;
use pyrrha_storage::block::{Block, BlockId};
use pyrrha_storage::manifest::DeleteEntry;

use crate::config::Settings;

/// Time between two looks for blocks to ship.
const ROUND: Duration = Duration::from_secs(5);
/// The first look for work on the bucket's blocks comes so long after the start.
const FIRST_LOOK: Duration = Duration::from_secs(10);
/// The start waits so long for the bucket: what is written to the server must not wait for it.
const PROBE_TIME: Duration = Duration::from_secs(3);
/// Rounds between two looks at what others committed.
const REFRESH_ROUNDS: u32 = 6;
/// Jobs that others do are counted no more often: that takes requests, of tenants that have any.
const COUNT_EVERY: Duration = Duration::from_secs(600);
/// Requests under way at the end of the process have so long to be answered.
const LAST_REQUESTS: Duration = Duration::from_secs(5);
/// How often it is looked whether they are.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// An open bucket.
pub(super) struct LongTerm {
    pub(super) bucket: Bucket,
    pub(super) shipper: Shipper,
    pub(super) gateway: Arc<Gateway>,
    pub(super) compactor: Compactor,
    pub(super) mirror: Option<Mirror>,
    pub(super) adopter: Option<Adopter>,
    tenants: Arc<BucketTenants>,
    runtime: Arc<BucketRuntime>,
    clock: Arc<dyn Clock>,
    local_retention: Duration,
    retention: Retention,
    /// Whether the store is known to honour conditions.
    probed: AtomicBool,
    stopping: AtomicBool,
}

impl LongTerm {
    /// Opens the bucket of the settings, if they name one. A store that cannot be reached is tried
    /// again later; one that refuses, or ignores conditions, is an error.
    pub(super) fn open(settings: &Settings, clock: Arc<dyn Clock>) -> Result<Option<Arc<Self>>, String> {
        let compacts = settings.bucket.config_file.is_some() && settings.compactor.enabled;
        if settings.compactor.mirror().is_some() && !compacts {
            tracing::warn!(
                "objstore.mirror changes nothing here: blocks are mirrored by whoever compacts their bucket"
            );
        }
        let Some(file) = &settings.bucket.config_file else { return Ok(None) };
        let bucket = config::open_file(file).map_err(|e| format!("{e} file={}", file.display()))?;
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        let runtime =
            Arc::new(BucketRuntime::start(threads).map_err(|e| format!("cannot start threads: {e}"))?);
        let disk: Arc<dyn Disk> = Arc::new(OsDisk);
        let tenants = Arc::new(BucketTenants::new(bucket.clone(), runtime.clone(), clock.clone()));
        let reading = settings.reading(settings.storage_path.join("bucket-cache"));
        let work = settings.compactor.config(settings.storage_path.join("compactor"));
        let retention = work.retention.clone();
        let gateway = Gateway::new(tenants.clone(), runtime.clone(), disk.clone(), reading)
            .with_replica_labels(work.replica_labels.clone());
        let (t, r, d, c) = (tenants.clone(), runtime.clone(), disk.clone(), clock.clone());
        let compactor = match settings.compactor.enabled {
            true => Compactor::new(t, r, d, c, work).map_err(|e| e.to_string())?,
            false => Compactor::observer(t, r, d, c, work),
        };
        let mirror = settings.compactor.mirror().filter(|_| settings.compactor.enabled);
        let tools = BucketTools::new(tenants.clone(), runtime.clone(), disk.clone(), clock.clone());
        let adopter = settings.bucket.adopt.as_ref().map(|adopt| Adopter::new(tools, adopt.config.clone()));
        let (t, r, c) = (tenants.clone(), runtime.clone(), clock.clone());
        let long_term = Self {
            adopter,
            compactor,
            mirror: mirror.map(|config| Mirror::new(t, r, c, config)),
            retention,
            gateway: Arc::new(gateway),
            shipper: Shipper::new(tenants.clone(), runtime.clone(), disk),
            tenants,
            bucket,
            runtime,
            clock,
            local_retention: settings.bucket.local_retention,
            probed: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        };
        match long_term.probe() {
            Err(error @ (BucketError::NoConditions { .. } | BucketError::Denied { .. })) => {
                return Err(error.to_string());
            }
            Err(error) => {
                tracing::warn!(%error, "the bucket cannot be reached; blocks stay here until it can");
            }
            Ok(()) => tracing::info!(bucket = long_term.bucket.name(), "bucket opened"),
        }
        Ok(Some(Arc::new(long_term)))
    }

    fn probe(&self) -> Result<(), BucketError> {
        let (bucket, id) = (self.bucket.clone(), BlockId::new(&*self.clock));
        let timed_out = |_| BucketError::TimedOut {
            operation: Operation::Create,
            key: "pyrrha-probe".to_owned(),
            attempts: 1,
            timeout_ms: PROBE_TIME.as_millis() as u64,
        };
        self.runtime.wait(async move {
            tokio::time::timeout(PROBE_TIME, bucket.probe(id)).await.map_err(timed_out)?
        })?;
        self.probed.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// What is here, blocks of `db` among it, and the bucket as one source. Samples that are older than
    /// `here_for`, which a tenant's stay here, are seen in the bucket alone, where they have a retention of
    /// their own: so that they are, too, while their block is still here.
    pub(super) fn queryable(
        &self,
        here: Arc<dyn Queryable>,
        db: &Arc<Db>,
        here_for: impl Fn(&TenantId) -> Duration + Send + Sync + 'static,
    ) -> Arc<dyn Queryable> {
        let (local, clock) = (db.clone(), self.clock.clone());
        let sources = move |tenant: &TenantId| -> BTreeSet<BlockId> {
            let keep = i64::try_from(here_for(tenant).as_millis()).unwrap_or(i64::MAX);
            let horizon = if keep > 0 { clock.now_ms().saturating_sub(keep) } else { i64::MIN };
            let blocks = local.open_blocks(tenant);
            let seen = blocks.iter().filter(|b| b.meta().min_time >= horizon);
            seen.flat_map(|b| b.meta().compaction.sources.iter().copied()).collect()
        };
        let all = BucketQueryable::new(here, Arc::new(sources), self.gateway.clone());
        Arc::new(all.with_retention(self.retention.clone(), self.clock.clone()))
    }

    /// Deletes of `db` that reach the bucket.
    pub(super) fn deletes(&self, db: &Arc<Db>) -> BucketDeletes {
        BucketDeletes::new(db.clone(), self.tenants.clone(), self.clock.clone())
    }

    /// Deletes that a database that lost its disk does not know.
    fn learn_deletes(&self, db: &Db) -> Result<(), StoreError> {
        for tenant in db.tenants() {
            let live = self.tenants.manifest(&tenant)?.current();
            let standing: Vec<Delete> = live.deletes.iter().filter_map(DeleteEntry::to_delete).collect();
            if !standing.is_empty() {
                db.learn_deletes(&tenant, &standing)?;
            }
        }
        Ok(())
    }

    /// Adopts what others have uploaded. What is here is being shipped, or was.
    fn adopt(&self, db: &Db, cancel: &CancelToken) {
        let Some(adopter) = &self.adopter else { return };
        let ours = |tenant: &TenantId| db.open_blocks(tenant).iter().map(|block| block.meta().ulid).collect();
        if let Err(error) = adopter.round(&ours, cancel) {
            tracing::warn!(%error, "blocks of others could not be adopted, it is tried again");
        }
    }

    /// One round: ship what is new, let go what is shipped and old.
    fn round(&self, db: &Db) -> Result<(), String> {
        let blocks = blocks_of(db);
        self.shipper.look(&blocks);
        if !self.probed.load(Ordering::Relaxed) {
            self.probe().map_err(|e| e.to_string())?;
        }
        // Before anything goes up that does not know them.
        self.learn_deletes(db).map_err(|e| e.to_string())?;
        let result = self.shipper.ship(&blocks, &|| self.stopping.load(Ordering::Relaxed));
        let keep_ms = i64::try_from(self.local_retention.as_millis()).unwrap_or(i64::MAX);
        let horizon = self.clock.now_ms().saturating_sub(keep_ms);
        for (tenant, blocks) in &blocks {
            let shipped = self.shipper.shipped(tenant, blocks).map_err(|e| e.to_string())?;
            db.set_shipped(tenant, shipped);
            db.remove_shipped(tenant, horizon).map_err(|e| e.to_string())?;
        }
        result.map_err(|e| e.to_string())
    }
}

/// The live blocks of each tenant.
fn blocks_of(db: &Db) -> Vec<(TenantId, Vec<Block>)> {
    db.tenants().into_iter().map(|tenant| (tenant.clone(), db.open_blocks(&tenant))).collect()
}

/// Waits for a thread that was told to end. While requests of it hang it is given some time; then it, and all that
/// waits for the bucket, is told that nobody waits any more: what it did is as if the process had been killed.
fn join(thread: JoinHandle<()>, long_term: &LongTerm, until: Duration) {
    while !thread.is_finished() && long_term.clock.monotonic() < until {
        long_term.clock.sleep(LOOK_EVERY);
    }
    if !thread.is_finished() {
        tracing::warn!("the bucket does not answer, what was sent to it is given up");
        long_term.runtime.close();
    }
    if thread.join().is_err() {
        tracing::error!("a thread that looks after the bucket panicked");
    }
}

/// The thread that ships.
pub(super) struct Shipping {
    long_term: Arc<LongTerm>,
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Shipping {
    pub(super) fn start(long_term: Arc<LongTerm>, db: Arc<Db>) -> std::io::Result<Self> {
        let (stop, stopped) = channel();
        let shared = long_term.clone();
        // Whoever waits until nothing is left to ship must not see that before it was looked.
        long_term.shipper.look(&blocks_of(&db));
        let thread = std::thread::Builder::new().name("shipper".into()).spawn(move || {
            // So that the first query of a tenant does not wait for its manifest.
            if let Err(error) = long_term.tenants.discover() {
                tracing::warn!(%error, "tenants of the bucket could not be read, later they are");
            }
            let mut rounds = 0u32;
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(ROUND) {
                if let Err(error) = long_term.round(&db) {
                    tracing::warn!(error, "blocks could not be shipped, it is tried again");
                }
                rounds = rounds.wrapping_add(1);
                if rounds.is_multiple_of(REFRESH_ROUNDS)
                    && let Err(error) = long_term.gateway.refresh()
                {
                    tracing::warn!(%error, "manifests of the bucket could not be read, it is tried again");
                }
            }
        })?;
        Ok(Self { long_term: shared, stop, thread })
    }

    pub(super) fn stop(self) {
        self.long_term.stopping.store(true, Ordering::Relaxed);
        drop(self.stop);
        let until = self.long_term.clock.monotonic().saturating_add(LAST_REQUESTS);
        join(self.thread, &self.long_term, until);
    }
}

/// The threads that look after the bucket's blocks, those that others bring among them, and after what others find
/// beside them.
pub(super) struct Compacting {
    long_term: Arc<LongTerm>,
    cancel: CancelToken,
    threads: Vec<(Sender<()>, JoinHandle<()>)>,
}

impl Compacting {
    /// Starts what the settings say.
    pub(super) fn start(
        long_term: Arc<LongTerm>,
        db: &Arc<Db>,
        settings: &Settings,
    ) -> std::io::Result<Self> {
        let (cancel, threads) = (CancelToken::default(), Vec::new());
        let mut all = Self { long_term: long_term.clone(), cancel, threads };
        if let Some(adopt) = &settings.bucket.adopt {
            let (shared, db) = (long_term.clone(), db.clone());
            all.every(adopt.look_every, "adopter", long_term.clone(), move |cancel| {
                shared.adopt(&db, cancel)
            })?;
        }
        let (interval, compactor) = (settings.compactor.interval, long_term.clone());
        if !settings.compactor.enabled {
            // Others do them, and here it is counted how many there are.
            all.every(interval.max(COUNT_EVERY), "jobs", long_term, move |_| {
                if let Err(error) = compactor.compactor.count_all() {
                    tracing::debug!(%error, "planned jobs could not be counted");
                }
            })?;
            return Ok(all);
        }
        all.every(interval, "compactor", long_term.clone(), move |cancel| {
            if let Err(error) = compactor.compactor.round(cancel) {
                tracing::warn!(%error, "not all of the bucket could be looked after, it is tried again");
            }
        })?;
        // Jobs may take hours, and Mimir does not wait that long.
        if long_term.mirror.is_some() {
            let mirror = long_term.clone();
            all.every(interval.min(Mirror::EVERY), "mirror", long_term, move |cancel| {
                // What could not be done is in the log.
                let _ = mirror.mirror.as_ref().map(|mirror| mirror.round(cancel));
            })?;
        }
        Ok(all)
    }

    fn every(
        &mut self,
        interval: Duration,
        name: &str,
        long_term: Arc<LongTerm>,
        work: impl Fn(&CancelToken) + Send + 'static,
    ) -> std::io::Result<()> {
        let (stop, stopped) = channel();
        let cancel = self.cancel.clone();
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || {
            let mut wait = FIRST_LOOK.min(interval);
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(wait) {
                wait = interval;
                // Nothing is written to a store that may ignore conditions.
                if long_term.probed.load(Ordering::Relaxed) {
                    work(&cancel);
                }
            }
        })?;
        self.threads.push((stop, thread));
        Ok(())
    }

    pub(super) fn stop(self) {
        self.cancel.cancel(CancelReason::Canceled);
        let (stops, threads): (Vec<_>, Vec<_>) = self.threads.into_iter().unzip();
        drop(stops);
        let until = self.long_term.clock.monotonic().saturating_add(LAST_REQUESTS);
        for thread in threads {
            join(thread, &self.long_term, until);
        }
    }
}
