//! The database on a simulated disk, under seeds: every acknowledged sample is there exactly once
//! with its value, nothing is invented, whatever the disk does and whenever the process dies.
//!
//! `PYRRHA_SEED=n` runs one seed, `PYRRHA_SEEDS=n` that many.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pyrrha_encoding::{SeriesSamples, Want, decode_series};
use pyrrha_env::Disk;
use pyrrha_model::contract::{ChunkRef, Ingest, QueryContext, SelectHints, SeriesBatch};
use pyrrha_model::{Labels, TenantId, TimeRange};
use pyrrha_storage::block::{BlockId, Layout};
use pyrrha_storage::wal::{DamageReason, WalConfig};
use pyrrha_storage::{Db, StorageConfig, StorageError};
use pyrrha_testkit::{Fault, SimClock, SimDisk, SimRng, run_seeds};

const SERIES: usize = 6;
const TENANTS: usize = 2;

/// Where a sample is: tenant, series, time.
type Key = (usize, usize, i64);

struct Run {
    seed: u64,
    rng: SimRng,
    disk: SimDisk,
    clock: Arc<SimClock>,
    db: Option<Db>,
    /// Starts so far: tenants come to want dense blocks, and no more.
    lives: u64,
    /// Whether the sample was acknowledged.
    samples: BTreeMap<Key, bool>,
    /// Newest time per tenant and series that was tried.
    newest: [[i64; SERIES]; TENANTS],
    faults: bool,
    /// Length of the out-of-order window, ms.
    window: i64,
    /// Memory for heads, bytes; 0: any amount.
    head_memory: u64,
    found: BTreeSet<Key>,
}

fn tenant(i: usize) -> TenantId {
    TenantId::new(&format!("t{i}")).unwrap()
}

fn labels(i: usize) -> Labels {
    Labels::from_pairs([("__name__", "m".to_owned()), ("i", i.to_string())])
}

/// The value of a sample is a function of its place: a sender that tries again sends the same.
fn value((tenant, series, t): Key) -> f64 {
    (t * 31 + series as i64 * 7 + tenant as i64) as f64 / 8.0
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut rng = SimRng::new(seed);
        let faults = rng.percent(60);
        let window = if rng.percent(50) { 0 } else { 600_000 };
        // Drawn apart, so that older seeds stay what they were: none, hardly any, or that of a few pages.
        let head_memory = [0, 1, 90_000][SimRng::new(seed ^ 0x5EED).index(3)];
        let clock = Arc::new(SimClock::new(1_700_000_000_000));
        let mut run = Self {
            seed,
            rng,
            disk: SimDisk::new(seed),
            clock,
            db: None,
            lives: 0,
            samples: BTreeMap::new(),
            newest: [[1_700_000_000_000 - 3_600_000; SERIES]; TENANTS],
            faults,
            window,
            head_memory,
            found: BTreeSet::new(),
        };
        run.open();
        run
    }

    fn open(&mut self) {
        self.db = None;
        self.lives += 1;
        let mut last = String::new();
        for _ in 0..50 {
            let config = StorageConfig {
                wal: WalConfig { segment_bytes: 8 << 10, ..WalConfig::default() },
                block_range_ms: 120_000,
                samples_per_chunk: 7,
                quiet_before_cut: Duration::ZERO,
                checkpoint_after_samples: 40,
                disk_reserve_bytes: 8 << 10,
                out_of_order_window_ms: self.window,
                head_memory_bytes: self.head_memory,
                idle_cut_after: Duration::from_secs(50),
                tenant_dense: [(tenant(0), (self.seed + self.lives).is_multiple_of(3))].into(),
                ..StorageConfig::new("data")
            };
            match Db::open_stepwise(config, Arc::new(self.disk.clone()), self.clock.clone())
                .and_then(|db| self.recover(db))
            {
                // The disk failed on the way: another start finds what this one could not read.
                Ok(db) if !db.log_damage().is_clean() || self.disk.is_off() => {
                    assert!(self.faults, "seed {}: {}", self.seed, db.log_damage());
                    self.live_with_less(db);
                    if self.disk.is_off() {
                        self.disk.crash();
                    }
                    self.disk.heal();
                }
                Ok(db) => {
                    self.db = Some(db);
                    return;
                }
                Err(error) if self.faults => {
                    if self.disk.is_off() {
                        self.disk.crash();
                    } else if matches!(error, StorageError::InUse { .. }) {
                        // A lock that was taken although it was reported as failed.
                        self.disk.kill();
                    }
                    self.disk.heal();
                    self.disk.set_capacity(None);
                    last = error.to_string();
                }
                Err(error) => panic!("seed {}: {error}", self.seed),
            }
        }
        panic!("seed {}: does not open: {last}", self.seed);
    }

    /// The process goes on although the disk did not give all of the log: what it cuts meanwhile lacks
    /// samples that a later start finds.
    fn live_with_less(&mut self, db: Db) {
        let hidden = db.log_damage().places.iter().all(|p| p.reason == DamageReason::Unreadable);
        if hidden && !self.disk.is_off() && SimRng::new(self.seed ^ self.lives).percent(70) {
            self.disk.heal();
            self.db = Some(db);
            for _ in 0..self.rng.below(30) {
                self.append();
                if self.rng.percent(30) {
                    self.clock.advance(Duration::from_secs(self.rng.below(40)));
                    self.db.as_ref().map(Db::maintain);
                }
                if self.rng.percent(2) {
                    self.disk.fail_in(self.rng.below(60), Fault::PowerOff);
                }
            }
            self.db = None;
        }
    }

    /// Recovers, while requests come in.
    fn recover(&mut self, db: Db) -> Result<Db, StorageError> {
        self.db = Some(db);
        let mut result = Ok(true);
        while let (Ok(true), Some(db)) = (&result, &self.db) {
            result = db.recover_step();
            if result.is_ok() && self.rng.percent(30) {
                self.append();
            }
        }
        let db = self.db.take();
        result.map(|_| db.expect("nobody else takes it"))
    }

    fn append(&mut self) {
        let Some(db) = &self.db else { return };
        let owner = self.rng.index(TENANTS);
        let Ok(mut appender) = db.appender(&tenant(owner)) else { return };
        let mut keys: Vec<Key> = Vec::new();
        for _ in 0..1 + self.rng.index(12) {
            let series = self.rng.index(SERIES);
            let newest = &mut self.newest[owner][series];
            // Now and then what was sent before comes once more.
            let late = self.window > 0 && self.rng.percent(20);
            let t = match self.rng.below(10) {
                _ if late => *newest - self.rng.below(self.window.unsigned_abs()) as i64,
                0 => *newest,
                _ => *newest + 1 + self.rng.below(9_000) as i64,
            };
            let reference = appender.resolve(None, &labels(series)).unwrap();
            let key = (owner, series, t);
            if appender.append(reference, 0, t, value(key)).is_ok() {
                *newest = t.max(*newest);
                keys.push(key);
            }
        }
        let acknowledged = appender.commit().is_ok();
        for key in keys {
            *self.samples.entry(key).or_default() |= acknowledged;
        }
        if !acknowledged {
            // The sender goes back to what it knows to be stored.
            for (series, newest) in self.newest[owner].iter_mut().enumerate() {
                let stored = self.samples.range((owner, series, i64::MIN)..=(owner, series, i64::MAX));
                let last = stored.filter(|(_, acknowledged)| **acknowledged).map(|(key, _)| key.2).max();
                *newest = last.unwrap_or(1_700_000_000_000 - 3_600_000);
            }
        }
    }

    /// Compares everything with the model.
    fn check(&mut self) {
        let Some(db) = &self.db else { return };
        let mut found: BTreeMap<Key, f64> = BTreeMap::new();
        for owner in 0..TENANTS {
            let mut ctx = QueryContext::unlimited();
            ctx.tenant = tenant(owner);
            let queryable = db.queryable();
            let selected = queryable.select(&ctx, &[], TimeRange::ALL, &SelectHints::default());
            let mut set = match selected {
                Ok(set) => set,
                Err(_) if self.faults => return,
                Err(error) => panic!("seed {}: {error}", self.seed),
            };
            let (mut batch, mut samples) = (SeriesBatch::default(), SeriesSamples::default());
            while set.next_batch(4, &mut batch).unwrap() {
                for entry in &batch.series {
                    let series = batch.resolve(&ctx.symbols, entry).get("i").unwrap().parse().unwrap();
                    decode_series(entry, TimeRange::ALL, Want::default(), &mut samples).unwrap();
                    let times = &samples.floats.times;
                    assert!(times.is_sorted_by(|a, b| a < b), "seed {}: a sample comes twice", self.seed);
                    let count =
                        |c: &ChunkRef| pyrrha_encoding::chunk::sample_count(c.encoding, &c.bytes).unwrap();
                    let stored: usize = entry.chunks.iter().map(count).sum();
                    // A crash between the cut of late samples and the next checkpoint leaves a second copy,
                    // beside the block, which readers merge away (ADR 9). Samples sent while the log was
                    // replayed may be late without a window.
                    let mut spans: Vec<_> = entry.chunks.iter().map(|c| (c.min_time, c.max_time)).collect();
                    spans.sort_unstable();
                    let apart = spans.windows(2).all(|pair| pair[0].1 < pair[1].0);
                    assert!(!apart || stored == times.len(), "seed {}: a sample is there twice", self.seed);
                    for (&t, &v) in samples.floats.times.iter().zip(&samples.floats.values) {
                        found.insert((owner, series, t), v);
                    }
                }
            }
        }
        for (key, v) in &found {
            assert!(self.samples.contains_key(key), "seed {}: {key:?} was never sent", self.seed);
            assert_eq!(*v, value(*key), "seed {}: {key:?}", self.seed);
        }
        for (key, acknowledged) in &self.samples {
            assert!(!acknowledged || found.contains_key(key), "seed {}: {key:?} is lost", self.seed);
        }
        self.found = found.into_keys().collect();
    }

    /// After a restart nothing is in doubt: what is there stays, what is not never comes.
    fn check_restarted(&mut self) {
        self.found.clear();
        self.check();
        if self.db.is_some() && !self.found.is_empty() {
            self.samples.retain(|key, _| self.found.contains(key));
            self.samples.values_mut().for_each(|acknowledged| *acknowledged = true);
        }
    }

    /// After a start every block directory is that of a live block, and no job is left.
    fn check_tidy(&self) {
        let Some(db) = &self.db else { return };
        for owner in (0..TENANTS).map(tenant) {
            let bucket = db.bucket_dir(&owner);
            let list = |dir: &Path| self.disk.list(dir).unwrap_or_default();
            let dirs = |dense: bool| -> BTreeSet<(bool, BlockId)> {
                let home = if dense { bucket.join("dense") } else { bucket.clone() };
                list(&home).iter().filter_map(|e| Some((dense, e.name.parse().ok()?))).collect()
            };
            let dirs = &dirs(false) | &dirs(true);
            let live: BTreeSet<(bool, BlockId)> =
                db.open_blocks(&owner).iter().map(|b| (b.layout() == Layout::Dense, b.meta().ulid)).collect();
            let jobs = list(&bucket.join("jobs"));
            if self.head_memory > 0 && self.faults && !jobs.is_empty() {
                // A cut of the drained log that the disk stopped: it is tried again, or the next start
                // tidies up.
                continue;
            }
            assert_eq!(dirs, live, "seed {}: directories and live blocks of {owner}", self.seed);
            assert!(jobs.is_empty(), "seed {}: {jobs:?}", self.seed);
        }
    }

    fn die(&mut self, power: bool) {
        self.disk.power_off();
        self.db = None;
        if power {
            self.disk.crash()
        } else {
            self.disk.kill()
        }
        self.disk.heal();
        self.open();
        self.check_tidy();
        self.check_restarted();
    }

    fn step(&mut self) {
        match self.rng.below(100) {
            0..=69 => self.append(),
            70..=79 => {
                self.clock.advance(Duration::from_secs(self.rng.below(40)));
                if let Some(db) = &self.db {
                    let result = db.maintain();
                    assert!(self.faults || result.is_ok(), "seed {}: {result:?}", self.seed);
                }
            }
            80..=83 => self.check(),
            84..=86 => self.die(true),
            87..=88 => self.die(false),
            89 => {
                self.db = None;
                self.open();
                self.check_restarted();
            }
            _ if !self.faults => {}
            90..=93 => self.disk.fail_in(self.rng.below(60), Fault::PowerOff),
            94..=95 => self.disk.fail_in(self.rng.below(30), Fault::Io),
            96..=97 => self.disk.set_capacity(Some(self.disk.used() + self.rng.below(20_000))),
            _ => {
                self.disk.set_capacity(None);
                self.disk.heal();
            }
        }
        if self.disk.is_off() {
            self.die(true);
        }
    }
}

fn run(seed: u64) {
    let mut run = Run::new(seed);
    for _ in 0..120 {
        run.step();
    }
    run.disk.set_capacity(None);
    run.die(true);
    run.die(false);
}

#[test]
fn what_was_acknowledged_is_there_exactly_once_whatever_happens() {
    run_seeds(150, run);
}
