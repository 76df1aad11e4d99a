//! What a tenant's head has admitted: the newest sample of each series, and the late ones of batches
//! that still wait for the log. Samples are judged against this, under the tenant's admission lock.

use std::collections::VecDeque;

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
    /// Length of the out-of-order window, ms; 0: nothing late is taken.
    pub(crate) window: i64,
    /// Wall clock, ms.
    pub(crate) now: Timestamp,
}

/// How a sample was admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admitted {
    /// It is new.
    New,
    /// It repeats one that is admitted.
    Repeated,
    /// It is out of order, and old enough to be taken if its time is free.
    Late,
}

/// State under the admission lock.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    pub(crate) keys: KeyTable,
    pub(crate) newest: Paged<Newest>,
    /// Newest time of all samples, ms.
    pub(crate) newest_time: Option<Timestamp>,
    /// Batches that wait for the log.
    in_flight: VecDeque<InFlight>,
    /// Late samples of the open batch and of those in flight, with what identifies their values.
    late: hashbrown::HashMap<(u32, Timestamp), u64, foldhash::fast::RandomState>,
    /// Ranges that have left the head for blocks, or are about to, sorted and disjoint.
    pub(crate) cut: Vec<TimeRange>,
    /// Series whose newest sample is a histogram, by kind: a stale float for them becomes a stale
    /// histogram.
    pub(crate) histograms: hashbrown::HashMap<u32, HistogramKind, foldhash::fast::RandomState>,
    pub(crate) exemplars: ExemplarAdmission,
    /// Metadata as it was last admitted.
    pub(crate) metadata: MetadataMap,
}

/// What a batch that waits for the log has admitted.
#[derive(Debug)]
struct InFlight {
    /// Number of the batch among those submitted.
    number: u64,
    /// The newest samples before each of its own: all of its series' samples but the newest ones.
    before: Vec<(u32, Newest)>,
    late: Vec<(u32, Timestamp)>,
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
        self.admit_old(newest, t, value, limits)
    }

    #[cold]
    fn admit_old(
        &mut self,
        newest: Newest,
        t: Timestamp,
        value: u64,
        limits: &Limits,
    ) -> Result<Admitted, Refused> {
        // The first of all times stands for no sample yet.
        if t == newest.t && t > -FARTHEST {
            return if value == newest.value { Ok(Admitted::Repeated) } else { Err(Refused::Duplicate) };
        }
        if t > limits.latest {
            return Err(Refused::TooFarInFuture);
        }
        // An empty tenant has no newest sample, and takes any past time.
        let newest_time = self.newest_time.or(self.cut.last().map(|last| last.end));
        let bound = newest_time.map(|newest| newest.min(limits.now).saturating_sub(limits.window));
        if t <= -FARTHEST || limits.window > 0 && bound.is_some_and(|bound| t < bound) {
            return Err(Refused::TooOld);
        }
        if limits.window <= 0 {
            return Err(Refused::OutOfOrder);
        }
        self.newest_time = self.newest_time.max(Some(t));
        Ok(Admitted::Late)
    }

    /// What identifies the value that a batch in flight, or the open one, admitted for this time. The open one
    /// has replaced `replaced`.
    pub(crate) fn admitted_at(&self, series: u32, t: Timestamp, replaced: &[(u32, Newest)]) -> Option<u64> {
        if let Some(value) = self.late.get(&(series, t)) {
            return Some(*value);
        }
        let batches = self.in_flight.iter().map(|batch| &batch.before[..]).chain([replaced]);
        batches.flatten().find(|(s, before)| *s == series && before.t == t).map(|(_, before)| before.value)
    }

    /// Remembers a late sample of the open batch.
    pub(crate) fn add_late(&mut self, series: u32, t: Timestamp, value: u64) {
        self.late.insert((series, t), value);
    }

    /// Forgets a late sample of a batch that is dropped or applied.
    pub(crate) fn remove_late(&mut self, series: u32, t: Timestamp) {
        self.late.remove(&(series, t));
    }

    /// Remembers what a batch that was submitted has admitted.
    pub(crate) fn submitted(&mut self, number: u64, before: Vec<(u32, Newest)>, late: Vec<(u32, Timestamp)>) {
        self.in_flight.push_back(InFlight { number, before, late });
    }

    /// Forgets the batches below this number: they are applied.
    pub(crate) fn applied(&mut self, below: u64) {
        while self.in_flight.front().is_some_and(|batch| batch.number < below) {
            let Some(batch) = self.in_flight.pop_front() else { return };
            batch.late.iter().for_each(|&(series, t)| self.remove_late(series, t));
        }
    }

    /// Whether a sample in one of the sorted, disjoint ranges is, or was in a batch in flight, the
    /// newest of its series.
    pub(crate) fn has_newest_in(&self, ranges: &[TimeRange]) -> bool {
        let batches = self.in_flight.iter().flat_map(|batch| &batch.before).map(|(_, before)| before.t);
        let newest = (0..self.newest.len()).map(|series| self.newest[series].t);
        batches.chain(newest).any(|t| is_cut(ranges, t))
    }

    /// Forgets all batches.
    pub(crate) fn forget_batches(&mut self) {
        self.in_flight.clear();
        self.late.clear();
    }

    fn is_past_cuts(&self, t: Timestamp) -> bool {
        match self.cut.last() {
            None => true,
            Some(last) if t > last.end => true,
            Some(_) => !is_cut(&self.cut, t),
        }
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
        assert_eq!(admit(1, i64::MIN, 0), Err(Refused::TooOld), "no sample yet is none of that time");
        assert_eq!(admit(1, -5000, 7), Ok(Admitted::New), "a series may begin in any range not cut");
        assert_eq!(admit(1, i64::MIN, 7), Err(Refused::TooOld));
        let windowed = Limits { window: 100, ..limits };
        assert_eq!(admission.admit(0, 399, 7, &windowed), Err(Refused::TooOld));
        assert_eq!(admission.admit(0, 400, 7, &windowed), Ok(Admitted::Late));
        assert_eq!(admission.admit(0, 500, 8, &windowed), Err(Refused::Duplicate));
        admission.add_cut(TimeRange::new(600, 699));
        assert_eq!(admission.admit(0, 650, 7, &limits), Err(Refused::OutOfOrder));
        assert_eq!(admission.admit(0, 650, 7, &windowed), Ok(Admitted::Late));
        assert_eq!(admission.admit(0, 700, 7, &limits), Ok(Admitted::New));
        let behind = Limits { now: 450, ..windowed };
        assert_eq!(admission.admit(0, 350, 7, &behind), Ok(Admitted::Late), "the wall clock is behind");
        assert_eq!(admission.admit(0, 349, 7, &behind), Err(Refused::TooOld));
    }

    #[test]
    fn what_waits_for_the_log_is_known() {
        let mut admission = Admission::default();
        admission.newest.grow(2);
        let at = |t, value| (1, Newest { t, value });
        admission.add_late(1, 50, 5);
        admission.submitted(3, vec![at(100, 10), at(110, 11)], vec![(1, 50)]);
        admission.submitted(4, vec![at(120, 12)], Vec::new());
        let of = |admission: &Admission, t| admission.admitted_at(1, t, &[at(130, 13)]);
        let found: Vec<_> = [50, 100, 110, 120, 130, 140].map(|t| of(&admission, t)).into();
        assert_eq!(found, [Some(5), Some(10), Some(11), Some(12), Some(13), None]);
        assert_eq!(admission.admitted_at(0, 50, &[]), None);
        admission.applied(4);
        let found: Vec<_> = [50, 100, 110, 120, 130].map(|t| of(&admission, t)).into();
        assert_eq!(found, [None, None, None, Some(12), Some(13)]);
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
