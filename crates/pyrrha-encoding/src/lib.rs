//! Bytes to values and back: varint, bit streams, chunk codecs, checksummed framing. Pure: no I/O.

pub mod bits;
pub mod chunk;
pub mod crc;
mod error;
mod samples;
#[cfg(test)]
mod testing;
pub mod varint;

pub use error::DecodeError;
pub use samples::{FloatColumn, HistogramColumn, SeriesSamples, Want};
