//! Why the database could not do something.

use std::io;
use std::path::{Path, PathBuf};

use pyrrha_model::{ErrorKind, StoreError};

use crate::wal::WalError;

/// An error of the database.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The disk refused.
    #[error("cannot {op} path={path}: {source}")]
    Io {
        /// What was tried.
        op: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// Another process has the data directory.
    #[error("data directory is in use by another process path={path}; stop it, or choose another directory")]
    InUse {
        /// The data directory.
        path: PathBuf,
    },
    /// The data directory was written by another version.
    #[error(
        "data directory has format version {found:?}, this build reads {supported:?} path={path}; \
         use the build that wrote it, or another directory"
    )]
    Version {
        /// The version file.
        path: PathBuf,
        /// What it says.
        found: String,
        /// The version known here.
        supported: &'static str,
    },
    /// The directory has files, but not those of a data directory.
    #[error(
        "directory is not one of pyrrha's: it has {name:?} but no VERSION path={path}; choose an empty directory"
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// What was found in it.
        name: String,
    },
    /// The log.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// Blocks or their manifest.
    #[error("{0}")]
    Store(StoreError),
}

impl StorageError {
    /// An I/O error with what was tried on what.
    pub(crate) fn io(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { op, path, source }
    }

    /// What the caller should do next.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. } | Self::InUse { .. } => ErrorKind::Unavailable,
            Self::Version { .. } | Self::Foreign { .. } => ErrorKind::Invalid,
            Self::Wal(error) => error.kind(),
            Self::Store(error) => error.kind(),
        }
    }
}

impl From<StoreError> for StorageError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<StorageError> for StoreError {
    fn from(error: StorageError) -> Self {
        Self::new(error.kind(), error.to_string())
    }
}
