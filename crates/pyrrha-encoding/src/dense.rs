//! Dense chunks: floats of one series as exact decimals, predicted and bit-packed, with statistics
//! in front. Ours alone (docs/adr/0004); converts back bit for bit.
//!
//! `count u16 | flags u8 | [column u32] | statistics | [pieces] | [times] | values`. See
//! docs/format/dense.md.

mod header;
pub(crate) mod integers;
mod miniblock;
mod standard;
pub(crate) mod values;

use pyrrha_model::{TimeRange, Timestamp, is_stale_nan};

use crate::column::{decode_values, encode_values};
use crate::varint::{put_uvarint, take_uvarint};
use crate::{DecodeError, FloatColumn};
use header::Header;
pub use header::{column_of, decode_times, encode_times, with_column};
pub use standard::{Draft, standard_chunks};

/// Most samples of a chunk.
pub const MAX_SAMPLES: usize = u16::MAX as usize;

const MALFORMED: DecodeError = DecodeError::Malformed { part: "dense chunk" };

/// What is known of a chunk's values without decoding them. Of NaNs only the number is known: the
/// rest is about the other values, and NaN (for `resets`, 0) if there is none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Statistics {
    /// Samples, NaNs and stale markers included.
    pub count: usize,
    /// Values that are NaN but no stale marker.
    pub nans: u64,
    /// Stale markers.
    pub stale: u64,
    /// The first value.
    pub first: f64,
    /// The last value.
    pub last: f64,
    /// The least value.
    pub min: f64,
    /// The greatest value.
    pub max: f64,
    /// The sum, added up in order of time with Neumaier's compensation.
    pub sum: f64,
    /// How many values are less than the one before.
    pub resets: u64,
}

impl Statistics {
    /// Of these values.
    pub fn of(values: &[f64]) -> Self {
        let mut s = Self {
            count: values.len(),
            nans: 0,
            stale: 0,
            first: f64::NAN,
            last: f64::NAN,
            min: f64::NAN,
            max: f64::NAN,
            sum: f64::NAN,
            resets: 0,
        };
        let (mut sum, mut rest) = (0.0f64, 0.0f64);
        for &value in values {
            if value.is_nan() {
                let stale = is_stale_nan(value);
                s.stale += u64::from(stale);
                s.nans += u64::from(!stale);
                continue;
            }
            if s.first.is_nan() {
                s.first = value;
            }
            s.resets += u64::from(value < s.last);
            s.last = value;
            s.min = if s.min <= value { s.min } else { value };
            s.max = if s.max >= value { s.max } else { value };
            let total = sum + value;
            if total.is_infinite() {
                rest = 0.0;
            } else if sum.abs() >= value.abs() {
                rest += (sum - total) + value;
            } else {
                rest += (value - total) + sum;
            }
            sum = total;
        }
        if !s.first.is_nan() {
            s.sum = sum + rest;
        }
        s
    }

    fn put(&self, out: &mut Vec<u8>) {
        put_uvarint(out, self.nans);
        put_uvarint(out, self.stale);
        put_uvarint(out, self.resets);
        encode_values(&[self.first, self.last, self.min, self.max, self.sum], out);
    }

    fn take(count: usize, input: &mut &[u8]) -> Result<Self, DecodeError> {
        let (nans, stale, resets) = (take_uvarint(input)?, take_uvarint(input)?, take_uvarint(input)?);
        let mut values = Vec::new();
        decode_values(input, 5, &mut values)?;
        match values[..] {
            [first, last, min, max, sum] => {
                Ok(Self { count, nans, stale, first, last, min, max, sum, resets })
            }
            _ => Err(MALFORMED),
        }
    }
}

/// Encodes at most [`MAX_SAMPLES`] samples (the shorter of both columns) with their times.
pub fn encode(times: &[Timestamp], values: &[f64]) -> Vec<u8> {
    encode_pieces(times, values, &[])
}

/// As [`encode`], for samples that came in standard chunks of these lengths; none: of the usual ones.
fn encode_pieces(times: &[Timestamp], values: &[f64], pieces: &[u16]) -> Vec<u8> {
    let count = times.len().min(values.len()).min(MAX_SAMPLES);
    let mut out = Header::of(count, None, pieces).encode(&Statistics::of(&values[..count]));
    integers::encode(&times[..count], &mut out);
    values::encode(&values[..count], &mut out);
    out
}

/// Encodes at most [`MAX_SAMPLES`] values whose times are in the shared column at `column`.
pub fn encode_shared(values: &[f64], column: u32) -> Vec<u8> {
    encode_shared_pieces(values, column, &[])
}

fn encode_shared_pieces(values: &[f64], column: u32, pieces: &[u16]) -> Vec<u8> {
    let values = &values[..values.len().min(MAX_SAMPLES)];
    let mut out = Header::of(values.len(), Some(column), pieces).encode(&Statistics::of(values));
    values::encode(values, &mut out);
    out
}

/// The statistics of a dense chunk.
pub fn statistics(mut bytes: &[u8]) -> Result<Statistics, DecodeError> {
    let header = Header::take(&mut bytes)?;
    Statistics::take(header.count, &mut header.statistics())
}

/// Appends the samples of a dense chunk that lie in `range` to `column` (times and values; start
/// timestamps it has none). `shared` has the times if the chunk does not. They come as stored: in a
/// damaged chunk times may not ascend. On error the column is as before.
pub fn decode(
    bytes: &[u8],
    shared: Option<&[Timestamp]>,
    range: TimeRange,
    column: &mut FloatColumn,
) -> Result<(), DecodeError> {
    let before = column.times.len();
    let done = append(bytes, shared, column);
    if done.is_err() {
        column.times.truncate(before);
        column.values.truncate(before);
        return done;
    }
    if range == TimeRange::ALL {
        return Ok(());
    }
    let times = &column.times[before..];
    if times.iter().all(|&t| range.contains(t)) {
        return Ok(());
    }
    let mut kept = before;
    for i in before..column.times.len() {
        if range.contains(column.times[i]) {
            column.times[kept] = column.times[i];
            column.values[kept] = column.values[i];
            kept += 1;
        }
    }
    column.times.truncate(kept);
    column.values.truncate(kept);
    Ok(())
}

fn append(
    mut bytes: &[u8],
    shared: Option<&[Timestamp]>,
    column: &mut FloatColumn,
) -> Result<(), DecodeError> {
    let input = &mut bytes;
    let header = Header::take(input)?;
    match (header.column, shared) {
        (None, _) => integers::decode(input, header.count, &mut column.times)?,
        (Some(_), Some(times)) if times.len() == header.count => column.times.extend_from_slice(times),
        (Some(_), _) => return Err(DecodeError::Truncated { part: "shared timestamps" }),
    }
    values::decode(input, header.count, &mut column.values)
}

#[cfg(test)]
mod tests;
