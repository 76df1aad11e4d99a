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

/// What is known of the data of a block that is not live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Went {
    /// It did not go.
    Not,
    /// All of it went for good.
    Wholly,
    /// Some of it did.
    Partly,
    /// It is so old that this was forgotten, if it was so.
    Forgotten,
}

/// Whether the data of a block that is not live went for good. Windows go by themselves, and stay for longer than
/// what they were made from; of samples each level-1 block counts.
pub(crate) fn went(state: &ManifestState, entry: &BlockEntry) -> Went {
    let own = [entry.ulid];
    let of: &[BlockId] = if entry.resolution > 0 || entry.sources.is_empty() { &own } else { &entry.sources };
    let gone = of.iter().filter(|id| state.gone.contains(id)).count();
    let forgotten = || of.iter().any(|id| state.may_have_forgotten(*id) && !state.covers(*id));
    match gone {
        // Of a block that was split others may be there.
        _ if state.gone.contains(&entry.ulid) => Went::Wholly,
        0 if forgotten() => Went::Forgotten,
        0 => Went::Not,
        gone if gone == of.len() => Went::Wholly,
        _ => Went::Partly,
    }
}

/// What of live blocks that leave goes for good: windows, and level-1 blocks of which no other live block has
/// something.
pub(crate) fn gone_with(state: &ManifestState, leaving: &[BlockId]) -> Vec<BlockId> {
    let stays = |b: &&std::sync::Arc<BlockEntry>| b.resolution == 0 && !leaving.contains(&b.ulid);
    let held: BTreeSet<BlockId> =
        state.blocks.values().filter(stays).flat_map(|b| b.sources.iter().copied()).collect();
    let mut gone = BTreeSet::new();
    for entry in leaving.iter().filter_map(|block| state.blocks.get(block)) {
        let of: &[BlockId] = if entry.resolution > 0 { &[] } else { &entry.sources };
        gone.extend(of.iter().chain([&entry.ulid]).filter(|block| !held.contains(block)));
    }
    gone.into_iter().collect()
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
    use crate::worlds::id;

    fn made_of(ulid: u64, sources: &[u64], resolution: i64) -> BlockEntry {
        let entry = BlockEntry::of(&BlockMeta::of_head(id(ulid), 0, 1), 1);
        BlockEntry { sources: sources.iter().map(|n| id(*n)).collect(), resolution, ..entry }
    }

    fn state(live: &[BlockEntry], gone: impl IntoIterator<Item = u64>) -> ManifestState {
        let mut state = ManifestState::default();
        state.blocks = live.iter().map(|b| (b.ulid, std::sync::Arc::new(b.clone()))).collect();
        state.gone = gone.into_iter().map(id).collect();
        state
    }

    #[test]
    fn windows_go_by_themselves_and_samples_by_what_they_were_made_from() {
        let there = state(&[], [1, 2, 50]);
        let of = |sources: &[u64], resolution| went(&there, &made_of(50, sources, resolution));
        let merged = |sources: &[u64]| went(&there, &made_of(60, sources, 0));
        assert_eq!((merged(&[1, 2]), merged(&[1, 3]), merged(&[3])), (Went::Wholly, Went::Partly, Went::Not));
        assert_eq!((of(&[3], 300_000), of(&[3], 0)), (Went::Wholly, Went::Wholly), "it did itself");
        assert_eq!(went(&there, &made_of(51, &[1, 2], 300_000)), Went::Not, "raw ones alone went");
    }

    #[test]
    fn what_may_have_been_forgotten_is_not_said_to_be_there() {
        let old = made_of(9, &[5, 6], 0);
        assert_eq!(went(&state(&[], 1_000..5_095), &old), Went::Not, "all are remembered");
        let full = 1_000..5_096;
        assert_eq!(went(&state(&[], full.clone()), &old), Went::Forgotten);
        assert_eq!(went(&state(&[], full.clone()), &made_of(9, &[6_000], 0)), Went::Not);
        let live = made_of(7, &[5, 6, 7], 0);
        assert_eq!(went(&state(&[live], full), &old), Went::Not, "they are live");
    }

    #[test]
    fn what_others_have_stays_when_a_block_goes() {
        let live = [made_of(1, &[1, 2], 0), made_of(2, &[2, 3], 0), made_of(13, &[1, 2, 3], 300_000)];
        let there = state(&live, []);
        assert_eq!(gone_with(&there, &[id(1)]), [id(1)]);
        assert_eq!(gone_with(&there, &[id(13)]), [id(13)]);
        assert_eq!(gone_with(&there, &[id(1), id(2)]), [id(1), id(2), id(3)]);
        assert_eq!(gone_with(&state(&live[1..2], []), &[id(2)]), [id(2), id(3)]);
    }

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
