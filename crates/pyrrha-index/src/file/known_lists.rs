//! Label matching over an index file of which only some postings lists are at hand: what is
//! missing is noted, fetched by whoever can wait, and the matching is done again.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;
use pyrrha_encoding::crc;
use pyrrha_encoding::varint::take_u32;
use pyrrha_model::Matcher;
use pyrrha_model::contract::CancelToken;
use roaring::RoaringBitmap;
use std::collections::HashMap;

use super::IndexHeader;
use super::reader::ascends;
use crate::error::corrupt;
use crate::postings::union;
use crate::{IndexError, LabelIndex, Postings, postings_for_matchers};

/// Bytes that are asked for where a list's length cannot be told from the table.
const GUESS: u64 = 4096;

/// The postings lists of one index that are at hand. A list that is not counts as empty and is
/// noted: as long as [`take_wanted`](Self::take_wanted) gives something, results do not count.
#[derive(Debug)]
pub struct KnownLists<'h> {
    header: &'h IndexHeader,
    lists: HashMap<u64, Bytes>,
    wanted: RefCell<BTreeMap<u64, u64>>,
    ignore_all: Cell<bool>,
    /// Series by name of a label that they have, if such lists are kept beside the index.
    having: Option<HashMap<String, RoaringBitmap>>,
    wanted_names: RefCell<BTreeSet<String>>,
}

impl<'h> KnownLists<'h> {
    /// No list is at hand yet.
    pub fn new(header: &'h IndexHeader) -> Self {
        Self {
            header,
            lists: HashMap::new(),
            wanted: RefCell::default(),
            ignore_all: Cell::new(false),
            having: None,
            wanted_names: RefCell::default(),
        }
    }

    /// Says that beside the index are lists of the series that have a label at all. Those that are
    /// missing in `having` are noted as names, in place of the lists of all values.
    pub fn with_having(mut self, having: HashMap<String, RoaringBitmap>) -> Self {
        self.having = Some(having);
        self
    }

    /// Gives back what [`with_having`](Self::with_having) took.
    pub fn take_having(&mut self) -> Option<HashMap<String, RoaringBitmap>> {
        self.having.take()
    }

    /// Names of labels whose lists of series were missing, sorted.
    pub fn take_wanted_names(&self) -> Vec<String> {
        std::mem::take(&mut *self.wanted_names.borrow_mut()).into_iter().collect()
    }

    /// Notes the lists of all matchers at once, where matching itself would stop at the first that
    /// is missing. The list of all series is not noted, as it is long and seldom needed.
    pub fn want_each(&self, matchers: &[Matcher], cancel: &CancelToken) -> Result<(), IndexError> {
        self.ignore_all.set(true);
        let result = matchers.iter().try_for_each(|matcher| {
            postings_for_matchers(self, std::slice::from_ref(matcher), cancel).map(|_| ())
        });
        self.ignore_all.set(false);
        result
    }

    /// Byte ranges of the lists that were missing, ascending. The lists are to be given to
    /// [`add`](Self::add).
    pub fn take_wanted(&self) -> Vec<Range<u64>> {
        std::mem::take(&mut *self.wanted.borrow_mut()).into_iter().map(|(start, end)| start..end).collect()
    }

    /// Takes the bytes of a list that was wanted. If its end was guessed too low, it is noted again
    /// with the right one.
    pub fn add(&mut self, wanted: &Range<u64>, bytes: &Bytes) -> Result<(), IndexError> {
        let at = usize::try_from(wanted.start).unwrap_or(usize::MAX);
        let len = take_u32(&mut &bytes[..]).map_err(|_| corrupt("postings list is cut short", at))?;
        let total = u64::from(len) + 8;
        if total > bytes.len() as u64 {
            let end = wanted.start.saturating_add(total);
            if end > self.header.lists_end || end <= wanted.end {
                return Err(corrupt("postings list outside the file", at));
            }
            self.wanted.borrow_mut().insert(wanted.start, end);
            return Ok(());
        }
        let body = crc::take_section("postings", &mut &bytes[..])
            .map_err(|_| corrupt("postings list checksum", at))?;
        let mut entries = body;
        let count = take_u32(&mut entries).map_err(|_| corrupt("postings list length", at))? as usize;
        if entries.len() != count.saturating_mul(4) {
            return Err(corrupt("postings list length", at));
        }
        if !ascends(entries) {
            return Err(corrupt("postings list is not sorted", at));
        }
        self.lists.insert(wanted.start, bytes.slice_ref(entries));
        Ok(())
    }

    /// The list of a byte range, empty if it is missing.
    fn list(&self, range: Range<u64>) -> Postings<'static> {
        if let Some(list) = self.lists.get(&range.start) {
            return Postings::BigEndian(list.clone());
        }
        let end = if range.end >= range.start.saturating_add(12) {
            range.end
        } else {
            range.start.saturating_add(GUESS)
        };
        self.wanted.borrow_mut().entry(range.start).or_insert(end.min(self.header.lists_end));
        Postings::EMPTY
    }
}

impl LabelIndex for KnownLists<'_> {
    fn all(&self) -> Result<Postings<'_>, IndexError> {
        if self.ignore_all.get() {
            return Ok(Postings::EMPTY);
        }
        let range = self.header.offsets.all_range(self.header.lists_end)?;
        Ok(range.map_or(Postings::EMPTY, |range| self.list(range)))
    }

    fn postings(&self, name: &str, value: &str) -> Result<Postings<'_>, IndexError> {
        let Some(entries) = self.header.offsets.name(name)? else { return Ok(Postings::EMPTY) };
        let found = self.header.offsets.ranges_from(entries, value, self.header.lists_end)?.next();
        let found = found.transpose()?;
        Ok(found.filter(|(v, _)| *v == value).map_or(Postings::EMPTY, |(_, range)| self.list(range)))
    }

    fn having(&self, name: &str) -> Result<Postings<'_>, IndexError> {
        // The list of a single value is as good.
        if let Some(having) = self.having.as_ref().filter(|_| self.header.value_count(name) > 1) {
            if let Some(series) = having.get(name) {
                return Ok(Postings::Owned(series.clone()));
            }
            self.wanted_names.borrow_mut().insert(name.to_owned());
            return Ok(Postings::EMPTY);
        }
        let mut lists = Vec::new();
        self.postings_where(name, "", &mut |_| Ok(true), &mut lists)?;
        Ok(Postings::Owned(union(&lists)))
    }

    fn postings_where<'s>(
        &'s self,
        name: &str,
        prefix: &str,
        keep: &mut dyn FnMut(&str) -> Result<bool, IndexError>,
        found: &mut Vec<Postings<'s>>,
    ) -> Result<(), IndexError> {
        let Some(entries) = self.header.offsets.name(name)? else { return Ok(()) };
        for entry in self.header.offsets.ranges_from(entries, prefix, self.header.lists_end)? {
            let (value, range) = entry?;
            if !value.starts_with(prefix) {
                break;
            }
            if keep(value)? {
                found.push(self.list(range));
            }
        }
        Ok(())
    }

    fn names_of(
        &self,
        within: Option<&RoaringBitmap>,
        keep: &mut dyn FnMut() -> Result<(), IndexError>,
    ) -> Result<Vec<String>, IndexError> {
        let mut names = Vec::new();
        for entries in self.header.offsets.names()? {
            keep()?;
            if within.map_or(Ok(true), |w| self.having(&entries.name).map(|l| l.intersects(w)))? {
                names.push(entries.name.to_string());
            }
        }
        Ok(names)
    }

    fn values_of(
        &self,
        name: &str,
        within: Option<&RoaringBitmap>,
        limit: usize,
        keep: &mut dyn FnMut(&str) -> Result<bool, IndexError>,
    ) -> Result<Vec<String>, IndexError> {
        let Some(entries) = self.header.offsets.name(name)? else { return Ok(Vec::new()) };
        let mut values = Vec::new();
        for entry in self.header.offsets.ranges_from(entries, "", self.header.lists_end)? {
            if values.len() >= limit {
                break;
            }
            let (value, range) = entry?;
            if keep(value)? && within.is_none_or(|w| self.list(range).intersects(w)) {
                values.push(value.to_owned());
            }
        }
        Ok(values)
    }
}
