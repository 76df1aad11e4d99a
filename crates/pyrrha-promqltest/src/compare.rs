//! Whether a result is what a script expects.

use std::fmt::Write;

use pyrrha_model::{FloatHistogram, Labels, Span, Timestamp, is_stale_nan};
use pyrrha_promql::QueryValue;
use pyrrha_promql::value::Sample;

use crate::script::{Expectation, ExpectedSeries, Range};
use crate::series::SequenceValue;

/// Relative difference below which floats are equal.
const EPSILON: f64 = 1e-6;

/// An unmet expectation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mismatch {
    pub(crate) expected: String,
    pub(crate) got: String,
}

fn differs<T>(expected: impl Into<String>, got: impl Into<String>) -> Result<T, Mismatch> {
    Err(Mismatch { expected: expected.into(), got: got.into() })
}

/// Compares the result of an instant query.
pub(crate) fn instant(expect: &Expectation, value: &QueryValue) -> Result<(), Mismatch> {
    if let Some(wanted) = &expect.string {
        return match value {
            QueryValue::String { text, .. } if text == wanted => Ok(()),
            other => differs(format!("string {wanted:?}"), describe(other)),
        };
    }
    match (expect.scalar, value) {
        (Some(wanted), QueryValue::Scalar { v, .. }) if almost_equal(wanted, *v) => Ok(()),
        (Some(wanted), other) => differs(format!("scalar {wanted}"), describe(other)),
        (None, QueryValue::Vector(samples)) => {
            let samples = samples.iter().map(|s| (&s.labels, &s.value));
            vector(expect, samples.collect())
        }
        (None, QueryValue::Matrix(_)) => match expect.range_vector {
            Some(range) => matrix(expect, value, range),
            None => differs("instant vector", describe(value)),
        },
        (None, other) => differs("vector", describe(other)),
    }
}

/// Compares the samples of one time, in the order of the result.
pub(crate) fn vector(expect: &Expectation, samples: Vec<(&Labels, &Sample)>) -> Result<(), Mismatch> {
    for (position, (labels, sample)) in samples.iter().enumerate() {
        let Some(at) = expect.series.iter().position(|s| s.labels == **labels) else {
            return differs("no such series", format!("{labels} {}", value_text(sample)));
        };
        if expect.ordered && at != position {
            return differs(
                format!("{labels} at position {}", at + 1),
                format!("{labels} at position {}", position + 1),
            );
        }
        let wanted = expect.series.get(at).and_then(|s| s.values.first()).and_then(Option::as_ref);
        if !wanted.is_some_and(|wanted| same_value(wanted, sample)) {
            return differs(
                format!("{labels} {}", wanted.map_or("nothing".to_owned(), wanted_text)),
                format!("{labels} {}", value_text(sample)),
            );
        }
    }
    let missing = expect.series.iter().find(|s| !samples.iter().any(|(labels, _)| **labels == s.labels));
    match missing {
        Some(series) => differs(series_text(series), "no such series"),
        None => Ok(()),
    }
}

/// Compares series over time; expected values are at the times of `range`.
pub(crate) fn matrix(expect: &Expectation, value: &QueryValue, range: Range) -> Result<(), Mismatch> {
    let QueryValue::Matrix(series) = value else { return differs("matrix", describe(value)) };
    if expect.ordered || expect.scalar.is_some() {
        return differs("a result with an order, or a scalar", describe(value));
    }
    sorted(value)?;
    for s in series {
        let Some(wanted) = expect.series.iter().find(|w| w.labels == s.labels) else {
            return differs(
                "no such series",
                format!("{} {}", s.labels, points_text(&s.floats, &s.histograms)),
            );
        };
        let (mut floats, mut histograms) = (Vec::new(), Vec::new());
        for (i, value) in wanted.values.iter().enumerate() {
            let t = range.start + i as i64 * range.step;
            if t > range.end {
                return differs(series_text(wanted), "fewer points in the query's time range");
            }
            match value {
                Some(SequenceValue::Float(v)) => floats.push((t, *v)),
                Some(SequenceValue::Histogram(h, hint)) => histograms.push((t, h, *hint)),
                None => {}
            }
        }
        let equal = floats.len() == s.floats.len()
            && histograms.len() == s.histograms.len()
            && floats.iter().zip(&s.floats).all(|(w, g)| w.0 == g.0 && almost_equal(w.1, g.1))
            && histograms
                .iter()
                .zip(&s.histograms)
                .all(|(w, g)| w.0 == g.0 && same_histogram(w.1, w.2, &g.1));
        if !equal {
            return differs(
                series_text(wanted),
                format!("{} {}", s.labels, points_text(&s.floats, &s.histograms)),
            );
        }
    }
    match expect.series.iter().find(|w| !series.iter().any(|s| s.labels == w.labels)) {
        Some(missing) => differs(series_text(missing), "no such series"),
        None => Ok(()),
    }
}

/// A matrix is sorted by labels, without duplicates.
pub(crate) fn sorted(value: &QueryValue) -> Result<(), Mismatch> {
    let QueryValue::Matrix(series) = value else { return Ok(()) };
    match series.windows(2).find(|w| w[0].labels >= w[1].labels) {
        Some(w) => differs("series sorted by labels", format!("{} before {}", w[0].labels, w[1].labels)),
        None => Ok(()),
    }
}

fn same_value(wanted: &SequenceValue, got: &Sample) -> bool {
    match (wanted, got) {
        (SequenceValue::Float(a), Sample::Float(b)) => almost_equal(*a, *b),
        (SequenceValue::Histogram(h, hint), Sample::Histogram(got)) => same_histogram(h, *hint, got),
        _ => false,
    }
}

/// Equal up to 1e-6 relatively; NaN equals NaN, a stale marker only a stale marker.
pub(crate) fn almost_equal(a: f64, b: f64) -> bool {
    if is_stale_nan(a) || is_stale_nan(b) {
        return is_stale_nan(a) && is_stale_nan(b);
    }
    if a == b || a.is_nan() && b.is_nan() {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < EPSILON * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < EPSILON
}

/// Equal after compaction; the hint counts only if it was written.
pub(crate) fn same_histogram(wanted: &FloatHistogram, hint: bool, got: &FloatHistogram) -> bool {
    let (mut a, mut b) = (wanted.clone(), got.clone());
    a.compact(0);
    b.compact(0);
    let floats =
        |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| almost_equal(*a, *b));
    a.schema == b.schema
        && (!hint || a.counter_reset_hint == b.counter_reset_hint)
        && a.zero_threshold == b.zero_threshold
        && a.custom_values == b.custom_values
        && almost_equal(a.count, b.count)
        && almost_equal(a.sum, b.sum)
        && almost_equal(a.zero_count, b.zero_count)
        && indices(&a.positive_spans) == indices(&b.positive_spans)
        && indices(&a.negative_spans) == indices(&b.negative_spans)
        && floats(&a.positive_buckets, &b.positive_buckets)
        && floats(&a.negative_buckets, &b.negative_buckets)
}

/// Spans as (first index, length), empty ones left out and adjacent ones joined.
fn indices(spans: &[Span]) -> Vec<(i64, u64)> {
    let mut out: Vec<(i64, u64)> = Vec::new();
    let mut next = 0i64;
    for span in spans {
        next += i64::from(span.offset);
        if span.length > 0 {
            match out.last_mut() {
                Some((first, length)) if *first + *length as i64 == next => *length += u64::from(span.length),
                _ => out.push((next, u64::from(span.length))),
            }
        }
        next += i64::from(span.length);
    }
    out
}

/// A result in short, for reports.
pub(crate) fn describe(value: &QueryValue) -> String {
    match value {
        QueryValue::Scalar { v, .. } => format!("scalar {v}"),
        QueryValue::String { text, .. } => format!("string {text:?}"),
        QueryValue::Vector(samples) => {
            let lines = samples.iter().map(|s| format!("{} {}", s.labels, value_text(&s.value)));
            format!("vector [{}]", lines.collect::<Vec<_>>().join("; "))
        }
        QueryValue::Matrix(series) => {
            let lines =
                series.iter().map(|s| format!("{} {}", s.labels, points_text(&s.floats, &s.histograms)));
            format!("matrix [{}]", lines.collect::<Vec<_>>().join("; "))
        }
    }
}

fn points_text(
    floats: &[(Timestamp, f64)],
    histograms: &[(Timestamp, std::sync::Arc<FloatHistogram>)],
) -> String {
    let mut out = String::new();
    for (t, v) in floats {
        let _ = write!(out, "{v}@{t} ");
    }
    for (t, h) in histograms {
        let _ = write!(out, "{}@{t} ", histogram_text(h));
    }
    out
}

fn series_text(series: &ExpectedSeries) -> String {
    let values = series.values.iter().map(|v| v.as_ref().map_or("_".to_owned(), wanted_text));
    format!("{} {}", series.labels, values.collect::<Vec<_>>().join(" "))
}

fn wanted_text(value: &SequenceValue) -> String {
    match value {
        SequenceValue::Float(v) => v.to_string(),
        SequenceValue::Histogram(h, _) => histogram_text(h),
    }
}

fn value_text(value: &Sample) -> String {
    match value {
        Sample::Float(v) => v.to_string(),
        Sample::Histogram(h) => histogram_text(h),
    }
}

fn histogram_text(h: &FloatHistogram) -> String {
    let mut h = h.clone();
    h.compact(0);
    let side = |spans: &[Span], buckets: &[f64]| format!("{:?}:{buckets:?}", indices(spans));
    format!(
        "{{{{schema:{} count:{} sum:{} z_bucket:{} z_bucket_w:{} buckets:{} n_buckets:{} custom_values:{:?} hint:{:?}}}}}",
        h.schema,
        h.count,
        h.sum,
        h.zero_count,
        h.zero_threshold,
        side(&h.positive_spans, &h.positive_buckets),
        side(&h.negative_spans, &h.negative_buckets),
        h.custom_values,
        h.counter_reset_hint
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_equal_up_to_a_relative_millionth() {
        assert!(almost_equal(1.0, 1.000_001) && !almost_equal(1.0, 1.000_003));
        assert!(almost_equal(0.0, -0.0) && !almost_equal(0.0, 1e-300));
        assert!(almost_equal(f64::NAN, -f64::NAN) && !almost_equal(f64::NAN, pyrrha_model::stale_nan()));
        assert!(
            almost_equal(f64::INFINITY, f64::INFINITY) && !almost_equal(f64::INFINITY, f64::NEG_INFINITY)
        );
        assert!(!almost_equal(f64::INFINITY, 1.0));
    }

    #[test]
    fn histograms_are_equal_whatever_their_empty_buckets() {
        let h = |offset, buckets: &[f64]| FloatHistogram {
            positive_spans: vec![Span { offset, length: buckets.len() as u32 }],
            positive_buckets: buckets.to_vec(),
            ..FloatHistogram::default()
        };
        assert!(same_histogram(&h(0, &[0.0, 1.0, 0.0]), true, &h(1, &[1.0])));
        assert!(!same_histogram(&h(0, &[1.0]), true, &h(1, &[1.0])));
        let gauge =
            FloatHistogram { counter_reset_hint: pyrrha_model::CounterResetHint::Gauge, ..h(1, &[1.0]) };
        assert!(same_histogram(&h(1, &[1.0]), false, &gauge) && !same_histogram(&h(1, &[1.0]), true, &gauge));
    }
}
