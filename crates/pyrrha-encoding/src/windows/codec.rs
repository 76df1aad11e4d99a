//! Bytes of windows: chunks of encoding 0xD2, in two parts that are stored apart
//! (docs/format/windows.md).
//!
//! `1 | part u8 | uvarint resolution ms | uvarint n | window numbers | counts | columns of the part`

use bytes::Bytes;
use pyrrha_model::contract::{ChunkRef, Timestamps};
use pyrrha_model::{ChunkEncoding, TimeRange, Timestamp};

use super::{Edges, Totals, Windows};
use crate::DecodeError;
use crate::dense::{integers, values};
use crate::varint::{put_uvarint, take_u8, take_uvarint};

/// Most windows of a chunk: it bounds what damaged bytes can allocate.
pub const MAX_WINDOWS: usize = u16::MAX as usize;

const VERSION: u8 = 1;
const MALFORMED: DecodeError = DecodeError::Malformed { part: "windows" };

/// Which columns a chunk has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum WindowPart {
    /// [`Edges`].
    Edges = 1,
    /// [`Totals`].
    Values = 2,
}

/// The chunk of a part of at most [`MAX_WINDOWS`] windows of one resolution, at least one. `None` if
/// there is none, or the part is not known.
pub fn encode_windows(windows: &Windows, resolution: i64, part: WindowPart) -> Option<ChunkRef> {
    let n = windows.len();
    let known = match part {
        WindowPart::Edges => windows.has_edges(),
        WindowPart::Values => windows.has_values(),
    };
    if n == 0 || n > MAX_WINDOWS || resolution <= 0 || !known {
        return None;
    }
    let mut out = vec![VERSION, part as u8];
    put_uvarint(&mut out, resolution.unsigned_abs());
    put_uvarint(&mut out, n as u64);
    let mut numbers = Vec::with_capacity(n);
    let mut put = |out: &mut Vec<u8>, column: &mut dyn Iterator<Item = i64>| {
        numbers.clear();
        numbers.extend(column);
        integers::encode(&numbers, out);
    };
    put(&mut out, &mut windows.starts.iter().map(|s| s.div_euclid(resolution)));
    put(&mut out, &mut windows.counts.iter().map(|c| i64::from(*c)));
    match part {
        WindowPart::Edges => {
            let e = &windows.edges;
            let mut offsets = |times: &[Timestamp]| {
                put(&mut out, &mut times.iter().zip(&windows.starts).map(|(t, s)| t.wrapping_sub(*s)));
            };
            offsets(&e.first_times);
            offsets(&e.last_times);
            for column in [&e.resets, &e.changes, &e.stale] {
                put(&mut out, &mut column.iter().map(|c| i64::from(*c)));
            }
            for column in [&e.first_values, &e.last_values, &e.corrections] {
                values::encode(column, &mut out);
            }
        }
        WindowPart::Values => {
            let v = &windows.values;
            put(&mut out, &mut v.nans.iter().map(|c| i64::from(*c)));
            for column in [&v.sums, &v.mins, &v.maxs, &v.deviations] {
                values::encode(column, &mut out);
            }
        }
    }
    Some(ChunkRef {
        min_time: windows.starts[0],
        max_time: windows.ends[n - 1],
        encoding: ChunkEncoding::Windows,
        timestamps: Timestamps::Own,
        bytes: Bytes::from(out),
    })
}

/// Reads a chunk of windows into `out`, but for windows that have nothing in `range`. Chunks come by
/// time; the second part of the same windows follows the first and completes it. Gives the length of
/// the windows, ms. On error `out` is without meaning.
pub fn decode_windows(bytes: &[u8], range: TimeRange, out: &mut Windows) -> Result<i64, DecodeError> {
    let (mut read, part) = read(bytes)?;
    let resolution = read.ends[0] - read.starts[0] + 1;
    let from = read.ends.iter().take_while(|end| **end < range.start).count();
    let to = from + read.starts[from..].iter().take_while(|start| **start <= range.end).count();
    if (from, to) != (0, read.len()) {
        let mut kept = Windows::default();
        kept.extend(&read, from..to);
        read = kept;
    }
    let (len, n) = (out.len(), read.len());
    let missing = match part {
        WindowPart::Edges => out.edges.first_times.len() + n == len,
        WindowPart::Values => out.values.sums.len() + n == len,
    };
    let completes = n > 0 && missing && out.starts[len - n..] == read.starts[..];
    if completes {
        if out.counts[len - n..] != read.counts[..] {
            return Err(MALFORMED);
        }
        (read.starts, read.ends, read.counts) = (Vec::new(), Vec::new(), Vec::new());
    }
    out.extend(&read, 0..n);
    Ok(resolution)
}

fn read(bytes: &[u8]) -> Result<(Windows, WindowPart), DecodeError> {
    let input = &mut &bytes[..];
    if take_u8(input)? != VERSION {
        return Err(MALFORMED);
    }
    let part = match take_u8(input)? {
        1 => WindowPart::Edges,
        2 => WindowPart::Values,
        _ => return Err(MALFORMED),
    };
    let resolution = i64::try_from(take_uvarint(input)?).map_err(|_| MALFORMED)?;
    let n = usize::try_from(take_uvarint(input)?).map_err(|_| MALFORMED)?;
    if n == 0 || n > MAX_WINDOWS || resolution == 0 {
        return Err(MALFORMED);
    }
    let mut windows = Windows::default();
    integers::decode(input, n, &mut windows.starts)?;
    for start in &mut windows.starts {
        *start = start.checked_mul(resolution).ok_or(MALFORMED)?;
        windows.ends.push(start.checked_add(resolution - 1).ok_or(MALFORMED)?);
    }
    take_u32s(input, n, &mut windows.counts)?;
    match part {
        WindowPart::Edges => take_edges(input, n, &windows.starts, &mut windows.edges)?,
        WindowPart::Values => take_totals(input, n, &windows.counts, &mut windows.values)?,
    }
    let counted = windows.counts.iter().all(|c| *c > 0);
    if counted && windows.is_sound() { Ok((windows, part)) } else { Err(MALFORMED) }
}

fn take_edges(
    input: &mut &[u8],
    n: usize,
    starts: &[Timestamp],
    edges: &mut Edges,
) -> Result<(), DecodeError> {
    for times in [&mut edges.first_times, &mut edges.last_times] {
        integers::decode(input, n, times)?;
        times.iter_mut().zip(starts).for_each(|(t, s)| *t = t.wrapping_add(*s));
    }
    for column in [&mut edges.resets, &mut edges.changes, &mut edges.stale] {
        take_u32s(input, n, column)?;
    }
    for column in [&mut edges.first_values, &mut edges.last_values, &mut edges.corrections] {
        values::decode(input, n, column)?;
    }
    // Readers count on samples by time.
    let in_order = |(i, (first, last)): (usize, (&Timestamp, &Timestamp))| {
        first <= last && (i == 0 || edges.last_times[i - 1] < *first)
    };
    let times = edges.first_times.iter().zip(&edges.last_times);
    if times.enumerate().all(in_order) { Ok(()) } else { Err(MALFORMED) }
}

fn take_totals(input: &mut &[u8], n: usize, counts: &[u32], totals: &mut Totals) -> Result<(), DecodeError> {
    take_u32s(input, n, &mut totals.nans)?;
    for column in [&mut totals.sums, &mut totals.mins, &mut totals.maxs, &mut totals.deviations] {
        values::decode(input, n, column)?;
    }
    if totals.nans.iter().zip(counts).all(|(nans, count)| nans <= count) { Ok(()) } else { Err(MALFORMED) }
}

fn take_u32s(input: &mut &[u8], n: usize, out: &mut Vec<u32>) -> Result<(), DecodeError> {
    let mut numbers = Vec::new();
    integers::decode(input, n, &mut numbers)?;
    for number in numbers {
        out.push(u32::try_from(number).map_err(|_| MALFORMED)?);
    }
    Ok(())
}
