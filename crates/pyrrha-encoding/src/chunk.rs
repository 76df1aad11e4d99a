//! Chunk codecs: the encodings of Prometheus' chunk files, byte for byte (docs/format/chunks.md).

pub mod histogram;
mod sample_bits;
mod start_time;
mod varbit;
mod window;
pub mod xor;
pub mod xor2;

pub use histogram::HistogramAppender;
pub use sample_bits::ChunkBuffer;
pub(crate) use xor::Rhythm;
pub use xor::XorAppender;
pub use xor2::Xor2Appender;

use pyrrha_model::{ChunkEncoding, TimeRange, Timestamp};

use crate::{DecodeError, FloatColumn, dense};

/// Samples after which a chunk is cut, as Prometheus' default.
pub const SAMPLES_PER_CHUNK: usize = 120;

/// The number of samples in a chunk's header (of the first bytes of any encoding but
/// [`ChunkEncoding::Aggregate`]).
pub fn sample_count(encoding: ChunkEncoding, bytes: &[u8]) -> Result<usize, DecodeError> {
    let Some([high, low]) = bytes.first_chunk::<2>() else {
        return Err(DecodeError::Truncated { part: "chunk header" });
    };
    let count = usize::from(*high) << 8 | usize::from(*low);
    match encoding {
        ChunkEncoding::Xor
        | ChunkEncoding::Histogram
        | ChunkEncoding::FloatHistogram
        | ChunkEncoding::Xor2
        | ChunkEncoding::Dense => Ok(count),
        // The two highest bits are the counter-reset header.
        ChunkEncoding::HistogramSt | ChunkEncoding::FloatHistogramSt => Ok(count & 0x3fff),
        ChunkEncoding::Windows | ChunkEncoding::Aggregate => {
            Err(DecodeError::Encoding { encoding: encoding as u8 })
        }
    }
}

/// Appends the samples of a float chunk that lie in `range` to `column`. They come as stored: in a
/// damaged or foreign chunk times may not ascend. Start timestamps are added if `starts` (0 where
/// the encoding has none). On error the column is as before.
pub fn decode_floats(
    encoding: ChunkEncoding,
    bytes: &[u8],
    range: TimeRange,
    column: &mut FloatColumn,
    starts: bool,
) -> Result<(), DecodeError> {
    decode_floats_after(&mut Rhythm::default(), encoding, bytes, range, column, starts)
}

/// As [`decode_floats`], faster where times go as in the chunk decoded with this rhythm before.
pub(crate) fn decode_floats_after(
    rhythm: &mut Rhythm,
    encoding: ChunkEncoding,
    bytes: &[u8],
    range: TimeRange,
    column: &mut FloatColumn,
    starts: bool,
) -> Result<(), DecodeError> {
    let before = column.times.len();
    let done = match encoding {
        ChunkEncoding::Xor => xor::decode(bytes, range, column, rhythm),
        ChunkEncoding::Xor2 => {
            let starts = starts.then_some(&mut column.starts);
            xor2::decode(bytes, range, &mut column.times, &mut column.values, starts)
        }
        ChunkEncoding::Dense => dense::decode(bytes, None, range, column),
        ChunkEncoding::Histogram
        | ChunkEncoding::FloatHistogram
        | ChunkEncoding::HistogramSt
        | ChunkEncoding::FloatHistogramSt
        | ChunkEncoding::Windows
        | ChunkEncoding::Aggregate => Err(DecodeError::Encoding { encoding: encoding as u8 }),
    };
    finish_floats(before, done, column, starts)
}

/// As [`decode_floats`] for a chunk whose timestamps are in a shared column: `times` has the time
/// of each of its samples, in order. [`ChunkEncoding::Xor`] ([`XorAppender::append_value`]) and
/// [`ChunkEncoding::Dense`] have such a layout.
pub fn decode_shared_floats(
    encoding: ChunkEncoding,
    bytes: &[u8],
    times: &[Timestamp],
    range: TimeRange,
    column: &mut FloatColumn,
    starts: bool,
) -> Result<(), DecodeError> {
    let before = column.times.len();
    let done = match encoding {
        ChunkEncoding::Xor => xor::decode_shared(bytes, times, range, column),
        ChunkEncoding::Dense => dense::decode(bytes, Some(times), range, column),
        _ => Err(DecodeError::Encoding { encoding: encoding as u8 }),
    };
    finish_floats(before, done, column, starts)
}

fn finish_floats(
    before: usize,
    done: Result<(), DecodeError>,
    column: &mut FloatColumn,
    starts: bool,
) -> Result<(), DecodeError> {
    let len = if done.is_ok() { column.times.len() } else { before };
    column.times.truncate(len);
    column.values.truncate(len);
    if starts {
        column.starts.resize(len, 0);
    }
    done
}
