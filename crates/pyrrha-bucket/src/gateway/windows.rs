//! Windows of a downsampled block: from the files beside it, or from its aggregate chunks.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use bytes::Bytes;
use pyrrha_encoding::windows::{ForeignEdges, WindowPart, Windows, encode_windows, from_aggregates};
use pyrrha_encoding::{Aggregate, AggregateChunk, DecodeError, crc};
use pyrrha_model::contract::{ChunkRef, QueryContext, Timestamps, WindowHints};
use pyrrha_model::{ChunkEncoding, StoreError, TimeRange};
use pyrrha_storage::block::{WINDOWS_FILE, WINDOWS_VALUES_FILE, WindowsEntry, WindowsTable};

use super::block::BucketBlock;
use super::budget::Reserved;
use super::ranges::RangedObject;

/// Largest list of first keys: a series in 256 has eight bytes.
const KEYS_MAX: u64 = 64 << 20;
/// Largest chunk of windows.
const CHUNK_MAX: u64 = 64 << 20;

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

fn empty(stands_for: TimeRange) -> ChunkRef {
    ChunkRef {
        min_time: stands_for.start,
        max_time: stands_for.end,
        encoding: ChunkEncoding::Windows,
        timestamps: Timestamps::Own,
        bytes: Bytes::new(),
    }
}

fn damaged(block: &BucketBlock, file: &str, error: &DecodeError) -> StoreError {
    block.corrupt(format!("{error} file={file}"))
}

/// Makes chunks of windows of a series' aggregate chunks.
pub(super) fn of_aggregates(
    block: &BucketBlock,
    chunks: &[ChunkRef],
    hints: WindowHints,
    stands_for: TimeRange,
) -> Result<Vec<ChunkRef>, StoreError> {
    let resolution = block.entry.resolution;
    let edges = if hints.counter { ForeignEdges::Counter } else { ForeignEdges::Mean };
    let mut windows = Windows::default();
    let mut histograms = Vec::new();
    for chunk in chunks {
        let is_histogram = |c: &ChunkRef| !c.encoding.is_float();
        let split =
            |aggregate| AggregateChunk::split(chunk, aggregate).map_err(|e| damaged(block, "chunks", &e));
        if chunk.encoding != ChunkEncoding::Aggregate {
            histograms.push(chunk.clone());
        } else if split(Aggregate::Sum)?.as_ref().is_some_and(is_histogram) {
            // Of histograms, the counter stands for the samples.
            histograms.extend(split(Aggregate::Counter)?);
        } else if chunk.encoding == ChunkEncoding::Aggregate {
            from_aggregates(&chunk.bytes, resolution, edges, &mut windows)
                .map_err(|e| damaged(block, "chunks", &e))?;
        }
    }
    let parts = [(hints.edges, WindowPart::Edges), (hints.values, WindowPart::Values)];
    let wanted = parts.into_iter().filter(|(wanted, _)| *wanted);
    let made = wanted.filter_map(|(_, part)| encode_windows(&windows, resolution, part));
    let made = made.map(|chunk| ChunkRef { bytes: chunk.bytes, ..empty(stands_for) });
    Ok(made.chain(histograms).collect())
}
