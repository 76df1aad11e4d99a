//! Generated expressions over odd data: nothing panics, and a range query gives at each step what
//! an instant query gives there.

use proptest::prelude::*;
use proptest::strategy::BoxedStrategy;
use pyrrha_model::Timestamp;
use pyrrha_promql::value::Sample;
use pyrrha_promql::{Engine, EngineOptions, Features, QueryValue, parse};
use pyrrha_promqltest::{EngineTarget, Target, run_script, script_features, script_options};
use pyrrha_testkit::ModelDb;

/// Floats, counters with resets, gaps, stale markers, special values, classic and native
/// histograms of every kind, metrics that change their type, start timestamps.
const DATA: &str = r#"
load 15s
  f{k="a", job="x"} 1 -2 3.5 NaN 5 Inf -Inf 0 9 _ _ 12 stale _ 15 16 17 18 19 20 21
  f{k="b", job="x"} 0+0.1x20
  f{k="c", job="y"} _ _ 5x3 _ _ _ _ _ _ 7 8 stale
  c{k="a"} 0 10 20 5 15 _ 35 45 3 13 23 33 0 0 0 1 2 3 4 5 6
  c{k="b"}@st _ -10sx3 -1m -75s -15s -30s -15sx10 _ _ _
  c{k="b"} _ 1+1x3 2 3 9 10 20+5x10 _ _ _
  b_bucket{k="a", le="0.1"} 0+1x20
  b_bucket{k="a", le="1"} 0+3x20
  b_bucket{k="a", le="+Inf"} 0+4x20
  b_bucket{k="b", le="1"} 5x20
  b_bucket{k="b", le="2"} 4x20
  b_bucket{k="b", le="nonsense"} 4x20
  b_bucket{k="b", le="+Inf"} 9x20
  h{k="a"} {{schema:1 count:6 sum:9 z_bucket:1 z_bucket_w:0.01 buckets:[1 0 2] n_buckets:[2]}}+{{schema:1 count:5 sum:6 z_bucket:1 z_bucket_w:0.01 buckets:[1 1 1] n_buckets:[1]}}x20
  h{k="b"} {{schema:0 count:4 sum:5 buckets:[1 2 1]}}x3 {{schema:0 count:2 sum:2 buckets:[1 1] counter_reset_hint:reset}} _ _ {{schema:-1 count:9 sum:50 z_bucket:4 z_bucket_w:0.75 buckets:[2 3]}}x9
  h{k="nan"} {{schema:0 count:6 sum:NaN buckets:[1 2 1]}}x20
  g{k="a"} {{schema:2 count:3 sum:1 buckets:[1 2] counter_reset_hint:gauge}} {{schema:2 count:5 sum:9 buckets:[4 1] counter_reset_hint:gauge}}x18
  n{k="a"} {{schema:-53 count:4 sum:9 custom_values:[1 2 5] buckets:[1 1 1 1]}}x4 {{schema:-53 count:9 sum:20 custom_values:[1 5] buckets:[3 3 3]}}x9
  n{k="b"} {{schema:-53 count:4 sum:-9 custom_values:[-5 1] buckets:[2 1 1]}}x20
  mixed{k="a"} 1 2 {{schema:0 count:3 sum:3 buckets:[3]}} {{schema:0 count:4 sum:4 buckets:[4]}} 5 6 {{schema:-53 count:4 sum:9 custom_values:[1] buckets:[1 3]}} {{schema:0 count:4 sum:4 buckets:[4]}}x4 7x8
  target_info{k="a", job="x", zone="1"} 1x9 stale
  target_info{k="a", job="x", zone="2"} _x11 1x8
"#;

fn pick(words: &'static [&'static str]) -> impl Strategy<Value = String> + Clone {
    proptest::sample::select(words).prop_map(str::to_owned)
}

fn scalar() -> impl Strategy<Value = String> {
    prop_oneof![
        pick(&["0", "1", "0.5", "-1", "2.5", "NaN", "Inf", "-Inf", "1e300", "time()", "pi()"]),
        (-5.0f64..20.0).prop_map(|v| format!("{v:.2}")),
        Just("scalar(c{k=\"a\"})".to_owned()),
    ]
}

fn name() -> impl Strategy<Value = String> {
    pick(&[
        "f",
        "c",
        "b_bucket",
        "h",
        "g",
        "n",
        "mixed",
        "h{k=\"a\"}",
        "{__name__=~\"f|c\"}",
        "{__name__=~\"h|n|mixed\"}",
        "none",
    ])
}

fn modifiers() -> impl Strategy<Value = String> {
    pick(&["", "", "", "", " offset 20s", " offset -40s", " @ 100", " @ 100 offset 1m"])
}

fn range() -> impl Strategy<Value = String> {
    pick(&["10s", "15s", "31s", "1m", "2m30s", "10m", "15001ms"])
}

fn matrix(inner: BoxedStrategy<String>) -> BoxedStrategy<String> {
    prop_oneof![
        4 => (name(), range(), modifiers()).prop_map(|(n, r, m)| format!("{n}[{r}]{m}")),
        1 => (inner, range(), pick(&["", "7s", "20s"])).prop_map(|(e, r, s)| format!("({e})[{r}:{s}]")),
    ]
    .boxed()
}

fn vector() -> BoxedStrategy<String> {
    let leaf = prop_oneof![
        5 => (name(), modifiers()).prop_map(|(n, m)| n + &m),
        1 => (name(), modifiers()).prop_map(|(n, m)| format!("{n} smoothed{m}")),
        1 => scalar().prop_map(|s| format!("vector({s})")),
    ];
    leaf.prop_recursive(3, 12, 2, |inner| {
        let over = pick(&[
            "rate", "increase", "delta", "irate", "idelta", "resets", "changes", "deriv", "avg_over_time",
            "sum_over_time", "min_over_time", "max_over_time", "count_over_time", "last_over_time", "first_over_time",
            "present_over_time", "absent_over_time", "stddev_over_time", "stdvar_over_time", "mad_over_time",
            "ts_of_max_over_time", "ts_of_min_over_time", "ts_of_first_over_time", "ts_of_last_over_time",
        ]);
        let map = pick(&[
            "abs", "ceil", "exp", "ln", "sqrt", "sgn", "acosh", "day_of_month", "year", "round", "histogram_count",
            "histogram_sum", "histogram_avg", "histogram_stddev", "histogram_stdvar", "timestamp", "absent", "sort",
            "start_timestamp", "info", "-",
        ]);
        let extended = (pick(&["rate", "increase", "delta"]), name(), range(), pick(&["anchored", "smoothed"]))
            .prop_map(|(f, n, r, m)| format!("{f}({n}[{r}] {m})"));
        let binary = pick(&["+", "-", "*", "/", "%", "^", "atan2", "==", "!= bool", ">", "</", ">/"]);
        let matching = pick(&["", "on(k)", "ignoring(le)", "on(k) group_left()", "ignoring(k) group_right(job)"]);
        let aggregate = pick(&[
            "sum", "avg", "min", "max", "count", "group", "stddev", "stdvar", "topk(2,", "bottomk(1,",
            "quantile(0.3,", "count_values(\"v\",", "limitk(2,", "limit_ratio(0.5,",
        ]);
        let grouping = pick(&["", "by (k)", "without (le)", "by (none)"]);
        prop_oneof![
            3 => (over, matrix(inner.clone())).prop_map(|(f, m)| format!("{f}({m})")),
            1 => extended,
            1 => (pick(&["changes", "resets"]), name(), range()).prop_map(|(f, n, r)| format!("{f}({n}[{r}] anchored)")),
            1 => (scalar(), matrix(inner.clone())).prop_map(|(s, m)| format!("quantile_over_time({s}, {m})")),
            1 => (matrix(inner.clone()), scalar()).prop_map(|(m, s)| format!("predict_linear({m}, {s})")),
            1 => matrix(inner.clone()).prop_map(|m| format!("double_exponential_smoothing({m}, 0.3, 0.6)")),
            3 => (map, inner.clone()).prop_map(|(f, e)| format!("{f}({e})")),
            1 => (inner.clone(), scalar(), scalar()).prop_map(|(e, a, b)| format!("clamp({e}, {a}, {b})")),
            2 => (scalar(), inner.clone()).prop_map(|(s, e)| format!("histogram_quantile({s}, {e})")),
            1 => (inner.clone(), scalar()).prop_map(|(e, s)| format!("histogram_quantiles({e}, \"q\", 0.5, {s})")),
            1 => (scalar(), scalar(), inner.clone()).prop_map(|(a, b, e)| format!("histogram_fraction({a}, {b}, {e})")),
            1 => inner.clone().prop_map(|e| format!("label_replace({e}, \"k\", \"z$1\", \"k\", \"(a|b)\")")),
            1 => inner.clone().prop_map(|e| format!("label_join({e}, \"__name__\", \"-\", \"k\", \"job\")")),
            2 => (inner.clone(), binary.clone(), scalar()).prop_map(|(e, op, s)| format!("({e}) {op} {s}")),
            1 => (inner.clone(), binary, matching, inner.clone()).prop_map(|(a, op, m, b)| format!("({a}) {op} {m} ({b})")),
            1 => (inner.clone(), pick(&["and", "or", "unless"]), inner.clone()).prop_map(|(a, op, b)| format!("({a}) {op} ({b})")),
            3 => (aggregate, grouping, inner).prop_map(|(a, g, e)| if a.ends_with(',') {
                format!("{a} {e}) {g}")
            } else {
                format!("{a} {g} ({e})")
            }),
        ]
    })
    .boxed()
}

/// Series and the value each of them has at `t`.
fn at(value: &QueryValue, t: Timestamp) -> Vec<(String, Sample)> {
    let mut out: Vec<(String, Sample)> = match value {
        QueryValue::Vector(samples) => {
            samples.iter().map(|s| (s.labels.to_string(), s.value.clone())).collect()
        }
        QueryValue::Matrix(series) => series
            .iter()
            .flat_map(|s| {
                let floats = s.floats.iter().filter(|p| p.0 == t).map(|p| Sample::Float(p.1));
                let histograms =
                    s.histograms.iter().filter(|p| p.0 == t).map(|p| Sample::Histogram(p.1.clone()));
                floats.chain(histograms).map(|v| (s.labels.to_string(), v))
            })
            .collect(),
        QueryValue::Scalar { .. } | QueryValue::String { .. } => Vec::new(),
    };
    out.sort_by(|a, b| a.0.cmp(&b.0));
    out
}

fn same(a: &[(String, Sample)], b: &[(String, Sample)]) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|((la, va), (lb, vb))| {
            la == lb
                && match (va, vb) {
                    (Sample::Float(a), Sample::Float(b)) => {
                        a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
                    }
                    (Sample::Histogram(a), Sample::Histogram(b)) => a.to_string() == b.to_string(),
                    _ => false,
                }
        })
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_range_query_is_a_row_of_instant_queries(query in vector(), start in -20_000i64..200_000, step in 1i64..45_000) {
        // Types may not fit; that is the parser's matter.
        let Ok(expr) = parse(&query, &Features::all()) else { return Ok(()) };
        // Where names go at the end, the first step of a series decides for all of its steps.
        let features = Features { delayed_name_removal: false, ..script_features() };
        let engine = Engine::new(EngineOptions { features, ..script_options() });
        let mut target = EngineTarget::new(engine, ModelDb::new);
        prop_assert!(run_script("data", DATA, &mut target).is_ok());
        let range = target.range(&query, &expr, start, start + 4 * step, step);
        for i in 0..5 {
            let t = start + i * step;
            let instant = target.instant(&query, &expr, t);
            if let (Ok(range), Ok(instant)) = (&range, &instant) {
                let (row, single) = (at(&range.value, t), at(&instant.value, t));
                prop_assert!(same(&row, &single), "{query} at {t} of start={start} step={step}:\n{row:?}\n{single:?}");
            }
            if range.is_ok() {
                prop_assert!(instant.is_ok(), "{query} at {t}: {instant:?}");
            }
        }
    }
}
