//! Clients that leave, operators that cancel, and queries that wait in turn.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use pyrrha_env::{Clock, SystemClock};
use serde_json::Value;

use crate::http::{self, encode};
use crate::memory::fill;
use crate::process::{Server, directory, now_ms};

/// Longest time between a cancellation and the end of the query. The flag is looked at every few
/// milliseconds; the rest is for a machine that does other things too.
const LATENCY_MAX: Duration = Duration::from_millis(400);

fn active(server: &Server) -> Vec<Value> {
    server.get("/api/v1/status/active_queries").json()["data"].as_array().cloned().unwrap()
}

/// Waits until a thread evaluates a query (true) or none does (false); how long it took.
fn wait_for(server: &Server, running: bool) -> Duration {
    let clock = SystemClock::new();
    while server.get("/metrics").text().contains("pyrrha_query_running 0") == running {
        assert!(clock.monotonic() < Duration::from_secs(20), "running={running} does not come");
        clock.sleep(Duration::from_millis(1));
    }
    clock.monotonic()
}

/// Queries that would take long, each in its own way.
fn heavy() -> Vec<String> {
    let now = now_ms() as f64 / 1000.0;
    let all = "{__name__=~\".+\"}";
    let range = |query: String, steps: f64| {
        format!("/api/v1/query_range?query={}&start={}&end={now}&step=1", encode(&query), now - steps)
    };
    let instant = |query: String| format!("/api/v1/query?query={}&time={now}", encode(&query));
    vec![
        range(format!("sum by (instance) (quantile_over_time(0.3, {all}[5m]))"), 10_000.0),
        range(format!("sum by (instance) (rate({all}[5m]))"), 10_000.0),
        range(format!("topk(2, {all} * 3)"), 10_000.0),
        range(format!("count({all} > on (path) {all})"), 300.0),
        // One series, many samples.
        range("sum_over_time(vector(0.1)[4000s:1ms])".into(), 10_000.0),
        range("quantile_over_time(0.5, vector(time())[1000s:1ms])".into(), 10_000.0),
        range("deriv(vector(time())[4000s:1ms])".into(), 10_000.0),
        instant(format!(
            "label_replace({all}, \"a\", \"$1\", \"path\", \"(.*)\") or label_join({all}, \"b\", \"-\", \"path\")"
        )),
        instant(format!("sort_by_label({all}, \"path\")")),
        instant(format!("{all}[7d]")),
    ]
}

#[test]
fn a_query_ends_soon_after_its_client_left_or_somebody_cancelled_it() {
    let (_guard, dir) = directory();
    let server =
        Server::start(&dir, &["--self-scrape=false", "--enable-feature=promql-experimental-functions"]);
    fill(&server, 50_000, 8);
    let clock = SystemClock::new();
    let mut stopped = 0;
    for (i, path) in heavy().into_iter().enumerate() {
        let mut client = TcpStream::connect(&server.address).unwrap();
        write!(client, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        wait_for(&server, true);
        clock.sleep(Duration::from_millis(150));
        let Some(query) = active(&server).into_iter().find(|q| q["state"] == "running") else {
            println!("{path:.100}: over before it could be cancelled");
            continue;
        };
        if i % 2 == 0 {
            drop(client);
        } else {
            let cancel = format!("/api/v1/status/active_queries/{}", query["id"]);
            assert_eq!(http::request(&server.address, "DELETE", &cancel, &[], b"").unwrap().status, 204);
        }
        let took = wait_for(&server, false);
        println!("{path:.100}: ended {took:?} after it was asked to");
        assert!(took < LATENCY_MAX, "{took:?}: {path}");
        stopped += 1;
    }
    assert!(stopped > 4, "only {stopped} queries ran long enough");
    let metrics = server.get("/metrics").text();
    assert!(metrics.contains("pyrrha_query_memory_bytes 0"), "nothing stays charged");
    assert!(metrics.contains("pyrrha_query_running 0"));
}
