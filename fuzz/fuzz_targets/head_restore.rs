//! Any sections as a checkpoint with valid checksums, beside a head chunk file with any chunks: the start
//! takes it or reads the log instead, and answers or fails, without a panic.
//!
//! Input: per section `kind u8 | len u16 | payload`; kind 0: a chunk of the head chunk file, which begins
//! with its encoding.
#![no_main]

use std::path::Path;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use pyrrha_encoding::{SeriesSamples, Want, crc, decode_series};
use pyrrha_env::Disk;
use pyrrha_model::TimeRange;
use pyrrha_model::contract::{LabelQuery, QueryContext, SelectHints, SeriesBatch};
use pyrrha_storage::wal::LogPosition;
use pyrrha_storage::wal::WalConfig;
use pyrrha_storage::wal::checkpoint::Checkpoints;
use pyrrha_storage::{Db, StorageConfig};
use pyrrha_testkit::{SimClock, SimDisk};

const HOUR: i64 = 3_600_000;

fuzz_target!(|input: &[u8]| {
    let disk = SimDisk::new(1);
    let (mut chunks, mut rest) = (b"PYHC\0\0\0\x01".to_vec(), input);
    let home = Path::new("data/head/anonymous");
    disk.create_dir_all(home).and_then(|()| disk.create_dir_all(Path::new("data/wal"))).expect("healthy");
    disk.create_new(Path::new("data/VERSION")).and_then(|f| f.write_at(0, b"1\n")).expect("healthy");
    let checkpoints =
        Checkpoints::open(Arc::new(disk.clone()), Path::new("data/checkpoint")).expect("healthy");
    let mut out = checkpoints.begin(LogPosition::default(), 20 * HOUR).expect("healthy");
    out.section(1, b"anonymous").expect("healthy");
    while let [kind, high, low, tail @ ..] = rest {
        let len = usize::from(u16::from_be_bytes([*high, *low])).min(tail.len());
        let (payload, next) = tail.split_at(len);
        rest = next;
        if *kind == 0 {
            let (encoding, chunk) = payload.split_first().unwrap_or((&1, &[]));
            let kind = [*encoding, 0, 0, 0];
            let sum = crc::checksum_append(crc::checksum(&kind), chunk);
            chunks.extend_from_slice(&(chunk.len() as u32).to_le_bytes());
            chunks.extend_from_slice(&kind);
            chunks.extend_from_slice(&sum.to_le_bytes());
            chunks.extend_from_slice(chunk);
        } else {
            out.section((*kind).into(), payload).expect("healthy");
        }
    }
    out.finish().expect("healthy");
    for name in ["00000001-0.chunks", "00000002-0.late"] {
        disk.create_new(&home.join(name)).and_then(|f| f.write_at(0, &chunks)).expect("healthy");
    }
    // The simulated disk holds in memory, and copies at a crash, what the log allocates.
    let wal = WalConfig { segment_bytes: 16 << 10, ..WalConfig::default() };
    let config = StorageConfig { wal, disk_reserve_bytes: 0, ..StorageConfig::new("data") };
    let clock = Arc::new(SimClock::new(20 * HOUR));
    let Ok(db) = Db::open_single_threaded(config, Arc::new(disk), clock) else { return };
    let (ctx, queryable) = (QueryContext::unlimited(), db.queryable());
    if let Ok(mut set) = queryable.select(&ctx, &[], TimeRange::ALL, &SelectHints::default()) {
        let mut batch = SeriesBatch::default();
        while let Ok(true) = set.next_batch(16, &mut batch) {
            for entry in &batch.series {
                let _ = decode_series(entry, TimeRange::ALL, Want::default(), &mut SeriesSamples::default());
            }
        }
    }
    let _ = queryable.exemplars(&ctx, &LabelQuery::all(TimeRange::ALL));
    let _ = queryable.metadata(&ctx, None);
    let _ = db.maintain();
});
