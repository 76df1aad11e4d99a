//! Decoded samples of one series: float and histogram columns.

use pyrrha_model::{FloatHistogram, TimeRange, Timestamp};

use crate::windows::{HistogramWindows, Windows};

/// Float samples by time. All columns have the same length, except that `starts` is empty unless
/// start timestamps were asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FloatColumn {
    /// Timestamps, ms, strictly ascending.
    pub times: Vec<Timestamp>,
    /// Values; a stale NaN is a stale marker.
    pub values: Vec<f64>,
    /// Start timestamps, ms; 0: not known.
    pub starts: Vec<Timestamp>,
}

/// Histogram samples by time; see [`FloatColumn`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HistogramColumn {
    /// Timestamps, ms, strictly ascending.
    pub times: Vec<Timestamp>,
    /// Values, with counter-reset hints as a reader has to see them.
    pub values: Vec<FloatHistogram>,
    /// Start timestamps, ms; 0: not known.
    pub starts: Vec<Timestamp>,
}

/// The samples of a series; no timestamp occurs in both columns.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SeriesSamples {
    /// Float samples.
    pub floats: FloatColumn,
    /// Histogram samples.
    pub histograms: HistogramColumn,
    /// Windows of downsampled floats, where a source gave them instead of samples.
    pub windows: Windows,
    /// The same of histograms.
    pub histogram_windows: HistogramWindows,
    /// The times that windows stand for, ascending, also where there is none.
    pub window_spans: Vec<WindowSpan>,
}

/// Times of which windows of one length tell, and samples do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowSpan {
    /// The times.
    pub range: TimeRange,
    /// Length of the windows, ms.
    pub resolution: i64,
}

impl SeriesSamples {
    /// Removes all samples, keeps the allocations.
    pub fn clear(&mut self) {
        self.floats.times.clear();
        self.floats.values.clear();
        self.floats.starts.clear();
        self.histograms.times.clear();
        self.histograms.values.clear();
        self.histograms.starts.clear();
        self.windows.clear();
        self.histogram_windows.clear();
        self.window_spans.clear();
    }
}

/// What a reader wants of a series besides times and values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Want {
    /// Start timestamps.
    pub starts: bool,
    /// Of histograms only count, sum and hint (decision 34).
    pub histogram_stats_only: bool,
}
