//! Errors of reading Prometheus' log.

use std::io;
use std::path::{Path, PathBuf};

use pyrrha_model::ErrorKind;

use crate::backfill::BackfillError;

/// Why a log could not be read at all. Damage inside it is no error: it is reported, and costs what
/// it hit.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
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
    /// What was read could not be handed on.
    #[error(transparent)]
    Sink(#[from] BackfillError),
}

impl LogError {
    /// An I/O error with what was tried on what.
    pub(super) fn io(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { op, path, source }
    }

    /// What the caller should do next.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. } => ErrorKind::Unavailable,
            Self::Sink(error) => error.kind(),
        }
    }
}
