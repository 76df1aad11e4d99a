//! The two layouts of a block: Prometheus', and the dense one that Pyrrha alone reads (decision 20).
//!
//! ```text
//! <tenant>/<ULID>/meta.json          standard: any system opens it
//! <tenant>/dense/<ULID>/dense.json   dense: chunks of encoding 0xD1; format in docs/format/dense.md
//! ```

use std::path::{Path, PathBuf};

use pyrrha_encoding::{DecodeError, crc};
use pyrrha_env::Disk;

use super::error::{Blame, BlockError};
use super::{BlockMeta, META_FILE};

/// What stands in place of `meta.json`, so that no other system takes the directory for a block.
const DENSE_META: &str = "dense.json";
/// Directory of a tenant's dense blocks.
const DENSE_HOME: &str = "dense";

/// How a block's floats are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub enum Layout {
    /// As Prometheus has them.
    #[default]
    Standard,
    /// As dense chunks, which compaction and export turn back bit for bit.
    Dense,
}

impl Layout {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Standard, Self::Dense];

    /// Where blocks of this layout are, under the directory of a tenant's blocks.
    pub(crate) fn home(self, blocks: &Path) -> PathBuf {
        match self {
            Self::Standard => blocks.to_owned(),
            Self::Dense => blocks.join(DENSE_HOME),
        }
    }

    /// The layout of the block in `dir`; of what is none, the standard one.
    pub(crate) fn of(disk: &dyn Disk, dir: &Path) -> Self {
        if !disk.exists(&dir.join(META_FILE)) && disk.exists(&dir.join(DENSE_META)) {
            Self::Dense
        } else {
            Self::Standard
        }
    }

    /// The file that says what the block is.
    pub(crate) fn meta_file(self) -> &'static str {
        match self {
            Self::Standard => META_FILE,
            Self::Dense => DENSE_META,
        }
    }

    /// First bytes of a chunk segment.
    pub(super) fn segment_header(self) -> [u8; 8] {
        match self {
            Self::Standard => [0x85, 0xBD, 0x40, 0xDD, 1, 0, 0, 0],
            Self::Dense => *b"PYR\xD1\x01\0\0\0",
        }
    }

    /// The content of the file that says what the block is.
    pub(super) fn encode_meta(self, meta: &BlockMeta) -> Vec<u8> {
        let mut json = meta.to_json();
        if self == Self::Dense {
            crc::seal_text(&mut json);
        }
        json
    }

    /// Reads it.
    pub(super) fn read_meta(self, blame: &Blame, file: &[u8]) -> Result<BlockMeta, BlockError> {
        match self {
            Self::Standard => BlockMeta::read(blame, file),
            Self::Dense => {
                let damaged = |e: DecodeError| blame.corrupt(DENSE_META, 0, e.to_string());
                BlockMeta::read(blame, crc::open_text("meta", file).map_err(damaged)?)
            }
        }
    }
}
