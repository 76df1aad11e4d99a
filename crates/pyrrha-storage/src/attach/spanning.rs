//! A store and the blocks attached to it as one source.

use std::collections::BTreeMap;
use std::sync::Arc;

use pyrrha_model::contract::{Exemplars, LabelQuery, QueryContext, Queryable, SelectHints, SeriesSet};
use pyrrha_model::{Labels, Matcher, Metadata, StoreError, TimeRange};

use super::Attached;
use crate::block::Block;
use crate::query::merge;

/// Reads of a store and of what is attached to the tenant that asks. Where both have a sample of
/// the same time, one of them is read, as of overlapping blocks.
pub struct Spanning {
    store: Arc<dyn Queryable>,
    attached: Vec<Arc<Attached>>,
}

impl Spanning {
    /// Puts `attached` beside `store`.
    pub fn new(store: Arc<dyn Queryable>, attached: Vec<Arc<Attached>>) -> Self {
        Self { store, attached }
    }

    /// Attached blocks that a query has to read.
    fn blocks(&self, ctx: &QueryContext, range: TimeRange) -> Vec<Block> {
        let attached = self.attached.iter().filter(|a| *a.tenant() == ctx.tenant);
        let all = attached.flat_map(|a| a.blocks().to_vec());
        all.filter(|block| block.meta().range().overlaps(&range)).collect()
    }

    /// What store and blocks answer, as one.
    fn union<T: Ord>(
        &self,
        ctx: &QueryContext,
        query: &LabelQuery,
        ask: impl Fn(&dyn Queryable) -> Result<Vec<T>, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let blocks = self.blocks(ctx, query.range);
        let blocks = blocks.iter().map(|block| block as &dyn Queryable);
        query.union(std::iter::once(&*self.store).chain(blocks).map(ask))
    }
}

impl Queryable for Spanning {
    fn select(
        &self,
        ctx: &QueryContext,
        matchers: &[Matcher],
        range: TimeRange,
        hints: &SelectHints,
    ) -> Result<Box<dyn SeriesSet>, StoreError> {
        let blocks = self.blocks(ctx, range);
        if blocks.is_empty() {
            return self.store.select(ctx, matchers, range, hints);
        }
        let all_labels = hints.with_all_labels();
        let mut sources = vec![self.store.select(ctx, matchers, range, &all_labels)?];
        for block in &blocks {
            sources.push(block.select(ctx, matchers, range, &all_labels)?);
        }
        Ok(merge(ctx, sources, hints.limit))
    }

    fn label_names(&self, ctx: &QueryContext, query: &LabelQuery) -> Result<Vec<String>, StoreError> {
        self.union(ctx, query, |source| source.label_names(ctx, query))
    }

    fn label_values(
        &self,
        ctx: &QueryContext,
        name: &str,
        query: &LabelQuery,
    ) -> Result<Vec<String>, StoreError> {
        self.union(ctx, query, |source| source.label_values(ctx, name, query))
    }

    fn series(&self, ctx: &QueryContext, query: &LabelQuery) -> Result<Vec<Labels>, StoreError> {
        self.union(ctx, query, |source| source.series(ctx, query))
    }

    fn exemplars(&self, ctx: &QueryContext, query: &LabelQuery) -> Result<Vec<Exemplars>, StoreError> {
        // The standard parts of a block hold none.
        self.store.exemplars(ctx, query)
    }

    fn metadata(
        &self,
        ctx: &QueryContext,
        metric: Option<&str>,
    ) -> Result<BTreeMap<String, Vec<Metadata>>, StoreError> {
        self.store.metadata(ctx, metric)
    }
}
