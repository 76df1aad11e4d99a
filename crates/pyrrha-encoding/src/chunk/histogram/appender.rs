//! Appends histograms to chunks and decides when a chunk ends.
//!
//! All samples of a chunk are of one kind (integer, float; counter, gauge), have one layout, and a
//! counter chunk has no reset inside. New buckets do not end a chunk: it is written anew with them.

use bytes::Bytes;
use pyrrha_model::contract::{ChunkRef, Timestamps, Value};
use pyrrha_model::{ChunkEncoding, CounterResetHint, FloatHistogram, Histogram, Timestamp, is_stale_nan};

use super::layout::{Layout, Union, count};
use super::{Cursor, Header, Kind, State, counter_reset_header, decode_values};
use crate::DecodeError;
use crate::bits::{BitSink, BitWriter};
use crate::chunk::SAMPLES_PER_CHUNK;
use crate::chunk::start_time::StartWriter;
use crate::chunk::varbit::put_varbit_int;

/// Bytes after which a chunk ends, once it has [`MIN_SAMPLES`].
const TARGET_BYTES: usize = 1024;
const MIN_SAMPLES: u16 = 10;

/// The open histogram chunk of a series.
#[derive(Debug)]
pub struct HistogramAppender {
    start_timestamps: bool,
    open: Open,
}

#[derive(Debug)]
enum Open {
    None,
    Integer(Box<OpenChunk<Histogram>>),
    Float(Box<OpenChunk<FloatHistogram>>),
}

impl HistogramAppender {
    /// Without an open chunk. With `start_timestamps`, chunks get the encodings that have them.
    pub fn new(start_timestamps: bool) -> Self {
        Self { start_timestamps, open: Open::None }
    }

    /// With a stored chunk as the open one. On the next append it counts as this series' chunk
    /// before.
    pub fn restore(encoding: ChunkEncoding, bytes: &[u8]) -> Result<Self, DecodeError> {
        let start_timestamps =
            matches!(encoding, ChunkEncoding::HistogramSt | ChunkEncoding::FloatHistogramSt);
        let mut appender = Self::new(start_timestamps);
        let header = counter_reset_header(encoding, bytes)?;
        for (start, time, value) in decode_values(encoding, bytes)? {
            match (value, &mut appender.open) {
                (Value::Histogram(h), Open::Integer(open)) => open.put(start, time, &h),
                (Value::FloatHistogram(h), Open::Float(open)) => open.put(start, time, &h),
                (Value::Histogram(h), _) => {
                    let open = OpenChunk::begin(start_timestamps, header, start, time, &*h);
                    appender.open = Open::Integer(Box::new(open));
                }
                (Value::FloatHistogram(h), _) => {
                    let open = OpenChunk::begin(start_timestamps, header, start, time, &*h);
                    appender.open = Open::Float(Box::new(open));
                }
                (Value::Float(_), _) => return Err(DecodeError::Encoding { encoding: encoding as u8 }),
            }
        }
        Ok(appender)
    }

    /// Appends an integer histogram; `start` is 0 if not known. Times ascend. Gives the chunk
    /// before if this sample had to open another.
    pub fn append(&mut self, start: Timestamp, time: Timestamp, sample: &Histogram) -> Option<ChunkRef> {
        if let Open::Integer(open) = &mut self.open {
            return open.append(start, time, sample);
        }
        let open = OpenChunk::begin(self.start_timestamps, first_header(sample), start, time, sample);
        std::mem::replace(&mut self.open, Open::Integer(Box::new(open))).into_chunk()
    }

    /// Appends a float histogram, likewise.
    pub fn append_float(
        &mut self,
        start: Timestamp,
        time: Timestamp,
        sample: &FloatHistogram,
    ) -> Option<ChunkRef> {
        if let Open::Float(open) = &mut self.open {
            return open.append(start, time, sample);
        }
        let open = OpenChunk::begin(self.start_timestamps, first_header(sample), start, time, sample);
        std::mem::replace(&mut self.open, Open::Float(Box::new(open))).into_chunk()
    }

    /// The open chunk as it is now.
    pub fn snapshot(&self) -> Option<ChunkRef> {
        match &self.open {
            Open::None => None,
            Open::Integer(open) => Some(open.snapshot()),
            Open::Float(open) => Some(open.snapshot()),
        }
    }

    /// Ends the open chunk.
    pub fn seal(&mut self) -> Option<ChunkRef> {
        std::mem::replace(&mut self.open, Open::None).into_chunk()
    }

    /// Samples in the open chunk.
    pub fn count(&self) -> u16 {
        match &self.open {
            Open::None => 0,
            Open::Integer(open) => open.header.count,
            Open::Float(open) => open.header.count,
        }
    }

    /// Time of the first and the last sample of the open chunk.
    pub fn times(&self) -> Option<(Timestamp, Timestamp)> {
        match &self.open {
            Open::None => None,
            Open::Integer(open) => Some((open.first_time, open.time)),
            Open::Float(open) => Some((open.first_time, open.time)),
        }
    }

    /// Bytes of the open chunk's samples (not of what surrounds them in memory).
    pub fn byte_len(&self) -> usize {
        match &self.open {
            Open::None => 0,
            Open::Integer(open) => open.writer.byte_len(),
            Open::Float(open) => open.writer.byte_len(),
        }
    }
}

impl Open {
    fn into_chunk(self) -> Option<ChunkRef> {
        match self {
            Self::None => None,
            Self::Integer(open) => Some(open.finish()),
            Self::Float(open) => Some(open.finish()),
        }
    }
}

/// Header of a chunk without a comparable one before.
fn first_header<K: Kind>(sample: &K) -> CounterResetHint {
    match sample.hint() {
        hint @ (CounterResetHint::Gauge | CounterResetHint::Reset) => hint,
        CounterResetHint::Unknown | CounterResetHint::NotReset => CounterResetHint::Unknown,
    }
}

/// What is stored in place of a sample that cannot be stored as it is: of a stale one, only the
/// sum; of one whose spans and buckets disagree (which no caller should let in), a whole one.
fn storable<K: Kind>(sample: &K) -> Option<K> {
    if is_stale_nan(sample.sum()) {
        return Some(K::stale());
    }
    if sample.is_whole() {
        return None;
    }
    let (layout, mut buckets) = (sample.layout(), sample.buckets());
    for (buckets, spans) in buckets.iter_mut().zip(&layout.spans) {
        buckets.resize(count(spans), K::Count::default());
    }
    Some(sample.with_buckets(&layout, buckets))
}

/// A chunk that grows.
#[derive(Debug)]
struct OpenChunk<K: Kind> {
    writer: BitWriter,
    start_timestamps: bool,
    header: Header,
    layout: Layout,
    state: K::State,
    starts: StartWriter,
    /// The last sample, in the layout.
    last: K,
    first_time: Timestamp,
    time: Timestamp,
    delta: i64,
}

/// How a sample goes on from the chunk before it.
enum Next<K> {
    /// In the same chunk.
    Append,
    /// In the same chunk, but spread over the chunk's layout first.
    Spread(K),
    /// In the same chunk, written anew in this layout.
    Recode(Layout, K),
    /// In another chunk, of this header.
    Cut(CounterResetHint),
}

impl<K: Kind> OpenChunk<K> {
    /// A chunk of one sample.
    fn begin(
        start_timestamps: bool,
        reset: CounterResetHint,
        start: Timestamp,
        time: Timestamp,
        sample: &K,
    ) -> Self {
        let fixed = storable(sample);
        let sample = fixed.as_ref().unwrap_or(sample);
        let mut open = Self {
            writer: BitWriter::new(),
            start_timestamps,
            header: Header { count: 0, reset, starts: 0 },
            layout: sample.layout(),
            state: K::State::default(),
            starts: StartWriter::default(),
            last: K::default(),
            first_time: time,
            time,
            delta: 0,
        };
        open.writer.put(0, 24);
        open.layout.put(&mut open.writer);
        open.put(start, time, sample);
        open
    }

    /// Appends a sample, to this chunk or to one that takes its place.
    fn append(&mut self, start: Timestamp, time: Timestamp, sample: &K) -> Option<ChunkRef> {
        let fixed = storable(sample);
        let sample = fixed.as_ref().unwrap_or(sample);
        let full = usize::from(self.header.count) >= SAMPLES_PER_CHUNK
            || (self.header.count >= MIN_SAMPLES && self.writer.byte_len() >= TARGET_BYTES);
        let header = match self.next(sample) {
            Next::Cut(header) => header,
            // The header of the chunk after a full one tells how it goes on.
            _ if full && self.header.reset == CounterResetHint::Gauge => CounterResetHint::Gauge,
            _ if full => CounterResetHint::NotReset,
            Next::Append => {
                self.put(start, time, sample);
                return None;
            }
            Next::Spread(sample) => {
                self.put(start, time, &sample);
                return None;
            }
            Next::Recode(layout, sample) => {
                if self.recode(layout).is_ok() {
                    self.put(start, time, &sample);
                    return None;
                }
                // Cannot be: our own bytes did not decode. A new chunk loses nothing.
                CounterResetHint::Unknown
            }
        };
        let next = Self::begin(self.start_timestamps, header, start, time, sample);
        Some(std::mem::replace(self, next).finish())
    }

    fn next(&self, sample: &K) -> Next<K> {
        let gauge = self.header.reset == CounterResetHint::Gauge;
        let stale = is_stale_nan(sample.sum());
        if (sample.hint() == CounterResetHint::Gauge) != gauge && !stale {
            return Next::Cut(first_header(sample));
        }
        if sample.hint() == CounterResetHint::Reset {
            return Next::Cut(CounterResetHint::Reset);
        }
        if stale {
            return Next::Append;
        }
        let cut = |header| Next::Cut(if gauge { CounterResetHint::Gauge } else { header });
        if is_stale_nan(self.last.sum()) {
            return cut(CounterResetHint::Unknown);
        }
        let other = sample.layout();
        if !self.layout.same_custom_values(&other) {
            return cut(CounterResetHint::Reset);
        }
        if !self.layout.same_bounds(&other) {
            return cut(CounterResetHint::Unknown);
        }
        if !gauge && (sample.count() < self.last.count() || sample.zero_count() < self.last.zero_count()) {
            return cut(CounterResetHint::Reset);
        }
        self.next_by_buckets(sample, other, gauge)
    }

    fn next_by_buckets(&self, sample: &K, other: Layout, gauge: bool) -> Next<K> {
        let (before, after) = (self.last.buckets(), sample.buckets());
        if sample.fits(&self.layout) {
            let shrinks = before.iter().flatten().zip(after.iter().flatten()).any(|(b, a)| a < b);
            let reset = !gauge && shrinks;
            return if reset { Next::Cut(CounterResetHint::Reset) } else { Next::Append };
        }
        let unions = [0, 1].map(|side| Union::new(&self.layout.spans[side], &other.spans[side]));
        let spread = |which: usize, buckets: &[Vec<K::Count>; 2]| {
            [0, 1].map(|side| unions[side].spread(which, &buckets[side]))
        };
        let (before, after) = (spread(0, &before), spread(1, &after));
        if !gauge && before.iter().flatten().zip(after.iter().flatten()).any(|(b, a)| a < b) {
            return Next::Cut(CounterResetHint::Reset);
        }
        if unions.iter().all(|union| union.is_all_of(0)) {
            return Next::Spread(sample.with_buckets(&self.layout, after));
        }
        let layout = Layout { spans: unions.map(|union| union.spans), ..other };
        let sample = sample.with_buckets(&layout, after);
        Next::Recode(layout, sample)
    }

    /// Writes the chunk anew in a layout that has all its buckets.
    fn recode(&mut self, layout: Layout) -> Result<(), DecodeError> {
        let encoding = K::encoding(self.start_timestamps);
        let bytes = self.bytes();
        let mut samples = Vec::new();
        if let Some(mut cursor) = Cursor::<K>::open(encoding, &bytes)? {
            cursor.decode_exact(&mut samples)?;
        }
        let unions = [0, 1].map(|side| Union::new(&layout.spans[side], &self.layout.spans[side]));
        let mut anew: Option<Self> = None;
        for (start, time, sample) in samples {
            let buckets = sample.buckets();
            let buckets = [0, 1].map(|side| unions[side].spread(1, &buckets[side]));
            let sample = sample.with_buckets(&layout, buckets);
            match &mut anew {
                Some(open) => open.put(start, time, &sample),
                None => {
                    let reset = self.header.reset;
                    anew = Some(Self::begin(self.start_timestamps, reset, start, time, &sample));
                }
            }
        }
        if let Some(anew) = anew {
            *self = anew;
        }
        Ok(())
    }

    /// Appends a sample of this chunk's layout, or a stale one.
    fn put(&mut self, start: Timestamp, time: Timestamp, sample: &K) {
        let index = self.header.count;
        let fixed = storable(sample);
        let sample = fixed.as_ref().unwrap_or(sample);
        let delta = time.wrapping_sub(self.time);
        match index {
            0 => put_varbit_int(&mut self.writer, time),
            1 => put_varbit_int(&mut self.writer, delta),
            _ => put_varbit_int(&mut self.writer, delta.wrapping_sub(self.delta)),
        }
        self.state.put(&mut self.writer, index, sample);
        if self.start_timestamps {
            match index {
                0 => self.starts.put_first(&mut self.writer, time, start),
                _ => {
                    self.starts.put(&mut self.writer, index, self.time, start);
                }
            }
            self.header.starts = self.starts.header;
        }
        self.delta = delta;
        self.time = time;
        self.header.count += 1;
        self.last.clone_from(sample);
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.writer.clone().finish();
        if let Some(header) = bytes.first_chunk_mut() {
            *header = self.header.write(self.start_timestamps);
        }
        bytes
    }

    fn snapshot(&self) -> ChunkRef {
        ChunkRef {
            min_time: self.first_time,
            max_time: self.time,
            encoding: K::encoding(self.start_timestamps),
            timestamps: Timestamps::Own,
            bytes: Bytes::from(self.bytes()),
        }
    }

    fn finish(self) -> ChunkRef {
        self.snapshot()
    }
}

/// All samples, which have the same bounds and of which none is stale, as one chunk without start
/// timestamps, however long that is. At most 65,535.
pub(super) fn one_chunk<K: Kind>(reset: CounterResetHint, samples: &[(Timestamp, K)]) -> Vec<u8> {
    let Some((_, first)) = samples.first() else { return Vec::new() };
    let mut layout = first.layout();
    for (_, sample) in samples.iter().filter(|(_, sample)| !sample.fits(&layout)).collect::<Vec<_>>() {
        let other = sample.layout();
        layout.spans = [0, 1].map(|side| Union::new(&layout.spans[side], &other.spans[side]).spans);
    }
    let mut open: Option<OpenChunk<K>> = None;
    for (time, sample) in samples {
        let (own, buckets) = (sample.layout(), sample.buckets());
        let spread =
            |side: usize| Union::new(&layout.spans[side], &own.spans[side]).spread(1, &buckets[side]);
        let sample = sample.with_buckets(&layout, [spread(0), spread(1)]);
        match &mut open {
            Some(open) => open.put(0, *time, &sample),
            None => open = Some(OpenChunk::begin(false, reset, 0, *time, &sample)),
        }
    }
    open.map(|open| open.bytes()).unwrap_or_default()
}
