//! Bytes of windows of histograms: what chunks of windows begin with, columns, and histogram chunks
//! (docs/format/windows.md).
//!
//! edges: `kept | resets | changes | stale | runs`, values: `layouts | runs`,
//! run: `uvarint len | encoding u8 | data`, to the end

use std::ops::Range;

use pyrrha_model::contract::ChunkRef;
use pyrrha_model::{ChunkEncoding, CounterResetHint, FloatHistogram, TimeRange, Timestamp};

use super::{HistogramEdges, HistogramTotals, HistogramWindows, Layouts, forget, is_gauge, same_bounds};
use crate::chunk::SAMPLES_PER_CHUNK;
use crate::chunk::histogram::{decode_histograms, decoded_size, encode_run};
use crate::chunk::sample_count;
use crate::varint::{put_uvarint, take_bytes, take_u8, take_uvarint};
use crate::windows::codec::{Head, MALFORMED, chunk_of, put_histogram_head, put_u32s, take_u32s};
use crate::windows::{MAX_WINDOWS, WindowPart};
use crate::{DecodeError, HistogramColumn, Want};

/// Beside how a window's bounds go together: some of its samples are gauges.
const GAUGE: u32 = 4;

/// The chunk of a part of at most [`MAX_WINDOWS`] windows of one resolution, at least one. `None` if
/// there is none, or the part is not known.
pub fn encode_histogram_windows(
    windows: &HistogramWindows,
    resolution: i64,
    part: WindowPart,
) -> Option<ChunkRef> {
    let n = windows.len();
    let known = match part {
        WindowPart::Edges => windows.has_edges(),
        WindowPart::Values => windows.has_values(),
    };
    if n == 0 || n > MAX_WINDOWS || resolution <= 0 || !known {
        return None;
    }
    let mut out = put_histogram_head(part, resolution, &windows.starts, &windows.counts);
    match part {
        WindowPart::Edges => {
            let e = &windows.edges;
            let kept: Vec<u32> = (0..n).map(|i| windows.kept(i..i + 1).len() as u32).collect();
            [&kept, &e.resets, &e.changes, &e.stale].into_iter().for_each(|c| put_u32s(c, &mut out));
            put_runs(&e.times, &e.samples, false, &mut out);
        }
        WindowPart::Values => {
            let HistogramTotals { sums, layouts } = &windows.values;
            let kind =
                |(l, sum): (&Layouts, &FloatHistogram)| *l as u32 | if is_gauge(sum) { GAUGE } else { 0 };
            put_u32s(&layouts.iter().zip(sums).map(kind).collect::<Vec<u32>>(), &mut out);
            put_runs(&windows.starts, sums, true, &mut out);
        }
    }
    Some(chunk_of(out, windows.starts[0], windows.ends[n - 1]))
}

/// Writes histograms as chunks, each of one set of bounds. Those of counters have no reset; all of `sums`
/// are of gauges.
fn put_runs(times: &[Timestamp], samples: &[FloatHistogram], sums: bool, out: &mut Vec<u8>) {
    let mut from = 0;
    while from < samples.len() {
        let goes_on = |pair: &&[FloatHistogram]| {
            let (a, b) = (&pair[0], &pair[1]);
            same_bounds(a, b) && (sums || is_gauge(a) == is_gauge(b) && (is_gauge(a) || !b.is_reset_after(a)))
        };
        let pairs = samples[from..].windows(2).take(SAMPLES_PER_CHUNK - 1);
        let to = from + 1 + pairs.take_while(goes_on).count();
        let gauge = sums || is_gauge(&samples[from]);
        let header = if gauge { CounterResetHint::Gauge } else { CounterResetHint::Unknown };
        let run: Vec<&FloatHistogram> = samples[from..to].iter().collect();
        let (encoding, data) = encode_run(&times[from..to], &run, header, true);
        put_uvarint(out, data.len() as u64);
        out.push(encoding as u8);
        out.extend_from_slice(&data);
        from = to;
    }
}

/// Reads what follows a head, but only `windows` of it.
pub(in crate::windows) fn read_histograms(
    input: &mut &[u8],
    head: Head,
    part: WindowPart,
    windows: Range<usize>,
) -> Result<HistogramWindows, DecodeError> {
    let n = head.starts.len();
    let mut column = || {
        let mut numbers = Vec::new();
        take_u32s(input, n, &mut numbers).map(|()| numbers)
    };
    let cut = |column: &[u32]| column[windows.clone()].to_vec();
    let mut out = HistogramWindows {
        starts: head.starts[windows.clone()].to_vec(),
        ends: head.ends[windows.clone()].to_vec(),
        counts: cut(&head.counts),
        ..HistogramWindows::default()
    };
    match part {
        WindowPart::Edges => {
            let (kept, resets, changes, stale) = (column()?, column()?, column()?, column()?);
            let add = |total: usize, kept: &u32| total.checked_add(*kept as usize).ok_or(MALFORMED);
            let before = kept[..windows.start].iter().try_fold(0, add)?;
            let mut upto = before;
            for kept in &kept[windows.clone()] {
                upto = add(upto, kept)?;
                out.edges.upto.push(upto - before);
            }
            let total = kept[windows.end..].iter().try_fold(upto, add)?;
            let HistogramColumn { times, values, .. } = take_runs(input, total, before..upto)?;
            let (resets, changes, stale) = (cut(&resets), cut(&changes), cut(&stale));
            let upto = std::mem::take(&mut out.edges.upto);
            out.edges = HistogramEdges { upto, resets, changes, stale, times, samples: values };
        }
        WindowPart::Values => {
            let kinds = cut(&column()?);
            let layouts: Result<Vec<Layouts>, _> = kinds.iter().map(|kind| layouts(kind & !GAUGE)).collect();
            let HistogramColumn { times, mut values, .. } = take_runs(input, n, windows)?;
            if times != out.starts {
                return Err(MALFORMED);
            }
            for (sum, kind) in values.iter_mut().zip(kinds) {
                let gauge = kind & GAUGE != 0;
                sum.counter_reset_hint =
                    if gauge { CounterResetHint::Gauge } else { CounterResetHint::Unknown };
            }
            out.values = HistogramTotals { sums: values, layouts: layouts? };
        }
    }
    if out.is_sound() { Ok(out) } else { Err(MALFORMED) }
}

fn layouts(number: u32) -> Result<Layouts, DecodeError> {
    match number {
        0 => Ok(Layouts::Compatible),
        1 => Ok(Layouts::Intersected),
        2 => Ok(Layouts::Mixed),
        _ => Err(MALFORMED),
    }
}

/// Bytes of memory that the histograms of a part of `n` windows take, which follow a head.
pub(in crate::windows) fn histograms_size(
    input: &mut &[u8],
    n: usize,
    part: WindowPart,
) -> Result<usize, DecodeError> {
    let columns = if part == WindowPart::Edges { 4 } else { 1 };
    for _ in 0..columns {
        take_u32s(input, n, &mut Vec::new())?;
    }
    let mut size = 0usize;
    while !input.is_empty() {
        let (encoding, data) = take_run(input)?;
        size = size.saturating_add(decoded_size(encoding, data)?);
    }
    Ok(size)
}

fn take_run<'a>(input: &mut &'a [u8]) -> Result<(ChunkEncoding, &'a [u8]), DecodeError> {
    let len = usize::try_from(take_uvarint(input)?).map_err(|_| MALFORMED)?;
    match ChunkEncoding::from_byte(take_u8(input)?) {
        Some(encoding @ (ChunkEncoding::Histogram | ChunkEncoding::FloatHistogram)) => {
            Ok((encoding, take_bytes(input, len)?))
        }
        _ => Err(MALFORMED),
    }
}

/// Reads all chunks, which have `total` histograms, and decodes those that have some of `wanted`.
fn take_runs(input: &mut &[u8], total: usize, wanted: Range<usize>) -> Result<HistogramColumn, DecodeError> {
    let (mut out, mut run) = (HistogramColumn::default(), HistogramColumn::default());
    let mut at = 0;
    while !input.is_empty() {
        let (encoding, data) = take_run(input)?;
        let end = at + sample_count(encoding, data)?;
        if at < wanted.end && wanted.start < end {
            run.times.clear();
            run.values.clear();
            decode_histograms(encoding, data, TimeRange::ALL, Want::default(), &mut run)?;
            let part = wanted.start.saturating_sub(at)..wanted.end.min(end) - at;
            // Where times do not ascend, fewer are decoded than the header says.
            out.times.extend_from_slice(run.times.get(part.clone()).ok_or(MALFORMED)?);
            out.values.extend(run.values.drain(part));
        }
        at = end;
    }
    if at != total || out.values.iter().any(FloatHistogram::is_stale) {
        return Err(MALFORMED);
    }
    out.values.iter_mut().for_each(forget);
    Ok(out)
}
