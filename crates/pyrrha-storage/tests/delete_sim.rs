//! Deletes on a simulated disk, under seeds, beside the model store: an acknowledged delete, or undo,
//! survives; one that was not acknowledged happened wholly or not at all; no other sample is touched.
//!
//! `PYRRHA_SEED=n` runs one seed, `PYRRHA_SEEDS=n` that many.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use pyrrha_encoding::{SeriesSamples, Want, decode_series};
use pyrrha_env::Clock;
use pyrrha_model::contract::{DeleteId, Deletes, Ingest, QueryContext, SelectHints, SeriesBatch, Value};
use pyrrha_model::{ErrorKind, Labels, Matcher, TenantId, TimeRange};
use pyrrha_storage::wal::WalConfig;
use pyrrha_storage::{Db, StorageConfig};
use pyrrha_testkit::{Fault, ModelDb, SimClock, SimDisk, SimRng, run_seeds};

const SERIES: usize = 5;
const START: i64 = 1_700_000_000_000 - 3_600_000;

/// Samples by series and time.
type Samples = BTreeMap<(Labels, i64), u64>;

struct Run {
    seed: u64,
    rng: SimRng,
    disk: SimDisk,
    clock: Arc<SimClock>,
    db: Option<Db>,
    model: ModelDb,
    /// Ids of the database as ids of the model.
    ids: BTreeMap<DeleteId, DeleteId>,
    newest: [i64; SERIES],
}

/// What was asked for and not acknowledged.
#[derive(Debug)]
enum Doubt {
    Batch(Vec<(usize, i64, f64)>),
    Delete(Vec<Vec<Matcher>>, TimeRange),
    Undo(DeleteId),
    Purge,
    Nothing,
}

fn tenant() -> TenantId {
    TenantId::anonymous()
}

fn labels(i: usize) -> Labels {
    Labels::from_pairs([("__name__", "m".to_owned()), ("i", i.to_string()), ("odd", (i % 2).to_string())])
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut run = Self {
            seed,
            rng: SimRng::new(seed),
            disk: SimDisk::new(seed),
            clock: Arc::new(SimClock::new(1_700_000_000_000)),
            db: None,
            model: ModelDb::new(),
            ids: BTreeMap::new(),
            newest: [START; SERIES],
        };
        run.open();
        run
    }

    fn open(&mut self) {
        loop {
            let config = StorageConfig {
                wal: WalConfig { segment_bytes: 8 << 10, ..WalConfig::default() },
                block_range_ms: 120_000,
                samples_per_chunk: 7,
                quiet_before_cut: Duration::ZERO,
                checkpoint_after_samples: 40,
                disk_reserve_bytes: 0,
                delete_undo: Duration::from_secs(300),
                dense: (self.seed + self.clock.now_ms().unsigned_abs() / 60_000).is_multiple_of(3),
                ..StorageConfig::new("data")
            };
            let db = Db::open_single_threaded(config, Arc::new(self.disk.clone()), self.clock.clone());
            match db {
                Ok(db) if !self.disk.is_off() => {
                    self.db = Some(db);
                    return;
                }
                Ok(_) => {}
                Err(error) => assert!(self.disk.is_off(), "seed {}: {error}", self.seed),
            }
            self.disk.crash();
            self.disk.heal();
        }
    }

    fn db(&self) -> &Db {
        self.db.as_ref().unwrap()
    }

    fn append(&mut self) -> Doubt {
        let mut samples = Vec::new();
        for _ in 0..1 + self.rng.index(10) {
            let i = self.rng.index(SERIES);
            self.newest[i] += 1 + self.rng.below(9_000) as i64;
            samples.push((i, self.newest[i], self.rng.below(100) as f64));
        }
        let Ok(mut appender) = self.db().appender(&tenant()) else { return Doubt::Nothing };
        // A series that fell behind may be in a range that was cut.
        samples.retain(|&(i, t, v)| {
            let series = appender.resolve(None, &labels(i)).unwrap();
            appender.append(series, 0, t, v).is_ok()
        });
        if appender.commit().is_err() {
            return Doubt::Batch(samples);
        }
        self.tell(&samples);
        Doubt::Nothing
    }

    fn tell(&self, samples: &[(usize, i64, f64)]) {
        let mut appender = self.model.appender(&tenant()).unwrap();
        for &(i, t, v) in samples {
            let series = appender.resolve(None, &labels(i)).unwrap();
            appender.append(series, 0, t, v).unwrap();
        }
        appender.commit().unwrap();
    }

    fn delete(&mut self) -> Doubt {
        let one = |i: usize| vec![Matcher::equal("i", i.to_string())];
        let sets = match self.rng.below(4) {
            0 => vec![vec![Matcher::equal("odd", "1")]],
            1 => vec![one(0), one(self.rng.index(SERIES))],
            _ => vec![one(self.rng.index(SERIES))],
        };
        let end = *self.newest.iter().max().unwrap() + 20_000;
        let at = |rng: &mut SimRng| START + rng.below((end - START) as u64) as i64;
        let (a, b) = (at(&mut self.rng), at(&mut self.rng));
        let mut range = TimeRange::new(a.min(b), a.max(b));
        if self.rng.percent(20) {
            range.end = i64::MAX;
        }
        match self.db().delete(&tenant(), &sets, range) {
            Ok(None) => Doubt::Nothing,
            Ok(Some(id)) => {
                let known = self.model.delete(&tenant(), &sets, range).unwrap();
                self.ids.extend(known.map(|known| (id, known)));
                Doubt::Nothing
            }
            Err(_) => Doubt::Delete(sets, range),
        }
    }

    fn undo(&mut self) -> Doubt {
        let ids: Vec<DeleteId> = self.ids.keys().copied().collect();
        if ids.is_empty() {
            return Doubt::Nothing;
        }
        let id = ids[self.rng.index(ids.len())];
        match self.db().undo_delete(&tenant(), id) {
            Ok(()) => {
                self.model.undo_delete(&tenant(), self.ids[&id]).unwrap();
                self.ids.remove(&id);
                Doubt::Nothing
            }
            // It is final, or nothing is left of it.
            Err(error) if matches!(error.kind(), ErrorKind::Invalid | ErrorKind::NotFound) => {
                self.ids.remove(&id);
                Doubt::Nothing
            }
            Err(_) => Doubt::Undo(id),
        }
    }

    /// After a restart it is known what became of what was not acknowledged.
    fn resolve(&mut self, doubt: Doubt) {
        let standing: Vec<_> = self.db().standing_deletes(&tenant()).unwrap();
        match doubt {
            Doubt::Batch(samples) => {
                let found = self.read();
                let there = |s: &&(usize, i64, f64)| found.contains_key(&(labels(s.0), s.1));
                let stored: Vec<_> = samples.iter().filter(there).copied().collect();
                assert!(
                    stored.is_empty() || stored.len() == samples.len(),
                    "seed {}: half a batch",
                    self.seed
                );
                self.tell(&stored);
                if stored.is_empty() {
                    // The sender goes on from what it knows to be stored.
                    self.newest.iter_mut().for_each(|t| *t += 1);
                }
            }
            Doubt::Delete(sets, range) => {
                if let Some(new) = standing.iter().find(|d| !self.ids.contains_key(&d.id) && d.range == range)
                {
                    assert_eq!(new.matcher_sets, sets);
                    let known = self.model.delete(&tenant(), &sets, range).unwrap().unwrap();
                    self.ids.insert(new.id, known);
                }
            }
            Doubt::Undo(id) => {
                if !standing.iter().any(|d| d.id == id) {
                    self.model.undo_delete(&tenant(), self.ids[&id]).unwrap();
                    self.ids.remove(&id);
                }
            }
            Doubt::Purge | Doubt::Nothing => {}
        }
        let finals: BTreeSet<DeleteId> = standing.iter().filter(|d| d.is_final).map(|d| d.id).collect();
        self.ids.retain(|id, _| !finals.contains(id));
    }

    fn read(&self) -> Samples {
        let ctx = QueryContext::unlimited();
        let mut set = self
            .db()
            .queryable()
            .select(&ctx, &[], TimeRange::ALL, &SelectHints::default())
            .unwrap_or_else(|e| panic!("seed {}: {e}", self.seed));
        let (mut batch, mut samples, mut found) =
            (SeriesBatch::default(), SeriesSamples::default(), Samples::new());
        while set.next_batch(4, &mut batch).unwrap() {
            for entry in &batch.series {
                decode_series(entry, TimeRange::ALL, Want::default(), &mut samples).unwrap();
                let labels = batch.resolve(&ctx.symbols, entry);
                for (&t, &v) in samples.floats.times.iter().zip(&samples.floats.values) {
                    found.insert((labels.clone(), t), v.to_bits());
                }
            }
        }
        found
    }

    fn check(&self, when: &str) {
        let mut expected = Samples::new();
        for (labels, samples) in self.model.dump(&tenant()) {
            for (_, t, value) in samples {
                let Value::Float(v) = value else { panic!("floats only") };
                expected.insert((labels.clone(), t), v.to_bits());
            }
        }
        let found = self.read();
        let lost: Vec<_> = expected.keys().filter(|k| !found.contains_key(k)).collect();
        let shown: Vec<_> = found.keys().filter(|k| !expected.contains_key(k)).collect();
        let seed = self.seed;
        let standing = self.db().standing_deletes(&tenant()).unwrap();
        assert!(
            lost.is_empty() && shown.is_empty(),
            "seed {seed} {when}: lost {lost:?} shown {shown:?} standing {standing:?}",
        );
        assert_eq!(found, expected, "seed {seed} {when}");
    }

    fn die(&mut self, doubt: Doubt) {
        self.disk.power_off();
        self.db = None;
        if self.rng.percent(70) {
            self.disk.crash();
        } else {
            self.disk.kill();
        }
        self.disk.heal();
        self.open();
        self.resolve(doubt);
        self.check("after a restart");
    }

    fn step(&mut self) {
        let doubt = match self.rng.below(100) {
            0..=49 => self.append(),
            50..=61 => self.delete(),
            62..=68 => self.undo(),
            69..=70 => match self.db().purge_deletes(&tenant()) {
                Ok(()) => {
                    self.ids.clear();
                    Doubt::Nothing
                }
                Err(_) => Doubt::Purge,
            },
            71..=84 => {
                self.clock.advance(Duration::from_secs(self.rng.below(60)));
                let _ = self.db().maintain();
                Doubt::Nothing
            }
            85..=89 => {
                self.db = None;
                self.open();
                self.check("after a clean restart");
                Doubt::Nothing
            }
            90..=95 => {
                self.disk.fail_in(self.rng.below(80), Fault::PowerOff);
                Doubt::Nothing
            }
            _ => {
                self.check("in between");
                Doubt::Nothing
            }
        };
        if self.disk.is_off() {
            self.die(doubt);
        }
    }
}

fn run(seed: u64) {
    let mut run = Run::new(seed);
    for _ in 0..150 {
        run.step();
    }
    run.die(Doubt::Nothing);
}

#[test]
fn deletes_are_durable_whole_and_touch_nothing_else() {
    run_seeds(60, run);
}
