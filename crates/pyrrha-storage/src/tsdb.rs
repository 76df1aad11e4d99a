//! Looking into data directories from outside of a database: Prometheus' and Pyrrha's own.
//!
//! ```text
//! directory   which blocks a directory has, and which of them count
//! series      the series of several sources, one after another, decoded
//! analyze     what makes a block large: cardinality, churn, chunk fill
//! verify      every checksum, order and reference of a block
//! verify_log  the same of the log, checkpoints and head chunks
//! repair      what is readable of a damaged block, as a new block
//! ```
//!
//! Nothing here needs a running database, and only `repair` writes.

mod analyze;
mod directory;
mod error;
mod repair;
mod series;
mod verify;
mod verify_log;

pub use analyze::{Analysis, ChunkFill, Count, analyze};
pub use directory::{Directory, DirectoryKind, FoundBlock, Standing};
pub use error::TsdbError;
pub use repair::{Loss, Repair, Repaired, plan_repair, repair};
pub use series::{StoredSample, visit_series};
pub use verify::{BlockReport, Problem, verify_block};
pub use verify_log::{LogFault, LogReport, verify_log, verify_log_of};

#[cfg(test)]
mod tests;
