//! Downsampled native histograms: a thinned run of real samples, and a sum per window.
//!
//! Of each window the first and the last sample are kept, and both samples around each counter reset
//! and each change of bounds in between. So a counter's increase over kept samples is that over all of
//! them, schemas included, and no function needs rules of its own.

mod aggregates;
mod codec;
mod fold;

pub use aggregates::{all_aggregate_chunks, from_histogram_aggregates};
pub use codec::encode_histogram_windows;
pub(super) use codec::{histograms_size, read_histograms};
pub use fold::{coarsen_histograms, fold_histograms};

use std::ops::Range;

use pyrrha_model::{CounterResetHint, FloatHistogram, Timestamp};

/// Windows of one series of native histograms, ascending and disjoint, column by column; see
/// [`Windows`](super::Windows). `H` is how a histogram is held.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HistogramWindows<H = FloatHistogram> {
    /// First millisecond of the window.
    pub starts: Vec<Timestamp>,
    /// Last millisecond of the window.
    pub ends: Vec<Timestamp>,
    /// Samples; stale markers are none.
    pub counts: Vec<u32>,
    /// What is kept of the samples; see [`WindowPart::Edges`](super::WindowPart::Edges).
    pub edges: HistogramEdges<H>,
    /// What is known of all of them; see [`WindowPart::Values`](super::WindowPart::Values).
    pub values: HistogramTotals<H>,
}

/// Part of [`HistogramWindows`]: samples that were kept, and what those that were not did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HistogramEdges<H = FloatHistogram> {
    /// How many samples of this window and all before were kept; each window has one at least.
    pub upto: Vec<usize>,
    /// Samples before which the counter was reset, in the same window.
    pub resets: Vec<u32>,
    /// Samples of another distribution than the one before, in the same window.
    pub changes: Vec<u32>,
    /// 1 where a stale marker comes after the last sample, in the same window; else 0.
    pub stale: Vec<u32>,
    /// Times of the kept samples of all windows, ms.
    pub times: Vec<Timestamp>,
    /// The kept samples. Hints say "gauge" or nothing.
    pub samples: Vec<H>,
}

/// Part of [`HistogramWindows`]: all samples of each window as one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HistogramTotals<H = FloatHistogram> {
    /// Their sum, with compensation; a gauge if one of them is. Empty where there is none.
    pub sums: Vec<H>,
    /// How their bounds go together.
    pub layouts: Vec<Layouts>,
}

/// How the bounds of histograms go together in a sum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Layouts {
    /// They are the same, or exponential.
    #[default]
    Compatible = 0,
    /// Custom bounds differ; the sum has those that all have.
    Intersected = 1,
    /// Some are exponential, others custom: there is no sum.
    Mixed = 2,
}

impl<H: Clone> HistogramWindows<H> {
    /// Number of windows.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Whether kept samples are known.
    pub fn has_edges(&self) -> bool {
        self.edges.upto.len() == self.len()
    }

    /// Whether sums are known.
    pub fn has_values(&self) -> bool {
        self.values.sums.len() == self.len()
    }

    /// Where the kept samples of some windows are; nowhere if they are not known.
    pub fn kept(&self, windows: Range<usize>) -> Range<usize> {
        let upto = |i: usize| match i {
            0 => 0,
            _ => self.edges.upto.get(i - 1).copied().unwrap_or(self.edges.times.len()),
        };
        if self.edges.upto.is_empty() { 0..0 } else { upto(windows.start)..upto(windows.end) }
    }

    /// Removes all windows, keeps the allocations.
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    /// Keeps the first `len` windows.
    pub fn truncate(&mut self, len: usize) {
        let kept = self.kept(0..len.min(self.len())).end;
        [&mut self.starts, &mut self.ends].into_iter().for_each(|column| column.truncate(len));
        let edges = &mut self.edges;
        [&mut self.counts, &mut edges.resets, &mut edges.changes, &mut edges.stale]
            .into_iter()
            .for_each(|column| column.truncate(len));
        edges.upto.truncate(len);
        edges.times.truncate(kept);
        edges.samples.truncate(kept);
        self.values.sums.truncate(len);
        self.values.layouts.truncate(len);
    }

    /// Appends the windows `range` of `other`.
    pub fn extend(&mut self, other: &Self, range: Range<usize>) {
        fn take<T: Clone>(to: &mut Vec<T>, from: &[T], range: &Range<usize>) {
            to.extend_from_slice(from.get(range.clone()).unwrap_or_default());
        }
        let kept = other.kept(range.clone());
        take(&mut self.starts, &other.starts, &range);
        take(&mut self.ends, &other.ends, &range);
        take(&mut self.counts, &other.counts, &range);
        let (to, from) = (&mut self.edges, &other.edges);
        let before = to.times.len();
        let upto = from.upto.get(range.clone()).unwrap_or_default();
        to.upto.extend(upto.iter().map(|at| (at - kept.start) + before));
        take(&mut to.resets, &from.resets, &range);
        take(&mut to.changes, &from.changes, &range);
        take(&mut to.stale, &from.stale, &range);
        take(&mut to.times, &from.times, &kept);
        take(&mut to.samples, &from.samples, &kept);
        take(&mut self.values.sums, &other.values.sums, &range);
        take(&mut self.values.layouts, &other.values.layouts, &range);
    }

    /// The same windows with histograms held in another way.
    pub fn map<G>(self, mut hold: impl FnMut(H) -> G) -> HistogramWindows<G> {
        let HistogramEdges { upto, resets, changes, stale, times, samples } = self.edges;
        let samples = samples.into_iter().map(&mut hold).collect();
        let sums = self.values.sums.into_iter().map(&mut hold).collect();
        HistogramWindows {
            starts: self.starts,
            ends: self.ends,
            counts: self.counts,
            edges: HistogramEdges { upto, resets, changes, stale, times, samples },
            values: HistogramTotals { sums, layouts: self.values.layouts },
        }
    }

    /// Whether columns have the lengths that they should have, windows ascend, and kept samples lie in
    /// their windows and ascend too.
    pub(crate) fn is_sound(&self) -> bool {
        let len = self.len();
        let HistogramEdges { upto, resets, changes, stale, times, samples } = &self.edges;
        let part = |lengths: &[usize]| lengths.iter().all(|l| *l == 0) || lengths.iter().all(|l| *l == len);
        let inside = |i: usize| {
            let kept = &times[self.kept(i..i + 1)];
            kept.first().is_some_and(|t| *t >= self.starts[i])
                && kept.last().is_some_and(|t| *t <= self.ends[i])
        };
        self.ends.len() == len
            && self.counts.len() == len
            && part(&[upto.len(), resets.len(), changes.len(), stale.len()])
            && part(&[self.values.sums.len(), self.values.layouts.len()])
            && self.starts.iter().zip(&self.ends).all(|(s, e)| s <= e)
            && self.ends.iter().zip(self.starts.iter().skip(1)).all(|(e, s)| e < s)
            && times.len() == samples.len()
            && upto.last().copied().unwrap_or(0) == times.len()
            && upto.is_sorted()
            && times.is_sorted_by(|a, b| a < b)
            && (upto.is_empty() || (0..len).all(inside))
    }
}

/// Whether both have buckets of the same bounds and are both gauges, or neither.
fn alike(a: &FloatHistogram, b: &FloatHistogram) -> bool {
    same_bounds(a, b) && is_gauge(a) == is_gauge(b)
}

/// Whether both have buckets of the same bounds.
fn same_bounds(a: &FloatHistogram, b: &FloatHistogram) -> bool {
    let same = |a: &[f64], b: &[f64]| a.iter().map(|v| v.to_bits()).eq(b.iter().map(|v| v.to_bits()));
    a.schema == b.schema
        && a.zero_threshold.to_bits() == b.zero_threshold.to_bits()
        && same(&a.custom_values, &b.custom_values)
}

fn is_gauge(h: &FloatHistogram) -> bool {
    h.counter_reset_hint == CounterResetHint::Gauge
}

/// Forgets what a hint says of the sample before, which may have been another.
fn forget(h: &mut FloatHistogram) {
    if !is_gauge(h) {
        h.counter_reset_hint = CounterResetHint::Unknown;
    }
}

#[cfg(test)]
mod tests;
