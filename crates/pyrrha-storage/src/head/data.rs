//! The samples of a head: one hot cache line per series, open chunks in slabs, sealed chunks in the
//! chunk store. One writer at a time, under the write lock of the whole.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use hashbrown::{HashMap, HashSet};
use pyrrha_encoding::DecodeError;
use pyrrha_encoding::chunk::{ChunkBuffer, HistogramAppender, Xor2Appender, XorAppender, sample_count, xor};
use pyrrha_model::contract::{ChunkRef, Value};
use pyrrha_model::{ChunkEncoding, TimeRange, Timestamp};

use super::admission::{HistogramKind, Newest, is_cut};
use super::chunk_store::{ChunkStore, Damaged, Shelf};
use super::deletes::HeadDeletes;
use super::late::{Inserted, LateRanges};
use super::paged::Paged;
use super::sealed::{NONE, Sealed, SealedLists};
use super::side::{Side, set_count};
use super::slab::{Slabs, Slot};
use super::validate::fingerprint;
use crate::wal::{LogBatch, LogHistogram, LogPosition};

/// Bytes of a new open chunk: the first sample takes 12 to 20.
const FIRST_SLOT: usize = 32;

/// Samples whose series are looked at before the first of them is appended.
const AHEAD: usize = 32;

/// What appending needs of a series: one cache line.
#[derive(Debug, Clone)]
#[repr(align(64))]
pub(crate) struct Hot {
    pub(crate) xor: XorAppender,
    /// Its newest sample, sealed or not.
    pub(crate) newest: Newest,
    /// Time of the newest sample less that of the first in the open chunk.
    span: u32,
    slot: Slot,
    /// Its newest sealed chunk.
    pub(crate) tail: u32,
    pub(crate) open: Open,
    /// The open chunk has no sample yet.
    fresh: bool,
}

/// What the open chunk of a series is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Open {
    /// There is none.
    #[default]
    None,
    /// XOR floats in a slot.
    Xor,
    /// An object of its own; the slot is its index.
    Side,
}

impl Default for Hot {
    fn default() -> Self {
        Self {
            xor: XorAppender::new(),
            newest: Newest::default(),
            span: 0,
            slot: Slot::default(),
            tail: NONE,
            open: Open::None,
            fresh: false,
        }
    }
}

impl Hot {
    /// Time of the first sample of the open chunk.
    pub(crate) fn open_start(&self) -> Timestamp {
        self.newest.t - i64::from(self.span)
    }
}

/// What is known of a block range that the head has samples of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RangeInfo {
    /// The log has nothing of the range before this.
    pub(crate) logged_from: LogPosition,
    /// Samples appended by this run.
    pub(crate) samples: u64,
    /// When the last one was appended, monotonic.
    pub(crate) appended: Duration,
    /// First and last time of its samples.
    pub(crate) min_time: Timestamp,
    pub(crate) max_time: Timestamp,
}

/// How chunks are formed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChunkRules {
    pub(crate) range_ms: i64,
    pub(crate) samples: u16,
    /// Whether chunks get the encodings that have start timestamps.
    pub(crate) start_timestamps: bool,
}

impl ChunkRules {
    /// Start of the block range that `t` lies in.
    pub(crate) fn range_start(&self, t: Timestamp) -> Timestamp {
        t.div_euclid(self.range_ms) * self.range_ms
    }
}

/// Samples of all series of a head.
#[derive(Debug)]
pub(crate) struct HeadData {
    pub(crate) rules: ChunkRules,
    pub(crate) hot: Paged<Hot>,
    pub(crate) slabs: Slabs,
    pub(crate) sides: Vec<Option<Side>>,
    pub(crate) free_sides: Vec<u32>,
    pub(crate) sealed: SealedLists,
    pub(crate) store: ChunkStore,
    pub(crate) ranges: BTreeMap<Timestamp, RangeInfo>,
    pub(crate) deletes: HeadDeletes,
    /// What came out of order.
    pub(crate) late: LateRanges,
    /// Time of the newest sample there ever was.
    pub(crate) newest_time: Option<Timestamp>,
    pub(crate) chunks_sealed: u64,
    /// Monotonic time of the batch that is being appended.
    pub(crate) now: Duration,
}

/// Bytes of an open chunk in its slot, for the appender.
struct SlotBuffer<'a> {
    slabs: &'a mut Slabs,
    slot: &'a mut Slot,
    len: usize,
}

impl ChunkBuffer for SlotBuffer<'_> {
    #[inline]
    fn grow(&mut self, len: usize) -> &mut [u8] {
        if self.slabs.get(*self.slot).len() < len {
            *self.slot = self.slabs.grow(*self.slot, self.len, len);
        }
        self.slabs.get_mut(*self.slot)
    }
}

impl HeadData {
    /// An empty head.
    pub(crate) fn new(rules: ChunkRules) -> Self {
        Self {
            rules,
            hot: Paged::default(),
            slabs: Slabs::default(),
            sides: Vec::new(),
            free_sides: Vec::new(),
            sealed: SealedLists::default(),
            store: ChunkStore::default(),
            ranges: BTreeMap::new(),
            deletes: HeadDeletes::default(),
            late: LateRanges::default(),
            newest_time: None,
            chunks_sealed: 0,
            now: Duration::ZERO,
        }
    }

    /// Appends what a batch has. Samples that are not newer than their series, and are not among the
    /// late ones, are left out.
    pub(crate) fn append_batch(&mut self, batch: &LogBatch, position: LogPosition) -> Appended {
        let mut appended = Appended::default();
        self.append_in_order(batch, position, &mut appended);
        for h in &batch.late {
            let inserted = self.append_late(h.series, h.start, h.t, &h.value, position);
            appended.count_late(inserted, &h.value);
            if inserted == Inserted::New && !self.rules.start_timestamps {
                appended.starts_dropped += u64::from(h.start != 0);
            }
        }
        appended
    }

    fn append_in_order(&mut self, batch: &LogBatch, position: LogPosition, appended: &mut Appended) {
        if self.rules.start_timestamps || mixes_kinds(batch) {
            self.append_in_time_order(batch, position, appended);
            return;
        }
        let skipped = self.append_floats(&batch.refs, &batch.times, &batch.values, position);
        appended.floats = batch.refs.len() as u64 - skipped;
        appended.starts_dropped = batch.starts.iter().filter(|s| **s != 0).count() as u64;
        for h in &batch.histograms {
            appended.histograms += u64::from(self.append_value(h.series, h.start, h.t, &h.value, position));
        }
    }

    /// Floats and histograms of one series may alternate: their order is that of time.
    fn append_in_time_order(&mut self, batch: &LogBatch, position: LogPosition, appended: &mut Appended) {
        let floats = batch.times.iter().enumerate().map(|(i, &t)| (t, i));
        let histograms = batch.histograms.iter().enumerate().map(|(i, h)| (h.t, batch.refs.len() + i));
        let mut order: Vec<(Timestamp, usize)> = floats.chain(histograms).collect();
        order.sort_unstable();
        for (t, i) in order {
            if let Some(h) = i.checked_sub(batch.refs.len()).and_then(|i| batch.histograms.get(i)) {
                appended.histograms += u64::from(self.append_value(h.series, h.start, t, &h.value, position));
                continue;
            }
            let (series, value) = (batch.refs[i], batch.values[i]);
            if self.rules.start_timestamps {
                let start = batch.starts.get(i).copied().unwrap_or(0);
                let new = self.append_value(series, start, t, &Value::Float(value), position);
                appended.floats += u64::from(new);
            } else {
                appended.floats += 1 - self.append_floats(&[series], &[t], &[value], position);
                appended.starts_dropped += u64::from(batch.starts.get(i).is_some_and(|s| *s != 0));
            }
        }
    }

    /// Appends floats, series by series reference. Samples that are not newer than their series
    /// are left out; returns how many were.
    pub(crate) fn append_floats(
        &mut self,
        refs: &[u32],
        times: &[Timestamp],
        values: &[f64],
        position: LogPosition,
    ) -> u64 {
        let mut span = RangeSpan::default();
        let mut skipped = 0;
        let samples = refs.chunks(AHEAD).zip(times.chunks(AHEAD)).zip(values.chunks(AHEAD));
        for ((refs, times), values) in samples {
            // A look at all of them first lets their cache misses overlap.
            let newer = |(&series, &t): (&u32, &Timestamp)| {
                self.hot.get(series as usize).is_some_and(|hot| t > hot.newest.t)
            };
            let all_newer = refs.iter().zip(times).map(newer).fold(true, |all, newer| all & newer);
            // So does one at the ends of their open chunks.
            let ends =
                refs.iter().map(|&series| self.hot.get(series as usize).map_or(0, |hot| self.end_of(hot)));
            std::hint::black_box(ends.fold(0, |all, end| all ^ end));
            for ((&series, &t), &v) in refs.iter().zip(times).zip(values) {
                // One series may have several samples here.
                let known = all_newer || self.hot.get(series as usize).is_some();
                if !known || t <= self.hot[series as usize].newest.t {
                    skipped += 1;
                    continue;
                }
                if !span.covers(t) {
                    self.note_range(&mut span, position);
                    span = RangeSpan::of(&self.rules, t);
                }
                span.add(t);
                self.append_float(series, t, v, span.start);
            }
        }
        self.note_range(&mut span, position);
        skipped
    }

    /// The byte at which the open chunk of a series goes on.
    #[inline]
    fn end_of(&self, hot: &Hot) -> u8 {
        match hot.open {
            Open::Xor => self.slabs.byte(hot.slot, hot.xor.byte_len()),
            Open::None | Open::Side => 0,
        }
    }

    #[inline]
    fn append_float(&mut self, series: u32, t: Timestamp, v: f64, range_start: Timestamp) {
        let hot = &self.hot[series as usize];
        let full = match hot.open {
            Open::None => false,
            Open::Xor => hot.xor.count() >= self.rules.samples || hot.open_start() < range_start,
            Open::Side => true,
        };
        if full {
            self.seal(series);
        }
        let hot = &mut self.hot[series as usize];
        if hot.open == Open::None {
            hot.open = Open::Xor;
            hot.xor = XorAppender::new();
            hot.slot = self.slabs.allocate(FIRST_SLOT);
            hot.span = 0;
        } else {
            hot.span += (t - hot.newest.t) as u32;
        }
        let len = hot.xor.byte_len();
        hot.xor.append(&mut SlotBuffer { slabs: &mut self.slabs, slot: &mut hot.slot, len }, t, v);
        hot.newest = Newest { t, value: v.to_bits() };
    }

    /// Appends a histogram, or a float with its start timestamp. Returns whether it was newer than
    /// its series.
    pub(crate) fn append_value(
        &mut self,
        series: u32,
        start: Timestamp,
        t: Timestamp,
        value: &Value,
        position: LogPosition,
    ) -> bool {
        if self.hot.get(series as usize).is_none_or(|hot| t <= hot.newest.t) {
            return false;
        }
        let mut span = RangeSpan::of(&self.rules, t);
        span.add(t);
        let hot = &self.hot[series as usize];
        let full = match hot.open {
            Open::None => false,
            Open::Xor => true,
            Open::Side => {
                let side = &self.sides[hot.slot.0 as usize];
                let floats = matches!(value, Value::Float(_));
                hot.open_start() < span.start
                    || side
                        .as_ref()
                        .is_none_or(|s| !s.takes(value) || floats && s.count() >= self.rules.samples)
            }
        };
        if full {
            self.seal(series);
        }
        if self.hot[series as usize].open == Open::None {
            let side = match value {
                Value::Float(_) => Side::Xor2(Xor2Appender::new(), Vec::new()),
                Value::Histogram(_) | Value::FloatHistogram(_) => {
                    Side::Histogram(HistogramAppender::new(self.rules.start_timestamps))
                }
            };
            self.open_side(series, side);
        }
        let hot = &mut self.hot[series as usize];
        let ended =
            self.sides[hot.slot.0 as usize].as_mut().and_then(|s| s.append_histogram(start, t, value));
        hot.span = if hot.fresh || ended.is_some() { 0 } else { (t - hot.open_start()) as u32 };
        hot.fresh = false;
        hot.newest = Newest { t, value: fingerprint(value) };
        if let Some(chunk) = ended {
            self.push_sealed(series, &chunk);
        }
        self.note_range(&mut span, position);
        true
    }

    fn open_side(&mut self, series: u32, side: Side) {
        let index = match self.free_sides.pop() {
            Some(index) => {
                self.sides[index as usize] = Some(side);
                index
            }
            None => {
                self.sides.push(Some(side));
                u32::try_from(self.sides.len() - 1).expect("fewer than 2^32 series")
            }
        };
        let hot = &mut self.hot[series as usize];
        hot.open = Open::Side;
        hot.slot = Slot(index);
        hot.fresh = true;
    }

    /// Makes `chunk` the open chunk of a series that has none. The newest sample is set later.
    pub(crate) fn restore_open(
        &mut self,
        series: u32,
        encoding: ChunkEncoding,
        start: Timestamp,
        chunk: &[u8],
    ) -> Result<(), DecodeError> {
        match encoding {
            ChunkEncoding::Xor => {
                let xor = XorAppender::restore(chunk)?;
                if xor.byte_len() > chunk.len() || chunk.len() > Slabs::LARGEST {
                    return Err(DecodeError::Truncated { part: "open chunk" });
                }
                let slot = self.slabs.allocate(chunk.len().max(FIRST_SLOT));
                self.slabs.get_mut(slot)[..chunk.len()].copy_from_slice(chunk);
                let hot = &mut self.hot[series as usize];
                (hot.open, hot.slot, hot.xor) = (Open::Xor, slot, xor);
                hot.span = span_of(start, hot.xor.last_time(), self.rules.range_ms)?;
            }
            ChunkEncoding::Xor2 => {
                let xor = Xor2Appender::restore(chunk)?;
                let last = xor.last_time();
                self.open_side(series, Side::Xor2(xor, chunk.to_vec()));
                self.restored_side(series, start, last)?;
            }
            ChunkEncoding::Histogram
            | ChunkEncoding::FloatHistogram
            | ChunkEncoding::HistogramSt
            | ChunkEncoding::FloatHistogramSt => {
                let appender = HistogramAppender::restore(encoding, chunk)?;
                let last = appender.times().map_or(start, |times| times.1);
                self.open_side(series, Side::Histogram(appender));
                self.restored_side(series, start, last)?;
            }
            ChunkEncoding::Dense | ChunkEncoding::Windows | ChunkEncoding::Aggregate => {
                return Err(DecodeError::Encoding { encoding: encoding as u8 });
            }
        }
        Ok(())
    }

    /// Appends a batch of the log, wherever in time its samples belong: what is not newer than its
    /// series, or lies in a range that is `cut`, is late, whatever it was when it was logged. `judged`:
    /// what the batch calls late is so, whatever the head has.
    pub(crate) fn recover_batch(
        &mut self,
        batch: &mut LogBatch,
        position: LogPosition,
        cut: &[TimeRange],
        judged: bool,
    ) -> Recovered {
        let mut recovered = Recovered::default();
        let mut late = std::mem::take(&mut batch.late);
        for i in 0..batch.refs.len() {
            let (series, t) = (batch.refs[i], batch.times[i]);
            if self.hot.get(series as usize).is_some_and(|hot| t <= hot.newest.t) {
                let start = batch.starts.get(i).copied().unwrap_or(0);
                late.push(LogHistogram { series, t, start, value: Value::Float(batch.values[i]) });
                batch.refs[i] = u32::MAX;
            }
        }
        let behind =
            |h: &LogHistogram| self.hot.get(h.series as usize).is_some_and(|hot| h.t <= hot.newest.t);
        let (behind, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut batch.histograms).into_iter().partition(behind);
        batch.histograms = rest;
        late.extend(behind);
        let appended = self.append_batch(batch, position);
        recovered.new += appended.floats + appended.histograms;
        for h in late {
            recovered.count(self.recover_late(&h, position, cut, judged));
        }
        recovered
    }

    fn recover_late(
        &mut self,
        h: &LogHistogram,
        position: LogPosition,
        cut: &[TimeRange],
        judged: bool,
    ) -> Inserted {
        let newest = self.hot.get(h.series as usize).map(|hot| hot.newest);
        let is_cut = is_cut(cut, h.t);
        if newest.is_none_or(|newest| h.t <= newest.t) || is_cut || judged {
            let inserted = self.append_late(h.series, h.start, h.t, &h.value, position);
            if inserted == Inserted::Conflict && is_cut {
                // The other one was in the block when this one was acknowledged.
                self.append_beside(h, position);
                return Inserted::New;
            }
            return inserted;
        }
        // What made it late is not in the head any more.
        match &h.value {
            Value::Float(v) if !self.rules.start_timestamps => {
                self.append_floats(&[h.series], &[h.t], &[*v], position);
            }
            value => drop(self.append_value(h.series, h.start, h.t, value, position)),
        }
        Inserted::New
    }

    fn restored_side(&mut self, series: u32, start: Timestamp, last: Timestamp) -> Result<(), DecodeError> {
        let hot = &mut self.hot[series as usize];
        hot.fresh = false;
        hot.span = span_of(start, last, self.rules.range_ms)?;
        Ok(())
    }

    fn push_sealed(&mut self, series: u32, chunk: &ChunkRef) {
        let shelf = Shelf::in_order(self.rules.range_start(chunk.min_time));
        let place = self.store.append(shelf, chunk.encoding, &chunk.bytes);
        let hot = &mut self.hot[series as usize];
        hot.tail = self.sealed.push(Sealed::of(chunk, place, hot.tail));
        self.chunks_sealed += 1;
    }

    /// Seals the open chunk of a series, if it has one.
    pub(crate) fn seal(&mut self, series: u32) {
        let hot = &mut self.hot[series as usize];
        match hot.open {
            Open::None => {}
            Open::Xor => {
                let len = hot.xor.byte_len();
                let chunk = &mut self.slabs.get_mut(hot.slot)[..len];
                xor::set_count(chunk, hot.xor.count());
                let min_time = hot.open_start();
                let shelf = Shelf::in_order(self.rules.range_start(min_time));
                let place = self.store.append(shelf, ChunkEncoding::Xor, chunk);
                self.slabs.free(hot.slot);
                hot.tail = self.sealed.push(Sealed {
                    min_time,
                    span: hot.span,
                    place,
                    before: hot.tail,
                    encoding: ChunkEncoding::Xor as u8,
                });
                hot.open = Open::None;
                self.chunks_sealed += 1;
            }
            Open::Side => {
                let chunk = self.side_chunk(&self.hot[series as usize]);
                let hot = &mut self.hot[series as usize];
                hot.open = Open::None;
                self.free_sides.push(hot.slot.0);
                self.sides[hot.slot.0 as usize] = None;
                if let Some(chunk) = chunk {
                    self.push_sealed(series, &chunk);
                }
            }
        }
    }

    fn side_chunk(&self, hot: &Hot) -> Option<ChunkRef> {
        let side = self.sides.get(hot.slot.0 as usize)?.as_ref()?;
        side.snapshot(hot.open_start(), hot.newest.t)
    }

    /// Series whose open chunk is one of histograms.
    pub(crate) fn histogram_series(&self) -> HashMap<u32, HistogramKind, foldhash::fast::RandomState> {
        let mut found = HashMap::default();
        if self.sides.iter().all(Option::is_none) {
            return found;
        }
        for series in 0..self.hot.len() {
            let hot = &self.hot[series];
            let chunk = if hot.open == Open::Side { self.side_chunk(hot) } else { None };
            match chunk.map(|c| c.encoding) {
                Some(ChunkEncoding::Histogram | ChunkEncoding::HistogramSt) => {
                    found.insert(series as u32, HistogramKind::Integer);
                }
                Some(ChunkEncoding::FloatHistogram | ChunkEncoding::FloatHistogramSt) => {
                    found.insert(series as u32, HistogramKind::Float);
                }
                Some(
                    ChunkEncoding::Xor
                    | ChunkEncoding::Xor2
                    | ChunkEncoding::Dense
                    | ChunkEncoding::Windows
                    | ChunkEncoding::Aggregate,
                )
                | None => {}
            }
        }
        found
    }

    /// Samples in the open chunk.
    pub(crate) fn open_count(&self, hot: &Hot) -> u16 {
        match hot.open {
            Open::None => 0,
            Open::Xor => hot.xor.count(),
            Open::Side => self.sides[hot.slot.0 as usize].as_ref().map_or(0, Side::count),
        }
    }

    /// The first `count` samples of the open chunk, as a chunk.
    pub(crate) fn open_chunk(&self, hot: &Hot, count: u16) -> Option<(ChunkEncoding, Bytes)> {
        match hot.open {
            Open::None => None,
            Open::Xor => {
                let mut chunk = self.slabs.get(hot.slot)[..hot.xor.byte_len()].to_vec();
                xor::set_count(&mut chunk, count);
                Some((ChunkEncoding::Xor, Bytes::from(chunk)))
            }
            Open::Side => {
                let chunk = self.side_chunk(hot)?;
                Some((chunk.encoding, first_samples(chunk.encoding, chunk.bytes, count)))
            }
        }
    }

    /// The first byte of an open chunk in a slot.
    #[inline]
    pub(crate) fn first_open_byte(&self, hot: &Hot) -> u8 {
        if hot.open == Open::Xor { self.slabs.byte(hot.slot, 0) } else { 0 }
    }

    /// The first `count` samples of a sealed chunk, as a chunk.
    pub(crate) fn sealed_prefix(&self, sealed: &Sealed, count: u16) -> Result<Bytes, Damaged> {
        let whole = self.store.read(sealed.place, sealed.encoding())?;
        Ok(first_samples(sealed.encoding(), whole, count))
    }

    fn note_range(&mut self, span: &mut RangeSpan, position: LogPosition) {
        if span.samples == 0 {
            return;
        }
        let info = self.ranges.entry(span.start).or_insert(RangeInfo {
            logged_from: position,
            samples: 0,
            appended: self.now,
            min_time: span.min,
            max_time: span.max,
        });
        info.logged_from = info.logged_from.min(position);
        info.samples += span.samples;
        info.appended = self.now;
        info.min_time = info.min_time.min(span.min);
        info.max_time = info.max_time.max(span.max);
        self.newest_time = self.newest_time.max(Some(span.max));
        span.samples = 0;
    }

    /// Bytes on the heap, about, and bytes in mapped files.
    pub(crate) fn bytes(&self) -> (usize, usize) {
        let (mut memory, files) = self.store.bytes();
        memory += self.sides.iter().flatten().map(Side::bytes).sum::<usize>();
        memory += self.late.bytes();
        memory += self.sides.capacity() * size_of::<Option<Side>>();
        memory += self.deletes.bytes();
        (self.hot.bytes() + self.slabs.bytes() + self.sealed.bytes() + memory, files)
    }
}

/// What became of a batch of the log.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Recovered {
    /// Samples put in their place, late ones included.
    pub(crate) new: u64,
    /// Those that were not newer than their series.
    pub(crate) late: u64,
    /// Samples for which there was another value, which stays.
    pub(crate) conflicts: u64,
    pub(crate) lost: u64,
}

impl Recovered {
    fn count(&mut self, inserted: Inserted) {
        match inserted {
            Inserted::New => {
                self.new += 1;
                self.late += 1;
            }
            Inserted::Known => {}
            Inserted::Conflict => self.conflicts += 1,
            Inserted::Lost => self.lost += 1,
        }
    }
}

/// What of a batch was new.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Appended {
    pub(crate) floats: u64,
    pub(crate) histograms: u64,
    /// Those of either kind that are late.
    pub(crate) late: u64,
    /// Late samples for which there was another value by now.
    pub(crate) conflicts: u64,
    /// Start timestamps that had no place.
    pub(crate) starts_dropped: u64,
}

impl Appended {
    fn count_late(&mut self, inserted: Inserted, value: &Value) {
        match inserted {
            Inserted::New => {
                self.late += 1;
                let kind =
                    if matches!(value, Value::Float(_)) { &mut self.floats } else { &mut self.histograms };
                *kind += 1;
            }
            Inserted::Conflict => self.conflicts += 1,
            Inserted::Known | Inserted::Lost => {}
        }
    }
}

/// Whether a series of the batch has both floats and histograms.
fn mixes_kinds(batch: &LogBatch) -> bool {
    if batch.histograms.is_empty() || batch.refs.is_empty() {
        return false;
    }
    let histograms: HashSet<u32, foldhash::fast::RandomState> =
        batch.histograms.iter().map(|h| h.series).collect();
    batch.refs.iter().any(|series| histograms.contains(series))
}

/// Length of an open chunk in time, which fits its range.
fn span_of(start: Timestamp, last: Timestamp, range_ms: i64) -> Result<u32, DecodeError> {
    let span = last.checked_sub(start).filter(|span| (0..range_ms).contains(span));
    span.and_then(|span| u32::try_from(span).ok()).ok_or(DecodeError::Malformed { part: "open chunk" })
}

fn first_samples(encoding: ChunkEncoding, chunk: Bytes, count: u16) -> Bytes {
    if sample_count(encoding, &chunk) == Ok(usize::from(count)) {
        return chunk;
    }
    let mut first = chunk.to_vec();
    set_count(encoding, &mut first, count);
    Bytes::from(first)
}

/// Consecutive samples of a batch in one block range.
#[derive(Debug)]
struct RangeSpan {
    start: Timestamp,
    end: Timestamp,
    min: Timestamp,
    max: Timestamp,
    samples: u64,
}

impl Default for RangeSpan {
    fn default() -> Self {
        Self { start: 0, end: 0, min: Timestamp::MAX, max: Timestamp::MIN, samples: 0 }
    }
}

impl RangeSpan {
    fn of(rules: &ChunkRules, t: Timestamp) -> Self {
        let start = rules.range_start(t);
        Self { start, end: start + rules.range_ms, ..Self::default() }
    }

    #[inline]
    fn covers(&self, t: Timestamp) -> bool {
        self.start <= t && t < self.end
    }

    #[inline]
    fn add(&mut self, t: Timestamp) {
        self.min = self.min.min(t);
        self.max = self.max.max(t);
        self.samples += 1;
    }
}
