//! Which blocks of a tenant are to be merged. Pure.
//!
//! Raw blocks of equal external labels, but for those that tell replicas apart,
//! grow through the ranges of a ladder. Blocks that overlap are merged first. A block that straddles
//! the edge of a window waits for the next larger range that contains it (decision 21). What would become too
//! large is split by the hash of its series, and from then on shards are merged with blocks that may have
//! series of theirs only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pyrrha_model::Timestamp;
use pyrrha_model::contract::DeleteId;
use pyrrha_storage::block::BlockId;
use pyrrha_storage::manifest::{BlockEntry, ManifestState};

use super::{JobKind, JobSpec};
use crate::block_files::{deletes_through, lists_deletes, set_aside};
use crate::deletes::needs;
use crate::downsample::{Origin, is_rebuildable};
use crate::marks::{MarkKind, is_marked};
use crate::shard::{BlockTargets, Shard, linked, stream_labels};

/// Most blocks of one merge: each is open while it runs.
const INPUTS_MAX: usize = 64;

/// The ranges that blocks grow through, ms, ascending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ladder(Vec<i64>);

impl Default for Ladder {
    /// 2 h, 12 h, 1 d, 14 d.
    fn default() -> Self {
        const HOUR: i64 = 3_600_000;
        Self(vec![2 * HOUR, 12 * HOUR, 24 * HOUR, 14 * 24 * HOUR])
    }
}

impl Ladder {
    /// Of these ranges in ms, of which each must be a multiple of the one before; the first is that
    /// of fresh blocks. The error says which is not.
    pub fn new(ranges: Vec<i64>) -> Result<Self, String> {
        if ranges.first().is_none_or(|&first| first <= 0) {
            return Err("ranges begin with the range of fresh blocks, which is more than nothing".to_owned());
        }
        match ranges.windows(2).find(|pair| pair[1] <= pair[0] || pair[1] % pair[0] != 0) {
            Some(pair) => Err(format!("{} ms is no multiple of {} ms", pair[1], pair[0])),
            None => Ok(Self(ranges)),
        }
    }
}

/// What blocks that are merged have in common: how many of the deletes that may be taken back they know,
/// whether no windows are to be made of them, and their external labels.
type Group = (usize, bool, BTreeMap<String, String>);

/// All merges that may be done side by side now: none reads a block that another reads, or that is
/// `busy`, and none makes a window that a smaller merge is about to change. The order is that in
/// which they are best done.
pub(crate) fn plan(
    state: &ManifestState,
    ladder: &Ladder,
    targets: &BlockTargets,
    replica_labels: &[String],
    busy: &BTreeSet<BlockId>,
    now: Timestamp,
) -> Vec<JobSpec> {
    // A delete that may be taken back stays as it is: what was acknowledged before it is not merged with
    // what came after, and what is listed in terms of a block stays there.
    let undoable: Vec<DeleteId> =
        state.deletes.iter().filter(|d| !d.is_final).filter_map(|d| d.id.parse().ok()).collect();
    let waits = |b: &BlockEntry| !undoable.is_empty() && lists_deletes(b);
    let mut groups: BTreeMap<Group, Vec<Arc<BlockEntry>>> = BTreeMap::new();
    let merges = |b: &BlockEntry| takes_part(b) && !waits(b) && !is_marked(b, MarkKind::NoCompact);
    for block in state.blocks.values().filter(|b| merges(b)) {
        let mut labels = stream_labels(block);
        labels.retain(|name, _| !replica_labels.contains(name));
        let known = undoable.iter().filter(|&&id| id <= deletes_through(block)).count();
        groups
            .entry((known, is_marked(block, MarkKind::NoDownsample), labels))
            .or_default()
            .push(block.clone());
    }
    let mut jobs = Vec::new();
    for mut blocks in groups.into_values() {
        blocks.sort_by_key(|b| (b.min_time, b.ulid));
        plan_group(&blocks, (ladder, targets), busy, now, &mut jobs);
    }
    purges(state, busy, &waits, &mut jobs);
    // Smallest range first, as larger ones are made of them, and of these the oldest.
    jobs.sort_by_key(|job| (job.max_time.saturating_sub(job.min_time), job.min_time));
    jobs
}

fn takes_part(block: &BlockEntry) -> bool {
    block.resolution == 0 && is_live(block)
}

fn is_live(block: &BlockEntry) -> bool {
    set_aside(block).is_none() && !is_marked(block, MarkKind::Deletion)
}

/// Blocks of which a final delete may hide something, and that no merge writes anew.
fn purges(
    state: &ManifestState,
    busy: &BTreeSet<BlockId>,
    waits: &impl Fn(&BlockEntry) -> bool,
    jobs: &mut Vec<JobSpec>,
) {
    let merged: BTreeSet<BlockId> = jobs.iter().flat_map(|job| job.inputs.iter().copied()).collect();
    let is_final = state.deletes.iter().filter(|d| d.is_final);
    let finals: Vec<_> = is_final.filter_map(|d| Some((d.id.parse().ok()?, d))).collect();
    let free = |b: &BlockEntry| !busy.contains(&b.ulid) && !merged.contains(&b.ulid);
    // Windows whose samples are there are built anew of these. Those that others made and of which no samples are left
    // cannot be written anew.
    let stays = |b: &BlockEntry| is_live(b) && Origin::of(b).is_some() && !is_rebuildable(state, b);
    let written = |b: &BlockEntry| if b.resolution == 0 { takes_part(b) && !waits(b) } else { stays(b) };
    for block in state.blocks.values().filter(|b| free(b)) {
        if finals.iter().any(|&(id, delete)| needs(block, id, delete)) && written(block) {
            let block = std::slice::from_ref(block);
            jobs.push(JobSpec {
                kind: JobKind::Purge,
                outputs: 1,
                ..merge_of(block, &BlockTargets::default())
            });
        }
    }
}

fn plan_group(
    blocks: &[Arc<BlockEntry>],
    (ladder, targets): (&Ladder, &BlockTargets),
    busy: &BTreeSet<BlockId>,
    now: Timestamp,
    jobs: &mut Vec<JobSpec>,
) {
    let mut taken: BTreeSet<BlockId> = busy.clone();
    let newest = blocks.iter().map(|b| b.min_time).max().unwrap_or(Timestamp::MIN);
    for run in overlapping(blocks) {
        if run.iter().any(|b| busy.contains(&b.ulid)) {
            continue;
        }
        taken.extend(run.iter().map(|b| b.ulid));
        jobs.extend(merge_of_most(&run, targets));
    }
    for &range in ladder.0.iter().skip(1) {
        let end_of = |b: &BlockEntry| window_end(b.min_time, range);
        // Windows with a block that straddles their edge are full without it.
        let mut windows: BTreeMap<Timestamp, Vec<&Arc<BlockEntry>>> = BTreeMap::new();
        for block in blocks.iter().filter(|b| b.max_time <= end_of(b)) {
            windows.entry(end_of(block)).or_default().push(block);
        }
        for (end, window) in windows {
            // Something comes after it, or it has been over for as long as it lasted: what is late
            // overlaps, and is merged then.
            let settled = end <= newest || now >= end.saturating_add(range);
            if window.len() < 2 || !settled {
                continue;
            }
            let window: Vec<Arc<BlockEntry>> = window.into_iter().cloned().collect();
            for near in by_shard(window, |_, _| true) {
                if near.len() < 2 || near.iter().any(|b| taken.contains(&b.ulid)) {
                    continue;
                }
                taken.extend(near.iter().map(|b| b.ulid));
                jobs.extend(merge_of_most(&near, targets));
            }
        }
    }
}

fn window_end(min_time: Timestamp, range: i64) -> Timestamp {
    min_time.div_euclid(range).saturating_add(1).saturating_mul(range)
}

/// Runs of blocks of which each begins before an earlier one ends, and that may have series in common with it.
fn overlapping(blocks: &[Arc<BlockEntry>]) -> Vec<Vec<Arc<BlockEntry>>> {
    let (mut runs, mut end) = (Vec::<Vec<Arc<BlockEntry>>>::new(), Timestamp::MIN);
    for block in blocks {
        match runs.last_mut() {
            Some(run) if block.min_time < end => run.push(block.clone()),
            _ => runs.push(vec![block.clone()]),
        }
        end = end.max(block.max_time);
    }
    let at_once = |a: &BlockEntry, b: &BlockEntry| a.min_time < b.max_time && b.min_time < a.max_time;
    let runs = runs.into_iter().filter(|run| run.len() > 1).flat_map(|run| by_shard(run, at_once));
    runs.filter(|run| run.len() > 1).collect()
}

/// Blocks apart that have no series in common, neither directly nor by way of others that are linked to both.
fn by_shard(
    blocks: Vec<Arc<BlockEntry>>,
    link: impl Fn(&BlockEntry, &BlockEntry) -> bool,
) -> Vec<Vec<Arc<BlockEntry>>> {
    let with_shards: Vec<(Shard, &Arc<BlockEntry>)> = blocks.iter().map(|b| (Shard::of(b), b)).collect();
    if with_shards.iter().all(|(shard, _)| *shard == Shard::WHOLE) {
        return vec![blocks];
    }
    let groups = linked(&with_shards, |a, b| a.0.meets(b.0) && link(a.1, b.1));
    groups.into_iter().map(|group| group.into_iter().map(|i| blocks[i].clone()).collect()).collect()
}

/// The merge of as many of these as may be merged, the first of them; `None` if that is but one.
fn merge_of_most(blocks: &[Arc<BlockEntry>], targets: &BlockTargets) -> Option<JobSpec> {
    let most = blocks.len().min(INPUTS_MAX);
    let count = (2..=most).rev().find(|&count| targets.allow(&blocks[..count]))?;
    Some(merge_of(&blocks[..count], targets))
}

fn merge_of(blocks: &[Arc<BlockEntry>], targets: &BlockTargets) -> JobSpec {
    let inputs: Vec<BlockId> = blocks.iter().map(|b| b.ulid).collect();
    JobSpec {
        kind: JobKind::Compact,
        replaces: inputs.clone(),
        inputs,
        outputs: targets.split(blocks).parts(),
        min_time: blocks.iter().map(|b| b.min_time).min().unwrap_or(0),
        max_time: blocks.iter().map(|b| b.max_time).max().unwrap_or(0),
        bytes: blocks.iter().map(|b| b.bytes).fold(0, u64::saturating_add),
    }
}

#[cfg(test)]
mod tests;
