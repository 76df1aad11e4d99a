//! Where chunks are cut, and that nothing is lost.

use proptest::prelude::*;
use pyrrha_model::contract::SeriesEntry;
use pyrrha_model::{FloatHistogram, Histogram, TimeRange};

use super::*;
use crate::testing::float_samples;
use crate::{SeriesSamples, Want, decode_series};

fn float(time: i64, value: f64) -> (i64, i64, Value) {
    (time - 7, time, Value::Float(value))
}

#[test]
fn chunks_end_at_120_samples_and_where_the_kind_changes() {
    let samples: Vec<_> = (0..300).map(|i| float(i, 1.0)).collect();
    let chunks = encode_series(&samples, false);
    let ends: Vec<_> = chunks.iter().map(|c| (c.min_time, c.max_time, c.encoding)).collect();
    let xor = ChunkEncoding::Xor;
    assert_eq!(ends, [(0, 119, xor), (120, 239, xor), (240, 299, xor)]);

    let h = Value::Histogram(Box::<Histogram>::default());
    let fh = Value::FloatHistogram(Box::<FloatHistogram>::default());
    let mixed = [float(1, 1.0), (0, 2, h.clone()), (0, 3, h), (0, 4, fh), float(5, 1.0), float(6, 1.0)];
    for (start_timestamps, bytes) in [(false, [1, 2, 3, 1]), (true, [4, 5, 6, 4])] {
        let chunks = encode_series(&mixed, start_timestamps);
        assert_eq!(chunks.iter().map(|c| c.encoding as u8).collect::<Vec<_>>(), bytes);
    }
    assert!(encode_series(&[], true).is_empty());
}

#[test]
fn a_chunk_stays_small_whatever_the_values() {
    let samples: Vec<_> = (0..120i64).map(|i| float(i * i * i * 1_000_003, (i as f64).sin())).collect();
    let chunks = encode_series(&samples, false);
    assert!(chunks.len() > 1 && chunks.iter().all(|c| c.bytes.len() <= 1024));
}

proptest! {
    #[test]
    fn nothing_is_lost((times, values) in float_samples(1..400), start_timestamps: bool) {
        let samples: Vec<_> = times.iter().zip(&values).map(|(t, v)| float(*t, *v)).collect();
        let chunks = encode_series(&samples, start_timestamps).into();
        let entry = SeriesEntry { chunks, ..SeriesEntry::default() };
        let mut out = SeriesSamples::default();
        decode_series(&entry, TimeRange::ALL, Want { starts: true, ..Want::default() }, &mut out).unwrap();
        prop_assert_eq!(&out.floats.times, &times);
        prop_assert!(out.floats.values.iter().zip(&values).all(|(a, b)| a.to_bits() == b.to_bits()));
        let start = |t: &i64| if start_timestamps { t - 7 } else { 0 };
        prop_assert_eq!(out.floats.starts, times.iter().map(start).collect::<Vec<_>>());
    }
}
