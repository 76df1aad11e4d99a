//! Replicas of series as one: of samples one replica is taken and the others fill what it missed, of
//! windows each is that of the replica that has more samples in it.

use std::collections::BTreeMap;

use pyrrha_encoding::windows::{HistogramWindows, WindowPart, Windows, decode_windows};
use pyrrha_model::contract::{ChunkRef, QueryContext, SeriesBatch, SeriesEntry, SeriesSet};
use pyrrha_model::{ChunkEncoding, ErrorKind, StoreError, TimeRange, Timestamp};
use pyrrha_storage::compact::merge_replicas;

use crate::gateway::{chunks_of, decoded_bytes};

/// Series that are taken of a replica at once.
const AT_ONCE: usize = 64;
/// Bytes that a sample takes while it is merged, about.
const SAMPLE_BYTES: usize = 64;

/// The series of several replicas, each sorted by labels, with each once.
pub(crate) struct Replicas {
    ctx: QueryContext,
    sources: Vec<Replica>,
}

/// A replica with the series that are read.
struct Replica {
    set: Box<dyn SeriesSet>,
    batch: SeriesBatch,
    next: usize,
    done: bool,
}

impl Replica {
    fn fill(&mut self) -> Result<(), StoreError> {
        if !self.done && self.next == self.batch.series.len() {
            self.next = 0;
            self.done = !self.set.next_batch(AT_ONCE, &mut self.batch)?;
        }
        Ok(())
    }
}

impl Replicas {
    /// Of equally full ones the first is taken.
    pub(crate) fn new(ctx: &QueryContext, sets: Vec<Box<dyn SeriesSet>>) -> Self {
        let replica = |set| Replica { set, batch: SeriesBatch::default(), next: 0, done: false };
        Self { ctx: ctx.clone(), sources: sets.into_iter().map(replica).collect() }
    }

    /// The next series from all that have it, into `batch`; false at the end.
    fn take(&mut self, batch: &mut SeriesBatch) -> Result<bool, StoreError> {
        self.sources.iter_mut().try_for_each(Replica::fill)?;
        let heads =
            self.sources.iter().filter_map(|s| s.batch.series.get(s.next).map(|e| s.batch.labels_of(e)));
        let least = heads.min_by(|a, b| pyrrha_storage::compare_labels(&self.ctx.symbols, a, b));
        let Some(labels) = least.map(<[_]>::to_vec) else { return Ok(false) };
        let mut entries = Vec::new();
        for source in &mut self.sources {
            let same = source.batch.series.get(source.next).map(|e| source.batch.labels_of(e) == labels);
            if same == Some(true) {
                entries.push(std::mem::take(&mut source.batch.series[source.next]));
                source.next += 1;
            }
        }
        let start = batch.labels.len() as u32;
        batch.labels.extend_from_slice(&labels);
        let mut entry = match entries.len() {
            1 => entries.swap_remove(0),
            _ => {
                let probe =
                    SeriesEntry { labels: start..batch.labels.len() as u32, ..SeriesEntry::default() };
                let labels = batch.resolve(&self.ctx.symbols, &probe);
                merge(&self.ctx, labels.metric_name(), entries)?
            }
        };
        entry.labels = start..batch.labels.len() as u32;
        batch.series.push(entry);
        Ok(true)
    }
}

impl SeriesSet for Replicas {
    fn next_batch(&mut self, max: usize, batch: &mut SeriesBatch) -> Result<bool, StoreError> {
        batch.clear();
        while batch.series.len() < max {
            self.ctx.cancel.check()?;
            if !self.take(batch)? {
                break;
            }
        }
        Ok(!batch.series.is_empty())
    }
}

/// What several replicas have of one series.
fn merge(ctx: &QueryContext, metric: &str, mut entries: Vec<SeriesEntry>) -> Result<SeriesEntry, StoreError> {
    let damaged = |e| StoreError::caused(ErrorKind::Corrupt, "chunk of a replica cannot be read", e);
    let mut merged = SeriesEntry::default();
    let is_windows = |c: &ChunkRef| c.encoding == ChunkEncoding::Windows;
    let windows: Vec<Vec<ChunkRef>> =
        entries.iter().map(|e| e.chunks.iter().filter(|c| is_windows(c)).cloned().collect()).collect();
    if windows.iter().any(|w| !w.is_empty()) {
        // Twice: as they are, and those that are taken.
        let bytes = windows.iter().try_fold(0usize, |sum, w| Ok(sum.saturating_add(decoded_bytes(w)?)));
        let bytes = bytes.map_err(damaged)?.saturating_mul(2);
        ctx.budget.reserve(bytes)?;
        let one = merge_windows(&windows);
        ctx.budget.release(bytes);
        merged.chunks.extend(one.map_err(damaged)?);
        entries.iter_mut().for_each(|e| e.chunks.retain(|c| !is_windows(c)));
    }
    entries.retain(|e| !e.chunks.is_empty());
    if apart(&entries) {
        for entry in entries {
            merged.chunks.extend(entry.chunks);
            merged.deleted.extend(entry.deleted);
        }
    } else {
        let bytes = entries.iter().flat_map(|e| &e.chunks).map(samples).sum::<usize>() * SAMPLE_BYTES;
        ctx.budget.reserve(bytes)?;
        let mut chunks = Vec::new();
        let done = merge_replicas(metric, &entries, &mut chunks);
        ctx.budget.release(bytes);
        done.map_err(damaged)?;
        merged.chunks.extend(chunks);
    }
    merged.chunks.sort_by_key(|chunk| chunk.min_time);
    Ok(merged)
}

/// Samples of a chunk, which all encodings begin with. What is cut short fails when it is decoded.
fn samples(chunk: &ChunkRef) -> usize {
    chunk.bytes.first_chunk().map_or(0, |n| usize::from(u16::from_be_bytes(*n)))
}

/// Whether the replicas have nothing at the same time: then there is nothing to choose. Deleted intervals
/// are their own replica's.
fn apart(entries: &[SeriesEntry]) -> bool {
    let mut extents: Vec<(Timestamp, Timestamp)> = Vec::new();
    for entry in entries {
        let Some(start) = entry.chunks.iter().map(|c| c.min_time).min() else { continue };
        extents.push((start, entry.chunks.iter().map(|c| c.max_time).max().unwrap_or(start)));
    }
    extents.sort_unstable();
    extents.windows(2).all(|pair| pair[0].1 < pair[1].0) && entries.iter().all(|e| e.deleted.is_empty())
}

/// Windows of several replicas as one list for each stretch of time. Of a stretch the windows are all as
/// long as those of the first replica that has some.
fn merge_windows(replicas: &[Vec<ChunkRef>]) -> Result<Vec<ChunkRef>, pyrrha_encoding::DecodeError> {
    if let [one] = &replicas.iter().filter(|r| !r.is_empty()).collect::<Vec<_>>()[..] {
        return Ok((*one).clone());
    }
    let mut resolutions: BTreeMap<i64, Held> = BTreeMap::new();
    for chunks in replicas {
        let mut own: BTreeMap<i64, ((Windows, HistogramWindows), Vec<TimeRange>)> = BTreeMap::new();
        for chunk in chunks {
            let range = TimeRange::new(chunk.min_time, chunk.max_time);
            let (mut probe, mut histograms) = (Windows::default(), HistogramWindows::default());
            let resolution = decode_windows(&chunk.bytes, range, &mut probe, &mut histograms)?;
            let ((windows, histograms), ranges) = own.entry(resolution).or_default();
            // Again, beside the other part of the same windows.
            decode_windows(&chunk.bytes, range, windows, histograms)?;
            ranges.push(range);
        }
        for (resolution, ((windows, histograms), ranges)) in own {
            let all = resolutions.entry(resolution).or_default();
            all.floats.push(windows);
            all.histograms.push(histograms);
            all.times.extend(ranges);
        }
    }
    let (mut chunks, mut covered) = (Vec::new(), Vec::<TimeRange>::new());
    for (resolution, held) in resolutions {
        let (mut floats, mut histograms) = (Windows::default(), HistogramWindows::default());
        for (r, i) in fullest(held.floats.iter().map(|w| (&w.starts[..], &w.counts[..]))) {
            floats.extend(&held.floats[r], i..i + 1);
        }
        for (r, i) in fullest(held.histograms.iter().map(|w| (&w.starts[..], &w.counts[..]))) {
            histograms.extend(&held.histograms[r], i..i + 1);
        }
        for range in stretches(held.times) {
            // Where shorter windows answer, longer ones do not.
            if covered.iter().any(|c| c.overlaps(&range)) {
                continue;
            }
            let parts = [WindowPart::Edges, WindowPart::Values];
            chunks_of(&floats, &histograms, range, resolution, &parts, &mut chunks);
            covered.push(range);
        }
    }
    Ok(chunks)
}

/// What replicas have of windows of one length, and for which times.
#[derive(Default)]
struct Held {
    floats: Vec<Windows>,
    histograms: Vec<HistogramWindows>,
    times: Vec<TimeRange>,
}

/// Of each window that of the replica with most samples; of the same number that of the first. Replicas
/// come as starts and counts of their windows, and which window of which replica is given.
fn fullest<'w>(replicas: impl Iterator<Item = (&'w [Timestamp], &'w [u32])>) -> Vec<(usize, usize)> {
    let mut best: BTreeMap<Timestamp, (u32, (usize, usize))> = BTreeMap::new();
    for (r, (starts, counts)) in replicas.enumerate() {
        for (i, (&start, &count)) in starts.iter().zip(counts).enumerate() {
            if best.get(&start).is_none_or(|(known, _)| count > *known) {
                best.insert(start, (count, (r, i)));
            }
        }
    }
    best.into_values().map(|(_, place)| place).collect()
}

/// Ranges that touch or overlap as one.
fn stretches(mut ranges: Vec<TimeRange>) -> Vec<TimeRange> {
    ranges.sort_by_key(|r| (r.start, r.end));
    let mut whole: Vec<TimeRange> = Vec::new();
    for range in ranges {
        match whole.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(1) => last.end = last.end.max(range.end),
            _ => whole.push(range),
        }
    }
    whole
}
