//! Windows of native histograms in a bucket.

use pyrrha_encoding::HistogramColumn;
use pyrrha_encoding::windows::{HistogramWindows, fold_histograms};
use pyrrha_model::histogram::CUSTOM_BUCKETS_SCHEMA;
use pyrrha_model::{CounterResetHint, FloatHistogram, Histogram, Span};
use pyrrha_storage::block::BlockWriter;

use super::*;

/// A counter of six buckets that fell every 200 samples; its schema changes after 300.
fn counter(i: i64) -> Histogram {
    let n = i % 200;
    let counts = [n, n * 3, n / 2, 0, n * 7, n / 9];
    let mut before = 0;
    let deltas = counts.iter().map(|c| c - std::mem::replace(&mut before, *c)).collect();
    Histogram {
        schema: if i > 300 { 1 } else { 2 },
        count: counts.iter().sum::<i64>().unsigned_abs(),
        sum: n as f64 * 1.25,
        positive_spans: vec![Span { offset: -2, length: 6 }],
        positive_buckets: deltas,
        ..Histogram::default()
    }
}

fn custom(i: i64) -> FloatHistogram {
    let n = i as f64 / 4.0;
    FloatHistogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        count: 3.0 * n,
        sum: n,
        positive_spans: vec![Span { offset: 0, length: 2 }],
        positive_buckets: vec![n, 2.0 * n],
        custom_values: if i > 250 { [0.5, 1.0].into() } else { [0.25, 1.0].into() },
        ..FloatHistogram::default()
    }
}

fn gauge(i: i64) -> FloatHistogram {
    FloatHistogram { counter_reset_hint: CounterResetHint::Gauge, ..counter(i * 7919 % 200).to_float() }
}

/// Samples each 15 seconds of series `n`: a counter, custom buckets, gauges, and floats that became histograms.
fn values(n: i64, from: i64, to: i64) -> Vec<(i64, i64, Value)> {
    let value = |i: i64| match n {
        1 => Value::Histogram(Box::new(counter(i))),
        2 => Value::FloatHistogram(Box::new(custom(i))),
        3 => Value::FloatHistogram(Box::new(gauge(i))),
        _ if i < 250 => Value::Float(i as f64),
        _ => Value::Histogram(Box::new(counter(i))),
    };
    (from..to).step_by(15_000).map(|t| (0, t, value(t / 15_000))).collect()
}

fn block_of(world: &World, block: u64, from: i64, to: i64, series: std::ops::Range<i64>) -> Block {
    let series: Vec<_> = series.map(|n| (labels(n), encode_series(&values(n, from, to), false))).collect();
    write(&world.disk, BlockMeta::of_head(id(block), from, to), &series)
}

/// The windows that samples of a series make, of floats and of histograms.
fn folded(samples: &[(i64, i64, Value)], resolution: i64) -> (Windows, HistogramWindows) {
    let (mut floats, mut histograms) = (pyrrha_encoding::FloatColumn::default(), HistogramColumn::default());
    for (_, t, value) in samples {
        let h = match value {
            Value::Float(v) => {
                floats.times.push(*t);
                floats.values.push(*v);
                continue;
            }
            Value::Histogram(h) => h.to_float(),
            Value::FloatHistogram(h) => (**h).clone(),
        };
        histograms.times.push(*t);
        histograms.values.push(h);
    }
    let mut out = (Windows::default(), HistogramWindows::default());
    pyrrha_encoding::windows::fold_floats(&floats.times, &floats.values, resolution, &mut out.0);
    fold_histograms(&histograms, &[], resolution, &mut out.1);
    out
}

fn assert_alike(found: &HistogramWindows, wanted: &HistogramWindows) {
    assert_eq!((&found.starts, &found.counts), (&wanted.starts, &wanted.counts));
    let (a, b) = (&found.edges, &wanted.edges);
    assert_eq!((&a.times, &a.upto), (&b.times, &b.upto));
    assert_eq!((&a.resets, &a.changes, &a.stale), (&b.resets, &b.changes, &b.stale));
    assert!(a.samples.iter().zip(&b.samples).all(|(a, b)| a.same_distribution(b)));
    assert_eq!(found.values.layouts, wanted.values.layouts);
    for (a, b) in found.values.sums.iter().zip(&wanted.values.sums) {
        assert!((a.sum - b.sum).abs() <= 1e-12 * b.sum.abs() && a.schema == b.schema);
        assert_eq!((a.count, a.counter_reset_hint), (b.count, b.counter_reset_hint));
    }
}

#[test]
fn histograms_become_windows_and_blocks_shrink() {
    let world = World::new();
    let raw = block_of(&world, 1, 0, RANGE, 1..5);
    world.ship(&[raw]).expect("no fault");
    assert_eq!(run_all(&world), 2);
    let bytes = |resolution| live(&world, resolution).iter().map(|b| b.bytes).sum::<u64>();
    assert!(bytes(FIVE_MINUTES) < bytes(0), "{} {}", bytes(FIVE_MINUTES), bytes(0));
    assert!(2 * bytes(HOUR) < bytes(0), "{} {}", bytes(HOUR), bytes(0));
    for resolution in [FIVE_MINUTES, HOUR] {
        let (found, _) = read(&world, TimeRange::new(0, RANGE), &hints(resolution, resolution));
        for n in 1..5 {
            let series = &found[&labels(n)];
            assert!(series.histograms.times.is_empty() && series.floats.times.is_empty());
            let (floats, histograms) = folded(&values(n, 0, RANGE), resolution);
            assert_eq!(series.windows.edges, floats.edges);
            assert_alike(&series.histogram_windows, &histograms);
        }
    }
    // Parts are read by themselves.
    let sums = WindowHints { edges: false, values: true, counter: false, max_resolution_ms: i64::MAX };
    let asked = SelectHints { windows: Some(sums), ..hints(HOUR, HOUR) };
    let (found, _) = read(&world, TimeRange::new(0, RANGE), &asked);
    let w = &found[&labels(1)].histogram_windows;
    assert!(w.has_values() && !w.has_edges());
    // Samples are still there for those who ask for them.
    let (found, _) = read(&world, TimeRange::new(0, RANGE), &SelectHints::default());
    assert_eq!(found[&labels(1)].histograms.times.len(), 480);
}

#[test]
fn custom_buckets_stay_at_full_resolution_where_that_is_wanted() {
    let world = World::new();
    world.ship(&[block_of(&world, 1, 0, RANGE, 1..5)]).expect("no fault");
    assert_eq!(run_with(&world, |config| config.keeps_custom_buckets = true), 2);
    for resolution in [FIVE_MINUTES, HOUR] {
        let (found, _) = read(&world, TimeRange::new(0, RANGE), &hints(resolution, resolution));
        for n in 1..5 {
            let series = &found[&labels(n)];
            let kept = if n == 2 { 480 } else { 0 };
            assert_eq!((series.histograms.times.len(), series.histogram_windows.is_empty()), (kept, n == 2));
        }
    }
}

#[test]
fn a_quiet_histogram_does_not_take_more_than_the_budget() {
    let quiet = Histogram {
        count: 400,
        positive_spans: vec![Span { offset: 0, length: 400 }],
        positive_buckets: std::iter::once(1).chain(std::iter::repeat_n(0, 399)).collect(),
        ..Histogram::default()
    };
    let samples = (0..DAY).step_by(15_000).map(|t| (0, t, Value::Histogram(Box::new(quiet.clone()))));
    let series = [(labels(0), encode_series(&samples.collect::<Vec<_>>(), false))];
    let made_with = |memory_bytes| {
        let world = World::new();
        let block = write(&world.disk, BlockMeta::of_head(id(1), 0, DAY), &series);
        assert!(block.bytes() < 1 << 20, "{}", block.bytes());
        world.ship(&[block]).expect("no fault");
        run_with(&world, |config| config.memory_bytes = memory_bytes);
        live(&world, FIVE_MINUTES).len()
    };
    // 5760 samples of 400 buckets take 20 MiB: they are decoded in slices where that is too much.
    assert_eq!((made_with(16 << 20), made_with(64 << 20)), (1, 1));
}

#[test]
fn a_series_of_floats_in_one_block_may_have_histograms_in_the_next() {
    let world = World::new();
    let day = |n: u64, from: i64, samples: &[(i64, i64, Value)]| {
        let series = [(labels(0), encode_series(samples, false))];
        write(&world.disk, BlockMeta::of_head(id(n), from, from + DAY), &series)
    };
    let first = day(1, 0, &samples(0, 0, DAY));
    let second = day(2, DAY, &values(1, DAY, 2 * DAY));
    world.ship(&[first, second]).expect("no fault");
    run_all(&world);
    for resolution in [FIVE_MINUTES, HOUR] {
        let (found, _) = read(&world, TimeRange::new(0, 2 * DAY), &hints(resolution, resolution));
        let series = &found[&labels(0)];
        assert_eq!(series.windows.edges, expected(0, 0, DAY, resolution).edges);
        let (_, histograms) = folded(&values(1, DAY, 2 * DAY), resolution);
        assert_alike(&series.histogram_windows, &histograms);
    }
}

/// Blocks of the version before: windows of floats, and histograms as they were.
#[test]
fn blocks_that_kept_histograms_as_they_were_still_answer() {
    let world = World::new();
    let meta = BlockMeta::of_head(id(1), 0, RANGE);
    let stored = values(1, 0, RANGE);
    let mut windows = Windows::default();
    let times: Vec<i64> = (0..RANGE).step_by(60_000).collect();
    pyrrha_encoding::windows::fold_floats(&times, &vec![1.0; times.len()], FIVE_MINUTES, &mut windows);
    let part = |part| pyrrha_encoding::windows::encode_windows(&windows, FIVE_MINUTES, part).expect("a part");
    let (edges, others) = (
        part(pyrrha_encoding::windows::WindowPart::Edges),
        part(pyrrha_encoding::windows::WindowPart::Values),
    );
    let dir = std::path::Path::new("/old").join(id(9).to_string());
    let mut writer = BlockWriter::create(Arc::new(world.disk.clone()), &dir).expect("no fault");
    let chunks = pyrrha_encoding::windows::aggregate_chunks(&windows);
    writer.add_windows(&labels(0), &chunks, &edges, &others).expect("no fault");
    writer.add_series(&labels(1), &encode_series(&stored, false)).expect("no fault");
    let mut old = BlockMeta::of_compaction(id(9), &[meta]);
    old.thanos = Some(pyrrha_storage::block::ThanosMeta {
        version: 1,
        downsample: pyrrha_storage::block::ThanosDownsample {
            resolution: FIVE_MINUTES,
            ..pyrrha_storage::block::ThanosDownsample::default()
        },
        ..pyrrha_storage::block::ThanosMeta::default()
    });
    (old.min_time, old.max_time) = (0, RANGE);
    writer.finish(old).expect("no fault");
    world.ship(&[Block::open(&world.disk, &dir).expect("sound")]).expect("no fault");
    let (found, _) = read(&world, TimeRange::new(0, RANGE - 1), &hints(FIVE_MINUTES, 2 * FIVE_MINUTES));
    assert_eq!(found[&labels(0)].windows.len(), 24);
    let histograms = &found[&labels(1)];
    assert_eq!((histograms.histograms.times.len(), histograms.histogram_windows.len()), (480, 0));
}
