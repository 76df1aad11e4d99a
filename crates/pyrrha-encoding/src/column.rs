//! Columns of a write-ahead log record: series references, times, values; each stands alone.
//!
//! A column does not say how long it is: the reader brings the count. Decoders append to what the
//! vector holds, and leave vector and input as they were on error.

mod integers;
mod values;

pub use integers::{decode_times, decode_u32_column, encode_times, encode_u32_column};
pub use values::{decode_values, encode_values};

use crate::DecodeError;

/// Most entries of a column. It bounds what a damaged count can allocate.
pub const MAX_COLUMN: usize = 1 << 24;

fn check_count(count: usize) -> Result<(), DecodeError> {
    if count <= MAX_COLUMN { Ok(()) } else { Err(DecodeError::Malformed { part: "column count" }) }
}
