//! What a query tells about itself: progress while it runs, times, samples by step, work by operator.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use pyrrha_model::Timestamp;

/// What a query holds and has read: may be looked at while it runs.
#[derive(Debug, Default)]
pub struct Progress {
    held: AtomicUsize,
    peak: AtomicUsize,
    total: AtomicU64,
    read: AtomicU64,
    series: AtomicU64,
}

impl Progress {
    /// Samples held now.
    pub fn samples_held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// What it took so far.
    pub fn stats(&self) -> QueryStats {
        QueryStats {
            total_samples: self.total.load(Ordering::Relaxed),
            samples_read: self.read.load(Ordering::Relaxed),
            peak_samples: self.peak.load(Ordering::Relaxed) as u64,
            series: self.series.load(Ordering::Relaxed),
        }
    }

    /// Counts samples as held; false, and nothing changes, if that would be more than `most`.
    pub(crate) fn hold(&self, samples: usize, most: usize) -> bool {
        let held = self.held.fetch_add(samples, Ordering::Relaxed).saturating_add(samples);
        if held > most {
            self.held.fetch_sub(samples, Ordering::Relaxed);
            return false;
        }
        self.peak.fetch_max(held, Ordering::Relaxed);
        true
    }

    pub(crate) fn let_go(&self, samples: usize) {
        self.held.fetch_sub(samples, Ordering::Relaxed);
    }

    pub(crate) fn count_total(&self, samples: u64) {
        self.total.fetch_add(samples, Ordering::Relaxed);
    }

    pub(crate) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    pub(crate) fn count_read(&self, series: u64, samples: u64) {
        self.series.fetch_add(series, Ordering::Relaxed);
        self.read.fetch_add(samples, Ordering::Relaxed);
    }
}

/// What a query took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueryStats {
    /// Samples that selectors brought to steps: `totalQueryableSamples`. A histogram counts as many
    /// as towards the samples limit; what is below a subquery is not counted, but its windows are.
    pub total_samples: u64,
    /// Samples read from the store, each once: `samplesRead`.
    pub samples_read: u64,
    /// Most samples held at once.
    pub peak_samples: u64,
    /// Series that selectors found.
    pub series: u64,
}

/// Samples by step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PerStep {
    /// Time of each step, ms.
    pub times: Vec<Timestamp>,
    /// [`QueryStats::total_samples`] by step.
    pub total: Vec<u64>,
    /// [`QueryStats::samples_read`] by the step that was the first to need the sample.
    pub read: Vec<u64>,
}

/// Where the time went; all zero without a [`Stopwatch`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueryTimes {
    /// Planning.
    pub preparation: Duration,
    /// Evaluation, sorting included.
    pub evaluation: Duration,
    /// Sorting the result.
    pub sorting: Duration,
}

/// What one operator of a plan did. Selectors count what they read, the others what they passed on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeStats {
    /// Series.
    pub series: u64,
    /// Samples of them.
    pub samples: u64,
    /// Bytes of them, about.
    pub bytes: u64,
    /// Time with everything below. Operators that work on one series at a time do so on several
    /// threads: theirs is the sum over threads.
    pub time: Duration,
}

/// Tells the time to an engine, which has no clock of its own: time since some fixed moment.
#[derive(Clone)]
pub struct Stopwatch(Arc<dyn Fn() -> Duration + Send + Sync>);

impl Stopwatch {
    /// A stopwatch that reads this clock.
    pub fn new(elapsed: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self(Arc::new(elapsed))
    }

    /// Time now.
    pub fn elapsed(&self) -> Duration {
        (self.0)()
    }
}

impl fmt::Debug for Stopwatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stopwatch")
    }
}
