//! Windows of histograms against the histograms they were made of.

use std::sync::Arc;

use proptest::prelude::*;
use pyrrha_model::histogram::CUSTOM_BUCKETS_SCHEMA;
use pyrrha_model::{ChunkEncoding, Span, TimeRange, stale_nan};

use super::*;
use crate::windows::{WindowPart, Windows, decode_windows, encode_windows, fold_floats, with_histograms};
use crate::{Aggregate, AggregateChunk, HistogramColumn, Want};

const FIVE: i64 = 300_000;
const HOUR: i64 = 3_600_000;

/// A histogram with these counts in buckets 0, 1, ...
fn histogram(schema: i32, counts: &[f64]) -> FloatHistogram {
    FloatHistogram {
        schema,
        count: counts.iter().sum(),
        sum: counts.iter().zip(1..).map(|(n, i)| n * f64::from(i)).sum(),
        positive_spans: vec![Span { offset: 0, length: counts.len() as u32 }],
        positive_buckets: counts.to_vec(),
        ..FloatHistogram::default()
    }
}

fn custom(bounds: &[f64], counts: &[f64]) -> FloatHistogram {
    FloatHistogram { custom_values: Arc::from(bounds), ..histogram(CUSTOM_BUCKETS_SCHEMA, counts) }
}

fn gauge(h: FloatHistogram) -> FloatHistogram {
    FloatHistogram { counter_reset_hint: CounterResetHint::Gauge, ..h }
}

fn stale() -> FloatHistogram {
    FloatHistogram { sum: stale_nan(), ..FloatHistogram::default() }
}

fn column(samples: &[(i64, FloatHistogram)]) -> HistogramColumn {
    let (times, values) = samples.iter().cloned().unzip();
    HistogramColumn { times, values, starts: Vec::new() }
}

fn folded(samples: &[(i64, FloatHistogram)], resolution: i64) -> HistogramWindows {
    let mut out = HistogramWindows::default();
    fold_histograms(&column(samples), &[], resolution, &mut out);
    assert!(out.is_sound(), "{out:?}");
    out
}

/// Without empty buckets, which chunks add.
fn compact(mut windows: HistogramWindows) -> HistogramWindows {
    windows.edges.samples.iter_mut().chain(&mut windows.values.sums).for_each(|h| h.compact(0));
    windows
}

fn decoded(chunks: &[Option<pyrrha_model::contract::ChunkRef>], range: TimeRange) -> HistogramWindows {
    let mut out = HistogramWindows::default();
    for chunk in chunks.iter().flatten() {
        let resolution = decode_windows(&chunk.bytes, range, &mut Windows::default(), &mut out).unwrap();
        assert!(resolution == FIVE || resolution == HOUR);
    }
    out
}

fn parts(windows: &HistogramWindows, resolution: i64) -> [Option<pyrrha_model::contract::ChunkRef>; 2] {
    [WindowPart::Edges, WindowPart::Values].map(|part| encode_histogram_windows(windows, resolution, part))
}

#[test]
fn a_window_by_hand() {
    let h = |n: &[f64]| histogram(1, n);
    let samples = [
        (10, h(&[1.0, 2.0])),
        (20, h(&[2.0, 2.0])),
        (30, h(&[3.0, 2.0])),
        (40, h(&[0.0, 1.0])),
        (50, h(&[0.0, 1.0])),
        (60, h(&[0.0, 4.0])),
        (70, stale()),
        (FIVE, h(&[0.0, 5.0])),
    ];
    let w = folded(&samples, FIVE);
    assert_eq!((&w.starts[..], &w.counts[..]), (&[0, FIVE][..], &[6, 1][..]));
    assert_eq!((&w.edges.times[..], &w.edges.upto[..]), (&[10, 30, 40, 60, FIVE][..], &[4, 5][..]));
    let e = &w.edges;
    assert_eq!((&e.resets[..], &e.changes[..], &e.stale[..]), (&[1, 0][..], &[4, 0][..], &[1, 0][..]));
    assert_eq!(w.values.sums[0].positive_buckets, [6.0, 12.0]);
    assert_eq!((w.values.sums[0].count, is_gauge(&w.values.sums[0])), (18.0, false));
    // Markers among floats count too.
    let mut marked = HistogramWindows::default();
    fold_histograms(&column(&samples), &[5, FIVE + 7], FIVE, &mut marked);
    assert_eq!(marked.edges.stale, [1, 1]);
    assert!(folded(&[(7, stale())], FIVE).is_empty());
}

#[test]
fn changes_of_bounds_are_kept_and_sums_have_what_is_common() {
    let samples = [
        (1, histogram(2, &[1.0, 1.0])),
        (2, histogram(2, &[2.0, 2.0])),
        (3, histogram(1, &[2.0, 2.0])),
        (4, histogram(1, &[3.0, 2.0])),
        (5, histogram(2, &[3.0, 2.0])),
    ];
    let w = folded(&samples, FIVE);
    assert_eq!(w.edges.times, [1, 2, 3, 4, 5]);
    assert_eq!((w.values.sums[0].schema, w.values.layouts[0]), (1, Layouts::Compatible));
    let w = folded(&[(1, custom(&[1.0, 2.0, 3.0], &[1.0; 4])), (2, custom(&[1.0, 3.0], &[9.0; 3]))], FIVE);
    assert_eq!(
        (&*w.values.sums[0].custom_values, w.values.layouts[0]),
        (&[1.0, 3.0][..], Layouts::Intersected)
    );
    assert_eq!(w.values.sums[0].positive_buckets, [10.0, 11.0, 10.0]);
    let w = folded(&[(1, custom(&[1.0], &[1.0; 2])), (2, histogram(0, &[9.0]))], FIVE);
    assert_eq!((w.values.sums[0].count, w.values.layouts[0]), (0.0, Layouts::Mixed));
    assert_eq!(compact(decoded(&parts(&w, FIVE), TimeRange::ALL)), compact(w));
}

#[test]
fn of_gauges_first_and_last_are_kept() {
    let samples: Vec<_> =
        (0..10).map(|i| (i, gauge(histogram(0, &[f64::from((i * 7 % 5) as i32)])))).collect();
    let w = folded(&samples, FIVE);
    assert_eq!((&w.edges.times[..], w.edges.resets[0]), (&[0, 9][..], 3));
    assert!(w.edges.samples.iter().chain(&w.values.sums).all(is_gauge));
}

#[test]
fn floats_and_histograms_share_a_chunk() {
    let histograms = folded(&[(5, histogram(0, &[1.0])), (HOUR, histogram(0, &[2.0]))], FIVE);
    let mut floats = Windows::default();
    fold_floats(&[1, 2, FIVE], &[1.0, 2.0, 3.0], FIVE, &mut floats);
    let (mut back, mut back_histograms) = (Windows::default(), HistogramWindows::default());
    for part in [WindowPart::Edges, WindowPart::Values] {
        let both = with_histograms(
            encode_windows(&floats, FIVE, part),
            encode_histogram_windows(&histograms, FIVE, part),
        );
        let both = both.unwrap();
        assert_eq!((both.min_time, both.max_time), (0, HOUR + FIVE - 1));
        decode_windows(&both.bytes, TimeRange::ALL, &mut back, &mut back_histograms).unwrap();
        let nested = with_histograms(Some(both), encode_histogram_windows(&histograms, FIVE, part)).unwrap();
        decode_windows(
            &nested.bytes,
            TimeRange::ALL,
            &mut Windows::default(),
            &mut HistogramWindows::default(),
        )
        .unwrap_err();
    }
    assert_eq!((back, compact(back_histograms)), (floats, compact(histograms)));
}

/// The slots that the format facts give for two windows of one chunk.
#[test]
fn an_aggregate_chunk_is_laid_out_as_thanos_does() {
    let h = |n: &[f64]| histogram(1, n);
    let samples = [
        (0, h(&[1.0])),
        (60_000, h(&[3.0])),
        (FIVE, h(&[2.0])),
        (FIVE + 60_000, h(&[10.0])),
        (FIVE + 90_000, h(&[11.0])),
    ];
    let chunks = all_aggregate_chunks(&Windows::default(), &folded(&samples, FIVE));
    assert_eq!((chunks.len(), chunks[0].min_time, chunks[0].max_time), (1, 0, FIVE + 90_000));
    let chunk = AggregateChunk::parse(&chunks[0].bytes).unwrap();
    let times = [FIVE - 1, FIVE + 90_000];
    let count = (ChunkEncoding::Xor, &crate::chunk::xor::encode(&times, &[2.0, 3.0])[..]);
    assert_eq!(chunk.get(Aggregate::Count), Some(count));
    assert_eq!((chunk.get(Aggregate::Min), chunk.get(Aggregate::Max)), (None, None));
    let read = |aggregate| {
        let (encoding, data) = chunk.get(aggregate).unwrap();
        assert_eq!(encoding, ChunkEncoding::FloatHistogram);
        let mut column = HistogramColumn::default();
        crate::chunk::histogram::decode_histograms(
            encoding,
            data,
            TimeRange::ALL,
            Want::default(),
            &mut column,
        )
        .unwrap();
        let gauges = column.values.iter().filter(|h| is_gauge(h)).count();
        (column.times, column.values.iter().map(|h| h.count).collect::<Vec<_>>(), gauges)
    };
    assert_eq!(read(Aggregate::Sum), (times.to_vec(), vec![4.0, 23.0], 2));
    assert_eq!(read(Aggregate::Counter), (vec![0, times[0], times[1]], vec![1.0, 3.0, 14.0], 0));
}

#[test]
fn an_hour_that_two_foreign_chunks_share_is_one_window() {
    let samples: Vec<(i64, FloatHistogram)> =
        (0..200i64).map(|i| (i * 60_000, histogram(1, &[(i % 70) as f64, (2 * (i % 70)) as f64]))).collect();
    let whole = folded(&samples, HOUR);
    let sums = |w: &HistogramWindows| w.values.sums.iter().map(|h| (h.count, h.sum)).collect::<Vec<_>>();
    for cut in [1, 35, 60, 90, 199] {
        let (a, b) = samples.split_at(cut);
        let mut back = HistogramWindows::default();
        for part in [a, b] {
            for chunk in all_aggregate_chunks(&Windows::default(), &folded(part, HOUR)) {
                from_histogram_aggregates(&chunk.bytes, HOUR, &mut back).unwrap();
            }
        }
        assert_eq!((&back.starts, &back.ends, &back.counts), (&whole.starts, &whole.ends, &whole.counts));
        assert_eq!(sums(&back), sums(&whole), "cut={cut}");
        assert_eq!(back.edges.times.last(), whole.edges.times.last());
    }
}

#[test]
fn another_chunk_begins_where_bounds_change_or_floats_do() {
    let exponential = (0..200i64).map(|i| (i * FIVE, histogram(0, &[i as f64])));
    let others = (200..210i64).map(|i| (i * FIVE, custom(&[1.0, 2.0], &[i as f64; 3])));
    let w = folded(&exponential.chain(others).collect::<Vec<_>>(), FIVE);
    let mut floats = Windows::default();
    fold_floats(&[50 * FIVE + 1, 300 * FIVE], &[1.0, 2.0], FIVE, &mut floats);
    let chunks = all_aggregate_chunks(&floats, &w);
    // 50 windows have one sample of either kind: floats stand first.
    let lengths: Vec<usize> = chunks
        .iter()
        .map(|c| {
            let count = AggregateChunk::split(c, Aggregate::Count).unwrap().unwrap();
            crate::chunk::sample_count(count.encoding, &count.bytes).unwrap()
        })
        .collect();
    assert_eq!(lengths, [50, 1, 80, 69, 10, 1]);
    assert!(chunks.windows(2).all(|pair| pair[0].max_time < pair[1].min_time));
    let mut back = HistogramWindows::default();
    for chunk in [0, 2, 3, 4].map(|i| &chunks[i]) {
        from_histogram_aggregates(&chunk.bytes, FIVE, &mut back).unwrap();
    }
    let wanted: Vec<f64> =
        w.values.sums.iter().map(|h| h.count).enumerate().filter(|(i, _)| *i != 50).map(|(_, n)| n).collect();
    assert_eq!(back.values.sums.iter().map(|h| h.count).collect::<Vec<_>>(), wanted);
    let last = back.edges.samples.last().unwrap();
    assert_eq!((last.count, back.len()), (209.0 * 3.0, 209));
    from_histogram_aggregates(&chunks[1].bytes, FIVE, &mut back).unwrap_err();
}

/// What a sample is next: (ms since the last, what happens, which bucket, how much).
type Step = (i64, u8, usize, i32);

fn history(steps: Vec<Step>, (kind, scale): (u8, f64)) -> Vec<(i64, FloatHistogram)> {
    let (mut t, mut counts, mut layout) = (-HOUR, [0.0; 6], 0);
    let sample = |step: Step| {
        t += step.0;
        match step.1 {
            0 => counts = counts.map(|n: f64| (n / 3.0).floor()),
            1 => layout = (layout + step.2) % 3,
            2 => return (t, stale()),
            _ => counts[step.2] += f64::from(step.3),
        }
        let scaled = counts.map(|n| n * scale);
        let exponential = histogram([2, 1, 2][layout], &scaled);
        let bounds: &[f64] =
            [&[1.0, 2.0, 3.0, 4.0, 5.0][..], &[1.0, 3.0, 5.0], &[1.0, 2.0, 3.0, 4.0]][layout];
        (
            t,
            match kind {
                0 => exponential,
                1 => gauge(exponential),
                2 => custom(bounds, &scaled[..bounds.len() + 1]),
                _ if layout == 2 => custom(bounds, &scaled[..bounds.len() + 1]),
                _ => exponential,
            },
        )
    };
    steps.into_iter().map(sample).collect()
}

fn samples() -> impl Strategy<Value = Vec<(i64, FloatHistogram)>> {
    let step = (1..200_000i64, 0..16u8, 0..6usize, 0..9i32);
    let kind = (0..4u8, prop_oneof![Just(1.0), Just(0.3)]);
    (prop::collection::vec(step, 0..60), kind).prop_map(|(steps, kind)| history(steps, kind))
}

fn close(a: &FloatHistogram, b: &FloatHistogram) -> bool {
    let same = |a: f64, b: f64| (a - b).abs() <= 1e-9 * a.abs().max(1.0);
    let (left, right) = (&a.positive_buckets, &b.positive_buckets);
    a.positive_spans == b.positive_spans
        && same(a.sum, b.sum)
        && same(a.count, b.count)
        && left.iter().zip(right).all(|(a, b)| same(*a, *b))
}

proptest! {
    #[test]
    fn windows_survive_storage(samples in samples()) {
        let w = folded(&samples, FIVE);
        let back = decoded(&parts(&w, FIVE), TimeRange::ALL);
        prop_assert!(back.is_sound());
        prop_assert_eq!(compact(back), compact(w));
    }

    #[test]
    fn an_hour_is_what_twelve_times_five_minutes_are(samples in samples()) {
        let direct = compact(folded(&samples, HOUR));
        let fine = decoded(&parts(&folded(&samples, FIVE), FIVE), TimeRange::ALL);
        let mut coarse = HistogramWindows::default();
        coarsen_histograms(&fine, HOUR, &mut coarse);
        prop_assert!(coarse.is_sound());
        let mut coarse = compact(coarse);
        // A marker that comes windows later is seen by the longer window only.
        let stale = coarse.edges.stale.iter().zip(&direct.edges.stale);
        prop_assert!(stale.clone().all(|(coarse, direct)| coarse <= direct));
        coarse.edges.stale.clone_from(&direct.edges.stale);
        prop_assert_eq!((&direct.starts, &direct.counts), (&coarse.starts, &coarse.counts));
        prop_assert_eq!(&direct.edges, &coarse.edges);
        prop_assert_eq!(&direct.values.layouts, &coarse.values.layouts);
        prop_assert!(direct.values.sums.iter().zip(&coarse.values.sums).all(|(a, b)| close(a, b)));
    }

    #[test]
    fn a_part_of_a_chunk_is_read(samples in samples(), from in -HOUR..HOUR, length in 0..HOUR) {
        let w = folded(&samples, FIVE);
        let range = TimeRange::new(from, from + length);
        let part = decoded(&parts(&w, FIVE), range);
        prop_assert!(part.is_sound());
        let first = w.ends.partition_point(|end| *end < from);
        let last = w.starts.partition_point(|start| *start <= range.end).max(first);
        let mut wanted = HistogramWindows::default();
        wanted.extend(&w, first..last);
        prop_assert_eq!(compact(part), compact(wanted));
    }

    #[test]
    fn hostile_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200), flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), samples in samples()) {
        let decode = |bytes: &[u8]| {
            let mut out = HistogramWindows::default();
            let done = decode_windows(bytes, TimeRange::ALL, &mut Windows::default(), &mut out);
            assert!(done.is_err() || out.is_sound());
        };
        let flipped = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            for (at, value) in &flips {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            bytes
        };
        for number in 3..6 {
            decode(&[&[1, number][..], &bytes].concat());
        }
        let w = folded(&samples, FIVE);
        parts(&w, FIVE).iter().flatten().for_each(|chunk| decode(&flipped(&chunk.bytes)));
        let _ = from_histogram_aggregates(&bytes, FIVE, &mut HistogramWindows::default());
        for chunk in all_aggregate_chunks(&Windows::default(), &w) {
            let mut out = HistogramWindows::default();
            let done = from_histogram_aggregates(&flipped(&chunk.bytes), FIVE, &mut out);
            assert!(done.is_err() || out.is_sound());
        }
    }
}
