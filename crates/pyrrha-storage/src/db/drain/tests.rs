//! A log that is larger than the memory for it.

use std::sync::Arc;
use std::time::Duration;

use pyrrha_model::contract::Ingest;
use pyrrha_model::{Labels, TenantId};
use pyrrha_testkit::{SimClock, SimDisk};

use super::super::Db;
use super::super::tests::{append, read};
use crate::StorageConfig;
use crate::wal::WalConfig;

const NOW: i64 = 1_700_000_040_000;
const RANGE: i64 = 60_000;
const RANGES: i64 = 12;

struct Machine {
    disk: SimDisk,
    clock: Arc<SimClock>,
    tenant: TenantId,
}

impl Machine {
    fn new() -> Self {
        Self { disk: SimDisk::new(9), clock: Arc::new(SimClock::new(NOW)), tenant: TenantId::anonymous() }
    }

    fn open(&self, head_memory_bytes: u64) -> Db {
        let config = StorageConfig {
            wal: WalConfig { segment_bytes: 16 << 10, ..WalConfig::default() },
            block_range_ms: RANGE,
            samples_per_chunk: 7,
            checkpoint_after_samples: u64::MAX,
            checkpoint_every: Duration::from_secs(1 << 20),
            disk_reserve_bytes: 0,
            head_memory_bytes,
            ..StorageConfig::new("data")
        };
        Db::open_stepwise(config, Arc::new(self.disk.clone()), self.clock.clone()).expect("opens")
    }

    /// Twelve ranges, each of other series but for one; one sample is late, one series is behind.
    fn with_log(series: usize) -> Self {
        let machine = Self::new();
        let db = machine.open(0);
        while db.recover_step().expect("recovers") {}
        for range in 0..RANGES {
            machine.clock.advance(Duration::from_millis(RANGE as u64));
            for i in 0..10 {
                let t = NOW + range * RANGE + i * 5_000;
                let samples: Vec<(usize, i64, f64)> = (0..series)
                    .map(|s| (1 + range as usize * series + s, t, s as f64 + 0.5))
                    .chain([(0, t, i as f64)])
                    .collect();
                append(&db, &machine.tenant, &samples);
            }
            if range > 1 {
                let behind = NOW + (range - 1) * RANGE + 58_000;
                append(&db, &machine.tenant, &[(100_000, behind, 1.0), (0, behind + 1, -1.0)]);
            }
        }
        machine.die(db);
        machine
    }

    fn die(&self, db: Db) {
        self.disk.power_off();
        drop(db);
        self.disk.crash();
    }

    /// Recovers; gives the most memory that heads took.
    fn recover(db: &Db) -> u64 {
        let mut most = 0;
        while db.recover_step().expect("a step") {
            most = most.max(db.head_stats().memory_bytes);
        }
        most
    }
}

#[test]
fn memory_stays_inside_the_budget_and_answers_are_the_same() {
    let machine = Machine::with_log(300);
    let db = machine.open(0);
    let unbounded = Machine::recover(&db);
    let expected = read(&db, &machine.tenant);
    assert_eq!(db.metrics().blocks_cut.get(), 0);
    assert_eq!(expected.len(), 2 + 300 * RANGES as usize);
    machine.die(db);

    let budget = unbounded / 2;
    let db = machine.open(budget);
    let most = Machine::recover(&db);
    // What one segment brings comes on top.
    assert!(most <= budget + budget / 4, "most={most} budget={budget} unbounded={unbounded}");
    assert!(db.metrics().blocks_cut.get() > 3, "{}", db.metrics().blocks_cut.get());
    assert!(db.metrics().series_removed.get() > 600, "{}", db.metrics().series_removed.get());
    assert!(read(&db, &machine.tenant) == expected, "the answers differ");
    assert_eq!(db.metrics().replay_lost.get(), 0);
    // The log goes, and the next start finds the same.
    db.maintain().expect("maintains");
    machine.die(db);
    let db = machine.open(budget);
    Machine::recover(&db);
    assert!(read(&db, &machine.tenant) == expected, "the answers differ after another start");
}

#[test]
fn a_crash_while_the_log_is_drained_costs_nothing() {
    let machine = Machine::with_log(20);
    let db = machine.open(0);
    Machine::recover(&db);
    let mut expected = read(&db, &machine.tenant);
    machine.die(db);
    let newest = NOW + RANGES * RANGE + 100_000;
    let mut cut = 0;
    for life in 0..25usize {
        let db = machine.open(1);
        for _ in 0..life * 25 {
            db.recover_step().expect("a step");
        }
        // Writers do not wait: for the newest range, and for one that may be drained by now.
        let t = newest + life as i64 * 1000;
        append(&db, &machine.tenant, &[(0, t, 5.0)]);
        insert(&mut expected, 0, t, 5.0);
        let old = NOW + 3 * RANGE + 55_001 + life as i64;
        append(&db, &machine.tenant, &[(200_000 + life, old, 7.0)]);
        insert(&mut expected, 200_000 + life, old, 7.0);
        cut += db.metrics().blocks_cut.get();
        machine.die(db);
    }
    assert!(cut > 5, "{cut}");
    let db = machine.open(1);
    Machine::recover(&db);
    let found = read(&db, &machine.tenant);
    assert_eq!(found.len(), expected.len());
    for (labels, samples) in &expected {
        assert_eq!(found.get(labels), Some(samples), "{labels}");
    }
    for _ in 0..3 {
        db.maintain().expect("maintains");
    }
    assert!(read(&db, &machine.tenant) == expected, "the answers differ after housekeeping");
}

fn insert(samples: &mut super::super::tests::Samples, series: usize, t: i64, v: f64) {
    let labels = Labels::from_pairs([("__name__", "m".to_owned()), ("i", series.to_string())]);
    let of_series = samples.entry(labels).or_default();
    of_series.push((t, v.to_bits()));
    of_series.sort_unstable();
}

#[test]
fn a_range_that_writers_have_touched_stays_in_the_head_until_recovery_is_through() {
    let machine = Machine::with_log(20);
    let db = machine.open(1);
    append(&db, &machine.tenant, &[(100_001, NOW + 7, 1.0)]);
    Machine::recover(&db);
    let first = db.blocks(&machine.tenant);
    assert!(!first.is_empty());
    assert!(first.iter().all(|block| block.min_time > NOW + 7), "{first:?}");
    let mut appender = db.appender(&machine.tenant).expect("an appender");
    let labels = Labels::from_pairs([("__name__", "m"), ("i", "100001")]);
    let series = appender.resolve(None, &labels).expect("a series");
    assert!(appender.append(series, 0, NOW + 7, 2.0).is_err(), "another value is stored");
}
