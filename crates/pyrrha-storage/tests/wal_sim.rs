//! The log on a simulated disk, under seeds: what was acknowledged is back exactly once, nothing is
//! invented, whatever the disk does.
//!
//! `PYRRHA_SEED=n` runs one seed, `PYRRHA_SEEDS=n` that many.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use pyrrha_model::contract::Value;
use pyrrha_model::{Labels, TenantId};
use pyrrha_storage::wal::{
    LogBatch, LogEntry, LogHistogram, LogPosition, Replay, Wal, WalConfig, WalError, WalSink,
};
use pyrrha_testkit::{DiskOp, Fault, SimClock, SimDisk, SimRng, run_seeds};

const DIR: &str = "data/wal";

fn labels_of(tenant: &TenantId, series: u32) -> Labels {
    Labels::from_pairs([
        ("__name__", format!("metric_{}", series % 7)),
        ("instance", format!("host-{series}")),
        ("tenant", tenant.to_string()),
    ])
}

/// Remembers what was applied and what was abandoned.
#[derive(Default)]
struct Sink {
    applied: Mutex<Vec<u64>>,
    abandoned: Mutex<Vec<u64>>,
}

impl WalSink for Sink {
    fn labels(&self, tenant: &TenantId, series: u32, visit: &mut dyn FnMut(&str, &str)) {
        for label in &labels_of(tenant, series) {
            visit(&label.name, &label.value);
        }
    }

    fn apply(&self, batches: Vec<LogBatch>, _position: LogPosition) {
        self.applied.lock().extend(batches.iter().filter_map(id_of));
    }

    fn abandon(&self, batches: Vec<LogBatch>) {
        self.abandoned.lock().extend(batches.iter().filter_map(id_of));
    }
}

/// A batch carries its number as the time of its first sample.
fn id_of(batch: &LogBatch) -> Option<u64> {
    batch.times.first().map(|&t| t as u64)
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Fate {
    /// Acknowledged, or found by a recovery.
    Kept,
    /// Not acknowledged; may come back at the next recovery.
    InDoubt,
    /// Not there after a recovery; must never come back.
    Gone,
    /// Acknowledged and truncated; may come back.
    Truncated,
}

struct Run {
    rng: SimRng,
    disk: SimDisk,
    clock: Arc<SimClock>,
    config: WalConfig,
    batches: BTreeMap<u64, (LogBatch, Fate)>,
    next: u64,
    seed: u64,
    flips: bool,
    /// An opening that failed half-way may have cut a torn end already, and have told of it.
    told: bool,
    /// Once the disk did not give a segment, and with it the list of what failed in the one before.
    /// What was read then in its stead is in the log for good.
    hidden: bool,
}

impl Run {
    fn new(seed: u64, flips: bool) -> Self {
        let mut rng = SimRng::new(seed);
        let config = WalConfig { segment_bytes: 2048 + rng.below(30_000), ..WalConfig::default() };
        let disk = SimDisk::new(rng.next_u64());
        Self {
            disk,
            clock: Arc::new(SimClock::new(1_700_000_000_000)),
            config,
            batches: BTreeMap::new(),
            next: 1,
            seed,
            flips,
            told: false,
            hidden: false,
            rng,
        }
    }

    fn open(&self) -> Result<(Wal, Replay), WalError> {
        let disk = Arc::new(self.disk.clone());
        Wal::open(self.config.clone(), Path::new(DIR), disk, self.clock.clone(), LogPosition::default())
    }

    fn batch(&mut self) -> LogBatch {
        let id = self.next;
        self.next += 1;
        let tenant = TenantId::new(["a", "b", "c"][self.rng.index(3)]).unwrap();
        let mut batch = LogBatch::new(tenant);
        let n = if self.rng.percent(10) { 300 } else { 1 + self.rng.index(20) };
        for i in 0..n {
            batch.refs.push(self.rng.below(60) as u32);
            batch.times.push((id + i as u64 * 15_000) as i64);
            batch.values.push(match self.rng.below(10) {
                0 => f64::from_bits(0x7ff0_0000_0000_0002),
                1 => self.rng.unit(),
                _ => self.rng.below(1000) as f64,
            });
        }
        for _ in 0..self.rng.below(3).saturating_sub(1) * self.rng.below(5) {
            let value = Value::Float(self.rng.unit());
            let (series, t) = (self.rng.below(60) as u32, -(id as i64));
            batch.late.push(LogHistogram { series, t, start: 0, value });
        }
        self.batches.insert(id, (batch.clone(), Fate::InDoubt));
        batch
    }

    /// One process: open, check, write under faults, die.
    fn live(&mut self) {
        if self.rng.percent(20) {
            self.disk.fail_in(self.rng.below(30), Fault::PowerOff);
        } else if self.rng.percent(10) {
            self.disk.fail_in(self.rng.below(30), Fault::Io);
        }
        match self.open() {
            Ok((wal, replay)) => {
                // What is written before and while the log is read back is not part of what is read.
                let sink = Arc::new(Sink::default());
                wal.attach(sink.clone());
                let old: BTreeSet<u64> = self.batches.keys().copied().collect();
                if self.check(replay, &old, Some(&wal)) {
                    self.write(&wal, &sink);
                } else {
                    self.told = true;
                }
            }
            Err(_) => self.told = true,
        }
        if self.rng.percent(30) {
            self.disk.kill()
        } else {
            self.disk.crash()
        }
        self.disk.set_capacity(None);
        if self.flips {
            self.flip();
        }
    }

    fn write(&mut self, wal: &Wal, sink: &Sink) {
        for _ in 0..self.rng.below(30) {
            match self.rng.below(40) {
                0 => self.disk.fail_op_in(DiskOp::SyncData, self.rng.below(3), Fault::Io),
                1 => self.disk.fail_op_in(DiskOp::Write, self.rng.below(3), Fault::Io),
                2 => self.disk.fail_in(self.rng.below(12), Fault::Full),
                3 => self.disk.fail_in(self.rng.below(20), Fault::PowerOff),
                4 => self.disk.set_capacity(Some(self.disk.used() + self.rng.below(10_000))),
                5 => self.disk.set_capacity(None),
                6 | 7 => drop(wal.cut_segment()),
                8 if self.rng.percent(40) => self.truncate(wal),
                9 => self.disk.fail_randomly(self.rng.below(200), Fault::Io),
                10 => self.disk.heal(),
                _ => self.submit(wal),
            }
            self.clock.advance(std::time::Duration::from_millis(self.rng.below(50)));
        }
        let abandoned: BTreeSet<u64> = sink.abandoned.lock().iter().copied().collect();
        for id in sink.applied.lock().iter() {
            let (_, fate) = &self.batches[id];
            assert!(
                matches!(fate, Fate::Kept | Fate::Truncated),
                "seed {}: applied {id} {fate:?}",
                self.seed
            );
            assert!(!abandoned.contains(id));
        }
    }

    fn submit(&mut self, wal: &Wal) {
        let tickets: Vec<_> = (0..1 + self.rng.below(4))
            .map(|_| {
                let batch = self.batch();
                (id_of(&batch).unwrap(), wal.submit(batch).unwrap())
            })
            .collect();
        for (id, ticket) in tickets {
            if ticket.wait().is_ok() {
                self.batches.get_mut(&id).unwrap().1 = Fate::Kept;
            }
        }
    }

    fn truncate(&mut self, wal: &Wal) {
        let position = wal.cut_segment();
        for (_, fate) in self.batches.values_mut().filter(|(_, fate)| *fate == Fate::Kept) {
            *fate = Fate::Truncated;
        }
        let _ = wal.truncate_before(position);
    }

    fn flip(&mut self) {
        let files = pyrrha_env::Disk::list(&self.disk, Path::new(DIR)).unwrap_or_default();
        for _ in 0..self.rng.below(4) {
            let Some(file) = files.get(self.rng.index(files.len())) else { return };
            let path = Path::new(DIR).join(&file.name);
            for _ in 0..1 + self.rng.below(3) {
                let _ = self.disk.flip_bit(&path, self.rng.below(file.len.max(1)), self.rng.below(8) as u8);
            }
        }
    }

    /// Reads everything of `old` back, and writes to `wal` meanwhile; false if the disk failed.
    fn check(&mut self, mut replay: Replay, old: &BTreeSet<u64>, wal: Option<&Wal>) -> bool {
        let seed = self.seed;
        let mut defined = BTreeMap::new();
        let mut back = BTreeSet::new();
        let mut partial = 0;
        let mut writes = self.rng.below(8);
        loop {
            if let Some(wal) = wal.filter(|_| writes > 0 && self.rng.percent(20)) {
                writes -= 1;
                self.submit(wal);
            }
            let Some(entry) = replay.next() else { break };
            match entry {
                LogEntry::Series { tenant, series, labels } => {
                    assert_eq!(labels, labels_of(&tenant, series), "seed {seed}");
                    defined.insert((tenant, series), ());
                }
                LogEntry::Batch { batch, .. } => {
                    for &series in batch.refs.iter().chain(batch.late.iter().map(|h| &h.series)) {
                        assert!(defined.contains_key(&(batch.tenant.clone(), series)), "seed {seed}");
                    }
                    if self.flips && self.find_partial(&batch) {
                        partial += 1;
                        continue;
                    }
                    let id = id_of(&batch).unwrap_or(0);
                    let (written, fate) =
                        self.batches.get(&id).unwrap_or_else(|| panic!("seed {seed}: invented {id}"));
                    assert!(old.contains(&id), "seed {seed}: batch {id} was written after the start");
                    assert_eq!(bits(written), bits(&batch), "seed {seed}: batch {id} differs");
                    // A group that was written again after a failed sync is told apart by the list
                    // in the next header, which a flipped bit may take, or the disk for a while. The
                    // head drops what it has.
                    let known = self.flips || self.hidden;
                    assert!(back.insert(id) || known, "seed {seed}: batch {id} is there twice");
                    assert!(
                        self.flips || *fate != Fate::Gone,
                        "seed {seed}: batch {id} is back from the dead"
                    );
                }
            }
        }
        if self.disk.is_off() {
            return false;
        }
        let report = replay.report().clone();
        let unreadable =
            report.places.iter().any(|d| d.reason == pyrrha_storage::wal::DamageReason::Unreadable);
        if unreadable {
            self.hidden = true;
            return false;
        }
        let mut missing = 0;
        for (id, (_, fate)) in self.batches.iter_mut().filter(|(id, _)| old.contains(id)) {
            match fate {
                Fate::Kept if !back.contains(id) => {
                    assert!(self.flips, "seed {seed}: acknowledged batch {id} is lost; {report}");
                    *fate = Fate::Gone;
                    missing += 1;
                }
                Fate::InDoubt if back.contains(id) => *fate = Fate::Kept,
                Fate::InDoubt => *fate = Fate::Gone,
                _ => {}
            }
        }
        if self.flips {
            let told = std::mem::take(&mut self.told) || report.count > 0 || report.torn_bytes > 0;
            assert!(told || missing + partial == 0, "seed {seed}: {missing} lost and nothing said");
        } else {
            assert!(report.is_clean(), "seed {seed}: false alarm: {report}");
        }
        true
    }

    /// After damage, samples whose series lost its definition are left out of a batch.
    fn find_partial(&mut self, batch: &LogBatch) -> bool {
        if id_of(batch).and_then(|id| self.batches.get(&id)).is_some_and(|(b, _)| bits(b) == bits(batch)) {
            return false;
        }
        let samples: BTreeSet<_> = bits(batch).into_iter().collect();
        let whole = self.batches.values().find(|(b, _)| {
            b.tenant == batch.tenant && bits(b).into_iter().collect::<BTreeSet<_>>().is_superset(&samples)
        });
        assert!(whole.is_some(), "seed {}: invented samples", self.seed);
        true
    }
}

fn bits(batch: &LogBatch) -> Vec<(u32, i64, u64)> {
    let values = batch.values.iter().map(|v| v.to_bits());
    let late = batch.late.iter().map(|h| match h.value {
        Value::Float(v) => (h.series, h.t, v.to_bits()),
        _ => (h.series, h.t, 0),
    });
    batch.refs.iter().zip(&batch.times).zip(values).map(|((&r, &t), v)| (r, t, v)).chain(late).collect()
}

fn run(seed: u64, flips: bool) {
    let mut run = Run::new(seed, flips);
    for _ in 0..2 + run.rng.below(5) {
        run.live();
    }
    // A last life without faults must see everything.
    let (wal, replay) = run.open().unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    let all: BTreeSet<u64> = run.batches.keys().copied().collect();
    assert!(run.check(replay, &all, None), "seed {seed}");
    drop(wal);
}

fn seeds(flips: bool, default: u64) {
    run_seeds(default, |seed| run(seed, flips));
}

#[test]
fn what_is_acknowledged_survives_crashes_torn_writes_full_disks_and_failed_syncs() {
    seeds(false, 1000);
}

#[test]
fn flipped_bits_lose_no_more_than_is_told() {
    seeds(true, 1000);
}
