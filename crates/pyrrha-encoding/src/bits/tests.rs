//! Bit streams against a list of booleans.

use proptest::prelude::*;

use super::*;

#[test]
fn most_significant_bit_comes_first() {
    let mut w = BitWriter::new();
    w.put(0b101, 3);
    w.put(0, 4);
    w.put(u64::MAX, 2);
    assert_eq!(w.bit_len(), 9);
    assert_eq!(w.finish(), [0b1010_0001, 0b1000_0000]);
}

#[test]
fn plus_half_is_in_and_minus_half_is_not() {
    assert!(fits_signed(8192, 14) && !fits_signed(-8192, 14) && fits_signed(-8191, 14));
    for value in [8192, -8191, 0, -1, 1] {
        let mut w = BitWriter::new();
        w.put(value as u64, 14);
        assert_eq!(sign(BitReader::new(&w.finish()).read(14), 14), value);
    }
}

#[test]
fn reading_past_the_end_gives_zeros_and_is_noticed() {
    let mut r = BitReader::new(&[0xff]);
    assert_eq!(r.read(16), 0xff00);
    assert!(r.check("x").is_err());
    assert_eq!(r.read(64), 0);
    assert!(BitReader::new(&[0x80]).uvarint().is_err());
    assert!(BitReader::new(&[0xff; 20]).uvarint().is_err());
}

proptest! {
    #[test]
    fn round_trip(fields in proptest::collection::vec((any::<u64>(), 0u32..=64), 0..200)) {
        let mut bits = Vec::new();
        let mut w = BitWriter::new();
        for &(value, n) in &fields {
            w.put(value, n);
            bits.extend((0..n).rev().map(|b| value >> b & 1 == 1));
        }
        prop_assert_eq!(w.bit_len(), bits.len());
        let bytes = w.finish();
        prop_assert_eq!(bytes.len(), bits.len().div_ceil(8));
        let mut one_by_one = BitReader::new(&bytes);
        for bit in &bits {
            prop_assert_eq!(one_by_one.bit(), *bit);
        }
        prop_assert!(one_by_one.check("x").is_ok());
        let mut r = BitReader::new(&bytes);
        for (value, n) in fields {
            prop_assert_eq!(r.read(n), if n == 0 { 0 } else { value & (u64::MAX >> (64 - n)) });
        }
        prop_assert_eq!(r.position(), bits.len());
    }

    #[test]
    fn varints(value: i64, pad in 0u32..8) {
        let mut w = BitWriter::new();
        w.put(0, pad);
        w.put_varint(value);
        let bytes = w.finish();
        let mut r = BitReader::new(&bytes);
        r.skip(pad);
        prop_assert_eq!(r.varint(), Ok(value));
    }
}
