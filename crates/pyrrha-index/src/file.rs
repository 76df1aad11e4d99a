//! The index file of a block, in Prometheus' format: what its parts have in common.
//!
//! ```text
//! header | symbols | series | postings | postings offset table | TOC
//! ```
//!
//! Integers are big-endian, checksums CRC-32C. `docs/format/index.md` draws every part.

mod header;
mod known_lists;
mod offsets;
mod output;
mod places;
mod reader;
mod salvage;
mod scan;
mod search;
mod symbols;
mod tables;
mod writer;

use pyrrha_encoding::varint::{take_array, take_count, take_u64, take_uvarint, take_uvarint32, take_varint};
use pyrrha_encoding::{DecodeError, crc};
use pyrrha_model::Timestamp;

pub use header::{HeaderLayout, IndexHeader};
pub use known_lists::KnownLists;
pub use reader::{IndexReader, TablesOrigin};
pub use salvage::IndexSalvage;
pub use writer::{IndexStats, IndexWriter};

use crate::IndexError;
use crate::error::corrupt;

const MAGIC: u32 = 0xBAAA_D700;
const HEADER_LEN: usize = 5;
const TOC_LEN: usize = 52;
/// Series entries begin at multiples of this; a series reference is the offset divided by it.
const SERIES_ALIGN: usize = 16;
/// A reader knows the place of each such symbol and postings entry, and walks the rest.
const SAMPLE_EVERY: usize = 32;

/// A chunk of a series as its index entry names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkMeta {
    /// Time of the first sample.
    pub min_time: Timestamp,
    /// Time of the last sample.
    pub max_time: Timestamp,
    /// Segment number from 0 in the upper half, byte offset in that file in the lower.
    pub reference: u64,
}

/// A series entry: labels as symbol references of its index, and chunks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeriesRow {
    /// (name, value), ascending by name.
    pub labels: Vec<(u32, u32)>,
    /// Chunks in file order.
    pub chunks: Vec<ChunkMeta>,
}

/// Byte offsets of the sections; 0 for one that is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Toc {
    symbols: u64,
    series: u64,
    label_indices: u64,
    label_indices_table: u64,
    postings: u64,
    postings_table: u64,
}

impl Toc {
    fn fields(&self) -> [u64; 6] {
        [
            self.symbols,
            self.series,
            self.label_indices,
            self.label_indices_table,
            self.postings,
            self.postings_table,
        ]
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.fields().iter().flat_map(|f| f.to_be_bytes()).collect();
        let sum = crc::checksum(&bytes);
        bytes.extend_from_slice(&sum.to_be_bytes());
        bytes
    }

    /// Reads the TOC at the end of a file and checks that its sections lie in the file.
    fn read(file: &[u8]) -> Result<Self, IndexError> {
        let start = file.len().checked_sub(TOC_LEN).filter(|&s| s >= HEADER_LEN);
        let start = start.ok_or_else(|| corrupt("file is shorter than header and TOC", 0))?;
        Self::parse(&file[start..], start as u64)
    }

    /// Reads the bytes of a TOC that is at `start`.
    fn parse(mut input: &[u8], start: u64) -> Result<Self, IndexError> {
        let at = usize::try_from(start).unwrap_or(usize::MAX);
        if input.len() != TOC_LEN {
            return Err(corrupt("TOC has another length", at));
        }
        let mut read = || -> Result<Self, DecodeError> {
            let body = &input[..TOC_LEN - 4];
            let mut fields = [0; 6];
            for field in &mut fields {
                *field = take_u64(&mut input)?;
            }
            crc::verify("TOC", body, u32::from_be_bytes(take_array(&mut input)?))?;
            let [symbols, series, label_indices, label_indices_table, postings, postings_table] = fields;
            Ok(Self { symbols, series, label_indices, label_indices_table, postings, postings_table })
        };
        let toc = read().map_err(|_| corrupt("TOC checksum", at))?;
        if toc.fields().iter().any(|&f| f != 0 && (f < HEADER_LEN as u64 || f > start)) {
            return Err(corrupt("TOC names a section outside the file", at));
        }
        Ok(toc)
    }
}

/// The series section ends where the next present section starts.
fn series_section(toc: &Toc) -> std::ops::Range<usize> {
    if toc.series == 0 {
        return 0..0;
    }
    let after = [toc.label_indices, toc.label_indices_table, toc.postings, toc.postings_table];
    let end = after.into_iter().filter(|&o| o >= toc.series).min().unwrap_or(toc.series);
    toc.series as usize..end as usize
}

/// Reads the content of a series entry. `row` is cleared first.
fn decode_series(mut content: &[u8], row: &mut SeriesRow) -> Result<(), DecodeError> {
    decode_labels(&mut content, &mut row.labels)?;
    decode_chunks(content, &mut row.chunks)
}

fn decode_labels(content: &mut &[u8], labels: &mut Vec<(u32, u32)>) -> Result<(), DecodeError> {
    labels.clear();
    let count = take_count(content, 2)?;
    labels.reserve(count);
    for _ in 0..count {
        let pair = (take_uvarint32(content)?, take_uvarint32(content)?);
        if labels.last().is_some_and(|&(name, _)| name >= pair.0) {
            return Err(DecodeError::Malformed { part: "order of label names" });
        }
        labels.push(pair);
    }
    Ok(())
}

fn decode_chunks(mut content: &[u8], chunks: &mut Vec<ChunkMeta>) -> Result<(), DecodeError> {
    chunks.clear();
    let count = take_count(&mut content, 3)?;
    chunks.reserve(count);
    let (mut time, mut reference) = (0i64, 0u64);
    for i in 0..count {
        // Differences wrap: files with chunks out of order exist, and stay readable.
        let min_time = if i == 0 {
            take_varint(&mut content)?
        } else {
            time.wrapping_add(take_uvarint(&mut content)? as i64)
        };
        let max_time = min_time.wrapping_add(take_uvarint(&mut content)? as i64);
        reference = if i == 0 {
            take_uvarint(&mut content)?
        } else {
            reference.wrapping_add(take_varint(&mut content)? as u64)
        };
        if max_time < min_time {
            return Err(DecodeError::Malformed { part: "times of chunk" });
        }
        time = max_time;
        chunks.push(ChunkMeta { min_time, max_time, reference });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
