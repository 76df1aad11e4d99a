//! What a query tells about itself: counts as Prometheus has them, times, operators, the dearest selector.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pyrrha_model::contract::MemoryBudget;

use super::*;
use crate::observe::{PerStep, Stopwatch};

/// Two series with a sample each minute from 0 to 10.
fn store() -> ModelDb {
    let db = ModelDb::new();
    let mut batch = db.appender(&TenantId::anonymous()).expect("a model takes writes");
    for i in ["a", "b"] {
        let labels = Labels::from_pairs([("__name__", "m"), ("i", i)]);
        let series = batch.resolve(None, &labels).expect("no limit");
        for minute in 0..=10 {
            batch.append(series, 0, minute * 60_000, minute as f64).expect("in order");
        }
    }
    batch.commit().expect("a model commits");
    db
}

/// A stopwatch that goes on by a microsecond whenever it is looked at.
fn ticking() -> Stopwatch {
    let ticks = AtomicU64::new(0);
    Stopwatch::new(move || Duration::from_micros(ticks.fetch_add(1, Ordering::Relaxed)))
}

fn watched(query: &str, explain: bool) -> QueryResult {
    let expr = crate::parse(query, &Features::all()).expect("the query parses");
    let options = QueryOptions {
        text: query.to_owned(),
        stopwatch: Some(ticking()),
        per_step: true,
        explain,
        ..QueryOptions::default()
    };
    let engine = Engine::new(options_of(Optimiser::ON));
    engine
        .range_with(&QueryContext::unlimited(), &store(), &expr, 120_000, 480_000, 120_000, &options)
        .expect(query)
}

fn options_of(optimiser: Optimiser) -> EngineOptions {
    super::options(optimiser)
}

#[test]
fn samples_are_counted_as_prometheus_counts_them() {
    for (query, total, read) in [
        ("m", [2, 2, 2, 2], [6, 4, 4, 4]),
        ("sum(m) + sum(m)", [4, 4, 4, 4], [6, 4, 4, 4]),
        ("sum_over_time(m[3m])", [6, 6, 6, 6], [6, 4, 4, 4]),
        // Windows of a subquery count, what is below does not.
        ("max_over_time(m[4m:2m])", [4, 4, 4, 4], [6, 4, 4, 4]),
        ("m @ 240", [2, 2, 2, 2], [6, 4, 0, 0]),
        ("m offset 2m", [2, 2, 2, 2], [2, 4, 4, 4]),
        ("vector(1)", [0, 0, 0, 0], [0, 0, 0, 0]),
        ("scalar(m{i=\"a\"} @ 240) * m", [3, 3, 3, 3], [9, 6, 4, 4]),
    ] {
        let result = watched(query, false);
        let per_step = result.per_step.expect("asked for");
        let expected = PerStep {
            times: vec![120_000, 240_000, 360_000, 480_000],
            total: total.to_vec(),
            read: read.to_vec(),
        };
        assert_eq!(per_step, expected, "{query}");
        assert_eq!(result.stats.total_samples, total.iter().sum::<u64>(), "{query}");
        assert_eq!(result.stats.samples_read, read.iter().sum::<u64>(), "{query}");
        assert!(result.explain.is_none());
    }
}

#[test]
fn operators_tell_what_they_did() {
    let result = watched("sum by (i) (rate(m[3m])) + on (i) group_left topk(1, -m)", true);
    let plan = result.explain.expect("asked for");
    let stats = |node: &ExplainNode| node.stats.map(|s| (s.series, s.samples));
    assert_eq!((plan.operator.as_str(), stats(&plan)), ("operator +", Some((1, 4))));
    let [sum, top] = plan.children.as_slice() else { panic!("{plan}") };
    assert_eq!(stats(sum), Some((2, 8)));
    let rate = &sum.children[0];
    assert_eq!((rate.operator.as_str(), stats(rate)), ("call rate", Some((2, 8))));
    assert_eq!(stats(&rate.children[0]), Some((2, 18)), "read: {plan}");
    assert_eq!(stats(top), Some((1, 4)));
    let negate = &top.children[1];
    assert_eq!((negate.operator.as_str(), stats(negate)), ("negate", Some((2, 8))));
    let time = |node: &ExplainNode| node.stats.map(|s| s.time).unwrap_or_default();
    assert!(
        time(&plan) > time(sum) && time(sum) > time(rate) && time(rate) > time(&rate.children[0]),
        "{plan}"
    );
    let text = plan.to_string();
    assert!(text.contains("call rate · series=2 samples=8 bytes="), "{text}");
    let times = result.times;
    assert!(times.evaluation >= time(&plan) && !times.preparation.is_zero() && !times.sorting.is_zero());
}

#[test]
fn an_exceeded_budget_names_the_dearest_selector() {
    let query = "sum(m{i=\"a\"}) + sum_over_time(m[10m])";
    let expr = crate::parse(query, &Features::all()).expect("the query parses");
    let run = |limit| {
        let budget = MemoryBudget::new("query", limit, None);
        let ctx = QueryContext::new(TenantId::anonymous(), budget, Default::default());
        let result = Engine::default().range(&ctx, &store(), &expr, 120_000, 480_000, 1000);
        (result, ctx)
    };
    // The smallest budget that is enough, to within a little.
    let enough = (10..).map(|i| 1 << i).find(|limit| run(*limit).0.is_ok()).expect("finite");
    let (result, ctx) = run(enough / 2);
    let error = result.expect_err("too little");
    assert_eq!(error.kind(), pyrrha_model::ErrorKind::Limit);
    let text = error.to_string();
    assert!(
        text.starts_with(&format!("query memory budget exceeded: limit={} bytes, in use=", enough / 2)),
        "{text}"
    );
    assert!(text.contains("; dearest selector: {__name__=\"m\""), "{text}");
    assert_eq!(ctx.budget.used(), 0);
}
