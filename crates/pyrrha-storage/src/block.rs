//! Blocks: immutable directories of series, in the format of Prometheus' TSDB.
//!
//! ```text
//! <ULID>/meta.json          what the block holds and comes from
//! <ULID>/index              symbols, series, postings (pyrrha-index)
//! <ULID>/chunks/000001...   encoded samples
//! <ULID>/tombstones         deleted intervals, if any
//! <ULID>/exemplars          exemplars of the range, if any; ours alone
//! <ULID>/metadata           metadata of metric families, if any; ours alone
//! <ULID>/having             series by name of a label that they have, of large blocks; ours alone
//! <ULID>/windows            first and last samples of downsampled windows; ours alone
//! <ULID>/windows-values     sums and extremes of the same
//! <ULID>/deletes            deletes that the block knows, if any; ours alone
//! ```
//!
//! Where a tenant wants it, floats are dense chunks, and the block another directory ([`Layout`]).
//!
//! A block is written under a temporary name and renamed when all of it is synced. See
//! `docs/format/block.md`.

mod deletes;
mod dense;
mod error;
mod exemplars;
mod having;
mod id;
mod inspect;
mod label_query;
mod labels;
mod layout;
mod meta;
mod metadata;
mod reader;
mod segments;
mod set;
mod sidecar;
mod spool;
mod tombstones;
mod windows;
mod writer;

pub use deletes::BlockDeletes;
pub use error::BlockError;
pub(crate) use exemplars::same as same_exemplar;
pub use exemplars::{ExemplarFile, ExemplarSeries, tidy as tidy_exemplars};
pub use having::{HAVING_FILE, HavingTable};
pub use id::BlockId;
pub(crate) use inspect::BlockRemains;
pub use layout::Layout;
pub use meta::{
    BlockMeta, BlockStats, CompactionMeta, ENCODINGS_FIELD, ParentBlock, ThanosDownsample, ThanosFile,
    ThanosHash, ThanosIndexStats, ThanosMeta,
};
pub use metadata::MetadataFile;
pub use reader::Block;
pub use tombstones::Tombstones;
pub use windows::{WINDOWS_FILE, WINDOWS_VALUES_FILE, WindowsEntry, WindowsTable};
pub use writer::{BlockWriter, UNFINISHED, remove_unfinished};

const META_FILE: &str = "meta.json";
const INDEX_FILE: &str = "index";
pub(crate) const CHUNKS_DIR: &str = "chunks";
pub(crate) const TOMBSTONES_FILE: &str = "tombstones";
pub(crate) const DELETES_FILE: &str = deletes::KIND.file;

#[cfg(test)]
mod tests;
