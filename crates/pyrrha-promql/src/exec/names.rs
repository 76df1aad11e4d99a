//! Dropping metric names, at once or at the end, and label sets that became equal by it.

use std::sync::Arc;

use hashbrown::HashMap;
use pyrrha_model::SymbolId;

use crate::annotations::{Annotation, Note};
use crate::ast::Pos;
use crate::error::QueryError;
use crate::exec::pipeline::Names;
use crate::exec::{Exec, Table};
use crate::labels::LabelIds;
use crate::value::Series;

impl<'a> Exec<'a> {
    /// Drops name, type and unit of a series, or marks them to be dropped at the end.
    pub(crate) fn drop_name(&self, series: &mut Series) {
        if self.options.features.delayed_name_removal {
            series.drop_name = true;
        } else {
            series.labels = self.without_name(&series.labels);
        }
    }

    /// The labels without name, type and unit.
    pub(crate) fn without_name(&self, labels: &LabelIds) -> LabelIds {
        labels.without(&self.name_labels)
    }

    /// Merges series whose label sets became equal.
    pub(crate) fn unify(&'a self, table: Table<'a>, names: Names) -> Result<Table<'a>, QueryError> {
        if names == Names::Unique || self.options.features.delayed_name_removal {
            return Ok(table);
        }
        self.merge_equal(table, names == Names::DroppedByRange)
    }

    /// Drops the names that were marked, at the end of a query.
    pub(crate) fn drop_marked_names(&'a self, mut table: Table<'a>) -> Result<Table<'a>, QueryError> {
        let mut dropped = false;
        for series in table.series.iter_mut().filter(|s| s.drop_name) {
            let labels = self.without_name(&series.labels);
            dropped |= labels != series.labels;
            series.labels = labels;
            series.drop_name = false;
        }
        if dropped { self.merge_equal(table, false) } else { Ok(table) }
    }

    /// Merges series of equal labels whose steps are disjoint; fails if a step has a value in two,
    /// or at once if `strict`.
    pub(crate) fn merge_equal(&'a self, mut table: Table<'a>, strict: bool) -> Result<Table<'a>, QueryError> {
        let mut first: HashMap<LabelIds, usize, foldhash::fast::RandomState> =
            HashMap::with_capacity_and_hasher(table.series.len(), Default::default());
        let mut merged: Vec<Series> = Vec::with_capacity(table.series.len());
        for series in std::mem::take(&mut table.series) {
            match first.entry(series.labels.clone()) {
                hashbrown::hash_map::Entry::Vacant(vacant) => {
                    vacant.insert(merged.len());
                    merged.push(series);
                }
                hashbrown::hash_map::Entry::Occupied(occupied) => {
                    let other = &mut merged[*occupied.get()];
                    // As in Prometheus, the earliest sample says whether the name goes.
                    let first = |s: &Series| s.column.presence().iter().next().unwrap_or(usize::MAX);
                    let earlier = first(&series) < first(other);
                    if strict || !other.column.merge(&series.column) {
                        return Err(QueryError::execution(
                            "vector cannot contain metrics with the same labelset",
                        ));
                    }
                    if earlier {
                        other.drop_name = series.drop_name;
                    }
                }
            }
        }
        table.series = merged;
        Ok(table)
    }

    /// Sorts series by labels.
    pub(crate) fn sort_by_labels(&self, series: &mut [Series]) {
        let texts: Vec<Arc<str>> = self.ctx.symbols.snapshot();
        series.sort_by(|a, b| a.labels.compare(&b.labels, &texts));
    }

    /// The info that `rate` and `increase` give about a metric that does not look like a counter.
    pub(crate) fn note_counter_name(&self, labels: &LabelIds, pos: Option<Pos>, notes: &mut Vec<Annotation>) {
        let metric = labels.metric_name(&self.ctx.symbols);
        if metric.is_empty() {
            return;
        }
        let note = if self.options.features.type_and_unit_labels {
            let ty = self.ctx.symbols.resolve(labels.get(self.name_labels[1]));
            if matches!(&*ty, "counter" | "histogram") {
                return;
            }
            Note::PossibleNonCounterType(ty.to_string())
        } else {
            if ["_total", "_sum", "_count", "_bucket"].iter().any(|suffix| metric.ends_with(suffix)) {
                return;
            }
            Note::PossibleNonCounter
        };
        notes.push(Annotation { note, metric, pos: pos.unwrap_or_default() });
    }
}

/// The labels that go when a name is dropped.
pub(crate) fn name_labels(symbols: &pyrrha_model::SymbolTable) -> [SymbolId; 3] {
    [SymbolId::METRIC_NAME, symbols.intern("__type__"), symbols.intern("__unit__")]
}
