//! Native histograms: integer (as ingested) and float (as PromQL computes with).
//!
//! Source of the model: Prometheus' native histogram specification. Schemas -4..=8 are exponential
//! (bucket boundaries `2^(i·2^-schema)`); schema -53 has custom upper bounds.
//!
//! ```text
//! buckets   bounds, iteration          combine   add, subtract, Kahan sums, means
//! layout    compaction, resolution     reset     counter resets
//! validate  what ingest accepts        trim      `</` and `>/`
//! quantile  quantile, fraction, variance         print     text and API forms
//! ```

mod buckets;
mod combine;
mod layout;
mod mean;
mod print;
mod quantile;
mod reset;
mod trim;
mod validate;

use std::sync::Arc;

pub use buckets::Bucket;
pub use combine::{Combined, IncompatibleSchemas, KahanHistogram, kahan_add};
pub use mean::HistogramMean;
pub use quantile::NanEffect;
pub use trim::Keep;
pub use validate::{HistogramError, MAX_SCHEMA, MIN_SCHEMA};

/// Schema number of histograms with custom bucket bounds.
pub const CUSTOM_BUCKETS_SCHEMA: i32 = -53;

/// A run of consecutive buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Span {
    /// Gap to the end of the previous span; for the first span, the index of its first bucket.
    pub offset: i32,
    /// Number of buckets.
    pub length: u32,
}

/// What is known about a counter reset between the previous histogram and this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CounterResetHint {
    /// Not known: a reader has to compare buckets.
    #[default]
    Unknown,
    /// This histogram starts anew.
    Reset,
    /// No reset before this histogram.
    NotReset,
    /// A gauge histogram: resets have no meaning.
    Gauge,
}

/// A histogram with integer counts. Buckets are deltas to the bucket before (as on the wire and in
/// chunks); the first is absolute.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Histogram {
    /// Counter-reset hint.
    pub counter_reset_hint: CounterResetHint,
    /// Resolution, or [`CUSTOM_BUCKETS_SCHEMA`].
    pub schema: i32,
    /// Width of the zero bucket.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: u64,
    /// Number of observations.
    pub count: u64,
    /// Sum of observations; a stale NaN marks the histogram as stale.
    pub sum: f64,
    /// Spans of the positive buckets.
    pub positive_spans: Vec<Span>,
    /// Spans of the negative buckets.
    pub negative_spans: Vec<Span>,
    /// Positive buckets, delta-encoded.
    pub positive_buckets: Vec<i64>,
    /// Negative buckets, delta-encoded.
    pub negative_buckets: Vec<i64>,
    /// Upper bounds of schema -53, ascending, without +Inf; else empty.
    pub custom_values: Arc<[f64]>,
}

/// A histogram with float counts. Buckets are absolute counts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FloatHistogram {
    /// Counter-reset hint.
    pub counter_reset_hint: CounterResetHint,
    /// Resolution, or [`CUSTOM_BUCKETS_SCHEMA`].
    pub schema: i32,
    /// Width of the zero bucket.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: f64,
    /// Number of observations.
    pub count: f64,
    /// Sum of observations; a stale NaN marks the histogram as stale.
    pub sum: f64,
    /// Spans of the positive buckets.
    pub positive_spans: Vec<Span>,
    /// Spans of the negative buckets.
    pub negative_spans: Vec<Span>,
    /// Positive buckets, absolute.
    pub positive_buckets: Vec<f64>,
    /// Negative buckets, absolute.
    pub negative_buckets: Vec<f64>,
    /// Upper bounds of schema -53, ascending, without +Inf; else empty.
    pub custom_values: Arc<[f64]>,
}

impl Histogram {
    /// The same histogram with float counts.
    pub fn to_float(&self) -> FloatHistogram {
        let absolute = |deltas: &[i64]| {
            deltas
                .iter()
                .scan(0i64, |sum, d| {
                    *sum = sum.wrapping_add(*d);
                    Some(*sum as f64)
                })
                .collect()
        };
        FloatHistogram {
            counter_reset_hint: self.counter_reset_hint,
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_count as f64,
            count: self.count as f64,
            sum: self.sum,
            positive_spans: self.positive_spans.clone(),
            negative_spans: self.negative_spans.clone(),
            positive_buckets: absolute(&self.positive_buckets),
            negative_buckets: absolute(&self.negative_buckets),
            custom_values: self.custom_values.clone(),
        }
    }

    /// Whether this marks the series as stale.
    pub fn is_stale(&self) -> bool {
        crate::is_stale_nan(self.sum)
    }
}

impl FloatHistogram {
    /// Whether this marks the series as stale.
    pub fn is_stale(&self) -> bool {
        crate::is_stale_nan(self.sum)
    }

    /// Multiplies all counts and the sum. A negative factor makes it a gauge.
    pub fn scale(&mut self, factor: f64) {
        if factor < 0.0 {
            self.counter_reset_hint = CounterResetHint::Gauge;
        }
        self.each_number(|n| n * factor);
    }

    /// Divides all counts and the sum. A negative divisor makes it a gauge; division by zero leaves
    /// no buckets but the zero bucket.
    pub fn divide(&mut self, divisor: f64) {
        if divisor < 0.0 {
            self.counter_reset_hint = CounterResetHint::Gauge;
        }
        self.each_number(|n| n / divisor);
        if divisor == 0.0 {
            self.positive_spans.clear();
            self.positive_buckets.clear();
            self.negative_spans.clear();
            self.negative_buckets.clear();
        }
    }

    /// Whether any count or the sum is infinite.
    pub fn has_overflow(&self) -> bool {
        self.zero_count.is_infinite()
            || self.count.is_infinite()
            || self.sum.is_infinite()
            || self.positive_buckets.iter().chain(&self.negative_buckets).any(|n| n.is_infinite())
    }

    /// Bytes that it takes, about.
    pub fn size_bytes(&self) -> usize {
        std::mem::size_of::<Self>()
            + (self.positive_spans.len() + self.negative_spans.len()) * std::mem::size_of::<Span>()
            + (self.positive_buckets.len() + self.negative_buckets.len() + self.custom_values.len()) * 8
    }

    fn each_number(&mut self, map: impl Fn(f64) -> f64) {
        for number in self.positive_buckets.iter_mut().chain(&mut self.negative_buckets).chain([
            &mut self.zero_count,
            &mut self.count,
            &mut self.sum,
        ]) {
            *number = map(*number);
        }
    }

    /// Whether bounds are custom instead of exponential.
    pub fn uses_custom_buckets(&self) -> bool {
        self.schema == CUSTOM_BUCKETS_SCHEMA
    }
}

#[cfg(test)]
mod tests;
