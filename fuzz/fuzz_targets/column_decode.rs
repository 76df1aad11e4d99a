//! Any bytes as columns of the write log: no panic, and what is read survives a round trip.
//!
//! Input: `count u16 | data`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pyrrha_encoding::column::{decode_times, decode_u32_column, decode_values, encode_values};

fuzz_target!(|input: &[u8]| {
    let [high, low, data @ ..] = input else { return };
    let count = usize::from(u16::from_be_bytes([*high, *low]));
    let _ = decode_times(&mut &data[..], count, &mut Vec::new());
    let _ = decode_u32_column(&mut &data[..], count, &mut Vec::new());
    let mut values = Vec::new();
    if decode_values(&mut &data[..], count, &mut values).is_ok() {
        let (mut bytes, mut again) = (Vec::new(), Vec::new());
        encode_values(&values, &mut bytes);
        decode_values(&mut &bytes[..], count, &mut again).expect("our own bytes");
        assert!(values.iter().zip(&again).all(|(a, b)| a.to_bits() == b.to_bits()));
    }
});
