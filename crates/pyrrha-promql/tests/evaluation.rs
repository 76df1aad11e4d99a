//! Any expression over small data: no panic, everything reserved is given back, the optimiser
//! changes nothing, and a range query is its instant queries.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::BoxedStrategy;
use pyrrha_model::contract::{Ingest, QueryContext, Value};
use pyrrha_model::{FloatHistogram, Labels, Span, TenantId};
use pyrrha_promql::ast::ValueType;
use pyrrha_promql::function::{FUNCTIONS, Function};
use pyrrha_promql::value::Sample;
use pyrrha_promql::{Engine, EngineOptions, Features, Optimiser, QueryValue, parse};
use pyrrha_testkit::ModelDb;

const STEP: i64 = 45_000;
const STEPS: i64 = 7;

/// Gauges, counters with resets, gaps and stale markers, classic buckets, histograms, a mix.
fn store() -> ModelDb {
    let db = ModelDb::new();
    let mut batch = db.appender(&TenantId::anonymous()).expect("a model takes writes");
    let mut add = |labels: &[(&str, &str)], value: &dyn Fn(i64) -> Option<Value>| {
        let series = batch.resolve(None, &Labels::from_pairs(labels.iter().copied())).expect("no limit");
        for i in 0..40 {
            match value(i) {
                Some(Value::Float(v)) => batch.append(series, 0, i * 15_000, v).expect("in order"),
                Some(histogram) => {
                    batch.append_histogram(series, 0, i * 15_000, histogram).expect("in order")
                }
                None => {}
            }
        }
    };
    for (b, scale) in [("x", 1.0), ("y", 2.5), ("z", -0.1)] {
        add(&[("__name__", "m"), ("a", "1"), ("b", b)], &|i| Some(Value::Float(i as f64 * scale)));
        add(&[("__name__", "n_total"), ("a", "1"), ("b", b)], &|i| {
            (i % 7 != 3).then_some(Value::Float((i % 11) as f64 * scale.abs() * 10.0))
        });
        add(&[("__name__", "le_bucket"), ("le", ["0.1", "1", "+Inf"][b.len() % 3]), ("b", b)], &|i| {
            Some(Value::Float(i as f64))
        });
    }
    add(&[("__name__", "m"), ("a", "2")], &|i| Some(Value::Float(if i == 20 { f64::NAN } else { 1.0 })));
    add(&[("__name__", "target_info"), ("a", "1"), ("c", "d")], &|_| Some(Value::Float(1.0)));
    let histogram = |i: i64| {
        Value::FloatHistogram(Box::new(FloatHistogram {
            count: 3.0 + (i % 13) as f64,
            sum: i as f64,
            positive_spans: vec![Span { offset: 0, length: 2 }],
            positive_buckets: vec![1.0, 2.0 + (i % 13) as f64],
            ..FloatHistogram::default()
        }))
    };
    add(&[("__name__", "h"), ("a", "1")], &|i| Some(histogram(i)));
    add(&[("__name__", "mixed"), ("a", "1")], &|i| {
        Some(if i % 9 < 4 { histogram(i) } else { Value::Float(i as f64) })
    });
    batch.commit().expect("a model commits");
    db
}

fn selector() -> impl Strategy<Value = String> {
    let name =
        prop_oneof![Just("m"), Just("n_total"), Just("le_bucket"), Just("h"), Just("mixed"), Just("none")];
    let matcher = prop_oneof![Just(""), Just("{a=\"1\"}"), Just("{b=~\"x|y\"}"), Just("{b!=\"x\"}")];
    (name, matcher).prop_map(|(n, m)| format!("{n}{m}"))
}

fn modifiers() -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => Just(""), 1 => Just(" offset 1m"), 1 => Just(" offset -30s"), 1 => Just(" @ 200")]
}

fn range() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("1m"), Just("2m"), Just("40s"), Just("5m")]
}

fn scalar() -> impl Strategy<Value = String> {
    prop_oneof![
        (-3i32..10).prop_map(|v| v.to_string()),
        Just("0.5".to_owned()),
        Just("NaN".to_owned()),
        Just("time() / 100".to_owned()),
        Just("scalar(m{b=\"x\"})".to_owned()),
    ]
}

fn texts() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("\"a\""), Just("\"b\""), Just("\"new\""), Just("\"$1\""), Just("\"(.*)\"")]
}

fn matrix(vector: BoxedStrategy<String>) -> impl Strategy<Value = String> {
    prop_oneof![
        3 => (selector(), range(), modifiers()).prop_map(|(s, r, o)| format!("{s}[{r}]{o}")),
        1 => (vector, range(), modifiers()).prop_map(|(v, r, o)| format!("({v})[{r}:20s]{o}")),
    ]
}

fn call(vector: BoxedStrategy<String>) -> BoxedStrategy<String> {
    let functions: Vec<&'static Function> = FUNCTIONS
        .iter()
        .filter(|f| f.returns == ValueType::Vector)
        .filter(|f| !["range", "step", "start", "end"].contains(&f.name))
        .collect();
    (proptest::sample::select(functions), 0..2usize)
        .prop_flat_map(move |(function, fewer)| {
            let fewer = if function.variadic != 0 { fewer } else { 0 };
            let count = function.args.len().saturating_sub(fewer);
            let arguments: Vec<BoxedStrategy<String>> = function.args[..count]
                .iter()
                .enumerate()
                .map(|(i, ty)| match ty {
                    ValueType::Scalar => scalar().boxed(),
                    ValueType::String => texts().prop_map(str::to_owned).boxed(),
                    ValueType::Matrix => matrix(vector.clone()).boxed(),
                    ValueType::Vector if function.name == "info" && i == 1 => {
                        Just("{c=~\".+\"}".to_owned()).boxed()
                    }
                    ValueType::Vector => vector.clone(),
                })
                .collect();
            arguments.prop_map(move |arguments| format!("{}({})", function.name, arguments.join(", ")))
        })
        .boxed()
}

fn vector() -> BoxedStrategy<String> {
    let leaf = (selector(), modifiers()).prop_map(|(s, o)| format!("{s}{o}"));
    leaf.prop_recursive(3, 16, 3, |inner| {
        let inner = inner.boxed();
        let by = prop_oneof![Just(""), Just(" by (a)"), Just(" by (b, a)"), Just(" without (b)"), Just(" by (__name__)")];
        let fold = prop_oneof![
            Just("sum"), Just("avg"), Just("min"), Just("max"), Just("count"), Just("group"), Just("stddev"), Just("stdvar")
        ];
        let ranked = prop_oneof![Just("topk"), Just("bottomk"), Just("quantile"), Just("limitk"), Just("limit_ratio")];
        let operator = prop_oneof![
            Just("+"), Just("-"), Just("*"), Just("/"), Just("%"), Just("^"), Just("=="), Just("> bool"), Just("<"),
            Just("!="), Just("</"), Just(">/"), Just("atan2")
        ];
        let matching = prop_oneof![
            Just(""), Just("on (a) "), Just("ignoring (b) "), Just("on (a) group_left "), Just("on (a) group_right (b) "),
            Just("fill (0) ")
        ];
        prop_oneof![
            3 => call(inner.clone()),
            2 => (fold, by.clone(), inner.clone()).prop_map(|(f, by, e)| format!("{f}{by} ({e})")),
            1 => (ranked, by, scalar(), inner.clone()).prop_map(|(f, by, k, e)| format!("{f}{by} ({k}, {e})")),
            1 => inner.clone().prop_map(|e| format!("count_values(\"v\", {e})")),
            2 => (inner.clone(), operator.clone(), matching, inner.clone())
                .prop_map(|(a, op, m, b)| format!("({a}) {op} {m}({b})")),
            1 => (inner.clone(), operator, scalar()).prop_map(|(a, op, b)| format!("({a}) {op} ({b})")),
            1 => (inner.clone(), prop_oneof![Just("and"), Just("or on (a)"), Just("unless ignoring (b)")], inner.clone())
                .prop_map(|(a, op, b)| format!("({a}) {op} ({b})")),
            1 => inner.prop_map(|e| format!("-({e})")),
        ]
    })
    .boxed()
}

/// Values by labels and time, in which equal means the same bits; NaN is NaN.
fn points(value: &QueryValue) -> BTreeMap<(String, i64), String> {
    let float = |v: f64| if v.is_nan() { "NaN".to_owned() } else { format!("{:x}", v.to_bits()) };
    let mut points = BTreeMap::new();
    match value {
        QueryValue::Vector(samples) => {
            for s in samples {
                let value = match &s.value {
                    Sample::Float(v) => float(*v),
                    Sample::Histogram(h) => format!("{h:?}"),
                };
                points.insert((s.labels.to_string(), s.t), value);
            }
        }
        QueryValue::Matrix(series) => {
            for s in series {
                let labels = s.labels.to_string();
                points.extend(s.floats.iter().map(|(t, v)| ((labels.clone(), *t), float(*v))));
                points.extend(s.histograms.iter().map(|(t, h)| ((labels.clone(), *t), format!("{h:?}"))));
            }
        }
        QueryValue::Scalar { .. } | QueryValue::String { .. } => {}
    }
    points
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_range_query_is_its_instant_queries(query in vector(), delayed in any::<bool>()) {
        let features = Features { delayed_name_removal: delayed, type_and_unit_labels: false, ..Features::all() };
        let Ok(expr) = parse(&query, &features) else { return Ok(()) };
        let db = store();
        let engine = |optimiser| Engine::new(EngineOptions { features, optimiser, ..EngineOptions::default() });
        let range = |optimiser| {
            let ctx = QueryContext::unlimited();
            let result = engine(optimiser).range(&ctx, &db, &expr, 100_000, 100_000 + (STEPS - 1) * STEP, STEP);
            assert_eq!(ctx.budget.used(), 0, "{query}");
            result.map(|r| points(&r.value)).map_err(|e| e.to_string())
        };
        let (on, off) = (range(Optimiser::ON), range(Optimiser::OFF));
        prop_assert_eq!(&on, &off, "{}", query);
        let mut together = BTreeMap::new();
        for i in 0..STEPS {
            let ctx = QueryContext::unlimited();
            match engine(Optimiser::ON).instant(&ctx, &db, &expr, 100_000 + i * STEP) {
                Ok(result) => together.extend(points(&result.value)),
                Err(_) => {
                    // Most errors stop the range query too; those of a parameter at no step of it
                    // that counts need not.
                    return Ok(());
                }
            }
        }
        if let Ok(on) = on {
            prop_assert_eq!(on, together, "{}", query);
        }
    }
}
