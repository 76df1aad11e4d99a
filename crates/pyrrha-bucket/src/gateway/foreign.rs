//! Blocks with external labels, whether a manifest names them or not: the door to the gateway for attached
//! buckets, and for blocks that were adopted from others.

use std::collections::BTreeSet;
use std::sync::Arc;

use pyrrha_env::Disk;
use pyrrha_index::RoaringBitmap;
use pyrrha_model::contract::{Delete, LabelQuery, QueryContext, SelectHints, SeriesSet};
use pyrrha_model::{Labels, Matcher, StoreError, TimeRange, Timestamp};
use pyrrha_storage::manifest::BlockEntry;

use super::GatewayConfig;
use super::block::{BucketBlock, Opened, Place};
use super::budget::Reserved;
use super::pages::{Caches, GatewayStats};
use super::queryable::{matching, names_of, series_of, values_of};
use super::rows::Rows;
use super::set::BucketSet;
use super::stream::Selection;
use crate::door::Bucket;
use crate::external::{External, Way};
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

    /// What the caches hold and did.
    pub(crate) fn stats(&self) -> GatewayStats {
        self.caches.stats()
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
        let block = Arc::new(BucketBlock::at(place, entry, External::default()));
        ForeignBlock { runtime: self.runtime.clone(), block, deletes: Arc::default(), horizon: None }
    }
}

/// A block whose series have external labels too.
#[derive(Debug, Clone)]
pub(crate) struct ForeignBlock {
    pub(super) runtime: Arc<BucketRuntime>,
    pub(super) block: Arc<BucketBlock>,
    /// Deletes that stand.
    pub(super) deletes: Arc<[Delete]>,
    /// Samples before this moment are past retention.
    pub(super) horizon: Option<Timestamp>,
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

    /// Names of labels of the series that the query asks for.
    pub(crate) async fn label_names(
        self,
        external: External,
        ctx: QueryContext,
        query: LabelQuery,
    ) -> Result<Vec<String>, StoreError> {
        outer_names(self.block, external, ctx, query).await
    }

    /// Values of a label of the series that the query asks for.
    pub(crate) async fn label_values(
        self,
        external: External,
        ctx: QueryContext,
        name: String,
        query: LabelQuery,
    ) -> Result<Vec<String>, StoreError> {
        outer_values(self.block, external, ctx, name, query).await
    }

    /// The series that the query asks for.
    pub(crate) async fn series(
        self,
        external: External,
        ctx: QueryContext,
        query: LabelQuery,
    ) -> Result<Vec<Labels>, StoreError> {
        outer_series(self.block, external, ctx, query).await
    }
}

/// Names of labels of the series that a query asks for, external ones among them.
pub(super) async fn outer_names(
    block: Arc<BucketBlock>,
    external: External,
    ctx: QueryContext,
    query: LabelQuery,
) -> Result<Vec<String>, StoreError> {
    if external.changes_nothing() {
        return names_of(block, ctx, query).await;
    }
    let Some(left) = external.left_of_query(&query) else { return Ok(Vec::new()) };
    let mut names = names_of(block, ctx, left).await?;
    names.retain(|name| external.shows(name));
    if !names.is_empty() {
        names.extend(external.injected().map(|(name, _)| name.to_owned()));
    }
    Ok(names)
}

/// Values of a label, maybe an external one, of the series that a query asks for.
pub(super) async fn outer_values(
    block: Arc<BucketBlock>,
    external: External,
    ctx: QueryContext,
    name: String,
    query: LabelQuery,
) -> Result<Vec<String>, StoreError> {
    if external.changes_nothing() {
        return values_of(block, ctx, name, query).await;
    }
    let Some(left) = external.left_of_query(&query) else { return Ok(Vec::new()) };
    if !external.shows(&name) {
        return Ok(Vec::new());
    }
    let Some((_, value)) = external.injected().find(|(n, _)| *n == name) else {
        return values_of(block, ctx, name, left).await;
    };
    let opened = block.open(&ctx).await?;
    let any = !matching(&block, &ctx, &opened, &left).await?.is_empty();
    Ok(if any { vec![value.to_owned()] } else { Vec::new() })
}

/// The series that a query asks for, with external labels.
pub(super) async fn outer_series(
    block: Arc<BucketBlock>,
    external: External,
    ctx: QueryContext,
    query: LabelQuery,
) -> Result<Vec<Labels>, StoreError> {
    if external.changes_nothing() {
        return series_of(block, ctx, query).await;
    }
    let Some(left) = external.left_of_query(&query) else { return Ok(Vec::new()) };
    let series = series_of(block, ctx, left).await?;
    Ok(series.iter().map(|labels| external.of_series(labels)).collect())
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
