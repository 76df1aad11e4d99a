//! Starts the two servers on free ports and speaks to them.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::http::{self, Response};

/// A running server; dropping it kills it.
pub(crate) struct Server {
    child: Child,
    address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").to_string()
}

impl Server {
    /// A Prometheus that scrapes nothing and receives remote writes; `None` if there is none.
    pub(crate) fn prometheus(dir: &Path) -> Option<Self> {
        Command::new("prometheus")
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .ok()?;
        let (address, config) = (free_address(), dir.join("prometheus.yml"));
        std::fs::write(&config, "global: {}\n").expect("writable");
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("prometheus").display()))
            .arg(format!("--web.listen-address={address}"))
            .args(["--web.enable-remote-write-receiver", "--log.level=error"])
            .spawn()
            .expect("prometheus starts");
        Some(Self { child, address }.wait_until_ready())
    }

    /// The binary under test.
    pub(crate) fn pyrrha(dir: &Path) -> Self {
        let address = free_address();
        let child = Command::new(env!("CARGO_BIN_EXE_pyrrha"))
            .arg("server")
            .arg(format!("--storage.path={}", dir.join("pyrrha").display()))
            .arg(format!("--web.listen-address={address}"))
            .args(["--self-scrape=false", "--log.level=warn"])
            .stdout(Stdio::null())
            .spawn()
            .expect("pyrrha starts");
        Self { child, address }.wait_until_ready()
    }

    #[allow(clippy::disallowed_methods, reason = "a test waits for another process")]
    fn wait_until_ready(self) -> Self {
        for _ in 0..300 {
            if http::request(&self.address, "GET", "/-/ready", &[], b"").is_ok_and(|r| r.status == 200) {
                return self;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("{} does not become ready", self.address);
    }

    /// Sends a remote write 1.0 body.
    pub(crate) fn remote_write(&self, body: &[u8]) {
        let headers = [
            ("Content-Type", "application/x-protobuf"),
            ("Content-Encoding", "snappy"),
            ("X-Prometheus-Remote-Write-Version", "0.1.0"),
        ];
        let answer =
            http::request(&self.address, "POST", "/api/v1/write", &headers, body).expect("an answer");
        assert_eq!(answer.status / 100, 2, "{}: {}", self.address, answer.text());
    }

    /// Asks a question.
    pub(crate) fn get(&self, path: &str) -> Response {
        http::request(&self.address, "GET", path, &[], b"").expect("an answer")
    }
}
