//! Text and API forms of histograms.

use std::fmt;

use super::{Bucket, FloatHistogram};
use crate::go_fmt::General;

impl Bucket {
    /// Which bounds belong to the bucket, as Prometheus' API numbers it: 0 the upper, 1 the lower,
    /// 2 none, 3 both.
    pub fn boundary_rule(&self) -> u8 {
        match (self.lower_inclusive, self.upper_inclusive) {
            (false, true) => 0,
            (true, false) => 1,
            (false, false) => 2,
            (true, true) => 3,
        }
    }
}

impl fmt::Display for Bucket {
    /// `(0.5,1]:4`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = if self.lower_inclusive { '[' } else { '(' };
        let close = if self.upper_inclusive { ']' } else { ')' };
        write!(f, "{open}{},{}{close}:{}", General(self.lower), General(self.upper), General(self.count))
    }
}

impl FloatHistogram {
    /// Populated buckets, ascending, as the API lists them.
    pub fn populated_buckets(&self) -> impl Iterator<Item = Bucket> {
        self.all_buckets().filter(|b| b.count != 0.0)
    }
}

impl fmt::Display for FloatHistogram {
    /// Prometheus' form: `{count:4, sum:5, (0.5,1]:1, (1,2]:2}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{count:{}, sum:{}", General(self.count), General(self.sum))?;
        let negative: Vec<Bucket> = self.negative().filter(|b| b.count != 0.0).collect();
        for bucket in negative.iter().rev() {
            write!(f, ", {bucket}")?;
        }
        if self.zero_count != 0.0 {
            write!(f, ", {}", self.zero_bucket())?;
        }
        for bucket in self.positive().filter(|b| b.count != 0.0) {
            write!(f, ", {bucket}")?;
        }
        f.write_str("}")
    }
}
