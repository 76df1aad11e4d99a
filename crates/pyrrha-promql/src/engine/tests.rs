use pyrrha_model::contract::Ingest;
use pyrrha_model::{Labels, TenantId};
use pyrrha_testkit::ModelDb;

use super::*;
use crate::parse;

mod observe;

/// `series` of that many label sets with a value per minute: `base(series) + minute·slope`.
type Given = (&'static str, &'static [(&'static str, &'static str)], fn(i64) -> f64);

fn store(series: &[Given]) -> ModelDb {
    let db = ModelDb::new();
    let mut batch = db.appender(&TenantId::anonymous()).expect("a model takes writes");
    for (name, labels, value) in series {
        let labels = Labels::from_pairs(labels.iter().copied().chain([("__name__", *name)]));
        let series = batch.resolve(None, &labels).expect("no limit");
        for minute in 0..=60 {
            batch.append(series, 0, minute * 60_000, value(minute)).expect("in order");
        }
    }
    batch.commit().expect("a model commits");
    db
}

fn example() -> ModelDb {
    store(&[
        ("requests_total", &[("job", "api"), ("instance", "0")], |m| m as f64 * 10.0),
        ("requests_total", &[("job", "api"), ("instance", "1")], |m| m as f64 * 20.0),
        ("requests_total", &[("job", "app"), ("instance", "0")], |m| (m % 10) as f64 * 6.0),
        ("limit", &[("job", "api")], |_| 100.0),
    ])
}

fn options(optimiser: Optimiser) -> EngineOptions {
    EngineOptions {
        features: Features { delayed_name_removal: false, ..Features::all() },
        optimiser,
        ..Default::default()
    }
}

fn text(value: &QueryValue) -> String {
    let sample = |s: &Sample| match s {
        Sample::Float(v) => v.to_string(),
        Sample::Histogram(h) => h.to_string(),
    };
    match value {
        QueryValue::Scalar { v, .. } => v.to_string(),
        QueryValue::String { text, .. } => text.clone(),
        QueryValue::Vector(samples) => samples
            .iter()
            .map(|s| format!("{} {}", s.labels, sample(&s.value)))
            .collect::<Vec<_>>()
            .join("; "),
        QueryValue::Matrix(series) => series
            .iter()
            .map(|s| {
                let points = s.floats.iter().map(|(t, v)| format!("{v}@{}", t / 1000)).collect::<Vec<_>>();
                format!("{} {}", s.labels, points.join(" "))
            })
            .collect::<Vec<_>>()
            .join("; "),
    }
}

fn instant(query: &str) -> Result<String, QueryError> {
    let expr = crate::parse(query, &Features::all()).expect("the query parses");
    let ctx = QueryContext::unlimited();
    let result = Engine::new(options(Optimiser::ON)).instant(&ctx, &example(), &expr, 600_000)?;
    assert_eq!(ctx.budget.used(), 0, "everything reserved is given back");
    Ok(text(&result.value))
}

#[test]
fn instant_queries() {
    for (query, expected) in [
        ("1 + 2 * 3", "7"),
        ("limit", "limit{job=\"api\"} 100"),
        ("sum by (job) (requests_total)", "{job=\"api\"} 300; {job=\"app\"} 0"),
        ("sum(rate(requests_total{job=\"api\"}[5m])) * 60", "{} 30"),
        ("increase(requests_total{job=\"app\"}[10m])", "{instance=\"0\", job=\"app\"} 53.333333333333336"),
        (
            "requests_total{instance=\"1\"} > on (job) group_left limit",
            "requests_total{instance=\"1\", job=\"api\"} 200",
        ),
        (
            "requests_total{instance=\"1\"} and on (job) limit",
            "requests_total{instance=\"1\", job=\"api\"} 200",
        ),
        (
            "limit or on (job) requests_total",
            "limit{job=\"api\"} 100; requests_total{instance=\"0\", job=\"app\"} 0",
        ),
        ("topk(1, requests_total)", "requests_total{instance=\"1\", job=\"api\"} 200"),
        ("count_values(\"v\", requests_total)", "{v=\"100\"} 1; {v=\"0\"} 1; {v=\"200\"} 1"),
        ("avg_over_time(limit[5m:1m])", "{job=\"api\"} 100"),
        ("absent(nothing{a=\"b\", c=~\"d\"})", "{a=\"b\"} 1"),
        ("scalar(limit) + time()", "700"),
        (
            "max_over_time(requests_total{instance=\"1\"}[3m] @ 300 offset 1m)",
            "{instance=\"1\", job=\"api\"} 80",
        ),
        ("quantile(0.5, requests_total)", "{} 100"),
        ("-limit", "{job=\"api\"} -100"),
        ("timestamp(limit offset 90s)", "{job=\"api\"} 480"),
        ("limit[2m]", "limit{job=\"api\"} 100@540 100@600"),
    ] {
        assert_eq!(instant(query).expect(query), expected, "{query}");
    }
}

#[test]
fn errors_have_the_texts_that_clients_know() {
    for (query, expected) in [
        (
            "limit + on (job) requests_total",
            "found duplicate series for the match group {job=\"api\"} on the right hand-side of the operation: [{__name__=\"requests_total\", instance=\"0\", job=\"api\"}, {__name__=\"requests_total\", instance=\"1\", job=\"api\"}];many-to-many matching not allowed: matching labels must be unique on one side",
        ),
        (
            "requests_total + on (job) limit",
            "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
        ),
        ("topk(NaN + 1, limit)", "Parameter value is NaN"),
    ] {
        match instant(query) {
            Err(error) => assert_eq!(error.to_string(), expected, "{query}"),
            Ok(value) => panic!("{query} gave {value}"),
        }
    }
}

#[test]
fn ranges_and_step_invariance() {
    let engine = |optimiser| Engine::new(options(optimiser));
    for query in [
        "sum(rate(requests_total[5m]))",
        "requests_total - on (job, instance) requests_total @ 600",
        "sum by (job) (requests_total @ end()) + 1 * 2",
        "max_over_time(sum(requests_total)[10m:2m])",
        "sum(requests_total) / (sum(requests_total) + sum(limit))",
        "sum(rate(limit[5m]))/sum(rate(limit[5m]))",
    ] {
        let expr = crate::parse(query, &Features::all()).expect("the query parses");
        let run = |optimiser| {
            let ctx = QueryContext::unlimited();
            let result =
                engine(optimiser).range(&ctx, &example(), &expr, 0, 1_800_000, 300_000).expect(query);
            text(&result.value)
        };
        assert_eq!(run(Optimiser::ON), run(Optimiser::OFF), "{query}");
        assert!(!run(Optimiser::ON).is_empty(), "{query}");
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let db = ModelDb::new();
    let mut batch = db.appender(&TenantId::anonymous()).expect("a model takes writes");
    for i in 0..2000 {
        let labels = Labels::from_pairs([
            ("__name__", "m".to_owned()),
            ("i", i.to_string()),
            ("g", (i % 7).to_string()),
        ]);
        let series = batch.resolve(None, &labels).expect("no limit");
        for minute in 0..20 {
            let value = 0.1 * f64::from(i) + f64::from(minute) / 3.0;
            batch.append(series, 0, i64::from(minute) * 60_000, value).expect("in order");
        }
    }
    batch.commit().expect("a model commits");
    for query in [
        "sum by (g) (m)",
        "avg(rate(m[5m]))",
        "stddev by (g) (m)",
        "quantile(0.3, m)",
        "m * 2",
        "topk(3, m)",
        "sum by (g) (rate(m{i=~\"1..\"}[5m]))",
        "m{i=~\"1[67]..\"} / on (i) m{i=~\"1[6-8].\"}",
        "max_over_time(rate(m[3m])[5m:1m])",
        "m + ignoring () m",
        "-m > 10 or m",
    ] {
        let expr = crate::parse(query, &Features::all()).expect("the query parses");
        let run = |threads, thread_worth| {
            let engine = Engine::new(EngineOptions { threads, thread_worth, ..options(Optimiser::ON) });
            let result =
                engine.range(&QueryContext::unlimited(), &db, &expr, 0, 1_200_000, 60_000).expect(query);
            result.value
        };
        let one = run(1, 0);
        // From the first series on, from the second batch on, and never.
        for thread_worth in [0, 100_000, usize::MAX] {
            assert_eq!(one, run(4, thread_worth), "{query}");
        }
    }
}

#[test]
fn limits_are_clean_errors() {
    let expr = crate::parse("requests_total", &Features::all()).expect("the query parses");
    let engine = Engine::new(EngineOptions { max_samples: 10, ..Default::default() });
    let error =
        engine.range(&QueryContext::unlimited(), &example(), &expr, 0, 600_000, 60_000).expect_err("over");
    assert_eq!(
        error.to_string(),
        "query processing would load too many samples into memory in query execution"
    );
    let budget = pyrrha_model::contract::MemoryBudget::new("query", 1000, None);
    let ctx = QueryContext::new(TenantId::anonymous(), budget, Default::default());
    let error = Engine::default().range(&ctx, &example(), &expr, 0, 600_000, 60_000).expect_err("over");
    assert!(error.to_string().starts_with("query memory budget exceeded"), "{error}");
    assert_eq!(ctx.budget.used(), 0);
    let ctx = QueryContext::unlimited();
    ctx.cancel.cancel(pyrrha_model::contract::CancelReason::TimedOut);
    let error = Engine::default().instant(&ctx, &example(), &expr, 0).expect_err("cancelled");
    assert_eq!(error.kind(), pyrrha_model::ErrorKind::Timeout);
}

#[test]
fn absence_does_not_mind_labels_that_become_equal() {
    let db = store(&[("a", &[("job", "api")], |m| m as f64), ("b", &[("job", "api")], |m| m as f64)]);
    let run = |query: &str| {
        let expr = crate::parse(query, &Features::all()).expect("the query parses");
        let ctx = QueryContext::unlimited();
        let result = Engine::new(options(Optimiser::ON)).instant(&ctx, &db, &expr, 600_000);
        result.map(|r| text(&r.value)).map_err(|e| e.to_string())
    };
    assert_eq!(run(r#"absent_over_time({__name__=~"a|b"}[5m])"#), Ok(String::new()));
    assert_eq!(
        run(r#"count_over_time({__name__=~"a|b"}[5m])"#),
        Err("vector cannot contain metrics with the same labelset".to_owned())
    );
}

#[test]
fn memory_grows_with_groups_and_not_with_series() {
    let db = ModelDb::new();
    let mut batch = db.appender(&TenantId::anonymous()).expect("a model takes writes");
    for i in 0..3000 {
        let labels = Labels::from_pairs([("__name__", "m".to_owned()), ("i", i.to_string())]);
        let series = batch.resolve(None, &labels).expect("no limit");
        for minute in 0..10 {
            batch.append(series, 0, minute * 60_000, minute as f64).expect("in order");
        }
    }
    batch.commit().expect("a model commits");
    let peak = |query: &str| {
        let expr = crate::parse(query, &Features::all()).expect("the query parses");
        let budget = pyrrha_model::contract::MemoryBudget::new("query", 1 << 30, None);
        let ctx = QueryContext::new(TenantId::anonymous(), budget, Default::default());
        let engine = Engine::new(options(Optimiser::ON));
        engine.range(&ctx, &db, &expr, 0, 600_000, 1_000).expect(query);
        assert_eq!(ctx.budget.used(), 0, "{query}");
        ctx.budget.peak()
    };
    let (series, groups, top) = (peak("rate(m[5m])"), peak("sum(rate(m[5m]))"), peak("topk(2, rate(m[5m]))"));
    assert!(groups * 20 < series, "{groups} against {series}");
    assert!(top * 20 < series, "{top} against {series}");
}

#[test]
fn a_plan_says_what_streams_and_what_is_shared() {
    let query = "sum by (a) (rate(m[5m])) / on (a) (sum by (a) (rate(m[5m])) + count(h @ 10) by (a))";
    let expr = crate::parse(query, &Features::all()).expect("the query parses");
    let plan = Engine::new(options(Optimiser::ON)).explain(&expr, 0, 0, 0);
    let text = plan.expect("a plan").to_string();
    let labels = "labels (__name__, __type__, __unit__, a)";
    let expected = [
        "operator / on (a) · holds its input".to_owned(),
        "  aggregate sum by (a) · shared #1".to_owned(),
        "    call rate".to_owned(),
        format!("      range {{__name__=\"m\"}}[5m] {labels}"),
        "  operator + ignoring () · holds its input".to_owned(),
        "    aggregate sum by (a) · shared #1".to_owned(),
        "      call rate".to_owned(),
        format!("        range {{__name__=\"m\"}}[5m] {labels}"),
        "    aggregate count by (a) · once".to_owned(),
        format!("      select {{__name__=\"h\"}} @ 10.000 {labels} · once"),
    ];
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn durations_without_a_value_make_a_query_invalid() {
    let (store, engine) = (example(), Engine::new(options(Optimiser::ON)));
    // The bytes of the expression, not line and column.
    for (query, refusal) in [
        ("limit[step()]", "6:12: duration must be greater than 0"),
        ("limit[range()]", "6:13: duration must be greater than 0"),
        ("limit[5m-10m]", "6:12: duration must be greater than 0"),
        ("limit[1m:step()]", "9:15: duration must be greater than 0"),
        ("limit[5m/(1-1)]", "6:13: division by zero"),
        ("limit[2^70]", "6:10: duration is out of range"),
    ] {
        let expr = parse(query, &Features::all()).expect("parses");
        let text = QueryOptions { text: query.to_owned(), ..QueryOptions::default() };
        let error = engine.instant_with(&QueryContext::unlimited(), &store, &expr, 0, &text);
        assert!(matches!(&error, Err(QueryError::Invalid(text)) if text == refusal), "{query}: {error:?}");
    }
    let expr = parse("limit offset (1/(1-1))", &Features::all()).expect("parses");
    let error = engine.range(&QueryContext::unlimited(), &store, &expr, 0, 60_000, 60_000);
    assert!(matches!(error, Err(QueryError::Invalid(_))), "{error:?}");
}

#[test]
fn names_that_one_side_gives_stay_without_delayed_removal_too() {
    let store = example();
    let run = |query: &str| {
        let engine = Engine::new(options(Optimiser::ON));
        let expr = parse(query, &Features::all()).expect("parses");
        text(&engine.instant(&QueryContext::unlimited(), &store, &expr, 60_000).expect("evaluates").value)
    };
    assert_eq!(
        run(r#"requests_total{job="api",instance="0"} * on (job) group_left (__name__) limit"#),
        r#"limit{instance="0", job="api"} 1000"#
    );
    assert_eq!(
        run(r#"requests_total{job="api",instance="0"} < bool on (job) group_left (__name__) limit"#),
        r#"{instance="0", job="api"} 1"#
    );
}

#[test]
fn what_is_deeper_than_a_tree_for_readers_is_left_out_of_an_explained_plan() {
    let expr =
        parse(&("vector(1)".to_owned() + &" + vector(1)".repeat(2000)), &Features::all()).expect("parses");
    let plan = Engine::new(options(Optimiser::ON)).explain(&expr, 0, 0, 0);
    let (mut node, mut levels) = (&plan.expect("a plan"), 0);
    while let Some(child) = node.children.first() {
        (node, levels) = (child, levels + 1);
    }
    assert_eq!((levels, node.operator.as_str()), (512, "left out"));
}
