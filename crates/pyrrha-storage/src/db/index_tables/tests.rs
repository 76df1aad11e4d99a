//! Blocks open with the tables that were kept, and without them.

use std::path::Path;
use std::sync::Arc;

use pyrrha_env::{OsDisk, SystemClock};

use super::*;
use crate::config::StorageConfig;
use crate::db::Db;
use crate::db::tests::{append, labels, read, recovered};

const MINUTE: i64 = 60_000;

fn open(dir: &Path, index_tables_from: u64) -> Db {
    let config = StorageConfig {
        quiet_before_cut: std::time::Duration::ZERO,
        compaction: false,
        index_tables_from,
        ..StorageConfig::new(dir)
    };
    recovered(Db::open(config, Arc::new(OsDisk), Arc::new(SystemClock::new())).expect("opens"))
}

fn origins(db: &Db) -> Vec<TablesOrigin> {
    db.open_blocks(&TenantId::anonymous()).iter().map(|block| block.index().tables_origin()).collect()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir.join(DIR).join(TenantId::anonymous().as_str()));
    let mut files: Vec<_> =
        entries.into_iter().flatten().map(|entry| entry.expect("an entry").path()).collect();
    files.sort_unstable();
    files
}

/// Two blocks and a head.
fn fill(db: &Db) {
    let tenant = TenantId::anonymous();
    for t in 0..50 {
        let samples: Vec<(usize, i64, f64)> = (0..200).map(|i| (i, t * 6 * MINUTE, t as f64)).collect();
        append(db, &tenant, &samples);
    }
    (0..5).for_each(|_| db.maintain().expect("maintains"));
}

#[test]
fn blocks_open_with_kept_tables_and_answer_the_same() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let tenant = TenantId::anonymous();
    let db = open(dir.path(), 1);
    fill(&db);
    let (expected, written) = (read(&db, &tenant), db.metrics().index_tables_written.get());
    assert_eq!((files(dir.path()).len() as u64, origins(&db).len() as u64), (written, written));
    assert!(written >= 1 && origins(&db).iter().all(|origin| *origin == TablesOrigin::Index));
    drop(db);
    let db = open(dir.path(), 1);
    assert!(origins(&db).iter().all(|origin| *origin == TablesOrigin::Kept));
    assert_eq!(read(&db, &tenant), expected);
    (0..5).for_each(|_| db.maintain().expect("maintains"));
    assert_eq!(db.metrics().index_tables_written.get(), 0, "what is there is not written again");
}

#[test]
fn files_that_are_damaged_cost_nothing_and_are_written_anew() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let tenant = TenantId::anonymous();
    let db = open(dir.path(), 1);
    fill(&db);
    let expected = read(&db, &tenant);
    drop(db);
    let all = files(dir.path());
    let sound = std::fs::read(&all[0]).expect("a file");
    type Damage = fn(&mut Vec<u8>);
    let damage: [(&str, Damage); 4] = [
        ("its header", |bytes| bytes[3] ^= 1),
        ("a place", |bytes| bytes[65] ^= 1),
        ("its end", |bytes| bytes.truncate(bytes.len() / 2)),
        ("all of it", |bytes| bytes.clear()),
    ];
    for (what, damage) in damage {
        let mut bytes = sound.clone();
        damage(&mut bytes);
        std::fs::write(&all[0], bytes).expect("written");
        let db = open(dir.path(), 1);
        assert_eq!(read(&db, &tenant), expected, "{what}");
        assert!(origins(&db).iter().any(|origin| *origin != TablesOrigin::Kept), "{what}");
        (0..5).for_each(|_| db.maintain().expect("maintains"));
        assert_eq!(db.metrics().index_tables_written.get(), 1, "{what}");
        assert_eq!(std::fs::read(&all[0]).expect("a file"), sound, "{what}");
    }
}

#[test]
fn files_of_blocks_that_are_gone_go_too() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let tenant = TenantId::anonymous();
    let db = open(dir.path(), 1);
    fill(&db);
    let blocks = db.blocks(&tenant);
    assert_eq!(files(dir.path()).len(), blocks.len());
    db.set_shipped(&tenant, blocks.iter().map(|meta| meta.ulid));
    db.remove_shipped(&tenant, blocks[0].max_time).expect("removed");
    db.maintain().expect("maintains");
    let left = files(dir.path());
    assert_eq!(left.len(), blocks.len() - 1);
    assert!(left.iter().all(|path| !path.ends_with(blocks[0].ulid.to_string())));
}

#[test]
fn small_indexes_have_no_file() {
    for from in [u64::MAX, 4096] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let db = open(dir.path(), from);
        fill(&db);
        let series = read(&db, &TenantId::anonymous());
        assert_eq!((series.len(), files(dir.path()).len()), (200, 0));
        assert!(series.contains_key(&labels(199)));
    }
}
