//! Errors of the index.

use pyrrha_model::{ErrorKind, StoreError};

/// Why an index could not answer, be opened or be written.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// Stored bytes are damaged.
    #[error("index is corrupt: {what} offset={offset}")]
    Corrupt {
        /// What is wrong.
        what: &'static str,
        /// Byte offset in the index file, of the section or entry that is damaged.
        offset: u64,
    },
    /// The file is of a format that this version does not read.
    #[error("index has an unknown format: magic={magic:#010x} version={version}")]
    UnknownFormat {
        /// First four bytes.
        magic: u32,
        /// Fifth byte.
        version: u8,
    },
    /// The caller broke the order that the file format needs.
    #[error("index entry out of order: {0}")]
    OutOfOrder(String),
    /// A limit of the file format would be exceeded.
    #[error("index limit exceeded: {0}")]
    TooLarge(&'static str),
    /// Reading or writing the file failed.
    #[error("index i/o failed: {0}")]
    Io(#[from] std::io::Error),
    /// The query was canceled or timed out, or a budget refused.
    #[error(transparent)]
    Stopped(#[from] StoreError),
}

impl IndexError {
    /// What the caller should do next.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::UnknownFormat { .. } => ErrorKind::Corrupt,
            Self::OutOfOrder(_) => ErrorKind::Internal,
            Self::TooLarge(_) => ErrorKind::Limit,
            Self::Io(_) => ErrorKind::Unavailable,
            Self::Stopped(error) => error.kind(),
        }
    }
}

/// Damage at a byte offset of the index file.
pub(crate) fn corrupt(what: &'static str, offset: usize) -> IndexError {
    IndexError::Corrupt { what, offset: offset as u64 }
}

impl From<IndexError> for StoreError {
    fn from(error: IndexError) -> Self {
        match error {
            IndexError::Stopped(error) => error,
            other => StoreError::new(other.kind(), other.to_string()),
        }
    }
}
