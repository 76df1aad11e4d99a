use std::collections::BTreeMap;

use parking_lot::Mutex;
use proptest::prelude::*;
use prost::Message;
use pyrrha_model::contract::{AppendStats, Appender, Ingest, Refused, SeriesKey, Value};
use pyrrha_model::{
    ErrorKind, Exemplar, Labels, Metadata, MetricType, SeriesRef, StoreError, TenantId, Timestamp, stale_nan,
};

use super::*;
use crate::IngestLimits;
use crate::proto::{self, BucketSpan};

/// A store that writes down what reaches it; refuses times before 0 and repeated exemplars.
#[derive(Default)]
struct Ledger {
    rows: Mutex<Rows>,
}

#[derive(Default)]
struct Rows {
    series: Vec<Labels>,
    keys: BTreeMap<u128, usize>,
    samples: Vec<(String, Timestamp, Timestamp, u64)>,
    histograms: Vec<(String, Timestamp, Timestamp, Value)>,
    exemplars: Vec<(String, Exemplar)>,
    metadata: Vec<(String, Metadata)>,
    resolved: usize,
    commits: usize,
}

struct Batch<'a>(&'a Ledger, AppendStats);

impl Ingest for Ledger {
    fn appender(&self, _: &TenantId) -> Result<Box<dyn Appender + '_>, StoreError> {
        Ok(Box::new(Batch(self, AppendStats::default())))
    }
}

impl Rows {
    fn name(&self, series: SeriesRef) -> String {
        self.series[series.0 as usize].to_string()
    }
}

impl Appender for Batch<'_> {
    fn lookup(&mut self, keys: &[SeriesKey], found: &mut Vec<Option<SeriesRef>>) {
        let rows = self.0.rows.lock();
        found.clear();
        found.extend(keys.iter().map(|k| rows.keys.get(&k.0).map(|&i| SeriesRef(i as u64))));
    }

    fn resolve(&mut self, key: Option<SeriesKey>, labels: &Labels) -> Result<SeriesRef, Refused> {
        let mut rows = self.0.rows.lock();
        rows.resolved += 1;
        let known = rows.series.iter().position(|l| l == labels);
        let index = known.unwrap_or_else(|| {
            rows.series.push(labels.clone());
            rows.series.len() - 1
        });
        if let Some(key) = key {
            rows.keys.insert(key.0, index);
        }
        Ok(SeriesRef(index as u64))
    }

    fn append(&mut self, series: SeriesRef, start: i64, t: i64, v: f64) -> Result<(), Refused> {
        if t < 0 {
            return Err(Refused::TooOld);
        }
        let mut rows = self.0.rows.lock();
        let name = rows.name(series);
        rows.samples.push((name, start, t, v.to_bits()));
        self.1.samples += 1;
        Ok(())
    }

    fn append_histogram(&mut self, series: SeriesRef, start: i64, t: i64, v: Value) -> Result<(), Refused> {
        let mut rows = self.0.rows.lock();
        let name = rows.name(series);
        rows.histograms.push((name, start, t, v));
        self.1.histograms += 1;
        Ok(())
    }

    fn append_exemplar(&mut self, series: SeriesRef, exemplar: Exemplar) -> Result<(), Refused> {
        let mut rows = self.0.rows.lock();
        let name = rows.name(series);
        if rows.exemplars.iter().any(|(n, e)| *n == name && *e == exemplar) {
            return Err(Refused::DuplicateExemplar);
        }
        rows.exemplars.push((name, exemplar));
        self.1.exemplars += 1;
        Ok(())
    }

    fn append_metadata(&mut self, metric: &str, metadata: Metadata) {
        self.0.rows.lock().metadata.push((metric.to_owned(), metadata));
    }

    fn commit(self: Box<Self>) -> Result<AppendStats, StoreError> {
        self.0.rows.lock().commits += 1;
        Ok(self.1)
    }
}

fn writer() -> RemoteWriter {
    RemoteWriter::new(IngestLimits::default())
}

fn snappy(message: &impl Message) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(&message.encode_to_vec()).expect("compressible")
}

fn send(store: &Ledger, protocol: Protocol, message: &impl Message) -> Result<WriteOutcome, WriteError> {
    writer().write(store, &TenantId::anonymous(), protocol, &snappy(message))
}

fn v1_series(labels: &[(&str, &str)], samples: &[(i64, f64)]) -> proto::v1::TimeSeries {
    proto::v1::TimeSeries {
        labels: labels
            .iter()
            .map(|(n, v)| proto::v1::Label { name: (*n).into(), value: (*v).into() })
            .collect(),
        samples: samples.iter().map(|&(timestamp, value)| proto::v1::Sample { value, timestamp }).collect(),
        ..Default::default()
    }
}

fn v1_request(timeseries: Vec<proto::v1::TimeSeries>) -> proto::v1::WriteRequest {
    proto::v1::WriteRequest { timeseries, metadata: Vec::new() }
}

/// Interns strings as a 2.0 sender does.
struct Symbols(Vec<String>);

impl Symbols {
    fn new() -> Self {
        Self(vec![String::new()])
    }

    fn of(&mut self, text: &str) -> u32 {
        let position = self.0.iter().position(|s| s == text).unwrap_or_else(|| {
            self.0.push(text.to_owned());
            self.0.len() - 1
        });
        position as u32
    }

    fn pairs(&mut self, labels: &[(&str, &str)]) -> Vec<u32> {
        labels.iter().flat_map(|(n, v)| [self.of(n), self.of(v)]).collect()
    }
}

#[test]
fn special_values_survive_bit_for_bit() {
    let values =
        [stale_nan(), f64::from_bits(0x7ff8_dead_beef_0001), f64::INFINITY, f64::NEG_INFINITY, 5e-324];
    let samples: Vec<_> = values.iter().enumerate().map(|(i, &v)| (i as i64, v)).collect();
    let store = Ledger::default();
    let outcome = send(&store, Protocol::V1, &v1_request(vec![v1_series(&[("__name__", "a")], &samples)]));
    assert_eq!(outcome.expect("stored").stats.samples, 5);
    let bits: Vec<_> = store.rows.lock().samples.iter().map(|s| s.3).collect();
    assert_eq!(bits, values.map(f64::to_bits));
}

#[test]
fn a_known_series_is_found_by_its_raw_bytes() {
    let store = Ledger::default();
    let writer = writer();
    let mut message = v1_request(vec![v1_series(&[("__name__", "a"), ("x", "y")], &[(1, 1.0)])]);
    for t in 1..4 {
        message.timeseries[0].samples[0].timestamp = t;
        let body = snappy(&message);
        writer.write(&store, &TenantId::anonymous(), Protocol::V1, &body).expect("stored");
    }
    let rows = store.rows.lock();
    assert_eq!((rows.resolved, rows.samples.len(), rows.series.len()), (1, 3, 1));
}

#[test]
fn symbols_mean_their_content_not_their_number() {
    let store = Ledger::default();
    let writer = writer();
    for order in [["a", "b"], ["b", "a"]] {
        let mut symbols = Symbols::new();
        let name = symbols.of("__name__");
        let refs: Vec<_> = order.iter().map(|n| symbols.of(n)).collect();
        let timeseries = refs
            .iter()
            .map(|&r| proto::v2::TimeSeries {
                labels_refs: vec![name, r],
                samples: vec![proto::v2::Sample { value: 1.0, timestamp: 5, start_timestamp: 2 }],
                ..Default::default()
            })
            .collect();
        let body = snappy(&proto::v2::Request { symbols: symbols.0, timeseries });
        writer.write(&store, &TenantId::anonymous(), Protocol::V2, &body).expect("stored");
    }
    let rows = store.rows.lock();
    assert_eq!(rows.resolved, 2, "both series are known the second time");
    let names: Vec<_> = rows.samples.iter().map(|s| s.0.as_str()).collect();
    assert_eq!(names, ["a", "b", "b", "a"]);
    assert!(rows.samples.iter().all(|s| (s.1, s.2) == (2, 5)));
}

#[test]
fn a_bad_series_hurts_only_itself() {
    let store = Ledger::default();
    let series = vec![
        v1_series(&[("job", "x")], &[(1, 1.0)]),
        v1_series(&[("__name__", "a"), ("b", "1"), ("b", "2")], &[(1, 1.0)]),
        v1_series(&[("__name__", "a"), ("", "1")], &[(1, 1.0)]),
        v1_series(&[("z", "1"), ("__name__", "good"), ("e", "")], &[(1, 1.0), (-1, 1.0)]),
    ];
    let outcome = send(&store, Protocol::V1, &v1_request(series)).expect("the rest is stored");
    assert_eq!(outcome.stats.samples, 1);
    assert_eq!(outcome.refused().collect::<Vec<_>>(), [("invalid_series", 3), ("too_old", 1)]);
    let text = outcome.error_text().expect("something was refused");
    for part in [
        r#"series {job="x"} has no metric name"#,
        r#"duplicate label name "b""#,
        "empty label name",
        r#"too old sample: timestamp=-1 series=good{z="1"}"#,
        "samples=1",
    ] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    assert_eq!(store.rows.lock().samples[0].0, r#"good{z="1"}"#);
}

#[test]
fn invalid_utf8_is_named_and_refused() {
    let mut series = v1_series(&[("__name__", "a"), ("l", "xx")], &[(1, 1.0)]).encode_to_vec();
    let at = series.windows(2).position(|w| w == b"xx").expect("the value");
    series[at] = 0xFF;
    let mut body = vec![0x0A, series.len() as u8];
    body.extend(series);
    let body = snap::raw::Encoder::new().compress_vec(&body).expect("compressible");
    let store = Ledger::default();
    let outcome = writer().write(&store, &TenantId::anonymous(), Protocol::V1, &body).expect("decodes");
    assert!(outcome.error_text().is_some_and(|t| t.contains("is not valid UTF-8")));
    assert_eq!(store.rows.lock().commits, 0);
}

#[test]
fn references_to_nowhere_are_refused_one_by_one() {
    let mut symbols = Symbols::new();
    let sample = proto::v2::Sample { value: 1.0, timestamp: 5, start_timestamp: 0 };
    let make = |labels_refs| proto::v2::TimeSeries {
        labels_refs,
        samples: vec![sample.clone()],
        ..Default::default()
    };
    let good = symbols.pairs(&[("__name__", "good")]);
    let empty = proto::v2::TimeSeries { labels_refs: good.clone(), ..Default::default() };
    let bad_help = proto::v2::TimeSeries {
        metadata: Some(proto::v2::Metadata { r#type: 1, help_ref: 99, unit_ref: 0 }),
        ..make(good.clone())
    };
    let timeseries = vec![make(vec![1, 77]), make(vec![1]), make(good), empty, bad_help];
    let store = Ledger::default();
    let request = proto::v2::Request { symbols: symbols.0, timeseries };
    let outcome = send(&store, Protocol::V2, &request).expect("the good one is stored");
    assert_eq!(outcome.stats.samples, 1);
    assert_eq!(outcome.refused().collect::<Vec<_>>(), [("invalid_series", 4)]);
    assert!(outcome.error_text().is_some_and(|t| t.contains("symbol reference 77")));
}

#[test]
fn exemplars_metadata_and_created_timestamps_arrive() {
    let mut symbols = Symbols::new();
    let labels_refs = symbols.pairs(&[("__name__", "a_total")]);
    let exemplar =
        proto::v2::Exemplar { labels_refs: symbols.pairs(&[("trace_id", "t1")]), value: 2.5, timestamp: 4 };
    let series = proto::v2::TimeSeries {
        labels_refs,
        samples: vec![proto::v2::Sample { value: 1.0, timestamp: 5, start_timestamp: 0 }],
        exemplars: vec![exemplar.clone(), exemplar],
        metadata: Some(proto::v2::Metadata {
            r#type: 1,
            help_ref: symbols.of("Help."),
            unit_ref: symbols.of("bytes"),
        }),
        created_timestamp: 3,
        ..Default::default()
    };
    let store = Ledger::default();
    let request = proto::v2::Request { symbols: symbols.0, timeseries: vec![series.clone(), series] };
    let outcome = send(&store, Protocol::V2, &request).expect("stored");
    assert_eq!(outcome.error_text(), None, "a repeated exemplar is no fault");
    let rows = store.rows.lock();
    assert_eq!(rows.samples[0].1, 3, "the created timestamp of earlier drafts is the start");
    assert_eq!(rows.exemplars.len(), 1);
    assert_eq!(rows.exemplars[0].1.labels, Labels::from_pairs([("trace_id", "t1")]));
    let metadata = Metadata { metric_type: MetricType::Counter, help: "Help.".into(), unit: "bytes".into() };
    assert_eq!(rows.metadata, [("a_total".to_owned(), metadata)]);
}

#[test]
fn declared_bombs_are_refused_before_allocation() {
    let store = Ledger::default();
    // A snappy header that declares 31 MiB, with nothing behind it.
    let mut body = Vec::new();
    let mut size = 31u32 << 20;
    while size >= 0x80 {
        body.push(size as u8 | 0x80);
        size >>= 7;
    }
    body.push(size as u8);
    let write = |body: &[u8]| writer().write(&store, &TenantId::anonymous(), Protocol::V1, body);
    assert!(matches!(write(&body), Err(WriteError::Bomb { .. })));
    assert!(matches!(write(&[0xFF, 0xFF, 0xFF, 0xFF, 0x0F]), Err(WriteError::TooLarge { .. })));
    assert!(matches!(write(b"\x04nope"), Err(WriteError::Snappy(_))));
    let empty_messages: Vec<u8> = [0x0A, 0x00].repeat(8 << 20);
    let packed = snap::raw::Encoder::new().compress_vec(&empty_messages).expect("compressible");
    let error = write(&packed).expect_err("decodes to far more than it is");
    assert!(error.to_string().contains("more data than a request may hold"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[test]
fn headers_choose_the_protocol() {
    let v2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
    assert_eq!(Protocol::negotiate(None, None), Ok(Protocol::V1));
    assert_eq!(Protocol::negotiate(Some("application/x-protobuf"), Some("snappy")), Ok(Protocol::V1));
    assert_eq!(Protocol::negotiate(Some(v2), Some("snappy")), Ok(Protocol::V2));
    for (content_type, encoding) in [
        ("application/json", "snappy"),
        ("application/x-protobuf;proto=other", "snappy"),
        ("application/x-protobuf;proto", "snappy"),
        ("application/x-protobuf", "gzip"),
    ] {
        assert!(
            Protocol::negotiate(Some(content_type), Some(encoding)).is_err(),
            "{content_type} {encoding}"
        );
    }
}

fn histogram_strategy() -> impl Strategy<Value = proto::Histogram> {
    let span = (any::<i32>(), any::<u32>()).prop_map(|(offset, length)| BucketSpan { offset, length });
    let spans = || prop::collection::vec(span.clone(), 0..3);
    (
        prop::option::of(any::<f64>()),
        any::<(u64, f64, i32, f64)>(),
        spans(),
        spans(),
        prop::collection::vec(any::<i64>(), 0..5),
        prop::collection::vec(any::<f64>(), 0..5),
        0..4i32,
        any::<(i64, i64)>(),
    )
        .prop_map(
            |(count_float, (n, sum, schema, zero), p, q, deltas, counts, reset_hint, (t, start))| {
                proto::Histogram {
                    count_int: count_float.is_none().then_some(n),
                    count_float,
                    sum,
                    schema,
                    zero_threshold: zero,
                    zero_count_int: count_float.is_none().then_some(n / 2),
                    zero_count_float: count_float.map(|c| c / 2.0),
                    negative_spans: p,
                    negative_deltas: deltas.clone(),
                    negative_counts: counts.clone(),
                    positive_spans: q,
                    positive_deltas: deltas,
                    positive_counts: counts.clone(),
                    reset_hint,
                    timestamp: t,
                    custom_values: counts,
                    start_timestamp: start,
                }
            },
        )
}

/// Encoders leave out a double that equals zero, and with it the sign of -0.
fn on_the_wire(value: f64) -> f64 {
    if value == 0.0 { 0.0 } else { value }
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|v| v.to_bits()).collect()
}

proptest! {
    #[test]
    fn histograms_decode_as_prost_decodes_them(message in histogram_strategy()) {
        let bytes = message.encode_to_vec();
        let ours = histogram::walk(wire::Walker::new(&bytes)).expect("valid");
        prop_assert_eq!((ours.start, ours.t), (message.start_timestamp, message.timestamp));
        match ours.value {
            Value::Histogram(h) => {
                prop_assert_eq!(Some(h.count), message.count_int);
                prop_assert_eq!(Some(h.zero_count), message.zero_count_int);
                prop_assert_eq!(h.negative_buckets, message.negative_deltas);
                prop_assert_eq!(h.schema, message.schema);
                prop_assert_eq!(bits(&h.custom_values), bits(&message.custom_values));
            }
            Value::FloatHistogram(h) => {
                prop_assert_eq!(Some(h.count.to_bits()), message.count_float.map(f64::to_bits));
                prop_assert_eq!(bits(&h.positive_buckets), bits(&message.positive_counts));
                prop_assert_eq!(h.positive_spans.len(), message.positive_spans.len());
            }
            Value::Float(_) => prop_assert!(false, "a histogram never decodes to a float"),
        }
    }

    #[test]
    fn whatever_prost_accepts_the_walker_reads_alike(
        series in prop::collection::vec(
            (prop::collection::btree_map("[a-z_]{1,8}", ".{0,200}", 0..6), prop::collection::vec(any::<(i64, f64)>(), 0..4)),
            0..6,
        ),
    ) {
        let timeseries = series.iter().map(|(labels, samples)| {
            let labels: Vec<_> = labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            v1_series(&labels, samples)
        }).collect();
        let bytes = v1_request(timeseries).encode_to_vec();
        let request = v1::walk(&bytes, KeyHasher::new(), usize::MAX).expect("valid");
        prop_assert_eq!(request.series.len(), series.len());
        for (slot, (labels, samples)) in request.series.iter().zip(&series) {
            let request::LabelSource::Message(bytes) = slot.labels else { panic!("1.0 spells labels out") };
            let ours: Vec<_> = v1::labels(bytes).map(|(n, v)| (n.to_vec(), v.to_vec())).collect();
            let theirs: Vec<_> = labels.iter().map(|(n, v)| (n.clone().into_bytes(), v.clone().into_bytes())).collect();
            prop_assert_eq!(ours, theirs);
            let ours = &request.samples[slot.samples.start as usize..slot.samples.end as usize];
            let ours: Vec<_> = ours.iter().map(|s| (s.t, s.v.to_bits())).collect();
            prop_assert_eq!(ours, samples.iter().map(|s| (s.0, on_the_wire(s.1).to_bits())).collect::<Vec<_>>());
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let store = Ledger::default();
        let writer = writer();
        let _ = v1::walk(&bytes, KeyHasher::new(), 1 << 20);
        let _ = v2::walk(&bytes, KeyHasher::new(), 1 << 20);
        let packed = snap::raw::Encoder::new().compress_vec(&bytes).expect("compressible");
        for protocol in [Protocol::V1, Protocol::V2] {
            let _ = writer.write(&store, &TenantId::anonymous(), protocol, &packed);
            let _ = writer.write(&store, &TenantId::anonymous(), protocol, &bytes);
        }
    }

    #[test]
    fn damaged_messages_never_panic(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut symbols = Symbols::new();
        let series = proto::v2::TimeSeries {
            labels_refs: symbols.pairs(&[("__name__", "a"), ("b", "c")]),
            samples: vec![proto::v2::Sample { value: 1.0, timestamp: 5, start_timestamp: 1 }],
            histograms: vec![proto::Histogram { count_int: Some(3), ..Default::default() }],
            exemplars: vec![proto::v2::Exemplar { labels_refs: vec![1, 2], value: 1.0, timestamp: 1 }],
            metadata: Some(proto::v2::Metadata { r#type: 1, help_ref: 1, unit_ref: 2 }),
            created_timestamp: 1,
        };
        let mut bytes = proto::v2::Request { symbols: symbols.0, timeseries: vec![series] }.encode_to_vec();
        for (index, byte) in flips {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        let packed = snap::raw::Encoder::new().compress_vec(&bytes).expect("compressible");
        let store = Ledger::default();
        for protocol in [Protocol::V1, Protocol::V2] {
            let _ = writer().write(&store, &TenantId::anonymous(), protocol, &packed);
        }
    }
}
