//! The whole database on a simulated disk, under seeds, against the simplest model: each
//! acknowledged sample is there exactly once with its exact bits after every crash, and no other.
//!
//! `PYRRHA_SEED=n` runs one seed, `PYRRHA_SEEDS=n` that many.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pyrrha_encoding::{SeriesSamples, Want, decode_series};
use pyrrha_env::{Clock, Disk};
use pyrrha_model::contract::{Ingest, QueryContext, SelectHints, SeriesBatch};
use pyrrha_model::{Labels, Matcher, StoreError, TenantId, TimeRange};
use pyrrha_storage::{Db, StorageConfig, StorageError};
use pyrrha_testkit::{DiskOp, Fault, SimClock, SimDisk, SimRng, run_seeds};

const DIR: &str = "data";
const START: i64 = 1_700_000_000_000;
const SCRAPE_MS: i64 = 15_000;

/// What is known about the sample of a series at one time.
#[derive(Debug, Default, Clone)]
struct Known {
    /// Its bits, if it was acknowledged or found after a crash.
    kept: Option<u64>,
    /// Bits of samples of earlier lives whose fate nobody was told.
    doubtful: BTreeSet<u64>,
    /// The same of this life, while the database recovers.
    fresh: BTreeSet<u64>,
    /// One of the doubtful ones was acknowledged while the database recovered: it may have lost to
    /// another, but a sample is there (decision 4).
    owed: bool,
    /// Bits of samples that found another one in their place. The log has them: once that one is in
    /// a block, the merge decides.
    losers: BTreeSet<u64>,
}

type Model = BTreeMap<(usize, usize), BTreeMap<i64, Known>>;

struct Run {
    seed: u64,
    rng: SimRng,
    disk: SimDisk,
    clock: Arc<SimClock>,
    config: StorageConfig,
    model: Model,
    tenants: Vec<TenantId>,
    series: usize,
    lives: u64,
    log: Vec<String>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut rng = SimRng::new(seed);
        let disk = SimDisk::new(rng.next_u64());
        let mut config = StorageConfig::new(DIR);
        config.wal.segment_bytes = 3000 + rng.below(20_000);
        config.block_range_ms = SCRAPE_MS * (10 + rng.below(30) as i64);
        config.samples_per_chunk = 4 + rng.below(20) as u16;
        config.quiet_before_cut = Duration::from_secs(rng.below(20));
        config.checkpoint_every = Duration::from_secs(1 + rng.below(300));
        config.checkpoint_after_samples = 50 + rng.below(500);
        config.disk_reserve_bytes = rng.below(3) * 10_000;
        config.out_of_order_window_ms = config.block_range_ms * rng.below(8) as i64;
        config.idle_cut_after = Duration::from_secs(60 + rng.below(600));
        let tenants = ["a", "b"].iter().map(|id| TenantId::new(id).unwrap()).collect();
        let series = 2 + rng.index(12);
        let clock = Arc::new(SimClock::new(START));
        Self {
            seed,
            rng,
            disk,
            clock,
            config,
            model: Model::new(),
            tenants,
            series,
            lives: 0,
            log: Vec::new(),
        }
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        if std::env::var_os("PYRRHA_SEED").is_some() {
            let line = format!("{} {}", self.disk.operations(), text());
            println!("{line}");
            self.log.push(line);
        }
    }

    /// All files with their lengths, for the log of a seed that is replayed.
    fn files(&self, dir: &Path) -> String {
        let entries = self.disk.list(dir).unwrap_or_default();
        let text = |e: pyrrha_env::DirEntry| {
            let path = dir.join(&e.name);
            if e.is_dir { self.files(&path) } else { format!(" {}:{}", path.display(), e.len) }
        };
        entries.into_iter().map(text).collect()
    }

    fn open(&self) -> Result<Db, StorageError> {
        let (disk, clock) = (Arc::new(self.disk.clone()), self.clock.clone());
        Db::open_single_threaded(self.config.clone(), disk, clock)
    }

    /// The same, with recovery still to be done.
    fn open_stepwise(&self) -> Result<Db, StorageError> {
        let (disk, clock) = (Arc::new(self.disk.clone()), self.clock.clone());
        Db::open_stepwise(self.config.clone(), disk, clock)
    }

    /// Recovers while requests come in and the disk does what it likes; false if the process is to
    /// die before it is through.
    fn recover(&mut self, db: &Db) -> bool {
        let mut failures = 0;
        loop {
            match self.rng.below(40) {
                0 => self.disk.fail_op_in(DiskOp::SyncData, self.rng.below(4), Fault::Io),
                1 => self.disk.fail_in(self.rng.below(30), Fault::PowerOff),
                2 => self.disk.fail_in(self.rng.below(30), Fault::Io),
                3 => return false,
                4 => {
                    let result = db.maintain();
                    self.note(|| format!("maintain {result:?}"));
                }
                5..20 => self.append(db),
                _ => {}
            }
            match db.recover_step() {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    self.note(|| format!("recovery: {error}"));
                    self.disk.heal_unless_off();
                    failures += 1;
                    if failures > 20 || self.disk.is_off() {
                        return false;
                    }
                }
            }
        }
        self.disk.heal_unless_off();
        self.note(|| "recovered".into());
        !self.disk.is_off()
    }

    /// What nobody was told in the life before may turn up in this one.
    fn begin_life(&mut self) {
        self.lives += 1;
        // Tenants come to want dense blocks, and no more.
        let dense = |i: u64| (self.seed + i * self.lives).is_multiple_of(2 + i);
        self.config.tenant_dense = self.tenants.iter().cloned().zip((0..).map(dense)).collect();
        for known in self.model.values_mut().flat_map(BTreeMap::values_mut) {
            known.doubtful.append(&mut known.fresh);
        }
    }

    /// One process: open under faults, check, work under faults, die.
    fn live(&mut self) {
        match self.rng.below(10) {
            0 | 1 => self.disk.fail_in(self.rng.below(60), Fault::PowerOff),
            2 => self.disk.fail_in(self.rng.below(60), Fault::Io),
            3 => self.disk.fail_in(self.rng.below(60), Fault::Full),
            _ => {}
        }
        self.begin_life();
        let stepwise = self.rng.percent(60);
        let opened = if stepwise { self.open_stepwise() } else { self.open() };
        self.disk.heal_unless_off();
        match opened {
            Ok(db) if !self.disk.is_off() && (!stepwise || self.recover(&db)) => {
                self.note(|| "opened".into());
                // A block that could not be read at the start makes queries fail, and a segment
                // of the log is told as damage: the operator looks after the disk and restarts.
                let whole = self.tenants.iter().all(|tenant| read(&db, tenant).is_ok())
                    && db.wal().metrics().damaged_places.get() == 0;
                if whole {
                    self.recovered(&db);
                    let before = db.metrics().conflicts.get();
                    self.work(&db);
                    let conflicts = db.metrics().conflicts.get() - before;
                    assert_eq!(conflicts, 0, "seed {}: admitted although its time was taken", self.seed);
                }
            }
            Ok(_) => {}
            Err(error) => self.note(|| format!("open: {error}")),
        }
        let kill = self.rng.percent(30);
        self.note(|| format!("dies, kill {kill}"));
        if kill {
            self.disk.kill()
        } else {
            self.disk.crash()
        }
        self.disk.set_capacity(None);
        let files = self.files(Path::new(DIR));
        self.note(|| format!("on disk:{files}"));
    }

    fn work(&mut self, db: &Db) {
        for _ in 0..self.rng.below(60) {
            match self.rng.below(60) {
                0 => self.disk.fail_op_in(DiskOp::SyncData, self.rng.below(4), Fault::Io),
                1 => self.disk.fail_op_in(DiskOp::Write, self.rng.below(4), Fault::Io),
                2 => self.disk.fail_in(self.rng.below(30), Fault::Full),
                3 => self.disk.fail_in(self.rng.below(60), Fault::PowerOff),
                4 => self.disk.set_capacity(Some(self.disk.used() + self.rng.below(40_000))),
                5 => self.disk.set_capacity(None),
                6 => self.disk.fail_randomly(self.rng.below(100), Fault::Io),
                7 | 8 => self.disk.heal_unless_off(),
                9..15 => {
                    let result = db.maintain();
                    self.note(|| format!("maintain {result:?}"));
                }
                15..17 => self.clock.advance(Duration::from_secs(self.rng.below(900))),
                17..19 if !self.disk.is_off() => {
                    self.disk.heal();
                    self.check(db, false);
                }
                _ => self.append(db),
            }
            self.clock.advance(Duration::from_millis(self.rng.below(20_000)));
        }
    }

    /// One request: some series of a tenant at about the present time.
    fn append(&mut self, db: &Db) {
        let tenant = self.rng.index(self.tenants.len());
        let Ok(mut appender) = db.appender(&self.tenants[tenant]) else { return };
        let now = self.clock.now_ms() / SCRAPE_MS * SCRAPE_MS;
        let mut admitted = Vec::new();
        for _ in 0..1 + self.rng.index(2 * self.series) {
            let series = self.rng.index(self.series);
            let reference = appender.resolve(None, &labels(tenant, series)).unwrap();
            for _ in 0..1 + self.rng.below(3) {
                let back = match self.rng.below(4) {
                    0 => self.config.out_of_order_window_ms * 5 / 4 / SCRAPE_MS,
                    _ => 3,
                };
                let t = now + (self.rng.below(3 + back.unsigned_abs()) as i64 - back) * SCRAPE_MS;
                let value = match self.rng.below(8) {
                    0 => f64::from_bits(0x7ff0_0000_0000_0002),
                    1 => self.rng.unit(),
                    _ => self.rng.below(20) as f64,
                };
                if appender.append(reference, 0, t, value).is_ok() {
                    admitted.push((series, t, value.to_bits()));
                }
            }
        }
        let result = appender.commit();
        self.note(|| format!("append {tenant} {} {:?} {admitted:?}", admitted.len(), result.as_ref().err()));
        for (series, t, bits) in admitted {
            let known = self.model.entry((tenant, series)).or_default().entry(t).or_default();
            match (&result, known.kept, db.is_recovered()) {
                // An exact repetition of what is there, or the stored one has left the head: then the
                // merge decides. Within the head no other value is admitted, which `conflicts` proves.
                (Ok(_), Some(kept), true) => known.kept = Some(merged(kept, bits)),
                (_, Some(kept), _) if kept == bits => {}
                // What was acknowledged first stays, unless it is in a block and gives way.
                (_, Some(_), _) => drop(known.losers.insert(bits)),
                (Ok(_), None, false) if !known.doubtful.is_empty() => {
                    known.doubtful.insert(bits);
                    known.owed = true;
                }
                (Ok(_), None, _) => known.kept = Some(bits),
                (Err(_), None, true) => drop(known.doubtful.insert(bits)),
                (Err(_), None, false) => drop(known.fresh.insert(bits)),
            }
        }
    }

    /// After a restart what was in doubt is either there for good or gone for good.
    fn recovered(&mut self, db: &Db) {
        self.check(db, true);
        for known in self.model.values_mut().flat_map(BTreeMap::values_mut) {
            let doubtful = std::mem::replace(&mut known.doubtful, std::mem::take(&mut known.fresh));
            if known.kept.is_some() {
                known.losers.extend(doubtful);
            }
        }
    }

    /// Compares all that the database has with the model.
    fn check(&mut self, db: &Db, restarted: bool) {
        let seed = self.seed;
        for tenant in 0..self.tenants.len() {
            let found = read(db, &self.tenants[tenant]).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            let all: BTreeSet<usize> = (0..self.series).collect();
            for series in all {
                let empty = Vec::new();
                let have = found.get(&labels(tenant, series)).unwrap_or(&empty);
                let times = self.model.entry((tenant, series)).or_default();
                assert!(
                    have.windows(2).all(|w| w[0].0 < w[1].0),
                    "seed {seed}: twice: {tenant}/{series} {have:?}"
                );
                let have: BTreeMap<i64, u64> = have.iter().copied().collect();
                for (t, bits) in &have {
                    let known = times
                        .get_mut(t)
                        .unwrap_or_else(|| panic!("seed {seed}: invented {tenant}/{series} {t}"));
                    match known.kept {
                        Some(kept) => {
                            let told = known.doubtful.contains(bits) || known.losers.contains(bits);
                            let may = restarted && told && merged(kept, *bits) == *bits;
                            assert!(kept == *bits || may, "seed {seed}: wrong value {tenant}/{series} {t}");
                            known.kept = Some(*bits);
                        }
                        None => {
                            let may = restarted && known.doubtful.contains(bits);
                            assert!(may, "seed {seed}: was refused and is there: {tenant}/{series} {t}");
                            known.kept = Some(*bits);
                            known.owed = false;
                        }
                    }
                }
                for (t, known) in times.iter().filter(|(_, known)| known.kept.is_some() || known.owed) {
                    assert!(
                        have.contains_key(t),
                        "seed {seed}: lost {tenant}/{series} {t} {known:?} restarted {restarted}, there are {have:?}"
                    );
                }
            }
        }
    }
}

/// Which of two values of one time stays: not the stale marker, then the greater bits.
fn merged(a: u64, b: u64) -> u64 {
    let rank = |bits: u64| (bits != 0x7ff0_0000_0000_0002, bits);
    if rank(a) >= rank(b) { a } else { b }
}

fn labels(tenant: usize, series: usize) -> Labels {
    Labels::from_pairs([("__name__", "m".to_owned()), ("i", series.to_string()), ("of", tenant.to_string())])
}

type Found = BTreeMap<Labels, Vec<(i64, u64)>>;

fn read(db: &Db, tenant: &TenantId) -> Result<Found, StoreError> {
    let mut ctx = QueryContext::unlimited();
    ctx.tenant = tenant.clone();
    let matchers = [Matcher::equal("__name__", "m")];
    let mut set = db.queryable().select(&ctx, &matchers, TimeRange::ALL, &SelectHints::default())?;
    let (mut batch, mut found) = (SeriesBatch::default(), BTreeMap::new());
    while set.next_batch(7, &mut batch)? {
        for entry in &batch.series {
            let mut decoded = SeriesSamples::default();
            decode_series(entry, TimeRange::ALL, Want::default(), &mut decoded).unwrap();
            let bits = decoded.floats.values.iter().map(|v| v.to_bits());
            let samples = decoded.floats.times.iter().copied().zip(bits).collect();
            let twice = found.insert(batch.resolve(&ctx.symbols, entry), samples);
            assert!(twice.is_none(), "a series comes once");
        }
    }
    Ok(found)
}

fn run(seed: u64) {
    let mut run = Run::new(seed);
    for _ in 0..2 + run.rng.below(5) {
        run.live();
    }
    run.begin_life();
    let db = run.open().unwrap_or_else(|e| panic!("seed {seed}: a healthy disk does not open: {e}"));
    run.recovered(&db);
}

#[test]
fn acknowledged_samples_survive_whatever_the_disk_does() {
    run_seeds(1000, run);
}
