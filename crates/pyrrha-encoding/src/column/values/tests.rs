//! Value columns: golden bytes, bit-exact round trips, hostile bytes.

use proptest::prelude::*;
use pyrrha_model::{STALE_NAN_BITS, stale_nan};

use super::*;

fn bytes_of(values: &[f64]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_values(values, &mut out);
    out
}

#[test]
fn golden_bytes() {
    assert_eq!(bytes_of(&[]), [0]);
    // same (as 0), 1, 1 byte (5: 10), same, 2 bytes (300: 600), difference of 1 byte (301: 2), 0.
    assert_eq!(
        bytes_of(&[0.0, 1.0, 5.0, 5.0, 300.0, 301.0, 0.0]),
        [4, 0x12, 0x23, 0xb4, 0x00, 10, 0x58, 2, 2]
    );
    // 0.5: decimal, 1 byte, exponent 1, mantissa 5; 0.7: same exponent; -0.0: xor.
    let expected = [3, 0x1e, 0x9e, 0x8f, 1, 10, 14];
    let xor = (0.7f64.to_bits() ^ (-0.0f64).to_bits()).to_le_bytes();
    assert_eq!(bytes_of(&[0.5, 0.7, -0.0]), [&expected[..], &xor].concat());
    assert_eq!(bytes_of(&[stale_nan(); 4])[..2], [3, 0x8f]);
}

#[test]
fn special_values_survive() {
    let nan = f64::from_bits(0xfff8_dead_beef_0001);
    let values = [
        -0.0,
        0.0,
        stale_nan(),
        f64::NAN,
        nan,
        f64::INFINITY,
        f64::NEG_INFINITY,
        5e-324,
        f64::MAX,
        1e22,
        2e53,
    ];
    let mut out = Vec::new();
    decode_values(&mut &bytes_of(&values)[..], values.len(), &mut out).unwrap();
    assert!(out.iter().zip(values).all(|(a, b)| a.to_bits() == b.to_bits()), "{out:?}");
    assert_eq!(out[2].to_bits(), STALE_NAN_BITS);
}

#[test]
fn hostile_bytes_are_errors_and_change_nothing() {
    for bytes in [
        &[][..],
        &[0],
        &[9, 0],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        // Nine bytes of XOR; a mantissa without bytes; an exponent of 23; a code without payload.
        &[1, 0x9f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[1, 0x1e, 23, 1, 0, 0, 0, 0, 0, 0, 0, 0],
        &[1, 0x09, 1, 2, 3],
    ] {
        let (mut input, mut out) = (bytes, vec![5.0]);
        assert!(decode_values(&mut input, 1, &mut out).is_err(), "{bytes:?}");
        assert_eq!((input, &out[..]), (bytes, &[5.0][..]));
    }
    assert!(decode_values(&mut &[1, 0][..], usize::MAX, &mut Vec::new()).is_err());
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        2 => (-300i64..300).prop_map(|v| v as f64),
        2 => (any::<i64>(), 0u32..63).prop_map(|(v, shift)| (v >> shift) as f64),
        2 => (any::<i32>(), 1i32..12).prop_map(|(v, e)| f64::from(v) / 10f64.powi(e)),
        1 => any::<u64>().prop_map(f64::from_bits),
        1 => Just(0.5),
        1 => Just(stale_nan()),
        1 => Just(-0.0),
    ]
}

proptest! {
    #[test]
    fn round_trip(values in proptest::collection::vec(value(), 1..200), cut: usize, bit: usize) {
        let mut bytes = bytes_of(&values);
        prop_assert!(decode_values(&mut &bytes[..cut % bytes.len()], values.len(), &mut Vec::new()).is_err());
        let mut bad = bytes.clone();
        bad[bit / 8 % bytes.len()] ^= 1 << (bit % 8);
        let _ = decode_values(&mut &bad[..], values.len(), &mut Vec::new());
        bytes.push(77);
        let (mut input, mut out) = (&bytes[..], vec![1.0]);
        decode_values(&mut input, values.len(), &mut out).unwrap();
        prop_assert_eq!(input, [77]);
        prop_assert_eq!(out.len(), values.len() + 1);
        prop_assert!(out[1..].iter().zip(&values).all(|(a, b)| a.to_bits() == b.to_bits()));
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), count in 0usize..300) {
        let _ = decode_values(&mut &bytes[..], count, &mut Vec::new());
    }
}
