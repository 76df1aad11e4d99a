//! Windows as Thanos' aggregate chunks, and aggregate chunks as windows.

use bytes::Bytes;
use pyrrha_model::contract::{ChunkRef, Timestamps};
use pyrrha_model::{ChunkEncoding, TimeRange, Timestamp};

use super::{Windows, coarsen, window_start};
use crate::chunk::{decode_floats, xor};
use crate::{Aggregate, AggregateChunk, DecodeError, FloatColumn};

/// Windows of an aggregate chunk at most, on average; Thanos' own number.
const WINDOWS_PER_CHUNK: usize = 140;

/// How many of `rows` windows go to a chunk, so that none has few and its neighbour many.
pub(super) fn chunk_size(rows: usize) -> usize {
    rows / rows.div_ceil(WINDOWS_PER_CHUNK + 1).max(1) + 1
}

/// The aggregate chunks of a series' windows, as Thanos writes them. NaNs are left out, as there;
/// windows of nothing else too, unless there is no other: then a series has a chunk of NaNs, without which
/// it would not be in its block. Both parts must be known.
///
/// A window's sample has the last millisecond of the window, or the time of the chunk's last raw
/// sample if that is less. The counter begins with the first raw value and ends with a second sample
/// of its last time: the last raw value.
pub fn aggregate_chunks(windows: &Windows) -> Vec<ChunkRef> {
    chunks_of_rows(windows, 0..windows.len())
}

/// The same of some windows.
pub(super) fn chunks_of_rows(windows: &Windows, rows: impl Iterator<Item = usize>) -> Vec<ChunkRef> {
    let numbers = |&i: &usize| windows.values.nans[i] < windows.counts[i];
    let all: Vec<usize> = rows.collect();
    let mut rows: Vec<usize> = all.iter().copied().filter(numbers).collect();
    if rows.is_empty() {
        rows = all;
    }
    rows.chunks(chunk_size(rows.len())).map(|rows| aggregate_chunk(windows, rows)).collect()
}

fn aggregate_chunk(windows: &Windows, rows: &[usize]) -> ChunkRef {
    let (edges, values) = (&windows.edges, &windows.values);
    let (Some(&first), Some(&last)) = (rows.first(), rows.last()) else {
        unreachable!("chunks of a slice are not empty")
    };
    let (start, end) = (edges.first_times[first], edges.last_times[last]);
    let times: Vec<Timestamp> = rows.iter().map(|&i| windows.ends[i].min(end)).collect();
    let slot = |value: &dyn Fn(usize) -> f64| {
        let column: Vec<f64> = rows.iter().map(|&i| value(i)).collect();
        xor::encode(&times, &column)
    };
    let count = slot(&|i| f64::from(windows.counts[i] - values.nans[i]));
    let (sum, min, max) = (slot(&|i| values.sums[i]), slot(&|i| values.mins[i]), slot(&|i| values.maxs[i]));
    let counter = counter_slot(windows, rows, &times, start);
    let mut chunk = AggregateChunk::default();
    for (aggregate, data) in Aggregate::ALL.into_iter().zip([&count, &sum, &min, &max, &counter]) {
        chunk.set(aggregate, ChunkEncoding::Xor, data);
    }
    ChunkRef {
        min_time: start,
        max_time: times[times.len() - 1],
        encoding: ChunkEncoding::Aggregate,
        timestamps: Timestamps::Own,
        bytes: Bytes::from(chunk.encode()),
    }
}

/// First and last value of a window that holds a number. Where they are NaN, extremes stand for them.
fn ends(windows: &Windows, i: usize) -> (f64, f64) {
    let (first, last) = (windows.edges.first_values[i], windows.edges.last_values[i]);
    let (min, max) = (windows.values.mins[i], windows.values.maxs[i]);
    (if first.is_nan() { min } else { first }, if last.is_nan() { max } else { last })
}

fn counter_slot(windows: &Windows, rows: &[usize], times: &[Timestamp], start: Timestamp) -> Vec<u8> {
    let (mut at, mut column) = (vec![start], vec![ends(windows, rows[0]).0]);
    // What resets took away so far: values as they are plus that.
    let (mut lost, mut before) = (0.0, f64::NEG_INFINITY);
    for (&i, &t) in rows.iter().zip(times) {
        let (first, last) = ends(windows, i);
        if first < before {
            lost += before;
        }
        lost += windows.edges.corrections[i];
        before = last;
        at.push(t);
        column.push(last + lost);
    }
    at.push(times[times.len() - 1]);
    column.push(before);
    xor::encode(&at, &column)
}

/// What stands for the first and last samples of windows in chunks that do not have them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForeignEdges {
    /// The counter: increases are right, values are those of the counter without its resets.
    Counter,
    /// The mean of the window, as in Thanos.
    Mean,
}

/// Reads an aggregate chunk of floats that somebody else made, into `out`, after those before it of the same
/// series. What it does not tell is estimated: a window's first and last time as its edges, deviations as of
/// evenly spread values.
///
/// A chunk may end within a window, of which the next one has the rest: Thanos makes the hours of each chunk of
/// five minutes by itself, and such a chunk ends at any five minutes. They become one window.
pub fn from_aggregates(
    bytes: &[u8],
    resolution: i64,
    edges: ForeignEdges,
    out: &mut Windows,
) -> Result<(), DecodeError> {
    const MALFORMED: DecodeError = DecodeError::Malformed { part: "aggregate chunk" };
    let chunk = AggregateChunk::parse(bytes)?;
    let read = |aggregate| {
        let mut column = FloatColumn::default();
        match chunk.get(aggregate) {
            Some((encoding, data)) => {
                decode_floats(encoding, data, TimeRange::ALL, &mut column, false).map(|()| Some(column))
            }
            None => Ok(None),
        }
    };
    let Some(counts) = read(Aggregate::Count)? else { return Err(MALFORMED) };
    let [sums, mins, maxs] = [read(Aggregate::Sum)?, read(Aggregate::Min)?, read(Aggregate::Max)?];
    let counter = read(Aggregate::Counter)?;
    let value = |column: &Option<FloatColumn>, i: usize| {
        let column = column.as_ref()?;
        (column.times.get(i) == counts.times.get(i)).then(|| column.values.get(i).copied()).flatten()
    };
    let mut own = Windows::default();
    for (i, (&t, &count)) in counts.times.iter().zip(&counts.values).enumerate() {
        let start = window_start(t, resolution);
        let sum = value(&sums, i).unwrap_or(f64::NAN);
        let (min, max) = (value(&mins, i).unwrap_or(f64::NAN), value(&maxs, i).unwrap_or(f64::NAN));
        // Thanos leaves out windows without samples.
        let count = if count >= 1.0 { count.min(f64::from(u32::MAX)) } else { 1.0 };
        own.starts.push(start);
        own.ends.push(start.saturating_add(resolution - 1));
        own.counts.push(count as u32);
        let totals = &mut own.values;
        totals.sums.push(sum);
        totals.mins.push(min);
        totals.maxs.push(max);
        totals.nans.push(0);
        let spread = max - min;
        totals.deviations.push(if spread > 0.0 { count * spread * spread / 12.0 } else { 0.0 });
        let e = &mut own.edges;
        e.first_times.push(start);
        e.last_times.push(t);
        e.first_values.push(sum / count);
        e.last_values.push(sum / count);
        e.corrections.push(0.0);
        e.resets.push(0);
        e.changes.push(u32::from(min != max));
        e.stale.push(0);
    }
    if let (ForeignEdges::Counter, Some(counter)) = (edges, counter) {
        set_counter(&counter, &counts.times, &mut own)?;
    }
    append(&own, resolution, edges, out);
    if out.is_sound() { Ok(()) } else { Err(MALFORMED) }
}

/// Appends the windows of the next chunk, the first of which may be the rest of the last one.
fn append(next: &Windows, resolution: i64, edges: ForeignEdges, out: &mut Windows) {
    let Some(last) = out.len().checked_sub(1).filter(|&last| next.starts.first() == Some(&out.starts[last]))
    else {
        return out.extend(next, 0..next.len());
    };
    let mut parts = Windows::default();
    parts.extend(out, last..last + 1);
    parts.extend(next, 0..1);
    out.truncate(last);
    coarsen(&parts, resolution, out);
    if edges == ForeignEdges::Mean {
        let mean = out.values.sums[last] / f64::from(out.counts[last]);
        let e = &mut out.edges;
        (e.first_values[last], e.last_values[last]) = (mean, mean);
        (e.corrections[last], e.resets[last]) = (0.0, 0);
        e.changes[last] = u32::from(out.values.mins[last] != out.values.maxs[last]);
    }
    out.extend(next, 1..next.len());
}

/// Takes edges from the counter: `first raw | one per window | last raw at the same time`.
fn set_counter(counter: &FloatColumn, times: &[Timestamp], own: &mut Windows) -> Result<(), DecodeError> {
    let n = times.len();
    let (t, v) = (&counter.times, &counter.values);
    // A chunk of a single raw sample may lack the duplicate, others may have been cut.
    if n == 0 || t.len() < n + 1 || t[1..=n] != *times {
        return Err(DecodeError::Malformed { part: "counter of an aggregate chunk" });
    }
    let e = &mut own.edges;
    for i in 0..n {
        (e.first_values[i], e.last_values[i]) = (v[i], v[i + 1]);
    }
    e.first_times[0] = t[0].clamp(own.starts[0], e.last_times[0]);
    if let Some(&raw) = v.get(n + 1) {
        let last = n - 1;
        e.corrections[last] = v[n] - raw;
        e.last_values[last] = raw;
        e.resets[last] = u32::from(v[n] > raw);
    }
    Ok(())
}
