//! What a chunk says against what is in it.

use pyrrha_encoding::chunk::histogram::decode_histograms;
use pyrrha_encoding::chunk::{decode_floats, decode_shared_floats};
use pyrrha_encoding::dense::standard_chunks;
use pyrrha_encoding::{Aggregate, AggregateChunk, DecodeError, FloatColumn, HistogramColumn, Want};
use pyrrha_model::contract::{ChunkRef, Timestamps};
use pyrrha_model::{ChunkEncoding, TimeRange, Timestamp};

/// Decodes a chunk and compares its times with those that the index gives. Gives the number of
/// samples, or what is wrong.
pub(crate) fn check(chunk: &ChunkRef) -> Result<u64, String> {
    if chunk.encoding == ChunkEncoding::Aggregate {
        return aggregate(&chunk.bytes).map(|()| 0).map_err(|e| e.to_string());
    }
    let times = times_of_chunk(chunk).map_err(|e| e.to_string())?;
    let (Some(&first), Some(&last)) = (times.first(), times.last()) else {
        return Err("chunk has no samples".to_owned());
    };
    if !times.is_sorted_by(|a, b| a < b) {
        return Err("samples of chunk out of order".to_owned());
    }
    if (first, last) != (chunk.min_time, chunk.max_time) {
        let (min, max) = (chunk.min_time, chunk.max_time);
        return Err(format!("chunk is from {first} to {last}, its series says {min} to {max}"));
    }
    if chunk.encoding == ChunkEncoding::Dense {
        standard_chunks(chunk, &mut Vec::new()).map_err(|e| format!("chunk has no standard form: {e}"))?;
    }
    Ok(times.len() as u64)
}

/// The chunk with the times that its samples have, or why it cannot be kept.
pub(crate) fn with_true_times(mut chunk: ChunkRef) -> Result<ChunkRef, String> {
    match check(&chunk) {
        Ok(_) => return Ok(chunk),
        Err(what) if chunk.encoding == ChunkEncoding::Aggregate => return Err(what),
        Err(_) => {}
    }
    if chunk.encoding == ChunkEncoding::Dense {
        standard_chunks(&chunk, &mut Vec::new()).map_err(|e| e.to_string())?;
    }
    let times = times_of_chunk(&chunk).map_err(|e| e.to_string())?;
    let ends = times.first().zip(times.last()).filter(|_| times.is_sorted_by(|a, b| a < b));
    let Some((&first, &last)) = ends else { return Err("samples of chunk out of order".to_owned()) };
    (chunk.min_time, chunk.max_time) = (first, last);
    Ok(chunk)
}

fn times_of_chunk(chunk: &ChunkRef) -> Result<Vec<Timestamp>, DecodeError> {
    let Timestamps::Shared(times) = &chunk.timestamps else { return times_of(chunk.encoding, &chunk.bytes) };
    let mut column = FloatColumn::default();
    decode_shared_floats(chunk.encoding, &chunk.bytes, times, TimeRange::ALL, &mut column, false)?;
    Ok(column.times)
}

fn times_of(encoding: ChunkEncoding, bytes: &[u8]) -> Result<Vec<Timestamp>, DecodeError> {
    if encoding.is_float() {
        let mut column = FloatColumn::default();
        decode_floats(encoding, bytes, TimeRange::ALL, &mut column, false)?;
        return Ok(column.times);
    }
    let mut column = HistogramColumn::default();
    decode_histograms(encoding, bytes, TimeRange::ALL, Want::default(), &mut column)?;
    Ok(column.times)
}

fn aggregate(bytes: &[u8]) -> Result<(), DecodeError> {
    let parts = AggregateChunk::parse(bytes)?;
    for part in [Aggregate::Count, Aggregate::Sum, Aggregate::Min, Aggregate::Max, Aggregate::Counter] {
        if let Some((encoding, data)) = parts.get(part) {
            times_of(encoding, data)?;
        }
    }
    Ok(())
}
