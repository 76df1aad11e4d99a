//! Functions from float to float: arithmetic and trigonometry; rounding and clamping.

use std::f64::consts::{LN_2, PI};

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
        F::Sinh => sinh,
        F::Cosh => cosh,
        F::Tanh => f64::tanh,
        F::Asinh => asinh,
        F::Acosh => acosh,
        F::Atanh => f64::atanh,
        F::Deg => |v| v * 180.0 / PI,
        F::Rad => |v| v * PI / 180.0,
        _ => return None,
    })
}

/// From here on `cosh` is half the exponential; they overflow together, as in Prometheus.
const HALF_EXPONENTIAL: f64 = 21.0;

fn sinh(v: f64) -> f64 {
    if v.abs() > HALF_EXPONENTIAL { (v.abs().exp() * 0.5).copysign(v) } else { v.sinh() }
}

fn cosh(v: f64) -> f64 {
    if v.abs() > HALF_EXPONENTIAL { v.abs().exp() * 0.5 } else { v.cosh() }
}

/// From here on the square of a number swallows 1.
const SWALLOWS_ONE: f64 = (1u64 << 28) as f64;

/// Finite for every finite number, which that of the standard library is not.
fn asinh(v: f64) -> f64 {
    if v.abs() > SWALLOWS_ONE && v.is_finite() { (v.abs().ln() + LN_2).copysign(v) } else { v.asinh() }
}

fn acosh(v: f64) -> f64 {
    if v > SWALLOWS_ONE { v.ln() + LN_2 } else { v.acosh() }
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

/// The greater. Nothing is greater than +Inf, also not NaN; else NaN if either is.
fn maximum(a: f64, b: f64) -> f64 {
    if a == f64::INFINITY || b == f64::INFINITY {
        f64::INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else {
        a.max(b)
    }
}

/// The lesser. Nothing is less than -Inf, also not NaN; else NaN if either is.
fn minimum(a: f64, b: f64) -> f64 {
    if a == f64::NEG_INFINITY || b == f64::NEG_INFINITY {
        f64::NEG_INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else {
        a.min(b)
    }
}
