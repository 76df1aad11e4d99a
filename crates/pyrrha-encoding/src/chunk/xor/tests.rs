//! XOR chunks: golden bytes, round trips, appending anywhere, hostile bytes.

use proptest::prelude::*;
use pyrrha_model::{ChunkEncoding, TimeRange, stale_nan};

use super::*;
use crate::chunk::{decode_floats, decode_shared_floats};
use crate::testing::{bits_of, float_samples, hex};

fn decoded(bytes: &[u8], range: TimeRange) -> Result<FloatColumn, DecodeError> {
    let mut column = FloatColumn::default();
    decode_floats(ChunkEncoding::Xor, bytes, range, &mut column, false).map(|()| column)
}

#[test]
fn golden_bytes() {
    // By hand from the format: n=5; varint(1000)=d00f; f64 1.0; uvarint(15)=0f; then bits:
    // v1 = 1.0: `0`
    // t2 dod 0: `0`; v2 = 1.5, xor 0008000000000000: `11`, leading 12, 1 bit: 01100 000001 1
    // t3 dod 1: `10` 00000000000001; v3 = 1.0: same window: `10` 1
    // t4 dod -16: `10` 11111111110000; v4 = 1.0: `0`
    let bits =
        ["0", "0", "11", "01100", "000001", "1", "1000000000000001", "10", "1", "1011111111110000", "0"];
    let expected = [hex("0005 d00f 3ff0000000000000 0f"), bits_of(&bits.concat())].concat();
    let (times, values) = ([1000, 1015, 1030, 1046, 1046], [1.0, 1.0, 1.5, 1.0, 1.0]);
    assert_eq!(encode(&times, &values), expected);
    let column = decoded(&expected, TimeRange::ALL).unwrap();
    assert_eq!((&column.times[..], &column.values[..]), (&times[..], &values[..]));
}

#[test]
fn dod_class_borders() {
    let mut times = vec![0i64];
    let mut delta = 10_000_000_000i64;
    for dod in
        [0, 8192, -8192, 8193, -8191, 65536, -65536, 65537, -65535, 524_288, -524_288, 524_289, -524_287]
    {
        delta += dod;
        times.push(times[times.len() - 1] + delta);
    }
    let values = vec![0.0; times.len()];
    assert_eq!(decoded(&encode(&times, &values), TimeRange::ALL).unwrap().times, times);
}

#[test]
fn special_values_survive() {
    let values = [stale_nan(), f64::NAN, f64::from_bits(0xfff8_dead_beef_0001), -0.0, 0.0, f64::INFINITY];
    let times: Vec<i64> = (0..values.len() as i64).collect();
    let column = decoded(&encode(&times, &values), TimeRange::ALL).unwrap();
    for (a, b) in column.values.iter().zip(values) {
        assert_eq!(a.to_bits(), b.to_bits());
    }
}

#[test]
fn a_value_that_reuses_no_window_is_malformed() {
    let bytes = [hex("0002 00 3ff0000000000000 01"), bits_of("10"), vec![0; 16]].concat();
    assert!(matches!(decoded(&bytes, TimeRange::ALL), Err(DecodeError::Malformed { .. })));
    let wide = [hex("0002 00 3ff0000000000000 01"), bits_of("1111111111111"), vec![0xff; 16]].concat();
    assert!(matches!(decoded(&wide, TimeRange::ALL), Err(DecodeError::Malformed { .. })));
}

/// Decodes by the rhythm that others left.
fn decoded_after(rhythm: &mut Rhythm, bytes: &[u8], range: TimeRange) -> FloatColumn {
    let mut column = FloatColumn::default();
    decode(bytes, range, &mut column, rhythm).unwrap();
    column
}

#[test]
fn a_gap_in_one_series_hides_nothing_of_the_next() {
    let (gap, none) = ([0, 15, 30, 45, 600, 615], [0, 15, 30, 45, 60, 75]);
    let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let mut rhythm = Rhythm::default();
    decoded_after(&mut rhythm, &encode(&gap, &values), TimeRange::ALL);
    let column = decoded_after(&mut rhythm, &encode(&none, &values), TimeRange::new(0, 70));
    assert_eq!((&column.times[..], &column.values[..]), (&none[..5], &values[..5]));
}

proptest! {
    #[test]
    fn what_was_decoded_before_changes_nothing(
        steps in proptest::collection::vec(prop_oneof![3 => Just(15i64), 1 => 1i64..700], 2..30),
        changed in proptest::collection::vec((0usize..30, 1i64..700), 0..3),
        ends in proptest::collection::vec(0i64..9000, 1..6),
    ) {
        let chunk = |steps: &[i64]| {
            let times: Vec<i64> = steps.iter().scan(0, |t, step| { *t += step; Some(*t) }).collect();
            let values: Vec<f64> = times.iter().map(|t| *t as f64).collect();
            encode(&times, &values)
        };
        let mut others = steps.clone();
        changed.iter().for_each(|&(i, step)| if let Some(s) = others.get_mut(i) { *s = step });
        let chunks = [chunk(&steps), chunk(&others)];
        let mut rhythm = Rhythm::default();
        for (i, &end) in ends.iter().enumerate() {
            let (bytes, range) = (&chunks[i % 2], TimeRange::new(0, end));
            let (found, wanted) = (decoded_after(&mut rhythm, bytes, range), decoded(bytes, range).unwrap());
            prop_assert_eq!((found.times, found.values), (wanted.times, wanted.values));
        }
    }

    #[test]
    fn round_trip_and_append_anywhere((times, values) in float_samples(1..200), at in 0usize..200) {
        let whole = encode(&times, &values);
        let (mut buffer, mut appender) = (Vec::new(), XorAppender::new());
        for (i, (&t, &v)) in times.iter().zip(&values).enumerate() {
            if i == at % times.len() {
                set_count(&mut buffer, appender.count());
                if i > 0 {
                    // Garbage behind the chunk, as in a slab.
                    buffer.extend([0xff; 3]);
                    let restored = XorAppender::restore(&buffer).unwrap();
                    prop_assert_eq!(restored.byte_len(), appender.byte_len());
                    appender = restored;
                }
            }
            appender.append(&mut buffer, t, v);
            prop_assert_eq!(appender.last_time(), t);
        }
        set_count(&mut buffer, appender.count());
        prop_assert_eq!(&buffer[..appender.byte_len()], &whole[..]);
        let column = decoded(&whole, TimeRange::ALL).unwrap();
        prop_assert_eq!(&column.times, &times);
        prop_assert!(column.values.iter().zip(&values).all(|(a, b)| a.to_bits() == b.to_bits()));
        // The first samples of a chunk are a chunk.
        let first = at % times.len();
        set_count(&mut buffer, first as u16);
        prop_assert_eq!(&decoded(&buffer, TimeRange::ALL).unwrap().times[..], &times[..first]);
    }

    #[test]
    fn range_cuts((times, values) in float_samples(1..100), a in 0usize..100, b in 0usize..100) {
        let (a, b) = (times[a % times.len()], times[b % times.len()]);
        let expected: Vec<i64> = times.iter().copied().filter(|&t| a <= t && t <= b).collect();
        prop_assert_eq!(decoded(&encode(&times, &values), TimeRange::new(a, b)).unwrap().times, expected);
    }

    #[test]
    fn shared_times((times, values) in float_samples(1..100), a in 0usize..100, b in 0usize..100) {
        let (mut buffer, mut appender) = (Vec::new(), XorAppender::new());
        for &v in &values {
            appender.append_value(&mut buffer, v);
        }
        set_count(&mut buffer, appender.count());
        let range = TimeRange::new(times[a % times.len()], times[b % times.len()]);
        let mut column = FloatColumn::default();
        decode_shared_floats(ChunkEncoding::Xor, &buffer, &times, range, &mut column, true).unwrap();
        let own = decoded(&encode(&times, &values), range).unwrap();
        prop_assert_eq!(&column.times, &own.times);
        prop_assert!(column.values.iter().zip(&own.values).all(|(a, b)| a.to_bits() == b.to_bits()));
        prop_assert_eq!(column.starts.len(), column.times.len());
        let short = &times[..times.len() - 1];
        prop_assert!(decode_shared_floats(ChunkEncoding::Xor, &buffer, short, range, &mut column, true).is_err());
    }

    #[test]
    fn both_readers_read_the_same((times, values) in float_samples(2..100), bit in 0usize..4000, end: usize) {
        let mut bytes = encode(&times, &values);
        for damaged in [false, true] {
            if damaged {
                let bit = bit % (bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            let end = times[end % times.len()];
            let read = |fill: fn(&mut Cursor<'_>, Timestamp, &mut [f64], &mut Rhythm) -> Result<usize, DecodeError>| {
                let Ok(Some(mut cursor)) = Cursor::open(&bytes) else { return None };
                let (mut slots, mut rhythm) = ([0.0; 120], Rhythm::default());
                let read = fill(&mut cursor, end, &mut slots, &mut rhythm);
                rhythm.times.truncate(rhythm.known);
                let bits: Vec<u64> = slots.iter().map(|v| v.to_bits()).collect();
                Some((read.ok(), bits, rhythm.times))
            };
            prop_assert_eq!(read(fill), read(fill_any));
        }
    }

    #[test]
    fn cut_or_damaged_bytes_never_panic((times, values) in float_samples(2..50), cut: usize, bit: usize) {
        let whole = encode(&times, &values);
        let cut = cut % whole.len();
        prop_assert!(decoded(&whole[..cut], TimeRange::ALL).is_err());
        let mut bad = whole.clone();
        bad[bit / 8 % whole.len()] ^= 1 << (bit % 8);
        let _ = decoded(&bad, TimeRange::ALL);
        let _ = XorAppender::restore(&bad);
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        let _ = decoded(&bytes, TimeRange::ALL);
        let _ = XorAppender::restore(&bytes);
    }
}
