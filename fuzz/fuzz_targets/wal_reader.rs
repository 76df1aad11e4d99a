//! A log with arbitrary edits opens and replays without a panic, and gives no sample that was not
//! written to it. The input is edits of four bytes: offset (24 bits), byte.

#![no_main]

use std::path::Path;
use std::sync::{Arc, OnceLock};

use libfuzzer_sys::fuzz_target;
use pyrrha_model::TenantId;
use pyrrha_storage::wal::{LogBatch, LogEntry, LogPosition, Wal, WalConfig, WalSink};
use pyrrha_testkit::{SimClock, SimDisk};

struct Numbers;

impl WalSink for Numbers {
    fn labels(&self, _: &TenantId, series: u32, visit: &mut dyn FnMut(&str, &str)) {
        visit("__name__", "m");
        visit("series", &series.to_string());
    }

    fn apply(&self, _: Vec<LogBatch>, _: LogPosition) {}

    fn abandon(&self, _: Vec<LogBatch>) {}
}

fn open(disk: &SimDisk) -> Option<(Wal, pyrrha_storage::wal::Replay)> {
    let config = WalConfig { segment_bytes: 4096, ..WalConfig::default() };
    let (disk, clock) = (Arc::new(disk.clone()), Arc::new(SimClock::new(1)));
    Wal::open(config, Path::new("wal"), disk, clock, LogPosition::default()).ok()
}

/// The bytes of a segment with some batches.
fn segment() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let disk = SimDisk::new(1);
        let (wal, _) = open(&disk).expect("a healthy disk");
        wal.attach(Arc::new(Numbers));
        for n in 0..20u32 {
            let mut batch = LogBatch::new(TenantId::anonymous());
            batch.refs = (n..n + 5).collect();
            batch.times = vec![i64::from(n); 5];
            batch.values = vec![f64::from(n); 5];
            wal.submit(batch).and_then(|ticket| ticket.wait()).expect("a healthy disk");
        }
        pyrrha_env::Disk::read(&disk, Path::new("wal/0000000000.wal")).expect("a segment").to_vec()
    })
}

fuzz_target!(|edits: &[u8]| {
    let disk = SimDisk::new(1);
    let mut bytes = segment().to_vec();
    for edit in edits.chunks_exact(4) {
        let at = u32::from_le_bytes([edit[0], edit[1], edit[2], 0]) as usize % bytes.len();
        bytes[at] = edit[3];
    }
    pyrrha_env::Disk::create_dir_all(&disk, Path::new("wal")).expect("a healthy disk");
    let file = pyrrha_env::Disk::create_new(&disk, Path::new("wal/0000000000.wal")).expect("a healthy disk");
    file.write_at(0, &bytes).expect("a healthy disk");
    for entry in open(&disk).into_iter().flat_map(|(_, replay)| replay) {
        if let LogEntry::Batch { batch, .. } = entry {
            for ((&series, &t), &v) in batch.refs.iter().zip(&batch.times).zip(&batch.values) {
                assert!(v == t as f64 && (t..t + 5).contains(&i64::from(series)));
            }
        }
    }
});
