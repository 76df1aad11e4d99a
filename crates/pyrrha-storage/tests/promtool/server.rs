//! A Prometheus server, and what it says of histograms.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pyrrha_model::FloatHistogram;

/// A Prometheus server over a directory, killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    process: Child,
    port: u16,
}

impl Server {
    /// `None` where it is not on the path.
    pub(crate) fn start(dir: &Path) -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = dir.join("prometheus.yml");
        std::fs::write(&config, "global: {}\n").unwrap();
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", dir.display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args([
                "--storage.tsdb.retention.time=100y",
                "--log.level=error",
                "--enable-feature=native-histograms",
            ])
            .stdout(Stdio::null())
            .spawn();
        match process {
            Ok(process) => Some(Self { process, port }),
            Err(error) => {
                println!("skipped: prometheus cannot be run: {error}");
                None
            }
        }
    }

    /// The body of an answer, once there is one.
    pub(crate) fn get(&self, path: &str) -> String {
        for _ in 0..600 {
            let answer = TcpStream::connect(("127.0.0.1", self.port)).and_then(|mut stream| {
                write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
                let mut text = String::new();
                stream.read_to_string(&mut text)?;
                Ok(text)
            });
            match answer {
                Ok(text) if text.starts_with("HTTP/1.0 200") => {
                    return text.split_once("\r\n\r\n").unwrap().1.to_owned();
                }
                _ => pause(),
            }
        }
        panic!("no answer to {path}");
    }
}

#[allow(clippy::disallowed_methods, reason = "a test waits for another process")]
fn pause() {
    std::thread::sleep(Duration::from_millis(100));
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// Counts of a histogram's buckets that are not empty, from the lowest.
pub(crate) fn bucket_counts(h: &FloatHistogram) -> Vec<f64> {
    let (negative, positive) = (h.negative_buckets.iter().rev(), h.positive_buckets.iter());
    negative.chain([&h.zero_count]).chain(positive).copied().filter(|&count| count != 0.0).collect()
}
