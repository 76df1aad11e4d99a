//! The symbol table of an index file, read in place.

use bytes::Bytes;
use pyrrha_encoding::crc;
use pyrrha_encoding::varint::{take_length_prefixed, take_u32};

use super::SAMPLE_EVERY;
use crate::IndexError;
use crate::error::corrupt;

/// The symbols of an index file: its bytes, and the offset of every 32nd symbol.
#[derive(Debug)]
pub(super) struct FileSymbols {
    file: Bytes,
    /// Offset of the first symbol's length prefix, and the end of the last symbol.
    start: usize,
    end: usize,
    count: u32,
    samples: Vec<u32>,
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
        let mut samples = Vec::new();
        let mut previous: &[u8] = &[];
        for i in 0..count as usize {
            let at = body.len() - rest.len() - 4;
            if i.is_multiple_of(SAMPLE_EVERY) {
                samples.push(at as u32);
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
        let end = start + (body.len() - rest.len() - 4);
        Ok(Self { file: file.clone(), start, end, count, samples, by_offset })
    }

    /// Offset of the first byte behind the section.
    pub(super) fn section_end(&self) -> usize {
        self.end + 4
    }

    /// Bytes of the sampled offsets.
    pub(super) fn table_bytes(&self) -> usize {
        size_of_val(&self.samples[..])
    }

    /// Number of symbols.
    pub(super) fn len(&self) -> u32 {
        self.count
    }

    /// The string that a series entry refers to.
    pub(super) fn get(&self, reference: u32) -> Option<&str> {
        let mut input = if self.by_offset {
            let at = reference as usize;
            self.file.get(at.max(self.start)..self.end).filter(|_| at >= self.start)?
        } else {
            self.walk_to(reference)?
        };
        let symbol = take_length_prefixed(&mut input).ok()?;
        std::str::from_utf8(symbol).ok()
    }

    fn walk_to(&self, ordinal: u32) -> Option<&[u8]> {
        if ordinal >= self.count {
            return None;
        }
        let sample = *self.samples.get(ordinal as usize / SAMPLE_EVERY)?;
        let mut input = self.file.get(self.start + sample as usize..self.end)?;
        for _ in 0..ordinal as usize % SAMPLE_EVERY {
            take_length_prefixed(&mut input).ok()?;
        }
        Some(input)
    }
}
