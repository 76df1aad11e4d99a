//! Fifty small queries at once, as when a dashboard is opened: latencies until the last byte, as JSON.
//!
//! `burst --url http://host:port --end <unix seconds> [--rounds 20]`. Each round opens fifty connections,
//! lets all of them ask at the same moment, and waits for all answers. One round is not counted.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

/// Panels of one host, over an hour at 15 s.
const HOST: [&str; 5] = [
    "sum by (mode) (rate(node_cpu_seconds_total{instance=\"$\"}[5m]))",
    "node_memory_MemAvailable_bytes{instance=\"$\"} / node_memory_MemTotal_bytes{instance=\"$\"}",
    "rate(node_network_receive_bytes_total{instance=\"$\"}[5m])",
    "node_load1{instance=\"$\"}",
    "max by (device) (rate(node_disk_io_time_seconds_total{instance=\"$\"}[5m]))",
];
const PANELS: usize = 50;

fn main() -> ExitCode {
    let mut flags = std::env::args().skip(1);
    let (mut url, mut end, mut rounds) = (String::new(), 0u64, 20usize);
    while let (Some(flag), Some(value)) = (flags.next(), flags.next()) {
        match flag.as_str() {
            "--url" => url = value,
            "--end" => end = value.parse().unwrap_or(0),
            "--rounds" => rounds = value.parse().unwrap_or(20),
            _ => {}
        }
    }
    let address = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
    if address.is_empty() || end == 0 {
        eprintln!("usage: burst --url http://host:port --end <unix seconds> [--rounds 20]");
        return ExitCode::FAILURE;
    }
    let mut latencies = Vec::new();
    for round in 0..=rounds {
        match one_round(&address, end) {
            Ok(_) if round == 0 => {}
            Ok(ms) => latencies.extend(ms),
            Err(error) => {
                eprintln!("burst: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    latencies.sort_by(f64::total_cmp);
    let at = |part: f64| latencies.get((latencies.len() as f64 * part) as usize).copied().unwrap_or(f64::NAN);
    println!(
        "{{\"queries\": {}, \"p50_ms\": {:.3}, \"p99_ms\": {:.3}, \"max_ms\": {:.3}}}",
        latencies.len(),
        at(0.5),
        at(0.99),
        latencies.last().copied().unwrap_or(f64::NAN)
    );
    ExitCode::SUCCESS
}

/// Milliseconds of each panel.
fn one_round(address: &str, end: u64) -> Result<Vec<f64>, String> {
    let together = Barrier::new(PANELS);
    thread::scope(|scope| {
        let panels: Vec<_> = (0..PANELS)
            .map(|panel| {
                let together = &together;
                scope.spawn(move || ask(address, &request(address, panel, end), together))
            })
            .collect();
        panels.into_iter().map(|p| p.join().map_err(|_| "a panel panicked".to_owned())?).collect()
    })
}

fn request(address: &str, panel: usize, end: u64) -> String {
    let host = format!("10.1.0.{}:9100", 2 + panel / HOST.len() * 3);
    let query = HOST[panel % HOST.len()].replace('$', &host);
    let encoded: String = query
        .bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect();
    let start = end - 3600;
    format!(
        "GET /api/v1/query_range?query={encoded}&start={start}&end={end}&step=15&nocache=1 HTTP/1.1\r\n\
         Host: {address}\r\nConnection: close\r\n\r\n"
    )
}

#[expect(clippy::disallowed_methods, reason = "this measures another process, in real time")]
fn ask(address: &str, request: &str, together: &Barrier) -> Result<f64, String> {
    let connected = TcpStream::connect(address);
    // Whoever failed meets the others too, who would wait for ever.
    together.wait();
    let mut stream = connected.map_err(|e| format!("{address}: {e}"))?;
    let began = Instant::now();
    let mut answer = Vec::new();
    stream.write_all(request.as_bytes()).map_err(|e| e.to_string())?;
    stream.read_to_end(&mut answer).map_err(|e| e.to_string())?;
    let ms = began.elapsed().as_secs_f64() * 1000.0;
    if !answer.starts_with(b"HTTP/1.1 200") || !answer.windows(8).any(|w| w == b"\"values\"") {
        let text = String::from_utf8_lossy(&answer);
        return Err(format!("no samples: {}", text.chars().take(300).collect::<String>()));
    }
    Ok(ms)
}
