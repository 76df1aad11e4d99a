//! Operators element by element: unary minus, and vector operators with a scalar on one side.

use std::sync::Arc;

use pyrrha_model::histogram::Keep;
use pyrrha_model::{CounterResetHint, FloatHistogram};

use crate::annotations::{Annotation, HistogramOperation, Note};
use crate::ast::{BinaryOp, Pos};
use crate::error::QueryError;
use crate::exec::pipeline::Stage;
use crate::exec::{Exec, arithmetic, compare};
use crate::value::{Bits, Column, Sample, ScalarColumn, Series};

/// `-v`
pub(crate) struct Negate<'a> {
    pub(crate) exec: &'a Exec<'a>,
}

impl Stage for Negate<'_> {
    fn apply(&self, mut series: Series, _: &mut Vec<Annotation>) -> Result<Option<Series>, QueryError> {
        series.column.floats_mut().0.iter_mut().for_each(|v| *v = -*v);
        for (_, h) in series.column.histograms_mut() {
            *h = Arc::new(scaled(h, -1.0));
        }
        self.exec.drop_name(&mut series);
        Ok(Some(series))
    }
}

fn scaled(h: &FloatHistogram, factor: f64) -> FloatHistogram {
    let mut out = h.clone();
    out.scale(factor);
    out.compact(0);
    out
}

/// A vector operator with a scalar on one side.
pub(crate) struct ScalarSide<'a> {
    pub(crate) exec: &'a Exec<'a>,
    pub(crate) op: BinaryOp,
    pub(crate) scalar: ScalarColumn,
    /// Whether the scalar is the left operand.
    pub(crate) scalar_left: bool,
    pub(crate) return_bool: bool,
    pub(crate) pos: Pos,
}

impl Stage for ScalarSide<'_> {
    fn apply(&self, mut series: Series, notes: &mut Vec<Annotation>) -> Result<Option<Series>, QueryError> {
        let trims = matches!(self.op, BinaryOp::TrimUpper | BinaryOp::TrimLower);
        if series.column.histograms().is_empty() && !trims {
            self.floats(&mut series.column);
        } else {
            series.column = self.mixed(&series.column, notes);
        }
        if series.column.is_empty() {
            return Ok(None);
        }
        if drops_name(self.op, self.return_bool) {
            self.exec.drop_name(&mut series);
        }
        Ok(Some(series))
    }
}

impl ScalarSide<'_> {
    fn floats(&self, column: &mut Column) {
        match (self.scalar.constant(), self.scalar_left) {
            (Some(s), false) => self.floats_with(column, |v, _| (v, s)),
            (Some(s), true) => self.floats_with(column, |v, _| (s, v)),
            (None, false) => self.floats_with(column, |v, step| (v, self.scalar.at(step))),
            (None, true) => self.floats_with(column, |v, step| (self.scalar.at(step), v)),
        }
    }

    #[inline]
    fn floats_with(&self, column: &mut Column, operands: impl Fn(f64, usize) -> (f64, f64)) {
        if !self.op.is_comparison() {
            return self.arithmetic_with(column, operands);
        }
        let (values, present) = column.floats_mut();
        let op = self.op;
        if self.return_bool {
            for (step, v) in values.iter_mut().enumerate() {
                let (a, b) = operands(*v, step);
                *v = f64::from(u8::from(compare(op, a, b)));
            }
            return;
        }
        let mut kept = Bits::none(values.len());
        for step in present.iter() {
            let (a, b) = operands(values[step], step);
            if compare(op, a, b) {
                kept.set(step);
            }
        }
        *present = kept;
    }

    #[inline]
    fn arithmetic_with(&self, column: &mut Column, operands: impl Fn(f64, usize) -> (f64, f64)) {
        let (values, _) = column.floats_mut();
        let each = |values: &mut [f64], f: &dyn Fn(f64, f64) -> f64| {
            for (step, v) in values.iter_mut().enumerate() {
                let (a, b) = operands(*v, step);
                *v = f(a, b);
            }
        };
        macro_rules! loops {
            ($($op:ident => $f:expr),*) => {
                match self.op {
                    // One loop per operator, so that the simple ones are vectorised.
                    $(BinaryOp::$op => for (step, v) in values.iter_mut().enumerate() {
                        let (a, b) = operands(*v, step);
                        *v = $f(a, b);
                    },)*
                    op => each(values, &|a, b| arithmetic(op, a, b).unwrap_or(f64::NAN)),
                }
            };
        }
        loops!(
            Add => |a: f64, b: f64| a + b,
            Sub => |a: f64, b: f64| a - b,
            Mul => |a: f64, b: f64| a * b,
            Div => |a: f64, b: f64| a / b
        );
    }

    fn mixed(&self, column: &Column, notes: &mut Vec<Annotation>) -> Column {
        let mut out = Column::new(column.steps());
        for (step, value) in column.iter() {
            let scalar = Sample::Float(self.scalar.at(step));
            let (lhs, rhs) = if self.scalar_left { (&scalar, &value) } else { (&value, &scalar) };
            let Element { value: result, keep } = element(self.op, lhs, rhs, self.pos, notes);
            if self.op.is_comparison() {
                if self.return_bool {
                    if let Some(keep) = keep {
                        out.set_float(step, f64::from(u8::from(keep)));
                    }
                } else if keep == Some(true) {
                    out.set(step, value);
                }
            } else if let Some(result) = result {
                out.set(step, result);
            }
        }
        out
    }
}

/// The outcome of an operator between two samples.
pub(crate) struct Element {
    /// The value of an arithmetic operator, if it has one.
    pub(crate) value: Option<Sample>,
    /// Of a comparison: whether it holds; `None` if the samples cannot be compared.
    pub(crate) keep: Option<bool>,
}

/// Applies an operator to two samples.
pub(crate) fn element(
    op: BinaryOp,
    lhs: &Sample,
    rhs: &Sample,
    pos: Pos,
    notes: &mut Vec<Annotation>,
) -> Element {
    let value = |value| Element { value, keep: None };
    let mut note = |note| notes.push(Annotation { note, metric: "".into(), pos });
    match (lhs, rhs) {
        (Sample::Float(a), Sample::Float(b)) => {
            if op.is_comparison() {
                return Element { value: None, keep: Some(compare(op, *a, *b)) };
            }
            if let Some(result) = arithmetic(op, *a, *b) {
                return value(Some(Sample::Float(result)));
            }
            note(Note::IncompatibleTypes("float", op, "float"));
        }
        (Sample::Float(a), Sample::Histogram(h)) => {
            if op == BinaryOp::Mul {
                return value(Some(Sample::Histogram(Arc::new(scaled(h, *a)))));
            }
            note(Note::IncompatibleTypes("float", op, "histogram"));
        }
        (Sample::Histogram(h), Sample::Float(b)) => match op {
            BinaryOp::Mul => return value(Some(Sample::Histogram(Arc::new(scaled(h, *b))))),
            BinaryOp::Div => {
                let mut out = (**h).clone();
                out.divide(*b);
                out.compact(0);
                return value(Some(Sample::Histogram(Arc::new(out))));
            }
            BinaryOp::TrimUpper | BinaryOp::TrimLower => {
                let keep = if op == BinaryOp::TrimUpper { Keep::Below } else { Keep::Above };
                let mut out = h.trim(*b, keep);
                out.compact(0);
                return value(Some(Sample::Histogram(Arc::new(out))));
            }
            _ => note(Note::IncompatibleTypes("histogram", op, "float")),
        },
        (Sample::Histogram(a), Sample::Histogram(b)) => match op {
            BinaryOp::Eq => return Element { value: None, keep: Some(a.same_distribution(b)) },
            BinaryOp::Ne => return Element { value: None, keep: Some(!a.same_distribution(b)) },
            BinaryOp::Add | BinaryOp::Sub => {
                return value(combine(op, a, b, &mut note).map(Sample::Histogram));
            }
            _ => note(Note::IncompatibleTypes("histogram", op, "histogram")),
        },
    }
    value(None)
}

fn combine(
    op: BinaryOp,
    a: &FloatHistogram,
    b: &FloatHistogram,
    note: &mut impl FnMut(Note),
) -> Option<Arc<FloatHistogram>> {
    let mut out = a.clone();
    let (result, operation) = match op {
        BinaryOp::Add => (out.add(b), HistogramOperation::Addition),
        _ => (out.sub(b), HistogramOperation::Subtraction),
    };
    let Ok(combined) = result else {
        note(Note::IncompatibleBucketLayout(op));
        return None;
    };
    if combined.conflicting_resets {
        note(Note::CounterResetCollision(operation));
    }
    if combined.reconciled_bounds {
        note(Note::MismatchedCustomBuckets(operation));
    }
    if op == BinaryOp::Sub {
        out.counter_reset_hint = CounterResetHint::Gauge;
    }
    out.compact(0);
    Some(Arc::new(out))
}

/// Whether the result of an operator is another metric than its operand. Comparisons and trims
/// only leave something out.
pub(crate) fn drops_name(op: BinaryOp, return_bool: bool) -> bool {
    return_bool
        || !(op.is_comparison() || op.is_set() || matches!(op, BinaryOp::TrimUpper | BinaryOp::TrimLower))
}
