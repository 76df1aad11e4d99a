//! Native histograms in a record, bit for bit.

use std::sync::Arc;

use pyrrha_encoding::DecodeError;
use pyrrha_encoding::varint::{
    put_uvarint, put_varint, take_array, take_count, take_u8, take_uvarint, take_uvarint32, take_varint,
};
use pyrrha_model::contract::Value;
use pyrrha_model::{CounterResetHint, FloatHistogram, Histogram, Span};

use super::LogHistogram;

const FLOAT: u8 = 0;
const INTEGER_HISTOGRAM: u8 = 1;
const FLOAT_HISTOGRAM: u8 = 2;

/// Appends histogram samples.
pub(super) fn put_histograms(out: &mut Vec<u8>, histograms: &[LogHistogram]) {
    put_uvarint(out, histograms.len() as u64);
    let (mut series, mut t) = (0i64, 0i64);
    for h in histograms {
        put_varint(out, i64::from(h.series) - series);
        put_varint(out, h.t.wrapping_sub(t));
        put_varint(out, h.start);
        (series, t) = (i64::from(h.series), h.t);
        match &h.value {
            Value::Float(v) => {
                out.push(FLOAT);
                put_f64(out, *v);
            }
            Value::Histogram(h) => put_integer(out, h),
            Value::FloatHistogram(h) => put_float(out, h),
        }
    }
}

/// Reads histogram samples.
pub(super) fn take_histograms(mut input: &[u8]) -> Result<Vec<LogHistogram>, DecodeError> {
    let input = &mut input;
    let count = take_count(input, 12)?;
    let mut all = Vec::with_capacity(count);
    let (mut series, mut t) = (0i64, 0i64);
    for _ in 0..count {
        series = series.wrapping_add(take_varint(input)?);
        t = t.wrapping_add(take_varint(input)?);
        let start = take_varint(input)?;
        let value = match take_u8(input)? {
            FLOAT => Value::Float(take_f64(input)?),
            INTEGER_HISTOGRAM => Value::Histogram(Box::new(take_integer(input)?)),
            FLOAT_HISTOGRAM => Value::FloatHistogram(Box::new(take_float(input)?)),
            _ => return Err(DecodeError::Malformed { part: "histogram kind" }),
        };
        let series =
            u32::try_from(series).map_err(|_| DecodeError::Malformed { part: "histogram's series" })?;
        all.push(LogHistogram { series, t, start, value });
    }
    Ok(all)
}

fn put_integer(out: &mut Vec<u8>, h: &Histogram) {
    out.push(INTEGER_HISTOGRAM);
    out.push(hint_byte(h.counter_reset_hint));
    put_varint(out, i64::from(h.schema));
    put_f64(out, h.zero_threshold);
    put_uvarint(out, h.zero_count);
    put_uvarint(out, h.count);
    put_f64(out, h.sum);
    put_spans(out, &h.positive_spans);
    put_spans(out, &h.negative_spans);
    for buckets in [&h.positive_buckets, &h.negative_buckets] {
        put_uvarint(out, buckets.len() as u64);
        buckets.iter().for_each(|&delta| put_varint(out, delta));
    }
    put_floats(out, &h.custom_values);
}

fn take_integer(input: &mut &[u8]) -> Result<Histogram, DecodeError> {
    Ok(Histogram {
        counter_reset_hint: hint_of(take_u8(input)?),
        schema: take_i32(input)?,
        zero_threshold: take_f64(input)?,
        zero_count: take_uvarint(input)?,
        count: take_uvarint(input)?,
        sum: take_f64(input)?,
        positive_spans: take_spans(input)?,
        negative_spans: take_spans(input)?,
        positive_buckets: take_deltas(input)?,
        negative_buckets: take_deltas(input)?,
        custom_values: Arc::from(take_floats(input)?),
    })
}

fn put_float(out: &mut Vec<u8>, h: &FloatHistogram) {
    out.push(FLOAT_HISTOGRAM);
    out.push(hint_byte(h.counter_reset_hint));
    put_varint(out, i64::from(h.schema));
    [h.zero_threshold, h.zero_count, h.count, h.sum].iter().for_each(|&v| put_f64(out, v));
    put_spans(out, &h.positive_spans);
    put_spans(out, &h.negative_spans);
    put_floats(out, &h.positive_buckets);
    put_floats(out, &h.negative_buckets);
    put_floats(out, &h.custom_values);
}

fn take_float(input: &mut &[u8]) -> Result<FloatHistogram, DecodeError> {
    Ok(FloatHistogram {
        counter_reset_hint: hint_of(take_u8(input)?),
        schema: take_i32(input)?,
        zero_threshold: take_f64(input)?,
        zero_count: take_f64(input)?,
        count: take_f64(input)?,
        sum: take_f64(input)?,
        positive_spans: take_spans(input)?,
        negative_spans: take_spans(input)?,
        positive_buckets: take_floats(input)?,
        negative_buckets: take_floats(input)?,
        custom_values: Arc::from(take_floats(input)?),
    })
}

fn put_spans(out: &mut Vec<u8>, spans: &[Span]) {
    put_uvarint(out, spans.len() as u64);
    for span in spans {
        put_varint(out, i64::from(span.offset));
        put_uvarint(out, u64::from(span.length));
    }
}

fn take_spans(input: &mut &[u8]) -> Result<Vec<Span>, DecodeError> {
    let count = take_count(input, 2)?;
    let span = |_| Ok(Span { offset: take_i32(input)?, length: take_uvarint32(input)? });
    (0..count).map(span).collect()
}

fn take_deltas(input: &mut &[u8]) -> Result<Vec<i64>, DecodeError> {
    let count = take_count(input, 1)?;
    (0..count).map(|_| take_varint(input)).collect()
}

fn put_floats(out: &mut Vec<u8>, values: &[f64]) {
    put_uvarint(out, values.len() as u64);
    values.iter().for_each(|&v| put_f64(out, v));
}

fn take_floats(input: &mut &[u8]) -> Result<Vec<f64>, DecodeError> {
    let count = take_count(input, 8)?;
    (0..count).map(|_| take_f64(input)).collect()
}

fn put_f64(out: &mut Vec<u8>, value: f64) {
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

fn take_f64(input: &mut &[u8]) -> Result<f64, DecodeError> {
    Ok(f64::from_bits(u64::from_le_bytes(take_array(input)?)))
}

fn take_i32(input: &mut &[u8]) -> Result<i32, DecodeError> {
    i32::try_from(take_varint(input)?).map_err(|_| DecodeError::Malformed { part: "32-bit number" })
}

fn hint_byte(hint: CounterResetHint) -> u8 {
    match hint {
        CounterResetHint::Unknown => 0,
        CounterResetHint::Reset => 1,
        CounterResetHint::NotReset => 2,
        CounterResetHint::Gauge => 3,
    }
}

fn hint_of(byte: u8) -> CounterResetHint {
    match byte {
        1 => CounterResetHint::Reset,
        2 => CounterResetHint::NotReset,
        3 => CounterResetHint::Gauge,
        _ => CounterResetHint::Unknown,
    }
}
