//! Where every 32nd entry of a table of an index file begins: found by walking the table, or kept in a
//! file beside the index ([`super::tables`]), which is checked entry by entry as it is used.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use pyrrha_encoding::crc;
use pyrrha_encoding::varint::take_u32;

use crate::IndexError;
use crate::error::corrupt;

/// What is kept beside an index does not fit the index: either may be damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Misfit;

impl From<Misfit> for IndexError {
    fn from(Misfit: Misfit) -> Self {
        corrupt("place in a table", 0)
    }
}

/// Bytes of a kept place: start and checksum.
pub(super) const PLACE: usize = 8;

/// The groups of entries of one table, as offsets in it.
#[derive(Debug)]
pub(super) enum Places {
    /// Starts of the groups, and the end of the last. The table was checked as a whole.
    Walked(Vec<u32>),
    /// As a file beside the index has them.
    Kept(Kept),
}

/// Places that are in a file: `{ start u32 | crc u32 }* | end u32`.
#[derive(Debug)]
pub(super) struct Kept {
    places: Bytes,
    /// Which table they are of: part of each checksum.
    table: u8,
    /// A bit for each group that was found sound.
    sound: Box<[AtomicU64]>,
}

impl Kept {
    /// `places` as they are in the file; none of them is looked at.
    pub(super) fn new(places: Bytes, table: u8) -> Self {
        let words = (places.len() / PLACE).div_ceil(64);
        Self { places, table, sound: (0..words).map(|_| AtomicU64::new(0)).collect() }
    }

    fn u32_at(&self, at: usize) -> Result<u32, Misfit> {
        take_u32(&mut self.places.get(at..).unwrap_or_default()).map_err(|_| Misfit)
    }

    fn group<'t>(&self, i: usize, table: &'t [u8]) -> Result<&'t [u8], Misfit> {
        let (start, end) = (self.u32_at(i * PLACE)?, self.u32_at((i + 1) * PLACE)?);
        let bytes = table.get(start as usize..end as usize).ok_or(Misfit)?;
        let (word, bit) = (self.sound.get(i / 64).ok_or(Misfit)?, 1 << (i % 64));
        // Who reads the bit late checks once more than needed.
        if word.load(Ordering::Relaxed) & bit == 0 {
            if self.u32_at(i * PLACE + 4)? != sum_of(self.table, i, start, end, bytes) {
                return Err(Misfit);
            }
            word.fetch_or(bit, Ordering::Relaxed);
        }
        Ok(bytes)
    }
}

impl Places {
    /// Number of groups.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Walked(starts) => starts.len().saturating_sub(1),
            Self::Kept(kept) => kept.places.len() / PLACE,
        }
    }

    /// The entries of a group of `table`.
    pub(super) fn group<'t>(&self, i: usize, table: &'t [u8]) -> Result<&'t [u8], Misfit> {
        match self {
            Self::Walked(starts) => {
                let bounds = starts.get(i).zip(starts.get(i + 1)).ok_or(Misfit)?;
                table.get(*bounds.0 as usize..*bounds.1 as usize).ok_or(Misfit)
            }
            Self::Kept(kept) => kept.group(i, table),
        }
    }

    /// The bytes that a file keeps of them.
    pub(super) fn encode(&self, which: u8, table: &[u8]) -> Result<Vec<u8>, Misfit> {
        let mut out = Vec::with_capacity(self.len() * PLACE + 4);
        let mut end = 0;
        for i in 0..self.len() {
            let bytes = self.group(i, table)?;
            let start = (bytes.as_ptr() as usize - table.as_ptr() as usize) as u32;
            end = start + bytes.len() as u32;
            out.extend_from_slice(&start.to_be_bytes());
            out.extend_from_slice(&sum_of(which, i, start, end, bytes).to_be_bytes());
        }
        out.extend_from_slice(&end.to_be_bytes());
        Ok(out)
    }

    /// Bytes of memory.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::Walked(starts) => size_of_val(&starts[..]),
            Self::Kept(kept) => size_of_val(&kept.sound[..]),
        }
    }
}

/// The checksum of a group, which vouches for its place too.
fn sum_of(table: u8, i: usize, start: u32, end: u32, bytes: &[u8]) -> u32 {
    let mut place = [table; 13];
    place[1..5].copy_from_slice(&(i as u32).to_be_bytes());
    place[5..9].copy_from_slice(&start.to_be_bytes());
    place[9..].copy_from_slice(&end.to_be_bytes());
    crc::checksum_append(crc::checksum(&place), bytes)
}
