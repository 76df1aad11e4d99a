//! How many samples a second does a core make windows of, from chunks and to chunks? And how many bytes
//! does a window take?

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pyrrha_encoding::windows::{WindowPart, Windows, aggregate_chunks, coarsen, encode_windows, fold_floats};
use pyrrha_encoding::{SeriesSamples, Want, decode_series, encode_series};
use pyrrha_model::TimeRange;
use pyrrha_model::contract::{SeriesEntry, Value};

const FIVE_MINUTES: i64 = 300_000;
const HOUR: i64 = 3_600_000;
const SAMPLES: i64 = 2 * 24 * 240;

/// Two days at 15 s: counters, gauges of two decimals, noise.
fn series(kind: i64) -> SeriesEntry {
    let mut total = 0.0;
    let value = |i: i64| {
        let noise = (i.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(kind) >> 33) as f64;
        match kind % 3 {
            0 => {
                total += (noise.abs() % 300.0).floor();
                total
            }
            1 => (noise.abs() % 10_000.0).floor() / 100.0,
            _ => noise / 1e7,
        }
    };
    let samples: Vec<_> = (0..SAMPLES)
        .map(|i| 1_790_000_000_000 / HOUR * HOUR + i * 15_000)
        .zip((0..SAMPLES).map(value))
        .map(|(t, v)| (0, t, Value::Float(v)))
        .collect();
    SeriesEntry { chunks: encode_series(&samples, false).into(), ..SeriesEntry::default() }
}

/// Bytes per window of each kind of series, beside those of the samples.
fn print_bytes(all: &[SeriesEntry]) {
    let (mut samples, mut windows) = (SeriesSamples::default(), Windows::default());
    for (kind, entry) in ["counter", "gauge of two decimals", "noise"].into_iter().zip(all) {
        let raw: usize = entry.chunks.iter().map(|c| c.bytes.len()).sum();
        decode_series(entry, TimeRange::ALL, Want::default(), &mut samples).expect("chunks");
        for resolution in [FIVE_MINUTES, HOUR] {
            windows.clear();
            fold_floats(&samples.floats.times, &samples.floats.values, resolution, &mut windows);
            let aggregates: usize = aggregate_chunks(&windows).iter().map(|c| c.bytes.len()).sum();
            let part = |part| encode_windows(&windows, resolution, part).map_or(0, |c| c.bytes.len());
            let per = |bytes: usize| bytes as f64 / windows.len() as f64;
            println!(
                "{kind}, {} s: samples {:.1}, aggregates {:.1}, edges {:.1}, values {:.1} bytes per window",
                resolution / 1000,
                per(raw),
                per(aggregates),
                per(part(WindowPart::Edges)),
                per(part(WindowPart::Values)),
            );
        }
    }
}

fn downsample(c: &mut Criterion) {
    let all: Vec<SeriesEntry> = (0..12).map(series).collect();
    print_bytes(&all);
    let mut group = c.benchmark_group("downsample");
    group.throughput(Throughput::Elements((SAMPLES * 12) as u64));
    let (mut samples, mut windows) = (SeriesSamples::default(), Windows::default());
    for resolution in [FIVE_MINUTES, HOUR] {
        group.bench_function(format!("chunks to windows and chunks, {} s", resolution / 1000), |b| {
            b.iter(|| {
                for entry in &all {
                    decode_series(entry, TimeRange::ALL, Want::default(), &mut samples).expect("chunks");
                    windows.clear();
                    fold_floats(&samples.floats.times, &samples.floats.values, resolution, &mut windows);
                    black_box(aggregate_chunks(&windows));
                    black_box(encode_windows(&windows, resolution, WindowPart::Edges));
                    black_box(encode_windows(&windows, resolution, WindowPart::Values));
                }
            });
        });
    }
    let mut fine = Windows::default();
    decode_series(&all[0], TimeRange::ALL, Want::default(), &mut samples).expect("chunks");
    fold_floats(&samples.floats.times, &samples.floats.values, FIVE_MINUTES, &mut fine);
    group.throughput(Throughput::Elements(fine.len() as u64));
    group.bench_function("windows of 5 minutes to 1 hour", |b| {
        b.iter(|| {
            windows.clear();
            coarsen(black_box(&fine), HOUR, &mut windows);
        });
    });
    group.finish();
}

criterion_group!(benches, downsample);
criterion_main!(benches);
