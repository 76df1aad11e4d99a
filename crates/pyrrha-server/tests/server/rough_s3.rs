//! Processes that share a bucket on a real S3 server, over connections on which things go wrong; some
//! are killed. What is there afterwards is what was there before, once, and nothing else.
//!
//! Environment: `PYRRHA_PROCESSES` (4; `2,4,8` for all), how many workers run at once.

mod proxy;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pyrrha_env::{Clock, SystemClock};
use pyrrha_testkit::object_stores::{MotoServer, s3_yml};

use self::proxy::Proxy;
use crate::bucket::{blocks_in, fill_hours};
use crate::compactor::answers;
use crate::process::{Server, directory, now_ms, pyrrha};

const HOUR: i64 = 3_600_000;
/// Hours that each of two servers has.
const HOURS: i64 = 26;
/// Series of a server, with a sample a minute.
const SAMPLES: u64 = 2 * HOURS as u64 * 60 * 10;
/// Time that a storm, and what comes after it, may take.
const PATIENCE: Duration = Duration::from_secs(240);

/// A place to work, and a bucket by a straight and by a rough way.
struct Place {
    dir: std::path::PathBuf,
    direct: String,
    rough: String,
    clock: SystemClock,
}

impl Place {
    fn worker(&self, n: u64, flag: &str) -> Child {
        let scratch = format!("--scratch-dir={}", self.dir.join(format!("scratch-{n}")).display());
        let more = [
            "--compactor.interval=300ms",
            "--compactor.lease-timeout=3s",
            // Longer than any request is late.
            "--compactor.delete-delay=4s",
            "--downsampling.disable",
            "--log.level=error",
        ];
        let mut command = pyrrha(&["bucket", "compact", flag, &scratch]);
        command.args(more).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// What a command prints as JSON; null if it fails.
    fn json(&self, args: &[&str]) -> serde_json::Value {
        let output = pyrrha(&["bucket"]).args(args).arg(&self.direct).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// Live blocks, and jobs that are not done.
    fn left(&self) -> (u64, usize) {
        let overview = self.json(&["jobs", "--json", "--downsampling.disable"]);
        let jobs = overview["jobs"].as_array().map_or(usize::MAX, Vec::len);
        (overview["blocks"].as_u64().unwrap_or(u64::MAX), jobs)
    }

    fn wait_until(&self, what: &str, mut done: impl FnMut() -> bool) {
        let began = self.clock.monotonic();
        while !done() {
            assert!(self.clock.monotonic() - began < PATIENCE, "{what} in time: {:?}", self.left());
            self.clock.sleep(Duration::from_millis(500));
        }
    }
}

fn end(mut worker: Child) {
    let pid = worker.id().to_string();
    let _ = Command::new("kill").args(["-TERM", &pid]).status();
    worker.wait().unwrap();
}

fn flag_of(dir: &Path, name: &str, yml: &str) -> String {
    let file = dir.join(name);
    std::fs::write(&file, yml).unwrap();
    format!("--objstore.config-file={}", file.display())
}

fn storm(moto: &MotoServer, workers: u64) {
    let (guard, _) = directory();
    let dir = guard.path().to_path_buf();
    let prefix = format!("of-{workers}");
    let proxy = Proxy::rough(moto.address(), workers * 1_000_003);
    let direct = flag_of(&dir, "direct.yml", &moto.yml(&prefix));
    let rough = flag_of(&dir, "rough.yml", &s3_yml(&proxy.address, &prefix));
    let place = Place { dir: dir.clone(), direct, rough, clock: SystemClock::new() };
    let last = now_ms() / (24 * HOUR) * 24 * HOUR - 48 * HOUR;
    // Two servers, each with its own time of the same series, far enough apart that neither is asked for the
    // other's samples.
    let halves = [(dir.join("a"), last - (HOURS + 2) * HOUR), (dir.join("b"), last)];
    let expected = halves.each_ref().map(|(data, end)| {
        fill_hours(data, *end, HOURS);
        let plain = Server::start(data, &["--self-scrape=false"]);
        let found = answers(&plain, *end, HOURS);
        assert!(plain.stop().success());
        found
    });
    let flags = [
        place.rough.as_str(),
        "--self-scrape=false",
        "--objstore.local-retention=30m",
        "--compactor.enabled=false",
    ];
    let servers = halves.each_ref().map(|(data, _)| Server::start(data, &flags));
    let mut running: Vec<Child> = (0..workers).map(|n| place.worker(n, &place.rough)).collect();
    for n in workers..workers + workers.div_ceil(2) {
        place.clock.sleep(Duration::from_millis(1_500));
        let mut dying = running.remove(0);
        dying.kill().unwrap();
        dying.wait().unwrap();
        running.push(place.worker(n, &place.rough));
    }
    place.wait_until("blocks are shipped", || {
        halves.iter().all(|(data, _)| blocks_in(&data.join("bucket")) == 0)
    });
    place.wait_until("blocks are merged", || place.left().0 <= 8);
    proxy.calm();
    let (requests, faults) = proxy.counts();
    assert!(requests > 200 && faults > 20, "{requests} requests, {faults} faults");
    for server in servers {
        assert!(server.stop().success());
    }
    running.into_iter().for_each(end);
    // What failed is tried again after a minute.
    let finisher = place.worker(1000, &place.direct);
    place.wait_until("all jobs are done", || place.left().1 == 0);
    end(finisher);
    // Jobs of the killed are taken over, and what all of them left goes.
    let clean =
        ["cleanup", "--compactor.lease-timeout=1s", "--compactor.delete-delay=0s", "--log.level=error"];
    let scratch = format!("--scratch-dir={}", dir.join("scratch-cleanup").display());
    for _ in 0..2 {
        let output = pyrrha(&["bucket"]).args(clean).args([&scratch, &place.direct]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    let listed = place.json(&["ls", "--output=json"]);
    assert_eq!(listed["total"]["samples"], SAMPLES, "each sample once: {listed}");
    let live: BTreeSet<String> = listed["blocks"].as_array().unwrap().iter().map(name_of).collect();
    let keys = moto.keys(&format!("{prefix}/anonymous/")).unwrap();
    let parts = |key: &String| key.split('/').skip(2).map(str::to_owned).collect::<Vec<_>>();
    let keys: Vec<Vec<String>> = keys.iter().map(parts).collect();
    let blocks = keys.iter().filter(|key| !matches!(key[0].as_str(), "manifest" | "jobs"));
    assert_eq!(blocks.map(|key| key[0].clone()).collect::<BTreeSet<_>>(), live, "no orphans");
    let jobs: Vec<_> = keys.iter().filter(|key| key[0] == "jobs" && key[1] != "clock").collect();
    assert!(jobs.is_empty(), "{jobs:?}");
    let verified = pyrrha(&["bucket", "verify", "--strict", "--checksums", &place.direct]).output().unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    let wiped = Server::start(
        &dir.join("new"),
        &[place.direct.as_str(), "--self-scrape=false", "--compactor.enabled=false"],
    );
    for ((_, end), expected) in halves.iter().zip(&expected) {
        assert!(answers(&wiped, *end, HOURS) == *expected, "something else is answered");
    }
    assert!(wiped.stop().success());
    println!("workers={workers} requests={requests} faults={faults} blocks={}", live.len());
}

fn name_of(block: &serde_json::Value) -> String {
    block["ulid"].as_str().unwrap().to_owned()
}

#[test]
fn nothing_is_lost_twice_or_left_when_processes_share_a_rough_bucket() {
    let Some(moto) = MotoServer::start() else { return };
    let wanted = std::env::var("PYRRHA_PROCESSES").unwrap_or_else(|_| "4".to_owned());
    for workers in wanted.split(',') {
        storm(&moto, workers.parse().unwrap());
    }
}

#[test]
fn a_store_that_ignores_conditions_is_refused_at_the_start() {
    let Some(moto) = MotoServer::start() else { return };
    let (guard, data) = directory();
    let proxy = Proxy::without_conditions(moto.address());
    let flag = flag_of(guard.path(), "objstore.yml", &s3_yml(&proxy.address, ""));
    let scratch = format!("--scratch-dir={}", guard.path().join("scratch").display());
    let storage = format!("--storage.path={}", data.display());
    let server = ["server", &storage, "--web.listen-address=127.0.0.1:0", &flag];
    let worker = ["bucket", "compact", "--once", &flag, &scratch];
    for args in [&server[..], &worker[..]] {
        let output = pyrrha(args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("bucket ignores conditions"), "{args:?}: {said}");
    }
    assert!(moto.keys("").unwrap().is_empty(), "nothing is left there");
    let direct = flag_of(guard.path(), "objstore.yml", &moto.yml(""));
    assert!(pyrrha(&["bucket", "compact", "--once", &direct, &scratch]).output().unwrap().status.success());
}
