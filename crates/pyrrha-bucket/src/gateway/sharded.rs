//! Which blocks answer for which series, where blocks are split by the hash of their series. Pure.
//!
//! Of series that the same blocks may have, samples or windows are chosen by themselves: that one shard has
//! windows says nothing of another. Where all shards choose alike, as nearly always, nothing is left of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use pyrrha_model::contract::SelectHints;
use pyrrha_model::{TimeRange, Timestamp};
use pyrrha_storage::block::BlockId;
use pyrrha_storage::manifest::BlockEntry;

use super::Chosen;
use super::segments::{self, Candidate, Part, Segments};
use crate::shard::{Residues, Shard, common_count, residues};

/// How a query is answered.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) blocks: Vec<Chosen>,
    /// Times for which nothing as fine as asked for exists any more, and the windows that answer.
    pub(super) coarse: Vec<(TimeRange, i64)>,
}

/// A block of windows, and the residues that chose it.
type ForSome = (Arc<BlockEntry>, Vec<u64>);

/// Chooses for every series and every time in `range`.
pub(super) fn choose(candidates: &[Candidate], range: TimeRange, hints: &SelectHints) -> Answer {
    let shards: Vec<Shard> = candidates.iter().map(|c| Shard::of(&c.entry)).collect();
    let of = |part: Part, only| Chosen { entry: part.entry, range: part.range, only };
    let whole = |Segments { parts, coarse }| Answer {
        blocks: parts.into_iter().map(|part| of(part, None)).collect(),
        coarse,
    };
    // Without windows all blocks answer for all that they have.
    if hints.windows.is_none() || shards.iter().all(|shard| *shard == Shard::WHOLE) {
        return whole(segments::choose(candidates, range, hints));
    }
    let Some(modulus) = common_count(shards.iter().copied()) else {
        let samples = SelectHints { windows: None, ..hints.clone() };
        return whole(segments::choose(candidates, range, &samples));
    };
    // Residues that the same blocks have choose alike.
    let mut alike: BTreeMap<Vec<usize>, Vec<u64>> = BTreeMap::new();
    for residue in 0..modulus {
        let own = (0..candidates.len()).filter(|&i| shards[i].has_residue(residue)).collect();
        alike.entry(own).or_default().push(residue);
    }
    let mut found: BTreeMap<(BlockId, Timestamp, Timestamp), ForSome> = BTreeMap::new();
    let mut raw: BTreeMap<BlockId, Part> = BTreeMap::new();
    let mut answer = Answer::default();
    for (own, series) in alike {
        let own: Vec<Candidate> = own.into_iter().map(|i| candidates[i].clone()).collect();
        let Segments { parts, coarse } = segments::choose(&own, range, hints);
        answer.coarse.extend(coarse);
        for part in parts {
            // Samples where windows answer are passed over, so more of them does no harm.
            if part.entry.resolution == 0 {
                let known = raw.entry(part.entry.ulid).or_insert_with(|| part.clone());
                known.range = TimeRange::new(
                    known.range.start.min(part.range.start),
                    known.range.end.max(part.range.end),
                );
                continue;
            }
            let key = (part.entry.ulid, part.range.start, part.range.end);
            found.entry(key).or_insert_with(|| (part.entry, Vec::new())).1.extend(&series);
        }
    }
    answer.blocks.extend(raw.into_values().map(|part| of(part, None)));
    answer.blocks.extend(found.into_iter().map(|((_, start, end), (entry, mut series))| {
        series.sort_unstable();
        let all = residues(Shard::of(&entry), modulus).eq(series.iter().copied());
        let only = (!all).then(|| Residues::new(modulus, series));
        Chosen { entry, range: TimeRange::new(start, end), only }
    }));
    answer
}
