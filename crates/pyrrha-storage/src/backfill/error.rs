//! Errors of imports.

use std::io;
use std::path::{Path, PathBuf};

use pyrrha_model::{ErrorKind, StoreError};

use crate::block::BlockError;
use crate::manifest::ManifestError;
use crate::tsdb::TsdbError;

/// Why samples could not be brought into blocks.
#[derive(Debug, thiserror::Error)]
pub enum BackfillError {
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
    /// A block could not be read or written.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// Samples could not be merged.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The blocks could not be made live.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The target, or the source, is no data directory.
    #[error(transparent)]
    Tsdb(#[from] TsdbError),
}

impl BackfillError {
    /// An I/O error with what was tried on what.
    pub(crate) fn io(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { op, path, source }
    }

    /// What the caller should do next.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => ErrorKind::NotFound,
            Self::Io { .. } => ErrorKind::Unavailable,
            Self::Block(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::Manifest(error) => error.kind(),
            Self::Tsdb(error) => error.kind(),
        }
    }
}
