//! Any bytes as a page of a sidecar file with valid checksums: no panic, and no more entries than bytes.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use pyrrha_encoding::crc;
use pyrrha_model::TimeRange;
use pyrrha_storage::block::{BlockDeletes, ExemplarFile, MetadataFile};

fuzz_target!(|input: &[u8]| {
    read(*b"PYEX", input);
    read(*b"PYMD", input);
    read(*b"PYDL", input);
});

fn read(magic: [u8; 4], page: &[u8]) {
    let mut file = magic.to_vec();
    file.extend_from_slice(&[1, 0, 0, 0]);
    let mut trailer = 1u32.to_be_bytes().to_vec();
    trailer.extend_from_slice(&1u64.to_be_bytes());
    trailer.extend_from_slice(&i64::MIN.to_be_bytes());
    trailer.extend_from_slice(&i64::MAX.to_be_bytes());
    let sum = crc::checksum_append(crc::checksum(&file), &trailer);
    crc::put_section(&mut file, page);
    file.extend_from_slice(&trailer);
    file.extend_from_slice(&sum.to_be_bytes());
    let exemplars = ExemplarFile::parse("b", file.clone().into()).and_then(|file| {
        file.series(&[], TimeRange::ALL).try_fold(0, |n, series| series.map(|s| n + s.exemplars.len()))
    });
    assert!(exemplars.map_or(0, |n| n) <= page.len());
    let _ = BlockDeletes::parse("b", file.clone().into());
    let mut families = BTreeMap::new();
    let _ = MetadataFile::parse("b", file.into()).and_then(|file| file.collect(None, &mut families));
    assert!(families.len() <= page.len());
}
