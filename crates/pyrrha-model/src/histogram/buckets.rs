//! Bucket bounds and iteration.

use std::sync::OnceLock;

use super::{CUSTOM_BUCKETS_SCHEMA, FloatHistogram, Span};

/// One bucket with its bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    /// Lower bound.
    pub lower: f64,
    /// Upper bound.
    pub upper: f64,
    /// Whether the lower bound belongs to the bucket.
    pub lower_inclusive: bool,
    /// Whether the upper bound belongs to the bucket.
    pub upper_inclusive: bool,
    /// Observations.
    pub count: f64,
    /// Index in its schema; 0 for the zero bucket.
    pub index: i32,
}

/// Index and count of each bucket of one side, ascending by index.
pub(super) fn cells<'a, T: Copy>(
    spans: &'a [Span],
    counts: &'a [T],
) -> impl Iterator<Item = (i32, T)> + Clone + 'a {
    let mut next = 0i32;
    let mut indexes = spans.iter().flat_map(move |span| {
        let start = next.wrapping_add(span.offset);
        next = start.wrapping_add_unsigned(span.length);
        (0..span.length).map(move |i| start.wrapping_add_unsigned(i))
    });
    let mut counts = counts.iter();
    // Counts lead: lengths of spans that no count backs up cost nothing.
    std::iter::from_fn(move || {
        let count = *counts.next()?;
        indexes.next().map(|index| (index, count))
    })
}

/// Upper bound of a bucket by its index, for the positive side.
pub(super) fn upper_bound(index: i32, schema: i32, custom: &[f64]) -> f64 {
    if schema != CUSTOM_BUCKETS_SCHEMA {
        return exponential_bound(index, schema);
    }
    match usize::try_from(index) {
        Err(_) => f64::NEG_INFINITY,
        Ok(index) => custom.get(index).copied().unwrap_or(f64::INFINITY),
    }
}

/// `2^(index·2^-schema)`, where the bound beyond the largest float is that float.
fn exponential_bound(index: i32, schema: i32) -> f64 {
    let (fraction, exponent) = if schema < 0 {
        (1.0, i64::from(index) << schema.unsigned_abs().min(31))
    } else {
        let schema = schema.min(8);
        let step = (index & ((1 << schema) - 1)) << (8 - schema);
        (fractions()[step as usize], i64::from(index >> schema))
    };
    if exponent == 1024 && fraction == 1.0 {
        return f64::MAX;
    }
    // Two factors, as 2^exponent alone may not be a float where the product is.
    let exponent = exponent.clamp(-2200, 2200) as i32;
    let half = exponent / 2;
    fraction * 2f64.powi(half) * 2f64.powi(exponent - half)
}

/// `2^(i/256)`, made of square roots in the one way that gives the bounds which Prometheus prints, bit for bit: from
/// the largest root to the smallest, where that of two is the float below the nearest one.
fn fractions() -> &'static [f64; 256] {
    static FRACTIONS: OnceLock<[f64; 256]> = OnceLock::new();
    FRACTIONS.get_or_init(|| {
        let mut root = 2f64;
        let mut roots = [0.0; 8];
        for each in &mut roots {
            root = root.sqrt();
            *each = root;
        }
        roots[0] = roots[0].next_down();
        std::array::from_fn(|i| {
            let within = |bit: &usize| i & (0x80 >> bit) != 0;
            (0..8).filter(within).fold(1.0, |product, bit| product * roots[bit])
        })
    })
}

impl FloatHistogram {
    /// Buckets of positive observations, ascending; with custom bounds all buckets.
    pub fn positive(&self) -> impl Iterator<Item = Bucket> + Clone + '_ {
        cells(&self.positive_spans, &self.positive_buckets)
            .map(|(index, count)| self.positive_bucket(index, count))
    }

    /// Buckets of negative observations, descending (from the zero bucket outwards).
    pub fn negative(&self) -> impl Iterator<Item = Bucket> + Clone + '_ {
        cells(&self.negative_spans, &self.negative_buckets)
            .map(|(index, count)| self.negative_bucket(index, count))
    }

    /// The zero bucket.
    pub fn zero_bucket(&self) -> Bucket {
        Bucket {
            lower: -self.zero_threshold,
            upper: self.zero_threshold,
            lower_inclusive: true,
            upper_inclusive: true,
            count: self.zero_count,
            index: 0,
        }
    }

    /// All buckets, ascending; the zero bucket if it is populated. Bounds inside the zero bucket
    /// are moved to its edge.
    pub fn all_buckets(&self) -> impl DoubleEndedIterator<Item = Bucket> {
        let mut buckets: Vec<Bucket> =
            Vec::with_capacity(self.positive_buckets.len() + self.negative_buckets.len() + 1);
        buckets.extend(self.negative());
        buckets.reverse();
        if self.zero_count > 0.0 && !self.uses_custom_buckets() {
            buckets.push(self.zero_bucket());
        }
        buckets.extend(self.positive());
        let threshold = self.zero_threshold;
        for bucket in &mut buckets {
            if bucket.upper < 0.0 && bucket.upper > -threshold {
                bucket.upper = -threshold;
            } else if bucket.lower > 0.0 && bucket.lower < threshold {
                bucket.lower = threshold;
            }
        }
        buckets.into_iter()
    }

    fn positive_bucket(&self, index: i32, count: f64) -> Bucket {
        let lower = upper_bound(index.wrapping_sub(1), self.schema, &self.custom_values);
        let upper = upper_bound(index, self.schema, &self.custom_values);
        let first_custom = self.uses_custom_buckets() && index == 0;
        Bucket { lower, upper, lower_inclusive: first_custom, upper_inclusive: true, count, index }
    }

    fn negative_bucket(&self, index: i32, count: f64) -> Bucket {
        let positive = self.positive_bucket(index, count);
        Bucket {
            lower: -positive.upper,
            upper: -positive.lower,
            lower_inclusive: true,
            upper_inclusive: false,
            count,
            index,
        }
    }
}
