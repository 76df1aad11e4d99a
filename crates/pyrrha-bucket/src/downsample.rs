//! Downsampling: blocks of windows of five minutes and an hour, for Thanos to read, with what makes
//! Pyrrha's answers exact beside them.
//!
//! ```text
//! raw blocks ─► plan ─► build ─► 5 m block ─► plan ─► build ─► 1 h block
//!               which   streaming                     from windows, raw is not read again
//! ```
//!
//! A block of windows remembers the blocks that it was made from ([`Origin`]). As soon as the raw
//! blocks of its range are others (late data, merged replicas, deletes, compaction), the plan has it
//! built anew, and swapped in one commit. Aggregates are never merged.

mod build;
mod origin;
mod plan;

pub(crate) use build::{Built, build};
pub use origin::Origin;
pub(crate) use plan::{DownsampleTask, plan};

pub(crate) use origin::{
    deletes_applied, forget_numbers, is_rebuildable, is_usable, note_deletes_applied, renumber,
};

/// Five minutes, ms.
pub const FIVE_MINUTES: i64 = 300_000;
/// An hour, ms.
pub const HOUR: i64 = 3_600_000;

#[cfg(test)]
mod tests;
