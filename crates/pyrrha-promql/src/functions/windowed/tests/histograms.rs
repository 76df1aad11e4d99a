//! The same for native histograms, and for series that hold both.

use std::sync::Arc;

use pyrrha_model::histogram::CUSTOM_BUCKETS_SCHEMA;
use pyrrha_model::{CounterResetHint, Span};

use super::*;

fn histogram(schema: i32, counts: &[f64]) -> FloatHistogram {
    FloatHistogram {
        schema,
        count: counts.iter().sum(),
        sum: counts.iter().zip(1..).map(|(n, i)| n * f64::from(i) / 4.0).sum(),
        positive_spans: vec![Span { offset: 0, length: counts.len() as u32 }],
        positive_buckets: counts.to_vec(),
        ..FloatHistogram::default()
    }
}

fn custom(bounds: &[f64], counts: &[f64]) -> FloatHistogram {
    FloatHistogram { custom_values: Arc::from(bounds), ..histogram(CUSTOM_BUCKETS_SCHEMA, counts) }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Counter,
    Gauge,
    Custom,
    /// Exponential now and then, custom else.
    Both,
}

/// Samples with resets, changes of schema or bounds, and stale markers.
fn history(kind: Kind) -> impl Strategy<Value = Vec<(i64, FloatHistogram)>> {
    let wait = prop_oneof![8 => 1_000..70_000i64, 1 => 70_000..900_000i64];
    let step = (wait, 0..24u8, 0..6usize, 0..9i32);
    let scale = prop_oneof![Just(1.0), Just(0.3)];
    (prop::collection::vec(step, 1..120), scale).prop_map(move |(steps, scale)| {
        let (mut t, mut counts, mut layout) = (R, [0.0; 6], 0);
        let sample = |(wait, event, bucket, amount): (i64, u8, usize, i32)| {
            t += wait;
            match event {
                0 => counts = counts.map(|n: f64| (n / 3.0).floor()),
                1 => layout = (layout + bucket) % 3,
                2 => return (t, FloatHistogram { sum: stale_nan(), ..FloatHistogram::default() }),
                3..8 if kind == Kind::Gauge => counts[bucket] = f64::from(amount),
                _ => counts[bucket] += f64::from(amount),
            }
            let scaled = counts.map(|n| n * scale);
            let bounds = [&[1.0, 2.0, 3.0, 4.0, 5.0][..], &[1.0, 3.0, 5.0], &[1.0, 2.0, 3.0, 4.0]][layout];
            let h = match kind {
                Kind::Custom => custom(bounds, &scaled[..bounds.len() + 1]),
                Kind::Both if layout == 2 => custom(bounds, &scaled[..bounds.len() + 1]),
                Kind::Gauge => FloatHistogram {
                    counter_reset_hint: CounterResetHint::Gauge,
                    ..histogram([2, 1, 2][layout], &scaled)
                },
                _ => histogram([2, 1, 2][layout], &scaled),
            };
            (t, h)
        };
        steps.into_iter().map(sample).collect()
    })
}

fn kinds() -> impl Strategy<Value = (Kind, Vec<(i64, FloatHistogram)>)> {
    let kinds = vec![Kind::Counter, Kind::Gauge, Kind::Custom, Kind::Both];
    prop::sample::select(kinds).prop_flat_map(|kind| history(kind).prop_map(move |h| (kind, h)))
}

/// What a query gives, floats and histograms, and what it notes.
type Answer = (BTreeMap<i64, f64>, BTreeMap<i64, FloatHistogram>, String);

fn answer(store: &Store, query: &str, step: i64) -> [Answer; 2] {
    answers(store, query, 2 * R - 1, 30 * R - 1, step).map(|result| {
        let QueryValue::Matrix(series) = result.value else { panic!("a matrix") };
        let (mut floats, mut histograms) = (BTreeMap::new(), BTreeMap::new());
        for series in series {
            floats.extend(series.floats);
            histograms.extend(series.histograms.iter().map(|(t, h)| {
                let mut h = (**h).clone();
                h.compact(0);
                (*t, h)
            }));
        }
        (floats, histograms, format!("{:?}", result.annotations))
    })
}

fn is_close(a: f64, b: f64, relative: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= relative * a.abs().max(b.abs())
}

/// The same bounds and the same counts, up to a share of the largest.
fn alike(a: &FloatHistogram, b: &FloatHistogram, relative: f64) -> bool {
    let (left, right) = (a.positive_buckets.iter(), b.positive_buckets.iter());
    a.schema == b.schema
        && a.custom_values == b.custom_values
        && a.positive_spans == b.positive_spans
        && (a.counter_reset_hint == CounterResetHint::Gauge)
            == (b.counter_reset_hint == CounterResetHint::Gauge)
        && is_close(a.sum, b.sum, relative)
        && left.zip(right).all(|(a, b)| is_close(*a, *b, relative))
        && is_close(a.count, b.count, relative)
}

fn equal([windows, samples]: &[Answer; 2], relative: f64) -> Result<(), String> {
    let floats = [windows.0.clone(), samples.0.clone()];
    same(&floats, relative)?;
    if windows.2 != samples.2 {
        return Err(format!("windows={} samples={}", windows.2, samples.2));
    }
    if !windows.1.keys().eq(samples.1.keys()) {
        return Err(format!("windows={:?} samples={:?}", windows.1.keys(), samples.1.keys()));
    }
    for ((t, a), b) in windows.1.iter().zip(samples.1.values()) {
        if !alike(a, b, relative) {
            return Err(format!("t={t} windows={a:?} samples={b:?}"));
        }
    }
    Ok(())
}

const EXACT: [&str; 9] = [
    "count_over_time",
    "present_over_time",
    "first_over_time",
    "last_over_time",
    "resets",
    "changes",
    "delta",
    "ts_of_first_over_time",
    "ts_of_last_over_time",
];

/// Functions that have nothing to say of histograms.
const SILENT: [&str; 5] =
    ["min_over_time", "max_over_time", "stddev_over_time", "deriv", "ts_of_max_over_time"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn aligned_ranges_are_exact((kind, histograms) in kinds(), length in 1..5i64, step in 1..4i64, cut in 2..30i64) {
        let store = Store { samples: Vec::new(), histograms, resolution: R, cut: cut * R };
        let range = length * R / 1000;
        let mut functions: Vec<(&str, f64)> = EXACT.iter().chain(&SILENT).map(|f| (*f, 0.0)).collect();
        functions.extend([("sum_over_time", 1e-12), ("avg_over_time", 1e-12)]);
        // Of gauges there is no increase; notes say so.
        if kind != Kind::Gauge {
            functions.extend([("increase", 0.0), ("rate", 1e-12)]);
        }
        for (function, relative) in functions {
            let found = answer(&store, &format!("{function}(m[{range}s])"), step * R);
            prop_assert_eq!(equal(&found, relative), Ok(()), "{}", function);
        }
        for query in ["m", "timestamp(m)", "histogram_count(m)", "histogram_quantile(0.9, m)"] {
            prop_assert_eq!(equal(&answer(&store, query, step * R), 0.0), Ok(()), "{}", query);
        }
        if kind != Kind::Gauge {
            for query in ["histogram_count(rate(m[RANGE]))", "histogram_sum(increase(m[RANGE]))", "histogram_quantile(0.9, sum(rate(m[RANGE])))"] {
                let mut found = answer(&store, &query.replace("RANGE", &format!("{range}s")), step * R);
                // Where buckets are not read, samples carry hints of the resets that these told of, and a note
                // may speak of adding the empty histogram that takes the place of one before a reset.
                found.iter_mut().for_each(|(_, _, notes)| notes.clear());
                prop_assert_eq!(equal(&found, 1e-12), Ok(()), "{}", query);
            }
        }
    }

    /// A series that becomes one of histograms, and one that was.
    #[test]
    fn floats_and_histograms_in_one_series(histograms in history(Kind::Counter), samples in counter(), at in 3..12i64, cut in 2..30i64, first in any::<bool>()) {
        let is_old = |t: i64| (t < at * R) == first;
        let samples = samples.into_iter().filter(|(t, _)| is_old(*t)).collect();
        let histograms = histograms.into_iter().filter(|(t, _)| !is_old(*t)).collect();
        let store = Store { samples, histograms, resolution: R, cut: cut * R };
        let functions = EXACT.iter().chain(&["min_over_time", "max_over_time", "increase", "sum_over_time"]);
        for function in functions {
            let found = answer(&store, &format!("{function}(m[20m])"), R);
            prop_assert_eq!(equal(&found, 1e-12), Ok(()), "{}", function);
        }
        prop_assert_eq!(equal(&answer(&store, "m", R), 0.0), Ok(()));
    }
}

#[test]
fn a_straight_line_stays_one() {
    let histograms = (0..600).map(|i| (R + i * 30_000, histogram(1, &[i as f64, 2.0 * i as f64]))).collect();
    let store = Store { samples: Vec::new(), histograms, resolution: R, cut: i64::MAX };
    for query in ["irate(m[10m])", "idelta(m[10m])"] {
        assert_eq!(equal(&answer(&store, query, R), 1e-9), Ok(()), "{query}");
    }
}

#[test]
fn a_range_shorter_than_windows_is_one_window() {
    let histograms = (0..600).map(|i| (3_600_000 + i * 60_000, histogram(0, &[i as f64]))).collect();
    let store = Store { samples: Vec::new(), histograms, resolution: 3_600_000, cut: i64::MAX };
    let [windows, _] = answers(&store, "increase(m[5m])", 2 * 3_600_000, 9 * 3_600_000, 900_000);
    let QueryValue::Matrix(series) = windows.value else { panic!("a matrix") };
    assert_eq!(series[0].histograms.len(), 29);
    assert!(series[0].histograms.iter().all(|(_, h)| (h.count - 5.0).abs() < 1e-5));
}

#[test]
fn means_of_what_sums_would_overflow_are_means() {
    let large = |i: i64| FloatHistogram { sum: 1e308, ..histogram(0, &[i as f64]) };
    let histograms = (1..30).map(|i| (i * R, large(i))).collect();
    let store = Store { samples: Vec::new(), histograms, resolution: R, cut: i64::MAX };
    let found = answer(&store, "avg_over_time(m[1h])", R);
    assert_eq!(equal(&found, 1e-12), Ok(()));
    assert!(found[0].1.values().all(|h| (h.sum - 1e308).abs() < 1e297));
}
