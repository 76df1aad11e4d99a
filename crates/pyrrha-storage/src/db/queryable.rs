//! The whole database as one source of series.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pyrrha_model::contract::{Exemplars, QueryContext, Queryable, SelectHints, SeriesSet};
use pyrrha_model::{Labels, Matcher, Metadata, StoreError, TimeRange};

use super::Shared;
use crate::block::Block;
use crate::query::{EmptySet, merge};

/// Reads of the tenant that the query's context names.
pub(crate) struct DbQueryable {
    shared: Arc<Shared>,
}

impl DbQueryable {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl Queryable for DbQueryable {
    fn select(
        &self,
        ctx: &QueryContext,
        matchers: &[Matcher],
        range: TimeRange,
        hints: &SelectHints,
    ) -> Result<Box<dyn SeriesSet>, StoreError> {
        let Some(tenant) = self.shared.tenants.get(&ctx.tenant) else { return Ok(Box::new(EmptySet)) };
        let view = tenant.view.read().clone();
        view.check_complete(ctx, range)?;
        let blocks: Vec<&Block> = view.blocks.iter().filter(|b| b.meta().range().overlaps(&range)).collect();
        if blocks.is_empty() {
            return tenant.head.select(ctx, matchers, range, hints, view.head);
        }
        // Sources are merged by all their labels, and a limit counts what comes out of the merge.
        let mut hints = hints.clone();
        hints.projection = None;
        let mut sources = Vec::with_capacity(blocks.len() + 1);
        for block in blocks {
            sources.push(block.select(ctx, matchers, range, &hints)?);
        }
        sources.push(tenant.head.select(ctx, matchers, range, &hints, view.head)?);
        Ok(merge(ctx, sources, hints.limit))
    }

    fn label_names(
        &self,
        ctx: &QueryContext,
        matcher_sets: &[Vec<Matcher>],
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        let Some(tenant) = self.shared.tenants.get(&ctx.tenant) else { return Ok(Vec::new()) };
        let mut names = BTreeSet::new();
        for matchers in sets(matcher_sets) {
            names.extend(tenant.head.label_names(ctx, matchers, 0)?);
        }
        for block in tenant.blocks() {
            names.extend(block.label_names(ctx, matcher_sets, range, 0)?);
        }
        Ok(limited(names, limit))
    }

    fn label_values(
        &self,
        ctx: &QueryContext,
        name: &str,
        matcher_sets: &[Vec<Matcher>],
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        let Some(tenant) = self.shared.tenants.get(&ctx.tenant) else { return Ok(Vec::new()) };
        let mut values = BTreeSet::new();
        for matchers in sets(matcher_sets) {
            values.extend(tenant.head.label_values(ctx, name, matchers, 0)?);
        }
        for block in tenant.blocks() {
            values.extend(block.label_values(ctx, name, matcher_sets, range, 0)?);
        }
        Ok(limited(values, limit))
    }

    fn series(
        &self,
        ctx: &QueryContext,
        matcher_sets: &[Vec<Matcher>],
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<Labels>, StoreError> {
        let Some(tenant) = self.shared.tenants.get(&ctx.tenant) else { return Ok(Vec::new()) };
        let view = tenant.view.read().clone();
        view.check_complete(ctx, range)?;
        let mut found = BTreeSet::new();
        for matchers in sets(matcher_sets) {
            found.extend(tenant.head.series(ctx, matchers, range, limit, &view.head)?);
        }
        for block in view.blocks.iter() {
            found.extend(block.series(ctx, matcher_sets, range, limit)?);
        }
        Ok(limited(found, limit))
    }

    fn exemplars(
        &self,
        ctx: &QueryContext,
        matcher_sets: &[Vec<Matcher>],
        range: TimeRange,
    ) -> Result<Vec<Exemplars>, StoreError> {
        let Some(tenant) = self.shared.tenants.get(&ctx.tenant) else { return Ok(Vec::new()) };
        let mut found: BTreeMap<Labels, Exemplars> = BTreeMap::new();
        for matchers in sets(matcher_sets) {
            for exemplars in tenant.head.exemplars(ctx, matchers, range)? {
                found.insert(exemplars.series.clone(), exemplars);
            }
        }
        Ok(found.into_values().collect())
    }

    fn metadata(
        &self,
        ctx: &QueryContext,
        metric: Option<&str>,
    ) -> Result<BTreeMap<String, Vec<Metadata>>, StoreError> {
        let tenant = self.shared.tenants.get(&ctx.tenant);
        Ok(tenant.map(|t| t.head.metadata(metric)).unwrap_or_default())
    }
}

/// No matcher set means all series.
fn sets(matcher_sets: &[Vec<Matcher>]) -> impl Iterator<Item = &[Matcher]> {
    let all = matcher_sets.is_empty().then_some(&[][..]);
    all.into_iter().chain(matcher_sets.iter().map(Vec::as_slice))
}

fn limited<T: Ord>(items: BTreeSet<T>, limit: usize) -> Vec<T> {
    items.into_iter().take(if limit == 0 { usize::MAX } else { limit }).collect()
}
