//! From samples to chunks: what a store does that has a whole series at hand.

use bytes::Bytes;
use pyrrha_model::contract::{ChunkRef, Timestamps, Value};
use pyrrha_model::{ChunkEncoding, Timestamp};

use crate::bits::{BitSink, BitWriter};
use crate::chunk::{HistogramAppender, SAMPLES_PER_CHUNK, Xor2Appender, XorAppender};

/// Bytes after which a float chunk ends even before it has [`SAMPLES_PER_CHUNK`].
const MAX_FLOAT_BYTES: usize = 1005;

/// Encodes samples (start timestamp or 0, time, value), which ascend in time, as chunks. With
/// `start_timestamps` the encodings are XOR2 and histograms with start timestamps; without, XOR
/// and plain histograms, and start timestamps are dropped.
pub fn encode_series<'a>(
    samples: impl IntoIterator<Item = &'a (Timestamp, Timestamp, Value)>,
    start_timestamps: bool,
) -> Vec<ChunkRef> {
    let mut encoder = SeriesEncoder::new(start_timestamps);
    let mut chunks = Vec::new();
    for (start, time, value) in samples {
        encoder.push(*start, *time, value, &mut chunks);
    }
    encoder.finish(&mut chunks);
    chunks
}

/// Encodes the samples of a series, one after another.
#[derive(Debug)]
pub struct SeriesEncoder {
    start_timestamps: bool,
    floats: Option<OpenFloats>,
    histograms: HistogramAppender,
}

impl SeriesEncoder {
    /// See [`encode_series`].
    pub fn new(start_timestamps: bool) -> Self {
        Self { start_timestamps, floats: None, histograms: HistogramAppender::new(start_timestamps) }
    }

    /// Adds a sample, which is newer than all before. Chunks that it completes go to `chunks`.
    pub fn push(&mut self, start: Timestamp, time: Timestamp, value: &Value, chunks: &mut Vec<ChunkRef>) {
        match value {
            Value::Float(value) => self.push_float(start, time, *value, chunks),
            Value::Histogram(histogram) => {
                chunks.extend(self.floats.take().map(OpenFloats::finish));
                chunks.extend(self.histograms.append(start, time, histogram));
            }
            Value::FloatHistogram(histogram) => {
                chunks.extend(self.floats.take().map(OpenFloats::finish));
                chunks.extend(self.histograms.append_float(start, time, histogram));
            }
        }
    }

    /// As [`push`](Self::push), for a float.
    pub fn push_float(&mut self, start: Timestamp, time: Timestamp, value: f64, chunks: &mut Vec<ChunkRef>) {
        chunks.extend(self.histograms.seal());
        if self.floats.as_ref().is_some_and(OpenFloats::is_full) {
            chunks.extend(self.floats.take().map(OpenFloats::finish));
        }
        let floats = self.floats.get_or_insert_with(|| OpenFloats::new(self.start_timestamps, time));
        floats.append(start, time, value);
    }

    /// Ends the open chunk. The encoder can be used for another series then.
    pub fn finish(&mut self, chunks: &mut Vec<ChunkRef>) {
        chunks.extend(self.floats.take().map(OpenFloats::finish));
        chunks.extend(self.histograms.seal());
    }
}

/// A float chunk that grows.
#[derive(Debug)]
struct OpenFloats {
    writer: BitWriter,
    appender: FloatAppender,
    first_time: Timestamp,
    last_time: Timestamp,
}

#[derive(Debug)]
enum FloatAppender {
    Xor(XorAppender),
    Xor2(Xor2Appender),
}

impl OpenFloats {
    fn new(start_timestamps: bool, time: Timestamp) -> Self {
        let mut writer = BitWriter::new();
        let appender = if start_timestamps {
            writer.put(0, 24);
            FloatAppender::Xor2(Xor2Appender::new())
        } else {
            writer.put(0, 16);
            FloatAppender::Xor(XorAppender::new())
        };
        Self { writer, appender, first_time: time, last_time: time }
    }

    fn is_full(&self) -> bool {
        let count = match &self.appender {
            FloatAppender::Xor(appender) => appender.count(),
            FloatAppender::Xor2(appender) => appender.count(),
        };
        usize::from(count) >= SAMPLES_PER_CHUNK || self.writer.byte_len() >= MAX_FLOAT_BYTES
    }

    fn append(&mut self, start: Timestamp, time: Timestamp, value: f64) {
        match &mut self.appender {
            FloatAppender::Xor(appender) => appender.put(&mut self.writer, time, value),
            FloatAppender::Xor2(appender) => {
                appender.put(&mut self.writer, start, time, value);
            }
        }
        self.last_time = time;
    }

    fn finish(self) -> ChunkRef {
        let mut bytes = self.writer.finish();
        let encoding = match self.appender {
            FloatAppender::Xor(appender) => {
                appender.finish_header(&mut bytes);
                ChunkEncoding::Xor
            }
            FloatAppender::Xor2(appender) => {
                appender.finish_header(&mut bytes);
                ChunkEncoding::Xor2
            }
        };
        ChunkRef {
            min_time: self.first_time,
            max_time: self.last_time,
            encoding,
            timestamps: Timestamps::Own,
            bytes: Bytes::from(bytes),
        }
    }
}

#[cfg(test)]
mod tests;
