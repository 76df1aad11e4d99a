//! The head's index: postings by label name and value ids.

use std::sync::OnceLock;

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};
use roaring::RoaringBitmap;

use crate::{IndexError, LabelIndex, PostingSet, Postings, SymbolPool};

/// Names with fewer values are searched value by value.
const FEW: usize = 64;
/// Values that may be behind the sorted ones: so many, and this part of those.
const LOOSE: (usize, usize) = (256, 4);

/// Postings of a head, by ids of its [`SymbolPool`].
#[derive(Debug, Default)]
pub struct MemPostings {
    /// One table for all pairs: an insert costs one look-up per label, not two.
    pairs: HashMap<Pair, PostingSet, RandomState>,
    names: HashMap<u32, Name, RandomState>,
    all: RoaringBitmap,
}

/// Ids of a label name and a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Pair(u32, u32);

/// What is known of one label name.
#[derive(Debug)]
struct Name {
    /// Ids of its values, in no order.
    values: Vec<u32>,
    /// The first of them, ordered by their strings; made when a prefix is looked for.
    sorted: OnceLock<Box<[u32]>>,
    /// All series that have the label.
    series: PostingSet,
}

impl MemPostings {
    /// An empty index.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a series with its labels as (name id, value id). References usually ascend; others are
    /// taken, but cost more.
    pub fn insert(&mut self, series: u32, labels: &[(u32, u32)]) {
        self.all.insert(series);
        for &(name, value) in labels {
            let entry = self
                .names
                .entry(name)
                .and_modify(|entry| entry.series.insert(series))
                .or_insert_with(|| Name::of(series));
            self.pairs.entry(Pair(name, value)).and_modify(|set| set.insert(series)).or_insert_with(|| {
                entry.add_value(value);
                PostingSet::one(series)
            });
        }
    }

    /// Removes the series of `dead`. `labels` are the label pairs of the dead series, repetitions
    /// allowed; other pairs are not looked at.
    pub fn remove(&mut self, dead: &RoaringBitmap, labels: impl IntoIterator<Item = (u32, u32)>) {
        self.all -= dead;
        let touched: HashSet<Pair, RandomState> = labels.into_iter().map(|(n, v)| Pair(n, v)).collect();
        let mut names: HashSet<u32, RandomState> = HashSet::default();
        for pair in touched {
            names.insert(pair.0);
            if let Some(set) = self.pairs.get_mut(&pair)
                && !set.remove(dead)
            {
                self.pairs.remove(&pair);
            }
        }
        for name in names {
            let Some(entry) = self.names.get_mut(&name) else { continue };
            if entry.series.remove(dead) {
                entry.values.retain(|&value| self.pairs.contains_key(&Pair(name, value)));
                entry.values.shrink_to(entry.values.len() * 2);
                entry.sorted = OnceLock::new();
            } else {
                self.names.remove(&name);
            }
        }
        self.pairs.shrink_to(self.pairs.len() * 2);
    }

    /// All series.
    pub fn all(&self) -> &RoaringBitmap {
        &self.all
    }

    /// The series with a label pair, by ids.
    pub fn get(&self, name: u32, value: u32) -> Postings<'_> {
        self.pairs.get(&Pair(name, value)).map_or(Postings::EMPTY, PostingSet::view)
    }

    /// Label names with the number of their values, by id.
    pub fn names(&self) -> impl Iterator<Item = (u32, usize)> {
        self.names.iter().map(|(&id, name)| (id, name.values.len()))
    }

    /// Label pairs with the number of their series, by ids.
    pub fn pairs(&self) -> impl Iterator<Item = ((u32, u32), u64)> {
        self.pairs.iter().map(|(&Pair(name, value), set)| ((name, value), set.view().len()))
    }

    /// Bytes on the heap, about.
    pub fn heap_bytes(&self) -> usize {
        self.pairs.allocation_size()
            + self.names.allocation_size()
            + self.all.serialized_size()
            + self.pairs.values().map(PostingSet::heap_bytes).sum::<usize>()
            + self.names.values().map(Name::heap_bytes).sum::<usize>()
    }
}

impl Name {
    fn of(series: u32) -> Self {
        Self { values: Vec::new(), sorted: OnceLock::new(), series: PostingSet::one(series) }
    }

    fn add_value(&mut self, value: u32) {
        self.values.push(value);
        if let Some(sorted) = self.sorted.get()
            && self.values.len() - sorted.len() > LOOSE.0 + sorted.len() / LOOSE.1
        {
            self.sorted = OnceLock::new();
        }
    }

    /// Ids among which are those of all values that begin with `prefix`: a run of the sorted ones, and
    /// those that have come since they were sorted.
    fn candidates(&self, prefix: &str, symbols: &SymbolPool) -> (&[u32], &[u32]) {
        if prefix.is_empty() || self.values.len() < FEW {
            return (&[], &self.values);
        }
        let sorted = self.sorted.get_or_init(|| {
            let mut texts: Vec<(&str, u32)> = self.values.iter().map(|&id| (symbols.get(id), id)).collect();
            texts.sort_unstable();
            texts.into_iter().map(|(_, id)| id).collect()
        });
        let from = sorted.partition_point(|&id| symbols.get(id) < prefix);
        let run = sorted[from..].partition_point(|&id| symbols.get(id).starts_with(prefix));
        (&sorted[from..from + run], &self.values[sorted.len()..])
    }

    fn heap_bytes(&self) -> usize {
        let sorted = self.sorted.get().map_or(0, |sorted| sorted.len());
        self.series.heap_bytes() + (self.values.capacity() + sorted) * 4
    }
}

/// A head's postings with the symbols that their ids belong to.
#[derive(Debug, Clone, Copy)]
pub struct MemIndex<'a> {
    /// Strings of the ids.
    pub symbols: &'a SymbolPool,
    /// Postings by id.
    pub postings: &'a MemPostings,
}

impl MemIndex<'_> {
    fn name(&self, name: &str) -> Option<(u32, &Name)> {
        let id = self.symbols.lookup(name)?;
        Some((id, self.postings.names.get(&id)?))
    }
}

impl LabelIndex for MemIndex<'_> {
    fn all(&self) -> Result<Postings<'_>, IndexError> {
        Ok(Postings::Bitmap(&self.postings.all))
    }

    fn postings(&self, name: &str, value: &str) -> Result<Postings<'_>, IndexError> {
        let ids = self.symbols.lookup(name).zip(self.symbols.lookup(value));
        Ok(ids.map_or(Postings::EMPTY, |(name, value)| self.postings.get(name, value)))
    }

    fn having(&self, name: &str) -> Result<Postings<'_>, IndexError> {
        Ok(self.name(name).map_or(Postings::EMPTY, |(_, entry)| entry.series.view()))
    }

    fn postings_where<'s>(
        &'s self,
        name: &str,
        prefix: &str,
        keep: &mut dyn FnMut(&str) -> Result<bool, IndexError>,
        found: &mut Vec<Postings<'s>>,
    ) -> Result<(), IndexError> {
        let Some((id, entry)) = self.name(name) else { return Ok(()) };
        let (run, loose) = entry.candidates(prefix, self.symbols);
        for &value in run.iter().chain(loose) {
            let text = self.symbols.get(value);
            if text.starts_with(prefix) && keep(text)? {
                found.push(self.postings.get(id, value));
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
        for (&id, entry) in &self.postings.names {
            keep()?;
            if within.is_none_or(|set| entry.series.view().intersects(set)) {
                names.push(self.symbols.get(id).to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn values_of(
        &self,
        name: &str,
        within: Option<&RoaringBitmap>,
        limit: usize,
        keep: &mut dyn FnMut(&str) -> Result<bool, IndexError>,
    ) -> Result<Vec<String>, IndexError> {
        let Some((id, entry)) = self.name(name) else { return Ok(Vec::new()) };
        let mut values = Vec::with_capacity(entry.values.len());
        for &value in &entry.values {
            let text = self.symbols.get(value);
            if keep(text)? && within.is_none_or(|set| self.postings.get(id, value).intersects(set)) {
                values.push(text);
            }
        }
        values.sort_unstable();
        values.truncate(limit);
        Ok(values.into_iter().map(str::to_owned).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_with_a_prefix_are_found_whenever_they_came() {
        let (mut symbols, mut postings) = (SymbolPool::new(), MemPostings::new());
        let mut dead = RoaringBitmap::new();
        for series in 0..3000u32 {
            let pair = (symbols.intern("host"), symbols.intern(&format!("h{:04}", series * 7919 % 3000)));
            postings.insert(series, &[pair]);
            if series % 500 == 499 {
                dead.insert(series - 3);
                let text = format!("h{:04}", (series - 3) * 7919 % 3000);
                let gone = symbols.lookup(&text).map(|value| (pair.0, value));
                postings.remove(&RoaringBitmap::from([series - 3]), gone);
            }
            if series % 97 == 0 || series > 2990 {
                let index = MemIndex { symbols: &symbols, postings: &postings };
                for prefix in ["h00", "h2", "h29", "", "x", "h1234"] {
                    let mut found = Vec::new();
                    index.postings_where("host", prefix, &mut |_| Ok(true), &mut found).expect("no error");
                    let mut found: Vec<u32> = found.iter().flat_map(|p| p.to_bitmap()).collect();
                    found.sort_unstable();
                    let starts = |s: &u32| format!("h{:04}", s * 7919 % 3000).starts_with(prefix);
                    let expected: Vec<u32> =
                        (0..=series).filter(starts).filter(|s| !dead.contains(*s)).collect();
                    assert_eq!(found, expected, "prefix {prefix} after {series}");
                }
            }
        }
    }
}
