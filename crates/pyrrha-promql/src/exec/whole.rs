//! Functions that look at all series of a vector at once.

use pyrrha_model::{METRIC_NAME, MatchOp, Matcher};

use crate::annotations::{Annotation, Note};
use crate::ast::{Pos, ValueType};
use crate::error::QueryError;
use crate::exec::call::unsupported;
use crate::exec::pipeline::Names;
use crate::exec::{Exec, Table, mismatch};
use crate::function::FunctionId;
use crate::functions;
use crate::kernel::{InfoSeries, InfoSource, InstantKernel, KernelArgs, KernelNotes, VectorKernel};
use crate::labels::LabelIds;
use crate::plan::{Call, Kind, Lookup, Node, Selector};
use crate::value::{Bits, Column, Series, Steps};

/// Whether a call's result is held anyway; the others work series by series.
pub(super) fn is_table_call(call: &Call) -> bool {
    match call.id() {
        FunctionId::Vector
        | FunctionId::Absent
        | FunctionId::AbsentOverTime
        | FunctionId::Sort
        | FunctionId::SortDesc
        | FunctionId::SortByLabel
        | FunctionId::SortByLabelDesc
        | FunctionId::Info => true,
        id => matches!(functions::instant_kernel(id), Some(InstantKernel::Vector(_))),
    }
}

impl<'a> Exec<'a> {
    /// Evaluates a call whose result is held anyway.
    pub(super) fn table_call(
        &'a self,
        call: &'a Call,
        node: &Node,
        steps: Steps,
    ) -> Result<Table<'a>, QueryError> {
        let vector = || call.arg(ValueType::Vector).ok_or_else(|| mismatch(ValueType::Vector));
        Ok(match call.id() {
            FunctionId::Vector => {
                let scalar = call.args.first().ok_or_else(|| mismatch(ValueType::Scalar))?;
                let scalar = self.scalar(scalar, steps)?;
                self.afford_dense(steps)?;
                self.one_series(Column::dense((0..steps.count).map(|i| scalar.at(i)).collect()))?
            }
            FunctionId::Absent => {
                let input = self.vector(vector()?, steps)?;
                self.absent(vector()?, &input, steps)?
            }
            FunctionId::AbsentOverTime => {
                let matrix = call.arg(ValueType::Matrix).ok_or_else(|| mismatch(ValueType::Matrix))?;
                let mut input = self.range_call(call, matrix, steps)?;
                // Labels do not matter, so they may become equal.
                input.names = Names::Unique;
                let input = self.collect(input)?;
                self.absent(matrix, &input, steps)?
            }
            FunctionId::Sort | FunctionId::SortDesc => {
                let mut table = self.vector(vector()?, steps)?;
                table.series.iter_mut().for_each(|s| s.column.histograms_mut().clear());
                table.series.retain(|s| !s.column.is_empty());
                self.note_sort(node, steps);
                table
            }
            FunctionId::SortByLabel | FunctionId::SortByLabelDesc => {
                self.note_sort(node, steps);
                self.vector(vector()?, steps)?
            }
            FunctionId::Info => self.info(call, node.number, steps)?,
            id => match functions::instant_kernel(id) {
                Some(InstantKernel::Vector(kernel)) => self.vector_kernel(call, kernel, steps)?,
                _ => return Err(unsupported(call)),
            },
        })
    }

    /// Over several steps there is nothing to sort by; what is the same at all steps is evaluated at one.
    fn note_sort(&self, node: &Node, steps: Steps) {
        if steps.count > 1 && !node.invariant {
            let note = Note::SortInRangeQuery;
            self.annotate([Annotation { note, metric: "".into(), pos: node.pos }]);
        }
    }

    fn vector_kernel(
        &'a self,
        call: &'a Call,
        kernel: VectorKernel,
        steps: Steps,
    ) -> Result<Table<'a>, QueryError> {
        let (scalars, strings) = self.arguments(call, steps)?;
        let vector = call.arg(ValueType::Vector).ok_or_else(|| mismatch(ValueType::Vector))?;
        let input = self.vector(vector, steps)?;
        let args = KernelArgs { scalars: &scalars, strings: &strings, ..self.kernel_args(steps) };
        let mut notes = KernelNotes::new(&self.ctx.symbols, &call.positions);
        let mut series = kernel(input.series, &args, &mut notes)?;
        self.annotate(notes.take());
        if !matches!(call.id(), FunctionId::LabelReplace | FunctionId::LabelJoin) {
            series.iter_mut().for_each(|s| self.drop_name(s));
        }
        series.retain(|s| !s.column.is_empty());
        self.merge_equal(Table::charged(self, series)?, false)
    }

    /// 1 at the steps where no series holds anything.
    fn absent(&'a self, arg: &Node, input: &Table<'_>, steps: Steps) -> Result<Table<'a>, QueryError> {
        self.afford_dense(steps)?;
        let mut absent = Bits::all(steps.count);
        input.series.iter().for_each(|s| absent.subtract(&s.column.presence()));
        let mut column = Column::new(steps.count);
        absent.iter().for_each(|i| column.set_float(i, 1.0));
        if column.is_empty() {
            return Ok(Table::empty(self));
        }
        let labels = arg.selector().map_or_else(LabelIds::empty, |s| self.matched_labels(&s.matchers));
        Table::charged(self, vec![Series { labels, drop_name: false, column }])
    }

    /// The labels that matchers of the form `name="value"` fix; a name that occurs twice, or in
    /// another matcher, is left out.
    fn matched_labels(&self, matchers: &[Matcher]) -> LabelIds {
        let symbols = &self.ctx.symbols;
        let mut labels = LabelIds::empty();
        let mut dropped: Vec<&str> = vec![METRIC_NAME];
        for m in matchers.iter().filter(|m| m.name != METRIC_NAME) {
            let name = symbols.intern(&m.name);
            let known = labels.get(name) != pyrrha_model::SymbolId::EMPTY;
            if m.op == MatchOp::Equal && !known && !dropped.contains(&m.name.as_str()) {
                labels = labels.with(symbols, name, symbols.intern(&m.value));
            } else {
                labels = labels.without(&[name]);
            }
            dropped.push(&m.name);
        }
        labels
    }

    fn info(&'a self, call: &'a Call, number: usize, steps: Steps) -> Result<Table<'a>, QueryError> {
        let Some(kernel) = functions::info_kernel() else { return Err(unsupported(call)) };
        let base = call.args.first().ok_or_else(|| mismatch(ValueType::Vector))?;
        let input = self.vector(base, steps)?;
        let matchers = match call.args.get(1).map(|a| &a.kind) {
            Some(Kind::Select(selector)) => selector.matchers.as_slice(),
            Some(_) => return Err(QueryError::execution("expected label selectors only")),
            None => &[],
        };
        let lookup = InfoLookup { exec: self, like: base.first_lookup(), steps, node: number };
        let mut notes = KernelNotes::new(&self.ctx.symbols, &call.positions);
        let series = kernel(input.series, matchers, &lookup, &self.kernel_args(steps), &mut notes)?;
        self.annotate(notes.take());
        self.merge_equal(Table::charged(self, series)?, false)
    }
}

/// Looks up info series at the times of the first selector of `info()`.
struct InfoLookup<'a> {
    exec: &'a Exec<'a>,
    like: Option<Lookup<'a>>,
    steps: Steps,
    /// The number of the call's node.
    node: usize,
}

impl InfoSource for InfoLookup<'_> {
    fn select(&self, matchers: &[Matcher]) -> Result<Vec<InfoSeries>, QueryError> {
        let selector = Selector {
            matchers: matchers.to_vec(),
            at: self.like.and_then(|s| s.at),
            offset: self.like.map_or(0, |s| s.offset),
            range: 0,
            mode: Default::default(),
            projection: None,
            stats_only: false,
            above: "info",
            pos: Pos::default(),
            number: self.node,
            counted: true,
        };
        self.exec.select_with_times(&selector, self.steps)
    }
}
