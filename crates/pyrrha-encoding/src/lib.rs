//! Bytes to values and back: varint, bit streams, chunk codecs, checksummed framing. Pure: no I/O.

mod aggregate;
pub mod bits;
pub mod chunk;
pub mod column;
pub mod crc;
mod decimal;
pub mod dense;
mod error;
mod merge;
mod precedence;
mod rhythms;
mod samples;
mod series;
mod size;
#[cfg(test)]
mod testing;
pub mod varint;
pub mod windows;

pub use aggregate::{Aggregate, AggregateChunk};
pub use error::DecodeError;
pub use merge::{SeriesDecoder, decode_series, decode_stored, decode_stored_counting};
pub use precedence::{Candidate, precedence, value_precedence};
pub use samples::{FloatColumn, HistogramColumn, SeriesSamples, Want, WindowSpan};
pub use series::{SeriesEncoder, encode_series};
pub use size::decoded_size;
