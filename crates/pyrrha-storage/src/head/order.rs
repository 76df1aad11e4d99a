//! The label order of a head's series, kept between queries.
//!
//! Sorting 100,000 label sets costs a good part of a second, a select that finds them sorted costs
//! milliseconds. So ranks are kept; series newer than the ranks are few and are merged in by
//! comparing labels, until they are many enough to be ranked too.

use std::cmp::Ordering;
use std::sync::Arc;

use pyrrha_index::RoaringBitmap;

use super::directory::Directory;

const UNRANKED: u32 = u32::MAX;

/// Ranks of the series that a head had at some moment.
#[derive(Debug, Default)]
pub(crate) struct LabelOrder {
    /// Rank by series; [`UNRANKED`] for one that was gone.
    ranks: Vec<u32>,
    /// Series by rank.
    sorted: Vec<u32>,
}

impl LabelOrder {
    /// This order if it covers enough of `directory`, else a new one.
    pub(crate) fn refreshed(self: &Arc<Self>, directory: &Directory) -> Arc<Self> {
        let unranked = directory.bound() - self.ranks.len();
        if unranked <= 64.max(self.sorted.len() / 64) {
            self.clone()
        } else {
            Arc::new(self.extended(directory))
        }
    }

    fn extended(&self, directory: &Directory) -> Self {
        let order = SymbolOrder::of(directory);
        let mut new: Vec<u32> =
            (self.ranks.len() as u32..directory.bound() as u32).filter(|&s| directory.is_live(s)).collect();
        new.sort_unstable_by(|&a, &b| order.compare(directory, a, b));
        let kept: Vec<u32> = self.sorted.iter().copied().filter(|&s| directory.is_live(s)).collect();
        let sorted = merge(kept, new, |a, b| order.compare(directory, a, b));
        let mut ranks = vec![UNRANKED; directory.bound()];
        for (rank, &series) in sorted.iter().enumerate() {
            ranks[series as usize] = rank as u32;
        }
        Self { ranks, sorted }
    }

    /// The series of `set`, sorted by labels.
    pub(crate) fn sort(&self, directory: &Directory, set: &RoaringBitmap) -> Vec<u32> {
        let (mut ranked, mut unranked) = (Vec::with_capacity(set.len() as usize), Vec::new());
        for series in set {
            match self.ranks.get(series as usize) {
                Some(&rank) if rank != UNRANKED => ranked.push(rank),
                _ => unranked.push(series),
            }
        }
        self.sort_ranks(&mut ranked);
        ranked.iter_mut().for_each(|rank| *rank = self.sorted[*rank as usize]);
        if unranked.is_empty() {
            return ranked;
        }
        unranked.sort_unstable_by(|&a, &b| compare_labels(directory, a, b));
        merge(ranked, unranked, |a, b| compare_labels(directory, a, b))
    }

    fn sort_ranks(&self, ranks: &mut Vec<u32>) {
        if ranks.len() < self.sorted.len() / 64 {
            ranks.sort_unstable();
            return;
        }
        // Many: mark them in a bitmap and read it out, which is linear.
        let mut marks = vec![0u64; self.sorted.len().div_ceil(64)];
        ranks.iter().for_each(|&r| marks[r as usize / 64] |= 1 << (r % 64));
        ranks.clear();
        for (word, &bits) in marks.iter().enumerate() {
            let mut bits = bits;
            while bits != 0 {
                ranks.push(word as u32 * 64 + bits.trailing_zeros());
                bits &= bits - 1;
            }
        }
    }
}

/// Merges two sorted lists. `new` is usually the shorter one, and is searched for in `old`.
fn merge(old: Vec<u32>, new: Vec<u32>, mut compare: impl FnMut(u32, u32) -> Ordering) -> Vec<u32> {
    if new.is_empty() || old.is_empty() {
        return if old.is_empty() { new } else { old };
    }
    let mut merged = Vec::with_capacity(old.len() + new.len());
    let mut rest = old.as_slice();
    for series in new {
        let before = gallop(rest, |other| compare(other, series) == Ordering::Less);
        merged.extend_from_slice(&rest[..before]);
        merged.push(series);
        rest = &rest[before..];
    }
    merged.extend_from_slice(rest);
    merged
}

/// How many leading items satisfy `pred`, found in steps that double.
fn gallop(items: &[u32], mut pred: impl FnMut(u32) -> bool) -> usize {
    let mut step = 1;
    while step <= items.len() && pred(items[step - 1]) {
        step *= 2;
    }
    let (low, high) = (step / 2, (step - 1).min(items.len()));
    low + items[low..high].partition_point(|&item| pred(item))
}

/// Ranks of all symbols, so that label sets compare as integers.
struct SymbolOrder {
    ranks: Vec<u32>,
}

impl SymbolOrder {
    fn of(directory: &Directory) -> Self {
        let symbols = &directory.symbols;
        // The first eight bytes decide most comparisons without touching the string.
        let mut keyed: Vec<(u64, u32)> = (0..symbols.id_bound() as u32)
            .map(|id| {
                let text = symbols.get(id).as_bytes();
                let mut prefix = [0; 8];
                let len = text.len().min(8);
                prefix[..len].copy_from_slice(&text[..len]);
                (u64::from_be_bytes(prefix), id)
            })
            .collect();
        keyed.sort_unstable_by(|a, b| {
            a.0.cmp(&b.0).then_with(|| symbols.get(a.1).as_bytes().cmp(symbols.get(b.1).as_bytes()))
        });
        let mut ranks = vec![0; keyed.len()];
        for (rank, &(_, id)) in keyed.iter().enumerate() {
            ranks[id as usize] = rank as u32;
        }
        Self { ranks }
    }

    fn compare(&self, directory: &Directory, a: u32, b: u32) -> Ordering {
        let ((an, av), (bn, bv)) = (directory.ids(a), directory.ids(b));
        let rank = |id: u32| self.ranks[id as usize];
        for i in 0..an.len().min(bn.len()) {
            if an[i] != bn[i] {
                return rank(an[i]).cmp(&rank(bn[i]));
            }
            if av[i] != bv[i] {
                return rank(av[i]).cmp(&rank(bv[i]));
            }
        }
        an.len().cmp(&bn.len())
    }
}

/// Prometheus' order of series: pairwise by name, then value; a prefix sorts first.
pub(crate) fn compare_labels(directory: &Directory, a: u32, b: u32) -> Ordering {
    let ((an, av), (bn, bv)) = (directory.ids(a), directory.ids(b));
    for i in 0..an.len().min(bn.len()) {
        let ids = if an[i] != bn[i] { (an[i], bn[i]) } else { (av[i], bv[i]) };
        if ids.0 != ids.1 {
            return directory.symbols.get(ids.0).cmp(directory.symbols.get(ids.1));
        }
    }
    an.len().cmp(&bn.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use pyrrha_model::Labels;

    use super::*;

    proptest! {
        #[test]
        fn the_order_is_that_of_label_sets(sets in prop::collection::vec(
            prop::collection::btree_map("[a-c]{1,2}", "[a-z]{1,10}", 0..4), 1..200), split in 0usize..200,
        ) {
            let mut directory = Directory::default();
            let mut order = Arc::new(LabelOrder::default());
            let mut expected = Vec::new();
            for (i, set) in sets.into_iter().enumerate() {
                let labels = Labels::from_pairs(set);
                let hash = directory.hash(&labels);
                if directory.find(hash, &labels).is_none() {
                    directory.create(hash, &labels);
                    expected.push(labels);
                }
                if i == split {
                    order = Arc::new(order.extended(&directory));
                }
            }
            order = order.refreshed(&directory);
            expected.sort();
            let all: RoaringBitmap = (0..directory.bound() as u32).collect();
            let sorted: Vec<Labels> = order.sort(&directory, &all).into_iter().map(|s| directory.labels(s)).collect();
            prop_assert_eq!(&sorted, &expected);
            let again = Arc::new(order.extended(&directory));
            let sorted: Vec<Labels> = again.sort(&directory, &all).into_iter().map(|s| directory.labels(s)).collect();
            prop_assert_eq!(sorted, expected);
        }
    }
}
