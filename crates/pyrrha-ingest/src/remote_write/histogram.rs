//! Walks a native histogram message; the same in both protocol versions.

use pyrrha_model::contract::Value;
use pyrrha_model::{CounterResetHint, FloatHistogram, Histogram, Span};

use super::request::HistogramSample;
use super::wire::{Walker, WireError};

/// Decodes a `Histogram` message. It is an integer histogram unless `count_float` is set.
pub(crate) fn walk(mut message: Walker<'_>) -> Result<HistogramSample, WireError> {
    let mut fields = Fields::default();
    while let Some(field) = message.next_field()? {
        match field.number {
            1 => fields.count_int = field.varint()?,
            2 => fields.count_float = Some(field.double()?),
            3 => fields.sum = field.double()?,
            4 => fields.schema = field.sint32()?,
            5 => fields.zero_threshold = field.double()?,
            6 => fields.zero_count_int = field.varint()?,
            7 => fields.zero_count_float = field.double()?,
            8 => fields.negative_spans.push(span(field.message()?)?),
            9 => field.sint64s(&mut fields.negative_deltas)?,
            10 => field.doubles(&mut fields.negative_counts)?,
            11 => fields.positive_spans.push(span(field.message()?)?),
            12 => field.sint64s(&mut fields.positive_deltas)?,
            13 => field.doubles(&mut fields.positive_counts)?,
            14 => fields.reset_hint = field.varint()?,
            15 => fields.t = field.int64()?,
            16 => field.doubles(&mut fields.custom_values)?,
            17 => fields.start = field.int64()?,
            _ => {}
        }
    }
    let (start, t) = (fields.start, fields.t);
    Ok(HistogramSample { start, t, value: fields.into_value() })
}

fn span(mut message: Walker<'_>) -> Result<Span, WireError> {
    let mut span = Span::default();
    while let Some(field) = message.next_field()? {
        match field.number {
            1 => span.offset = field.sint32()?,
            2 => span.length = field.uint32()?,
            _ => {}
        }
    }
    Ok(span)
}

#[derive(Default)]
struct Fields {
    count_int: u64,
    count_float: Option<f64>,
    sum: f64,
    schema: i32,
    zero_threshold: f64,
    zero_count_int: u64,
    zero_count_float: f64,
    negative_spans: Vec<Span>,
    negative_deltas: Vec<i64>,
    negative_counts: Vec<f64>,
    positive_spans: Vec<Span>,
    positive_deltas: Vec<i64>,
    positive_counts: Vec<f64>,
    reset_hint: u64,
    t: i64,
    custom_values: Vec<f64>,
    start: i64,
}

impl Fields {
    fn into_value(self) -> Value {
        let counter_reset_hint = match self.reset_hint {
            1 => CounterResetHint::Reset,
            2 => CounterResetHint::NotReset,
            3 => CounterResetHint::Gauge,
            _ => CounterResetHint::Unknown,
        };
        let custom_values = self.custom_values.into();
        match self.count_float {
            Some(count) => Value::FloatHistogram(Box::new(FloatHistogram {
                counter_reset_hint,
                schema: self.schema,
                zero_threshold: self.zero_threshold,
                zero_count: self.zero_count_float,
                count,
                sum: self.sum,
                positive_spans: self.positive_spans,
                negative_spans: self.negative_spans,
                positive_buckets: self.positive_counts,
                negative_buckets: self.negative_counts,
                custom_values,
            })),
            None => Value::Histogram(Box::new(Histogram {
                counter_reset_hint,
                schema: self.schema,
                zero_threshold: self.zero_threshold,
                zero_count: self.zero_count_int,
                count: self.count_int,
                sum: self.sum,
                positive_spans: self.positive_spans,
                negative_spans: self.negative_spans,
                positive_buckets: self.positive_deltas,
                negative_buckets: self.negative_deltas,
                custom_values,
            })),
        }
    }
}
