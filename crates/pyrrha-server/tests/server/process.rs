//! A running `pyrrha server` on a free port, with a directory of its own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use pyrrha_env::{Clock, SystemClock};
use serde_json::Value;

use crate::http::{self, Response as Answer, encode};

pub(crate) struct Server {
    child: Child,
    pub(crate) address: String,
}

/// The binary with arguments.
pub(crate) fn pyrrha(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pyrrha"));
    command.args(args);
    command
}

impl Server {
    /// Starts on `dir` and waits until it is ready.
    pub(crate) fn start(dir: &Path, more: &[&str]) -> Self {
        let path = format!("--storage.path={}", dir.display());
        let mut child = pyrrha(&["server", &path, "--web.listen-address=127.0.0.1:0"])
            .args(more)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut seen = Vec::new();
        let address = loop {
            let Some(Ok(line)) = lines.next() else { panic!("ended before it was ready: {seen:#?}") };
            if let Some((_, rest)) = line.split_once("url=http://") {
                break rest.split_whitespace().next().unwrap().to_owned();
            }
            seen.push(line);
        };
        // Somebody has to read the log, or the server blocks on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let server = Self { child, address };
        server.wait_for("/-/ready?for=query");
        server
    }

    pub(crate) fn wait_for(&self, path: &str) {
        let clock = SystemClock::new();
        let ready = |answer: std::io::Result<Answer>| answer.is_ok_and(|a| a.status == 200);
        while !ready(http::request(&self.address, "GET", path, &[], b"")) {
            assert!(clock.monotonic() < Duration::from_secs(30), "not ready in time");
            clock.sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        http::request(&self.address, "GET", path, &[], b"").unwrap()
    }

    pub(crate) fn get_as(&self, tenant: &str, path: &str) -> Answer {
        http::request(&self.address, "GET", path, &[("X-Scope-OrgID", tenant)], b"").unwrap()
    }

    /// `data.result` of an instant query.
    pub(crate) fn query(&self, tenant: &str, query: &str, time: f64) -> Value {
        let path = format!("/api/v1/query?query={}&time={time}", encode(query));
        let answer = self.get_as(tenant, &path);
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
        answer.json()["data"]["result"].clone()
    }

    pub(crate) fn write(&self, tenant: &str, body: &[u8]) -> std::io::Result<Answer> {
        crate::remote_write::post(&self.address, tenant, body)
    }

    /// A line of `/proc/<pid>/status` that tells of memory, in bytes.
    pub(crate) fn memory(&self, line: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let value = status.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(':')).unwrap();
        value.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    /// The high-water mark of memory begins anew.
    pub(crate) fn forget_high_water(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").unwrap();
    }

    /// `kill -9`
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and waits for the end.
    pub(crate) fn stop(self) -> ExitStatus {
        self.stop_by("-TERM")
    }

    /// Sends a signal, and waits for the end.
    pub(crate) fn stop_by(mut self, signal: &str) -> ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        self.child.wait().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory that is removed at the end of the test.
pub(crate) fn directory() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    (dir, path)
}

pub(crate) fn now_ms() -> i64 {
    SystemClock::new().now_ms()
}
