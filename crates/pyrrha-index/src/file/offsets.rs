//! The postings offset table of an index file, read in place.

use std::cmp::Ordering;
use std::ops::Range;

use bytes::Bytes;
use pyrrha_encoding::varint::{put_uvarint, take_length_prefixed, take_u32, take_uvarint};
use pyrrha_encoding::{DecodeError, crc};

use super::SAMPLE_EVERY;
use crate::IndexError;
use crate::error::corrupt;

/// Where the postings of each label pair are: the table's bytes, and per label name the place of
/// every 32nd value.
#[derive(Debug)]
pub(super) struct Offsets {
    table: Bytes,
    names: Vec<NameEntries>,
    all: Option<u64>,
}

/// The entries of one label name.
#[derive(Debug)]
pub(super) struct NameEntries {
    pub(super) name: Box<str>,
    /// Number of values.
    pub(super) count: u32,
    /// Offsets in the table of entries 0, 32, 64, ...
    samples: Vec<u32>,
}

/// One entry: name, value, offset of the list in the file.
struct Entry<'a> {
    name: &'a str,
    value: &'a str,
    offset: u64,
}

impl<'a> Entry<'a> {
    fn take(input: &mut &'a [u8]) -> Result<Self, DecodeError> {
        const MALFORMED: DecodeError = DecodeError::Malformed { part: "postings offset entry" };
        if take_uvarint(input)? != 2 {
            return Err(MALFORMED);
        }
        let name = std::str::from_utf8(take_length_prefixed(input)?).map_err(|_| MALFORMED)?;
        let value = std::str::from_utf8(take_length_prefixed(input)?).map_err(|_| MALFORMED)?;
        Ok(Self { name, value, offset: take_uvarint(input)? })
    }
}

impl Offsets {
    /// Checks the section at `offset`. `unsorted`: as version 1 may have written it.
    pub(super) fn open(file: &Bytes, offset: usize, unsorted: bool) -> Result<Self, IndexError> {
        let damaged = |what| move |_| corrupt(what, offset);
        let mut input = file.get(offset..).unwrap_or_default();
        let body = crc::take_section("postings offset table", &mut input)
            .map_err(damaged("postings offset table checksum"))?;
        let mut rest = body;
        let count = take_u32(&mut rest).map_err(damaged("postings offset table is cut short"))?;
        let table = if unsorted {
            sorted_copy(rest, count).map_err(damaged("postings offset table entry"))?
        } else {
            file.slice_ref(rest)
        };
        Self::sample(table, count, offset)
    }

    fn sample(table: Bytes, count: u32, offset: usize) -> Result<Self, IndexError> {
        let mut names: Vec<NameEntries> = Vec::new();
        let (mut all, mut previous) = (None, "");
        let mut rest = &table[..];
        for _ in 0..count {
            let at = table.len() - rest.len();
            let entry = Entry::take(&mut rest).map_err(|_| corrupt("postings offset table entry", offset))?;
            if entry.name.is_empty() && entry.value.is_empty() {
                all = Some(entry.offset);
                continue;
            }
            let order = names.last().map_or(Ordering::Less, |n| (*n.name).cmp(entry.name));
            match (order, names.last_mut()) {
                (Ordering::Equal, Some(last)) if previous < entry.value => {
                    if last.count.is_multiple_of(SAMPLE_EVERY as u32) {
                        last.samples.push(at as u32);
                    }
                    last.count += 1;
                }
                (Ordering::Less, _) => {
                    names.push(NameEntries { name: entry.name.into(), count: 1, samples: vec![at as u32] });
                }
                _ => return Err(corrupt("postings offset table is not sorted", offset)),
            }
            previous = entry.value;
        }
        Ok(Self { table, names, all })
    }

    /// Bytes of what is known of the names.
    pub(super) fn table_bytes(&self) -> usize {
        let of = |n: &NameEntries| size_of::<NameEntries>() + n.name.len() + size_of_val(&n.samples[..]);
        self.names.iter().map(of).sum()
    }

    /// Offset of the list of all series.
    pub(super) fn all(&self) -> Option<u64> {
        self.all
    }

    /// All label names, sorted.
    pub(super) fn names(&self) -> &[NameEntries] {
        &self.names
    }

    /// The entries of one name.
    pub(super) fn name(&self, name: &str) -> Option<&NameEntries> {
        let i = self.names.binary_search_by(|n| (*n.name).cmp(name)).ok()?;
        self.names.get(i)
    }

    /// Offset of the list of a label pair.
    pub(super) fn get(&self, name: &str, value: &str) -> Option<u64> {
        let (found, offset) = self.values_from(self.name(name)?, value).next()?;
        (found == value).then_some(offset)
    }

    /// The values of a name from the first that is not less than `from`, with their offsets.
    pub(super) fn values_from<'a>(
        &'a self,
        name: &'a NameEntries,
        from: &str,
    ) -> impl Iterator<Item = (&'a str, u64)> + use<'a> {
        // The last sample that is not beyond `from`; entries between samples are walked.
        let after = name.samples.partition_point(|&at| {
            let mut input = self.table.get(at as usize..).unwrap_or_default();
            Entry::take(&mut input).is_ok_and(|entry| entry.value <= from)
        });
        let sample = after.saturating_sub(1);
        let start = name.samples.get(sample).map_or(self.table.len(), |&at| at as usize);
        let left = (name.count as usize).saturating_sub(sample * SAMPLE_EVERY);
        let mut input = self.table.get(start..).unwrap_or_default();
        let mut values = (0..left)
            .map_while(move |_| Entry::take(&mut input).ok().map(|e| (e.value, e.offset)))
            .peekable();
        while values.next_if(|(value, _)| *value < from).is_some() {}
        values
    }

    /// As [`values_from`](Self::values_from), with the byte range of each list. Lists are in the
    /// file in the order of the table, so that one ends where the next begins; `lists_end` is the
    /// end of the last. Of a file in another order the ends are wrong, and may be before the start.
    pub(super) fn ranges_from<'a>(
        &'a self,
        name: &'a NameEntries,
        from: &str,
        lists_end: u64,
    ) -> impl Iterator<Item = (&'a str, Range<u64>)> + use<'a> {
        let next_name = self.names.partition_point(|n| *n.name <= *name.name);
        let end = self.first_of(next_name).unwrap_or(lists_end);
        let mut values = self.values_from(name, from).peekable();
        std::iter::from_fn(move || {
            let (value, start) = values.next()?;
            Some((value, start..values.peek().map_or(end, |&(_, next)| next)))
        })
    }

    /// Byte range of the list of all series.
    pub(super) fn all_range(&self, lists_end: u64) -> Option<Range<u64>> {
        Some(self.all?..self.first_of(0).unwrap_or(lists_end))
    }

    fn first_of(&self, name: usize) -> Option<u64> {
        self.values_from(self.names.get(name)?, "").next().map(|(_, offset)| offset)
    }
}

/// The table in order. Version 1 did not promise any.
fn sorted_copy(mut input: &[u8], count: u32) -> Result<Bytes, DecodeError> {
    let mut entries = Vec::new();
    for _ in 0..count {
        let entry = Entry::take(&mut input)?;
        entries.push((entry.name, entry.value, entry.offset));
    }
    entries.sort_unstable();
    let mut table = Vec::new();
    for (name, value, offset) in entries {
        put_uvarint(&mut table, 2);
        for text in [name, value] {
            put_uvarint(&mut table, text.len() as u64);
            table.extend_from_slice(text.as_bytes());
        }
        put_uvarint(&mut table, offset);
    }
    Ok(table.into())
}
