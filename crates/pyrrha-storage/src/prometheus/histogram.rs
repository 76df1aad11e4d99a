//! Native histograms inside records.

use std::sync::Arc;

use pyrrha_encoding::DecodeError;
use pyrrha_encoding::varint::{take_count, take_u8, take_u64, take_uvarint, take_uvarint32, take_varint};
use pyrrha_model::histogram::CUSTOM_BUCKETS_SCHEMA;
use pyrrha_model::{CounterResetHint, FloatHistogram, Histogram, Span};

/// An integer histogram: hint, schema, zero threshold and count, count, sum, spans, bucket deltas.
pub(super) fn take_histogram(input: &mut &[u8]) -> Result<Histogram, DecodeError> {
    let mut histogram = Histogram {
        counter_reset_hint: take_hint(input)?,
        schema: take_schema(input)?,
        zero_threshold: take_f64(input)?,
        zero_count: take_uvarint(input)?,
        count: take_uvarint(input)?,
        sum: take_f64(input)?,
        positive_spans: take_spans(input)?,
        negative_spans: take_spans(input)?,
        ..Histogram::default()
    };
    histogram.positive_buckets = take_list(input, 1, take_varint)?;
    histogram.negative_buckets = take_list(input, 1, take_varint)?;
    histogram.custom_values = take_bounds(input, histogram.schema)?;
    Ok(histogram)
}

/// A float histogram: the same with floats for counts.
pub(super) fn take_float_histogram(input: &mut &[u8]) -> Result<FloatHistogram, DecodeError> {
    let mut histogram = FloatHistogram {
        counter_reset_hint: take_hint(input)?,
        schema: take_schema(input)?,
        zero_threshold: take_f64(input)?,
        zero_count: take_f64(input)?,
        count: take_f64(input)?,
        sum: take_f64(input)?,
        positive_spans: take_spans(input)?,
        negative_spans: take_spans(input)?,
        ..FloatHistogram::default()
    };
    histogram.positive_buckets = take_list(input, 8, take_f64)?;
    histogram.negative_buckets = take_list(input, 8, take_f64)?;
    histogram.custom_values = take_bounds(input, histogram.schema)?;
    Ok(histogram)
}

/// A big-endian float.
pub(super) fn take_f64(input: &mut &[u8]) -> Result<f64, DecodeError> {
    take_u64(input).map(f64::from_bits)
}

fn take_hint(input: &mut &[u8]) -> Result<CounterResetHint, DecodeError> {
    Ok(match take_u8(input)? {
        0 => CounterResetHint::Unknown,
        1 => CounterResetHint::Reset,
        2 => CounterResetHint::NotReset,
        3 => CounterResetHint::Gauge,
        _ => return Err(DecodeError::Malformed { part: "counter reset hint" }),
    })
}

fn take_schema(input: &mut &[u8]) -> Result<i32, DecodeError> {
    i32::try_from(take_varint(input)?).map_err(|_| DecodeError::Malformed { part: "histogram schema" })
}

fn take_spans(input: &mut &[u8]) -> Result<Vec<Span>, DecodeError> {
    take_list(input, 2, |input| {
        let offset = i32::try_from(take_varint(input)?);
        let offset = offset.map_err(|_| DecodeError::Malformed { part: "span offset" })?;
        Ok(Span { offset, length: take_uvarint32(input)? })
    })
}

fn take_bounds(input: &mut &[u8], schema: i32) -> Result<Arc<[f64]>, DecodeError> {
    if schema != CUSTOM_BUCKETS_SCHEMA {
        return Ok(Arc::default());
    }
    Ok(take_list(input, 8, take_f64)?.into())
}

fn take_list<T>(
    input: &mut &[u8],
    min_bytes: usize,
    mut take: impl FnMut(&mut &[u8]) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let count = take_count(input, min_bytes)?;
    (0..count).map(|_| take(input)).collect()
}
