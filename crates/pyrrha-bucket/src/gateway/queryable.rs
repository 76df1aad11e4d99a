//! Head and local blocks, and the bucket's blocks beside them, as one source without duplicates.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;

use pyrrha_env::Clock;
use pyrrha_model::contract::{
    Exemplars, LabelQuery, QueryContext, Queryable, SelectHints, SeriesSet, WindowHints,
};
use pyrrha_model::{Labels, Matcher, Metadata, StoreError, TenantId, TimeRange, Timestamp};
use pyrrha_storage::block::BlockId;
use pyrrha_storage::manifest::BlockEntry;

use super::block::BucketBlock;
use super::foreign::ForeignBlock;
use super::pace::{Pace, Paced};
use super::questions::{ask_each, names_of, series_of, union, values_of};
use super::set::BucketSet;
use super::sidecars::{add_metadata, exemplars_of, has_exemplars, newest_with_metadata, union_of_exemplars};
use super::stream::Selection;
use super::{Chosen, Gateway, Parts};
use crate::external::{ByReplica, Way};
use crate::jobs::Retention;

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
        let hidden = |block: &BlockEntry| is_within(block, &local);
        let horizon = |resolution| self.horizon(&ctx.tenant, resolution);
        match self.gateway.tenants.to_read(&ctx.tenant) {
            Ok(None) => Ok(Parts::default()),
            Ok(Some(manifest)) => {
                Ok(self.gateway.parts(&ctx.tenant, &manifest.current(), range, hints, hidden, horizon))
            }
            Err(error) if ctx.partial_response => {
                ctx.notices.gap(range, error.to_string());
                Ok(Parts::default())
            }
            Err(error) => Err(error),
        }
    }

    /// What the local store answered and what the blocks beside it answer, as one.
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
        let blocks = self.blocks(ctx, query.range, &any)?.blocks.into_iter().map(|(block, _)| block);
        let ask = |block| ask(block, ctx.clone(), query.clone());
        union(ctx, query, local, ask_each(&self.gateway.runtime, ctx, blocks, ask)?)
    }
}

/// Whether all that a block was made from is in `local`.
fn is_within(block: &BlockEntry, local: &BTreeSet<BlockId>) -> bool {
    !block.sources.is_empty() && block.sources.iter().all(|source| local.contains(source))
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
        let (mut outer, shared): (_, Arc<[Matcher]>) = (Vec::new(), matchers.into());
        for (block, Chosen { range, only, .. }) in blocks {
            if !block.external.changes_nothing() {
                let block = ForeignBlock {
                    runtime: self.gateway.runtime.clone(),
                    horizon: self.horizon(&ctx.tenant, block.entry.resolution),
                    deletes: deletes.clone(),
                    block,
                    only,
                };
                outer.push((block, range));
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
                only,
                pace: pace.clone(),
                tells_gone: false,
            };
            sources.push(Box::new(BucketSet::start(self.gateway.runtime.handle(), selection)));
        }
        let mut replicas = ByReplica::new(way);
        replicas.select(ctx, outer, matchers, &hints)?;
        sources.extend(replicas.merged(ctx));
        sources.push(local);
        Ok(Box::new(Paced::new(pyrrha_storage::merge(ctx, sources, hints.limit), pace)))
    }

    fn label_names(&self, ctx: &QueryContext, query: &LabelQuery) -> Result<Vec<String>, StoreError> {
        self.union(ctx, query, self.local.label_names(ctx, query)?, |block, ctx, query| {
            names_of(block, ctx, query)
        })
    }

    fn label_values(
        &self,
        ctx: &QueryContext,
        name: &str,
        query: &LabelQuery,
    ) -> Result<Vec<String>, StoreError> {
        let local = self.local.label_values(ctx, name, query)?;
        self.union(ctx, query, local, |block, ctx, query| values_of(block, ctx, name.to_owned(), query))
    }

    fn series(&self, ctx: &QueryContext, query: &LabelQuery) -> Result<Vec<Labels>, StoreError> {
        self.union(ctx, query, self.local.series(ctx, query)?, |block, ctx, query| {
            series_of(block, ctx, query)
        })
    }

    fn exemplars(&self, ctx: &QueryContext, query: &LabelQuery) -> Result<Vec<Exemplars>, StoreError> {
        let local = self.local.exemplars(ctx, query)?;
        // Pinned after the local store, as for samples. Windows have no exemplars.
        let blocks = self.blocks(ctx, query.range, &SelectHints::default())?.blocks.into_iter();
        let blocks = blocks.map(|(block, _)| block).filter(|block| has_exemplars(&block.entry));
        let ask = |block| exemplars_of(block, ctx.clone(), query.clone());
        union_of_exemplars(ctx, query, local, ask_each(&self.gateway.runtime, ctx, blocks, ask)?)
    }

    fn metadata(
        &self,
        ctx: &QueryContext,
        metric: Option<&str>,
    ) -> Result<BTreeMap<String, Vec<Metadata>>, StoreError> {
        let mut found = self.local.metadata(ctx, metric)?;
        if metric.is_some() && !found.is_empty() {
            return Ok(found);
        }
        let local = (self.sources)(&ctx.tenant);
        match self.gateway.tenants.to_read(&ctx.tenant) {
            Ok(Some(manifest)) => {
                let newest = newest_with_metadata(&manifest.current(), |block| is_within(block, &local));
                let blocks = newest.into_iter().map(|entry| self.gateway.block(&ctx.tenant, entry));
                add_metadata(&self.gateway.runtime, ctx, blocks, metric, &mut found)?;
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(tenant = %ctx.tenant, %error, "metadata in the bucket is left out"),
        }
        Ok(found)
    }
}
