//! From standard chunks to dense ones and back, bit for bit.

use bytes::Bytes;
use pyrrha_model::contract::{ChunkRef, Timestamps};
use pyrrha_model::{ChunkEncoding, TimeRange, Timestamp};

use super::{MALFORMED, encode_pieces, encode_shared_pieces};
use crate::chunk::{decode_floats, decode_shared_floats, xor};
use crate::dense::header::Header;
use crate::{DecodeError, FloatColumn};

/// Samples that a draft takes at most: pieces beyond them begin another chunk.
const FULL: usize = 1024;
/// Pieces of one aligned window of time make one chunk, so that the series of a target, whichever
/// scrape they begin with, have chunks of the same times.
const WINDOW_MS: i64 = 2 * 3_600_000;

/// Standard float chunks of one series that will be one dense chunk.
#[derive(Debug, Default)]
pub struct Draft {
    samples: FloatColumn,
    pieces: Vec<u16>,
}

impl Draft {
    /// Adds a chunk that comes after those added before. False, and no change, if it has to go
    /// elsewhere: it is no XOR chunk, would not come back bit for bit, or the draft is full.
    pub fn push(&mut self, chunk: &ChunkRef) -> bool {
        if chunk.encoding != ChunkEncoding::Xor || !matches!(chunk.timestamps, Timestamps::Own) {
            return false;
        }
        let before = self.samples.times.len();
        let decoded = decode_floats(chunk.encoding, &chunk.bytes, TimeRange::ALL, &mut self.samples, false);
        let taken = decoded.is_ok() && self.fits(before, chunk);
        if taken {
            // At most `FULL`.
            self.pieces.push((self.samples.times.len() - before) as u16);
        } else {
            self.samples.times.truncate(before);
            self.samples.values.truncate(before);
        }
        taken
    }

    fn fits(&self, before: usize, chunk: &ChunkRef) -> bool {
        let (times, values) = (&self.samples.times[before..], &self.samples.values[before..]);
        let Some((&first, &last)) = times.first().zip(times.last()) else { return false };
        let beside = self.samples.times.first().is_some_and(|t| {
            before == 0
                || self.samples.times[before - 1] < first
                    && t.div_euclid(WINDOW_MS) == first.div_euclid(WINDOW_MS)
        });
        beside
            && self.samples.times.len() <= FULL
            && (first, last) == (chunk.min_time, chunk.max_time)
            && times.is_sorted_by(|a, b| a < b)
            && xor::encode(times, values)[..] == chunk.bytes[..]
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Times of its samples.
    pub fn times(&self) -> &[Timestamp] {
        &self.samples.times
    }

    /// The chunk, with its times.
    pub fn encode(&self) -> Vec<u8> {
        encode_pieces(&self.samples.times, &self.samples.values, &self.pieces)
    }

    /// The chunk, whose times are in a shared column.
    pub fn encode_shared(&self, column: u32) -> Vec<u8> {
        encode_shared_pieces(&self.samples.values, column, &self.pieces)
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.samples.times.clear();
        self.samples.values.clear();
        self.pieces.clear();
    }
}

/// Appends the standard chunks that a chunk was made of, as any system reads them: of a dense one
/// those that it was made of, of any other one itself.
pub fn standard_chunks(chunk: &ChunkRef, out: &mut Vec<ChunkRef>) -> Result<(), DecodeError> {
    let mut column = FloatColumn::default();
    let shared = match &chunk.timestamps {
        Timestamps::Own => None,
        Timestamps::Shared(times) => Some(&times[..]),
    };
    match (chunk.encoding, shared) {
        (ChunkEncoding::Dense, shared) => {
            super::decode(&chunk.bytes, shared, TimeRange::ALL, &mut column)?;
            let pieces = Header::take(&mut &chunk.bytes[..])?.pieces()?;
            let mut from = 0;
            for length in pieces {
                let to = from + length;
                let (times, values) =
                    column.times.get(from..to).zip(column.values.get(from..to)).ok_or(MALFORMED)?;
                out.extend(xor_chunk(times, values));
                from = to;
            }
        }
        (encoding, Some(times)) => {
            decode_shared_floats(encoding, &chunk.bytes, times, TimeRange::ALL, &mut column, false)?;
            out.extend(xor_chunk(&column.times, &column.values));
        }
        (_, None) => out.push(chunk.clone()),
    }
    Ok(())
}

fn xor_chunk(times: &[Timestamp], values: &[f64]) -> Option<ChunkRef> {
    let (&min_time, &max_time) = times.first().zip(times.last())?;
    Some(ChunkRef {
        min_time,
        max_time,
        encoding: ChunkEncoding::Xor,
        timestamps: Timestamps::Own,
        bytes: Bytes::from(xor::encode(times, values)),
    })
}
