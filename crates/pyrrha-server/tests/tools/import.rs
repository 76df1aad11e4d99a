//! Imports beside what promtool and Prometheus make of the same data.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pyrrha_env::{Clock, SystemClock};

use crate::run::{openmetrics, path, prometheus_directory, promtool, pyrrha, pyrrha_ok, sorted};

#[test]
fn openmetrics_becomes_the_blocks_that_promtool_makes() {
    let page = openmetrics(4, 5);
    let Some(dir) = prometheus_directory(&page) else { return };
    let (file, theirs) = (dir.path().join("page.txt"), dir.path().join("data"));
    let dump = promtool(&["tsdb", "dump", path(&theirs)]).unwrap();
    let ours = dir.path().join("ours");
    std::fs::create_dir_all(ours.join("wal")).unwrap();
    // So little memory that every range is written in several runs.
    pyrrha_ok(&["import", "openmetrics", path(&file), "--output", path(&ours), "--memory=16KiB"]);
    assert_eq!(sorted(&promtool(&["tsdb", "dump", path(&ours)]).unwrap()), sorted(&dump));
    pyrrha_ok(&["tsdb", "verify", path(&ours)]);
    let blocks = |dir: &Path| promtool(&["tsdb", "list", path(dir)]).unwrap().lines().count();
    assert_eq!(blocks(&ours), blocks(&theirs), "one block per 2 h");

    let data = dir.path().join("store");
    let target = ["--storage.path", path(&data), "--tenant", "team"];
    pyrrha_ok(&[&["import", "openmetrics", path(&file)], &target[..]].concat());
    let ours = pyrrha_ok(&["tsdb", "dump", path(&data), "--tenant", "team"]);
    assert_eq!(sorted(&ours), sorted(&dump));
    pyrrha_ok(&["tsdb", "verify", path(&data), "--tenant", "team"]);
}

#[test]
fn a_bad_line_is_named_and_nothing_is_imported() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("page.txt");
    for (page, part) in [
        ("a 1 1\nb 2\n# EOF\n", "line 2: sample has no timestamp: b"),
        ("a 1 1\n", "does not end with # EOF"),
        ("a 1 1\na{ 1 1\n# EOF\n", "line 2: cannot read sample"),
    ] {
        std::fs::write(&file, page).unwrap();
        let out = dir.path().join("out");
        let output = pyrrha(&["import", "openmetrics", path(&file), "--output", path(&out)]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains(part), "{error}");
        let blocks =
            std::fs::read_dir(&out).unwrap().filter(|e| e.as_ref().unwrap().path().join("index").exists());
        assert_eq!(blocks.count(), 0);
    }
}

/// A Prometheus that scrapes itself.
struct Prometheus {
    child: Child,
    port: u16,
}

impl Prometheus {
    fn start(home: &Path) -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = home.join("prometheus.yml");
        let jobs = format!("[{{job_name: self, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]");
        std::fs::write(&config, format!("global: {{scrape_interval: 200ms}}\nscrape_configs: {jobs}\n"))
            .unwrap();
        let arguments = [
            format!("--config.file={}", path(&config)),
            format!("--storage.tsdb.path={}", path(&home.join("data"))),
            format!("--web.listen-address=127.0.0.1:{port}"),
            "--web.enable-admin-api".to_owned(),
        ];
        let mut command = Command::new("prometheus");
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        match command.spawn() {
            Ok(child) => Some(Self { child, port }),
            Err(error) => {
                println!("skipped: prometheus cannot be run: {error}");
                None
            }
        }
    }

    /// Sends a request; gives the answer once there is one.
    fn ask(&self, method: &str, target: &str) -> String {
        for _ in 0..300 {
            if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) {
                let request = format!("{method} {target} HTTP/1.0\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
                let mut answer = String::new();
                if stream.write_all(request.as_bytes()).is_ok() && stream.read_to_string(&mut answer).is_ok()
                {
                    return answer;
                }
            }
            SystemClock::new().sleep(Duration::from_millis(50));
        }
        panic!("prometheus does not answer");
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_killed_prometheus_is_taken_over_with_its_log() {
    let Some(dir) = prometheus_directory(&openmetrics(3, 5)) else { return };
    let data = dir.path().join("data");
    let Some(prometheus) = Prometheus::start(dir.path()) else { return };
    for _ in 0..300 {
        if prometheus.ask("GET", "/api/v1/query?query=count_over_time(up[1m])>8").contains("\"metric\"") {
            break;
        }
        SystemClock::new().sleep(Duration::from_millis(100));
    }
    // The tombstone is in the log.
    let deleted = "/api/v1/admin/tsdb/delete_series?match[]=scrape_samples_scraped";
    assert!(prometheus.ask("POST", deleted).contains("204"));
    drop(prometheus);
    let theirs = promtool(&["tsdb", "dump", path(&data)]).unwrap();
    assert!(theirs.contains("__name__=\"up\""), "the head is in the dump");

    assert!(pyrrha_ok(&["tsdb", "verify", path(&data)]).contains("log sound series="));
    let store = dir.path().join("store");
    let import = ["import", "prometheus", path(&data), "--storage.path", path(&store)];
    let first = pyrrha_ok(&import);
    let ours = pyrrha_ok(&["tsdb", "dump", path(&store)]);
    assert_eq!(sorted(&ours), sorted(&theirs));
    let of_deleted = ours.lines().filter(|l| l.contains("\"scrape_samples_scraped\"")).count();
    let of_kept = ours.lines().filter(|l| l.contains("__name__=\"up\"")).count();
    assert!(of_deleted < of_kept, "{of_deleted} of {of_kept} samples are there after the deletion");
    pyrrha_ok(&["tsdb", "verify", path(&store)]);
    // Once more is nothing more.
    let again = pyrrha_ok(&import);
    assert!(first.contains("already there=0") && !again.contains("already there=0"), "{first}{again}");
    assert!(again.lines().all(|l| l.contains("blocks added=0")), "{again}");
    assert_eq!(pyrrha_ok(&["tsdb", "dump", path(&store)]), ours);
    // Read where it is, the directory has the same.
    assert_eq!(sorted(&pyrrha_ok(&["tsdb", "dump", path(&data)])), sorted(&theirs));
}
