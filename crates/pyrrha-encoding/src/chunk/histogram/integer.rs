//! Samples of integer histogram chunks: deltas of deltas of counts.

use std::sync::Arc;

use pyrrha_model::contract::Value;
use pyrrha_model::{ChunkEncoding, CounterResetHint, FloatHistogram, Histogram, is_stale_nan, stale_nan};

use super::layout::{Layout, count};
use super::{Kind, State};
use crate::DecodeError;
use crate::bits::{BitReader, BitSink, BitWriter};
use crate::chunk::varbit::{put_varbit_int, put_varbit_uint, read_varbit_int, read_varbit_uint};
use crate::chunk::window::{ReadWindow, Window};

impl Kind for Histogram {
    type Count = i64;
    type State = IntegerState;

    fn layout(&self) -> Layout {
        Layout {
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            spans: [self.positive_spans.clone(), self.negative_spans.clone()],
            custom_values: Arc::clone(&self.custom_values),
        }
    }

    fn fits(&self, layout: &Layout) -> bool {
        self.positive_spans == layout.spans[0] && self.negative_spans == layout.spans[1]
    }

    fn is_whole(&self) -> bool {
        self.positive_buckets.len() == count(&self.positive_spans)
            && self.negative_buckets.len() == count(&self.negative_spans)
    }

    fn hint(&self) -> CounterResetHint {
        self.counter_reset_hint
    }

    fn count(&self) -> i64 {
        self.count as i64
    }

    fn zero_count(&self) -> i64 {
        self.zero_count as i64
    }

    fn sum(&self) -> f64 {
        self.sum
    }

    fn buckets(&self) -> [Vec<i64>; 2] {
        [absolute(&self.positive_buckets).collect(), absolute(&self.negative_buckets).collect()]
    }

    fn with_buckets(&self, layout: &Layout, [positive, negative]: [Vec<i64>; 2]) -> Self {
        let [positive_spans, negative_spans] = layout.spans.clone();
        Self {
            positive_spans,
            negative_spans,
            positive_buckets: deltas(positive),
            negative_buckets: deltas(negative),
            ..self.clone()
        }
    }

    fn stale() -> Self {
        Self { sum: stale_nan(), ..Self::default() }
    }

    fn into_value(self) -> Value {
        Value::Histogram(Box::new(self))
    }

    fn encoding(start_timestamps: bool) -> ChunkEncoding {
        if start_timestamps { ChunkEncoding::HistogramSt } else { ChunkEncoding::Histogram }
    }
}

fn absolute(deltas: &[i64]) -> impl Iterator<Item = i64> {
    deltas.iter().scan(0i64, |sum, delta| {
        *sum = sum.wrapping_add(*delta);
        Some(*sum)
    })
}

fn deltas(mut counts: Vec<i64>) -> Vec<i64> {
    let mut before = 0;
    for count in &mut counts {
        let delta = count.wrapping_sub(before);
        before = std::mem::replace(count, delta);
    }
    counts
}

/// A number and how much it grew last.
#[derive(Debug, Clone, Copy, Default)]
struct Growing {
    value: i64,
    delta: i64,
}

impl Growing {
    /// Writes the next number of sample `index` (1 or more).
    fn put(&mut self, sink: &mut BitWriter, index: u16, value: i64) {
        let delta = value.wrapping_sub(self.value);
        put_varbit_int(sink, if index == 1 { delta } else { delta.wrapping_sub(self.delta) });
        *self = Self { value, delta };
    }

    /// Reads the next number of sample `index` (1 or more).
    fn read(&mut self, r: &mut BitReader<'_>, index: u16) {
        let read = read_varbit_int(r);
        self.delta = if index == 1 { read } else { self.delta.wrapping_add(read) };
        self.value = self.value.wrapping_add(self.delta);
    }
}

#[derive(Debug)]
pub(super) struct IntegerState {
    count: Growing,
    zero_count: Growing,
    sum: u64,
    window: Window,
    read_window: ReadWindow,
    /// Positive, then negative; each the difference to the bucket before.
    buckets: Vec<Growing>,
}

impl Default for IntegerState {
    fn default() -> Self {
        Self {
            count: Growing::default(),
            zero_count: Growing::default(),
            sum: 0,
            window: Window::NONE,
            read_window: ReadWindow::default(),
            buckets: Vec::new(),
        }
    }
}

impl State<Histogram> for IntegerState {
    fn put(&mut self, sink: &mut BitWriter, index: u16, sample: &Histogram) {
        let buckets = sample.positive_buckets.iter().chain(&sample.negative_buckets);
        let sum = sample.sum.to_bits();
        if index == 0 {
            (self.count.value, self.zero_count.value) = (sample.count as i64, sample.zero_count as i64);
            put_varbit_uint(sink, sample.count);
            put_varbit_uint(sink, sample.zero_count);
            sink.put(sum, 64);
            self.buckets = buckets.map(|&value| Growing { value, delta: 0 }).collect();
            for bucket in &self.buckets {
                put_varbit_int(sink, bucket.value);
            }
        } else if is_stale_nan(sample.sum) {
            // No counts and buckets; nothing but stale samples may follow.
            sink.put(0, 2);
            self.window.put_xor(sink, sum ^ self.sum);
        } else {
            self.count.put(sink, index, sample.count as i64);
            self.zero_count.put(sink, index, sample.zero_count as i64);
            self.window.put_xor(sink, sum ^ self.sum);
            for (state, value) in self.buckets.iter_mut().zip(buckets) {
                state.put(sink, index, *value);
            }
        }
        self.sum = sum;
    }

    fn read(&mut self, r: &mut BitReader<'_>, index: u16, buckets: usize) -> Result<(), DecodeError> {
        if index == 0 {
            self.count.value = read_varbit_uint(r) as i64;
            self.zero_count.value = read_varbit_uint(r) as i64;
            self.sum = r.read(64);
            self.buckets.resize(buckets, Growing::default());
            for bucket in &mut self.buckets {
                bucket.value = read_varbit_int(r);
            }
            return Ok(());
        }
        self.count.read(r, index);
        self.zero_count.read(r, index);
        self.sum ^= self.read_window.read_xor(r)?;
        if !is_stale_nan(self.sum()) {
            for bucket in &mut self.buckets {
                bucket.read(r, index);
            }
        }
        Ok(())
    }

    fn sum(&self) -> f64 {
        f64::from_bits(self.sum)
    }

    fn stats(&self) -> FloatHistogram {
        FloatHistogram {
            zero_count: self.zero_count.value as u64 as f64,
            count: self.count.value as u64 as f64,
            sum: self.sum(),
            ..FloatHistogram::default()
        }
    }

    fn to_float(&self, layout: &Layout) -> FloatHistogram {
        let (positive, negative) = self.buckets.split_at(layout.positive_count().min(self.buckets.len()));
        let counts = |buckets: &[Growing]| {
            let mut sum = 0i64;
            let count = |bucket: &Growing| {
                sum = sum.wrapping_add(bucket.value);
                sum as f64
            };
            buckets.iter().map(count).collect()
        };
        FloatHistogram {
            schema: layout.schema,
            zero_threshold: layout.zero_threshold,
            positive_spans: layout.spans[0].clone(),
            negative_spans: layout.spans[1].clone(),
            positive_buckets: counts(positive),
            negative_buckets: counts(negative),
            custom_values: Arc::clone(&layout.custom_values),
            ..self.stats()
        }
    }

    fn to_sample(&self, layout: &Layout) -> Histogram {
        let (positive, negative) = self.buckets.split_at(layout.positive_count().min(self.buckets.len()));
        Histogram {
            counter_reset_hint: CounterResetHint::Unknown,
            schema: layout.schema,
            zero_threshold: layout.zero_threshold,
            zero_count: self.zero_count.value as u64,
            count: self.count.value as u64,
            sum: self.sum(),
            positive_spans: layout.spans[0].clone(),
            negative_spans: layout.spans[1].clone(),
            positive_buckets: positive.iter().map(|b| b.value).collect(),
            negative_buckets: negative.iter().map(|b| b.value).collect(),
            custom_values: Arc::clone(&layout.custom_values),
        }
    }
}
