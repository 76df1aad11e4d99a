//! What all samples of a histogram chunk have in common: schema, zero bucket width, spans, bounds.

use std::cmp::Ordering;
use std::sync::Arc;

use pyrrha_model::Span;
use pyrrha_model::histogram::CUSTOM_BUCKETS_SCHEMA;

use super::MALFORMED;
use crate::DecodeError;
use crate::bits::{BitReader, BitSink};
use crate::chunk::varbit::{put_varbit_int, put_varbit_uint, read_varbit_int, read_varbit_uint};

/// Byte that says that a zero threshold follows as a double.
const RAW_THRESHOLD: u64 = 0xff;

/// Added to the exponent of a zero threshold that is a power of two.
const THRESHOLD_BIAS: i64 = 243;

/// Largest custom bound, in thousandths, that is written as an integer.
const MAX_SCALED_BOUND: f64 = 33_554_430.0;

/// Most buckets, spans or bounds of a histogram that is read: far beyond what any client makes, it
/// bounds what hostile bytes can allocate.
const MAX_BUCKETS: usize = 1 << 20;

/// Schemas that have exponential buckets.
const EXPONENTIAL_SCHEMAS: std::ops::RangeInclusive<i64> = -4..=8;

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Layout {
    pub(super) schema: i32,
    pub(super) zero_threshold: f64,
    /// Of the positive and the negative buckets.
    pub(super) spans: [Vec<Span>; 2],
    pub(super) custom_values: Arc<[f64]>,
}

impl Layout {
    pub(super) fn bucket_count(&self) -> usize {
        self.spans.iter().map(|spans| count(spans)).sum()
    }

    pub(super) fn positive_count(&self) -> usize {
        count(&self.spans[0])
    }

    /// Whether samples of both can be compared bucket by bucket, once their spans are the same.
    pub(super) fn same_bounds(&self, other: &Self) -> bool {
        self.schema == other.schema
            && self.zero_threshold.to_bits() == other.zero_threshold.to_bits()
            && self.same_custom_values(other)
    }

    pub(super) fn same_custom_values(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.custom_values, &other.custom_values)
            || self
                .custom_values
                .iter()
                .map(|v| v.to_bits())
                .eq(other.custom_values.iter().map(|v| v.to_bits()))
    }

    pub(super) fn put(&self, sink: &mut impl BitSink) {
        put_threshold(sink, self.zero_threshold);
        put_varbit_int(sink, i64::from(self.schema));
        for spans in &self.spans {
            put_varbit_uint(sink, spans.len() as u64);
            for span in spans {
                put_varbit_uint(sink, u64::from(span.length));
                put_varbit_int(sink, i64::from(span.offset));
            }
        }
        if self.schema == CUSTOM_BUCKETS_SCHEMA {
            put_varbit_uint(sink, self.custom_values.len() as u64);
            for &bound in self.custom_values.iter() {
                put_bound(sink, bound);
            }
        }
    }

    /// Reads a layout. No more buckets, spans or bounds are accepted than fit `limit` bits, of
    /// which each takes one at least.
    pub(super) fn read(r: &mut BitReader<'_>, limit: usize) -> Result<Self, DecodeError> {
        let zero_threshold = read_threshold(r);
        let schema = read_varbit_int(r);
        if !EXPONENTIAL_SCHEMAS.contains(&schema) && schema != i64::from(CUSTOM_BUCKETS_SCHEMA) {
            return Err(MALFORMED);
        }
        let schema = schema as i32;
        let spans = [read_spans(r, limit)?, read_spans(r, limit)?];
        let custom_values =
            if schema == CUSTOM_BUCKETS_SCHEMA { read_bounds(r, limit)? } else { Arc::default() };
        r.check("histogram layout")?;
        Ok(Self { schema, zero_threshold, spans, custom_values })
    }
}

/// Buckets that spans say.
pub(super) fn count(spans: &[Span]) -> usize {
    spans.iter().map(|span| span.length as usize).sum()
}

fn put_threshold(sink: &mut impl BitSink, threshold: f64) {
    let bits = threshold.to_bits();
    let (exponent, fraction) = (bits as i64 >> 52, bits & ((1 << 52) - 1));
    // 2^e has biased exponent e + 1023; it is 0.5 * 2^(e + 1).
    let byte = exponent - 1023 + 1 + THRESHOLD_BIAS;
    if bits == 0 {
        sink.put(0, 8);
    } else if fraction == 0 && (1..RAW_THRESHOLD as i64).contains(&byte) {
        sink.put(byte as u64, 8);
    } else {
        sink.put(RAW_THRESHOLD, 8);
        sink.put(bits, 64);
    }
}

fn read_threshold(r: &mut BitReader<'_>) -> f64 {
    match r.read(8) {
        0 => 0.0,
        RAW_THRESHOLD => r.read_f64(),
        byte => f64::from_bits(((byte as i64 - THRESHOLD_BIAS - 1 + 1023) as u64) << 52),
    }
}

fn read_spans(r: &mut BitReader<'_>, limit: usize) -> Result<Vec<Span>, DecodeError> {
    let spans = bounded(read_varbit_uint(r), limit)?;
    let (mut out, mut buckets, mut end) = (Vec::with_capacity(spans), 0, 0i64);
    for i in 0..spans {
        let length = bounded(read_varbit_uint(r), limit)?;
        let offset = read_varbit_int(r);
        let offset32 = i32::try_from(offset).map_err(|_| MALFORMED)?;
        buckets += length;
        end = end.checked_add(offset).and_then(|e| e.checked_add(length as i64)).ok_or(MALFORMED)?;
        // Readers walk bucket indices as 32-bit numbers, upwards.
        if buckets > limit || (i > 0 && offset < 0) || i32::try_from(end).is_err() {
            return Err(MALFORMED);
        }
        out.push(Span { offset: offset32, length: length as u32 });
    }
    Ok(out)
}

fn put_bound(sink: &mut impl BitSink, bound: f64) {
    let scaled = (bound * 1000.0).round();
    let whole = if (0.0..=MAX_SCALED_BOUND).contains(&scaled) { scaled as u64 } else { 0 };
    // Bit for bit, so that -0.0 is not taken for 0.
    if (whole as f64 / 1000.0).to_bits() == bound.to_bits() {
        put_varbit_uint(sink, whole + 1);
    } else {
        sink.put(0, 1);
        sink.put(bound.to_bits(), 64);
    }
}

fn read_bounds(r: &mut BitReader<'_>, limit: usize) -> Result<Arc<[f64]>, DecodeError> {
    let bounds = bounded(read_varbit_uint(r), limit)?;
    let bound = |_| match read_varbit_uint(r) {
        0 => r.read_f64(),
        scaled => (scaled - 1) as f64 / 1000.0,
    };
    Ok((0..bounds).map(bound).collect())
}

/// A hostile count may not size an allocation.
fn bounded(count: u64, limit: usize) -> Result<usize, DecodeError> {
    usize::try_from(count).ok().filter(|&n| n <= limit && n <= MAX_BUCKETS).ok_or(MALFORMED)
}

/// How the buckets of two samples line up in one layout that has room for both.
pub(super) struct Union {
    pub(super) spans: Vec<Span>,
    /// For each bucket of `spans`, its place in either sample, if it has one.
    places: Vec<[Option<u32>; 2]>,
}

impl Union {
    pub(super) fn new(a: &[Span], b: &[Span]) -> Self {
        let (mut a, mut b) = (indices(a).peekable(), indices(b).peekable());
        let (mut union, mut next) = (Self { spans: Vec::new(), places: Vec::new() }, 0i64);
        loop {
            let order = match (a.peek(), b.peek()) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((x, _)), Some((y, _))) => x.cmp(y),
            };
            let first = if order.is_le() { a.next() } else { None };
            let second = if order.is_ge() { b.next() } else { None };
            let Some((index, _)) = first.or(second) else { break };
            union.places.push([first.map(|(_, place)| place), second.map(|(_, place)| place)]);
            match union.spans.last_mut() {
                Some(span) if index == next => span.length += 1,
                _ => union.spans.push(Span { offset: (index - next) as i32, length: 1 }),
            }
            next = index + 1;
        }
        union
    }

    /// Whether it has no bucket that sample `side` lacks.
    pub(super) fn is_all_of(&self, side: usize) -> bool {
        self.places.iter().all(|places| places[side].is_some())
    }

    /// The buckets of sample `side` in this layout; those that it lacks are empty.
    pub(super) fn spread<C: Copy + Default>(&self, side: usize, buckets: &[C]) -> Vec<C> {
        let bucket = |places: &[Option<u32>; 2]| {
            places[side].and_then(|place| buckets.get(place as usize)).copied().unwrap_or_default()
        };
        self.places.iter().map(bucket).collect()
    }
}

/// Bucket indices of spans, with the place of each bucket.
fn indices(spans: &[Span]) -> impl Iterator<Item = (i64, u32)> {
    let runs = spans.iter().scan(0i64, |end, span| {
        let start = *end + i64::from(span.offset);
        *end = start + i64::from(span.length);
        Some(start..*end)
    });
    runs.flatten().zip(0..)
}
