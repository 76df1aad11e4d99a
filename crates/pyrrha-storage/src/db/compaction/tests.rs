//! Compaction of a database: nothing is lost or doubled, whatever dies, and damage stays where it is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pyrrha_encoding::encode_series;
use pyrrha_env::Disk;
use pyrrha_model::contract::{Deletes, Ingest, LabelQuery, QueryContext, SelectHints, SeriesBatch, Value};
use pyrrha_model::{Exemplar, TenantId, TimeRange};
use pyrrha_testkit::{DiskOp, Fault, SimClock, SimDisk};

use super::*;
use crate::block::{BlockWriter, Layout};
use crate::config::StorageConfig;
use crate::db::tests::{append, labels, read};
use crate::wal::WalConfig;

const HOUR: i64 = 3_600_000;

fn config(compaction: bool) -> StorageConfig {
    StorageConfig {
        quiet_before_cut: Duration::ZERO,
        wal: WalConfig { segment_bytes: 8 << 10, ..WalConfig::default() },
        disk_reserve_bytes: 0,
        compaction,
        ..StorageConfig::new("data")
    }
}

fn open(disk: &SimDisk, config: StorageConfig) -> Db {
    let clock = Arc::new(SimClock::new(1000 * HOUR));
    Db::open_single_threaded(config, Arc::new(disk.clone()), clock).expect("opens")
}

fn bucket() -> PathBuf {
    PathBuf::from("data/bucket/anonymous")
}

fn assert_only_live_blocks(disk: &SimDisk, db: &Db, when: &str) {
    let entries = disk.list(&bucket()).expect("lists");
    let dirs: BTreeSet<BlockId> = entries.iter().filter_map(|e| e.name.parse().ok()).collect();
    let live: BTreeSet<BlockId> = db.blocks(&TenantId::anonymous()).iter().map(|b| b.ulid).collect();
    assert_eq!(dirs, live, "{when}");
    assert_eq!(disk.list(&bucket().join("jobs")).map_or(0, |l| l.len()), 0, "{when}");
}

/// Brings a block that overlaps the others, as out-of-order samples make them.
fn add_overlapping(db: &Db) {
    let shared = &db.shared;
    let tenant = shared.tenant(&TenantId::anonymous()).expect("a tenant");
    let id = BlockId::new(&*shared.clock);
    let dir = bucket().join(id.to_string());
    let mut writer = BlockWriter::create(shared.disk.clone(), &dir).expect("creates");
    let samples: Vec<_> = (0..10).map(|i| (0, i * HOUR / 2 + 60_000, Value::Float(-1.0))).collect();
    writer.add_series(&labels(1), &encode_series(&samples, false)).expect("adds");
    writer.finish(BlockMeta::of_head(id, HOUR, 5 * HOUR)).expect("finishes");
    let block = Block::open(&*shared.disk, &dir).expect("opens");
    tenant.manifest.commit(&[BlockEntry::of(block.meta(), block.bytes())], &[]).expect("commits");
    let _cuts = tenant.cuts.lock();
    shared.follow(&tenant, &tenant.manifest.current(), Some(block));
}

#[test]
fn a_tenant_has_dense_blocks_for_as_long_as_it_wants_them() {
    let (disk, tenant) = (SimDisk::new(1), TenantId::anonymous());
    let layouts = |db: &Db| -> BTreeSet<bool> {
        db.open_blocks(&tenant).iter().map(|b| b.layout() == Layout::Dense).collect()
    };
    let config = |dense| StorageConfig { tenant_dense: [(tenant.clone(), dense)].into(), ..config(true) };
    let db = open(&disk, config(true));
    for hour in 0..20 {
        append(&db, &tenant, &[(0, hour * HOUR, hour as f64 / 10.0), (1, hour * HOUR, 1.0)]);
        db.maintain().expect("maintains");
    }
    assert!(db.metrics().compactions.get() > 1, "levels grow as others do");
    let seen = read(&db, &tenant);
    assert!(seen.values().all(|samples| samples.len() == 20));
    assert_eq!(layouts(&db), [true].into());
    let names = |dir: &Path| disk.list(dir).map_or(0, |l| l.iter().filter(|e| e.name.len() == 26).count());
    assert_eq!((names(&bucket()), names(&bucket().join("dense"))), (0, db.blocks(&tenant).len()));
    let snapshot = db.snapshot("s", false).expect("a snapshot");
    drop(db);
    let copy = Db::open_single_threaded(
        StorageConfig { dir: snapshot, ..config(false) },
        Arc::new(disk.clone()),
        Arc::new(SimClock::new(1000 * HOUR)),
    );
    let copy = copy.expect("opens");
    assert_eq!((layouts(&copy), read(&copy, &tenant)), ([false].into(), seen.clone()));
    drop(copy);
    for dense in [false, true] {
        let db = open(&disk, config(dense));
        assert_eq!(layouts(&db), [!dense].into(), "a start converts nothing");
        db.maintain().expect("maintains");
        assert_eq!((layouts(&db), read(&db, &tenant)), ([dense].into(), seen.clone()));
        assert!(names(&bucket()) == if dense { 0 } else { db.blocks(&tenant).len() });
        assert_eq!(disk.list(&bucket().join("jobs")).map_or(0, |l| l.len()), 0);
    }
}

#[test]
fn samples_that_lose_to_another_are_counted() {
    let (disk, tenant) = (SimDisk::new(1), TenantId::anonymous());
    let db = open(&disk, config(true));
    for hour in 0..12 {
        append(&db, &tenant, &[(1, hour * HOUR + 60_000, hour as f64)]);
        db.maintain().expect("maintains");
    }
    assert_eq!(db.metrics().compaction_conflicts.get(), 0);
    // Times of hours and half hours: of the first five hours there are two values, none equal.
    add_overlapping(&db);
    db.maintain().expect("maintains");
    assert_eq!(db.metrics().compaction_conflicts.get(), 5);
}

/// Flips a bit of a chunk of the first block; gives its id.
fn damage_first_block(disk: &SimDisk, db: &Db) -> BlockId {
    let block = db.open_blocks(&TenantId::anonymous()).remove(0);
    disk.flip_bit(&block.dir().join("chunks/000001"), 14, 3).expect("the file is longer");
    block.meta().ulid
}

#[test]
fn a_query_that_meets_damage_says_so_and_has_the_block_set_aside() {
    for partial in [false, true] {
        let (disk, tenant) = (SimDisk::new(1), TenantId::anonymous());
        let db = open(&disk, config(false));
        for hour in 0..8 {
            append(&db, &tenant, &[(0, hour * HOUR, hour as f64)]);
            db.maintain().expect("maintains");
        }
        drop(db);
        let db = open(&disk, config(false));
        let id = damage_first_block(&disk, &db);
        drop(db);
        let db = open(&disk, config(false));
        let mut ctx = QueryContext::unlimited();
        (ctx.tenant, ctx.partial_response) = (tenant.clone(), partial);
        let set = db.queryable().select(&ctx, &[], TimeRange::ALL, &SelectHints::default());
        let read = set.and_then(|mut set| set.next_batch(100, &mut SeriesBatch::default()));
        match read {
            Err(error) => {
                assert!(!partial);
                let text = error.to_string();
                let place = format!("block={id} file=chunks/000001 offset=");
                assert!(error.kind() == ErrorKind::Corrupt && text.contains(&place), "{text}");
            }
            Ok(_) => {
                assert!(partial);
                let gaps = ctx.notices.gaps();
                assert!(gaps.len() == 1 && gaps[0].1.contains(&id.to_string()), "{gaps:?}");
            }
        }
        assert_eq!(db.metrics().blocks_quarantined.get(), 0, "it is looked at once more first");
        db.maintain().expect("maintains");
        assert_eq!((db.metrics().blocks_verified.get(), db.metrics().blocks_quarantined.get()), (1, 1));
        assert!(disk.exists(&bucket().join(format!("{id}/no-compact-mark.json"))));
        db.maintain().expect("maintains");
        assert_eq!(db.metrics().blocks_verified.get(), 1, "what is known is not read again");
    }
}

#[test]
fn a_query_of_labels_that_meets_damage_does_so_too() {
    for partial in [false, true] {
        let disk = SimDisk::new(1);
        let db = open(&disk, config(false));
        for hour in 0..8 {
            append(&db, &TenantId::anonymous(), &[(0, hour * HOUR, hour as f64)]);
            db.maintain().expect("maintains");
        }
        let block = db.open_blocks(&TenantId::anonymous()).remove(0);
        let (index, id) = (block.dir().join("index"), block.meta().ulid);
        drop((block, db));
        // The table of contents ends the file: where the series begin is its second number.
        let bytes = disk.map(&index).expect("maps").to_vec();
        let number = &bytes[bytes.len() - 44..bytes.len() - 36];
        let series = u64::from_be_bytes(number.try_into().expect("eight bytes")).next_multiple_of(16);
        disk.flip_bit(&index, series + 2, 3).expect("the file is longer");
        let db = open(&disk, config(false));
        let ctx = QueryContext { partial_response: partial, ..QueryContext::unlimited() };
        match db.queryable().series(&ctx, &LabelQuery::all(TimeRange::ALL)) {
            Err(error) => {
                let text = error.to_string();
                let place = format!("block={id} file=index");
                assert!(text.contains(&place) && text.contains("offset="), "{text}");
                assert!(!partial && error.kind() == ErrorKind::Corrupt);
            }
            Ok(found) => {
                let gaps = ctx.notices.gaps();
                assert!(partial && gaps.len() == 1 && gaps[0].1.contains(&id.to_string()), "{gaps:?}");
                assert_eq!(found.len(), 1, "the other blocks have it");
            }
        }
        db.maintain().expect("maintains");
        assert_eq!((db.metrics().blocks_verified.get(), db.metrics().blocks_quarantined.get()), (1, 1));
    }
}

#[test]
fn damage_is_found_before_anyone_asks() {
    let (disk, tenant) = (SimDisk::new(1), TenantId::anonymous());
    let config = StorageConfig { verify_every: Duration::from_secs(3600), ..config(false) };
    let clock = Arc::new(SimClock::new(1000 * HOUR));
    let open =
        || Db::open_single_threaded(config.clone(), Arc::new(disk.clone()), clock.clone()).expect("opens");
    let db = open();
    for hour in 0..8 {
        append(&db, &tenant, &[(0, hour * HOUR, hour as f64)]);
        db.maintain().expect("maintains");
    }
    let id = damage_first_block(&disk, &db);
    drop(db);
    let db = open();
    let blocks = db.blocks(&tenant).len() as u64;
    for _ in 0..90 {
        clock.advance(Duration::from_secs(60));
        db.maintain().expect("maintains");
    }
    assert_eq!(db.metrics().blocks_quarantined.get(), 1);
    assert!(disk.exists(&bucket().join(format!("{id}/no-compact-mark.json"))));
    let verified = db.metrics().blocks_verified.get();
    assert!((blocks..=2 * blocks).contains(&verified), "{verified} reads of {blocks} blocks in 90 minutes");
}

#[test]
fn blocks_grow_and_queries_see_the_same() {
    let (disk, tenant) = (SimDisk::new(1), TenantId::anonymous());
    let db = open(&disk, config(true));
    for hour in 0..70 {
        append(&db, &tenant, &[(0, hour * HOUR, hour as f64), (1, hour * HOUR, 1.0)]);
        db.maintain().expect("maintains");
    }
    assert!(read(&db, &tenant).values().all(|samples| samples.len() == 70));
    let blocks = db.blocks(&tenant);
    let spans: Vec<i64> = blocks.iter().map(|b| (b.max_time - b.min_time) / HOUR).collect();
    assert_eq!(spans, [54, 6, 6, 2], "the youngest wait for their window to be full");
    assert_eq!(blocks[0].compaction.sources.len(), 27);
    assert_only_live_blocks(&disk, &db, "at the end");
    assert!(db.metrics().compactions.get() >= 13 && db.metrics().compactions_failed.get() == 0);
}

#[test]
fn wherever_a_compaction_is_killed_either_its_inputs_or_its_output_are_there() {
    let tenant = TenantId::anonymous();
    for n in 0..1000 {
        let disk = SimDisk::new(n);
        let db = open(&disk, config(false));
        (0..10).for_each(|i| append(&db, &tenant, &[(0, i * HOUR, i as f64), (1, i * HOUR, 1.0)]));
        db.maintain().expect("maintains");
        add_overlapping(&db);
        let before = read(&db, &tenant);
        assert_eq!(before[&labels(1)].len(), 20);
        drop(db);
        let db = open(&disk, config(true));
        disk.fail_in(n, Fault::PowerOff);
        let _ = db.maintain();
        let done = !disk.is_off();
        disk.power_off();
        drop(db);
        if n % 2 == 0 {
            disk.crash()
        } else {
            disk.kill()
        }
        disk.heal();
        let db = open(&disk, config(false));
        assert_eq!(read(&db, &tenant), before, "killed at {n}");
        assert_only_live_blocks(&disk, &db, &format!("killed at {n}"));
        if done {
            assert_eq!(db.blocks(&tenant).len(), 2, "what overlapped is one block");
            assert!(n > 25, "a compaction has some steps");
            return;
        }
    }
    panic!("a compaction never ends");
}

#[test]
fn an_error_of_the_disk_leaves_the_blocks_as_they_were_and_it_is_tried_again() {
    let tenant = TenantId::anonymous();
    for n in 0..60 {
        let disk = SimDisk::new(n);
        let clock = Arc::new(SimClock::new(1000 * HOUR));
        let db =
            Db::open_single_threaded(config(true), Arc::new(disk.clone()), clock.clone()).expect("opens");
        (0..10).for_each(|i| append(&db, &tenant, &[(0, i * HOUR, i as f64), (1, i * HOUR, 1.0)]));
        let before = read(&db, &tenant);
        disk.fail_in(20 + n * 3, Fault::Io);
        let _ = db.maintain();
        disk.heal();
        assert_eq!(read(&db, &tenant), before, "failed at {n}");
        clock.advance(Duration::from_secs(3600));
        db.maintain().expect("maintains");
        clock.advance(Duration::from_secs(3600));
        db.maintain().expect("maintains");
        assert_eq!(read(&db, &tenant), before, "failed at {n}");
        assert_eq!(db.metrics().blocks_quarantined.get(), 0);
        drop(db);
        let db = open(&disk, config(false));
        assert_eq!(read(&db, &tenant), before, "failed at {n}");
        assert_only_live_blocks(&disk, &db, &format!("failed at {n}"));
    }
}

#[test]
fn a_damaged_block_is_set_aside_and_the_others_are_compacted() {
    let (disk, tenant) = (SimDisk::new(1), TenantId::anonymous());
    let db = open(&disk, config(false));
    for i in 0..14 {
        append(&db, &tenant, &[(0, i * HOUR, i as f64), (1, i * HOUR, 1.0)]);
    }
    db.maintain().expect("maintains");
    let damaged = db.blocks(&tenant)[1].ulid;
    let segment = bucket().join(damaged.to_string()).join("chunks/000001");
    drop(db);
    disk.flip_bit(&segment, 14, 3).expect("flips");
    let db = open(&disk, config(true));
    db.maintain().expect("maintains");
    let check = |db: &Db| {
        assert_eq!(db.blocks(&tenant).iter().filter(|b| b.compaction.level == 1).count(), 4);
        let asked = |range: TimeRange| {
            let ctx = QueryContext::unlimited();
            let mut set = db.queryable().select(&ctx, &[], range, &SelectHints::default()).expect("selects");
            let (mut batch, mut count) = (SeriesBatch::default(), 0);
            loop {
                match set.next_batch(10, &mut batch) {
                    Ok(true) => count += batch.series.len(),
                    Ok(false) => break,
                    Err(error) => return (Err(error.kind()), ctx.notices.warnings()),
                }
            }
            (Ok(count), ctx.notices.warnings())
        };
        let (answer, warnings) = asked(TimeRange::new(2 * HOUR, 3 * HOUR));
        assert_eq!(answer, Err(ErrorKind::Corrupt));
        assert!(warnings[0].contains(&format!("quarantined block={damaged}")), "{warnings:?}");
        let (answer, warnings) = asked(TimeRange::new(4 * HOUR, 20 * HOUR));
        assert_eq!((answer, warnings), (Ok(2), vec![]), "the rest is as good as ever");
        let query = LabelQuery::all(TimeRange::new(2 * HOUR, 3 * HOUR));
        for what in ["names", "values", "series"] {
            let ctx = QueryContext::unlimited();
            let asked = match what {
                "names" => db.queryable().label_names(&ctx, &query).map(drop),
                "values" => db.queryable().label_values(&ctx, "i", &query).map(drop),
                _ => db.queryable().series(&ctx, &query).map(drop),
            };
            asked.expect("labels are sound");
            let warnings = ctx.notices.warnings();
            assert!(warnings[0].contains(&format!("quarantined block={damaged}")), "{what} {warnings:?}");
        }
    };
    assert_eq!((db.metrics().blocks_quarantined.get(), db.metrics().compactions.get()), (1, 1));
    check(&db);
    drop(db);
    let db = open(&disk, config(true));
    db.maintain().expect("maintains");
    assert_eq!(db.metrics().blocks_quarantined.get(), 0, "it is known from before");
    check(&db);
    assert!(disk.exists(&bucket().join(damaged.to_string()).join("no-compact-mark.json")));
}

#[test]
fn a_compaction_on_its_own_thread_ends_with_the_database() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let tenant = TenantId::anonymous();
    let config = StorageConfig { dir: dir.path().into(), ..config(true) };
    let open = || {
        let clock = Arc::new(SimClock::new(1000 * HOUR));
        super::super::tests::recovered(
            Db::open(config.clone(), Arc::new(pyrrha_env::OsDisk), clock).expect("opens"),
        )
    };
    let db = open();
    for i in 0..40 {
        append(&db, &tenant, &(0..100).map(|s| (s, i * HOUR, 1.0)).collect::<Vec<_>>());
    }
    db.maintain().expect("maintains");
    db.close().expect("closes");
    assert!(!db.is_compacting());
    drop(db);
    let db = open();
    let mut rounds = 0;
    while db.blocks(&tenant).len() > 8 {
        db.maintain().expect("maintains");
        std::thread::yield_now();
        rounds += 1;
        assert!(rounds < 10_000_000, "compaction does not end");
    }
    assert!(read(&db, &tenant).values().all(|samples| samples.len() == 40));
    let home = Path::new("bucket/anonymous");
    assert!(!dir.path().join(home).join("chunks").exists());
}

#[test]
fn a_flipped_bit_in_the_id_or_range_of_a_block_does_not_make_compaction_spin() {
    for (from, to) in [("\"ulid\": \"0", "\"ulid\": \"1"), ("\"maxTime\": ", "\"maxTime\": 9")] {
        let (disk, tenant) = (SimDisk::new(1), TenantId::anonymous());
        let db = open(&disk, config(false));
        for hour in 0..20 {
            append(&db, &tenant, &[(0, hour * HOUR, hour as f64), (1, hour * HOUR, 1.0)]);
        }
        db.maintain().expect("maintains");
        let (seen, id) = (read(&db, &tenant), db.blocks(&tenant)[1].ulid);
        drop(db);
        let path = bucket().join(id.to_string()).join("meta.json");
        let meta = String::from_utf8(disk.read(&path).expect("reads").to_vec()).expect("text");
        let compact = meta.replace(": ", ":");
        let (from, to) = if meta.contains(from) {
            (from.to_owned(), to.to_owned())
        } else {
            (from.replace(": ", ":"), to.replace(": ", ":"))
        };
        assert!(meta.contains(&from), "{compact}");
        disk.remove_file(&path).expect("removes");
        let changed = meta.replacen(&from, &to, 1);
        disk.create_new(&path).and_then(|f| f.write_at(0, changed.as_bytes())).expect("writes");
        let db = open(&disk, config(true));
        db.maintain().expect("maintains");
        assert!(db.metrics().compactions.get() > 0);
        assert_eq!(read(&db, &tenant), seen);
        assert!(db.blocks(&tenant).iter().all(|b| b.ulid != id), "it is merged with the others");
    }
}

#[test]
fn exemplars_that_the_disk_did_not_give_for_a_while_are_not_lost() {
    let (disk, tenant) = (SimDisk::new(1), TenantId::anonymous());
    let db = open(&disk, config(false));
    for hour in 0..20 {
        let mut appender = db.appender(&tenant).expect("an appender");
        let series = appender.resolve(None, &labels(0)).expect("a series");
        appender.append(series, 0, hour * HOUR, 1.0).expect("admitted");
        let exemplar = Exemplar { labels: labels(9), value: 1.0, timestamp: hour * HOUR };
        appender.append_exemplar(series, exemplar).expect("admitted");
        appender.commit().expect("commits");
    }
    db.maintain().expect("maintains");
    drop(db);
    let exemplars = |db: &Db| {
        let ctx = QueryContext { partial_response: true, ..QueryContext::unlimited() };
        let found = db.queryable().exemplars(&ctx, &LabelQuery::all(TimeRange::ALL)).expect("reads");
        found.iter().map(|e| e.exemplars.len()).sum::<usize>()
    };
    let mut hit = 0;
    for nth in 0..60 {
        let disk = disk.clone();
        disk.fail_op_in(DiskOp::Map, nth, Fault::Io);
        let clock = Arc::new(SimClock::new(1000 * HOUR));
        let opened = Db::open_single_threaded(config(true), Arc::new(disk.clone()), clock.clone());
        disk.heal();
        let Ok(db) = opened else { continue };
        let lacks = db.open_blocks(&tenant).iter().any(Block::lacks_files);
        hit += usize::from(lacks);
        if lacks {
            disk.fail_op_in(DiskOp::Map, 0, Fault::Io);
            db.maintain().expect("maintains");
            disk.heal();
            assert!(db.metrics().compactions.get() > 0, "the others are merged");
            let lacks = |db: &Db| db.open_blocks(&tenant).iter().any(Block::lacks_files);
            let operations = disk.operations();
            db.maintain().expect("maintains");
            assert!(lacks(&db) && disk.operations() == operations, "it is not tried each time");
            clock.advance(REOPEN_FIRST);
            db.maintain().expect("maintains");
            assert!(!lacks(&db));
            assert_eq!(exemplars(&db), 20, "they can be read again");
            clock.advance(RETRY_AFTER);
            db.maintain().expect("maintains");
            assert_eq!(exemplars(&db), 20);
            break;
        }
    }
    assert_eq!(hit, 1);
}

/// The disk of a database with a sample at each hour, but for the third and the fourth.
fn with_a_gap() -> SimDisk {
    let (disk, tenant) = (SimDisk::new(1), TenantId::anonymous());
    let db = open(&disk, config(false));
    for hour in (0..20).filter(|hour| !(2..4).contains(hour)) {
        append(&db, &tenant, &[(0, hour * HOUR, hour as f64)]);
    }
    db.maintain().expect("maintains");
    disk
}

#[test]
fn a_late_sample_that_the_log_has_in_order_outlives_compaction_over_its_gap() {
    let (disk, tenant) = (with_a_gap(), TenantId::anonymous());
    let clock = Arc::new(SimClock::new(1000 * HOUR));
    let patient = || StorageConfig { quiet_before_cut: Duration::from_secs(60), ..config(true) };
    let db = Db::open_stepwise(patient(), Arc::new(disk.clone()), clock.clone()).expect("opens");
    // Nobody knows yet what came before.
    append(&db, &tenant, &[(0, 3 * HOUR, 3.0)]);
    while db.recover_step().expect("recovers") {}
    let seen = read(&db, &tenant);
    assert_eq!(seen[&labels(0)].len(), 19);
    db.maintain().expect("maintains");
    disk.power_off();
    drop(db);
    disk.crash();
    let db = Db::open_single_threaded(patient(), Arc::new(disk.clone()), clock.clone()).expect("opens");
    assert_eq!(read(&db, &tenant), seen);
    clock.advance(Duration::from_secs(6 * 3600));
    for _ in 0..3 {
        db.maintain().expect("maintains");
    }
    assert_eq!(read(&db, &tenant), seen);
    assert!(db.metrics().compactions.get() > 0, "it does not wait for ever");
}

#[test]
fn compaction_goes_on_when_a_gap_closes_without_a_commit() {
    let (disk, tenant) = (with_a_gap(), TenantId::anonymous());
    let clock = Arc::new(SimClock::new(1000 * HOUR));
    let patient = StorageConfig { quiet_before_cut: Duration::from_secs(60), ..config(true) };
    let db = Db::open_stepwise(patient, Arc::new(disk.clone()), clock.clone()).expect("opens");
    append(&db, &tenant, &[(0, 3 * HOUR, 3.0)]);
    while db.recover_step().expect("recovers") {}
    db.maintain().expect("maintains");
    assert_eq!(db.metrics().compactions.get(), 0, "a late sample lies in the gap");
    // All of it is deleted for good, so that no block comes of it.
    let range = TimeRange::new(2 * HOUR, 4 * HOUR - 1);
    db.delete(&tenant, &[vec![Matcher::equal("i", "0")]], range).expect("deletes");
    db.purge_deletes(&tenant).expect("purges");
    for _ in 0..10 {
        clock.advance(Duration::from_secs(3600));
        db.maintain().expect("maintains");
    }
    assert!(db.metrics().compactions.get() > 0);
}
