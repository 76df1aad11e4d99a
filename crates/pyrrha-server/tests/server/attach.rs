//! A directory of somebody else's blocks, read in place.

use std::path::Path;

use crate::process::{Server, directory, pyrrha};

/// Blocks with a sample of 1 at each of some seconds.
fn blocks(dir: &Path, metric: &str, seconds: &[i64]) {
    std::fs::create_dir_all(dir).unwrap();
    let page = dir.with_extension("txt");
    let lines: String = seconds.iter().map(|s| format!("{metric}{{from=\"blocks\"}} 1 {s}\n")).collect();
    std::fs::write(&page, format!("{lines}# EOF\n")).unwrap();
    let mut import =
        pyrrha(&["import", "openmetrics", page.to_str().unwrap(), "--output", dir.to_str().unwrap()]);
    assert!(import.output().unwrap().status.success());
}

/// All names below a directory, with lengths.
fn listing(dir: &Path) -> Vec<(String, u64)> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let meta = entry.metadata().unwrap();
        names.push((entry.path().display().to_string(), if meta.is_dir() { 0 } else { meta.len() }));
        if meta.is_dir() {
            names.extend(listing(&entry.path()));
        }
    }
    names.sort();
    names
}

#[test]
fn queries_span_attached_blocks_and_nothing_is_written_there() {
    let (_guard, dir) = directory();
    let (first, second) = (dir.with_extension("prometheus"), dir.with_extension("other"));
    blocks(&first, "m", &[1_700_000_000, 1_700_010_000]);
    blocks(&second, "m", &[1_700_000_000]);
    std::fs::create_dir(second.join("01BX5ZZKBKACTAV9WEVGEMMVRZ")).unwrap();
    let before = (listing(&first), listing(&second));
    let attach = [
        format!("--storage.attach={}", first.display()),
        format!("--storage.attach=team={}", second.display()),
        "--self-scrape=false".to_owned(),
    ];
    let server = Server::start(&dir, &attach.each_ref().map(String::as_str));
    let answer = server.query("anonymous", "count_over_time(m[1d])", 1_700_010_000.0);
    assert_eq!(answer[0]["value"][1], "2", "{answer}");
    let answer = server.query("team", "count_over_time(m[1d])", 1_700_010_000.0);
    assert_eq!(answer[0]["value"][1], "1", "{answer}");
    let answer = server.query("nobody", "m", 1_700_000_000.0);
    assert_eq!(answer.as_array().map(Vec::len), Some(0), "{answer}");
    let names = server.get("/api/v1/label/from/values").json();
    assert_eq!(names["data"][0], "blocks", "{names}");
    // A block that appears is read before long.
    let metric = "late";
    blocks(&first.join("x"), metric, &[1_700_000_000]);
    let staged = std::fs::read_dir(first.join("x")).unwrap().next().unwrap().unwrap();
    std::fs::rename(staged.path(), first.join(staged.file_name())).unwrap();
    let clock = pyrrha_env::SystemClock::new();
    let mut answer = server.query("anonymous", metric, 1_700_000_000.0);
    while answer.as_array().is_none_or(Vec::is_empty) {
        assert!(pyrrha_env::Clock::monotonic(&clock) < std::time::Duration::from_secs(40), "it is not read");
        pyrrha_env::Clock::sleep(&clock, std::time::Duration::from_millis(200));
        answer = server.query("anonymous", metric, 1_700_000_000.0);
    }
    assert_eq!(listing(&second), before.1);
    assert!(before.0.iter().all(|entry| listing(&first).contains(entry)));
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn queries_span_an_attached_bucket_and_nothing_is_written_there() {
    use pyrrha_testkit::foreign_bucket::{ForeignBlock, ForeignBucket};
    use pyrrha_testkit::object_stores::directory_yml;
    let (_guard, dir) = directory();
    let bucket = dir.with_extension("bucket");
    let hour = 3_600_000;
    let samples: Vec<(i64, f64)> = (0..120).map(|i| (i * 60_000, i as f64)).collect();
    let block = |ulid, replica| {
        ForeignBlock::new(ulid, 0, 2 * hour, &[("cluster", "eu"), ("replica", replica)])
            .with_floats(&[("__name__", "requests_total"), ("job", "api")], &samples)
    };
    let mut foreign = ForeignBucket::default();
    foreign.add("", &block("01BX5ZZKBKACTAV9WEVGEMMVRZ", "a"));
    foreign.add("", &block("01BX5ZZKBKACTAV9WEVGEMMVS0", "b"));
    foreign.put("01BX5ZZKBKACTAV9WEVGEMMVS1/index", vec![0; 9]);
    foreign.write_to(&bucket).unwrap();
    let before = listing(&bucket);
    let objstore = dir.with_extension("yml");
    std::fs::write(&objstore, directory_yml(&bucket, "")).unwrap();
    let flags = [
        format!("--attach.bucket={}", objstore.display()),
        "--attach.replica-label=replica".to_owned(),
        "--self-scrape=false".to_owned(),
    ];
    let server = Server::start(&dir, &flags.each_ref().map(String::as_str));
    let answer = server.query("anonymous", "increase(requests_total{cluster=\"eu\"}[1h])", 7140.0);
    assert_eq!(answer[0]["metric"]["cluster"], "eu", "{answer}");
    assert_eq!(answer[0]["metric"]["replica"], serde_json::Value::Null, "{answer}");
    assert_eq!(
        (answer.as_array().map(Vec::len), &answer[0]["value"][1]),
        (Some(1), &"60".into()),
        "{answer}"
    );
    let status = server.get("/api/v1/status/attached").json();
    let shown = &status["data"]["buckets"][0];
    assert_eq!(shown["blocks"].as_array().map(Vec::len), Some(2), "{status}");
    assert_eq!(shown["blocks"][0]["labels"]["replica"], "a", "{status}");
    assert!(shown["lookedAt"].is_string() && shown["failedLooks"] == 0, "{status}");
    assert_eq!(shown["hidden"][0]["why"], "partial", "{status}");
    let metrics = server.get("/metrics").text();
    for line in ["pyrrha_attached_blocks{", "reason=\"partial\"} 1", "pyrrha_attached_look_age_seconds{"] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    let values = server.get("/api/v1/label/cluster/values").json();
    assert_eq!(values["data"][0], "eu", "{values}");
    let answer = server.query("anonymous", "requests_total{cluster=\"us\"}", 7140.0);
    assert_eq!(answer.as_array().map(Vec::len), Some(0), "{answer}");
    assert_eq!(server.stop().code(), Some(0));
    assert_eq!(listing(&bucket), before);
}

#[test]
fn a_directory_that_is_not_there_stops_the_start() {
    let (_guard, dir) = directory();
    let path = format!("--storage.path={}", dir.display());
    let arguments = ["server", &path, "--web.listen-address=127.0.0.1:0", "--storage.attach=/nowhere/at/all"];
    let output = pyrrha(&arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("cannot attach blocks: cannot list directory path=/nowhere/at/all"), "{error}");
}
