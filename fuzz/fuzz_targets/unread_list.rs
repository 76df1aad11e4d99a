//! Any JSON as the list of unread segments with a valid checksum, and any bytes without one: the start
//! takes it or passes it over, without a panic, and has the samples of its log.
#![no_main]

use std::path::Path;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use pyrrha_encoding::{SeriesSamples, Want, crc, decode_series};
use pyrrha_env::Disk;
use pyrrha_model::contract::{Ingest, QueryContext, SelectHints, SeriesBatch};
use pyrrha_model::{Labels, TenantId, TimeRange};
use pyrrha_storage::wal::WalConfig;
use pyrrha_storage::{Db, StorageConfig};
use pyrrha_testkit::{SimClock, SimDisk};

const HOUR: i64 = 3_600_000;

fn open(disk: &SimDisk) -> Option<Db> {
    // The simulated disk holds in memory, and copies at a crash, what the log allocates.
    let wal = WalConfig { segment_bytes: 16 << 10, ..WalConfig::default() };
    let config = StorageConfig { wal, disk_reserve_bytes: 0, ..StorageConfig::new("data") };
    Db::open_single_threaded(config, Arc::new(disk.clone()), Arc::new(SimClock::new(20 * HOUR))).ok()
}

fn try_list(bytes: &[u8]) {
    let disk = SimDisk::new(1);
    let db = open(&disk).expect("a healthy disk");
    let mut appender = db.appender(&TenantId::anonymous()).expect("an open store");
    let series =
        appender.resolve(None, &Labels::from_pairs([("__name__", "m".to_owned())])).expect("a series");
    appender.append(series, 0, 20 * HOUR, 1.0).expect("in order");
    appender.commit().expect("a healthy disk");
    disk.power_off();
    drop(db);
    disk.crash();
    let path = Path::new("data/wal/unread.json");
    disk.create_new(path).and_then(|f| f.write_at(0, bytes)).expect("a healthy disk");
    let db = open(&disk).expect("a list does not keep a store from opening");
    let ctx = QueryContext::unlimited();
    let mut set =
        db.queryable().select(&ctx, &[], TimeRange::ALL, &SelectHints::default()).expect("a healthy disk");
    let (mut batch, mut samples) = (SeriesBatch::default(), SeriesSamples::default());
    assert!(set.next_batch(1, &mut batch).expect("a healthy disk"), "the sample is lost");
    decode_series(&batch.series[0], TimeRange::ALL, Want::default(), &mut samples).expect("sound");
    assert_eq!(samples.floats.times, [20 * HOUR]);
}

fuzz_target!(|input: &[u8]| {
    try_list(input);
    let mut bytes = input.to_vec();
    crc::seal_text(&mut bytes);
    try_list(&bytes);
});
