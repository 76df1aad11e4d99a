//! Values of all kinds as a function of their place, so that a sender that tries again sends the same.

use std::sync::Arc;

use pyrrha_model::contract::Value;
use pyrrha_model::histogram::CUSTOM_BUCKETS_SCHEMA;
use pyrrha_model::{CounterResetHint, FloatHistogram, Histogram, Labels, STALE_NAN_BITS, Span, is_stale_nan};
use pyrrha_testkit::SimRng;

use crate::{Key, SERIES};

/// Which kind a series has; the last one changes its kind every half minute.
pub(crate) fn value(key: Key) -> Value {
    let (owner, series, t) = key;
    let mut rng = SimRng::new((t as u64) ^ ((series as u64) << 50) ^ ((owner as u64) << 58));
    let kind = if series == SERIES - 1 { (t / 30_000).unsigned_abs() as usize % 7 } else { series };
    let stale = rng.percent(3);
    match kind {
        0 => Value::Float((t / 1000) as f64),
        1 if stale => Value::Float(f64::from_bits(STALE_NAN_BITS)),
        1 => Value::Float(f64::from_bits(rng.next_u64())),
        2 => integer(&mut rng, stale, CounterResetHint::Unknown, t),
        3 => Value::Histogram(Box::new(custom(&mut rng, t))),
        4 => match integer(&mut rng, stale, CounterResetHint::Unknown, t) {
            Value::Histogram(h) => Value::FloatHistogram(Box::new(h.to_float())),
            other => other,
        },
        5 => Value::FloatHistogram(Box::new(custom(&mut rng, t).to_float())),
        _ => integer(&mut rng, stale, CounterResetHint::Gauge, t),
    }
}

fn integer(rng: &mut SimRng, stale: bool, counter_reset_hint: CounterResetHint, t: i64) -> Value {
    if stale {
        let sum = f64::from_bits(STALE_NAN_BITS);
        return Value::Histogram(Box::new(Histogram { sum, ..Histogram::default() }));
    }
    let (positive_spans, positive_buckets, a) = buckets(rng, t);
    let (negative_spans, negative_buckets, b) = buckets(rng, t);
    let zero_count = rng.below(9);
    Value::Histogram(Box::new(Histogram {
        counter_reset_hint,
        schema: [-4, 0, 3, 8][(t / 60_000).unsigned_abs() as usize % 4],
        zero_threshold: [0.0, 1e-128, 0.25][rng.index(3)],
        zero_count,
        count: zero_count + a + b,
        sum: rng.unit() * 1e6,
        positive_spans,
        negative_spans,
        positive_buckets,
        negative_buckets,
        custom_values: Arc::default(),
    }))
}

fn custom(rng: &mut SimRng, t: i64) -> Histogram {
    let (_, positive_buckets, count) = buckets(rng, t);
    let length = positive_buckets.len() as u32;
    Histogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        count,
        sum: rng.unit(),
        positive_spans: if length == 0 { Vec::new() } else { vec![Span { offset: 0, length }] },
        positive_buckets,
        custom_values: [0.5, 1.0, 2.5, 10.0, 60.0, 61.0, 62.0][..6 + rng.index(2)].into(),
        ..Histogram::default()
    }
}

/// Spans, deltas of counts that grow with time and start anew at times, and their sum.
fn buckets(rng: &mut SimRng, t: i64) -> (Vec<Span>, Vec<i64>, u64) {
    let (mut spans, mut deltas, mut before, mut sum) = (Vec::new(), Vec::new(), 0i64, 0);
    for i in 0..rng.index(3) {
        let length = 1 + rng.below(3) as u32;
        let offset = if i == 0 { rng.below(7) as i32 - 3 } else { 1 + rng.below(3) as i32 };
        spans.push(Span { offset, length });
        for _ in 0..length {
            let count = t / 1000 % 100 + rng.below(3) as i64;
            deltas.push(count - before);
            before = count;
            sum += count.unsigned_abs();
        }
    }
    (spans, deltas, sum)
}

/// What is found of a sample.
#[derive(Debug, Clone)]
pub(crate) enum FoundValue {
    Float(u64),
    Histogram(Box<FloatHistogram>),
}

/// Whether that is the value, to its bits; chunks may have buckets more, which are empty.
pub(crate) fn same(found: &FoundValue, value: &Value) -> bool {
    match (found, value) {
        (FoundValue::Float(bits), Value::Float(v)) => *bits == v.to_bits(),
        // A stale marker is of the kind that its series has by then.
        (FoundValue::Histogram(found), Value::Float(v)) => is_stale_nan(*v) && is_stale_nan(found.sum),
        (FoundValue::Histogram(found), Value::Histogram(h)) => same_histogram(found, &h.to_float()),
        (FoundValue::Histogram(found), Value::FloatHistogram(h)) => same_histogram(found, h),
        _ => false,
    }
}

fn same_histogram(a: &FloatHistogram, b: &FloatHistogram) -> bool {
    if is_stale_nan(a.sum) || is_stale_nan(b.sum) {
        return a.sum.to_bits() == b.sum.to_bits();
    }
    let gauge = |h: &FloatHistogram| h.counter_reset_hint == CounterResetHint::Gauge;
    let numbers = |h: &FloatHistogram| {
        let places = |spans: &[Span], counts: &[f64]| {
            let (mut place, mut filled, mut counts) = (0i64, Vec::new(), counts.iter());
            for span in spans {
                place += i64::from(span.offset);
                for count in counts.by_ref().take(span.length as usize) {
                    filled.extend((*count != 0.0).then_some((place, count.to_bits())));
                    place += 1;
                }
            }
            filled
        };
        let positive = places(&h.positive_spans, &h.positive_buckets);
        let negative = places(&h.negative_spans, &h.negative_buckets);
        let customs: Vec<u64> = h.custom_values.iter().map(|v| v.to_bits()).collect();
        let plain = [h.zero_threshold, h.zero_count, h.count, h.sum].map(f64::to_bits);
        (h.schema, plain, positive, negative, customs)
    };
    gauge(a) == gauge(b) && numbers(a) == numbers(b)
}

pub(crate) fn labels(series: usize) -> Labels {
    let odd = series % 2;
    Labels::from_pairs([("__name__", "m".to_owned()), ("i", series.to_string()), ("odd", odd.to_string())])
}
