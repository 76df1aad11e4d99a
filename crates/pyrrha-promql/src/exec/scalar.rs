//! Arithmetic on floats, and expressions whose value is a scalar.

use pyrrha_model::go_fmt::quote;

use crate::ast::{BinaryOp, ValueType};
use crate::error::QueryError;
use crate::exec::Exec;
use crate::function::FunctionId;
use crate::plan::{Binary, Call, Kind, Node};
use crate::value::{ScalarColumn, Steps};

/// The value of an operator between two scalars; comparisons give 1 or 0. `None` for operators
/// that scalars do not have.
pub(crate) fn scalar_binary(op: BinaryOp, a: f64, b: f64) -> Option<f64> {
    if op.is_comparison() {
        return Some(f64::from(u8::from(compare(op, a, b))));
    }
    arithmetic(op, a, b)
}

/// `+ - * / % ^ atan2`
#[inline]
pub(crate) fn arithmetic(op: BinaryOp, a: f64, b: f64) -> Option<f64> {
    Some(match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        BinaryOp::Div => a / b,
        BinaryOp::Mod => a % b,
        BinaryOp::Pow => a.powf(b),
        BinaryOp::Atan2 => a.atan2(b),
        _ => return None,
    })
}

/// `== != > < >= <=`
#[inline]
pub(crate) fn compare(op: BinaryOp, a: f64, b: f64) -> bool {
    match op {
        BinaryOp::Eq => a == b,
        BinaryOp::Ne => a != b,
        BinaryOp::Gt => a > b,
        BinaryOp::Lt => a < b,
        BinaryOp::Ge => a >= b,
        BinaryOp::Le => a <= b,
        _ => false,
    }
}

impl<'a> Exec<'a> {
    /// Evaluates a scalar expression.
    pub(crate) fn scalar(&'a self, node: &'a Node, steps: Steps) -> Result<ScalarColumn, QueryError> {
        if node.invariant && steps.count > 1 && self.options.optimiser.hoist_invariant {
            let before = self.watch.counted();
            let once = self.scalar(node, Steps { count: 1, ..steps })?;
            self.watch.count_each_step(&before, steps.count);
            return Ok(ScalarColumn::Constant(once.at(0)));
        }
        match &node.kind {
            Kind::Number(v) => Ok(ScalarColumn::Constant(*v)),
            Kind::Negate(inner) => Ok(map(self.scalar(inner, steps)?, |v| -v)),
            Kind::Binary(binary) => self.scalar_operator(binary, steps),
            Kind::Call(call) => self.scalar_call(call, steps),
            Kind::Text(_) | Kind::Select(_) | Kind::Matrix(_) | Kind::Subquery(_) | Kind::Aggregate(_) => {
                Err(mismatch(node.ty))
            }
        }
    }

    fn scalar_operator(&'a self, binary: &'a Binary, steps: Steps) -> Result<ScalarColumn, QueryError> {
        let (a, b) = (self.scalar(&binary.lhs, steps)?, self.scalar(&binary.rhs, steps)?);
        if scalar_binary(binary.op, 0.0, 0.0).is_none() {
            let operator = quote(binary.op.as_str());
            return Err(QueryError::Execution(format!(
                "operator {operator} not allowed for Scalar operations"
            )));
        }
        let value = |a, b| scalar_binary(binary.op, a, b).unwrap_or(f64::NAN);
        Ok(match (a.constant(), b.constant()) {
            (Some(a), Some(b)) => ScalarColumn::Constant(value(a, b)),
            _ => ScalarColumn::Steps((0..steps.count).map(|i| value(a.at(i), b.at(i))).collect()),
        })
    }

    fn scalar_call(&'a self, call: &'a Call, steps: Steps) -> Result<ScalarColumn, QueryError> {
        match (call.id(), call.args.as_slice()) {
            (FunctionId::Time, []) => {
                self.afford_dense(steps)?;
                Ok(ScalarColumn::Steps((0..steps.count).map(|i| steps.time(i) as f64 / 1000.0).collect()))
            }
            (FunctionId::MinOf, [a, b]) => self.scalar_pair(a, b, steps, f64::min),
            (FunctionId::MaxOf, [a, b]) => self.scalar_pair(a, b, steps, f64::max),
            (FunctionId::Scalar, [vector]) => self.scalar_of_vector(vector, steps),
            _ => Err(mismatch(call.function.returns)),
        }
    }

    fn scalar_pair(
        &'a self,
        a: &'a Node,
        b: &'a Node,
        steps: Steps,
        pick: fn(f64, f64) -> f64,
    ) -> Result<ScalarColumn, QueryError> {
        let (a, b) = (self.scalar(a, steps)?, self.scalar(b, steps)?);
        // As Go's math.Min and math.Max: NaN if either is.
        let pick = |a: f64, b: f64| if a.is_nan() || b.is_nan() { f64::NAN } else { pick(a, b) };
        Ok(match (a.constant(), b.constant()) {
            (Some(a), Some(b)) => ScalarColumn::Constant(pick(a, b)),
            _ => ScalarColumn::Steps((0..steps.count).map(|i| pick(a.at(i), b.at(i))).collect()),
        })
    }

    /// `scalar(v)`: the float of the only float series at each step, else NaN.
    fn scalar_of_vector(&'a self, vector: &'a Node, steps: Steps) -> Result<ScalarColumn, QueryError> {
        let table = self.vector(vector, steps)?;
        self.afford_dense(steps)?;
        let mut values = vec![f64::NAN; steps.count];
        let mut found = vec![false; steps.count];
        for series in &table.series {
            let (floats, present) = series.column.floats();
            for step in present.iter() {
                values[step] = if found[step] { f64::NAN } else { floats[step] };
                found[step] = true;
            }
        }
        Ok(ScalarColumn::Steps(values))
    }
}

fn map(scalar: ScalarColumn, f: impl Fn(f64) -> f64) -> ScalarColumn {
    match scalar {
        ScalarColumn::Constant(v) => ScalarColumn::Constant(f(v)),
        ScalarColumn::Steps(values) => ScalarColumn::Steps(values.into_iter().map(f).collect()),
    }
}

/// An expression of a type that the parser's checks do not let through.
pub(crate) fn mismatch(found: ValueType) -> QueryError {
    QueryError::Invalid(format!("unexpected expression of type {}", found.describe()))
}
