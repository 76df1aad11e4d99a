//! What a start removes, and what it leaves alone.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pyrrha_env::Disk;
use pyrrha_model::TenantId;
use pyrrha_testkit::{Fault, SimClock, SimDisk};

use crate::block::BlockId;
use crate::config::StorageConfig;
use crate::db::tests::{append, read};
use crate::{Db, StorageError};

const HOUR: i64 = 3_600_000;

fn open(disk: &SimDisk, clock: &Arc<SimClock>) -> Result<Db, StorageError> {
    open_keeping(disk, clock, 0)
}

fn open_keeping(disk: &SimDisk, clock: &Arc<SimClock>, retention_bytes: u64) -> Result<Db, StorageError> {
    let config = StorageConfig {
        retention_bytes,
        quiet_before_cut: Duration::ZERO,
        disk_reserve_bytes: 0,
        wal: crate::wal::WalConfig { segment_bytes: 8 << 10, ..Default::default() },
        ..StorageConfig::new("data")
    };
    Db::open_single_threaded(config, Arc::new(disk.clone()), clock.clone())
}

fn bucket() -> PathBuf {
    PathBuf::from("data/bucket/anonymous")
}

fn block_dirs(disk: &SimDisk) -> BTreeSet<BlockId> {
    let entries = disk.list(&bucket()).expect("lists");
    entries.iter().filter_map(|e| e.name.parse().ok()).collect()
}

#[test]
fn wherever_a_cut_is_killed_every_block_directory_is_live_after_the_next_start() {
    let tenant = TenantId::anonymous();
    let mut orphans = 0;
    for n in 0..500 {
        for power in [true, false] {
            let (disk, clock) = (SimDisk::new(n), Arc::new(SimClock::new(100 * HOUR)));
            let db = open(&disk, &clock).expect("opens");
            (0..10).for_each(|i| append(&db, &tenant, &[(0, i * HOUR, i as f64), (1, i * HOUR, 1.0)]));
            let before = read(&db, &tenant);
            disk.fail_in(n, Fault::PowerOff);
            let _ = db.maintain();
            let done = !disk.is_off();
            disk.power_off();
            drop(db);
            if power {
                disk.crash()
            } else {
                disk.kill()
            }
            let db = open(&disk, &clock).expect("opens again");
            assert_eq!(read(&db, &tenant), before, "killed at {n}");
            let live: BTreeSet<BlockId> = db.blocks(&tenant).iter().map(|b| b.ulid).collect();
            assert_eq!(block_dirs(&disk), live, "killed at {n}");
            assert!(disk.list(&bucket().join("jobs")).map_or(0, |l| l.len()) == 0, "killed at {n}");
            orphans += db.metrics().orphans_removed.get();
            if done && power {
                assert!(n > 50, "the cut has some steps");
                assert!(orphans > 0, "some kills left a block without a manifest");
                return;
            }
        }
    }
    panic!("a cut never ends");
}

#[test]
fn a_directory_that_no_job_named_is_left_alone() {
    let (disk, clock) = (SimDisk::new(1), Arc::new(SimClock::new(100 * HOUR)));
    let db = open(&disk, &clock).expect("opens");
    append(&db, &TenantId::anonymous(), &[(0, HOUR, 1.0)]);
    drop(db);
    // Another tool may upload a block, and its directory be there before its files.
    let foreign = BlockId::from_parts(1_000, 7);
    disk.create_dir_all(&bucket().join(foreign.to_string()).join("chunks")).expect("creates");
    disk.create_dir_all(&bucket().join("jobs/notes")).expect("creates");
    let write = |name: &str, text: &str| {
        let file = disk.create_new(&bucket().join("jobs").join(name)).expect("creates");
        file.write_at(0, text.as_bytes()).expect("writes");
    };
    let (torn, newer) = (BlockId::from_parts(2_000, 1), BlockId::from_parts(2_000, 2));
    write(&format!("{torn}.json"), r#"{"version":1,"adds":["#);
    write(&format!("{newer}.json"), &format!(r#"{{"version":2,"adds":["{foreign}"]}}"#));
    write("readme.txt", "not a job");
    let db = open(&disk, &clock).expect("opens again");
    assert!(block_dirs(&disk).contains(&foreign));
    let names: Vec<String> =
        disk.list(&bucket().join("jobs")).expect("lists").into_iter().map(|e| e.name).collect();
    assert_eq!(names, [format!("{newer}.json"), "notes".into(), "readme.txt".into()]);
    assert_eq!(db.metrics().orphans_removed.get(), 0);
}

#[test]
fn wherever_a_removal_is_killed_blocks_are_there_wholly_or_not_at_all() {
    let tenant = TenantId::anonymous();
    for n in 0..500 {
        let (disk, clock) = (SimDisk::new(n), Arc::new(SimClock::new(100 * HOUR)));
        let db = open(&disk, &clock).expect("opens");
        (0..10).for_each(|i| append(&db, &tenant, &[(0, i * HOUR, i as f64), (1, i * HOUR, 1.0)]));
        db.maintain().expect("maintains");
        let before = read(&db, &tenant);
        drop(db);
        let db = open_keeping(&disk, &clock, 1).expect("opens");
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
        let db = open(&disk, &clock).expect("opens again");
        let live: BTreeSet<BlockId> = db.blocks(&tenant).iter().map(|b| b.ulid).collect();
        assert_eq!(block_dirs(&disk), live, "killed at {n}");
        let (found, expected) = (read(&db, &tenant), if live.is_empty() { 2 } else { 10 });
        assert!(found.values().all(|samples| samples.len() == expected), "killed at {n}");
        assert!(found.iter().all(|(labels, samples)| before[labels].ends_with(samples)), "killed at {n}");
        if done {
            assert!(live.is_empty() && n > 10, "a removal has some steps");
            return;
        }
    }
    panic!("a removal never ends");
}
