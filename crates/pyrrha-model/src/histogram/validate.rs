//! What ingest accepts as a histogram.

use super::{CUSTOM_BUCKETS_SCHEMA, FloatHistogram, Histogram, Span};
use crate::ErrorKind;

/// Lowest resolution.
pub const MIN_SCHEMA: i32 = -4;
/// Highest resolution. Receivers lower what is above it ([`Histogram::reduce_resolution`]).
pub const MAX_SCHEMA: i32 = 8;

/// Why a histogram was refused. The texts are Prometheus'.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum HistogramError {
    /// Neither exponential nor custom.
    #[error(
        "histogram has an invalid schema, which must be between -4 and 8 for exponential buckets, or -53 for custom buckets, got schema={0}"
    )]
    Schema(i32),
    /// A custom bound not above the one before.
    #[error("histogram custom bounds must be in strictly increasing order")]
    BoundsOrder,
    /// A custom bound that is infinite or NaN.
    #[error("histogram custom bounds must be finite")]
    BoundsInfinite,
    /// More buckets than custom bounds allow.
    #[error("histogram custom bounds are too few: bounds={bounds} buckets={buckets}")]
    BoundsTooFew {
        /// Number of bounds.
        bounds: usize,
        /// Buckets that the spans reach.
        buckets: i64,
    },
    /// A zero bucket or negative buckets beside custom bounds.
    #[error("custom buckets: must have zero count of 0, no zero threshold and no negative buckets")]
    CustomExtras,
    /// Custom bounds beside an exponential schema.
    #[error("histogram with exponential schema must not have custom bounds")]
    BoundsUnexpected,
    /// A later span that begins before the end of the one before.
    #[error("histogram has a span whose offset is negative: span={0}")]
    SpanOffset(usize),
    /// Spans and buckets differ in number.
    #[error(
        "histogram spans specify different number of buckets than provided: spans={spans} buckets={buckets}"
    )]
    SpanLength {
        /// Buckets by the spans.
        spans: u64,
        /// Buckets given.
        buckets: usize,
    },
    /// A bucket with fewer than no observations.
    #[error("histogram has a bucket whose observation count is negative: bucket={0}")]
    NegativeBucket(usize),
    /// A count or zero count below zero.
    #[error("histogram's observation count is negative")]
    NegativeCount,
    /// Fewer observations than the buckets hold.
    #[error(
        "histogram's observation count should be at least the number of observations found in the buckets: count={count} buckets={buckets}"
    )]
    CountTooSmall {
        /// The count given.
        count: u64,
        /// Observations in buckets.
        buckets: u64,
    },
    /// Another number of observations than the buckets hold.
    #[error(
        "histogram's observation count should equal the number of observations found in the buckets (in absence of NaN): count={count} buckets={buckets}"
    )]
    CountMismatch {
        /// The count given.
        count: u64,
        /// Observations in buckets.
        buckets: u64,
    },
    /// Indexes or sums beyond their range.
    #[error("histogram buckets are out of range")]
    Range,
}

impl HistogramError {
    /// What the caller should do next: fix the request.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

impl Histogram {
    /// Checks what Prometheus checks before a histogram is stored. Schemas above 8 have to be
    /// reduced before.
    pub fn validate(&self) -> Result<(), HistogramError> {
        Layout {
            schema: self.schema,
            custom: &self.custom_values,
            extras: self.zero_count != 0
                || self.zero_threshold != 0.0
                || !self.negative_spans.is_empty()
                || !self.negative_buckets.is_empty(),
        }
        .check(&self.positive_spans)?;
        let mut observed = self.zero_count;
        for (spans, deltas) in
            [(&self.negative_spans, &self.negative_buckets), (&self.positive_spans, &self.positive_buckets)]
        {
            check_spans(spans, deltas.len())?;
            let mut count = 0i64;
            for (i, delta) in deltas.iter().enumerate() {
                count = count.checked_add(*delta).ok_or(HistogramError::Range)?;
                let bucket = u64::try_from(count).map_err(|_| HistogramError::NegativeBucket(i))?;
                observed = observed.checked_add(bucket).ok_or(HistogramError::Range)?;
            }
        }
        // Observations of NaN are in no bucket.
        if self.sum.is_nan() && observed > self.count {
            return Err(HistogramError::CountTooSmall { count: self.count, buckets: observed });
        }
        if !self.sum.is_nan() && observed != self.count {
            return Err(HistogramError::CountMismatch { count: self.count, buckets: observed });
        }
        Ok(())
    }
}

impl FloatHistogram {
    /// Checks what Prometheus checks before a histogram is stored. Float counts need not add up.
    pub fn validate(&self) -> Result<(), HistogramError> {
        Layout {
            schema: self.schema,
            custom: &self.custom_values,
            extras: self.zero_count != 0.0
                || self.zero_threshold != 0.0
                || !self.negative_spans.is_empty()
                || !self.negative_buckets.is_empty(),
        }
        .check(&self.positive_spans)?;
        for (spans, counts) in
            [(&self.negative_spans, &self.negative_buckets), (&self.positive_spans, &self.positive_buckets)]
        {
            check_spans(spans, counts.len())?;
            if let Some(i) = counts.iter().position(|n| *n < 0.0) {
                return Err(HistogramError::NegativeBucket(i));
            }
        }
        if self.count < 0.0 || self.zero_count < 0.0 {
            return Err(HistogramError::NegativeCount);
        }
        Ok(())
    }
}

struct Layout<'a> {
    schema: i32,
    custom: &'a [f64],
    /// Whether there is anything that only exponential histograms have.
    extras: bool,
}

impl Layout<'_> {
    fn check(&self, positive_spans: &[Span]) -> Result<(), HistogramError> {
        if self.schema != CUSTOM_BUCKETS_SCHEMA {
            return match self.schema {
                MIN_SCHEMA..=MAX_SCHEMA if self.custom.is_empty() => Ok(()),
                MIN_SCHEMA..=MAX_SCHEMA => Err(HistogramError::BoundsUnexpected),
                schema => Err(HistogramError::Schema(schema)),
            };
        }
        if self.custom.iter().any(|b| !b.is_finite()) {
            return Err(HistogramError::BoundsInfinite);
        }
        if self.custom.windows(2).any(|w| w[0] >= w[1]) {
            return Err(HistogramError::BoundsOrder);
        }
        let reached: i64 = positive_spans.iter().map(|s| i64::from(s.offset) + i64::from(s.length)).sum();
        if reached > self.custom.len() as i64 + 1 || positive_spans.first().is_some_and(|s| s.offset < 0) {
            return Err(HistogramError::BoundsTooFew { bounds: self.custom.len(), buckets: reached });
        }
        if self.extras { Err(HistogramError::CustomExtras) } else { Ok(()) }
    }
}

fn check_spans(spans: &[Span], buckets: usize) -> Result<(), HistogramError> {
    let (mut total, mut end) = (0u64, 0i64);
    for (i, span) in spans.iter().enumerate() {
        if i > 0 && span.offset < 0 {
            return Err(HistogramError::SpanOffset(i));
        }
        total += u64::from(span.length);
        end += i64::from(span.offset) + i64::from(span.length);
        if i32::try_from(end).is_err() {
            return Err(HistogramError::Range);
        }
    }
    if total != buckets as u64 {
        return Err(HistogramError::SpanLength { spans: total, buckets });
    }
    Ok(())
}
