//! Quantiles and fractions of classic histograms: cumulative counts by upper bound.

/// A bucket: observations up to and including `upper`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cumulative {
    pub(super) upper: f64,
    pub(super) count: f64,
}

/// Changes that were needed so that counts do not fall from bucket to bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Forced {
    pub(super) min_bucket: f64,
    pub(super) max_bucket: f64,
    pub(super) max_diff: f64,
}

/// Relative difference of counts that is taken for a rounding error.
const TOLERANCE: f64 = 1e-12;

/// The φ-quantile of buckets sorted by upper bound, which are changed to be monotonic.
pub(super) fn quantile(q: f64, buckets: &mut Vec<Cumulative>) -> (f64, Option<Forced>) {
    if q.is_nan() {
        return (f64::NAN, None);
    }
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    if !ends_at_infinity(buckets) {
        return (f64::NAN, None);
    }
    coalesce(buckets);
    let forced = ensure_monotonic(buckets);
    let [rest @ .., last] = buckets.as_slice() else { return (f64::NAN, forced) };
    let Some(highest) = rest.last() else { return (f64::NAN, forced) };
    if last.count == 0.0 {
        return (f64::NAN, forced);
    }
    let rank = q * last.count;
    let at = rest.partition_point(|b| b.count < rank);
    let value = match rest.get(at) {
        None => highest.upper,
        Some(first) if at == 0 && first.upper <= 0.0 => first.upper,
        Some(bucket) => {
            let (start, below) = if at == 0 { (0.0, 0.0) } else { (rest[at - 1].upper, rest[at - 1].count) };
            start + (bucket.upper - start) * ((rank - below) / (bucket.count - below))
        }
    };
    (value, forced)
}

/// The fraction of observations between two values, of buckets sorted by upper bound.
pub(super) fn fraction(lower: f64, upper: f64, buckets: &mut Vec<Cumulative>) -> f64 {
    if !ends_at_infinity(buckets) {
        return f64::NAN;
    }
    coalesce(buckets);
    let count = buckets.last().map_or(0.0, |b| b.count);
    if count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let below = |value| rank_of(value, buckets).unwrap_or(count).min(count);
    (below(upper) - below(lower)) / count
}

/// Estimated observations below `value`; None above all buckets.
fn rank_of(value: f64, buckets: &[Cumulative]) -> Option<f64> {
    let (mut start, mut rank) = (f64::NEG_INFINITY, 0.0);
    for (i, bucket) in buckets.iter().enumerate() {
        // Observations are taken to begin at zero where that is possible.
        if i == 0 && bucket.upper > 0.0 && value > f64::NEG_INFINITY {
            start = 0.0;
        }
        if start >= value {
            return Some(rank);
        }
        if bucket.upper > value {
            return Some(if bucket.upper == f64::INFINITY {
                rank
            } else if start == f64::NEG_INFINITY {
                bucket.count
            } else {
                rank + (bucket.count - rank) * (value - start) / (bucket.upper - start)
            });
        }
        (start, rank) = (bucket.upper, bucket.count);
    }
    None
}

fn ends_at_infinity(buckets: &[Cumulative]) -> bool {
    buckets.last().is_some_and(|b| b.upper == f64::INFINITY)
}

/// Adds up buckets of the same bound (`le="1"` and `le="1.0"`).
fn coalesce(buckets: &mut Vec<Cumulative>) {
    buckets.dedup_by(|next, kept| {
        let same = next.upper == kept.upper;
        if same {
            kept.count += next.count;
        }
        same
    });
}

fn ensure_monotonic(buckets: &mut [Cumulative]) -> Option<Forced> {
    let mut forced: Option<Forced> = None;
    let mut highest = buckets.first()?.count;
    for bucket in &mut buckets[1..] {
        if bucket.count == highest {
            continue;
        }
        if almost_equal(bucket.count, highest) {
            bucket.count = highest;
        } else if bucket.count < highest {
            let diff = highest - bucket.count;
            let forced = forced.get_or_insert(Forced {
                min_bucket: bucket.upper,
                max_bucket: bucket.upper,
                max_diff: diff,
            });
            forced.max_bucket = bucket.upper;
            forced.max_diff = forced.max_diff.max(diff);
            bucket.count = highest;
        } else {
            highest = bucket.count;
        }
    }
    forced
}

fn almost_equal(a: f64, b: f64) -> bool {
    let (sum, diff) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return diff < TOLERANCE * f64::MIN_POSITIVE;
    }
    diff / sum.min(f64::MAX) < TOLERANCE
}
