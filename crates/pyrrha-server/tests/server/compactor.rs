//! Blocks of a bucket are looked after, by the server and by workers beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pyrrha_env::{Clock, SystemClock};
use pyrrha_testkit::object_stores::{MotoServer, directory_yml};

use crate::bucket::{blocks_in, fill_hours, wait_until};
use crate::process::{Server, directory, now_ms, pyrrha};

const HOUR: i64 = 3_600_000;

/// Answers over all that [`fill_hours`] wrote in so many hours before `end`.
pub(crate) fn answers(server: &Server, end: i64, hours: i64) -> (serde_json::Value, serde_json::Value) {
    let range = format!(
        "/api/v1/query_range?query=filled&start={}&end={}&step=600",
        (end - hours * HOUR) / 1000,
        end / 1000
    );
    let count = format!("sum(count_over_time(filled[{hours}h]))");
    (server.query("anonymous", &count, (end - 1) as f64 / 1000.0), server.get(&range).json()["data"].clone())
}

/// What the data was filled with, as promtool prints it; `None` without promtool.
fn dump(dir: &Path) -> Option<Vec<String>> {
    let output = match Command::new("promtool").args(["tsdb", "dump"]).arg(dir).output() {
        Ok(output) => output,
        Err(error) => {
            println!("skipped: promtool cannot be run: {error}");
            return None;
        }
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut lines: Vec<String> =
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    lines.sort_unstable();
    Some(lines)
}

/// A directory as Prometheus expects one, with the blocks of a tenant's.
fn for_prometheus(tenant: &Path, to: &Path) {
    std::fs::create_dir_all(to.join("wal")).unwrap();
    for entry in std::fs::read_dir(tenant).unwrap() {
        let from = entry.unwrap().path();
        if from.join("meta.json").exists() {
            let status = Command::new("cp").arg("-r").arg(&from).arg(to).status().unwrap();
            assert!(status.success());
        }
    }
}

#[test]
fn a_server_merges_blocks_that_prometheus_reads() {
    let (dir, data) = directory();
    let bucket = dir.path().join("bucket");
    let config = dir.path().join("objstore.yml");
    std::fs::write(&config, directory_yml(&bucket, "")).unwrap();
    let end = now_ms() / (24 * HOUR) * 24 * HOUR - 48 * HOUR;
    fill_hours(&data, end, 26);
    for_prometheus(&data.join("bucket/anonymous"), &dir.path().join("before"));
    let flag = format!("--objstore.config-file={}", config.display());
    let flags = [
        flag.as_str(),
        "--self-scrape=false",
        "--objstore.local-retention=30m",
        "--compactor.interval=1s",
        "--downsampling.disable",
        "--compactor.delete-delay=0s",
    ];
    let server = Server::start(&data, &flags);
    let expected = answers(&server, end, 26);
    assert_eq!(expected.1["result"].as_array().unwrap().len(), 10);
    wait_until("shipped blocks leave", || blocks_in(&data.join("bucket")) == 0);
    wait_until("blocks are merged", || blocks_in(&bucket) <= 2);
    assert_eq!(answers(&server, end, 26), expected);
    let jobs = server.get("/api/v1/status/bucket/jobs").json();
    assert_eq!(jobs["data"]["tenant"], "anonymous");
    assert_eq!(jobs["data"]["blocks"].as_u64().unwrap() as usize, blocks_in(&bucket));
    let metrics = server.get("/metrics").text();
    assert!(metrics.contains("pyrrha_compactor_jobs_total{outcome=\"failed\"} 0"), "{metrics}");
    assert!(!metrics.contains("pyrrha_compactor_jobs_total{outcome=\"done\"} 0\n"), "{metrics}");
    let listed = pyrrha(&["bucket", "jobs", &flag]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("tenant=anonymous blocks="), "{listed}");
    assert!(server.stop().success());
    for_prometheus(&bucket.join("anonymous"), &dir.path().join("after"));
    if let Some(before) = dump(&dir.path().join("before")) {
        assert!(before.len() > 10_000);
        assert!(dump(&dir.path().join("after")).unwrap() == before, "promtool reads something else");
    }
}

#[test]
fn deletes_reach_the_bucket() {
    let (dir, data) = directory();
    let bucket = dir.path().join("bucket");
    let config = dir.path().join("objstore.yml");
    std::fs::write(&config, directory_yml(&bucket, "")).unwrap();
    let end = now_ms() / (24 * HOUR) * 24 * HOUR - 48 * HOUR;
    fill_hours(&data, end, 26);
    let flag = format!("--objstore.config-file={}", config.display());
    let flags = [
        flag.as_str(),
        "--self-scrape=false",
        "--web.enable-admin-api",
        "--objstore.local-retention=30m",
        "--compactor.interval=1s",
        "--downsampling.disable",
        "--compactor.delete-delay=0s",
    ];
    let server = Server::start(&data, &flags);
    wait_until("shipped blocks leave", || blocks_in(&data.join("bucket")) == 0);
    let samples = |server: &Server| {
        let found =
            server.query("anonymous", "sum by (i) (count_over_time(filled[26h]))", (end - 1) as f64 / 1000.0);
        let of = |s: &serde_json::Value| {
            (
                s["metric"]["i"].as_str().unwrap().to_owned(),
                s["value"][1].as_str().unwrap().parse::<u64>().unwrap(),
            )
        };
        found.as_array().unwrap().iter().map(of).collect::<BTreeMap<_, _>>()
    };
    let before = samples(&server);
    assert_eq!(before.len(), 10);
    let ask = |server: &Server, method: &str, path: &str| {
        crate::http::request(&server.address, method, &format!("/api/v1/admin/tsdb/{path}"), &[], b"")
            .unwrap()
    };
    let delete = |server: &Server, i: u32| {
        let answer = ask(server, "POST", &format!("delete_series?match[]=filled%7Bi%3D%22{i}%22%7D"));
        assert_eq!(answer.status, 204, "{}", answer.text());
    };
    delete(&server, 3);
    delete(&server, 4);
    assert_eq!(samples(&server).len(), 8, "hidden at once");
    let listed = ask(&server, "GET", "deletes").json();
    let id = listed["data"][1]["id"].as_str().unwrap().to_owned();
    assert_eq!(ask(&server, "DELETE", &format!("deletes/{id}")).status, 204);
    let after = samples(&server);
    assert_eq!((after.len(), after.get("4")), (9, before.get("4")), "taken back");
    assert_eq!(ask(&server, "POST", "clean_tombstones").status, 204);
    let stored = || -> u64 {
        let metas = std::fs::read_dir(bucket.join("anonymous")).unwrap();
        let of = |path: PathBuf| -> Option<u64> {
            let meta: serde_json::Value = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
            meta["stats"]["numSamples"].as_u64()
        };
        metas.filter_map(|e| of(e.unwrap().path().join("meta.json"))).sum()
    };
    let expected: u64 = after.values().sum();
    wait_until("deleted samples leave the bucket", || stored() <= expected + 10 && blocks_in(&bucket) <= 2);
    assert_eq!(samples(&server), after);
    // The disk is lost, and the delete is not.
    assert!(server.stop().success());
    std::fs::remove_dir_all(&data).unwrap();
    let wiped = Server::start(&data, &flags);
    assert_eq!(samples(&wiped), after);
    assert!(wiped.stop().success());
}

#[test]
fn workers_share_a_bucket_on_a_real_s3_server_and_one_dies() {
    let Some(moto) = MotoServer::start() else { return };
    let (dir, data) = directory();
    let config = dir.path().join("objstore.yml");
    std::fs::write(&config, moto.yml("")).unwrap();
    let end = now_ms() / (24 * HOUR) * 24 * HOUR - 48 * HOUR;
    fill_hours(&data, end, 50);
    let flag = format!("--objstore.config-file={}", config.display());
    let flags =
        [flag.as_str(), "--self-scrape=false", "--objstore.local-retention=30m", "--compactor.enabled=false"];
    let server = Server::start(&data, &flags);
    let expected = answers(&server, end, 50);
    wait_until("shipped blocks leave", || blocks_in(&data.join("bucket")) == 0);
    let overview = || {
        let output = pyrrha(&["bucket", "jobs", "--json", "--downsampling.disable", &flag]).output().unwrap();
        let line = String::from_utf8(output.stdout).unwrap();
        serde_json::from_str::<serde_json::Value>(line.trim()).unwrap_or_default()
    };
    let planned = overview();
    assert!(planned["jobs"].as_array().unwrap().len() >= 4, "{planned}");
    let worker = |n: u32| {
        let scratch = format!("--scratch-dir={}", dir.path().join(format!("scratch-{n}")).display());
        let more = [
            "--compactor.lease-timeout=2s",
            "--compactor.delete-delay=0s",
            "--downsampling.disable",
            "--log.level=warn",
        ];
        let mut command = pyrrha(&["bucket", "compact", "--once", &flag, &scratch]);
        command.args(more).stdout(Stdio::piped()).spawn().unwrap()
    };
    let mut dying = worker(0);
    // Somewhere in its first job.
    SystemClock::new().sleep(Duration::from_millis(700));
    dying.kill().unwrap();
    dying.wait().unwrap();
    let workers: Vec<Child> = (1..4).map(worker).collect();
    for worker in workers {
        let output = worker.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    // What the dead one left is taken over by now, or by this one.
    let last = worker(4).wait_with_output().unwrap();
    assert!(last.status.success(), "{last:?}");
    let left = overview();
    assert_eq!(left["jobs"].as_array().unwrap().len(), 0, "{left}");
    assert!(left["blocks"].as_u64().unwrap() <= 4, "{left}");
    // The server reads the manifests again every half minute; files of old blocks are gone.
    drop(server);
    let server = Server::start(&data, &flags);
    assert_eq!(answers(&server, end, 50), expected);
    let objects = directories(&moto);
    let live = left["blocks"].as_u64().unwrap() as usize;
    assert_eq!(objects.len(), live, "{objects:?}");
    assert!(server.stop().success());
}

/// Directories of blocks that are in the bucket.
fn directories(moto: &MotoServer) -> BTreeSet<String> {
    let keys = moto.keys("anonymous/").unwrap();
    let names = keys.iter().filter_map(|key| key.split('/').nth(1));
    names.filter(|name| !matches!(*name, "manifest" | "jobs")).map(str::to_owned).collect()
}
