//! From tables to the values that a caller sees.

use std::cmp::Ordering;
use std::sync::Arc;

use pyrrha_model::Labels;

use crate::ast::{AggregateOp, RangeMode};
use crate::engine::{MatrixSeries, QueryValue, VectorSample};
use crate::error::QueryError;
use crate::exec::natural::natural_order;
use crate::exec::samples::Samples;
use crate::exec::select::Times;
use crate::exec::window::Windows;
use crate::exec::{Charge, Exec, Table, mismatch};
use crate::function::FunctionId;
use crate::functions::extended;
use crate::labels::LabelIds;
use crate::plan::{Call, Kind, Node, Selector};
use crate::value::{Series, Steps, histogram_weight};

impl<'a> Exec<'a> {
    pub(crate) fn scalar_result(&'a self, plan: &'a Node, steps: Steps) -> Result<QueryValue, QueryError> {
        let scalar = self.scalar(plan, steps)?;
        if !self.range_query {
            return Ok(QueryValue::Scalar { t: steps.start, v: scalar.at(0) });
        }
        let floats = (0..steps.count).map(|i| (steps.time(i), scalar.at(i))).collect();
        Ok(QueryValue::Matrix(vec![MatrixSeries { labels: Labels::empty(), floats, histograms: Vec::new() }]))
    }

    pub(crate) fn vector_result(&'a self, plan: &'a Node, steps: Steps) -> Result<QueryValue, QueryError> {
        if self.range_query {
            let mut table = self.drop_marked_names(self.vector(plan, steps)?)?;
            self.watch.sorting(|| self.sort_by_labels(&mut table.series));
            return self.matrix(table, steps);
        }
        let table = match &plan.kind {
            Kind::Aggregate(node) if matches!(node.op, AggregateOp::Topk | AggregateOp::Bottomk) => {
                let mut picked = self.pick_watched(plan, node, steps)?;
                let keys: Vec<_> = picked
                    .groups
                    .iter()
                    .zip(&picked.table.series)
                    .map(|(g, s)| (*g, s.column.float(0).unwrap_or(f64::NAN)))
                    .collect();
                let down = node.op == AggregateOp::Topk;
                let mut order: Vec<usize> = (0..keys.len()).collect();
                order.sort_by(|&a, &b| {
                    let ((a_group, a_value), (b_group, b_value)) = (keys[a], keys[b]);
                    let by_value = a_group.cmp(&b_group).then_with(|| by_value(a_value, b_value, down));
                    by_value.then_with(|| picked.places.get(a).cmp(&picked.places.get(b)))
                });
                picked.table.series = order.iter().map(|i| picked.table.series[*i].clone()).collect();
                picked.table
            }
            Kind::Call(call) => {
                let mut table = self.vector(plan, steps)?;
                self.watch.sorting(|| self.sort_result(call, &mut table));
                table
            }
            _ => self.vector(plan, steps)?,
        };
        let table = self.drop_marked_names(table)?;
        self.instant_vector(table, steps)
    }

    fn sort_result(&self, call: &Call, table: &mut Table<'_>) {
        let value = |s: &Series| s.column.float(0).unwrap_or(f64::NAN);
        match call.id() {
            FunctionId::Sort => table.series.sort_by(|a, b| by_value(value(a), value(b), false)),
            FunctionId::SortDesc => table.series.sort_by(|a, b| by_value(value(a), value(b), true)),
            FunctionId::SortByLabel | FunctionId::SortByLabelDesc => {
                let names: Vec<_> = call
                    .args
                    .iter()
                    .filter_map(|a| match &a.kind {
                        Kind::Text(name) => Some(self.ctx.symbols.intern(name)),
                        _ => None,
                    })
                    .collect();
                let texts = self.ctx.symbols.snapshot();
                let order = |a: &Series, b: &Series| {
                    let text = |s: &Series, n| texts[s.labels.get(n).0 as usize].clone();
                    names
                        .iter()
                        .map(|n| natural_order(&text(a, *n), &text(b, *n)))
                        .find(|o| *o != Ordering::Equal)
                        .unwrap_or_else(|| a.labels.compare(&b.labels, &texts))
                };
                let down = call.id() == FunctionId::SortByLabelDesc;
                table.series.sort_by(|a, b| if down { order(b, a) } else { order(a, b) });
            }
            _ => {}
        }
    }

    /// A range vector as the result of an instant query.
    pub(crate) fn matrix_result(&'a self, plan: &'a Node, steps: Steps) -> Result<QueryValue, QueryError> {
        match &plan.kind {
            Kind::Matrix(selector) => self.raw_matrix(selector, steps),
            Kind::Subquery(subquery) => {
                let times = Times::new(steps, subquery.at, subquery.offset);
                let inner = self.subquery_steps(subquery, times.span(subquery.range, 0))?;
                if inner.count == 0 {
                    return Ok(QueryValue::Matrix(Vec::new()));
                }
                let mut table = self.drop_marked_names(self.vector(&subquery.expr, inner)?)?;
                self.watch.sorting(|| self.sort_by_labels(&mut table.series));
                self.matrix(table, inner)
            }
            _ => Err(mismatch(plan.ty)),
        }
    }

    /// The samples themselves; of an anchored or smoothed range its points.
    fn raw_matrix(&'a self, selector: &'a Selector, steps: Steps) -> Result<QueryValue, QueryError> {
        let times = Times::new(steps, selector.at, selector.offset);
        let (before, after) = Windows::widened(selector.mode, self.lookback);
        let span = times.span(selector.range.saturating_add(before), after);
        let end = times.at(0);
        let edges = (end.saturating_sub(selector.range), end);
        let mut out = Vec::new();
        let mut charge = Charge::new(self);
        self.each_series(selector, span, steps, |samples, labels| {
            let clean = samples.without_stale();
            let Samples { floats, histograms, .. } = clean.as_ref().unwrap_or(samples);
            let floats = match selector.mode {
                RangeMode::Classic => {
                    floats.times.iter().copied().zip(floats.values.iter().copied()).collect()
                }
                mode if !histograms.times.is_empty() => return Err(no_histograms(mode)),
                mode => extended::points(&floats.times, &floats.values, edges, mode == RangeMode::Smoothed),
            };
            let weight: usize = histograms.values.iter().map(|h| histogram_weight(h)).sum();
            let points = floats.len() + weight;
            charge.grow(points * 16 + self.label_bytes(&labels), points)?;
            self.watch.progress.count_total(points as u64);
            self.watch.count_at(0, points);
            let series = MatrixSeries {
                labels: labels.resolve(&self.ctx.symbols),
                floats,
                histograms: histograms.times.iter().copied().zip(histograms.values.iter().cloned()).collect(),
            };
            if !series.floats.is_empty() || !series.histograms.is_empty() {
                out.push(series);
            }
            Ok(())
        })?;
        Ok(QueryValue::Matrix(out))
    }

    fn instant_vector(&'a self, table: Table<'a>, steps: Steps) -> Result<QueryValue, QueryError> {
        let mut charge = table.charge;
        let mut samples = Vec::with_capacity(table.series.len());
        let texts = self.texts_for(&table.series);
        for series in table.series {
            self.check()?;
            if let Some(value) = series.column.get(0) {
                charge.grow(size_of::<VectorSample>() + self.label_bytes(&series.labels), 0)?;
                let labels = self.texts_of(&series.labels, texts.as_deref());
                samples.push(VectorSample { labels, t: steps.start, value });
            }
        }
        Ok(QueryValue::Vector(samples))
    }

    fn matrix(&'a self, table: Table<'a>, steps: Steps) -> Result<QueryValue, QueryError> {
        let mut charge = table.charge;
        let mut matrix = Vec::with_capacity(table.series.len());
        let texts = self.texts_for(&table.series);
        // Each column goes as its points come.
        for Series { labels, column, .. } in table.series {
            self.check()?;
            if column.is_empty() {
                continue;
            }
            charge.grow(column.len() * 16 + self.label_bytes(&labels), 0)?;
            let (floats, present) = column.floats();
            let mut points = Vec::with_capacity(present.count());
            points.extend(present.iter().map(|i| (steps.time(i), floats[i])));
            let histograms =
                column.histograms().iter().map(|(i, h)| (steps.time(*i as usize), h.clone())).collect();
            let labels = self.texts_of(&labels, texts.as_deref());
            matrix.push(MatrixSeries { labels, floats: points, histograms });
        }
        Ok(QueryValue::Matrix(matrix))
    }

    /// The query's strings, if taking them all at once is cheaper than one by one for these series.
    fn texts_for(&self, series: &[Series]) -> Option<Vec<Arc<str>>> {
        let wanted: usize = series.iter().map(|s| 2 * s.labels.pairs().len()).sum();
        (wanted > self.ctx.symbols.len()).then(|| self.ctx.symbols.snapshot())
    }

    fn texts_of(&self, labels: &LabelIds, texts: Option<&[Arc<str>]>) -> Labels {
        match texts {
            Some(texts) => labels.resolve_in(texts),
            None => labels.resolve(&self.ctx.symbols),
        }
    }

    /// Bytes of the labels as strings, about.
    fn label_bytes(&self, labels: &LabelIds) -> usize {
        // Two strings of 24 bytes and their texts; allocations are rounded up.
        labels.pairs().len() * (48 + 2 * 24) + 64
    }
}

/// Histograms have no points at the edges of a range.
fn no_histograms(mode: RangeMode) -> QueryError {
    let word = if mode == RangeMode::Anchored { "anchored" } else { "smoothed" };
    QueryError::execution(format!("{word} modifier is not supported with histograms"))
}

/// NaN last in both directions.
fn by_value(a: f64, b: f64, down: bool) -> Ordering {
    a.is_nan().cmp(&b.is_nan()).then_with(|| {
        let order = a.partial_cmp(&b).unwrap_or(Ordering::Equal);
        if down { order.reverse() } else { order }
    })
}
