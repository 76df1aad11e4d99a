//! Samples of float histogram chunks: each number XORed with its own predecessor.

use std::sync::Arc;

use pyrrha_model::contract::Value;
use pyrrha_model::{ChunkEncoding, CounterResetHint, FloatHistogram, is_stale_nan, stale_nan};

use super::layout::{Layout, count};
use super::{Kind, State};
use crate::DecodeError;
use crate::bits::{BitReader, BitSink, BitWriter};
use crate::chunk::window::{ReadWindow, Window};

impl Kind for FloatHistogram {
    type Count = f64;
    type State = FloatState;

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

    fn count(&self) -> f64 {
        self.count
    }

    fn zero_count(&self) -> f64 {
        self.zero_count
    }

    fn sum(&self) -> f64 {
        self.sum
    }

    fn buckets(&self) -> [Vec<f64>; 2] {
        [self.positive_buckets.clone(), self.negative_buckets.clone()]
    }

    fn with_buckets(&self, layout: &Layout, [positive_buckets, negative_buckets]: [Vec<f64>; 2]) -> Self {
        let [positive_spans, negative_spans] = layout.spans.clone();
        Self { positive_spans, negative_spans, positive_buckets, negative_buckets, ..self.clone() }
    }

    fn stale() -> Self {
        Self { sum: stale_nan(), ..Self::default() }
    }

    fn into_value(self) -> Value {
        Value::FloatHistogram(Box::new(self))
    }

    fn encoding(start_timestamps: bool) -> ChunkEncoding {
        if start_timestamps { ChunkEncoding::FloatHistogramSt } else { ChunkEncoding::FloatHistogram }
    }
}

/// A number and the windows of its changes.
#[derive(Debug, Clone, Copy)]
struct Xored {
    value: u64,
    window: Window,
    read_window: ReadWindow,
}

impl Default for Xored {
    fn default() -> Self {
        Self { value: 0, window: Window::NONE, read_window: ReadWindow::default() }
    }
}

impl Xored {
    fn put(&mut self, sink: &mut BitWriter, index: u16, value: f64) {
        let value = value.to_bits();
        if index == 0 {
            sink.put(value, 64);
        } else {
            self.window.put_xor(sink, value ^ self.value);
        }
        self.value = value;
    }

    fn read(&mut self, r: &mut BitReader<'_>, index: u16) -> Result<(), DecodeError> {
        if index == 0 {
            self.value = r.read(64);
        } else {
            self.value ^= self.read_window.read_xor(r)?;
        }
        Ok(())
    }

    fn get(&self) -> f64 {
        f64::from_bits(self.value)
    }
}

#[derive(Debug, Default)]
pub(super) struct FloatState {
    count: Xored,
    zero_count: Xored,
    sum: Xored,
    /// Positive, then negative.
    buckets: Vec<Xored>,
}

impl State<FloatHistogram> for FloatState {
    fn put(&mut self, sink: &mut BitWriter, index: u16, sample: &FloatHistogram) {
        self.count.put(sink, index, sample.count);
        self.zero_count.put(sink, index, sample.zero_count);
        self.sum.put(sink, index, sample.sum);
        let counts = sample.positive_buckets.iter().chain(&sample.negative_buckets);
        if index == 0 {
            self.buckets = vec![Xored::default(); counts.clone().count()];
        } else if is_stale_nan(sample.sum) {
            return;
        }
        for (bucket, count) in self.buckets.iter_mut().zip(counts) {
            bucket.put(sink, index, *count);
        }
    }

    fn read(&mut self, r: &mut BitReader<'_>, index: u16, buckets: usize) -> Result<(), DecodeError> {
        self.count.read(r, index)?;
        self.zero_count.read(r, index)?;
        self.sum.read(r, index)?;
        if index == 0 {
            self.buckets.resize(buckets, Xored::default());
        } else if is_stale_nan(self.sum()) {
            return Ok(());
        }
        for bucket in &mut self.buckets {
            bucket.read(r, index)?;
        }
        Ok(())
    }

    fn sum(&self) -> f64 {
        self.sum.get()
    }

    fn stats(&self) -> FloatHistogram {
        FloatHistogram {
            zero_count: self.zero_count.get(),
            count: self.count.get(),
            sum: self.sum.get(),
            ..FloatHistogram::default()
        }
    }

    fn to_float(&self, layout: &Layout) -> FloatHistogram {
        let (positive, negative) = self.buckets.split_at(layout.positive_count().min(self.buckets.len()));
        FloatHistogram {
            schema: layout.schema,
            zero_threshold: layout.zero_threshold,
            positive_spans: layout.spans[0].clone(),
            negative_spans: layout.spans[1].clone(),
            positive_buckets: positive.iter().map(Xored::get).collect(),
            negative_buckets: negative.iter().map(Xored::get).collect(),
            custom_values: Arc::clone(&layout.custom_values),
            ..self.stats()
        }
    }

    fn to_sample(&self, layout: &Layout) -> FloatHistogram {
        self.to_float(layout)
    }
}
