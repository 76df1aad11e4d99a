//! Which series a head has: labels as symbol ids, identity by label hash, postings.
//!
//! Series of one target differ in values only, so the names of a series are a *shape* that many
//! series share, and a row is the shape with one value id per name.

use std::hash::{BuildHasher, Hasher};

use hashbrown::{HashMap, HashTable};
use pyrrha_index::{MemIndex, MemPostings, RoaringBitmap, SymbolPool};
use pyrrha_model::{Label, Labels};

use super::paged::Paged;

const VALUE_PAGE: usize = 1 << 16;
const DEAD: u32 = u32::MAX;

type Hash = foldhash::quality::RandomState;

/// A label as it comes from senders or from the log.
pub(crate) trait LabelPair<'a> {
    /// Name and value.
    fn pair(self) -> (&'a str, &'a str);
}

impl<'a> LabelPair<'a> for &'a Label {
    fn pair(self) -> (&'a str, &'a str) {
        (&self.name, &self.value)
    }
}

impl<'a> LabelPair<'a> for &'a (&'a str, &'a str) {
    fn pair(self) -> (&'a str, &'a str) {
        *self
    }
}

/// The series of a head.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    pub(crate) symbols: SymbolPool,
    pub(crate) postings: MemPostings,
    shapes: Vec<Box<[u32]>>,
    shape_ids: HashMap<Box<[u32]>, u32, foldhash::fast::RandomState>,
    rows: Paged<Row>,
    values: Values,
    by_labels: HashTable<u32>,
    hasher: Hash,
    live: usize,
    /// How often symbols were freed: ids may stand for others since.
    pub(crate) sweeps: u64,
    scratch: Vec<(u32, u32)>,
}

/// Labels of one series.
#[derive(Debug, Clone, Copy)]
struct Row {
    shape: u32,
    values: u32,
    hash: u64,
}

impl Default for Row {
    fn default() -> Self {
        Self { shape: DEAD, values: 0, hash: 0 }
    }
}

/// Value ids of all rows, in pages that no row straddles.
#[derive(Debug, Default)]
struct Values {
    pages: Vec<Vec<u32>>,
}

impl Values {
    fn push(&mut self, ids: impl ExactSizeIterator<Item = u32>) -> u32 {
        let wanted = ids.len();
        if self.pages.last().is_none_or(|p| p.len() + wanted > VALUE_PAGE) {
            // The first page grows by itself, so that a small tenant stays small.
            let capacity = if self.pages.is_empty() { 0 } else { VALUE_PAGE };
            self.pages.push(Vec::with_capacity(capacity));
        }
        let index = self.pages.len() - 1;
        let page = &mut self.pages[index];
        let start = page.len();
        page.extend(ids);
        // A set of more labels than a page holds gets a page to itself and starts at 0.
        u32::try_from(index * VALUE_PAGE + start).expect("fewer than 2^32 label values")
    }

    fn get(&self, place: u32, len: usize) -> &[u32] {
        let (page, start) = (place as usize / VALUE_PAGE, place as usize % VALUE_PAGE);
        &self.pages[page][start..start + len]
    }
}

impl Directory {
    /// Number of series.
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    /// One more than the largest reference given out.
    pub(crate) fn bound(&self) -> usize {
        self.rows.len()
    }

    /// The index over the series.
    pub(crate) fn index(&self) -> MemIndex<'_> {
        MemIndex { symbols: &self.symbols, postings: &self.postings }
    }

    /// Hash of sorted labels, secret to the process.
    pub(crate) fn hash<'a, L: LabelPair<'a>>(&self, labels: impl IntoIterator<Item = L>) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        for (name, value) in labels.into_iter().map(L::pair) {
            hash_label(&mut hasher, name, value);
        }
        hasher.finish()
    }

    /// The series of these labels.
    pub(crate) fn find<'a, L: LabelPair<'a>>(
        &self,
        hash: u64,
        labels: impl IntoIterator<Item = L> + Copy,
    ) -> Option<u32> {
        self.by_labels
            .find(hash, |&series| {
                let row = self.rows[series as usize];
                row.hash == hash && self.has_labels(series, labels)
            })
            .copied()
    }

    fn has_labels<'a, L: LabelPair<'a>>(&self, series: u32, labels: impl IntoIterator<Item = L>) -> bool {
        let (names, values) = self.ids(series);
        let mut ids = names.iter().zip(values);
        let same = |(name, value): (&str, &str)| {
            let id = ids.next();
            id.is_some_and(|(&n, &v)| self.symbols.get(v) == value && self.symbols.get(n) == name)
        };
        labels.into_iter().map(L::pair).all(same) && ids.next().is_none()
    }

    /// Creates a series that [`find`](Self::find) did not find.
    pub(crate) fn create<'a, L: LabelPair<'a>>(
        &mut self,
        hash: u64,
        labels: impl IntoIterator<Item = L>,
    ) -> u32 {
        let mut pairs = std::mem::take(&mut self.scratch);
        pairs.clear();
        let ids = |(name, value): (&str, &str)| (self.symbols.intern(name), self.symbols.intern(value));
        pairs.extend(labels.into_iter().map(L::pair).map(ids));
        let series = self.create_with_ids(hash, &pairs);
        self.scratch = pairs;
        series
    }

    /// The series of these label ids, which are sorted by name.
    pub(crate) fn find_or_create_with_ids(&mut self, pairs: &[(u32, u32)]) -> u32 {
        let mut hasher = self.hasher.build_hasher();
        for &(name, value) in pairs {
            hash_label(&mut hasher, self.symbols.get(name), self.symbols.get(value));
        }
        let hash = hasher.finish();
        let same = |&series: &u32| self.rows[series as usize].hash == hash && self.has_ids(series, pairs);
        match self.by_labels.find(hash, same).copied() {
            Some(series) => series,
            None => self.create_with_ids(hash, pairs),
        }
    }

    /// Whether a reference stands for the series of these label ids.
    pub(crate) fn has_ids(&self, series: u32, pairs: &[(u32, u32)]) -> bool {
        if !self.is_live(series) {
            return false;
        }
        let (names, values) = self.ids(series);
        names.len() == pairs.len()
            && pairs.iter().zip(names.iter().zip(values)).all(|(pair, (&n, &v))| *pair == (n, v))
    }

    fn create_with_ids(&mut self, hash: u64, pairs: &[(u32, u32)]) -> u32 {
        let shape = self.shape(pairs);
        let values = self.values.push(pairs.iter().map(|p| p.1));
        let series = u32::try_from(self.rows.push(Row { shape, values, hash }))
            .expect("a head holds fewer than 2^32 series");
        let Self { by_labels, rows, .. } = self;
        by_labels.insert_unique(hash, series, |&other| rows[other as usize].hash);
        self.postings.insert(series, pairs);
        self.live += 1;
        series
    }

    fn shape(&mut self, pairs: &[(u32, u32)]) -> u32 {
        let names: Box<[u32]> = pairs.iter().map(|p| p.0).collect();
        if let Some(&shape) = self.shape_ids.get(&names) {
            return shape;
        }
        let shape = self.shapes.len() as u32;
        self.shapes.push(names.clone());
        self.shape_ids.insert(names, shape);
        shape
    }

    /// Whether a reference stands for a series.
    pub(crate) fn is_live(&self, series: u32) -> bool {
        self.rows.get(series as usize).is_some_and(|row| row.shape != DEAD)
    }

    /// The shape of a live series.
    pub(crate) fn shape_of(&self, series: u32) -> u32 {
        self.rows[series as usize].shape
    }

    /// Name ids of a shape.
    pub(crate) fn names(&self, shape: u32) -> &[u32] {
        &self.shapes[shape as usize]
    }

    /// Name ids and value ids of a series; empty for one that is gone.
    pub(crate) fn ids(&self, series: u32) -> (&[u32], &[u32]) {
        let row = self.rows[series as usize];
        match self.shapes.get(row.shape as usize) {
            Some(names) => (names, self.values.get(row.values, names.len())),
            None => (&[], &[]),
        }
    }

    /// Labels of a series, as (name, value).
    pub(crate) fn pairs(&self, series: u32) -> impl Iterator<Item = (&str, &str)> {
        let (names, values) = self.ids(series);
        names.iter().zip(values).map(|(&n, &v)| (self.symbols.get(n), self.symbols.get(v)))
    }

    /// Labels of a series.
    pub(crate) fn labels(&self, series: u32) -> Labels {
        let owned = |(name, value): (&str, &str)| Label { name: name.to_owned(), value: value.to_owned() };
        Labels::from_sorted(self.pairs(series).map(owned).collect())
    }

    /// Removes series and what only they used.
    pub(crate) fn remove(&mut self, dead: &RoaringBitmap) {
        let mut pairs: Vec<(u32, u32)> = Vec::new();
        for series in dead {
            let (names, values) = self.ids(series);
            pairs.extend(names.iter().copied().zip(values.iter().copied()));
        }
        pairs.sort_unstable();
        pairs.dedup();
        for series in dead {
            let row = std::mem::take(&mut self.rows[series as usize]);
            if row.shape != DEAD
                && let Ok(entry) = self.by_labels.find_entry(row.hash, |&s| s == series)
            {
                entry.remove();
                self.live -= 1;
            }
        }
        self.postings.remove(dead, pairs);
        self.rows.free_pages(self.postings.all());
        if self.by_labels.capacity() > self.live * 4 {
            let rows = &self.rows;
            self.by_labels.shrink_to(self.live * 2, |&series| rows[series as usize].hash);
        }
        self.pack();
    }

    /// Rewrites the value column and frees the symbols that no series uses.
    fn pack(&mut self) {
        self.sweeps += 1;
        let mut used = vec![false; self.symbols.id_bound()];
        let mut values = Values::default();
        for series in 0..self.rows.len() {
            let row = self.rows[series];
            let Some(names) = self.shapes.get(row.shape as usize) else { continue };
            let ids = self.values.get(row.values, names.len());
            ids.iter().for_each(|&id| used[id as usize] = true);
            self.rows[series].values = values.push(ids.iter().copied());
        }
        self.values = values;
        // Shapes are few and stay, with their names.
        self.shapes.iter().flat_map(|names| names.iter()).for_each(|&id| used[id as usize] = true);
        self.symbols.sweep(|id| used.get(id as usize).copied().unwrap_or(false));
    }

    /// Bytes on the heap, about.
    pub(crate) fn bytes(&self) -> usize {
        self.symbols.heap_bytes()
            + self.postings.heap_bytes()
            + self.rows.bytes()
            + self.values.pages.iter().map(|p| p.capacity() * 4).sum::<usize>()
            + self.by_labels.allocation_size()
            + self.shapes.iter().map(|s| s.len() * 8 + 64).sum::<usize>()
    }
}

fn hash_label(hasher: &mut impl Hasher, name: &str, value: &str) {
    hasher.write(name.as_bytes());
    hasher.write_u8(0xFF);
    hasher.write(value.as_bytes());
    hasher.write_u8(0xFF);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(i: usize) -> Labels {
        Labels::from_pairs([("__name__", "m".to_owned()), ("i", i.to_string()), ("mod", (i % 3).to_string())])
    }

    #[test]
    fn a_series_is_found_by_its_labels_until_it_is_removed() {
        let mut directory = Directory::default();
        for i in 0..30_000 {
            let hash = directory.hash(&labels(i));
            assert_eq!(directory.find(hash, &labels(i)), None);
            assert_eq!(directory.create(hash, &labels(i)), i as u32);
        }
        let odd: RoaringBitmap = (0..30_000).filter(|i| i % 2 == 1).collect();
        directory.remove(&odd);
        assert_eq!(directory.len(), 15_000);
        for i in 0..30_000 {
            let found = directory.find(directory.hash(&labels(i)), &labels(i));
            assert_eq!(found, (i % 2 == 0).then_some(i as u32));
            if found.is_some() {
                assert_eq!(directory.labels(i as u32), labels(i));
            }
        }
        assert!(directory.symbols.lookup("29999").is_none(), "symbols of removed series are freed");
    }
}
