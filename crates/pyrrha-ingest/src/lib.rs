//! Remote write and exposition text to an [`Appender`](pyrrha_model::contract::Appender): pure
//! decoding, validation and limits, no server.
//!
//! ```text
//! body ─► snappy ─► v1 | v2 walker ─► Request (columns) ─► write: lookup, resolve, append ─► commit
//! ```

pub mod exposition;
mod limits;
pub mod proto;
pub mod remote_write;
mod series_labels;

pub use limits::IngestLimits;
