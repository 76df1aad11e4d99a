//! Windows against the samples they were made of.

use pyrrha_model::{TimeRange, stale_nan};

use proptest::prelude::*;

use super::*;
use crate::{Aggregate, AggregateChunk, FloatColumn};

const FIVE: i64 = 300_000;
const HOUR: i64 = 3_600_000;

fn none() -> HistogramWindows {
    HistogramWindows::default()
}

fn folded(samples: &[(i64, f64)], resolution: i64) -> Windows {
    let (times, values): (Vec<i64>, Vec<f64>) = samples.iter().copied().unzip();
    let mut out = Windows::default();
    fold_floats(&times, &values, resolution, &mut out);
    assert!(out.is_sound());
    out
}

#[test]
fn a_window_by_hand() {
    let w = folded(
        &[(10, 5.0), (20, 7.0), (30, 2.0), (40, 2.0), (50, stale_nan()), (FIVE - 1, 3.0), (FIVE, 9.0)],
        FIVE,
    );
    assert_eq!((&w.starts[..], &w.ends[..]), (&[0, FIVE][..], &[FIVE - 1, 2 * FIVE - 1][..]));
    assert_eq!((&w.counts[..], w.edges.first_times[0], w.edges.last_times[0]), (&[5, 1][..], 10, FIVE - 1));
    assert_eq!((w.edges.first_values[0], w.edges.last_values[0]), (5.0, 3.0));
    assert_eq!((w.edges.corrections[0], w.edges.resets[0], w.edges.changes[0]), (7.0, 1, 3));
    assert_eq!((w.values.sums[0], w.values.mins[0], w.values.maxs[0], w.values.nans[0]), (19.0, 2.0, 7.0, 0));
    assert_eq!(w.edges.stale, [0, 0]);
    let mean = 19.0 / 5.0;
    let deviation: f64 = [5.0f64, 7.0, 2.0, 2.0, 3.0].iter().map(|v| (v - mean).powi(2)).sum();
    assert!((w.values.deviations[0] - deviation).abs() < 1e-9);
}

#[test]
fn nans_are_counted_and_markers_are_none() {
    let w = folded(&[(1, f64::NAN), (2, f64::NAN), (3, 4.0), (4, f64::NAN), (5, stale_nan())], FIVE);
    assert_eq!((w.counts[0], w.values.nans[0], w.edges.changes[0], w.edges.stale[0]), (4, 3, 2, 1));
    assert_eq!((w.values.sums[0], w.values.mins[0], w.values.maxs[0]), (4.0, 4.0, 4.0));
    assert!(folded(&[(1, stale_nan())], FIVE).is_empty());
    let w = folded(&[(1, f64::NAN)], FIVE);
    assert!(w.values.mins[0].is_nan() && w.values.sums[0] == 0.0);
    // A series of nothing else is still one.
    let chunks = aggregate_chunks(&folded(&[(1, f64::NAN), (FIVE, f64::NAN)], FIVE));
    assert_eq!((chunks.len(), chunks[0].min_time, chunks[0].max_time), (1, 1, FIVE));
    assert_eq!(aggregate_chunks(&folded(&[(1, f64::NAN), (FIVE, 1.0)], FIVE))[0].min_time, FIVE);
}

/// The bytes that the format facts give for two windows of one chunk, built from the inner chunks.
#[test]
fn an_aggregate_chunk_is_laid_out_as_thanos_does() {
    let samples = [(0, 1.0), (60_000, 3.0), (FIVE, 2.0), (FIVE + 60_000, 10.0)];
    let chunks = aggregate_chunks(&folded(&samples, FIVE));
    assert_eq!((chunks.len(), chunks[0].min_time, chunks[0].max_time), (1, 0, FIVE + 60_000));
    let times = [FIVE - 1, FIVE + 60_000];
    let mut expected = Vec::new();
    for values in [[2.0, 2.0], [4.0, 12.0], [1.0, 2.0], [3.0, 10.0]] {
        let inner = crate::chunk::xor::encode(&times, &values);
        expected.push(inner.len() as u8);
        expected.push(1);
        expected.extend(inner);
    }
    let counter = crate::chunk::xor::encode(&[0, times[0], times[1], times[1]], &[1.0, 3.0, 13.0, 10.0]);
    expected.push(counter.len() as u8);
    expected.push(1);
    expected.extend(counter);
    assert_eq!(chunks[0].bytes, expected);
}

#[test]
fn chunks_have_140_windows_or_a_few_more_or_less() {
    let samples: Vec<(i64, f64)> = (0..3000).map(|i| (i * FIVE + 5, i as f64)).collect();
    let chunks = aggregate_chunks(&folded(&samples, FIVE));
    for pair in chunks.windows(2) {
        assert!(pair[0].max_time < pair[1].min_time);
    }
    let count = |chunk: &pyrrha_model::contract::ChunkRef| {
        let inner = AggregateChunk::split(chunk, Aggregate::Count).unwrap().unwrap();
        crate::chunk::sample_count(inner.encoding, &inner.bytes).unwrap()
    };
    let counts: Vec<usize> = chunks.iter().map(count).collect();
    assert_eq!(counts.iter().sum::<usize>(), 3000);
    assert!(counts[..counts.len() - 1].iter().all(|c| (100..=141).contains(c)), "{counts:?}");
}

#[test]
fn what_thanos_made_is_read_back() {
    let samples: Vec<(i64, f64)> = (0..2000i64).map(|i| (i * 60_000 + 7, ((i * 13) % 700) as f64)).collect();
    let w = folded(&samples, FIVE);
    let mut back = Windows::default();
    for chunk in aggregate_chunks(&w) {
        from_aggregates(&chunk.bytes, FIVE, ForeignEdges::Counter, &mut back).unwrap();
    }
    assert_eq!((&back.starts, &back.counts), (&w.starts, &w.counts));
    assert_eq!((&back.values.sums, &back.values.mins), (&w.values.sums, &w.values.mins));
    let total = |w: &Windows| {
        let e = &w.edges;
        let mut total = e.last_values[w.len() - 1] - e.first_values[0];
        for i in 0..w.len() {
            total += e.corrections[i];
            if i > 0 && e.first_values[i] < e.last_values[i - 1] {
                total += e.last_values[i - 1];
            }
        }
        total
    };
    assert_eq!(total(&back), total(&w));
    let mut means = Windows::default();
    from_aggregates(&aggregate_chunks(&w)[0].bytes, FIVE, ForeignEdges::Mean, &mut means).unwrap();
    assert_eq!(means.edges.last_values[0], w.values.sums[0] / f64::from(w.counts[0]));
}

/// Thanos makes the hours of each chunk of five minutes by itself, so an hour may be in two chunks of a series.
#[test]
fn an_hour_that_two_foreign_chunks_share_is_one_window() {
    let samples: Vec<(i64, f64)> = (0..300).map(|i| (i * 60_000, ((i * 7) % 90) as f64)).collect();
    let whole = folded(&samples, HOUR);
    for cut in [1, 35, 60, 90, 119, 121, 299] {
        let (a, b) = samples.split_at(cut);
        for edges in [ForeignEdges::Counter, ForeignEdges::Mean] {
            let mut back = Windows::default();
            for part in [a, b] {
                for chunk in aggregate_chunks(&folded(part, HOUR)) {
                    from_aggregates(&chunk.bytes, HOUR, edges, &mut back).unwrap();
                }
            }
            assert_eq!((&back.starts, &back.ends, &back.counts), (&whole.starts, &whole.ends, &whole.counts));
            assert_eq!((&back.values.sums, &back.values.mins), (&whole.values.sums, &whole.values.mins));
            assert_eq!(back.values.maxs, whole.values.maxs);
            let total = |w: &Windows| {
                let e = &w.edges;
                let between = (1..w.len()).filter(|&i| e.first_values[i] < e.last_values[i - 1]);
                let lost: f64 = between.map(|i| e.last_values[i - 1]).sum();
                e.last_values[w.len() - 1] - e.first_values[0] + e.corrections.iter().sum::<f64>() + lost
            };
            if edges == ForeignEdges::Counter {
                assert_eq!(total(&back), total(&whole), "cut={cut}");
            } else {
                let shared = cut / 60;
                assert_eq!(
                    back.edges.last_values[shared],
                    whole.values.sums[shared] / f64::from(whole.counts[shared])
                );
                assert_eq!(back.edges.corrections[shared], 0.0);
            }
        }
    }
    // What lies before a chunk is none of it.
    let mut back = Windows::default();
    let chunks = aggregate_chunks(&folded(&samples, HOUR));
    from_aggregates(&chunks[0].bytes, HOUR, ForeignEdges::Counter, &mut back).unwrap();
    assert!(from_aggregates(&chunks[0].bytes, HOUR, ForeignEdges::Counter, &mut back).is_err());
}

fn samples() -> impl Strategy<Value = Vec<(i64, f64)>> {
    let value = prop_oneof![
        6 => (0..50i32).prop_map(f64::from),
        3 => (-1e6..1e6).prop_map(|v: f64| v),
        1 => prop_oneof![Just(f64::NAN), Just(stale_nan()), Just(f64::INFINITY), Just(-0.0)],
    ];
    (-HOUR..HOUR, prop::collection::vec((1..400_000i64, value), 0..80)).prop_map(|(start, steps)| {
        let mut t = start;
        steps
            .into_iter()
            .map(|(step, v)| {
                t += step;
                (t, v)
            })
            .collect()
    })
}

/// Equal, with NaNs equal and sums within what adding up in parts may lose.
fn close(a: &[f64], b: &[f64], scale: f64) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|(a, b)| a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-9 * scale)
}

proptest! {
    #[test]
    fn windows_survive_storage(samples in samples()) {
        let w = folded(&samples, FIVE);
        let mut back = Windows::default();
        for part in [WindowPart::Edges, WindowPart::Values] {
            match encode_windows(&w, FIVE, part) {
                Some(chunk) => prop_assert_eq!(decode_windows(&chunk.bytes, TimeRange::ALL, &mut back, &mut none()), Ok(FIVE)),
                None => prop_assert!(w.is_empty()),
            }
        }
        prop_assert_eq!(format!("{w:?}"), format!("{back:?}"));
        prop_assert!(back.is_sound());
    }

    #[test]
    fn an_hour_is_what_twelve_times_five_minutes_are(samples in samples()) {
        let direct = folded(&samples, HOUR);
        let mut coarse = Windows::default();
        coarsen(&folded(&samples, FIVE), HOUR, &mut coarse);
        prop_assert_eq!((&direct.starts, &direct.counts), (&coarse.starts, &coarse.counts));
        let (a, b) = (&direct.edges, &coarse.edges);
        prop_assert_eq!((&a.first_times, &a.last_times), (&b.first_times, &b.last_times));
        prop_assert_eq!((&a.resets, &a.changes), (&b.resets, &b.changes));
        prop_assert!(close(&a.corrections, &b.corrections, 1e6));
        prop_assert!(close(&a.last_values, &b.last_values, 0.0) && close(&a.first_values, &b.first_values, 0.0));
        let (a, b) = (&direct.values, &coarse.values);
        prop_assert!(close(&a.mins, &b.mins, 0.0) && close(&a.maxs, &b.maxs, 0.0));
        prop_assert!(close(&a.sums, &b.sums, 1e6));
        prop_assert_eq!(&a.nans, &b.nans);
    }

    #[test]
    fn a_part_of_a_chunk_is_read(samples in samples(), from in -HOUR..HOUR, length in 0..HOUR) {
        let w = folded(&samples, FIVE);
        let range = TimeRange::new(from, from + length);
        let mut part = Windows::default();
        for p in [WindowPart::Edges, WindowPart::Values] {
            if let Some(chunk) = encode_windows(&w, FIVE, p) {
                decode_windows(&chunk.bytes, range, &mut part, &mut none()).unwrap();
            }
        }
        let wanted: Vec<i64> = w.starts.iter().copied().filter(|s| s + FIVE > from && *s <= range.end).collect();
        prop_assert_eq!(&part.starts, &wanted);
        prop_assert!(part.is_sound());
    }

    #[test]
    fn chunks_follow_each_other(
        samples in samples(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..3),
        from in -HOUR..HOUR,
        length in 0..20 * HOUR,
        values in any::<bool>(),
    ) {
        let w = folded(&samples, FIVE);
        let range = TimeRange::new(from, from + length);
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(w.len() + 1)).chain([w.len()]).collect();
        ends.sort_unstable();
        let (mut back, mut begin) = (Windows::default(), 0);
        for end in ends {
            let mut piece = Windows::default();
            piece.extend(&w, std::mem::replace(&mut begin, end)..end);
            for part in [Some(WindowPart::Edges), values.then_some(WindowPart::Values)].into_iter().flatten() {
                if let Some(chunk) = encode_windows(&piece, FIVE, part) {
                    decode_windows(&chunk.bytes, range, &mut back, &mut none()).unwrap();
                }
            }
        }
        let wanted = w.ends.partition_point(|e| *e < range.start)..w.starts.partition_point(|s| *s <= range.end);
        let mut expected = Windows::default();
        expected.extend(&w, wanted);
        if !values {
            expected.values = Totals::default();
        }
        prop_assert_eq!(format!("{expected:?}"), format!("{back:?}"));
    }

    #[test]
    fn hostile_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200), flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), samples in samples()) {
        let mut out = Windows::default();
        let _ = decode_windows(&bytes, TimeRange::ALL, &mut out, &mut none());
        let _ = from_aggregates(&bytes, FIVE, ForeignEdges::Counter, &mut Windows::default());
        let w = folded(&samples, FIVE);
        if let Some(chunk) = encode_windows(&w, FIVE, WindowPart::Edges) {
            let mut bytes = chunk.bytes.to_vec();
            for (at, value) in &flips {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            let mut out = Windows::default();
            if decode_windows(&bytes, TimeRange::ALL, &mut out, &mut none()).is_ok() {
                prop_assert!(out.is_sound());
            }
        }
        for chunk in aggregate_chunks(&w) {
            let mut bytes = chunk.bytes.to_vec();
            for (at, value) in &flips {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            let _ = from_aggregates(&bytes, FIVE, ForeignEdges::Counter, &mut Windows::default());
        }
    }
}

#[test]
fn aggregates_decode_as_floats() {
    let chunk = &aggregate_chunks(&folded(&[(3, 1.5), (4, 2.5)], FIVE))[0];
    let inner = AggregateChunk::split(chunk, Aggregate::Sum).unwrap().unwrap();
    let mut column = FloatColumn::default();
    crate::chunk::decode_floats(inner.encoding, &inner.bytes, TimeRange::ALL, &mut column, false).unwrap();
    assert_eq!((column.times, column.values), (vec![4], vec![4.0]));
}

#[test]
fn windows_stand_for_the_samples_of_their_chunk() {
    let all: Vec<(i64, f64)> = (0..40).map(|i| (i * 60_000, i as f64)).collect();
    let w = folded(&all[..20], FIVE);
    let mut entry = pyrrha_model::contract::SeriesEntry::default();
    for part in [WindowPart::Edges, WindowPart::Values] {
        let chunk = encode_windows(&w, FIVE, part).unwrap();
        entry.chunks.push(pyrrha_model::contract::ChunkRef { max_time: 3 * FIVE - 1, ..chunk });
    }
    let value = |(t, v): &(i64, f64)| (0, *t, pyrrha_model::contract::Value::Float(*v));
    entry.chunks.extend(crate::encode_series(&all.iter().map(value).collect::<Vec<_>>(), false));
    let mut out = crate::SeriesSamples::default();
    crate::decode_series(&entry, TimeRange::ALL, crate::Want::default(), &mut out).unwrap();
    assert_eq!(out.windows.starts, [0, FIVE, 2 * FIVE]);
    assert!(out.windows.has_edges() && out.windows.has_values());
    assert_eq!(out.floats.times.first(), Some(&(3 * FIVE)));
    assert_eq!(out.floats.times.len(), out.floats.values.len());
    let hostile =
        pyrrha_model::contract::ChunkRef { bytes: vec![1, 1, 1, 1].into(), ..entry.chunks[0].clone() };
    entry.chunks.push(hostile);
    crate::decode_series(&entry, TimeRange::ALL, crate::Want::default(), &mut out).unwrap_err();
    assert_eq!(out, crate::SeriesSamples::default());
}
