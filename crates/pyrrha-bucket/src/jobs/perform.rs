//! A job that is ours, from its inputs to its end: what it makes is uploaded, committed, and told to others.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pyrrha_model::contract::{CancelToken, MemoryBudget, QueryContext};
use pyrrha_model::{ErrorKind, Matcher, StoreError, TenantId};
use pyrrha_storage::block::{Block, BlockId};
use pyrrha_storage::manifest::{BlockEntry, Change, Manifest, ManifestState};

use super::lease::{End, Lease};
use super::merge::{Work, WorkError};
use super::rewrite::Rewrite;
use super::runner::Compactor;
use super::{JobKind, JobSpec};
use crate::block_files::with_set_aside;
use crate::deletes::{Standing, commit};
use crate::downsample::{FIVE_MINUTES, HOUR};
use crate::marks::change_entries;
use crate::sources::gone_with;

/// What a job that was taken is to do.
pub(super) struct Task<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) manifest: &'a Manifest,
    pub(super) state: &'a ManifestState,
    pub(super) spec: &'a JobSpec,
    pub(super) orders: Orders<'a>,
}

/// What a job is told beside its blocks.
#[derive(Debug, Default)]
pub(super) struct Orders<'a> {
    /// Series that are left out, and the names of the rules that want it.
    pub(super) rules: (Vec<Vec<Matcher>>, Vec<String>),
    /// Rules that somebody gives.
    pub(super) rewrite: Option<&'a Rewrite>,
}

/// How a job ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// It was committed.
    Committed,
    /// Nothing was to be changed.
    Unchanged,
    /// Others came first, or it was stopped.
    Late,
}

/// What a job has made.
pub(super) enum Made {
    /// These blocks, which are uploaded, take the place of what it replaces.
    Blocks(Vec<BlockEntry>),
    /// Nothing is to be changed.
    Unchanged,
}

impl Compactor {
    /// Does a job that is ours, commits it, and says how it ended.
    pub(super) fn perform(
        &self,
        task: &Task<'_>,
        lease: Lease,
        cancel: &CancelToken,
    ) -> Result<Ended, StoreError> {
        let began = self.clock().monotonic();
        let took = || self.clock().monotonic().saturating_sub(began);
        let outputs = lease.record.outputs.clone();
        let work = self.work_of(task, &lease, &outputs);
        let made = self.watched(cancel, &lease.cancel, || work.make(task));
        if let Err(error) = self.disk().remove_dir_all(&work.scratch) {
            tracing::warn!(%error, "scratch directory could not be removed");
        }
        drop(work);
        let change = match made {
            Ok(Made::Blocks(added)) => change_of(task, &outputs, added),
            // Nothing was uploaded.
            Ok(Made::Unchanged) => {
                lease.end(End::Nothing, |_| false, took());
                return Ok(Ended::Unchanged);
            }
            Err(error) => return self.failed(task, lease, error, took()),
        };
        self.finish(task, lease, &change, took())
    }

    fn work_of<'w>(&'w self, task: &Task<'w>, lease: &'w Lease, outputs: &'w [BlockId]) -> Work<'w> {
        let Task { tenant, state, spec, ref orders, .. } = *task;
        let budget = MemoryBudget::new("compaction", self.config().memory_bytes, None);
        let deletes: Vec<Standing> =
            state.deletes.iter().filter(|delete| delete.is_final).filter_map(Standing::of).collect();
        let open = state.deletes.iter().filter(|delete| !delete.is_final).map(|delete| delete.number);
        Work {
            tenants: self.tenants(),
            runtime: self.runtime(),
            disk: self.disk(),
            tenant,
            inputs: spec.inputs.iter().filter_map(|id| state.blocks.get(id).cloned()).collect(),
            outputs,
            scratch: self.config().scratch_dir.join(format!("{}-{}", lease.id, lease.epoch)),
            ctx: QueryContext::new(tenant.clone(), budget, lease.cancel.clone()),
            replica_labels: &self.config().replica_labels,
            leave_out: orders.rules.0.clone().into(),
            prunes: orders.rules.1.clone(),
            deletes: deletes.into(),
            settled: open.min().map_or(state.number, |first| first.saturating_sub(1)),
            keeps_custom_buckets: self.config().keeps_custom_buckets,
            before_upload: Box::new(|| lease.hold()),
        }
    }

    /// Commits what was made, and says what came of it.
    fn finish(
        &self,
        task: &Task<'_>,
        lease: Lease,
        change: &Change,
        took: Duration,
    ) -> Result<Ended, StoreError> {
        let Task { tenant, manifest, spec, .. } = *task;
        match commit(manifest, change) {
            Ok(()) => {
                let written = change.added.iter().map(|b| b.bytes).fold(0, u64::saturating_add);
                self.metrics().jobs_done.fetch_add(1, Ordering::Relaxed);
                self.metrics().read_bytes.fetch_add(spec.bytes, Ordering::Relaxed);
                self.metrics().written_bytes.fetch_add(written, Ordering::Relaxed);
                tracing::info!(
                    %tenant, job = lease.id, inputs = spec.inputs.len(), start = spec.min_time,
                    read_bytes = spec.bytes, written_bytes = written, ms = took.as_millis() as u64,
                    "job done"
                );
                let live: BTreeSet<BlockId> = change.added.iter().map(|b| b.ulid).collect();
                lease.end(End::Committed, |block| live.contains(block), took);
                Ok(Ended::Committed)
            }
            Err(error) if error.kind() == ErrorKind::Execution => {
                self.metrics().jobs_late.fetch_add(1, Ordering::Relaxed);
                tracing::info!(%tenant, job = lease.id, %error, "job came too late");
                // An attempt of which the reply was lost may have been committed, and its blocks
                // replaced since: cleanup removes those, and these too.
                let live = manifest.current();
                let gone = spec.replaces.iter().any(|block| !live.blocks.contains_key(block));
                let end = if gone { End::Committed } else { End::Nothing };
                lease.end(end, |block| live.blocks.contains_key(block), took);
                Ok(Ended::Late)
            }
            // Nobody knows: whoever takes over finds out.
            Err(error) => {
                tracing::warn!(%tenant, job = lease.id, %error, "commit of a job is in doubt");
                lease.abandon();
                Err(error.into())
            }
        }
    }

    /// Removes what was uploaded, and says why nothing is committed.
    fn failed(
        &self,
        task: &Task<'_>,
        lease: Lease,
        WorkError { error, damaged }: WorkError,
        took: Duration,
    ) -> Result<Ended, StoreError> {
        let Task { tenant, manifest, .. } = *task;
        self.discard(tenant, &lease.record);
        if lease.cancel.reason().is_some() {
            tracing::info!(%tenant, job = lease.id, "job stopped");
            lease.end(End::Nothing, |_| false, took);
            return Ok(Ended::Late);
        }
        self.metrics().jobs_failed.fetch_add(1, Ordering::Relaxed);
        tracing::error!(%tenant, job = lease.id, %error, "job failed, the blocks are as they were");
        // Without that block it is another job, which need not wait.
        let aside = damaged.is_some_and(|block| self.set_aside(tenant, manifest, block, &error.to_string()));
        lease.end(if aside { End::Nothing } else { End::Failed(&error) }, |_| false, took);
        Err(error)
    }

    /// Runs something that stops when either token says so.
    fn watched<T>(&self, outer: &CancelToken, inner: &CancelToken, run: impl FnOnce() -> T) -> T {
        let (outer, token) = (outer.clone(), inner.clone());
        let watching = self.runtime().handle().spawn(async move {
            loop {
                if let Some(reason) = outer.reason() {
                    token.cancel(reason);
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let result = run();
        watching.abort();
        result
    }

    /// Keeps a block out of later jobs: the others go on without it.
    fn set_aside(&self, tenant: &TenantId, manifest: &Manifest, block: BlockId, why: &str) -> bool {
        match change_entries(manifest, &[block], |entry| Some(with_set_aside(entry, why))) {
            Ok(changed) if changed.is_empty() => false,
            Ok(_) => {
                self.metrics().blocks_set_aside.fetch_add(1, Ordering::Relaxed);
                tracing::error!(%tenant, %block, why, "block takes no part in compaction any more");
                true
            }
            Err(error) => {
                tracing::warn!(%tenant, %block, %error, "block could not be set aside, its next job does it");
                false
            }
        }
    }
}

impl Work<'_> {
    /// What a job is about.
    fn make(&self, task: &Task<'_>) -> Result<Made, WorkError> {
        let uploaded = |made: Vec<Block>| {
            let entries = made.into_iter().map(|block| self.upload(block));
            Ok(Made::Blocks(entries.collect::<Result<_, StoreError>>()?))
        };
        match task.spec.kind {
            JobKind::FiveMinutes => uploaded(self.downsample(task.state, FIVE_MINUTES)?),
            JobKind::Hour => uploaded(self.downsample(task.state, HOUR)?),
            JobKind::Compact => uploaded(self.merge()?),
            JobKind::Purge | JobKind::Prune => {
                if let Some(entry) = self.untouched()? {
                    return Ok(Made::Blocks(vec![entry]));
                }
                let resolution = self.inputs.iter().map(|input| input.resolution).max().unwrap_or(0);
                match resolution {
                    0 => uploaded(self.merge()?),
                    _ => uploaded(self.downsample(task.state, resolution)?),
                }
            }
            JobKind::Retain => Ok(Made::Blocks(Vec::new())),
            JobKind::Rewrite => {
                let Some(rewrite) = task.orders.rewrite else {
                    return Err(StoreError::new(ErrorKind::Internal, "a rewrite without rules").into());
                };
                match self.rewrite(rewrite)? {
                    Some(made) => uploaded(made.into_iter().collect()),
                    None => Ok(Made::Unchanged),
                }
            }
        }
    }
}

/// What a job commits.
fn change_of(task: &Task<'_>, outputs: &[BlockId], added: Vec<BlockEntry>) -> Change {
    let (state, spec) = (task.state, task.spec);
    let entry = |block: &BlockId| state.blocks.get(block).cloned();
    let gone = if added.is_empty() { gone_with(state, &spec.replaces) } else { Vec::new() };
    Change {
        added,
        removed: spec.replaces.clone(),
        requires: spec.inputs.iter().filter(|b| !spec.replaces.contains(b)).copied().collect(),
        unless_revoked: outputs.to_vec(),
        // Somebody may have marked one meanwhile.
        expects: spec.inputs.iter().chain(&spec.replaces).filter_map(entry).collect(),
        based_on: Some(state.number),
        gone,
        ..Change::default()
    }
}
