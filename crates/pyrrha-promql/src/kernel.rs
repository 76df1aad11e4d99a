//! What a function's implementation gets and gives: the kernel interface.
//!
//! The engine brings samples in the right shape to a kernel and labels, names, duplicates and
//! budgets right around it; a kernel computes. Four shapes:
//!
//! | shape | called | examples |
//! |---|---|---|
//! | [`RangeKernel`] | per series and step, with the samples of the range | `deriv`, `quantile_over_time` |
//! | [`MapKernel`] | per float, histograms are dropped | `abs`, `sin` |
//! | [`SeriesKernel`] | per series, with its column over all steps | `clamp`, `histogram_avg` |
//! | [`VectorKernel`] | once, with all series over all steps | `label_replace`, `histogram_quantile` |

use std::sync::Arc;

use pyrrha_model::contract::CancelToken;
use pyrrha_model::{FloatHistogram, Matcher, SymbolTable, Timestamp};

use crate::annotations::{Annotation, Note};
use crate::ast::Pos;
use crate::error::QueryError;
use crate::labels::LabelIds;
use crate::value::{Column, Sample, ScalarColumn, Series, Steps};

/// Float samples of one series inside one window. All slices have the same length, except that
/// `starts` is empty unless start timestamps are in use.
#[derive(Debug, Clone, Copy, Default)]
pub struct FloatSlice<'a> {
    /// Timestamps, ms, strictly ascending.
    pub times: &'a [Timestamp],
    /// Values; never a stale marker.
    pub values: &'a [f64],
    /// Start timestamps, ms; 0: not known.
    pub starts: &'a [Timestamp],
}

/// Histogram samples of one series inside one window; see [`FloatSlice`].
#[derive(Debug, Clone, Copy, Default)]
pub struct HistogramSlice<'a> {
    /// Timestamps, ms, strictly ascending.
    pub times: &'a [Timestamp],
    /// Values, with counter-reset hints as a reader has to see them.
    pub values: &'a [Arc<FloatHistogram>],
    /// Start timestamps, ms; 0: not known.
    pub starts: &'a [Timestamp],
}

/// The samples of one series for one step of a range function; at least one sample. Staleness is
/// resolved: no stale marker occurs.
///
/// Classic: samples in `(start, end]`. Anchored: in `(start - lookback, end]`. Smoothed: in
/// `(start - lookback, end + lookback]`.
#[derive(Debug, Clone, Copy)]
pub struct Window<'a> {
    /// Float samples.
    pub floats: FloatSlice<'a>,
    /// Histogram samples.
    pub histograms: HistogramSlice<'a>,
    /// Start of the range, ms, which does not belong to it.
    pub start: Timestamp,
    /// End of the range, ms, which does (evaluation time less `offset`, or by `@`).
    pub end: Timestamp,
    /// Evaluation time of the step, ms.
    pub time: Timestamp,
}

impl Window<'_> {
    /// Length of the range, ms.
    pub fn range(&self) -> i64 {
        self.end - self.start
    }
}

/// The other arguments of a call, and the query around it.
#[derive(Debug, Clone, Copy)]
pub struct KernelArgs<'a> {
    /// Scalar arguments, in the order written (other arguments do not count).
    pub scalars: &'a [ScalarColumn],
    /// String arguments, in the order written.
    pub strings: &'a [String],
    /// The evaluation times.
    pub steps: Steps,
    /// The step of a range kernel; 0 for other kernels.
    pub step: usize,
    /// Symbols of the query.
    pub symbols: &'a SymbolTable,
    /// Whether the query is a range query.
    pub range_query: bool,
    /// Feature `promql-delayed-name-removal`: the engine drops names itself, after a kernel.
    pub delayed_name_removal: bool,
    /// Feature `type-and-unit-labels`.
    pub type_and_unit_labels: bool,
    /// Feature `use-start-timestamps`: windows carry start timestamps.
    pub start_timestamps: bool,
}

impl KernelArgs<'_> {
    /// The `i`-th scalar argument at the current step of a range kernel.
    #[inline]
    pub fn scalar(&self, i: usize) -> f64 {
        self.scalars[i].at(self.step)
    }

    /// The `i`-th scalar argument at `step`, if there is one.
    #[inline]
    pub fn scalar_at(&self, i: usize, step: usize) -> Option<f64> {
        self.scalars.get(i).map(|s| s.at(step))
    }
}

/// Floats after which a kernel asks whether it should go on: less than a millisecond's work.
pub(crate) const FLOATS_UNASKED: usize = 1 << 15;

/// Histograms after which it asks.
pub(crate) const HISTOGRAMS_UNASKED: usize = 256;

/// Where a kernel leaves annotations. Positions are those of the call's arguments; metric names
/// are resolved only for notes that are new.
#[derive(Debug)]
pub struct KernelNotes<'a> {
    symbols: &'a SymbolTable,
    args: &'a [Pos],
    cancel: Option<&'a CancelToken>,
    /// How often the kernel asked whether it should go on.
    #[cfg(test)]
    pub(crate) asked: std::cell::Cell<usize>,
    labels: Option<LabelIds>,
    seen: Vec<(usize, Note)>,
    found: Vec<Annotation>,
    failure: Option<QueryError>,
}

impl<'a> KernelNotes<'a> {
    /// Notes for a call whose arguments stand at `args`.
    pub fn new(symbols: &'a SymbolTable, args: &'a [Pos]) -> Self {
        let (seen, found) = (Vec::new(), Vec::new());
        Self {
            symbols,
            args,
            cancel: None,
            #[cfg(test)]
            asked: std::cell::Cell::default(),
            labels: None,
            seen,
            found,
            failure: None,
        }
    }

    /// Notes for a kernel that stops when the query is cancelled.
    pub fn until(self, cancel: &'a CancelToken) -> Self {
        Self { cancel: Some(cancel), ..self }
    }

    /// Whether the query is cancelled: what the kernel gives does not matter any more.
    #[inline]
    pub fn stopped(&self) -> bool {
        #[cfg(test)]
        self.asked.set(self.asked.get() + 1);
        self.cancel.is_some_and(|cancel| cancel.reason().is_some())
    }

    /// Calls `f` for each of some floats, or for some of them if the query is cancelled meanwhile.
    #[inline]
    pub(crate) fn each_float(&self, values: &[f64], mut f: impl FnMut(f64)) {
        for block in values.chunks(FLOATS_UNASKED) {
            if self.stopped() {
                return;
            }
            block.iter().for_each(|v| f(*v));
        }
    }

    /// The series that the next notes are about. The engine calls it for range, map and series
    /// kernels; vector kernels call it themselves, with `None` where no metric name shall appear.
    pub fn about(&mut self, labels: Option<&LabelIds>) {
        self.labels = labels.cloned();
        self.seen.clear();
    }

    /// Adds a note at the position of argument `arg` (0-based, in the order written).
    #[cold]
    pub fn add(&mut self, arg: usize, note: Note) {
        if !note.merges() {
            if self.seen.iter().any(|(a, n)| *a == arg && *n == note) {
                return;
            }
            self.seen.push((arg, note.clone()));
        }
        let metric = self.labels.as_ref().map_or_else(|| "".into(), |l| l.metric_name(self.symbols));
        let pos = self.args.get(arg).copied().unwrap_or_default();
        self.found.push(Annotation { note, metric, pos });
    }

    /// Labels of the series that the notes are about.
    pub fn labels(&self) -> Option<&LabelIds> {
        self.labels.as_ref()
    }

    /// Makes the query fail. The first failure counts.
    #[cold]
    pub fn fail(&mut self, error: QueryError) {
        self.failure.get_or_insert(error);
    }

    /// Why the query has to fail, if it has to.
    pub fn take_failure(&mut self) -> Option<QueryError> {
        self.failure.take()
    }

    /// The notes, in the order added.
    pub fn take(&mut self) -> Vec<Annotation> {
        self.seen.clear();
        std::mem::take(&mut self.found)
    }
}

/// Computes one value of one series from the samples of its range.
pub type RangeKernel = fn(&Window<'_>, &KernelArgs<'_>, &mut KernelNotes<'_>) -> Option<Sample>;

/// Computes a float from a float.
pub type MapKernel = fn(f64) -> f64;

/// Changes the column of one series in place; clearing a step drops the sample.
pub type SeriesKernel = fn(&mut Column, &KernelArgs<'_>, &mut KernelNotes<'_>);

/// Computes a vector from a vector. Series may come in any order, and several of one label set as
/// long as no step has a value in two of them: the engine merges, checks and sorts afterwards.
/// Errors are those of the earliest step, then of the first series.
pub type VectorKernel =
    fn(Vec<Series>, &KernelArgs<'_>, &mut KernelNotes<'_>) -> Result<Vec<Series>, QueryError>;

/// A series as `info()` looks it up.
#[derive(Debug, Clone, PartialEq)]
pub struct InfoSeries {
    /// Its labels.
    pub labels: LabelIds,
    /// Its values.
    pub column: Column,
    /// Per step, the timestamp in ms of the sample that the step shows; without meaning where the
    /// column holds nothing.
    pub times: Vec<Timestamp>,
}

/// Looks up series at the steps of the call, moved by the `@` and `offset` of its first selector.
pub trait InfoSource {
    /// The series that satisfy all matchers, sorted by labels.
    fn select(&self, matchers: &[Matcher]) -> Result<Vec<InfoSeries>, QueryError>;
}

/// `info()`: base series, the matchers of the second argument (none if absent), the lookup.
pub type InfoKernel = fn(
    Vec<Series>,
    &[Matcher],
    &dyn InfoSource,
    &KernelArgs<'_>,
    &mut KernelNotes<'_>,
) -> Result<Vec<Series>, QueryError>;

/// How an instant-vector function is computed.
#[derive(Clone, Copy)]
pub enum InstantKernel {
    /// Float by float; histograms are dropped.
    Map(MapKernel),
    /// Series by series.
    Series(SeriesKernel),
    /// All at once.
    Vector(VectorKernel),
}
