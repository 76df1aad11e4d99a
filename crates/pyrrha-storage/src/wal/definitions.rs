//! Which series and symbols a segment has defined so far, for its writer and for its reader.

use std::collections::HashMap;
use std::hash::BuildHasher;

use hashbrown::HashTable;
use pyrrha_encoding::DecodeError;
use pyrrha_encoding::varint::{put_uvarint, put_varint, take_count, take_length_prefixed};
use pyrrha_encoding::varint::{take_uvarint32, take_varint};
use pyrrha_model::TenantId;
use smallvec::SmallVec;

use super::{LogBatch, LogDelete, WalSink};

/// A set of series references, in pages, so that a wild reference costs a page and no more.
#[derive(Debug, Default)]
pub(super) struct RefSet {
    pages: Vec<Option<Box<[u64; PAGE_WORDS]>>>,
}

const PAGE_WORDS: usize = 1024;
const PAGE_BITS: u32 = 16;

impl RefSet {
    /// Adds a reference; tells whether it is new.
    #[inline]
    pub(super) fn insert(&mut self, series: u32) -> bool {
        let (page, word, bit) = Self::place(series);
        if self.pages.len() <= page {
            self.pages.resize_with(page + 1, || None);
        }
        let words = self.pages[page].get_or_insert_with(|| Box::new([0; PAGE_WORDS]));
        let new = words[word] & bit == 0;
        words[word] |= bit;
        new
    }

    /// Whether it is in.
    #[inline]
    pub(super) fn contains(&self, series: u32) -> bool {
        let (page, word, bit) = Self::place(series);
        matches!(self.pages.get(page), Some(Some(words)) if words[word] & bit != 0)
    }

    fn place(series: u32) -> (usize, usize, u64) {
        let word = (series >> 6) as usize % PAGE_WORDS;
        ((series >> PAGE_BITS) as usize, word, 1 << (series & 63))
    }
}

/// The writer's side.
#[derive(Debug, Default)]
pub(super) struct Definer {
    ids: HashTable<u32>,
    /// All symbols, one after another, and where each ends.
    text: String,
    ends: Vec<usize>,
    hasher: foldhash::fast::RandomState,
    defined: HashMap<TenantId, RefSet>,
}

/// The definitions that one batch needs.
#[derive(Debug, Default)]
pub(super) struct NewDefinitions {
    /// Body of the symbols section; empty if there is none.
    pub(super) symbols: Vec<u8>,
    /// Body of the series section; empty if there is none.
    pub(super) series: Vec<u8>,
}

impl Definer {
    /// Defines what a batch uses for the first time in this segment.
    pub(super) fn define(&mut self, batch: &LogBatch, sink: &dyn WalSink, out: &mut NewDefinitions) {
        out.symbols.clear();
        out.series.clear();
        let mut defined = self.defined.remove(&batch.tenant).unwrap_or_default();
        let first_symbol = self.ends.len();
        let mut before = 0i64;
        let mut count = 0u64;
        let mut body = Vec::new();
        let histograms = batch.histograms.iter().chain(&batch.late).map(|h| h.series);
        let exemplars = batch.exemplars.iter().map(|(series, _)| *series);
        let all = batch.refs.iter().copied().chain(histograms).chain(exemplars);
        let deleted = batch.deletes.iter().flat_map(LogDelete::hidden).map(|(series, _)| *series);
        for series in all.chain(deleted).chain(batch.series.iter().copied()) {
            if !defined.insert(series) {
                continue;
            }
            let mut symbols = SmallVec::<[u32; 64]>::new();
            sink.labels(&batch.tenant, series, &mut |name, value| {
                symbols.push(self.intern(name));
                symbols.push(self.intern(value));
            });
            put_varint(&mut body, i64::from(series) - before);
            before = i64::from(series);
            put_uvarint(&mut body, symbols.len() as u64 / 2);
            symbols.iter().for_each(|&id| put_uvarint(&mut body, u64::from(id)));
            count += 1;
        }
        self.defined.insert(batch.tenant.clone(), defined);
        if count > 0 {
            put_uvarint(&mut out.series, count);
            out.series.append(&mut body);
        }
        self.put_symbols(first_symbol, &mut out.symbols);
    }

    fn put_symbols(&self, first: usize, out: &mut Vec<u8>) {
        if first == self.ends.len() {
            return;
        }
        put_uvarint(out, first as u64);
        put_uvarint(out, (self.ends.len() - first) as u64);
        for id in first..self.ends.len() {
            let text = symbol(&self.text, &self.ends, id as u32);
            put_uvarint(out, text.len() as u64);
            out.extend_from_slice(text.as_bytes());
        }
    }

    fn intern(&mut self, text: &str) -> u32 {
        let hash = self.hasher.hash_one(text);
        let Self { ids, text: all, ends, hasher, .. } = self;
        if let Some(&id) = ids.find(hash, |&id| symbol(all, ends, id) == text) {
            return id;
        }
        let id = ends.len() as u32;
        all.push_str(text);
        ends.push(all.len());
        ids.insert_unique(hash, id, |&id| hasher.hash_one(symbol(all, ends, id)));
        id
    }
}

fn symbol<'a>(text: &'a str, ends: &[usize], id: u32) -> &'a str {
    let id = id as usize;
    let start = if id == 0 { 0 } else { ends[id - 1] };
    &text[start..ends[id]]
}

/// The reader's side.
#[derive(Debug, Default)]
pub(super) struct Defined {
    /// Runs of symbols; more than one only after a lost record.
    symbols: Vec<Run>,
    series: HashMap<TenantId, RefSet>,
}

/// Symbols with consecutive ids, one after another in one text.
#[derive(Debug)]
struct Run {
    first: u32,
    text: String,
    ends: Vec<usize>,
}

impl Run {
    fn end(&self) -> u64 {
        u64::from(self.first) + self.ends.len() as u64
    }
}

impl Defined {
    /// Reads a symbols section.
    pub(super) fn take_symbols(&mut self, mut body: &[u8]) -> Result<(), DecodeError> {
        let first = take_uvarint32(&mut body)?;
        let count = take_count(&mut body, 1)?;
        let end = self.symbols.last().map_or(0, Run::end);
        if u64::from(first) < end || u64::from(first) + count as u64 > u64::from(u32::MAX) {
            return Err(DecodeError::Malformed { part: "symbol id" });
        }
        if u64::from(first) > end || self.symbols.is_empty() {
            self.symbols.push(Run { first, text: String::new(), ends: Vec::with_capacity(count) });
        }
        let Some(run) = self.symbols.last_mut() else { return Ok(()) };
        for _ in 0..count {
            let text = std::str::from_utf8(take_length_prefixed(&mut body)?)
                .map_err(|_| DecodeError::Malformed { part: "symbol" })?;
            run.text.push_str(text);
            run.ends.push(run.text.len());
        }
        Ok(())
    }

    /// Reads a series section and gives each definition that has all its symbols. The labels are
    /// sorted by name, unique, and none is empty.
    pub(super) fn take_series(
        &mut self,
        tenant: &TenantId,
        mut body: &[u8],
        mut give: impl FnMut(u32, &[(&str, &str)]),
    ) -> Result<(), DecodeError> {
        let count = take_count(&mut body, 2)?;
        if !self.series.contains_key(tenant) {
            self.series.insert(tenant.clone(), RefSet::default());
        }
        let Some(defined) = self.series.get_mut(tenant) else { return Ok(()) };
        let mut labels: Vec<(&str, &str)> = Vec::new();
        let mut series = 0i64;
        for _ in 0..count {
            series = series.wrapping_add(take_varint(&mut body)?);
            let reference =
                u32::try_from(series).map_err(|_| DecodeError::Malformed { part: "series reference" })?;
            let pairs = take_count(&mut body, 2)?;
            labels.clear();
            for _ in 0..pairs {
                let (name, value) = (take_uvarint32(&mut body)?, take_uvarint32(&mut body)?);
                labels.extend(find(&self.symbols, name).zip(find(&self.symbols, value)));
            }
            if labels.len() == pairs && defined.insert(reference) {
                put_in_order(&mut labels);
                give(reference, &labels);
            }
        }
        Ok(())
    }

    /// The references of a tenant that are defined.
    pub(super) fn of(&self, tenant: &TenantId) -> Option<&RefSet> {
        self.series.get(tenant)
    }
}

fn find(runs: &[Run], id: u32) -> Option<&str> {
    let run = match runs {
        [only] => only,
        runs => &runs[runs.partition_point(|run| run.first <= id).checked_sub(1)?],
    };
    let index = id.checked_sub(run.first)? as usize;
    let end = *run.ends.get(index)?;
    let start = index.checked_sub(1).map_or(0, |before| run.ends[before]);
    run.text.get(start..end)
}

/// Trusts the order of labels only after a look: they come from a file.
fn put_in_order(labels: &mut Vec<(&str, &str)>) {
    let sorted = labels.windows(2).all(|w| w[0].0 < w[1].0);
    if sorted && labels.iter().all(|l| !l.1.is_empty()) {
        return;
    }
    labels.retain(|l| !l.1.is_empty());
    labels.sort_by_key(|l| l.0);
    labels.dedup_by_key(|l| l.0);
}
