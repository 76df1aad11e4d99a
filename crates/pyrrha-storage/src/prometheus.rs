//! Prometheus' own head on disk: its write log, checkpoints and head chunks, read and never written.
//!
//! ```text
//! wal/checkpoint.00000007/00000000   series that live, samples not in blocks yet
//! wal/00000008 ...                   records in pages of 32 KiB
//! wbl/00000000 ...                   samples that came out of order
//! chunks_head/000001 ...             full chunks, which the log has too
//! ```
//!
//! Source of the formats: `docs/format/prometheus-wal.md`.

mod error;
mod head;
mod head_chunks;
mod histogram;
mod record;
mod segment;

pub use error::LogError;
pub use head::{HeadReport, HeadSink, Progress, Slots, fingerprint, load_head, verify_head};
pub use head_chunks::{HeadChunk, HeadChunks};
pub use record::{Record, SampleRow, decode_record};
pub use segment::{LogFault, SegmentRecords};

#[cfg(test)]
mod tests;
