//! The whole engine on a simulated disk, under seeds, with all it can store and all that can be done to
//! it: floats and native histograms of every kind, exemplars, metadata, late samples, deletes and their
//! undoing, retention by time and size, a wall clock that jumps, reads that go on meanwhile, snapshots,
//! writes while the log is replayed, lives beside a log that the disk does not give whole; power loss, kills,
//! I/O errors, a full disk; and, in runs of their own, flipped bits in any file.
//!
//! `PYRRHA_SEED=n` runs one seed, `PYRRHA_SEEDS=n` that many.

#![allow(clippy::unwrap_used, reason = "a test")]

mod model;
mod read;
mod rot;
mod values;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pyrrha_env::{Clock, Disk};
use pyrrha_model::contract::{Deletes, Ingest, Value};
use pyrrha_model::{ErrorKind, Exemplar, Labels, Matcher, Metadata, MetricType, TenantId, TimeRange};
use pyrrha_storage::block::{BlockId, BlockMeta, Layout};
use pyrrha_storage::wal::{DamageReason, DamageReport, WalConfig};
use pyrrha_storage::{Db, StorageConfig, StorageError};
use pyrrha_testkit::{DiskOp, Fault, SimClock, SimDisk, SimRng, run_seeds};

use model::{Fate, Model, ModelDelete, Standing};
use values::{labels, value};

const SERIES: usize = 8;
const TENANTS: usize = 2;
const START: i64 = 1_700_000_000_000;
const MINUTE: i64 = 60_000;

/// Where a sample is: tenant, series, time.
type Key = (usize, usize, i64);

struct Run {
    seed: u64,
    rng: SimRng,
    disk: SimDisk,
    clock: Arc<SimClock>,
    /// What the senders' clocks show.
    now: i64,
    config: StorageConfig,
    db: Option<Db>,
    lives: u64,
    model: Model,
    newest: [[i64; SERIES]; TENANTS],
    newest_exemplar: [[i64; SERIES]; TENANTS],
    faults: bool,
    /// Whether requests come in while the log is replayed.
    busy_starts: bool,
    /// Both clocks at each look of this life's housekeeping.
    looks: Vec<(Duration, i64)>,
    reading: Option<read::Reading>,
    snapshots: u64,
    helps: u64,
    /// What flipped bits may have cost.
    hurt: Vec<rot::Cost>,
    /// Blocks that were live when housekeeping failed: whether retention by size removed them a start tells.
    in_doubt: Vec<(usize, BlockMeta)>,
}

fn tenant(i: usize) -> TenantId {
    TenantId::new(&format!("t{i}")).unwrap()
}

impl Run {
    fn new(seed: u64, faults: bool, change: impl FnOnce(&mut StorageConfig)) -> Self {
        let mut rng = SimRng::new(seed);
        let mut config = StorageConfig {
            wal: WalConfig { segment_bytes: 8 << 10, ..WalConfig::default() },
            block_range_ms: 2 * MINUTE,
            samples_per_chunk: 7,
            quiet_before_cut: Duration::from_secs(rng.below(2) * 20),
            checkpoint_after_samples: 40,
            disk_reserve_bytes: 8 << 10,
            out_of_order_window_ms: [0, 5 * MINUTE, 60 * MINUTE][rng.index(3)],
            head_memory_bytes: [0, 1, 90_000][rng.index(3)],
            idle_cut_after: Duration::from_secs(50),
            delete_undo: Duration::from_secs(20 * 60),
            verify_every: Duration::from_secs(1800),
            index_tables_from: 1,
            retention: Duration::from_secs([0, 0, 3 * 3600][rng.index(3)]),
            retention_bytes: [0, 0, 60_000][rng.index(3)],
            ..StorageConfig::new("data")
        };
        if config.head_memory_bytes == 1 {
            // All of the head may be cut and removed for its size at once, and nothing would be left to check.
            config.retention_bytes = 0;
        }
        change(&mut config);
        let mut run = Self {
            seed,
            disk: SimDisk::new(seed),
            clock: Arc::new(SimClock::new(START)),
            now: START,
            config,
            db: None,
            lives: 0,
            model: Model { gone_before: i64::MIN, ..Model::default() },
            newest: [[START - 10 * MINUTE; SERIES]; TENANTS],
            newest_exemplar: [[START - 10 * MINUTE; SERIES]; TENANTS],
            faults: faults && rng.percent(70),
            busy_starts: !seed.is_multiple_of(3),
            looks: Vec::new(),
            reading: None,
            snapshots: 0,
            helps: 0,
            hurt: Vec::new(),
            in_doubt: Vec::new(),
            rng,
        };
        run.open();
        run
    }

    /// Tells what happens, where a single seed is replayed.
    fn note(&self, text: impl FnOnce() -> String) {
        if std::env::var_os("PYRRHA_SEED").is_some() {
            println!("{} +{} {}", self.disk.operations(), (self.now - START) / 1000, text());
        }
    }

    fn db(&self) -> &Db {
        self.db.as_ref().expect("open between steps")
    }

    /// Starts until a start finds the disk well.
    fn open(&mut self) {
        (self.db, self.reading) = (None, None);
        self.lives += 1;
        self.looks.clear();
        let dense = (self.seed + self.lives).is_multiple_of(4);
        self.config.tenant_dense = [(tenant(0), dense)].into();
        let mut last = String::new();
        for _ in 0..50 {
            let opened = self.recover();
            self.note(|| format!("open: {opened:?}"));
            if self.disk.is_off() {
                self.db = None;
                self.disk.crash();
                continue;
            }
            match opened {
                Ok(damage) if damage.is_clean() || !self.hurt.is_empty() => return,
                // The disk failed on the way: another start finds what this one could not read.
                Ok(damage) => {
                    assert!(self.faults, "seed {}: {damage}", self.seed);
                    last = damage.to_string();
                    if damage.places.iter().all(|p| p.reason == DamageReason::Unreadable) {
                        self.live_with_less();
                    }
                    self.db = None;
                    if self.disk.is_off() {
                        self.disk.crash();
                    }
                }
                Err(error) => {
                    assert!(self.faults, "seed {}: {error}", self.seed);
                    if matches!(error, StorageError::InUse { .. }) {
                        self.disk.kill();
                    }
                    last = error.to_string();
                }
            }
            self.disk.heal();
            self.disk.set_capacity(None);
        }
        panic!("seed {}: does not open: {last}", self.seed);
    }

    /// A start, while requests come in. Gives what it could not read of the log.
    fn recover(&mut self) -> Result<DamageReport, StorageError> {
        let (disk, clock) = (Arc::new(self.disk.clone()), self.clock.clone());
        self.db = Some(Db::open_stepwise(self.config.clone(), disk, clock)?);
        loop {
            match self.db().recover_step() {
                Ok(true) if self.busy_starts && self.rng.percent(30) => self.append(),
                Ok(true) => {}
                Ok(false) => return Ok(self.db().log_damage()),
                Err(error) => {
                    self.db = None;
                    return Err(error);
                }
            }
        }
    }

    /// The process goes on although the disk did not give all of the log: what it cuts meanwhile lacks
    /// samples that a later start finds, and it does not know all deletes.
    fn live_with_less(&mut self) {
        self.disk.heal();
        for _ in 0..self.rng.below(30) {
            self.append();
            let owner = self.rng.index(TENANTS);
            let refused = match self.rng.below(100) {
                0..=29 => {
                    let seconds = self.rng.below(40);
                    self.advance(seconds);
                    self.maintain();
                    continue;
                }
                30..=31 => {
                    // Deletes are due to become final.
                    self.advance(30 * 60);
                    self.maintain();
                    continue;
                }
                32..=33 => {
                    self.disk.fail_in(self.rng.below(60), Fault::PowerOff);
                    continue;
                }
                34..=36 => self.db().delete(&tenant(owner), &[vec![]], TimeRange::ALL).err(),
                37..=39 => self.db().purge_deletes(&tenant(owner)).err(),
                40..=44 => {
                    let invented =
                        |found: read::Found| found.into_keys().find(|k| !self.model.samples.contains_key(k));
                    let found = self.read(self.db(), owner).ok().and_then(|(found, _)| invented(found));
                    assert_eq!(found, None, "seed {}: invented beside an unreadable segment", self.seed);
                    continue;
                }
                _ => continue,
            };
            let known = self.db().tenants().contains(&tenant(owner));
            let refused = refused.map(|error| error.kind());
            assert!(!known || refused == Some(ErrorKind::Unavailable), "seed {}: {refused:?}", self.seed);
        }
    }

    pub(crate) fn try_open(&self) -> Result<Db, StorageError> {
        let (disk, clock) = (Arc::new(self.disk.clone()), self.clock.clone());
        Db::open_single_threaded(self.config.clone(), disk, clock)
    }

    fn append(&mut self) {
        let owner = self.rng.index(TENANTS);
        let Some(db) = &self.db else { return };
        let Ok(mut appender) = db.appender(&tenant(owner)) else { return };
        let (mut keys, mut exemplars, mut help) = (Vec::new(), Vec::new(), None);
        for _ in 0..1 + self.rng.index(12) {
            let series = self.rng.index(SERIES);
            let reference = appender.resolve(None, &labels(series)).unwrap();
            let newest = &mut self.newest[owner][series];
            let t = match self.rng.below(10) {
                0 => *newest,
                1 | 2 => *newest - self.rng.below(8 * MINUTE as u64) as i64,
                _ => (*newest + 1 + self.rng.below(9_000) as i64).max(self.now - MINUTE),
            };
            let key = (owner, series, t);
            // Whether what was deleted and is sent again is seen again depends on where it was.
            let says = |d: &ModelDelete| matches(&d.sets, &labels(series));
            if self.model.samples.contains_key(&key) && self.model.was_deleted(&key, says) {
                continue;
            }
            let taken = match value(key) {
                Value::Float(v) => appender.append(reference, 0, t, v),
                other => appender.append_histogram(reference, 0, t, other),
            };
            if taken.is_ok() {
                *newest = t.max(*newest);
                keys.push(key);
            }
            let at = &mut self.newest_exemplar[owner][series];
            if t > *at && self.rng.percent(10) && appender.append_exemplar(reference, exemplar(key)).is_ok() {
                *at = t;
                exemplars.push(key);
            }
        }
        if self.rng.percent(5) {
            self.helps += 1;
            let text = format!("help {}", self.helps);
            appender.append_metadata("m", metadata(&text));
            help = Some(text);
        }
        let result = appender.commit();
        self.note(|| format!("append {keys:?} exemplars {exemplars:?} {help:?}: {result:?}"));
        let done = result.is_ok();
        let fate = if done { Fate::Acknowledged } else { Fate::Doubtful };
        for key in keys {
            let known = self.model.samples.entry(key).or_insert(fate);
            *known = if done { fate } else { *known };
        }
        for key in exemplars {
            self.model.exemplars.insert(key, fate);
        }
        if !done {
            // The sender goes back to what it knows to be stored.
            for (series, newest) in self.newest[owner].iter_mut().enumerate() {
                let known = self.model.samples.range((owner, series, i64::MIN)..=(owner, series, i64::MAX));
                let last = known.rev().find(|(_, fate)| **fate == Fate::Acknowledged);
                *newest = last.map_or(START - 10 * MINUTE, |(key, _)| key.2);
            }
        }
        if let Some(text) = help {
            let metadata = &mut self.model.metadata;
            match metadata.get_mut(&owner) {
                _ if done => drop(metadata.insert(owner, vec![text])),
                Some(may_be) => may_be.push(text),
                None if self.model.gone_before == i64::MIN => {
                    metadata.insert(owner, vec![String::new(), text]);
                }
                // Blocks were removed, and it is not known which text is left.
                None => {}
            }
        }
    }

    fn delete(&mut self) {
        let owner = self.rng.index(TENANTS);
        let one = |i: usize| vec![Matcher::equal("i", i.to_string())];
        let sets = match self.rng.below(4) {
            0 => vec![vec![Matcher::equal("odd", "1")]],
            1 => vec![one(0), one(self.rng.index(SERIES))],
            _ => vec![one(self.rng.index(SERIES))],
        };
        let from = self.now - 40 * MINUTE;
        let mut at = || from + self.rng.below(42 * MINUTE as u64) as i64;
        let (a, b) = (at(), at());
        let mut range = TimeRange::new(a.min(b), a.max(b));
        if self.rng.percent(20) {
            range = TimeRange::ALL;
        }
        let hides: BTreeSet<Key> = self
            .model
            .keys_of(owner)
            .filter(|key| range.contains(key.2) && matches(&sets, &labels(key.1)))
            .filter(|key| self.model.samples.get(key) == Some(&Fate::Acknowledged))
            .copied()
            .collect();
        let new = |id, standing| ModelDelete {
            id,
            owner,
            sets: sets.clone(),
            range,
            hides,
            standing,
            is_final: false,
        };
        let result = self.db().delete(&tenant(owner), &sets, range);
        self.note(|| format!("delete {owner} {sets:?} {range:?}: {result:?}"));
        let new = match result {
            Ok(None) => return,
            Ok(Some(id)) => new(Some(id), Standing::InForce),
            Err(error) => {
                assert!(self.faults || self.disk.is_off(), "seed {}: {error}", self.seed);
                new(None, Standing::InDoubt)
            }
        };
        // It hides what a read that goes on has yet to see, even if it is undone before that ends.
        if let Some(reading) = self.reading.as_mut().filter(|reading| reading.owner == owner) {
            reading.must.retain(|key| !new.hides.contains(key));
        }
        self.model.deletes.push(new);
    }

    fn undo(&mut self) {
        let known = self.model.deletes.iter().enumerate();
        let open: Vec<usize> = known.filter(|(_, d)| d.id.is_some() && !d.is_final).map(|(i, _)| i).collect();
        if open.is_empty() {
            return;
        }
        let at = open[self.rng.index(open.len())];
        let (owner, id) = (self.model.deletes[at].owner, self.model.deletes[at].id.unwrap());
        let result = self.db().undo_delete(&tenant(owner), id);
        self.note(|| format!("undo {owner} {id}: {result:?}"));
        match result {
            Ok(()) => {
                drop(self.model.deletes.remove(at));
                let may = self.may(owner);
                if let Some(reading) = self.reading.as_mut().filter(|reading| reading.owner == owner) {
                    reading.may.extend(may);
                }
            }
            // It is final, or nothing is left of it.
            Err(e) if matches!(e.kind(), ErrorKind::Invalid | ErrorKind::NotFound) => {
                let delete = &mut self.model.deletes[at];
                if delete.standing == Standing::InForce {
                    delete.is_final = true;
                }
            }
            Err(_) => self.model.deletes[at].standing = Standing::InDoubt,
        }
    }

    fn purge(&mut self) {
        let owner = self.rng.index(TENANTS);
        let result = self.db().purge_deletes(&tenant(owner));
        self.note(|| format!("purge {owner}: {result:?}"));
        // What became final although it failed is known after a restart; undoing tells as well.
    }

    fn maintain(&mut self) {
        let Some(db) = &self.db else { return };
        let (removed, before) = (db.metrics().blocks_removed.get(), self.owned_blocks());
        let look = (self.clock.monotonic(), self.clock.now_ms());
        // Two looks at the clock, an hour apart, that agree, and what is past retention may go.
        let agrees = |&(monotonic, wall): &(Duration, i64)| {
            let passed = look.0.saturating_sub(monotonic);
            passed >= Duration::from_secs(3600)
                && (wall + passed.as_millis() as i64).abs_diff(look.1) <= 10 * MINUTE.unsigned_abs()
        };
        let retention = self.config.retention.as_millis() as i64;
        if retention > 0 && self.looks.iter().any(agrees) {
            self.model.gone_before = self.model.gone_before.max(look.1 - retention);
        }
        self.looks.push(look);
        let result = db.maintain();
        let removed = db.metrics().blocks_removed.get() > removed;
        self.note(|| format!("maintain {result:?} at {look:?}, blocks {:?}", self.blocks()));
        assert!(self.faults || !self.hurt.is_empty() || result.is_ok(), "seed {}: {result:?}", self.seed);
        if result.is_err() && self.config.retention_bytes > 0 {
            // One tenant's may be gone while another's, which are as old, stay.
            self.in_doubt.extend(before);
            self.in_doubt.extend(self.owned_blocks());
            self.learn_removed();
        }
        if removed {
            self.model.metadata.clear();
            if self.config.retention_bytes > 0 {
                // The oldest go first: what is newer than the end of one that stays, stays.
                let after = self.blocks();
                let end = after.iter().map(|b| b.end).min();
                // Where none stays, ranges that were cut just now went too, with exemplars that are newer than
                // their samples.
                let range = self.config.block_range_ms;
                let newest =
                    self.model.samples.keys().map(|key| (key.2.div_euclid(range) + 1) * range - 1).max();
                self.model.gone_before = self.model.gone_before.max(end.or(newest).unwrap_or(i64::MIN) + 1);
            }
        }
    }

    fn owned_blocks(&self) -> Vec<(usize, BlockMeta)> {
        let of = |owner: usize| self.db().blocks(&tenant(owner)).into_iter().map(move |meta| (owner, meta));
        (0..TENANTS).flat_map(of).collect()
    }

    fn blocks(&self) -> Vec<TimeRange> {
        self.owned_blocks().iter().map(|(_, meta)| meta.range()).collect()
    }

    /// What became of blocks in doubt: of those that are gone, nothing is live that was made of them.
    fn learn_removed(&mut self) {
        let live = self.owned_blocks();
        let stays = |(owner, meta): &&(usize, BlockMeta)| {
            let sources = &meta.compaction.sources;
            live.iter().any(|(o, b)| o == owner && b.compaction.sources.iter().any(|id| sources.contains(id)))
        };
        let gone = self.in_doubt.iter().filter(|block| !stays(block)).map(|(_, meta)| meta.range().end).max();
        if let Some(end) = gone {
            self.model.metadata.clear();
            self.model.gone_before = self.model.gone_before.max(end + 1);
        }
    }

    /// A snapshot is a data directory that shows what the database shows.
    fn snapshot(&mut self) {
        self.disk.heal();
        self.disk.set_capacity(None);
        self.snapshots += 1;
        let Ok(path) = self.db().snapshot(&format!("s{}", self.snapshots), false) else {
            assert!(self.faults || !self.hurt.is_empty(), "seed {}: no snapshot", self.seed);
            return;
        };
        let config = StorageConfig { dir: path.clone(), ..self.config.clone() };
        let copy = Db::open_single_threaded(config, Arc::new(self.disk.clone()), self.clock.clone());
        self.check_samples(&copy.unwrap(), "in a snapshot");
        self.disk.remove_dir_all(&path).unwrap();
    }

    /// Time passes for everybody.
    fn advance(&mut self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
        self.now += seconds as i64 * 1000;
    }

    fn die(&mut self, power: bool) {
        (self.reading, self.db) = (None, {
            self.disk.power_off();
            None
        });
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

    /// After a start every block directory is that of a live block, and no job is left.
    fn check_tidy(&self) {
        for owner in (0..TENANTS).map(tenant) {
            let bucket = self.db().bucket_dir(&owner);
            let list = |dir: &Path| self.disk.list(dir).unwrap_or_default();
            let dirs = |dense: bool| -> BTreeSet<(bool, BlockId)> {
                let home = if dense { bucket.join("dense") } else { bucket.clone() };
                list(&home).iter().filter_map(|e| Some((dense, e.name.parse().ok()?))).collect()
            };
            let dirs = &dirs(false) | &dirs(true);
            let live: BTreeSet<(bool, BlockId)> = self
                .db()
                .open_blocks(&owner)
                .iter()
                .map(|b| (b.layout() == Layout::Dense, b.meta().ulid))
                .collect();
            let jobs = list(&bucket.join("jobs"));
            if self.config.head_memory_bytes > 0 && self.faults && !jobs.is_empty() {
                // A cut of the drained log that the disk stopped: it is tried again, or the next start
                // tidies up.
                continue;
            }
            assert_eq!(dirs, live, "seed {}: directories and live blocks of {owner}", self.seed);
            assert!(jobs.is_empty(), "seed {}: {jobs:?}", self.seed);
        }
    }

    /// A start on a disk that may refuse to give a part of the log.
    fn restart(&mut self) {
        if self.faults && self.rng.percent(50) {
            self.disk.power_off();
            (self.reading, self.db) = (None, None);
            self.disk.kill();
            self.disk.heal();
            self.disk.fail_op_in(DiskOp::Map, self.rng.below(8), Fault::Io);
        }
        self.open();
        self.check_restarted();
    }

    fn step(&mut self) {
        match self.rng.below(200) {
            0..=99 => self.append(),
            100..=124 => {
                let seconds = self.rng.below(40);
                self.advance(seconds);
                self.maintain();
            }
            125..=127 => {
                let minutes = 30 + self.rng.below(60);
                self.advance(minutes * 60);
                self.maintain();
            }
            128..=130 => self.clock.jump_wall(self.rng.below(20 * 24 * 60) as i64 * MINUTE - 14_400 * MINUTE),
            131..=136 => self.clock.set_wall(self.now),
            137..=145 => self.delete(),
            146..=151 => self.undo(),
            152 => self.purge(),
            153..=160 => self.read_on(),
            161..=164 => self.check("in between"),
            165..=167 => self.snapshot(),
            168..=173 => self.die(true),
            174..=177 => self.die(false),
            178..=180 => self.restart(),
            _ if !self.faults => {}
            181..=187 => self.disk.fail_in(self.rng.below(60), Fault::PowerOff),
            188..=191 => self.disk.fail_in(self.rng.below(30), Fault::Io),
            192..=194 => self.disk.set_capacity(Some(self.disk.used() + self.rng.below(20_000))),
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

fn exemplar(key: Key) -> Exemplar {
    let labels = Labels::from_pairs([("trace_id", format!("{:x}", key.2))]);
    Exemplar { labels, value: (key.2 * 3 + key.1 as i64) as f64, timestamp: key.2 }
}

fn metadata(help: &str) -> Metadata {
    Metadata { metric_type: MetricType::Counter, help: help.to_owned(), unit: "s".to_owned() }
}

fn matches(sets: &[Vec<Matcher>], labels: &Labels) -> bool {
    sets.iter().any(|set| set.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or(""))))
}

#[test]
fn the_engine_keeps_what_it_acknowledged_and_shows_nothing_else() {
    run_seeds(500, |seed| {
        let mut run = Run::new(seed, true, |_| {});
        for _ in 0..150 {
            run.step();
        }
        run.disk.set_capacity(None);
        run.clock.set_wall(run.now);
        run.die(true);
        run.die(false);
    });
}
