//! Integer columns: golden bytes, round trips, hostile bytes.

use proptest::prelude::*;

use super::*;

fn bytes_of(times: &[i64]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_times(times, &mut out);
    out
}

#[test]
fn golden_bytes() {
    assert_eq!(bytes_of(&[]), [RUNS]);
    assert_eq!(bytes_of(&[7; 300]), [RUNS, 14, 0xab, 2]);
    assert_eq!(bytes_of(&[7, 7, 7, 9, 9]), [RUNS, 14, 2, 4, 1]);
    assert_eq!(bytes_of(&[1, 2, 3, 4, 5]), [DIFFERENCE_RUNS, 2, 4]);
    assert_eq!(bytes_of(&[1, 5, 3]), [PLAIN, 2, 8, 3]);
}

#[test]
fn hostile_bytes_are_errors_and_change_nothing() {
    // A run longer than the column; a mode that is not; a reference below zero or above 32 bits.
    for bytes in
        [&[RUNS, 0, 3][..], &[9, 0, 0], &[PLAIN, 1, 0, 0], &[PLAIN, 0x80, 0x80, 0x80, 0x80, 0x20, 0, 0], &[]]
    {
        let (mut input, mut out) = (bytes, vec![5]);
        assert!(decode_u32_column(&mut input, 3, &mut out).is_err(), "{bytes:?}");
        assert_eq!((input, &out[..]), (bytes, &[5][..]));
    }
    assert!(
        decode_times(&mut &[RUNS, 0, 0xff, 0xff, 0xff, 0x7f][..], MAX_COLUMN_AND_ONE, &mut Vec::new())
            .is_err()
    );
}

const MAX_COLUMN_AND_ONE: usize = super::super::MAX_COLUMN + 1;

proptest! {
    #[test]
    fn round_trip(runs in proptest::collection::vec((any::<i64>(), -3i64..3, 0u32..64, 1usize..20), 0..20), cut: usize) {
        let times: Vec<i64> = runs
            .iter()
            .flat_map(|&(t, step, shift, n)| (0..n as i64).map(move |i| (t >> shift).wrapping_add(step * i)))
            .collect();
        let mut bytes = bytes_of(&times);
        let cut = cut % bytes.len();
        if !times.is_empty() {
            prop_assert!(decode_times(&mut &bytes[..cut], times.len(), &mut Vec::new()).is_err());
        }
        bytes.push(77);
        let (mut input, mut out) = (&bytes[..], vec![1]);
        decode_times(&mut input, times.len(), &mut out).unwrap();
        prop_assert_eq!(input, [77]);
        prop_assert_eq!(&out[1..], &times[..]);

        let refs: Vec<u32> = times.iter().map(|&t| t as u32).collect();
        let (mut bytes, mut out) = (Vec::new(), Vec::new());
        encode_u32_column(&refs, &mut bytes);
        decode_u32_column(&mut &bytes[..], refs.len(), &mut out).unwrap();
        prop_assert_eq!(out, refs);
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..50), count in 0usize..5000) {
        let _ = decode_times(&mut &bytes[..], count, &mut Vec::new());
        let _ = decode_u32_column(&mut &bytes[..], count, &mut Vec::new());
    }
}
