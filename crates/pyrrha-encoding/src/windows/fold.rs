//! From samples to windows, and from windows to longer ones.

use pyrrha_model::{Timestamp, is_stale_nan};

use super::{Windows, window_start};

/// One step of a sum with Neumaier's compensation: the new sum and what it lost.
#[inline]
pub fn kahan(x: f64, sum: f64, c: f64) -> (f64, f64) {
    let t = sum + x;
    if t.is_infinite() {
        (t, 0.0)
    } else if sum.abs() >= x.abs() {
        (t, c + ((sum - t) + x))
    } else {
        (t, c + ((x - t) + sum))
    }
}

/// Appends the windows of a series to `out`. Times ascend; columns are equally long.
pub fn fold_floats(times: &[Timestamp], values: &[f64], resolution: i64, out: &mut Windows) {
    let mut from = 0;
    while let Some(&t) = times.get(from) {
        let start = window_start(t, resolution);
        let end = start.saturating_add(resolution - 1);
        // Windows hold few samples: a walk is faster than a search.
        let to = from + times[from..].iter().take_while(|t| **t <= end).count();
        fold_window(&times[from..to], &values[from..to.min(values.len())], (start, end), out);
        from = to;
    }
}

fn fold_window(times: &[Timestamp], values: &[f64], (start, end): (Timestamp, Timestamp), out: &mut Windows) {
    let mut seen = Seen::default();
    // Hardly any window has a NaN of either kind, and then nothing needs to be asked per sample.
    if values.iter().fold(false, |nan, v| nan | v.is_nan()) {
        times.iter().zip(values).for_each(|(&t, &v)| seen.add_any(t, v));
    } else if let (Some((&t, others)), Some((&v, rest))) = (times.split_first(), values.split_first()) {
        seen.begin(t, v);
        for (&t, &v) in others.iter().zip(rest) {
            seen.add(t, v);
        }
    }
    if seen.count == 0 {
        return;
    }
    let numbers = f64::from(seen.count - seen.nans);
    let sum = if seen.sum.is_infinite() { seen.sum } else { seen.sum + seen.c };
    let mean = sum / numbers;
    let mut deviation = 0.0;
    if seen.min != seen.max && numbers > 0.0 {
        let square = |v: &f64| if v.is_nan() { 0.0 } else { (v - mean) * (v - mean) };
        deviation = values.iter().map(square).sum();
    }
    out.starts.push(start);
    out.ends.push(end);
    out.counts.push(seen.count);
    let edges = &mut out.edges;
    edges.first_times.push(seen.first.0);
    edges.first_values.push(seen.first.1);
    edges.last_times.push(seen.last.0);
    edges.last_values.push(seen.last.1);
    edges.corrections.push(seen.correction);
    edges.resets.push(seen.resets);
    edges.changes.push(seen.changes);
    edges.stale.push(u32::from(seen.stale));
    let totals = &mut out.values;
    totals.sums.push(sum);
    totals.mins.push(seen.min);
    totals.maxs.push(seen.max);
    totals.nans.push(seen.nans);
    totals.deviations.push(deviation);
}

/// What was seen of a window.
#[derive(Debug, Default)]
struct Seen {
    count: u32,
    nans: u32,
    first: (Timestamp, f64),
    last: (Timestamp, f64),
    correction: f64,
    resets: u32,
    changes: u32,
    stale: bool,
    sum: f64,
    c: f64,
    min: f64,
    max: f64,
}

impl Seen {
    #[inline]
    fn begin(&mut self, t: Timestamp, v: f64) {
        (self.count, self.first, self.last) = (1, (t, v), (t, v));
        (self.sum, self.c) = kahan(v, 0.0, 0.0);
        (self.min, self.max) = (v, v);
    }

    /// A sample that is no NaN, after one that is none.
    #[inline]
    fn add(&mut self, t: Timestamp, v: f64) {
        self.count += 1;
        self.step(v);
        self.last = (t, v);
        (self.sum, self.c) = kahan(v, self.sum, self.c);
        self.min = if v < self.min { v } else { self.min };
        self.max = if v > self.max { v } else { self.max };
    }

    /// From the last value to `v`.
    #[inline]
    fn step(&mut self, v: f64) {
        let before = self.last.1;
        let reset = v < before;
        self.resets += u32::from(reset);
        self.changes += u32::from(v != before);
        if reset {
            self.correction += before;
        }
    }

    /// Any sample, or a stale marker.
    fn add_any(&mut self, t: Timestamp, v: f64) {
        if is_stale_nan(v) {
            self.stale = self.count > 0;
            return;
        }
        self.stale = false;
        if self.count == 0 {
            (self.first, self.min, self.max) = ((t, v), f64::NAN, f64::NAN);
        } else {
            self.step(v);
            // NaN differs from everything, but not from another NaN.
            self.changes -= u32::from(v.is_nan() && self.last.1.is_nan());
        }
        self.count += 1;
        self.last = (t, v);
        if v.is_nan() {
            self.nans += 1;
            return;
        }
        (self.sum, self.c) = kahan(v, self.sum, self.c);
        self.min = if v < self.min || self.min.is_nan() { v } else { self.min };
        self.max = if v > self.max || self.max.is_nan() { v } else { self.max };
    }
}

/// Makes windows of `resolution` from shorter ones that divide it. Both parts must be known.
pub fn coarsen(fine: &Windows, resolution: i64, out: &mut Windows) {
    let mut from = 0;
    while let Some(&start) = fine.starts.get(from) {
        let start = window_start(start, resolution);
        let end = start.saturating_add(resolution - 1);
        let to = from + fine.ends[from..].iter().take_while(|e| **e <= end).count().max(1);
        join(fine, from..to, (start, end), out);
        from = to;
    }
}

fn join(
    fine: &Windows,
    range: std::ops::Range<usize>,
    (start, end): (Timestamp, Timestamp),
    out: &mut Windows,
) {
    let (first, last) = (range.start, range.end - 1);
    let (e, v) = (&fine.edges, &fine.values);
    let (mut correction, mut resets, mut changes) = (0.0, 0, 0);
    let (mut sum, mut c, mut min, mut max) = (0.0, 0.0, f64::NAN, f64::NAN);
    let (mut count, mut nans) = (0u32, 0u32);
    for i in range.clone() {
        if i > first {
            let (before, after) = (e.last_values[i - 1], e.first_values[i]);
            if after < before {
                correction += before;
                resets += 1;
            }
            changes += u32::from(after != before && !(after.is_nan() && before.is_nan()));
        }
        // Nothing is added where there is nothing, so that one correction keeps its bits.
        if e.corrections[i] != 0.0 {
            correction += e.corrections[i];
        }
        resets += e.resets[i];
        changes += e.changes[i];
        (sum, c) = kahan(v.sums[i], sum, c);
        min = if v.mins[i] < min || min.is_nan() { v.mins[i] } else { min };
        max = if v.maxs[i] > max || max.is_nan() { v.maxs[i] } else { max };
        count = count.saturating_add(fine.counts[i]);
        nans = nans.saturating_add(v.nans[i]);
    }
    let sum = if sum.is_infinite() { sum } else { sum + c };
    let mean = sum / f64::from(count - nans);
    let mut deviation = 0.0;
    for i in range {
        let numbers = f64::from(fine.counts[i] - v.nans[i]);
        if numbers > 0.0 {
            let distance = v.sums[i] / numbers - mean;
            deviation += v.deviations[i] + numbers * distance * distance;
        }
    }
    out.starts.push(start);
    out.ends.push(end);
    out.counts.push(count);
    let edges = &mut out.edges;
    edges.first_times.push(e.first_times[first]);
    edges.first_values.push(e.first_values[first]);
    edges.last_times.push(e.last_times[last]);
    edges.last_values.push(e.last_values[last]);
    edges.corrections.push(correction);
    edges.resets.push(resets);
    edges.changes.push(changes);
    edges.stale.push(e.stale[last]);
    let totals = &mut out.values;
    totals.sums.push(sum);
    totals.mins.push(min);
    totals.maxs.push(max);
    totals.nans.push(nans);
    totals.deviations.push(deviation);
}
