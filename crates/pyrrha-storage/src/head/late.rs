//! The out-of-order head: samples that came behind a newer one of their series, or for a block range
//! that had been cut. Each block range has chunks of its own for them, which overlap the others; the
//! merge of chunks (pyrrha-encoding) is what puts them in order for readers.
//!
//! A series collects samples in a small sorted buffer, which is sealed into the chunk store when it
//! is full. When a range is cut its samples stay together, closed to new ones, until the block that
//! has them is read instead.

use std::time::Duration;

use hashbrown::HashMap;
use pyrrha_encoding::{decode_stored, encode_series};
use pyrrha_model::contract::{ChunkRef, SeriesEntry, Value};
use pyrrha_model::{TimeRange, Timestamp};
use smallvec::{SmallVec, smallvec};

use super::admission::Newest;
use super::chunk_store::{Damaged, Shelf};
use super::data::{HeadData, RangeInfo};
use super::sealed::{NONE, Sealed, SealedLists};
use super::select::chunk_ref;
use super::validate::fingerprint;
use crate::wal::{LogHistogram, LogPosition};

/// Samples in a full buffer, as Prometheus has it.
const OPEN_SAMPLES: usize = 32;

/// A sample: start timestamp or 0, time, value.
type LateSample = (Timestamp, Timestamp, Value);

/// The late samples of one series in one range.
#[derive(Debug)]
pub(crate) struct LateSeries {
    /// By time.
    open: Vec<LateSample>,
    /// Its newest sealed chunk; they may overlap one another.
    pub(super) tail: u32,
    pub(super) newest: Newest,
}

impl Default for LateSeries {
    fn default() -> Self {
        Self { open: Vec::new(), tail: NONE, newest: Newest::default() }
    }
}

/// The late samples of one block range.
#[derive(Debug)]
pub(crate) struct LateRange {
    /// Never used twice in a run; above 0.
    pub(crate) id: u64,
    pub(crate) start: Timestamp,
    pub(crate) series: HashMap<u32, LateSeries, foldhash::fast::RandomState>,
    pub(crate) info: RangeInfo,
    /// When the first sample was appended, monotonic.
    pub(crate) began: Duration,
    /// It takes no more samples: a block is being made of it.
    closed: bool,
    /// A live block has its samples.
    pub(crate) in_block: bool,
    sealed_chunks: usize,
    open_samples: usize,
    /// Bytes of histograms in buffers, about.
    histogram_bytes: usize,
}

/// All late samples of a head.
#[derive(Debug, Default)]
pub(crate) struct LateRanges {
    /// By start, then id.
    ranges: Vec<LateRange>,
    last_id: u64,
}

impl LateRanges {
    /// All of them, by start.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &LateRange> {
        self.ranges.iter()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    pub(crate) fn get(&self, id: u64) -> Option<&LateRange> {
        self.ranges.iter().find(|r| r.id == id)
    }

    /// Those of the block range that starts at `start`.
    fn of(&self, start: Timestamp) -> impl Iterator<Item = &LateRange> {
        let first = self.ranges.partition_point(|r| r.start < start);
        self.ranges[first..].iter().take_while(move |r| r.start == start)
    }

    /// Whether a series has samples here.
    pub(crate) fn has(&self, series: u32) -> bool {
        self.ranges.iter().any(|r| r.series.contains_key(&series))
    }

    /// The newest time of a series' late samples.
    pub(crate) fn newest_of(&self, series: u32) -> Option<Timestamp> {
        self.ranges.iter().filter_map(|r| r.series.get(&series)).map(|late| late.newest.t).max()
    }

    /// A range more.
    pub(crate) fn add(&mut self, start: Timestamp, info: RangeInfo, now: Duration) -> &mut LateRange {
        self.last_id += 1;
        let at = self.ranges.partition_point(|r| r.start <= start);
        let range = LateRange {
            id: self.last_id,
            start,
            series: HashMap::default(),
            info,
            began: now,
            closed: false,
            in_block: false,
            sealed_chunks: 0,
            open_samples: 0,
            histogram_bytes: 0,
        };
        self.ranges.insert(at, range);
        &mut self.ranges[at]
    }

    /// The range of `start` that takes samples.
    fn open(&mut self, start: Timestamp, info: RangeInfo) -> &mut LateRange {
        let end = self.ranges.partition_point(|r| r.start <= start);
        let last = end.checked_sub(1).filter(|&i| self.ranges[i].start == start && !self.ranges[i].closed);
        match last {
            Some(i) => &mut self.ranges[i],
            None => self.add(start, info, info.appended),
        }
    }

    /// Closes the ranges of `start` that are in no block, and gives their ids.
    pub(crate) fn close(&mut self, start: Timestamp) -> Vec<u64> {
        let found = self.ranges.iter_mut().filter(|r| r.start == start && !r.in_block);
        found
            .map(|range| {
                range.closed = true;
                range.id
            })
            .collect()
    }

    /// Says that a live block has the samples of these.
    pub(crate) fn set_in_block(&mut self, ids: &[u64]) {
        self.ranges.iter_mut().filter(|r| ids.contains(&r.id)).for_each(|r| r.in_block = true);
    }

    /// Sealed chunks.
    pub(crate) fn chunks(&self) -> usize {
        self.ranges.iter().map(|r| r.sealed_chunks).sum()
    }

    /// Series with samples that are not sealed, one for each range.
    pub(crate) fn open_chunks(&self) -> usize {
        self.ranges.iter().map(|r| r.series.values().filter(|s| !s.open.is_empty()).count()).sum()
    }

    /// Bytes on the heap, about, without the sealed chunks.
    pub(crate) fn bytes(&self) -> usize {
        let range = |r: &LateRange| {
            // Buffers double as they grow.
            r.series.allocation_size() + r.open_samples * size_of::<LateSample>() * 3 / 2 + r.histogram_bytes
        };
        self.ranges.iter().map(range).sum()
    }
}

/// What became of a late sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inserted {
    /// It was put in its place.
    New,
    /// There was this sample.
    Known,
    /// There was a sample of that time with another value, which stays.
    Conflict,
    /// There is no place for it.
    Lost,
}

impl HeadData {
    /// Puts a sample into the out-of-order head, unless the head has one of that time.
    pub(crate) fn append_late(
        &mut self,
        series: u32,
        start: Timestamp,
        t: Timestamp,
        value: &Value,
        position: LogPosition,
    ) -> Inserted {
        if self.hot.get(series as usize).is_none() {
            return Inserted::Lost;
        }
        let print = fingerprint(value);
        if let Some(stored) = self.stored_at(series, t) {
            return if stored == print { Inserted::Known } else { Inserted::Conflict };
        }
        self.insert_late(series, start, t, value, print, position);
        Inserted::New
    }

    fn insert_late(
        &mut self,
        series: u32,
        start: Timestamp,
        t: Timestamp,
        value: &Value,
        print: u64,
        position: LogPosition,
    ) {
        let start = if self.rules.start_timestamps { start } else { 0 };
        let info =
            RangeInfo { logged_from: position, samples: 0, appended: self.now, min_time: t, max_time: t };
        let range = self.late.open(self.rules.range_start(t), info);
        range.note(t, position, self.now);
        self.newest_time = self.newest_time.max(Some(t));
        range.histogram_bytes += heap_bytes(value);
        range.open_samples += 1;
        let late = range.series.entry(series).or_default();
        late.note(t, print);
        let at = late.open.partition_point(|sample| sample.1 < t);
        late.open.insert(at, (start, t, value.clone()));
        if late.open.len() >= OPEN_SAMPLES {
            let id = range.id;
            self.seal_late(id, series);
        }
    }

    /// Puts a late sample beside another of its time: which of them readers see, the merge decides. For
    /// replay of a range that a block covers, where the other one may be from that block.
    pub(crate) fn append_beside(&mut self, h: &LogHistogram, position: LogPosition) {
        let start = self.rules.range_start(h.t);
        if self.late.of(start).last().is_some_and(|range| {
            !range.closed && range.series.get(&h.series).is_some_and(|late| late.newest.t >= h.t)
        }) {
            self.late.close(start);
        }
        let print = fingerprint(&h.value);
        self.insert_late(h.series, h.start, h.t, &h.value, print, position);
    }

    /// Seals the buffer of a series in a range.
    fn seal_late(&mut self, id: u64, series: u32) {
        let Some(range) = self.late.ranges.iter_mut().find(|r| r.id == id) else { return };
        let Some(late) = range.series.get_mut(&series) else { return };
        let samples = std::mem::take(&mut late.open);
        range.open_samples -= samples.len();
        range.histogram_bytes -= samples.iter().map(|s| heap_bytes(&s.2)).sum::<usize>();
        let shelf = Shelf { start: range.start, late: id };
        for chunk in encode_series(&samples, self.rules.start_timestamps) {
            let place = self.store.append(shelf, chunk.encoding, &chunk.bytes);
            late.tail = self.sealed.push(Sealed::of(&chunk, place, late.tail));
            range.sealed_chunks += 1;
        }
    }

    /// Adds a sealed chunk of a checkpoint to a range.
    pub(crate) fn restore_late_chunk(&mut self, id: u64, series: u32, sealed: Sealed, newest: Newest) {
        let Some(range) = self.late.ranges.iter_mut().find(|r| r.id == id) else { return };
        range.sealed_chunks += 1;
        let late = range.series.entry(series).or_default();
        late.note(newest.t, newest.value);
        late.tail = self.sealed.push(Sealed { before: late.tail, ..sealed });
    }

    /// Adds the samples of a checkpoint's open buffer to a range.
    pub(crate) fn restore_late_open(&mut self, id: u64, series: u32, samples: Vec<LateSample>) {
        let Some(range) = self.late.ranges.iter_mut().find(|r| r.id == id) else { return };
        range.open_samples += samples.len();
        range.histogram_bytes += samples.iter().map(|s| heap_bytes(&s.2)).sum::<usize>();
        let late = range.series.entry(series).or_default();
        if let Some((_, t, value)) = samples.last() {
            late.note(*t, fingerprint(value));
        }
        late.open = samples;
    }

    /// What identifies the value that the head has of a series at `t`, in order or late. This is the
    /// one place that knows whether a time is taken.
    pub(crate) fn stored_at(&self, series: u32, t: Timestamp) -> Option<u64> {
        self.in_order_at(series, t).or_else(|| self.late_at(series, t))
    }

    fn in_order_at(&self, series: u32, t: Timestamp) -> Option<u64> {
        let hot = self.hot.get(series as usize)?;
        if t >= hot.newest.t {
            return (t == hot.newest.t).then_some(hot.newest.value);
        }
        if hot.open != super::data::Open::None && t >= hot.open_start() {
            let (encoding, bytes) = self.open_chunk(hot, self.open_count(hot))?;
            return value_at(chunk_ref(TimeRange::new(t, t), encoding, bytes), t);
        }
        let mut index = hot.tail;
        while index != NONE {
            let sealed = self.sealed.get(index);
            if sealed.max_time() < t {
                return None;
            }
            if sealed.min_time <= t {
                return self.sealed_at(sealed, t);
            }
            index = sealed.before;
        }
        None
    }

    fn late_at(&self, series: u32, t: Timestamp) -> Option<u64> {
        if self.late.is_empty() {
            return None;
        }
        self.late.of(self.rules.range_start(t)).find_map(|range| {
            let late = range.series.get(&series)?;
            if let Ok(at) = late.open.binary_search_by_key(&t, |sample| sample.1) {
                return Some(fingerprint(&late.open[at].2));
            }
            sealed_list(&self.sealed, late.tail)
                .filter(|sealed| sealed.range().contains(t))
                .find_map(|sealed| self.sealed_at(sealed, t))
        })
    }

    fn sealed_at(&self, sealed: &Sealed, t: Timestamp) -> Option<u64> {
        let bytes = self.store.read(sealed.place, sealed.encoding()).ok()?;
        value_at(chunk_ref(sealed.range(), sealed.encoding(), bytes), t)
    }

    /// Sealed chunks of a series in a late range.
    pub(crate) fn late_sealed(&self, late: &LateSeries) -> impl Iterator<Item = &Sealed> {
        sealed_list(&self.sealed, late.tail)
    }

    /// The chunks of the sealed list that ends in `tail`, as far as they overlap `range`. Ranges of
    /// damaged ones go to `damaged`.
    pub(crate) fn late_chunks(
        &self,
        tail: u32,
        range: TimeRange,
        chunks: &mut SmallVec<[ChunkRef; 4]>,
        damaged: &mut Vec<TimeRange>,
    ) {
        for sealed in sealed_list(&self.sealed, tail).filter(|s| s.range().overlaps(&range)) {
            match self.store.read(sealed.place, sealed.encoding()) {
                Ok(bytes) => chunks.push(chunk_ref(sealed.range(), sealed.encoding(), bytes)),
                Err(Damaged) => damaged.push(sealed.range()),
            }
        }
    }

    /// The buffer of a series as chunks.
    pub(crate) fn late_open(&self, late: &LateSeries) -> Vec<ChunkRef> {
        encode_series(&late.open, self.rules.start_timestamps)
    }

    /// Forgets the ranges of these ids.
    pub(crate) fn forget_late(&mut self, ids: &[u64]) {
        let sealed = &mut self.sealed;
        self.late.ranges.retain(|range| {
            let gone = ids.contains(&range.id);
            if gone {
                for late in range.series.values() {
                    sealed.prune(late.tail, |_| true);
                }
            }
            !gone
        });
    }

    /// The newest late sample of each series, as far as its range satisfies `counts`.
    pub(crate) fn newest_late(&self, counts: impl Fn(Timestamp) -> bool, mut visit: impl FnMut(u32, Newest)) {
        for range in self.late.iter().filter(|r| counts(r.start)) {
            range.series.iter().for_each(|(&series, late)| visit(series, late.newest));
        }
    }
}

impl LateRange {
    fn note(&mut self, t: Timestamp, position: LogPosition, now: Duration) {
        let info = &mut self.info;
        info.logged_from = info.logged_from.min(position);
        info.samples += 1;
        info.appended = now;
        info.min_time = info.min_time.min(t);
        info.max_time = info.max_time.max(t);
    }
}

impl LateSeries {
    fn note(&mut self, t: Timestamp, value: u64) {
        if t > self.newest.t {
            self.newest = Newest { t, value };
        }
    }
}

fn sealed_list(lists: &SealedLists, tail: u32) -> impl Iterator<Item = &Sealed> {
    let mut index = tail;
    std::iter::from_fn(move || {
        if index == NONE {
            return None;
        }
        let sealed = lists.get(index);
        index = sealed.before;
        Some(sealed)
    })
}

/// What identifies the value of a chunk at `t`.
fn value_at(chunk: ChunkRef, t: Timestamp) -> Option<u64> {
    let chunk = ChunkRef { min_time: chunk.min_time.min(t), max_time: chunk.max_time.max(t), ..chunk };
    let entry = SeriesEntry { chunks: smallvec![chunk], ..SeriesEntry::default() };
    let samples = decode_stored(&entry, TimeRange::new(t, t)).ok()?;
    samples.first().map(|(_, _, value)| fingerprint(value))
}

fn heap_bytes(value: &Value) -> usize {
    match value {
        Value::Float(_) => 0,
        Value::Histogram(h) => {
            size_of_val(&**h)
                + buckets(&h.positive_spans, &h.positive_buckets)
                + buckets(&h.negative_spans, &h.negative_buckets)
        }
        Value::FloatHistogram(h) => {
            size_of_val(&**h)
                + buckets(&h.positive_spans, &h.positive_buckets)
                + buckets(&h.negative_spans, &h.negative_buckets)
        }
    }
}

fn buckets<T>(spans: &[pyrrha_model::Span], buckets: &[T]) -> usize {
    size_of_val(spans) + size_of_val(buckets)
}
