//! Dispatch: which operator evaluates which node, as a stream or as a table.

use pyrrha_model::TimeRange;

use crate::ast::{RangeMode, ValueType};
use crate::error::QueryError;
use crate::exec::operator::{Negate, ScalarSide, drops_name};
use crate::exec::pipeline::{Names, Pipeline};
use crate::exec::select::{Take, Times};
use crate::exec::stages::{Map, PerSeries, StepTimes};
use crate::exec::whole::is_table_call;
use crate::exec::window::{RangeHead, SubqueryStage, Windows};
use crate::exec::{Exec, Table, mismatch};
use crate::function::FunctionId;
use crate::functions;
use crate::kernel::{InstantKernel, KernelArgs};
use crate::labels::LabelIds;
use crate::plan::{Binary, Call, Kind, Node, Subquery};
use crate::value::{Column, ScalarColumn, Series, Steps};

impl<'a> Exec<'a> {
    /// Evaluates an instant-vector expression into a table.
    pub(crate) fn vector(&'a self, node: &'a Node, steps: Steps) -> Result<Table<'a>, QueryError> {
        self.check()?;
        if node.invariant && steps.count > 1 && self.options.optimiser.hoist_invariant {
            let before = self.watch.counted();
            let once = self.vector(node, Steps { count: 1, ..steps })?;
            self.watch.count_each_step(&before, steps.count);
            return self.broadcast(once, steps.count);
        }
        match node.shared {
            Some(id) => self.share(id, node, steps, || self.vector_itself(node, steps)),
            None => self.vector_itself(node, steps),
        }
    }

    fn vector_itself(&'a self, node: &'a Node, steps: Steps) -> Result<Table<'a>, QueryError> {
        match &node.kind {
            Kind::Aggregate(aggregate) => self.watched(node, || self.aggregate(aggregate, steps)),
            Kind::Binary(binary) if binary.matching.is_some() => {
                self.watched(node, || self.vector_operator(binary, node.pos, steps))
            }
            Kind::Call(call) if is_table_call(call) => {
                self.watched(node, || self.table_call(call, node, steps))
            }
            _ => {
                let pipeline = self.stream(node, steps)?;
                self.collect(pipeline)
            }
        }
    }

    /// Opens an instant-vector expression as a stream. What has to be held anyway is evaluated.
    pub(crate) fn stream(&'a self, node: &'a Node, steps: Steps) -> Result<Pipeline<'a>, QueryError> {
        if node.invariant && steps.count > 1 && self.options.optimiser.hoist_invariant {
            return Ok(Pipeline::table(self, self.vector(node, steps)?));
        }
        match &node.kind {
            Kind::Select(selector) => Ok(self.probed(node, self.select(selector, steps, Take::Value)?)),
            Kind::Negate(inner) => {
                let inner = self.stream(inner, steps)?;
                Ok(self.probed(node, inner.with(Negate { exec: self }, Names::Dropped)))
            }
            Kind::Binary(binary) if binary.matching.is_none() => {
                Ok(self.probed(node, self.scalar_side(binary, node, steps)?))
            }
            Kind::Call(call) if is_table_call(call) => {
                let table = self.watched(node, || self.table_call(call, node, steps))?;
                Ok(Pipeline::table(self, table))
            }
            Kind::Call(call) => Ok(self.probed(node, self.stream_call(call, steps)?)),
            Kind::Aggregate(_) | Kind::Binary(_) => Ok(Pipeline::table(self, self.vector(node, steps)?)),
            Kind::Number(_) | Kind::Text(_) | Kind::Matrix(_) | Kind::Subquery(_) => Err(mismatch(node.ty)),
        }
    }

    fn broadcast(&'a self, once: Table<'a>, steps: usize) -> Result<Table<'a>, QueryError> {
        let mut table = Table::empty(self);
        for series in once.series {
            let column = series.column.broadcast(steps);
            table.push(Series { column, ..series })?;
        }
        Ok(table)
    }

    /// A vector operator with a scalar on one side.
    fn scalar_side(
        &'a self,
        binary: &'a Binary,
        node: &'a Node,
        steps: Steps,
    ) -> Result<Pipeline<'a>, QueryError> {
        let scalar_left = binary.lhs.ty == ValueType::Scalar;
        let (vector, scalar) =
            if scalar_left { (&binary.rhs, &binary.lhs) } else { (&binary.lhs, &binary.rhs) };
        let scalar = self.scalar(scalar, steps)?;
        let drops = drops_name(binary.op, binary.return_bool);
        let stage = ScalarSide {
            exec: self,
            op: binary.op,
            scalar,
            scalar_left,
            return_bool: binary.return_bool,
            pos: node.pos,
        };
        Ok(self.stream(vector, steps)?.with(stage, if drops { Names::Dropped } else { Names::Unique }))
    }

    /// The scalar and string arguments of a call.
    pub(crate) fn arguments(
        &'a self,
        call: &'a Call,
        steps: Steps,
    ) -> Result<(Vec<ScalarColumn>, Vec<String>), QueryError> {
        let (mut scalars, mut strings) = (Vec::new(), Vec::new());
        for arg in &call.args {
            match (&arg.kind, arg.ty) {
                (Kind::Text(text), _) => strings.push(text.clone()),
                (_, ValueType::Scalar) => scalars.push(self.scalar(arg, steps)?),
                _ => {}
            }
        }
        Ok((scalars, strings))
    }

    /// What kernels know of the query; arguments are still missing.
    pub(crate) fn kernel_args(&self, steps: Steps) -> KernelArgs<'_> {
        KernelArgs {
            scalars: &[],
            strings: &[],
            steps,
            step: 0,
            symbols: &self.ctx.symbols,
            range_query: self.range_query,
            delayed_name_removal: self.options.features.delayed_name_removal,
            type_and_unit_labels: self.options.features.type_and_unit_labels,
            start_timestamps: self.options.features.use_start_timestamps,
        }
    }

    /// Calls that work on one series at a time.
    fn stream_call(&'a self, call: &'a Call, steps: Steps) -> Result<Pipeline<'a>, QueryError> {
        if let Some(matrix) = call.arg(ValueType::Matrix) {
            return self.range_call(call, matrix, steps);
        }
        let (scalars, strings) = self.arguments(call, steps)?;
        let input = match call.arg(ValueType::Vector) {
            Some(Node { kind: Kind::Select(selector), .. }) if call.id() == FunctionId::Timestamp => {
                let times = self.select(selector, steps, Take::Timestamp)?;
                return Ok(times.with(StepTimes { exec: self, steps: None }, Names::Dropped));
            }
            Some(Node { kind: Kind::Select(selector), .. }) if call.id() == FunctionId::StartTimestamp => {
                let starts = self.select(selector, steps, Take::Start)?;
                return Ok(starts.with(StepTimes { exec: self, steps: None }, Names::Dropped));
            }
            // Only samples as they are stored have a start.
            Some(_) if call.id() == FunctionId::StartTimestamp => {
                return Ok(Pipeline::table(self, Table::empty(self)));
            }
            Some(vector) => self.stream(vector, steps)?,
            // Date functions without an argument look at the evaluation time.
            None => {
                self.afford_dense(steps)?;
                let times = (0..steps.count).map(|i| steps.time(i) as f64 / 1000.0).collect();
                Pipeline::table(self, self.one_series(Column::dense(times))?)
            }
        };
        if call.id() == FunctionId::Timestamp {
            return Ok(input.with(StepTimes { exec: self, steps: Some(steps) }, Names::Dropped));
        }
        match functions::instant_kernel(call.id()) {
            Some(InstantKernel::Map(kernel)) => Ok(input.with(Map { exec: self, kernel }, Names::Dropped)),
            Some(InstantKernel::Series(kernel)) => {
                let stage =
                    PerSeries { exec: self, kernel, scalars, strings, positions: &call.positions, steps };
                Ok(input.with(stage, Names::Dropped))
            }
            Some(InstantKernel::Vector(_)) | None => Err(unsupported(call)),
        }
    }

    /// A range function over a range selector or subquery.
    pub(crate) fn range_call(
        &'a self,
        call: &'a Call,
        matrix: &'a Node,
        steps: Steps,
    ) -> Result<Pipeline<'a>, QueryError> {
        let (mode, range, at, offset, counted) = match &matrix.kind {
            Kind::Matrix(s) => (s.mode, s.range, s.at, s.offset, s.counted),
            Kind::Subquery(s) => (RangeMode::Classic, s.range, s.at, s.offset, s.counted),
            _ => return Err(mismatch(matrix.ty)),
        };
        let kernel = functions::range_kernel(call.id(), mode).ok_or_else(|| unsupported(call))?;
        let (scalars, _) = self.arguments(call, steps)?;
        let keeps_name = matches!(call.id(), FunctionId::LastOverTime | FunctionId::FirstOverTime);
        let is_counter = matches!(call.id(), FunctionId::Rate | FunctionId::Increase);
        let arg = call.args.iter().position(|a| a.ty == ValueType::Matrix);
        let windows = Windows {
            exec: self,
            steps,
            times: Times::new(steps, at, offset),
            range,
            widen: Windows::widened(mode, self.lookback),
            kernel,
            function: call.id(),
            slide: (mode == RangeMode::Classic).then(|| functions::slide(call.id())).flatten(),
            scalars,
            positions: &call.positions,
            keeps_name,
            counter_name: arg.filter(|_| is_counter),
            counted,
        };
        let names = if keeps_name { Names::Unique } else { Names::DroppedByRange };
        match &matrix.kind {
            Kind::Matrix(selector) => {
                let span = windows.span();
                let starts = self.options.features.use_start_timestamps;
                let head = RangeHead {
                    windows,
                    stats_only: selector.stats_only,
                    node: selector.number,
                    understands_windows: mode == RangeMode::Classic && !starts,
                };
                let mut pipeline = self.open(selector, span, steps, head)?;
                pipeline.names = names;
                Ok(pipeline)
            }
            Kind::Subquery(subquery) => {
                let inner = self.subquery_steps(subquery, windows.span())?;
                let stage = SubqueryStage { windows, inner };
                Ok(self.stream(&subquery.expr, inner)?.with(stage, names))
            }
            _ => Err(mismatch(matrix.ty)),
        }
    }

    /// The steps of a subquery: the multiples of its step inside the span.
    pub(crate) fn subquery_steps(&self, subquery: &Subquery, span: TimeRange) -> Result<Steps, QueryError> {
        let step = subquery.step.max(1);
        let first = span.start.div_euclid(step) + i64::from(span.start.rem_euclid(step) != 0);
        let steps = Steps::between(first.saturating_mul(step), span.end, step);
        // Steps are numbered in 32 bits; so many would not end in time anyway.
        if steps.count > u32::MAX as usize / 2 {
            return Err(QueryError::TooManySamples);
        }
        Ok(steps)
    }

    /// A table of one series without labels.
    pub(crate) fn one_series(&'a self, column: Column) -> Result<Table<'a>, QueryError> {
        Table::charged(self, vec![Series { labels: LabelIds::empty(), drop_name: false, column }])
    }
}

/// A function without an implementation for this kind of argument.
pub(crate) fn unsupported(call: &Call) -> QueryError {
    QueryError::execution(format!("function {:?} cannot be evaluated on this argument", call.function.name))
}
