//! The real binary as a child process.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::http::{self, Response};

/// A running server; dropping it kills it.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// An address on loopback that nobody listens on.
pub(crate) fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").to_string()
}

impl Server {
    /// Starts the binary under test on `data`, without its own metrics in the store, and waits
    /// until it takes writes.
    pub(crate) fn pyrrha(data: &Path, address: &str) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_pyrrha"))
            .arg("server")
            .arg(format!("--storage.path={}", data.display()))
            .arg(format!("--web.listen-address={address}"))
            .args(["--self-scrape=false", "--log.level=warn"])
            .stdout(Stdio::null())
            .spawn()
            .expect("pyrrha starts");
        Self::wait_for(child, address)
    }

    /// Takes a child that is starting to listen on `address`, and waits until it is ready.
    #[allow(clippy::disallowed_methods, reason = "a test waits for another process")]
    pub(crate) fn wait_for(mut child: Child, address: &str) -> Self {
        for _ in 0..600 {
            if http::request(address, "GET", "/-/ready", &[], b"").is_ok_and(|r| r.status == 200) {
                return Self { child, address: address.to_owned() };
            }
            if let Ok(Some(status)) = child.try_wait() {
                panic!("the server on {address} ended: {status}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = child.kill();
        panic!("the server on {address} does not become ready");
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks a question.
    pub(crate) fn get(&self, path: &str) -> Response {
        http::request(&self.address, "GET", path, &[], b"").expect("an answer")
    }
}

/// Sends a remote write 1.0 body.
pub(crate) fn remote_write(address: &str, body: &[u8]) -> std::io::Result<Response> {
    let headers = [
        ("Content-Type", "application/x-protobuf"),
        ("Content-Encoding", "snappy"),
        ("X-Prometheus-Remote-Write-Version", "0.1.0"),
    ];
    http::request(address, "POST", "/api/v1/write", &headers, body)
}
