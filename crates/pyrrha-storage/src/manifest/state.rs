//! What a manifest says, and what a change makes of it. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pyrrha_model::contract::Delete;
use pyrrha_model::{MatchOp, Matcher, TimeRange, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::error::ManifestError;
use super::record::Record;
use crate::block::{Block, BlockId, BlockMeta, Layout};

/// Changes since the base after which a new base is written: a file of changes stays at some
/// kilobytes, and a base of ten thousand blocks is written once in so many commits.
const REBASE_AFTER: usize = 64;
/// Numbers after which a new base is written although little has changed: history can only be
/// collected up to the base.
const REBASE_NUMBERS: u64 = 256;

/// How many of the blocks that went for good are remembered, the newest: whoever ships blocks keeps
/// copies for days at most. Whoever has kept them for longer asks whether some were forgotten.
const GONE_MAX: usize = 4096;

/// A live block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockEntry {
    /// Its id and directory name.
    pub ulid: BlockId,
    /// First millisecond of its range.
    pub min_time: Timestamp,
    /// First millisecond after its range.
    pub max_time: Timestamp,
    /// Compaction level, from 1.
    pub level: u32,
    /// The level-1 blocks whose data it holds.
    pub sources: Vec<BlockId>,
    /// The blocks it directly replaced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<BlockId>,
    /// Resolution in ms; 0 for raw samples.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub resolution: i64,
    /// Number of series.
    #[serde(default)]
    pub series: u64,
    /// Number of samples.
    #[serde(default)]
    pub samples: u64,
    /// Bytes of its files; 0 if not known.
    #[serde(default)]
    pub bytes: u64,
    /// Whether something in it did not come from this tenant's head: that it is there does not say
    /// that its range was cut from the head. So it is with imported blocks, and with all that is
    /// made of one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub imported: bool,
    /// Whether it is a dense block, whose directory is another.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dense: bool,
    /// Fields of later versions.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

impl BlockEntry {
    /// The entry of a block with this meta, whose files take `bytes`.
    pub fn of(meta: &BlockMeta, bytes: u64) -> Self {
        Self {
            ulid: meta.ulid,
            min_time: meta.min_time,
            max_time: meta.max_time,
            level: meta.compaction.level,
            sources: meta.compaction.sources.clone(),
            parents: meta.compaction.parents.iter().map(|p| p.ulid).collect(),
            resolution: meta.thanos.as_ref().map_or(0, |t| t.downsample.resolution),
            series: meta.stats.num_series,
            samples: meta.stats.num_samples,
            bytes,
            imported: false,
            dense: false,
            other: Map::new(),
        }
    }

    /// The entry of a block.
    pub fn of_block(block: &Block) -> Self {
        Self { dense: block.layout() == Layout::Dense, ..Self::of(block.meta(), block.bytes()) }
    }

    /// How its floats are stored.
    pub fn layout(&self) -> Layout {
        if self.dense { Layout::Dense } else { Layout::Standard }
    }

    /// Its directory, under that of a tenant's blocks.
    pub(crate) fn dir(&self, blocks: &Path) -> PathBuf {
        self.layout().home(blocks).join(self.ulid.to_string())
    }

    /// The same, of a block from elsewhere.
    pub fn imported(self) -> Self {
        Self { imported: true, ..self }
    }

    /// Its range as a closed interval.
    pub fn range(&self) -> TimeRange {
        TimeRange::new(self.min_time, self.max_time.saturating_sub(1))
    }
}

/// A deletion that is in force until every block with older data is rewritten (decision 23).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteEntry {
    /// The manifest number that brought it; set by the commit.
    #[serde(default)]
    pub number: u64,
    /// What is deleted, as a PromQL selector.
    pub selector: String,
    /// First millisecond deleted.
    pub min_time: Timestamp,
    /// Last millisecond deleted.
    pub max_time: Timestamp,
    /// Its id, as [`DeleteId`](pyrrha_model::contract::DeleteId) is printed: what it hides is told by
    /// comparing it with what a block knows. Empty in a deletion that only fences commits.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// What is deleted: series that satisfy one of these sets of (name, operator, value).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matchers: Vec<Vec<(String, String, String)>>,
    /// When it was made, by the wall clock of its maker, ms.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub at: Timestamp,
    /// Whether it can be taken back no more.
    #[serde(default, rename = "final", skip_serializing_if = "std::ops::Not::not")]
    pub is_final: bool,
}

impl DeleteEntry {
    /// The entry of a delete.
    pub fn of(delete: &Delete) -> Self {
        let one = |m: &Matcher| (m.name.to_string(), m.op.as_str().to_owned(), m.value.to_string());
        Self {
            number: 0,
            selector: delete.selectors().join(" or "),
            min_time: delete.range.start,
            max_time: delete.range.end,
            id: delete.id.to_string(),
            matchers: delete.matcher_sets.iter().map(|set| set.iter().map(one).collect()).collect(),
            at: delete.at,
            is_final: delete.is_final,
        }
    }

    /// The delete; `None` if it has no id, or does not read.
    pub fn to_delete(&self) -> Option<Delete> {
        let one = |(name, op, value): &(String, String, String)| {
            let op = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex]
                .into_iter()
                .find(|known| known.as_str() == op)?;
            Matcher::new(op, name.as_str(), value.as_str()).ok()
        };
        let sets = self.matchers.iter().map(|set| set.iter().map(one).collect::<Option<Vec<_>>>());
        Some(Delete {
            id: self.id.parse().ok()?,
            matcher_sets: sets.collect::<Option<_>>()?,
            range: self.range(),
            at: self.at,
            is_final: self.is_final,
        })
    }

    /// The interval that is deleted.
    pub fn range(&self) -> TimeRange {
        TimeRange::new(self.min_time, self.max_time)
    }
}

/// What a commit is to change.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// Blocks that become live.
    pub added: Vec<BlockEntry>,
    /// Blocks that stop being live. All must be.
    pub removed: Vec<BlockId>,
    /// Blocks that stay as they are and must be live: what a job read beside those it replaces.
    pub requires: Vec<BlockId>,
    /// Live blocks whose entries must be exactly these: what the change makes of them follows from that.
    pub expects: Vec<Arc<BlockEntry>>,
    /// Blocks of which none may be revoked, added or not: what a job may have made.
    pub unless_revoked: Vec<BlockId>,
    /// The manifest number from which a job read `removed`: the commit fails if a newer deletion
    /// touches them. `None`: not made from their data.
    pub based_on: Option<u64>,
    /// The manifest number that the change was planned on, where it follows from all that is live: on another
    /// it is not made. `None`: what is live beside the blocks that are named does not matter.
    pub planned_on: Option<u64>,
    /// Deletions that come into force.
    pub deletes: Vec<DeleteEntry>,
    /// Numbers of deletions that no live block needs any more, or that are taken back.
    pub deletes_done: Vec<u64>,
    /// Numbers of deletions that can be taken back no more.
    pub deletes_final: Vec<u64>,
    /// Blocks that may not be committed any more: outputs of jobs that were given up.
    pub revoked: Vec<BlockId>,
    /// Revocations that are done with: the files are gone, and a block that the job wanted live is
    /// not, so that its commit fails for good.
    pub revocations_done: Vec<BlockId>,
    /// Level-1 blocks, and blocks of windows, whose data went for good, by retention or deletes: whoever
    /// still has a copy must not bring it back.
    pub gone: Vec<BlockId>,
}

/// The live blocks as of one manifest number.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ManifestState {
    /// Its number; 0 if nothing was committed yet.
    pub number: u64,
    /// The number of its base.
    pub base: u64,
    /// Live blocks by id.
    pub blocks: BTreeMap<BlockId, Arc<BlockEntry>>,
    /// Deletions in force, oldest first.
    pub deletes: Vec<DeleteEntry>,
    /// Blocks that may not be committed any more.
    pub revoked: BTreeSet<BlockId>,
    /// Level-1 blocks, and blocks of windows, whose data went for good.
    pub gone: BTreeSet<BlockId>,
    /// Who committed it, and when by its wall clock.
    written: Option<(BlockId, Timestamp)>,
    added_since_base: BTreeSet<BlockId>,
    removed_since_base: BTreeSet<BlockId>,
    other: Map<String, Value>,
}

impl ManifestState {
    /// Whether a live block holds the data of `source`, itself included, or it went for good.
    pub fn covers(&self, source: BlockId) -> bool {
        self.blocks.contains_key(&source)
            || self.gone.contains(&source)
            || self.blocks.values().any(|b| b.sources.contains(&source))
    }

    /// Whether it may be that the data of `source` went for good and this was forgotten since.
    pub fn may_have_forgotten(&self, source: BlockId) -> bool {
        self.gone.len() >= GONE_MAX && self.gone.first().is_some_and(|oldest| source < *oldest)
    }

    /// Live blocks that overlap `range`, by time.
    pub fn overlapping(&self, range: TimeRange) -> Vec<Arc<BlockEntry>> {
        let mut found: Vec<_> =
            self.blocks.values().filter(|b| b.range().overlaps(&range)).cloned().collect();
        found.sort_by_key(|b| (b.min_time, b.max_time, b.ulid));
        found
    }

    /// When it was committed, by the writer's wall clock in ms.
    pub fn written_at(&self) -> Option<Timestamp> {
        self.written.map(|(_, at)| at)
    }

    /// The state after `change`, with the next number.
    pub(super) fn apply(
        &self,
        change: &Change,
        writer: BlockId,
        now: Timestamp,
    ) -> Result<Self, ManifestError> {
        if let Some(planned) = change.planned_on.filter(|planned| *planned != self.number) {
            return Err(ManifestError::Overtaken { planned, number: self.number });
        }
        if let Some(&block) = change.unless_revoked.iter().find(|block| self.revoked.contains(block)) {
            return Err(ManifestError::Revoked { block });
        }
        let mut next = self.clone();
        next.number += 1;
        next.written = Some((writer, now));
        if !self.has(change) {
            next.remove_blocks(change)?;
            next.add_blocks(change)?;
        }
        let known = |delete: &DeleteEntry| {
            !delete.id.is_empty() && self.deletes.iter().any(|other| other.id == delete.id)
        };
        for delete in change.deletes.iter().filter(|delete| !known(delete)) {
            next.deletes.push(DeleteEntry { number: next.number, ..delete.clone() });
        }
        next.deletes.retain(|d| !change.deletes_done.contains(&d.number));
        for delete in next.deletes.iter_mut().filter(|d| change.deletes_final.contains(&d.number)) {
            delete.is_final = true;
        }
        // One that is live was committed before.
        next.revoked.extend(change.revoked.iter().filter(|block| !next.blocks.contains_key(block)));
        next.revoked.retain(|block| !change.revocations_done.contains(block));
        next.gone.extend(&change.gone);
        while next.gone.len() > GONE_MAX {
            next.gone.pop_first();
        }
        let changes = next.added_since_base.len() + next.removed_since_base.len();
        if next.base == 0 || changes > REBASE_AFTER || next.number - next.base >= REBASE_NUMBERS {
            next.base = next.number;
            next.added_since_base.clear();
            next.removed_since_base.clear();
        }
        Ok(next)
    }

    /// This state with other blocks, as a base of number `number`.
    pub(super) fn rebuilt(
        &self,
        number: u64,
        blocks: &[BlockEntry],
        writer: BlockId,
        now: Timestamp,
    ) -> Self {
        Self {
            number,
            base: number,
            blocks: blocks.iter().map(|b| (b.ulid, Arc::new(b.clone()))).collect(),
            written: Some((writer, now)),
            added_since_base: BTreeSet::new(),
            removed_since_base: BTreeSet::new(),
            ..self.clone()
        }
    }

    /// Whether the blocks are as `change` wants them: an earlier attempt was committed, though its
    /// writer was told otherwise.
    fn has(&self, change: &Change) -> bool {
        let live = |b: &BlockEntry| self.blocks.get(&b.ulid).is_some_and(|l| **l == *b);
        !change.added.is_empty()
            && change.added.iter().all(live)
            && !change.removed.iter().any(|id| self.blocks.contains_key(id))
    }

    fn remove_blocks(&mut self, change: &Change) -> Result<(), ManifestError> {
        if let Some(&block) = change.requires.iter().find(|block| !self.blocks.contains_key(block)) {
            return Err(ManifestError::InputGone { block, number: self.number - 1 });
        }
        for expected in &change.expects {
            let (block, number) = (expected.ulid, self.number - 1);
            let live = self.blocks.get(&block).ok_or(ManifestError::InputGone { block, number })?;
            if live != expected {
                return Err(ManifestError::Changed { block, number });
            }
        }
        for &block in &change.removed {
            let gone = ManifestError::InputGone { block, number: self.number - 1 };
            let entry = self.blocks.remove(&block).ok_or(gone)?;
            let newer = |d: &&DeleteEntry| change.based_on.is_some_and(|from| d.number > from);
            if let Some(delete) =
                self.deletes.iter().filter(newer).find(|d| d.range().overlaps(&entry.range()))
            {
                return Err(ManifestError::DeletedSince { block, delete: delete.number });
            }
            if !self.added_since_base.remove(&block) {
                self.removed_since_base.insert(block);
            }
        }
        Ok(())
    }

    fn add_blocks(&mut self, change: &Change) -> Result<(), ManifestError> {
        for entry in &change.added {
            let block = entry.ulid;
            if self.revoked.contains(&block) {
                return Err(ManifestError::Revoked { block });
            }
            if self.blocks.insert(block, Arc::new(entry.clone())).is_some() {
                return Err(ManifestError::Duplicate { block });
            }
            self.added_since_base.insert(block);
        }
        Ok(())
    }

    /// The file of this state.
    pub(super) fn to_record(&self) -> Record {
        let (writer, written_at) = self.written.unwrap_or((BlockId::from_parts(0, 0), 0));
        let mut record = Record::new(self.number, self.base, writer, written_at);
        let is_base = self.base == self.number;
        let listed = self.blocks.values().filter(|b| is_base || self.added_since_base.contains(&b.ulid));
        record.added = listed.map(|b| (**b).clone()).collect();
        record.removed = self.removed_since_base.iter().copied().collect();
        record.deletes = self.deletes.clone();
        record.revoked = self.revoked.iter().copied().collect();
        record.gone = self.gone.iter().copied().collect();
        record.other = self.other.clone();
        record
    }

    /// The state that a file and its base (unless it is one itself) describe.
    pub(super) fn from_records(base: Option<Record>, record: Record) -> Result<Self, ManifestError> {
        let corrupt = |what: &str| ManifestError::Corrupt { number: record.number, what: what.to_owned() };
        let mut state = Self {
            number: record.number,
            base: record.base,
            written: Some((record.writer, record.written_at)),
            ..Self::default()
        };
        if let Some(base) = base {
            if base.base != base.number {
                return Err(corrupt("base is not a base"));
            }
            state.blocks = base.added.into_iter().map(|b| (b.ulid, Arc::new(b))).collect();
            state.added_since_base = record.added.iter().map(|b| b.ulid).collect();
            state.removed_since_base = record.removed.iter().copied().collect();
        }
        for block in &record.removed {
            if state.blocks.remove(block).is_none() {
                return Err(corrupt("removes a block that its base does not have"));
            }
        }
        state.blocks.extend(record.added.into_iter().map(|b| (b.ulid, Arc::new(b))));
        state.deletes = record.deletes;
        state.revoked = record.revoked.into_iter().collect();
        state.gone = record.gone.into_iter().collect();
        state.other = record.other;
        Ok(state)
    }
}
