//! An arbitrary expression over arbitrary small data: no panic; and the optimiser changes nothing. The first bytes
//! make the series, the rest the expression.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pyrrha_fuzz::expression::Choices;
use pyrrha_model::contract::{Ingest, MemoryBudget, QueryContext, Value};
use pyrrha_model::histogram::{CUSTOM_BUCKETS_SCHEMA, CounterResetHint, Span};
use pyrrha_model::{FloatHistogram, Labels, TenantId};
use pyrrha_promql::{Engine, EngineOptions, Features, Optimiser, QueryOptions, QueryResult, parse};
use pyrrha_testkit::ModelDb;

const SERIES: [&[(&str, &str)]; 8] = [
    &[("__name__", "m"), ("k", "a"), ("le", "1")],
    &[("__name__", "m"), ("k", "b"), ("le", "+Inf")],
    &[("__name__", "c"), ("k", "a"), ("j", "x")],
    &[("__name__", "c"), ("k", "a"), ("j", "y")],
    &[("__name__", "h"), ("k", "a")],
    &[("__name__", "h"), ("k", "b"), ("le", "1")],
    &[("__name__", "x"), ("k", "a")],
    &[("__name__", "a.b"), ("k", "b")],
];

const FLOATS: [f64; 16] = [
    0.0,
    1.0,
    -1.0,
    0.5,
    3.0,
    1e300,
    -1e300,
    5e-324,
    f64::NAN,
    f64::INFINITY,
    f64::NEG_INFINITY,
    -0.0,
    1e15,
    7.0,
    100.0,
    2.0,
];

fn histogram(choices: &mut Choices<'_>) -> Box<FloatHistogram> {
    let counts: Vec<f64> = (0..3).map(|_| f64::from(choices.byte() % 8)).collect();
    let custom = choices.byte() % 4 == 0;
    let schema = if custom { CUSTOM_BUCKETS_SCHEMA } else { i32::from(choices.byte() % 13) - 4 };
    let hints = [
        CounterResetHint::Unknown,
        CounterResetHint::Reset,
        CounterResetHint::NotReset,
        CounterResetHint::Gauge,
    ];
    let first = if custom { 0 } else { i32::from(choices.byte() % 64) - 32 };
    let negative = if custom { 0.0 } else { f64::from(choices.byte() % 4) };
    let zero_count = if custom { 0.0 } else { f64::from(choices.byte() % 4) };
    Box::new(FloatHistogram {
        counter_reset_hint: hints[usize::from(choices.byte() % 4)],
        schema,
        zero_threshold: if custom { 0.0 } else { 0.001 },
        zero_count,
        count: counts.iter().sum::<f64>() + negative + zero_count,
        sum: FLOATS[usize::from(choices.byte() % 16)],
        positive_spans: vec![
            Span { offset: first, length: 1 },
            Span { offset: i32::from(!custom), length: 2 },
        ],
        negative_spans: if custom { Vec::new() } else { vec![Span { offset: first, length: 1 }] },
        positive_buckets: counts,
        negative_buckets: if custom { Vec::new() } else { vec![negative] },
        custom_values: if custom { [-1.0, 2.5][..].into() } else { [][..].into() },
    })
}

fn fill(store: &ModelDb, choices: &mut Choices<'_>) {
    let mut batch = store.appender(&TenantId::anonymous()).expect("a store in memory");
    for labels in SERIES {
        let series = batch.resolve(None, &Labels::from_pairs(labels.iter().copied())).expect("no limit");
        let mut t = i64::from(choices.byte() % 4) * 15_000;
        for _ in 0..choices.byte() % 12 {
            let how = choices.byte();
            t += [1, 15_000, 15_000, 400_000][usize::from(how & 3)];
            let start = if how & 0x40 != 0 { t - 10_000 } else { 0 };
            // What is refused, by its order or form, is not there.
            let _ = match how >> 2 & 7 {
                0..=4 => batch.append(series, start, t, FLOATS[usize::from(choices.byte() % 16)]),
                5 => batch.append(series, start, t, f64::from_bits(0x7ff0_0000_0000_0002)),
                _ => batch.append_histogram(series, start, t, Value::FloatHistogram(histogram(choices))),
            };
        }
    }
    batch.commit().expect("a store in memory");
}

/// Values in which equal means the same bits, but for those of a NaN.
fn shown(result: &QueryResult) -> String {
    format!("{:?}", result.value)
}

fuzz_target!(|input: &[u8]| {
    let mut choices = Choices::new(input);
    let store = ModelDb::new();
    fill(&store, &mut choices);
    let (start, step) = (i64::from(choices.byte()) * 1000, 1 + i64::from(choices.byte()) * 300);
    let (count, switches) = (i64::from(choices.byte() % 6), choices.byte());
    let query = choices.vector(4);
    let Ok(expr) = parse(&query, &Features::all()) else { return };
    let features = Features { delayed_name_removal: switches & 1 != 0, ..Features::all() };
    let options = QueryOptions { text: query.clone(), explain: switches & 4 != 0, ..QueryOptions::default() };
    let run = |optimiser| {
        let engine = Engine::new(EngineOptions {
            features,
            optimiser,
            max_samples: 50_000,
            ..EngineOptions::default()
        });
        let ctx = QueryContext::new(
            TenantId::anonymous(),
            MemoryBudget::new("query", 16 << 20, None),
            Default::default(),
        );
        let result = match count {
            0 => engine.instant_with(&ctx, &store, &expr, start, &options),
            _ => engine.range_with(&ctx, &store, &expr, start, start + count * step, step, &options),
        };
        if let Ok(result) = &result {
            let _ = (result.annotations.warnings(&query), result.annotations.infos(&query));
        }
        result
    };
    let (with, without) = (run(Optimiser::ON), run(Optimiser::OFF));
    if let (Ok(with), Ok(without)) = (&with, &without) {
        assert_eq!(shown(with), shown(without), "{query:?}");
    }
});
