//! Chunks of one series that may overlap, as chunks that do not.

use pyrrha_encoding::chunk::histogram::forget_reset;
use pyrrha_encoding::{DecodeError, decode_stored_counting, encode_series};
use pyrrha_model::contract::{ChunkRef, SeriesEntry, Timestamps};
use pyrrha_model::{ChunkEncoding, TimeRange};

/// Appends the entry's chunks to `out` by time, without overlaps and without deleted samples. What
/// overlaps nothing is copied; the rest is decoded, merged, and encoded anew. Gives the number of
/// samples that were dropped because another value of their time stays.
pub(crate) fn resolve(entry: &SeriesEntry, out: &mut Vec<ChunkRef>) -> Result<u64, DecodeError> {
    let mut conflicts = 0;
    let chunks = &entry.chunks;
    let mut at = 0;
    let mut rewritten = false;
    while at < chunks.len() {
        let (mut end, mut max_time) = (at + 1, chunks[at].max_time);
        while end < chunks.len() && chunks[end].min_time <= max_time {
            max_time = max_time.max(chunks[end].max_time);
            end += 1;
        }
        let cluster = TimeRange::new(chunks[at].min_time, max_time);
        let copied = chunks[at + 1..end].iter().all(|c| same(c, &chunks[at]));
        if copied && !entry.deleted.iter().any(|d| d.overlaps(&cluster)) {
            let mut chunk = chunks[at].clone();
            if std::mem::take(&mut rewritten) {
                // Its header speaks of a sample that may be another one now, or none.
                chunk.bytes = forget_reset(chunk.encoding, &chunk.bytes);
            }
            out.push(chunk);
        } else {
            rewrite(entry, at..end, out, &mut conflicts)?;
            rewritten = true;
        }
        at = end;
    }
    Ok(conflicts)
}

/// Whether two chunks are copies of one another, as overlapping blocks often hold them.
fn same(a: &ChunkRef, b: &ChunkRef) -> bool {
    let times = match (&a.timestamps, &b.timestamps) {
        (Timestamps::Own, Timestamps::Own) => true,
        (Timestamps::Shared(a), Timestamps::Shared(b)) => a == b,
        _ => false,
    };
    times
        && (a.min_time, a.max_time, a.encoding) == (b.min_time, b.max_time, b.encoding)
        && a.bytes == b.bytes
}

fn rewrite(
    entry: &SeriesEntry,
    cluster: std::ops::Range<usize>,
    out: &mut Vec<ChunkRef>,
    conflicts: &mut u64,
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
    let samples = decode_stored_counting(&entry, TimeRange::ALL, conflicts)?;
    out.extend(encode_series(&samples, starts));
    Ok(())
}
