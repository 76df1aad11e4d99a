//! Series that stay shorter than the rest: blocks are written anew without them, once all of a block
//! is past what a rule keeps.
//!
//! A block's entry names the rules that were applied to all of it (`pruned`) and to some of what it was
//! made from (`prunedPartly`). A raw block that was pruned stands for the one that it was
//! (`prunedFrom`): windows made from that one have more and stay, as their own rules want.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use pyrrha_model::{Matcher, TenantId, Timestamp};
use pyrrha_storage::block::BlockId;
use pyrrha_storage::manifest::{BlockEntry, ManifestState};
use serde_json::Value;

use super::{JobKind, JobSpec, Retention};
use crate::block_files::{lists_deletes, set_aside};
use crate::downsample::{self, Origin};
use crate::gateway::streams_of;
use crate::marks::{MarkKind, is_marked};

/// Rules applied to all that the block has.
const PRUNED: &str = "pruned";
/// Rules applied to some of it.
const PRUNED_PARTLY: &str = "prunedPartly";
/// The raw block that this one was before it was pruned.
const PRUNED_FROM: &str = "prunedFrom";

/// How long the series of a selector stay in the bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatcherRetention {
    /// All must hold.
    matchers: Vec<Matcher>,
    /// By resolution in ms; one that is missing keeps them as long as the rest.
    keep: BTreeMap<i64, Duration>,
    /// What entries remember it by.
    name: String,
}

impl MatcherRetention {
    /// Series that satisfy all `matchers` stay so long, by resolution in ms (0: raw samples).
    pub fn new(matchers: Vec<Matcher>, keep: BTreeMap<i64, Duration>) -> Self {
        let mut texts: Vec<String> = matchers.iter().map(ToString::to_string).collect();
        texts.sort_unstable();
        Self { matchers, keep, name: format!("{{{}}}", texts.join(",")) }
    }

    /// The selector, in one form.
    pub fn selector(&self) -> &str {
        &self.name
    }

    /// How long, by resolution in ms.
    pub fn keep(&self) -> &BTreeMap<i64, Duration> {
        &self.keep
    }

    /// Whether all of a block is past it.
    fn is_past(&self, block: &BlockEntry, now: Timestamp) -> bool {
        let keep = self.keep.get(&block.resolution).copied().unwrap_or_default();
        let keep = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
        keep > 0 && block.max_time <= now.saturating_sub(keep)
    }
}

/// The rules that are to be applied to a block, and are not yet.
fn due<'a>(
    retention: &'a Retention,
    tenant: &TenantId,
    block: &BlockEntry,
    now: Timestamp,
) -> Vec<&'a MatcherRetention> {
    let done = names(block, PRUNED);
    let rules = retention.matchers_of(tenant);
    rules.iter().filter(|rule| rule.is_past(block, now) && !done.contains(&rule.name)).collect()
}

/// The matchers of the rules that are due to a block, and their names.
pub(super) fn due_to(
    retention: &Retention,
    tenant: &TenantId,
    block: &BlockEntry,
    now: Timestamp,
) -> (Vec<Vec<Matcher>>, Vec<String>) {
    let rules = due(retention, tenant, block, now);
    rules.into_iter().map(|rule| (rule.matchers.clone(), rule.name.clone())).unzip()
}

/// The jobs that apply rules, for blocks that are in none of `held`: those are merged, or made windows
/// of, first.
pub(super) fn plan(
    retention: &Retention,
    tenant: &TenantId,
    state: &ManifestState,
    held: &BTreeSet<BlockId>,
    now: Timestamp,
) -> Vec<JobSpec> {
    if retention.matchers_of(tenant).is_empty() {
        return Vec::new();
    }
    let undoable = state.deletes.iter().any(|delete| !delete.is_final);
    let streams = streams_of(state, &[]);
    let may = |b: &&Arc<BlockEntry>| {
        let waits = held.contains(&b.ulid) || (undoable && lists_deletes(b));
        // Windows that others made cannot be written anew, and those behind a delete are built again.
        let stream = || streams.iter().find(|stream| stream.blocks.contains_key(&b.ulid));
        let usable = || stream().is_some_and(|stream| downsample::is_usable(stream, b));
        let ours = b.resolution == 0 || (Origin::of(b).is_some() && usable());
        ours && !waits && set_aside(b).is_none() && !is_marked(b, MarkKind::Deletion)
    };
    let blocks = state.blocks.values().filter(may);
    let mut jobs: Vec<JobSpec> =
        blocks.filter(|b| !due(retention, tenant, b, now).is_empty()).map(|b| job_of(b)).collect();
    jobs.sort_by_key(|job| (job.min_time, job.max_time));
    jobs
}

fn job_of(block: &BlockEntry) -> JobSpec {
    JobSpec {
        kind: JobKind::Prune,
        inputs: vec![block.ulid],
        replaces: vec![block.ulid],
        outputs: 1,
        min_time: block.min_time,
        max_time: block.max_time,
        bytes: block.bytes,
    }
}

fn names(block: &BlockEntry, field: &str) -> BTreeSet<String> {
    let listed = block.other.get(field).and_then(Value::as_array);
    listed.into_iter().flatten().filter_map(|name| Some(name.as_str()?.to_owned())).collect()
}

/// Rules that were applied to any of what a block was made from.
pub(crate) fn pruned_partly(block: &BlockEntry) -> BTreeSet<String> {
    &names(block, PRUNED) | &names(block, PRUNED_PARTLY)
}

/// The block that a raw block stands for where windows say what they were made from.
pub(crate) fn identity(block: &BlockEntry) -> BlockId {
    let from = block.other.get(PRUNED_FROM).and_then(Value::as_str);
    from.and_then(|text| text.parse().ok()).unwrap_or(block.ulid)
}

/// Notes in the entry of a block which rules were applied to what it was made from, and `now` to it.
pub(super) fn note(entry: &mut BlockEntry, inputs: &[Arc<BlockEntry>], now: &[String]) {
    let mut fully =
        inputs.iter().map(|input| names(input, PRUNED)).reduce(|a, b| &a & &b).unwrap_or_default();
    fully.extend(now.iter().cloned());
    let partly: BTreeSet<String> = inputs.iter().flat_map(|input| pruned_partly(input)).collect();
    let partly: BTreeSet<String> = &partly - &fully;
    for (field, names) in [(PRUNED, fully), (PRUNED_PARTLY, partly)] {
        if names.is_empty() {
            entry.other.remove(field);
        } else {
            entry.other.insert(field.to_owned(), names.into_iter().collect());
        }
    }
    if let ([input], false, 0) = (inputs, now.is_empty(), entry.resolution)
        && identity(input) != entry.ulid
    {
        entry.other.insert(PRUNED_FROM.to_owned(), identity(input).to_string().into());
    }
}

#[cfg(test)]
mod tests;
