//! Which block holds the data of which: told by the level-1 blocks that each was made from.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use pyrrha_storage::block::BlockId;
use pyrrha_storage::manifest::{BlockEntry, ManifestState};

use crate::shard::{Shard, cover};

/// Sorts blocks so that whoever holds another's data comes before it. Of two with the same sources the
/// one of the higher level stays, then the newer.
pub(crate) fn holders_first(entry: &BlockEntry) -> Reverse<(usize, u32, BlockId)> {
    Reverse((entry.sources.len(), entry.level, entry.ulid))
}

/// Blocks by their sources. Those of different groups hold nothing of each other: `G` is the resolution,
/// and what else tells them apart.
#[derive(Debug)]
pub(crate) struct Holders<G> {
    by_source: HashMap<(G, BlockId), Vec<usize>>,
    /// With the number that whoever added it knows it by.
    all: Vec<(usize, BTreeSet<BlockId>)>,
}

impl<G> Default for Holders<G> {
    fn default() -> Self {
        Self { by_source: HashMap::new(), all: Vec::new() }
    }
}

impl<G: Clone + Eq + Hash> Holders<G> {
    /// Blocks that have all sources of `entry`, in the order in which they were added; none if it names no
    /// source.
    pub(crate) fn of(&self, group: &G, entry: &BlockEntry) -> Vec<usize> {
        // Whoever has all has the first.
        let first = entry.sources.first().and_then(|first| self.by_source.get(&(group.clone(), *first)));
        let near = first.into_iter().flatten().filter_map(|&i| self.all.get(i));
        let has_all = |set: &BTreeSet<BlockId>| entry.sources.iter().all(|source| set.contains(source));
        near.filter(|(_, set)| has_all(set)).map(|(number, _)| *number).collect()
    }

    /// Adds a block, known by a number.
    pub(crate) fn add(&mut self, group: &G, entry: &BlockEntry, number: usize) {
        let set: BTreeSet<BlockId> = entry.sources.iter().copied().collect();
        for &source in &set {
            self.by_source.entry((group.clone(), source)).or_default().push(self.all.len());
        }
        self.all.push((number, set));
    }
}

/// Whether `holder` has all sources of `entry`, in the same resolution. Of split blocks all shards do.
pub(crate) fn has_sources(holder: &BlockEntry, entry: &BlockEntry) -> bool {
    holder.resolution == entry.resolution
        && !entry.sources.is_empty()
        && entry.sources.iter().all(|source| holder.sources.contains(source))
}

/// Whether `holder` has all that `entry` has, in the same resolution. One shard has not what another has.
pub(crate) fn holds(holder: &BlockEntry, entry: &BlockEntry) -> bool {
    has_sources(holder, entry) && Shard::of(holder).has(Shard::of(entry))
}

/// Whether all level-1 blocks that a block was made from went for good.
pub(crate) fn is_gone(state: &ManifestState, entry: &BlockEntry) -> bool {
    !entry.sources.is_empty() && entry.sources.iter().all(|source| state.gone.contains(source))
}

/// Whether `entry`, or blocks that together have all that it has, are live.
pub(crate) fn is_held(state: &ManifestState, entry: &BlockEntry) -> bool {
    let holders = state.blocks.values().filter(|b| has_sources(b, entry)).map(|b| Shard::of(b));
    state.blocks.contains_key(&entry.ulid) || cover(holders, Shard::of(entry))
}

/// Other live blocks that have nothing but what `entry` has: they leave when it becomes live.
pub(crate) fn held_by(state: &ManifestState, entry: &BlockEntry) -> Vec<BlockId> {
    let held = state.blocks.values().filter(|b| b.ulid != entry.ulid && holds(entry, b));
    held.map(|b| b.ulid).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use pyrrha_storage::block::BlockMeta;

    use super::*;
    use crate::block_files::with_labels;

    #[test]
    fn a_shard_has_not_what_another_has() {
        let entry = |shard: &str| {
            let entry = BlockEntry::of(&BlockMeta::of_head(BlockId::from_parts(1, 1), 0, 1), 1);
            let label = ("__compactor_shard_id__".to_owned(), shard.to_owned());
            with_labels(entry, &if shard.is_empty() { BTreeMap::new() } else { BTreeMap::from([label]) })
        };
        let (whole, one, two) = (entry(""), entry("1_of_2"), entry("2_of_2"));
        assert!(holds(&whole, &whole) && holds(&whole, &one) && holds(&one, &one));
        assert!(!holds(&one, &two) && !holds(&one, &whole));
        assert!(has_sources(&one, &two));
        let state = |live: &[&BlockEntry]| {
            let live = live.iter().enumerate().map(|(i, &entry)| {
                let ulid = BlockId::from_parts(100 + i as u64, 1);
                (ulid, std::sync::Arc::new(BlockEntry { ulid, ..entry.clone() }))
            });
            let mut state = ManifestState::default();
            state.blocks = live.collect();
            state
        };
        assert!(!is_held(&state(&[&one]), &whole) && is_held(&state(&[&one]), &one));
        assert!(is_held(&state(&[&one, &two]), &whole) && is_held(&state(&[&whole]), &two));
        assert!(is_held(&state(&[&entry("1_of_4"), &entry("3_of_4")]), &one), "a shard that was split");
    }
}
