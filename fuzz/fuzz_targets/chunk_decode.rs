//! Any bytes as a series of chunks: no panic, and what is read is in order.
//!
//! Input: per chunk `encoding u8 | len u8 | data`.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use pyrrha_encoding::chunk::{HistogramAppender, Xor2Appender, XorAppender};
use pyrrha_encoding::windows::{
    ForeignEdges, HistogramWindows, Windows, decode_windows, from_aggregates, from_histogram_aggregates,
};
use pyrrha_encoding::{Aggregate, AggregateChunk, FloatColumn, SeriesSamples, Want, decode_series, dense};
use pyrrha_model::contract::{ChunkRef, SeriesEntry, Timestamps};
use pyrrha_model::{ChunkEncoding, TimeRange};

fuzz_target!(|input: &[u8]| {
    let mut entry = SeriesEntry::default();
    let mut rest = input;
    while let [encoding, len, tail @ ..] = rest {
        let (data, next) = tail.split_at(usize::from(*len).min(tail.len()));
        rest = next;
        let Some(encoding) = ChunkEncoding::from_byte(*encoding) else { continue };
        let chunk = ChunkRef {
            min_time: i64::MIN,
            max_time: i64::MAX,
            encoding,
            timestamps: Timestamps::Own,
            bytes: Bytes::copy_from_slice(data),
        };
        let _ = dense::statistics(data);
        let _ = dense::decode(data, None, TimeRange::ALL, &mut FloatColumn::default());
        let mut histograms = HistogramWindows::default();
        let _ = decode_windows(data, TimeRange::ALL, &mut Windows::default(), &mut histograms);
        let _ = from_histogram_aggregates(data, 300_000, &mut HistogramWindows::default());
        for edges in [ForeignEdges::Counter, ForeignEdges::Mean] {
            let _ = from_aggregates(data, 300_000, edges, &mut Windows::default());
        }
        let _ = XorAppender::restore(data);
        let _ = Xor2Appender::restore(data);
        let _ = HistogramAppender::restore(encoding, data);
        if encoding == ChunkEncoding::Aggregate {
            for aggregate in Aggregate::ALL {
                entry.chunks.extend(AggregateChunk::split(&chunk, aggregate).ok().flatten());
            }
        } else {
            entry.chunks.push(chunk);
        }
    }
    for starts in [false, true] {
        let mut out = SeriesSamples::default();
        let want = Want { starts, ..Want::default() };
        if decode_series(&entry, TimeRange::ALL, want, &mut out).is_ok() {
            assert!(out.floats.times.is_sorted_by(|a, b| a < b));
            assert!(out.histograms.times.is_sorted_by(|a, b| a < b));
            assert_eq!(out.floats.times.len(), out.floats.values.len());
            assert_eq!(out.histograms.times.len(), out.histograms.values.len());
            assert!(!starts || out.floats.starts.len() == out.floats.times.len());
        }
    }
});
