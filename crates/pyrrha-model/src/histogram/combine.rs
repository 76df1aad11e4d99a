//! Sums and differences of histograms of different layouts.
//!
//! Source of the rules: Prometheus' native histogram specification. Exponential schemas are brought
//! to the lower resolution and the wider zero bucket; custom bounds to their intersection.

use std::sync::Arc;

use super::buckets::{cells, upper_bound};
use super::layout::{coarser, rebuild};
use super::{CUSTOM_BUCKETS_SCHEMA, CounterResetHint, FloatHistogram, Span};

/// What was noteworthy about a sum or difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Combined {
    /// One side said "reset", the other "not reset".
    pub conflicting_resets: bool,
    /// Custom bounds differed and were intersected.
    pub reconciled_bounds: bool,
}

impl Combined {
    /// What is noteworthy about either.
    pub fn or(self, other: Self) -> Self {
        Self {
            conflicting_resets: self.conflicting_resets || other.conflicting_resets,
            reconciled_bounds: self.reconciled_bounds || other.reconciled_bounds,
        }
    }
}

/// One histogram has exponential, the other custom buckets: there is no common layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot apply this operation on histograms with a mix of exponential and custom bucket schemas")]
pub struct IncompatibleSchemas;

/// One step of a Kahan-Neumaier sum (decision 28): the new sum and compensation.
#[inline]
pub fn kahan_add(x: f64, sum: f64, c: f64) -> (f64, f64) {
    let t = sum + x;
    let c = if t.is_infinite() {
        0.0
    } else if sum.abs() >= x.abs() {
        c + ((sum - t) + x)
    } else {
        c + ((x - t) + sum)
    };
    (t, c)
}

impl FloatHistogram {
    /// Adds `other`. On an error nothing has changed.
    pub fn add(&mut self, other: &Self) -> Result<Combined, IncompatibleSchemas> {
        combine::<Plain>(self, &mut Compensation::default(), other, 1.0)
    }

    /// Subtracts `other`; hints merge as in a sum. On an error nothing has changed.
    pub fn sub(&mut self, other: &Self) -> Result<Combined, IncompatibleSchemas> {
        combine::<Plain>(self, &mut Compensation::default(), other, -1.0)
    }
}

/// A Kahan-compensated sum of histograms.
#[derive(Debug, Clone, PartialEq)]
pub struct KahanHistogram {
    pub(super) sum: FloatHistogram,
    pub(super) compensation: Compensation,
}

impl KahanHistogram {
    /// The sum of one histogram.
    pub fn new(first: FloatHistogram) -> Self {
        let mut compensation = Compensation::default();
        compensation.fit(&first);
        Self { sum: first, compensation }
    }

    /// Adds `other`. On an error nothing has changed.
    pub fn add(&mut self, other: &FloatHistogram) -> Result<Combined, IncompatibleSchemas> {
        combine::<Kahan>(&mut self.sum, &mut self.compensation, other, 1.0)
    }

    /// The sum so far, not compensated.
    pub fn rough(&self) -> &FloatHistogram {
        &self.sum
    }

    /// The compensated sum.
    pub fn finish(mut self) -> FloatHistogram {
        let fix = |sum: &mut [f64], by: &[f64]| sum.iter_mut().zip(by).for_each(|(s, c)| *s += c);
        fix(&mut self.sum.positive_buckets, &self.compensation.positive);
        fix(&mut self.sum.negative_buckets, &self.compensation.negative);
        self.sum.zero_count += self.compensation.zero_count;
        self.sum.count += self.compensation.count;
        self.sum.sum += self.compensation.sum;
        self.sum
    }
}

/// Running compensations, in the layout of the histogram they belong to.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Compensation {
    zero_count: f64,
    count: f64,
    sum: f64,
    positive: Vec<f64>,
    negative: Vec<f64>,
}

impl Compensation {
    fn fit(&mut self, histogram: &FloatHistogram) {
        self.positive.resize(histogram.positive_buckets.len(), 0.0);
        self.negative.resize(histogram.negative_buckets.len(), 0.0);
    }

    pub(super) fn each(&mut self, map: impl Fn(f64) -> f64) {
        for number in self.positive.iter_mut().chain(&mut self.negative).chain([
            &mut self.zero_count,
            &mut self.count,
            &mut self.sum,
        ]) {
            *number = map(*number);
        }
    }
}

/// How numbers are added: a cell is a value with its compensation.
trait Adding {
    const COMPENSATED: bool;
    fn add(value: f64, sum: &mut f64, compensation: &mut f64);
}

struct Plain;
struct Kahan;

impl Adding for Plain {
    const COMPENSATED: bool = false;
    fn add(value: f64, sum: &mut f64, _: &mut f64) {
        *sum += value;
    }
}

impl Adding for Kahan {
    const COMPENSATED: bool = true;
    fn add(value: f64, sum: &mut f64, compensation: &mut f64) {
        (*sum, *compensation) = kahan_add(value, *sum, *compensation);
    }
}

/// A count and its compensation.
type Pair = (f64, f64);

fn add_pairs<A: Adding>(mut into: Pair, other: Pair) -> Pair {
    A::add(other.0, &mut into.0, &mut into.1);
    into.1 += other.1;
    into
}

/// `into += sign · other`.
fn combine<A: Adding>(
    into: &mut FloatHistogram,
    compensation: &mut Compensation,
    other: &FloatHistogram,
    sign: f64,
) -> Result<Combined, IncompatibleSchemas> {
    if into.uses_custom_buckets() != other.uses_custom_buckets() {
        return Err(IncompatibleSchemas);
    }
    let mut combined = Combined { conflicting_resets: merge_hints(into, other), reconciled_bounds: false };
    if A::COMPENSATED {
        compensation.fit(into);
    }
    A::add(sign * other.count, &mut into.count, &mut compensation.count);
    A::add(sign * other.sum, &mut into.sum, &mut compensation.sum);
    if into.uses_custom_buckets() {
        if into.custom_values == other.custom_values {
            merge_sides::<A>(into, compensation, other, sign);
        } else {
            combined.reconciled_bounds = true;
            intersect_bounds::<A>(into, compensation, other, sign);
        }
    } else if into.schema == other.schema && into.zero_threshold == other.zero_threshold {
        A::add(sign * other.zero_count, &mut into.zero_count, &mut compensation.zero_count);
        merge_sides::<A>(into, compensation, other, sign);
    } else {
        reconcile_exponential::<A>(into, compensation, other, sign);
    }
    Ok(combined)
}

/// The hint of a sum; true if the two contradict each other.
fn merge_hints(into: &mut FloatHistogram, other: &FloatHistogram) -> bool {
    use CounterResetHint::{Gauge, Unknown};
    let (mine, theirs) = (into.counter_reset_hint, other.counter_reset_hint);
    let (hint, conflict) = match (mine, theirs) {
        (a, b) if a == b => (a, false),
        (Gauge, _) | (_, Gauge) => (Gauge, false),
        (Unknown, _) | (_, Unknown) => (Unknown, false),
        _ => (Unknown, true),
    };
    into.counter_reset_hint = hint;
    conflict
}

/// Adds the buckets of a histogram of the same schema and bounds.
fn merge_sides<A: Adding>(
    into: &mut FloatHistogram,
    compensation: &mut Compensation,
    other: &FloatHistogram,
    sign: f64,
) {
    merge_side::<A>(
        (&mut into.positive_spans, &mut into.positive_buckets, &mut compensation.positive),
        (&other.positive_spans, &other.positive_buckets),
        sign,
    );
    merge_side::<A>(
        (&mut into.negative_spans, &mut into.negative_buckets, &mut compensation.negative),
        (&other.negative_spans, &other.negative_buckets),
        sign,
    );
}

fn merge_side<A: Adding>(
    (spans, counts, errors): (&mut Vec<Span>, &mut Vec<f64>, &mut Vec<f64>),
    (other_spans, other_counts): (&[Span], &[f64]),
    sign: f64,
) {
    if other_counts.is_empty() {
        return;
    }
    if *spans == *other_spans && counts.len() == other_counts.len() {
        if A::COMPENSATED {
            for ((sum, error), value) in counts.iter_mut().zip(errors.iter_mut()).zip(other_counts) {
                A::add(sign * value, sum, error);
            }
        } else {
            counts.iter_mut().zip(other_counts).for_each(|(sum, value)| *sum += sign * value);
        }
        return;
    }
    let mine = pairs(spans, counts, errors);
    let theirs = cells(other_spans, other_counts).map(|(i, n)| (i, (sign * n, 0.0))).collect();
    write_side::<A>((spans, counts, errors), merge_cells::<A>(mine, theirs));
}

/// The buckets of a side with their compensations.
fn pairs(spans: &[Span], counts: &[f64], errors: &[f64]) -> Vec<(i32, Pair)> {
    let errors = errors.iter().copied().chain(std::iter::repeat(0.0));
    cells(spans, counts).zip(errors).map(|((i, n), e)| (i, (n, e))).collect()
}

fn write_side<A: Adding>(
    (spans, counts, errors): (&mut Vec<Span>, &mut Vec<f64>, &mut Vec<f64>),
    cells: Vec<(i32, Pair)>,
) {
    let (new_spans, pairs) = rebuild(cells.into_iter(), 0);
    *spans = new_spans;
    *counts = pairs.iter().map(|p| p.0).collect();
    if A::COMPENSATED {
        *errors = pairs.iter().map(|p| p.1).collect();
    }
}

/// Adds two sides, both ascending by index.
fn merge_cells<A: Adding>(mine: Vec<(i32, Pair)>, theirs: Vec<(i32, Pair)>) -> Vec<(i32, Pair)> {
    let mut out = Vec::with_capacity(mine.len() + theirs.len());
    let (mut mine, mut theirs) = (mine.into_iter().peekable(), theirs.into_iter().peekable());
    loop {
        out.push(match (mine.peek().copied(), theirs.peek().copied()) {
            (None, None) => return out,
            (Some(a), Some(b)) if a.0 == b.0 => {
                mine.next();
                theirs.next();
                (a.0, add_pairs::<A>(a.1, b.1))
            }
            (Some(a), b) if b.is_none_or(|b| a.0 < b.0) => {
                mine.next();
                a
            }
            (_, Some(b)) => {
                theirs.next();
                (b.0, add_pairs::<A>((0.0, 0.0), b.1))
            }
            (Some(_), None) => return out,
        });
    }
}

/// Sums histograms of different custom bounds over the bounds that both have.
fn intersect_bounds<A: Adding>(
    into: &mut FloatHistogram,
    compensation: &mut Compensation,
    other: &FloatHistogram,
    sign: f64,
) {
    let common = common_bounds(&into.custom_values, &other.custom_values);
    let mine = pairs(&into.positive_spans, &into.positive_buckets, &compensation.positive);
    let mine = rebound::<A>(mine, &into.custom_values, &common);
    let theirs =
        cells(&other.positive_spans, &other.positive_buckets).map(|(i, n)| (i, (sign * n, 0.0))).collect();
    let theirs = rebound::<A>(theirs, &other.custom_values, &common);
    into.custom_values = common;
    write_side::<A>(
        (&mut into.positive_spans, &mut into.positive_buckets, &mut compensation.positive),
        merge_cells::<A>(mine, theirs),
    );
}

/// The bounds that occur in both lists.
pub(super) fn common_bounds(a: &[f64], b: &[f64]) -> Arc<[f64]> {
    let mut rest = b;
    a.iter()
        .copied()
        .filter(|bound| {
            let skipped = rest.partition_point(|other| other < bound);
            rest = &rest[skipped..];
            rest.first() == Some(bound)
        })
        .collect()
}

/// Moves buckets to a subset of their bounds.
fn rebound<A: Adding>(cells: Vec<(i32, Pair)>, from: &[f64], to: &[f64]) -> Vec<(i32, Pair)> {
    let mut out: Vec<(i32, Pair)> = Vec::with_capacity(cells.len().min(to.len() + 1));
    for (index, pair) in cells {
        let index = rebound_index(index, from, to);
        match out.last_mut() {
            Some((last, sum)) if *last == index => *sum = add_pairs::<A>(*sum, pair),
            _ => out.push((index, pair)),
        }
    }
    out
}

/// The bucket over `to` that contains bucket `index` over `from`.
pub(super) fn rebound_index(index: i32, from: &[f64], to: &[f64]) -> i32 {
    let upper = upper_bound(index, CUSTOM_BUCKETS_SCHEMA, from);
    to.partition_point(|bound| *bound < upper) as i32
}

/// One exponential histogram taken apart.
struct Parts {
    schema: i32,
    threshold: f64,
    zero: Pair,
    positive: Vec<(i32, Pair)>,
    negative: Vec<(i32, Pair)>,
}

impl Parts {
    fn new(h: &FloatHistogram, compensation: &Compensation, sign: f64) -> Self {
        let signed =
            |side: Vec<(i32, Pair)>| side.into_iter().map(|(i, (n, e))| (i, (sign * n, e))).collect();
        Self {
            schema: h.schema,
            threshold: h.zero_threshold,
            zero: (sign * h.zero_count, compensation.zero_count),
            positive: signed(pairs(&h.positive_spans, &h.positive_buckets, &compensation.positive)),
            negative: signed(pairs(&h.negative_spans, &h.negative_buckets, &compensation.negative)),
        }
    }

    /// Widens the zero bucket to `threshold`, or to the end of the populated bucket it would cut.
    fn widen_zero<A: Adding>(&mut self, threshold: f64) {
        let mut wanted = threshold;
        if wanted <= self.threshold {
            return;
        }
        // A cut bucket on one side widens the bound for both, so look until nothing changes.
        loop {
            let cut = [&self.positive, &self.negative]
                .into_iter()
                .flatten()
                .filter(|(_, pair)| pair.0 != 0.0)
                .map(|(i, _)| {
                    (upper_bound(i.wrapping_sub(1), self.schema, &[]), upper_bound(*i, self.schema, &[]))
                })
                .find(|(lower, upper)| *lower < wanted && wanted < *upper);
            match cut {
                Some((_, upper)) => wanted = upper,
                None => break,
            }
        }
        let schema = self.schema;
        for side in [&mut self.positive, &mut self.negative] {
            side.retain(|(i, pair)| {
                let inside = upper_bound(*i, schema, &[]) <= wanted;
                if inside {
                    self.zero = add_pairs::<A>(self.zero, *pair);
                }
                !inside
            });
        }
        self.threshold = wanted;
    }

    fn reduce<A: Adding>(&mut self, schema: i32) {
        let steps = self.schema.abs_diff(schema);
        if steps > 0 {
            self.positive = coarser(self.positive.drain(..), steps, add_pairs::<A>);
            self.negative = coarser(self.negative.drain(..), steps, add_pairs::<A>);
            self.schema = schema;
        }
    }
}

fn reconcile_exponential<A: Adding>(
    into: &mut FloatHistogram,
    compensation: &mut Compensation,
    other: &FloatHistogram,
    sign: f64,
) {
    let mut mine = Parts::new(into, compensation, 1.0);
    let mut theirs = Parts::new(other, &Compensation::default(), sign);
    // Bounded: each round widens a zero bucket over at least one populated bucket.
    while mine.threshold != theirs.threshold {
        let (narrow, wide) = if mine.threshold < theirs.threshold {
            (&mut mine, theirs.threshold)
        } else {
            (&mut theirs, mine.threshold)
        };
        narrow.widen_zero::<A>(wide);
        if narrow.threshold.is_nan() || wide.is_nan() {
            break;
        }
    }
    let schema = mine.schema.min(theirs.schema);
    mine.reduce::<A>(schema);
    theirs.reduce::<A>(schema);
    into.schema = schema;
    into.zero_threshold = mine.threshold;
    (into.zero_count, compensation.zero_count) = add_pairs::<A>(mine.zero, theirs.zero);
    write_side::<A>(
        (&mut into.positive_spans, &mut into.positive_buckets, &mut compensation.positive),
        merge_cells::<A>(mine.positive, theirs.positive),
    );
    write_side::<A>(
        (&mut into.negative_spans, &mut into.negative_buckets, &mut compensation.negative),
        merge_cells::<A>(mine.negative, theirs.negative),
    );
}
