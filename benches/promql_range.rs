//! How long do range queries over many series take: `sum by (rate)`, plain sums, a selector, a
//! join; one hour at 60 s over 10,000 series of 15 s scrapes, held in memory as XOR chunks.

use std::collections::BTreeMap;
use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pyrrha_encoding::chunk::xor;
use pyrrha_model::contract::{
    ChunkRef, Exemplars, LabelQuery, QueryContext, Queryable, SelectHints, SeriesBatch, SeriesEntry,
    SeriesSet, Timestamps,
};
use pyrrha_model::{ChunkEncoding, Labels, Matcher, Metadata, StoreError, TimeRange};
use pyrrha_promql::{Engine, EngineOptions, Features, parse};

const SERIES: usize = 10_000;
const HOURS: i64 = 2;

/// Series in label order with their chunks.
struct Memory(Vec<(Labels, Vec<ChunkRef>)>);

impl Memory {
    fn new() -> Self {
        let mut series: Vec<_> = (0..SERIES).map(one).collect();
        series.sort_by(|a, b| a.0.cmp(&b.0));
        Self(series)
    }
}

fn one(i: usize) -> (Labels, Vec<ChunkRef>) {
    let labels = Labels::from_pairs([
        ("__name__", "http_requests_total".to_owned()),
        ("code", ["200", "404", "500"][i % 3].to_owned()),
        ("instance", format!("host-{:04}:9100", i / 20)),
        ("job", format!("job-{}", i % 10)),
        ("path", format!("/api/v1/{}", i % 20)),
    ]);
    let step = 15_000;
    let mut chunks = Vec::new();
    let mut value = (i * 37 % 1000) as f64;
    for chunk in 0..HOURS * 2 {
        let times: Vec<i64> = (0..120).map(|k| (chunk * 120 + k) * step + (i as i64 * 7 + k) % 3).collect();
        let values: Vec<f64> = (0..120)
            .map(|k| {
                value += ((k as usize * 31 + i) % 17) as f64;
                value
            })
            .collect();
        chunks.push(ChunkRef {
            min_time: times[0],
            max_time: times[119],
            encoding: ChunkEncoding::Xor,
            timestamps: Timestamps::Own,
            bytes: Bytes::from(xor::encode(&times, &values)),
        });
    }
    (labels, chunks)
}

struct Cursor {
    ctx: QueryContext,
    rest: std::vec::IntoIter<(Labels, Vec<ChunkRef>)>,
}

impl SeriesSet for Cursor {
    fn next_batch(&mut self, max: usize, batch: &mut SeriesBatch) -> Result<bool, StoreError> {
        batch.clear();
        for (labels, chunks) in self.rest.by_ref().take(max) {
            batch.push(&self.ctx.symbols, &labels, chunks);
        }
        Ok(!batch.series.is_empty())
    }
}

/// A set whose labels were interned once, as a head gives them.
struct Interned {
    batches: std::vec::IntoIter<SeriesBatch>,
}

impl SeriesSet for Interned {
    fn next_batch(&mut self, _: usize, batch: &mut SeriesBatch) -> Result<bool, StoreError> {
        batch.clear();
        Ok(self.batches.next().map(|next| *batch = next).is_some())
    }
}

/// The store of a benchmark: labels are interned when it opens, so that only the engine is measured.
struct Opened {
    labels: Vec<(pyrrha_model::SymbolId, pyrrha_model::SymbolId)>,
    series: Vec<SeriesEntry>,
}

impl Opened {
    fn new(ctx: &QueryContext, memory: &Memory) -> Self {
        let mut cursor = Cursor { ctx: ctx.clone(), rest: memory.0.clone().into_iter() };
        let mut batch = SeriesBatch::default();
        cursor.next_batch(usize::MAX, &mut batch).expect("memory does not fail");
        Self { labels: batch.labels, series: batch.series }
    }
}

impl Queryable for Opened {
    fn select(
        &self,
        _: &QueryContext,
        _: &[Matcher],
        range: TimeRange,
        _: &SelectHints,
    ) -> Result<Box<dyn SeriesSet>, StoreError> {
        let batches: Vec<SeriesBatch> = self
            .series
            .chunks(256)
            .map(|entries| SeriesBatch {
                labels: self.labels[entries[0].labels.start as usize..]
                    .iter()
                    .take(entries.len() * 5)
                    .copied()
                    .collect(),
                series: entries
                    .iter()
                    .map(|e| SeriesEntry {
                        labels: e.labels.start - entries[0].labels.start
                            ..e.labels.end - entries[0].labels.start,
                        chunks: e
                            .chunks
                            .iter()
                            .filter(|c| range.overlaps(&TimeRange::new(c.min_time, c.max_time)))
                            .cloned()
                            .collect(),
                        deleted: Default::default(),
                    })
                    .collect(),
            })
            .collect();
        Ok(Box::new(Interned { batches: batches.into_iter() }))
    }

    fn label_names(&self, _: &QueryContext, _: &LabelQuery) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    fn label_values(&self, _: &QueryContext, _: &str, _: &LabelQuery) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    fn series(&self, _: &QueryContext, _: &LabelQuery) -> Result<Vec<Labels>, StoreError> {
        Ok(Vec::new())
    }

    fn exemplars(&self, _: &QueryContext, _: &LabelQuery) -> Result<Vec<Exemplars>, StoreError> {
        Ok(Vec::new())
    }

    fn metadata(
        &self,
        _: &QueryContext,
        _: Option<&str>,
    ) -> Result<BTreeMap<String, Vec<Metadata>>, StoreError> {
        Ok(BTreeMap::new())
    }
}

fn queries(c: &mut Criterion) {
    let memory = Memory::new();
    let ctx = QueryContext::unlimited();
    let store = Opened::new(&ctx, &memory);
    let mut group = c.benchmark_group("promql_range");
    group.sample_size(10);
    for (name, query) in [
        ("sum_by_rate", "sum by (job) (rate(http_requests_total[5m]))"),
        ("sum", "sum(http_requests_total)"),
        ("max_by_max_over_time", "max by (path) (max_over_time(http_requests_total[10m]))"),
        ("topk", "topk(5, rate(http_requests_total[5m]))"),
        ("selector", "http_requests_total"),
        (
            "ratio",
            "sum by (instance) (rate(http_requests_total[5m])) / sum by (instance) (http_requests_total)",
        ),
        ("self_join", "http_requests_total - http_requests_total offset 5m"),
    ] {
        let expr = parse(query, &Features::default()).expect("the query parses");
        for threads in [1, 2] {
            let engine = Engine::new(EngineOptions { threads, ..EngineOptions::default() });
            group.throughput(Throughput::Elements(SERIES as u64));
            group.bench_function(format!("{name}/{threads}"), |b| {
                b.iter(|| {
                    let result = engine.range(&ctx, &store, &expr, 3_600_000, 7_200_000, 60_000);
                    black_box(result.expect("the query runs"))
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, queries);
criterion_main!(benches);
