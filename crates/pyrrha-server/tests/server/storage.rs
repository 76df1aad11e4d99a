//! How the store looks after itself, seen from outside: snapshots, blocks, retention, metrics.

use serde_json::json;

use crate::http;
use crate::process::{Server, directory, now_ms};
use crate::remote_write::{body, series};

#[test]
fn a_snapshot_is_served_by_another_server() {
    let (guard, dir) = directory();
    let server = Server::start(&dir, &["--self-scrape=false", "--web.enable-admin-api"]);
    let now = now_ms();
    let samples: Vec<(i64, f64)> = (0..240).map(|i| (now - (239 - i) * 60_000, i as f64)).collect();
    let request = body(vec![series(&[("__name__", "m"), ("i", "1")], &samples)]);
    assert_eq!(server.write("a", &request).unwrap().status, 204);
    let answer = http::request(&server.address, "POST", "/api/v1/admin/tsdb/snapshot", &[], b"").unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let name = answer.json()["data"]["name"].as_str().unwrap().to_owned();
    drop(server);
    let copy = Server::start(&dir.join("snapshots").join(name), &["--self-scrape=false"]);
    let seconds = now as f64 / 1000.0;
    let count = copy.query("a", "count_over_time(m[5h])", seconds);
    assert_eq!(count[0]["value"][1], "240", "{count}");
    let blocks = copy.get_as("a", "/api/v1/status/tsdb/blocks").json();
    let blocks = blocks["data"]["blocks"].as_array().unwrap().clone();
    assert!((2..=3).contains(&blocks.len()), "{blocks:?}");
    assert_eq!(blocks[0]["minTime"], json!(samples[0].0));
    assert_eq!(blocks[0]["compaction"]["level"], 1);
    let refused = http::request(&copy.address, "POST", "/api/v1/admin/tsdb/snapshot", &[], b"").unwrap();
    assert_eq!(refused.status, 500, "off unless asked for");
    assert_eq!(refused.json()["error"], "admin APIs disabled");
    let metrics = copy.get("/metrics").text();
    for line in
        ["pyrrha_blocks ", "pyrrha_disk_full 0", "pyrrha_compactions_total 0", "pyrrha_blocks_damaged 0"]
    {
        assert!(metrics.contains(line), "{line}");
    }
    drop(guard);
}

#[test]
fn samples_past_retention_are_hidden_at_once_and_only_from_their_tenant() {
    let (guard, dir) = directory();
    let file = guard.path().join("pyrrha.yml");
    std::fs::write(&file, "storage: {tsdb: {retention: {time: 1h}}}\nlimits: {keeps: {retention: 10d}}\n")
        .unwrap();
    let config = format!("--config.file={}", file.display());
    let server = Server::start(&dir, &["--self-scrape=false", &config]);
    let now = now_ms();
    let samples = [(now - 7_200_000, 1.0), (now - 1_800_000, 2.0)];
    let request = body(vec![series(&[("__name__", "m")], &samples)]);
    for (tenant, count) in [("keeps", "2"), ("other", "1")] {
        assert_eq!(server.write(tenant, &request).unwrap().status, 204);
        let found = server.query(tenant, "count_over_time(m[3h])", now as f64 / 1000.0);
        assert_eq!(found[0]["value"][1], count, "{tenant}: {found}");
    }
    assert_eq!(server.get("/api/v1/status/runtimeinfo").json()["data"]["storageRetention"], "1h");
}

#[test]
fn a_running_server_is_exported_as_its_directory_is() {
    let (guard, dir) = directory();
    let server = Server::start(&dir, &["--self-scrape=false"]);
    let now = now_ms();
    let samples: Vec<(i64, f64)> = (0..240).map(|i| (now - (239 - i) * 60_000, i as f64 / 8.0)).collect();
    let request = body(vec![
        series(&[("__name__", "m"), ("i", "a\"b")], &samples),
        series(&[("__name__", "m"), ("i", "a\"b"), ("more", "1")], &samples[..3]),
        series(&[("__name__", "n")], &samples[7..9]),
    ]);
    assert_eq!(server.write("team", &request).unwrap().status, 204);
    let export = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_pyrrha"))
            .args([&["export"], arguments, &["--tenant=team"]].concat())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let url = format!("--url=http://{}", server.address);
    let (first, last) = (format!("--min-time={}", samples[1].0), format!("--max-time={}", samples[200].0));
    let part = ["--match=m", &first, &last];
    let all = ["json", "csv", "openmetrics"].map(|format| export(&[format, &url]));
    let some = export(&[&["csv", url.as_str()], &part[..]].concat());
    drop(server);
    let dir = dir.to_str().unwrap();
    for (format, page) in ["json", "csv", "openmetrics"].iter().zip(&all) {
        assert_eq!(*page, export(&[format, dir]), "{format}");
    }
    assert_eq!(some, export(&[&["csv", dir], &part[..]].concat()));
    assert_eq!(some.lines().count(), 1 + 200 + 2, "{some}");
    drop(guard);
}
