//! The worker: looks at all tenants, takes a job, does it, commits it, and goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;
use pyrrha_env::{Clock, Disk, DiskLock};
use pyrrha_model::contract::CancelToken;
use pyrrha_model::{ErrorKind, Matcher, StoreError, TenantId, Timestamp};
use pyrrha_storage::block::BlockId;
use pyrrha_storage::manifest::ManifestState;

use super::cleanup::backoff;
use super::directory::{Board, BoardJob, Ends, JobDirectory};
use super::lease::{Lease, Watch};
use super::marked::MarkLooks;
use super::merge::reader;
use super::overview::Backlogs;
use super::perform::{Ended, Orders, Task};
use super::places::roots_of;
use super::plan::plan;
use super::prune;
use super::record::JobRecord;
use super::retention::Looks;
use super::{JobKind, JobSpec, Ladder, Retention};
use crate::deletes::due;
use crate::downsample::{self, DownsampleTask};
use crate::error::BucketError;
use crate::gateway::Gateway;
use crate::runtime::BucketRuntime;
use crate::shard::BlockTargets;
use crate::tenants::BucketTenants;

/// The store's clock is asked again so long after.
const STORE_CLOCK_MAX_AGE: Duration = Duration::from_secs(600);
const LOCK: &str = "lock";

/// How a worker works.
#[derive(Debug, Clone)]
pub struct CompactorConfig {
    /// What it leaves to others.
    pub leaves: Vec<JobKind>,
    /// Ranges that blocks grow through.
    pub ladder: Ladder,
    /// How large merged blocks become before they are split.
    pub targets: BlockTargets,
    /// External labels that tell replicas apart.
    pub replica_labels: Vec<String>,
    /// Series with histograms of custom buckets stay at full resolution in blocks of windows: Thanos does not
    /// read windows of those.
    pub keeps_custom_buckets: bool,
    /// A directory for what is being made. It is this worker's alone and is emptied.
    pub scratch_dir: PathBuf,
    /// Memory that one job may use, bytes.
    pub memory_bytes: usize,
    /// Workers that say nothing for so long are taken for dead.
    pub lease_timeout: Duration,
    /// The files of blocks that were replaced stay so long.
    pub delete_delay: Duration,
    /// Deletes may be taken back so long; then what they hide is removed.
    pub delete_undo: Duration,
    /// How long blocks stay live.
    pub retention: Retention,
    /// Whether retention, and the end of deletes, go by this machine's clock without asking the store's.
    pub trust_own_clock: bool,
}

impl CompactorConfig {
    /// The defaults, with a scratch directory.
    pub fn new(scratch_dir: impl Into<PathBuf>) -> Self {
        Self {
            leaves: JobKind::DOWNSAMPLING.to_vec(),
            ladder: Ladder::default(),
            targets: BlockTargets::default(),
            replica_labels: Vec::new(),
            keeps_custom_buckets: false,
            scratch_dir: scratch_dir.into(),
            memory_bytes: 256 << 20,
            lease_timeout: Duration::from_secs(120),
            delete_delay: Duration::from_secs(48 * 3600),
            delete_undo: Duration::from_secs(24 * 3600),
            retention: Retention::default(),
            trust_own_clock: false,
        }
    }
}

/// What a worker did since it began.
#[derive(Debug, Default)]
pub struct CompactorMetrics {
    /// Jobs that were committed.
    pub jobs_done: AtomicU64,
    /// Jobs whose commit came too late: another worker, a deletion or retention was first.
    pub jobs_late: AtomicU64,
    /// Jobs that failed.
    pub jobs_failed: AtomicU64,
    /// Jobs of dead workers that were taken over.
    pub jobs_taken_over: AtomicU64,
    /// Blocks set aside because they are damaged, or marked.
    pub blocks_set_aside: AtomicU64,
    /// Blocks whose files were removed.
    pub blocks_removed: AtomicU64,
    /// Bytes of blocks read by jobs that were committed.
    pub read_bytes: AtomicU64,
    /// Bytes of blocks made by them.
    pub written_bytes: AtomicU64,
    /// Jobs of all tenants that could be done now, as of the last look.
    pub planned_jobs: AtomicU64,
    /// Bytes that jobs not done yet read, those under way among them.
    pub backlog_bytes: AtomicU64,
    /// How long they take, for the tenant that takes longest, as of the last look; 0 if that is not
    /// known.
    pub eta_ms: AtomicU64,
}

/// What came of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Round {
    /// Jobs that this worker ended, however.
    pub jobs: u64,
    /// Whether there is work left that is not this worker's: others hold it, or it failed and waits.
    pub waits: bool,
}

/// What a look at a tenant came to.
enum Step {
    Did,
    /// Something was learnt that changes what there is to do.
    Again,
    /// There is nothing to do now, by these jobs.
    Nothing {
        waits: bool,
        board: Board,
    },
}

/// A worker. Threads may share one: each call of [`round`](Self::round) is a worker of its own.
#[derive(Debug)]
pub struct Compactor {
    tenants: Arc<BucketTenants>,
    runtime: Arc<BucketRuntime>,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    config: CompactorConfig,
    worker: BlockId,
    watch: Watch,
    metrics: CompactorMetrics,
    looks: Looks,
    mark_looks: MarkLooks,
    ends: Arc<Ends>,
    backlogs: Backlogs,
    /// What the store's clock said, and when by the monotonic one.
    store_clock: Mutex<Option<(Duration, Timestamp)>>,
    /// Of the scratch directory. Who only looks has none.
    lock: Option<Box<dyn DiskLock>>,
    /// Jobs whose last attempt, here, failed of what does not go by waiting.
    hopeless: Mutex<BTreeSet<(TenantId, String)>>,
}

/// Whether what fails so fails again, until somebody mends it.
fn is_lasting(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Corrupt | ErrorKind::NotFound)
}

impl Compactor {
    /// A worker on the bucket of `tenants`. Fails if another one uses its scratch directory.
    pub fn new(
        tenants: Arc<BucketTenants>,
        runtime: Arc<BucketRuntime>,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        config: CompactorConfig,
    ) -> Result<Self, BucketError> {
        let dir = config.scratch_dir.clone();
        let local = |source| BucketError::Local { file: dir.display().to_string(), source };
        disk.create_dir_all(&dir).map_err(local)?;
        let lock = disk.lock(&dir.join(LOCK)).map_err(local)?;
        // Whatever is there is of a worker that died.
        for entry in disk.list(&dir).map_err(local)?.iter().filter(|entry| entry.is_dir) {
            disk.remove_dir_all(&dir.join(&entry.name)).map_err(local)?;
        }
        Ok(Self { lock: Some(lock), ..Self::observer(tenants, runtime, disk, clock, config) })
    }

    /// One that only looks: it does no jobs, and needs no scratch directory.
    pub fn observer(
        tenants: Arc<BucketTenants>,
        runtime: Arc<BucketRuntime>,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        config: CompactorConfig,
    ) -> Self {
        let worker = BlockId::new(&*clock);
        Self {
            tenants,
            runtime,
            disk,
            clock,
            config,
            worker,
            watch: Watch::default(),
            metrics: CompactorMetrics::default(),
            looks: Looks::default(),
            mark_looks: MarkLooks::default(),
            ends: Arc::default(),
            backlogs: Backlogs::default(),
            store_clock: Mutex::default(),
            lock: None,
            hopeless: Mutex::default(),
        }
    }

    /// What it did.
    pub fn metrics(&self) -> &CompactorMetrics {
        &self.metrics
    }

    pub(super) fn config(&self) -> &CompactorConfig {
        &self.config
    }

    pub(super) fn worker(&self) -> BlockId {
        self.worker
    }

    pub(super) fn tenants(&self) -> &Arc<BucketTenants> {
        &self.tenants
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    pub(super) fn looks(&self) -> &Looks {
        &self.looks
    }

    pub(super) fn backlogs(&self) -> &Backlogs {
        &self.backlogs
    }

    pub(super) fn mark_looks(&self) -> &MarkLooks {
        &self.mark_looks
    }

    /// What reads blocks for those who only look.
    pub(super) fn looking(&self) -> Gateway {
        reader(&self.tenants, &self.runtime, &self.disk, self.config.scratch_dir.join("looking"))
    }

    pub(super) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    pub(super) fn runtime(&self) -> &Arc<BucketRuntime> {
        &self.runtime
    }

    pub(super) fn directory(&self, tenant: &TenantId) -> JobDirectory {
        JobDirectory::new(self.tenants.bucket().clone(), self.runtime.clone(), tenant)
            .knowing(self.ends.clone())
    }

    /// The store's clock, ms, by this machine's monotonic one since it was asked last.
    pub(super) fn store_now_ms(&self, directory: &JobDirectory) -> Result<Timestamp, StoreError> {
        let monotonic = self.clock.monotonic();
        if let Some((asked, store)) = *self.store_clock.lock() {
            let passed = monotonic.saturating_sub(asked);
            if passed < STORE_CLOCK_MAX_AGE {
                return Ok(store.saturating_add(i64::try_from(passed.as_millis()).unwrap_or(i64::MAX)));
            }
        }
        let store = directory.store_now_ms()?;
        *self.store_clock.lock() = Some((monotonic, store));
        Ok(store)
    }

    /// Does jobs until there is none that can be done now, and removes what ended ones left. Goes on
    /// after an error with the next tenant, and gives the first. Waits for requests, so it must not be
    /// called on a thread of a runtime. `cancel` ends it, within a job too.
    pub fn round(&self, cancel: &CancelToken) -> Result<Round, StoreError> {
        let (round, result) = self.try_round(cancel);
        result.map(|()| round)
    }

    /// As [`round`](Self::round), and what was done is told beside the first error. An error that goes by
    /// waiting counts as work that waits.
    pub fn try_round(&self, cancel: &CancelToken) -> (Round, Result<(), StoreError>) {
        let mut round = Round::default();
        if self.lock.is_none() {
            return (round, Err(StoreError::new(ErrorKind::Internal, "an observer does no jobs")));
        }
        let mut result = Ok(());
        let mut failed = |round: &mut Round, error: StoreError| {
            round.waits |= !is_lasting(error.kind());
            if result.is_ok() {
                result = Err(error);
            }
        };
        match self.tenants.discover() {
            Ok(unread) => unread.into_iter().for_each(|(_, error)| failed(&mut round, error)),
            Err(error) => failed(&mut round, error),
        }
        self.count_unseen();
        let retain_at = self.retention_time().unwrap_or_else(|error| {
            tracing::warn!(%error, "the store's clock is not known, nothing leaves by retention");
            None
        });
        // A listing is what costs, so the last one of a tenant serves all.
        let mut boards = BTreeMap::new();
        let mut open = self.tenants.all();
        while !open.is_empty() && cancel.reason().is_none() {
            // One job of each tenant in turn.
            open.retain(|tenant| {
                if cancel.reason().is_some() {
                    return false;
                }
                match self.step(tenant, retain_at, cancel) {
                    Ok(Step::Did) => {
                        round.jobs += 1;
                        true
                    }
                    Ok(Step::Again) => true,
                    Ok(Step::Nothing { waits, board }) => {
                        round.waits |= waits;
                        boards.insert(tenant.clone(), board);
                        false
                    }
                    Err(error) => {
                        tracing::warn!(%tenant, %error, "blocks of a tenant could not be looked after, it is tried again");
                        failed(&mut round, error);
                        false
                    }
                }
            });
        }
        for (tenant, board) in &boards {
            if cancel.reason().is_some() {
                break;
            }
            for error in [self.clean_up(tenant, board), self.look_for_marks(tenant)]
                .into_iter()
                .filter_map(Result::err)
            {
                failed(&mut round, error);
            }
        }
        (round, result)
    }

    /// All jobs of a tenant that read.
    pub(super) fn board(&self, tenant: &TenantId, directory: &JobDirectory) -> Result<Board, StoreError> {
        let mut board = directory.load()?;
        let now = self.clock.monotonic();
        let mut there = BTreeSet::new();
        for lease in board.values_mut().flat_map(|job| &mut job.leases) {
            there.insert(lease.record.lease);
            lease.age = self.watch.look(tenant, lease, now);
        }
        self.watch.forget(tenant, |lease| there.contains(lease));
        Ok(board)
    }

    /// Blocks that jobs under way, or that wait for their next attempt, read.
    pub(super) fn busy(&self, board: &Board) -> BTreeSet<BlockId> {
        let waits = |job: &BoardJob| {
            let failed = job.failed().filter(|failed| failed.age < backoff(failed.record.failures));
            failed.cloned()
        };
        let held = board.values().flat_map(|job| job.running().cloned().chain(waits(job)));
        held.flat_map(|lease| lease.record.wants_live().collect::<Vec<_>>()).collect()
    }

    /// The jobs of a tenant that may be done now. Retention rules go by `retain_at`, if that is known.
    pub(super) fn planned(
        &self,
        tenant: &TenantId,
        state: &ManifestState,
        busy: &BTreeSet<BlockId>,
        retain_at: Option<Timestamp>,
    ) -> Vec<JobSpec> {
        let now = self.clock.now_ms();
        let CompactorConfig { ladder, targets, replica_labels, .. } = &self.config;
        let mut jobs = plan(state, ladder, targets, replica_labels, busy, now);
        jobs.retain(|job| !self.config.leaves.contains(&job.kind));
        // What is about to be merged is downsampled afterwards.
        let mut held = busy.clone();
        held.extend(jobs.iter().flat_map(|job| job.inputs.iter().copied()));
        let windows = downsample::plan(state, &self.config.replica_labels);
        let windows = windows.iter().map(DownsampleTask::job).filter(|job| {
            !self.is_past(tenant, job, now)
                && !self.config.leaves.contains(&job.kind)
                && !job.inputs.iter().chain(&job.replaces).any(|block| held.contains(block))
        });
        let windows: Vec<JobSpec> = windows.collect();
        held.extend(windows.iter().flat_map(|job| job.inputs.iter().chain(&job.replaces).copied()));
        jobs.extend(windows);
        if let Some(at) = retain_at.filter(|_| !self.config.leaves.contains(&JobKind::Prune)) {
            jobs.extend(prune::plan(&self.config.retention, tenant, state, &held, at));
        }
        jobs
    }

    /// Does one job of a tenant, if there is one.
    fn step(
        &self,
        tenant: &TenantId,
        retain_at: Option<Timestamp>,
        cancel: &CancelToken,
    ) -> Result<Step, StoreError> {
        let manifest = self.tenants.manifest(tenant)?;
        let mut state = manifest.refresh()?;
        // A clock that is ahead alone ends no time in which a delete may be taken back.
        if !state.deletes.is_empty()
            && let Some(now) = self.agreed_time(tenant)?
            && let Some(change) = due(&state, now, self.config.delete_undo)
        {
            state = manifest.commit_change(&change)?;
        }
        let directory = self.directory(tenant);
        let board = self.board(tenant, &directory)?;
        for job in board.values() {
            let dead = job.dead(self.config.lease_timeout);
            if !dead.is_empty() && self.take_over(tenant, &manifest, &directory, job, &dead)? {
                return Ok(Step::Did);
            }
        }
        self.count(tenant, &state, &board);
        let busy = self.busy(&board);
        // What is past retention first: merging it would be in vain.
        let leaving = retain_at.filter(|_| !self.config.leaves.contains(&JobKind::Retain));
        let marked = self.marked_for_deletion(tenant, &state)?;
        let expired = leaving.and_then(|now| self.expired(tenant, &state, now));
        for spec in marked.into_iter().chain(expired).chain(self.planned(tenant, &state, &busy, retain_at)) {
            if self.take_in_marks(tenant, &manifest, &state, &spec)? {
                return Ok(Step::Again);
            }
            let Some(lease) = self.take(&directory, &board, &state, &spec)? else { continue };
            let rules = match (spec.kind, retain_at) {
                (JobKind::Prune, Some(at)) => self.due_to(tenant, &state, &spec, at),
                _ => Default::default(),
            };
            let orders = Orders { rules, rewrite: None };
            let task = Task { tenant, manifest: &manifest, state: &state, spec: &spec, orders };
            self.count_with(tenant, &state, board, &lease);
            // How it ended is in the log, and in what the job left.
            let id = lease.id.clone();
            let ended = self.perform(&task, lease, cancel);
            self.fails_for_good(tenant, id, ended.err().is_some_and(|error| is_lasting(error.kind())));
            return Ok(Step::Did);
        }
        Ok(Step::Nothing { waits: self.waits_for(tenant, &board), board })
    }

    /// Whether waiting may bring something: a job that others hold, or one that failed and may not fail again.
    fn waits_for(&self, tenant: &TenantId, board: &Board) -> bool {
        let hopeless = self.hopeless.lock();
        let may_end = |job: &BoardJob| {
            let again = || job.failed().is_some_and(|failed| failed.age < backoff(failed.record.failures));
            job.running().next().is_some()
                || (again() && !hopeless.contains(&(tenant.clone(), job.id.clone())))
        };
        board.values().any(may_end)
    }

    /// Remembers whether the last attempt of a job failed of what does not go by waiting.
    fn fails_for_good(&self, tenant: &TenantId, id: String, for_good: bool) {
        let mut hopeless = self.hopeless.lock();
        let job = (tenant.clone(), id);
        if for_good {
            hopeless.insert(job);
        } else {
            hopeless.remove(&job);
        }
    }

    /// Takes a job; `None` if another worker was faster.
    fn take(
        &self,
        directory: &JobDirectory,
        board: &BTreeMap<String, BoardJob>,
        state: &ManifestState,
        spec: &JobSpec,
    ) -> Result<Option<Lease>, StoreError> {
        let id = spec.id();
        let before = board.get(&id);
        // One at least, which can be revoked.
        let outputs: Vec<BlockId> = (0..spec.outputs.max(1)).map(|_| BlockId::new(&*self.clock)).collect();
        let mut record = JobRecord::taken(
            spec,
            BlockId::new(&*self.clock),
            self.worker,
            outputs,
            self.clock.now_ms(),
            before.and_then(BoardJob::last_end).map(|last| &last.record),
        );
        record.roots = roots_of(state, spec, &record.outputs);
        let epoch = before.map_or(1, |job| job.newest.saturating_add(1));
        // A token of its own: that one job is taken over does not stop the worker.
        let lease_cancel = CancelToken::default();
        Lease::take(directory, &id, epoch, record, self.config.lease_timeout, lease_cancel)
    }

    /// Does a job that somebody asked for. Where others hold its blocks it is seen first whether they live:
    /// jobs of dead workers are ended.
    pub(super) fn do_now(
        &self,
        tenant: &TenantId,
        spec: &JobSpec,
        orders: Orders<'_>,
        cancel: &CancelToken,
    ) -> Result<Ended, StoreError> {
        let manifest = self.tenants.manifest(tenant)?;
        let mut state = manifest.refresh()?;
        if self.take_in_marks(tenant, &manifest, &state, spec)? {
            state = manifest.current();
        }
        orders.rewrite.map_or(Ok(()), |rewrite| rewrite.check(&state, spec))?;
        let directory = self.directory(tenant);
        // What only goes is in nobody's way.
        let board = match spec.inputs.is_empty() {
            true => self.board(tenant, &directory)?,
            false => self.free(tenant, &manifest, &directory, spec, cancel)?,
        };
        // Whoever held its blocks may have replaced them.
        state = manifest.refresh()?;
        if !spec.inputs.iter().chain(&spec.replaces).all(|block| state.blocks.contains_key(block)) {
            return Ok(Ended::Late);
        }
        orders.rewrite.map_or(Ok(()), |rewrite| rewrite.check(&state, spec))?;
        let lease = self.take(&directory, &board, &state, spec)?.ok_or_else(|| {
            let text = "another worker has just taken the same job, run it again when that is done";
            StoreError::new(ErrorKind::Unavailable, format!("{text}: job={}", spec.id()))
        })?;
        let task = Task { tenant, manifest: &manifest, state: &state, spec, orders };
        self.perform(&task, lease, cancel)
    }

    /// What a prune leaves out, and by which rules.
    pub(super) fn due_to(
        &self,
        tenant: &TenantId,
        state: &ManifestState,
        spec: &JobSpec,
        at: Timestamp,
    ) -> (Vec<Vec<Matcher>>, Vec<String>) {
        let block = spec.inputs.first().and_then(|input| state.blocks.get(input));
        block.map(|block| prune::due_to(&self.config.retention, tenant, block, at)).unwrap_or_default()
    }
}
