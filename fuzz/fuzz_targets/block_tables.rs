//! Any bytes as the small files of a block with valid checksums, tombstones, the table of windows, lists
//! of series that have a label: no panic, and no more entries than bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pyrrha_encoding::crc;
use pyrrha_storage::block::{HavingTable, Tombstones, WindowsTable};

fn summed(bytes: &[u8]) -> Vec<u8> {
    [bytes, &crc::checksum(bytes).to_be_bytes()].concat()
}

fuzz_target!(|input: &[u8]| {
    let mut tombstones = vec![0x01, 0x30, 0xba, 0x30, 1];
    tombstones.extend_from_slice(&summed(input));
    if let Ok(read) = Tombstones::parse("b", &tombstones) {
        assert!(read.len() <= input.len());
        let again = Tombstones::parse("b", &read.encode()).expect("our own bytes");
        assert_eq!(again, read);
    }
    windows(input);
    having(input);
});

fn windows(input: &[u8]) {
    if let Ok(entries) = WindowsTable::entries(&summed(input)) {
        assert!(entries.len() <= input.len());
    }
    // A table that fits the file: pages at u64, entries u64, then the first keys.
    let Some((head, keys)) = input.split_first_chunk::<16>() else { return };
    let mut body = head.to_vec();
    body.extend_from_slice(&crc::checksum(keys).to_be_bytes());
    let trailer = summed(&body);
    for bytes in [input.len() as u64, 8 + 36 + 8 + 24, u64::MAX] {
        if let Ok((mut table, _)) = WindowsTable::trailer(&trailer, bytes)
            && table.set_keys(keys, &trailer).is_ok()
        {
            for key in [0, 1, u64::MAX] {
                let _ = table.page_of(key);
            }
        }
    }
}

fn having(input: &[u8]) {
    let mut section = Vec::new();
    crc::put_section(&mut section, input);
    let _ = HavingTable::decode(&section);
    for range in [0..section.len() as u64, 8..u64::MAX] {
        if let Ok(table) = HavingTable::read(&section, &range) {
            let _ = table.list("a");
        }
    }
    let _ = HavingTable::table_range(input, input.len() as u64);
}
