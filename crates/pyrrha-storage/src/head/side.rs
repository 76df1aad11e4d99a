//! Open chunks that are not plain XOR floats: floats with start timestamps, and histograms. They are
//! few or an option, so each has an object of its own.

use bytes::Bytes;
use pyrrha_encoding::chunk::{HistogramAppender, Xor2Appender, xor};
use pyrrha_model::contract::{ChunkRef, Timestamps, Value};
use pyrrha_model::{ChunkEncoding, Timestamp};

/// Such an open chunk.
#[derive(Debug)]
pub(crate) enum Side {
    /// Floats with start timestamps.
    Xor2(Xor2Appender, Vec<u8>),
    /// Native histograms.
    Histogram(HistogramAppender),
}

impl Side {
    /// Samples in the chunk.
    pub(crate) fn count(&self) -> u16 {
        match self {
            Self::Xor2(appender, _) => appender.count(),
            Self::Histogram(appender) => appender.count(),
        }
    }

    /// Bytes on the heap, about.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Xor2(_, bytes) => bytes.capacity(),
            // The last sample and the layout beside the bits.
            Self::Histogram(appender) => appender.byte_len() * 2 + 600,
        }
    }

    /// The chunk as it is now.
    pub(crate) fn snapshot(&self, min_time: Timestamp, max_time: Timestamp) -> Option<ChunkRef> {
        match self {
            Self::Xor2(appender, bytes) => {
                let mut chunk = bytes[..appender.byte_len()].to_vec();
                xor::set_count(&mut chunk, appender.count());
                Some(ChunkRef {
                    min_time,
                    max_time,
                    encoding: ChunkEncoding::Xor2,
                    timestamps: Timestamps::Own,
                    bytes: Bytes::from(chunk),
                })
            }
            Self::Histogram(appender) => appender.snapshot(),
        }
    }

    /// Appends a histogram; gives the chunk before if this sample had to open another.
    pub(crate) fn append_histogram(
        &mut self,
        start: Timestamp,
        t: Timestamp,
        value: &Value,
    ) -> Option<ChunkRef> {
        match (self, value) {
            (Self::Histogram(appender), Value::Histogram(h)) => appender.append(start, t, h),
            (Self::Histogram(appender), Value::FloatHistogram(h)) => appender.append_float(start, t, h),
            (Self::Xor2(appender, bytes), Value::Float(v)) => {
                appender.append(bytes, start, t, *v);
                None
            }
            _ => None,
        }
    }

    /// Whether a sample of this value can be appended.
    pub(crate) fn takes(&self, value: &Value) -> bool {
        matches!(self, Self::Xor2(..)) == matches!(value, Value::Float(_))
    }
}

/// Makes a chunk one of its first `count` samples.
pub(crate) fn set_count(encoding: ChunkEncoding, chunk: &mut [u8], count: u16) {
    match encoding {
        ChunkEncoding::HistogramSt | ChunkEncoding::FloatHistogramSt => {
            // The two highest bits are the counter-reset header.
            if let Some(&high) = chunk.first() {
                xor::set_count(chunk, count & 0x3FFF | u16::from(high & 0xC0) << 8);
            }
        }
        ChunkEncoding::Xor
        | ChunkEncoding::Xor2
        | ChunkEncoding::Histogram
        | ChunkEncoding::FloatHistogram
        | ChunkEncoding::Dense
        | ChunkEncoding::Windows
        | ChunkEncoding::Aggregate => xor::set_count(chunk, count),
    }
}
