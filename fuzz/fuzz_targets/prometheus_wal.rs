//! Any bytes as a segment of Prometheus' log, as a record of it, and as a head chunk file: no panic,
//! and memory stays a multiple of the input.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pyrrha_storage::prometheus::{HeadChunks, SegmentRecords, decode_record};

fuzz_target!(|input: &[u8]| {
    let mut records = SegmentRecords::new(input);
    while let Some(record) = records.next_record() {
        if let Ok(record) = record {
            let _ = decode_record(record);
        }
    }
    let _ = decode_record(input);
    let mut chunks = HeadChunks::new(bytes::Bytes::copy_from_slice(input));
    while let Some(Ok(_)) = chunks.next_chunk() {}
});
