//! Windows of histograms as Thanos' aggregate chunks, and aggregate chunks as windows.

use bytes::Bytes;
use pyrrha_model::contract::{ChunkRef, Timestamps};
use pyrrha_model::{ChunkEncoding, CounterResetHint, FloatHistogram, TimeRange, Timestamp};

use super::{HistogramWindows, Layouts, alike, coarsen_histograms, forget, is_gauge};
use crate::chunk::histogram::{decode_histograms, encode_run};
use crate::chunk::{decode_floats, xor};
use crate::windows::aggregates::{chunk_size, chunks_of_rows};
use crate::windows::{Windows, window_start};
use crate::{Aggregate, AggregateChunk, DecodeError, FloatColumn, HistogramColumn, Want};

const MALFORMED: DecodeError = DecodeError::Malformed { part: "aggregate chunk of histograms" };

/// The aggregate chunks of a series of floats, of histograms, or of both; see
/// [`aggregate_chunks`](crate::windows::aggregate_chunks). All parts must be known. A chunk is of one kind;
/// of a window that has both kinds that of more samples counts.
pub fn all_aggregate_chunks(floats: &Windows, histograms: &HistogramWindows) -> Vec<ChunkRef> {
    let row = |is_histogram: bool| move |(i, (start, count))| (start, is_histogram, count, i);
    let rows = |starts: &[Timestamp], counts: &[u32], is_histogram| {
        let columns = starts.iter().copied().zip(counts.iter().copied()).enumerate();
        columns.map(row(is_histogram)).collect::<Vec<(Timestamp, bool, u32, usize)>>()
    };
    let mut all = rows(&floats.starts, &floats.counts, false);
    all.extend(rows(&histograms.starts, &histograms.counts, true));
    all.sort_unstable_by_key(|(start, is_histogram, count, _)| (*start, u32::MAX - count, *is_histogram));
    all.dedup_by_key(|(start, ..)| *start);
    let mut chunks = Vec::new();
    for group in all.chunk_by(|a, b| a.1 == b.1) {
        let rows = group.iter().map(|(.., i)| *i);
        if group[0].1 {
            histogram_chunks(histograms, rows, &mut chunks);
        } else {
            chunks.extend(chunks_of_rows(floats, rows));
        }
    }
    chunks
}

/// Aggregate chunks of some windows. An inner chunk has one set of bounds: where they change, another
/// aggregate chunk begins.
fn histogram_chunks(windows: &HistogramWindows, rows: impl Iterator<Item = usize>, out: &mut Vec<ChunkRef>) {
    let rows: Vec<usize> = rows.collect();
    let size = chunk_size(rows.len());
    let mut open: Option<Open> = None;
    for i in rows {
        if let Some(chunk) = &mut open
            && chunk.rows.len() < size
            && chunk.add(windows, i)
        {
            continue;
        }
        out.extend(open.take().map(Open::finish));
        open = Some(Open::begin(windows, i));
    }
    out.extend(open.map(Open::finish));
}

/// An aggregate chunk that grows.
struct Open {
    first: (Timestamp, FloatHistogram),
    counter: Counter,
    rows: Vec<Row>,
}

struct Row {
    end: Timestamp,
    last_time: Timestamp,
    count: f64,
    sum: FloatHistogram,
    counter: FloatHistogram,
}

/// A counter without its resets.
#[derive(Clone, Default)]
struct Counter {
    last: Option<FloatHistogram>,
    /// What resets took away so far.
    lost: Option<FloatHistogram>,
}

impl Counter {
    fn add(&mut self, h: &FloatHistogram) {
        if let Some(last) = &self.last
            && h.is_reset_after(last)
        {
            // Where bounds have nothing in common, the counter begins anew.
            let lost = match self.lost.take() {
                None => Some(last.clone()),
                Some(mut lost) => lost.add(last).is_ok().then_some(lost),
            };
            self.lost = lost.filter(|lost| lost.uses_custom_buckets() == h.uses_custom_buckets());
        }
        self.last = Some(h.clone());
    }

    fn value(&self) -> FloatHistogram {
        let mut value = self.last.clone().unwrap_or_default();
        if let Some(lost) = &self.lost {
            let hint = value.counter_reset_hint;
            let mut whole = value.clone();
            if whole.add(lost).is_ok() {
                value = whole;
            }
            value.counter_reset_hint = hint;
        }
        value
    }
}

impl Row {
    fn of(windows: &HistogramWindows, i: usize, counter: &mut Counter) -> Self {
        let kept = windows.kept(i..i + 1);
        let e = &windows.edges;
        e.samples[kept.clone()].iter().for_each(|h| counter.add(h));
        let last = e.samples[kept.clone()].last().cloned().unwrap_or_default();
        let last_time = e.times[kept].last().copied().unwrap_or(windows.ends[i]);
        // What has no sum shows its last sample.
        let (count, mut sum) = match windows.values.layouts[i] {
            Layouts::Mixed => (1.0, last),
            _ => (f64::from(windows.counts[i]), windows.values.sums[i].clone()),
        };
        sum.counter_reset_hint = CounterResetHint::Gauge;
        Self { end: windows.ends[i], last_time, count, sum, counter: counter.value() }
    }
}

impl Open {
    fn begin(windows: &HistogramWindows, i: usize) -> Self {
        let first = windows.kept(i..i + 1).start;
        let first = (windows.edges.times[first], windows.edges.samples[first].clone());
        let mut counter = Counter::default();
        let row = Row::of(windows, i, &mut counter);
        Self { first, counter, rows: vec![row] }
    }

    /// Adds a window, if it goes into the same inner chunks.
    fn add(&mut self, windows: &HistogramWindows, i: usize) -> bool {
        let mut counter = self.counter.clone();
        let row = Row::of(windows, i, &mut counter);
        let goes_on = self
            .rows
            .last()
            .is_some_and(|before| alike(&before.sum, &row.sum) && alike(&before.counter, &row.counter));
        if goes_on {
            self.counter = counter;
            self.rows.push(row);
        }
        goes_on
    }

    fn finish(self) -> ChunkRef {
        let end = self.rows.last().map_or(self.first.0, |row| row.last_time);
        let times: Vec<Timestamp> = self.rows.iter().map(|row| row.end.min(end)).collect();
        let counts: Vec<f64> = self.rows.iter().map(|row| row.count).collect();
        let sums: Vec<&FloatHistogram> = self.rows.iter().map(|row| &row.sum).collect();
        let (mut counter_times, mut counters) = (times.clone(), Vec::new());
        let mut header = CounterResetHint::Unknown;
        if let (Some(row), Some(time)) = (self.rows.first(), times.first()) {
            // The first raw sample, before the first window's.
            if self.first.0 < *time && alike(&self.first.1, &row.counter) {
                counter_times.insert(0, self.first.0);
                counters.push(&self.first.1);
            }
            if is_gauge(&row.counter) {
                header = CounterResetHint::Gauge;
            }
        }
        counters.extend(self.rows.iter().map(|row| &row.counter));
        let count = xor::encode(&times, &counts);
        let (_, sum) = encode_run(&times, &sums, CounterResetHint::Gauge, false);
        let (_, counter) = encode_run(&counter_times, &counters, header, false);
        let mut chunk = AggregateChunk::default();
        chunk.set(Aggregate::Count, ChunkEncoding::Xor, &count);
        chunk.set(Aggregate::Sum, ChunkEncoding::FloatHistogram, &sum);
        chunk.set(Aggregate::Counter, ChunkEncoding::FloatHistogram, &counter);
        ChunkRef {
            min_time: self.first.0,
            max_time: times.last().copied().unwrap_or(end),
            encoding: ChunkEncoding::Aggregate,
            timestamps: Timestamps::Own,
            bytes: Bytes::from(chunk.encode()),
        }
    }
}

/// Reads an aggregate chunk of histograms that somebody else made, into `out`, after those before it of the same
/// series. The counter at the end of a window, and at that of the window before, stand for its last and first
/// sample; without a counter the mean does. A window that two chunks share becomes one, as in
/// [`from_aggregates`](crate::windows::from_aggregates).
pub fn from_histogram_aggregates(
    bytes: &[u8],
    resolution: i64,
    out: &mut HistogramWindows,
) -> Result<(), DecodeError> {
    let chunk = AggregateChunk::parse(bytes)?;
    let (encoding, data) = chunk.get(Aggregate::Count).ok_or(MALFORMED)?;
    let mut counts = FloatColumn::default();
    decode_floats(encoding, data, TimeRange::ALL, &mut counts, false)?;
    let sums = read(&chunk, Aggregate::Sum)?;
    let counter = read(&chunk, Aggregate::Counter)?;
    let is_first = |t: &Timestamp| counts.times.first().is_some_and(|first| t < first);
    let mut before = counter.times.first().zip(counter.values.first());
    before = before.filter(|(t, h)| is_first(t) && !h.is_stale());
    let mut own = HistogramWindows::default();
    for (&t, &count) in counts.times.iter().zip(&counts.values) {
        let start = window_start(t, resolution);
        let count = if count >= 1.0 { count.min(f64::from(u32::MAX)) } else { 1.0 };
        let sum = at(&sums, t).ok_or(MALFORMED)?;
        own.starts.push(start);
        own.ends.push(start.saturating_add(resolution - 1));
        own.counts.push(count as u32);
        // All sums are stored as gauges.
        own.values.sums.push(FloatHistogram { counter_reset_hint: CounterResetHint::Unknown, ..sum.clone() });
        own.values.layouts.push(Layouts::Compatible);
        let now = at(&counter, t);
        let e = &mut own.edges;
        let mut keep = |t: Timestamp, mut h: FloatHistogram| {
            forget(&mut h);
            e.times.push(t);
            e.samples.push(h);
        };
        match now {
            Some(now) => {
                if let Some((first, h)) = before
                    && start < t
                {
                    keep((*first).clamp(start, t - 1), h.clone());
                }
                keep(t, now.clone());
            }
            None => {
                let mut mean = sum.clone();
                mean.divide(count);
                mean.counter_reset_hint = CounterResetHint::Gauge;
                keep(t, mean);
            }
        }
        let changed = before.zip(now).is_some_and(|((_, before), now)| !now.same_distribution(before));
        e.upto.push(e.times.len());
        e.resets.push(0);
        e.changes.push(u32::from(changed));
        e.stale.push(0);
        before = now.map(|now| (&counter.times[0], now));
    }
    append(&own, resolution, out);
    if out.is_sound() { Ok(()) } else { Err(MALFORMED) }
}

/// Appends the windows of the next chunk, the first of which may be the rest of the last one.
fn append(next: &HistogramWindows, resolution: i64, out: &mut HistogramWindows) {
    let Some(last) = out.len().checked_sub(1).filter(|&last| next.starts.first() == Some(&out.starts[last]))
    else {
        return out.extend(next, 0..next.len());
    };
    let mut parts = HistogramWindows::default();
    parts.extend(out, last..last + 1);
    parts.extend(next, 0..1);
    out.truncate(last);
    coarsen_histograms(&parts, resolution, out);
    out.extend(next, 1..next.len());
}

fn read(chunk: &AggregateChunk<'_>, aggregate: Aggregate) -> Result<HistogramColumn, DecodeError> {
    let mut column = HistogramColumn::default();
    if let Some((encoding, data)) = chunk.get(aggregate) {
        decode_histograms(encoding, data, TimeRange::ALL, Want::default(), &mut column)?;
    }
    if column.times.is_sorted() { Ok(column) } else { Err(MALFORMED) }
}

/// The last histogram of a time; a stale marker is none.
fn at(column: &HistogramColumn, t: Timestamp) -> Option<&FloatHistogram> {
    let next = column.times.partition_point(|time| *time <= t);
    let last = next.checked_sub(1).filter(|last| column.times[*last] == t)?;
    column.values.get(last).filter(|h| !h.is_stale())
}
