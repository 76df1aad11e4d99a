//! The merge of a series' chunks: the only place that resolves overlaps, applies deletions, cuts
//! to a range and sets counter-reset hints across chunks.

use pyrrha_model::contract::{ChunkRef, SeriesEntry, Timestamps, Value};
use pyrrha_model::{ChunkEncoding, CounterResetHint, TimeRange, Timestamp};

use crate::chunk::histogram::{decode_histograms, decode_values};
use crate::chunk::{Rhythm, decode_floats_after, decode_shared_floats};
use crate::precedence::{Candidate, precedence, value_precedence};
use crate::rhythms::Rhythms;
use crate::windows::decode_windows;
use crate::{DecodeError, FloatColumn, HistogramColumn, SeriesSamples, Want, WindowSpan};

/// Replaces `out` with the samples of a series in `range`, by time, each time once: where chunks
/// overlap, [`precedence`] says which sample of a time stays. Deleted intervals are cut out.
///
/// Counter-reset hints: gauges keep theirs; a counter is not reset within a chunk, while for the
/// first of a chunk, and where the sample before comes from another chunk, it is not known.
/// With [`Want::histogram_stats_only`] the buckets of samples inside a chunk may be missing, but
/// never those of samples that a reader has to compare with their neighbour.
///
/// Chunks of windows go to [`SeriesSamples::windows`] and [`SeriesSamples::histogram_windows`], cut to the
/// times that the chunk says; samples within these times are left out. A chunk of aggregates is an error: [`crate::AggregateChunk::split`] it first. After an error
/// `out` is empty.
pub fn decode_series(
    entry: &SeriesEntry,
    range: TimeRange,
    want: Want,
    out: &mut SeriesSamples,
) -> Result<(), DecodeError> {
    SeriesDecoder::default().decode(entry, range, want, out)
}

/// Decodes one series after another. Those of one target have the same times, and then this is faster
/// than [`decode_series`] for each: keep one for as long as there is something to decode.
#[derive(Debug, Default)]
pub struct SeriesDecoder {
    rhythms: Rhythms,
}

/// Chunks after which it is asked whether to go on.
const CHUNKS_UNASKED: usize = 64;

impl SeriesDecoder {
    /// Bytes held between series.
    pub fn bytes(&self) -> usize {
        self.rhythms.bytes()
    }

    /// See [`decode_series`].
    pub fn decode(
        &mut self,
        entry: &SeriesEntry,
        range: TimeRange,
        want: Want,
        out: &mut SeriesSamples,
    ) -> Result<(), DecodeError> {
        self.decode_while(entry, range, want, out, || true)
    }

    /// See [`decode_series`]. When `go_on`, which is asked every few chunks, says no, `out` is left with what
    /// there is, which then means nothing.
    pub fn decode_while(
        &mut self,
        entry: &SeriesEntry,
        range: TimeRange,
        want: Want,
        out: &mut SeriesSamples,
        go_on: impl Fn() -> bool,
    ) -> Result<(), DecodeError> {
        out.clear();
        if entry.chunks.iter().any(|chunk| chunk.encoding == ChunkEncoding::Windows) {
            return self.decode_windowed(entry, range, want, out);
        }
        let done = self.decode_in_turn(entry, range, want, out, &go_on).and_then(|in_order| {
            if in_order || !go_on() {
                return Ok(());
            }
            out.clear();
            merge(entry, range, want, out)
        });
        if done.is_err() {
            out.clear();
        }
        done
    }

    /// Windows beside samples.
    fn decode_windowed(
        &mut self,
        entry: &SeriesEntry,
        range: TimeRange,
        want: Want,
        out: &mut SeriesSamples,
    ) -> Result<(), DecodeError> {
        let is_windows = |chunk: &&ChunkRef| chunk.encoding == ChunkEncoding::Windows;
        let mut samples = SeriesEntry { deleted: entry.deleted.clone(), ..SeriesEntry::default() };
        samples.chunks.extend(entry.chunks.iter().filter(|c| !is_windows(c)).cloned());
        self.decode(&samples, range, want, out)?;
        let done = append_windows(entry.chunks.iter().filter(is_windows), out);
        if done.is_err() {
            out.clear();
            return done;
        }
        for chunk in entry.chunks.iter().filter(is_windows) {
            drop_samples(out, extent(chunk));
        }
        Ok(())
    }

    /// Appends chunk after chunk straight to `out`. False if that does not do: chunks overlap, are not
    /// what they say, or deletions have to be applied.
    fn decode_in_turn(
        &mut self,
        entry: &SeriesEntry,
        range: TimeRange,
        want: Want,
        out: &mut SeriesSamples,
        go_on: impl Fn() -> bool,
    ) -> Result<bool, DecodeError> {
        if !entry.deleted.is_empty() {
            return Ok(false);
        }
        let ends = chunks_in(entry, range).map(|c| (c.min_time, c.max_time));
        if !ends.clone().zip(ends.skip(1)).all(|((_, max), (min, _))| max < min) {
            return Ok(false);
        }
        for (i, chunk) in chunks_in(entry, range).enumerate() {
            if i % CHUNKS_UNASKED == CHUNKS_UNASKED - 1 && !go_on() {
                break;
            }
            let (floats, histograms) = (out.floats.times.len(), out.histograms.times.len());
            let rhythm = self.rhythms.of(i, chunk);
            let before = rhythm.bytes();
            let done = decode_chunk_after(rhythm, chunk, range, want, out);
            let grown = rhythm.bytes() - before;
            self.rhythms.grown(grown);
            done?;
            let times = if chunk.encoding.is_float() {
                &out.floats.times[floats..]
            } else {
                &out.histograms.times[histograms..]
            };
            let inside = times.first().is_none_or(|&t| t >= chunk.min_time)
                && times.last().is_none_or(|&t| t <= chunk.max_time);
            if !inside || !times.is_sorted_by(|a, b| a < b) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The times for which a chunk stands.
fn extent(chunk: &ChunkRef) -> TimeRange {
    TimeRange::new(chunk.min_time, chunk.max_time)
}

/// Appends windows, and the times for which they stand.
fn append_windows<'c>(
    chunks: impl Iterator<Item = &'c ChunkRef>,
    out: &mut SeriesSamples,
) -> Result<(), DecodeError> {
    let SeriesSamples { windows, histogram_windows, window_spans: spans, .. } = out;
    for chunk in chunks {
        let resolution = decode_windows(&chunk.bytes, extent(chunk), windows, histogram_windows)?;
        spans.push(WindowSpan { range: extent(chunk), resolution });
    }
    if !windows.is_sound() || !histogram_windows.is_sound() {
        return Err(DecodeError::Malformed { part: "windows of a series" });
    }
    // Both parts, of floats and of histograms, stand for the same times, and blocks follow each other.
    spans.sort_by_key(|span| (span.range.start, span.range.end));
    spans.dedup_by(|next, span| {
        let meet = next.range.start <= span.range.end.saturating_add(1);
        let joined = meet && next.resolution == span.resolution;
        if joined {
            span.range.end = span.range.end.max(next.range.end);
        }
        joined
    });
    Ok(())
}

/// Removes the samples in `range`, for which windows stand.
fn drop_samples(samples: &mut SeriesSamples, range: TimeRange) {
    fn cut<T>(times: &[Timestamp], range: TimeRange, column: &mut Vec<T>) {
        if column.len() == times.len() {
            let from = times.partition_point(|t| *t < range.start);
            column.drain(from..times.partition_point(|t| *t <= range.end).max(from));
        }
    }
    let FloatColumn { times, values, starts } = &mut samples.floats;
    cut(times, range, values);
    cut(times, range, starts);
    cut(&times.clone(), range, times);
    let HistogramColumn { times, values, starts } = &mut samples.histograms;
    cut(times, range, values);
    cut(times, range, starts);
    cut(&times.clone(), range, times);
}

fn chunks_in(entry: &SeriesEntry, range: TimeRange) -> impl Iterator<Item = &ChunkRef> + Clone {
    entry.chunks.iter().filter(move |c| range.overlaps(&extent(c)))
}

fn decode_chunk(
    chunk: &ChunkRef,
    range: TimeRange,
    want: Want,
    out: &mut SeriesSamples,
) -> Result<(), DecodeError> {
    decode_chunk_after(&mut Rhythm::default(), chunk, range, want, out)
}

fn decode_chunk_after(
    rhythm: &mut Rhythm,
    chunk: &ChunkRef,
    range: TimeRange,
    want: Want,
    out: &mut SeriesSamples,
) -> Result<(), DecodeError> {
    let (encoding, bytes) = (chunk.encoding, &chunk.bytes[..]);
    // Most chunks lie in the range as a whole, and then no sample needs to be compared with it. One
    // that has samples outside of what it says goes the long way, which cuts.
    let inside = range.contains(chunk.min_time) && range.contains(chunk.max_time);
    let range = if inside { TimeRange::ALL } else { range };
    match (&chunk.timestamps, encoding.is_float()) {
        (Timestamps::Own, true) => {
            decode_floats_after(rhythm, encoding, bytes, range, &mut out.floats, want.starts)
        }
        (Timestamps::Own, false) => decode_histograms(encoding, bytes, range, want, &mut out.histograms),
        (Timestamps::Shared(times), true) => {
            decode_shared_floats(encoding, bytes, times, range, &mut out.floats, want.starts)
        }
        (Timestamps::Shared(_), false) => Err(DecodeError::Encoding { encoding: encoding as u8 }),
    }
}

/// The samples of a series in `range`, merged as by [`decode_series`], as (start timestamp or 0, time,
/// value) of the kind that is stored: integer histograms stay so. For those who store again what
/// they read; [`crate::encode_series`] takes it, and sees counter resets itself: a hint of the
/// stored chunk stays only where the sample before comes from the same chunk, or on gauges.
pub fn decode_stored(
    entry: &SeriesEntry,
    range: TimeRange,
) -> Result<Vec<(Timestamp, Timestamp, Value)>, DecodeError> {
    decode_stored_counting(entry, range, &mut 0)
}

/// The same, and adds to `conflicts` the samples that were dropped because another value of their
/// time stays.
pub fn decode_stored_counting(
    entry: &SeriesEntry,
    range: TimeRange,
    conflicts: &mut u64,
) -> Result<Vec<(Timestamp, Timestamp, Value)>, DecodeError> {
    let (mut samples, mut floats) = (Vec::new(), SeriesSamples::default());
    for (chunk, number) in chunks_in(entry, range).zip(0u32..) {
        if chunk.encoding.is_float() {
            floats.clear();
            let want = Want { starts: true, ..Want::default() };
            decode_chunk(chunk, range, want, &mut floats)?;
            let FloatColumn { times, values, starts } = &floats.floats;
            let columns = times.iter().zip(values).zip(starts);
            let sample = |((time, value), start): ((&Timestamp, &f64), &Timestamp)| {
                (number, (*start, *time, Value::Float(*value)))
            };
            samples.extend(columns.map(sample));
        } else {
            let values = decode_values(chunk.encoding, &chunk.bytes)?;
            samples.extend(values.into_iter().map(|sample| (number, sample)));
        }
    }
    samples.retain(|(_, (_, t, _))| range.contains(*t) && !entry.deleted.iter().any(|d| d.contains(*t)));
    samples.sort_by_key(|(chunk, (_, time, _))| (*time, *chunk));
    samples.dedup_by(|(other_chunk, other), (chunk, kept)| {
        if other.1 != kept.1 {
            return false;
        }
        let order = value_precedence(&other.2, &kept.2);
        *conflicts += u64::from(order.is_ne());
        if order.then(other.0.cmp(&kept.0)).is_gt() {
            std::mem::swap(other, kept);
            std::mem::swap(other_chunk, chunk);
        }
        true
    });
    let mut before = None;
    for (chunk, (_, _, value)) in &mut samples {
        if before.replace(*chunk).is_some_and(|before| before != *chunk) {
            forget_reset(value);
        }
    }
    Ok(samples.into_iter().map(|(_, sample)| sample).collect())
}

/// Takes the hint from a counter whose sample before is not the one that the hint speaks of.
fn forget_reset(value: &mut Value) {
    let hint = match value {
        Value::Float(_) => return,
        Value::Histogram(h) => &mut h.counter_reset_hint,
        Value::FloatHistogram(h) => &mut h.counter_reset_hint,
    };
    if *hint != CounterResetHint::Gauge {
        *hint = CounterResetHint::Unknown;
    }
}

/// A decoded sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    time: Timestamp,
    chunk: u32,
    /// Place in the float or histogram column.
    place: u32,
    is_float: bool,
}

/// Decodes all chunks and sorts their samples.
fn merge(
    entry: &SeriesEntry,
    range: TimeRange,
    want: Want,
    out: &mut SeriesSamples,
) -> Result<(), DecodeError> {
    let want = Want { histogram_stats_only: false, ..want };
    let (mut all, mut found) = (SeriesSamples::default(), Vec::new());
    for (chunk, number) in chunks_in(entry, range).zip(0u32..) {
        let (floats, histograms) = (all.floats.times.len(), all.histograms.times.len());
        decode_chunk(chunk, range, want, &mut all)?;
        let is_float = chunk.encoding.is_float();
        let (times, from) =
            if is_float { (&all.floats.times, floats) } else { (&all.histograms.times, histograms) };
        let new = times.iter().zip(0u32..).skip(from);
        found.extend(new.map(|(&time, place)| Found { time, chunk: number, place, is_float }));
    }
    found.retain(|f| {
        range.contains(f.time) && !entry.deleted.iter().any(|interval| interval.contains(f.time))
    });
    // Merges runs, so chunks in order cost little.
    found.sort();
    found.dedup_by(|other, kept| {
        if other.time != kept.time {
            return false;
        }
        if compare(&all, other, kept).is_gt() {
            *kept = *other;
        }
        true
    });
    let mut before = None;
    for f in found {
        let alone = before.is_some_and(|chunk| chunk != f.chunk);
        push(&mut all, f, want.starts, alone, out);
        before = Some(f.chunk);
    }
    Ok(())
}

/// Which of two samples of one time stays: the greater.
fn compare(all: &SeriesSamples, a: &Found, b: &Found) -> std::cmp::Ordering {
    let candidate = |f: &Found| match f.is_float {
        true => Candidate::Float(all.floats.values[f.place as usize]),
        false => Candidate::Histogram(&all.histograms.values[f.place as usize]),
    };
    let start = |f: &Found| {
        let starts = if f.is_float { &all.floats.starts } else { &all.histograms.starts };
        starts.get(f.place as usize).copied()
    };
    precedence(candidate(a), candidate(b)).then_with(|| start(a).cmp(&start(b)))
}

/// Moves a sample to `out`; `alone`: the sample before it is from another chunk.
fn push(all: &mut SeriesSamples, f: Found, starts: bool, alone: bool, out: &mut SeriesSamples) {
    let place = f.place as usize;
    if f.is_float {
        out.floats.times.push(f.time);
        out.floats.values.push(all.floats.values[place]);
        if starts {
            out.floats.starts.push(all.floats.starts[place]);
        }
        return;
    }
    let mut value = std::mem::take(&mut all.histograms.values[place]);
    if alone && value.counter_reset_hint != CounterResetHint::Gauge {
        value.counter_reset_hint = CounterResetHint::Unknown;
    }
    out.histograms.times.push(f.time);
    out.histograms.values.push(value);
    if starts {
        out.histograms.starts.push(all.histograms.starts[place]);
    }
}

#[cfg(test)]
mod tests;
