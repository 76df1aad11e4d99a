//! Recovery of a head: what the log brings back, and what is appended meanwhile (decision 4).
//!
//! Series and their references are the head's from the first moment on; only samples wait. What is
//! acknowledged before the head is recovered is held in a side head, in the order of the log, and
//! goes the way of replayed samples when replay is through. So a start that finds the same batches
//! in the log comes to the same state.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, RwLockWriteGuard};
use pyrrha_index::RoaringBitmap;
use pyrrha_model::{TimeRange, Timestamp};
use smallvec::SmallVec;

use super::admission::{Admission, is_cut};
use super::data::{HeadData, Recovered};
use super::directory::Directory;
use super::{Extras, Head, admit_newest_late};
use crate::wal::{LogBatch, LogDelete, LogPosition, PackedBatch};

/// Where the recovery of a head stands.
#[derive(Debug)]
pub(super) struct RecoveryState {
    recovered: AtomicBool,
    /// Whether there is a side head.
    open: AtomicBool,
    side: Mutex<Option<SideHead>>,
}

impl Default for RecoveryState {
    fn default() -> Self {
        Self { recovered: AtomicBool::new(true), open: AtomicBool::new(false), side: Mutex::new(None) }
    }
}

/// What came in before the head was recovered.
#[derive(Debug, Default)]
struct SideHead {
    /// Batches that are durable, oldest first.
    batches: VecDeque<PackedBatch>,
    /// Batches that were admitted by the rules of recovery and are on their way to the log. The
    /// head may be recovered before they are through.
    awaited: usize,
    /// Starts of the block ranges for which it has samples in order.
    ranges: BTreeSet<Timestamp>,
    /// Series that batches name.
    series: RoaringBitmap,
}

impl SideHead {
    /// Remembers what a batch has.
    fn note(&mut self, batch: &LogBatch, range_ms: i64) {
        let histograms = batch.histograms.iter().map(|h| h.t);
        let mut before = None;
        for t in batch.times.iter().copied().chain(histograms) {
            let start = t.div_euclid(range_ms) * range_ms;
            if before != Some(start) {
                self.ranges.insert(start);
                before = Some(start);
            }
        }
        self.series.extend(&batch.refs);
        self.series.extend(batch.histograms.iter().chain(&batch.late).map(|h| h.series));
        self.series.extend(batch.exemplars.iter().map(|(series, _)| *series));
        self.series.extend(batch.deletes.iter().flat_map(LogDelete::hidden).map(|(series, _)| *series));
        self.series.extend(&batch.series);
    }
}

/// Finds or creates series of one head. It holds the head's labels, and lets go of them now and then.
pub(crate) struct RecoveringSeries<'s> {
    head: &'s Head,
    symbols: Vec<&'s str>,
    /// Ids of the symbols, as of a sweep.
    ids: Vec<u32>,
    sweeps: u64,
    locked: Option<RwLockWriteGuard<'s, Directory>>,
    /// Series until it lets go.
    left: usize,
}

/// Series that are looked up at one go.
const AT_ONE_GO: usize = 64;

impl RecoveringSeries<'_> {
    /// The series with these labels: numbers of symbols, sorted by name. It may be the one that is `known`.
    pub(crate) fn series(&mut self, known: u32, labels: &[(u32, u32)]) -> u32 {
        if self.left == 0 {
            self.left = AT_ONE_GO;
            self.release();
        }
        self.left -= 1;
        let directory = self.locked.get_or_insert_with(|| self.head.directory.write());
        if self.sweeps != directory.sweeps {
            self.sweeps = directory.sweeps;
            self.ids.clear();
            self.ids.extend(self.symbols.iter().map(|text| directory.symbols.intern(text)));
        }
        let id = |symbol: u32| self.ids.get(symbol as usize).copied().unwrap_or(u32::MAX);
        let pairs: SmallVec<[(u32, u32); 32]> = labels.iter().map(|&(n, v)| (id(n), id(v))).collect();
        if directory.has_ids(known, &pairs) {
            return known;
        }
        directory.find_or_create_with_ids(&pairs)
    }

    /// Lets others have the labels, with those that are new.
    fn release(&mut self) {
        let Some(directory) = self.locked.take() else { return };
        let mut data = self.head.data.write();
        let before = data.hot.len();
        data.hot.grow(directory.bound());
        self.head.metrics.series_created.add((data.hot.len() - before) as u64);
    }
}

impl Drop for RecoveringSeries<'_> {
    fn drop(&mut self) {
        self.release();
    }
}

impl RecoveryState {
    /// A batch goes to the log. Called under the admission lock; tells whether the rules of
    /// recovery admitted it.
    pub(super) fn submitted(&self) -> bool {
        if self.recovered.load(Ordering::Acquire) {
            return false;
        }
        self.side.lock().as_mut().map(|side| side.awaited += 1).is_some()
    }

    /// Whether there are samples in order for the block range that starts at `start`, which wait.
    pub(super) fn holds_range(&self, start: Timestamp) -> bool {
        self.side.lock().as_ref().is_some_and(|side| side.ranges.contains(&start))
    }

    /// The series of batches that wait.
    pub(super) fn held_series(&self) -> RoaringBitmap {
        self.side.lock().as_ref().map(|side| side.series.clone()).unwrap_or_default()
    }

    /// Whether there is, or may come, a batch that was admitted by the rules of recovery.
    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// A batch did not come to be durable.
    pub(super) fn withdrawn(&self) {
        let mut side = self.side.lock();
        if let Some(awaited) = side.as_mut().map(|side| &mut side.awaited) {
            *awaited = awaited.saturating_sub(1);
        }
        self.close(&mut side);
    }

    /// Ends the side head once the head is recovered and nothing is awaited.
    fn close(&self, side: &mut Option<SideHead>) {
        let over = side.as_ref().is_some_and(|side| side.awaited == 0 && side.batches.is_empty());
        if over && self.recovered.load(Ordering::Acquire) {
            *side = None;
            self.open.store(false, Ordering::Release);
        }
    }
}

impl Head {
    /// The same head, which the log has yet to fill.
    pub(crate) fn unrecovered(self) -> Self {
        *self.recovery.side.lock() = Some(SideHead::default());
        self.recovery.open.store(true, Ordering::Release);
        self.recovery.recovered.store(false, Ordering::Release);
        self
    }

    /// Whether it has all that was acknowledged before the start.
    pub(crate) fn is_recovered(&self) -> bool {
        self.recovery.recovered.load(Ordering::Acquire)
    }

    /// Finds or creates a series that the log defines; its labels are sorted by name.
    pub(crate) fn recover_series(&self, labels: &[(&str, &str)]) -> u32 {
        let (hash, found) = {
            let directory = self.directory.read();
            let hash = directory.hash(labels);
            (hash, directory.find(hash, labels))
        };
        if let Some(series) = found {
            return series;
        }
        let mut directory = self.directory.write();
        // A writer may have created it since.
        if let Some(series) = directory.find(hash, labels) {
            return series;
        }
        let series = directory.create(hash, labels);
        self.data.write().hot.grow(series as usize + 1);
        self.metrics.series_created.add(1);
        series
    }

    /// Finds or creates many series that the log defines, with labels from `symbols`.
    pub(crate) fn recover_definitions<'s>(&'s self, symbols: Vec<&'s str>) -> RecoveringSeries<'s> {
        RecoveringSeries { head: self, symbols, ids: Vec::new(), sweeps: u64::MAX, locked: None, left: 0 }
    }

    /// Applies a batch of the log. Samples that the head or a block has already are left out.
    pub(crate) fn recover(&self, batch: &mut LogBatch, position: LogPosition, cut: &[TimeRange]) {
        if !cut.is_empty() {
            let floats = batch.refs.iter_mut().zip(&batch.times);
            floats.filter(|(_, t)| is_cut(cut, **t)).for_each(|(series, _)| *series = u32::MAX);
            batch.histograms.retain(|h| !is_cut(cut, h.t));
        }
        let samples = batch.samples() as u64;
        let recovered = self.put_back(batch, position, cut, false);
        self.metrics.replayed.add(recovered.new);
        self.metrics.replay_skipped.add(samples - recovered.new - recovered.lost);
        self.metrics.replay_lost.add(recovered.lost);
        self.metrics.replayed_late.add(recovered.late);
        self.metrics.conflicts.add(recovered.conflicts);
    }

    fn put_back(
        &self,
        batch: &mut LogBatch,
        position: LogPosition,
        cut: &[TimeRange],
        judged: bool,
    ) -> Recovered {
        self.append_extras(batch, position);
        let matching: Vec<_> = batch.deletes.iter().map(|delete| self.series_of(delete)).collect();
        let mut data = self.data.write();
        data.now = self.clock.monotonic();
        for (delete, series) in batch.deletes.iter().zip(matching) {
            data.deletes.apply(delete, position);
            data.hide_also(delete, &series);
        }
        if !data.deletes.hides_nothing() {
            data.deletes.show(batch, position);
        }
        data.recover_batch(batch, position, cut, judged)
    }

    /// Ranges that have left the head; before it is recovered they change only when the log is drained.
    pub(crate) fn cut_ranges(&self) -> Vec<TimeRange> {
        self.admission.lock().cut.clone()
    }

    /// Takes a durable batch that was admitted by the rules of recovery, to hold it back until the
    /// head is recovered; false if the batch is any other.
    pub(super) fn take_unjudged(&self, batch: &LogBatch, position: LogPosition) -> bool {
        if !self.recovery.is_open() {
            return false;
        }
        let mut locked = self.recovery.side.lock();
        let Some(side) = locked.as_mut() else { return false };
        side.awaited = side.awaited.saturating_sub(1);
        self.metrics.side_head_samples.add(batch.samples() as u64);
        if self.is_recovered() {
            // Batches admitted later are behind it: the lock keeps the order.
            self.reclassify(batch.clone(), position);
            self.recovery.close(&mut locked);
            return true;
        }
        let packed = PackedBatch::new(batch, position);
        self.metrics.side_head_bytes.add(packed.bytes() as u64);
        side.note(batch, self.config.block_range_ms.max(1));
        side.batches.push_back(packed);
        true
    }

    /// Forgets what was restored: it turned out to be of no use. Series stay, they may be in use.
    pub(crate) fn discard_restored(&self) {
        let bound = self.directory.read().bound();
        let mut data = self.data.write();
        let mut empty = HeadData::new(data.rules);
        empty.hot.grow(bound);
        empty.store.reserve_numbers(data.store.next_number());
        *data = empty;
        *self.extras.write() = Extras::default();
    }

    /// After replay: puts the next batch of the side head where it belongs. When nothing is left,
    /// the head is recovered; true then.
    pub(crate) fn reclassify_next(&self) -> bool {
        if self.is_recovered() {
            return true;
        }
        if !self.reclassify_held_back() {
            self.end_recovery();
        }
        self.is_recovered()
    }

    /// Puts the oldest batch of the side head where it belongs; false if there is none.
    fn reclassify_held_back(&self) -> bool {
        let next = self.recovery.side.lock().as_mut().and_then(|side| side.batches.pop_front());
        let Some(packed) = next else { return false };
        self.metrics.side_head_bytes.sub(packed.bytes() as u64);
        match packed.unpack(self.tenant.clone(), &mut Vec::new()) {
            Ok(batch) => self.reclassify(batch, packed.position()),
            Err(error) => {
                tracing::error!(tenant = %self.tenant, samples = packed.samples(), %error, "held back batch does not unpack, a restart reads it from the log");
                self.metrics.replay_lost.add(packed.samples() as u64);
            }
        }
        true
    }

    fn reclassify(&self, mut batch: LogBatch, position: LogPosition) {
        if !self.config.start_timestamps {
            let starts = batch.starts.iter().filter(|start| **start != 0).count();
            self.metrics.starts_dropped.add(starts as u64);
        }
        // What was admitted as late stays so: it lies behind a newer sample, or in a block range.
        let recovered = self.put_back(&mut batch, position, &[], true);
        self.metrics.side_in_order.add(recovered.new - recovered.late);
        self.metrics.side_out_of_order.add(recovered.late);
        self.metrics.side_conflicts.add(recovered.conflicts);
        self.metrics.replay_lost.add(recovered.lost);
    }

    /// Switches to normal. What is on its way to the log is judged when it comes.
    fn end_recovery(&self) {
        // No batch is open while this holds the lock.
        let mut admission = self.admission.lock();
        while self.reclassify_held_back() {}
        {
            let mut side = self.recovery.side.lock();
            if side.as_ref().is_some_and(|side| !side.batches.is_empty()) {
                // It came just now.
                return;
            }
            self.recovery.recovered.store(true, Ordering::Release);
            self.recovery.close(&mut side);
        }
        self.extras.write().exemplars.tidy();
        self.complete_admission(&mut admission);
    }

    /// Adds what is stored to what was admitted before the head was recovered.
    fn complete_admission(&self, admission: &mut Admission) {
        {
            let extras = self.extras.read();
            admission.exemplars.reset(&extras.exemplars);
            admission.metadata.clone_from(&extras.metadata);
        }
        let data = self.data.read();
        let mut histograms = data.histogram_series();
        admission.newest.grow(data.hot.len());
        for series in 0..data.hot.len() {
            let (stored, admitted) = (data.hot[series].newest, &mut admission.newest[series]);
            if admitted.t > stored.t {
                let kind = admission.histograms.get(&(series as u32));
                kind.map(|kind| histograms.insert(series as u32, *kind));
            } else {
                *admitted = stored;
            }
            if admitted.t != i64::MIN {
                admission.newest_time = admission.newest_time.max(Some(admitted.t));
            }
        }
        admission.histograms = histograms;
        admission.newest_time = admission.newest_time.max(data.newest_time);
        admit_newest_late(admission, &data);
    }
}
