//! What does a sample cost to encode and to decode, per chunk encoding and as a log column?

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pyrrha_encoding::chunk::{XorAppender, decode_floats, xor, xor2};
use pyrrha_encoding::column::{decode_values, encode_values};
use pyrrha_encoding::{FloatColumn, SeriesSamples, Want, decode_series, dense, encode_series};
use pyrrha_model::contract::{SeriesEntry, Value};
use pyrrha_model::{ChunkEncoding, Histogram, Span, TimeRange};

const SERIES: usize = 64;
const SAMPLES: usize = 120;

/// SplitMix64, so that runs compare.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// Constants, counters, gauges of two decimals, noise; one scrape in eight is late by some ms.
fn series() -> Vec<(Vec<i64>, Vec<f64>)> {
    let mut random = Random(1);
    let one = |kind: usize| {
        let (mut value, mut times, mut values) = (random.below(10_000) as f64, Vec::new(), Vec::new());
        for i in 0..SAMPLES as i64 {
            let late = if random.below(8) == 0 { random.below(9) as i64 } else { 0 };
            times.push(1_790_000_000_000 + i * 15_000 + late);
            match kind % 4 {
                0 => {}
                1 => value += random.below(300) as f64,
                2 => value = random.below(10_000) as f64 / 100.0,
                _ => value = random.next() as f64 / 1e19,
            }
            values.push(value);
        }
        (times, values)
    };
    (0..SERIES).map(one).collect()
}

fn floats(c: &mut Criterion) {
    let series = series();
    let mut group = c.benchmark_group("floats");
    group.throughput(Throughput::Elements((SERIES * SAMPLES) as u64));
    group.bench_function("xor/encode", |b| {
        b.iter(|| {
            for (times, values) in &series {
                black_box(xor::encode(times, values));
            }
        })
    });
    group.bench_function("xor/append", |b| {
        let mut buffers = vec![vec![0u8; 2048]; SERIES];
        b.iter(|| {
            let mut states = [XorAppender::new(); SERIES];
            for i in 0..SAMPLES {
                for ((times, values), (state, buffer)) in
                    series.iter().zip(states.iter_mut().zip(&mut buffers))
                {
                    state.append(buffer, times[i], values[i]);
                }
            }
        })
    });
    let zeros = [0; SAMPLES];
    group.bench_function("xor2/encode", |b| {
        b.iter(|| {
            for (times, values) in &series {
                black_box(xor2::encode(&zeros, times, values));
            }
        })
    });
    let xor_chunks: Vec<_> = series.iter().map(|(t, v)| xor::encode(t, v)).collect();
    let xor2_chunks: Vec<_> = series.iter().map(|(t, v)| xor2::encode(&zeros, t, v)).collect();
    for (name, encoding, chunks) in
        [("xor/decode", ChunkEncoding::Xor, xor_chunks), ("xor2/decode", ChunkEncoding::Xor2, xor2_chunks)]
    {
        group.bench_function(name, |b| {
            let mut column = FloatColumn::default();
            b.iter(|| {
                for chunk in &chunks {
                    column.times.clear();
                    column.values.clear();
                    decode_floats(encoding, chunk, TimeRange::ALL, &mut column, false).expect("a chunk");
                }
            })
        });
    }
    group.finish();
}

fn dense_chunks(c: &mut Criterion) {
    let series = series();
    let mut group = c.benchmark_group("dense");
    group.throughput(Throughput::Elements((SERIES * SAMPLES) as u64));
    group.bench_function("encode", |b| {
        b.iter(|| {
            for (_, values) in &series {
                black_box(dense::encode_shared(values, 0));
            }
        })
    });
    let chunks: Vec<_> =
        series.iter().map(|(times, values)| (times, dense::encode_shared(values, 0))).collect();
    group.bench_function("decode", |b| {
        let mut column = FloatColumn::default();
        b.iter(|| {
            for (times, chunk) in &chunks {
                column.times.clear();
                column.values.clear();
                dense::decode(chunk, Some(times), TimeRange::ALL, &mut column).expect("a chunk");
            }
        })
    });
    group.finish();
}

fn merge(c: &mut Criterion) {
    let series = series();
    let samples = |from: usize| -> Vec<_> {
        let (times, values) = &series[from];
        times.iter().zip(values).map(|(t, v)| (0, *t, Value::Float(*v))).collect()
    };
    let entry = |sources: &[usize]| SeriesEntry {
        chunks: sources.iter().flat_map(|&s| encode_series(&samples(s), false)).collect(),
        ..SeriesEntry::default()
    };
    let mut group = c.benchmark_group("series");
    for (name, entry) in [("in_order", entry(&[1])), ("overlapping", entry(&[1, 2]))] {
        group.throughput(Throughput::Elements((entry.chunks.len() * SAMPLES) as u64));
        group.bench_function(name, |b| {
            let mut out = SeriesSamples::default();
            b.iter(|| decode_series(&entry, TimeRange::ALL, Want::default(), &mut out).expect("chunks"))
        });
    }
    group.finish();
}

fn histograms(c: &mut Criterion) {
    let mut random = Random(2);
    let mut counts = [0i64; 16];
    let samples: Vec<_> = (0..SAMPLES as i64)
        .map(|i| {
            counts.iter_mut().for_each(|n| *n += random.below(5) as i64);
            let deltas = counts.iter().scan(0, |before, n| Some(n - std::mem::replace(before, *n)));
            let h = Histogram {
                count: counts.iter().sum::<i64>() as u64,
                sum: i as f64 * 1.5,
                positive_spans: vec![Span { offset: 0, length: 16 }],
                positive_buckets: deltas.collect(),
                ..Histogram::default()
            };
            (0, i * 15_000, Value::Histogram(Box::new(h)))
        })
        .collect();
    let entry = SeriesEntry { chunks: encode_series(&samples, false).into(), ..SeriesEntry::default() };
    let mut group = c.benchmark_group("histograms_16_buckets");
    group.throughput(Throughput::Elements(SAMPLES as u64));
    group.bench_function("encode", |b| b.iter(|| black_box(encode_series(&samples, false))));
    for (name, histogram_stats_only) in [("decode", false), ("decode_stats", true)] {
        group.bench_function(name, |b| {
            let want = Want { histogram_stats_only, ..Want::default() };
            let mut out = SeriesSamples::default();
            b.iter(|| decode_series(&entry, TimeRange::ALL, want, &mut out).expect("chunks"))
        });
    }
    group.finish();
}

fn columns(c: &mut Criterion) {
    let series = series();
    let values: Vec<f64> = (0..SAMPLES).flat_map(|i| series.iter().map(move |(_, v)| v[i])).collect();
    let mut group = c.benchmark_group("log_values");
    group.throughput(Throughput::Elements(values.len() as u64));
    let mut bytes = Vec::new();
    group.bench_function("encode", |b| {
        b.iter(|| {
            bytes.clear();
            encode_values(&values, &mut bytes);
        })
    });
    let mut out = Vec::new();
    group.bench_function("decode", |b| {
        b.iter(|| {
            out.clear();
            decode_values(&mut &bytes[..], values.len(), &mut out).expect("a column");
        })
    });
    group.finish();
}

criterion_group!(benches, floats, dense_chunks, merge, histograms, columns);
criterion_main!(benches);
