//! Logs and checkpoints, sound and damaged.

use std::path::PathBuf;
use std::sync::Arc;

use pyrrha_env::Disk;
use pyrrha_model::TenantId;
use pyrrha_testkit::{SimClock, SimDisk};

use super::*;
use crate::Db;
use crate::db::tests::append;

const NOW: i64 = 1_700_000_000_000;

/// A directory that a database has left: a checkpoint, and a log with twenty batches of two samples.
fn left(close: bool) -> (SimDisk, Arc<SimClock>) {
    let (disk, clock) = (SimDisk::new(3), Arc::new(SimClock::new(NOW)));
    let config = StorageConfig { samples_per_chunk: 8, ..StorageConfig::new("data") };
    let db = Db::open_single_threaded(config, Arc::new(disk.clone()), clock.clone()).expect("opens");
    for i in 0..20 {
        append(&db, &TenantId::anonymous(), &[(0, NOW + i * 1000, i as f64), (1, NOW + i * 1000, 0.5)]);
    }
    if close {
        db.close().expect("closes");
    } else {
        disk.power_off();
    }
    drop(db);
    if !close {
        disk.crash();
    }
    (disk, clock)
}

fn verify(disk: &SimDisk, clock: &Arc<SimClock>) -> LogReport {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    verify_log(&disk, clock.clone(), Path::new("data")).expect("readable")
}

fn flip(disk: &SimDisk, path: &Path, offset: u64) {
    let bytes = disk.read(path).expect("the file");
    let at = offset as usize;
    disk.open(path).expect("opens").write_at(offset, &[bytes[at] ^ 4]).expect("written");
}

fn files(disk: &SimDisk, dir: &str) -> Vec<PathBuf> {
    disk.list(Path::new(dir)).expect("a directory").iter().map(|e| Path::new(dir).join(&e.name)).collect()
}

#[test]
fn a_sound_directory_is_counted_and_left_as_it_is() {
    for close in [true, false] {
        let (disk, clock) = left(close);
        let before: Vec<_> = files(&disk, "data/wal").iter().map(|p| disk.read(p).expect("a file")).collect();
        let report = verify(&disk, &clock);
        assert!(report.is_sound(), "{report:?}");
        assert_eq!((report.records, report.samples), (20, 40));
        assert_eq!((report.checkpoints, report.chunks), if close { (1, 4) } else { (0, 0) });
        let after: Vec<_> = files(&disk, "data/wal").iter().map(|p| disk.read(p).expect("a file")).collect();
        assert_eq!(before, after);
    }
}

#[test]
fn damage_is_named_with_file_and_offset() {
    let (disk, clock) = left(true);
    let wal = files(&disk, "data/wal").remove(0);
    flip(&disk, &wal, 1200);
    let report = verify(&disk, &clock);
    let [fault] = &report.faults[..] else { panic!("{report:?}") };
    assert_eq!(fault.path, wal);
    assert!(fault.offset.is_some_and(|at| at <= 1200), "{fault:?}");
    assert!(fault.what.contains("samples_lost="), "{fault:?}");
    assert!(report.samples < 40);

    let (disk, clock) = left(true);
    let chunks = files(&disk, "data/head/anonymous").remove(0);
    flip(&disk, &chunks, 30);
    let report = verify(&disk, &clock);
    let [fault] = &report.faults[..] else { panic!("{report:?}") };
    assert_eq!((&fault.path, fault.offset.is_some_and(|at| at <= 30)), (&chunks, true));

    let (disk, clock) = left(true);
    let checkpoint = files(&disk, "data/checkpoint").remove(0);
    flip(&disk, &checkpoint, 90);
    let report = verify(&disk, &clock);
    let [fault] = &report.faults[..] else { panic!("{report:?}") };
    assert_eq!((&fault.path, report.checkpoints), (&checkpoint, 0));
}

#[test]
fn the_list_of_unread_segments_is_read_too() {
    let (disk, clock) = left(true);
    let path = Path::new("data/wal/unread.json");
    let mut list = br#"{"version":1,"segments":{"7":{},"9":{}}}"#.to_vec();
    pyrrha_encoding::crc::seal_text(&mut list);
    disk.create_new(path).and_then(|file| file.write_at(0, &list)).expect("written");
    let report = verify(&disk, &clock);
    assert!(report.is_sound(), "{report:?}");
    assert!(report.notes[0].ends_with("without them: 7, 9"), "{:?}", report.notes);
    flip(&disk, path, 12);
    let faults = verify(&disk, &clock).faults;
    assert_eq!((faults.len(), faults[0].path.as_path()), (1, path));
    assert!(faults[0].what.contains("checksum"), "{faults:?}");
}
