//! Blocks that no manifest names, read as those of a manifest are: the door to the gateway for attached
//! buckets.

use std::collections::BTreeSet;
use std::sync::Arc;

use pyrrha_env::Disk;
use pyrrha_index::RoaringBitmap;
use pyrrha_model::contract::{LabelQuery, QueryContext, SelectHints, SeriesSet};
use pyrrha_model::{Labels, Matcher, StoreError, TimeRange};
use pyrrha_storage::manifest::BlockEntry;

use super::GatewayConfig;
use super::block::{BucketBlock, Opened, Place};
use super::budget::Reserved;
use super::pages::{CacheStats, Caches};
use super::queryable::{matching, names_of, series_of, values_of};
use super::rows::Rows;
use super::set::BucketSet;
use super::stream::Selection;
use crate::door::Bucket;
use crate::runtime::BucketRuntime;

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

    /// What the cache in memory holds and did.
    pub(crate) fn cache_stats(&self) -> CacheStats {
        self.caches.memory.stats()
    }

    /// The block in directory `key` of the bucket. Nothing is fetched yet.
    pub(crate) fn block(&self, key: &str, entry: Arc<BlockEntry>) -> ForeignBlock {
        let place = Place {
            bucket: self.bucket.clone(),
            disk: self.disk.clone(),
            caches: self.caches.clone(),
            key: key.to_owned(),
            kept: self.config.cache_dir.join(format!("{key}.header")),
        };
        let block = Arc::new(BucketBlock::at(place, entry));
        ForeignBlock { runtime: self.runtime.clone(), block }
    }
}

/// A block that is read in place.
#[derive(Debug, Clone)]
pub(crate) struct ForeignBlock {
    runtime: Arc<BucketRuntime>,
    block: Arc<BucketBlock>,
}

impl ForeignBlock {
    pub(crate) fn entry(&self) -> &Arc<BlockEntry> {
        &self.block.entry
    }

    /// Its series in the order of their labels without those named `without`, which come along.
    pub(crate) fn select(
        &self,
        ctx: &QueryContext,
        matchers: Vec<Matcher>,
        range: TimeRange,
        hints: SelectHints,
        without: Arc<[String]>,
    ) -> Box<dyn SeriesSet> {
        let selection = Selection {
            block: self.block.clone(),
            ctx: ctx.clone(),
            matchers,
            range,
            hints,
            deletes: Arc::default(),
            horizon: None,
            leave_out: Arc::default(),
            without,
        };
        Box::new(BucketSet::start(self.runtime.handle(), selection))
    }

    /// The values that a label has in it; none if no series has it. Waits for requests if it is not open.
    pub(crate) fn values(&self, ctx: &QueryContext, name: &str) -> Result<Vec<String>, StoreError> {
        let all = LabelQuery::all(TimeRange::ALL);
        let answer = values_of(self.block.clone(), ctx.clone(), name.to_owned(), all);
        self.runtime.wait_while(&ctx.cancel, async move { Ok(answer.await) })?
    }

    /// Whether a series satisfies the query.
    pub(crate) async fn any(self, ctx: QueryContext, query: LabelQuery) -> Result<bool, StoreError> {
        let opened = self.block.open(&ctx).await?;
        Ok(!matching(&self.block, &ctx, opened, &query).await?.is_empty())
    }

    /// Names of labels of the series that the query asks for.
    pub(crate) async fn label_names(
        self,
        ctx: QueryContext,
        query: LabelQuery,
    ) -> Result<Vec<String>, StoreError> {
        names_of(self.block, ctx, query).await
    }

    /// Values of a label of the series that the query asks for.
    pub(crate) async fn label_values(
        self,
        ctx: QueryContext,
        name: String,
        query: LabelQuery,
    ) -> Result<Vec<String>, StoreError> {
        values_of(self.block, ctx, name, query).await
    }

    /// The series that the query asks for.
    pub(crate) async fn series(
        self,
        ctx: QueryContext,
        query: LabelQuery,
    ) -> Result<Vec<Labels>, StoreError> {
        series_of(self.block, ctx, query).await
    }
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
) -> Result<(Rows<'b>, Reserved), StoreError> {
    let mut reserved = Reserved::new(ctx, 0)?;
    let has = |name: &String| opened.header.value_count(name) > 0;
    if !without.iter().any(has) {
        return Ok((Rows::new(block, opened, series), reserved));
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
    Ok((Rows::in_order(block, opened, order.into_iter()), reserved))
}
