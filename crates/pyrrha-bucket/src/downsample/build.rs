//! Builds blocks of windows from a stream of series, one series at a time.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use pyrrha_encoding::windows::{
    HistogramWindows, MAX_WINDOWS, WindowPart, Windows, all_aggregate_chunks, coarsen, coarsen_histograms,
    encode_histogram_windows, encode_windows, fold_floats, fold_histograms, window_start, with_histograms,
};
use pyrrha_encoding::{
    DecodeError, FloatColumn, HistogramColumn, SeriesDecoder, SeriesSamples, Want, decode_stored,
    encode_series,
};
use pyrrha_env::Disk;
use pyrrha_model::contract::{ChunkRef, QueryContext, SeriesBatch, SeriesEntry, SeriesSet};
use pyrrha_model::{
    ChunkEncoding, ErrorKind, FloatHistogram, StoreError, TimeRange, Timestamp, is_stale_nan,
};
use pyrrha_storage::block::{BlockId, BlockMeta, BlockWriter, ThanosDownsample, ThanosMeta};

use super::{DownsampleTask, FIVE_MINUTES};
use crate::gateway::{WINDOWS_MAX, decoded_bytes};
use crate::shard::{Split, name_shard};

/// Series read at once.
const BATCH: usize = 16;
/// Samples of a series are decoded in slices of its time that take this part of what is left of the budget.
const SLICES: usize = 8;

/// Where blocks of windows are built, and which.
pub(crate) struct Built<'a> {
    pub(crate) disk: &'a Arc<dyn Disk>,
    pub(crate) home: &'a Path,
    /// Ids of the blocks, one for each part of the split.
    pub(crate) outputs: &'a [BlockId],
    pub(crate) split: Split,
}

impl Built<'_> {
    fn writers(&self) -> Result<Vec<(BlockWriter, u64)>, StoreError> {
        let create = |output: &BlockId| {
            Ok((BlockWriter::create(self.disk.clone(), &self.home.join(output.to_string()))?, 0))
        };
        self.outputs.iter().map(create).collect()
    }
}

/// Builds the blocks of a task from `series`: those of the task's inputs, merged,
/// sorted by labels, with samples or both parts of windows that divide the task's. Gives their metas, of those
/// that have series; of the first if none has.
/// Series whose windows no reader would take, since resets keep nearly all of their histograms, and those that
/// are to be kept stay at full resolution. Memory: the chunks and windows of one series, as many of its samples as
/// an eighth of the budget holds, and the symbols.
pub(crate) fn build(
    place: &Built<'_>,
    task: &DownsampleTask,
    metas: &[BlockMeta],
    mut series: Box<dyn SeriesSet>,
    ctx: &QueryContext,
) -> Result<Vec<BlockMeta>, StoreError> {
    let (start, end) = task.range();
    let range = TimeRange::new(start, end.saturating_sub(1));
    let mut writers = place.writers()?;
    let mut batch = SeriesBatch::default();
    let mut work = Work::default();
    while series.next_batch(BATCH, &mut batch)? {
        for entry in &batch.series {
            ctx.cancel.check()?;
            let labels = batch.resolve(&ctx.symbols, entry);
            let corrupt = |source: DecodeError| {
                let message = format!("chunk cannot be downsampled: series={labels}");
                StoreError::caused(ErrorKind::Corrupt, message, source)
            };
            work.begin();
            let most = ctx.budget.available() / SLICES;
            for (slice, part, bytes) in slices(entry, range, task.resolution, most).map_err(corrupt)? {
                ctx.cancel.check()?;
                ctx.budget.reserve(bytes)?;
                let done = work.decoder.decode(&part, slice, Want::default(), &mut work.samples);
                work.fold(task.resolution);
                ctx.budget.release(bytes);
                done.map_err(corrupt)?;
            }
            if work.windows.is_empty() && work.histogram_windows.is_empty() {
                continue;
            }
            let (Some(edges), Some(values)) = (
                work.encode(task.resolution, WindowPart::Edges),
                work.encode(task.resolution, WindowPart::Values),
            ) else {
                let message = format!("series has too many windows for a block: series={labels}");
                return Err(StoreError::new(ErrorKind::Limit, message));
            };
            let Some((writer, written)) = writers.get_mut(place.split.part_of(&labels)) else {
                let message = format!("a series belongs to no output: series={labels}");
                return Err(StoreError::new(ErrorKind::Internal, message));
            };
            *written += 1;
            let is_large = || [&edges, &values].iter().any(|c| c.bytes.len() as u64 > WINDOWS_MAX);
            if work.of_samples && (is_large() || task.keeps_custom_buckets && work.custom_buckets) {
                let stored = decode_stored(entry, range).map_err(corrupt)?;
                writer.add_series(&labels, &encode_series(&stored, false))?;
                continue;
            }
            let chunks = all_aggregate_chunks(&work.windows, &work.histogram_windows);
            writer.add_windows(&labels, &chunks, &edges, &values)?;
        }
    }
    let is_empty = writers.iter().all(|(_, written)| *written == 0);
    let mut built = Vec::with_capacity(writers.len());
    for (part, ((writer, written), output)) in writers.into_iter().zip(place.outputs).enumerate() {
        if written > 0 || (is_empty && part == 0) {
            let mut meta = meta_of(*output, task, metas);
            let shard = if is_empty { place.split.whole() } else { place.split.shard(part) };
            name_shard(&mut meta, shard);
            built.push(writer.finish(meta)?);
        }
    }
    Ok(built)
}

/// What a block of windows is.
fn meta_of(output: BlockId, task: &DownsampleTask, metas: &[BlockMeta]) -> BlockMeta {
    let mut meta = BlockMeta::of_compaction(output, metas);
    // As in Thanos: of the same level as what it was made from, which stays.
    meta.compaction.level = metas.iter().map(|m| m.compaction.level).max().unwrap_or(1);
    meta.compaction.parents.clear();
    meta.thanos = Some(thanos(task.resolution, metas));
    task.origin.note(&mut meta);
    (meta.min_time, meta.max_time) = task.range();
    meta
}

/// A slice of time, what a series has in it, and the memory that it takes to make windows of that.
type Slice<'a> = (TimeRange, Cow<'a, SeriesEntry>, usize);

/// A series in slices of `range`, each of whole windows and, but for what is in one window, of chunks that take `most`
/// bytes at once. It is one slice if that is enough, or if some of its chunks are windows already.
fn slices(
    entry: &SeriesEntry,
    range: TimeRange,
    resolution: i64,
    most: usize,
) -> Result<Vec<Slice<'_>>, DecodeError> {
    let bytes = work_bytes(&entry.chunks)?;
    if bytes <= most || entry.chunks.iter().any(|chunk| chunk.encoding == ChunkEncoding::Windows) {
        return Ok(vec![(range, Cow::Borrowed(entry), bytes)]);
    }
    // Where the next slice begins: at the window of the first chunk that is too much for this one.
    let (mut starts, mut held) = (vec![range.start], 0usize);
    for chunk in &entry.chunks {
        let bytes = work_bytes(std::slice::from_ref(chunk))?;
        let window = window_start(chunk.min_time, resolution);
        if held > 0 && held.saturating_add(bytes) > most && starts.last().is_some_and(|start| window > *start)
        {
            starts.push(window);
            held = 0;
        }
        held = held.saturating_add(bytes);
    }
    let ends = starts.iter().skip(1).map(|start| start - 1).chain([range.end]);
    let slice = |(start, end): (Timestamp, Timestamp)| {
        let slice = TimeRange::new(start, end);
        let has = |chunk: &&ChunkRef| TimeRange::new(chunk.min_time, chunk.max_time).overlaps(&slice);
        let chunks = entry.chunks.iter().filter(has).cloned().collect();
        let part = SeriesEntry { labels: entry.labels.clone(), chunks, deleted: entry.deleted.clone() };
        let bytes = work_bytes(&part.chunks)?;
        Ok((slice, Cow::Owned(part), bytes))
    };
    starts.iter().copied().zip(ends).map(slice).collect()
}

/// Memory that chunks take as samples, and as the windows that are made of them: of twenty histograms of a window
/// five are kept, or become one, at most.
fn work_bytes(chunks: &[ChunkRef]) -> Result<usize, DecodeError> {
    let decoded = decoded_bytes(chunks)?;
    Ok(decoded.saturating_add(decoded / 4))
}

fn thanos(resolution: i64, metas: &[BlockMeta]) -> ThanosMeta {
    let before = metas.iter().find_map(|m| m.thanos.as_ref());
    ThanosMeta {
        version: 1,
        labels: Some(before.and_then(|t| t.labels.clone()).unwrap_or_default()),
        downsample: ThanosDownsample { resolution, ..ThanosDownsample::default() },
        source: "compactor".to_owned(),
        ..ThanosMeta::default()
    }
}

/// What is used again for each series.
#[derive(Default)]
struct Work {
    decoder: SeriesDecoder,
    samples: SeriesSamples,
    fine: Windows,
    fine_histograms: HistogramWindows,
    windows: Windows,
    histogram_windows: HistogramWindows,
    /// Whether nothing that was decoded are windows.
    of_samples: bool,
    /// Whether there are histograms with custom buckets.
    custom_buckets: bool,
}

impl Work {
    /// Makes room for another series.
    fn begin(&mut self) {
        self.windows.clear();
        self.histogram_windows.clear();
        (self.of_samples, self.custom_buckets) = (true, false);
    }

    /// Makes windows of what was decoded, after those of earlier slices.
    fn fold(&mut self, resolution: i64) {
        self.of_samples &= self.samples.windows.is_empty() && self.samples.histogram_windows.is_empty();
        self.custom_buckets |= self.samples.histograms.values.iter().any(FloatHistogram::uses_custom_buckets);
        let SeriesSamples { floats, histograms, windows, histogram_windows, .. } = &self.samples;
        let stale = |(t, v): (&Timestamp, &f64)| is_stale_nan(*v).then_some(*t);
        let markers: Vec<Timestamp> = floats.times.iter().zip(&floats.values).filter_map(stale).collect();
        let floats = with_markers(floats, histograms);
        if windows.is_empty() && histogram_windows.is_empty() {
            fold_floats(&floats.times, &floats.values, resolution, &mut self.windows);
            fold_histograms(histograms, &markers, resolution, &mut self.histogram_windows);
            return;
        }
        // Where some of the range is raw, it is brought to the same windows first.
        self.fine.clear();
        self.fine_histograms.clear();
        let finer = FIVE_MINUTES.min(resolution);
        fold_floats(&floats.times, &floats.values, finer, &mut self.fine);
        fold_histograms(histograms, &markers, finer, &mut self.fine_histograms);
        let (mut all, made) = (Windows::default(), &self.fine);
        for (known, range) in in_turn((&windows.starts, &windows.ends), (&made.starts, &made.ends)) {
            all.extend(if known { windows } else { made }, range);
        }
        coarsen(&all, resolution, &mut self.windows);
        let (mut all, windows, made) =
            (HistogramWindows::default(), histogram_windows, &self.fine_histograms);
        for (known, range) in in_turn((&windows.starts, &windows.ends), (&made.starts, &made.ends)) {
            all.extend(if known { windows } else { made }, range);
        }
        coarsen_histograms(&all, resolution, &mut self.histogram_windows);
    }

    /// A part of the windows; none if there are too many.
    fn encode(&self, resolution: i64, part: WindowPart) -> Option<ChunkRef> {
        if self.windows.len().max(self.histogram_windows.len()) > MAX_WINDOWS {
            return None;
        }
        let histograms = encode_histogram_windows(&self.histogram_windows, resolution, part);
        with_histograms(encode_windows(&self.windows, resolution, part), histograms)
    }
}

/// Floats with the stale markers that are stored among histograms: they end floats, too.
fn with_markers<'a>(floats: &'a FloatColumn, histograms: &HistogramColumn) -> Cow<'a, FloatColumn> {
    let among = histograms.times.iter().zip(&histograms.values).filter(|(_, h)| h.is_stale());
    let mut markers = among.map(|(t, h)| (*t, h.sum)).peekable();
    if floats.times.is_empty() || markers.peek().is_none() {
        return Cow::Borrowed(floats);
    }
    let mut all: Vec<(Timestamp, f64)> =
        floats.times.iter().copied().zip(floats.values.iter().copied()).chain(markers).collect();
    all.sort_by_key(|(t, _)| *t);
    let (times, values) = all.into_iter().unzip();
    Cow::Owned(FloatColumn { times, values, starts: Vec::new() })
}

/// Starts and ends of windows.
type Extents<'a> = (&'a [Timestamp], &'a [Timestamp]);

/// Windows that were known and windows made of samples, by time: `(whether known, which)`. Nothing stands
/// for the same time twice.
fn in_turn((starts, ends): Extents<'_>, (made, made_ends): Extents<'_>) -> Vec<(bool, Range<usize>)> {
    let (mut order, mut taken, mut end) = (Vec::new(), 0, None);
    let after = |end: Option<Timestamp>| made.partition_point(|s| end.is_some_and(|end| *s <= end));
    for (i, start) in starts.iter().enumerate() {
        taken = after(end).max(taken);
        let before = made.partition_point(|s| s < start).max(taken);
        if before > taken {
            order.push((false, taken..before));
            end = Some(made_ends[before - 1]);
        }
        taken = before;
        if end.is_none_or(|end| end < window_start(*start, FIVE_MINUTES)) {
            order.push((true, i..i + 1));
            end = Some(ends[i]);
        }
    }
    taken = after(end).max(taken);
    order.push((false, taken..made.len()));
    order
}
