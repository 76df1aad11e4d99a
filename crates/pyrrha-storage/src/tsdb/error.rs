//! Errors of looking into data directories.

use std::io;
use std::path::{Path, PathBuf};

use pyrrha_model::{ErrorKind, StoreError};

use crate::block::BlockError;
use crate::error::StorageError;
use crate::manifest::ManifestError;

/// Why a data directory could not be looked into, or mended.
#[derive(Debug, thiserror::Error)]
pub enum TsdbError {
    /// The disk refused.
    #[error("cannot {op} path={}: {source}", path.display())]
    Io {
        /// What was tried.
        op: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// Nothing in the directory says what it is.
    #[error(
        "directory is neither a data directory nor a block path={}; expected blocks, wal/ or bucket/ in it",
        path.display()
    )]
    Unknown {
        /// The directory.
        path: PathBuf,
    },
    /// A Pyrrha data directory without this tenant.
    #[error("tenant has no blocks tenant={tenant} path={}; tenants here: {present}", path.display())]
    NoTenant {
        /// The tenant asked for.
        tenant: String,
        /// The data directory.
        path: PathBuf,
        /// The tenants that are there.
        present: String,
    },
    /// Another process works on the directory.
    #[error("data directory is in use by another process path={}; stop it first", path.display())]
    InUse {
        /// The lock file.
        path: PathBuf,
    },
    /// A block is damaged beyond what can be mended.
    #[error("block cannot be repaired block={block}: {what}")]
    Beyond {
        /// Name of the block's directory.
        block: String,
        /// What is missing.
        what: String,
    },
    /// A block could not be read or written.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// The manifest could not be read or committed.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The database could not be opened.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Reading series failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl TsdbError {
    /// An I/O error with what was tried on what.
    pub(crate) fn io(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { op, path, source }
    }

    /// What the caller should do next.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => ErrorKind::NotFound,
            Self::Io { .. } | Self::InUse { .. } => ErrorKind::Unavailable,
            Self::Unknown { .. } => ErrorKind::Invalid,
            Self::NoTenant { .. } => ErrorKind::NotFound,
            Self::Beyond { .. } => ErrorKind::Corrupt,
            Self::Block(error) => error.kind(),
            Self::Manifest(error) => error.kind(),
            Self::Storage(error) => error.kind(),
            Self::Store(error) => error.kind(),
        }
    }
}
