//! Duration expressions: their value once step and range of the query are known.

use super::build::Bounds;
use crate::ast::{BinaryOp, Duration, DurationExpr, Pos};
use crate::error::QueryError;

/// The value in ms. `positive`: whether zero and less are refused. What has no value makes the query invalid:
/// Prometheus computes it before it evaluates anything.
pub(super) fn resolve(duration: &Duration, bounds: &Bounds, positive: bool) -> Result<i64, QueryError> {
    let expr = match duration {
        Duration::Fixed(ms) => return Ok(*ms),
        Duration::Expr(expr) => expr,
    };
    let seconds = value(expr, bounds)?;
    let fail = |text: &str| Err(refusal(position(expr), text));
    if !seconds.is_finite() {
        return fail("duration is NaN or infinite");
    }
    let ms = seconds * 1000.0;
    if positive && seconds <= 0.0 {
        return fail("duration must be greater than 0");
    }
    // Prometheus holds durations as int64 nanoseconds.
    if ms.abs() > (i64::MAX / 1_000_000) as f64 {
        return fail("duration is out of range");
    }
    Ok(ms as i64)
}

/// The value in seconds.
fn value(expr: &DurationExpr, bounds: &Bounds) -> Result<f64, QueryError> {
    Ok(match expr {
        DurationExpr::Number(number) => number.value,
        DurationExpr::Step(_) => bounds.step as f64 / 1000.0,
        DurationExpr::Range(_) => (bounds.end - bounds.start) as f64 / 1000.0,
        DurationExpr::MinOf(a, b, _) => value(a, bounds)?.min(value(b, bounds)?),
        DurationExpr::MaxOf(a, b, _) => value(a, bounds)?.max(value(b, bounds)?),
        DurationExpr::Unary { negative: true, expr, .. } => -value(expr, bounds)?,
        DurationExpr::Unary { expr, .. } | DurationExpr::Paren(expr, _) => value(expr, bounds)?,
        DurationExpr::Binary { op, lhs, rhs, .. } => {
            binary(*op, value(lhs, bounds)?, value(rhs, bounds)?, position(expr))?
        }
    })
}

fn binary(op: BinaryOp, a: f64, b: f64, pos: Pos) -> Result<f64, QueryError> {
    let fail = |text: &str| Err(refusal(pos, text));
    match op {
        BinaryOp::Add => Ok(a + b),
        BinaryOp::Sub => Ok(a - b),
        BinaryOp::Mul => Ok(a * b),
        BinaryOp::Div if b == 0.0 => fail("division by zero"),
        BinaryOp::Div => Ok(a / b),
        BinaryOp::Mod if b == 0.0 => fail("modulo by zero"),
        BinaryOp::Mod => Ok(a % b),
        BinaryOp::Pow => Ok(a.powf(b)),
        _ => fail("unexpected operator in duration expression"),
    }
}

/// Here Prometheus gives no line and column, but the bytes where the expression starts and ends.
fn refusal(pos: Pos, text: &str) -> QueryError {
    QueryError::Invalid(format!("{}:{}: {text}", pos.start, pos.end))
}

/// From the first operand to the last one: neither parentheses nor the words of functions count.
fn position(expr: &DurationExpr) -> Pos {
    match expr {
        DurationExpr::Number(number) => number.pos,
        DurationExpr::Step(pos) | DurationExpr::Range(pos) => *pos,
        DurationExpr::MinOf(lhs, rhs, _)
        | DurationExpr::MaxOf(lhs, rhs, _)
        | DurationExpr::Binary { lhs, rhs, .. } => Pos { start: position(lhs).start, end: position(rhs).end },
        DurationExpr::Unary { expr, pos, .. } => Pos { start: pos.start, end: position(expr).end },
        DurationExpr::Paren(inner, _) => position(inner),
    }
}
