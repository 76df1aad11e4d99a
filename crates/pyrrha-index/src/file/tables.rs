//! A file that is kept beside an index, so that opening the index looks at none of its symbols and label
//! pairs. Format: docs/format/index-tables.md.
//!
//! ```text
//! header, 64 bytes | places of symbols | places of label pairs | section(label names)
//! ```

use bytes::Bytes;
use pyrrha_encoding::crc;
use pyrrha_encoding::varint::{take_array, take_u32, take_u64};

use super::offsets::Offsets;
use super::places::{Kept, Misfit, PLACE, Places};
use super::symbols::FileSymbols;
use super::{SAMPLE_EVERY, TOC_LEN, Toc};

const MAGIC: &[u8; 8] = b"PYRTABL1";
const HEADER: usize = 64;
/// The tables in the checksums of their places.
const SYMBOLS: u8 = 1;
const PAIRS: u8 = 2;

/// The two tables of an index file.
#[derive(Debug)]
pub(super) struct Tables {
    pub(super) symbols: FileSymbols,
    pub(super) offsets: Offsets,
}

/// What a file of tables says of its index and of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    belongs_to: Identity,
    /// Groups of label pairs.
    groups: u32,
    /// Bytes of the section of label names.
    names: u32,
    /// Offset of the list of all series; 0: there is none.
    all: u64,
}

/// What tells one index file from another, without reading more of it than these bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    bytes: u64,
    toc: u32,
    symbols: Section,
    pairs: Section,
}

/// What a section says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Section {
    /// Bytes of its body.
    len: u32,
    /// Number of entries.
    count: u32,
    /// Checksum.
    sum: u32,
}

impl Section {
    fn at(index: &[u8], offset: u64) -> Option<Self> {
        let at = usize::try_from(offset).ok()?;
        let len = u32_at(index, at)?;
        let end = at.checked_add(4)?.checked_add(len as usize)?;
        Some(Self { len, count: u32_at(index, at.checked_add(4)?)?, sum: u32_at(index, end)? })
    }

    fn fields(&self) -> [u32; 3] {
        [self.len, self.count, self.sum]
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    take_u32(&mut bytes.get(at..)?).ok()
}

impl Identity {
    fn of(index: &[u8], toc: &Toc) -> Option<Self> {
        let (symbols, pairs) = (Section::at(index, toc.symbols)?, Section::at(index, toc.postings_table)?);
        let toc = u32_at(index, index.len().checked_sub(4)?)?;
        Some(Self { bytes: index.len() as u64, toc, symbols, pairs })
    }
}

impl Header {
    fn encode(&self) -> Vec<u8> {
        let id = &self.belongs_to;
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&id.bytes.to_be_bytes());
        let fields = [id.toc].into_iter().chain(id.symbols.fields()).chain(id.pairs.fields());
        for field in fields.chain([self.groups, self.names]) {
            out.extend_from_slice(&field.to_be_bytes());
        }
        out.extend_from_slice(&self.all.to_be_bytes());
        let sum = crc::checksum(&out);
        out.extend_from_slice(&sum.to_be_bytes());
        out
    }

    fn read(file: &[u8]) -> Option<Self> {
        let (body, sum) = file.get(..HEADER)?.split_last_chunk::<4>()?;
        if crc::checksum(body) != u32::from_be_bytes(*sum) {
            return None;
        }
        let input = &mut &body[..];
        if &take_array::<8>(input).ok()? != MAGIC {
            return None;
        }
        let bytes = take_u64(input).ok()?;
        let toc = take_u32(input).ok()?;
        let mut section = || {
            let mut next = || take_u32(input).ok();
            Some(Section { len: next()?, count: next()?, sum: next()? })
        };
        let belongs_to = Identity { bytes, toc, symbols: section()?, pairs: section()? };
        let (groups, names) = (take_u32(input).ok()?, take_u32(input).ok()?);
        Some(Self { belongs_to, groups, names, all: take_u64(input).ok()? })
    }
}

impl Tables {
    /// Reads and verifies both tables of an index file.
    pub(super) fn walk(index: &Bytes, toc: &Toc, first_version: bool) -> Result<Self, crate::IndexError> {
        let symbols = FileSymbols::open(index, toc.symbols as usize, first_version)?;
        let offsets = Offsets::open(index, toc.postings_table as usize, first_version)?;
        Ok(Self { symbols, offsets })
    }

    /// The tables of an index file as `kept` has them, if that is a sound file and of this index. What it
    /// says of single places is checked when they are used.
    pub(super) fn kept(index: &Bytes, toc: &Toc, kept: &Bytes) -> Option<Self> {
        let header = Header::read(kept)?;
        let identity = Identity::of(index, toc)?;
        if header.belongs_to != identity {
            return None;
        }
        let places_len = |groups: usize| groups.checked_mul(PLACE)?.checked_add(4);
        let count = identity.symbols.count;
        let symbols_end = HEADER.checked_add(places_len((count as usize).div_ceil(SAMPLE_EVERY))?)?;
        let pairs_end = symbols_end.checked_add(places_len(header.groups as usize)?)?;
        if pairs_end.checked_add(header.names as usize)? != kept.len() {
            return None;
        }
        // Behind the length and the number of entries.
        let body = |at: u64, Section { len, .. }| {
            let start = usize::try_from(at).ok()?.checked_add(8)?;
            let end = start.checked_add((len as usize).checked_sub(4)?)?;
            (end <= index.len()).then_some(start..end)
        };
        let symbols = body(toc.symbols, identity.symbols)?;
        let pairs = body(toc.postings_table, identity.pairs)?;
        let places = |range, table| Places::Kept(Kept::new(kept.slice(range), table));
        let symbol_places = places(HEADER..symbols_end, SYMBOLS);
        let all = (header.all != 0).then_some(header.all);
        let names = kept.slice(pairs_end..);
        Some(Self {
            symbols: FileSymbols::known(index, symbols, count, symbol_places),
            offsets: Offsets::known(index.slice(pairs), places(symbols_end..pairs_end, PAIRS), names, all),
        })
    }

    /// The file to keep beside the index.
    pub(super) fn encode(&self, index: &Bytes) -> Result<Vec<u8>, Misfit> {
        let toc = Toc::read(index).map_err(|_| Misfit)?;
        let (symbols, pairs) = (self.symbols.encode_places(SYMBOLS)?, self.offsets.encode_places(PAIRS)?);
        let names = self.offsets.encode_names()?;
        let header = Header {
            belongs_to: Identity::of(index, &toc).ok_or(Misfit)?,
            groups: u32::try_from(self.offsets.groups()).map_err(|_| Misfit)?,
            names: u32::try_from(names.len()).map_err(|_| Misfit)?,
            all: self.offsets.all().unwrap_or(0),
        };
        let mut out = header.encode();
        [symbols, pairs, names].iter().for_each(|part| out.extend_from_slice(part));
        Ok(out)
    }
}

// The TOC's checksum is its last four bytes, which `Identity` reads.
const _: () = assert!(TOC_LEN > 4 && HEADER == 8 + 8 + 9 * 4 + 8 + 4);

#[cfg(test)]
mod tests;
