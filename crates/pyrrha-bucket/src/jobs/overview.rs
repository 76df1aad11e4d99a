//! What is planned, under way and waiting, and how long it may take.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use pyrrha_model::{StoreError, TenantId, Timestamp};
use pyrrha_storage::block::BlockId;
use pyrrha_storage::manifest::ManifestState;
use serde::Serialize;

use super::directory::{Board, BoardJob, HeldLease};
use super::lease::Lease;
use super::record::{JobRecord, JobState};
use super::runner::Compactor;
use super::{JobKind, JobSpec};
use crate::block_files::set_aside;

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum JobPhase {
    /// Nobody has taken it.
    Planned,
    /// A worker holds it.
    Running,
    /// It failed, and is tried again.
    Failed,
}

/// A job of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JobOverview {
    /// Its id.
    pub id: String,
    /// What is done.
    pub kind: JobKind,
    /// Where it stands.
    pub phase: JobPhase,
    /// Blocks that are read.
    #[serde(serialize_with = "as_texts")]
    pub inputs: Vec<BlockId>,
    /// First millisecond of its range.
    pub min_time: Timestamp,
    /// First millisecond after its range.
    pub max_time: Timestamp,
    /// Bytes that are read.
    pub bytes: u64,
    /// Who holds it, or held it last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// When it began, by the worker's wall clock, ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub began_at: Option<Timestamp>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A block that takes no part in jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SetAside {
    /// The block.
    pub ulid: BlockId,
    /// First millisecond of its range.
    pub min_time: Timestamp,
    /// First millisecond after its range.
    pub max_time: Timestamp,
    /// Why.
    pub reason: String,
}

/// The jobs of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TenantOverview {
    /// The tenant.
    #[serde(serialize_with = "as_text")]
    pub tenant: TenantId,
    /// Live blocks.
    pub blocks: usize,
    /// Jobs, those first that are done first.
    pub jobs: Vec<JobOverview>,
    /// Blocks that are damaged or marked.
    pub set_aside: Vec<SetAside>,
    /// Bytes that jobs not done yet will read.
    pub backlog_bytes: u64,
    /// How long that takes if it goes on as with the jobs that are remembered; `None` if none is.
    pub eta_ms: Option<u64>,
}

fn as_text<S: serde::Serializer>(tenant: &TenantId, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(tenant.as_str())
}

fn as_texts<S: serde::Serializer>(blocks: &[BlockId], out: S) -> Result<S::Ok, S::Error> {
    out.collect_seq(blocks.iter().map(ToString::to_string))
}

/// What was found to do for a tenant.
#[derive(Debug, Clone, Copy)]
pub(super) struct Backlog {
    planned: u64,
    bytes: u64,
    eta_ms: u64,
}

/// The same by tenant, as of the last look at each.
pub(super) type Backlogs = Mutex<BTreeMap<TenantId, Backlog>>;

impl JobOverview {
    fn held(id: &str, record: &JobRecord, phase: JobPhase) -> Self {
        Self {
            id: id.to_owned(),
            kind: record.kind,
            phase,
            inputs: record.inputs.clone(),
            min_time: record.min_time,
            max_time: record.max_time,
            bytes: record.bytes,
            worker: Some(record.worker.to_string()),
            began_at: Some(record.began_at),
            error: record.error.clone(),
        }
    }

    fn planned(spec: &JobSpec) -> Self {
        Self {
            id: spec.id(),
            kind: spec.kind,
            phase: JobPhase::Planned,
            inputs: spec.inputs.clone(),
            min_time: spec.min_time,
            max_time: spec.max_time,
            bytes: spec.bytes,
            worker: None,
            began_at: None,
            error: None,
        }
    }
}

impl Compactor {
    /// The jobs of all tenants that are known, as the bucket has them now. Waits for requests, so it
    /// must not be called on a thread of a runtime.
    pub fn overview(&self) -> Result<Vec<TenantOverview>, StoreError> {
        let all = self.tenants().all();
        all.iter().map(|tenant| self.overview_of(tenant)).collect()
    }

    /// Counts the jobs of all tenants for the metrics, where others do them. Of tenants that have nothing to do, as
    /// manifests that were read last say, no request is made; of each other, as many as [`overview_of`] makes.
    ///
    /// [`overview_of`]: Self::overview_of
    pub fn count_all(&self) -> Result<(), StoreError> {
        let all = self.tenants().all();
        for tenant in &all {
            if let Some(state) = self.tenants().known(tenant) {
                let planned = self.overview_by(tenant, &state, &Board::default());
                if planned.jobs.is_empty() {
                    self.note(&[planned], &all);
                    continue;
                }
            }
            self.overview_of(tenant)?;
        }
        Ok(())
    }

    /// Counts the jobs of a tenant as it was seen, for the metrics.
    pub(super) fn count(&self, tenant: &TenantId, state: &ManifestState, board: &Board) {
        self.note(&[self.overview_by(tenant, state, board)], &self.tenants().all());
    }

    /// The same once a job of it was taken.
    pub(super) fn count_with(
        &self,
        tenant: &TenantId,
        state: &ManifestState,
        mut board: Board,
        lease: &Lease,
    ) {
        let job = board.entry(lease.id.clone()).or_insert_with(|| BoardJob {
            id: lease.id.clone(),
            newest: lease.epoch,
            leases: Vec::new(),
        });
        job.leases.push(HeldLease {
            epoch: lease.epoch,
            record: lease.record.clone(),
            modified_ms: 0,
            under_way: Vec::new(),
            end: None,
            age: Duration::ZERO,
            over: false,
        });
        self.count(tenant, state, &board);
    }

    /// Counts the jobs of tenants that were never looked at: many jobs of others may come before theirs.
    pub(super) fn count_unseen(&self) {
        for tenant in self.tenants().all() {
            let seen = self.backlogs().lock().contains_key(&tenant);
            if !seen && let Err(error) = self.overview_of(&tenant) {
                tracing::debug!(%tenant, %error, "planned jobs could not be counted");
            }
        }
    }

    /// Of tenants that could not be looked at, of all that there are, what was found last still counts.
    fn note(&self, found: &[TenantOverview], all: &[TenantId]) {
        let mut backlogs = self.backlogs().lock();
        for tenant in found {
            let planned = tenant.jobs.iter().filter(|job| job.phase == JobPhase::Planned).count() as u64;
            let backlog =
                Backlog { planned, bytes: tenant.backlog_bytes, eta_ms: tenant.eta_ms.unwrap_or(0) };
            backlogs.insert(tenant.tenant.clone(), backlog);
        }
        backlogs.retain(|tenant, _| all.contains(tenant));
        let metrics = self.metrics();
        metrics.planned_jobs.store(backlogs.values().map(|b| b.planned).sum(), Ordering::Relaxed);
        let bytes = backlogs.values().map(|b| b.bytes).fold(0, u64::saturating_add);
        metrics.backlog_bytes.store(bytes, Ordering::Relaxed);
        metrics.eta_ms.store(backlogs.values().map(|b| b.eta_ms).max().unwrap_or(0), Ordering::Relaxed);
    }

    /// The jobs of a tenant; see [`overview`](Self::overview).
    pub fn overview_of(&self, tenant: &TenantId) -> Result<TenantOverview, StoreError> {
        let Some(manifest) = self.tenants().to_read(tenant)? else {
            return Ok(self.overview_by(tenant, &ManifestState::default(), &Board::default()));
        };
        let state = manifest.refresh()?;
        let board = self.board(tenant, &self.directory(tenant))?;
        let found = self.overview_by(tenant, &state, &board);
        self.note(std::slice::from_ref(&found), &self.tenants().all());
        Ok(found)
    }

    fn overview_by(&self, tenant: &TenantId, state: &ManifestState, board: &Board) -> TenantOverview {
        let mut jobs: Vec<JobOverview> = Vec::new();
        let (mut read, mut took, mut workers) = (0u64, 0u64, 0u64);
        for (id, job) in board {
            for lease in job.running() {
                workers += 1;
                jobs.push(JobOverview::held(id, &lease.record, JobPhase::Running));
            }
            if let Some(failed) = job.failed()
                && failed.record.wants_live().all(|b| state.blocks.contains_key(&b))
            {
                jobs.push(JobOverview::held(id, &failed.record, JobPhase::Failed));
            }
            // Who only took over has worked on nothing.
            let worked =
                |ended: &&HeldLease| ended.record.state == JobState::Done && ended.record.took_ms > 0;
            for done in job.ended().filter(worked) {
                read = read.saturating_add(done.record.bytes);
                took = took.saturating_add(done.record.took_ms);
            }
        }
        // By this clock alone: before it is done, others have to agree.
        let retain_at = self.config().retention.is_some().then(|| self.clock().now_ms());
        let planned = self.planned(tenant, state, &self.busy(board), retain_at);
        let known = |spec: &&JobSpec| board.get(&spec.id()).is_none_or(|job| job.failed().is_none());
        jobs.extend(planned.iter().filter(known).map(JobOverview::planned));
        let backlog_bytes = jobs.iter().map(|job| job.bytes).fold(0, u64::saturating_add);
        let eta = u128::from(backlog_bytes) * u128::from(took)
            / u128::from(read.max(1))
            / u128::from(workers.max(1));
        let aside = |b: &std::sync::Arc<pyrrha_storage::manifest::BlockEntry>| {
            set_aside(b).map(|reason| SetAside {
                ulid: b.ulid,
                min_time: b.min_time,
                max_time: b.max_time,
                reason: reason.to_owned(),
            })
        };
        TenantOverview {
            tenant: tenant.clone(),
            blocks: state.blocks.len(),
            set_aside: state.blocks.values().filter_map(aside).collect(),
            eta_ms: if backlog_bytes == 0 {
                Some(0)
            } else {
                (took > 0).then(|| u64::try_from(eta).unwrap_or(u64::MAX))
            },
            jobs,
            backlog_bytes,
        }
    }
}
