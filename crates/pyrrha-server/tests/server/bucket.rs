//! A server with a bucket: blocks go up, leave the disk, and come back when the disk is lost.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pyrrha_env::{Clock, OsDisk, SystemClock};
use pyrrha_model::contract::{Appender, Ingest};
use pyrrha_model::{Labels, TenantId};
use pyrrha_storage::{Db, StorageConfig};
use pyrrha_testkit::object_stores::directory_yml;

use crate::process::{Server, directory, now_ms, pyrrha};

/// A data directory with blocks of ten series, one sample a minute in the six hours before `end`.
fn fill(dir: &Path, end: i64) {
    fill_hours(dir, end, 6);
}

/// The same, of so many hours.
pub(crate) fn fill_hours(dir: &Path, end: i64, hours: i64) {
    fill_hours_with(dir, end, hours, |_, _, _| {});
}

/// The same with what else is appended, which is told the number of the minute and its time.
pub(crate) fn fill_hours_with(
    dir: &Path,
    end: i64,
    hours: i64,
    mut more: impl FnMut(&mut dyn Appender, i64, i64),
) {
    let steps = hours * 60;
    let mut config = StorageConfig::new(dir);
    config.quiet_before_cut = Duration::ZERO;
    config.idle_cut_after = Duration::ZERO;
    config.compaction = false;
    let db = Db::open(config, Arc::new(OsDisk), Arc::new(SystemClock::new())).unwrap();
    let tenant = TenantId::anonymous();
    for step in 0..steps {
        let mut appender = db.appender(&tenant).unwrap();
        for i in 0..10 {
            let labels = Labels::from_pairs([("__name__", "filled".to_owned()), ("i", i.to_string())]);
            let series = appender.resolve(None, &labels).unwrap();
            appender.append(series, 0, end - (steps - step) * 60_000, (step * i) as f64).unwrap();
        }
        more(&mut *appender, step, end - (steps - step) * 60_000);
        appender.commit().unwrap();
    }
    db.maintain().unwrap();
    assert!(db.open_blocks(&tenant).len() >= 3);
    db.close().unwrap();
}

pub(crate) fn blocks_in(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir.join("anonymous")).into_iter().flatten();
    entries.filter(|e| e.as_ref().is_ok_and(|e| e.path().join("meta.json").exists())).count()
}

pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let clock = SystemClock::new();
    while !done() {
        assert!(clock.monotonic() < Duration::from_secs(90), "{what} in time");
        clock.sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_wiped_server_answers_from_the_bucket() {
    let (dir, data) = directory();
    let bucket = dir.path().join("bucket");
    let config = dir.path().join("objstore.yml");
    std::fs::write(&config, directory_yml(&bucket, "prod")).unwrap();
    // Far enough back that all of it is in blocks.
    let end = now_ms() / 7_200_000 * 7_200_000 - 24 * 3_600_000;
    fill(&data, end);
    let flag = format!("--objstore.config-file={}", config.display());
    let more = [flag.as_str(), "--self-scrape=false", "--objstore.local-retention=30m"];
    let answers = |server: &Server| {
        let at = (end - 600_000) as f64 / 1000.0;
        let range = format!(
            "/api/v1/query_range?query=filled&start={}&end={}&step=300",
            (end - 6 * 3_600_000) / 1000,
            end / 1000
        );
        (
            server.query("anonymous", "sum by (i) (increase(filled[5h]))", at),
            server.get(&range).json()["data"].clone(),
            server.get("/api/v1/label/i/values").json()["data"].clone(),
        )
    };
    let plain = Server::start(&data, &["--self-scrape=false"]);
    let expected = answers(&plain);
    assert_eq!(expected.1["result"].as_array().unwrap().len(), 10);
    assert!(plain.stop().success());

    let server = Server::start(&data, &more);
    assert_eq!(answers(&server), expected);
    let kept = blocks_in(&data.join("bucket"));
    assert!(kept >= 3);
    wait_until("blocks are shipped", || blocks_in(&bucket.join("prod")) == kept);
    wait_until("shipped blocks leave", || blocks_in(&data.join("bucket")) == 0);
    assert_eq!(answers(&server), expected);
    let metrics = server.get("/metrics").text();
    assert!(metrics.contains(&format!("pyrrha_shipper_blocks_total {kept}")), "{metrics}");
    assert!(metrics.contains("pyrrha_shipper_backlog_blocks 0"));
    server.kill();

    std::fs::remove_dir_all(&data).unwrap();
    let wiped = Server::start(&data, &more);
    assert_eq!(answers(&wiped), expected);
    assert!(wiped.stop().success());
}

#[test]
fn an_answer_says_what_it_read_of_the_bucket() {
    let (dir, data) = directory();
    let bucket = dir.path().join("bucket");
    let config = dir.path().join("objstore.yml");
    std::fs::write(&config, format!("type: FILESYSTEM\nconfig:\n  directory: {}\n", bucket.display()))
        .unwrap();
    let end = now_ms() / 7_200_000 * 7_200_000 - 24 * 3_600_000;
    fill(&data, end);
    let flag = format!("--objstore.config-file={}", config.display());
    let more = [
        flag.as_str(),
        "--self-scrape=false",
        "--objstore.local-retention=30m",
        "--compactor.enabled=false",
        "--objstore.cache-disk=16MiB",
        "--objstore.header-memory=1MiB",
    ];
    let server = Server::start(&data, &more);
    wait_until("shipped blocks leave", || blocks_in(&bucket) >= 3 && blocks_in(&data.join("bucket")) == 0);
    let query = format!(
        "/api/v1/query_range?query=sum(rate(filled[10m]))&start={}&end={}&step=300",
        (end - 5 * 3_600_000) / 1000,
        end / 1000
    );
    let stats = |server: &Server, more: &str| server.get(&format!("{query}{more}")).json()["data"].clone();
    let count = |of: &serde_json::Value, key: &str| of["bucket"][key].as_u64().unwrap();
    let cold = stats(&server, "&stats=true")["stats"].clone();
    assert!(cold["timings"]["evalTotalTime"].is_number() && cold["samples"]["samplesRead"].is_number());
    // Per block: header, postings and entries in one piece, chunks.
    let blocks = blocks_in(&bucket) as u64;
    assert!((2..=3 * blocks).contains(&count(&cold, "requests")), "{cold}");
    assert!(count(&cold, "fetchedBytes") > 1000, "{cold}");
    let warm = stats(&server, "&stats=all&explain=true");
    assert_eq!((count(&warm["stats"], "requests"), count(&warm["stats"], "fetchedBytes")), (0, 0));
    assert!(count(&warm["stats"], "memoryCacheBytes") > 1000, "{warm}");
    assert_eq!(warm["explain"]["bucket"], warm["stats"]["bucket"]);
    assert!(warm["explain"]["operator"].is_string());
    assert_eq!(stats(&server, "").get("stats"), None);
    let metrics = server.get("/metrics").text();
    let value = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name} is missing: {metrics}")).trim().parse::<f64>().unwrap()
    };
    assert_eq!(value("pyrrha_query_bucket_requests_total"), count(&cold, "requests") as f64);
    assert_eq!(
        value("pyrrha_query_bucket_bytes_total{from=\"bucket\"}"),
        count(&cold, "fetchedBytes") as f64
    );
    assert!(value("pyrrha_query_bucket_bytes_total{from=\"memory\"}") > 1000.0);
    for (cache, hits) in [("memory", 1.0), ("disk", 0.0), ("headers", 1.0)] {
        let of = |name: &str| value(&format!("pyrrha_bucket_cache_{name}{{cache=\"{cache}\"}}"));
        assert!(of("bytes") > 1000.0 && of("hits_total") >= hits && of("misses_total") > 0.0);
        assert_eq!(of("evictions_total"), 0.0);
    }
    assert!(server.stop().success());
    // Pages and headers outlive the process.
    let again = Server::start(&data, &more);
    let restarted = stats(&again, "&stats=true")["stats"].clone();
    assert_eq!(count(&restarted, "requests"), 0, "{restarted}");
    assert!(count(&restarted, "diskCacheBytes") > 1000, "{restarted}");
    assert!(again.stop().success());
}

#[test]
fn a_bucket_that_makes_no_sense_is_said() {
    let (dir, data) = directory();
    let config = dir.path().join("objstore.yml");
    std::fs::write(&config, "type: S3\nconfig:\n  bukket: b\n").unwrap();
    let path = format!("--storage.path={}", data.display());
    let flag = format!("--objstore.config-file={}", config.display());
    let output = pyrrha(&["server", &path, "--web.listen-address=127.0.0.1:0", &flag]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(said.contains("line=3") && said.contains("bukket") && said.contains("objstore.yml"), "{said}");
}

#[test]
fn samples_past_the_retention_here_are_seen_in_the_bucket_while_they_are_here_too() {
    let (dir, data) = directory();
    let bucket = dir.path().join("bucket");
    let config = dir.path().join("objstore.yml");
    std::fs::write(&config, directory_yml(&bucket, "")).unwrap();
    let end = now_ms() / 7_200_000 * 7_200_000 - 40 * 24 * 3_600_000;
    fill(&data, end);
    let flag = format!("--objstore.config-file={}", config.display());
    let more =
        [&flag, "--self-scrape=false", "--storage.tsdb.retention.time=30d", "--objstore.local-retention=10y"];
    let server = Server::start(&data, &more);
    let kept = blocks_in(&data.join("bucket"));
    assert!(kept >= 3);
    let found = || server.query("anonymous", "filled", (end - 600_000) as f64 / 1000.0);
    wait_until("shipped samples are seen", || found().as_array().unwrap().len() == 10);
    assert_eq!(blocks_in(&data.join("bucket")), kept, "they are still here");
}

#[test]
fn a_server_ends_soon_while_its_bucket_hangs() {
    let (dir, data) = directory();
    // It takes connections, and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let config = dir.path().join("objstore.yml");
    std::fs::write(&config, pyrrha_testkit::object_stores::s3_yml(&address, "")).unwrap();
    let flag = format!("--objstore.config-file={}", config.display());
    let server = Server::start(&data, &[&flag, "--self-scrape=false", "--compactor.enabled=false"]);
    let clock = SystemClock::new();
    assert!(server.stop().success());
    assert!(clock.monotonic() < Duration::from_secs(60), "{:?}", clock.monotonic());
}
