//! Chunks of a block in the bucket.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use pyrrha_encoding::crc;
use pyrrha_encoding::varint::take_uvarint32;
use pyrrha_index::{ChunkMeta, SeriesRow};
use pyrrha_model::contract::{ChunkRef, Timestamps};
use pyrrha_model::{StoreError, TimeRange};

use super::block::BucketBlock;
use super::budget::Reserved;

/// Bytes that the last of consecutive chunks is assumed to take; what is longer is asked for again.
const GUESS: u64 = 2048;
/// Largest chunk.
const CHUNK_MAX: u64 = 64 << 20;
/// Segments begin with so many bytes that are no chunk.
const SEGMENT_HEADER: u64 = 8;

/// A chunk that a query wants: what the index says, and where it is at most.
#[derive(Debug)]
pub(super) struct WantedChunk {
    meta: ChunkMeta,
    range: Range<u64>,
}

impl WantedChunk {
    fn segment(&self) -> u32 {
        (self.meta.reference >> 32) as u32
    }

    /// Bytes that are asked for.
    pub(super) fn bytes(&self) -> u64 {
        self.range.end - self.range.start
    }
}

/// The chunks of a series that have samples in `range`.
pub(super) fn wanted(row: &SeriesRow, range: TimeRange) -> Vec<WantedChunk> {
    let mut found = Vec::new();
    for (i, &meta) in row.chunks.iter().enumerate() {
        if TimeRange::new(meta.min_time, meta.max_time).overlaps(&range) {
            let start = meta.reference & u64::from(u32::MAX);
            // Chunks of a series are written one after the other.
            let next = row.chunks.get(i + 1).map(|next| next.reference);
            let next = next.filter(|next| next >> 32 == meta.reference >> 32);
            let next = next.map(|next| next & u64::from(u32::MAX)).filter(|&next| next > start);
            let end = next.map_or(start + GUESS, |next| next.min(start + CHUNK_MAX));
            found.push(WantedChunk { meta, range: start..end });
        }
    }
    found
}

/// Fetches and verifies chunks, near ones together. Gives them in the order of `wanted`.
pub(super) async fn fetch(
    block: &BucketBlock,
    wanted: &[WantedChunk],
    reserved: &mut Reserved,
) -> Result<Vec<ChunkRef>, StoreError> {
    let mut found: Vec<Option<ChunkRef>> = wanted.iter().map(|_| None).collect();
    let mut segments: BTreeMap<u32, Vec<(usize, Range<u64>)>> = BTreeMap::new();
    for (i, chunk) in wanted.iter().enumerate() {
        if chunk.range.start < SEGMENT_HEADER {
            return Err(damaged(block, chunk, "chunk outside its segment"));
        }
        segments.entry(chunk.segment()).or_default().push((i, chunk.range.clone()));
    }
    for (segment, mut open) in segments {
        let object = block.segment(segment);
        while !open.is_empty() {
            let ranges: Vec<Range<u64>> = open.iter().map(|(_, range)| range.clone()).collect();
            let bytes = object.read(&ranges, reserved).await?;
            let mut longer = Vec::new();
            for ((i, range), bytes) in open.into_iter().zip(bytes) {
                match decode(block, &wanted[i], &bytes)? {
                    Decoded::Chunk(chunk) => found[i] = Some(chunk),
                    Decoded::Needs(len) => {
                        let end = range.start + len;
                        // The object ended before, or there is no end of asking.
                        if end <= range.end {
                            return Err(damaged(block, &wanted[i], "chunk is cut short"));
                        }
                        longer.push((i, range.start..end));
                    }
                }
            }
            open = longer;
        }
    }
    // Every chunk left the loop above only when it was found.
    Ok(found.into_iter().flatten().collect())
}

enum Decoded {
    Chunk(ChunkRef),
    Needs(u64),
}

/// `uvarint len | encoding | data[len] | crc32c(encoding, data)`
fn decode(block: &BucketBlock, wanted: &WantedChunk, bytes: &Bytes) -> Result<Decoded, StoreError> {
    let mut input = &bytes[..];
    let len = match take_uvarint32(&mut input) {
        Ok(len) => u64::from(len),
        Err(_) if bytes.len() < 5 => return Ok(Decoded::Needs(5)),
        Err(error) => return Err(damaged(block, wanted, &error.to_string())),
    };
    let total = (bytes.len() - input.len()) as u64 + 1 + len + 4;
    if total > CHUNK_MAX {
        return Err(damaged(block, wanted, "chunk is too large"));
    }
    if total > bytes.len() as u64 {
        return Ok(Decoded::Needs(total));
    }
    let mut input = &bytes[..];
    let (encoding, data) = crc::take_chunk(&mut input).map_err(|e| damaged(block, wanted, &e.to_string()))?;
    Ok(Decoded::Chunk(ChunkRef {
        min_time: wanted.meta.min_time,
        max_time: wanted.meta.max_time,
        encoding,
        timestamps: Timestamps::Own,
        bytes: bytes.slice_ref(data),
    }))
}

fn damaged(block: &BucketBlock, wanted: &WantedChunk, what: &str) -> StoreError {
    let segment = u64::from(wanted.segment()) + 1;
    block.corrupt(format!("{what} file=chunks/{segment:06} offset={}", wanted.range.start))
}
