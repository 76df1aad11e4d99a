//! Histogram chunks (encodings 2, 3 and, with start timestamps, 5, 6).
//!
//! `u16 n | flags u8 | layout | samples`; with start timestamps the flags are the two highest bits
//! of the count, and their byte is the start timestamp header. The layout (schema, spans, bounds)
//! holds for all samples. Reading: [`decode_histograms`]; writing: [`HistogramAppender`].

mod appender;
mod float;
mod integer;
mod layout;
mod run;

use std::sync::Arc;

use bytes::Bytes;
use pyrrha_model::contract::Value;
use pyrrha_model::{ChunkEncoding, CounterResetHint, FloatHistogram, Histogram, TimeRange, Timestamp};

pub use appender::HistogramAppender;
use layout::Layout;
pub(crate) use run::encode_run;

use super::start_time::StartReader;
use super::varbit::read_varbit_int;
use crate::bits::BitReader;
use crate::varint::take_array;
use crate::{DecodeError, HistogramColumn, Want};

const MALFORMED: DecodeError = DecodeError::Malformed { part: "histogram chunk" };

/// What a kind of histogram (integer, float) has of its own: how a sample's counts are written.
trait Kind: Clone + Default {
    /// A count: of a bucket, absolute.
    type Count: Copy + PartialOrd + Default;
    /// Counts of the sample before, as the next sample is written against.
    type State: State<Self>;

    fn layout(&self) -> Layout;
    fn fits(&self, layout: &Layout) -> bool;
    /// Whether there are as many buckets as the spans say, as every valid histogram has.
    fn is_whole(&self) -> bool;
    fn hint(&self) -> CounterResetHint;
    fn count(&self) -> Self::Count;
    fn zero_count(&self) -> Self::Count;
    fn sum(&self) -> f64;
    /// Absolute counts of the positive and the negative buckets.
    fn buckets(&self) -> [Vec<Self::Count>; 2];
    /// The same sample with other buckets, of absolute counts.
    fn with_buckets(&self, layout: &Layout, buckets: [Vec<Self::Count>; 2]) -> Self;
    /// A stale sample: only the sum has meaning.
    fn stale() -> Self;
    fn into_value(self) -> Value;
    fn encoding(start_timestamps: bool) -> ChunkEncoding;
}

/// Counts of a sample, as the next one is coded against.
trait State<K: Kind>: Default {
    /// Writes sample `index`.
    fn put(&mut self, sink: &mut crate::bits::BitWriter, index: u16, sample: &K);
    /// Reads sample `index`; `buckets` is how many the layout has.
    fn read(&mut self, r: &mut BitReader<'_>, index: u16, buckets: usize) -> Result<(), DecodeError>;
    fn sum(&self) -> f64;
    fn stats(&self) -> FloatHistogram;
    fn to_float(&self, layout: &Layout) -> FloatHistogram;
    fn to_sample(&self, layout: &Layout) -> K;
}

/// A hint as a chunk's two flag bits.
fn flags_of(hint: CounterResetHint) -> u8 {
    match hint {
        CounterResetHint::Unknown => 0b00,
        CounterResetHint::NotReset => 0b01,
        CounterResetHint::Reset => 0b10,
        CounterResetHint::Gauge => 0b11,
    }
}

/// A chunk's two flag bits as a hint.
fn hint_of(flags: u8) -> CounterResetHint {
    match flags & 0b11 {
        0b00 => CounterResetHint::Unknown,
        0b01 => CounterResetHint::NotReset,
        0b10 => CounterResetHint::Reset,
        _ => CounterResetHint::Gauge,
    }
}

/// What a histogram chunk's header says about a counter reset between the chunk before and its
/// first sample, or that it holds gauges.
pub fn counter_reset_header(encoding: ChunkEncoding, bytes: &[u8]) -> Result<CounterResetHint, DecodeError> {
    Header::read(encoding, bytes).map(|(header, _)| header.reset)
}

/// Bytes that the samples of a histogram chunk take once they are decoded, as its head says.
pub fn decoded_size(encoding: ChunkEncoding, bytes: &[u8]) -> Result<usize, DecodeError> {
    let (header, bytes) = Header::read(encoding, bytes)?;
    if header.count == 0 {
        return Ok(0);
    }
    let layout = Layout::read(&mut BitReader::new(bytes), bytes.len() * 8)?;
    let spans: usize = layout.spans.iter().map(|spans| size_of_val(&spans[..])).sum();
    let each = size_of::<FloatHistogram>() + size_of::<f64>() * layout.bucket_count() + spans;
    Ok(each.saturating_mul(usize::from(header.count)))
}

/// The same chunk, saying nothing of a counter reset before its first sample: for a chunk of counters
/// that gets another one before it. Other chunks stay as they are.
pub fn forget_reset(encoding: ChunkEncoding, chunk: &Bytes) -> Bytes {
    let hint = if encoding.is_float() { None } else { counter_reset_header(encoding, chunk).ok() };
    if !matches!(hint, Some(CounterResetHint::Reset | CounterResetHint::NotReset)) {
        return chunk.clone();
    }
    let starts = matches!(encoding, ChunkEncoding::HistogramSt | ChunkEncoding::FloatHistogramSt);
    let mut bytes = chunk.to_vec();
    if let Some(flags) = bytes.get_mut(if starts { 0 } else { 2 }) {
        *flags = *flags & 0x3f | flags_of(CounterResetHint::Unknown) << 6;
    }
    Bytes::from(bytes)
}

#[derive(Debug)]
struct Header {
    count: u16,
    reset: CounterResetHint,
    /// The start timestamp header; 0 without start timestamps.
    starts: u8,
}

impl Header {
    fn read(encoding: ChunkEncoding, mut bytes: &[u8]) -> Result<(Self, &[u8]), DecodeError> {
        let [high, low, third] = take_array(&mut bytes)?;
        let header = match encoding {
            ChunkEncoding::Histogram | ChunkEncoding::FloatHistogram => {
                Self { count: u16::from_be_bytes([high, low]), reset: hint_of(third >> 6), starts: 0 }
            }
            ChunkEncoding::HistogramSt | ChunkEncoding::FloatHistogramSt => {
                let count = u16::from_be_bytes([high & 0x3f, low]);
                Self { count, reset: hint_of(high >> 6), starts: third }
            }
            ChunkEncoding::Xor
            | ChunkEncoding::Xor2
            | ChunkEncoding::Dense
            | ChunkEncoding::Windows
            | ChunkEncoding::Aggregate => {
                return Err(DecodeError::Encoding { encoding: encoding as u8 });
            }
        };
        Ok((header, bytes))
    }

    fn write(&self, start_timestamps: bool) -> [u8; 3] {
        let [high, low] = self.count.to_be_bytes();
        let flags = flags_of(self.reset) << 6;
        if start_timestamps { [high & 0x3f | flags, low, self.starts] } else { [high, low, flags] }
    }
}

/// A reader of a chunk, before its first sample or on a sample.
struct Cursor<'a, K: Kind> {
    r: BitReader<'a>,
    header: Header,
    layout: Layout,
    buckets: usize,
    state: K::State,
    starts: StartReader,
    time: Timestamp,
    delta: i64,
    /// Samples read.
    read: u16,
}

impl<'a, K: Kind> Cursor<'a, K> {
    /// Before the first sample, if there is one.
    fn open(encoding: ChunkEncoding, bytes: &'a [u8]) -> Result<Option<Self>, DecodeError> {
        let (header, bytes) = Header::read(encoding, bytes)?;
        if header.count == 0 {
            return Ok(None);
        }
        let mut r = BitReader::new(bytes);
        let layout = Layout::read(&mut r, bytes.len() * 8)?;
        let buckets = layout.bucket_count();
        let starts = StartReader::new(header.starts);
        let state = K::State::default();
        Ok(Some(Self { r, header, layout, buckets, state, starts, time: 0, delta: 0, read: 0 }))
    }

    /// Moves to the next sample, if there is one.
    fn next(&mut self) -> Result<bool, DecodeError> {
        if self.read == self.header.count {
            return Ok(false);
        }
        let (index, before) = (self.read, self.time);
        let read = read_varbit_int(&mut self.r);
        match index {
            0 => self.time = read,
            1 => self.delta = read,
            _ => self.delta = self.delta.wrapping_add(read),
        }
        self.time = self.time.wrapping_add(self.delta);
        self.state.read(&mut self.r, index, self.buckets)?;
        match index {
            0 => self.starts.read_first(&mut self.r, self.time)?,
            _ => self.starts.read(&mut self.r, index, before),
        }
        self.r.check("histogram chunk")?;
        self.read += 1;
        Ok(true)
    }

    /// The hint of the sample, as readers have to see it: within a counter chunk there is no
    /// reset, but what is before its first sample is not known here (the header speaks of a chunk
    /// that may be missing by now).
    fn hint(&self) -> CounterResetHint {
        match self.header.reset {
            CounterResetHint::Gauge => CounterResetHint::Gauge,
            _ if self.read > 1 => CounterResetHint::NotReset,
            _ => CounterResetHint::Unknown,
        }
    }

    fn is_stale(&self) -> bool {
        pyrrha_model::is_stale_nan(self.state.sum())
    }

    /// Appends the samples in `range`.
    fn decode(
        &mut self,
        range: TimeRange,
        want: Want,
        column: &mut HistogramColumn,
    ) -> Result<(), DecodeError> {
        let own = column.values.len();
        while self.next()? {
            if want.histogram_stats_only && self.is_stale() {
                // Whoever passes the marker over compares what is before it with what comes after.
                if let Some(before) = column.values.get_mut(own..).and_then(<[_]>::last_mut)
                    && !before.is_stale()
                {
                    let buckets = self.state.to_float(&self.layout);
                    before.positive_spans = buckets.positive_spans;
                    before.negative_spans = buckets.negative_spans;
                    before.positive_buckets = buckets.positive_buckets;
                    before.negative_buckets = buckets.negative_buckets;
                }
            }
            if self.time < range.start {
                continue;
            }
            if self.time > range.end {
                break;
            }
            column.times.push(self.time);
            column.values.push(self.to_float(want.histogram_stats_only));
            if want.starts {
                column.starts.push(self.starts.start);
            }
        }
        Ok(())
    }

    /// The sample; without buckets if `stats_only`, unless it is the chunk's first or last, which
    /// a reader compares with its neighbour in another chunk. Those before a stale marker get theirs later.
    fn to_float(&self, stats_only: bool) -> FloatHistogram {
        if self.is_stale() {
            return FloatHistogram { sum: self.state.sum(), ..FloatHistogram::default() };
        }
        let inner = 1 < self.read && self.read < self.header.count;
        let mut sample = if stats_only && inner {
            FloatHistogram {
                schema: self.layout.schema,
                zero_threshold: self.layout.zero_threshold,
                custom_values: Arc::clone(&self.layout.custom_values),
                ..self.state.stats()
            }
        } else {
            self.state.to_float(&self.layout)
        };
        sample.counter_reset_hint = self.hint();
        sample
    }

    /// Appends all samples, of their own kind.
    fn decode_exact(&mut self, out: &mut Vec<(Timestamp, Timestamp, K)>) -> Result<(), DecodeError> {
        while self.next()? {
            let sample = if self.is_stale() { K::stale() } else { self.state.to_sample(&self.layout) };
            out.push((self.starts.start, self.time, sample));
        }
        Ok(())
    }
}

/// Appends the samples of a histogram chunk that lie in `range` to `column`, with hints as a
/// reader of this chunk alone has to see them. On error the column is as before.
pub fn decode_histograms(
    encoding: ChunkEncoding,
    bytes: &[u8],
    range: TimeRange,
    want: Want,
    column: &mut HistogramColumn,
) -> Result<(), DecodeError> {
    let before = column.times.len();
    let done = match encoding {
        ChunkEncoding::FloatHistogram | ChunkEncoding::FloatHistogramSt => {
            Cursor::<FloatHistogram>::open(encoding, bytes)
                .and_then(|cursor| cursor.map_or(Ok(()), |mut c| c.decode(range, want, column)))
        }
        _ => Cursor::<Histogram>::open(encoding, bytes)
            .and_then(|cursor| cursor.map_or(Ok(()), |mut c| c.decode(range, want, column))),
    };
    let len = if done.is_ok() { column.times.len() } else { before };
    column.times.truncate(len);
    column.values.truncate(len);
    if want.starts {
        column.starts.resize(len, 0);
    }
    done
}

/// All samples of a histogram chunk, as (start, time, sample) of the kind that is stored. Gauges say
/// so, the first sample has the reset that the header says, and all others an unknown hint: appended
/// again they make such a chunk again.
pub(crate) fn decode_values(
    encoding: ChunkEncoding,
    bytes: &[u8],
) -> Result<Vec<(Timestamp, Timestamp, Value)>, DecodeError> {
    let mut samples = match encoding {
        ChunkEncoding::FloatHistogram | ChunkEncoding::FloatHistogramSt => {
            all_values::<FloatHistogram>(encoding, bytes)?
        }
        _ => all_values::<Histogram>(encoding, bytes)?,
    };
    let header = counter_reset_header(encoding, bytes)?;
    for (i, (_, _, value)) in samples.iter_mut().enumerate() {
        let hint = match header {
            CounterResetHint::Gauge => header,
            CounterResetHint::Reset if i == 0 => header,
            _ => continue,
        };
        match value {
            Value::Histogram(h) if !h.is_stale() => h.counter_reset_hint = hint,
            Value::FloatHistogram(h) if !h.is_stale() => h.counter_reset_hint = hint,
            _ => {}
        }
    }
    Ok(samples)
}

fn all_values<K: Kind>(
    encoding: ChunkEncoding,
    bytes: &[u8],
) -> Result<Vec<(Timestamp, Timestamp, Value)>, DecodeError> {
    let mut samples = Vec::new();
    if let Some(mut cursor) = Cursor::<K>::open(encoding, bytes)? {
        cursor.decode_exact(&mut samples)?;
    }
    Ok(samples.into_iter().map(|(start, time, sample)| (start, time, sample.into_value())).collect())
}

#[cfg(test)]
mod tests;
