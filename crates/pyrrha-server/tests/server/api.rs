//! The way from remote write to an answer, and tenants beside each other.

use serde_json::json;

use crate::http::{self, encode};
use crate::process::{Server, directory, now_ms};
use crate::remote_write::{body, series};

/// `n` samples, 15 s apart, the last one now.
fn ramp(n: i64) -> Vec<(i64, f64)> {
    let end = now_ms() / 15_000 * 15_000;
    (0..n).map(|i| (end - (n - 1 - i) * 15_000, i as f64)).collect()
}

#[test]
fn written_samples_are_answered_by_promql() {
    let (_guard, dir) = directory();
    let server = Server::start(&dir, &["--self-scrape=false"]);
    let samples = ramp(41);
    let end = samples[40].0;
    let labels = |instance| [("__name__", "requests_total"), ("instance", instance), ("job", "api")];
    let request = body(vec![series(&labels("a"), &samples), series(&labels("b"), &samples)]);
    assert_eq!(server.write("anonymous", &request).unwrap().status, 204);

    let t = end as f64 / 1000.0;
    assert_eq!(
        server.query("anonymous", "sum by (job) (requests_total)", t),
        json!([{"metric": {"job": "api"}, "value": [end / 1000, "80"]}])
    );
    let rate = server.query("anonymous", "sum by (job) (rate(requests_total[5m]))", t);
    let value: f64 = rate[0]["value"][1].as_str().unwrap().parse().unwrap();
    assert!((value - 2.0 / 15.0).abs() < 1e-9, "{rate}");

    let query = encode("requests_total{instance=\"a\"}");
    let form = format!("query={query}&start={}&end={t}&step=15", t - 60.0);
    let headers = [("Content-Type", "application/x-www-form-urlencoded"), ("Accept-Encoding", "identity")];
    let answer =
        http::request(&server.address, "POST", "/api/v1/query_range", &headers, form.as_bytes()).unwrap();
    let values: Vec<_> = (0..5).map(|i| json!([end / 1000 - 60 + i * 15, (36 + i).to_string()])).collect();
    assert_eq!(
        answer.json()["data"],
        json!({"resultType": "matrix", "result": [{
            "metric": {"__name__": "requests_total", "instance": "a", "job": "api"}, "values": values}]})
    );
    let raw = server.query("anonymous", "requests_total{instance=\"a\"}[1m]", t);
    assert_eq!(raw[0]["values"].as_array().unwrap().len(), 4, "left-open: {raw}");
    let limited =
        server.get(&format!("/api/v1/query?query=requests_total&time={t}&limit=1&stats=all")).json();
    assert_eq!(limited["data"]["result"].as_array().unwrap().len(), 1);
    assert_eq!(limited["warnings"], json!(["results truncated due to limit"]));
    assert!(limited["data"]["stats"]["samples"]["totalQueryableSamples"].as_u64().unwrap() >= 2);
    let tsdb = server.get("/api/v1/status/tsdb").json();
    let head = &tsdb["data"]["headStats"];
    assert_eq!((&head["numSeries"], &head["chunkCount"]), (&json!(2), &json!(2)), "{tsdb}");
    assert_eq!(tsdb["data"]["seriesCountByMetricName"], json!([{"name": "requests_total", "value": 2}]));
    assert_eq!(server.get("/api/v1/status/tsdb/blocks").json()["data"], json!({"blocks": []}));
}

#[test]
fn special_values_survive() {
    let (_guard, dir) = directory();
    let server = Server::start(&dir, &["--self-scrape=false"]);
    let now = now_ms();
    let values = [f64::INFINITY, f64::NEG_INFINITY, f64::NAN, -1e-7, 5e-324, f64::MAX];
    let samples: Vec<_> = (0..6).map(|i| (now - 6000 + i * 1000, values[i as usize])).collect();
    let request = body(vec![series(&[("__name__", "special")], &samples)]);
    assert_eq!(server.write("anonymous", &request).unwrap().status, 204);
    let raw = server.query("anonymous", "special[1m]", now as f64 / 1000.0);
    let texts: Vec<_> = raw[0]["values"].as_array().unwrap().iter().map(|v| v[1].clone()).collect();
    assert_eq!(texts, ["+Inf", "-Inf", "NaN", "-1e-07", "5e-324", "1.7976931348623157e+308"]);
    // A stale marker ends the series at once.
    let stale = f64::from_bits(0x7ff0_0000_0000_0002);
    let request = body(vec![series(&[("__name__", "special")], &[(now, stale)])]);
    assert_eq!(server.write("anonymous", &request).unwrap().status, 204);
    assert_eq!(server.query("anonymous", "special", now as f64 / 1000.0), json!([]));
}

#[test]
fn tenants_do_not_see_each_other() {
    let (_guard, dir) = directory();
    let server = Server::start(&dir, &["--self-scrape=false"]);
    let now = now_ms();
    for (tenant, value) in [("team-a", 1.0), ("team-b", 2.0)] {
        // The same series, and a label that only looks like a tenant.
        let labels = [("__name__", "m"), ("tenant_id", "x")];
        let request = body(vec![series(&labels, &[(now, value)])]);
        assert_eq!(server.write(tenant, &request).unwrap().status, 204);
    }
    let t = now as f64 / 1000.0;
    for (tenant, value) in [("team-a", "1"), ("team-b", "2")] {
        let result = server.query(tenant, "m", t);
        assert_eq!(result.as_array().unwrap().len(), 1);
        assert_eq!(result[0]["value"][1], value, "{tenant}");
    }
    assert_eq!(server.query("anonymous", "m", t), json!([]));
    assert_eq!(server.get("/api/v1/labels").json()["data"], json!([]));
    assert_eq!(server.get_as("../team-a", "/api/v1/labels").status, 400);
    server.kill();
    let again = Server::start(&dir, &["--self-scrape=false"]);
    assert_eq!(again.query("team-a", "m", t)[0]["value"][1], "1");
    assert_eq!(again.query("team-b", "m", t)[0]["value"][1], "2");
}

#[test]
fn the_dashboard_asks_for_metrics_that_exist() {
    let (_guard, dir) = directory();
    let server = Server::start(&dir, &["--self-scrape=false"]);
    let metrics = server.get("/metrics").text();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/grafana/dashboards/pyrrha.json");
    let dashboard: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut names = std::collections::BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let expr = target["expr"].as_str().unwrap();
            let words = expr.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let ours = |w: &&str| w.starts_with("pyrrha_") || w.starts_with("process_");
            names.extend(words.filter(ours).map(str::to_owned));
        }
    }
    assert!(names.len() > 8, "{names:?}");
    for name in names {
        // In the older text format a counter's family has the name of its sample.
        let family = name.trim_end_matches("_bucket");
        let openmetrics = family.trim_end_matches("_total");
        let is_there = |family: &str| metrics.contains(&format!("# TYPE {family} "));
        assert!(is_there(family) || is_there(openmetrics), "{name}");
    }
}

#[test]
fn urls_may_have_raw_characters_as_examples_have_them() {
    let (_guard, dir) = directory();
    let server = Server::start(&dir, &["--self-scrape=false", "--web.enable-admin-api"]);
    let samples = ramp(3);
    let labels = |instance| [("__name__", "up"), ("instance", instance), ("job", "<ä>#1")];
    let request = body(vec![series(&labels("a"), &samples), series(&labels("b"), &samples)]);
    assert_eq!(server.write("anonymous", &request).unwrap().status, 204);
    let t = samples[2].0 / 1000;
    let found = |matchers: &str| {
        let answer = server.get(&format!("/api/v1/query?time={t}&query=up{matchers}")).json();
        answer["data"]["result"].as_array().map(Vec::len)
    };
    assert_eq!(found(r#"{instance="a",job="<ä>#1"}"#), Some(1));
    assert_eq!(found(r##"{instance=~"a|b|`\\^",job!="#"}"##), Some(2));
    let deleted = "/api/v1/admin/tsdb/delete_series?match[]=none&match[]=up{instance=\"a\"}";
    assert_eq!(http::request(&server.address, "POST", deleted, &[], b"").unwrap().status, 204);
    assert_eq!((found(r#"{instance="a"}"#), found("")), (Some(0), Some(1)));
}
