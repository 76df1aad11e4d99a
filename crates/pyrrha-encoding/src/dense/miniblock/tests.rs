//! Miniblocks: golden bytes, all widths, patches.

use proptest::prelude::*;

use super::*;

fn bytes_of(numbers: &[i64]) -> Vec<u8> {
    let mut out = Vec::new();
    encode(numbers, &mut out);
    out
}

#[test]
fn golden_bytes() {
    assert_eq!(bytes_of(&[5, 5, 5]), [0, 0, 10]);
    // Two bits each: 0, 1, 2, 3, 0 from -1 on.
    assert_eq!(bytes_of(&[-1, 0, 1, 2, -1]), [2, 0, 1, 0b1110_0100, 0]);
    // Sixteen bits of width 1, and one patch: 1000 is 0 with high bits 500.
    let mut numbers = vec![1; 15];
    numbers.extend([0, 1000]);
    assert_eq!(bytes_of(&numbers), [1, 1, 0, 0xff, 0x7f, 0, 16, 0xf4, 3]);
}

#[test]
fn hostile_bytes_are_errors() {
    // A width of 65; a patch behind the end; a patch over 64 bits.
    for bytes in [
        &[65, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..],
        &[0, 1, 0, 1, 1],
        &[64, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    ] {
        assert!(decode(&mut &bytes[..], &mut [0; BLOCK], 1).is_err(), "{bytes:?}");
    }
}

proptest! {
    #[test]
    fn round_trip(first: i64, shift in 0u32..65, numbers in proptest::collection::vec((any::<u64>(), 0u32..20), 1..=BLOCK)) {
        // Mostly of one width, few wider.
        let number = |(n, odd): (u64, u32)| {
            let shift = if odd == 0 { shift / 2 } else { shift };
            first.wrapping_add(n.checked_shr(shift).unwrap_or(0) as i64)
        };
        let numbers: Vec<i64> = numbers.into_iter().map(number).collect();
        let bytes = bytes_of(&numbers);
        let (mut input, mut out) = (&bytes[..], [0; BLOCK]);
        decode(&mut input, &mut out, numbers.len()).unwrap();
        prop_assert_eq!(input.len(), 0);
        prop_assert_eq!(&out[..numbers.len()], &numbers[..]);
    }
}
