//! What a sample costs in the log: encode with its share of a group commit, replay, bytes on disk.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pyrrha_env::Clock;
use pyrrha_model::TenantId;
use pyrrha_storage::wal::{LogBatch, LogPosition, Wal, WalConfig, WalSink};
use pyrrha_testkit::{SimClock, SimDisk, SimRng};

const SERIES: u32 = 20_000;
const BATCH: usize = 2_000;
const SCRAPES: u64 = 20;

struct Numbers;

impl WalSink for Numbers {
    fn labels(&self, _: &TenantId, series: u32, visit: &mut dyn FnMut(&str, &str)) {
        let (host, metric) = (series / 500, series % 500);
        visit("__name__", &format!("node_metric_{}_total", metric / 5));
        visit("cluster", "eu-west-1-production");
        visit("device", ["eth0", "eth1", "lo", "sda", "sdb"][metric as usize % 5]);
        visit("instance", &format!("10.0.{}.{}:9100", host / 256, host % 256));
        visit("job", "node");
    }

    fn apply(&self, _: Vec<LogBatch>, _: LogPosition) {}

    fn abandon(&self, _: Vec<LogBatch>) {}
}

/// Scrapes of counters, integer and decimal gauges, as remote write sends them: by shard, the
/// series of some targets after another, each target with its own time.
fn batches() -> Vec<LogBatch> {
    let mut rng = SimRng::new(1);
    let mut values: Vec<f64> = (0..SERIES)
        .map(|s| match s % 10 {
            0..5 => rng.below(1 << (8 + s % 28)) as f64,
            5 | 6 => rng.below(5) as f64,
            7 => rng.below(1_000_000) as f64 * 4096.0,
            8 => rng.below(100_000) as f64 / 1000.0,
            _ => rng.unit() * 100.0,
        })
        .collect();
    let mut all = Vec::new();
    for scrape in 0..SCRAPES {
        let mut batch = LogBatch::new(TenantId::anonymous());
        for series in 0..SERIES {
            let value = &mut values[series as usize];
            match series % 10 {
                0..3 => *value += rng.below(500) as f64,
                3 | 4 => *value += rng.below(2) as f64,
                5 | 6 if rng.percent(20) => *value = rng.below(5) as f64,
                7 => *value += 4096.0 * (rng.below(64) as f64 - 32.0),
                8 => *value = ((*value * 1000.0) + rng.below(200) as f64 - 100.0).round() / 1000.0,
                9 => *value += rng.unit() - 0.5,
                _ => {}
            }
            batch.refs.push(series);
            batch.times.push((1_700_000_000_000 + scrape * 15_000 + u64::from(series / 500) * 37) as i64);
            batch.values.push(*value);
            if batch.refs.len() == BATCH {
                all.push(std::mem::replace(&mut batch, LogBatch::new(TenantId::anonymous())));
            }
        }
    }
    all
}

fn open(disk: &SimDisk) -> (Wal, pyrrha_storage::wal::Replay) {
    let clock: Arc<dyn Clock> = Arc::new(SimClock::new(1_700_000_000_000));
    let disk = Arc::new(disk.clone());
    match Wal::open(WalConfig::default(), Path::new("wal"), disk, clock, LogPosition::default()) {
        Ok(opened) => opened,
        Err(error) => panic!("a healthy disk opens: {error}"),
    }
}

fn write(disk: &SimDisk, batches: &[LogBatch]) -> Wal {
    let (wal, _) = open(disk);
    wal.attach(Arc::new(Numbers));
    for batch in batches {
        if let Err(error) = wal.submit(batch.clone()).and_then(pyrrha_storage::wal::Ticket::wait) {
            panic!("a healthy disk writes: {error}");
        }
    }
    wal
}

fn wal(c: &mut Criterion) {
    let batches = batches();
    let samples = batches.iter().map(|b| b.samples() as u64).sum::<u64>();
    let disk = SimDisk::new(1);
    let log = write(&disk, &batches);
    let first = write(&SimDisk::new(1), &batches[..SERIES as usize / BATCH]);
    // All series are defined in the first scrape; its samples cost what the others do.
    let per_sample = (log.bytes() - first.bytes()) as f64 / (samples - u64::from(SERIES)) as f64;
    let definitions = (first.bytes() as f64 - per_sample * f64::from(SERIES)) / f64::from(SERIES);
    println!("{per_sample:.3} bytes a sample, {definitions:.2} bytes a series definition");

    let mut group = c.benchmark_group("wal");
    group.sample_size(10).throughput(Throughput::Elements(samples));
    group.bench_function("append", |b| b.iter(|| write(&SimDisk::new(1), black_box(&batches))));
    group.bench_function("replay", |b| b.iter(|| open(&disk).1.count()));
    group.finish();
}

criterion_group!(benches, wal);
criterion_main!(benches);
