//! A store and the blocks attached to it as one source.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pyrrha_model::contract::{Exemplars, QueryContext, Queryable, SelectHints, SeriesSet};
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
        // Sources are merged by all their labels.
        let mut all_labels = hints.clone();
        all_labels.projection = None;
        let mut sources = vec![self.store.select(ctx, matchers, range, &all_labels)?];
        for block in &blocks {
            sources.push(block.select(ctx, matchers, range, &all_labels)?);
        }
        Ok(merge(ctx, sources, hints.limit))
    }

    fn label_names(
        &self,
        ctx: &QueryContext,
        matcher_sets: &[Vec<Matcher>],
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        let blocks = self.blocks(ctx, range);
        let mut names: BTreeSet<String> =
            self.store.label_names(ctx, matcher_sets, range, limit)?.into_iter().collect();
        for block in &blocks {
            names.extend(block.label_names(ctx, matcher_sets, range, limit)?);
        }
        Ok(first(names, limit))
    }

    fn label_values(
        &self,
        ctx: &QueryContext,
        name: &str,
        matcher_sets: &[Vec<Matcher>],
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        let blocks = self.blocks(ctx, range);
        let mut values: BTreeSet<String> =
            self.store.label_values(ctx, name, matcher_sets, range, limit)?.into_iter().collect();
        for block in &blocks {
            values.extend(block.label_values(ctx, name, matcher_sets, range, limit)?);
        }
        Ok(first(values, limit))
    }

    fn series(
        &self,
        ctx: &QueryContext,
        matcher_sets: &[Vec<Matcher>],
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<Labels>, StoreError> {
        let blocks = self.blocks(ctx, range);
        if blocks.is_empty() {
            return self.store.series(ctx, matcher_sets, range, limit);
        }
        let mut series: BTreeSet<Labels> =
            self.store.series(ctx, matcher_sets, range, limit)?.into_iter().collect();
        for block in &blocks {
            series.extend(block.series(ctx, matcher_sets, range, limit)?);
        }
        Ok(first(series, limit))
    }

    fn exemplars(
        &self,
        ctx: &QueryContext,
        matcher_sets: &[Vec<Matcher>],
        range: TimeRange,
    ) -> Result<Vec<Exemplars>, StoreError> {
        // The standard parts of a block hold none.
        self.store.exemplars(ctx, matcher_sets, range)
    }

    fn metadata(
        &self,
        ctx: &QueryContext,
        metric: Option<&str>,
    ) -> Result<BTreeMap<String, Vec<Metadata>>, StoreError> {
        self.store.metadata(ctx, metric)
    }
}

fn first<T>(all: BTreeSet<T>, limit: usize) -> Vec<T> {
    all.into_iter().take(if limit == 0 { usize::MAX } else { limit }).collect()
}
