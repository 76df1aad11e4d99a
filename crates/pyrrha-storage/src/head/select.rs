//! Reading a head: snapshots of series, batches made from them, label queries.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use pyrrha_encoding::chunk::xor;
use pyrrha_index::{RoaringBitmap, postings_for_matchers};
use pyrrha_model::contract::{
    ChunkRef, Exemplars, LabelQuery, MemoryBudget, QueryContext, SelectHints, SeriesBatch, SeriesEntry,
    SeriesSet, Timestamps,
};
use pyrrha_model::{
    ChunkEncoding, ErrorKind, Exemplar, Label, Labels, Matcher, Metadata, StoreError, SymbolId, TimeRange,
    Timestamp,
};
use smallvec::SmallVec;

use super::Head;
use super::admission::is_cut;
use super::chunk_store::Damaged;
use super::data::{HeadData, Hot, Open};
use super::deletes::{Intervals, covers};
use super::directory::Directory;
use super::exemplars::RingItem;
use super::late::LateRange;
use super::sealed::{NONE, Sealed};

/// Series whose memory is looked at before the first of them is read, so that cache misses overlap.
const AHEAD: usize = 32;

/// Chunks of a series that are looked at ahead.
const CHUNKS_AHEAD: usize = 8;

/// How many series are looked at between two looks at the cancel flag.
const CHECK_EVERY: usize = 4096;

/// What a query may read of a head: all but the ranges that it reads from blocks.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeadView {
    /// Ranges of which samples in order are left out, sorted and disjoint; whole block ranges.
    pub(crate) cut: Arc<[TimeRange]>,
    /// Late ranges to leave out.
    pub(crate) late_cut: Arc<[u64]>,
    /// Held by readers, so that what they may read stays.
    pub(crate) pin: Arc<()>,
    /// Show what is deleted as well: a cut decides itself what becomes of it.
    pub(crate) with_deleted: bool,
}

/// What a series had when the query began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Snapshot {
    series: u32,
    /// Its newest sealed chunk.
    tail: u32,
    /// Samples of the chunk that was open.
    open: u16,
}

/// What came out of order for a series until the query began.
#[derive(Debug)]
pub(super) struct LateSnapshot {
    /// Which of the snapshots it belongs to.
    place: usize,
    /// Its newest sealed chunk in each late range.
    tails: SmallVec<[u32; 2]>,
    /// What was not sealed.
    open: Vec<ChunkRef>,
}

/// Memory reserved for as long as this lives.
#[derive(Debug)]
struct Reserved {
    budget: MemoryBudget,
    bytes: usize,
}

impl Reserved {
    fn new(budget: &MemoryBudget, bytes: usize) -> Result<Self, StoreError> {
        budget.reserve(bytes)?;
        Ok(Self { budget: budget.clone(), bytes })
    }

    /// Reserves more.
    fn grow(&mut self, bytes: usize) -> Result<(), StoreError> {
        self.budget.reserve(bytes)?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.budget.release(self.bytes);
    }
}

impl LateSnapshot {
    fn bytes(&self) -> usize {
        let open = |chunk: &ChunkRef| size_of::<ChunkRef>() + chunk.bytes.len();
        size_of::<Self>() + self.open.iter().map(open).sum::<usize>()
    }
}

impl Head {
    /// The series that satisfy all matchers and have chunks in `range`, sorted by labels.
    pub(crate) fn select(
        self: &Arc<Self>,
        ctx: &QueryContext,
        matchers: &[Matcher],
        range: TimeRange,
        hints: &SelectHints,
        view: HeadView,
    ) -> Result<Box<dyn SeriesSet>, StoreError> {
        let sorted = self.matching(ctx, matchers, hints.shard)?;
        let reserved = Reserved::new(&ctx.budget, sorted.len() * size_of::<Snapshot>())?;
        let (snapshots, late) = self.snapshot(ctx, &sorted, range, &view, hints.limit)?;
        let late_bytes: usize = late.iter().map(LateSnapshot::bytes).sum();
        let late_reserved = Reserved::new(&ctx.budget, late_bytes)?;
        Ok(Box::new(HeadSet {
            head: self.clone(),
            ctx: ctx.clone(),
            range,
            view,
            labels: LabelTranslation::new(hints),
            snapshots,
            late: late.into(),
            next: 0,
            batch: None,
            _reserved: [reserved, late_reserved],
        }))
    }

    /// References of the series that satisfy all matchers, sorted by labels.
    pub(super) fn matching(
        &self,
        ctx: &QueryContext,
        matchers: &[Matcher],
        shard: Option<(u32, u32)>,
    ) -> Result<Vec<u32>, StoreError> {
        let directory = self.directory.read();
        let mut set = postings_for_matchers(&directory.index(), matchers, &ctx.cancel)?;
        if let Some((index, count)) = shard {
            set = shard_of(&directory, &set, index, count.max(1));
        }
        let _reserved = Reserved::new(&ctx.budget, set.len() as usize * 8)?;
        let order = {
            let mut order = self.order.lock();
            *order = order.refreshed(&directory);
            order.clone()
        };
        Ok(order.sort(&directory, &set))
    }

    fn snapshot(
        &self,
        ctx: &QueryContext,
        sorted: &[u32],
        range: TimeRange,
        view: &HeadView,
        limit: usize,
    ) -> Result<(Vec<Snapshot>, Vec<LateSnapshot>), StoreError> {
        let mut snapshots =
            Vec::with_capacity(if limit == 0 { sorted.len() } else { limit.min(sorted.len()) });
        let mut lates = Vec::new();
        let data = self.data.read();
        let late_ranges = data.late_in(range, view);
        for (i, &series) in sorted.iter().enumerate() {
            if i % CHECK_EVERY == 0 {
                ctx.cancel.check()?;
            }
            if i % AHEAD == 0 {
                data.look_ahead(sorted[i..].iter().take(AHEAD).copied());
            }
            let snapshot = data.snapshot(series, range, view);
            let late = data.late_snapshot(series, range, &late_ranges, snapshots.len());
            if late.is_some() || snapshot.is_some() {
                snapshots.push(snapshot.unwrap_or(Snapshot { series, tail: NONE, open: 0 }));
                lates.extend(late);
            }
            if limit > 0 && snapshots.len() == limit {
                break;
            }
        }
        Ok((snapshots, lates))
    }

    /// Label sets of the series that satisfy all matchers and have data in the query's range, sorted.
    pub(crate) fn series(
        &self,
        ctx: &QueryContext,
        matchers: &[Matcher],
        query: &LabelQuery,
        view: &HeadView,
    ) -> Result<Vec<Labels>, StoreError> {
        let sorted = self.matching(ctx, matchers, None)?;
        let (snapshots, _) = self.snapshot(ctx, &sorted, query.range, view, query.limit)?;
        let directory = self.directory.read();
        let mut reserved = Reserved::new(&ctx.budget, 0)?;
        let mut found = Vec::new();
        for snapshot in &snapshots {
            ctx.cancel.check()?;
            let labels = directory.labels(snapshot.series);
            let text: usize = labels.iter().map(|l| l.name.len() + l.value.len()).sum();
            reserved.grow(text + labels.len() * size_of::<Label>() + size_of::<Labels>())?;
            found.push(labels);
        }
        Ok(found)
    }
}

impl Head {
    /// Exemplars in the range of the series that the query asks for, by labels.
    pub(crate) fn exemplars(
        &self,
        ctx: &QueryContext,
        query: &LabelQuery,
    ) -> Result<Vec<Exemplars>, StoreError> {
        let directory = self.directory.read();
        let extras = self.extras.read();
        if extras.exemplars.len() == 0 {
            return Ok(Vec::new());
        }
        let set = super::label_query::matching(&directory, ctx, query)?;
        let mut found: BTreeMap<u32, Vec<Exemplar>> = BTreeMap::new();
        for RingItem { series, exemplar, .. } in extras.exemplars.iter() {
            if query.range.contains(exemplar.timestamp) && set.contains(*series) {
                found.entry(*series).or_default().push(exemplar.clone());
            }
        }
        let mut found: Vec<Exemplars> = found
            .into_iter()
            .map(|(series, exemplars)| Exemplars { series: directory.labels(series), exemplars })
            .collect();
        found.sort_by(|a, b| a.series.cmp(&b.series));
        Ok(found)
    }

    /// Metadata of one metric family, or of all.
    pub(crate) fn metadata(&self, metric: Option<&str>) -> BTreeMap<String, Metadata> {
        let extras = self.extras.read();
        match metric {
            Some(metric) => extras
                .metadata
                .get_key_value(metric)
                .map(|(k, m)| (k.clone(), m.clone()))
                .into_iter()
                .collect(),
            None => extras.metadata.clone(),
        }
    }
}

fn shard_of(directory: &Directory, set: &RoaringBitmap, index: u32, count: u32) -> RoaringBitmap {
    // The hash is that of the labels and the same in every source, so that a series is in the same
    // shard wherever it is read.
    let in_shard = |&s: &u32| directory.labels(s).prometheus_hash() % u64::from(count) == u64::from(index);
    set.iter().filter(in_shard).collect()
}

impl HeadData {
    /// Brings what is known of these series into the cache.
    fn look_ahead(&self, series: impl Iterator<Item = u32>) {
        let look = |series| {
            let hot = self.hot.get(series as usize);
            hot.map_or(0, |hot| hot.newest.t as u64 ^ u64::from(hot.xor.count()))
        };
        std::hint::black_box(series.map(look).fold(0, |all, one| all ^ one));
    }

    /// Brings the beginnings of the chunks that [`chunks_of`](Self::chunks_of) will read into the cache,
    /// the newest of all series first: where one lies is known only when the one after it was looked at.
    fn look_ahead_chunks(&self, snapshots: &[Snapshot], range: TimeRange) {
        let mut tails = [NONE; AHEAD];
        let mut looked = 0;
        for (snapshot, tail) in snapshots.iter().zip(&mut tails) {
            *tail = snapshot.tail;
            if snapshot.open > 0
                && let Some(hot) = self.hot.get(snapshot.series as usize)
            {
                looked ^= self.first_open_byte(hot);
            }
        }
        for _ in 0..CHUNKS_AHEAD {
            let mut any = false;
            for tail in tails.iter_mut().filter(|tail| **tail != NONE) {
                let sealed = self.sealed.get(*tail);
                if sealed.max_time() < range.start {
                    *tail = NONE;
                    continue;
                }
                if sealed.min_time <= range.end {
                    looked ^= self.store.first_byte(sealed.place);
                }
                *tail = sealed.before;
                any = true;
            }
            if !any {
                break;
            }
        }
        std::hint::black_box(looked);
    }

    pub(super) fn snapshot(&self, series: u32, range: TimeRange, view: &HeadView) -> Option<Snapshot> {
        let hot = self.hot.get(series as usize)?;
        if hot.newest.t < range.start {
            return None;
        }
        let open_visible = hot.open != Open::None && !is_cut(&view.cut, hot.open_start());
        let tail = self.visible_tail(hot, view);
        let overlaps = open_visible && hot.open_start() <= range.end
            || self.sealed_from(tail, view).any(|s| s.range().overlaps(&range));
        let open = if open_visible { self.open_count(hot) } else { 0 };
        if !overlaps || self.is_wholly_deleted(series, hot, tail, open > 0, range, view) {
            return None;
        }
        Some(Snapshot { series, tail, open })
    }

    /// What `view` does not show of a series.
    fn deleted_of(&self, series: u32, view: &HeadView) -> Intervals {
        if view.with_deleted || self.deletes.hides_nothing() {
            return Intervals::new();
        }
        self.deletes.of(series, |_| true)
    }

    /// Whether every chunk in `range` is deleted as far as it lies in it.
    fn is_wholly_deleted(
        &self,
        series: u32,
        hot: &Hot,
        tail: u32,
        open: bool,
        range: TimeRange,
        view: &HeadView,
    ) -> bool {
        let deleted = self.deleted_of(series, view);
        if deleted.is_empty() {
            return false;
        }
        let gone = |chunk: TimeRange| !chunk.overlaps(&range) || covers(&deleted, chunk.intersect(&range));
        (!open || gone(TimeRange::new(hot.open_start(), hot.newest.t)))
            && self.sealed_from(tail, view).all(|s| gone(s.range()))
    }

    /// The late ranges that a query over `range` reads.
    pub(super) fn late_in(&self, range: TimeRange, view: &HeadView) -> Vec<&LateRange> {
        let samples = |late: &LateRange| TimeRange::new(late.info.min_time, late.info.max_time);
        let wanted = |late: &&LateRange| samples(late).overlaps(&range) && !view.late_cut.contains(&late.id);
        self.late.iter().filter(wanted).collect()
    }

    pub(super) fn late_snapshot(
        &self,
        series: u32,
        range: TimeRange,
        late_ranges: &[&LateRange],
        place: usize,
    ) -> Option<LateSnapshot> {
        let mut found = LateSnapshot { place, tails: SmallVec::new(), open: Vec::new() };
        for late in late_ranges.iter().filter_map(|late| late.series.get(&series)) {
            found.open.extend(
                self.late_open(late)
                    .into_iter()
                    .filter(|c| TimeRange::new(c.min_time, c.max_time).overlaps(&range)),
            );
            if self.late_sealed(late).any(|sealed| sealed.range().overlaps(&range)) {
                found.tails.push(late.tail);
            }
        }
        (!found.tails.is_empty() || !found.open.is_empty()).then_some(found)
    }

    /// Sealed chunks from the newest to the oldest that `view` shows.
    fn sealed_from<'a>(&'a self, tail: u32, view: &'a HeadView) -> impl Iterator<Item = &'a Sealed> {
        let mut index = tail;
        let all = std::iter::from_fn(move || {
            if index == NONE {
                return None;
            }
            let sealed = self.sealed.get(index);
            index = sealed.before;
            Some(sealed)
        });
        all.filter(|sealed| !is_cut(&view.cut, sealed.min_time))
    }

    /// The newest sealed chunk of a series that `view` shows.
    fn visible_tail(&self, hot: &Hot, view: &HeadView) -> u32 {
        let mut tail = hot.tail;
        // Mostly nothing is cut, and then no chunk has to be looked at.
        while !view.cut.is_empty() && tail != NONE && is_cut(&view.cut, self.sealed.get(tail).min_time) {
            tail = self.sealed.get(tail).before;
        }
        tail
    }

    /// The chunks of a snapshot in `range`, oldest first. Ranges of damaged ones go to `damaged`.
    pub(super) fn chunks_of(
        &self,
        snapshot: &Snapshot,
        range: TimeRange,
        view: &HeadView,
        chunks: &mut SmallVec<[ChunkRef; 4]>,
        damaged: &mut Vec<TimeRange>,
    ) {
        let hot = &self.hot[snapshot.series as usize];
        if snapshot.open > 0 {
            match self.once_open(hot, snapshot, range, view) {
                Ok(chunk) => chunks.extend(chunk),
                Err(lost) => damaged.push(lost),
            }
        }
        for sealed in self.sealed_from(snapshot.tail, view) {
            if sealed.max_time() < range.start {
                break;
            }
            if sealed.min_time > range.end {
                continue;
            }
            match self.store.read(sealed.place, sealed.encoding()) {
                Ok(bytes) => chunks.push(chunk_ref(sealed.range(), sealed.encoding(), bytes)),
                Err(Damaged) => damaged.push(sealed.range()),
            }
        }
        chunks.reverse();
    }

    /// The newest sample of a snapshot, if it is in `range` and known without a look at chunks.
    fn newest_of(&self, snapshot: &Snapshot, range: TimeRange, view: &HeadView) -> Option<(Timestamp, f64)> {
        let hot = &self.hot[snapshot.series as usize];
        // Anything appended or sealed since would have changed the count or the tail.
        let unchanged = hot.open == Open::Xor
            && hot.xor.count() == snapshot.open
            && self.visible_tail(hot, view) == snapshot.tail;
        (unchanged && snapshot.open > 0 && range.contains(hot.newest.t))
            .then(|| (hot.newest.t, f64::from_bits(hot.newest.value)))
    }

    /// The chunk that was open when the snapshot was taken, with the samples that it had then.
    fn once_open(
        &self,
        hot: &Hot,
        snapshot: &Snapshot,
        range: TimeRange,
        view: &HeadView,
    ) -> Result<Option<ChunkRef>, TimeRange> {
        let tail = self.visible_tail(hot, view);
        if tail == snapshot.tail {
            let open = TimeRange::new(hot.open_start(), hot.newest.t);
            if hot.open == Open::None || !open.overlaps(&range) {
                return Ok(None);
            }
            let chunk = self.open_chunk(hot, snapshot.open);
            return Ok(chunk.map(|(encoding, bytes)| chunk_ref(open, encoding, bytes)));
        }
        // It has been sealed since: it is the chunk right after the snapshot's tail.
        let (mut index, mut found) = (tail, None);
        while index != NONE && index != snapshot.tail {
            let sealed = self.sealed.get(index);
            if !is_cut(&view.cut, sealed.min_time) {
                found = Some(sealed);
            }
            index = sealed.before;
        }
        let Some(sealed) = found.filter(|s| s.range().overlaps(&range)) else { return Ok(None) };
        let bytes = self.sealed_prefix(sealed, snapshot.open).map_err(|Damaged| sealed.range())?;
        Ok(Some(chunk_ref(sealed.range(), sealed.encoding(), bytes)))
    }
}

/// Chunks of one sample for series of a batch; all lie in one buffer.
#[derive(Default)]
struct NewestChunks {
    bytes: Vec<u8>,
    /// Series of the batch, time, and end of the chunk.
    ends: Vec<(usize, Timestamp, usize)>,
}

impl NewestChunks {
    fn add(&mut self, series: usize, t: Timestamp, value: f64) {
        xor::encode_one(t, value, &mut self.bytes);
        self.ends.push((series, t, self.bytes.len()));
    }

    fn put_into(self, batch: &mut SeriesBatch) {
        let (bytes, mut start) = (Bytes::from(self.bytes), 0);
        for (series, t, end) in self.ends {
            let chunk = chunk_ref(TimeRange::new(t, t), ChunkEncoding::Xor, bytes.slice(start..end));
            batch.series[series].chunks.push(chunk);
            start = end;
        }
    }
}

pub(super) fn chunk_ref(range: TimeRange, encoding: ChunkEncoding, bytes: Bytes) -> ChunkRef {
    ChunkRef { min_time: range.start, max_time: range.end, encoding, timestamps: Timestamps::Own, bytes }
}

/// Symbol ids of the head as symbol ids of the query, and which labels the query needs.
struct LabelTranslation {
    hints: SelectHints,
    /// By head symbol; [`u32::MAX`]: not translated yet.
    known: Vec<u32>,
    /// By shape: positions of the labels that the query needs, with their names.
    shapes: Vec<Option<Vec<(u32, SymbolId)>>>,
    /// Sweeps of the head's symbols that `known` has seen.
    sweeps: u64,
    reserved: Option<Reserved>,
}

impl LabelTranslation {
    fn new(hints: &SelectHints) -> Self {
        Self { hints: hints.clone(), known: Vec::new(), shapes: Vec::new(), sweeps: 0, reserved: None }
    }

    fn prepare(&mut self, ctx: &QueryContext, directory: &Directory) -> Result<(), StoreError> {
        // Ids may have been given to other symbols since.
        if std::mem::replace(&mut self.sweeps, directory.sweeps) != directory.sweeps {
            self.known.clear();
        }
        let bound = directory.symbols.id_bound();
        if self.known.len() < bound {
            let held = self.reserved.as_ref().map_or(0, |r| r.bytes / 4);
            if held < bound {
                self.reserved = None;
                self.reserved = Some(Reserved::new(&ctx.budget, bound * 4)?);
            }
            self.known.resize(bound, u32::MAX);
        }
        Ok(())
    }

    fn push(
        &mut self,
        ctx: &QueryContext,
        directory: &Directory,
        series: u32,
        labels: &mut Vec<(SymbolId, SymbolId)>,
    ) {
        let (_, values) = directory.ids(series);
        if values.is_empty() {
            return;
        }
        let shape = directory.shape_of(series) as usize;
        if self.shapes.len() <= shape {
            self.shapes.resize_with(shape + 1, || None);
        }
        let needed = match &mut self.shapes[shape] {
            Some(needed) => needed,
            empty => empty.insert(needed_labels(&self.hints, ctx, directory, shape as u32)),
        };
        for &(position, name) in needed.iter() {
            let value = values[position as usize];
            let known = &mut self.known[value as usize];
            if *known == u32::MAX {
                *known = ctx.symbols.intern(directory.symbols.get(value)).0;
            }
            labels.push((name, SymbolId(*known)));
        }
    }
}

fn needed_labels(
    hints: &SelectHints,
    ctx: &QueryContext,
    directory: &Directory,
    shape: u32,
) -> Vec<(u32, SymbolId)> {
    let names = directory.names(shape).iter().map(|&id| directory.symbols.get(id));
    (0..)
        .zip(names)
        .filter(|(_, name)| hints.projection.as_ref().is_none_or(|p| p.needs(name)))
        .map(|(position, name)| (position, ctx.symbols.intern(name)))
        .collect()
}

/// Series of a head, batch by batch. No lock is held between batches.
struct HeadSet {
    head: Arc<Head>,
    ctx: QueryContext,
    range: TimeRange,
    view: HeadView,
    labels: LabelTranslation,
    snapshots: Vec<Snapshot>,
    /// By place.
    late: VecDeque<LateSnapshot>,
    next: usize,
    /// Memory of the chunks of the batch that was given out last.
    batch: Option<Reserved>,
    _reserved: [Reserved; 2],
}

impl SeriesSet for HeadSet {
    fn next_batch(&mut self, max: usize, batch: &mut SeriesBatch) -> Result<bool, StoreError> {
        batch.clear();
        self.batch = None;
        self.ctx.cancel.check()?;
        let end = self.snapshots.len().min(self.next.saturating_add(max.max(1)));
        let first = std::mem::replace(&mut self.next, end);
        let snapshots = &self.snapshots[first..end];
        if snapshots.is_empty() {
            return Ok(false);
        }
        let directory = self.head.directory.read();
        self.labels.prepare(&self.ctx, &directory)?;
        // Entries are large, for room for chunks, and made in place.
        batch.series.resize_with(snapshots.len(), SeriesEntry::default);
        for (snapshot, entry) in snapshots.iter().zip(&mut batch.series) {
            let start = batch.labels.len() as u32;
            self.labels.push(&self.ctx, &directory, snapshot.series, &mut batch.labels);
            entry.labels = start..batch.labels.len() as u32;
        }
        drop(directory);
        if self.labels.hints.function != "series" {
            self.fill_chunks(first, batch)?;
        }
        let bytes = batch.series.iter().flat_map(|s| &s.chunks).map(|c| c.bytes.len()).sum();
        self.batch = Some(Reserved::new(&self.ctx.budget, bytes)?);
        Ok(true)
    }
}

impl HeadSet {
    fn fill_chunks(&mut self, first: usize, batch: &mut SeriesBatch) -> Result<(), StoreError> {
        let data = self.head.data.read();
        let mut damaged = Vec::new();
        let mut newest = NewestChunks::default();
        let snapshots = self.snapshots.iter().enumerate().skip(first);
        for (i, ((place, snapshot), entry)) in snapshots.zip(&mut batch.series).enumerate() {
            if i % AHEAD == 0 {
                let ahead = &self.snapshots[place..self.next.min(place + AHEAD)];
                data.look_ahead(ahead.iter().map(|snapshot| snapshot.series));
                if !self.labels.hints.newest_only {
                    data.look_ahead_chunks(ahead, self.range);
                }
            }
            let late = self.late.front().is_some_and(|late| late.place == place);
            // Below a deleted sample there may be one that is not.
            if self.labels.hints.newest_only
                && !late
                && data.deleted_of(snapshot.series, &self.view).is_empty()
                && let Some((t, value)) = data.newest_of(snapshot, self.range, &self.view)
            {
                newest.add(i, t, value);
                continue;
            }
            data.chunks_of(snapshot, self.range, &self.view, &mut entry.chunks, &mut damaged);
            while self.late.front().is_some_and(|late| late.place <= place) {
                let Some(late) = self.late.pop_front() else { break };
                late.tails.iter().for_each(|&tail| {
                    data.late_chunks(tail, self.range, &mut entry.chunks, &mut damaged);
                });
                entry.chunks.extend(late.open);
                entry.chunks.sort_by_key(|chunk| chunk.min_time);
            }
            entry.deleted = data.deleted_of(snapshot.series, &self.view);
            if !entry.deleted.is_empty() {
                let SeriesEntry { chunks, deleted, .. } = entry;
                let extent = |c: &ChunkRef| TimeRange::new(c.min_time, c.max_time);
                chunks.retain(|c| !covers(deleted, extent(c)));
                deleted.retain(|d| chunks.iter().any(|c| d.overlaps(&extent(c))));
            }
        }
        newest.put_into(batch);
        let Some(first) = damaged.first() else { return Ok(()) };
        self.head.metrics.chunks_damaged.add(damaged.len() as u64);
        if !self.ctx.partial_response {
            let text = format!("head chunk is damaged start={} end={}", first.start, first.end);
            return Err(StoreError::new(ErrorKind::Corrupt, text));
        }
        damaged
            .iter()
            .for_each(|&lost| self.ctx.notices.gap(lost, "a chunk of the head failed its checksum"));
        Ok(())
    }
}
