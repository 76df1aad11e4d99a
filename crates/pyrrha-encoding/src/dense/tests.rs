//! Dense chunks: bit-exact round trips, statistics against a plain count, size, hostile bytes.

use proptest::prelude::*;
use pyrrha_model::contract::{ChunkRef, Timestamps};
use pyrrha_model::{ChunkEncoding, stale_nan};

use super::*;
use crate::chunk::xor;
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
    let bytes = encode_shared(&[1.0, 2.0], 77);
    let mut column = FloatColumn::default();
    for times in [None, Some(&[1][..]), Some(&[1, 2, 3])] {
        assert!(decode(&bytes, times, TimeRange::ALL, &mut column).is_err());
    }
    assert!(column.times.is_empty());
    decode(&bytes, Some(&[10, 20]), TimeRange::new(15, 99), &mut column).unwrap();
    assert_eq!((&column.times[..], &column.values[..]), (&[20][..], &[2.0][..]));
    assert_eq!(column_of(&bytes).unwrap(), Some(77));
    assert_eq!(with_column(&bytes, 1 << 30), encode_shared(&[1.0, 2.0], 1 << 30));
    let own = encode(&[1, 2], &[1.0, 2.0]);
    assert_eq!((column_of(&own).unwrap(), with_column(&own, 5)), (None, own));
}

#[test]
fn a_column_of_times_is_no_chunk() {
    let times = [5, 20, 36];
    let bytes = encode_times(&times);
    assert_eq!(decode_times(&bytes).unwrap().as_deref(), Some(&times[..]));
    assert!(decoded(&bytes, TimeRange::ALL).is_err() && column_of(&bytes).is_err());
    assert_eq!(decode_times(&encode(&times, &[1.0; 3])).unwrap(), None);
}

fn xor_chunks(times: &[i64], values: &[f64], lengths: &[usize]) -> Vec<ChunkRef> {
    let (mut chunks, mut from) = (Vec::new(), 0);
    for &length in lengths.iter().cycle() {
        let to = times.len().min(from + length);
        if from == to {
            break;
        }
        chunks.push(ChunkRef {
            min_time: times[from],
            max_time: times[to - 1],
            encoding: ChunkEncoding::Xor,
            timestamps: Timestamps::Own,
            bytes: xor::encode(&times[from..to], &values[from..to]).into(),
        });
        from = to;
    }
    chunks
}

/// What a writer does with a draft: a chunk, its times in it or beside it.
fn chunk_of(draft: &Draft, shared: bool) -> ChunkRef {
    let times = draft.times();
    ChunkRef {
        min_time: times[0],
        max_time: times[times.len() - 1],
        encoding: ChunkEncoding::Dense,
        timestamps: if shared { Timestamps::Shared(times.into()) } else { Timestamps::Own },
        bytes: if shared { draft.encode_shared(3) } else { draft.encode() }.into(),
    }
}

fn parts(chunks: &[ChunkRef]) -> Vec<(i64, i64, u8, &[u8])> {
    chunks.iter().map(|c| (c.min_time, c.max_time, c.encoding as u8, &c.bytes[..])).collect()
}

#[test]
fn what_would_not_come_back_stays_out() {
    let times: Vec<i64> = (0..240).map(|i| i * 15_000).collect();
    let values = vec![1.5; 240];
    let chunks = xor_chunks(&times, &values, &[120]);
    let mut draft = Draft::default();
    assert!(draft.push(&chunks[0]) && !draft.push(&chunks[0]), "times ascend");
    let padded = ChunkRef { bytes: [&chunks[1].bytes[..], &[0]].concat().into(), ..chunks[1].clone() };
    let other_times = ChunkRef { max_time: 9, ..chunks[1].clone() };
    let later = xor_chunks(&[7_200_000], &[1.0], &[1]).remove(0);
    let damaged = ChunkRef { bytes: chunks[1].bytes.slice(..40), ..chunks[1].clone() };
    let xor2 = ChunkRef { encoding: ChunkEncoding::Xor2, ..chunks[1].clone() };
    for odd in [padded, other_times, later, damaged, xor2] {
        assert!(!draft.push(&odd), "{odd:?}");
    }
    assert!(draft.push(&chunks[1]));
    assert_eq!(draft.times(), times);
    // The usual lengths cost nothing.
    assert_eq!(draft.encode(), encode(&times, &values));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn standard_chunks_come_back_bit_for_bit(
        (times, values) in float_samples(1..500),
        lengths in proptest::collection::vec(1usize..200, 1..4),
        usual: bool,
        shared: bool,
    ) {
        let lengths = if usual { vec![120] } else { lengths };
        let chunks = xor_chunks(&times, &values, &lengths);
        let (mut back, mut draft) = (Vec::new(), Draft::default());
        for chunk in &chunks {
            if !draft.push(chunk) {
                standard_chunks(&chunk_of(&draft, shared), &mut back).unwrap();
                draft.clear();
                prop_assert!(draft.push(chunk));
            }
        }
        standard_chunks(&chunk_of(&draft, shared), &mut back).unwrap();
        prop_assert_eq!(parts(&back), parts(&chunks));
    }

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
        let bytes = bad.into();
        let bad = ChunkRef { min_time: 0, max_time: 0, encoding: ChunkEncoding::Dense, timestamps: Timestamps::Own, bytes };
        let _ = standard_chunks(&bad, &mut Vec::new());
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decoded(&bytes, TimeRange::ALL);
    }
}
