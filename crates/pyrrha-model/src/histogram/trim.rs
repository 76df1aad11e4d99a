//! The trim operators `</` and `>/`: observations on one side of a value.
//!
//! Source of the rules: Prometheus' native histogram specification, "Trim operators". The sum is
//! estimated anew from the buckets as soon as anything is removed.

use super::{Bucket, FloatHistogram};

/// Which observations stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// `</`: those up to the value.
    Below,
    /// `>/`: those from the value on.
    Above,
}

/// How observations are taken to be spread in a bucket.
#[derive(Clone, Copy, PartialEq)]
enum Spread {
    Linear,
    Exponential,
}

/// What stays of one bucket: observations, and the value that each of them counts with in the sum.
type Kept = (f64, f64);

impl FloatHistogram {
    /// The histogram of the observations below or above `value`, compacted.
    pub fn trim(&self, value: f64, keep: Keep) -> Self {
        let mut trimmed = self.clone();
        let (mut count, mut sum) = (0.0, 0.0);
        let mut add = |(kept, middle): Kept| {
            if kept != 0.0 {
                count += kept;
                sum += kept * middle;
            }
            kept
        };
        let custom = self.uses_custom_buckets();
        let spread = if custom { Spread::Linear } else { Spread::Exponential };
        for (slot, bucket) in trimmed.positive_buckets.iter_mut().zip(self.positive()) {
            *slot = add(keep_of(&bucket, value, keep, spread));
        }
        for (slot, bucket) in trimmed.negative_buckets.iter_mut().zip(self.negative()) {
            *slot = add(keep_of(&bucket, value, keep, spread));
        }
        if self.zero_count > 0.0 && !custom {
            trimmed.zero_count = add(self.keep_of_zero(value, keep));
        }
        let changed = trimmed.zero_count != self.zero_count
            || trimmed.positive_buckets != self.positive_buckets
            || trimmed.negative_buckets != self.negative_buckets;
        if changed {
            (trimmed.count, trimmed.sum) = (count, sum);
        }
        trimmed.compact(0);
        trimmed
    }

    fn keep_of_zero(&self, value: f64, keep: Keep) -> Kept {
        let mut bucket = self.zero_bucket();
        let populated = |counts: &[f64]| counts.iter().any(|n| *n != 0.0);
        match (populated(&self.negative_buckets), populated(&self.positive_buckets)) {
            (false, true) => bucket.lower = 0.0,
            (true, false) => bucket.upper = 0.0,
            _ => {}
        }
        if value.is_nan() {
            // No share of the zero bucket is known, and with it neither count nor sum.
            return (f64::NAN, f64::NAN);
        }
        keep_of(&bucket, value, keep, Spread::Linear)
    }
}

fn keep_of(bucket: &Bucket, value: f64, keep: Keep, spread: Spread) -> Kept {
    let Bucket { lower, upper, count, .. } = *bucket;
    if count == 0.0 {
        return (0.0, 0.0);
    }
    let (whole, cut) = match keep {
        Keep::Below => (upper <= value, lower < value),
        Keep::Above => (lower >= value, upper > value),
    };
    if whole {
        return (count, middle(lower, upper, spread));
    }
    if !cut {
        return (0.0, 0.0);
    }
    if lower == f64::NEG_INFINITY {
        return cut_lowest(bucket, value, keep);
    }
    if upper == f64::INFINITY {
        // Nothing is known of how far the observations reach.
        return match keep {
            Keep::Below => (0.0, 0.0),
            Keep::Above => (count, value),
        };
    }
    let below = match spread {
        Spread::Linear => (value - lower) / (upper - lower),
        Spread::Exponential => {
            let [lower, upper, value] = [lower, upper, value].map(|v| v.abs().log2());
            (value - lower) / (upper - lower)
        }
    };
    match keep {
        Keep::Below => (count * below, middle(lower, value, spread)),
        Keep::Above => (count * (1.0 - below), middle(value, upper, spread)),
    }
}

/// The lowest custom bucket reaches down to -Inf. With a positive upper bound it is taken to begin
/// at zero, as for quantiles.
fn cut_lowest(bucket: &Bucket, value: f64, keep: Keep) -> Kept {
    let Bucket { upper, count, .. } = *bucket;
    let from_zero = upper > 0.0 && upper.is_finite();
    match keep {
        Keep::Below if from_zero && value > 0.0 => (count * value / upper, value / 2.0),
        Keep::Below if upper <= 0.0 => (count, value),
        Keep::Above if from_zero && value >= 0.0 => (count * (1.0 - value / upper), (value + upper) / 2.0),
        // As nothing is known of the distribution, no part of it can be kept.
        Keep::Below | Keep::Above => (0.0, 0.0),
    }
}

/// The value that stands for the observations between two bounds.
fn middle(lower: f64, upper: f64, spread: Spread) -> f64 {
    match (lower.is_infinite(), upper.is_infinite()) {
        (true, true) => 0.0,
        (true, false) => {
            if upper > 0.0 {
                upper / 2.0
            } else {
                upper
            }
        }
        (false, true) => lower,
        (false, false) if spread == Spread::Linear => (lower + upper) / 2.0,
        (false, false) => (lower * upper).abs().sqrt().copysign(if lower < 0.0 { -1.0 } else { 1.0 }),
    }
}
