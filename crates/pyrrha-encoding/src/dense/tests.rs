//! Dense chunks: bit-exact round trips, statistics against a plain count, size, hostile bytes.

use proptest::prelude::*;
use pyrrha_model::stale_nan;

use super::*;
use crate::testing::float_samples;

fn decoded(bytes: &[u8], range: TimeRange) -> Result<FloatColumn, DecodeError> {
    let mut column = FloatColumn::default();
    decode(bytes, None, range, &mut column).map(|()| column)
}

fn same_bits(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

#[test]
fn short_decimals_are_small() {
    let times: Vec<i64> = (0..1024).map(|i| 1_790_000_000_000 + i * 15_000).collect();
    let counter: Vec<f64> = (0..1024).map(|i| f64::from(i * 40 + i * i % 17)).collect();
    let gauge: Vec<f64> = (0..1024).map(|i| f64::from(i * 7919 % 100) / 100.0).collect();
    for (values, limit) in [(vec![1.5; 1024], 64), (counter, 1024), (gauge, 1024)] {
        let bytes = encode(&times, &values);
        assert!(bytes.len() < limit, "{}", bytes.len());
        assert!(same_bits(&decoded(&bytes, TimeRange::ALL).unwrap().values, &values));
    }
}

#[test]
fn statistics_leave_nans_out() {
    let values = [f64::NAN, 2.0, 5.0, stale_nan(), 3.0, 3.0, 1.0];
    let times = [1, 2, 3, 4, 5, 6, 7];
    let s = statistics(&encode(&times, &values)).unwrap();
    let expected = Statistics {
        count: 7,
        nans: 1,
        stale: 1,
        first: 2.0,
        last: 1.0,
        min: 1.0,
        max: 5.0,
        sum: 14.0,
        resets: 2,
    };
    assert_eq!(s, expected);
    assert!(Statistics::of(&[stale_nan()]).sum.is_nan() && Statistics::of(&[]).min.is_nan());
    assert_eq!(Statistics::of(&[1e100, 1.0, -1e100]).sum, 1.0);
}

#[test]
fn a_chunk_without_times_needs_them() {
    let bytes = encode_shared(&[1.0, 2.0]);
    let mut column = FloatColumn::default();
    assert!(decode(&bytes, None, TimeRange::ALL, &mut column).is_err());
    assert!(decode(&bytes, Some(&[1]), TimeRange::ALL, &mut column).is_err());
    assert!(column.times.is_empty());
    decode(&bytes, Some(&[10, 20, 30]), TimeRange::new(15, 99), &mut column).unwrap();
    assert_eq!((&column.times[..], &column.values[..]), (&[20][..], &[2.0][..]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn round_trip((times, values) in float_samples(0..400), a in 0usize..400, b in 0usize..400) {
        let bytes = encode(&times, &values);
        let whole = decoded(&bytes, TimeRange::ALL).unwrap();
        prop_assert_eq!(&whole.times, &times);
        prop_assert!(same_bits(&whole.values, &values));
        prop_assert_eq!(statistics(&bytes).unwrap().count, values.len());
        if !times.is_empty() {
            let range = TimeRange::new(times[a % times.len()], times[b % times.len()]);
            let expected: Vec<i64> = times.iter().copied().filter(|&t| range.contains(t)).collect();
            prop_assert_eq!(decoded(&bytes, range).unwrap().times, expected);
        }
    }

    #[test]
    fn any_bits_round_trip(bits in proptest::collection::vec(any::<u64>(), 1..300)) {
        let values: Vec<f64> = bits.iter().map(|&b| f64::from_bits(b)).collect();
        let times: Vec<i64> = bits.iter().map(|&b| b as i64).collect();
        let whole = decoded(&encode(&times, &values), TimeRange::ALL).unwrap();
        prop_assert_eq!(&whole.times, &times);
        prop_assert!(same_bits(&whole.values, &values));
    }

    #[test]
    fn cut_or_damaged_bytes_never_panic((times, values) in float_samples(2..300), cut: usize, bit: usize) {
        let bytes = encode(&times, &values);
        prop_assert!(decoded(&bytes[..cut % bytes.len()], TimeRange::ALL).is_err());
        let mut bad = bytes.clone();
        bad[bit / 8 % bytes.len()] ^= 1 << (bit % 8);
        let _ = decoded(&bad, TimeRange::ALL);
        let _ = statistics(&bad);
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decoded(&bytes, TimeRange::ALL);
    }
}
