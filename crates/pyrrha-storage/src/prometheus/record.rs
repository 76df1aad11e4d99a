//! What a record says.
//!
//! ```text
//! type u8 |  1 series      { ref u64, labels }*
//!            2 samples     ref u64, t i64, { varint ref - first, varint t - first, f64 }*
//!            3 tombstones  { ref u64, varint min, varint max }*
//!            4 exemplars   ref u64, t i64, { varint ref - first, varint t - first, f64, labels }*
//!            5 markers     { ref u64, chunk u64 }*
//!            6 metadata    { uvarint ref, type u8, uvarint n, { name, value }* }*
//!            7, 9 integer histograms, 8, 10 float histograms: as samples, with a histogram
//!           11, 12, 13 samples and histograms with start times: { varint ref - previous, varint t -
//!               first, 0 none | 1 as before | 2 varint start - first start, value }*; of the first the
//!               three are as they are and there is no marker
//! ```

use pyrrha_encoding::DecodeError;
use pyrrha_encoding::varint::{
    take_count, take_length_prefixed, take_u8, take_u64, take_uvarint, take_varint,
};
use pyrrha_model::contract::Value;
use pyrrha_model::{Exemplar, Labels, Metadata, MetricType, TimeRange, Timestamp};

use super::histogram::{take_f64, take_float_histogram, take_histogram};

/// A sample of a record.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleRow {
    /// Series reference.
    pub series: u64,
    /// Start timestamp, ms; 0: not known.
    pub start: Timestamp,
    /// Time, ms.
    pub time: Timestamp,
    /// Value.
    pub value: Value,
}

/// A record, decoded.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// References and the labels that they stand for.
    Series(Vec<(u64, Labels)>),
    /// Samples of any kind.
    Samples(Vec<SampleRow>),
    /// Deleted intervals.
    Tombstones(Vec<(u64, TimeRange)>),
    /// Exemplars by series.
    Exemplars(Vec<(u64, Exemplar)>),
    /// Chunks that were written to `chunks_head/`; the samples before them are in there too.
    Markers(Vec<(u64, u64)>),
    /// Metadata by series.
    Metadata(Vec<(u64, Metadata)>),
    /// A type that this version does not know.
    Unknown(u8),
}

/// Decodes a record. No bytes whatever make it panic, or take memory beyond a multiple of theirs.
pub fn decode_record(bytes: &[u8]) -> Result<Record, DecodeError> {
    let mut input = bytes;
    let kind = take_u8(&mut input)?;
    let input = &mut input;
    Ok(match kind {
        1 => Record::Series(rows(input, |i| Ok((take_u64(i)?, take_labels(i)?)))?),
        2 => Record::Samples(deltas(input, float)?),
        3 => Record::Tombstones(rows(input, |i| {
            Ok((take_u64(i)?, TimeRange::new(take_varint(i)?, take_varint(i)?)))
        })?),
        4 => Record::Exemplars(exemplars(input)?),
        5 => Record::Markers(rows(input, |i| Ok((take_u64(i)?, take_u64(i)?)))?),
        6 => Record::Metadata(rows(input, take_metadata)?),
        7 | 9 => Record::Samples(deltas(input, integer_histogram)?),
        8 | 10 => Record::Samples(deltas(input, float_histogram)?),
        11 => Record::Samples(started(input, float)?),
        12 => Record::Samples(started(input, integer_histogram)?),
        13 => Record::Samples(started(input, float_histogram)?),
        other => Record::Unknown(other),
    })
}

fn float(input: &mut &[u8]) -> Result<Value, DecodeError> {
    take_f64(input).map(Value::Float)
}

fn integer_histogram(input: &mut &[u8]) -> Result<Value, DecodeError> {
    take_histogram(input).map(|h| Value::Histogram(Box::new(h)))
}

fn float_histogram(input: &mut &[u8]) -> Result<Value, DecodeError> {
    take_float_histogram(input).map(|h| Value::FloatHistogram(Box::new(h)))
}

/// Rows up to the end of the record.
fn rows<T>(
    input: &mut &[u8],
    mut take: impl FnMut(&mut &[u8]) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let mut rows = Vec::new();
    while !input.is_empty() {
        rows.push(take(input)?);
    }
    Ok(rows)
}

/// Samples as differences to the reference and time that the record begins with.
fn deltas(
    input: &mut &[u8],
    value: impl Fn(&mut &[u8]) -> Result<Value, DecodeError>,
) -> Result<Vec<SampleRow>, DecodeError> {
    if input.is_empty() {
        return Ok(Vec::new());
    }
    let (series, time) = (take_u64(input)?, take_u64(input)? as Timestamp);
    rows(input, |input| {
        let series = series.wrapping_add(take_varint(input)? as u64);
        let time = time.wrapping_add(take_varint(input)?);
        Ok(SampleRow { series, start: 0, time, value: value(input)? })
    })
}

/// Samples with start times.
fn started(
    input: &mut &[u8],
    value: impl Fn(&mut &[u8]) -> Result<Value, DecodeError>,
) -> Result<Vec<SampleRow>, DecodeError> {
    let mut first: Option<(Timestamp, Timestamp)> = None;
    let (mut series, mut start) = (0u64, 0);
    rows(input, |input| {
        series = series.wrapping_add(take_varint(input)? as u64);
        let delta = take_varint(input)?;
        let time = match first {
            None => {
                start = take_varint(input)?;
                first = Some((delta, start));
                delta
            }
            Some((first_time, first_start)) => {
                start = match take_u8(input)? {
                    0 => 0,
                    1 => start,
                    2 => first_start.wrapping_add(take_varint(input)?),
                    _ => return Err(DecodeError::Malformed { part: "start time marker" }),
                };
                first_time.wrapping_add(delta)
            }
        };
        Ok(SampleRow { series, start, time, value: value(input)? })
    })
}

fn exemplars(input: &mut &[u8]) -> Result<Vec<(u64, Exemplar)>, DecodeError> {
    if input.is_empty() {
        return Ok(Vec::new());
    }
    let (series, time) = (take_u64(input)?, take_u64(input)? as Timestamp);
    rows(input, |input| {
        let series = series.wrapping_add(take_varint(input)? as u64);
        let timestamp = time.wrapping_add(take_varint(input)?);
        let value = take_f64(input)?;
        Ok((series, Exemplar { labels: take_labels(input)?, value, timestamp }))
    })
}

fn take_labels(input: &mut &[u8]) -> Result<Labels, DecodeError> {
    let count = take_count(input, 2)?;
    let mut pairs = Vec::with_capacity(count);
    for _ in 0..count {
        pairs.push((take_text(input)?, take_text(input)?));
    }
    if !pairs.is_sorted_by(|a, b| a.0 < b.0) {
        return Err(DecodeError::Malformed { part: "order of label names" });
    }
    Ok(Labels::from_pairs(pairs))
}

fn take_text<'a>(input: &mut &'a [u8]) -> Result<&'a str, DecodeError> {
    std::str::from_utf8(take_length_prefixed(input)?)
        .map_err(|_| DecodeError::Malformed { part: "text that is not UTF-8" })
}

/// Fields are named, so that there may be others.
fn take_metadata(input: &mut &[u8]) -> Result<(u64, Metadata), DecodeError> {
    let (series, kind) = (take_uvarint(input)?, take_u8(input)?);
    let metric_type = match kind {
        1 => MetricType::Counter,
        2 => MetricType::Gauge,
        3 => MetricType::Histogram,
        4 => MetricType::GaugeHistogram,
        5 => MetricType::Summary,
        6 => MetricType::Info,
        7 => MetricType::StateSet,
        _ => MetricType::Unknown,
    };
    let mut metadata = Metadata { metric_type, ..Metadata::default() };
    for _ in 0..take_count(input, 2)? {
        let (name, value) = (take_text(input)?, take_text(input)?);
        match name {
            "UNIT" => metadata.unit = value.to_owned(),
            "HELP" => metadata.help = value.to_owned(),
            _ => {}
        }
    }
    Ok((series, metadata))
}
