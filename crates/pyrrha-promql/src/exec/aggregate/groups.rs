//! Groups of an aggregation: found by label ids, without building strings.

use std::hash::BuildHasher;

use hashbrown::HashTable;
use pyrrha_model::SymbolId;
use smallvec::SmallVec;

use crate::labels::LabelIds;

/// Which labels make a group.
#[derive(Debug, Clone)]
pub(crate) struct Grouping {
    /// Names of `by` or `without`; the latter's with those of the metric.
    pub(crate) names: Vec<SymbolId>,
    pub(crate) without: bool,
}

impl Grouping {
    #[inline]
    fn keeps(&self, name: SymbolId) -> bool {
        self.names.contains(&name) != self.without
    }
}

/// Groups in order of appearance.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    /// Labels of the groups.
    pub(crate) labels: Vec<LabelIds>,
    table: HashTable<usize>,
    /// Labels of the series that was looked up last, and its group.
    last: Option<(LabelIds, usize)>,
    hasher: foldhash::fast::FixedState,
}

impl Groups {
    /// The group of these labels, and whether it is new.
    pub(crate) fn find(&mut self, pairs: &[(SymbolId, SymbolId)]) -> (usize, bool) {
        let Self { labels, table, hasher, .. } = self;
        let hash = hasher.hash_one(pairs);
        match table.entry(hash, |&g| labels[g].pairs() == pairs, |&g| hasher.hash_one(labels[g].pairs())) {
            hashbrown::hash_table::Entry::Occupied(occupied) => (*occupied.get(), false),
            hashbrown::hash_table::Entry::Vacant(vacant) => {
                let group = labels.len();
                vacant.insert(group);
                labels.push(LabelIds::from_sorted(pairs));
                (group, true)
            }
        }
    }

    /// The group of a series, and whether it is new.
    pub(crate) fn find_restricted(&mut self, labels: &LabelIds, grouping: &Grouping) -> (usize, bool) {
        if let Some((last, group)) = &self.last
            && last.is_shared_with(labels)
        {
            return (*group, false);
        }
        let pairs: SmallVec<[_; 16]> =
            labels.pairs().iter().filter(|(n, _)| grouping.keeps(*n)).copied().collect();
        let (group, new) = self.find(&pairs);
        self.last = Some((labels.clone(), group));
        (group, new)
    }
}

/// The labels of a series' group.
pub(crate) fn restricted(labels: &LabelIds, grouping: &Grouping) -> LabelIds {
    let pairs: SmallVec<[_; 16]> =
        labels.pairs().iter().filter(|(n, _)| grouping.keeps(*n)).copied().collect();
    LabelIds::from_sorted(&pairs)
}
