//! Quantiles, fractions and variance, estimated from buckets.
//!
//! Source of the rules: Prometheus' native histogram specification. Inside exponential buckets
//! observations are taken as spread evenly over the logarithm; inside the zero bucket and custom
//! buckets evenly over the value.

use super::combine::kahan_add;
use super::{Bucket, FloatHistogram};

/// What observations of NaN did to a quantile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NanEffect {
    /// There are none.
    None,
    /// The quantile falls among them.
    ResultIsNan,
    /// They count as the highest observations.
    Skewed,
}

impl FloatHistogram {
    /// The φ-quantile. Below 0 it is -Inf, above 1 +Inf; else without observations or for NaN it is NaN.
    pub fn quantile(&self, q: f64) -> (f64, NanEffect) {
        if q < 0.0 {
            return (f64::NEG_INFINITY, NanEffect::None);
        }
        if q > 1.0 {
            return (f64::INFINITY, NanEffect::None);
        }
        if self.count == 0.0 || q.is_nan() {
            return (f64::NAN, NanEffect::None);
        }
        let has_nan = self.sum.is_nan();
        // Walking from the nearer end keeps rounding errors small. With NaN observations only the
        // lower end is known.
        let forward = has_nan || q < 0.5;
        let rank = if forward { q * self.count } else { (1.0 - q) * self.count };
        let mut buckets = self.all_buckets();
        let (mut last, mut seen) = (None, 0.0);
        while let Some(bucket) = if forward { buckets.next() } else { buckets.next_back() } {
            if bucket.count == 0.0 {
                continue;
            }
            seen += bucket.count;
            last = Some(bucket);
            if seen >= rank {
                break;
            }
        }
        let seen = if seen > self.count { self.count } else { seen };
        let Some(mut bucket) = last.filter(|_| seen >= rank) else {
            return (f64::NAN, if has_nan { NanEffect::ResultIsNan } else { NanEffect::None });
        };
        // A sum of NaN comes of observations of +Inf and -Inf, too; of NaN, buckets hold less than all.
        let skewed = has_nan && self.all_buckets().map(|b| b.count).sum::<f64>() < self.count;
        let effect = if skewed { NanEffect::Skewed } else { NanEffect::None };
        if self.uses_custom_buckets() {
            if bucket.lower == f64::NEG_INFINITY {
                if bucket.upper <= 0.0 {
                    return (bucket.upper, effect);
                }
                bucket.lower = 0.0;
            }
            if bucket.upper == f64::INFINITY {
                return (bucket.lower, effect);
            }
        } else if bucket.lower < 0.0 && bucket.upper > 0.0 {
            self.narrow_zero_bucket(&mut bucket);
        }
        let into = if forward { rank - (seen - bucket.count) } else { seen - rank };
        (self.interpolate(&bucket, into / bucket.count), effect)
    }

    /// The fraction of observations from `lower` to `upper`, and whether there are observations of
    /// NaN, which are in no fraction. NaN without observations or for a bound of NaN.
    pub fn fraction(&self, lower: f64, upper: f64) -> (f64, bool) {
        if self.count == 0.0 || lower.is_nan() || upper.is_nan() {
            return (f64::NAN, false);
        }
        let has_nan = self.sum.is_nan();
        if lower >= upper {
            return (0.0, false);
        }
        let total = if has_nan { self.all_buckets().map(|b| b.count).sum() } else { self.count };
        // A sum of NaN comes of observations of +Inf and -Inf, too.
        let has_nan = has_nan && total < self.count;
        let below = |value: f64| {
            let rank = self.rank_of(value).unwrap_or(total);
            if rank > total { total } else { rank }
        };
        ((below(upper) - below(lower)) / self.count, has_nan)
    }

    /// The variance, with each bucket at its (geometric or arithmetic) middle.
    pub fn variance(&self) -> f64 {
        let mean = self.sum / self.count;
        let (mut sum, mut compensation) = (0.0, 0.0);
        for bucket in self.all_buckets().filter(|b| b.count != 0.0) {
            let middle = if self.uses_custom_buckets() {
                (bucket.upper + bucket.lower) / 2.0
            } else if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
                0.0
            } else {
                (bucket.upper * bucket.lower).sqrt().copysign(bucket.upper)
            };
            let delta = middle - mean;
            (sum, compensation) = kahan_add(bucket.count * delta * delta, sum, compensation);
        }
        (sum + compensation) / self.count
    }

    /// Estimated observations below `value`; None if it is above all buckets.
    fn rank_of(&self, value: f64) -> Option<f64> {
        let mut rank = 0.0;
        for mut bucket in self.all_buckets() {
            let crosses_zero = bucket.lower <= 0.0 && bucket.upper >= 0.0;
            if self.uses_custom_buckets() {
                if bucket.lower == f64::NEG_INFINITY && bucket.upper > 0.0 && value > f64::NEG_INFINITY {
                    bucket.lower = bucket.lower.max(0.0);
                }
            } else if crosses_zero {
                self.narrow_zero_bucket(&mut bucket);
            }
            if bucket.lower >= value {
                return Some(rank);
            }
            if bucket.upper > value {
                return Some(if bucket.upper == f64::INFINITY {
                    rank
                } else if bucket.lower == f64::NEG_INFINITY {
                    rank + bucket.count
                } else if self.uses_custom_buckets() || crosses_zero {
                    rank + bucket.count * (value - bucket.lower) / (bucket.upper - bucket.lower)
                } else {
                    let [lower, upper, value] = [bucket.lower, bucket.upper, value].map(|v| v.abs().log2());
                    rank + bucket.count * (value - lower) / (upper - lower)
                });
            }
            rank += bucket.count;
        }
        None
    }

    /// With observations on one side only, the zero bucket lies on that side too.
    pub(super) fn narrow_zero_bucket(&self, bucket: &mut Bucket) {
        match (self.negative_buckets.is_empty(), self.positive_buckets.is_empty()) {
            (true, false) => bucket.lower = 0.0,
            (false, true) => bucket.upper = 0.0,
            _ => {}
        }
    }

    fn interpolate(&self, bucket: &Bucket, fraction: f64) -> f64 {
        let Bucket { lower, upper, .. } = *bucket;
        if self.uses_custom_buckets() || (lower <= 0.0 && upper >= 0.0) {
            return lower + (upper - lower) * fraction;
        }
        let (log_lower, log_upper) = (lower.abs().log2(), upper.abs().log2());
        if lower > 0.0 {
            (log_lower + (log_upper - log_lower) * fraction).exp2()
        } else {
            -(log_upper + (log_lower - log_upper) * (1.0 - fraction)).exp2()
        }
    }
}
