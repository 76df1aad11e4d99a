//! How much memory chunks take once they are decoded, told by what they begin with: for whoever has a budget.

use pyrrha_model::ChunkEncoding;
use pyrrha_model::contract::ChunkRef;

use crate::chunk::{histogram, sample_count};
use crate::windows::decoded_windows_size;
use crate::{Aggregate, AggregateChunk, DecodeError};

/// A float with its times.
const FLOAT: usize = 24;

/// Bytes that a chunk takes in columns, about. Costs no decoding of samples. A few hundred bytes of histograms
/// that do not change may take gigabytes.
pub fn decoded_size(chunk: &ChunkRef) -> Result<usize, DecodeError> {
    size(chunk.encoding, &chunk.bytes)
}

fn size(encoding: ChunkEncoding, bytes: &[u8]) -> Result<usize, DecodeError> {
    match encoding {
        ChunkEncoding::Histogram
        | ChunkEncoding::FloatHistogram
        | ChunkEncoding::HistogramSt
        | ChunkEncoding::FloatHistogramSt => histogram::decoded_size(encoding, bytes),
        ChunkEncoding::Windows => decoded_windows_size(bytes),
        ChunkEncoding::Aggregate => {
            let chunk = AggregateChunk::parse(bytes)?;
            let inner = Aggregate::ALL.into_iter().filter_map(|aggregate| chunk.get(aggregate));
            inner
                .map(|(encoding, data)| size(encoding, data))
                .try_fold(0, |sum: usize, size| Ok(sum.saturating_add(size?)))
        }
        ChunkEncoding::Xor | ChunkEncoding::Xor2 | ChunkEncoding::Dense => {
            Ok(sample_count(encoding, bytes)?.saturating_mul(FLOAT))
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pyrrha_model::contract::Timestamps;
    use pyrrha_model::{CounterResetHint, FloatHistogram, Span, TimeRange};

    use super::*;
    use crate::windows::{
        HistogramWindows, WindowPart, all_aggregate_chunks, encode_histogram_windows, fold_histograms,
    };
    use crate::{HistogramColumn, Want};

    const BUCKETS: usize = 160;

    /// Histograms that do not change.
    fn quiet(count: usize) -> HistogramColumn {
        let one = FloatHistogram {
            count: BUCKETS as f64,
            sum: 1.0,
            positive_spans: vec![Span { offset: 0, length: BUCKETS as u32 }],
            positive_buckets: vec![1.0; BUCKETS],
            ..FloatHistogram::default()
        };
        let times = (0..count as i64).map(|i| i * 15_000).collect();
        HistogramColumn { times, values: vec![one; count], starts: Vec::new() }
    }

    fn held(column: &HistogramColumn) -> usize {
        let of = |h: &FloatHistogram| size_of::<FloatHistogram>() + 8 * h.positive_buckets.len();
        column.values.iter().map(of).sum()
    }

    #[test]
    fn a_quiet_histogram_is_as_large_as_it_gets() {
        let column = quiet(120);
        let values: Vec<&FloatHistogram> = column.values.iter().collect();
        let hint = CounterResetHint::Unknown;
        let (encoding, data) = histogram::encode_run(&column.times, &values, hint, true);
        let bytes = Bytes::from(data);
        let chunk = ChunkRef {
            min_time: 0,
            max_time: 0,
            encoding,
            timestamps: Timestamps::Own,
            bytes: bytes.clone(),
        };
        let told = decoded_size(&chunk).expect("sound");
        let mut decoded = HistogramColumn::default();
        histogram::decode_histograms(encoding, &bytes, TimeRange::ALL, Want::default(), &mut decoded)
            .expect("sound");
        assert!((held(&decoded)..held(&decoded) * 5 / 4).contains(&told), "{told} {}", held(&decoded));
        assert!(told > 50 * bytes.len(), "{told} of {}", bytes.len());
    }

    #[test]
    fn windows_and_aggregates_tell_the_size_of_their_histograms() {
        let mut windows = HistogramWindows::default();
        fold_histograms(&quiet(2_000), &[], 300_000, &mut windows);
        let least = windows.len() * 8 * BUCKETS;
        for part in [WindowPart::Edges, WindowPart::Values] {
            let chunk = encode_histogram_windows(&windows, 300_000, part).expect("some");
            let told = decoded_size(&chunk).expect("sound");
            assert!((least..6 * least).contains(&told), "{told} {least}");
        }
        let chunks = all_aggregate_chunks(&Default::default(), &windows);
        let told: usize = chunks.iter().map(|chunk| decoded_size(chunk).expect("sound")).sum();
        assert!((2 * least..4 * least).contains(&told), "{told} {least}");
    }
}
