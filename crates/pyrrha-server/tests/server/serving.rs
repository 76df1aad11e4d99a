//! Clients that leave, operators that cancel, and queries that wait in turn.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use pyrrha_env::{Clock, SystemClock};
use serde_json::Value;

use crate::http::{self, encode};
use crate::memory::fill;
use crate::process::{Server, directory, now_ms, pyrrha};

/// Most processor time that the server may spend between a cancellation and the end of the query, by core. The flag
/// is looked at every few milliseconds; the rest is for freeing what the query held, in a build without
/// optimisation. Unlike the time that passes it does not depend on what else the machine does.
const CPU_MAX: f64 = 1.0;

fn active(server: &Server) -> Vec<Value> {
    server.get("/api/v1/status/active_queries").json()["data"].as_array().cloned().unwrap()
}

/// The value of a metric without labels.
fn metric(server: &Server, name: &str) -> f64 {
    let text = server.get("/metrics").text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is not there")).parse().unwrap()
}

/// Waits until `done`, without keeping the server busy.
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let clock = SystemClock::new();
    while !done() {
        assert!(clock.monotonic() < Duration::from_secs(60), "{what}");
        clock.sleep(Duration::from_millis(20));
    }
}

/// Queries that are over.
fn over(server: &Server) -> f64 {
    metric(server, "pyrrha_query_evaluated_total") + metric(server, "pyrrha_query_failures_total")
}

/// The running query, once there is one; none if all that were asked are over.
fn running(server: &Server, over_before: f64) -> Option<Value> {
    let mut found = None;
    wait_until("a query is neither listed nor over", || {
        found = active(server).into_iter().find(|q| q["state"] == "running");
        found.is_some() || over(server) > over_before
    });
    found
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
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    let mut stopped = 0;
    for (i, path) in heavy().into_iter().enumerate() {
        let before = over(&server);
        let mut client = TcpStream::connect(&server.address).unwrap();
        write!(client, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        if running(&server, before).is_some() {
            // Into the midst of it.
            SystemClock::new().sleep(Duration::from_millis(150));
        }
        let Some(query) = active(&server).into_iter().find(|q| q["state"] == "running") else {
            println!("{path:.100}: over before it could be cancelled");
            continue;
        };
        let spent = metric(&server, "process_cpu_seconds_total");
        if i % 2 == 0 {
            drop(client);
        } else {
            let cancel = format!("/api/v1/status/active_queries/{}", query["id"]);
            let code = http::request(&server.address, "DELETE", &cancel, &[], b"").unwrap().status;
            // It may have ended by itself meanwhile.
            assert!(code == 204 || code == 404, "{code}");
        }
        wait_until("the query does not end", || metric(&server, "pyrrha_query_running") == 0.0);
        let spent = metric(&server, "process_cpu_seconds_total") - spent;
        println!("{path:.100}: ended after {spent:.2} s of processor time");
        assert!(spent < CPU_MAX * cores, "{spent}: {path}");
        stopped += 1;
    }
    // Some run for longer than that on any machine.
    assert!(stopped > 0, "no query ran long enough");
    // The answer of the last query is dropped a moment after its thread is free.
    wait_until("memory stays charged", || metric(&server, "pyrrha_query_memory_bytes") == 0.0);
}

#[test]
fn the_command_line_asks_a_running_server() {
    let (_guard, dir) = directory();
    let log = dir.with_extension("queries.log");
    let logged = format!("--query.log-file={}", log.display());
    let server = Server::start(&dir, &["--self-scrape=false", &logged]);
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
    let (good, out, _) = ask(&["range", "--start", "-2", "--end", "-1", "--step", "1", "vector(1)"]);
    assert_eq!((good, out.as_str()), (true, "{} =>\n1 @[-2]\n1 @[-1]\n"));
    let (good, _, errors) = ask(&["range", "--start", "soon", "vector(1)"]);
    assert!(!good && errors.contains("--start: cannot parse \"soon\""), "{errors}");
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
    let (good, out, _) = ask(&["instant", "--time", "-5", "1"]);
    assert_eq!((good, out.as_str()), (true, "scalar: 1 @[-5]\n"));
    let (good, _, errors) = ask(&["range", "--step", "-5", "1"]);
    assert!(!good && errors.contains("zero or negative"), "{errors}");
    let chain = vec!["vector(1)"; 1500].join(" + ");
    let (good, out, errors) = ask(&["instant", "--time=0", &chain]);
    assert_eq!((good, out.as_str()), (true, "{} => 1500 @[0]\n"), "{errors}");
    let (good, out, _) =
        ask(&["instant", "--output=json", r#"label_replace(vector(1), "x", "\xff", "", "")"#]);
    assert!(good && out.contains("\"x\": \"\u{FFFD}\""), "{out}");
    let (good, _, errors) = ask(&["instant", "up[step()]"]);
    assert!(
        !good && errors.contains("bad_data: invalid parameter \"query\": 3:9: duration must"),
        "{errors}"
    );
    let (good, _, errors) = ask(&["instant", "sum("]);
    assert!(!good && errors.contains("bad_data: invalid parameter \"query\": 1:5: parse error"), "{errors}");
    let (good, _, errors) = ask(&["instant", "--tenant=../x", "1"]);
    assert!(!good && !errors.is_empty());
    let lines = std::fs::read_to_string(&log).unwrap();
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    let asked = serde_json::json!({"clientIP": "127.0.0.1", "method": "POST", "path": "/api/v1/query"});
    assert_eq!(first["httpRequest"], asked);
}
