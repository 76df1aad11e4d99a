//! Sums and means of floats with Kahan-Neumaier compensation (decision 28).

use pyrrha_model::histogram::kahan_add;

/// A running sum.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Sum {
    sum: f64,
    c: f64,
}

impl Sum {
    #[inline]
    pub(crate) fn add(&mut self, x: f64) {
        (self.sum, self.c) = kahan_add(x, self.sum, self.c);
    }

    /// The sum; infinite sums carry no compensation.
    #[inline]
    pub(crate) fn value(&self) -> f64 {
        if self.sum.is_infinite() { self.sum } else { self.sum + self.c }
    }
}

/// A running mean: the sum over the count, until the sum would be infinite; from there on the mean
/// is kept itself.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Mean {
    /// The sum, or the mean once `incremental`.
    value: f64,
    c: f64,
    count: f64,
    incremental: bool,
}

impl Mean {
    #[inline]
    pub(crate) fn add(&mut self, x: f64) {
        self.count += 1.0;
        if self.count == 1.0 {
            self.value = x;
            return;
        }
        if !self.incremental {
            let (sum, c) = kahan_add(x, self.value, self.c);
            if !sum.is_infinite() {
                (self.value, self.c) = (sum, c);
                return;
            }
            self.incremental = true;
            self.value /= self.count - 1.0;
            self.c /= self.count - 1.0;
        }
        let q = (self.count - 1.0) / self.count;
        (self.value, self.c) = kahan_add(x / self.count, q * self.value, q * self.c);
    }

    /// Adds another mean as a whole.
    pub(crate) fn merge(&mut self, other: Mean) {
        if other.count == 0.0 {
            return;
        }
        if self.count == 0.0 {
            *self = other;
            return;
        }
        let count = self.count + other.count;
        if !self.incremental && !other.incremental {
            let (sum, c) = kahan_add(other.value, self.value, self.c);
            if !sum.is_infinite() {
                *self = Self { value: sum, c: c + other.c, count, incremental: false };
                return;
            }
        }
        let (a, b) = (self.to_incremental(), other.to_incremental());
        let (mine, theirs) = (a.count / count, b.count / count);
        let (value, c) = kahan_add(b.value * theirs, a.value * mine, a.c * mine);
        *self = Self { value, c: c + b.c * theirs, count, incremental: true };
    }

    fn to_incremental(self) -> Self {
        if self.incremental {
            return self;
        }
        Self { value: self.value / self.count, c: self.c / self.count, incremental: true, ..self }
    }

    #[inline]
    pub(crate) fn value(&self) -> f64 {
        if self.incremental { self.value + self.c } else { self.value / self.count + self.c / self.count }
    }
}
