//! What does a sample cost from a compressed remote write body to the appender?

use std::collections::HashMap;
use std::sync::Mutex;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use prost::Message;
use pyrrha_ingest::IngestLimits;
use pyrrha_ingest::proto;
use pyrrha_ingest::remote_write::{Protocol, RemoteWriter};
use pyrrha_model::contract::{AppendStats, Appender, Ingest, Refused, SeriesKey, Value};
use pyrrha_model::{Exemplar, Labels, Metadata, SeriesRef, StoreError, TenantId, Timestamp};

const SERIES: usize = 2_000;

/// A store that only knows keys: what is measured is decoding, hashing and dispatch.
#[derive(Default)]
struct Null {
    keys: Mutex<HashMap<u128, u64>>,
}

struct NullBatch<'a>(&'a Null, f64);

impl Ingest for Null {
    fn appender(&self, _: &TenantId) -> Result<Box<dyn Appender + '_>, StoreError> {
        Ok(Box::new(NullBatch(self, 0.0)))
    }
}

impl Appender for NullBatch<'_> {
    fn lookup(&mut self, keys: &[SeriesKey], found: &mut Vec<Option<SeriesRef>>) {
        let known = self.0.keys.lock().expect("not poisoned");
        found.clear();
        found.extend(keys.iter().map(|k| known.get(&k.0).copied().map(SeriesRef)));
    }

    fn resolve(&mut self, key: Option<SeriesKey>, _: &Labels) -> Result<SeriesRef, Refused> {
        let mut known = self.0.keys.lock().expect("not poisoned");
        let next = known.len() as u64;
        Ok(SeriesRef(key.map_or(next, |k| *known.entry(k.0).or_insert(next))))
    }

    fn append(&mut self, _: SeriesRef, _: Timestamp, t: Timestamp, v: f64) -> Result<(), Refused> {
        self.1 += v + t as f64;
        Ok(())
    }

    fn append_histogram(&mut self, _: SeriesRef, _: i64, _: i64, _: Value) -> Result<(), Refused> {
        Ok(())
    }

    fn append_exemplar(&mut self, _: SeriesRef, _: Exemplar) -> Result<(), Refused> {
        Ok(())
    }

    fn append_metadata(&mut self, _: &str, _: Metadata) {}

    fn commit(self: Box<Self>) -> Result<AppendStats, StoreError> {
        std::hint::black_box(self.1);
        Ok(AppendStats::default())
    }
}

/// Twelve labels of the kinds that a scraped pod has.
fn labels(series: usize) -> Vec<(String, String)> {
    let mut labels = vec![("__name__".to_owned(), format!("http_requests_family_{}_total", series % 50))];
    for (i, name) in [
        "cluster",
        "code",
        "container",
        "handler",
        "instance",
        "job",
        "method",
        "namespace",
        "node",
        "pod",
        "zone",
    ]
    .iter()
    .enumerate()
    {
        labels.push(((*name).to_owned(), format!("{name}-value-{}", series / (i + 1) % 97)));
    }
    labels
}

fn body_v1() -> Vec<u8> {
    let timeseries = (0..SERIES)
        .map(|i| proto::v1::TimeSeries {
            labels: labels(i).into_iter().map(|(name, value)| proto::v1::Label { name, value }).collect(),
            samples: vec![proto::v1::Sample {
                value: i as f64 * 1.5,
                timestamp: 1_700_000_000_000 + i as i64,
            }],
            ..Default::default()
        })
        .collect();
    compress(&proto::v1::WriteRequest { timeseries, metadata: Vec::new() })
}

fn body_v2() -> Vec<u8> {
    let mut ids = HashMap::from([(String::new(), 0)]);
    let mut symbols = vec![String::new()];
    let mut id = |text: String| {
        *ids.entry(text.clone()).or_insert_with(|| {
            symbols.push(text);
            symbols.len() as u32 - 1
        })
    };
    let timeseries = (0..SERIES)
        .map(|i| proto::v2::TimeSeries {
            labels_refs: labels(i).into_iter().flat_map(|(n, v)| [id(n), id(v)]).collect(),
            samples: vec![proto::v2::Sample {
                value: i as f64 * 1.5,
                timestamp: 1_700_000_000_000 + i as i64,
                start_timestamp: 0,
            }],
            ..Default::default()
        })
        .collect();
    compress(&proto::v2::Request { symbols, timeseries })
}

fn compress(message: &impl Message) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(&message.encode_to_vec()).expect("compressible")
}

fn remote_write(c: &mut Criterion) {
    let mut group = c.benchmark_group("remote_write/known_series");
    group.throughput(Throughput::Elements(SERIES as u64));
    for (name, protocol, body) in [("v1", Protocol::V1, body_v1()), ("v2", Protocol::V2, body_v2())] {
        let (store, writer) = (Null::default(), RemoteWriter::new(IngestLimits::default()));
        group.bench_function(name, |b| {
            b.iter(|| writer.write(&store, &TenantId::anonymous(), protocol, &body).expect("stored"));
        });
    }
    group.finish();
}

criterion_group!(benches, remote_write);
criterion_main!(benches);
