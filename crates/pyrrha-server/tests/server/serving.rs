//! Clients that leave, operators that cancel, and queries that wait in turn.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use pyrrha_env::{Clock, SystemClock};
use serde_json::Value;

use crate::http::{self, encode};
use crate::memory::fill;
use crate::process::{Server, directory, now_ms, pyrrha};

/// Longest time between a cancellation and the end of the query. The flag is looked at every few
/// milliseconds; the rest is for a machine that does many other things.
const LATENCY_MAX: Duration = Duration::from_secs(5);

fn active(server: &Server) -> Vec<Value> {
    server.get("/api/v1/status/active_queries").json()["data"].as_array().cloned().unwrap()
}

/// Waits until a thread evaluates a query (true) or none does (false); how long it took.
fn wait_for(server: &Server, running: bool) -> Duration {
    wait_for_gauge(server, "pyrrha_query_running", !running)
}

/// Waits until a gauge is zero (true) or is not (false); how long it took.
fn wait_for_gauge(server: &Server, gauge: &str, zero: bool) -> Duration {
    let clock = SystemClock::new();
    let line = format!("{gauge} 0.0\n");
    while server.get("/metrics").text().contains(&line) != zero {
        assert!(clock.monotonic() < Duration::from_secs(20), "zero={zero} does not come: {gauge}");
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
        range("sum_over_time(vector(0.1)[400s:1ms])".into(), 10_000.0),
        range("quantile_over_time(0.5, vector(time())[100s:1ms])".into(), 10_000.0),
        range("deriv(vector(time())[400s:1ms])".into(), 10_000.0),
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
    // The answer of the last query is dropped a moment after its thread is free.
    let charged = wait_for_gauge(&server, "pyrrha_query_memory_bytes", true);
    assert!(charged < LATENCY_MAX, "{charged:?}");
    assert!(server.get("/metrics").text().contains("pyrrha_query_running 0.0\n"));
}

#[test]
fn the_command_line_asks_a_running_server() {
    let (_guard, dir) = directory();
    let server = Server::start(&dir, &["--self-scrape=false"]);
    fill(&server, 600, 8);
    let url = format!("http://{}", server.address);
    let ask = |args: &[&str]| {
        let output = pyrrha(&[&["query"], args, &["--url", &url]].concat()).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.success(), text(output.stdout), text(output.stderr))
    };
    let (good, out, _) = ask(&["instant", "--time=60", "1 + 1"]);
    assert_eq!((good, out.as_str()), (true, "scalar: 2 @[60]\n"));
    let (good, out, _) = ask(&["instant", "count({instance=~\".+\"})"]);
    assert!(good && out.starts_with("{} => 600 @["), "{out}");
    let (good, out, _) = ask(&["range", "--start=0", "--end=2", "--step=1", "vector(1)"]);
    assert_eq!((good, out.as_str()), (true, "{} =>\n1 @[0]\n1 @[1]\n1 @[2]\n"));
    let (good, out, _) = ask(&["range", "--output=json", "vector(1)"]);
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((good, &json["resultType"]), (true, &"matrix".into()));
    let (good, out, errors) = ask(&["explain", "--step=10", "sum by (instance) (rate({job=\"node\"}[5m]))"]);
    assert!(good && errors.lines().all(|l| l.starts_with("info: ")), "{errors}");
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].starts_with("aggregate sum by (instance) · series=2 samples="), "{out}");
    assert!(lines[1].starts_with("  call rate · series=600 "), "{out}");
    assert!(
        lines[2].starts_with("    range {job=\"node\"}[5m]") && lines[2].contains("series=600 samples=4800 "),
        "{out}"
    );
    let (good, _, errors) = ask(&["instant", "sum("]);
    assert!(!good && errors.contains("bad_data: invalid parameter \"query\": 1:5: parse error"), "{errors}");
    let (good, _, errors) = ask(&["instant", "--tenant=../x", "1"]);
    assert!(!good && !errors.is_empty());
}
