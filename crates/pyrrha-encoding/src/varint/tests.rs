//! Golden bytes (of Go's encoding/binary) and round trips.

use proptest::prelude::*;

use super::*;

#[test]
fn golden_bytes() {
    for (value, bytes) in [
        (0u64, &[0u8][..]),
        (127, &[0x7f]),
        (128, &[0x80, 1]),
        (300, &[0xac, 2]),
        (u64::MAX, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
    ] {
        let mut out = Vec::new();
        put_uvarint(&mut out, value);
        assert_eq!(out, bytes);
    }
    for (value, byte) in [(0i64, 0u8), (-1, 1), (1, 2), (-2, 3), (63, 126), (-64, 127)] {
        let mut out = Vec::new();
        put_varint(&mut out, value);
        assert_eq!(out, [byte]);
    }
}

#[test]
fn hostile_varints_are_errors_and_move_nothing() {
    for bytes in [
        &[][..],
        &[0x80],
        &[0xff; 9],
        &[0xff; 10],
        &[0xff; 11],
        &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2],
    ] {
        let mut input = bytes;
        assert!(take_uvarint(&mut input).is_err(), "{bytes:x?}");
        assert_eq!(input, bytes);
    }
    let mut big = &[0xff, 0xff, 0xff, 0xff, 0x7f][..];
    assert!(take_uvarint32(&mut big).is_err());
    assert_eq!(big.len(), 5);
    // A count that the rest of the input cannot hold never sizes an allocation.
    assert!(take_count(&mut &[200, 1, 0, 0][..], 1).is_err());
    assert_eq!(take_count(&mut &[2, 0, 0, 0, 0][..], 2), Ok(2));
    assert!(take_length_prefixed(&mut &[3, 1, 2][..]).is_err());
}

proptest! {
    #[test]
    fn round_trip(unsigned: u64, shift in 0u32..64, signed: i64) {
        let (unsigned, signed) = (unsigned >> shift, signed >> shift);
        let mut out = Vec::new();
        put_uvarint(&mut out, unsigned);
        prop_assert_eq!(out.len(), uvarint_len(unsigned));
        put_varint(&mut out, signed);
        let mut input = &out[..];
        prop_assert_eq!(take_uvarint(&mut input), Ok(unsigned));
        prop_assert_eq!(take_varint(&mut input), Ok(signed));
        prop_assert!(input.is_empty());
    }
}
