//! What leaves a head: ranges that become blocks, and series that have nothing left.

use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pyrrha_env::Disk;
use pyrrha_index::RoaringBitmap;
use pyrrha_model::contract::{ChunkRef, DeleteId, QueryContext, SeriesEntry};
use pyrrha_model::{Labels, StoreError, TimeRange, Timestamp};
use smallvec::SmallVec;

use super::admission::is_cut;
use super::chunk_store::file_name;
use super::data::{HeadData, Open};
use super::deletes::Intervals;
use super::sealed::NONE;
use super::select::HeadView;
use super::{Head, Newest};
use crate::wal::LogPosition;

/// Series that are sealed or pruned under one hold of the lock.
const SLICE: usize = 2048;
/// How often a removal looks whether the log has settled what was submitted, and how long apart.
const SETTLE_TRIES: usize = 200;
const SETTLE_WAIT: Duration = Duration::from_millis(1);

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
    /// The oldest range that is not `hidden` and may be cut: newer data lies half a range beyond its
    /// end and nothing has come for it of late, or nothing has come for it for long and it is as old
    /// by the wall clock. Under pressure (the head keeps too much of the log, or the disk is full)
    /// newer data beyond its end is enough, or its age.
    pub(crate) fn cuttable(&self, hidden: &[TimeRange], pressed: bool) -> Option<TimeRange> {
        let (now, wall) = (self.clock.monotonic(), self.clock.now_ms());
        let data = self.data.read();
        let ranges = || data.ranges.iter().filter(|(start, _)| !is_cut(hidden, **start));
        let newest = ranges().map(|(_, r)| r.max_time).max()?;
        let range_ms = data.rules.range_ms;
        ranges().find_map(|(&start, info)| {
            let silent = now.saturating_sub(info.appended);
            let (end, settled) =
                (start.saturating_add(range_ms), start.saturating_add(range_ms + range_ms / 2));
            let passed = newest >= settled && silent >= self.config.quiet_before_cut;
            // Senders come back after an outage with what they kept: a range that is young by the wall
            // clock still takes it.
            let old = wall >= settled;
            let idle = old && silent >= self.config.idle_cut_after;
            let may_go = passed || idle || pressed && (newest >= end || old);
            may_go.then(|| TimeRange::new(start, start + range_ms - 1))
        })
    }

    /// The block ranges that a view shows, each with the times of its samples.
    pub(crate) fn shown_ranges(&self, view: &HeadView) -> Vec<(TimeRange, TimeRange)> {
        let data = self.data.read();
        let range_ms = data.rules.range_ms;
        let shown = data.ranges.iter().filter(|(start, _)| !is_cut(&view.cut, **start));
        shown
            .map(|(&start, info)| {
                let range = TimeRange::new(start, start.saturating_add(range_ms - 1));
                (range, TimeRange::new(info.min_time, info.max_time))
            })
            .collect()
    }

    /// Refuses samples of the range from now on. Batches submitted before may still bring some.
    pub(crate) fn refuse_range(&self, range: TimeRange) {
        self.admission.lock().add_cut(range);
    }

    /// Takes samples of the range again: its cut failed.
    pub(crate) fn accept_range(&self, still_cut: &[TimeRange]) {
        self.admission.lock().cut = still_cut.to_vec();
    }

    /// The log has nothing of the head's samples before this place; `None`: nothing at all.
    pub(crate) fn logged_from(&self) -> Option<LogPosition> {
        self.data.read().ranges.values().map(|r| r.logged_from).min()
    }

    /// The same without the ranges that are `hidden`.
    pub(crate) fn pins_log_from(&self, hidden: &[TimeRange]) -> Option<LogPosition> {
        let data = self.data.read();
        let kept = data.ranges.iter().filter(|(start, _)| !is_cut(hidden, **start));
        kept.map(|(_, range)| range.logged_from).min()
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

    /// Visits the series with chunks in the range, sorted by labels, with their chunks. Damaged
    /// chunks are left out; returns how many.
    pub(crate) fn visit_range<E: From<StoreError>>(
        &self,
        range: TimeRange,
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
                let Some(snapshot) = data.snapshot(series, range, &view) else { continue };
                let mut chunks = SmallVec::new();
                data.chunks_of(&snapshot, range, &view, &mut chunks, &mut damaged);
                if !chunks.is_empty() {
                    found.push((directory.labels(series), data.cut_series(series, chunks)));
                }
            }
            drop(data);
            drop(directory);
            for (labels, series) in found.drain(..) {
                visit(&labels, series)?;
            }
        }
        self.metrics.chunks_damaged.add(damaged.len() as u64);
        Ok(damaged.len())
    }

    /// Forgets the ranges and what only they needed. No reader may be left that began before they
    /// were hidden. Series go if all they had is in `cut`.
    pub(crate) fn forget(
        &self,
        disk: &dyn Disk,
        dir: &Path,
        ranges: &[TimeRange],
        cut: &[TimeRange],
    ) -> io::Result<()> {
        self.prune_chunks(ranges);
        let files = {
            let mut data = self.data.write();
            data.ranges.retain(|&start, _| !is_cut(ranges, start));
            let oldest = data.ranges.values().map(|r| r.min_time).min();
            data.deletes.forget_before(oldest.unwrap_or(Timestamp::MAX));
            data.store.remove(|start| is_cut(ranges, start))
        };
        self.remove_idle_series(cut);
        for (segment, start) in files {
            let path = dir.join(file_name(segment, start));
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
        for _ in 0..SETTLE_TRIES {
            if self.in_flight.load(Ordering::Acquire) == 0 {
                break;
            }
            self.clock.sleep(SETTLE_WAIT);
        }
        if self.in_flight.load(Ordering::Acquire) > 0 {
            return;
        }
        let mut directory = self.directory.write();
        let mut data = self.data.write();
        let gone = |t: Timestamp| t == Timestamp::MIN || is_cut(cut, t);
        let with_exemplars = self.extras.read().exemplars.series();
        let idle = |series: &u32| {
            let hot = &data.hot[*series as usize];
            let idle = hot.open == Open::None && hot.tail == NONE && gone(hot.newest.t);
            // An exemplar that is in no block needs the labels of its series.
            idle && !with_exemplars.contains(*series)
        };
        let dead: RoaringBitmap = directory.postings.all().iter().filter(idle).collect();
        if dead.is_empty() {
            return;
        }
        for series in &dead {
            data.hot[series as usize].newest = Newest::default();
            admission.newest[series as usize] = Newest::default();
            admission.histograms.remove(&series);
        }
        drop(data);
        directory.remove(&dead);
        admission.keys.retain(|series| !dead.contains(series));
        admission.exemplars.forget(&dead);
        self.metrics.series_removed.add(dead.len());
    }
}
