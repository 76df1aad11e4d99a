//! The mean of many histograms, as `avg` and `avg_over_time` compute it.

use super::{Combined, FloatHistogram, IncompatibleSchemas, KahanHistogram};

/// A compensated mean. It divides the sum at the end, until a sum would overflow; from then on it
/// keeps the running mean (decision 28).
#[derive(Debug, Clone)]
pub struct HistogramMean {
    total: KahanHistogram,
    count: f64,
    incremental: bool,
}

impl HistogramMean {
    /// The mean of one histogram.
    pub fn new(first: FloatHistogram) -> Self {
        Self { total: KahanHistogram::new(first), count: 1.0, incremental: false }
    }

    /// Adds `other`. On an error nothing has changed.
    pub fn add(&mut self, other: &FloatHistogram) -> Result<Combined, IncompatibleSchemas> {
        if other.uses_custom_buckets() != self.total.sum.uses_custom_buckets() {
            return Err(IncompatibleSchemas);
        }
        self.count += 1.0;
        if !self.incremental {
            if !may_overflow(&self.total.sum, other) {
                return self.total.add(other);
            }
            let mut next = self.total.clone();
            let combined = next.add(other)?;
            if !next.sum.has_overflow() {
                self.total = next;
                return Ok(combined);
            }
            self.incremental = true;
            self.divide(self.count - 1.0);
        }
        let share = (self.count - 1.0) / self.count;
        self.total.sum.scale(share);
        self.total.compensation.each(|n| n * share);
        let mut part = other.clone();
        part.divide(self.count);
        self.total.add(&part)
    }

    /// The mean.
    pub fn finish(mut self) -> FloatHistogram {
        if !self.incremental && self.count != 1.0 {
            self.divide(self.count);
        }
        self.total.finish()
    }

    fn divide(&mut self, count: f64) {
        self.total.sum.divide(count);
        self.total.compensation.each(|n| n / count);
    }
}

/// Whether a sum could reach the largest floats, so that it has to be tried on a copy.
fn may_overflow(a: &FloatHistogram, b: &FloatHistogram) -> bool {
    const SAFE: f64 = f64::MAX / 8.0;
    let large = |h: &FloatHistogram| {
        let numbers =
            h.positive_buckets.iter().chain(&h.negative_buckets).chain([&h.count, &h.sum, &h.zero_count]);
        // A reduction of resolution adds up buckets, so their total matters.
        numbers.map(|n| n.abs()).sum::<f64>() > SAFE
    };
    large(a) || large(b)
}
