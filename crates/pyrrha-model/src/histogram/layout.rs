//! Where buckets lie: compaction and resolution.

use super::buckets::cells;
use super::{CUSTOM_BUCKETS_SCHEMA, FloatHistogram, Histogram, Span};

/// Builds spans and counts from buckets ascending by index. Gaps of at most `max_gap` indexes are
/// filled with empty buckets instead of beginning a new span.
pub(super) fn rebuild<T: Copy + Default>(
    cells: impl Iterator<Item = (i32, T)>,
    max_gap: u32,
) -> (Vec<Span>, Vec<T>) {
    let (mut spans, mut counts) = (Vec::<Span>::new(), Vec::new());
    let mut end = 0i32;
    for (index, count) in cells {
        let gap = i64::from(index) - i64::from(end);
        match spans.last_mut() {
            Some(span) if gap <= i64::from(max_gap) => {
                for _ in 0..gap.max(0) {
                    counts.push(T::default());
                }
                span.length += gap.max(0) as u32 + 1;
            }
            _ => spans.push(Span { offset: gap as i32, length: 1 }),
        }
        counts.push(count);
        end = index.wrapping_add(1);
    }
    (spans, counts)
}

/// The index of a bucket after its schema has been lowered by `steps`.
pub(super) fn coarser_index(index: i32, steps: u32) -> i32 {
    // Bucket i covers (b^(i-1), b^i]; it ends up in the one whose upper bound is the next multiple.
    (index.wrapping_sub(1) >> steps.min(31)).wrapping_add(1)
}

/// Buckets of a schema lower by `steps`, counts added up by `add`.
pub(super) fn coarser<T: Copy>(
    cells: impl Iterator<Item = (i32, T)>,
    steps: u32,
    add: impl Fn(T, T) -> T,
) -> Vec<(i32, T)> {
    let mut out: Vec<(i32, T)> = Vec::new();
    for (index, count) in cells {
        let index = coarser_index(index, steps);
        match out.last_mut() {
            Some((last, sum)) if *last == index => *sum = add(*sum, count),
            _ => out.push((index, count)),
        }
    }
    out
}

impl FloatHistogram {
    /// Removes empty buckets, except that gaps of at most `max_gap` stay (or become) explicit.
    pub fn compact(&mut self, max_gap: u32) {
        compact_side(&mut self.positive_spans, &mut self.positive_buckets, max_gap);
        compact_side(&mut self.negative_spans, &mut self.negative_buckets, max_gap);
    }

    /// Lowers the resolution to `schema`. Does nothing if that is not lower, or bounds are custom.
    pub fn reduce_resolution(&mut self, schema: i32) {
        if self.uses_custom_buckets() || schema >= self.schema || schema == CUSTOM_BUCKETS_SCHEMA {
            return;
        }
        let steps = self.schema.abs_diff(schema);
        for (spans, counts) in [
            (&mut self.positive_spans, &mut self.positive_buckets),
            (&mut self.negative_spans, &mut self.negative_buckets),
        ] {
            let reduced = coarser(cells(spans, counts), steps, |a, b| a + b);
            (*spans, *counts) = rebuild(reduced.into_iter(), 0);
        }
        self.schema = schema;
    }

    /// A copy at a lower resolution.
    pub fn to_schema(&self, schema: i32) -> Self {
        let mut copy = self.clone();
        copy.reduce_resolution(schema);
        copy
    }

    /// Whether both have the same bounds, buckets, zero bucket, count and sum, whatever the layout
    /// of empty buckets and the hints. A NaN equals the same NaN.
    pub fn same_distribution(&self, other: &Self) -> bool {
        fn populated<'a>(spans: &'a [Span], counts: &'a [f64]) -> impl Iterator<Item = (i32, u64)> + 'a {
            cells(spans, counts).filter(|(_, n)| *n != 0.0).map(|(i, n)| (i, n.to_bits()))
        }
        let number = |h: &Self| [h.zero_count, h.count].map(|n| if n == 0.0 { 0 } else { n.to_bits() });
        self.schema == other.schema
            && number(self) == number(other)
            && (self.sum == other.sum || self.sum.to_bits() == other.sum.to_bits())
            && self.custom_values == other.custom_values
            && (self.uses_custom_buckets() || self.zero_threshold == other.zero_threshold)
            && populated(&self.positive_spans, &self.positive_buckets)
                .eq(populated(&other.positive_spans, &other.positive_buckets))
            && populated(&self.negative_spans, &self.negative_buckets)
                .eq(populated(&other.negative_spans, &other.negative_buckets))
    }
}

impl Histogram {
    /// Lowers the resolution to `schema`, as receivers do with schemas above 8. Does nothing if
    /// that is not lower, or bounds are custom.
    pub fn reduce_resolution(&mut self, schema: i32) {
        if self.schema == CUSTOM_BUCKETS_SCHEMA || schema >= self.schema || schema == CUSTOM_BUCKETS_SCHEMA {
            return;
        }
        let steps = self.schema.abs_diff(schema);
        for (spans, deltas) in [
            (&mut self.positive_spans, &mut self.positive_buckets),
            (&mut self.negative_spans, &mut self.negative_buckets),
        ] {
            let mut sum = 0i64;
            let absolute: Vec<i64> = deltas
                .iter()
                .map(|d| {
                    sum = sum.wrapping_add(*d);
                    sum
                })
                .collect();
            let reduced = coarser(cells(spans, &absolute), steps, i64::wrapping_add);
            let (new_spans, counts) = rebuild(reduced.into_iter(), 0);
            let mut last = 0i64;
            let encode = |count: i64| count.wrapping_sub(std::mem::replace(&mut last, count));
            (*spans, *deltas) = (new_spans, counts.into_iter().map(encode).collect());
        }
        self.schema = schema;
    }
}

fn compact_side(spans: &mut Vec<Span>, counts: &mut Vec<f64>, max_gap: u32) {
    let split = |(i, span): (usize, &Span)| span.length == 0 || (i > 0 && span.offset as u32 <= max_gap);
    let holes = max_gap == 0 && counts.contains(&0.0)
        || max_gap > 0
            && (counts.windows(max_gap as usize + 1).any(|w| w.iter().all(|n| *n == 0.0))
                || edges_empty(counts));
    if !holes && !spans.iter().enumerate().any(split) {
        return;
    }
    let (new_spans, new_counts) = rebuild(cells(spans, counts).filter(|(_, n)| *n != 0.0), max_gap);
    (*spans, *counts) = (new_spans, new_counts);
}

fn edges_empty(counts: &[f64]) -> bool {
    counts.first() == Some(&0.0) || counts.last() == Some(&0.0)
}
