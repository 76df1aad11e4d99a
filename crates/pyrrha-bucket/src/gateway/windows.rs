//! Windows of a downsampled block: from the files beside it, or from its aggregate chunks.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use bytes::Bytes;
use pyrrha_encoding::windows::{
    ForeignEdges, HistogramWindows, MAX_WINDOWS, WindowPart, Windows, decode_windows,
    encode_histogram_windows, encode_windows, from_aggregates, from_histogram_aggregates, with_histograms,
};
use pyrrha_encoding::{Aggregate, AggregateChunk, DecodeError, crc, decoded_size};
use pyrrha_model::contract::{ChunkRef, QueryContext, Timestamps, WindowHints};
use pyrrha_model::{ChunkEncoding, StoreError, TimeRange};
use pyrrha_storage::block::{WINDOWS_FILE, WINDOWS_VALUES_FILE, WindowsEntry, WindowsTable};

use super::block::BucketBlock;
use super::budget::Reserved;
use super::ranges::RangedObject;

/// Largest list of first keys: a series in 256 has eight bytes.
const KEYS_MAX: u64 = 64 << 20;
/// Largest chunk of windows that is read.
const CHUNK_MAX: u64 = WINDOWS_MAX + (64 << 10);
/// Most bytes of windows that go to a chunk.
pub(crate) const WINDOWS_MAX: u64 = 64 << 20;

/// The files beside a block, with the table's first keys.
#[derive(Debug)]
pub(super) struct WindowFiles {
    edges: RangedObject,
    values: RangedObject,
    table: WindowsTable,
}

impl WindowFiles {
    /// Opens the files of a block; `None` if it has none.
    pub(super) async fn open(block: &BucketBlock, ctx: &QueryContext) -> Result<Option<Self>, StoreError> {
        let open = |name| block.beside(name);
        let (Some((edges, bytes)), Some((values, _))) = (open(WINDOWS_FILE), open(WINDOWS_VALUES_FILE))
        else {
            return Ok(None);
        };
        let mut reserved = Reserved::new(ctx, 0)?;
        let trailer = edges.one(WindowsTable::trailer_range(bytes), &mut reserved).await?;
        let (mut table, keys) =
            WindowsTable::trailer(&trailer, bytes).map_err(|e| damaged(block, WINDOWS_FILE, &e))?;
        if keys.end.saturating_sub(keys.start) > KEYS_MAX {
            return Err(block.corrupt(format!("table is too large file={WINDOWS_FILE}")));
        }
        let keys = edges.one(keys, &mut reserved).await?;
        table.set_keys(&keys, &trailer).map_err(|e| damaged(block, WINDOWS_FILE, &e))?;
        Ok(Some(Self { edges, values, table }))
    }

    /// Finds the series whose first chunks are these; one without windows is not there.
    pub(super) async fn find(
        &self,
        block: &BucketBlock,
        ctx: &QueryContext,
        keys: &[u64],
    ) -> Result<Vec<Option<WindowsEntry>>, StoreError> {
        let blame = |e: DecodeError| damaged(block, WINDOWS_FILE, &e);
        let mut pages: BTreeMap<u64, Range<u64>> = BTreeMap::new();
        for key in keys {
            pages.extend(self.table.page_of(*key).map(|page| (page.start, page)));
        }
        let pages: Vec<Range<u64>> = pages.into_values().collect();
        let mut entries = HashMap::new();
        let mut reserved = Reserved::new(ctx, 0)?;
        for bytes in self.edges.read(&pages, &mut reserved).await? {
            let page = WindowsTable::entries(&bytes).map_err(blame)?;
            entries.extend(page.into_iter().map(|entry| (entry.key, entry)));
        }
        Ok(keys.iter().map(|key| entries.remove(key)).collect())
    }

    /// The chunks of a part, in the order of the entries, for the times that they stand for.
    pub(super) async fn chunks(
        &self,
        block: &BucketBlock,
        entries: &[WindowsEntry],
        part: WindowPart,
        stands_for: TimeRange,
        reserved: &mut Reserved,
    ) -> Result<Vec<ChunkRef>, StoreError> {
        let (object, name) = match part {
            WindowPart::Edges => (&self.edges, WINDOWS_FILE),
            WindowPart::Values => (&self.values, WINDOWS_VALUES_FILE),
        };
        let ranges: Vec<Range<u64>> = entries
            .iter()
            .map(|e| if part == WindowPart::Edges { e.edges.clone() } else { e.values.clone() })
            .collect();
        if ranges.iter().any(|r| r.end - r.start > CHUNK_MAX) {
            return Err(block.corrupt(format!("chunk is too large file={name}")));
        }
        let chunk = |bytes: Bytes| {
            let (encoding, data) = crc::take_chunk(&mut &bytes[..]).map_err(|e| damaged(block, name, &e))?;
            Ok(ChunkRef { encoding, bytes: bytes.slice_ref(data), ..empty(stands_for) })
        };
        object.read(&ranges, reserved).await?.into_iter().map(chunk).collect()
    }
}

/// Bytes that chunks take once they are decoded, about.
pub(crate) fn decoded_bytes(chunks: &[ChunkRef]) -> Result<usize, DecodeError> {
    chunks.iter().try_fold(0usize, |sum, chunk| Ok(sum.saturating_add(decoded_size(chunk)?)))
}

fn empty(stands_for: TimeRange) -> ChunkRef {
    ChunkRef {
        min_time: stands_for.start,
        max_time: stands_for.end,
        encoding: ChunkEncoding::Windows,
        timestamps: Timestamps::Own,
        bytes: Bytes::new(),
    }
}

pub(super) fn damaged(block: &BucketBlock, file: &str, error: &DecodeError) -> StoreError {
    block.corrupt(format!("{error} file={file}"))
}

/// Makes chunks of windows of a series' aggregate chunks.
pub(super) fn of_aggregates(
    chunks: &[ChunkRef],
    resolution: i64,
    hints: WindowHints,
    stands_for: TimeRange,
) -> Result<Vec<ChunkRef>, DecodeError> {
    let edges = if hints.counter { ForeignEdges::Counter } else { ForeignEdges::Mean };
    let (mut windows, mut histograms) = (Windows::default(), HistogramWindows::default());
    let mut samples = Vec::new();
    for chunk in chunks {
        if chunk.encoding != ChunkEncoding::Aggregate {
            samples.push(chunk.clone());
        } else if is_of_histograms(&chunk.bytes)? {
            from_histogram_aggregates(&chunk.bytes, resolution, &mut histograms)?;
        } else {
            from_aggregates(&chunk.bytes, resolution, edges, &mut windows)?;
        }
    }
    let parts = [(hints.edges, WindowPart::Edges), (hints.values, WindowPart::Values)];
    let parts: Vec<WindowPart> =
        parts.into_iter().filter(|(wanted, _)| *wanted).map(|(_, part)| part).collect();
    let mut made = Vec::new();
    chunks_of(&windows, &histograms, stands_for, resolution, &parts, &mut made);
    made.extend(samples);
    Ok(made)
}

/// Whether an aggregate chunk sums up histograms.
fn is_of_histograms(bytes: &[u8]) -> Result<bool, DecodeError> {
    let chunk = AggregateChunk::parse(bytes)?;
    let inner = chunk.get(Aggregate::Sum).or(chunk.get(Aggregate::Counter));
    Ok(inner.is_some_and(|(encoding, _)| !encoding.is_float()))
}

/// Chunks of the windows in `range`, which stand for all of it: as many as it takes, each with its parts.
pub(crate) fn chunks_of(
    floats: &Windows,
    histograms: &HistogramWindows,
    range: TimeRange,
    resolution: i64,
    parts: &[WindowPart],
    out: &mut Vec<ChunkRef>,
) {
    for (windows, stands_for) in pieces(&floats.starts, &floats.ends, range) {
        let mut piece = Windows::default();
        piece.extend(floats, windows);
        let made = parts.iter().filter_map(|&part| encode_windows(&piece, resolution, part));
        out.extend(made.map(|c| ChunkRef { bytes: c.bytes, ..empty(stands_for) }));
    }
    for (windows, stands_for) in pieces(&histograms.starts, &histograms.ends, range) {
        let mut piece = HistogramWindows::default();
        piece.extend(histograms, windows);
        let made = parts.iter().filter_map(|&part| encode_histogram_windows(&piece, resolution, part));
        out.extend(made.map(|c| ChunkRef { bytes: c.bytes, ..empty(stands_for) }));
    }
}

/// A chunk of windows without those that any of these intervals touches; `None` if none is left.
pub(super) fn without_touched(
    chunk: ChunkRef,
    deleted: &[TimeRange],
) -> Result<Option<ChunkRef>, DecodeError> {
    let (mut floats, mut histograms) = (Windows::default(), HistogramWindows::default());
    let resolution = decode_windows(&chunk.bytes, TimeRange::ALL, &mut floats, &mut histograms)?;
    let is_left = |start: i64, end: i64| !deleted.iter().any(|d| d.overlaps(&TimeRange::new(start, end)));
    let all_left = |starts: &[i64], ends: &[i64]| starts.iter().zip(ends).all(|(s, e)| is_left(*s, *e));
    if all_left(&floats.starts, &floats.ends) && all_left(&histograms.starts, &histograms.ends) {
        return Ok(Some(chunk));
    }
    let (mut left, mut left_histograms) = (Windows::default(), HistogramWindows::default());
    for i in (0..floats.len()).filter(|&i| is_left(floats.starts[i], floats.ends[i])) {
        left.extend(&floats, i..i + 1);
    }
    for i in (0..histograms.starts.len()).filter(|&i| is_left(histograms.starts[i], histograms.ends[i])) {
        left_histograms.extend(&histograms, i..i + 1);
    }
    let part =
        if floats.has_edges() && histograms.has_edges() { WindowPart::Edges } else { WindowPart::Values };
    let made = with_histograms(
        encode_windows(&left, resolution, part),
        encode_histogram_windows(&left_histograms, resolution, part),
    );
    Ok(made
        .map(|made| ChunkRef { bytes: made.bytes, ..empty(TimeRange::new(chunk.min_time, chunk.max_time)) }))
}

/// Which windows go to one chunk, and for which times of `range` that stands.
fn pieces(starts: &[i64], ends: &[i64], range: TimeRange) -> Vec<(Range<usize>, TimeRange)> {
    let from = ends.partition_point(|end| *end < range.start);
    let upto = starts.partition_point(|start| *start <= range.end).max(from);
    let (mut at, mut pieces) = (from, Vec::new());
    while at < upto {
        let to = upto.min(at + MAX_WINDOWS);
        // Pieces meet where windows do.
        let start = if at == from { range.start } else { starts[at] };
        let end = if to == upto { range.end } else { starts[to] - 1 };
        pieces.push((at..to, TimeRange::new(start, end)));
        at = to;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use pyrrha_encoding::windows::aggregate_chunks;
    use pyrrha_encoding::{SeriesSamples, Want, decode_series};
    use pyrrha_model::contract::SeriesEntry;

    use super::*;

    const FIVE: i64 = 300_000;

    /// Windows of two samples each, of which every tenth is missing.
    fn windows(count: i64) -> Windows {
        let (mut times, mut values) = (Vec::new(), Vec::new());
        for i in (0..count).filter(|i| i % 10 != 3) {
            times.extend([i * FIVE + 1000, i * FIVE + 61_000]);
            values.extend([i as f64, i as f64 + 0.5]);
        }
        let mut windows = Windows::default();
        pyrrha_encoding::windows::fold_floats(&times, &values, FIVE, &mut windows);
        windows
    }

    #[test]
    fn more_windows_than_a_chunk_holds_are_several_chunks() {
        let all = windows(160_000);
        assert_eq!(all.len(), 144_000);
        let chunks = aggregate_chunks(&all);
        let hints = WindowHints { edges: true, values: true, counter: false, max_resolution_ms: FIVE };
        for (range, expected) in [
            (TimeRange::ALL, 144_000usize),
            (TimeRange::new(40 * FIVE, 140_000 * FIVE - 1), 126_000 - 36),
            (TimeRange::new(FIVE / 2, 10 * FIVE - 1), 9),
        ] {
            let made = of_aggregates(&chunks, FIVE, hints, range).expect("sound");
            assert_eq!(made.len(), 2 * expected.div_ceil(MAX_WINDOWS));
            assert!(made.iter().all(|c| c.min_time <= c.max_time));
            let entry = SeriesEntry { chunks: made.into(), ..SeriesEntry::default() };
            let mut found = SeriesSamples::default();
            decode_series(&entry, TimeRange::ALL, Want::default(), &mut found).expect("sound");
            let from = all.ends.partition_point(|end| *end < range.start);
            assert_eq!(found.windows.starts, all.starts[from..from + expected]);
            assert_eq!(found.windows.values.sums, all.values.sums[from..from + expected]);
            let spans = &found.window_spans;
            assert_eq!((spans[0].range.start, spans[spans.len() - 1].range.end), (range.start, range.end));
            assert!(spans.windows(2).all(|pair| pair[0].range.end + 1 == pair[1].range.start));
        }
    }
}
