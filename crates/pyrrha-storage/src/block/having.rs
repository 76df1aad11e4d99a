//! Lists of the series that have a label at all, kept beside the index of a large block, so that
//! `pod!=""` reads one short list where the index has one per value. Format: docs/format/having.md.
//!
//! ```text
//! "PYRHAVE1" | { section(roaring bitmap) }* | section({ name | offset | length }*) | offset of the last section u64 | "PYRHAVE1"
//! ```

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use pyrrha_encoding::varint::{put_uvarint, take_array, take_length_prefixed, take_u64, take_uvarint};
use pyrrha_encoding::{DecodeError, crc};
use pyrrha_env::Disk;
use pyrrha_index::{RoaringBitmap, SortedSymbols};
use std::collections::HashMap;

use super::error::{Blame, BlockError};
use crate::durable;

/// Name of the file.
pub const HAVING_FILE: &str = "having";
const MAGIC: &[u8; 8] = b"PYRHAVE1";
/// Blocks of fewer series have none: their index is fetched in one piece.
const SERIES_MIN: u64 = 2048;
/// Bytes at the end of the file that say where the table is.
const TRAILER: u64 = 16;

/// Collects the lists of a block as its series are written.
#[derive(Debug, Default)]
pub(super) struct HavingWriter {
    /// By ordinal of the name.
    lists: BTreeMap<u32, RoaringBitmap>,
    series: u64,
}

impl HavingWriter {
    /// Adds a series, which comes after those before.
    pub(super) fn add(&mut self, reference: u32, names: impl Iterator<Item = u32>) {
        self.series += 1;
        for name in names {
            // It only fails on what is not ascending, where a plain insertion is right.
            if self.lists.entry(name).or_default().try_push(reference).is_err() {
                self.lists.entry(name).or_default().insert(reference);
            }
        }
    }

    /// Writes the file into the directory of a block with enough series.
    pub(super) fn write(
        self,
        disk: &dyn Disk,
        dir: &Path,
        blame: &Blame,
        symbols: &SortedSymbols,
    ) -> Result<(), BlockError> {
        if self.series < SERIES_MIN {
            return Ok(());
        }
        let mut out = MAGIC.to_vec();
        let mut table = Vec::new();
        for (name, list) in &self.lists {
            let name = symbols.get(*name);
            let mut body = Vec::with_capacity(list.serialized_size());
            list.serialize_into(&mut body).map_err(blame.io(HAVING_FILE))?;
            put_uvarint(&mut table, name.len() as u64);
            table.extend_from_slice(name.as_bytes());
            let start = out.len();
            crc::put_section(&mut out, &body);
            put_uvarint(&mut table, start as u64);
            put_uvarint(&mut table, (out.len() - start) as u64);
        }
        let at = out.len() as u64;
        crc::put_section(&mut out, &table);
        out.extend_from_slice(&at.to_be_bytes());
        out.extend_from_slice(MAGIC);
        durable::write_new(disk, &dir.join(HAVING_FILE), &out).map_err(blame.io(HAVING_FILE))
    }
}

/// The table of a [`HAVING_FILE`] that is read by ranges: its end first, then lists as they are needed.
#[derive(Debug, Default)]
pub struct HavingTable {
    lists: HashMap<Box<str>, Range<u64>>,
}

impl HavingTable {
    /// The bytes to read first of a file of so many.
    pub fn trailer_range(bytes: u64) -> Range<u64> {
        bytes.saturating_sub(TRAILER)..bytes
    }

    /// From the trailer, the bytes of the table.
    pub fn table_range(trailer: &[u8], bytes: u64) -> Result<Range<u64>, DecodeError> {
        let input = &mut &trailer[..];
        let (start, magic) = (take_u64(input)?, take_array::<8>(input)?);
        let end = bytes.saturating_sub(TRAILER);
        if &magic != MAGIC || start < MAGIC.len() as u64 || start >= end {
            return Err(DecodeError::Malformed { part: "table of lists" });
        }
        Ok(start..end)
    }

    /// Reads the table that is at `range`.
    pub fn read(table: &[u8], range: &Range<u64>) -> Result<Self, DecodeError> {
        let mut body = crc::take_section("table of lists", &mut &table[..])?;
        let mut lists = HashMap::new();
        while !body.is_empty() {
            let name = take_length_prefixed(&mut body)?;
            let name =
                std::str::from_utf8(name).map_err(|_| DecodeError::Malformed { part: "label name" })?;
            let (start, len) = (take_uvarint(&mut body)?, take_uvarint(&mut body)?);
            let end = start.checked_add(len).filter(|end| *end <= range.start);
            let end = end.ok_or(DecodeError::Malformed { part: "list outside the file" })?;
            lists.insert(name.into(), start..end);
        }
        Ok(Self { lists })
    }

    /// Where the list of a label is; `None` if no series has it.
    pub fn list(&self, name: &str) -> Option<Range<u64>> {
        self.lists.get(name).cloned()
    }

    /// Reads a list.
    pub fn decode(list: &[u8]) -> Result<RoaringBitmap, DecodeError> {
        let body = crc::take_section("list of series", &mut &list[..])?;
        RoaringBitmap::deserialize_from(body).map_err(|_| DecodeError::Malformed { part: "list of series" })
    }
}

#[cfg(test)]
mod tests;
