//! `kill -9` while writers write, in order and late: every acknowledged sample is there exactly once,
//! with its exact value, and nothing is there that was not sent.
//!
//! Environment: `PYRRHA_KILLS` (5; the end-to-end run uses 20), `PYRRHA_KILL_SEED` (1).

#[path = "support/http.rs"]
mod http;
#[path = "support/process.rs"]
mod process;

#[path = "kill/writer.rs"]
mod writer;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use process::{Server, free_address};
use writer::{SERIES, Writer};

const WRITERS: usize = 4;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a test waits for another process")]
fn acknowledged_samples_survive_kill_nine() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let address = free_address();
    let (kills, mut random) = (setting("PYRRHA_KILLS", 5), setting("PYRRHA_KILL_SEED", 1));
    let mut server = Server::pyrrha(dir.path(), &address);
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..WRITERS).map(|id| Writer::new(id, &address)).collect();
    let acknowledged: Vec<Arc<AtomicU64>> = writers.iter().map(|w| w.acknowledged.clone()).collect();
    let base = writers[0].base;
    let threads: Vec<_> = writers
        .into_iter()
        .map(|writer| {
            let stop = stop.clone();
            std::thread::spawn(move || writer.run(&stop))
        })
        .collect();
    for kill in 0..kills {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_millis(100 + (random >> 33) % 900));
        server.kill();
        // What was acknowledged by now was acknowledged before the kill.
        let before: Vec<u64> = acknowledged.iter().map(|a| a.load(Ordering::Acquire)).collect();
        server = Server::pyrrha(dir.path(), &address);
        verify(&server, base, &before, &format!("after kill {}", kill + 1));
    }
    stop.store(true, Ordering::Release);
    threads.into_iter().for_each(|t| t.join().expect("the writer ends well"));
    let all: Vec<u64> = acknowledged.iter().map(|a| a.load(Ordering::Acquire)).collect();
    assert!(all.iter().all(|n| *n > 0), "every writer got something acknowledged: {all:?}");
    verify(&server, base, &all, "at the end");
    let metrics = server.get("/metrics").text();
    let late =
        metrics.lines().find_map(|l| l.strip_prefix("pyrrha_head_out_of_order_samples_appended_total "));
    println!("late since the last kill: {late:?}");
    println!("{kills} kills, batches acknowledged by writer: {all:?}");
}

/// Every batch below `acknowledged[writer]` is there exactly once and exact; later ones may be there,
/// and are exact too.
fn verify(server: &Server, base: i64, acknowledged: &[u64], when: &str) {
    let path = format!("/api/v1/query?query={}&time={}", http::encode("kill_test[3h]"), base / 1000 + 7200);
    let answer = server.get(&path);
    assert_eq!(answer.status, 200, "{when}: {}", answer.text());
    let answer: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    let mut seen = vec![0u64; acknowledged.len()];
    for row in answer["data"]["result"].as_array().expect("a matrix") {
        let number = |label: &str| {
            row["metric"][label].as_str().and_then(|v| v.parse::<usize>().ok()).expect("a numbered label")
        };
        let (writer, series) = (number("writer"), number("series"));
        let values = row["values"].as_array().expect("values");
        let mut batches = BTreeSet::new();
        for pair in values {
            let t = (pair[0].as_f64().expect("a time") * 1000.0).round() as i64;
            let k = (t - base) as u64 / writer::SPACING_MS as u64;
            let value: f64 = pair[1].as_str().and_then(|v| v.parse().ok()).expect("a value");
            let want = writer::value(writer, series, k);
            assert_eq!(value.to_bits(), want.to_bits(), "{when}: writer {writer} series {series} sample {k}");
            let new = batches.insert(writer::place(series, k));
            assert!(new, "{when}: writer {writer} series {series}: a double of sample {k}");
        }
        let got = values.len() as u64;
        assert!(
            batches.iter().copied().eq(0..got),
            "{when}: writer {writer} series {series}: batches with a gap: {batches:?}"
        );
        assert!(
            got >= acknowledged[writer],
            "{when}: writer {writer} series {series} has {got} of {} acknowledged samples",
            acknowledged[writer]
        );
        seen[writer] += 1;
    }
    for (writer, series) in seen.iter().enumerate() {
        assert!(
            acknowledged[writer] == 0 || *series == SERIES as u64,
            "{when}: writer {writer} lost whole series"
        );
    }
}
