use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use pyrrha_model::contract::{Delete, DeleteId, Value};
use pyrrha_model::{CounterResetHint, FloatHistogram, Histogram, MatchOp, Matcher, Span, TimeRange};

use super::super::definitions::{Defined, Definer};
use super::super::{LogDelete, LogHistogram, LogPosition, PackedBatch, WalSink};
use super::*;

struct Numbers;

impl WalSink for Numbers {
    fn labels(&self, _: &TenantId, series: u32, visit: &mut dyn FnMut(&str, &str)) {
        visit("__name__", "m");
        visit("series", &series.to_string());
    }

    fn apply(&self, _: Vec<LogBatch>, _: LogPosition) {}

    fn abandon(&self, _: Vec<LogBatch>) {}
}

fn any_f64() -> impl Strategy<Value = f64> {
    prop_oneof![any::<u64>().prop_map(f64::from_bits), (-1000i32..1000).prop_map(f64::from)]
}

fn spans() -> impl Strategy<Value = Vec<Span>> {
    vec((any::<i32>(), any::<u32>()).prop_map(|(offset, length)| Span { offset, length }), 0..4)
}

fn hint() -> impl Strategy<Value = CounterResetHint> {
    (0u8..4).prop_map(|byte| match byte {
        0 => CounterResetHint::Unknown,
        1 => CounterResetHint::Reset,
        2 => CounterResetHint::NotReset,
        _ => CounterResetHint::Gauge,
    })
}

prop_compose! {
    fn integer()(
        (counter_reset_hint, schema, zero_threshold, sum) in (hint(), any::<i32>(), any_f64(), any_f64()),
        (zero_count, count) in any::<(u64, u64)>(),
        (positive_spans, negative_spans) in (spans(), spans()),
        positive_buckets in vec(any::<i64>(), 0..5),
        negative_buckets in vec(any::<i64>(), 0..5),
        custom in vec(any_f64(), 0..4),
    ) -> Value {
        Value::Histogram(Box::new(Histogram {
            counter_reset_hint, schema, zero_threshold, zero_count, count, sum,
            positive_spans, negative_spans, positive_buckets, negative_buckets,
            custom_values: Arc::from(custom),
        }))
    }
}

prop_compose! {
    fn float()(
        (counter_reset_hint, schema) in (hint(), any::<i32>()),
        (zero_threshold, zero_count, count, sum) in (any_f64(), any_f64(), any_f64(), any_f64()),
        (positive_spans, negative_spans) in (spans(), spans()),
        positive_buckets in vec(any_f64(), 0..5),
        negative_buckets in vec(any_f64(), 0..5),
        custom in vec(any_f64(), 0..4),
    ) -> Value {
        Value::FloatHistogram(Box::new(FloatHistogram {
            counter_reset_hint, schema, zero_threshold, zero_count, count, sum,
            positive_spans, negative_spans, positive_buckets, negative_buckets,
            custom_values: Arc::from(custom),
        }))
    }
}

fn histogram() -> impl Strategy<Value = LogHistogram> {
    let value = prop_oneof![any_f64().prop_map(Value::Float), integer(), float()];
    (any::<u32>(), any::<i64>(), any::<i64>(), value).prop_map(|(series, t, start, value)| LogHistogram {
        series,
        t,
        start,
        value,
    })
}

fn exemplar() -> impl Strategy<Value = (u32, Exemplar)> {
    (any::<u32>(), "[a-z]{1,5}", "\\PC{1,20}", any_f64(), any::<i64>()).prop_map(
        |(series, name, value, v, timestamp)| {
            (series, Exemplar { labels: Labels::from_pairs([(name, value)]), value: v, timestamp })
        },
    )
}

fn metadata() -> impl Strategy<Value = (String, Metadata)> {
    ("[a-z_]{0,8}", 0u8..8, "\\PC{0,200}", "\\PC{0,6}").prop_map(|(name, kind, help, unit)| {
        (name, Metadata { metric_type: metric_type::of(kind), help, unit })
    })
}

fn delete() -> impl Strategy<Value = LogDelete> {
    let matcher = (0usize..4, "[a-z]{0,3}", "[a-z.|]{0,4}").prop_map(|(op, name, value)| {
        let ops = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex];
        Matcher::new(ops[op], name, value).expect("a valid expression")
    });
    let hidden = vec((any::<u32>(), any::<i64>()), 0..40);
    let parts = (any::<u128>(), any::<[i64; 3]>(), any::<bool>(), vec(vec(matcher, 0..3), 0..3), hidden);
    (0u8..5, parts).prop_map(|(kind, (id, [at, start, end], is_final, matcher_sets, hidden))| {
        let id = DeleteId(id);
        let delete = Delete { id, matcher_sets, range: TimeRange::new(start, end), at, is_final };
        match kind {
            0 => LogDelete::Add { delete, hidden },
            1 => LogDelete::Stands(delete),
            2 => LogDelete::Undo(id),
            3 => LogDelete::Final(id),
            _ => LogDelete::Done(id),
        }
    })
}

prop_compose! {
    fn batch()(
        floats in vec((any::<u32>(), any::<i64>(), any_f64(), any::<i64>()), 0..50),
        has_starts in any::<bool>(),
        histograms in vec(histogram(), 0..6),
        late in vec(histogram(), 0..6),
        exemplars in vec(exemplar(), 0..4),
        metadata in vec(metadata(), 0..4),
        deletes in vec(delete(), 0..3),
        series in vec(any::<u32>(), 0..4),
    ) -> LogBatch {
        let mut batch = LogBatch::new(TenantId::anonymous());
        for (series, t, v, start) in floats {
            batch.refs.push(series);
            batch.times.push(t);
            batch.values.push(v);
            if has_starts {
                batch.starts.push(start);
            }
        }
        if batch.starts.iter().all(|&s| s == 0) {
            batch.starts.clear();
        }
        LogBatch { histograms, late, exemplars, metadata, deletes, series, ..batch }
    }
}

/// NaNs are equal if their bits are, and -0 is not 0.
fn exact(batch: &LogBatch) -> String {
    let bits: Vec<u64> = batch.values.iter().map(|v| v.to_bits()).collect();
    let histograms: Vec<_> = batch
        .histograms
        .iter()
        .chain(&batch.late)
        .map(|h| match &h.value {
            Value::Float(v) => format!("{} {} {} {:x}", h.series, h.t, h.start, v.to_bits()),
            Value::Histogram(i) => format!("{h:?} {:x} {:x}", i.sum.to_bits(), i.zero_threshold.to_bits()),
            Value::FloatHistogram(f) => {
                let all = [f.zero_threshold, f.zero_count, f.count, f.sum];
                let values = all.iter().chain(&f.positive_buckets).chain(&f.negative_buckets);
                let values = values.chain(f.custom_values.iter());
                format!("{h:?} {:?}", values.map(|v| v.to_bits()).collect::<Vec<_>>())
            }
        })
        .collect();
    let exemplars: Vec<_> =
        batch.exemplars.iter().map(|(s, e)| (s, &e.labels, e.value.to_bits(), e.timestamp)).collect();
    let LogBatch { tenant, refs, times, starts, metadata, deletes, .. } = batch;
    let late = batch.late.len();
    format!(
        "{late} {tenant} {refs:?} {times:?} {bits:?} {starts:?} {histograms:?} {exemplars:?} {metadata:?} {deletes:?}"
    )
}

fn encode(batches: &[LogBatch]) -> Vec<Vec<u8>> {
    let (mut definer, mut definitions) = (Definer::default(), NewDefinitions::default());
    let mut encoder = RecordEncoder::default();
    let encode = |batch: &LogBatch| {
        let mut out = Vec::new();
        definer.define(batch, &Numbers, &mut definitions);
        encoder.encode(&mut out, batch, &definitions);
        out
    };
    batches.iter().map(encode).collect()
}

fn decode(
    payload: &[u8],
    defined: &mut Defined,
    series: &mut Vec<(u32, Labels)>,
) -> Result<LogBatch, DecodeError> {
    let all = sections(payload)?;
    let tenant = TenantId::new(all.tenant).map_err(|_| DecodeError::Malformed { part: "tenant" })?;
    let mut buffer = Vec::new();
    if !all.symbols.is_empty() {
        defined.take_symbols(all.symbols.body(&mut buffer)?)?;
    }
    if !all.series.is_empty() {
        defined.take_series(&tenant, all.series.body(&mut buffer)?, |s, l| {
            series.push((s, Labels::from_pairs(l.iter().copied())));
        })?;
    }
    decode_batch(&all, tenant, &mut buffer)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn batches_come_back_bit_for_bit(batches in vec(batch(), 1..5)) {
        let (mut defined, mut series) = (Defined::default(), Vec::new());
        let mut expected: Vec<u32> = Vec::new();
        for (batch, payload) in batches.iter().zip(encode(&batches)) {
            let back = decode(&payload, &mut defined, &mut series).expect("what was written is readable");
            prop_assert_eq!(exact(batch), exact(&back));
            let packed = PackedBatch::new(batch, LogPosition::default());
            let back = packed.unpack(batch.tenant.clone(), &mut Vec::new()).expect("what was packed is readable");
            prop_assert_eq!(exact(batch), exact(&back));
            prop_assert_eq!(packed.samples(), batch.samples());
            expected.extend(&batch.refs);
            expected.extend(batch.histograms.iter().chain(&batch.late).map(|h| h.series));
            expected.extend(batch.exemplars.iter().map(|(s, _)| *s));
            expected.extend(batch.deletes.iter().flat_map(LogDelete::hidden).map(|(s, _)| *s));
            expected.extend(&batch.series);
        }
        expected.sort_unstable();
        expected.dedup();
        series.sort_unstable_by_key(|(s, _)| *s);
        prop_assert_eq!(series.iter().map(|(s, _)| *s).collect::<Vec<_>>(), expected);
        for (s, labels) in series {
            prop_assert_eq!(labels.get("series").map(str::to_owned), Some(s.to_string()));
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(batch in batch(), edits in vec((any::<u16>(), any::<u8>()), 0..6), cut in any::<u16>()) {
        let mut payload = encode(&[batch]).remove(0);
        for (at, byte) in edits {
            let at = at as usize % payload.len();
            payload[at] = byte;
        }
        payload.truncate(1 + cut as usize % (payload.len() * 2));
        let _ = decode(&payload, &mut Defined::default(), &mut Vec::new());
    }
}

#[test]
fn a_lost_record_costs_its_symbols_and_no_others() {
    let batch = |series: u32| LogBatch { series: vec![series], ..LogBatch::new(TenantId::anonymous()) };
    let payloads = encode(&[batch(1), batch(2), batch(3)]);
    let (mut defined, mut series) = (Defined::default(), Vec::new());
    // Without the first record nobody knows "__name__"; without the second all is well.
    decode(&payloads[2], &mut defined, &mut series).expect("readable");
    assert_eq!(series, []);
    let (mut defined, mut series) = (Defined::default(), Vec::new());
    decode(&payloads[0], &mut defined, &mut series).expect("readable");
    decode(&payloads[2], &mut defined, &mut series).expect("readable");
    assert_eq!(series.iter().map(|(s, _)| *s).collect::<Vec<_>>(), [1, 3]);
    assert!(decode(&payloads[1], &mut defined, &mut series).is_err(), "symbols never go back");
}

#[test]
fn packed_sections_cannot_ask_for_more_memory_than_they_could_fill() {
    let mut payload = Vec::new();
    put_text(&mut payload, "anonymous");
    payload.push(METADATA | PACKED);
    put_uvarint(&mut payload, 4);
    put_uvarint(&mut payload, 1 << 29);
    payload.extend_from_slice(&[0; 4]);
    assert!(matches!(sections(&payload), Err(DecodeError::Malformed { .. })));
}
