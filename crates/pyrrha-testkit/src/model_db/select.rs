//! Reading from a [`ModelDb`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pyrrha_model::contract::{
    ChunkRef, Exemplars, LabelQuery, QueryContext, Queryable, SelectHints, SeriesBatch, SeriesSet,
};
use pyrrha_model::{Labels, Matcher, Metadata, StoreError, SymbolTable, TimeRange};

use super::{ModelDb, Series};

impl ModelDb {
    /// Labels that `pick` takes from the series that the query asks for.
    fn collect<T: Ord>(
        &self,
        ctx: &QueryContext,
        query: &LabelQuery,
        pick: impl Fn(&Labels, &mut BTreeSet<T>),
    ) -> Vec<T> {
        let tenants = self.tenants.lock();
        let series = tenants.get(&ctx.tenant).map(|t| t.series.as_slice()).unwrap_or_default();
        let mut found = BTreeSet::new();
        for series in series {
            if series.has_data(query.range) && satisfies_any(&series.labels, &query.matcher_sets) {
                pick(&series.labels, &mut found);
            }
        }
        found.into_iter().take(query.most()).collect()
    }
}

impl Queryable for ModelDb {
    fn select(
        &self,
        ctx: &QueryContext,
        matchers: &[Matcher],
        range: TimeRange,
        hints: &SelectHints,
    ) -> Result<Box<dyn SeriesSet>, StoreError> {
        ctx.cancel.check()?;
        let mut tenants = self.tenants.lock();
        let mut selected = Vec::new();
        if let Some(tenant) = tenants.get_mut(&ctx.tenant) {
            for series in &mut tenant.series {
                let in_shard = hints.shard.is_none_or(|(i, n)| {
                    series.labels.prometheus_hash() % u64::from(n.max(1)) == u64::from(i)
                });
                if !in_shard || !series.has_data(range) || !satisfies(&series.labels, matchers) {
                    continue;
                }
                let chunks = series.chunks(self.rules.start_timestamps).iter();
                let chunks = chunks.filter(|c| range.overlaps(&TimeRange::new(c.min_time, c.max_time)));
                let chunks = chunks.cloned().collect();
                selected.push((series.labels.clone(), chunks));
            }
        }
        selected.sort_by(|(a, _): &(Labels, Vec<ChunkRef>), (b, _)| a.cmp(b));
        Ok(Box::new(Selected { symbols: ctx.symbols.clone(), series: selected.into_iter() }))
    }

    fn label_names(&self, ctx: &QueryContext, query: &LabelQuery) -> Result<Vec<String>, StoreError> {
        Ok(self.collect(ctx, query, |labels, names| {
            names.extend(labels.iter().map(|l| l.name.clone()));
        }))
    }

    fn label_values(
        &self,
        ctx: &QueryContext,
        name: &str,
        query: &LabelQuery,
    ) -> Result<Vec<String>, StoreError> {
        Ok(self.collect(ctx, query, |labels, values| values.extend(labels.get(name).map(str::to_owned))))
    }

    fn series(&self, ctx: &QueryContext, query: &LabelQuery) -> Result<Vec<Labels>, StoreError> {
        Ok(self.collect(ctx, query, |labels, found| {
            found.insert(labels.clone());
        }))
    }

    fn exemplars(&self, ctx: &QueryContext, query: &LabelQuery) -> Result<Vec<Exemplars>, StoreError> {
        let tenants = self.tenants.lock();
        let series = tenants.get(&ctx.tenant).map(|t| t.series.as_slice()).unwrap_or_default();
        let mut found: Vec<Exemplars> = series
            .iter()
            .filter(|s| satisfies_any(&s.labels, &query.matcher_sets))
            .map(|s| Exemplars {
                series: s.labels.clone(),
                exemplars: s
                    .exemplars
                    .iter()
                    .filter(|e| query.range.contains(e.timestamp))
                    .cloned()
                    .collect(),
            })
            .filter(|e| !e.exemplars.is_empty())
            .collect();
        found.sort_by(|a, b| a.series.cmp(&b.series));
        found.truncate(query.most());
        Ok(found)
    }

    fn metadata(
        &self,
        ctx: &QueryContext,
        metric: Option<&str>,
    ) -> Result<BTreeMap<String, Vec<Metadata>>, StoreError> {
        let tenants = self.tenants.lock();
        let all = tenants.get(&ctx.tenant).map(|t| t.metadata.iter()).into_iter().flatten();
        Ok(all
            .filter(|(name, _)| metric.is_none_or(|m| m == *name))
            .map(|(name, metadata)| (name.clone(), vec![metadata.clone()]))
            .collect())
    }
}

impl Series {
    fn has_data(&self, range: TimeRange) -> bool {
        !range.is_empty() && self.samples.range(range.start..=range.end).next().is_some()
    }
}

fn satisfies(labels: &Labels, matchers: &[Matcher]) -> bool {
    matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or("")))
}

pub(super) fn satisfies_any(labels: &Labels, matcher_sets: &[Vec<Matcher>]) -> bool {
    matcher_sets.is_empty() || matcher_sets.iter().any(|set| satisfies(labels, set))
}

/// The series of a select, taken at the moment of the select.
struct Selected {
    symbols: Arc<SymbolTable>,
    series: std::vec::IntoIter<(Labels, Vec<ChunkRef>)>,
}

impl SeriesSet for Selected {
    fn next_batch(&mut self, max: usize, batch: &mut SeriesBatch) -> Result<bool, StoreError> {
        batch.clear();
        for (labels, chunks) in self.series.by_ref().take(max) {
            batch.push(&self.symbols, &labels, chunks);
        }
        Ok(!batch.series.is_empty())
    }
}
