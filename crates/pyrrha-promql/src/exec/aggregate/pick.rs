//! Aggregations that pick series; `limitk` and `limit_ratio`, which look at no values.

use super::groups::Groups;
use crate::annotations::{Annotation, Note};
use crate::ast::AggregateOp;
use crate::error::QueryError;
use crate::exec::{Exec, Table};
use crate::plan::Aggregate;
use crate::value::{Bits, ScalarColumn, Steps};

/// What an aggregation picked.
pub(crate) struct Picked<'a> {
    /// The series, in the order of the input.
    pub(crate) table: Table<'a>,
    /// The group of each series.
    pub(crate) groups: Vec<usize>,
    /// The place of each series in its heap at the last step that picked it: of equal values, the
    /// first one there comes first in the answer. Empty for what does not rank.
    pub(crate) places: Vec<usize>,
}

impl<'a> Exec<'a> {
    /// Evaluates an aggregation that picks series.
    pub(crate) fn pick(&'a self, node: &'a Aggregate, steps: Steps) -> Result<Picked<'a>, QueryError> {
        let nothing = || Picked { table: Table::empty(self), groups: Vec::new(), places: Vec::new() };
        let parameter = self.parameter(node, steps)?;
        let Some(parameter) = self.checked(node, parameter, steps.count)? else {
            return Ok(nothing());
        };
        if matches!(node.op, AggregateOp::Topk | AggregateOp::Bottomk) {
            return self.ranked(node, parameter, steps);
        }
        let mut table = self.collect(self.aggregated(node, steps)?)?;
        let grouping = self.grouping(node);
        let mut groups = Groups::default();
        let members: Vec<usize> =
            table.series.iter().map(|s| groups.find_restricted(&s.labels, &grouping).0).collect();
        let mut kept = vec![Bits::none(steps.count); table.series.len()];
        match node.op {
            AggregateOp::LimitRatio => self.sample(&table, &parameter, &mut kept),
            _ => limit(&table, &members, groups.labels.len(), &parameter, &mut kept, steps.count),
        }
        let mut picked = nothing();
        for ((mut series, kept), group) in
            std::mem::take(&mut table.series).into_iter().zip(kept).zip(members)
        {
            series.column.retain(&kept);
            if !series.column.is_empty() {
                picked.table.series.push(series);
                picked.groups.push(group);
            }
        }
        picked.table.charge = table.charge;
        Ok(picked)
    }

    /// The parameter, checked; `None`: nothing is picked.
    fn checked(
        &self,
        node: &Aggregate,
        parameter: ScalarColumn,
        steps: usize,
    ) -> Result<Option<ScalarColumn>, QueryError> {
        let values = || (0..steps).map(|i| parameter.at(i));
        let max = values().fold(f64::NEG_INFINITY, f64::max);
        let min = values().fold(f64::INFINITY, f64::min);
        let nan = values().any(f64::is_nan);
        let g = pyrrha_model::go_fmt::float_g;
        if node.op == AggregateOp::LimitRatio {
            if max == 0.0 && min == 0.0 && !nan {
                return Ok(None);
            }
            if nan {
                return Err(QueryError::execution("Ratio value is NaN"));
            }
            let wrong = [(max > 1.0).then_some((max, 1.0)), (min < -1.0).then_some((min, -1.0))];
            self.annotate(wrong.into_iter().flatten().map(|(got, capped)| Annotation {
                note: Note::InvalidRatio(got, capped),
                metric: "".into(),
                pos: node.param_pos,
            }));
            return Ok(Some(parameter));
        }
        if max < 1.0 && !nan || values().all(|v| v < 1.0) {
            return Ok(None);
        }
        if nan {
            return Err(QueryError::execution("Parameter value is NaN"));
        }
        if min <= i64::MIN as f64 {
            return Err(QueryError::execution(format!("Scalar value {} underflows int64", g(min))));
        }
        if max >= i64::MAX as f64 {
            return Err(QueryError::execution(format!("Scalar value {} overflows int64", g(max))));
        }
        Ok(Some(parameter))
    }

    /// `limit_ratio`: by the hash of the labels.
    fn sample(&self, table: &Table<'_>, ratio: &ScalarColumn, kept: &mut [Bits]) {
        for (series, kept) in table.series.iter().zip(kept) {
            let hash = series.labels.resolve(&self.ctx.symbols).prometheus_hash();
            let place = hash as f64 / u64::MAX as f64;
            for step in series.column.presence().iter() {
                let r = ratio.at(step).clamp(-1.0, 1.0);
                if (r >= 0.0 && place < r) || (r < 0.0 && place >= 1.0 + r) {
                    kept.set(step);
                }
            }
        }
    }
}

/// The first k series of each group and step.
fn limit(
    table: &Table<'_>,
    members: &[usize],
    groups: usize,
    k: &ScalarColumn,
    kept: &mut [Bits],
    steps: usize,
) {
    let mut taken = vec![0.0; groups * steps];
    for ((series, kept), group) in table.series.iter().zip(kept).zip(members) {
        for step in series.column.presence().iter() {
            let taken = &mut taken[group * steps + step];
            if *taken + 1.0 <= k.at(step) {
                *taken += 1.0;
                kept.set(step);
            }
        }
    }
}
