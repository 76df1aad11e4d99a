//! Head and local blocks, and the bucket's blocks beside them, as one source without duplicates.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;

use futures::stream::StreamExt;
use pyrrha_env::Clock;
use pyrrha_index::{KnownLists, RoaringBitmap, SeriesRow, label_values};
use pyrrha_model::contract::{
    Exemplars, LabelQuery, QueryContext, Queryable, SelectHints, SeriesSet, WindowHints,
};
use pyrrha_model::{Labels, Matcher, Metadata, StoreError, TenantId, TimeRange, Timestamp};
use pyrrha_storage::block::BlockId;
use pyrrha_storage::manifest::BlockEntry;

use super::block::{BucketBlock, Opened};
use super::budget::Reserved;
use super::foreign::{ForeignBlock, outer_names, outer_series, outer_values};
use super::pace::{Pace, Paced};
use super::rows::Rows;
use super::set::BucketSet;
use super::stream::Selection;
use super::{Gateway, Parts};
use crate::external::{ByReplica, Way};
use crate::jobs::Retention;

/// Blocks that are asked for labels at once.
const BLOCKS_AT_ONCE: usize = 8;

/// Gives the level-1 blocks whose data the local store holds in blocks.
pub type LocalSources = Arc<dyn Fn(&TenantId) -> BTreeSet<BlockId> + Send + Sync>;

/// A local store and the bucket as one.
///
/// A block of the bucket is left out while the local store has all that it was made from. What is
/// read is pinned in this order: the local store, the list of its blocks, the manifest. A local
/// block is removed only after the manifest names it, so it is seen in one of them; should it be
/// seen in both, equal samples count once in the merge.
pub struct BucketQueryable {
    local: Arc<dyn Queryable>,
    sources: LocalSources,
    gateway: Arc<Gateway>,
    retention: Option<(Arc<Retention>, Arc<dyn Clock>)>,
}

impl BucketQueryable {
    /// Reads `local`, which has blocks made from `sources`, and the blocks behind `gateway`.
    pub fn new(local: Arc<dyn Queryable>, sources: LocalSources, gateway: Arc<Gateway>) -> Self {
        Self { local, sources, gateway, retention: None }
    }

    /// Hides samples of the bucket that are past retention, by the wall clock as it is: should it be
    /// wrong, they are back when it is right.
    pub fn with_retention(self, retention: Retention, clock: Arc<dyn Clock>) -> Self {
        Self { retention: Some((Arc::new(retention), clock)), ..self }
    }

    /// The time before which samples of a resolution are past retention.
    fn horizon(&self, tenant: &TenantId, resolution: i64) -> Option<Timestamp> {
        let (retention, clock) = self.retention.as_ref()?;
        retention.horizon(tenant, resolution, clock.now_ms())
    }

    /// The bucket's blocks that a query of `range` has to read beside the local store, and for which
    /// times each.
    fn blocks(&self, ctx: &QueryContext, range: TimeRange, hints: &SelectHints) -> Result<Parts, StoreError> {
        let local = (self.sources)(&ctx.tenant);
        let hidden = |block: &BlockEntry| {
            let past = |horizon| block.max_time <= horizon || range.end < horizon;
            if self.horizon(&ctx.tenant, block.resolution).is_some_and(past) {
                return true;
            }
            !block.sources.is_empty() && block.sources.iter().all(|source| local.contains(source))
        };
        match self.gateway.tenants.manifest(&ctx.tenant) {
            Ok(manifest) => Ok(self.gateway.parts(&ctx.tenant, &manifest.current(), range, hints, hidden)),
            Err(error) if ctx.partial_response => {
                ctx.notices.gap(range, error.to_string());
                Ok(Parts::default())
            }
            Err(error) => Err(error),
        }
    }

    /// What the local store answered and what the blocks beside it answer, as one. Some blocks are asked
    /// at a time.
    fn union<T, F>(
        &self,
        ctx: &QueryContext,
        query: &LabelQuery,
        local: Vec<T>,
        ask: impl Fn(Arc<BucketBlock>, QueryContext, LabelQuery) -> F,
    ) -> Result<Vec<T>, StoreError>
    where
        T: Ord + Send + 'static,
        F: Future<Output = Result<Vec<T>, StoreError>> + Send + 'static,
    {
        // Labels are the same in windows, which may be all that is left.
        let any = SelectHints { windows: Some(WindowHints::default()), ..SelectHints::default() };
        let blocks = self.blocks(ctx, query.range, &any)?.blocks;
        let questions: Vec<_> = blocks
            .into_iter()
            .map(|(block, _)| {
                let (missing, answer) = (block.range(), ask(block, ctx.clone(), query.clone()));
                async move { (missing, answer.await) }
            })
            .collect();
        let answers = async move {
            Ok(futures::stream::iter(questions).buffer_unordered(BLOCKS_AT_ONCE).collect::<Vec<_>>().await)
        };
        let answers = self.gateway.runtime.wait_while(&ctx.cancel, answers)?;
        let remote = answers.into_iter().map(|(missing, answer)| match answer {
            Err(error) if ctx.partial_response => {
                ctx.notices.gap(missing, error.to_string());
                Ok(Vec::new())
            }
            answer => answer,
        });
        query.union(std::iter::once(Ok(local)).chain(remote))
    }
}

impl Queryable for BucketQueryable {
    fn select(
        &self,
        ctx: &QueryContext,
        matchers: &[Matcher],
        range: TimeRange,
        hints: &SelectHints,
    ) -> Result<Box<dyn SeriesSet>, StoreError> {
        if self.blocks(ctx, range, hints)?.blocks.is_empty() {
            let local = self.local.select(ctx, matchers, range, hints)?;
            // It is the whole answer if nothing went from there to the bucket meanwhile.
            if self.blocks(ctx, range, hints)?.blocks.is_empty() {
                return Ok(local);
            }
        }
        let hints = hints.with_all_labels();
        let local = self.local.select(ctx, matchers, range, &hints)?;
        let mut sources: Vec<Box<dyn SeriesSet>> = Vec::new();
        let Parts { blocks, warnings, deletes } = self.blocks(ctx, range, &hints)?;
        warnings.into_iter().for_each(|warning| ctx.notices.warn(warning));
        let pace = Pace::of(ctx, blocks.iter().map(|(block, _)| &*block.entry));
        let way = Way { pace: pace.clone(), from: "".into(), tells_gone: false };
        let (mut outer, shared): (_, Arc<[Matcher]>) = (ByReplica::new(way), matchers.into());
        for (block, range) in blocks {
            if !block.external.changes_nothing() {
                let external = block.external.clone();
                let block = ForeignBlock {
                    runtime: self.gateway.runtime.clone(),
                    horizon: self.horizon(&ctx.tenant, block.entry.resolution),
                    deletes: deletes.clone(),
                    block,
                };
                outer.select(ctx, (&block, range), &external, matchers, &hints)?;
                continue;
            }
            let selection = Selection {
                horizon: self.horizon(&ctx.tenant, block.entry.resolution),
                deletes: deletes.clone(),
                block,
                ctx: ctx.clone(),
                matchers: shared.clone(),
                range,
                hints: hints.clone(),
                leave_out: Arc::default(),
                without: Arc::default(),
                pace: pace.clone(),
                tells_gone: false,
            };
            sources.push(Box::new(BucketSet::start(self.gateway.runtime.handle(), selection)));
        }
        sources.extend(outer.merged(ctx));
        sources.push(local);
        Ok(Box::new(Paced::new(pyrrha_storage::merge(ctx, sources, hints.limit), pace)))
    }

    fn label_names(&self, ctx: &QueryContext, query: &LabelQuery) -> Result<Vec<String>, StoreError> {
        self.union(ctx, query, self.local.label_names(ctx, query)?, |block, ctx, query| {
            outer_names(block.clone(), block.external.clone(), ctx, query)
        })
    }

    fn label_values(
        &self,
        ctx: &QueryContext,
        name: &str,
        query: &LabelQuery,
    ) -> Result<Vec<String>, StoreError> {
        let local = self.local.label_values(ctx, name, query)?;
        self.union(ctx, query, local, |block, ctx, query| {
            outer_values(block.clone(), block.external.clone(), ctx, name.to_owned(), query)
        })
    }

    fn series(&self, ctx: &QueryContext, query: &LabelQuery) -> Result<Vec<Labels>, StoreError> {
        self.union(ctx, query, self.local.series(ctx, query)?, |block, ctx, query| {
            outer_series(block.clone(), block.external.clone(), ctx, query)
        })
    }

    fn exemplars(&self, ctx: &QueryContext, query: &LabelQuery) -> Result<Vec<Exemplars>, StoreError> {
        self.local.exemplars(ctx, query)
    }

    fn metadata(
        &self,
        ctx: &QueryContext,
        metric: Option<&str>,
    ) -> Result<BTreeMap<String, Vec<Metadata>>, StoreError> {
        self.local.metadata(ctx, metric)
    }
}

/// The series that the query asks for, whatever their time.
pub(super) async fn matching(
    block: &BucketBlock,
    ctx: &QueryContext,
    opened: &Opened,
    query: &LabelQuery,
) -> Result<RoaringBitmap, StoreError> {
    let mut found = RoaringBitmap::new();
    for matchers in query.sets() {
        found |= block.matching(ctx, opened, matchers).await?;
    }
    Ok(found)
}

pub(super) async fn names_of(
    block: Arc<BucketBlock>,
    ctx: QueryContext,
    query: LabelQuery,
) -> Result<Vec<String>, StoreError> {
    let opened = block.open(&ctx).await?;
    if query.matcher_sets.is_empty() {
        return Ok(opened.header.label_value_counts().map(|(name, _)| name.to_owned()).collect());
    }
    let found = matching(&block, &ctx, &opened, &query).await?;
    let mut rows = Rows::new(&block, &opened, found);
    let mut names = BTreeSet::new();
    loop {
        let group = rows.next(&ctx).await?;
        if group.is_empty() {
            break;
        }
        names.extend(group.iter().flat_map(|(_, row)| row.labels.iter().map(|&(name, _)| name)));
    }
    let text = |name| opened.header.symbol(name).map(str::to_owned).map_err(|e| block.blame(e));
    names.into_iter().map(text).collect()
}

pub(super) async fn values_of(
    block: Arc<BucketBlock>,
    ctx: QueryContext,
    name: String,
    query: LabelQuery,
) -> Result<Vec<String>, StoreError> {
    let opened = block.open(&ctx).await?;
    if query.matcher_sets.is_empty() {
        // The table of lists has all values.
        let known = KnownLists::new(&opened.header);
        return label_values(&known, &name, &[], query.limit, &ctx.cancel).map_err(|e| block.blame(e));
    }
    let found = matching(&block, &ctx, &opened, &query).await?;
    if found.len() >= u64::from(opened.header.value_count(&name)) {
        let values = block.values_within(&ctx, &opened, &name, &found).await?;
        return Ok(values.into_iter().collect());
    }
    let mut rows = Rows::new(&block, &opened, found);
    let mut values = BTreeSet::new();
    loop {
        let group = rows.next(&ctx).await?;
        if group.is_empty() {
            return Ok(values.into_iter().collect());
        }
        for (_, row) in &group {
            let labels = rows.labels(row)?;
            values.extend(labels.get(&name).map(str::to_owned));
        }
    }
}

pub(super) async fn series_of(
    block: Arc<BucketBlock>,
    ctx: QueryContext,
    query: LabelQuery,
) -> Result<Vec<Labels>, StoreError> {
    let opened = block.open(&ctx).await?;
    let found = matching(&block, &ctx, &opened, &query).await?;
    let mut reserved = Reserved::new(&ctx, found.serialized_size() as u64)?;
    let mut rows = Rows::new(&block, &opened, found);
    let mut all = Vec::new();
    while all.len() < query.most() {
        let group = rows.next(&ctx).await?;
        if group.is_empty() {
            break;
        }
        let in_range = |row: &SeriesRow| {
            row.chunks.iter().any(|c| TimeRange::new(c.min_time, c.max_time).overlaps(&query.range))
        };
        for (_, row) in group.iter().filter(|(_, row)| in_range(row)) {
            let labels = rows.labels(row)?;
            let text: usize = labels.iter().map(|l| l.name.len() + l.value.len() + 48).sum();
            reserved.grow(text as u64)?;
            all.push(labels);
        }
    }
    all.truncate(query.most());
    Ok(all)
}
