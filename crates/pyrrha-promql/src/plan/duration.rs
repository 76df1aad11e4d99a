//! Duration expressions: their value once step and range of the query are known.

use super::build::Bounds;
use crate::annotations::line_and_column;
use crate::ast::{BinaryOp, Duration, DurationExpr, Pos};
use crate::error::QueryError;

/// The value in ms. `positive`: whether zero and less are refused. What has no value makes the query invalid:
/// Prometheus computes it before it evaluates anything.
pub(super) fn resolve(duration: &Duration, bounds: &Bounds<'_>, positive: bool) -> Result<i64, QueryError> {
    let expr = match duration {
        Duration::Fixed(ms) => return Ok(*ms),
        Duration::Expr(expr) => expr,
    };
    let seconds = value(expr, bounds)?;
    let fail = |text: &str| {
        let at = line_and_column(bounds.text, position(expr).start);
        Err(QueryError::Invalid(format!("{at}: {text}")))
    };
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
fn value(expr: &DurationExpr, bounds: &Bounds<'_>) -> Result<f64, QueryError> {
    Ok(match expr {
        DurationExpr::Number(number) => number.value,
        DurationExpr::Step(_) => bounds.step as f64 / 1000.0,
        DurationExpr::Range(_) => (bounds.end - bounds.start) as f64 / 1000.0,
        DurationExpr::MinOf(a, b, _) => value(a, bounds)?.min(value(b, bounds)?),
        DurationExpr::MaxOf(a, b, _) => value(a, bounds)?.max(value(b, bounds)?),
        DurationExpr::Unary { negative: true, expr, .. } => -value(expr, bounds)?,
        DurationExpr::Unary { expr, .. } | DurationExpr::Paren(expr, _) => value(expr, bounds)?,
        DurationExpr::Binary { op, lhs, rhs, pos } => {
            binary(*op, value(lhs, bounds)?, value(rhs, bounds)?, *pos, bounds)?
        }
    })
}

fn binary(op: BinaryOp, a: f64, b: f64, pos: Pos, bounds: &Bounds<'_>) -> Result<f64, QueryError> {
    let fail = |text: &str| {
        let at = line_and_column(bounds.text, pos.start);
        Err(QueryError::Invalid(format!("{at}: {text}")))
    };
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

fn position(expr: &DurationExpr) -> Pos {
    match expr {
        DurationExpr::Number(number) => number.pos,
        DurationExpr::Step(pos)
        | DurationExpr::Range(pos)
        | DurationExpr::MinOf(_, _, pos)
        | DurationExpr::MaxOf(_, _, pos)
        | DurationExpr::Unary { pos, .. }
        | DurationExpr::Binary { pos, .. }
        | DurationExpr::Paren(_, pos) => *pos,
    }
}
