//! Bytes of windows: chunks of encoding 0xD2, in two parts that are stored apart
//! (docs/format/windows.md).
//!
//! `1 | part u8 | uvarint resolution ms | uvarint n | window numbers | counts | columns of the part`,
//! or of a series that has both floats and histograms, `1 | 5 | uvarint len | floats | histograms`.

use bytes::Bytes;
use pyrrha_model::contract::{ChunkRef, Timestamps};
use pyrrha_model::{ChunkEncoding, TimeRange, Timestamp};

use super::histograms::{histograms_size, read_histograms};
use super::{Edges, HistogramWindows, Totals, Windows};
use crate::DecodeError;
use crate::dense::{integers, values};
use crate::varint::{put_uvarint, take_bytes, take_u8, take_uvarint};

/// Most windows of a chunk: it bounds what damaged bytes can allocate.
pub const MAX_WINDOWS: usize = u16::MAX as usize;

const VERSION: u8 = 1;
/// Added to a part's number: the same of histograms.
const OF_HISTOGRAMS: u8 = 2;
/// Number of a chunk that holds one of floats and one of histograms.
const BOTH: u8 = 5;
pub(super) const MALFORMED: DecodeError = DecodeError::Malformed { part: "windows" };

/// Which columns a chunk has, of floats or of histograms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum WindowPart {
    /// [`Edges`], or [`HistogramEdges`](super::HistogramEdges).
    Edges = 1,
    /// [`Totals`], or [`HistogramTotals`](super::HistogramTotals).
    Values = 2,
}

/// What all chunks of windows begin with.
pub(super) struct Head {
    pub(super) resolution: i64,
    pub(super) starts: Vec<Timestamp>,
    pub(super) ends: Vec<Timestamp>,
    pub(super) counts: Vec<u32>,
}

/// A chunk with nothing but its head.
fn put_head(number: u8, resolution: i64, starts: &[Timestamp], counts: &[u32]) -> Vec<u8> {
    let mut out = vec![VERSION, number];
    put_uvarint(&mut out, resolution.unsigned_abs());
    put_uvarint(&mut out, starts.len() as u64);
    let numbers: Vec<i64> = starts.iter().map(|s| s.div_euclid(resolution)).collect();
    integers::encode(&numbers, &mut out);
    put_u32s(counts, &mut out);
    out
}

/// As for floats, of histograms.
pub(super) fn put_histogram_head(
    part: WindowPart,
    resolution: i64,
    starts: &[Timestamp],
    counts: &[u32],
) -> Vec<u8> {
    put_head(part as u8 + OF_HISTOGRAMS, resolution, starts, counts)
}

/// Appends a column of numbers.
pub(super) fn put_u32s(column: &[u32], out: &mut Vec<u8>) {
    let numbers: Vec<i64> = column.iter().map(|n| i64::from(*n)).collect();
    integers::encode(&numbers, out);
}

/// The chunk of some bytes that stands for these times.
pub(super) fn chunk_of(bytes: Vec<u8>, min_time: Timestamp, max_time: Timestamp) -> ChunkRef {
    ChunkRef {
        min_time,
        max_time,
        encoding: ChunkEncoding::Windows,
        timestamps: Timestamps::Own,
        bytes: Bytes::from(bytes),
    }
}

/// One chunk of the same part of floats and of histograms; that of one of them if there is no other.
pub fn with_histograms(floats: Option<ChunkRef>, histograms: Option<ChunkRef>) -> Option<ChunkRef> {
    let (floats, histograms) = match (floats, histograms) {
        (Some(floats), Some(histograms)) => (floats, histograms),
        (floats, histograms) => return floats.or(histograms),
    };
    let mut out = vec![VERSION, BOTH];
    put_uvarint(&mut out, floats.bytes.len() as u64);
    out.extend_from_slice(&floats.bytes);
    out.extend_from_slice(&histograms.bytes);
    let (min, max) = (floats.min_time.min(histograms.min_time), floats.max_time.max(histograms.max_time));
    Some(chunk_of(out, min, max))
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
    let mut out = put_head(part as u8, resolution, &windows.starts, &windows.counts);
    match part {
        WindowPart::Edges => {
            let e = &windows.edges;
            for times in [&e.first_times, &e.last_times] {
                let offsets = times.iter().zip(&windows.starts).map(|(t, s)| t.wrapping_sub(*s));
                integers::encode(&offsets.collect::<Vec<_>>(), &mut out);
            }
            [&e.resets, &e.changes, &e.stale].into_iter().for_each(|column| put_u32s(column, &mut out));
            for column in [&e.first_values, &e.last_values, &e.corrections] {
                values::encode(column, &mut out);
            }
        }
        WindowPart::Values => {
            let v = &windows.values;
            put_u32s(&v.nans, &mut out);
            for column in [&v.sums, &v.mins, &v.maxs, &v.deviations] {
                values::encode(column, &mut out);
            }
        }
    }
    Some(chunk_of(out, windows.starts[0], windows.ends[n - 1]))
}

/// Reads a chunk of windows, to those of floats or of histograms, but for windows that have nothing in
/// `range`. Chunks come by time; the second part of the same windows follows the first and completes
/// it. Gives the length of the windows, ms. On error both lists are without meaning.
pub fn decode_windows(
    bytes: &[u8],
    range: TimeRange,
    floats: &mut Windows,
    histograms: &mut HistogramWindows,
) -> Result<i64, DecodeError> {
    let [VERSION, BOTH, both @ ..] = bytes else { return decode_kind(bytes, range, floats, histograms) };
    let input = &mut &both[..];
    let len = usize::try_from(take_uvarint(input)?).map_err(|_| MALFORMED)?;
    let first = take_bytes(input, len)?;
    let resolution = decode_kind(first, range, floats, histograms)?;
    let second = decode_kind(input, range, floats, histograms)?;
    if resolution == second { Ok(resolution) } else { Err(MALFORMED) }
}

/// Bytes of memory that the columns of a window of floats take, about.
const FLOAT_WINDOW: usize = 128;
/// The same of a window of histograms, beside those that are kept.
const HISTOGRAM_WINDOW: usize = 64;

/// Bytes of memory that the windows of a chunk take, about.
pub(crate) fn decoded_windows_size(bytes: &[u8]) -> Result<usize, DecodeError> {
    let [VERSION, BOTH, both @ ..] = bytes else { return size_of_kind(bytes) };
    let input = &mut &both[..];
    let len = usize::try_from(take_uvarint(input)?).map_err(|_| MALFORMED)?;
    let first = size_of_kind(take_bytes(input, len)?)?;
    Ok(first.saturating_add(size_of_kind(input)?))
}

fn size_of_kind(bytes: &[u8]) -> Result<usize, DecodeError> {
    let input = &mut &bytes[..];
    let (part, of_histograms) = take_kind(input)?;
    let n = take_head(input)?.starts.len();
    if of_histograms {
        Ok(histograms_size(input, n, part)?.saturating_add(n * HISTOGRAM_WINDOW))
    } else {
        Ok(n * FLOAT_WINDOW)
    }
}

/// Which part it is, and whether it is of histograms.
fn take_kind(input: &mut &[u8]) -> Result<(WindowPart, bool), DecodeError> {
    if take_u8(input)? != VERSION {
        return Err(MALFORMED);
    }
    match take_u8(input)? {
        1 => Ok((WindowPart::Edges, false)),
        2 => Ok((WindowPart::Values, false)),
        3 => Ok((WindowPart::Edges, true)),
        4 => Ok((WindowPart::Values, true)),
        _ => Err(MALFORMED),
    }
}

fn decode_kind(
    bytes: &[u8],
    range: TimeRange,
    floats: &mut Windows,
    histograms: &mut HistogramWindows,
) -> Result<i64, DecodeError> {
    let input = &mut &bytes[..];
    let (part, of_histograms) = take_kind(input)?;
    let head = take_head(input)?;
    let resolution = head.resolution;
    let from = head.ends.iter().take_while(|end| **end < range.start).count();
    let to = from + head.starts[from..].iter().take_while(|start| **start <= range.end).count();
    if of_histograms {
        let mut read = read_histograms(input, head, part, from..to)?;
        let known = match part {
            WindowPart::Edges => histograms.edges.upto.len(),
            WindowPart::Values => histograms.values.sums.len(),
        };
        if completes((&histograms.starts, &histograms.counts), (&read.starts, &read.counts), known)? {
            (read.starts, read.ends, read.counts) = Default::default();
        }
        histograms.extend(&read, 0..to - from);
        return Ok(resolution);
    }
    let mut read = read_floats(input, head, part)?;
    if (from, to) != (0, read.len()) {
        let mut kept = Windows::default();
        kept.extend(&read, from..to);
        read = kept;
    }
    let known = match part {
        WindowPart::Edges => floats.edges.first_times.len(),
        WindowPart::Values => floats.values.sums.len(),
    };
    if completes((&floats.starts, &floats.counts), (&read.starts, &read.counts), known)? {
        (read.starts, read.ends, read.counts) = Default::default();
    }
    floats.extend(&read, 0..to - from);
    Ok(resolution)
}

/// Starts and counts of windows.
type Columns<'a> = (&'a [Timestamp], &'a [u32]);

/// Whether what was read is the other part of the last windows, of which `known` have this part.
fn completes(
    (starts, counts): Columns<'_>,
    (read, read_counts): Columns<'_>,
    known: usize,
) -> Result<bool, DecodeError> {
    let n = read.len();
    if n == 0 || known + n != starts.len() || starts[known..] != *read {
        return Ok(false);
    }
    if counts[known..] == *read_counts { Ok(true) } else { Err(MALFORMED) }
}

fn take_head(input: &mut &[u8]) -> Result<Head, DecodeError> {
    let resolution = i64::try_from(take_uvarint(input)?).map_err(|_| MALFORMED)?;
    let n = usize::try_from(take_uvarint(input)?).map_err(|_| MALFORMED)?;
    if n == 0 || n > MAX_WINDOWS || resolution == 0 {
        return Err(MALFORMED);
    }
    let mut head = Head { resolution, starts: Vec::new(), ends: Vec::with_capacity(n), counts: Vec::new() };
    integers::decode(input, n, &mut head.starts)?;
    for start in &mut head.starts {
        *start = start.checked_mul(resolution).ok_or(MALFORMED)?;
        head.ends.push(start.checked_add(resolution - 1).ok_or(MALFORMED)?);
    }
    take_u32s(input, n, &mut head.counts)?;
    let ascend = head.starts.is_sorted_by(|a, b| a < b);
    if ascend && head.counts.iter().all(|c| *c > 0) { Ok(head) } else { Err(MALFORMED) }
}

fn read_floats(input: &mut &[u8], head: Head, part: WindowPart) -> Result<Windows, DecodeError> {
    let (n, Head { starts, ends, counts, .. }) = (head.starts.len(), head);
    let mut windows = Windows { starts, ends, counts, ..Windows::default() };
    match part {
        WindowPart::Edges => take_edges(input, n, &windows.starts, &mut windows.edges)?,
        WindowPart::Values => take_totals(input, n, &windows.counts, &mut windows.values)?,
    }
    if windows.is_sound() { Ok(windows) } else { Err(MALFORMED) }
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

/// Reads a column of `n` numbers.
pub(super) fn take_u32s(input: &mut &[u8], n: usize, out: &mut Vec<u32>) -> Result<(), DecodeError> {
    let mut numbers = Vec::new();
    integers::decode(input, n, &mut numbers)?;
    for number in numbers {
        out.push(u32::try_from(number).map_err(|_| MALFORMED)?);
    }
    Ok(())
}
