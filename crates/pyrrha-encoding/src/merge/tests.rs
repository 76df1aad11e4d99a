//! The merge against a map from time to sample, and hints across chunks.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use pyrrha_model::contract::Value;
use pyrrha_model::{ChunkEncoding, FloatHistogram, Histogram, Span};

use super::*;
use crate::encode_series;

type Sample = (Timestamp, Timestamp, Value);

fn float(time: i64, value: f64) -> Sample {
    (time - 1, time, Value::Float(value))
}

fn counter(time: i64, count: u64) -> Sample {
    let h = Histogram {
        count,
        sum: time as f64,
        positive_spans: vec![Span { offset: 0, length: 1 }],
        positive_buckets: vec![count as i64],
        ..Histogram::default()
    };
    (0, time, Value::Histogram(Box::new(h)))
}

fn entry(sources: &[Vec<Sample>]) -> SeriesEntry {
    let mut chunks: Vec<ChunkRef> = sources.iter().flat_map(|s| encode_series(s, true)).collect();
    chunks.sort_by_key(|c| c.min_time);
    SeriesEntry { chunks: chunks.into(), ..SeriesEntry::default() }
}

fn hints(samples: &SeriesSamples) -> Vec<(i64, CounterResetHint)> {
    let hint = |h: &FloatHistogram| h.counter_reset_hint;
    samples.histograms.times.iter().copied().zip(samples.histograms.values.iter().map(hint)).collect()
}

fn read(entry: &SeriesEntry, range: TimeRange) -> SeriesSamples {
    let mut out = SeriesSamples::default();
    decode_series(entry, range, Want { starts: true, ..Want::default() }, &mut out).unwrap();
    out
}

#[test]
fn hints_by_place_in_the_chunk() {
    use CounterResetHint::{NotReset, Unknown};
    let one = entry(&[vec![counter(1, 1), counter(2, 2), counter(3, 1), counter(4, 2)]]);
    assert_eq!(one.chunks.len(), 2);
    assert_eq!(
        hints(&read(&one, TimeRange::ALL)),
        [(1, Unknown), (2, NotReset), (3, Unknown), (4, NotReset)]
    );
    // A reader that starts inside a chunk still knows.
    assert_eq!(hints(&read(&one, TimeRange::new(2, 3))), [(2, NotReset), (3, Unknown)]);
}

#[test]
fn hints_between_sources_are_unknown() {
    use CounterResetHint::{NotReset, Unknown};
    let two = entry(&[
        vec![counter(1, 10), counter(2, 11), counter(5, 12), counter(6, 13)],
        vec![counter(2, 1), counter(3, 2), counter(4, 3), counter(6, 4)],
    ]);
    let read = read(&two, TimeRange::ALL);
    // Of the samples at 2 and 6 those with the greater count stay, which are the first source's; 3 and
    // 5 follow a sample of the other one.
    assert_eq!(
        hints(&read),
        [(1, Unknown), (2, NotReset), (3, Unknown), (4, NotReset), (5, Unknown), (6, NotReset)]
    );
    let counts: Vec<f64> = read.histograms.values.iter().map(|h| h.count).collect();
    assert_eq!(counts, [10.0, 11.0, 2.0, 3.0, 12.0, 13.0]);
    // Stored again, the samples after a change of sources tell what follows from their values.
    let stored = decode_stored(&two, TimeRange::ALL).unwrap();
    let again = SeriesEntry { chunks: crate::encode_series(&stored, true).into(), ..SeriesEntry::default() };
    assert_eq!(again.chunks.len(), 2, "one reset, from 11 to 2");
}

#[test]
fn chunks_that_are_not_what_they_say_are_put_in_order() {
    let times = [5i64, 3, 3, 9, 7];
    let bytes = crate::chunk::xor::encode(&times, &[1.0, 2.0, 3.0, 4.0, 5.0]);
    let chunk = ChunkRef {
        min_time: 5,
        max_time: 7,
        encoding: ChunkEncoding::Xor,
        timestamps: Timestamps::Own,
        bytes: Bytes::from(bytes),
    };
    let out = read(&SeriesEntry { chunks: vec![chunk].into(), ..SeriesEntry::default() }, TimeRange::ALL);
    assert_eq!(out.floats.times, [3, 5, 7, 9]);
    assert_eq!(out.floats.values, [3.0, 1.0, 5.0, 4.0], "of one time, the greater");
}

#[test]
fn an_error_leaves_nothing_behind() {
    let mut bad = entry(&[vec![float(1, 1.0)], vec![float(2, 1.0), float(3, 7.7)]]);
    bad.chunks[1].bytes.truncate(12);
    let mut out = SeriesSamples::default();
    assert!(decode_series(&bad, TimeRange::ALL, Want::default(), &mut out).is_err());
    assert_eq!(out, SeriesSamples::default());
    bad.chunks[1].encoding = ChunkEncoding::Aggregate;
    assert!(decode_series(&bad, TimeRange::ALL, Want::default(), &mut out).is_err());
    // Out of range, the bad chunk is not touched.
    assert!(decode_series(&bad, TimeRange::new(0, 1), Want::default(), &mut out).is_ok());
}

fn source() -> impl Strategy<Value = Vec<Sample>> {
    let sample = (1i64..5, 0u32..4, any::<bool>());
    (0i64..300, proptest::collection::vec(sample, 1..150), any::<u16>()).prop_map(|(start, steps, tag)| {
        let mut time = start;
        let mut flip = false;
        let sample = |(step, turn, _): (i64, u32, bool)| {
            time += step;
            flip ^= turn == 0 && time % 7 == 0;
            if flip { counter(time, u64::from(tag) + 1) } else { float(time, f64::from(tag)) }
        };
        steps.into_iter().map(sample).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn as_a_map(
        sources in proptest::collection::vec(source(), 1..4),
        deleted in proptest::collection::vec((0i64..700, 0i64..40), 0..3),
        (from, len) in (0i64..600, 0i64..600),
    ) {
        let mut entry = entry(&sources);
        entry.deleted = deleted.iter().map(|&(start, len)| TimeRange::new(start, start + len)).collect();
        let range = TimeRange::new(from, from + len);
        let mut map = BTreeMap::new();
        let mut keep = |t: i64, sample| {
            // A histogram goes before a float, then the greater bits, then the later start.
            let stays = |s: &(i64, Option<u64>, Option<(u64, u64)>)| (s.2.is_some(), s.2.map(|(c, s)| (s, c)), s.1, s.0);
            let kept = map.entry(t).or_insert(sample);
            if stays(&sample) > stays(kept) {
                *kept = sample;
            }
        };
        for chunk in &entry.chunks {
            let one = SeriesEntry { chunks: vec![chunk.clone()].into(), ..SeriesEntry::default() };
            let one = read(&one, TimeRange::ALL);
            let floats = one.floats.times.iter().zip(&one.floats.values).zip(&one.floats.starts);
            floats.for_each(|((t, v), s)| keep(*t, (*s, Some(v.to_bits()), None)));
            let histograms = one.histograms.times.iter().zip(&one.histograms.values).zip(&one.histograms.starts);
            histograms.for_each(|((t, h), s)| keep(*t, (*s, None, Some((h.count.to_bits(), h.sum.to_bits())))));
        }
        map.retain(|t, _| range.contains(*t) && !entry.deleted.iter().any(|d| d.contains(*t)));
        let out = read(&entry, range);
        prop_assert!(out.floats.times.is_sorted_by(|a, b| a < b));
        prop_assert!(out.histograms.times.is_sorted_by(|a, b| a < b));
        let mut got = BTreeMap::new();
        for (i, t) in out.floats.times.iter().enumerate() {
            got.insert(*t, (out.floats.starts[i], Some(out.floats.values[i].to_bits()), None));
        }
        for (i, t) in out.histograms.times.iter().enumerate() {
            let h = &out.histograms.values[i];
            got.insert(*t, (out.histograms.starts[i], None, Some((h.count.to_bits(), h.sum.to_bits()))));
        }
        let stored = decode_stored(&entry, range).unwrap();
        let stored = stored.into_iter().map(|(start, time, value)| match value {
            Value::Float(v) => (time, (start, Some(v.to_bits()), None)),
            Value::Histogram(h) => (time, (start, None, Some(((h.count as f64).to_bits(), h.sum.to_bits())))),
            Value::FloatHistogram(_) => panic!("an integer histogram became a float histogram"),
        });
        prop_assert_eq!(&stored.collect::<BTreeMap<_, _>>(), &map);
        prop_assert_eq!(got.len(), out.floats.times.len() + out.histograms.times.len());
        prop_assert_eq!(got, map);
    }
}

proptest! {
    /// What was decoded before, whole or cut or damaged, does not change what a chunk holds.
    #[test]
    fn series_after_each_other_are_as_each_alone(
        (times, values) in crate::testing::float_samples(1..40),
        series in prop::collection::vec(
            (0usize..40, 1usize..41, prop_oneof![3 => Just(0i64), 1 => -20i64..20, 1 => 0i64..3_000_000], any::<u8>(), 0usize..400),
            1..12,
        ),
        range in prop_oneof![2 => Just(None), 1 => (0usize..40, 0usize..40).prop_map(Some)],
    ) {
        let at = |i: usize| times[i % times.len()];
        let range = range.map_or(TimeRange::ALL, |(a, b)| TimeRange::new(at(a).min(at(b)), at(a).max(at(b))));
        let mut decoder = SeriesDecoder::default();
        for (from, len, shift, mixed, cut) in series {
            let mut times = times.clone();
            times.iter_mut().skip(from).for_each(|t| *t += shift);
            times.truncate(len);
            let values: Vec<f64> =
                values.iter().zip(0u8..).map(|(v, i)| if i & mixed == 0 { *v } else { f64::from(i) }).collect();
            let mut bytes = crate::chunk::xor::encode(&times, &values);
            bytes.truncate(cut.max(4));
            let chunk = ChunkRef {
                min_time: times[0],
                max_time: *times.last().unwrap(),
                encoding: ChunkEncoding::Xor,
                timestamps: Timestamps::Own,
                bytes: Bytes::from(bytes),
            };
            let entry = SeriesEntry { chunks: vec![chunk].into(), ..SeriesEntry::default() };
            let (mut one, mut other) = (SeriesSamples::default(), SeriesSamples::default());
            let in_turn = decoder.decode(&entry, range, Want::default(), &mut one);
            let alone = decode_series(&entry, range, Want::default(), &mut other);
            prop_assert_eq!(in_turn, alone);
            prop_assert_eq!(one.floats.times, other.floats.times);
            let bits = |values: Vec<f64>| values.into_iter().map(f64::to_bits).collect::<Vec<_>>();
            prop_assert_eq!(bits(one.floats.values), bits(other.floats.values));
        }
    }
}

#[test]
fn a_decoder_says_what_it_keeps() {
    let mut decoder = SeriesDecoder::default();
    assert_eq!(decoder.bytes(), 0);
    let mut out = SeriesSamples::default();
    let mut held = 0;
    for first in 0..4 {
        let samples: Vec<Sample> = (0..100).map(|i| float(first + i * 1000, i as f64)).collect();
        let entry = SeriesEntry { chunks: encode_series(&samples, false).into(), ..SeriesEntry::default() };
        decoder.decode(&entry, TimeRange::ALL, Want::default(), &mut out).unwrap();
        // A time and a code of each sample of a rhythm that came for the first time.
        assert!(decoder.bytes() >= held + 100 * 12, "{} {held}", decoder.bytes());
        held = decoder.bytes();
        decoder.decode(&entry, TimeRange::ALL, Want::default(), &mut out).unwrap();
        assert_eq!(decoder.bytes(), held);
    }
}
