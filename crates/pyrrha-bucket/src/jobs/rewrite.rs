//! Rewriting raw blocks by rules that somebody gives, once. Windows that were made of them leave with the
//! same commit, and are made anew by the jobs that make windows.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use pyrrha_model::contract::{
    CancelToken, DeleteId, MemoryBudget, QueryContext, Queryable, SelectHints, SeriesBatch, SeriesSet,
};
use pyrrha_model::{ErrorKind, StoreError, TenantId, TimeRange};
use pyrrha_storage::block::{Block, BlockId, BlockMeta, ExemplarFile};
use pyrrha_storage::compact::{Source, merge_sources};
use pyrrha_storage::manifest::{BlockEntry, DeleteEntry, ManifestState};
use serde::Serialize;

use super::merge::{Blamed, SidecarPlace, Work, WorkError};
use super::perform::{Ended, Orders};
use super::runner::Compactor;
use super::{JobKind, JobSpec};
use crate::block_files::{self, deletes_through, lists_deletes};
use crate::downsample::Origin;
use crate::rewrite::{
    CHANGE_LOG, ChangeLog, Changes, RewriteRules, Rewritten, Stage, deleted_exemplars, exemplars, sorted,
    spool,
};
use crate::selector::BlockSelector;
use crate::shard::{Shard, cover, name_shard};
use crate::upload_block::local;

/// The file of exemplars within a block.
const EXEMPLARS: &str = "exemplars";

/// What became of a block that was to be rewritten, or would.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RewrittenBlock {
    /// The tenant.
    pub tenant: String,
    /// The block.
    pub block: String,
    /// The block in its place; none if nothing changes, or nothing is left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewritten_to: Option<String>,
    /// What changed, or would.
    pub changes: Changes,
    /// Bytes of its files.
    pub bytes: u64,
    /// Bytes of the files of the block in its place.
    pub bytes_after: u64,
    /// Blocks of windows that leave with it, to be made anew.
    pub windows: Vec<String>,
    /// Whether it was done.
    pub committed: bool,
    /// Why it was not, and may be later; the others were gone on with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// A rewrite under way.
#[derive(Debug)]
pub(super) struct Rewrite {
    rules: Arc<RewriteRules>,
    changes: Mutex<Changes>,
    made: Mutex<Option<(BlockId, u64)>>,
}

impl Rewrite {
    fn new(rules: &Arc<RewriteRules>) -> Self {
        Self { rules: rules.clone(), changes: Mutex::default(), made: Mutex::default() }
    }

    /// Refuses what must not be rewritten as of a state.
    pub(super) fn check(&self, state: &ManifestState, spec: &JobSpec) -> Result<(), StoreError> {
        let inputs = spec.inputs.iter().filter_map(|input| state.blocks.get(input));
        inputs.into_iter().try_for_each(|entry| check_deletes(&self.rules, state, entry))
    }
}

/// Refuses a block of which a delete hides something that may be taken back. What it lists for the delete the
/// new block would not have; and what labels tell is another matter once they are others.
fn check_deletes(rules: &RewriteRules, state: &ManifestState, entry: &BlockEntry) -> Result<(), StoreError> {
    if !lists_deletes(entry) && !rules.relabels() {
        return Ok(());
    }
    let stands = |delete: &&DeleteEntry| {
        !delete.is_final && delete.id.parse::<DeleteId>().is_ok() && delete.range().overlaps(&entry.range())
    };
    let Some(delete) = state.deletes.iter().find(stands) else { return Ok(()) };
    let text = format!(
        "a delete that may be taken back hides some of the block: purge deletes or take it back, and run this \
         again: block={} delete={}",
        entry.ulid, delete.id
    );
    Err(StoreError::new(ErrorKind::Unavailable, text))
}

impl Compactor {
    /// Rewrites the chosen live blocks of a tenant, one after another, the oldest first: each new block is
    /// verified before it takes the place of the old one. Blocks of windows among them are refused, unless
    /// all raw blocks that they were made from are chosen, too. With `dry_run` blocks are read, and nothing
    /// is written. `progress` is told bytes.
    pub fn rewrite(
        &self,
        tenant: &TenantId,
        selector: &BlockSelector,
        rules: &Arc<RewriteRules>,
        dry_run: bool,
        cancel: &CancelToken,
        progress: &mut dyn FnMut(&str, u64, u64),
    ) -> Result<Vec<RewrittenBlock>, StoreError> {
        let manifest = self.tenants().manifest(tenant)?;
        let state = manifest.refresh()?;
        let chosen: Vec<Arc<BlockEntry>> =
            state.blocks.values().filter(|b| selector.selects(b)).cloned().collect();
        check_windows(&state, &chosen)?;
        let mut raw: Vec<Arc<BlockEntry>> = chosen.into_iter().filter(|b| b.resolution == 0).collect();
        raw.sort_by_key(|b| (b.min_time, b.ulid));
        let total = raw.iter().map(|b| b.bytes).fold(0, u64::saturating_add);
        let (mut done, mut all, mut first) = (0u64, Vec::new(), None);
        for entry in raw {
            cancel.check()?;
            progress("rewrite", done, total);
            done = done.saturating_add(entry.bytes);
            if dry_run {
                all.push(self.would_rewrite(tenant, &state, &entry, rules, cancel)?);
                continue;
            }
            all.push(match self.rewrite_block(tenant, entry.ulid, rules, cancel) {
                // Another worker has this one; the rest need not wait for it, if the bucket answers.
                Err(error) if error.kind() == ErrorKind::Unavailable && cancel.reason().is_none() => {
                    manifest.refresh()?;
                    let refused = Some(error.to_string());
                    first.get_or_insert(error);
                    RewrittenBlock { refused, ..report_of(tenant, &entry, Changes::default(), &[]) }
                }
                done => done?,
            });
        }
        match first {
            Some(error) if all.iter().all(|one| one.refused.is_some()) => Err(error),
            _ => Ok(all),
        }
    }

    fn rewrite_block(
        &self,
        tenant: &TenantId,
        block: BlockId,
        rules: &Arc<RewriteRules>,
        cancel: &CancelToken,
    ) -> Result<RewrittenBlock, StoreError> {
        let manifest = self.tenants().manifest(tenant)?;
        let state = manifest.refresh()?;
        let Some(entry) = state.blocks.get(&block) else {
            let text = format!("block is not live any more, choose again: block={block}");
            return Err(StoreError::new(ErrorKind::Execution, text));
        };
        let windows = windows_of(&state, entry)?;
        let spec = spec_of(entry, &windows);
        let rewrite = Rewrite::new(rules);
        let orders = Orders { rewrite: Some(&rewrite), ..Orders::default() };
        let ended = self.do_now(tenant, &spec, orders, cancel)?;
        if ended == Ended::Late {
            let text = format!("block was changed while it was rewritten, run it again: block={block}");
            return Err(StoreError::new(ErrorKind::Unavailable, text));
        }
        let committed = ended == Ended::Committed;
        let made = *rewrite.made.lock();
        let changes = *rewrite.changes.lock();
        let mut report = report_of(tenant, entry, changes, if committed { &windows } else { &[] });
        report.committed = committed;
        if let Some((made, bytes)) = made.filter(|_| committed) {
            report.rewritten_to = Some(made.to_string());
            report.bytes_after = bytes;
        }
        Ok(report)
    }

    fn would_rewrite(
        &self,
        tenant: &TenantId,
        state: &ManifestState,
        entry: &Arc<BlockEntry>,
        rules: &Arc<RewriteRules>,
        cancel: &CancelToken,
    ) -> Result<RewrittenBlock, StoreError> {
        check_deletes(rules, state, entry)?;
        let windows = windows_of(state, entry)?;
        let budget = MemoryBudget::new("rewriting", self.config().memory_bytes, None);
        let ctx = QueryContext::new(tenant.clone(), budget, cancel.clone());
        let log = Arc::new(Mutex::new(ChangeLog::counting()));
        let series =
            self.looking().whole_block(tenant, entry.clone(), None, Arc::default(), Arc::default(), &ctx);
        let mut series = Rewritten::new(&ctx, series, rules.clone(), log.clone(), Stage::Both);
        let mut batch = SeriesBatch::default();
        while series.next_batch(64, &mut batch)? {}
        let mut changes = log.lock().changes;
        changes.deleted_exemplars = self.would_delete_exemplars(tenant, entry, rules, cancel)?;
        Ok(report_of(tenant, entry, changes, if changes.is_any() { &windows } else { &[] }))
    }

    fn would_delete_exemplars(
        &self,
        tenant: &TenantId,
        entry: &BlockEntry,
        rules: &RewriteRules,
        cancel: &CancelToken,
    ) -> Result<u64, StoreError> {
        let Some(file) = block_files::files(entry).into_iter().find(|file| file.name == EXEMPLARS) else {
            return Ok(0);
        };
        let scratch = self.config().scratch_dir.join("looking").join(entry.ulid.to_string());
        let place = SidecarPlace {
            bucket: self.tenants().bucket(),
            runtime: self.runtime(),
            disk: self.disk(),
            tenant,
            dir: &scratch,
            cancel,
        };
        // One that does not read is left out, as by any merge.
        let found = place.sidecar(entry, &file, ExemplarFile::parse);
        let deleted = found.map(|file| file.map_or(0, |file| deleted_exemplars(&file, rules)));
        self.disk().remove_dir_all(&scratch).map_err(local(&scratch))?;
        deleted
    }
}

fn report_of(
    tenant: &TenantId,
    entry: &BlockEntry,
    changes: Changes,
    windows: &[Arc<BlockEntry>],
) -> RewrittenBlock {
    RewrittenBlock {
        tenant: tenant.to_string(),
        block: entry.ulid.to_string(),
        rewritten_to: None,
        changes,
        bytes: entry.bytes,
        bytes_after: 0,
        windows: windows.iter().map(|b| b.ulid.to_string()).collect(),
        committed: false,
        refused: None,
    }
}

fn spec_of(entry: &BlockEntry, windows: &[Arc<BlockEntry>]) -> JobSpec {
    JobSpec {
        kind: JobKind::Rewrite,
        inputs: vec![entry.ulid],
        replaces: std::iter::once(entry.ulid).chain(windows.iter().map(|b| b.ulid)).collect(),
        outputs: 1,
        min_time: entry.min_time,
        max_time: entry.max_time,
        bytes: entry.bytes,
    }
}

/// Refuses blocks of windows whose raw blocks are not chosen with them.
fn check_windows(state: &ManifestState, chosen: &[Arc<BlockEntry>]) -> Result<(), StoreError> {
    let raw: BTreeSet<BlockId> = chosen.iter().filter(|b| b.resolution == 0).map(|b| b.ulid).collect();
    for windows in chosen.iter().filter(|b| b.resolution > 0) {
        let of = raw_of(state, windows);
        let missing: Vec<String> =
            of.iter().filter(|id| !raw.contains(id)).map(ToString::to_string).collect();
        let gone = !held_by_raw(state, windows);
        if gone || of.is_empty() || !missing.is_empty() {
            let block = windows.ulid;
            let what = match gone || of.is_empty() {
                true => {
                    "their raw samples are gone: delete the series through the API, or mark the block for \
                         deletion"
                        .to_owned()
                }
                false => format!(
                    "they are made anew from raw blocks: choose these, too, or --resolution=raw alone: {}",
                    missing.join(" ")
                ),
            };
            let text = format!("blocks of windows are not rewritten by themselves, {what}: block={block}");
            return Err(StoreError::new(ErrorKind::Invalid, text));
        }
    }
    Ok(())
}

/// Live raw blocks that have something of what a block of windows was made from.
fn raw_of(state: &ManifestState, windows: &BlockEntry) -> Vec<BlockId> {
    let raw = state.blocks.values().filter(|b| b.resolution == 0 && shares(b, windows));
    raw.map(|b| b.ulid).collect()
}

/// Whether live raw blocks have all that a block of windows was made from.
fn held_by_raw(state: &ManifestState, windows: &BlockEntry) -> bool {
    let raw = state.blocks.values().filter(|b| b.resolution == 0);
    let raw: Vec<(Shard, &Arc<BlockEntry>)> = raw.map(|b| (Shard::of(b), b)).collect();
    let own = Shard::of(windows);
    let held = |source: &BlockId| {
        let holders = raw.iter().filter(|(_, b)| b.sources.contains(source));
        cover(holders.map(|(shard, _)| *shard), own)
    };
    !windows.sources.is_empty() && windows.sources.iter().all(held)
}

fn shares(raw: &BlockEntry, windows: &BlockEntry) -> bool {
    let made_of = || Origin::of(windows).is_some_and(|origin| origin.from.contains(&raw.ulid));
    let shares = raw.sources.iter().any(|source| windows.sources.contains(source)) || made_of();
    shares && Shard::of(raw).meets(Shard::of(windows))
}

/// Live blocks of windows with something of a raw block. Refuses those that cannot be made anew.
fn windows_of(state: &ManifestState, raw: &BlockEntry) -> Result<Vec<Arc<BlockEntry>>, StoreError> {
    let windows = state.blocks.values().filter(|b| b.resolution > 0 && shares(raw, b));
    let windows: Vec<Arc<BlockEntry>> = windows.cloned().collect();
    match windows.iter().find(|windows| !held_by_raw(state, windows)) {
        None => Ok(windows),
        Some(windows) => Err(StoreError::new(
            ErrorKind::Invalid,
            format!(
                "windows of a raw block cannot be made anew, as others of their raw blocks are gone: delete the \
                 series through the API instead: block={} windows={}",
                raw.ulid, windows.ulid
            ),
        )),
    }
}

impl Work<'_> {
    /// Rewrites the one input into the scratch directory: `Some(None)` if nothing is left of it. `None` if the
    /// rules change nothing.
    pub(super) fn rewrite(&self, rewrite: &Rewrite) -> Result<Option<Option<Block>>, WorkError> {
        let (Some(&output), [entry]) = (self.outputs.first(), self.inputs.as_slice()) else {
            return Err(StoreError::new(ErrorKind::Internal, "a rewrite has one input and one output").into());
        };
        let damaged = Arc::new(Mutex::new(None));
        let blame = |error: StoreError| {
            let damaged = if error.kind() == ErrorKind::Corrupt { damaged.lock().take() } else { None };
            WorkError { error, damaged }
        };
        let rules = &rewrite.rules;
        let (metas, beside) = self.fetch_beside()?;
        let (Some(meta), Some(beside)) = (metas.into_iter().next(), beside.into_iter().next()) else {
            return Err(StoreError::new(ErrorKind::Internal, "an input without meta").into());
        };
        let (kept, deleted_exemplars) = match &beside.exemplars {
            Some(file) => exemplars(self.disk, &self.scratch.join("exemplars"), file, rules)?,
            None => (None, 0),
        };
        let log_file = self.scratch.join(CHANGE_LOG);
        let log = Arc::new(Mutex::new(ChangeLog::create(&**self.disk, &log_file)?));
        let series = self.reader().whole_block(
            self.tenant,
            entry.clone(),
            None,
            self.deletes.clone(),
            Arc::default(),
            &self.ctx,
        );
        let series = Box::new(Blamed { series, block: entry.ulid, damaged: damaged.clone() });
        let rewritten = |series: Box<dyn SeriesSet>, stage| {
            Rewritten::new(&self.ctx, series, rules.clone(), log.clone(), stage)
        };
        let series: Box<dyn SeriesSet> = if rules.relabels() {
            // Labels change the order: what is deleted is gone before it is sorted.
            let (runs, range) = (self.scratch.join("runs"), entry.range());
            let first = rewritten(series, Stage::Delete);
            match spool(self.disk, &runs, 0, range, Box::new(first), &self.ctx).map_err(blame)? {
                Some(block) => {
                    let all = SelectHints::default();
                    let series = block.select(&self.ctx, &[], TimeRange::ALL, &all)?;
                    sorted(self.disk, &runs, range, rewritten(series, Stage::Relabel), &self.ctx)?
                }
                None => Box::new(Nothing),
            }
        } else {
            Box::new(rewritten(series, Stage::Delete))
        };
        let source = Source {
            replica: String::new(),
            meta: noted(unsharded(self.listed_meta(entry, meta), rules), rules),
            series,
            deletes_through: beside.deletes.through.max(deletes_through(entry)).max(self.honoured()),
            exemplars: kept.as_ref().and_then(|block| block.exemplar_file().ok().flatten()),
            metadata: beside.metadata.as_ref(),
        };
        let made = merge_sources(self.disk, &self.scratch, output, vec![source], &self.ctx).map_err(blame)?;
        let mut log = log.lock();
        log.finish()?;
        log.changes.deleted_exemplars = deleted_exemplars;
        *rewrite.changes.lock() = log.changes;
        if !log.changes.is_any() {
            return Ok(None);
        }
        let Some(meta) = made else { return Ok(Some(None)) };
        let dir = self.scratch.join(meta.ulid.to_string());
        let local =
            |source| crate::error::BucketError::Local { file: log_file.display().to_string(), source };
        self.disk.rename(&log_file, &dir.join(CHANGE_LOG)).map_err(local)?;
        let block = Block::open(&**self.disk, &dir).map_err(StoreError::from)?;
        block.verify(&self.ctx)?;
        *rewrite.made.lock() = Some((block.meta().ulid, block.bytes()));
        Ok(Some(Some(block)))
    }
}

/// The meta of a block that is rewritten: series that get other labels belong to other shards.
fn unsharded(mut meta: BlockMeta, rules: &RewriteRules) -> BlockMeta {
    if rules.relabels() {
        name_shard(&mut meta, Shard::WHOLE);
    }
    meta
}

/// The meta of a block that is rewritten, with a note of the rules.
fn noted(mut meta: BlockMeta, rules: &RewriteRules) -> BlockMeta {
    let note = rules.note(&meta.compaction.sources);
    let thanos = meta.thanos.get_or_insert_default();
    thanos.rewrites.push(note);
    "bucket.rewrite".clone_into(&mut thanos.source);
    meta
}

/// No series.
struct Nothing;

impl SeriesSet for Nothing {
    fn next_batch(&mut self, _: usize, batch: &mut SeriesBatch) -> Result<bool, StoreError> {
        batch.clear();
        Ok(false)
    }
}
