//! Range functions and lookups over windows of downsampled native histograms.
//!
//! Of each window some samples are kept, those that tell anything about how a counter moved, and
//! functions work on them as on samples; how many there were, counts say. Sums come from sums.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use pyrrha_encoding::windows::Layouts;
use pyrrha_model::histogram::KahanHistogram;
use pyrrha_model::{FloatHistogram, Timestamp, stale_nan};

use super::{Turn, turns};
use crate::annotations::{HistogramOperation, Note};
use crate::exec::samples::{Histograms, Samples};
use crate::function::FunctionId;
use crate::functions::{rate, totals};
use crate::kernel::{FloatSlice, HistogramSlice, KernelArgs, KernelNotes, Window};
use crate::value::{Sample, histogram_weight};

/// Windows of histograms that are shared.
pub(crate) type HistogramWindows = pyrrha_encoding::windows::HistogramWindows<Arc<FloatHistogram>>;

/// What is held of some windows, as towards the samples limit.
pub(crate) fn weight(windows: &HistogramWindows, range: Range<usize>) -> usize {
    let kept = windows.edges.samples.get(windows.kept(range.clone())).into_iter().flatten();
    let sums = windows.values.sums.get(range).into_iter().flatten();
    kept.chain(sums).map(|h| histogram_weight(h)).sum()
}

/// Windows and samples of a series as windows by time, without stale markers.
pub(crate) fn unified(samples: &Samples) -> Cow<'_, HistogramWindows> {
    let (windows, Histograms { times, values, .. }) = (&samples.histogram_windows, &samples.histograms);
    if times.is_empty() {
        return Cow::Borrowed(windows);
    }
    let (edges, totals) = (windows.has_edges(), windows.has_values());
    let mut out = HistogramWindows::default();
    let add = |out: &mut HistogramWindows, t: Timestamp, h: &Arc<FloatHistogram>| {
        out.starts.push(t);
        out.ends.push(t);
        out.counts.push(1);
        if edges {
            let e = &mut out.edges;
            e.times.push(t);
            e.samples.push(h.clone());
            e.upto.push(e.times.len());
            [&mut e.resets, &mut e.changes, &mut e.stale].into_iter().for_each(|c| c.push(0));
        }
        if totals {
            out.values.sums.push(h.clone());
            out.values.layouts.push(Layouts::Compatible);
        }
    };
    for turn in turns(&windows.starts, times) {
        match turn {
            Turn::Windows(range) => out.extend(windows, range),
            Turn::Samples(range) => {
                range.filter(|i| !values[*i].is_stale()).for_each(|i| add(&mut out, times[i], &values[i]));
            }
        }
    }
    Cow::Owned(out)
}

/// What lookups find: the last sample of each window, and a stale marker where one follows it.
pub(super) fn last_samples(samples: &Samples) -> Histograms {
    let (windows, raw) = (&samples.histogram_windows, &samples.histograms);
    let mut out = Histograms::default();
    let starts = if windows.has_edges() { &*windows.starts } else { &[] };
    for turn in turns(starts, &raw.times) {
        let ends = match turn {
            Turn::Windows(range) => range,
            Turn::Samples(range) => {
                out.times.extend_from_slice(&raw.times[range.clone()]);
                out.values.extend_from_slice(&raw.values[range]);
                continue;
            }
        };
        for i in ends {
            let last = windows.kept(i..i + 1).end.saturating_sub(1);
            let (time, value) = (windows.edges.times[last], &windows.edges.samples[last]);
            out.times.push(time);
            out.values.push(value.clone());
            if windows.edges.stale[i] != 0 && time < windows.ends[i] {
                out.times.push(time + 1);
                out.values.push(Arc::new(FloatHistogram { sum: stale_nan(), ..FloatHistogram::default() }));
            }
        }
    }
    out
}

/// The windows of a series in one range.
#[derive(Debug)]
pub(crate) struct HistogramPart<'a> {
    pub(crate) windows: &'a HistogramWindows,
    /// At least one.
    pub(crate) range: Range<usize>,
    /// Start (exclusive) and end of the range of windows.
    pub(crate) start: Timestamp,
    pub(crate) end: Timestamp,
    /// Length of the range that was asked for, ms.
    pub(crate) asked: i64,
}

impl HistogramPart<'_> {
    /// The value of a function; none of those that have no meaning over histograms.
    pub(crate) fn value(
        &self,
        function: FunctionId,
        args: &KernelArgs<'_>,
        notes: &mut KernelNotes<'_>,
    ) -> Option<Sample> {
        use FunctionId as F;
        let (edges, values) = (self.windows.has_edges(), self.windows.has_values());
        match function {
            F::CountOverTime => Some(Sample::Float(self.count() as f64)),
            F::PresentOverTime | F::AbsentOverTime => Some(Sample::Float(1.0)),
            F::SumOverTime if values => self.sum(notes),
            F::AvgOverTime if values => self.mean(notes),
            F::FirstOverTime if edges => Some(Sample::Histogram(self.first().1.clone())),
            F::LastOverTime if edges => Some(Sample::Histogram(self.last().1.clone())),
            F::TsOfFirstOverTime if edges => Some(Sample::Float(self.first().0 as f64 / 1000.0)),
            F::TsOfLastOverTime if edges => Some(Sample::Float(self.last().0 as f64 / 1000.0)),
            F::Rate if edges => self.extrapolated(true, true, notes),
            F::Increase if edges => self.extrapolated(true, false, notes),
            F::Delta if edges => self.extrapolated(false, false, notes),
            F::Irate if edges => rate::irate(&self.newest(), args, notes),
            F::Idelta if edges => self.step(args, notes),
            F::Resets if edges => Some(self.pairs(&self.windows.edges.resets, is_reset)),
            F::Changes if edges => Some(self.pairs(&self.windows.edges.changes, is_change)),
            _ => None,
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.windows.counts[self.range.clone()].iter().map(|c| u64::from(*c)).sum()
    }

    fn kept(&self) -> Range<usize> {
        self.windows.kept(self.range.clone())
    }

    fn at(&self, i: usize) -> (Timestamp, &Arc<FloatHistogram>) {
        (self.windows.edges.times[i], &self.windows.edges.samples[i])
    }

    /// The first sample.
    pub(super) fn first(&self) -> (Timestamp, &Arc<FloatHistogram>) {
        self.at(self.kept().start)
    }

    /// The last sample.
    pub(super) fn last(&self) -> (Timestamp, &Arc<FloatHistogram>) {
        self.at(self.kept().end - 1)
    }

    /// First and last sample of a window.
    pub(super) fn ends(&self, window: usize) -> [(Timestamp, &Arc<FloatHistogram>); 2] {
        let kept = self.windows.kept(window..window + 1);
        [self.at(kept.start), self.at(kept.end - 1)]
    }

    fn slice(&self, kept: Range<usize>) -> HistogramSlice<'_> {
        let e = &self.windows.edges;
        HistogramSlice { times: &e.times[kept.clone()], values: &e.samples[kept], starts: &[] }
    }

    /// The last two samples that were kept.
    fn newest(&self) -> Window<'_> {
        let kept = self.kept();
        let histograms = self.slice(kept.end.saturating_sub(2).max(kept.start)..kept.end);
        Window { floats: FloatSlice::default(), histograms, start: self.start, end: self.end, time: self.end }
    }

    /// When the sample before the last one that was kept was taken, if there is one.
    pub(super) fn before_last(&self) -> Option<Timestamp> {
        let kept = self.kept();
        (kept.len() > 1).then(|| self.at(kept.end - 2).0)
    }

    /// The difference of the last two samples; of those in between that were not kept, on average.
    fn step(&self, args: &KernelArgs<'_>, notes: &mut KernelNotes<'_>) -> Option<Sample> {
        let mut found = rate::idelta(&self.newest(), args, notes)?;
        let window = self.range.end - 1;
        let ([(first, _), (last, _)], before) = (self.ends(window), self.before_last()?);
        if before >= first
            && let Sample::Histogram(h) = &mut found
        {
            let share = (last - before) as f64 / (last - first) as f64;
            let steps = (f64::from(self.windows.counts[window].saturating_sub(1)) * share).round();
            if steps > 1.0 {
                Arc::make_mut(h).divide(steps);
            }
        }
        Some(found)
    }

    fn extrapolated(&self, is_counter: bool, is_rate: bool, notes: &mut KernelNotes<'_>) -> Option<Sample> {
        let samples = usize::try_from(self.count()).ok()?;
        let kept = self.slice(self.kept());
        let (mut difference, factor) =
            rate::thinned_difference(&kept, (self.start, self.end), samples, is_counter, notes)?;
        let length = self.end - self.start;
        difference.scale(match is_rate {
            true => factor / (length as f64 / 1000.0),
            // Where the range is not that of the windows, what it would be at the same pace.
            false if length != self.asked => factor * (self.asked as f64 / length as f64),
            false => factor,
        });
        Some(Sample::Histogram(Arc::new(difference)))
    }

    fn pairs(&self, within: &[u32], differ: fn(&FloatHistogram, &FloatHistogram) -> bool) -> Sample {
        let inside: u64 = within[self.range.clone()].iter().map(|n| u64::from(*n)).sum();
        let between =
            self.range.clone().skip(1).filter(|&i| differ(self.ends(i - 1)[1].1, self.ends(i)[0].1));
        Sample::Float((inside + between.count() as u64) as f64)
    }

    fn sum(&self, notes: &mut KernelNotes<'_>) -> Option<Sample> {
        self.total(None, notes).map(totals::finish)
    }

    fn mean(&self, notes: &mut KernelNotes<'_>) -> Option<Sample> {
        let count = self.count() as f64;
        let mut mean = self.total(None, notes)?;
        if mean.has_overflow() {
            // Sums may be too large where their mean is not.
            mean = self.total(Some(count), notes)?;
        } else {
            mean.divide(count);
        }
        Some(totals::finish(mean))
    }

    /// All sums as one, each divided first if so asked.
    fn total(&self, divisor: Option<f64>, notes: &mut KernelNotes<'_>) -> Option<FloatHistogram> {
        let values = &self.windows.values;
        let layouts = values.layouts[self.range.clone()].iter().copied().max();
        if layouts == Some(Layouts::Mixed) {
            notes.add(0, Note::MixedExponentialCustom);
            return None;
        }
        let sums = &values.sums[self.range.clone()];
        let Some(divisor) = divisor else { return add_up(sums, layouts, notes) };
        let divide = |h: &Arc<FloatHistogram>| {
            let mut h = (**h).clone();
            h.divide(divisor);
            Arc::new(h)
        };
        add_up(&sums.iter().map(divide).collect::<Vec<_>>(), layouts, notes)
    }
}

fn add_up(
    sums: &[Arc<FloatHistogram>],
    layouts: Option<Layouts>,
    notes: &mut KernelNotes<'_>,
) -> Option<FloatHistogram> {
    let mut total = KahanHistogram::new((**sums.first()?).clone());
    totals::fold(sums, notes, |h| total.add(h))?;
    if layouts == Some(Layouts::Intersected) {
        notes.add(0, Note::MismatchedCustomBuckets(HistogramOperation::Aggregation));
    }
    Some(total.finish())
}

/// Whether a counter was reset between two samples.
pub(super) fn is_reset(before: &FloatHistogram, now: &FloatHistogram) -> bool {
    now.is_reset_after(before)
}

/// Whether two samples differ.
pub(super) fn is_change(before: &FloatHistogram, now: &FloatHistogram) -> bool {
    !before.same_distribution(now)
}
