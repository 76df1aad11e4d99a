//! The whole database as one source of series.

use std::collections::BTreeMap;
use std::iter::once;
use std::sync::Arc;

use pyrrha_model::contract::{Exemplars, LabelQuery, QueryContext, Queryable, SelectHints, SeriesSet};
use pyrrha_model::{Exemplar, Labels, Matcher, Metadata, StoreError, TimeRange};

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

    fn label_names(&self, ctx: &QueryContext, query: &LabelQuery) -> Result<Vec<String>, StoreError> {
        let Some((tenant, query)) = self.ask(ctx, query)? else { return Ok(Vec::new()) };
        let view = tenant.view.read().clone();
        view.check_complete(ctx, query.range)?;
        let head = tenant.head.label_names(ctx, &query, &view.head);
        let blocks = view
            .blocks
            .iter()
            .map(|block| self.shared.watch_answer(&tenant, ctx, block, block.label_names(ctx, &query)));
        query.union(once(head).chain(blocks))
    }

    fn label_values(
        &self,
        ctx: &QueryContext,
        name: &str,
        query: &LabelQuery,
    ) -> Result<Vec<String>, StoreError> {
        let Some((tenant, query)) = self.ask(ctx, query)? else { return Ok(Vec::new()) };
        let view = tenant.view.read().clone();
        view.check_complete(ctx, query.range)?;
        let head = tenant.head.label_values(ctx, name, &query, &view.head);
        let blocks = view.blocks.iter().map(|block| {
            self.shared.watch_answer(&tenant, ctx, block, block.label_values(ctx, name, &query))
        });
        query.union(once(head).chain(blocks))
    }

    fn series(&self, ctx: &QueryContext, query: &LabelQuery) -> Result<Vec<Labels>, StoreError> {
        let Some((tenant, query)) = self.ask(ctx, query)? else { return Ok(Vec::new()) };
        let view = tenant.view.read().clone();
        view.check_complete(ctx, query.range)?;
        let head = query.sets().map(|matchers| tenant.head.series(ctx, matchers, &query, &view.head));
        let blocks = view
            .blocks
            .iter()
            .map(|block| self.shared.watch_answer(&tenant, ctx, block, block.series(ctx, &query)));
        query.union(head.chain(blocks))
    }

    fn exemplars(&self, ctx: &QueryContext, query: &LabelQuery) -> Result<Vec<Exemplars>, StoreError> {
        let Some((tenant, query)) = self.ask(ctx, query)? else { return Ok(Vec::new()) };
        let mut found: BTreeMap<Labels, Vec<Exemplar>> = BTreeMap::new();
        let mut take = |all: Vec<Exemplars>| {
            all.into_iter().for_each(|e| found.entry(e.series).or_default().extend(e.exemplars));
        };
        // The head first: what leaves it is in the blocks of the view by then. Both may find the same.
        take(tenant.head.exemplars(ctx, &query)?);
        let view = tenant.view.read().clone();
        view.check_complete(ctx, query.range)?;
        for block in view.blocks.iter() {
            take(self.shared.watch_answer(&tenant, ctx, block, block.exemplars(ctx, &query))?);
        }
        let found = found.into_iter().take(query.most()).map(|(series, mut exemplars)| {
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
    /// Whom a question about labels goes to, and what of it is not past retention.
    fn ask(
        &self,
        ctx: &QueryContext,
        query: &LabelQuery,
    ) -> Result<Option<(Arc<Tenant>, LabelQuery)>, StoreError> {
        let query = query.within(self.shared.visible(&ctx.tenant, query.range));
        if query.range.is_empty() {
            return Ok(None);
        }
        Ok(self.shared.readable(ctx, query.range)?.map(|tenant| (tenant, query)))
    }

    fn select_visible(
        &self,
        tenant: &Arc<Tenant>,
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
        let hints = hints.with_all_labels();
        let mut sources = Vec::with_capacity(blocks.len() + 1);
        for block in blocks {
            let selected = block.select(ctx, matchers, range, &hints);
            sources.push(self.shared.watch(tenant, ctx, block, selected)?);
        }
        sources.push(tenant.head.select(ctx, matchers, range, &hints, view.head)?);
        Ok(merge(ctx, sources, hints.limit))
    }
}
