//! A bucket of Thanos or Mimir becomes Pyrrha's: what is there, copying it to another bucket, and whether
//! the answers are the same. Where it stays in place it is [adopted](super::adopt) instead.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pyrrha_model::contract::{CancelToken, MemoryBudget, QueryContext};
use pyrrha_model::{ErrorKind, StoreError, TimeRange};
use pyrrha_storage::manifest::BlockEntry;
use serde::Serialize;

use super::adopt::{LeftOut, holds_all, left_out};
use super::compare::{ComparedRange, compare, nothing};
use super::copy::{BlockCopy, Copied, CopyOptions};
use super::named::went_away;
use super::theirs::entry_of;
use super::{BucketTools, Progress};
use crate::attach::{AttachConfig, AttachedBucket, Candidate, Why, WithBuckets};
use crate::block_files::{files, with_files};
use crate::gateway::{BucketQueryable, Gateway, check_header};
use crate::marks::MarkFiles;

/// Blocks of a tenant in a bucket of somebody else.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedTenant {
    /// The tenant.
    pub tenant: String,
    /// Blocks that count.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Their series, added up over blocks.
    pub series: u64,
    /// Their samples.
    pub samples: u64,
    /// First millisecond of the oldest.
    pub min_time: i64,
    /// First millisecond after the newest.
    pub max_time: i64,
    /// Blocks by resolution in ms, 0 for samples.
    pub resolutions: BTreeMap<i64, u64>,
    /// Different sets of external labels.
    pub label_sets: u64,
    /// Blocks that do not count, by why.
    pub hidden: BTreeMap<String, u64>,
}

/// What a bucket of somebody else has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MigrationPlan {
    /// By tenant.
    pub tenants: Vec<PlannedTenant>,
    /// Blocks that do not count, and why: as they should be.
    pub hidden: Vec<LeftOut>,
    /// Blocks that would be refused: damaged, or without a tenant.
    pub refused: Vec<LeftOut>,
}

/// What was copied of a tenant, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CopiedTenant {
    /// The tenant.
    pub tenant: String,
    /// Blocks that became live there.
    pub blocks: Vec<String>,
    /// Blocks whose data was live there before.
    pub known_blocks: u64,
    /// Blocks that cannot become live there, and why.
    pub left_out: Vec<LeftOut>,
    /// Bytes that were copied.
    pub copied_bytes: u64,
}

/// Whether the blocks of a tenant answer the same on both sides.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ComparedTenant {
    /// The tenant.
    pub tenant: String,
    /// Pieces of time that either side has samples of.
    pub ranges: Vec<ComparedRange>,
    /// Blocks of windows of the source that the destination neither lists nor holds otherwise.
    pub missing_windows: Vec<String>,
}

impl ComparedTenant {
    /// Whether all of it is equal.
    pub fn is_equal(&self) -> bool {
        self.missing_windows.is_empty() && self.ranges.iter().all(ComparedRange::is_equal)
    }
}

impl BucketTools {
    /// What the bucket has that another could take over. Reads the tables of each block's index, and
    /// writes nothing.
    pub fn migration_plan(
        &self,
        config: &AttachConfig,
        progress: Progress<'_>,
    ) -> Result<MigrationPlan, StoreError> {
        let found = self.theirs(config)?;
        let mut plan = MigrationPlan::default();
        let total: usize = found.tenants.values().map(Vec::len).sum();
        let mut looked = 0;
        for (tenant, blocks) in &found.tenants {
            let mut own = PlannedTenant { tenant: tenant.to_string(), ..PlannedTenant::default() };
            (own.min_time, own.max_time) = (i64::MAX, i64::MIN);
            let mut label_sets = BTreeSet::new();
            for block in blocks {
                progress("blocks", looked, total as u64);
                looked += 1;
                if let Some(what) = self.unreadable(block)? {
                    plan.refused.push(left_out(Some(tenant), block, &Why::Damaged(what)));
                    continue;
                }
                own.blocks += 1;
                own.bytes = own.bytes.saturating_add(block.entry.bytes);
                own.series = own.series.saturating_add(block.entry.series);
                own.samples = own.samples.saturating_add(block.entry.samples);
                own.min_time = own.min_time.min(block.entry.min_time);
                own.max_time = own.max_time.max(block.entry.max_time);
                *own.resolutions.entry(block.entry.resolution).or_default() += 1;
                label_sets.insert(&block.labels);
            }
            own.label_sets = label_sets.len() as u64;
            plan.tenants.push(own);
        }
        for (block, why) in &found.others {
            let left = left_out(block.tenant.as_ref(), block, why);
            if matches!(why, Why::Damaged(_) | Why::NoTenant) {
                plan.refused.push(left);
                continue;
            }
            let own = plan.tenants.iter_mut().find(|t| Some(&t.tenant) == left.tenant.as_ref());
            if let Some(own) = own {
                *own.hidden.entry(left.why.clone()).or_default() += 1;
            }
            plan.hidden.push(left);
        }
        Ok(plan)
    }

    /// What is wrong with a block's files, as far as its index' tables and lengths tell.
    fn unreadable(&self, block: &Candidate) -> Result<Option<String>, StoreError> {
        let named = files(&block.entry);
        let Some(index) = named.iter().find(|file| file.name == "index") else {
            return Ok(Some("there is no index".to_owned()));
        };
        if block.entry.samples > 0 && !named.iter().any(|file| file.name.starts_with("chunks/")) {
            return Ok(Some("there are no chunks".to_owned()));
        }
        let (bucket, key, bytes) =
            (self.tenants.bucket().clone(), format!("{}/index", block.dir), index.bytes);
        match self.runtime.wait(async move { Ok(check_header(&bucket, &key, bytes).await) })? {
            Ok(_) => Ok(None),
            Err(error) if error.kind() == ErrorKind::Corrupt => Ok(Some(error.to_string())),
            Err(error) => Err(error),
        }
    }

    /// Copies the blocks that count to the tenants of another bucket, the oldest first: data, `meta.json`,
    /// one commit per block. Each object is read back and compared by checksum before the commit. What is
    /// live there is passed over, so it may be interrupted and done again. What jobs there name is left out, and
    /// what went for good there, unless the options say otherwise.
    pub fn copy_from_others(
        &self,
        config: &AttachConfig,
        target: &Self,
        CopyOptions { dry_run, brings_back }: CopyOptions,
        progress: Progress<'_>,
    ) -> Result<Vec<CopiedTenant>, StoreError> {
        let found = self.theirs(config)?;
        let all = found.tenants.values().flatten().map(|block| block.entry.bytes);
        let total = all.fold(0, u64::saturating_add);
        let (mut passed, mut all) = (0u64, Vec::new());
        for (tenant, mut blocks) in found.tenants {
            blocks.sort_by_key(|b| (b.entry.min_time, b.entry.ulid));
            let named = target.named_by_jobs(&tenant)?;
            let manifest = target.tenants.manifest(&tenant)?;
            let there = manifest.refresh()?;
            let (to, tenant) = (target, &tenant);
            let copy = BlockCopy { from: self, to, tenant, word: "copy", dry_run, reads_back: true, total };
            let mut copied = Copied::default();
            let mut done = CopiedTenant { tenant: tenant.to_string(), ..CopiedTenant::default() };
            for block in blocks {
                progress("copy", passed, total);
                passed = passed.saturating_add(block.entry.bytes);
                let wrote = !dry_run && !done.blocks.is_empty();
                let live = if wrote { manifest.refresh()? } else { manifest.current() };
                if holds_all(&live, &block) {
                    done.known_blocks += 1;
                    continue;
                }
                let went = || went_away(tenant, &there, &block.entry, &block.dir).filter(|_| !brings_back);
                let job = || named.bars(tenant, &there, &block.entry, &block.dir);
                if let Some(barred) = went().or_else(job) {
                    done.left_out.push(barred);
                    continue;
                }
                let mut entry = entry_of(&block, config, self.clock.now_ms());
                let named = copy.block(&block.dir, &entry, &mut copied, &mut |_, _, _| {})?;
                done.copied_bytes = copied.copied_bytes;
                if !dry_run {
                    entry = with_files(&entry, &named);
                    manifest.commit(std::slice::from_ref(&entry), &[])?;
                    let files = MarkFiles::new(target.tenants.bucket().clone(), tenant);
                    let marked = [entry.clone()];
                    target.runtime.wait(async move { files.write(&marked).await })?;
                }
                done.blocks.push(entry.ulid.to_string());
            }
            all.push(done);
        }
        Ok(all)
    }

    /// Whether this bucket, attached, and the manifests of another answer the same, in pieces of time of
    /// `piece` ms. Windows are not read: of those it is told whether the destination has their data.
    pub fn compare_with(
        &self,
        config: &AttachConfig,
        target: &Self,
        piece: i64,
        memory: usize,
        progress: Progress<'_>,
    ) -> Result<Vec<ComparedTenant>, StoreError> {
        let (found, piece) = (self.theirs(config)?, piece.max(1));
        let attached = AttachedBucket::new(
            self.tenants.bucket().clone(),
            self.runtime.clone(),
            self.disk.clone(),
            self.clock.clone(),
            config.clone(),
        );
        attached.look()?;
        let source = WithBuckets::new(nothing(), vec![Arc::new(attached)]);
        let mut reading = config.reading.clone();
        reading.cache_dir = reading.cache_dir.join("destination");
        let gateway =
            Gateway::new(target.tenants.clone(), target.runtime.clone(), target.disk.clone(), reading);
        let gateway = gateway.with_replica_labels(config.replica_labels.clone());
        let destination = BucketQueryable::new(nothing(), Arc::new(|_| BTreeSet::new()), Arc::new(gateway));
        let mut all = Vec::new();
        for (tenant, blocks) in &found.tenants {
            let state = target.state(tenant)?;
            let windows = blocks.iter().filter(|b| b.entry.resolution > 0 && !holds_all(&state, b));
            let mut own = ComparedTenant { tenant: tenant.to_string(), ..ComparedTenant::default() };
            own.missing_windows = windows.map(|b| b.dir.clone()).collect();
            let ranges = blocks.iter().map(|b| &*b.entry).chain(state.blocks.values().map(|b| &**b));
            let raw = ranges.filter(|b| b.resolution == 0);
            let pieces: BTreeSet<i64> = raw.flat_map(|b| pieces_of(b, piece)).collect();
            for (i, start) in pieces.iter().enumerate() {
                progress("compare", i as u64, pieces.len() as u64);
                let range = TimeRange::new(*start, start.saturating_add(piece - 1));
                let ctx = || {
                    let budget = MemoryBudget::new("compare", memory, None);
                    QueryContext::new(tenant.clone(), budget, CancelToken::default())
                };
                own.ranges.push(compare((&source, &ctx()), (&destination, &ctx()), range)?);
            }
            all.push(own);
        }
        Ok(all)
    }
}

/// The pieces of time that a block touches, by their starts.
fn pieces_of(block: &BlockEntry, piece: i64) -> impl Iterator<Item = i64> {
    let range = block.range();
    let (first, last) = (range.start.div_euclid(piece), range.end.div_euclid(piece));
    (first..=last).map(move |n| n.saturating_mul(piece))
}

#[cfg(test)]
mod tests;
