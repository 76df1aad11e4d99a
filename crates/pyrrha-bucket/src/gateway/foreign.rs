//! Blocks with external labels, whether a manifest names them or not: the door to the gateway for attached
//! buckets, and for blocks that were adopted from others.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use futures::stream::StreamExt;
use pyrrha_env::Disk;
use pyrrha_index::RoaringBitmap;
use pyrrha_model::contract::{LabelQuery, QueryContext, SelectHints, SeriesSet};
use pyrrha_model::{Matcher, StoreError, TimeRange, Timestamp};
use pyrrha_storage::manifest::BlockEntry;

use super::GatewayConfig;
use super::block::{BucketBlock, Opened, Place};
use super::budget::Reserved;
use super::pages::{Caches, GatewayStats};
use super::questions::{BLOCKS_AT_ONCE, stored_values};
use super::rows::Rows;
use super::set::BucketSet;
use super::stream::Selection;
use crate::deletes::Standing;
use crate::door::Bucket;
use crate::external::{External, Way};
use crate::runtime::BucketRuntime;
use crate::shard::Residues;

/// Reads blocks of a bucket wherever they are in it.
#[derive(Debug, Clone)]
pub(crate) struct ForeignReader {
    bucket: Bucket,
    runtime: Arc<BucketRuntime>,
    disk: Arc<dyn Disk>,
    config: GatewayConfig,
    caches: Arc<Caches>,
}

impl ForeignReader {
    pub(crate) fn new(
        bucket: Bucket,
        runtime: Arc<BucketRuntime>,
        disk: Arc<dyn Disk>,
        config: GatewayConfig,
    ) -> Self {
        let caches = Arc::new(Caches::new(disk.clone(), &config));
        Self { bucket, runtime, disk, config, caches }
    }

    pub(crate) fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    pub(crate) fn runtime(&self) -> &Arc<BucketRuntime> {
        &self.runtime
    }

    /// What the caches hold and did.
    pub(crate) fn stats(&self) -> GatewayStats {
        self.caches.stats()
    }

    /// Removes headers of blocks that are in none of these directories of the bucket.
    pub(crate) fn sweep<'d>(&self, live: impl Iterator<Item = &'d str>) {
        let mut by_parent: BTreeMap<&str, HashSet<&str>> = BTreeMap::new();
        for dir in live {
            let (parent, name) = dir.rsplit_once('/').unwrap_or(("", dir));
            by_parent.entry(parent).or_default().insert(name);
        }
        let root = &self.config.cache_dir;
        let listed =
            if self.disk.exists(root) { self.disk.list(root).unwrap_or_default() } else { Vec::new() };
        let dirs = listed.iter().filter(|entry| entry.is_dir).map(|entry| entry.name.as_str());
        for parent in std::iter::once("").chain(dirs) {
            let names = by_parent.get(parent);
            let is_live = |name: &str| names.is_some_and(|names| names.contains(name));
            super::header::sweep(&*self.disk, &root.join(parent), is_live);
        }
    }

    /// The block in directory `key` of the bucket. Nothing is fetched yet.
    pub(crate) fn block(&self, key: &str, entry: Arc<BlockEntry>, external: External) -> ForeignBlock {
        let place = Place {
            bucket: self.bucket.clone(),
            disk: self.disk.clone(),
            caches: self.caches.clone(),
            key: key.to_owned(),
            kept: self.config.cache_dir.join(format!("{key}.header")),
        };
        let block = Arc::new(BucketBlock::at(place, entry, external));
        ForeignBlock {
            runtime: self.runtime.clone(),
            block,
            deletes: Arc::default(),
            horizon: None,
            only: None,
        }
    }
}

/// A block whose series have external labels too.
#[derive(Debug, Clone)]
pub(crate) struct ForeignBlock {
    pub(super) runtime: Arc<BucketRuntime>,
    pub(super) block: Arc<BucketBlock>,
    /// Deletes that stand.
    pub(super) deletes: Arc<[Standing]>,
    /// Samples before this moment are past retention.
    pub(super) horizon: Option<Timestamp>,
    /// The series that it answers for, if not all.
    pub(super) only: Option<Residues>,
}

impl ForeignBlock {
    /// The same, which answers for these series.
    pub(crate) fn answering(self, only: Option<Residues>) -> Self {
        Self { only, ..self }
    }

    pub(crate) fn entry(&self) -> &Arc<BlockEntry> {
        &self.block.entry
    }

    /// Its series in the order of their labels without those that are dropped, which come along.
    pub(crate) fn select(
        &self,
        ctx: &QueryContext,
        matchers: Vec<Matcher>,
        range: TimeRange,
        hints: SelectHints,
        way: &Way,
    ) -> Box<dyn SeriesSet> {
        let selection = Selection {
            pace: way.pace.clone(),
            tells_gone: way.tells_gone,
            block: self.block.clone(),
            ctx: ctx.clone(),
            matchers: matchers.into(),
            range,
            hints,
            deletes: self.deletes.clone(),
            horizon: self.horizon,
            leave_out: Arc::default(),
            without: self.external().dropped(),
            only: self.only.clone(),
        };
        Box::new(BucketSet::start(self.runtime.handle(), selection))
    }

    /// What reads it.
    pub(crate) fn block(&self) -> &Arc<BucketBlock> {
        &self.block
    }

    /// The labels that its series have beside those in it.
    pub(crate) fn external(&self) -> &External {
        &self.block.external
    }
}

/// Values of labels in a block, by name.
pub(crate) type InnerValues = Vec<(String, Vec<String>)>;

/// The values, `most` at most of each, that labels which tell replicas apart have in the series of blocks, in
/// the order of the blocks. Those that have to be asked are, some at a time; waits for requests of those that
/// are not open.
pub(crate) fn inner_values(
    ctx: &QueryContext,
    blocks: &[&ForeignBlock],
    most: usize,
) -> Result<Vec<Result<InnerValues, StoreError>>, StoreError> {
    let names =
        |block: &ForeignBlock| -> Vec<String> { block.external().inner_replica_names().cloned().collect() };
    let asked: Vec<_> = blocks.iter().map(|block| (block.block.clone(), names(block))).collect();
    let Some(any) = blocks.first().filter(|_| asked.iter().any(|(_, names)| !names.is_empty())) else {
        return Ok(asked.iter().map(|_| Ok(Vec::new())).collect());
    };
    let (all, ctx) = (LabelQuery { limit: most, ..LabelQuery::all(TimeRange::ALL) }, ctx.clone());
    let cancel = ctx.cancel.clone();
    let questions = asked.into_iter().map(move |(block, names)| {
        let (all, ctx) = (all.clone(), ctx.clone());
        async move {
            let mut found = Vec::with_capacity(names.len());
            for name in names {
                let values = stored_values(block.clone(), ctx.clone(), name.clone(), all.clone()).await?;
                found.push((name, values));
            }
            Ok(found)
        }
    });
    let questions: Vec<_> = questions.collect();
    let answers = async move {
        Ok(futures::stream::iter(questions).buffered(BLOCKS_AT_ONCE).collect::<Vec<_>>().await)
    };
    Ok(any.runtime.wait_while(&cancel, answers)?)
}

/// The entries of `series` in the order of their labels without those of these names. Where the block has
/// none of them that is its own order; else all entries are read, sorted in memory of the query, and
/// read again.
pub(super) async fn rows_without<'b>(
    block: &'b BucketBlock,
    opened: &'b Opened,
    ctx: &QueryContext,
    series: RoaringBitmap,
    without: &[String],
    at_once: usize,
) -> Result<(Rows<'b>, Reserved), StoreError> {
    let mut reserved = Reserved::new(ctx, 0)?;
    let has = |name: &String| opened.header.value_count(name) > 0;
    if !without.iter().any(has) {
        return Ok((Rows::new(block, opened, series).at_once(at_once), reserved));
    }
    let mut rows = Rows::new(block, opened, series);
    let (mut order, mut dropped, mut kept) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    loop {
        let group = rows.next(ctx).await?;
        if group.is_empty() {
            break;
        }
        for (series, row) in group {
            reserved.grow((size_of_val(&row.labels[..]) + 40) as u64)?;
            let mut labels = row.labels;
            for &(name, _) in &labels {
                if !dropped.contains(&name) && !kept.contains(&name) {
                    let text = opened.header.symbol(name).map_err(|e| block.blame(e))?;
                    if without.iter().any(|w| w == text) {
                        dropped.insert(name)
                    } else {
                        kept.insert(name)
                    };
                }
            }
            labels.retain(|(name, _)| !dropped.contains(name));
            labels.shrink_to_fit();
            // References ascend as their texts do.
            order.push((labels, series));
        }
    }
    order.sort_unstable();
    let order: Vec<u32> = order.into_iter().map(|(_, series)| series).collect();
    Ok((Rows::in_order(block, opened, order.into_iter()).at_once(at_once), reserved))
}
