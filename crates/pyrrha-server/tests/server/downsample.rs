//! Three days in a bucket, downsampled: when the samples are gone, answers are what they were.

use std::sync::Arc;
use std::time::Duration;

use pyrrha_bucket::{BucketRuntime, BucketTenants, Compactor, CompactorConfig, JobKind, config};
use pyrrha_env::{Clock, Disk, OsDisk, SystemClock};
use pyrrha_model::contract::{Appender, CancelToken, Value};
use pyrrha_model::{Histogram, Labels, Span, TenantId};
use pyrrha_storage::block::BlockId;
use pyrrha_testkit::object_stores::directory_yml;

use crate::bucket::{blocks_in, fill_hours_with, wait_until};
use crate::http::encode;
use crate::process::{Server, directory, now_ms};

const HOUR: i64 = 3_600_000;
const HOURS: i64 = 72;

/// Appends a native histogram that begins anew every 500 minutes.
fn histogram(appender: &mut dyn Appender, step: i64, t: i64) {
    let n = (step % 500).unsigned_abs();
    let histogram = Histogram {
        schema: 1,
        count: 4 * n,
        sum: n as f64 * 0.7,
        positive_spans: vec![Span { offset: -1, length: 3 }],
        // 0, n, and three times n.
        positive_buckets: vec![0, n as i64, 2 * n as i64],
        ..Histogram::default()
    };
    let series = appender.resolve(None, &Labels::from_pairs([("__name__", "timed")])).unwrap();
    appender.append_histogram(series, 0, t, Value::Histogram(Box::new(histogram))).unwrap();
}

/// Does all downsampling of a bucket, then removes the raw blocks from its manifest.
fn downsample(config_file: &std::path::Path, scratch: &std::path::Path) -> (usize, usize) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let runtime = Arc::new(BucketRuntime::start(2).unwrap());
    let bucket = config::open_file(config_file).unwrap();
    let tenants = Arc::new(BucketTenants::new(bucket, runtime.clone(), clock.clone()));
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    let config = CompactorConfig { leaves: JobKind::OTHERS.to_vec(), ..CompactorConfig::new(scratch) };
    let worker = Compactor::new(tenants.clone(), runtime, disk, clock, config).unwrap();
    worker.round(&CancelToken::default()).unwrap();
    let manifest = tenants.manifest(&TenantId::anonymous()).unwrap();
    let state = manifest.refresh().unwrap();
    let of = |resolution: i64| -> Vec<BlockId> {
        state.blocks.values().filter(|b| b.resolution == resolution).map(|b| b.ulid).collect()
    };
    manifest.commit(&[], &of(0)).unwrap();
    (of(300_000).len(), of(HOUR).len())
}

/// Values of a range query by series and time, and the warnings.
fn ask(server: &Server, query: &str, end: i64, step: &str) -> (Vec<(String, String, f64)>, usize) {
    let at = |t: i64| format!("{}.{:03}", t / 1000, t % 1000);
    let path = format!(
        "/api/v1/query_range?query={}&start={}&end={}&step={step}",
        encode(query),
        at(end - (HOURS - 4) * HOUR),
        at(end)
    );
    let answer = server.get(&path).json();
    assert_eq!(answer["status"], "success", "{answer}");
    let mut values = Vec::new();
    for series in answer["data"]["result"].as_array().unwrap() {
        for pair in series["values"].as_array().unwrap() {
            let value = pair[1].as_str().unwrap().parse().unwrap();
            values.push((series["metric"].to_string(), pair[0].to_string(), value));
        }
    }
    (values, answer["warnings"].as_array().map_or(0, Vec::len))
}

#[test]
fn answers_stay_when_samples_go() {
    let (dir, data) = directory();
    let bucket = dir.path().join("bucket");
    let config = dir.path().join("objstore.yml");
    std::fs::write(&config, directory_yml(&bucket, "")).unwrap();
    let end = now_ms() / (24 * HOUR) * 24 * HOUR - 24 * HOUR;
    fill_hours_with(&data, end, HOURS, histogram);
    let flag = format!("--objstore.config-file={}", config.display());
    let more = [flag.as_str(), "--self-scrape=false", "--objstore.local-retention=30m"];
    let queries = [
        ("increase(filled[1h])", 0.0),
        ("rate(filled[3h])", 1e-12),
        ("sum by (i) (increase(filled[1h]))", 1e-12),
        ("max_over_time(filled[1h])", 0.0),
        ("count_over_time(filled[2h])", 0.0),
        ("avg_over_time(filled[1h])", 1e-12),
        ("changes(filled[1h])", 0.0),
        ("filled", 0.0),
        ("sum(filled)", 1e-12),
        ("histogram_count(increase(timed[1h]))", 0.0),
        ("histogram_sum(rate(timed[3h]))", 1e-12),
        ("histogram_quantile(0.9, sum(rate(timed[2h])))", 1e-12),
        ("histogram_avg(sum_over_time(timed[1h]))", 1e-12),
        ("histogram_count(timed)", 0.0),
        ("resets(timed[3h])", 0.0),
        ("count_over_time(timed[1h])", 0.0),
    ];
    // Windows end a millisecond before the hour.
    let last = end - HOUR - 1;
    let server = Server::start(&data, &more);
    let expected: Vec<_> = queries.iter().map(|(query, _)| ask(&server, query, last, "3600")).collect();
    // A sum over samples of which one is a reset has a warning; sums of windows do not know which.
    let warns = |query: &str| usize::from(query.contains("sum_over_time"));
    for ((query, _), (values, warnings)) in queries.iter().zip(&expected) {
        assert!(values.len() >= 60 && *warnings == warns(query), "{query} {warnings}");
    }
    wait_until("blocks leave", || blocks_in(&data.join("bucket")) == 0);
    assert!(server.stop().success());

    let (fives, hours) = downsample(&config, &dir.path().join("scratch"));
    assert!(fives >= HOURS as usize / 2 && fives == hours, "{fives} {hours}");
    let server = Server::start(&data, &more);
    let clock = SystemClock::new();
    while ask(&server, "filled", last, "3600").0.is_empty() {
        assert!(clock.monotonic() < Duration::from_secs(60), "the bucket is read");
        clock.sleep(Duration::from_millis(100));
    }
    for ((query, bound), (wanted, _)) in queries.iter().zip(&expected) {
        let (found, warnings) = ask(&server, query, last, "3600");
        assert_eq!((found.len(), warnings), (wanted.len(), 0), "{query}");
        for (a, b) in found.iter().zip(wanted) {
            assert_eq!((&a.0, &a.1), (&b.0, &b.1), "{query}");
            assert!((a.2 - b.2).abs() <= bound * b.2.abs(), "{query} {a:?} {b:?}");
        }
    }
    // What is too fine for windows is answered all the same, and says so.
    let (values, warnings) = ask(&server, "rate(filled[1m])", last, "60");
    assert!(values.len() > 30_000 && warnings == 1, "{} {warnings}", values.len());
    let path = "/api/v1/query?query=filled&max_source_resolution=";
    assert_eq!(server.get(&format!("{path}5m")).status, 200);
    assert_eq!(server.get(&format!("{path}often")).status, 400);
    assert!(server.stop().success());
}
