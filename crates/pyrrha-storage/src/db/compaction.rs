//! Compaction beside the traffic: plan, merge, commit, remove, one job at a time on a thread of its
//! own, so that neither cuts nor writes wait for it.
//!
//! The commit is one manifest number. A crash before it leaves the inputs live and the output
//! garbage, a crash after it the reverse; which files are garbage the job's file says.

use std::collections::BTreeMap;
use std::sync::Weak;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use pyrrha_model::contract::{CancelReason, CancelToken, Delete, MemoryBudget, QueryContext};
use pyrrha_model::{ErrorKind, Labels, Matcher, StoreError, TimeRange};

use super::tenant::Tenant;
use super::{Db, Shared};
use crate::block::{Block, BlockId, BlockMeta};
use crate::compact::sidecars::readable;
use crate::compact::{CompactionRanges, compact, plan};
use crate::error::StorageError;
use crate::head::{HeadAppender, add_range};
use crate::manifest::{BlockEntry, Change, ManifestError};

/// After a compaction failed, its tenant's next one comes so much later.
const RETRY_AFTER: Duration = Duration::from_secs(600);
/// What lies between blocks, and is about to leave the head, is waited for so long.
const GAP_AFTER: Duration = Duration::from_secs(60);
/// A block that lacks files is opened once more after so long, then after twice that, up to [`RETRY_AFTER`].
const REOPEN_FIRST: Duration = Duration::from_secs(1);
/// A commit of which nobody knows whether it happened is tried so often.
const COMMIT_TRIES: usize = 3;
/// Blocks grow up to this: 31 days.
const LARGEST_MS: i64 = 31 * 24 * 3_600_000;

/// Where the compaction of a tenant stands.
#[derive(Debug, Default)]
pub(crate) struct CompactionState {
    /// The manifest number at which there was nothing to do.
    nothing_at: Option<u64>,
    /// Monotonic time before which nothing is tried.
    not_before: Duration,
    /// Monotonic time before which blocks that lack files are not opened once more, and how long the wait
    /// for that was.
    reopen: (Duration, Duration),
}

impl CompactionState {
    /// There may be something to do although the manifest has not changed.
    pub(super) fn look_again(&mut self) {
        self.nothing_at = None;
    }
}

/// The thread that compacts, while there is work.
#[derive(Debug, Default)]
pub(crate) struct Compactor {
    running: Mutex<Option<JoinHandle<()>>>,
    cancel: CancelToken,
}

impl Compactor {
    /// Ends the running job; it leaves no block behind.
    pub(super) fn stop(&self) {
        self.cancel.cancel(CancelReason::Canceled);
        if let Some(thread) = self.running.lock().take() {
            join(thread);
        }
    }

    /// Whether a job runs.
    pub(super) fn is_running(&self) -> bool {
        self.running.lock().as_ref().is_some_and(|thread| !thread.is_finished())
    }
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("compaction panicked; the blocks are as they were");
    }
}

impl Db {
    /// Starts compacting if there is something to do and nothing under way.
    pub(super) fn compact_beside(&self) -> Result<(), StorageError> {
        let shared = &self.shared;
        let may_compact =
            || shared.config.compaction && shared.tenants.all().iter().any(|t| shared.may_compact(t));
        if self.compactor.is_running() || !may_compact() && !shared.may_verify() {
            return Ok(());
        }
        if !self.threaded {
            shared.work(&self.compactor.cancel);
            return Ok(());
        }
        let mut running = self.compactor.running.lock();
        if let Some(done) = running.take() {
            join(done);
        }
        let (shared, cancel) = (shared.clone(), self.compactor.cancel.clone());
        let thread = std::thread::Builder::new()
            .name("compact".into())
            .spawn(move || shared.work(&cancel))
            .map_err(StorageError::io("start thread", std::path::Path::new("compact")))?;
        *running = Some(thread);
        Ok(())
    }

    /// Whether blocks are being compacted right now.
    pub fn is_compacting(&self) -> bool {
        self.compactor.is_running()
    }
}

impl Shared {
    /// Whether looking at a tenant's blocks may be worth it.
    fn may_compact(&self, tenant: &Tenant) -> bool {
        let state = tenant.compaction.lock();
        state.nothing_at != Some(tenant.manifest.current().number)
            && self.clock.monotonic() >= state.not_before
            && !self.reserve.is_full()
            && self.knows_deletes(tenant)
    }

    /// What the thread does: damage is looked for first, so that it does not stop a compaction half-way.
    fn work(&self, cancel: &CancelToken) {
        self.verify_blocks(cancel);
        if self.config.compaction {
            self.compact_all(cancel);
        }
    }

    fn compact_all(&self, cancel: &CancelToken) {
        for tenant in self.tenants.all() {
            while self.may_compact(&tenant) {
                // A change after this moment brings a higher number, and so another look.
                let number = tenant.manifest.current().number;
                let Some(inputs) = self.next_compaction(&tenant) else {
                    // The head is about to have something between the blocks, which no commit may tell of.
                    tenant.compaction.lock().not_before = self.clock.monotonic() + GAP_AFTER;
                    break;
                };
                if inputs.is_empty() {
                    tenant.compaction.lock().nothing_at = Some(number);
                    break;
                }
                let bytes: u64 = inputs.iter().map(Block::bytes).sum();
                let attempt = || self.compact_blocks(&tenant, &inputs, cancel);
                // The reserve is for what it suffices for.
                let fits = bytes < self.config.disk_reserve_bytes;
                let result = if fits { self.with_reserve(attempt) } else { attempt() };
                match result {
                    Ok(true) => {}
                    // It would come to the same once more.
                    Ok(false) => tenant.compaction.lock().nothing_at = Some(number),
                    Err(error) => self.compaction_failed(&tenant, &inputs, &error, cancel),
                }
                if cancel.reason().is_some() {
                    return;
                }
            }
        }
    }

    /// The blocks to merge next; `None` if some have to wait for what lies between them. Blocks of other
    /// external labels are others' data, downsampled ones are made anew rather than merged, and damaged
    /// ones, and those of which the disk does not give a file, stay as they are.
    fn next_compaction(&self, tenant: &Tenant) -> Option<Vec<Block>> {
        let view = tenant.view.read().clone();
        let mut groups: BTreeMap<Option<BTreeMap<String, String>>, Vec<Block>> = BTreeMap::new();
        let whole = |b: &&Block| !view.quarantined.contains_key(&b.meta().ulid) && !b.lacks_files();
        let sound = || view.blocks.iter().filter(whole);
        // What is deleted for good goes first. What may come back stays in the blocks where it is.
        if let Some(block) = sound().find_map(Block::to_purge) {
            return Some(vec![block]);
        }
        for block in sound().filter(|b| !b.is_undoable()) {
            let thanos = block.meta().thanos.as_ref();
            if thanos.is_none_or(|t| t.downsample.resolution == 0) {
                groups.entry(thanos.and_then(|t| t.labels.clone())).or_default().push(block.clone());
            }
        }
        let retention =
            i64::try_from(self.config.retention_of(&tenant.head.tenant).as_millis()).unwrap_or(i64::MAX);
        let largest = if retention == 0 { LARGEST_MS } else { LARGEST_MS.min(retention / 10) };
        let ranges = CompactionRanges::up_to(self.config.block_range_ms, largest);
        let mut waits = false;
        for blocks in groups.values() {
            let metas: Vec<BlockMeta> = blocks.iter().map(|b| b.meta().clone()).collect();
            let chosen = plan(&metas, &ranges);
            if chosen.is_empty() {
                continue;
            }
            if close_gaps(tenant, chosen.iter().filter_map(|&i| metas.get(i))) {
                return Some(chosen.into_iter().filter_map(|i| blocks.get(i).cloned()).collect());
            }
            waits = true;
        }
        // What is of another layout than its tenant wants by now is written anew, the newest first.
        let wanted = self.config.layout_of(&tenant.head.tenant);
        let other = groups.values().flatten().filter(|b| b.layout() != wanted);
        let newest = other.max_by_key(|b| (b.meta().min_time, b.meta().ulid)).cloned();
        if newest.is_none() && waits { None } else { Some(newest.into_iter().collect()) }
    }

    /// Makes one block of these. False if they are none of the live blocks as the manifest still stands.
    pub(super) fn compact_blocks(
        &self,
        tenant: &Tenant,
        inputs: &[Block],
        cancel: &CancelToken,
    ) -> Result<bool, StorageError> {
        let id = &tenant.head.tenant;
        let began = self.clock.monotonic();
        let based_on = tenant.manifest.current().number;
        let output = BlockId::new(&*self.clock);
        let removed: Vec<BlockId> = inputs.iter().map(|b| b.meta().ulid).collect();
        let job = self.begin_job(id, &[output], &removed)?;
        let written = self.write_compacted(tenant, output, inputs, cancel);
        let written = match written {
            Ok(None) => self.keep_exemplars(tenant, inputs).map(|()| (None, 0)),
            written => written.map(|written| written.map_or((None, 0), |(block, n)| (Some(block), n))),
        };
        let (block, conflicts) = match written {
            Ok(written) => written,
            Err(error) => {
                self.end_job(id, &job, &tenant.manifest.current());
                return Err(error);
            }
        };
        // What is made of an imported block says no more than it about what was cut from the head.
        let live = tenant.manifest.current();
        let imported = removed.iter().any(|id| live.blocks.get(id).is_some_and(|b| b.imported));
        let entry = |b: &Block| BlockEntry { imported, ..BlockEntry::of_block(b) };
        let added = block.iter().map(entry).collect();
        let change = Change { added, removed, based_on: Some(based_on), ..Change::default() };
        // From here on cuts wait: a commit and what queries read change together.
        let _cuts = tenant.cuts.lock();
        let committed = commit(tenant, &change);
        let live = tenant.manifest.current();
        match committed {
            Ok(()) => {
                self.metrics.compactions.add(1);
                self.metrics.compaction_conflicts.add(conflicts);
                self.metrics.compacted_bytes.add(inputs.iter().map(Block::bytes).sum());
                tracing::info!(
                    tenant = %id, block = %output, inputs = inputs.len(),
                    start = inputs.iter().map(|b| b.meta().min_time).min().unwrap_or_default(),
                    samples = block.as_ref().map_or(0, |b| b.meta().stats.num_samples),
                    ms = self.clock.monotonic().saturating_sub(began).as_millis() as u64,
                    "blocks compacted"
                );
                self.follow(tenant, &live, block);
            }
            // In doubt: the next start knows.
            Err(error) if error.kind() == ErrorKind::Unavailable => return Err(error.into()),
            Err(error) => {
                self.follow(tenant, &live, None);
                self.end_job(id, &job, &live);
                if error.kind() != ErrorKind::Execution {
                    return Err(error.into());
                }
                // Retention, a deletion or another compactor was there first.
                tracing::info!(tenant = %id, block = %output, %error, "compaction came too late and is planned anew");
                return Ok(live.number != based_on);
            }
        }
        self.end_job(id, &job, &live);
        Ok(true)
    }

    /// Opens blocks once more of which the disk did not give all files, less and less often.
    pub(super) fn reopen(&self, tenant: &Tenant) {
        let lacking: Vec<Block> = {
            let view = tenant.view.read();
            view.blocks.iter().filter(|block| block.lacks_files()).cloned().collect()
        };
        let now = self.clock.monotonic();
        if lacking.is_empty() || now < tenant.compaction.lock().reopen.0 {
            return;
        }
        let _cuts = tenant.cuts.lock();
        let whole = |block: &Block| {
            let again = Block::open(&*self.disk, block.dir()).ok().filter(|again| !again.lacks_files())?;
            let meta = block.meta();
            Some(again.listed_as(meta.ulid, meta.min_time, meta.max_time))
        };
        let mut found: Vec<Block> = lacking.iter().filter_map(whole).collect();
        {
            let mut state = tenant.compaction.lock();
            let wait = (state.reopen.1 * 2).clamp(REOPEN_FIRST, RETRY_AFTER);
            state.reopen = if found.len() == lacking.len() { Default::default() } else { (now + wait, wait) };
            if !found.is_empty() {
                state.look_again();
            }
        }
        let mut unhidden = Vec::new();
        self.hide_in(tenant, &mut found, &mut unhidden);
        let mut view = tenant.view.write();
        let mut blocks = view.blocks.to_vec();
        blocks.retain(|block| unhidden.iter().all(|missing| missing.block != block.meta().ulid));
        for block in &mut blocks {
            if let Some(again) = found.iter().find(|again| again.meta().ulid == block.meta().ulid) {
                *block = again.clone();
            }
        }
        view.blocks = blocks.into();
        view.missing = view.missing.iter().cloned().chain(unhidden).collect::<Vec<_>>().into();
    }

    /// Of blocks that go because all of their samples are deleted: exemplars of which no delete speaks stay,
    /// as do those that came too late for the block of their time. The head takes them back.
    fn keep_exemplars(&self, tenant: &Tenant, inputs: &[Block]) -> Result<(), StorageError> {
        let (standing, _) = tenant.head.standing_deletes();
        let names = |d: &Delete, labels: &Labels| {
            let matches = |m: &Matcher| m.matches(labels.get(&m.name).unwrap_or(""));
            d.matcher_sets.iter().any(|set| set.iter().all(matches))
        };
        let mut kept = Vec::new();
        for file in inputs.iter().filter_map(|block| readable(block.exemplar_file()).flatten()) {
            for mut series in file.series(&[], TimeRange::ALL).map_while(readable) {
                let of_it: Vec<&Delete> =
                    standing.iter().filter(|d| d.is_final && names(d, &series.series)).collect();
                series.exemplars.retain(|e| of_it.iter().all(|d| !d.range.contains(e.timestamp)));
                kept.extend(Some(series).filter(|series| !series.exemplars.is_empty()));
            }
        }
        if kept.is_empty() {
            return Ok(());
        }
        let closed = || StoreError::new(ErrorKind::Unavailable, "database is closed");
        let log = self.log.get().and_then(Weak::upgrade).ok_or_else(closed)?;
        Ok(HeadAppender::open(tenant.head.clone(), log)?.keep_exemplars(kept)?)
    }

    fn write_compacted(
        &self,
        tenant: &Tenant,
        output: BlockId,
        inputs: &[Block],
        cancel: &CancelToken,
    ) -> Result<Option<(Block, u64)>, StorageError> {
        let home = self.bucket_dir(&tenant.head.tenant);
        let ctx = self.compaction_context(tenant, cancel);
        let layout = self.config.layout_of(&tenant.head.tenant);
        let Some(merged) = compact(&self.disk, &home, output, layout, inputs, &ctx)? else { return Ok(None) };
        let block = Block::open(&*self.disk, &layout.home(&home).join(output.to_string()))?;
        Ok(Some((block, merged.conflicts)))
    }

    fn compaction_context(&self, tenant: &Tenant, cancel: &CancelToken) -> QueryContext {
        let budget = MemoryBudget::new("compaction", self.config.compaction_memory_bytes, None);
        QueryContext::new(tenant.head.tenant.clone(), budget, cancel.clone())
    }

    /// Says what went wrong. Damaged inputs are set aside, so that the others are compacted.
    fn compaction_failed(
        &self,
        tenant: &Tenant,
        inputs: &[Block],
        error: &StorageError,
        cancel: &CancelToken,
    ) {
        if cancel.reason().is_some() {
            return;
        }
        self.metrics.compactions_failed.add(1);
        let id = &tenant.head.tenant;
        let mut quarantined = 0;
        if error.kind() == ErrorKind::Corrupt {
            for block in inputs {
                let damage = self.examine(tenant, block, cancel);
                if let Err(damage) = damage
                    && damage.kind() == ErrorKind::Corrupt
                {
                    self.quarantine(tenant, block, &damage);
                    quarantined += 1;
                }
            }
        }
        if quarantined == 0 {
            tracing::error!(tenant = %id, %error, retry_in_seconds = RETRY_AFTER.as_secs(), "compaction failed, the blocks are as they were");
            tenant.compaction.lock().not_before = self.clock.monotonic() + RETRY_AFTER;
        }
    }

    /// Reads all of a block as a compaction would.
    pub(super) fn examine(
        &self,
        tenant: &Tenant,
        block: &Block,
        cancel: &CancelToken,
    ) -> Result<(), StoreError> {
        crate::compact::examine(block, &self.compaction_context(tenant, cancel))
    }
}

/// Lets no sample in order into what lies between the blocks: the output will cover it. False if the
/// head has some there; they become a block first.
fn close_gaps<'a>(tenant: &Tenant, inputs: impl Iterator<Item = &'a BlockMeta>) -> bool {
    let all =
        inputs.map(BlockMeta::range).reduce(|a, b| TimeRange::new(a.start.min(b.start), a.end.max(b.end)));
    let Some(range) = all else { return true };
    // Cuts change what is cut too.
    let _cuts = tenant.cuts.lock();
    let Some(gaps) = tenant.head.close_gaps(range) else { return false };
    if !gaps.is_empty() {
        let mut view = tenant.view.write();
        let mut cut = view.head.cut.to_vec();
        gaps.into_iter().for_each(|gap| add_range(&mut cut, gap));
        view.head.cut = cut.into();
    }
    true
}

fn commit(tenant: &Tenant, change: &Change) -> Result<(), ManifestError> {
    let mut tries = 1;
    loop {
        match tenant.manifest.commit_change(change) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Unavailable && tries < COMMIT_TRIES => tries += 1,
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
