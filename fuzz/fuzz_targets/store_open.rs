//! A data directory with arbitrary edits in any of its files opens or is refused, and answers or
//! fails, without a panic. The input is edits of four bytes: file, offset (16 bits), byte.
#![no_main]

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use libfuzzer_sys::fuzz_target;
use pyrrha_encoding::{SeriesSamples, Want, decode_series};
use pyrrha_env::Disk;
use pyrrha_model::contract::{Ingest, QueryContext, SelectHints, SeriesBatch};
use pyrrha_model::{Labels, Matcher, TenantId, TimeRange};
use pyrrha_storage::wal::WalConfig;
use pyrrha_storage::{Db, StorageConfig, StorageError};
use pyrrha_testkit::{SimClock, SimDisk};

const HOUR: i64 = 3_600_000;

fn open(disk: &SimDisk, clock: &Arc<SimClock>) -> Result<Db, StorageError> {
    let mut config = StorageConfig::new("data");
    config.wal = WalConfig { segment_bytes: 16 << 10, ..WalConfig::default() };
    config.samples_per_chunk = 20;
    config.disk_reserve_bytes = 1 << 10;
    Db::open_single_threaded(config, Arc::new(disk.clone()), clock.clone())
}

fn files(disk: &SimDisk, dir: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in disk.list(dir).expect("a healthy disk") {
        let path = dir.join(&entry.name);
        if entry.is_dir {
            files(disk, &path, found);
        } else {
            found.push((path.clone(), disk.read(&path).expect("a healthy disk").to_vec()));
        }
    }
}

/// The files of a store with blocks, head chunk files, a checkpoint and a log.
fn image() -> &'static [(PathBuf, Vec<u8>)] {
    static IMAGE: OnceLock<Vec<(PathBuf, Vec<u8>)>> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let (disk, clock) = (SimDisk::new(1), Arc::new(SimClock::new(20 * HOUR)));
        let db = open(&disk, &clock).expect("a healthy disk");
        for n in 0..200i64 {
            let mut appender = db.appender(&TenantId::anonymous()).expect("an open store");
            for i in 0..3i64 {
                let labels = Labels::from_pairs([("__name__", "m".to_owned()), ("i", i.to_string())]);
                let series = appender.resolve(None, &labels).expect("a series");
                appender.append(series, 0, 10 * HOUR + n * 90_000 + i, (n * i) as f64).expect("in order");
            }
            appender.commit().expect("a healthy disk");
            clock.advance(std::time::Duration::from_secs(90));
            db.maintain().expect("a healthy disk");
        }
        disk.crash();
        let mut found = Vec::new();
        files(&disk, Path::new("data"), &mut found);
        found
    })
}

fuzz_target!(|edits: &[u8]| {
    let (disk, clock) = (SimDisk::new(1), Arc::new(SimClock::new(26 * HOUR)));
    let mut files = image().to_vec();
    for edit in edits.chunks_exact(4) {
        let at = usize::from(edit[0]) % files.len();
        let bytes = &mut files[at].1;
        if !bytes.is_empty() {
            let offset = usize::from(u16::from_le_bytes([edit[1], edit[2]])) % bytes.len();
            bytes[offset] = edit[3];
        }
    }
    for (path, bytes) in &files {
        disk.create_dir_all(path.parent().expect("a directory")).expect("a healthy disk");
        disk.create_new(path).and_then(|f| f.write_at(0, bytes)).expect("a healthy disk");
    }
    let Ok(db) = open(&disk, &clock) else { return };
    let ctx = QueryContext::unlimited();
    let all = [Matcher::equal("__name__", "m")];
    if let Ok(mut set) = db.queryable().select(&ctx, &all, TimeRange::ALL, &SelectHints::default()) {
        let mut batch = SeriesBatch::default();
        while let Ok(true) = set.next_batch(16, &mut batch) {
            for entry in &batch.series {
                let mut samples = SeriesSamples::default();
                let _ = decode_series(entry, TimeRange::ALL, Want::default(), &mut samples);
            }
        }
    }
    let _ = db.maintain();
});
