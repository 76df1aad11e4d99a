//! Errors of blocks. Each names the block and the file.

use std::io;
use std::path::Path;

use pyrrha_index::IndexError;
use pyrrha_model::{ErrorKind, StoreError};

/// Why a block could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// The disk failed.
    #[error("block i/o failed: block={block} file={file}: {source}")]
    Io {
        /// Name of the block's directory.
        block: String,
        /// File within it.
        file: String,
        /// What the disk said.
        source: io::Error,
    },
    /// The index is damaged, or could not be written.
    #[error("block={block} file=index: {source}")]
    Index {
        /// Name of the block's directory.
        block: String,
        /// What is wrong.
        source: IndexError,
    },
    /// A file other than the index is damaged.
    #[error("block is corrupt: {what} block={block} file={file} offset={offset}")]
    Corrupt {
        /// Name of the block's directory.
        block: String,
        /// File within it.
        file: String,
        /// Byte offset of the damaged part.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// `meta.json` is of a version that this program does not read.
    #[error("block has an unknown version: block={block} file=meta.json version={version}")]
    UnknownVersion {
        /// Name of the block's directory.
        block: String,
        /// Version found.
        version: u64,
    },
    /// The series given to a writer cannot make a block.
    #[error("series cannot be written: block={block}: {what}")]
    Refused {
        /// Name of the block's directory.
        block: String,
        /// What is wrong.
        what: String,
    },
}

impl BlockError {
    /// What the caller should do next.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => ErrorKind::NotFound,
            Self::Io { .. } => ErrorKind::Unavailable,
            Self::Index { source, .. } => source.kind(),
            Self::Corrupt { .. } | Self::UnknownVersion { .. } => ErrorKind::Corrupt,
            Self::Refused { .. } => ErrorKind::Internal,
        }
    }
}

impl From<BlockError> for StoreError {
    fn from(error: BlockError) -> Self {
        match error {
            BlockError::Index { source: IndexError::Stopped(stopped), .. } => stopped,
            other => StoreError::new(other.kind(), other.to_string()),
        }
    }
}

impl From<&BlockError> for StoreError {
    fn from(error: &BlockError) -> Self {
        StoreError::new(error.kind(), error.to_string())
    }
}

/// Name of a block's directory, for messages.
pub(super) fn name_of(dir: &Path) -> String {
    dir.file_name().unwrap_or(dir.as_os_str()).to_string_lossy().into_owned()
}

/// Makes errors of one block.
#[derive(Debug, Clone)]
pub(super) struct Blame {
    block: String,
}

impl Blame {
    pub(super) fn new(dir: &Path) -> Self {
        Self { block: name_of(dir) }
    }

    pub(super) fn io<'a>(&'a self, file: &'a str) -> impl Fn(io::Error) -> BlockError + 'a {
        move |source| BlockError::Io { block: self.block.clone(), file: file.to_owned(), source }
    }

    pub(super) fn index(&self, source: IndexError) -> BlockError {
        BlockError::Index { block: self.block.clone(), source }
    }

    pub(super) fn corrupt(&self, file: &str, offset: u64, what: impl Into<String>) -> BlockError {
        BlockError::Corrupt { block: self.block.clone(), file: file.to_owned(), offset, what: what.into() }
    }

    pub(super) fn version(&self, version: u64) -> BlockError {
        BlockError::UnknownVersion { block: self.block.clone(), version }
    }

    pub(super) fn refused(&self, what: impl Into<String>) -> BlockError {
        BlockError::Refused { block: self.block.clone(), what: what.into() }
    }
}
