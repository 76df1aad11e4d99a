//! A disk that hides a part of the log for a while.

use std::path::Path;
use std::time::Duration;

use pyrrha_env::Disk;
use pyrrha_model::contract::Deletes;
use pyrrha_model::{ErrorKind, Matcher};
use pyrrha_testkit::{DiskOp, Fault, SimClock, SimDisk};

use super::super::Db;
use super::super::tests::{append, read};
use super::*;
use crate::StorageConfig;
use crate::wal::WalConfig;

const NOW: i64 = 1_700_000_040_000;
const RANGE: i64 = 60_000;

fn open(disk: &SimDisk, clock: &Arc<SimClock>) -> Db {
    open_with(disk, clock, |_| {})
}

fn open_with(disk: &SimDisk, clock: &Arc<SimClock>, change: impl FnOnce(&mut StorageConfig)) -> Db {
    let mut config = StorageConfig {
        wal: WalConfig { segment_bytes: 4 << 10, ..WalConfig::default() },
        block_range_ms: RANGE,
        samples_per_chunk: 8,
        quiet_before_cut: Duration::ZERO,
        disk_reserve_bytes: 0,
        ..StorageConfig::new("data")
    };
    change(&mut config);
    Db::open_stepwise(config, Arc::new(disk.clone()), clock.clone()).expect("opens")
}

fn recover(db: &Db) {
    while db.recover_step().expect("a step") {}
}

/// A log of some segments that was never cut, and which samples it has.
fn machine() -> (SimDisk, Arc<SimClock>, Vec<i64>) {
    let (disk, clock) = (SimDisk::new(3), Arc::new(SimClock::new(NOW)));
    let db = open(&disk, &clock);
    recover(&db);
    let times: Vec<i64> = (0..200).map(|i| NOW + i * 1000).collect();
    for &t in &times {
        append(&db, &TenantId::anonymous(), &[(0, t, t as f64), (1, t, 1.0)]);
    }
    disk.power_off();
    drop(db);
    disk.crash();
    (disk, clock, times)
}

fn times_of(db: &Db) -> Vec<i64> {
    let found = read(db, &TenantId::anonymous());
    let mut all: Vec<Vec<i64>> =
        found.values().map(|samples| samples.iter().map(|(t, _)| *t).collect()).collect();
    assert_eq!(all.len(), 2);
    assert_eq!(all[0], all[1]);
    all.remove(0)
}

#[test]
fn samples_of_a_segment_that_was_hidden_come_back_although_their_range_was_cut() {
    let (disk, clock, times) = machine();
    // The second segment does not show itself: the first look at it fails.
    disk.fail_op_in(DiskOp::Map, 1, Fault::Io);
    let db = open(&disk, &clock);
    recover(&db);
    disk.heal();
    assert_eq!(db.log_damage().unreadable, [1]);
    let refused = db.delete(&TenantId::anonymous(), &[vec![Matcher::equal("i", "0")]], TimeRange::ALL);
    let refused = refused.expect_err("it could not hide what is in the segment");
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    let told = refused.to_string();
    assert!(told.contains("file=data/wal/0000000001.wal files=1; restart when"), "{told}");
    let later: Vec<i64> = (200..400).map(|i| NOW + i * 1000).collect();
    for &t in &later {
        append(&db, &TenantId::anonymous(), &[(0, t, t as f64), (1, t, 1.0)]);
    }
    db.maintain().expect("maintains");
    assert!(db.blocks(&TenantId::anonymous()).len() >= 4, "ranges are cut all the same");
    assert!(times_of(&db).len() < 400, "a part is missing");
    disk.power_off();
    drop(db);
    disk.crash();

    let all: Vec<i64> = times.iter().chain(&later).copied().collect();
    for _ in 0..3 {
        let db = open(&disk, &clock);
        recover(&db);
        assert!(db.log_damage().is_clean());
        assert_eq!(times_of(&db), all);
        clock.advance(Duration::from_secs(2 * 3600));
        db.maintain().expect("maintains");
        assert_eq!(times_of(&db), all);
        disk.power_off();
        drop(db);
        disk.kill();
    }
}

/// Appends a sample of each of two series a second until the log is in its next segment, and ten more.
fn fill_segment(db: &Db, clock: &SimClock, times: &mut Vec<i64>) {
    let segment = db.wal().position().segment;
    let mut left = 10;
    while left > 0 {
        let t = times.last().map_or(NOW, |t| t + 1000);
        append(db, &TenantId::anonymous(), &[(0, t, t as f64), (1, t, 1.0)]);
        times.push(t);
        clock.advance(Duration::from_secs(1));
        left -= usize::from(db.wal().position().segment > segment);
    }
}

/// Power goes and comes back; the next start does not get to see a segment.
fn restart_without(db: Db, disk: &SimDisk, clock: &Arc<SimClock>, segment: u64) -> Db {
    disk.power_off();
    drop(db);
    disk.crash();
    disk.fail_op_in(DiskOp::Map, segment, Fault::Io);
    let db = open(disk, clock);
    recover(&db);
    disk.heal();
    assert_eq!(db.log_damage().unreadable, [segment]);
    db
}

fn times_by_series(db: &Db) -> Vec<Vec<i64>> {
    let found = read(db, &TenantId::anonymous());
    found.values().map(|samples| samples.iter().map(|(t, _)| *t).collect()).collect()
}

#[test]
fn a_delete_in_a_hidden_segment_hides_what_it_hid_and_nothing_that_came_after_it() {
    let (disk, clock) = (SimDisk::new(3), Arc::new(SimClock::new(NOW)));
    let db = open(&disk, &clock);
    recover(&db);
    let mut times = Vec::new();
    fill_segment(&db, &clock, &mut times);
    let (segment, before) = (db.wal().position().segment, times.len());
    db.delete(&TenantId::anonymous(), &[vec![Matcher::equal("i", "0")]], TimeRange::ALL).expect("deletes");
    fill_segment(&db, &clock, &mut times);
    fill_segment(&db, &clock, &mut times);
    let other = TenantId::new("other").expect("a tenant");
    let two: Vec<_> = (0..400).map(|i| (0, NOW + i * 1000, 1.0)).collect();
    append(&db, &other, &two);

    let db = restart_without(db, &disk, &clock, segment);
    fill_segment(&db, &clock, &mut times);
    fill_segment(&db, &clock, &mut times);
    db.maintain().expect("maintains");
    clock.advance(Duration::from_secs(30 * 3600));
    db.maintain().expect("maintains");
    assert!(db.blocks(&TenantId::anonymous()).is_empty(), "what a block may show of these is not known");
    assert!(db.blocks(&other).len() >= 4, "nothing of this one was ever deleted");
    assert_eq!(db.purge_deletes(&TenantId::anonymous()).map_err(|e| e.kind()), Err(ErrorKind::Unavailable));
    let mark = Path::new("data/head").join(TenantId::anonymous().as_str()).join(super::super::DELETES_MARK);
    assert!(disk.exists(&mark), "the next start has to wait for its log");
    disk.power_off();
    drop(db);
    disk.crash();

    for _ in 0..3 {
        let db = open(&disk, &clock);
        recover(&db);
        assert!(db.log_damage().is_clean());
        assert_eq!(times_by_series(&db), [times[before..].to_vec(), times.clone()]);
        db.maintain().expect("maintains");
        assert!(!db.blocks(&TenantId::anonymous()).is_empty());
        assert_eq!(times_by_series(&db), [times[before..].to_vec(), times.clone()]);
        disk.power_off();
        drop(db);
        disk.kill();
    }
}

#[test]
fn a_delete_whose_undoing_is_hidden_removes_nothing() {
    let (disk, clock) = (SimDisk::new(3), Arc::new(SimClock::new(NOW)));
    let db = open(&disk, &clock);
    recover(&db);
    let mut times = Vec::new();
    fill_segment(&db, &clock, &mut times);
    let sets = [vec![Matcher::equal("i", "0")]];
    let id = db.delete(&TenantId::anonymous(), &sets, TimeRange::ALL).expect("deletes").expect("an id");
    fill_segment(&db, &clock, &mut times);
    let segment = db.wal().position().segment;
    db.undo_delete(&TenantId::anonymous(), id).expect("undoes");
    fill_segment(&db, &clock, &mut times);

    let db = restart_without(db, &disk, &clock, segment);
    let refused = db.undo_delete(&TenantId::anonymous(), id);
    assert_eq!(refused.map_err(|e| e.kind()), Err(ErrorKind::Unavailable), "it may be final by now");
    clock.advance(Duration::from_secs(30 * 3600));
    for _ in 0..3 {
        db.maintain().expect("maintains");
    }
    disk.power_off();
    drop(db);
    disk.crash();

    let db = open(&disk, &clock);
    recover(&db);
    assert_eq!(times_by_series(&db), [times.clone(), times.clone()]);
    db.maintain().expect("maintains");
    assert_eq!(times_by_series(&db), [times.clone(), times]);
}

#[test]
fn nothing_is_cut_before_the_list_is_durable() {
    let (disk, clock, _) = machine();
    disk.fail_op_in(DiskOp::Map, 1, Fault::Io);
    let db = open(&disk, &clock);
    disk.fail_op_in(DiskOp::Rename, 0, Fault::Io);
    recover(&db);
    disk.heal();
    append(&db, &TenantId::anonymous(), &[(0, NOW + 400_000, 0.0)]);
    disk.fail_op_in(DiskOp::Rename, 0, Fault::Io);
    db.maintain().expect_err("the list cannot be written");
    assert!(db.blocks(&TenantId::anonymous()).is_empty());
    disk.heal();
    db.maintain().expect("maintains");
    assert!(!db.blocks(&TenantId::anonymous()).is_empty());
    let list = disk.read(&Path::new("data/wal").join(FILE)).expect("a list");
    assert_eq!(decode(&list).expect("reads").keys().copied().collect::<Vec<_>>(), [1]);
}

#[test]
fn any_flipped_byte_of_the_list_is_found() {
    let good: Segments = [(7, [("a".to_owned(), vec![(0, 59_999)])].into())].into();
    let bytes = encode(&good);
    assert_eq!(decode(&bytes), Ok(good));
    for i in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[i] ^= 1 << bit;
            assert!(decode(&flipped).is_err(), "byte {i} bit {bit}");
        }
        assert!(decode(&bytes[..i]).is_err());
    }
}

#[test]
fn blocks_do_not_go_for_a_log_that_cannot_be_truncated() {
    let (disk, clock, _) = machine();
    disk.fail_op_in(DiskOp::Map, 1, Fault::Io);
    let limit = 128 << 10;
    let db = open_with(&disk, &clock, |config| config.retention_bytes = limit);
    recover(&db);
    disk.heal();
    assert_eq!(db.log_damage().unreadable, [1]);
    let tenant = TenantId::anonymous();
    let last = NOW + 400_000;
    append(&db, &tenant, &[(0, last, 1.0), (1, last, 1.0)]);
    db.maintain().expect("maintains");
    let live = db.blocks(&tenant).len();
    assert!(live > 0 && db.wal().bytes() < limit / 2);
    let mut written = 1;
    while db.wal().bytes() < 2 * limit {
        append(&db, &tenant, &[(0, last + written, 1.0), (1, last + written, 1.0)]);
        written += 1;
    }
    for _ in 0..3 {
        clock.advance(Duration::from_secs(61));
        db.maintain().expect("maintains");
    }
    assert_eq!(db.metrics().blocks_removed.get(), 0);
    assert!(db.blocks(&tenant).len() >= live);
}

#[test]
fn a_head_that_may_not_be_cut_does_not_press_others() {
    let (disk, clock) = (SimDisk::new(3), Arc::new(SimClock::new(NOW)));
    let db = open(&disk, &clock);
    recover(&db);
    let mut times = Vec::new();
    fill_segment(&db, &clock, &mut times);
    let segment = db.wal().position().segment;
    db.delete(&TenantId::anonymous(), &[vec![Matcher::equal("i", "0")]], TimeRange::ALL).expect("deletes");
    fill_segment(&db, &clock, &mut times);
    disk.power_off();
    drop(db);
    disk.crash();
    disk.fail_op_in(DiskOp::Map, segment, Fault::Io);
    let db = open_with(&disk, &clock, |config| config.head_memory_bytes = 1 << 19);
    recover(&db);
    disk.heal();
    assert_eq!(db.log_damage().unreadable, [segment]);
    // More series than the budget has room for.
    let now = times.last().map_or(NOW, |t| t + 1000);
    let many: Vec<_> = (0..4000).map(|i| (i, now, 1.0)).collect();
    append(&db, &TenantId::anonymous(), &many);
    let heads: u64 = db.shared.tenants.all().iter().map(|t| t.head.bytes().0 as u64).sum();
    assert!(heads > 1 << 19, "{heads}");
    // One that may be cut: under pressure a range goes as soon as it is over, else half of the next one later.
    let other = TenantId::new("other").expect("a tenant");
    let range = now.div_euclid(RANGE) * RANGE;
    append(&db, &other, &[(0, range, 1.0)]);
    append(&db, &other, &[(0, range + RANGE + 1000, 1.0)]);
    db.maintain().expect("maintains");
    assert_eq!(db.blocks(&other).len(), 0);
}
