//! Head ranges become blocks: refuse, settle, seal, write, commit, hide, forget, truncate.
//!
//! A sample is in the log until the block that holds it is in the manifest, and a query sees it
//! once at any moment: what it reads of head and blocks is one view, taken at once.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use pyrrha_model::{ErrorKind, Labels, StoreError, TimeRange};

use super::jobs::Job;
use super::tenant::Tenant;
use super::{Db, Shared};
use crate::block::{Block, BlockError, BlockId, BlockMeta, BlockWriter};
use crate::compact::resolve;
use crate::error::StorageError;
use crate::head::{BlockExtras, Cut, CutSeries, HeadView, add_range};
use crate::manifest::{BlockEntry, ManifestError};
use crate::wal::{LogPosition, Wal};

/// After a cut failed (a full disk, say) it is tried again this much later.
const RETRY_AFTER: Duration = Duration::from_secs(30);
/// Hint of a block made of late samples, as Prometheus has it.
const FROM_OUT_OF_ORDER: &str = "from-out-of-order";

/// Bytes of the log by segment, oldest first.
pub(super) struct LogSizes(Vec<(u64, u64)>);

impl LogSizes {
    pub(super) fn of(wal: &Wal) -> Self {
        Self(wal.segment_sizes())
    }

    /// Bytes of the segment of `position` and those after it.
    fn bytes_from(&self, position: LogPosition) -> u64 {
        let first = self.0.partition_point(|(number, _)| *number < position.segment);
        self.0[first..].iter().map(|(_, bytes)| bytes).sum()
    }
}

/// Where the cuts of a tenant stand.
#[derive(Debug, Default)]
pub(crate) struct CutState {
    /// A block that is written, and committed or not.
    written: Option<Written>,
    /// What new queries no longer read in the head, which still has it.
    hidden: Vec<Cut>,
    /// Held by the queries that do read them.
    readers: Vec<Arc<()>>,
    /// Monotonic time before which no cut is tried.
    not_before: Duration,
}

#[derive(Debug)]
struct Written {
    cut: Cut,
    /// The block; none if the cut had nothing readable.
    block: Option<Block>,
    /// What its sidecar files have.
    extras: Option<BlockExtras>,
    job: Job,
}

impl Db {
    /// Cuts what may be cut, and forgets what no query reads any more. A failure is logged,
    /// counted, and tried again later: the samples stay in the log.
    pub(super) fn cut_ranges(&self, tenant: &Tenant, log: &LogSizes) {
        let mut state = tenant.cuts.lock();
        while self.shared.clock.monotonic() >= state.not_before {
            let failures = self.shared.reserve.failures();
            match self.cut_next(tenant, &mut state, log) {
                // The log gives room before the next cut wants some.
                Ok(true) if self.is_disk_full() => break,
                Ok(true) => {}
                Ok(false) => break,
                Err(_) if self.shared.reserve.release_since(failures) => {}
                Err(error) => {
                    tracing::error!(tenant = %tenant.head.tenant, %error, "head range could not be cut, it is tried again");
                    self.shared.metrics.cuts_failed.add(1);
                    state.not_before = self.shared.clock.monotonic() + RETRY_AFTER;
                }
            }
        }
        if let Err(error) = self.shared.forget_hidden(tenant, &mut state) {
            tracing::warn!(tenant = %tenant.head.tenant, %error, "head chunk file could not be removed");
        }
    }

    /// Cuts the next range; false if there is none.
    fn cut_next(&self, tenant: &Tenant, state: &mut CutState, log: &LogSizes) -> Result<bool, StorageError> {
        if state.written.is_none() {
            if !self.shared.knows_deletes(tenant) {
                return Ok(false);
            }
            let hidden = tenant.view.read().head.cut.clone();
            let pinned = tenant.head.pins_log_from(&hidden).map_or(0, |from| log.bytes_from(from));
            let pressed = pinned > self.shared.config.log_limit_bytes
                || self.is_disk_full()
                || self.shared.heads_exceed_budget();
            let Some(cut) = tenant.head.cuttable(&hidden, pressed) else { return Ok(false) };
            let in_order = cut.in_order;
            if in_order {
                tenant.head.refuse_range(cut.range);
            }
            let settled = if in_order { tenant.head.settle(&*self.log) } else { Ok(()) };
            let written =
                settled.map_err(StorageError::from).and_then(|()| self.shared.write_cut(tenant, cut));
            if written.is_err() && in_order {
                tenant.head.accept_range(&hidden);
            }
            state.written = Some(written?);
        }
        self.shared.commit_cut(tenant, state)?;
        Ok(true)
    }

    /// Truncates the log up to the oldest sample that is in no block.
    pub(super) fn truncate_log(&self) -> Result<(), StorageError> {
        // Taken first: what is applied meanwhile lies behind it.
        let mut before = self.sink.position();
        let tenants = self.shared.tenants.all();
        for tenant in &tenants {
            let needed = tenant.head.logged_from().into_iter().chain(tenant.head.deletes_logged_from());
            before = needed.fold(before, LogPosition::min);
        }
        let keep_from = LogPosition { segment: before.segment, offset: 0 };
        if keep_from <= *self.truncated.lock() {
            return Ok(());
        }
        // Exemplars and metadata that no block has move on in the log, and deletes that stand.
        for tenant in &tenants {
            tenant.head.log_extras_again(keep_from, &*self.log)?;
            tenant.head.log_deletes_again(keep_from, &*self.log)?;
        }
        self.wal.truncate_before(keep_from)?;
        *self.truncated.lock() = keep_from;
        Ok(())
    }
}

impl Shared {
    /// Makes a range a block while the log is replayed; the rest of it has nothing more in order for the
    /// range. False if writers have, who do not wait for recovery.
    pub(super) fn cut_replayed(&self, tenant: &Tenant, cut: Cut) -> Result<bool, StorageError> {
        let mut state = tenant.cuts.lock();
        // One that could not be committed before.
        self.commit_cut(tenant, &mut state)?;
        let hidden = tenant.view.read().head.cut.clone();
        let in_order = cut.in_order;
        if in_order && hidden.iter().any(|gone| gone.overlaps(&cut.range)) {
            // It was the one.
            return Ok(true);
        }
        if in_order && !tenant.head.refuse_replayed(cut.range) {
            return Ok(false);
        }
        let written = self.write_cut(tenant, cut);
        if written.is_err() && in_order {
            tenant.head.accept_range(&hidden);
        }
        state.written = Some(written?);
        self.commit_cut(tenant, &mut state)?;
        if let Err(error) = self.forget_hidden(tenant, &mut state) {
            tracing::warn!(tenant = %tenant.head.tenant, %error, "head chunk file could not be removed");
        }
        Ok(true)
    }

    /// Commits the block that is written, if one is.
    fn commit_cut(&self, tenant: &Tenant, state: &mut CutState) -> Result<(), StorageError> {
        let Some(written) = &state.written else { return Ok(()) };
        if let Some(block) = &written.block {
            // Committing once more what may have been committed is safe.
            tenant.manifest.commit(&[BlockEntry::of_block(block)], &[])?;
            self.metrics.blocks_cut.add(1);
            if !written.cut.in_order {
                self.metrics.late_blocks_cut.add(1);
            }
        }
        if let Some(written) = state.written.take() {
            self.end_job(&tenant.head.tenant, &written.job, &tenant.manifest.current());
            let extras = written.extras;
            let live = tenant.manifest.current();
            let end = written.block.as_ref().map(|b| b.meta().max_time);
            let newest = end.is_some_and(|end| live.blocks.values().all(|other| other.max_time <= end));
            self.hide(tenant, written.cut, written.block, state);
            // Whoever looks for exemplars looks into the head first.
            extras.iter().for_each(|extras| tenant.head.extras_saved(extras, newest));
        }
        Ok(())
    }

    /// Writes the block of a cut, for which no sample is on its way.
    fn write_cut(&self, tenant: &Tenant, mut cut: Cut) -> Result<Written, StorageError> {
        if cut.in_order {
            tenant.head.seal_range(cut.range);
        }
        cut.late = tenant.head.close_late(cut.range);
        let id = BlockId::new(&*self.clock);
        let job = self.begin_job(&tenant.head.tenant, &[id], &[])?;
        match self.write_block(tenant, &cut, id) {
            Ok(Some((block, extras))) => Ok(Written { cut, block: Some(block), extras: Some(extras), job }),
            Ok(None) => Ok(Written { cut, block: None, extras: None, job }),
            Err(error) => {
                self.end_job(&tenant.head.tenant, &job, &tenant.manifest.current());
                Err(error)
            }
        }
    }

    fn write_block(
        &self,
        tenant: &Tenant,
        cut: &Cut,
        id: BlockId,
    ) -> Result<Option<(Block, BlockExtras)>, StorageError> {
        let range = cut.range;
        let layout = self.config.layout_of(&tenant.head.tenant);
        let dir = layout.home(&self.bucket_dir(&tenant.head.tenant)).join(id.to_string());
        let mut writer = BlockWriter::create_as(self.disk.clone(), &dir, layout)?;
        writer.knows_deletes(tenant.head.standing_deletes().1);
        let mut series = 0u64;
        let damaged = tenant.head.visit_cut(cut, |labels, found| {
            series += u64::from(write_series(&mut writer, labels, found)?);
            Ok::<_, StorageError>(())
        })?;
        if damaged > 0 {
            tracing::error!(tenant = %tenant.head.tenant, block = %id, chunks = damaged, start = range.start, "damaged head chunks are not in the block");
        }
        if series == 0 {
            return Ok(None);
        }
        let mut extras = tenant.head.extras_until(range.end);
        let exemplars = std::mem::take(&mut extras.exemplars);
        writer.write_exemplars(exemplars.into_iter().map(Ok::<_, StorageError>))?;
        writer.write_metadata(extras.metadata.iter().map(|(name, m)| (name.as_str(), m)))?;
        let mut meta = BlockMeta::of_head(id, range.start, range.end + 1);
        if !cut.in_order {
            meta.compaction.hints = vec![FROM_OUT_OF_ORDER.to_owned()];
        }
        let meta = writer.finish(meta)?;
        tracing::info!(tenant = %tenant.head.tenant, block = %id, series, samples = meta.stats.num_samples, start = range.start, in_order = cut.in_order, "head range cut");
        Ok(Some((Block::open(&*self.disk, &dir)?, extras)))
    }
}

/// Writes a series without what is deleted for good; what may come back is written and hidden.
/// Gives whether anything is left.
pub(super) fn write_series(
    writer: &mut BlockWriter,
    labels: &Labels,
    found: CutSeries,
) -> Result<bool, StorageError> {
    let CutSeries { entry, undoable } = found;
    let mut chunks = entry.chunks.to_vec();
    if !entry.deleted.is_empty() {
        chunks.clear();
        resolve(&entry, &mut chunks).map_err(|source| {
            let text = format!("head chunk with deleted samples does not decode: series={labels}");
            StorageError::Store(StoreError::caused(ErrorKind::Corrupt, text, source))
        })?;
    }
    writer.add_series(labels, &chunks)?;
    let Some((first, last)) = chunks.first().zip(chunks.last()) else { return Ok(false) };
    let extent = TimeRange::new(first.min_time, last.max_time);
    for (delete, interval) in undoable {
        writer.hide(delete, interval.intersect(&extent));
    }
    Ok(true)
}

impl Shared {
    /// From here on queries read the range in the block.
    fn hide(&self, tenant: &Tenant, gone: Cut, block: Option<Block>, state: &mut CutState) {
        let view = tenant.view.read().clone();
        let mut blocks: Vec<Block> = view.blocks.to_vec();
        // One that was adopted from a commit in doubt is there already.
        blocks.extend(block.filter(|b| !view.blocks.iter().any(|o| o.meta().ulid == b.meta().ulid)));
        blocks.sort_by_key(|b| b.meta().min_time);
        let mut missing = view.missing.to_vec();
        self.hide_in(tenant, &mut blocks, &mut missing);
        let mut view = tenant.view.write();
        let mut cut = view.head.cut.to_vec();
        if gone.in_order {
            add_range(&mut cut, gone.range);
        }
        let late_cut = view.head.late_cut.iter().chain(&gone.late).copied().collect();
        let hidden = HeadView { cut: cut.into(), late_cut, ..HeadView::default() };
        let old = std::mem::replace(&mut view.head, hidden);
        tenant.head.late_in_block(&gone.late);
        self.metrics.late_ranges_cut.add(gone.late.len() as u64);
        state.readers.push(old.pin);
        state.hidden.push(gone);
        view.blocks = blocks.into();
        view.missing = missing.into();
    }

    fn forget_hidden(&self, tenant: &Tenant, state: &mut CutState) -> io::Result<()> {
        state.readers.retain(|pin| Arc::strong_count(pin) > 1);
        if state.hidden.is_empty() || !state.readers.is_empty() {
            return Ok(());
        }
        let gone = std::mem::take(&mut state.hidden);
        let cut = tenant.view.read().head.cut.clone();
        let forgotten = tenant.head.forget(&*self.disk, &self.head_dir(&tenant.head.tenant), &gone, &cut);
        // The ids stand for nothing now. Readers of the old view may stay.
        let mut view = tenant.view.write();
        view.head.late_cut = state.hidden.iter().flat_map(|cut| cut.late.iter().copied()).collect();
        forgotten
    }
}

impl From<ManifestError> for StorageError {
    fn from(error: ManifestError) -> Self {
        Self::Store(error.into())
    }
}

impl From<BlockError> for StorageError {
    fn from(error: BlockError) -> Self {
        Self::Store(error.into())
    }
}
