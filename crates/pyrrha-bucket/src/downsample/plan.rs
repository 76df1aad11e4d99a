//! Which blocks are to be downsampled. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pyrrha_encoding::windows::window_start;
use pyrrha_model::TimeRange;
use pyrrha_storage::block::BlockId;
use pyrrha_storage::manifest::{BlockEntry, ManifestState};

use super::origin::{Origin, deletes_applied};
use super::{FIVE_MINUTES, HOUR};
use crate::block_files::set_aside;
use crate::deletes::needs;
use crate::gateway::streams_of;
use crate::jobs::{JobKind, JobSpec, identity, pruned_partly};
use crate::marks::{MarkKind, is_marked};
use crate::shard::{Shard, Split, cover, linked};

/// One block of windows to be built.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DownsampleTask {
    /// Length of its windows, ms.
    pub(crate) resolution: i64,
    /// What it is built from: raw blocks, or blocks of shorter windows.
    pub(crate) inputs: Vec<Arc<BlockEntry>>,
    /// Blocks of windows that it takes the place of.
    pub(crate) replaces: Vec<BlockId>,
    /// What it will remember.
    pub(crate) origin: Origin,
    /// Whether series that come as samples, some of which are histograms with custom buckets, stay at full
    /// resolution.
    pub(crate) keeps_custom_buckets: bool,
}

impl DownsampleTask {
    /// A task for these inputs.
    pub(crate) fn of(state: &ManifestState, resolution: i64, inputs: Vec<Arc<BlockEntry>>) -> Self {
        let origin = origin(state, &inputs);
        Self { resolution, inputs, replaces: Vec::new(), origin, keeps_custom_buckets: false }
    }

    /// The job that does it.
    pub(crate) fn job(&self) -> JobSpec {
        let (min_time, max_time) = self.range();
        JobSpec {
            kind: if self.resolution == HOUR { JobKind::Hour } else { JobKind::FiveMinutes },
            inputs: self.inputs.iter().map(|b| b.ulid).collect(),
            replaces: self.replaces.clone(),
            outputs: Split::least(self.inputs.iter().map(|b| Shard::of(b)).collect::<Vec<_>>()).parts(),
            min_time,
            max_time,
            bytes: self.inputs.iter().map(|b| b.bytes).sum(),
        }
    }

    /// The range of all inputs, `[start, end)`, widened to whole windows.
    pub(crate) fn range(&self) -> (i64, i64) {
        let start = self.inputs.iter().map(|b| b.min_time).min().unwrap_or(0);
        let end = self.inputs.iter().map(|b| b.max_time).max().unwrap_or(0);
        let last = window_start(end.saturating_sub(1), self.resolution);
        (window_start(start, self.resolution), last.saturating_add(self.resolution))
    }
}

/// What is to be built, the newest first: five minutes from raw blocks, hours from what is up to date
/// of five minutes. Blocks whose external labels differ by more than these have no windows in common.
pub(crate) fn plan(state: &ManifestState, replica_labels: &[String]) -> Vec<DownsampleTask> {
    streams_of(state, replica_labels).iter().flat_map(|stream| plan_stream(stream)).collect()
}

fn plan_stream(state: &ManifestState) -> Vec<DownsampleTask> {
    let mut tasks = of_resolution(state, 0, FIVE_MINUTES);
    let behind: BTreeSet<BlockId> = tasks.iter().flat_map(|t| t.replaces.iter().copied()).collect();
    let hours = of_resolution(state, FIVE_MINUTES, HOUR);
    tasks.extend(hours.into_iter().filter(|t| t.inputs.iter().all(|b| !behind.contains(&b.ulid))));
    tasks
}

fn of_resolution(state: &ManifestState, from: i64, to: i64) -> Vec<DownsampleTask> {
    let of = |resolution| state.blocks.values().filter(move |b| b.resolution == resolution);
    // Windows that others made have no first and last samples to go on with.
    let left_alone =
        |b: &BlockEntry| is_marked(b, MarkKind::NoDownsample) || is_marked(b, MarkKind::Deletion);
    let ours = |b: &&Arc<BlockEntry>| {
        set_aside(b).is_none() && !left_alone(b) && (from == 0 || Origin::of(b).is_some())
    };
    let mut inputs: Vec<Arc<BlockEntry>> = of(from).filter(ours).cloned().collect();
    inputs.sort_by_key(|b| (b.min_time, b.max_time, b.ulid));
    let mut tasks = Vec::new();
    for group in groups(inputs, to) {
        let (start, end) = DownsampleTask::of(state, to, group.clone()).range();
        let range = TimeRange::new(start, end.saturating_sub(1));
        let there: Vec<&Arc<BlockEntry>> = of(to).filter(|b| b.range().overlaps(&range)).collect();
        for (inputs, there) in by_shard(group, there) {
            tasks.extend(task(state, to, inputs, &there));
        }
    }
    tasks.reverse();
    tasks
}

/// What windows are made of, and what there is of its time already.
type InputsAndThere<'a> = (Vec<Arc<BlockEntry>>, Vec<&'a Arc<BlockEntry>>);

/// Inputs, and what there is of their time already, apart where they have no series in common.
fn by_shard(inputs: Vec<Arc<BlockEntry>>, there: Vec<&Arc<BlockEntry>>) -> Vec<InputsAndThere<'_>> {
    let shards: Vec<Shard> = inputs.iter().chain(there.iter().copied()).map(|b| Shard::of(b)).collect();
    if shards.iter().all(|shard| *shard == Shard::WHOLE) {
        return vec![(inputs, there)];
    }
    let part = |places: Vec<usize>| {
        let (own, beside): (Vec<usize>, Vec<usize>) = places.into_iter().partition(|&i| i < inputs.len());
        let own: Vec<_> = own.into_iter().map(|i| inputs[i].clone()).collect();
        (own, beside.into_iter().map(|i| there[i - inputs.len()]).collect())
    };
    let parts = linked(&shards, |a, b| a.meets(*b)).into_iter().map(part);
    parts.filter(|(own, _): &InputsAndThere<'_>| !own.is_empty()).collect()
}

/// The task that brings windows up to date: of these inputs, where `there` are some already. `None` if they are
/// up to date, or cannot be built again.
fn task(
    state: &ManifestState,
    to: i64,
    inputs: Vec<Arc<BlockEntry>>,
    there: &[&Arc<BlockEntry>],
) -> Option<DownsampleTask> {
    let mut task = DownsampleTask::of(state, to, inputs);
    let (start, end) = task.range();
    let range = TimeRange::new(start, end.saturating_sub(1));
    // A delete that stands is applied to raw blocks first, which are others then.
    let newest = newest_delete(state, range);
    if task.inputs.iter().any(|b| deletes_applied(b) < newest) {
        return None;
    }
    let has = |b: &BlockEntry, source: &BlockId| {
        let with = task.inputs.iter().filter(|input| input.sources.contains(source));
        cover(with.map(|input| Shard::of(input)), Shard::of(b))
    };
    let sources: BTreeSet<BlockId> = task.inputs.iter().flat_map(|b| b.sources.iter().copied()).collect();
    let up_to_date = |b: &&Arc<BlockEntry>| Origin::of(b).is_some_and(|o| o.from == task.origin.from);
    // Hours are not made of windows of others, so these are made anew where nobody has made hours: what is left of
    // the time once they are past retention.
    let has_hours =
        |s: &BlockId| state.blocks.values().any(|b| b.resolution == HOUR && b.sources.contains(s));
    let leads_on = to == HOUR || sources.iter().all(has_hours);
    // What a delete hides of them is in them for good.
    let may_be_hidden =
        |b: &BlockEntry| state.deletes.iter().any(|d| needs(b, d.id.parse().unwrap_or_default(), d));
    let foreign_is_enough = |b: &&Arc<BlockEntry>| {
        let has_all = Origin::of(b).is_none() && sources.iter().all(|s| b.sources.contains(s));
        leads_on && has_all && !may_be_hidden(b)
    };
    if there.iter().copied().any(|b| up_to_date(&b) || foreign_is_enough(&b)) {
        return None;
    }
    // Nor can one that has series which have left what it would be built from.
    let pruned: BTreeSet<String> = task.inputs.iter().flat_map(|b| pruned_partly(b)).collect();
    if there.iter().any(|b| !pruned.is_subset(&pruned_partly(b))) {
        return None;
    }
    // A block that has something that is here no more cannot be built again.
    if !there.iter().all(|b| b.sources.iter().all(|source| has(b, source))) {
        return None;
    }
    task.replaces = there.iter().map(|b| b.ulid).collect();
    Some(task)
}

/// The number of the newest delete that touches a range; 0 if none does.
fn newest_delete(state: &ManifestState, range: TimeRange) -> u64 {
    state.deletes.iter().filter(|d| d.range().overlaps(&range)).map(|d| d.number).max().unwrap_or(0)
}

/// Blocks by time, those together that share a window.
fn groups(sorted: Vec<Arc<BlockEntry>>, resolution: i64) -> Vec<Vec<Arc<BlockEntry>>> {
    let mut groups: BTreeMap<i64, Vec<Arc<BlockEntry>>> = BTreeMap::new();
    let (mut start, mut end) = (i64::MIN, i64::MIN);
    for block in sorted {
        let first = window_start(block.min_time, resolution);
        if first >= end || start == i64::MIN {
            start = first;
        }
        let last = window_start(block.max_time.saturating_sub(1), resolution);
        end = end.max(last.saturating_add(resolution));
        groups.entry(start).or_default().push(block);
    }
    groups.into_values().collect()
}

fn origin(state: &ManifestState, group: &[Arc<BlockEntry>]) -> Origin {
    let (mut from, mut through) = (BTreeSet::new(), state.number);
    for block in group {
        match Origin::of(block) {
            Some(origin) => {
                from.extend(origin.from);
                through = through.min(origin.through);
            }
            None => {
                from.insert(identity(block));
            }
        }
    }
    Origin { from: from.into_iter().collect(), through }
}
