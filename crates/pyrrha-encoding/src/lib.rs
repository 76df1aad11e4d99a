//! Bytes to values and back: varint, bit streams, chunk codecs, checksummed framing. Pure: no I/O.

mod samples;

pub use samples::{FloatColumn, HistogramColumn, SeriesSamples, Want};
