//! Reading the series of an index file one after another, past damage.

use bytes::Bytes;
use pyrrha_encoding::crc;
use pyrrha_encoding::varint::{take_u32, take_uvarint32};

use super::symbols::FileSymbols;
use super::{HEADER_LEN, MAGIC, SERIES_ALIGN, SeriesRow, Toc, decode_series, series_section};
use crate::IndexError;
use crate::error::corrupt;

/// Walks the series section in file order, without postings or their table. What a checksum does
/// not vouch for is stepped over, and its offset kept.
///
/// Symbols have to be sound: without them no series has labels. The TOC need not be: without it
/// the walk begins behind the symbols and goes on to the end of the file.
#[derive(Debug)]
pub struct IndexSalvage {
    file: Bytes,
    symbols: FileSymbols,
    next: usize,
    end: usize,
    knows_end: bool,
    in_damage: bool,
    damaged: Vec<u64>,
}

impl IndexSalvage {
    /// Opens a file of version 2 or 3; the entries of version 1 begin anywhere, and cannot be found
    /// without postings.
    pub fn open(file: Bytes) -> Result<Self, IndexError> {
        let mut header = &file[..];
        let magic = take_u32(&mut header).map_err(|_| corrupt("file is shorter than its header", 0))?;
        let version = header.first().copied().unwrap_or(0);
        if version == 1 {
            return Err(IndexError::UnknownFormat { magic, version });
        }
        // The header itself may be what is damaged: checksums tell whether the rest is an index.
        let toc = Toc::read(&file).ok();
        let start = toc.map_or(HEADER_LEN, |toc| toc.symbols as usize);
        let symbols = FileSymbols::open(&file, start, false)?;
        let (next, end, knows_end) = match toc.as_ref().map(series_section) {
            Some(section) => (section.start, section.end.min(file.len()), true),
            None => (symbols.section_end(), file.len(), false),
        };
        if magic != MAGIC && toc.is_none() {
            return Err(IndexError::UnknownFormat { magic, version });
        }
        Ok(Self { file, symbols, next, end, knows_end, in_damage: false, damaged: Vec::new() })
    }

    /// The string of a symbol reference in a [`SeriesRow`].
    pub fn symbol(&self, reference: u32) -> Result<&str, IndexError> {
        let symbol = self.symbols.get(reference)?;
        symbol.ok_or_else(|| corrupt("series refers to a symbol that does not exist", 0))
    }

    /// Reads the next sound entry into `row`; gives its reference, or `None` at the end.
    pub fn next_series(&mut self, row: &mut SeriesRow) -> Option<u64> {
        while self.next < self.end {
            let start = self.next.next_multiple_of(SERIES_ALIGN);
            if let Some(len) = self.entry_at(start, row) {
                self.next = start + len;
                self.in_damage = false;
                return Some((start / SERIES_ALIGN) as u64);
            }
            let end = (start + SERIES_ALIGN).min(self.end);
            let padding = self.file.get(start..end).is_none_or(|b| b.iter().all(|&b| b == 0));
            // Without a TOC what follows the last series looks like damage.
            if !padding && self.knows_end && !self.in_damage {
                self.in_damage = true;
                self.damaged.push(start as u64);
            }
            self.next = start + SERIES_ALIGN;
        }
        None
    }

    /// Offsets at which damage begins, as far as the walk has come.
    pub fn damaged(&self) -> &[u64] {
        &self.damaged
    }

    /// Length of the entry at `start`, if a sound one is there.
    fn entry_at(&self, start: usize, row: &mut SeriesRow) -> Option<usize> {
        let mut input = self.file.get(start..self.end)?;
        let before = input.len();
        let len = take_uvarint32(&mut input).ok()? as usize;
        let (content, mut rest) = input.split_at_checked(len)?;
        crc::verify("series", content, take_u32(&mut rest).ok()?).ok()?;
        decode_series(content, row).ok().filter(|()| !content.is_empty())?;
        Some(before - rest.len())
    }
}
