//! Samples of one series as operators read them: histograms are shared, staleness is known.

use std::sync::Arc;

use pyrrha_encoding::windows::Windows;
use pyrrha_encoding::{FloatColumn, SeriesSamples, WindowSpan};
use pyrrha_model::{CounterResetHint, FloatHistogram, Timestamp, is_stale_nan};

use crate::error::QueryError;
use crate::functions::windowed::histograms::{self, HistogramWindows};
use crate::kernel::{FloatSlice, HistogramSlice};
use crate::value::{Column, Steps, histogram_weight};

/// Samples after which a loop asks whether it should go on.
const CHECKED_EVERY: usize = 1 << 16;

/// The samples of one series; see [`SeriesSamples`].
#[derive(Debug, Default)]
pub(crate) struct Samples {
    pub(crate) floats: FloatColumn,
    pub(crate) histograms: Histograms,
    /// Windows that stand for samples of their times.
    pub(crate) windows: Windows,
    /// The same of histograms.
    pub(crate) histogram_windows: HistogramWindows,
    /// The times that windows stand for.
    pub(crate) window_spans: Vec<WindowSpan>,
}

/// Histograms by time.
#[derive(Debug, Default)]
pub(crate) struct Histograms {
    pub(crate) times: Vec<Timestamp>,
    pub(crate) values: Vec<Arc<FloatHistogram>>,
    pub(crate) starts: Vec<Timestamp>,
}

impl Samples {
    /// Takes over what was decoded.
    pub(crate) fn take(&mut self, decoded: &mut SeriesSamples) {
        std::mem::swap(&mut self.floats, &mut decoded.floats);
        std::mem::swap(&mut self.histograms.times, &mut decoded.histograms.times);
        std::mem::swap(&mut self.histograms.starts, &mut decoded.histograms.starts);
        self.histograms.values.clear();
        self.histograms.values.extend(decoded.histograms.values.drain(..).map(Arc::new));
        std::mem::swap(&mut self.windows, &mut decoded.windows);
        std::mem::swap(&mut self.window_spans, &mut decoded.window_spans);
        // Hardly any series has some.
        if !self.histogram_windows.is_empty() || !decoded.histogram_windows.is_empty() {
            self.histogram_windows = std::mem::take(&mut decoded.histogram_windows).map(Arc::new);
        }
        decoded.clear();
        // Where none is known, functions need not look: windows of floats can slide.
        for starts in [&mut self.floats.starts, &mut self.histograms.starts] {
            if starts.iter().all(|start| *start == 0) {
                starts.clear();
            }
        }
    }

    /// Whether windows stand for some of the samples.
    pub(crate) fn has_windows(&self) -> bool {
        !self.windows.is_empty() || !self.histogram_windows.is_empty()
    }

    /// Leaves count, sum and a hint that is known, of every histogram; buckets told about resets. Where
    /// windows come before or between them, buckets still have to tell.
    pub(crate) fn keep_stats_only(&mut self) {
        if !self.histogram_windows.is_empty() {
            return;
        }
        let values = &mut self.histograms.values;
        for i in (1..values.len()).rev() {
            let (before, current) = values.split_at_mut(i);
            let Some(current) = current.first_mut() else { continue };
            // Asked first, so that a run of stale markers is walked once, for the sample after it.
            if current.counter_reset_hint != CounterResetHint::Unknown || current.is_stale() {
                continue;
            }
            // Range selectors pass stale markers over.
            let Some(previous) = before.iter().rev().find(|h| !h.is_stale()) else { continue };
            let reset = current.is_reset_after(previous);
            let hint = if reset { CounterResetHint::Reset } else { CounterResetHint::NotReset };
            Arc::make_mut(current).counter_reset_hint = hint;
        }
        for h in values {
            let h = Arc::make_mut(h);
            h.positive_spans.clear();
            h.negative_spans.clear();
            h.positive_buckets.clear();
            h.negative_buckets.clear();
            h.zero_count = 0.0;
        }
    }

    /// Bytes held, about.
    pub(crate) fn bytes(&self) -> usize {
        let floats =
            self.floats.times.capacity() + self.floats.values.capacity() + self.floats.starts.capacity();
        // A window has up to fifteen columns, most of eight bytes.
        self.windows.starts.capacity() * 100
            + floats * 8
            + self.histograms.values.iter().map(|h| histogram_weight(h) * 16 + 24).sum::<usize>()
            + histograms::weight(&self.histogram_windows, 0..self.histogram_windows.len()) * 16
            + self.histogram_windows.starts.capacity() * 80
    }

    /// Removes stale markers: what range selectors do.
    pub(crate) fn without_stale(&self) -> Option<Samples> {
        // Without a branch: hardly any series has one.
        let stale = self.floats.values.iter().fold(false, |stale, v| stale | is_stale_nan(*v))
            || self.histograms.values.iter().any(|h| h.is_stale());
        if !stale {
            return None;
        }
        let mut out = Samples::default();
        let FloatColumn { times, values, starts } = &self.floats;
        for i in (0..times.len()).filter(|&i| !is_stale_nan(values[i])) {
            out.floats.times.push(times[i]);
            out.floats.values.push(values[i]);
            out.floats.starts.extend(starts.get(i));
        }
        let Histograms { times, values, starts } = &self.histograms;
        for i in (0..times.len()).filter(|&i| !values[i].is_stale()) {
            out.histograms.times.push(times[i]);
            out.histograms.values.push(values[i].clone());
            out.histograms.starts.extend(starts.get(i));
        }
        Some(out)
    }

    /// Floats `range` as a kernel sees them.
    #[inline]
    pub(crate) fn float_slice(&self, range: std::ops::Range<usize>) -> FloatSlice<'_> {
        let starts = if self.floats.starts.is_empty() { &[][..] } else { &self.floats.starts[range.clone()] };
        FloatSlice { times: &self.floats.times[range.clone()], values: &self.floats.values[range], starts }
    }

    /// Histograms `range` as a kernel sees them.
    #[inline]
    pub(crate) fn histogram_slice(&self, range: std::ops::Range<usize>) -> HistogramSlice<'_> {
        let starts =
            if self.histograms.starts.is_empty() { &[][..] } else { &self.histograms.starts[range.clone()] };
        HistogramSlice {
            times: &self.histograms.times[range.clone()],
            values: &self.histograms.values[range],
            starts,
        }
    }
}

impl Samples {
    /// The values of a column as samples at the times of its steps. What histograms say about
    /// resets holds between neighbours of the original series only, so it is forgotten.
    /// `check` is asked now and then whether to go on.
    pub(crate) fn from_column(
        column: &Column,
        steps: Steps,
        check: impl Fn() -> Result<(), QueryError>,
    ) -> Result<Self, QueryError> {
        let mut out = Self::default();
        let (floats, present) = column.floats();
        for (n, i) in present.iter().enumerate() {
            if n % CHECKED_EVERY == 0 {
                check()?;
            }
            out.floats.times.push(steps.time(i));
            out.floats.values.push(floats[i]);
        }
        for (i, h) in column.histograms() {
            out.histograms.times.push(steps.time(*i as usize));
            let known = matches!(h.counter_reset_hint, CounterResetHint::Reset | CounterResetHint::NotReset);
            out.histograms.values.push(if known {
                Arc::new(FloatHistogram { counter_reset_hint: CounterResetHint::Unknown, ..(**h).clone() })
            } else {
                h.clone()
            });
        }
        Ok(out)
    }
}
