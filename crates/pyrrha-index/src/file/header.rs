//! An index file read by ranges: its small tables are here, postings and series come when asked.
//!
//! ```text
//! header | symbols |            series | postings            | postings offset table | TOC
//! '----- head -----'  fetched by ranges as they are needed   '------- tail ---------------'
//! ```

use std::ops::Range;

use bytes::Bytes;
use pyrrha_encoding::crc;
use pyrrha_encoding::varint::{take_u32, take_uvarint32};

use super::offsets::Offsets;
use super::symbols::FileSymbols;
use super::{HEADER_LEN, MAGIC, SERIES_ALIGN, SeriesRow, TOC_LEN, Toc, decode_series};
use crate::IndexError;
use crate::error::corrupt;

/// The parts of an index file from which an [`IndexHeader`] is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderLayout {
    /// From the start of the file to the end of the symbols.
    pub head: Range<u64>,
    /// From the postings offset table to the end of the file.
    pub tail: Range<u64>,
}

impl HeaderLayout {
    /// How many bytes at the end of an index file say where its parts are.
    pub const TOC_BYTES: u64 = TOC_LEN as u64;

    /// The layout of an index file of `len` bytes, from its last [`TOC_BYTES`](Self::TOC_BYTES).
    pub fn read(toc: &[u8], len: u64) -> Result<Self, IndexError> {
        Ok(Self::of(&read_toc(toc, len)?, len))
    }

    fn of(toc: &Toc, len: u64) -> Self {
        // Symbols come first in every file that is written today, and end where the next section
        // begins.
        let after = toc.fields().into_iter().filter(|&f| f > toc.symbols).min().unwrap_or(len);
        Self { head: 0..after, tail: toc.postings_table..len }
    }
}

fn read_toc(toc: &[u8], len: u64) -> Result<Toc, IndexError> {
    let start = len.checked_sub(TOC_LEN as u64).filter(|&s| s >= HEADER_LEN as u64);
    let start = start.ok_or_else(|| corrupt("file is shorter than header and TOC", 0))?;
    let toc = Toc::parse(toc, start)?;
    if toc.symbols == 0 || toc.postings_table == 0 || toc.symbols > toc.postings_table {
        return Err(corrupt("TOC lacks symbols or postings", start as usize));
    }
    Ok(toc)
}

/// The tables of an index file: enough to know what of the rest a query needs.
#[derive(Debug)]
pub struct IndexHeader {
    version: u8,
    series: Range<u64>,
    /// Where the last postings list ends at the latest.
    pub(super) lists_end: u64,
    pub(super) symbols: FileSymbols,
    pub(super) offsets: Offsets,
}

impl IndexHeader {
    /// Opens the head and the tail of an index file of `len` bytes, one after the other. Verifies
    /// all of it.
    pub fn open(bytes: &Bytes, len: u64) -> Result<Self, IndexError> {
        let mut start = &bytes[..];
        let magic = take_u32(&mut start).map_err(|_| corrupt("file is shorter than its header", 0))?;
        let version = start.first().copied().unwrap_or(0);
        if magic != MAGIC || !(1..=3).contains(&version) {
            return Err(IndexError::UnknownFormat { magic, version });
        }
        let toc_at = bytes.len().checked_sub(TOC_LEN);
        let toc_at = toc_at.ok_or_else(|| corrupt("file is shorter than header and TOC", 0))?;
        let toc = read_toc(&bytes[toc_at..], len)?;
        let layout = HeaderLayout::of(&toc, len);
        let head_len = layout.head.end;
        if head_len.saturating_add(layout.tail.end - layout.tail.start) != bytes.len() as u64 {
            return Err(corrupt("parts of the header have other lengths", toc_at));
        }
        let symbols = FileSymbols::open(bytes, toc.symbols as usize, version == 1)?;
        let offsets = Offsets::open(bytes, head_len as usize, version == 1)?;
        let series = super::series_section(&toc);
        let series = series.start as u64..series.end as u64;
        Ok(Self { version, series, lists_end: toc.postings_table, symbols, offsets })
    }

    /// Version of the file format: 1, 2 or 3.
    pub fn version(&self) -> u8 {
        self.version
    }

    /// Memory of its own, bytes, about: what it was opened from is not counted.
    pub fn table_bytes(&self) -> usize {
        self.symbols.table_bytes() + self.offsets.table_bytes()
    }

    /// Number of symbols.
    pub fn symbol_count(&self) -> u32 {
        self.symbols.len()
    }

    /// The string of a symbol reference in a [`SeriesRow`].
    pub fn symbol(&self, reference: u32) -> Result<&str, IndexError> {
        let symbol = self.symbols.get(reference)?;
        symbol.ok_or_else(|| corrupt("series refers to a symbol that does not exist", 0))
    }

    /// Label names with the number of their values, sorted.
    pub fn label_value_counts(&self) -> impl Iterator<Item = (&str, u32)> {
        // Its tables were read as a whole, and are never without names.
        self.offsets.names().unwrap_or_default().iter().map(|n| (&*n.name, n.count))
    }

    /// Number of values of a label name.
    pub fn value_count(&self, name: &str) -> u32 {
        self.offsets.name(name).ok().flatten().map_or(0, |n| n.count)
    }

    /// Where the entry of a series is in the file if it takes `len` bytes at most.
    pub fn series_range(&self, series: u32, len: u64) -> Result<Range<u64>, IndexError> {
        let align = if self.version == 1 { 1 } else { SERIES_ALIGN as u64 };
        let start = u64::from(series) * align;
        if !self.series.contains(&start) {
            let at = usize::try_from(start).unwrap_or(usize::MAX);
            return Err(corrupt("postings name a series outside the series section", at));
        }
        Ok(start..start.saturating_add(len).min(self.series.end))
    }

    /// Reads the entry of a series from the bytes of [`series_range`](Self::series_range). If it
    /// needs more bytes than that, gives how many it needs in all, and `row` is not valid.
    pub fn decode_series(
        &self,
        series: u32,
        bytes: &[u8],
        row: &mut SeriesRow,
    ) -> Result<Option<u64>, IndexError> {
        let range = self.series_range(series, u64::MAX)?;
        let at = usize::try_from(range.start).unwrap_or(usize::MAX);
        let available = range.end - range.start;
        let mut input = bytes;
        let len = match take_uvarint32(&mut input) {
            Ok(len) => u64::from(len),
            Err(_) if (bytes.len() as u64) < available.min(5) => return Ok(Some(available.min(5))),
            Err(_) => return Err(corrupt("series entry", at)),
        };
        let total = (bytes.len() - input.len()) as u64 + len + 4;
        if total > available {
            return Err(corrupt("series entry outside the series section", at));
        }
        if total > bytes.len() as u64 {
            return Ok(Some(total));
        }
        let damaged = |_| corrupt("series entry checksum", at);
        let (content, mut rest) = input.split_at(len as usize);
        crc::verify("series", content, take_u32(&mut rest).map_err(damaged)?).map_err(damaged)?;
        decode_series(content, row).map_err(|_| corrupt("series entry", at))?;
        Ok(None)
    }
}
