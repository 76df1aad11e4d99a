//! What the head costs: appends many series through the whole write path (admission, log with
//! fdatasync, head), then reads, restarts, and prints time and memory.
//!
//! `cargo run --release -p pyrrha-storage --example head_load -- <dir> [series] [samples]`
//!
//! With `PYRRHA_ABORT=1` it dies after it has written, as if killed. With `PYRRHA_OPEN=1` it only opens the directory,
//! and prints what the start took; `PYRRHA_ONE_THREAD=1` lets one thread read and apply the log.

use std::path::Path;
use std::sync::Arc;

use pyrrha_env::{Clock, OsDisk, SystemClock};
use pyrrha_model::contract::{Ingest, QueryContext, SelectHints, SeriesBatch, SeriesKey};
use pyrrha_model::{Labels, Matcher, TenantId, TimeRange};
use pyrrha_storage::{Db, StorageConfig};

const BATCH: usize = 2000;
const WRITERS: usize = 8;

fn labels(i: usize) -> Labels {
    let (target, metric) = (i / 500, i % 500);
    Labels::from_pairs([
        ("__name__", format!("http_server_requests_metric_{metric:03}_total")),
        ("cluster", "eu-west-1-production".to_owned()),
        ("container", format!("container-{}", target % 20)),
        ("endpoint", "metrics".to_owned()),
        ("env", "production".to_owned()),
        ("instance", format!("10.0.{}.{}:9100", target / 250, target % 250)),
        ("job", format!("service-{}", target % 40)),
        ("method", "GET".to_owned()),
        ("namespace", format!("namespace-{}", target % 40)),
        ("pod", format!("service-{}-{target:08x}", target % 40)),
        ("region", "eu-west-1".to_owned()),
        ("status", (200 + metric % 5).to_string()),
    ])
}

fn key(i: usize) -> SeriesKey {
    let mix = |x: u64| {
        (x ^ x >> 31).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23).wrapping_mul(0xD6E8_FEB8_6659_FD93)
    };
    SeriesKey(u128::from(mix(i as u64 + 1)) << 64 | u128::from(mix(i as u64 + 0x5DEE_CE66)))
}

fn value(i: usize, round: usize) -> f64 {
    match i % 4 {
        0 => (round * (i % 97 + 1)) as f64,
        1 => 42.0,
        2 => ((i * 31 + round * round * 7) % 1000) as f64 / 10.0,
        _ => (round / 10) as f64,
    }
}

/// A line of `/proc/self/status`, in kB.
fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix(name)).unwrap_or("");
    line.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// CPU seconds of the process so far.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

fn write(db: &Db, first: usize, end: usize, rounds: usize, start: i64) {
    let tenant = TenantId::anonymous();
    let mut found = Vec::new();
    for round in 0..rounds {
        for batch in (first..end).step_by(BATCH) {
            let keys: Vec<SeriesKey> = (batch..end.min(batch + BATCH)).map(key).collect();
            let mut appender = db.appender(&tenant).expect("the database takes writes");
            appender.lookup(&keys, &mut found);
            for (i, found) in (batch..).zip(&found) {
                let series = match found {
                    Some(series) => *series,
                    None => appender.resolve(Some(key(i)), &labels(i)).expect("no limit is set"),
                };
                let t = start + round as i64 * 15_000 + (i / 500 % 1000) as i64;
                appender.append(series, 0, t, value(i, round)).expect("samples are in order");
            }
            appender.commit().expect("the disk takes the log");
        }
    }
}

fn read(db: &Db, clock: &dyn Clock, matchers: &[Matcher], what: &str) {
    let ctx = QueryContext::unlimited();
    let before = clock.monotonic();
    let mut set =
        db.queryable().select(&ctx, matchers, TimeRange::ALL, &SelectHints::default()).expect("a select");
    let selected = clock.monotonic() - before;
    let (mut batch, mut series, mut chunks) = (SeriesBatch::default(), 0, 0);
    while set.next_batch(256, &mut batch).expect("a batch") {
        series += batch.series.len();
        chunks += batch.series.iter().map(|s| s.chunks.len()).sum::<usize>();
    }
    println!(
        "{what}: {series} series, {chunks} chunks, select {selected:?}, all {:?}",
        clock.monotonic() - before
    );
}

fn main() {
    let mut args = std::env::args().skip(1);
    let dir = args.next().expect("a directory");
    let series: usize = args.next().and_then(|a| a.parse().ok()).unwrap_or(100_000);
    let rounds: usize = args.next().and_then(|a| a.parse().ok()).unwrap_or(480);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let mut config = StorageConfig::new(Path::new(&dir));
    if std::env::var_os("PYRRHA_ONE_THREAD").is_some() {
        // What may be drained is not read ahead.
        config.head_memory_bytes = u64::MAX;
    }
    if std::env::var_os("PYRRHA_ABORT").is_some() {
        // The next start reads the whole log.
        (config.checkpoint_after_samples, config.checkpoint_every) = (u64::MAX, std::time::Duration::MAX);
    }
    let open = || Db::open(config.clone(), Arc::new(OsDisk), clock.clone()).expect("opens");
    let (before, cpu_before) = (clock.monotonic(), cpu());
    let db = open();
    let writable = clock.monotonic() - before;
    db.wait_recovered();
    println!(
        "first open: writable after {writable:?}, recovered after {:?}, {:.2} s of CPU, {} samples replayed",
        clock.monotonic() - before,
        cpu() - cpu_before,
        db.metrics().replayed.get()
    );
    if std::env::var_os("PYRRHA_OPEN").is_some() {
        std::process::abort();
    }
    let empty = memory("VmRSS:");
    let start = clock.now_ms() - rounds as i64 * 15_000;
    let (before, cpu_before) = (clock.monotonic(), cpu());
    let share = series.div_ceil(WRITERS);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                db.maintain().expect("maintains");
                clock.sleep(std::time::Duration::from_millis(500));
            }
        });
        std::thread::scope(|writers| {
            for w in 0..WRITERS {
                let db = &db;
                writers.spawn(move || write(db, w * share, series.min((w + 1) * share), rounds, start));
            }
        });
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let (wall, used) = (clock.monotonic() - before, cpu() - cpu_before);
    let samples = (series * rounds) as f64;
    println!("append: {samples} samples in {wall:?}, {:.0} ns/sample CPU", used / samples * 1e9);
    let per_series = |kb: u64| kb.saturating_sub(empty) as f64 * 1024.0 / series as f64;
    println!(
        "memory: {:.0} B/series now, {:.0} peak, {:.0} anonymous, {:.0} in files; {:?}",
        per_series(memory("VmRSS:")),
        per_series(memory("VmHWM:")),
        per_series(memory("RssAnon:")),
        memory("RssFile:") as f64 * 1024.0 / series as f64,
        db.head_stats()
    );
    println!("log: {:.2} B/sample", db.wal().bytes() as f64 / samples);
    read(&db, &*clock, &[], "first read");
    read(&db, &*clock, &[], "second read");
    read(&db, &*clock, &[Matcher::equal("job", "service-7")], "one job");
    if std::env::var_os("PYRRHA_ABORT").is_some() {
        std::process::abort();
    }
    let before = clock.monotonic();
    drop(db);
    println!("close: {:?}", clock.monotonic() - before);
    let before = clock.monotonic();
    let db = open();
    println!("open: {:?}, {} samples replayed", clock.monotonic() - before, db.metrics().replayed.get());
    read(&db, &*clock, &[], "after restart");
}
