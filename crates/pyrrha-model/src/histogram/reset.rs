//! Counter resets between two histograms of a series.

use super::buckets::{cells, upper_bound};
use super::combine::{common_bounds, rebound_index};
use super::layout::coarser_index;
use super::{CounterResetHint, FloatHistogram, Span};

impl FloatHistogram {
    /// Whether the counter was reset between `previous` and this histogram. Hints are trusted;
    /// otherwise it was if the count or the count of any bucket fell, a populated bucket is gone,
    /// the resolution rose, the zero bucket narrowed, or the kind of schema changed.
    pub fn is_reset_after(&self, previous: &Self) -> bool {
        match self.counter_reset_hint {
            CounterResetHint::Reset => return true,
            CounterResetHint::NotReset => return false,
            CounterResetHint::Unknown | CounterResetHint::Gauge => {}
        }
        if self.count < previous.count || self.uses_custom_buckets() != previous.uses_custom_buckets() {
            return true;
        }
        if self.uses_custom_buckets() {
            return self.custom_buckets_fell(previous);
        }
        if self.schema > previous.schema || self.zero_threshold < previous.zero_threshold {
            return true;
        }
        if self.zero_threshold == previous.zero_threshold && self.zero_count < previous.zero_count {
            return true;
        }
        if self.zero_threshold > previous.zero_threshold && self.zero_bucket_fell(previous) {
            return true;
        }
        let steps = previous.schema.abs_diff(self.schema);
        // What the wider zero bucket has swallowed was compared with it.
        let outside = |(index, count): (i32, f64)| {
            let swallowed = upper_bound(index, previous.schema, &[]) <= self.zero_threshold;
            (!swallowed).then(|| (coarser_index_by(index, steps), count))
        };
        let fell = |spans: &[Span], counts: &[f64], old_spans: &[Span], old_counts: &[f64]| {
            // Most often the layout has not changed.
            if steps == 0 && spans == old_spans && self.zero_threshold == previous.zero_threshold {
                return counts.iter().zip(old_counts).any(|(new, old)| new < old);
            }
            any_fell(cells(spans, counts), cells(old_spans, old_counts).filter_map(outside))
        };
        fell(
            &self.positive_spans,
            &self.positive_buckets,
            &previous.positive_spans,
            &previous.positive_buckets,
        ) || fell(
            &self.negative_spans,
            &self.negative_buckets,
            &previous.negative_spans,
            &previous.negative_buckets,
        )
    }

    /// Whether the wider zero bucket holds less than what the previous histogram had there, or
    /// cuts one of its populated buckets.
    fn zero_bucket_fell(&self, previous: &Self) -> bool {
        let mut inside = previous.zero_count;
        let sides = cells(&previous.positive_spans, &previous.positive_buckets)
            .chain(cells(&previous.negative_spans, &previous.negative_buckets));
        for (index, count) in sides.filter(|(_, n)| *n != 0.0) {
            let lower = upper_bound(index.wrapping_sub(1), previous.schema, &[]);
            if lower < self.zero_threshold {
                if upper_bound(index, previous.schema, &[]) > self.zero_threshold {
                    return true;
                }
                inside += count;
            }
        }
        self.zero_count < inside
    }

    fn custom_buckets_fell(&self, previous: &Self) -> bool {
        let new = cells(&self.positive_spans, &self.positive_buckets);
        let old = cells(&previous.positive_spans, &previous.positive_buckets);
        if self.custom_values == previous.custom_values {
            return any_fell(new, old);
        }
        let common = common_bounds(&self.custom_values, &previous.custom_values);
        any_fell(
            new.map(|(i, n)| (rebound_index(i, &self.custom_values, &common), n)),
            old.map(|(i, n)| (rebound_index(i, &previous.custom_values, &common), n)),
        )
    }
}

fn coarser_index_by(index: i32, steps: u32) -> i32 {
    if steps == 0 { index } else { coarser_index(index, steps) }
}

/// Whether any bucket holds less than before. Both ascend by index; equal indexes add up.
fn any_fell(new: impl Iterator<Item = (i32, f64)>, old: impl Iterator<Item = (i32, f64)>) -> bool {
    let mut new = summed(new).peekable();
    for (index, before) in summed(old) {
        while new.next_if(|(i, _)| *i < index).is_some() {}
        let fell = match new.peek() {
            Some((i, now)) if *i == index => *now < before,
            _ => before != 0.0,
        };
        if fell {
            return true;
        }
    }
    false
}

fn summed(cells: impl Iterator<Item = (i32, f64)>) -> impl Iterator<Item = (i32, f64)> {
    let mut cells = cells.peekable();
    std::iter::from_fn(move || {
        let (index, mut count) = cells.next()?;
        while let Some((_, more)) = cells.next_if(|(i, _)| *i == index) {
            count += more;
        }
        Some((index, count))
    })
}
