//! Bytes of windows: chunks of encoding 0xD2, in two parts that are stored apart
//! (docs/format/windows.md).
//!
//! `1 | part u8 | uvarint resolution ms | uvarint n | window numbers | counts | columns of the part`,
//! or of a series that has both floats and histograms, `1 | 5 | uvarint len | floats | histograms`.

use std::ops::Range;

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
#[derive(Default)]
pub(super) struct Head {
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
    let Head { mut starts, mut ends, mut counts } = Head::default();
    take_head(input, &mut starts, &mut ends, &mut counts)?;
    let n = starts.len();
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
    if !of_histograms {
        return decode_floats(input, part, range, floats);
    }
    let mut head = Head::default();
    let resolution = take_head(input, &mut head.starts, &mut head.ends, &mut head.counts)?;
    let wanted = windows_in(range, &head.starts, &head.ends);
    let len = wanted.len();
    let mut read = read_histograms(input, head, part, wanted)?;
    let known = match part {
        WindowPart::Edges => histograms.edges.upto.len(),
        WindowPart::Values => histograms.values.sums.len(),
    };
    if completes((&histograms.starts, &histograms.counts), (&read.starts, &read.counts), known)? {
        (read.starts, read.ends, read.counts) = Default::default();
    }
    histograms.extend(&read, 0..len);
    Ok(resolution)
}

/// Reads a chunk of floats behind those that were read before.
fn decode_floats(
    input: &mut &[u8],
    part: WindowPart,
    range: TimeRange,
    out: &mut Windows,
) -> Result<i64, DecodeError> {
    let before = out.len();
    let resolution = take_head(input, &mut out.starts, &mut out.ends, &mut out.counts)?;
    let known = match part {
        WindowPart::Edges => out.edges.first_times.len(),
        WindowPart::Values => out.values.sums.len(),
    };
    match part {
        WindowPart::Edges => take_edges(input, &out.starts[before..], &mut out.edges)?,
        WindowPart::Values => take_totals(input, &out.counts[before..], &mut out.values)?,
    }
    let wanted = windows_in(range, &out.starts[before..], &out.ends[before..]);
    if wanted.len() < out.starts.len() - before {
        match part {
            WindowPart::Edges => out.edges.cut(known, &wanted),
            WindowPart::Values => out.values.cut(known, &wanted),
        }
        cut(&mut out.starts, before, &wanted);
        cut(&mut out.ends, before, &wanted);
        cut(&mut out.counts, before, &wanted);
    }
    let (starts, read) = out.starts.split_at(before);
    let (counts, read_counts) = out.counts.split_at(before);
    if completes((starts, counts), (read, read_counts), known)? {
        out.starts.truncate(before);
        out.ends.truncate(before);
        out.counts.truncate(before);
    }
    Ok(resolution)
}

/// Which windows have something in `range`.
fn windows_in(range: TimeRange, starts: &[Timestamp], ends: &[Timestamp]) -> Range<usize> {
    let from = ends.partition_point(|end| *end < range.start);
    from..starts.partition_point(|start| *start <= range.end).max(from)
}

/// Leaves those of the numbers from `base` on that are `wanted`.
fn cut<T>(column: &mut Vec<T>, base: usize, wanted: &Range<usize>) {
    column.truncate(base + wanted.end);
    column.drain(base..base + wanted.start);
}

impl Edges {
    fn cut(&mut self, base: usize, wanted: &Range<usize>) {
        let Self { first_times, last_times, first_values, last_values, corrections, resets, changes, stale } =
            self;
        [first_times, last_times].into_iter().for_each(|c| cut(c, base, wanted));
        [first_values, last_values, corrections].into_iter().for_each(|c| cut(c, base, wanted));
        [resets, changes, stale].into_iter().for_each(|c| cut(c, base, wanted));
    }
}

impl Totals {
    fn cut(&mut self, base: usize, wanted: &Range<usize>) {
        let Self { sums, mins, maxs, nans, deviations } = self;
        [sums, mins, maxs, deviations].into_iter().for_each(|c| cut(c, base, wanted));
        cut(nans, base, wanted);
    }
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

/// Appends what a chunk begins with, and gives the length of its windows, ms. They are sound.
fn take_head(
    input: &mut &[u8],
    starts: &mut Vec<Timestamp>,
    ends: &mut Vec<Timestamp>,
    counts: &mut Vec<u32>,
) -> Result<i64, DecodeError> {
    let resolution = i64::try_from(take_uvarint(input)?).map_err(|_| MALFORMED)?;
    let n = usize::try_from(take_uvarint(input)?).map_err(|_| MALFORMED)?;
    if n == 0 || n > MAX_WINDOWS || resolution == 0 {
        return Err(MALFORMED);
    }
    let before = starts.len();
    integers::decode(input, n, starts)?;
    let new = &mut starts[before..];
    let end =
        |number: i64| number.checked_mul(resolution).and_then(|start| start.checked_add(resolution - 1));
    // Where they ascend, those between the first and the last fit, too.
    let fit = [new[0], new[new.len() - 1]].into_iter().all(|number| end(number).is_some());
    if !fit || !pairs_all(new, |a, b| a < b) {
        return Err(MALFORMED);
    }
    new.iter_mut().for_each(|start| *start *= resolution);
    ends.extend(new.iter().map(|start| start + (resolution - 1)));
    take_u32s(input, n, counts)?;
    let least = counts[before..].iter().copied().min();
    if least > Some(0) { Ok(resolution) } else { Err(MALFORMED) }
}

/// Whether something holds of all neighbours; looks at all of them, which is faster where it does.
pub(super) fn pairs_all<T>(column: &[T], holds: impl Fn(&T, &T) -> bool) -> bool {
    column.windows(2).fold(true, |all, pair| all & holds(&pair[0], &pair[1]))
}

/// Appends the edges of the windows that begin at `starts`.
fn take_edges(input: &mut &[u8], starts: &[Timestamp], edges: &mut Edges) -> Result<(), DecodeError> {
    let (n, before) = (starts.len(), edges.first_times.len());
    for times in [&mut edges.first_times, &mut edges.last_times] {
        let before = times.len();
        integers::decode(input, n, times)?;
        times[before..].iter_mut().zip(starts).for_each(|(t, s)| *t = t.wrapping_add(*s));
    }
    for column in [&mut edges.resets, &mut edges.changes, &mut edges.stale] {
        take_u32s(input, n, column)?;
    }
    for column in [&mut edges.first_values, &mut edges.last_values, &mut edges.corrections] {
        values::decode(input, n, column)?;
    }
    // Readers count on samples by time.
    let (first, last) = (&edges.first_times[before..], &edges.last_times[before..]);
    let inside = first.iter().zip(last).fold(true, |all, (first, last)| all & (first <= last));
    let between = last.iter().zip(&first[1..]).fold(true, |all, (last, next)| all & (last < next));
    if inside && between { Ok(()) } else { Err(MALFORMED) }
}

/// Appends the totals of windows of so many samples.
fn take_totals(input: &mut &[u8], counts: &[u32], totals: &mut Totals) -> Result<(), DecodeError> {
    let (n, before) = (counts.len(), totals.nans.len());
    take_u32s(input, n, &mut totals.nans)?;
    for column in [&mut totals.sums, &mut totals.mins, &mut totals.maxs, &mut totals.deviations] {
        values::decode(input, n, column)?;
    }
    let nans = totals.nans[before..].iter();
    if nans.zip(counts).all(|(nans, count)| nans <= count) { Ok(()) } else { Err(MALFORMED) }
}

/// Appends a column of `n` numbers.
pub(super) fn take_u32s(input: &mut &[u8], n: usize, out: &mut Vec<u32>) -> Result<(), DecodeError> {
    out.reserve(n);
    let mut bits = 0;
    integers::decode_blocks(input, n, |numbers| {
        bits |= numbers.iter().fold(0, |bits, number| bits | number);
        out.extend(numbers.iter().map(|number| *number as u32));
    })?;
    if u32::try_from(bits).is_ok() { Ok(()) } else { Err(MALFORMED) }
}
