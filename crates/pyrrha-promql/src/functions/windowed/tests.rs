//! Queries over windows against the same queries over the samples that they were made of.

use std::collections::BTreeMap;

use proptest::prelude::*;
use pyrrha_encoding::windows::{
    HistogramWindows, WindowPart, encode_histogram_windows, encode_windows, fold_floats, fold_histograms,
    with_histograms,
};
use pyrrha_encoding::{HistogramColumn, encode_series};
use pyrrha_model::contract::{
    ChunkRef, Exemplars, LabelQuery, QueryContext, Queryable, SelectHints, SeriesBatch, SeriesSet, Value,
};
use pyrrha_model::{FloatHistogram, Labels, Matcher, Metadata, StoreError, TimeRange};

use super::*;
use crate::engine::{Engine, EngineOptions, QueryOptions, QueryResult, QueryValue};
use crate::features::Features;
use crate::parser::parse;

const R: i64 = 300_000;

/// One series: windows of `resolution` before `cut`, samples from there on.
struct Store {
    samples: Vec<(i64, f64)>,
    /// At other times.
    histograms: Vec<(i64, FloatHistogram)>,
    resolution: i64,
    cut: i64,
}

struct One(Option<(QueryContext, Vec<ChunkRef>)>);

impl SeriesSet for One {
    fn next_batch(&mut self, _: usize, batch: &mut SeriesBatch) -> Result<bool, StoreError> {
        batch.clear();
        let Some((ctx, chunks)) = self.0.take() else { return Ok(false) };
        batch.push(&ctx.symbols, &Labels::from_pairs([("__name__", "m")]), chunks);
        Ok(true)
    }
}

impl Queryable for Store {
    fn select(
        &self,
        ctx: &QueryContext,
        _: &[Matcher],
        _: TimeRange,
        hints: &SelectHints,
    ) -> Result<Box<dyn SeriesSet>, StoreError> {
        let cut = hints.windows.map_or(i64::MIN, |_| self.cut);
        let at = self.samples.partition_point(|(t, _)| *t < cut);
        let (old, new) = self.samples.split_at(at);
        let (times, values): (Vec<i64>, Vec<f64>) = old.iter().copied().unzip();
        let mut windows = Windows::default();
        fold_floats(&times, &values, self.resolution, &mut windows);
        let markers: Vec<i64> = old.iter().filter(|(_, v)| is_stale_nan(*v)).map(|(t, _)| *t).collect();
        let at = self.histograms.partition_point(|(t, _)| *t < cut);
        let (old, new_histograms) = self.histograms.split_at(at);
        let (times, values) = old.iter().cloned().unzip();
        let column = HistogramColumn { times, values, starts: Vec::new() };
        let mut others = HistogramWindows::default();
        fold_histograms(&column, &markers, self.resolution, &mut others);
        let mut chunks = Vec::new();
        if let Some(hints) = hints.windows {
            for (wanted, part) in [(hints.edges, WindowPart::Edges), (hints.values, WindowPart::Values)] {
                let chunk = with_histograms(
                    encode_windows(&windows, self.resolution, part),
                    encode_histogram_windows(&others, self.resolution, part),
                );
                let chunk = chunk.filter(|_| wanted);
                chunks.extend(chunk.map(|c| ChunkRef { min_time: -100 * R, max_time: self.cut - 1, ..c }));
            }
        }
        let mut new: Vec<_> = new.iter().map(|(t, v)| (0, *t, Value::Float(*v))).collect();
        let value = |h: &FloatHistogram| Value::FloatHistogram(Box::new(h.clone()));
        new.extend(new_histograms.iter().map(|(t, h)| (0, *t, value(h))));
        new.sort_by_key(|(_, t, _)| *t);
        chunks.extend(encode_series(&new, false));
        Ok(Box::new(One(Some((ctx.clone(), chunks)))))
    }

    fn label_names(&self, _: &QueryContext, _: &LabelQuery) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    fn label_values(&self, _: &QueryContext, _: &str, _: &LabelQuery) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    fn series(&self, _: &QueryContext, _: &LabelQuery) -> Result<Vec<Labels>, StoreError> {
        Ok(Vec::new())
    }

    fn exemplars(&self, _: &QueryContext, _: &LabelQuery) -> Result<Vec<Exemplars>, StoreError> {
        Ok(Vec::new())
    }

    fn metadata(
        &self,
        _: &QueryContext,
        _: Option<&str>,
    ) -> Result<BTreeMap<String, Vec<Metadata>>, StoreError> {
        Ok(BTreeMap::new())
    }
}

/// What a query gives over windows, and over samples.
fn answers(store: &Store, query: &str, start: i64, end: i64, step: i64) -> [QueryResult; 2] {
    let features = Features::all();
    let options = EngineOptions {
        features: Features { use_start_timestamps: false, ..features },
        ..Default::default()
    };
    let engine = Engine::new(options);
    let expr = parse(query, &features).expect("a query");
    [store.cut, i64::MIN].map(|cut| {
        let (samples, histograms) = (store.samples.clone(), store.histograms.clone());
        let store = Store { samples, histograms, cut, ..*store };
        let ctx = QueryContext::unlimited();
        let options = QueryOptions { text: query.to_owned(), ..QueryOptions::default() };
        engine.range_with(&ctx, &store, &expr, start, end, step, &options).expect("a result")
    })
}

/// The same of floats.
fn both(store: &Store, query: &str, start: i64, end: i64, step: i64) -> [BTreeMap<i64, f64>; 2] {
    answers(store, query, start, end, step).map(|result| match result.value {
        QueryValue::Matrix(series) => series.into_iter().flat_map(|s| s.floats).collect(),
        other => panic!("{other:?}"),
    })
}

fn counter() -> impl Strategy<Value = Vec<(i64, f64)>> {
    let step = prop_oneof![8 => 1_000..70_000i64, 1 => 70_000..900_000i64];
    let change = prop_oneof![8 => (0..40i32).prop_map(f64::from), 1 => Just(-1.0)];
    prop::collection::vec((step, change), 1..150).prop_map(|steps| {
        let (mut t, mut v) = (R, 0.0);
        steps
            .into_iter()
            .map(|(step, change)| {
                t += step;
                v = if change < 0.0 { (v / 7.0_f64).floor() } else { v + change };
                (t, v)
            })
            .collect()
    })
}

fn gauge() -> impl Strategy<Value = Vec<(i64, f64)>> {
    let value = prop_oneof![
        12 => (-1e6..1e6).prop_map(|v: f64| v),
        4 => (-9..9i32).prop_map(f64::from),
        1 => prop_oneof![Just(f64::NAN), Just(stale_nan())],
    ];
    prop::collection::vec((1_000..90_000i64, value), 1..150).prop_map(|steps| {
        let mut t = R;
        steps
            .into_iter()
            .map(|(step, v)| {
                t += step;
                (t, v)
            })
            .collect()
    })
}

fn same(found: &[BTreeMap<i64, f64>; 2], relative: f64) -> Result<(), String> {
    let [windows, samples] = found;
    if !windows.keys().eq(samples.keys()) {
        return Err(format!("windows={windows:?} samples={samples:?}"));
    }
    for (t, a) in windows {
        let b = samples[t];
        let equal = *a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= relative * a.abs().max(b.abs());
        if !equal {
            return Err(format!("t={t} windows={a} samples={b}"));
        }
    }
    Ok(())
}

proptest! {
    /// Decision 25: ranges that begin and end with windows.
    #[test]
    fn aligned_ranges_are_exact(samples in counter(), length in 1..5i64, step in 1..4i64, cut in 2..30i64) {
        let store = Store { samples, histograms: Vec::new(), resolution: R, cut: cut * R };
        let range = length * R / 1000;
        for (function, relative) in [
            ("count_over_time", 0.0), ("min_over_time", 0.0), ("max_over_time", 0.0), ("increase", 0.0),
            ("last_over_time", 0.0), ("first_over_time", 0.0), ("present_over_time", 0.0), ("resets", 0.0),
            ("changes", 0.0), ("delta", 0.0), ("ts_of_first_over_time", 0.0), ("ts_of_last_over_time", 0.0),
            ("sum_over_time", 1e-12), ("avg_over_time", 1e-12), ("rate", 1e-12),
        ] {
            let found = both(&store, &format!("{function}(m[{range}s])"), 2 * R - 1, 30 * R - 1, step * R);
            prop_assert_eq!(same(&found, relative), Ok(()), "{}", function);
        }
        let found = both(&store, "m", 2 * R - 1, 30 * R - 1, step * R);
        prop_assert_eq!(same(&found, 0.0), Ok(()));
        let found = both(&store, "timestamp(m)", 2 * R - 1, 30 * R - 1, step * R);
        prop_assert_eq!(same(&found, 0.0), Ok(()));
    }

    /// The same with NaNs, markers and values of all kinds; sums of both signs cancel, so their bound
    /// is one of their terms.
    #[test]
    fn aligned_ranges_of_gauges_are_exact(samples in gauge(), length in 1..5i64, cut in 2..30i64) {
        let store = Store { samples, histograms: Vec::new(), resolution: R, cut: cut * R };
        let range = length * R / 1000;
        for function in ["count_over_time", "min_over_time", "max_over_time", "last_over_time", "changes", "delta", "resets"] {
            let found = both(&store, &format!("{function}(m[{range}s])"), 2 * R - 1, 40 * R - 1, R);
            prop_assert_eq!(same(&found, 0.0), Ok(()), "{}", function);
        }
        for function in ["sum_over_time", "avg_over_time", "stddev_over_time"] {
            let found = both(&store, &format!("{function}(m[{range}s])"), 2 * R - 1, 40 * R - 1, R);
            let [windows, samples] = &found;
            prop_assert!(windows.keys().eq(samples.keys()));
            for (a, b) in windows.values().zip(samples.values()) {
                let close = (a - b).abs() <= 1e-12 * 1e6 * 700.0 || (a.is_nan() && b.is_nan());
                prop_assert!(close, "{} {} {}", function, a, b);
            }
        }
        let found = both(&store, "m", 2 * R - 1, 40 * R - 1, R);
        prop_assert_eq!(same(&found, 0.0), Ok(()));
        // Quantiles lie between the extremes, and are them at the ends.
        for (q, extreme) in [("0", "min_over_time"), ("1", "max_over_time")] {
            let clean = Store { samples: store.samples.iter().copied().filter(|(_, v)| !v.is_nan()).collect(), histograms: Vec::new(), ..store };
            let [windows, _] = both(&clean, &format!("quantile_over_time({q}, m[{range}s])"), 2 * R - 1, 40 * R - 1, R);
            let [_, samples] = both(&clean, &format!("{extreme}(m[{range}s])"), 2 * R - 1, 40 * R - 1, R);
            prop_assert_eq!(same(&[windows, samples], 0.0), Ok(()));
        }
    }

    /// Other phases: exactly what the samples say of the range that ends with the window before.
    #[test]
    fn other_phases_are_as_of_the_window_before(samples in counter(), length in 1..5i64, phase in 0..R) {
        let store = Store { samples, histograms: Vec::new(), resolution: R, cut: i64::MAX };
        let range = length * R / 1000;
        let last = 40 * R;
        for query in [format!("increase(m[{range}s])"), format!("sum_over_time(m[{range}s])"), "m".to_owned()] {
            let [windows, _] = both(&store, &query, 2 * R - 1 + phase, last - 1 , R);
            let [_, samples] = both(&store, &query, 2 * R - 1, last - 1, R);
            let shifted: BTreeMap<i64, f64> = samples.into_iter()
                .map(|(t, v)| (t + phase, v)).filter(|(t, _)| *t < last).collect();
            prop_assert_eq!(same(&[windows, shifted], 1e-12), Ok(()), "{}", query);
        }
    }

    /// A range that begins in windows and ends in samples is as long as asked, as of the window before.
    #[test]
    fn a_range_from_windows_to_samples_stays_as_long(
        samples in counter(), length in 1..5i64, phase in 0..R, cut in 2..30i64,
    ) {
        // A series without windows has its samples.
        let has_windows = samples.first().is_some_and(|(t, _)| *t < cut * R);
        let store = Store { samples, histograms: Vec::new(), resolution: R, cut: cut * R };
        let (range, last) = (length * R / 1000, 40 * R);
        for function in ["count_over_time", "sum_over_time", "increase"] {
            let query = format!("{function}(m[{range}s])");
            let [found, exact] = both(&store, &query, 2 * R - 1 + phase, last - 1 + phase, R);
            let [_, aligned] = both(&store, &query, 2 * R - 1, last - 1, R);
            let begins_in_windows = |t: i64| has_windows && t - length * R < cut * R;
            let expected: BTreeMap<i64, f64> = aligned.into_iter().map(|(t, v)| (t + phase, v))
                .filter(|(t, _)| begins_in_windows(*t))
                .chain(exact.into_iter().filter(|(t, _)| !begins_in_windows(*t)))
                .collect();
            prop_assert_eq!(same(&[found, expected], 1e-12), Ok(()), "{}", query);
        }
    }
}

#[test]
fn windows_and_samples_take_turns() {
    use Turn::{Samples, Windows};
    let all = |starts: &[i64], times: &[i64]| turns(starts, times).collect::<Vec<_>>();
    assert_eq!(all(&[], &[]), []);
    assert_eq!(all(&[0, 10], &[]), [Windows(0..2)]);
    assert_eq!(all(&[], &[0, 10]), [Samples(0..2)]);
    assert_eq!(
        all(&[0, 10, 30], &[-1, 20, 25]),
        [Samples(0..1), Windows(0..2), Samples(1..3), Windows(2..3)]
    );
}

#[test]
fn a_range_shorter_than_windows_is_one_window() {
    let samples = (0..600).map(|i| (3_600_000 + i * 60_000, i as f64)).collect();
    let store = Store { samples, histograms: Vec::new(), resolution: 3_600_000, cut: i64::MAX };
    let [windows, samples] = both(&store, "rate(m[5m])", 2 * 3_600_000, 9 * 3_600_000, 900_000);
    assert_eq!(windows.keys().collect::<Vec<_>>(), samples.keys().collect::<Vec<_>>());
    assert!(windows.values().all(|v| (v - 1.0 / 60.0).abs() < 1e-6), "{windows:?}");
    let [windows, _] = both(&store, "increase(m[5m])", 2 * 3_600_000, 9 * 3_600_000, 900_000);
    assert!(windows.values().all(|v| (v - 5.0).abs() < 1e-5), "{windows:?}");
}

#[test]
fn a_straight_line_stays_one() {
    let samples = (0..600).map(|i| (3_600_000 + i * 60_000, i as f64)).collect();
    let store = Store { samples, histograms: Vec::new(), resolution: R, cut: i64::MAX };
    for query in ["deriv(m[1h])", "predict_linear(m[1h], 600)", "irate(m[1h])", "idelta(m[1h])"] {
        let found = both(&store, query, 3 * 3_600_000 - 1, 9 * 3_600_000, R);
        assert_eq!(same(&found, 1e-9), Ok(()), "{query}");
    }
}

mod histograms;
