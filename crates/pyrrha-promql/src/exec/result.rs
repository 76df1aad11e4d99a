//! From tables to the values that a caller sees.

use crate::engine::{MatrixSeries, QueryValue, VectorSample};
use crate::error::QueryError;
use crate::exec::{Exec, mismatch};
use crate::plan::Node;
use crate::value::{Series, Steps};
use pyrrha_model::Labels;

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
        let table = self.vector(plan, steps)?;
        let series = table.series;
        Ok(if self.range_query { self.matrix(&series, steps) } else { self.instant_vector(&series, steps) })
    }

    pub(crate) fn matrix_result(&'a self, plan: &'a Node, _steps: Steps) -> Result<QueryValue, QueryError> {
        Err(mismatch(plan.ty))
    }

    fn instant_vector(&self, series: &[Series], steps: Steps) -> QueryValue {
        let sample = |s: &Series| {
            let value = s.column.get(0)?;
            Some(VectorSample { labels: s.labels.resolve(&self.ctx.symbols), t: steps.start, value })
        };
        QueryValue::Vector(series.iter().filter_map(sample).collect())
    }

    fn matrix(&self, series: &[Series], steps: Steps) -> QueryValue {
        let resolve = |s: &Series| {
            let (floats, present) = s.column.floats();
            MatrixSeries {
                labels: s.labels.resolve(&self.ctx.symbols),
                floats: present.iter().map(|i| (steps.time(i), floats[i])).collect(),
                histograms: s
                    .column
                    .histograms()
                    .iter()
                    .map(|(i, h)| (steps.time(*i as usize), h.clone()))
                    .collect(),
            }
        };
        QueryValue::Matrix(series.iter().filter(|s| !s.column.is_empty()).map(resolve).collect())
    }
}
