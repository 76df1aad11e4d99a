//! The symbol table of an index file, read in place.

use bytes::Bytes;
use pyrrha_encoding::crc;
use pyrrha_encoding::varint::{take_length_prefixed, take_u32};

use super::SAMPLE_EVERY;
use super::places::{Misfit, Places};
use crate::IndexError;
use crate::error::corrupt;

/// The symbols of an index file: its bytes, and the place of every 32nd symbol.
#[derive(Debug)]
pub(super) struct FileSymbols {
    file: Bytes,
    /// Offset of the first symbol's length prefix, and the end of the last symbol.
    start: usize,
    end: usize,
    count: u32,
    places: Places,
    /// Version 1 refers to symbols by byte offset in the file.
    by_offset: bool,
}

impl FileSymbols {
    /// Checks the section at `offset`: checksum, UTF-8, and strictly ascending order.
    pub(super) fn open(file: &Bytes, offset: usize, by_offset: bool) -> Result<Self, IndexError> {
        let damaged = |what| move |_| corrupt(what, offset);
        let mut input = file.get(offset..).unwrap_or_default();
        let body = crc::take_section("symbols", &mut input).map_err(damaged("symbols checksum"))?;
        let start = offset + 8;
        let mut rest = body;
        let count = take_u32(&mut rest).map_err(damaged("symbols are cut short"))?;
        let mut starts = Vec::new();
        let mut previous: &[u8] = &[];
        for i in 0..count as usize {
            let at = body.len() - rest.len() - 4;
            if i.is_multiple_of(SAMPLE_EVERY) {
                starts.push(at as u32);
            }
            let symbol = take_length_prefixed(&mut rest).map_err(damaged("symbols are cut short"))?;
            if std::str::from_utf8(symbol).is_err() {
                return Err(corrupt("symbol is not UTF-8", start + at));
            }
            if i > 0 && symbol <= previous {
                return Err(corrupt("symbols are not sorted", start + at));
            }
            previous = symbol;
        }
        let len = body.len() - rest.len() - 4;
        starts.push(len as u32);
        let (end, places) = (start + len, Places::Walked(starts));
        Ok(Self { file: file.clone(), start, end, count, places, by_offset })
    }

    /// The `count` symbols in a range of the file, whose places are known. Nothing is looked at.
    pub(super) fn known(file: &Bytes, range: std::ops::Range<usize>, count: u32, places: Places) -> Self {
        Self { file: file.clone(), start: range.start, end: range.end, count, places, by_offset: false }
    }

    /// Offset of the first byte behind the section.
    pub(super) fn section_end(&self) -> usize {
        self.end + 4
    }

    /// Bytes of the places.
    pub(super) fn table_bytes(&self) -> usize {
        self.places.heap_bytes()
    }

    /// Number of symbols.
    pub(super) fn len(&self) -> u32 {
        self.count
    }

    /// What a file beside the index keeps of the places.
    pub(super) fn encode_places(&self, which: u8) -> Result<Vec<u8>, Misfit> {
        self.places.encode(which, self.table())
    }

    fn table(&self) -> &[u8] {
        self.file.get(self.start..self.end).unwrap_or_default()
    }

    /// The string that a series entry refers to.
    pub(super) fn get(&self, reference: u32) -> Result<Option<&str>, Misfit> {
        let mut input = if self.by_offset {
            let at = (reference as usize).checked_sub(self.start);
            let Some(input) = at.and_then(|at| self.table().get(at..)) else { return Ok(None) };
            input
        } else {
            if reference >= self.count {
                return Ok(None);
            }
            let mut input = self.places.group(reference as usize / SAMPLE_EVERY, self.table())?;
            for _ in 0..reference as usize % SAMPLE_EVERY {
                take_length_prefixed(&mut input).map_err(|_| Misfit)?;
            }
            input
        };
        let symbol = take_length_prefixed(&mut input).ok();
        Ok(symbol.and_then(|symbol| std::str::from_utf8(symbol).ok()))
    }
}
