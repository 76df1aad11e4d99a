//! Which of two samples of one series and time stays, wherever chunks of several sources meet
//! (decision 6): not the stale one, then the one with the greater bits. The rule knows no order of
//! sources, so that replicas, blocks and heads give one answer however they are merged.

use std::cmp::Ordering;

use pyrrha_model::contract::Value;
use pyrrha_model::{FloatHistogram, Span, is_stale_nan};

/// A sample's value as a reader sees it.
#[derive(Debug, Clone, Copy)]
pub enum Candidate<'a> {
    /// A float.
    Float(f64),
    /// A native histogram, integer counts as floats.
    Histogram(&'a FloatHistogram),
}

impl Candidate<'_> {
    fn is_stale(&self) -> bool {
        match self {
            Self::Float(v) => is_stale_nan(*v),
            Self::Histogram(h) => h.is_stale(),
        }
    }
}

/// Orders two values of one time: the greater one stays. Any value goes before a stale marker, a
/// histogram before a float, and the greater bits before the lesser ones: of histograms those of
/// sum, count, zero count, schema, zero threshold, bounds, then of the buckets that are not empty.
/// Equal ones are the same to every reader.
pub fn precedence(a: Candidate<'_>, b: Candidate<'_>) -> Ordering {
    let alive = (!a.is_stale()).cmp(&!b.is_stale());
    alive.then_with(|| match (a, b) {
        (Candidate::Float(a), Candidate::Float(b)) => a.to_bits().cmp(&b.to_bits()),
        (Candidate::Float(_), Candidate::Histogram(_)) => Ordering::Less,
        (Candidate::Histogram(_), Candidate::Float(_)) => Ordering::Greater,
        (Candidate::Histogram(a), Candidate::Histogram(b)) => compare_histograms(a, b),
    })
}

/// The same for values as they are stored. Where readers see no difference, integer counts go
/// before float counts, and the greater integer goes before another that has the same float.
pub fn value_precedence(a: &Value, b: &Value) -> Ordering {
    let seen = |value: &Value| match value {
        Value::Float(_) => None,
        Value::Histogram(h) => Some(h.to_float()),
        Value::FloatHistogram(h) => Some((**h).clone()),
    };
    let (seen_a, seen_b) = (seen(a), seen(b));
    let by_readers = precedence(candidate(a, seen_a.as_ref()), candidate(b, seen_b.as_ref()));
    by_readers.then_with(|| match (a, b) {
        (Value::Histogram(a), Value::Histogram(b)) => {
            (a.count, a.zero_count).cmp(&(b.count, b.zero_count)).then_with(|| {
                let buckets = |h: &pyrrha_model::Histogram| {
                    let sides = [&h.positive_buckets, &h.negative_buckets];
                    let spans = [&h.positive_spans, &h.negative_spans];
                    sides.into_iter().zip(spans).flat_map(|(b, s)| filled_integers(s, b)).collect::<Vec<_>>()
                };
                buckets(a).cmp(&buckets(b))
            })
        }
        (Value::Histogram(_), Value::FloatHistogram(_)) => Ordering::Greater,
        (Value::FloatHistogram(_), Value::Histogram(_)) => Ordering::Less,
        _ => Ordering::Equal,
    })
}

fn candidate<'a>(value: &Value, seen: Option<&'a FloatHistogram>) -> Candidate<'a> {
    match (value, seen) {
        (_, Some(histogram)) => Candidate::Histogram(histogram),
        (Value::Float(v), None) => Candidate::Float(*v),
        // `seen` has every histogram.
        (_, None) => Candidate::Float(0.0),
    }
}

fn compare_histograms(a: &FloatHistogram, b: &FloatHistogram) -> Ordering {
    // Of a stale one, only the sum has meaning.
    if a.is_stale() && b.is_stale() {
        return Ordering::Equal;
    }
    let numbers = |h: &FloatHistogram| {
        [
            h.sum.to_bits(),
            h.count.to_bits(),
            h.zero_count.to_bits(),
            h.schema as u64,
            h.zero_threshold.to_bits(),
        ]
    };
    numbers(a)
        .cmp(&numbers(b))
        .then_with(|| bits(&a.custom_values).cmp(bits(&b.custom_values)))
        .then_with(|| {
            filled(&a.positive_spans, &a.positive_buckets).cmp(filled(&b.positive_spans, &b.positive_buckets))
        })
        .then_with(|| {
            filled(&a.negative_spans, &a.negative_buckets).cmp(filled(&b.negative_spans, &b.negative_buckets))
        })
}

fn bits(values: &[f64]) -> impl Iterator<Item = u64> + '_ {
    values.iter().map(|v| v.to_bits())
}

/// The index of each bucket that spans lay out.
fn indexes(spans: &[Span]) -> impl Iterator<Item = i64> + '_ {
    let mut next = 0i64;
    spans.iter().flat_map(move |span| {
        let first = next + i64::from(span.offset);
        next = first + i64::from(span.length);
        first..next
    })
}

/// Buckets that are not empty: how a chunk lays its buckets out does not matter.
fn filled<'a>(spans: &'a [Span], counts: &'a [f64]) -> impl Iterator<Item = (i64, u64)> + 'a {
    indexes(spans).zip(counts).filter(|(_, c)| **c != 0.0).map(|(i, c)| (i, c.to_bits()))
}

fn filled_integers(spans: &[Span], deltas: &[i64]) -> Vec<(i64, i64)> {
    let mut count = 0i64;
    let counts = deltas.iter().map(|delta| {
        count = count.wrapping_add(*delta);
        count
    });
    indexes(spans).zip(counts).filter(|(_, c)| *c != 0).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use pyrrha_model::{Histogram, stale_nan};

    use super::*;

    fn histogram(sum: f64, spans: &[(i32, u32)], counts: &[i64]) -> Value {
        let mut before = 0;
        let deltas = counts.iter().map(|c| {
            let delta = c - before;
            before = *c;
            delta
        });
        Value::Histogram(Box::new(Histogram {
            sum,
            count: counts.iter().sum::<i64>() as u64,
            positive_buckets: deltas.collect(),
            positive_spans: spans.iter().map(|&(offset, length)| Span { offset, length }).collect(),
            ..Histogram::default()
        }))
    }

    fn float_of(value: &Value) -> Value {
        match value {
            Value::Histogram(h) => Value::FloatHistogram(Box::new(h.to_float())),
            other => other.clone(),
        }
    }

    #[test]
    fn stale_gives_way_then_bits_decide_and_layout_does_not() {
        let order = |a: &Value, b: &Value| value_precedence(a, b);
        let (one, two, stale) = (Value::Float(1.0), Value::Float(2.0), Value::Float(stale_nan()));
        assert_eq!(order(&two, &one), Ordering::Greater);
        assert_eq!(order(&stale, &one), Ordering::Less, "although its bits are greater");
        assert_eq!(order(&Value::Float(-0.0), &Value::Float(0.0)), Ordering::Greater);
        let h = histogram(3.0, &[(0, 2)], &[1, 2]);
        let wide = histogram(3.0, &[(0, 1), (0, 1), (3, 2)], &[1, 2, 0, 0]);
        assert_eq!(order(&h, &wide), Ordering::Equal);
        assert_eq!(order(&h, &histogram(3.0, &[(0, 2)], &[2, 1])), Ordering::Less);
        assert_eq!(order(&h, &histogram(3.0, &[(1, 2)], &[1, 2])), Ordering::Less);
        assert_eq!(order(&h, &two), Ordering::Greater);
        assert_eq!(order(&h, &float_of(&h)), Ordering::Greater);
        assert_eq!(order(&histogram(stale_nan(), &[], &[]), &stale), Ordering::Greater);
        assert_eq!(order(&histogram(stale_nan(), &[], &[]), &one), Ordering::Less);
    }

    fn value() -> impl Strategy<Value = Value> {
        let float = prop_oneof![Just(stale_nan()), Just(f64::NAN), Just(-0.0), (0u8..4).prop_map(f64::from)];
        let counts = proptest::collection::vec(0i64..3, 0..4);
        prop_oneof![
            float.prop_map(Value::Float),
            (0u8..2, 0i32..2, counts.clone()).prop_map(|(sum, offset, c)| histogram(
                f64::from(sum),
                &[(offset, c.len() as u32)],
                &c
            )),
            counts.prop_map(|c| float_of(&histogram(1.0, &[(0, c.len() as u32)], &c))),
        ]
    }

    proptest! {
        #[test]
        fn it_is_an_order(a in value(), b in value(), c in value()) {
            let order = value_precedence;
            prop_assert_eq!(order(&a, &a), Ordering::Equal);
            prop_assert_eq!(order(&a, &b), order(&b, &a).reverse());
            if order(&a, &b) != Ordering::Less && order(&b, &c) != Ordering::Less {
                prop_assert_ne!(order(&a, &c), Ordering::Less);
            }
        }
    }
}
