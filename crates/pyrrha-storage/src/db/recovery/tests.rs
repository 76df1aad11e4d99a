//! Writes and reads before the database is recovered.

use std::time::Duration;

use pyrrha_model::contract::{CancelReason, CancelToken, Ingest, MemoryBudget, QueryContext, SelectHints};
use pyrrha_model::{ErrorKind, Labels, TenantId, TimeRange};
use pyrrha_testkit::{SimClock, SimDisk};

use super::super::Db;
use super::super::tests::{append, read};
use super::*;
use crate::StorageConfig;
use crate::head::CHECKPOINT_TENANT;

const NOW: i64 = 1_700_000_000_000;

struct Machine {
    disk: SimDisk,
    clock: Arc<SimClock>,
    tenant: TenantId,
}

impl Machine {
    /// A machine whose log has two series of fifty samples each.
    fn with_log() -> Self {
        let (disk, clock) = (SimDisk::new(5), Arc::new(SimClock::new(NOW)));
        let machine = Self { disk, clock, tenant: TenantId::anonymous() };
        let db = machine.open();
        while db.recover_step().expect("recovers") {}
        for i in 0..50 {
            append(&db, &machine.tenant, &[(0, NOW + i * 1000, i as f64), (1, NOW + i * 1000, 0.0)]);
        }
        machine.die(db);
        machine
    }

    fn config() -> StorageConfig {
        StorageConfig { samples_per_chunk: 8, ..StorageConfig::new("data") }
    }

    fn open(&self) -> Db {
        Db::open_stepwise(Self::config(), Arc::new(self.disk.clone()), self.clock.clone()).expect("opens")
    }

    fn die(&self, db: Db) {
        self.disk.power_off();
        drop(db);
        self.disk.crash();
    }

    fn samples(&self, db: &Db, series: usize) -> Vec<(i64, f64)> {
        let labels = Labels::from_pairs([("__name__", "m".to_owned()), ("i", series.to_string())]);
        let found = read(db, &self.tenant).remove(&labels).unwrap_or_default();
        found.into_iter().map(|(t, bits)| ((t - NOW) / 1000, f64::from_bits(bits))).collect()
    }
}

#[test]
fn what_comes_before_the_log_is_replayed_finds_its_place_behind_it() {
    let machine = Machine::with_log();
    let mut expected: Vec<(i64, f64)> = (0..50).map(|i| (i, i as f64)).collect();
    // The process dies again and again before it is recovered.
    for life in 0..4i64 {
        let db = machine.open();
        for _ in 0..life * 5 {
            db.recover_step().expect("a step");
        }
        let late = NOW + 500 + life * 1000;
        append(
            &db,
            &machine.tenant,
            &[
                (0, late, -1.0),
                (0, NOW + 10_000, if life == 0 { 10.0 } else { 11.0 }),
                (0, NOW + (60 + life) * 1000, 1.0),
                (2, NOW, 7.0),
            ],
        );
        expected.push((life, -1.0));
        expected.push((60 + life, 1.0));
        machine.die(db);
    }
    let db = machine.open();
    append(&db, &machine.tenant, &[(0, NOW + 10_000, 12.0), (0, NOW + 70_000, 2.0), (1, NOW + 500, 5.0)]);
    assert_eq!(db.metrics().side_head_samples.get(), 3);
    assert!(db.metrics().side_head_bytes.get() > 0);
    while db.recover_step().expect("a step") {}
    expected.push((70, 2.0));
    let count = expected.len();
    let found = machine.samples(&db, 0);
    expected.sort_by(|a, b| a.partial_cmp(b).expect("no NaN"));
    let mut sorted = found.clone();
    sorted.sort_by(|a, b| a.partial_cmp(b).expect("no NaN"));
    assert_eq!((sorted, found.len()), (expected, count));
    assert_eq!(machine.samples(&db, 1).len(), 51);
    assert_eq!(machine.samples(&db, 2), [(0, 7.0)]);
    let m = db.metrics();
    assert_eq!((m.side_in_order.get(), m.side_out_of_order.get(), m.side_conflicts.get()), (1, 1, 1));
    assert_eq!(m.side_head_bytes.get(), 0);
    // From here on samples are judged against all that is stored.
    let mut appender = db.appender(&machine.tenant).expect("an appender");
    let labels = Labels::from_pairs([("__name__", "m"), ("i", "1")]);
    let series = appender.resolve(None, &labels).expect("a series");
    assert!(appender.append(series, 0, NOW + 49_000, 3.0).is_err(), "another value is stored");
    assert!(appender.append(series, 0, NOW + 49_000, 0.0).is_ok(), "it repeats the stored one");
    assert!(appender.append(series, 0, NOW + 48_000, 3.0).is_err(), "also behind the newest");
    assert!(appender.append(series, 0, NOW + 48_500, 3.0).is_ok(), "it is late");
    assert!(appender.append(series, 0, NOW + 71_000, 0.0).is_ok());
    appender.commit().expect("a commit");
    // Another start finds the same.
    let before = read(&db, &machine.tenant);
    machine.die(db);
    let db = machine.open();
    while db.recover_step().expect("a step") {}
    assert_eq!(read(&db, &machine.tenant), before);
}

#[test]
fn nothing_is_cut_or_truncated_and_a_full_side_head_turns_writers_away() {
    let machine = Machine::with_log();
    let config = StorageConfig { side_head_bytes: 10, quiet_before_cut: Duration::ZERO, ..Machine::config() };
    let db = Db::open_stepwise(config, Arc::new(machine.disk.clone()), machine.clock.clone()).expect("opens");
    machine.clock.advance(Duration::from_secs(24 * 3600));
    append(&db, &machine.tenant, &[(0, NOW + 12_000_000, 1.0)]);
    db.maintain().expect("maintains");
    assert_eq!((db.metrics().blocks_cut.get(), db.metrics().checkpoints.get()), (0, 0));
    let error = db.appender(&machine.tenant).err().expect("the side head is full");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("memory for new samples is full"), "{error}");
    while db.recover_step().expect("a step") {}
    db.maintain().expect("maintains");
    assert_eq!(db.metrics().blocks_cut.get(), 1);
    assert_eq!(machine.samples(&db, 0).len(), 51);
}

#[test]
fn a_checkpoint_that_makes_no_sense_is_passed_over_while_writes_come_in() {
    let machine = Machine::with_log();
    let dir = std::path::Path::new("data/checkpoint");
    let checkpoints = Checkpoints::open(Arc::new(machine.disk.clone()), dir).expect("opens");
    let position = LogPosition { segment: 1, offset: 0 };
    let mut out = checkpoints.begin(position, NOW).expect("begins");
    out.section(CHECKPOINT_TENANT, b"anonymous").expect("written");
    out.section(99, b"from the future").expect("written");
    out.finish().expect("finished");
    let db = machine.open();
    append(&db, &machine.tenant, &[(0, NOW + 60_000, 1.0), (3, NOW, 1.0)]);
    while db.recover_step().expect("a step") {
        append(&db, &machine.tenant, &[(4, NOW + 1, 1.0)]);
        machine.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(machine.samples(&db, 0).len(), 51);
    assert_eq!(machine.samples(&db, 3).len(), 1);
    assert_eq!(machine.samples(&db, 4).len(), 1);
}

#[test]
fn reads_wait_within_their_deadline_then_name_what_is_missing() {
    let machine = Machine::with_log();
    let disk = Arc::new(machine.disk.clone());
    let db = Db::open_held(Machine::config(), disk, machine.clock.clone(), true).expect("opens");
    append(&db, &machine.tenant, &[(0, NOW + 60_000, 1.0)]);
    let range = TimeRange::new(NOW, NOW + 1000);
    let select = |ctx: &QueryContext| {
        db.queryable()
            .select(ctx, &[], range, &SelectHints::default())
            .map(|_| ())
            .map_err(|e| (e.kind(), e.to_string()))
    };
    let ctx = || QueryContext::new(machine.tenant.clone(), MemoryBudget::unlimited(), CancelToken::default());
    let late = ctx();
    late.cancel.cancel(CancelReason::TimedOut);
    let (kind, text) = select(&late).expect_err("too late");
    assert_eq!(kind, ErrorKind::Timeout);
    assert!(text.contains(&format!("from={NOW} to={}", NOW + 1000)), "{text}");
    let unknown = QueryContext { tenant: TenantId::new("unknown").expect("valid"), ..ctx() };
    unknown.cancel.cancel(CancelReason::TimedOut);
    assert_eq!(select(&unknown).expect_err("the log may know it").0, ErrorKind::Timeout);
    let partial = QueryContext { partial_response: true, ..ctx() };
    assert_eq!(select(&partial), Ok(()));
    assert_eq!(partial.notices.gaps()[0].0, range);
    assert!(!db.is_recovered());
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| select(&ctx()));
        pyrrha_env::Clock::sleep(&pyrrha_env::SystemClock::new(), Duration::from_millis(20));
        assert!(!waiting.is_finished());
        db.release_recovery();
        assert_eq!(waiting.join().expect("no panic"), Ok(()));
    });
    assert!(db.wait_recovered());
    assert_eq!(machine.samples(&db, 0).len(), 51);
    let status = db.recovery_status();
    assert_eq!((status.phase, status.current_segment), (RecoveryPhase::Done, status.last_segment));
    assert_eq!(status.read_bytes, status.total_bytes);
}

#[test]
fn closing_ends_a_recovery_that_never_began() {
    let machine = Machine::with_log();
    let disk = Arc::new(machine.disk.clone());
    let db = Db::open_held(Machine::config(), disk, machine.clock.clone(), true).expect("opens");
    append(&db, &machine.tenant, &[(0, NOW + 60_000, 1.0)]);
    db.close().expect("closes");
    assert!(!db.wait_recovered());
    drop(db);
    let db = machine.open();
    while db.recover_step().expect("a step") {}
    assert_eq!(machine.samples(&db, 0).len(), 51);
}
