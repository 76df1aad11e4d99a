//! Any JSON as numbered manifests with valid checksums: no panic, and what is read can be committed to.
//! The input is cut into files at zero bytes; the first byte of a file below 8 leaves its checksum wrong.
#![no_main]

use std::path::Path;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use pyrrha_encoding::crc;
use pyrrha_env::Disk;
use pyrrha_model::TimeRange;
use pyrrha_storage::manifest::{DiskManifestStore, Manifest};
use pyrrha_testkit::{SimClock, SimDisk};

fuzz_target!(|input: &[u8]| {
    let (disk, dir) = (SimDisk::new(1), Path::new("manifest"));
    disk.create_dir_all(dir).expect("a healthy disk");
    for (number, json) in (1..).zip(input.split(|byte| *byte == 0).take(8)) {
        let mut bytes = json.to_vec();
        bytes.push(b'\n');
        let wrong = u32::from(json.first().is_some_and(|byte| *byte < 8));
        let sum = crc::checksum(&bytes) ^ wrong;
        bytes.extend_from_slice(format!("{sum:08x}\n").as_bytes());
        let path = dir.join(format!("{number:020}.json"));
        disk.create_new(&path).and_then(|file| file.write_at(0, &bytes)).expect("a healthy disk");
    }
    let disk: Arc<dyn Disk> = Arc::new(disk);
    if let Ok(state) = Manifest::read(&DiskManifestStore::read_only(disk.clone(), dir)) {
        let _ = state.overlapping(TimeRange::ALL);
        let _ = state.written_at();
        let _: Vec<_> = state.deletes.iter().map(|delete| (delete.range(), delete.to_delete())).collect();
    }
    let store = Arc::new(DiskManifestStore::open(disk, dir).expect("a healthy disk"));
    if let Ok(manifest) = Manifest::open(store, Arc::new(SimClock::new(1))) {
        let before = manifest.current();
        if let Ok(after) = manifest.commit(&[], &[]) {
            assert_eq!(after.blocks.len(), before.blocks.len());
        }
    }
});
