//! Functions over a range that look at every float in it: quantiles, deviations, regressions,
//! smoothing, times of extremes.

use pyrrha_model::Timestamp;
use pyrrha_model::go_fmt::Fixed;

use crate::annotations::Note;
use crate::error::QueryError;
use crate::functions::float_sum::Sum;
use crate::kernel::{FloatSlice, KernelArgs, KernelNotes, Window};
use crate::value::Sample;

/// The floats of a window with at least `least` of them; notes that histograms among them do not
/// count.
fn floats<'a>(w: &Window<'a>, least: usize, notes: &mut KernelNotes<'_>) -> Option<FloatSlice<'a>> {
    if !w.floats.values.is_empty() && !w.histograms.values.is_empty() {
        notes.add(0, Note::HistogramIgnoredInMixedRange);
    }
    (w.floats.values.len() >= least).then_some(w.floats)
}

/// `quantile_over_time(φ, m)`
pub(super) fn quantile_over_time(
    w: &Window<'_>,
    args: &KernelArgs<'_>,
    notes: &mut KernelNotes<'_>,
) -> Option<Sample> {
    let floats = floats(w, 1, notes)?;
    let q = args.scalar(0);
    if !(0.0..=1.0).contains(&q) {
        notes.add(0, Note::InvalidQuantile(q));
    }
    Some(Sample::Float(quantile(q, &mut floats.values.to_vec())))
}

/// The φ-quantile by linear interpolation; NaN sorts lowest. Reorders `values`.
pub(crate) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    let nan_first = |a: &f64, b: &f64| match (a.is_nan(), b.is_nan()) {
        (true, true) => std::cmp::Ordering::Equal,
        (true, false) => std::cmp::Ordering::Less,
        (false, true) => std::cmp::Ordering::Greater,
        (false, false) => a.total_cmp(b),
    };
    let highest = values.len() - 1;
    let rank = q * highest as f64;
    let lower = (rank.floor() as usize).min(highest);
    let weight = rank - rank.floor();
    let (_, &mut low, above) = values.select_nth_unstable_by(lower, nan_first);
    let high = above.iter().copied().min_by(nan_first).unwrap_or(low);
    low * (1.0 - weight) + high * weight
}

/// `mad_over_time(m)`: the median distance from the median; NaN if any value is.
pub(super) fn mad_over_time(
    w: &Window<'_>,
    _: &KernelArgs<'_>,
    notes: &mut KernelNotes<'_>,
) -> Option<Sample> {
    let mut values = floats(w, 1, notes)?.values.to_vec();
    if values.iter().any(|v| v.is_nan()) {
        return Some(Sample::Float(f64::NAN));
    }
    let median = quantile(0.5, &mut values);
    values.iter_mut().for_each(|v| *v = (*v - median).abs());
    Some(Sample::Float(quantile(0.5, &mut values)))
}

/// `stdvar_over_time(m)`
pub(super) fn stdvar_over_time(
    w: &Window<'_>,
    _: &KernelArgs<'_>,
    notes: &mut KernelNotes<'_>,
) -> Option<Sample> {
    floats(w, 1, notes).map(|f| Sample::Float(variance(f.values)))
}

/// `stddev_over_time(m)`
pub(super) fn stddev_over_time(
    w: &Window<'_>,
    _: &KernelArgs<'_>,
    notes: &mut KernelNotes<'_>,
) -> Option<Sample> {
    floats(w, 1, notes).map(|f| Sample::Float(variance(f.values).sqrt()))
}

/// Welford's running variance, with compensated sums.
fn variance(values: &[f64]) -> f64 {
    let (mut count, mut mean, mut squares) = (0.0, Sum::default(), Sum::default());
    for value in values {
        count += 1.0;
        let delta = value - mean.value();
        mean.add(delta / count);
        squares.add(delta * (value - mean.value()));
    }
    squares.value() / count
}

/// `deriv(m)`: slope per second.
pub(super) fn deriv(w: &Window<'_>, _: &KernelArgs<'_>, notes: &mut KernelNotes<'_>) -> Option<Sample> {
    let floats = floats(w, 2, notes)?;
    // A time near the samples keeps products small.
    Some(Sample::Float(regression(floats, floats.times[0]).0))
}

/// `predict_linear(m, seconds)`
pub(super) fn predict_linear(
    w: &Window<'_>,
    args: &KernelArgs<'_>,
    notes: &mut KernelNotes<'_>,
) -> Option<Sample> {
    let (slope, intercept) = regression(floats(w, 2, notes)?, w.time);
    Some(Sample::Float(slope * args.scalar(0) + intercept))
}

/// Least squares: slope per second, and value at the time `at`.
fn regression(floats: FloatSlice<'_>, at: Timestamp) -> (f64, f64) {
    let first = floats.values[0];
    if floats.values.iter().all(|v| *v == first) {
        return if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) };
    }
    let mut sums = [Sum::default(); 4];
    for (time, y) in floats.times.iter().zip(floats.values) {
        let x = time.wrapping_sub(at) as f64 / 1000.0;
        for (sum, value) in sums.iter_mut().zip([x, *y, x * y, x * x]) {
            sum.add(value);
        }
    }
    let [x, y, xy, xx] = sums.map(|s| s.value());
    let n = floats.values.len() as f64;
    let slope = (xy - x * y / n) / (xx - x * x / n);
    (slope, y / n - slope * x / n)
}

/// `double_exponential_smoothing(m, smoothing, trend)`
pub(super) fn double_exponential_smoothing(
    w: &Window<'_>,
    args: &KernelArgs<'_>,
    notes: &mut KernelNotes<'_>,
) -> Option<Sample> {
    let (smoothing, trend) = (args.scalar(0), args.scalar(1));
    for (name, short, factor) in [("smoothing", "sf", smoothing), ("trend", "tf", trend)] {
        if factor <= 0.0 || factor >= 1.0 {
            notes.fail(QueryError::execution(format!(
                "invalid {name} factor. Expected: 0 < {short} < 1, got: {}",
                Fixed(factor)
            )));
            return None;
        }
    }
    let values = floats(w, 2, notes)?.values;
    let (mut before, mut level, mut slope) = (0.0, values[0], values[1] - values[0]);
    for (i, value) in values.iter().enumerate().skip(1) {
        if i > 1 {
            slope = trend * (level - before) + (1.0 - trend) * slope;
        }
        let next = smoothing * value + (1.0 - smoothing) * (level + slope);
        (before, level) = (level, next);
    }
    Some(Sample::Float(level))
}

/// `ts_of_max_over_time(m)`: time of the latest of the greatest floats.
pub(super) fn ts_of_max_over_time(
    w: &Window<'_>,
    _: &KernelArgs<'_>,
    notes: &mut KernelNotes<'_>,
) -> Option<Sample> {
    extreme_time(floats(w, 1, notes)?, |new, best| new >= best)
}

/// `ts_of_min_over_time(m)`: time of the latest of the least floats.
pub(super) fn ts_of_min_over_time(
    w: &Window<'_>,
    _: &KernelArgs<'_>,
    notes: &mut KernelNotes<'_>,
) -> Option<Sample> {
    extreme_time(floats(w, 1, notes)?, |new, best| new <= best)
}

fn extreme_time(floats: FloatSlice<'_>, better: impl Fn(f64, f64) -> bool) -> Option<Sample> {
    let (mut time, mut best) = (*floats.times.first()?, *floats.values.first()?);
    for (&t, &v) in floats.times.iter().zip(floats.values) {
        if better(v, best) || best.is_nan() {
            (time, best) = (t, v);
        }
    }
    Some(seconds(time))
}

/// `ts_of_first_over_time(m)`
pub(super) fn ts_of_first_over_time(
    w: &Window<'_>,
    _: &KernelArgs<'_>,
    _: &mut KernelNotes<'_>,
) -> Option<Sample> {
    w.floats.times.first().into_iter().chain(w.histograms.times.first()).min().map(|t| seconds(*t))
}

/// `ts_of_last_over_time(m)`
pub(super) fn ts_of_last_over_time(
    w: &Window<'_>,
    _: &KernelArgs<'_>,
    _: &mut KernelNotes<'_>,
) -> Option<Sample> {
    w.floats.times.last().into_iter().chain(w.histograms.times.last()).max().map(|t| seconds(*t))
}

fn seconds(time: Timestamp) -> Sample {
    Sample::Float(time as f64 / 1000.0)
}
