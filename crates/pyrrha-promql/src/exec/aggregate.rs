//! Aggregations. Those that need only one accumulator per group and step fold streams; the others
//! look at a table.

mod accumulate;
mod groups;
mod histograms;
mod pick;
mod ranked;

use pyrrha_model::SymbolId;

use crate::annotations::{Annotation, Note};
use crate::ast::{AggregateOp, Pos};
use crate::error::QueryError;
use crate::exec::pipeline::{Fold, Names, Pipeline};
use crate::exec::{Charge, Exec, Table, mismatch};
use crate::plan::{Aggregate, Kind, has_one_name};
use crate::value::{ScalarColumn, Series, Steps};
use accumulate::Accumulator;
use groups::{Grouping, Groups};
pub(crate) use pick::Picked;

/// Accumulators by group.
pub(crate) struct Part<'a> {
    groups: Groups,
    accumulators: Vec<(bool, Accumulator)>,
    charge: Charge<'a>,
}

/// Folds series into one accumulator per group.
struct Grouped<'a> {
    exec: &'a Exec<'a>,
    op: AggregateOp,
    grouping: Grouping,
    steps: usize,
    pos: Pos,
}

impl<'a> Exec<'a> {
    /// Evaluates an aggregation.
    pub(crate) fn aggregate(&'a self, node: &'a Aggregate, steps: Steps) -> Result<Table<'a>, QueryError> {
        match node.op {
            AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::Limitk | AggregateOp::LimitRatio => {
                Ok(self.pick(node, steps)?.table)
            }
            AggregateOp::CountValues => self.count_values(node, steps),
            AggregateOp::Sum
            | AggregateOp::Avg
            | AggregateOp::Min
            | AggregateOp::Max
            | AggregateOp::Count
            | AggregateOp::Group
            | AggregateOp::Stddev
            | AggregateOp::Stdvar
            | AggregateOp::Quantile => self.fold_groups(node, steps),
        }
    }

    /// The aggregated stream; label sets are unique in it.
    fn aggregated(&'a self, node: &'a Aggregate, steps: Steps) -> Result<Pipeline<'a>, QueryError> {
        let pipeline = self.stream(&node.expr, steps)?;
        let one_name = node.expr.first_selector().is_some_and(has_one_name);
        let may_clash = pipeline.names != Names::Unique && !self.options.features.delayed_name_removal;
        if may_clash && !one_name { Ok(Pipeline::table(self, self.collect(pipeline)?)) } else { Ok(pipeline) }
    }

    /// The parameter of the aggregation.
    fn parameter(&'a self, node: &'a Aggregate, steps: Steps) -> Result<ScalarColumn, QueryError> {
        match &node.param {
            Some(param) => self.scalar(param, steps),
            None => Err(mismatch(crate::ast::ValueType::Scalar)),
        }
    }

    fn fold_groups(&'a self, node: &'a Aggregate, steps: Steps) -> Result<Table<'a>, QueryError> {
        let phi = match node.op {
            AggregateOp::Quantile => Some(self.parameter(node, steps)?),
            _ => None,
        };
        if let Some(phi) = &phi {
            self.check_quantile(phi, steps.count, node.param_pos);
        }
        let fold = Grouped {
            exec: self,
            op: node.op,
            grouping: self.grouping(node),
            steps: steps.count,
            pos: node.expr_pos,
        };
        let mut total = fold.begin()?;
        self.run(self.aggregated(node, steps)?, &fold, &mut total)?;
        let mut notes = Vec::new();
        let mut table = Table::empty(self);
        for (labels, (drop_name, accumulator)) in total.groups.labels.into_iter().zip(total.accumulators) {
            let column = accumulator.finish(phi.as_ref(), &mut |note| {
                notes.push(Annotation { note, metric: "".into(), pos: node.expr_pos });
            });
            if !column.is_empty() {
                table.push(Series { labels, drop_name, column })?;
            }
        }
        self.annotate(notes);
        Ok(table)
    }

    fn check_quantile(&self, phi: &ScalarColumn, steps: usize, pos: Pos) {
        let values = || (0..steps).map(|i| phi.at(i));
        let max = values().fold(f64::NEG_INFINITY, f64::max);
        let min = values().fold(f64::INFINITY, f64::min);
        // Beside NaN no other number is told.
        let wrong = if values().any(f64::is_nan) {
            [Some(f64::NAN), None]
        } else {
            [(max > 1.0).then_some(max), (min < 0.0).then_some(min)]
        };
        self.annotate(wrong.into_iter().flatten().map(|value| Annotation {
            note: Note::InvalidQuantile(value),
            metric: "".into(),
            pos,
        }));
    }

    pub(crate) fn grouping(&self, node: &Aggregate) -> Grouping {
        let mut names: Vec<_> = node.grouping.iter().map(|n| self.ctx.symbols.intern(n)).collect();
        if node.without {
            // Type and unit stay: they are labels like others here.
            names.push(SymbolId::METRIC_NAME);
        }
        Grouping { names, without: node.without }
    }

    fn count_values(&'a self, node: &'a Aggregate, steps: Steps) -> Result<Table<'a>, QueryError> {
        let label = match node.param.as_ref().map(|p| &p.kind) {
            Some(Kind::Text(label)) => label,
            _ => return Err(mismatch(crate::ast::ValueType::String)),
        };
        if !crate::functions::relabel::is_label_name(label) {
            let label = crate::printer::quoted(label);
            return Err(QueryError::execution(format!("invalid label name {label}")));
        }
        let name = self.ctx.symbols.intern(label);
        let grouping = self.grouping(node);
        let input = self.collect(self.aggregated(node, steps)?)?;
        let mut groups = Groups::default();
        let mut counts: Vec<Series> = Vec::new();
        for series in &input.series {
            self.check()?;
            let labels = groups::restricted(&series.labels, &grouping);
            for (step, value) in series.column.iter() {
                let text = match &value {
                    crate::value::Sample::Float(v) => pyrrha_model::go_fmt::float_f(*v),
                    crate::value::Sample::Histogram(h) => h.to_string(),
                };
                let labels = labels.with(&self.ctx.symbols, name, self.ctx.symbols.intern(&text));
                let (i, new) = groups.find(labels.pairs());
                if new {
                    let column = crate::value::Column::new(steps.count);
                    counts.push(Series { labels, drop_name: false, column });
                }
                let counted = &mut counts[i];
                counted.drop_name |= series.drop_name;
                let before = counted.column.float(step).unwrap_or(0.0);
                counted.column.set_float(step, before + 1.0);
            }
        }
        Table::charged(self, counts)
    }
}

impl<'a> Fold for Grouped<'a> {
    type Part = Part<'a>;
    type Total = Part<'a>;

    fn begin(&self) -> Result<Part<'a>, QueryError> {
        Ok(Part { groups: Groups::default(), accumulators: Vec::new(), charge: Charge::new(self.exec) })
    }

    fn add(
        &self,
        part: &mut Part<'a>,
        series: Series,
        notes: &mut Vec<Annotation>,
    ) -> Result<(), QueryError> {
        let (group, new) = part.groups.find_restricted(&series.labels, &self.grouping);
        if new {
            part.charge.grow(Accumulator::bytes(self.op, self.steps), self.steps)?;
            part.accumulators.push((false, Accumulator::new(self.op, self.steps)));
        }
        let (drop_name, accumulator) = &mut part.accumulators[group];
        *drop_name |= series.drop_name;
        if self.op == AggregateOp::Quantile {
            part.charge.grow(series.column.len() * 8, series.column.len())?;
        }
        accumulator.add(&series.column, &mut |note| {
            // The only one that names the metric.
            let named = note == Note::MixedExponentialCustom;
            let name = || series.labels.metric_name(&self.exec.ctx.symbols);
            notes.push(Annotation { note, metric: if named { name() } else { "".into() }, pos: self.pos });
        });
        Ok(())
    }

    fn fold(&self, total: &mut Part<'a>, part: Part<'a>) -> Result<(), QueryError> {
        let mut notes = Vec::new();
        for (labels, (drop_name, accumulator)) in part.groups.labels.iter().zip(part.accumulators) {
            let (group, new) = total.groups.find(labels.pairs());
            if new {
                total.charge.grow(Accumulator::bytes(self.op, self.steps), self.steps)?;
                total.accumulators.push((drop_name, accumulator));
            } else {
                let (known, into) = &mut total.accumulators[group];
                *known |= drop_name;
                into.merge(accumulator, &mut |note| {
                    notes.push(Annotation { note, metric: "".into(), pos: self.pos });
                });
            }
        }
        self.exec.annotate(notes);
        Ok(())
    }
}
