//! Functions over a range that look at every float in it: quantiles, deviations, regressions,
//! smoothing, times of extremes.

use pyrrha_model::Timestamp;
use pyrrha_model::go_fmt::Fixed;

use crate::annotations::Note;
use crate::error::QueryError;
use crate::functions::float_sum::Sum;
use crate::kernel::{FLOATS_UNASKED, FloatSlice, KernelArgs, KernelNotes, Window};
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
    Some(Sample::Float(quantile_of(q, floats.values.to_vec(), notes)))
}

/// [`quantile`] of values of which there may be very many: those that cannot be it are left out before
/// anything is ordered, as long as the query is not cancelled.
fn quantile_of(q: f64, mut values: Vec<f64>, notes: &KernelNotes<'_>) -> f64 {
    let Some((mut lower, weight)) = rank(q, values.len()) else { return quantile(q, &mut values) };
    // The first bits of the order decide for most values on which side of the rank they are.
    for shift in [48, 32] {
        if values.len() <= FLOATS_UNASKED || notes.stopped() {
            break;
        }
        let key = |v: f64| (order_of(v) >> shift & 0xffff) as usize;
        let mut counts = vec![0u32; 1 << 16];
        notes.each_float(&values, |v| counts[key(v)] += 1);
        let mut before = 0;
        let mut bucket = |at: usize| {
            before = 0;
            counts.iter().position(|n| {
                before += *n as usize;
                before > at
            })
        };
        let (first, last) = (bucket(lower), bucket((lower + 1).min(values.len() - 1)));
        let (Some(first), Some(last)) = (first, last) else { break };
        lower -= counts[..first].iter().map(|n| *n as usize).sum::<usize>();
        let mut kept = Vec::new();
        notes.each_float(&values, |v| {
            if key(v) == first || key(v) == last {
                kept.push(v);
            }
        });
        values = kept;
        if first != last {
            break;
        }
    }
    if notes.stopped() {
        return f64::NAN;
    }
    at_rank(lower, weight, &mut values)
}

/// Numbers in the order in which [`quantile`] takes floats: NaN is least.
fn order_of(v: f64) -> u64 {
    let bits = v.to_bits();
    match (v.is_nan(), bits >> 63) {
        (true, _) => 0,
        (false, 0) => bits | 1 << 63,
        (false, _) => !bits,
    }
}

/// The φ-quantile by linear interpolation; NaN sorts lowest. Reorders `values`.
pub(crate) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    match rank(q, values.len()) {
        Some((lower, weight)) => at_rank(lower, weight, values),
        None if values.is_empty() || q.is_nan() => f64::NAN,
        None if q < 0.0 => f64::NEG_INFINITY,
        None => f64::INFINITY,
    }
}

/// Which of `count` ordered values lies below the φ-quantile, and how far the quantile is from it to the
/// next; none if there is no such value.
fn rank(q: f64, count: usize) -> Option<(usize, f64)> {
    let highest = count.checked_sub(1).filter(|_| (0.0..=1.0).contains(&q))?;
    let rank = q * highest as f64;
    Some(((rank.floor() as usize).min(highest), rank - rank.floor()))
}

/// Between value `lower` in order and the next. Reorders `values`.
fn at_rank(lower: usize, weight: f64, values: &mut [f64]) -> f64 {
    let nan_first = |a: &f64, b: &f64| match (a.is_nan(), b.is_nan()) {
        (true, true) => std::cmp::Ordering::Equal,
        (true, false) => std::cmp::Ordering::Less,
        (false, true) => std::cmp::Ordering::Greater,
        (false, false) => a.total_cmp(b),
    };
    if lower >= values.len() {
        return f64::NAN;
    }
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
    let values = floats(w, 1, notes)?.values;
    if values.iter().any(|v| v.is_nan()) {
        return Some(Sample::Float(f64::NAN));
    }
    let median = quantile_of(0.5, values.to_vec(), notes);
    if notes.stopped() {
        return None;
    }
    let distances = values.iter().map(|v| (*v - median).abs()).collect();
    Some(Sample::Float(quantile_of(0.5, distances, notes)))
}

/// `stdvar_over_time(m)`
pub(super) fn stdvar_over_time(
    w: &Window<'_>,
    _: &KernelArgs<'_>,
    notes: &mut KernelNotes<'_>,
) -> Option<Sample> {
    floats(w, 1, notes).map(|f| Sample::Float(variance(f.values, notes)))
}

/// `stddev_over_time(m)`
pub(super) fn stddev_over_time(
    w: &Window<'_>,
    _: &KernelArgs<'_>,
    notes: &mut KernelNotes<'_>,
) -> Option<Sample> {
    floats(w, 1, notes).map(|f| Sample::Float(variance(f.values, notes).sqrt()))
}

/// Welford's running variance, with compensated sums.
fn variance(values: &[f64], notes: &KernelNotes<'_>) -> f64 {
    let (mut count, mut mean, mut squares) = (0.0, Sum::default(), Sum::default());
    notes.each_float(values, |value| {
        count += 1.0;
        let delta = value - mean.value();
        mean.add(delta / count);
        squares.add(delta * (value - mean.value()));
    });
    squares.value() / count
}

/// `deriv(m)`: slope per second.
pub(super) fn deriv(w: &Window<'_>, _: &KernelArgs<'_>, notes: &mut KernelNotes<'_>) -> Option<Sample> {
    let floats = floats(w, 2, notes)?;
    // A time near the samples keeps products small.
    Some(Sample::Float(regression(floats, floats.times[0], notes).0))
}

/// `predict_linear(m, seconds)`
pub(super) fn predict_linear(
    w: &Window<'_>,
    args: &KernelArgs<'_>,
    notes: &mut KernelNotes<'_>,
) -> Option<Sample> {
    let (slope, intercept) = regression(floats(w, 2, notes)?, w.time, notes);
    Some(Sample::Float(slope * args.scalar(0) + intercept))
}

/// Least squares: slope per second, and value at the time `at`.
fn regression(floats: FloatSlice<'_>, at: Timestamp, notes: &KernelNotes<'_>) -> (f64, f64) {
    let first = floats.values[0];
    if floats.values.iter().all(|v| *v == first) {
        return if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) };
    }
    let mut sums = [Sum::default(); 4];
    let mut times = floats.times.iter();
    notes.each_float(floats.values, |y| {
        let Some(time) = times.next() else { return };
        let x = time.wrapping_sub(at) as f64 / 1000.0;
        for (sum, value) in sums.iter_mut().zip([x, y, x * y, x * x]) {
            sum.add(value);
        }
    });
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
    let mut is_second = true;
    notes.each_float(&values[1..], |value| {
        if !is_second {
            slope = trend * (level - before) + (1.0 - trend) * slope;
        }
        is_second = false;
        let next = smoothing * value + (1.0 - smoothing) * (level + slope);
        (before, level) = (level, next);
    });
    Some(Sample::Float(level))
}

/// `ts_of_max_over_time(m)`: time of the latest of the greatest floats.
pub(super) fn ts_of_max_over_time(
    w: &Window<'_>,
    _: &KernelArgs<'_>,
    notes: &mut KernelNotes<'_>,
) -> Option<Sample> {
    extreme_time(floats(w, 1, notes)?, notes, |new, best| new >= best)
}

/// `ts_of_min_over_time(m)`: time of the latest of the least floats.
pub(super) fn ts_of_min_over_time(
    w: &Window<'_>,
    _: &KernelArgs<'_>,
    notes: &mut KernelNotes<'_>,
) -> Option<Sample> {
    extreme_time(floats(w, 1, notes)?, notes, |new, best| new <= best)
}

fn extreme_time(
    floats: FloatSlice<'_>,
    notes: &KernelNotes<'_>,
    better: impl Fn(f64, f64) -> bool,
) -> Option<Sample> {
    let (mut time, mut best) = (*floats.times.first()?, *floats.values.first()?);
    let mut times = floats.times.iter();
    notes.each_float(floats.values, |v| {
        let Some(&t) = times.next() else { return };
        if better(v, best) || best.is_nan() {
            (time, best) = (t, v);
        }
    });
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
