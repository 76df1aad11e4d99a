//! What a tenant's head has admitted: the newest sample of each series, batches that still wait for
//! the log included. Samples are judged against this, under the tenant's admission lock.

use pyrrha_model::contract::{Refused, Value};
use pyrrha_model::{FloatHistogram, Histogram, TimeRange, Timestamp};

use super::exemplars::{ExemplarAdmission, MetadataMap};
use super::keys::KeyTable;
use super::paged::Paged;

/// Timestamps beyond this are no times; range arithmetic below it cannot overflow.
const FARTHEST: Timestamp = 1 << 60;

/// The newest admitted sample of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Newest {
    /// Its time, ms; `i64::MIN`: no sample yet.
    pub(crate) t: Timestamp,
    /// What identifies its value: the bits of a float, a hash of a histogram.
    pub(crate) value: u64,
}

impl Default for Newest {
    fn default() -> Self {
        Self { t: Timestamp::MIN, value: 0 }
    }
}

/// What the clock and the settings allow a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Latest time taken, ms.
    pub(crate) latest: Timestamp,
    /// Length of the out-of-order window, ms.
    pub(crate) window: i64,
    /// Wall clock, ms.
    pub(crate) now: Timestamp,
}

/// How a sample was admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admitted {
    /// It is new.
    New,
    /// It repeats the newest one.
    Repeated,
}

/// State under the admission lock.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    pub(crate) keys: KeyTable,
    pub(crate) newest: Paged<Newest>,
    /// Newest time of all series, ms.
    pub(crate) newest_time: Option<Timestamp>,
    /// Ranges that have left the head for blocks, or are about to, sorted and disjoint.
    pub(crate) cut: Vec<TimeRange>,
    /// Series whose newest sample is a histogram, by kind: a stale float for them becomes a stale
    /// histogram.
    pub(crate) histograms: hashbrown::HashMap<u32, HistogramKind, foldhash::fast::RandomState>,
    pub(crate) exemplars: ExemplarAdmission,
    /// Metadata as it was last admitted.
    pub(crate) metadata: MetadataMap,
}

/// Which kind of histograms a series has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HistogramKind {
    /// Integer counts.
    Integer,
    /// Float counts.
    Float,
}

impl Admission {
    /// Judges a sample (decision 6) and remembers it as the newest of its series.
    #[inline]
    pub(crate) fn admit(
        &mut self,
        series: u32,
        t: Timestamp,
        value: u64,
        limits: &Limits,
    ) -> Result<Admitted, Refused> {
        let newest = self.newest[series as usize];
        if t > newest.t && t <= limits.latest && self.is_past_cuts(t) && t > -FARTHEST {
            self.newest[series as usize] = Newest { t, value };
            if self.newest_time.is_none_or(|n| n < t) {
                self.newest_time = Some(t);
            }
            return Ok(Admitted::New);
        }
        if t == newest.t && value == newest.value {
            return Ok(Admitted::Repeated);
        }
        Err(self.refusal(newest, t, limits))
    }

    fn is_past_cuts(&self, t: Timestamp) -> bool {
        match self.cut.last() {
            None => true,
            Some(last) if t > last.end => true,
            Some(_) => !is_cut(&self.cut, t),
        }
    }

    #[cold]
    fn refusal(&self, newest: Newest, t: Timestamp, limits: &Limits) -> Refused {
        if t == newest.t {
            return Refused::Duplicate;
        }
        if t > limits.latest {
            return Refused::TooFarInFuture;
        }
        let bound = self.newest_time.map_or(limits.now, |n| n.min(limits.now)).saturating_sub(limits.window);
        if t <= -FARTHEST || limits.window > 0 && t < bound { Refused::TooOld } else { Refused::OutOfOrder }
    }

    /// The stale marker of a series, which is a histogram where its samples are.
    pub(crate) fn stale_value(&self, series: u32) -> Option<Value> {
        let sum = pyrrha_model::stale_nan();
        Some(match self.histograms.get(&series)? {
            HistogramKind::Integer => Value::Histogram(Box::new(Histogram { sum, ..Histogram::default() })),
            HistogramKind::Float => {
                Value::FloatHistogram(Box::new(FloatHistogram { sum, ..FloatHistogram::default() }))
            }
        })
    }

    /// Marks a range as cut.
    pub(crate) fn add_cut(&mut self, range: TimeRange) {
        add_range(&mut self.cut, range);
    }
}

/// Whether `t` lies in one of the sorted, disjoint ranges.
pub(crate) fn is_cut(cut: &[TimeRange], t: Timestamp) -> bool {
    let after = cut.partition_point(|r| r.start <= t);
    after > 0 && cut[after - 1].contains(t)
}

/// Adds a range to sorted, disjoint ones, joining what touches.
pub(crate) fn add_range(ranges: &mut Vec<TimeRange>, range: TimeRange) {
    if range.is_empty() {
        return;
    }
    ranges.push(range);
    ranges.sort_by_key(|r| r.start);
    let mut joined: Vec<TimeRange> = Vec::with_capacity(ranges.len());
    for range in ranges.drain(..) {
        match joined.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(1) => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    *ranges = joined;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_judged_against_the_newest_admitted_one() {
        let mut admission = Admission::default();
        admission.newest.grow(2);
        let limits = Limits { latest: 1000, window: 0, now: 900 };
        let mut admit = |series, t, value| admission.admit(series, t, value, &limits);
        assert_eq!(admit(0, 500, 7), Ok(Admitted::New));
        assert_eq!(admit(0, 500, 7), Ok(Admitted::Repeated));
        assert_eq!(admit(0, 500, 8), Err(Refused::Duplicate));
        assert_eq!(admit(0, 499, 7), Err(Refused::OutOfOrder));
        assert_eq!(admit(0, 1001, 7), Err(Refused::TooFarInFuture));
        assert_eq!(admit(1, -5000, 7), Ok(Admitted::New), "a series may begin in any range not cut");
        assert_eq!(admit(1, i64::MIN, 7), Err(Refused::TooOld));
        let windowed = Limits { window: 100, ..limits };
        assert_eq!(admission.admit(0, 350, 7, &windowed), Err(Refused::TooOld));
        admission.add_cut(TimeRange::new(600, 699));
        assert_eq!(admission.admit(0, 650, 7, &limits), Err(Refused::OutOfOrder));
        assert_eq!(admission.admit(0, 700, 7, &limits), Ok(Admitted::New));
    }

    #[test]
    fn ranges_join_where_they_touch() {
        let mut ranges = Vec::new();
        for (start, end) in [(10, 19), (30, 39), (20, 29), (50, 59), (5, 8)] {
            add_range(&mut ranges, TimeRange::new(start, end));
        }
        assert_eq!(ranges, [TimeRange::new(5, 8), TimeRange::new(10, 39), TimeRange::new(50, 59)]);
        assert!(is_cut(&ranges, 39) && !is_cut(&ranges, 40) && !is_cut(&ranges, 9) && !is_cut(&ranges, 0));
    }
}
