//! What stands before the samples of a dense chunk, and columns of times that chunks share.
//!
//! `count u16 | flags u8 | [column u32] | length u8 | statistics | [pieces]`, pieces being
//! `uvarint n | {uvarint samples}*`.

use pyrrha_model::Timestamp;

use super::{MALFORMED, MAX_SAMPLES, Statistics, integers};
use crate::DecodeError;
use crate::chunk::SAMPLES_PER_CHUNK;
use crate::varint::{put_uvarint, take_bytes, take_count, take_u8, take_u16, take_u32, take_uvarint};

/// Flag: times are not in the chunk but in a column shared with others.
const SHARED_TIMES: u8 = 1;
/// Flag: the standard chunks that it was made of have lengths of their own.
const PIECES: u8 = 2;
/// Flag: nothing but times, for other chunks.
const COLUMN: u8 = 4;

/// The header of a chunk.
#[derive(Debug)]
pub(super) struct Header<'a> {
    /// Samples.
    pub(super) count: usize,
    /// Offset, in its segment, of the column that has its times.
    pub(super) column: Option<u32>,
    statistics: &'a [u8],
    pieces: Pieces<'a>,
}

/// The lengths of the standard chunks that a chunk was made of.
#[derive(Debug)]
enum Pieces<'a> {
    Usual,
    Plain(&'a [u16]),
    Encoded(usize, &'a [u8]),
}

impl<'a> Header<'a> {
    /// Of a chunk that was made of these pieces; none: of the usual ones.
    pub(super) fn of(count: usize, column: Option<u32>, pieces: &'a [u16]) -> Self {
        let usual = pieces.is_empty() || usual_pieces(count).eq(pieces.iter().map(|&n| usize::from(n)));
        let pieces = if usual { Pieces::Usual } else { Pieces::Plain(pieces) };
        Self { count, column, statistics: &[], pieces }
    }

    pub(super) fn encode(&self, statistics: &Statistics) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.count);
        out.extend_from_slice(&(self.count as u16).to_be_bytes());
        let flag = |set, flag| if set { flag } else { 0 };
        let pieces = matches!(self.pieces, Pieces::Plain(_));
        out.push(flag(self.column.is_some(), SHARED_TIMES) | flag(pieces, PIECES));
        if let Some(column) = self.column {
            out.extend_from_slice(&column.to_be_bytes());
        }
        let start = out.len();
        out.push(0);
        statistics.put(&mut out);
        // Three counts of at most ten bytes, and five values of at most ten.
        out[start] = (out.len() - start - 1) as u8;
        if let Pieces::Plain(pieces) = self.pieces {
            put_uvarint(&mut out, pieces.len() as u64);
            pieces.iter().for_each(|&n| put_uvarint(&mut out, u64::from(n)));
        }
        out
    }

    /// Takes the header off a chunk.
    pub(super) fn take(input: &mut &'a [u8]) -> Result<Self, DecodeError> {
        let count = usize::from(take_u16(input)?);
        let flags = take_u8(input)?;
        if flags & !(SHARED_TIMES | PIECES) != 0 {
            return Err(MALFORMED);
        }
        let column = if flags & SHARED_TIMES != 0 { Some(take_u32(input)?) } else { None };
        let len = take_u8(input)?;
        let statistics = take_bytes(input, usize::from(len))?;
        let pieces = if flags & PIECES != 0 {
            let n = take_count(input, 1)?;
            let all = *input;
            for _ in 0..n {
                take_uvarint(input)?;
            }
            Pieces::Encoded(n, &all[..all.len() - input.len()])
        } else {
            Pieces::Usual
        };
        Ok(Self { count, column, statistics, pieces })
    }

    pub(super) fn statistics(&self) -> &'a [u8] {
        self.statistics
    }

    /// The lengths of the standard chunks that it was made of: none is 0, their sum is the count.
    pub(super) fn pieces(&self) -> Result<Vec<usize>, DecodeError> {
        let lengths: Vec<usize> = match &self.pieces {
            Pieces::Usual => usual_pieces(self.count).collect(),
            Pieces::Plain(pieces) => pieces.iter().map(|&n| usize::from(n)).collect(),
            Pieces::Encoded(n, bytes) => {
                let mut bytes = *bytes;
                let mut lengths = Vec::with_capacity(*n);
                for _ in 0..*n {
                    let length = usize::try_from(take_uvarint(&mut bytes)?).map_err(|_| MALFORMED)?;
                    lengths.push(length.min(MAX_SAMPLES + 1));
                }
                lengths
            }
        };
        let whole = lengths.iter().sum::<usize>() == self.count && !lengths.contains(&0);
        if whole { Ok(lengths) } else { Err(MALFORMED) }
    }
}

/// Chunks as the head makes them: full ones, and the rest.
fn usual_pieces(count: usize) -> impl Iterator<Item = usize> {
    (0..count).step_by(SAMPLES_PER_CHUNK).map(move |from| SAMPLES_PER_CHUNK.min(count - from))
}

/// The place of the column that has a chunk's times; `None` if it has them itself.
pub fn column_of(mut chunk: &[u8]) -> Result<Option<u32>, DecodeError> {
    Header::take(&mut chunk).map(|header| header.column)
}

/// The same chunk with its column elsewhere; one that has times of its own stays as it is.
pub fn with_column(chunk: &[u8], column: u32) -> Vec<u8> {
    let mut out = chunk.to_vec();
    if let [_, _, flags, a, b, c, d, ..] = &mut out[..]
        && *flags & SHARED_TIMES != 0
    {
        [*a, *b, *c, *d] = column.to_be_bytes();
    }
    out
}

/// A column of at most [`MAX_SAMPLES`] times, for chunks to share.
pub fn encode_times(times: &[Timestamp]) -> Vec<u8> {
    let times = &times[..times.len().min(MAX_SAMPLES)];
    let mut out = Vec::with_capacity(32 + times.len());
    out.extend_from_slice(&(times.len() as u16).to_be_bytes());
    out.push(COLUMN);
    integers::encode(times, &mut out);
    out
}

/// The times of a column; `None` if it is a chunk of samples.
pub fn decode_times(mut column: &[u8]) -> Result<Option<Vec<Timestamp>>, DecodeError> {
    let input = &mut column;
    let count = usize::from(take_u16(input)?);
    if take_u8(input)? != COLUMN {
        return Ok(None);
    }
    let mut times = Vec::new();
    integers::decode(input, count, &mut times)?;
    Ok(Some(times))
}
