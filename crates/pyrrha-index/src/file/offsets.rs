//! The postings offset table of an index file, read in place.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::OnceLock;

use bytes::Bytes;
use pyrrha_encoding::varint::{put_uvarint, take_length_prefixed, take_u32, take_uvarint, take_uvarint32};
use pyrrha_encoding::{DecodeError, crc};

use super::SAMPLE_EVERY;
use super::places::{Misfit, Places};
use crate::IndexError;
use crate::error::corrupt;

/// Where the postings of each label pair are: the table's bytes, and per label name the place of
/// every 32nd value.
#[derive(Debug)]
pub(super) struct Offsets {
    table: Bytes,
    places: Places,
    names: Names,
    all: Option<u64>,
}

/// The label names of a table.
#[derive(Debug)]
enum Names {
    Known(Vec<NameEntries>),
    /// As a file beside the index has them, read when they are asked for.
    Kept {
        section: Bytes,
        read: OnceLock<Result<Vec<NameEntries>, Misfit>>,
    },
}

/// The entries of one label name.
#[derive(Debug)]
pub(super) struct NameEntries {
    pub(super) name: Box<str>,
    /// Number of values.
    pub(super) count: u32,
    /// The first of its groups of 32 values.
    first: u32,
}

impl NameEntries {
    fn groups(&self) -> std::ops::Range<usize> {
        let first = self.first as usize;
        first..first + (self.count as usize).div_ceil(SAMPLE_EVERY)
    }
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
        let mut starts = Vec::new();
        let (mut all, mut previous) = (None, "");
        let mut rest = &table[..];
        for _ in 0..count {
            let at = (table.len() - rest.len()) as u32;
            let entry = Entry::take(&mut rest).map_err(|_| corrupt("postings offset table entry", offset))?;
            if entry.name.is_empty() && entry.value.is_empty() {
                if !names.is_empty() {
                    return Err(corrupt("postings offset table is not sorted", offset));
                }
                all = Some(entry.offset);
                continue;
            }
            let order = names.last().map_or(Ordering::Less, |n| (*n.name).cmp(entry.name));
            match (order, names.last_mut()) {
                (Ordering::Equal, Some(last)) if previous < entry.value => {
                    if last.count.is_multiple_of(SAMPLE_EVERY as u32) {
                        starts.push(at);
                    }
                    last.count += 1;
                }
                (Ordering::Less, _) => {
                    names.push(NameEntries { name: entry.name.into(), count: 1, first: starts.len() as u32 });
                    starts.push(at);
                }
                _ => return Err(corrupt("postings offset table is not sorted", offset)),
            }
            previous = entry.value;
        }
        starts.push((table.len() - rest.len()) as u32);
        Ok(Self { table, places: Places::Walked(starts), names: Names::Known(names), all })
    }

    /// A table whose places are known, and whose names are in `section`. Nothing is looked at.
    pub(super) fn known(table: Bytes, places: Places, section: Bytes, all: Option<u64>) -> Self {
        Self { table, places, names: Names::Kept { section, read: OnceLock::new() }, all }
    }

    /// What a file beside the index keeps of the places.
    pub(super) fn encode_places(&self, which: u8) -> Result<Vec<u8>, Misfit> {
        self.places.encode(which, &self.table)
    }

    /// What such a file keeps of the names.
    pub(super) fn encode_names(&self) -> Result<Vec<u8>, Misfit> {
        let mut body = Vec::new();
        for name in self.names()? {
            put_uvarint(&mut body, name.name.len() as u64);
            body.extend_from_slice(name.name.as_bytes());
            put_uvarint(&mut body, u64::from(name.count));
        }
        let mut section = Vec::with_capacity(body.len() + 8);
        crc::put_section(&mut section, &body);
        Ok(section)
    }

    /// Number of groups of entries.
    pub(super) fn groups(&self) -> usize {
        self.places.len()
    }

    /// Bytes of what is known of the names.
    pub(super) fn table_bytes(&self) -> usize {
        let of = |n: &NameEntries| size_of::<NameEntries>() + n.name.len();
        self.places.heap_bytes() + self.names().unwrap_or_default().iter().map(of).sum::<usize>()
    }

    /// Offset of the list of all series.
    pub(super) fn all(&self) -> Option<u64> {
        self.all
    }

    /// All label names, sorted.
    pub(super) fn names(&self) -> Result<&[NameEntries], Misfit> {
        match &self.names {
            Names::Known(names) => Ok(names),
            Names::Kept { section, read } => {
                let names = read.get_or_init(|| take_names(section, self.places.len()));
                names.as_deref().map_err(|&misfit| misfit)
            }
        }
    }

    /// The entries of one name.
    pub(super) fn name(&self, name: &str) -> Result<Option<&NameEntries>, Misfit> {
        let names = self.names()?;
        let found = names.binary_search_by(|n| (*n.name).cmp(name)).ok();
        Ok(found.and_then(|i| names.get(i)))
    }

    /// Offset of the list of a label pair.
    pub(super) fn get(&self, name: &str, value: &str) -> Result<Option<u64>, Misfit> {
        let Some(name) = self.name(name)? else { return Ok(None) };
        let found = self.values_from(name, value)?.next().transpose()?;
        Ok(found.filter(|(found, _)| *found == value).map(|(_, offset)| offset))
    }

    /// The values of a name from the first that is not less than `from`, with their offsets.
    pub(super) fn values_from<'a>(&'a self, name: &'a NameEntries, from: &str) -> Result<Values<'a>, Misfit> {
        // The last group that does not begin beyond `from`; within it entries are walked.
        let Range { start: first, end } = name.groups();
        let (mut low, mut high) = (first, end);
        while low < high {
            let middle = low + (high - low) / 2;
            let mut group = self.places.group(middle, &self.table)?;
            if Entry::take(&mut group).is_ok_and(|entry| entry.value <= from) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let group = low.saturating_sub(1).max(first);
        let left = (name.count as usize).saturating_sub((group - first) * SAMPLE_EVERY);
        let mut values = Values { offsets: self, group, left, in_group: 0, entries: &[], peeked: None };
        while let Some((value, offset)) = values.advance()? {
            if value >= from {
                values.peeked = Some((value, offset));
                break;
            }
        }
        Ok(values)
    }

    /// As [`values_from`](Self::values_from), with the byte range of each list. Lists are in the
    /// file in the order of the table, so that one ends where the next begins; `lists_end` is the
    /// end of the last. Of a file in another order the ends are wrong, and may be before the start.
    pub(super) fn ranges_from<'a>(
        &'a self,
        name: &'a NameEntries,
        from: &str,
        lists_end: u64,
    ) -> Result<impl Iterator<Item = Result<(&'a str, Range<u64>), Misfit>> + use<'a>, Misfit> {
        let next_name = self.names()?.partition_point(|n| *n.name <= *name.name);
        let end = self.first_of(next_name)?.unwrap_or(lists_end);
        let mut values = self.values_from(name, from)?;
        let mut next = values.next().transpose()?;
        Ok(std::iter::from_fn(move || {
            let (value, start) = next.take()?;
            next = match values.next().transpose() {
                Ok(next) => next,
                Err(misfit) => return Some(Err(misfit)),
            };
            Some(Ok((value, start..next.map_or(end, |(_, next)| next))))
        }))
    }

    /// Byte range of the list of all series.
    pub(super) fn all_range(&self, lists_end: u64) -> Result<Option<Range<u64>>, Misfit> {
        let Some(all) = self.all else { return Ok(None) };
        Ok(Some(all..self.first_of(0)?.unwrap_or(lists_end)))
    }

    fn first_of(&self, name: usize) -> Result<Option<u64>, Misfit> {
        let Some(name) = self.names()?.get(name) else { return Ok(None) };
        Ok(self.values_from(name, "")?.next().transpose()?.map(|(_, offset)| offset))
    }
}

/// Values of a label name with the offsets of their lists, in order.
pub(super) struct Values<'a> {
    offsets: &'a Offsets,
    /// The group to read next.
    group: usize,
    /// Values left, those that are in `entries` among them.
    left: usize,
    in_group: usize,
    entries: &'a [u8],
    peeked: Option<(&'a str, u64)>,
}

impl<'a> Values<'a> {
    fn advance(&mut self) -> Result<Option<(&'a str, u64)>, Misfit> {
        if self.left == 0 {
            return Ok(None);
        }
        if self.in_group == 0 {
            self.entries = self.offsets.places.group(self.group, &self.offsets.table)?;
            self.in_group = SAMPLE_EVERY;
            self.group += 1;
        }
        let entry = Entry::take(&mut self.entries).map_err(|_| Misfit)?;
        self.in_group -= 1;
        self.left -= 1;
        Ok(Some((entry.value, entry.offset)))
    }
}

impl<'a> Iterator for Values<'a> {
    type Item = Result<(&'a str, u64), Misfit>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.peeked.take() {
            Some(peeked) => Some(Ok(peeked)),
            None => self.advance().transpose(),
        }
    }
}

/// Reads the names that a file beside the index keeps; their values take `groups` groups.
fn take_names(section: &[u8], groups: usize) -> Result<Vec<NameEntries>, Misfit> {
    let mut body = crc::take_section("label names", &mut &section[..]).map_err(|_| Misfit)?;
    let (mut names, mut first) = (Vec::<NameEntries>::new(), 0u32);
    while !body.is_empty() {
        let mut take = || -> Result<(&[u8], u32), DecodeError> {
            Ok((take_length_prefixed(&mut body)?, take_uvarint32(&mut body)?))
        };
        let (name, count) = take().map_err(|_| Misfit)?;
        let name = std::str::from_utf8(name).map_err(|_| Misfit)?;
        if names.last().is_some_and(|last| *last.name >= *name) {
            return Err(Misfit);
        }
        names.push(NameEntries { name: name.into(), count, first });
        first = first.checked_add(count.div_ceil(SAMPLE_EVERY as u32)).ok_or(Misfit)?;
    }
    if first as usize == groups { Ok(names) } else { Err(Misfit) }
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
