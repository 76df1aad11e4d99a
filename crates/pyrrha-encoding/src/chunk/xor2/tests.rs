//! XOR2 chunks: golden bytes, round trips with start timestamps, hostile bytes.

use proptest::prelude::*;
use pyrrha_model::{ChunkEncoding, stale_nan};

use super::*;
use crate::FloatColumn;
use crate::chunk::decode_floats;
use crate::chunk::xor::set_count;
use crate::testing::{bits_of, float_samples, hex};

fn decoded(bytes: &[u8]) -> Result<FloatColumn, DecodeError> {
    let mut column = FloatColumn::default();
    decode_floats(ChunkEncoding::Xor2, bytes, TimeRange::ALL, &mut column, true).map(|()| column)
}

#[test]
fn golden_bytes() {
    // By hand from the format: n=6, st present and changing at 3: 83; varint(1000); 1.0;
    // varint(1000-900)=c801; uvarint(15); v1 same: `0`
    // t2 dod 0, v2 = 1.5: `10` `1` leading 12, 1 bit
    // t3 dod 0, stale: `11111`; st 950: first change, t2 - 950 = 80: `1110` 001010000
    // t4 dod 1: `110` + 13 bits, v4 = 1.5 same: `0`; t3 - 950 = 95, change 15: `110` 001111
    // t5 dod 0, v5 = 1.0: `10` `0` 1; t4 - 950 = 111, change 16: `110` 010000
    let bits = ["0", "101", "01100", "000001", "1", "11111", "1110001010000"].concat()
        + &["1100000000000001", "0", "110001111", "100", "1", "110010000"].concat();
    let expected = [hex("0006 83 d00f 3ff0000000000000 c801 0f"), bits_of(&bits)].concat();
    let times = [1000, 1015, 1030, 1045, 1061, 1077];
    let values = [1.0, 1.0, 1.5, stale_nan(), 1.5, 1.0];
    let starts = [900, 900, 900, 950, 950, 950];
    assert_eq!(encode(&starts, &times, &values), expected);
    let column = decoded(&expected).unwrap();
    assert_eq!((&column.times[..], &column.starts[..]), (&times[..], &starts[..]));
    assert_eq!(column.values[3].to_bits(), STALE_NAN_BITS);
    assert_eq!(column.values[4..], [1.5, 1.0]);
}

#[test]
fn dod_class_borders() {
    let mut times = vec![0i64];
    let mut delta = 10_000_000_000i64;
    for dod in [0, 4095, -4095, 4096, -4096, 524_287, -524_287, 524_288, -524_288, 524_289, -524_289] {
        delta += dod;
        times.push(times[times.len() - 1] + delta);
    }
    let zeros = vec![0; times.len()];
    let values: Vec<f64> = times.iter().map(|&t| t as f64).collect();
    assert_eq!(decoded(&encode(&zeros, &times, &values)).unwrap().times, times);
}

#[test]
fn start_timestamps_may_begin_late() {
    for first in [1usize, 100, 126, 127, 128, 150] {
        let times: Vec<i64> = (0..200).map(|i| i * 1000).collect();
        let starts: Vec<i64> = (0..200).map(|i| if i < first { 0 } else { 77 }).collect();
        let values = vec![1.0; 200];
        assert_eq!(decoded(&encode(&starts, &times, &values)).unwrap().starts, starts, "first={first}");
    }
}

fn starts(len: usize) -> impl Strategy<Value = Vec<i64>> {
    let runs =
        proptest::collection::vec((prop_oneof![Just(0i64), -5000i64..5000, any::<i64>()], 1usize..90), 1..20);
    runs.prop_map(move |runs| {
        let values = runs.iter().flat_map(|&(start, n)| std::iter::repeat_n(start, n));
        values.chain(std::iter::repeat(5)).take(len).collect()
    })
}

proptest! {
    #[test]
    fn round_trip_and_append_anywhere(
        (times, values) in float_samples(1..200),
        starts in starts(200),
        at in 0usize..200,
    ) {
        let starts = &starts[..times.len()];
        let whole = encode(starts, &times, &values);
        let (mut buffer, mut appender) = (Vec::new(), Xor2Appender::new());
        for i in 0..times.len() {
            if i > 0 && i == at % times.len() {
                set_count(&mut buffer, appender.count());
                buffer.extend([0xff; 3]);
                let restored = Xor2Appender::restore(&buffer).unwrap();
                prop_assert_eq!(restored.byte_len(), appender.byte_len());
                appender = restored;
            }
            appender.append(&mut buffer, starts[i], times[i], values[i]);
        }
        set_count(&mut buffer, appender.count());
        prop_assert_eq!(&buffer[..appender.byte_len()], &whole[..]);
        let column = decoded(&whole).unwrap();
        prop_assert_eq!(&column.times, &times);
        prop_assert_eq!(&column.starts[..], starts);
        prop_assert!(column.values.iter().zip(&values).all(|(a, b)| a.to_bits() == b.to_bits()));
    }

    #[test]
    fn cut_or_damaged_bytes_never_panic((times, values) in float_samples(2..50), cut: usize, bit: usize) {
        let whole = encode(&vec![3; times.len()], &times, &values);
        let cut = cut % whole.len();
        prop_assert!(decoded(&whole[..cut]).is_err());
        let mut bad = whole.clone();
        bad[bit / 8 % whole.len()] ^= 1 << (bit % 8);
        let _ = decoded(&bad);
        let _ = Xor2Appender::restore(&bad);
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        let _ = decoded(&bytes);
        let _ = Xor2Appender::restore(&bytes);
    }
}
