//! Buckets for tests of the whole: a directory, and a real S3 server, `moto_server`.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pyrrha_env::{Clock, SystemClock};

/// Names the program if it is not on the path.
const PROGRAM: &str = "PYRRHA_MOTO_SERVER";
/// Names a file about another server.
const OTHER: &str = "PYRRHA_S3_CONFIG";
/// The bucket that a server begins with.
const BUCKET: &str = "metrics";
/// Time in which a server has to begin to answer.
const PATIENCE: Duration = Duration::from_secs(90);

/// An `objstore.yml` of a bucket in a directory, of the part of it under `prefix` ("" for all).
pub fn directory_yml(bucket: &Path, prefix: &str) -> String {
    format!("type: FILESYSTEM\nconfig:\n  directory: {}\nprefix: \"{prefix}\"\n", bucket.display())
}

/// An `objstore.yml` of the bucket of a [`MotoServer`] that is reached at `address`.
pub fn s3_yml(address: &str, prefix: &str) -> String {
    format!(
        "type: S3\nconfig:\n  bucket: {BUCKET}\n  endpoint: {address}\n  insecure: true\n  access_key: k\n  \
         secret_key: s\nprefix: \"{prefix}\"\n"
    )
}

/// An `objstore.yml` of the part under `prefix` of a bucket on another S3 server than moto, if somebody runs one and
/// names the `objstore.yml` of an empty bucket there, without a prefix, in `PYRRHA_S3_CONFIG`. Each test has a prefix
/// of its own.
///
/// # Panics
/// If the file is named and does not read.
pub fn other_s3_yml(prefix: &str) -> Option<String> {
    let Some(file) = std::env::var_os(OTHER) else {
        println!("skipped: no other S3 server; .ci/e2e/radosgw runs one, or set {OTHER}");
        return None;
    };
    let yml = std::fs::read_to_string(file).expect("the file that the variable names");
    Some(format!("{yml}prefix: \"{prefix}\"\n"))
}

/// A running S3 server with an empty bucket; it ends when this drops.
#[derive(Debug)]
pub struct MotoServer {
    child: Child,
    address: String,
}

impl Drop for MotoServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl MotoServer {
    /// Starts one. `None`, with a printed word, where there is no `moto_server`.
    ///
    /// # Panics
    /// If it is there and does not answer.
    pub fn start() -> Option<Self> {
        let named = std::env::var_os(PROGRAM).map(PathBuf::from);
        let on_path = || {
            let path = std::env::var_os("PATH")?;
            std::env::split_paths(&path).map(|dir| dir.join("moto_server")).find(|file| file.exists())
        };
        let Some(program) = named.or_else(on_path) else {
            println!("skipped: no moto_server; pip install 'moto[server]', or set {PROGRAM}");
            return None;
        };
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let port = listener.local_addr().expect("it is bound").port();
        drop(listener);
        let child = Command::new(program)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("moto_server starts");
        let server = Self { child, address: format!("127.0.0.1:{port}") };
        let clock = SystemClock::new();
        while !server.ask("PUT", &format!("/{BUCKET}")).is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
        {
            assert!(clock.monotonic() < PATIENCE, "moto_server does not answer");
            clock.sleep(Duration::from_millis(100));
        }
        Some(server)
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its `objstore.yml`.
    pub fn yml(&self, prefix: &str) -> String {
        s3_yml(&self.address, prefix)
    }

    /// All keys that begin with `prefix`, sorted.
    pub fn keys(&self, prefix: &str) -> io::Result<Vec<String>> {
        let mut found: Vec<String> = Vec::new();
        loop {
            let after = found.last().map(|key| format!("&start-after={key}")).unwrap_or_default();
            let answer = self.ask("GET", &format!("/{BUCKET}?list-type=2&prefix={prefix}{after}"))?;
            if !answer.starts_with("HTTP/1.1 200") {
                return Err(io::Error::other(answer));
            }
            let keys = answer.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next());
            found.extend(keys.map(str::to_owned));
            if !answer.contains("<IsTruncated>true") {
                return Ok(found);
            }
        }
    }

    fn ask(&self, method: &str, path: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(&self.address)?;
        let host = &self.address;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}
