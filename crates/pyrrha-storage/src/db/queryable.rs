//! The whole database as one source of series.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pyrrha_model::contract::{Exemplars, QueryContext, Queryable, SelectHints, SeriesSet};
use pyrrha_model::{ErrorKind, Exemplar, Labels, Matcher, Metadata, StoreError, TimeRange};

use super::Shared;
use super::retention::FromHorizon;
use super::tenant::Tenant;
use crate::block::{Block, tidy_exemplars};
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
        let asked = range;
        let range = self.shared.visible(&ctx.tenant, range);
        if range.is_empty() {
            return Ok(Box::new(EmptySet));
        }
        let Some(tenant) = self.shared.readable(ctx, range)? else { return Ok(Box::new(EmptySet)) };
        let set = self.select_visible(&tenant, ctx, matchers, range, hints)?;
        Ok(if asked.start < range.start { Box::new(FromHorizon { set, horizon: range.start }) } else { set })
    }

    fn label_names(
        &self,
        ctx: &QueryContext,
        matcher_sets: &[Vec<Matcher>],
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        let range = self.shared.visible(&ctx.tenant, range);
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let Some(tenant) = self.shared.readable(ctx, range)? else { return Ok(Vec::new()) };
        let view = tenant.view.read().clone();
        let mut names = BTreeSet::new();
        for matchers in sets(matcher_sets) {
            names.extend(tenant.head.label_names(ctx, matchers, range, &view.head)?);
        }
        for block in view.blocks.iter() {
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
        let range = self.shared.visible(&ctx.tenant, range);
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let Some(tenant) = self.shared.readable(ctx, range)? else { return Ok(Vec::new()) };
        let view = tenant.view.read().clone();
        let mut values = BTreeSet::new();
        for matchers in sets(matcher_sets) {
            values.extend(tenant.head.label_values(ctx, name, matchers, range, &view.head)?);
        }
        for block in view.blocks.iter() {
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
        let range = self.shared.visible(&ctx.tenant, range);
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let Some(tenant) = self.shared.readable(ctx, range)? else { return Ok(Vec::new()) };
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
        let range = self.shared.visible(&ctx.tenant, range);
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let Some(tenant) = self.shared.readable(ctx, range)? else { return Ok(Vec::new()) };
        let mut found: BTreeMap<Labels, Vec<Exemplar>> = BTreeMap::new();
        // The head first: what leaves it is in the blocks of the view by then. Two matcher sets may
        // find the same, and so may head and blocks.
        for matchers in sets(matcher_sets) {
            for exemplars in tenant.head.exemplars(ctx, matchers, range)? {
                found.entry(exemplars.series).or_default().extend(exemplars.exemplars);
            }
        }
        let view = tenant.view.read().clone();
        view.check_complete(ctx, range)?;
        for block in view.blocks.iter() {
            match block.exemplars(ctx, matcher_sets, range) {
                Ok(all) => {
                    all.into_iter().for_each(|e| found.entry(e.series).or_default().extend(e.exemplars))
                }
                Err(error) if ctx.partial_response && error.kind() == ErrorKind::Corrupt => {
                    ctx.notices.gap(block.meta().range(), error.to_string());
                }
                Err(error) => return Err(error),
            }
        }
        let found = found.into_iter().map(|(series, mut exemplars)| {
            tidy_exemplars(&mut exemplars);
            Exemplars { series, exemplars }
        });
        Ok(found.collect())
    }

    fn metadata(
        &self,
        ctx: &QueryContext,
        metric: Option<&str>,
    ) -> Result<BTreeMap<String, Vec<Metadata>>, StoreError> {
        let Some(tenant) = self.shared.readable(ctx, TimeRange::ALL)? else { return Ok(BTreeMap::new()) };
        // The latest wins: the head's, then that of the newest block.
        let mut found = tenant.head.metadata(metric);
        let mut blocks = tenant.blocks();
        blocks.sort_by_key(|b| (b.meta().max_time, b.meta().ulid));
        for block in blocks.iter().rev() {
            if metric.is_some() && !found.is_empty() {
                break;
            }
            match block.metadata_file() {
                Ok(Some(file)) => file.collect(metric, &mut found)?,
                Ok(None) => {}
                // Metadata describes; without that of one block the rest still does.
                Err(error) => {
                    tracing::warn!(tenant = %tenant.head.tenant, %error, "metadata of a block is left out")
                }
            }
        }
        Ok(found.into_iter().map(|(name, metadata)| (name, vec![metadata])).collect())
    }
}

impl DbQueryable {
    fn select_visible(
        &self,
        tenant: &Tenant,
        ctx: &QueryContext,
        matchers: &[Matcher],
        range: TimeRange,
        hints: &SelectHints,
    ) -> Result<Box<dyn SeriesSet>, StoreError> {
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
}

/// No matcher set means all series.
fn sets(matcher_sets: &[Vec<Matcher>]) -> impl Iterator<Item = &[Matcher]> {
    let all = matcher_sets.is_empty().then_some(&[][..]);
    all.into_iter().chain(matcher_sets.iter().map(Vec::as_slice))
}

fn limited<T: Ord>(items: BTreeSet<T>, limit: usize) -> Vec<T> {
    items.into_iter().take(if limit == 0 { usize::MAX } else { limit }).collect()
}
