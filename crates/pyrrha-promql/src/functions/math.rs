//! Functions from float to float: arithmetic and trigonometry; rounding and clamping.

use std::f64::consts::PI;

use crate::function::FunctionId;
use crate::kernel::{KernelArgs, KernelNotes, MapKernel};
use crate::value::Column;

/// The function that computes a float from a float.
pub(super) fn map(function: FunctionId) -> Option<MapKernel> {
    use FunctionId as F;
    Some(match function {
        F::Abs => f64::abs,
        F::Ceil => f64::ceil,
        F::Floor => f64::floor,
        F::Exp => f64::exp,
        F::Ln => f64::ln,
        F::Log2 => f64::log2,
        F::Log10 => f64::log10,
        F::Sqrt => f64::sqrt,
        F::Sgn => sign,
        F::Sin => f64::sin,
        F::Cos => f64::cos,
        F::Tan => f64::tan,
        F::Asin => f64::asin,
        F::Acos => f64::acos,
        F::Atan => f64::atan,
        F::Sinh => f64::sinh,
        F::Cosh => f64::cosh,
        F::Tanh => f64::tanh,
        F::Asinh => f64::asinh,
        F::Acosh => f64::acosh,
        F::Atanh => f64::atanh,
        F::Deg => |v| v * 180.0 / PI,
        F::Rad => |v| v * PI / 180.0,
        _ => return None,
    })
}

/// -1, 0 or 1; zeros and NaN stay as they are.
fn sign(v: f64) -> f64 {
    if v < 0.0 {
        -1.0
    } else if v > 0.0 {
        1.0
    } else {
        v
    }
}

/// `round(v, to)`: to the nearest multiple, ties up.
pub(super) fn round(column: &mut Column, args: &KernelArgs<'_>, _: &mut KernelNotes<'_>) {
    each(column, |step, v| {
        let inverse = 1.0 / args.scalar_at(0, step).unwrap_or(1.0);
        Some((v * inverse + 0.5).floor() / inverse)
    });
}

/// `clamp(v, min, max)`: nothing where `min > max`.
pub(super) fn clamp(column: &mut Column, args: &KernelArgs<'_>, _: &mut KernelNotes<'_>) {
    each(column, |step, v| {
        let (low, high) = (args.scalar_at(0, step)?, args.scalar_at(1, step)?);
        (low <= high || low.is_nan() || high.is_nan()).then(|| maximum(low, minimum(high, v)))
    });
}

/// `clamp_min(v, min)`
pub(super) fn clamp_min(column: &mut Column, args: &KernelArgs<'_>, _: &mut KernelNotes<'_>) {
    each(column, |step, v| Some(maximum(args.scalar_at(0, step)?, v)));
}

/// `clamp_max(v, max)`
pub(super) fn clamp_max(column: &mut Column, args: &KernelArgs<'_>, _: &mut KernelNotes<'_>) {
    each(column, |step, v| Some(minimum(args.scalar_at(0, step)?, v)));
}

/// Changes the floats that are present; histograms are dropped.
fn each(column: &mut Column, change: impl Fn(usize, f64) -> Option<f64>) {
    column.histograms_mut().clear();
    let (values, present) = column.floats_mut();
    for step in present.clone().iter() {
        match change(step, values[step]) {
            Some(value) => values[step] = value,
            None => present.clear(step),
        }
    }
}

/// The greater, or NaN if either is.
fn maximum(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// The lesser, or NaN if either is.
fn minimum(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) }
}
