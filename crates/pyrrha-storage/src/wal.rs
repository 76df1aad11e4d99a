//! The write-ahead log: what is acknowledged and not yet in a block (decisions 1-3, 9).
//!
//! The log's face, one `Wal` for all tenants:
//!
//! ```text
//! Wal::open(config, dir, disk, clock) -> Result<(Wal, Replay), WalError>
//! Replay: Iterator<Item = LogEntry>      Series definitions and batches, in log order
//! Replay::report() -> &DamageReport      what could not be read so far
//! Wal::start(sink)                       a committer thread; Wal::attach(sink) without: Ticket::wait commits
//! Wal::submit(batch) -> Result<Ticket, WalError>
//! Ticket::wait() -> Result<(), WalError> durable and applied
//! Wal::cut_segment() -> Result<LogPosition, WalError>
//! Wal::truncate_before(position) -> Result<(), WalError>
//! Wal::commit_pending() -> usize         commits on the calling thread what is queued
//! ```

mod batch;
mod error;

pub use batch::{LogBatch, LogEntry, LogHistogram, LogPosition, WalSink};
pub use error::WalError;
