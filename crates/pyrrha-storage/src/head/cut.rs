//! What leaves a head: ranges that become blocks, and series that have nothing left.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pyrrha_encoding::{decode_stored, encode_series};
use pyrrha_env::Disk;
use pyrrha_index::RoaringBitmap;
use pyrrha_model::contract::{ChunkRef, DeleteId, QueryContext, SeriesEntry};
use pyrrha_model::{Labels, StoreError, TimeRange, Timestamp};
use smallvec::SmallVec;

use super::admission::{add_range, is_cut};
use super::chunk_store::file_name;
use super::data::{HeadData, Open, RangeInfo};
use super::deletes::Intervals;
use super::late::LateRange;
use super::sealed::NONE;
use super::select::HeadView;
use super::{Head, Newest, admit_newest_late};
use crate::wal::LogPosition;

/// Series that are sealed or pruned under one hold of the lock.
const SLICE: usize = 2048;
/// Late samples of a range that become a block as soon as no more come.
const MANY_LATE: u64 = 100_000;
/// How often a removal looks whether the log has settled what was submitted, and how long apart.
const SETTLE_TRIES: usize = 200;
const SETTLE_WAIT: Duration = Duration::from_millis(1);

/// What of a head becomes a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cut {
    /// A block range.
    pub(crate) range: TimeRange,
    /// Whether the samples in order go with the late ones: the range has not been cut before.
    pub(crate) in_order: bool,
    /// Ids of the late ranges that go; known once they are closed.
    pub(crate) late: Vec<u64>,
}

/// A series as a cut finds it.
#[derive(Debug)]
pub(crate) struct CutSeries {
    /// Its chunks, and in `deleted` what is deleted for good.
    pub(crate) entry: SeriesEntry,
    /// What is deleted and may come back.
    pub(crate) undoable: Vec<(DeleteId, TimeRange)>,
}

impl HeadData {
    fn cut_series(&self, series: u32, chunks: SmallVec<[ChunkRef; 4]>) -> CutSeries {
        let overlaps = |d: &TimeRange| {
            chunks.iter().any(|c: &ChunkRef| d.overlaps(&TimeRange::new(c.min_time, c.max_time)))
        };
        let (mut deleted, mut undoable) = (Intervals::new(), Vec::new());
        if !self.deletes.hides_nothing() {
            deleted = self.deletes.of(series, |delete| delete.is_final);
            deleted.retain(|d| overlaps(d));
            undoable = self.deletes.undoable(series);
            undoable.retain(|(_, d)| overlaps(d));
        }
        CutSeries { entry: SeriesEntry { chunks, deleted, ..SeriesEntry::default() }, undoable }
    }
}

impl Head {
    /// What may be cut: the oldest range that is not `hidden`, if newer data lies half a range beyond
    /// its end and nothing has come for it of late, or nothing has come for it for long and it is as
    /// old by the wall clock. Under pressure (the head keeps too much of the log, or the disk is full)
    /// newer data beyond its end is enough, or its age. Else late samples of a range that is hidden.
    pub(crate) fn cuttable(&self, hidden: &[TimeRange], pressed: bool) -> Option<Cut> {
        let range_ms = self.data.read().rules.range_ms;
        let cut = |start, in_order| Cut {
            range: TimeRange::new(start, start + range_ms - 1),
            in_order,
            late: Vec::new(),
        };
        let in_order = self.cuttable_in_order(hidden, pressed).map(|start| cut(start, true));
        in_order.or_else(|| self.cuttable_late(hidden, pressed).map(|start| cut(start, false)))
    }

    /// What may be cut while the log is replayed: ranges that are over, but the newest one of samples in
    /// order, and late samples of ranges that are `hidden`. By time.
    pub(crate) fn drainable(&self, hidden: &[TimeRange], is_over: impl Fn(Timestamp) -> bool) -> Vec<Cut> {
        let wall = self.clock.now_ms();
        let data = self.data.read();
        let range_ms = data.rules.range_ms;
        let cut = |start: Timestamp, in_order| Cut {
            range: TimeRange::new(start, start + range_ms - 1),
            in_order,
            late: Vec::new(),
        };
        let shown = || data.ranges.keys().copied().filter(|start| !is_cut(hidden, *start));
        let newest = shown().next_back();
        let old = |start: Timestamp| wall >= start.saturating_add(range_ms + range_ms / 2);
        let in_order = shown().filter(|&start| is_over(start) && (Some(start) != newest || old(start)));
        let late = data.late.iter().filter(|late| !late.in_block && is_cut(hidden, late.start));
        let mut starts: Vec<Timestamp> = late.map(|late| late.start).collect();
        starts.dedup();
        let mut cuts: Vec<Cut> = in_order.map(|start| cut(start, true)).collect();
        cuts.extend(starts.into_iter().map(|start| cut(start, false)));
        cuts.sort_by_key(|cut| cut.range.start);
        cuts
    }

    fn cuttable_in_order(&self, hidden: &[TimeRange], pressed: bool) -> Option<Timestamp> {
        let (now, wall) = (self.clock.monotonic(), self.clock.now_ms());
        let data = self.data.read();
        let mut ranges: BTreeMap<Timestamp, RangeInfo> = data.ranges.clone();
        for late in data.late.iter().filter(|late| !late.in_block) {
            let info = ranges.entry(late.start).or_insert(late.info);
            info.max_time = info.max_time.max(late.info.max_time);
            info.appended = info.appended.max(late.info.appended);
        }
        ranges.retain(|start, _| !is_cut(hidden, *start));
        let newest = ranges.values().map(|r| r.max_time).max()?;
        let range_ms = data.rules.range_ms;
        ranges.iter().find_map(|(&start, info)| {
            let silent = now.saturating_sub(info.appended);
            let (end, settled) =
                (start.saturating_add(range_ms), start.saturating_add(range_ms + range_ms / 2));
            let passed = newest >= settled && silent >= self.config.quiet_before_cut;
            // Senders come back after an outage with what they kept: a range that is young by the wall
            // clock still takes it.
            let old = wall >= settled;
            let idle = old && silent >= self.config.idle_cut_after;
            let may_go = passed || idle || pressed && (newest >= end || old);
            may_go.then_some(start)
        })
    }

    /// What a view shows, as cuts would take it, each with the times of its samples.
    pub(crate) fn shown(&self, view: &HeadView) -> Vec<(Cut, TimeRange)> {
        let data = self.data.read();
        let range_ms = data.rules.range_ms;
        let mut shown: BTreeMap<Timestamp, (Cut, TimeRange)> = BTreeMap::new();
        let cut = |start: Timestamp, in_order| Cut {
            range: TimeRange::new(start, start.saturating_add(range_ms - 1)),
            in_order,
            late: Vec::new(),
        };
        for (&start, info) in data.ranges.iter().filter(|(start, _)| !is_cut(&view.cut, **start)) {
            shown.insert(start, (cut(start, true), TimeRange::new(info.min_time, info.max_time)));
        }
        for late in data.late.iter().filter(|late| !view.late_cut.contains(&late.id)) {
            let (cut, times) = shown.entry(late.start).or_insert_with(|| {
                (cut(late.start, false), TimeRange::new(late.info.min_time, late.info.max_time))
            });
            cut.late.push(late.id);
            times.start = times.start.min(late.info.min_time);
            times.end = times.end.max(late.info.max_time);
        }
        shown.into_values().collect()
    }

    /// Late samples of a range that has been cut make a block that overlaps another, which costs a
    /// merge: they wait for company, but not when they are many, have waited for long, or are in the way.
    fn cuttable_late(&self, hidden: &[TimeRange], pressed: bool) -> Option<Timestamp> {
        let now = self.clock.monotonic();
        let data = self.data.read();
        let longest = Duration::from_millis(data.rules.range_ms.unsigned_abs());
        let due = |late: &&LateRange| {
            let quiet = now.saturating_sub(late.info.appended);
            let many = late.info.samples >= MANY_LATE && quiet >= self.config.quiet_before_cut;
            pressed
                || many
                || quiet >= self.config.idle_cut_after
                || now.saturating_sub(late.began) >= longest
        };
        let waiting = data.late.iter().filter(|late| !late.in_block && is_cut(hidden, late.start));
        waiting.filter(due).map(|late| late.start).next()
    }

    /// Lets no more samples into the late ranges of the block range, and gives their ids.
    pub(crate) fn close_late(&self, range: TimeRange) -> Vec<u64> {
        self.data.write().late.close(range.start)
    }

    /// Says that a live block has the samples of these late ranges.
    pub(crate) fn late_in_block(&self, ids: &[u64]) {
        self.data.write().late.set_in_block(ids);
    }

    /// Refuses samples of the range from now on. Batches submitted before may still bring some.
    pub(crate) fn refuse_range(&self, range: TimeRange) {
        self.admission.lock().add_cut(range);
    }

    /// Refuses samples of the range from now on, while the log is replayed; false if some were admitted
    /// since the start.
    pub(crate) fn refuse_replayed(&self, range: TimeRange) -> bool {
        let mut admission = self.admission.lock();
        if !self.is_settled() || self.recovery.holds_range(range.start) {
            return false;
        }
        admission.add_cut(range);
        true
    }

    /// Waits a moment for what was submitted to be applied. Under the admission lock.
    fn is_settled(&self) -> bool {
        for _ in 0..SETTLE_TRIES {
            if self.in_flight.load(Ordering::Acquire) == 0 {
                return true;
            }
            self.clock.sleep(SETTLE_WAIT);
        }
        self.in_flight.load(Ordering::Acquire) == 0
    }

    /// Counts the parts of `range` that are not cut as cut from now on, and gives them; `None`, and no
    /// change, if the head has samples there, or may be getting some. For a block that will cover the
    /// range: a start takes it that samples in order below a block are in it.
    pub(crate) fn close_gaps(&self, range: TimeRange) -> Option<Vec<TimeRange>> {
        let mut admission = self.admission.lock();
        let gaps = gaps_in(&admission.cut, range);
        if gaps.is_empty() {
            return Some(gaps);
        }
        let data = self.data.read();
        let range_ms = data.rules.range_ms;
        let whole = |start: Timestamp| TimeRange::new(start, start + range_ms - 1);
        let stored = data.ranges.keys().any(|&start| gaps.iter().any(|gap| gap.overlaps(&whole(start))));
        // Late ones too: those that came before the head was recovered are in the log as samples in order.
        let late = data.late.iter().filter(|late| !late.in_block);
        let mut late = late.flat_map(|late| gaps.iter().map(move |gap| gap.overlaps(&whole(late.start))));
        let may_come = self.recovery.is_open() || admission.has_newest_in(&gaps);
        if stored || late.any(|overlaps| overlaps) || may_come {
            return None;
        }
        gaps.iter().for_each(|&gap| admission.add_cut(gap));
        Some(gaps)
    }

    /// Takes samples of the range again: its cut failed.
    pub(crate) fn accept_range(&self, still_cut: &[TimeRange]) {
        let mut admission = self.admission.lock();
        admission.cut = still_cut.to_vec();
        // Before that nothing of the log counts as admitted.
        if self.is_recovered() {
            admit_newest_late(&mut admission, &self.data.read());
        }
    }

    /// The log has nothing of the head's samples before this place; `None`: nothing at all.
    pub(crate) fn logged_from(&self) -> Option<LogPosition> {
        let data = self.data.read();
        let late = data.late.iter().map(|late| late.info.logged_from);
        data.ranges.values().map(|r| r.logged_from).chain(late).min()
    }

    /// The same without the ranges that are `hidden`.
    pub(crate) fn pins_log_from(&self, hidden: &[TimeRange]) -> Option<LogPosition> {
        let data = self.data.read();
        let kept = data.ranges.iter().filter(|(start, _)| !is_cut(hidden, **start));
        let late = data.late.iter().filter(|late| !late.in_block).map(|late| late.info.logged_from);
        kept.map(|(_, range)| range.logged_from).chain(late).min()
    }

    /// Ends the open chunks of the range. No sample of it may be on its way.
    pub(crate) fn seal_range(&self, range: TimeRange) {
        let mut series = 0;
        loop {
            let mut data = self.data.write();
            let end = data.hot.len().min(series + SLICE);
            for series in series..end {
                let hot = &data.hot[series];
                if hot.open != Open::None && range.contains(hot.open_start()) {
                    data.seal(series as u32);
                }
            }
            if end == data.hot.len() {
                return;
            }
            series = end;
        }
    }

    /// Visits the series with samples in the cut, sorted by labels, with chunks that do not overlap. Damaged
    /// chunks are left out; returns how many.
    pub(crate) fn visit_cut<E: From<StoreError>>(
        &self,
        cut: &Cut,
        mut visit: impl FnMut(&Labels, CutSeries) -> Result<(), E>,
    ) -> Result<usize, E> {
        let ctx = QueryContext::unlimited();
        let view = HeadView { with_deleted: true, ..HeadView::default() };
        let sorted = self.matching(&ctx, &[], None)?;
        let (mut damaged, mut found) = (Vec::new(), Vec::new());
        for slice in sorted.chunks(SLICE / 8) {
            let directory = self.directory.read();
            let data = self.data.read();
            for &series in slice {
                let mut chunks = SmallVec::new();
                if let Some(snapshot) = data.snapshot(series, cut.range, &view).filter(|_| cut.in_order) {
                    data.chunks_of(&snapshot, cut.range, &view, &mut chunks, &mut damaged);
                }
                let in_order = chunks.len();
                data.chunks_late(series, cut, &mut chunks, &mut damaged);
                if !chunks.is_empty() {
                    let late = chunks.len() > in_order;
                    found.push((directory.labels(series), data.cut_series(series, chunks), late));
                }
            }
            let starts = data.rules.start_timestamps;
            drop(data);
            drop(directory);
            for (labels, mut series, late) in found.drain(..) {
                if late {
                    let chunks = std::mem::take(&mut series.entry.chunks);
                    let (chunks, whole) = in_time_order(chunks, starts);
                    series.entry.chunks = chunks;
                    if !whole {
                        damaged.push(cut.range);
                    }
                }
                visit(&labels, series)?;
            }
        }
        self.metrics.chunks_damaged.add(damaged.len() as u64);
        Ok(damaged.len())
    }

    /// Forgets what was cut and what only that needed. No reader may be left that began before it
    /// was hidden. Series go if all they had is in `cut`.
    pub(crate) fn forget(
        &self,
        disk: &dyn Disk,
        dir: &Path,
        gone: &[Cut],
        cut: &[TimeRange],
    ) -> io::Result<()> {
        let mut ranges = Vec::new();
        gone.iter().filter(|cut| cut.in_order).for_each(|cut| add_range(&mut ranges, cut.range));
        let late: Vec<u64> = gone.iter().flat_map(|cut| cut.late.iter().copied()).collect();
        self.prune_chunks(&ranges);
        let files = {
            let mut data = self.data.write();
            data.ranges.retain(|&start, _| !is_cut(&ranges, start));
            data.forget_late(&late);
            let left = data.ranges.values().chain(data.late.iter().map(|late| &late.info));
            let oldest = left.map(|r| r.min_time).min();
            data.deletes.forget_before(oldest.unwrap_or(Timestamp::MAX));
            data.store.remove(|shelf| match shelf.late {
                0 => is_cut(&ranges, shelf.start),
                id => late.contains(&id),
            })
        };
        self.remove_idle_series(cut);
        for (segment, shelf) in files {
            let path = dir.join(file_name(segment, shelf));
            if disk.exists(&path) {
                disk.remove_file(&path)?;
            }
        }
        Ok(())
    }

    fn prune_chunks(&self, ranges: &[TimeRange]) {
        let mut series = 0;
        loop {
            let mut data = self.data.write();
            let end = data.hot.len().min(series + SLICE);
            for series in series..end {
                let tail = data.hot[series].tail;
                if tail != NONE {
                    data.hot[series].tail = data.sealed.prune(tail, |s| is_cut(ranges, s.min_time));
                }
            }
            if end == data.hot.len() {
                return;
            }
            series = end;
        }
    }

    /// Removes the series that have no samples left.
    fn remove_idle_series(&self, cut: &[TimeRange]) {
        // No batch is open or on its way while this holds the lock, so no one else knows the
        // references that go.
        let mut admission = self.admission.lock();
        if !self.is_settled() {
            return;
        }
        let mut directory = self.directory.write();
        let mut data = self.data.write();
        let gone = |t: Timestamp| t == Timestamp::MIN || is_cut(cut, t);
        let with_exemplars = self.extras.read().exemplars.series();
        let held_back = self.recovery.held_series();
        let idle = |series: &u32| {
            let hot = &data.hot[*series as usize];
            let idle = hot.open == Open::None && hot.tail == NONE && gone(hot.newest.t);
            // An exemplar that is in no block needs the labels of its series.
            let needed = with_exemplars.contains(*series) || held_back.contains(*series);
            idle && !needed && !data.late.has(*series)
        };
        let dead: RoaringBitmap = directory.postings.all().iter().filter(idle).collect();
        if dead.is_empty() {
            return;
        }
        for series in &dead {
            data.hot[series as usize].newest = Newest::default();
            // Replay creates series that no writer has met.
            if (series as usize) < admission.newest.len() {
                admission.newest[series as usize] = Newest::default();
            }
            admission.histograms.remove(&series);
        }
        directory.remove(&dead);
        // References are never given out again: what lies behind them goes page by page.
        let live = directory.postings.all();
        data.hot.free_pages(live);
        admission.newest.free_pages(live);
        drop(data);
        admission.keys.retain(|series| !dead.contains(series));
        admission.exemplars.forget(&dead);
        self.metrics.series_removed.add(dead.len());
    }
}

impl HeadData {
    /// The late chunks of a series that go with the cut.
    fn chunks_late(
        &self,
        series: u32,
        cut: &Cut,
        chunks: &mut SmallVec<[ChunkRef; 4]>,
        damaged: &mut Vec<TimeRange>,
    ) {
        for range in cut.late.iter().filter_map(|&id| self.late.get(id)) {
            if let Some(late) = range.series.get(&series) {
                self.late_chunks(late.tail, cut.range, chunks, damaged);
                chunks.extend(self.late_open(late));
            }
        }
    }
}

/// What of `range` no one of the sorted, disjoint ranges covers.
fn gaps_in(cut: &[TimeRange], range: TimeRange) -> Vec<TimeRange> {
    let (mut gaps, mut start) = (Vec::new(), range.start);
    for covered in cut.iter().filter(|covered| covered.overlaps(&range)) {
        if covered.start > start {
            gaps.push(TimeRange::new(start, covered.start - 1));
        }
        start = start.max(covered.end.saturating_add(1));
    }
    if start <= range.end {
        gaps.push(TimeRange::new(start, range.end));
    }
    gaps
}

/// Chunks of one series as chunks that do not overlap and say what is known of counter resets. All
/// are written anew: a late sample changes what is before the chunk after it. What does not decode
/// is given back without the chunks that overlap others, and false.
fn in_time_order(mut chunks: SmallVec<[ChunkRef; 4]>, starts: bool) -> (SmallVec<[ChunkRef; 4]>, bool) {
    chunks.sort_by_key(|chunk| chunk.min_time);
    let entry = SeriesEntry { chunks, ..SeriesEntry::default() };
    match decode_stored(&entry, TimeRange::ALL) {
        Ok(samples) => (encode_series(&samples, starts).into(), true),
        Err(_) => {
            let mut apart: SmallVec<[ChunkRef; 4]> = SmallVec::new();
            for chunk in entry.chunks {
                if apart.last().is_none_or(|before| before.max_time < chunk.min_time) {
                    apart.push(chunk);
                }
            }
            (apart, false)
        }
    }
}
