//! Records and files as Prometheus writes them, read back whole, damaged, and as noise.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use pyrrha_encoding::varint::{put_uvarint, put_varint};
use pyrrha_encoding::{crc, encode_series};
use pyrrha_env::{Disk, DiskFile};
use pyrrha_model::contract::Value;
use pyrrha_model::{
    CounterResetHint, Exemplar, FloatHistogram, Histogram, Labels, Metadata, MetricType, Span, TimeRange,
    Timestamp,
};
use pyrrha_testkit::SimDisk;

use super::*;
use crate::backfill::BackfillError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compression {
    None,
    Snappy,
    Zstd,
}

/// A segment of these records.
fn segment(records: &[Vec<u8>], compression: Compression) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::new();
    for record in records {
        let (bits, data) = match compression {
            Compression::None => (0, record.clone()),
            Compression::Snappy => (8, snap::raw::Encoder::new().compress_vec(record).expect("compresses")),
            Compression::Zstd => (16, zstd::bulk::compress(record, 1).expect("compresses")),
        };
        let (mut rest, mut first) = (&data[..], true);
        loop {
            let mut room = (32 << 10) - out.len() % (32 << 10);
            if room < 8 {
                out.resize(out.len() + room, 0);
                room = 32 << 10;
            }
            let (part, left) = rest.split_at(rest.len().min(room - 7));
            let kind = match (first, left.is_empty()) {
                (true, true) => 1,
                (true, false) => 2,
                (false, false) => 3,
                (false, true) => 4,
            };
            out.push(kind | bits);
            out.extend_from_slice(&(part.len() as u16).to_be_bytes());
            out.extend_from_slice(&crc::checksum(part).to_be_bytes());
            out.extend_from_slice(part);
            (rest, first) = (left, false);
            if rest.is_empty() {
                break;
            }
        }
    }
    out
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_uvarint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn put_labels(out: &mut Vec<u8>, labels: &Labels) {
    put_uvarint(out, labels.len() as u64);
    for label in labels {
        put_text(out, &label.name);
        put_text(out, &label.value);
    }
}

fn series_record(series: &[(u64, Labels)]) -> Vec<u8> {
    let mut out = vec![1];
    for (reference, labels) in series {
        out.extend_from_slice(&reference.to_be_bytes());
        put_labels(&mut out, labels);
    }
    out
}

fn header(kind: u8, samples: &[(u64, Timestamp, impl Sized)]) -> Vec<u8> {
    let mut out = vec![kind];
    if let Some((reference, time, _)) = samples.first() {
        out.extend_from_slice(&reference.to_be_bytes());
        out.extend_from_slice(&time.to_be_bytes());
    }
    out
}

fn put_deltas<T>(out: &mut Vec<u8>, samples: &[(u64, Timestamp, T)], put: impl Fn(&mut Vec<u8>, &T)) {
    for (reference, time, value) in samples {
        put_varint(out, reference.wrapping_sub(samples[0].0) as i64);
        put_varint(out, time.wrapping_sub(samples[0].1));
        put(out, value);
    }
}

fn samples_record(samples: &[(u64, Timestamp, f64)]) -> Vec<u8> {
    let mut out = header(2, samples);
    put_deltas(&mut out, samples, |out, v| out.extend_from_slice(&v.to_bits().to_be_bytes()));
    out
}

fn put_spans(out: &mut Vec<u8>, spans: &[Span]) {
    put_uvarint(out, spans.len() as u64);
    for span in spans {
        put_varint(out, i64::from(span.offset));
        put_uvarint(out, u64::from(span.length));
    }
}

fn put_floats(out: &mut Vec<u8>, values: &[f64]) {
    put_uvarint(out, values.len() as u64);
    values.iter().for_each(|v| out.extend_from_slice(&v.to_bits().to_be_bytes()));
}

fn histogram_record(samples: &[(u64, Timestamp, Histogram)]) -> Vec<u8> {
    let mut out = header(7, samples);
    put_deltas(&mut out, samples, |out, h| {
        out.push(h.counter_reset_hint as u8);
        put_varint(out, i64::from(h.schema));
        out.extend_from_slice(&h.zero_threshold.to_bits().to_be_bytes());
        put_uvarint(out, h.zero_count);
        put_uvarint(out, h.count);
        out.extend_from_slice(&h.sum.to_bits().to_be_bytes());
        put_spans(out, &h.positive_spans);
        put_spans(out, &h.negative_spans);
        for buckets in [&h.positive_buckets, &h.negative_buckets] {
            put_uvarint(out, buckets.len() as u64);
            buckets.iter().for_each(|b| put_varint(out, *b));
        }
        if h.schema == -53 {
            put_floats(out, &h.custom_values);
        }
    });
    out
}

fn float_histogram_record(samples: &[(u64, Timestamp, FloatHistogram)]) -> Vec<u8> {
    let mut out = header(8, samples);
    put_deltas(&mut out, samples, |out, h| {
        out.push(h.counter_reset_hint as u8);
        put_varint(out, i64::from(h.schema));
        for number in [h.zero_threshold, h.zero_count, h.count, h.sum] {
            out.extend_from_slice(&number.to_bits().to_be_bytes());
        }
        put_spans(out, &h.positive_spans);
        put_spans(out, &h.negative_spans);
        put_floats(out, &h.positive_buckets);
        put_floats(out, &h.negative_buckets);
    });
    out
}

fn labels(i: u64) -> Labels {
    Labels::from_pairs([("__name__", "m_total".to_owned()), ("i", i.to_string())])
}

fn histogram(n: u64) -> Histogram {
    Histogram {
        counter_reset_hint: CounterResetHint::NotReset,
        schema: 3,
        zero_threshold: 0.001,
        zero_count: n,
        count: 4 * n,
        sum: n as f64 / 3.0,
        positive_spans: vec![Span { offset: -2, length: 2 }, Span { offset: 5, length: 1 }],
        positive_buckets: vec![n as i64, 0, 0],
        ..Histogram::default()
    }
}

/// All records of a segment, and its faults.
fn read(bytes: &[u8]) -> (Vec<Vec<u8>>, Vec<LogFault>) {
    let (mut reader, mut records, mut faults) = (SegmentRecords::new(bytes), Vec::new(), Vec::new());
    while let Some(record) = reader.next_record() {
        match record {
            Ok(record) => records.push(record.to_vec()),
            Err(fault) => faults.push(fault),
        }
    }
    (records, faults)
}

fn compressions() -> impl Strategy<Value = Compression> {
    prop::sample::select(vec![Compression::None, Compression::Snappy, Compression::Zstd])
}

#[test]
fn every_type_of_record_is_read() {
    let custom = Histogram {
        schema: -53,
        zero_threshold: 0.0,
        zero_count: 0,
        custom_values: [1.0, 2.5].into(),
        positive_spans: vec![Span { offset: 0, length: 2 }],
        positive_buckets: vec![3, 1],
        count: 7,
        ..histogram(1)
    };
    let row = |series, time, value| SampleRow { series, start: 0, time, value };
    let integers = [(9, -5, histogram(2)), (3, 7, custom.clone())];
    let decoded = decode_record(&histogram_record(&integers)).expect("a record");
    let value = |h: &Histogram| Value::Histogram(Box::new(h.clone()));
    assert_eq!(decoded, Record::Samples(vec![row(9, -5, value(&histogram(2))), row(3, 7, value(&custom))]));
    let float = histogram(5).to_float();
    let decoded = decode_record(&float_histogram_record(&[(1, 2, float.clone())])).expect("a record");
    assert_eq!(decoded, Record::Samples(vec![row(1, 2, Value::FloatHistogram(Box::new(float)))]));

    let mut tombstone = vec![3];
    tombstone.extend_from_slice(&4u64.to_be_bytes());
    put_varint(&mut tombstone, -10);
    put_varint(&mut tombstone, 10);
    assert_eq!(
        decode_record(&tombstone).expect("a record"),
        Record::Tombstones(vec![(4, TimeRange::new(-10, 10))])
    );

    let mut exemplar = header(4, &[(4, 50, ())]);
    put_varint(&mut exemplar, 0);
    put_varint(&mut exemplar, 0);
    exemplar.extend_from_slice(&2.5f64.to_bits().to_be_bytes());
    put_labels(&mut exemplar, &labels(8));
    let expected = Exemplar { labels: labels(8), value: 2.5, timestamp: 50 };
    assert_eq!(decode_record(&exemplar).expect("a record"), Record::Exemplars(vec![(4, expected)]));

    let mut metadata = vec![6];
    put_uvarint(&mut metadata, 4);
    metadata.push(1);
    put_uvarint(&mut metadata, 2);
    ["UNIT", "s", "HELP", "what"].iter().for_each(|text| put_text(&mut metadata, text));
    let expected = Metadata { metric_type: MetricType::Counter, help: "what".into(), unit: "s".into() };
    assert_eq!(decode_record(&metadata).expect("a record"), Record::Metadata(vec![(4, expected)]));

    assert_eq!(decode_record(&[200, 1]).expect("a record"), Record::Unknown(200));
    assert_eq!(decode_record(&[2]).expect("a record"), Record::Samples(Vec::new()));
    assert!(decode_record(&[]).is_err());
}

#[test]
fn start_times_are_read() {
    // First 7 at 100 started at 40; then as before; then none; then explicit.
    let mut record = vec![11];
    let mut put = |deltas: &[i64], marker: Option<(u8, Option<i64>)>, value: f64| {
        deltas.iter().for_each(|d| put_varint(&mut record, *d));
        if let Some((marker, start)) = marker {
            record.push(marker);
            start.into_iter().for_each(|s| put_varint(&mut record, s));
        }
        record.extend_from_slice(&value.to_bits().to_be_bytes());
    };
    put(&[7, 100, 40], None, 1.0);
    put(&[1, 5], Some((1, None)), 2.0);
    put(&[1, 6], Some((0, None)), 3.0);
    put(&[-2, 7], Some((2, Some(10))), 4.0);
    let row = |series, start, time, value| SampleRow { series, start, time, value: Value::Float(value) };
    let expected = [row(7, 40, 100, 1.0), row(8, 40, 105, 2.0), row(9, 0, 106, 3.0), row(7, 50, 107, 4.0)];
    assert_eq!(decode_record(&record).expect("a record"), Record::Samples(expected.into()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn records_of_any_size_come_back(
        sizes in prop::collection::vec(prop_oneof![1usize..200, 32_000usize..100_000], 1..8),
        compression in compressions(),
        seed in any::<u8>(),
    ) {
        let record = |(i, &len): (usize, &usize)| -> Vec<u8> {
            (0..len).map(|b| (b as u8).wrapping_mul(seed) ^ (b >> 8) as u8 ^ i as u8).collect()
        };
        let records: Vec<Vec<u8>> = sizes.iter().enumerate().map(record).collect();
        let bytes = segment(&records, compression);
        prop_assert_eq!(read(&bytes), (records.clone(), Vec::new()));
        // What is reserved and not written yet.
        let mut longer = bytes;
        longer.resize(longer.len() + 70_000, 0);
        prop_assert_eq!(read(&longer), (records, Vec::new()));
    }

    #[test]
    fn damage_is_reported_and_what_is_read_was_written(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
        compression in compressions(),
    ) {
        // The value follows from series and time: an invented sample shows.
        let batch = |n: u64| -> Vec<(u64, Timestamp, f64)> {
            (0..40).map(|s| (s, n as i64 * 1_000, (s * 100_000 + n) as f64)).collect()
        };
        let records: Vec<Vec<u8>> = (0..120).map(|n| samples_record(&batch(n))).collect();
        let sound = segment(&records, compression);
        let mut bytes = sound.clone();
        for (at, byte) in &edits {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let (read, faults) = read(&bytes);
        prop_assert!(read.iter().all(|r| records.contains(r)));
        if cut.is_none() && bytes != sound {
            // Edits may fall where they mean nothing only in padding, which has to be zero.
            prop_assert!(!faults.is_empty(), "{} records of {}", read.len(), records.len());
        }
    }

    #[test]
    fn noise_never_panics(noise in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = read(&noise);
        let _ = decode_record(&noise);
        for kind in 1..=13 {
            let mut record = vec![kind];
            record.extend_from_slice(&noise);
            let _ = decode_record(&record);
            let _ = read(&segment(&[record], Compression::None));
        }
        let mut file = vec![0x01, 0x30, 0xBC, 0x91, 1, 0, 0, 0];
        file.extend_from_slice(&noise);
        let mut chunks = HeadChunks::new(file.into());
        while let Some(Ok(_)) = chunks.next_chunk() {}
    }
}

/// What a head gave, by series.
#[derive(Default)]
struct Seen {
    samples: BTreeMap<(String, bool, Timestamp), f64>,
    deleted: Vec<(String, TimeRange)>,
}

impl HeadSink for Seen {
    fn sample(
        &mut self,
        _: &mut Slots,
        labels: &Labels,
        row: SampleRow,
        late: bool,
    ) -> Result<(), BackfillError> {
        let Value::Float(value) = row.value else { return Ok(()) };
        self.samples.entry((labels.to_string(), late, row.time)).or_insert(value);
        Ok(())
    }

    fn delete(&mut self, labels: &Labels, range: TimeRange) {
        self.deleted.push((labels.to_string(), range));
    }

    fn exemplar(&mut self, _: &Labels, _: Exemplar) -> Result<(), BackfillError> {
        Ok(())
    }

    fn describe(&mut self, _: &str, _: Metadata) {}
}

fn write(disk: &Arc<SimDisk>, path: &str, bytes: &[u8]) {
    let path = Path::new(path);
    disk.create_dir_all(path.parent().expect("a parent")).expect("creates");
    if disk.exists(path) {
        disk.remove_file(path).expect("removes");
    }
    disk.create_new(path).and_then(|f: Box<dyn DiskFile>| f.write_at(0, bytes)).expect("writes");
}

fn load(disk: &Arc<SimDisk>, from: Timestamp) -> (Seen, HeadReport) {
    let mut seen = Seen::default();
    let report = load_head(&**disk, Path::new("/data"), from, &mut seen, &mut |_| {}).expect("loads");
    (seen, report)
}

/// A chunk file with one chunk of each series.
fn chunk_file(chunks: &[(u64, bool, Vec<crate::tsdb::StoredSample>)]) -> Vec<u8> {
    let mut out = vec![0x01, 0x30, 0xBC, 0x91, 1, 0, 0, 0];
    for (series, late, samples) in chunks {
        let chunk = encode_series(samples, false).remove(0);
        let start = out.len();
        out.extend_from_slice(&series.to_be_bytes());
        out.extend_from_slice(&chunk.min_time.to_be_bytes());
        out.extend_from_slice(&chunk.max_time.to_be_bytes());
        out.push(chunk.encoding as u8 | if *late { 0x80 } else { 0 });
        put_uvarint(&mut out, chunk.bytes.len() as u64);
        out.extend_from_slice(&chunk.bytes);
        let sum = crc::checksum(&out[start..]);
        out.extend_from_slice(&sum.to_be_bytes());
    }
    out.resize(out.len() + 100, 0);
    out
}

#[test]
fn checkpoint_log_and_late_log_are_read_as_prometheus_does() {
    let disk = Arc::new(SimDisk::new(1));
    // Superseded by the checkpoint, and unreadable.
    write(&disk, "/data/wal/00000001", &[0xFF; 100]);
    write(&disk, "/data/wal/checkpoint.00000000/00000000", &[0xFF; 100]);
    let checkpoint = [series_record(&[(1, labels(1))]), samples_record(&[(1, 50, 0.5), (1, 100, 1.0)])];
    write(&disk, "/data/wal/checkpoint.00000001/00000000", &segment(&checkpoint, Compression::Zstd));
    let mut tombstone = vec![3];
    tombstone.extend_from_slice(&1u64.to_be_bytes());
    put_varint(&mut tombstone, 100);
    put_varint(&mut tombstone, 150);
    let log = [
        samples_record(&[(1, 200, 2.0), (1, 200, 9.0), (1, 150, 9.0), (77, 200, 9.0)]),
        series_record(&[(2, labels(2)), (3, labels(1))]),
        samples_record(&[(2, 200, 4.0), (3, 300, 3.0)]),
        tombstone,
    ];
    write(&disk, "/data/wal/00000002", &segment(&log, Compression::Snappy));
    let late = [samples_record(&[(2, 20, 5.0), (2, 10, 6.0)])];
    write(&disk, "/data/wbl/00000000", &segment(&late, Compression::None));
    let (seen, report) = load(&disk, 100);
    let key = |i: u64, late: bool, t: Timestamp| (labels(i).to_string(), late, t);
    let expected = [
        (key(1, false, 100), 1.0),
        (key(1, false, 200), 2.0),
        (key(1, false, 300), 3.0),
        (key(2, false, 200), 4.0),
        (key(2, true, 10), 6.0),
        (key(2, true, 20), 5.0),
    ];
    assert_eq!(seen.samples, BTreeMap::from(expected));
    assert_eq!(seen.deleted, [(labels(1).to_string(), TimeRange::new(100, 150))]);
    assert_eq!((report.series, report.in_blocks, report.refused, report.unknown_series), (2, 1, 2, 1));
    assert!(report.faults.is_empty(), "{report:?}");
    let before = fingerprint(&*disk, Path::new("/data")).expect("reads");
    write(&disk, "/data/wbl/00000000", &segment(&late, Compression::Snappy));
    assert_ne!(fingerprint(&*disk, Path::new("/data")).expect("reads"), before);
}

#[test]
fn head_chunks_fill_the_gaps_of_a_damaged_log() {
    let disk = Arc::new(SimDisk::new(1));
    let samples: Vec<(u64, Timestamp, f64)> = (0..100).map(|i| (1, 1_000 + i, i as f64)).collect();
    let log = [series_record(&[(1, labels(1))]), samples_record(&samples)];
    let mut bytes = segment(&log, Compression::None);
    let stored: Vec<_> = samples.iter().map(|&(_, t, v)| (0, t, Value::Float(v))).collect();
    write(&disk, "/data/wal/00000000", &bytes);
    write(&disk, "/data/chunks_head/000001", &chunk_file(&[(1, false, stored)]));
    let whole = load(&disk, 0);
    assert_eq!((whole.0.samples.len(), whole.1.samples), (100, 100), "the chunk is in the log");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    write(&disk, "/data/wal/00000000", &bytes);
    let (seen, report) = load(&disk, 0);
    assert_eq!(seen.samples, whole.0.samples, "the chunk stands in");
    assert_eq!(report.faults.len(), 1);
    assert_eq!(report.faults[0].0, Path::new("/data/wal/00000000"));
}
