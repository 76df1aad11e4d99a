//! Any bytes as `meta.json`: no panic, and what is read survives a round trip.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pyrrha_storage::block::BlockMeta;

fuzz_target!(|input: &[u8]| {
    if let Ok(meta) = BlockMeta::parse("block", input) {
        let again = BlockMeta::parse("block", &meta.to_json()).expect("our own JSON");
        assert_eq!(again, meta);
    }
});
