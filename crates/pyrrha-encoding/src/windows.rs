//! Downsampled samples: what is kept of those of each window of five minutes or an hour, and how windows
//! are stored (docs/format/windows.md). Native histograms: [`HistogramWindows`].
//!
//! ```text
//! samples ─► fold_floats ─► Windows ─► coarsen ─► Windows       twelve times five minutes
//!                              │ ▲
//!                              │ └── from_aggregates            blocks that Thanos made
//!                              ├───► aggregate_chunks           blocks that Thanos reads
//!                              └───► encode_windows / decode_windows
//! ```

mod aggregates;
mod codec;
mod fold;
mod histograms;

pub use aggregates::{ForeignEdges, aggregate_chunks, from_aggregates};
pub(crate) use codec::decoded_windows_size;
pub use codec::{MAX_WINDOWS, WindowPart, decode_windows, encode_windows, with_histograms};
pub use fold::{coarsen, fold_floats, kahan};
pub use histograms::{
    HistogramEdges, HistogramTotals, HistogramWindows, Layouts, all_aggregate_chunks, coarsen_histograms,
    encode_histogram_windows, fold_histograms, from_histogram_aggregates,
};

use pyrrha_model::Timestamp;

/// First millisecond of the window that holds time `t`.
#[inline]
pub fn window_start(t: Timestamp, resolution: i64) -> Timestamp {
    t.saturating_sub(t.rem_euclid(resolution.max(1)))
}

/// Windows of one series, ascending and disjoint, column by column. Only windows that hold a sample
/// occur; stale markers are no samples, NaNs are. All columns of a part have the same length, or the
/// part was not read, and they are empty.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Windows {
    /// First millisecond of the window.
    pub starts: Vec<Timestamp>,
    /// Last millisecond of the window.
    pub ends: Vec<Timestamp>,
    /// Samples, NaNs included.
    pub counts: Vec<u32>,
    /// What is known of the first and last samples; see [`WindowPart::Edges`].
    pub edges: Edges,
    /// What is known of all values; see [`WindowPart::Values`].
    pub values: Totals,
}

/// Part of [`Windows`]: its first and last samples, and how values moved between them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Edges {
    /// Time of the first sample, ms.
    pub first_times: Vec<Timestamp>,
    /// Time of the last sample, ms.
    pub last_times: Vec<Timestamp>,
    /// Value of the first sample.
    pub first_values: Vec<f64>,
    /// Value of the last sample.
    pub last_values: Vec<f64>,
    /// Sum of the values before each reset inside the window, in their order: what a counter's
    /// increase is more than its last value less its first.
    pub corrections: Vec<f64>,
    /// Samples that are less than the one before, in the same window.
    pub resets: Vec<u32>,
    /// Samples that differ from the one before, in the same window.
    pub changes: Vec<u32>,
    /// 1 where a stale marker comes after the last sample, in the same window; else 0.
    pub stale: Vec<u32>,
}

/// Part of [`Windows`]: the values as a whole. NaNs count only as such.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Totals {
    /// Their sum, with compensation.
    pub sums: Vec<f64>,
    /// The least; NaN where all are.
    pub mins: Vec<f64>,
    /// The greatest; NaN where all are.
    pub maxs: Vec<f64>,
    /// How many values are NaN.
    pub nans: Vec<u32>,
    /// Sum of the squared distances from their mean.
    pub deviations: Vec<f64>,
}

impl Windows {
    /// Number of windows.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Whether first and last samples are known.
    pub fn has_edges(&self) -> bool {
        self.edges.first_times.len() == self.len()
    }

    /// Whether sums and extremes are known.
    pub fn has_values(&self) -> bool {
        self.values.sums.len() == self.len()
    }

    /// Removes all windows, keeps the allocations.
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    /// Keeps the first `len` windows.
    pub fn truncate(&mut self, len: usize) {
        self.starts.truncate(len);
        self.ends.truncate(len);
        self.counts.truncate(len);
        let Edges { first_times, last_times, first_values, last_values, corrections, resets, changes, stale } =
            &mut self.edges;
        [first_times, last_times].into_iter().for_each(|c| c.truncate(len));
        [first_values, last_values, corrections].into_iter().for_each(|c| c.truncate(len));
        [resets, changes, stale].into_iter().for_each(|c| c.truncate(len));
        let Totals { sums, mins, maxs, nans, deviations } = &mut self.values;
        [sums, mins, maxs, deviations].into_iter().for_each(|c| c.truncate(len));
        nans.truncate(len);
    }

    /// Appends the windows `range` of `other`.
    pub fn extend(&mut self, other: &Self, range: std::ops::Range<usize>) {
        fn take<T: Copy>(to: &mut Vec<T>, from: &[T], range: &std::ops::Range<usize>) {
            to.extend_from_slice(from.get(range.clone()).unwrap_or_default());
        }
        take(&mut self.starts, &other.starts, &range);
        take(&mut self.ends, &other.ends, &range);
        take(&mut self.counts, &other.counts, &range);
        let (to, from) = (&mut self.edges, &other.edges);
        take(&mut to.first_times, &from.first_times, &range);
        take(&mut to.last_times, &from.last_times, &range);
        take(&mut to.first_values, &from.first_values, &range);
        take(&mut to.last_values, &from.last_values, &range);
        take(&mut to.corrections, &from.corrections, &range);
        take(&mut to.resets, &from.resets, &range);
        take(&mut to.changes, &from.changes, &range);
        take(&mut to.stale, &from.stale, &range);
        let (to, from) = (&mut self.values, &other.values);
        take(&mut to.sums, &from.sums, &range);
        take(&mut to.mins, &from.mins, &range);
        take(&mut to.maxs, &from.maxs, &range);
        take(&mut to.nans, &from.nans, &range);
        take(&mut to.deviations, &from.deviations, &range);
    }

    /// Whether columns have the lengths that they should have, and windows ascend.
    pub(crate) fn is_sound(&self) -> bool {
        let len = self.len();
        let Edges { first_times, last_times, first_values, last_values, corrections, resets, changes, stale } =
            &self.edges;
        let edges = [first_times.len(), last_times.len(), first_values.len(), last_values.len()];
        let others = [corrections.len(), resets.len(), changes.len(), stale.len()];
        let Totals { sums, mins, maxs, nans, deviations } = &self.values;
        let totals = [sums.len(), mins.len(), maxs.len(), nans.len(), deviations.len()];
        let same = |lengths: &[usize], len: usize| lengths.iter().all(|l| *l == len);
        let part = |lengths: &[usize]| same(lengths, 0) || same(lengths, len);
        self.ends.len() == len
            && self.counts.len() == len
            && part(&[edges, others].concat())
            && part(&totals)
            && ascend(&self.starts, &self.ends)
    }
}

/// Whether windows are none that overlap, by time. Looks at all of them, which is faster where it is so.
fn ascend(starts: &[Timestamp], ends: &[Timestamp]) -> bool {
    let inside = starts.iter().zip(ends).fold(true, |all, (s, e)| all & (s <= e));
    inside & ends.iter().zip(starts.iter().skip(1)).fold(true, |all, (e, s)| all & (e < s))
}

#[cfg(test)]
mod tests;
