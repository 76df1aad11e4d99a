//! Queries of death: more data than the budget, in a process whose memory is watched.
//!
//! Environment: `PYRRHA_DEATH_SERIES` (100,000), `PYRRHA_DEATH_SAMPLES` per series (8),
//! `PYRRHA_DEATH_BUDGET_MIB` (48). At full size: 100,000, 200 and 256.

use crate::http::encode;
use crate::process::{Server, directory, now_ms};
use crate::remote_write::{body, series};

/// What a query may take beyond its budget: code, sockets, what the allocator keeps.
const SLACK: u64 = 64 << 20;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// Writes `count` series with `samples` samples each, 15 s apart, the last one now.
pub(crate) fn fill(server: &Server, count: u64, samples: u64) {
    let end = now_ms();
    for from in (0..count).step_by(5000) {
        let all = (from..count.min(from + 5000)).map(|i| {
            let (name, host, path) =
                (format!("metric_{}", i % 500), format!("host-{}", i / 500), format!("/api/v1/{i}"));
            let labels = [
                ("__name__", name.as_str()),
                ("instance", host.as_str()),
                ("job", "node"),
                ("path", path.as_str()),
                ("region", "europe-west-1"),
            ];
            let values: Vec<_> = (0..samples as i64)
                .map(|s| (end - (samples as i64 - 1 - s) * 15_000, (i as i64 * 7 + s) as f64))
                .collect();
            series(&labels, &values)
        });
        assert_eq!(server.write("anonymous", &body(all.collect())).unwrap().status, 204);
    }
}

#[test]
fn queries_of_death_end_within_their_budget() {
    let (count, samples) = (setting("PYRRHA_DEATH_SERIES", 100_000), setting("PYRRHA_DEATH_SAMPLES", 8));
    let budget = setting("PYRRHA_DEATH_BUDGET_MIB", 48) << 20;
    let (_guard, dir) = directory();
    let limit = format!("--query.memory-budget={budget}");
    let server = Server::start(&dir, &["--self-scrape=false", &limit]);
    fill(&server, count, samples);
    let now = now_ms() as f64 / 1000.0;
    let all = "{__name__=~\".+\"}";
    let instant = |query: String| format!("/api/v1/query?query={}&time={now}", encode(&query));
    let range = |query: String| {
        format!("/api/v1/query_range?query={}&start={}&end={now}&step=1", encode(&query), now - 2000.0)
    };
    let mut refused = 0;
    for (path, selector) in [
        (instant(format!("{all}[7d]")), "{__name__=~\".+\"}[1w]"),
        (instant(format!("last_over_time({all}[7d])[1d:1s]")), "{__name__=~\".+\"}[1w]"),
        (
            instant(format!(
                "count_values(\"v\", {all}) or label_replace({all}, \"a\", \"$1\", \"path\", \"(.*)\")"
            )),
            "{__name__=~\".+\"}",
        ),
        (range(all.to_owned()), "{__name__=~\".+\"}"),
        (range(format!("sum by (path) (rate({all}[1m]))")), "{__name__=~\".+\"}[1m]"),
        (range(format!("{all} + on (path) {all}")), "{__name__=~\".+\"}"),
    ] {
        let before = server.memory("VmRSS");
        server.forget_high_water();
        let answer = server.get(&path);
        let grown = server.memory("VmHWM").saturating_sub(before);
        println!(
            "{path:.120}: {} grew {} MiB, budget {} MiB: {:.250}",
            answer.status,
            grown >> 20,
            budget >> 20,
            answer.text()
        );
        assert!(grown <= budget + SLACK, "{grown} bytes more for {path}");
        if answer.status == 200 {
            // It fits, at another size than the usual one.
            continue;
        }
        refused += 1;
        assert_eq!(answer.status, 422, "{:.500}", answer.text());
        let error = answer.json()["error"].as_str().unwrap_or("").to_owned();
        assert!(
            error.starts_with(&format!("query memory budget exceeded: limit={budget} bytes, in use=")),
            "{error}"
        );
        assert!(error.contains(&format!("; dearest selector: {selector}")), "{error}");
    }
    assert!(refused >= 4, "only {refused} queries were too large");
    // Nor do lists of series go beyond it.
    let before = server.memory("VmRSS");
    server.forget_high_water();
    let path = format!("/api/v1/series?match[]={}", encode(all));
    let answer = server.get(&path);
    let grown = server.memory("VmHWM").saturating_sub(before);
    println!("series: {} grew {} MiB, {:.120}", answer.status, grown >> 20, answer.text());
    assert!(grown <= budget + SLACK, "{grown} bytes more for {path}");
    assert!([200, 422].contains(&answer.status), "{:.300}", answer.text());
    // And nothing stays charged.
    assert!(server.get("/metrics").text().contains("pyrrha_query_memory_bytes 0"));
}
