//! What the tests of this crate share: bytes by hand, and samples of many shapes.

use proptest::collection::{SizeRange, vec};
use proptest::prelude::*;
use pyrrha_model::stale_nan;

/// Bytes written in hex; spaces are for the reader.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|d| (d[0] << 4 | d[1]) as u8).collect()
}

/// Bytes written as bits, filled up with zeros.
pub(crate) fn bits_of(bits: &str) -> Vec<u8> {
    let bits: Vec<u8> = bits.bytes().map(|b| b - b'0').collect();
    bits.chunks(8).map(|c| c.iter().enumerate().map(|(i, b)| b << (7 - i)).sum()).collect()
}

/// Ascending times (regular, jittered or wild) and values of many shapes.
pub(crate) fn float_samples(len: impl Into<SizeRange>) -> impl Strategy<Value = (Vec<i64>, Vec<f64>)> {
    let step = prop_oneof![4 => Just(15_000i64), 2 => 14_990i64..15_010, 1 => 1i64..100_000_000];
    let value = prop_oneof![
        3 => Just(1.0),
        3 => (0i32..1000).prop_map(f64::from),
        2 => (0i32..100_000).prop_map(|v| f64::from(v) / 100.0),
        1 => any::<u64>().prop_map(f64::from_bits),
        1 => Just(stale_nan()),
        1 => Just(-0.0),
    ];
    (any::<i32>(), vec((step, value), len)).prop_map(|(t0, samples)| {
        let times = samples.iter().scan(i64::from(t0), |t, (step, _)| {
            *t += step;
            Some(*t)
        });
        (times.collect(), samples.iter().map(|(_, v)| *v).collect())
    })
}
