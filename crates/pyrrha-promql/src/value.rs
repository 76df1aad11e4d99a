//! Values during evaluation: samples, columns over the steps of a query, series, scalars.

use std::sync::Arc;

use pyrrha_model::{FloatHistogram, Timestamp};
use smallvec::SmallVec;

use crate::labels::LabelIds;

/// The value of a series at one time.
#[derive(Debug, Clone, PartialEq)]
pub enum Sample {
    /// A float.
    Float(f64),
    /// A native histogram.
    Histogram(Arc<FloatHistogram>),
}

impl Sample {
    /// The float, if it is one.
    pub fn as_float(&self) -> Option<f64> {
        match self {
            Self::Float(v) => Some(*v),
            Self::Histogram(_) => None,
        }
    }

    /// What it counts towards the samples limit: a histogram is `(bytes + 8) / 16` samples.
    pub fn weight(&self) -> usize {
        match self {
            Self::Float(_) => 1,
            Self::Histogram(h) => histogram_weight(h),
        }
    }
}

/// What a histogram counts towards the samples limit.
pub fn histogram_weight(h: &FloatHistogram) -> usize {
    let spans = h.positive_spans.len() + h.negative_spans.len();
    let floats = h.positive_buckets.len() + h.negative_buckets.len() + h.custom_values.len();
    // 168: the fixed part of Prometheus' FloatHistogram, which its own count includes.
    (168 + spans * 8 + floats * 8 + 8) / 16
}

/// The evaluation times of an expression: `start + i·step` for `i < count`, in ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Steps {
    /// First evaluation time, ms.
    pub start: Timestamp,
    /// Distance, ms; positive, also where there is only one step.
    pub step: i64,
    /// Number of steps.
    pub count: usize,
}

impl Steps {
    /// One step.
    pub fn instant(t: Timestamp) -> Self {
        Self { start: t, step: 1, count: 1 }
    }

    /// The steps from `start` to at most `end`; none if `end < start`.
    pub fn between(start: Timestamp, end: Timestamp, step: i64) -> Self {
        let step = step.max(1);
        let count = if end < start { 0 } else { (end.wrapping_sub(start) as u64 / step as u64) as usize + 1 };
        Self { start, step, count }
    }

    /// The evaluation time of step `i`, ms.
    #[inline]
    pub fn time(&self, i: usize) -> Timestamp {
        self.start.wrapping_add((i as i64).wrapping_mul(self.step))
    }

    /// The last evaluation time, ms.
    pub fn end(&self) -> Timestamp {
        self.time(self.count.saturating_sub(1))
    }
}

/// A set of steps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bits(SmallVec<[u64; 2]>);

impl Bits {
    /// No step of `len`.
    pub fn none(len: usize) -> Self {
        Self(SmallVec::from_elem(0, len.div_ceil(64)))
    }

    /// Every step of `len`.
    pub fn all(len: usize) -> Self {
        let mut bits = Self(SmallVec::from_elem(u64::MAX, len.div_ceil(64)));
        if !len.is_multiple_of(64)
            && let Some(last) = bits.0.last_mut()
        {
            *last = (1 << (len % 64)) - 1;
        }
        bits
    }

    /// Whether step `i` is in the set.
    #[inline]
    pub fn get(&self, i: usize) -> bool {
        self.0[i / 64] >> (i % 64) & 1 != 0
    }

    /// Adds step `i`.
    #[inline]
    pub fn set(&mut self, i: usize) {
        self.0[i / 64] |= 1 << (i % 64);
    }

    /// Adds a range of steps.
    pub fn set_range(&mut self, steps: std::ops::Range<usize>) {
        let mut at = steps.start;
        while at < steps.end {
            let upto = steps.end.min((at / 64 + 1) * 64);
            self.0[at / 64] |= u64::MAX >> (64 - (upto - at)) << (at % 64);
            at = upto;
        }
    }

    /// Removes step `i`.
    #[inline]
    pub fn clear(&mut self, i: usize) {
        self.0[i / 64] &= !(1 << (i % 64));
    }

    /// Number of steps in the set.
    pub fn count(&self) -> usize {
        self.0.iter().map(|w| w.count_ones() as usize).sum()
    }

    /// Whether no step is in the set.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|w| *w == 0)
    }

    /// Whether the two have a step in common.
    pub fn intersects(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(a, b)| a & b != 0)
    }

    /// Adds the steps of `other`.
    pub fn union(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a |= b);
    }

    /// Keeps the steps that are in `other` too.
    pub fn intersect(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a &= b);
    }

    /// Removes the steps of `other`.
    pub fn subtract(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a &= !b);
    }

    /// The steps, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(i, &word)| {
            let mut left = word;
            std::iter::from_fn(move || {
                (left != 0).then(|| {
                    let bit = left.trailing_zeros() as usize;
                    left &= left - 1;
                    i * 64 + bit
                })
            })
        })
    }
}

/// The values of one series over all steps (decision 26): dense floats with presence bits, and a
/// sparse list of histograms. A step holds a float, a histogram, or nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Column {
    /// One per step; without meaning where no float is present. Instant queries have one step, and
    /// many series.
    floats: SmallVec<[f64; 2]>,
    /// Steps that hold a float.
    present: Bits,
    /// Histograms by ascending step.
    histograms: Vec<(u32, Arc<FloatHistogram>)>,
}

impl Column {
    /// An empty column over `steps` steps.
    pub fn new(steps: usize) -> Self {
        Self { floats: SmallVec::from_elem(0.0, steps), present: Bits::none(steps), histograms: Vec::new() }
    }

    /// A column with a float at every step.
    pub fn dense(floats: Vec<f64>) -> Self {
        Self::of(SmallVec::from_vec(floats))
    }

    /// A column with these floats at its steps.
    pub fn from_floats(floats: impl Iterator<Item = f64>) -> Self {
        Self::of(floats.collect())
    }

    fn of(floats: SmallVec<[f64; 2]>) -> Self {
        let present = Bits::all(floats.len());
        Self { floats, present, histograms: Vec::new() }
    }

    /// Number of steps.
    #[inline]
    pub fn steps(&self) -> usize {
        self.floats.len()
    }

    /// The float at a step.
    #[inline]
    pub fn float(&self, step: usize) -> Option<f64> {
        self.present.get(step).then(|| self.floats[step])
    }

    /// The histogram at a step.
    #[inline]
    pub fn histogram(&self, step: usize) -> Option<&Arc<FloatHistogram>> {
        if self.histograms.is_empty() {
            return None;
        }
        let i = self.histograms.binary_search_by_key(&(step as u32), |(s, _)| *s).ok()?;
        Some(&self.histograms[i].1)
    }

    /// The value at a step.
    #[inline]
    pub fn get(&self, step: usize) -> Option<Sample> {
        match self.float(step) {
            Some(v) => Some(Sample::Float(v)),
            None => self.histogram(step).map(|h| Sample::Histogram(h.clone())),
        }
    }

    /// Whether a step holds a value.
    #[inline]
    pub fn is_present(&self, step: usize) -> bool {
        self.present.get(step) || self.histogram(step).is_some()
    }

    /// Puts a float at a step that held nothing or a float.
    #[inline]
    pub fn set_float(&mut self, step: usize, value: f64) {
        self.floats[step] = value;
        self.present.set(step);
    }

    /// Puts a histogram at a step, replacing what was there.
    pub fn set_histogram(&mut self, step: usize, value: Arc<FloatHistogram>) {
        self.present.clear(step);
        let key = step as u32;
        match self.histograms.last() {
            Some((last, _)) if *last >= key => {
                match self.histograms.binary_search_by_key(&key, |(s, _)| *s) {
                    Ok(i) => self.histograms[i].1 = value,
                    Err(i) => self.histograms.insert(i, (key, value)),
                }
            }
            _ => self.histograms.push((key, value)),
        }
    }

    /// Puts a value at a step, replacing what was there.
    #[inline]
    pub fn set(&mut self, step: usize, value: Sample) {
        match value {
            Sample::Float(v) => {
                if !self.histograms.is_empty() {
                    self.clear_histogram(step);
                }
                self.set_float(step, v);
            }
            Sample::Histogram(h) => self.set_histogram(step, h),
        }
    }

    /// Removes what a step holds.
    pub fn clear(&mut self, step: usize) {
        self.present.clear(step);
        self.clear_histogram(step);
    }

    fn clear_histogram(&mut self, step: usize) {
        if let Ok(i) = self.histograms.binary_search_by_key(&(step as u32), |(s, _)| *s) {
            self.histograms.remove(i);
        }
    }

    /// Whether no step holds anything.
    pub fn is_empty(&self) -> bool {
        self.histograms.is_empty() && self.present.is_empty()
    }

    /// Number of steps that hold a value.
    pub fn len(&self) -> usize {
        self.present.count() + self.histograms.len()
    }

    /// What it counts towards the samples limit.
    pub fn weight(&self) -> usize {
        self.present.count() + self.histograms.iter().map(|(_, h)| histogram_weight(h)).sum::<usize>()
    }

    /// Bytes it takes on the heap, about; histograms, which are shared, count once.
    pub fn bytes(&self) -> usize {
        self.floats.len() * 8
            + self.histograms.iter().map(|(_, h)| 16 + histogram_weight(h) * 16).sum::<usize>()
    }

    /// The dense floats and which of them count.
    #[inline]
    pub fn floats(&self) -> (&[f64], &Bits) {
        (&self.floats, &self.present)
    }

    /// The dense floats, for changing them in place: values where no float is present may be
    /// overwritten with anything.
    #[inline]
    pub fn floats_mut(&mut self) -> (&mut [f64], &mut Bits) {
        (&mut self.floats, &mut self.present)
    }

    /// The histograms by ascending step.
    pub fn histograms(&self) -> &[(u32, Arc<FloatHistogram>)] {
        &self.histograms
    }

    /// The histograms, for changing values in place. Steps stay ascending, and none of them may
    /// hold a float.
    pub fn histograms_mut(&mut self) -> &mut Vec<(u32, Arc<FloatHistogram>)> {
        &mut self.histograms
    }

    /// Every step that holds a value.
    pub fn presence(&self) -> Bits {
        let mut bits = self.present.clone();
        self.histograms.iter().for_each(|(s, _)| bits.set(*s as usize));
        bits
    }

    /// The values by ascending step.
    pub fn iter(&self) -> impl Iterator<Item = (usize, Sample)> + '_ {
        self.presence().iter().collect::<Vec<_>>().into_iter().filter_map(|s| self.get(s).map(|v| (s, v)))
    }

    /// Keeps only the steps of `steps`.
    pub fn retain(&mut self, steps: &Bits) {
        self.present.intersect(steps);
        self.histograms.retain(|(s, _)| steps.get(*s as usize));
    }

    /// Takes over the values of `other`, which holds none at steps where this one does; false, and
    /// nothing changes, if a step holds a value in both.
    pub fn merge(&mut self, other: &Self) -> bool {
        if self.presence().intersects(&other.presence()) {
            return false;
        }
        for step in other.present.iter() {
            self.set_float(step, other.floats[step]);
        }
        for (step, h) in &other.histograms {
            self.set_histogram(*step as usize, h.clone());
        }
        true
    }

    /// The value of its single step at each of `steps` steps.
    pub fn broadcast(&self, steps: usize) -> Self {
        match self.get(0) {
            None => Self::new(steps),
            Some(Sample::Float(v)) => Self::dense(vec![v; steps]),
            Some(Sample::Histogram(h)) => Self {
                floats: SmallVec::from_elem(0.0, steps),
                present: Bits::none(steps),
                histograms: (0..steps as u32).map(|s| (s, h.clone())).collect(),
            },
        }
    }
}

/// One series of an instant vector over all steps.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its labels.
    pub labels: LabelIds,
    /// Whether its name, type and unit labels go away at the end of the query (delayed name
    /// removal).
    pub drop_name: bool,
    /// Its values.
    pub column: Column,
}

/// A scalar over all steps.
#[derive(Debug, Clone, PartialEq)]
pub enum ScalarColumn {
    /// The same at every step.
    Constant(f64),
    /// One value per step.
    Steps(Vec<f64>),
}

impl ScalarColumn {
    /// The value at a step.
    #[inline]
    pub fn at(&self, step: usize) -> f64 {
        match self {
            Self::Constant(v) => *v,
            Self::Steps(values) => values[step],
        }
    }

    /// The value, if it is the same at every step by construction.
    pub fn constant(&self) -> Option<f64> {
        match self {
            Self::Constant(v) => Some(*v),
            Self::Steps(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
