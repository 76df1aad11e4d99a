//! Chunk segments, XOR chunks, chunks of float histograms, and Thanos' aggregate chunks.

use super::{ForeignSeries, crc32c, uvarint, varint};

/// Encoding byte of XOR chunks.
const XOR: u8 = 1;
/// Encoding byte of chunks of float histograms.
const FLOAT_HISTOGRAM: u8 = 3;
/// Encoding byte of aggregate chunks.
const AGGREGATE: u8 = 0xFF;

/// A chunk.
#[derive(Debug, Clone, PartialEq)]
pub struct ForeignChunk {
    /// Time of the first sample.
    pub min_time: i64,
    /// Time of the last sample.
    pub max_time: i64,
    /// Its encoding byte.
    pub encoding: u8,
    /// Its data.
    pub data: Vec<u8>,
    /// Samples or windows that it holds.
    pub samples: usize,
}

/// Bits, the highest first.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    free: u32,
}

impl Bits {
    fn put(&mut self, value: u64, bits: u32) {
        for bit in (0..bits).rev() {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            self.free -= 1;
            let last = self.bytes.len() - 1;
            self.bytes[last] |= (((value >> bit) & 1) as u8) << self.free;
        }
    }
}

/// `u16 n | varint t0 | f64 v0 | uvarint dt | xor | {dod, xor}*`
fn xor_data(samples: &[(i64, f64)]) -> Vec<u8> {
    let mut bytes = (samples.len() as u16).to_be_bytes().to_vec();
    let Some(&(t0, v0)) = samples.first() else { return bytes };
    varint(t0, &mut bytes);
    bytes.extend_from_slice(&v0.to_bits().to_be_bytes());
    let Some(&(t1, v1)) = samples.get(1) else { return bytes };
    uvarint((t1 - t0) as u64, &mut bytes);
    let mut bits = Bits { bytes, free: 0 };
    put_xor(&mut bits, v0, v1);
    let (mut delta, mut last) = (t1 - t0, (t1, v1));
    for &(t, v) in &samples[2..] {
        let dod = (t - last.0) - delta;
        let fits = |bits: u32| (-(1i64 << (bits - 1)) + 1..=1 << (bits - 1)).contains(&dod);
        match dod {
            0 => bits.put(0, 1),
            _ if fits(14) => put_two(&mut bits, 0b10, 2, dod, 14),
            _ if fits(17) => put_two(&mut bits, 0b110, 3, dod, 17),
            _ if fits(20) => put_two(&mut bits, 0b1110, 4, dod, 20),
            _ => put_two(&mut bits, 0b1111, 4, dod, 64),
        }
        put_xor(&mut bits, last.1, v);
        delta = t - last.0;
        last = (t, v);
    }
    bits.bytes
}

fn put_two(bits: &mut Bits, prefix: u64, len: u32, value: i64, width: u32) {
    bits.put(prefix, len);
    bits.put(value as u64, width);
}

/// A new window of significant bits for each value: readers must take it as well as one that is used again.
fn put_xor(bits: &mut Bits, before: f64, value: f64) {
    let xor = before.to_bits() ^ value.to_bits();
    if xor == 0 {
        return bits.put(0, 1);
    }
    let leading = xor.leading_zeros().min(31);
    let trailing = xor.trailing_zeros();
    let significant = 64 - leading - trailing;
    bits.put(0b11, 2);
    bits.put(u64::from(leading), 5);
    bits.put(u64::from(significant % 64), 6);
    bits.put(xor >> trailing, significant);
}

/// A chunk of floats. There must be a sample, and times must ascend.
pub fn xor_chunk(samples: &[(i64, f64)]) -> ForeignChunk {
    ForeignChunk {
        min_time: samples[0].0,
        max_time: samples[samples.len() - 1].0,
        encoding: XOR,
        data: xor_data(samples),
        samples: samples.len(),
    }
}

/// The aggregates of floats in windows of `resolution` ms, all in one chunk: count, sum, min, max, and
/// the counter with the first raw value before and the last one after it. There must be a sample.
pub fn aggregate_chunk(samples: &[(i64, f64)], resolution: i64) -> ForeignChunk {
    let last_time = samples[samples.len() - 1].0;
    let window = |t: i64| t - t.rem_euclid(resolution) + resolution - 1;
    let mut slots: [Vec<(i64, f64)>; 5] = Default::default();
    slots[4].push(samples[0]);
    let (mut total, mut before) = (samples[0].1, samples[0].1);
    for group in samples.chunk_by(|a, b| window(a.0) == window(b.0)) {
        let t = window(group[0].0).min(last_time);
        let values = || group.iter().map(|s| s.1);
        slots[0].push((t, group.len() as f64));
        slots[1].push((t, values().sum()));
        slots[2].push((t, values().fold(f64::INFINITY, f64::min)));
        slots[3].push((t, values().fold(f64::NEG_INFINITY, f64::max)));
        for value in values() {
            // A counter that falls began again at zero.
            total += if value < before { value } else { value - before };
            before = value;
        }
        slots[4].push((t, total));
    }
    let end = slots[4][slots[4].len() - 1].0;
    slots[4].push((end, before));
    let mut data = Vec::new();
    for slot in &slots {
        let inner = xor_data(slot);
        uvarint(inner.len() as u64, &mut data);
        data.push(XOR);
        data.extend_from_slice(&inner);
    }
    ForeignChunk { min_time: samples[0].0, max_time: end, encoding: AGGREGATE, data, samples: slots[0].len() }
}

/// A histogram of schema 0, of values up to 1, 2, 4 and 8.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ForeignHistogram {
    /// Sum of the values.
    pub sum: f64,
    /// How many are in each bucket.
    pub buckets: [f64; 4],
}

impl ForeignHistogram {
    fn count(&self) -> f64 {
        self.buckets.iter().sum()
    }

    fn plus(mut self, other: &Self) -> Self {
        self.sum += other.sum;
        self.buckets.iter_mut().zip(other.buckets).for_each(|(a, b)| *a += b);
        self
    }

    fn fell(&self, now: &Self) -> bool {
        self.buckets.iter().zip(now.buckets).any(|(before, now)| now < *before)
    }

    /// Count, zero count, sum, buckets.
    fn numbers(&self) -> Vec<f64> {
        [&[self.count(), 0.0, self.sum][..], &self.buckets].concat()
    }
}

/// A signed number: 0, or up to eight ones that tell how many bits follow.
fn put_varbit(bits: &mut Bits, value: i64) {
    const WIDTHS: [u32; 8] = [3, 6, 9, 12, 18, 25, 56, 64];
    if value == 0 {
        return bits.put(0, 1);
    }
    for (ones, width) in (1u32..).zip(WIDTHS) {
        let fits = width == 64 || (-(1i64 << (width - 1)) + 1..=1 << (width - 1)).contains(&value);
        if fits {
            bits.put((1 << ones) - 1, ones);
            if ones < 8 {
                bits.put(0, 1);
            }
            return bits.put(value as u64, width);
        }
    }
}

/// `u16 n | flags u8 | zero threshold | schema | spans | {time, count, zero count, sum, buckets}*`
fn float_histogram_data(samples: &[(i64, ForeignHistogram)], gauges: bool) -> Vec<u8> {
    let mut bytes = (samples.len() as u16).to_be_bytes().to_vec();
    bytes.push(if gauges { 0b1100_0000 } else { 0 });
    let mut bits = Bits { bytes, free: 0 };
    bits.put(0, 8);
    put_varbit(&mut bits, 0);
    // One span of four buckets from bucket 0 on, and no negative ones: small unsigned numbers have three bits.
    bits.put(0b10_001, 5);
    bits.put(0b10_100, 5);
    put_varbit(&mut bits, 0);
    bits.put(0, 1);
    let (mut time, mut delta, mut before) = (0, 0, Vec::new());
    for (i, (t, histogram)) in samples.iter().enumerate() {
        match i {
            0 => put_varbit(&mut bits, *t),
            1 => put_varbit(&mut bits, t - time),
            _ => put_varbit(&mut bits, t - time - delta),
        }
        delta = t - time;
        time = *t;
        let numbers = histogram.numbers();
        for (k, number) in numbers.iter().enumerate() {
            match i {
                0 => bits.put(number.to_bits(), 64),
                _ => put_xor(&mut bits, before[k], *number),
            }
        }
        before = numbers;
    }
    bits.bytes
}

/// The aggregates of histograms in windows of `resolution` ms, all in one chunk: count, sum, and the counter
/// with the first raw value before it. There must be a sample.
pub fn histogram_aggregate_chunk(samples: &[(i64, ForeignHistogram)], resolution: i64) -> ForeignChunk {
    let last_time = samples[samples.len() - 1].0;
    let window = |t: i64| t - t.rem_euclid(resolution) + resolution - 1;
    let (mut counts, mut sums, mut counters) = (Vec::new(), Vec::new(), vec![samples[0]]);
    let (mut lost, mut before) = (ForeignHistogram::default(), samples[0].1);
    for group in samples.chunk_by(|a, b| window(a.0) == window(b.0)) {
        let t = window(group[0].0).min(last_time);
        let mut sum = ForeignHistogram::default();
        for (_, histogram) in group {
            sum = sum.plus(histogram);
            if before.fell(histogram) {
                lost = lost.plus(&before);
            }
            before = *histogram;
        }
        counts.push((t, group.len() as f64));
        sums.push((t, sum));
        counters.push((t, before.plus(&lost)));
    }
    let mut data = Vec::new();
    let slots = [
        (XOR, xor_data(&counts)),
        (FLOAT_HISTOGRAM, float_histogram_data(&sums, true)),
        (0, Vec::new()),
        (0, Vec::new()),
        (FLOAT_HISTOGRAM, float_histogram_data(&counters, false)),
    ];
    for (encoding, inner) in slots {
        uvarint(inner.len() as u64, &mut data);
        if !inner.is_empty() {
            data.push(encoding);
            data.extend_from_slice(&inner);
        }
    }
    let end = counters[counters.len() - 1].0;
    ForeignChunk { min_time: samples[0].0, max_time: end, encoding: AGGREGATE, data, samples: counts.len() }
}

/// A segment with all chunks, and where each series' chunks are in it.
pub(super) fn segment(series: &[ForeignSeries]) -> (Vec<u8>, Vec<Vec<u64>>) {
    let mut bytes = vec![0x85, 0xBD, 0x40, 0xDD, 1, 0, 0, 0];
    let mut references = Vec::new();
    for series in series {
        let mut own = Vec::new();
        for chunk in &series.chunks {
            own.push(bytes.len() as u64);
            uvarint(chunk.data.len() as u64, &mut bytes);
            let from = bytes.len();
            bytes.push(chunk.encoding);
            bytes.extend_from_slice(&chunk.data);
            let sum = crc32c(&bytes[from..]);
            bytes.extend_from_slice(&sum.to_be_bytes());
        }
        references.push(own);
    }
    (bytes, references)
}
