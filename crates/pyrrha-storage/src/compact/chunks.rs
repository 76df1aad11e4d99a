//! Chunks of one series that may overlap, as chunks that do not.

use pyrrha_encoding::{DecodeError, SeriesEncoder, SeriesSamples, Want, decode_series};
use pyrrha_model::contract::{ChunkRef, SeriesEntry, Value};
use pyrrha_model::{ChunkEncoding, TimeRange};

/// Appends the entry's chunks to `out` by time, without overlaps and without deleted samples. What
/// overlaps nothing is copied; the rest is decoded, merged, and encoded anew.
pub(super) fn resolve(entry: &SeriesEntry, out: &mut Vec<ChunkRef>) -> Result<(), DecodeError> {
    let chunks = &entry.chunks;
    let mut at = 0;
    while at < chunks.len() {
        let (mut end, mut max_time) = (at + 1, chunks[at].max_time);
        while end < chunks.len() && chunks[end].min_time <= max_time {
            max_time = max_time.max(chunks[end].max_time);
            end += 1;
        }
        let cluster = TimeRange::new(chunks[at].min_time, max_time);
        let copied = chunks[at + 1..end].iter().all(|c| same(c, &chunks[at]));
        if copied && !entry.deleted.iter().any(|d| d.overlaps(&cluster)) {
            out.push(chunks[at].clone());
        } else {
            rewrite(entry, at..end, out)?;
        }
        at = end;
    }
    Ok(())
}

/// Whether two chunks are copies of one another, as overlapping blocks often hold them.
fn same(a: &ChunkRef, b: &ChunkRef) -> bool {
    (a.min_time, a.max_time, a.encoding) == (b.min_time, b.max_time, b.encoding) && a.bytes == b.bytes
}

fn rewrite(
    entry: &SeriesEntry,
    cluster: std::ops::Range<usize>,
    out: &mut Vec<ChunkRef>,
) -> Result<(), DecodeError> {
    let entry = SeriesEntry {
        labels: 0..0,
        chunks: entry.chunks[cluster].iter().cloned().collect(),
        deleted: entry.deleted.clone(),
    };
    let starts = entry.chunks.iter().any(|c| {
        matches!(
            c.encoding,
            ChunkEncoding::Xor2 | ChunkEncoding::HistogramSt | ChunkEncoding::FloatHistogramSt
        )
    });
    let mut samples = SeriesSamples::default();
    decode_series(&entry, TimeRange::ALL, Want { starts, histogram_stats_only: false }, &mut samples)?;
    encode(samples, starts, out);
    Ok(())
}

/// Encodes both columns in one order of time.
fn encode(samples: SeriesSamples, starts: bool, out: &mut Vec<ChunkRef>) {
    let SeriesSamples { floats, histograms } = samples;
    let start_of = |column: &[i64], i: usize| column.get(i).copied().unwrap_or(0);
    let mut encoder = SeriesEncoder::new(starts);
    let mut float = 0;
    for (i, (t, histogram)) in histograms.times.iter().zip(histograms.values).enumerate() {
        while float < floats.times.len() && floats.times[float] < *t {
            encoder.push_float(
                start_of(&floats.starts, float),
                floats.times[float],
                floats.values[float],
                out,
            );
            float += 1;
        }
        let value = Value::FloatHistogram(Box::new(histogram));
        encoder.push(start_of(&histograms.starts, i), *t, &value, out);
    }
    for i in float..floats.times.len() {
        encoder.push_float(start_of(&floats.starts, i), floats.times[i], floats.values[i], out);
    }
    encoder.finish(out);
}
