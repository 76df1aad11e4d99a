//! What a block of windows was made from.

use std::collections::BTreeSet;

use pyrrha_storage::block::{BlockId, BlockMeta};
use pyrrha_storage::manifest::{BlockEntry, DeleteEntry, ManifestState};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::deletes::needs;
use crate::jobs::identity;
use crate::shard::Shard;

/// Field of `meta.json` and of manifest entries.
const FIELD: &str = "downsampled";
/// Field of a raw block's entry: the newest delete that was applied when it was written.
const APPLIED: &str = "deletesApplied";

/// What a block of windows was made from, in its `meta.json` and its manifest entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The raw blocks, directly or by way of shorter windows; sorted.
    pub from: Vec<BlockId>,
    /// The manifest number that named them: later deletes are not in it.
    pub through: u64,
}

impl Origin {
    /// That of a live block; `None` if it is not ours.
    pub fn of(entry: &BlockEntry) -> Option<Self> {
        serde_json::from_value(entry.other.get(FIELD)?.clone()).ok()
    }

    /// Notes it in a block's meta.
    pub(super) fn note(&self, meta: &mut BlockMeta) {
        // Only a map with keys that are not strings can fail.
        if let Ok(value) = serde_json::to_value(self) {
            meta.other.insert(FIELD.to_owned(), value);
        }
    }

    /// Notes it in a manifest entry.
    pub(crate) fn put(&self, entry: &mut BlockEntry) {
        if let Ok(value) = serde_json::to_value(self) {
            entry.other.insert(FIELD.to_owned(), value);
        }
    }

    /// Copies it from a meta to a manifest entry.
    pub(crate) fn copy(meta: &BlockMeta, entry: &mut Map<String, Value>) {
        if let Some(value) = meta.other.get(FIELD) {
            entry.insert(FIELD.to_owned(), value.clone());
        }
    }
}

/// The newest delete that was applied when a block was written; 0 if none was.
pub(crate) fn deletes_applied(entry: &BlockEntry) -> u64 {
    entry.other.get(APPLIED).and_then(Value::as_u64).unwrap_or(0)
}

/// Notes it in the entry of a block.
pub(crate) fn note_deletes_applied(entry: &mut BlockEntry, number: u64) {
    if number > 0 {
        entry.other.insert(APPLIED.to_owned(), number.into());
    }
}

/// Makes the entry one of another manifest, whose numbers say nothing of the deletes that were applied: all
/// that come there are newer.
pub(crate) fn forget_numbers(entry: &mut BlockEntry) {
    entry.other.remove(APPLIED);
    if let Some(origin) = Origin::of(entry) {
        Origin { through: 0, ..origin }.put(entry);
    }
}

/// Makes the entry one of another manifest, where all deletes that stood, the newest of them numbered
/// `newest`, have one `number`: what knew the newest knew all of them.
pub(crate) fn renumber(entry: &mut BlockEntry, newest: u64, number: u64) {
    let knows = |applied: u64| newest > 0 && applied >= newest;
    let (applied, origin) = (deletes_applied(entry), Origin::of(entry));
    forget_numbers(entry);
    if knows(applied) {
        note_deletes_applied(entry, number);
    }
    if let Some(origin) = origin.filter(|origin| knows(origin.through)) {
        Origin { through: number, ..origin }.put(entry);
    }
}

/// Whether a block of windows says what the live raw blocks of its range say: they hold no source
/// that it lacks, but such as other windows beside it have (blocks were merged since), and no delete came
/// after it.
pub(crate) fn is_usable(state: &ManifestState, entry: &BlockEntry) -> bool {
    let origin = Origin::of(entry);
    let through = origin.as_ref().map_or(u64::MAX, |origin| origin.through);
    let from: BTreeSet<BlockId> = origin.unwrap_or_default().from.into_iter().collect();
    let known = |raw: &BlockEntry| {
        from.contains(&identity(raw))
            || (deletes_applied(raw) <= through && !raw.sources.is_empty() && covers(state, entry, raw))
    };
    let (own, range) = (Shard::of(entry), entry.range());
    let raw = state.blocks.values().filter(|b| b.resolution == 0 && b.range().overlaps(&range));
    let raw = raw.filter(|b| Shard::of(b).meets(own));
    let deleted = |delete: &DeleteEntry| needs(entry, delete.id.parse().unwrap_or_default(), delete);
    !state.deletes.iter().any(deleted) && raw.into_iter().all(|b| known(b))
}

/// Whether windows can be built again: all that they were made from is there as samples.
pub(crate) fn is_rebuildable(state: &ManifestState, entry: &BlockEntry) -> bool {
    let raw = || state.blocks.values().filter(|b| b.resolution == 0);
    entry.sources.iter().all(|source| raw().any(|b| b.sources.contains(source)))
}

/// Whether each source of a raw block is in a block of windows, or in others of its resolution that do not
/// overlap it: a block's windows are made of all that a source has, wherever that is.
fn covers(state: &ManifestState, entry: &BlockEntry, raw: &BlockEntry) -> bool {
    let mut lacking = raw.sources.iter().filter(|source| !entry.sources.contains(source)).peekable();
    if lacking.peek().is_none() {
        return true;
    }
    let (range, own, theirs) = (raw.range(), Shard::of(entry), Shard::of(raw));
    let is_beside = |b: &&std::sync::Arc<BlockEntry>| {
        let near = b.range().overlaps(&range) && !b.range().overlaps(&entry.range());
        let has = |shard: Shard| shard.has(own) || shard.has(theirs);
        b.resolution == entry.resolution && near && has(Shard::of(b))
    };
    let beside: BTreeSet<BlockId> =
        state.blocks.values().filter(is_beside).flat_map(|b| b.sources.iter().copied()).collect();
    lacking.all(|source| beside.contains(source))
}
