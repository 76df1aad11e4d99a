//! Reading an index file in place.

use bytes::Bytes;
use pyrrha_encoding::varint::{take_u32, take_uvarint32};
use pyrrha_encoding::{DecodeError, crc};

use super::offsets::Offsets;
use super::symbols::FileSymbols;
use super::{HEADER_LEN, MAGIC, SERIES_ALIGN, SeriesRow, TOC_LEN, Toc, decode_series, series_section};
use crate::error::corrupt;
use crate::{IndexError, Postings};

/// An open index file of version 1, 2 or 3. Every part is verified before it is handed out; no
/// bytes whatever make it panic. Memory: the file's (mapped) bytes, and about a byte per symbol and
/// label pair.
#[derive(Debug)]
pub struct IndexReader {
    file: Bytes,
    version: u8,
    series: std::ops::Range<usize>,
    postings_end: usize,
    pub(super) symbols: FileSymbols,
    pub(super) offsets: Offsets,
}

impl IndexReader {
    /// Opens a file: reads and verifies header, TOC, symbols and postings offset table.
    pub fn open(file: Bytes) -> Result<Self, IndexError> {
        let mut header = &file[..];
        let magic = take_u32(&mut header).map_err(|_| corrupt("file is shorter than its header", 0))?;
        let version = header.first().copied().unwrap_or(0);
        if magic != MAGIC || !(1..=3).contains(&version) {
            return Err(IndexError::UnknownFormat { magic, version });
        }
        let toc = Toc::read(&file)?;
        let first_version = version == 1;
        if toc.symbols == 0 || toc.postings_table == 0 {
            return Err(corrupt("TOC lacks symbols or postings", file.len() - TOC_LEN));
        }
        let symbols = FileSymbols::open(&file, toc.symbols as usize, first_version)?;
        let offsets = Offsets::open(&file, toc.postings_table as usize, first_version)?;
        let series = series_section(&toc);
        Ok(Self { version, series, postings_end: file.len() - TOC_LEN, symbols, offsets, file })
    }

    /// Version of the file format: 1, 2 or 3.
    pub fn version(&self) -> u8 {
        self.version
    }

    /// Number of symbols. In versions 2 and 3 symbol references are below it.
    pub fn symbol_count(&self) -> u32 {
        self.symbols.len()
    }

    /// The string of a symbol reference in a [`SeriesRow`].
    pub fn symbol(&self, reference: u32) -> Result<&str, IndexError> {
        self.symbols.get(reference).ok_or_else(|| corrupt("series refers to a symbol that does not exist", 0))
    }

    /// Reads the entry of a series that postings named. `row` is cleared first.
    pub fn series(&self, series: u32, row: &mut SeriesRow) -> Result<(), IndexError> {
        let offset = self.series_offset(series);
        let content = self.series_content(offset)?;
        decode_series(content, row).map_err(|_| corrupt("series entry", offset))
    }

    /// Label names with the number of their values, sorted.
    pub fn label_value_counts(&self) -> impl Iterator<Item = (&str, u32)> {
        self.offsets.names().iter().map(|n| (&*n.name, n.count))
    }

    /// Byte offset of a series entry in the file, for error messages.
    pub fn series_offset(&self, series: u32) -> usize {
        if self.version == 1 { series as usize } else { series as usize * SERIES_ALIGN }
    }

    fn series_content(&self, offset: usize) -> Result<&[u8], IndexError> {
        let damaged = |_: DecodeError| corrupt("series entry checksum", offset);
        let outside = || corrupt("postings name a series outside the series section", offset);
        if !self.series.contains(&offset) {
            return Err(outside());
        }
        let mut input = self.file.get(offset..self.series.end).ok_or_else(outside)?;
        let len = take_uvarint32(&mut input).map_err(damaged)? as usize;
        let (content, mut rest) = input.split_at_checked(len).ok_or_else(outside)?;
        crc::verify("series", content, take_u32(&mut rest).map_err(damaged)?).map_err(damaged)?;
        Ok(content)
    }

    /// The postings list at a byte offset, verified.
    pub(super) fn list_at(&self, offset: u64) -> Result<Postings<'static>, IndexError> {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let damaged = |_| corrupt("postings list checksum", offset);
        let outside = || corrupt("postings list outside the file", offset);
        if offset < HEADER_LEN {
            return Err(outside());
        }
        let mut input = self.file.get(offset..self.postings_end).ok_or_else(outside)?;
        let body = crc::take_section("postings", &mut input).map_err(damaged)?;
        let mut entries = body;
        let count = take_u32(&mut entries).map_err(damaged)? as usize;
        if entries.len() != count.saturating_mul(4) {
            return Err(corrupt("postings list length", offset));
        }
        if !ascends(entries) {
            return Err(corrupt("postings list is not sorted", offset));
        }
        Ok(Postings::BigEndian(self.file.slice_ref(entries)))
    }
}

/// Whether a list ascends strictly, which the algebra relies on. Without an early exit, so that the
/// common case runs at the speed of the loads.
pub(super) fn ascends(entries: &[u8]) -> bool {
    let list = entries.as_chunks::<4>().0;
    let later = list.get(1..).unwrap_or_default();
    let falls = |(a, b): (&[u8; 4], &[u8; 4])| u32::from_be_bytes(*a) >= u32::from_be_bytes(*b);
    !list.iter().zip(later).fold(false, |bad, pair| bad | falls(pair))
}
