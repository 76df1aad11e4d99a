//! Why the log could not do something.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use pyrrha_model::{ErrorKind, StoreError, TenantId};

/// An error of the log. Cheap to clone, because all batches of a group share one.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WalError {
    /// The disk refused.
    #[error("log {op} failed path={path}: {source}")]
    Io {
        /// What was tried.
        op: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the disk said.
        source: Arc<io::Error>,
    },
    /// More bytes of this tenant wait for the disk than allowed.
    #[error("write queue is full tenant={tenant} queued_bytes={queued} limit={limit}")]
    QueueFull {
        /// Whose queue is full.
        tenant: TenantId,
        /// Bytes that wait.
        queued: usize,
        /// Bytes that may wait.
        limit: usize,
    },
    /// A batch that can never be logged: columns of unequal length, or too large for a record.
    #[error("batch cannot be logged: {0}")]
    BadBatch(&'static str),
    /// The log has been stopped, or has no sink yet.
    #[error("log is not open for writing")]
    Closed,
    /// Damage was found and the log is set to be strict.
    #[error("log is damaged: {0}; start without strict mode to keep every readable record")]
    Damaged(String),
    /// A segment or checkpoint of another format version.
    #[error("log file has format version {found}, this build reads {supported} path={path}")]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The version known here.
        supported: u32,
    },
}

impl WalError {
    /// What the caller should do next.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. } | Self::QueueFull { .. } | Self::Closed => ErrorKind::Unavailable,
            Self::BadBatch(_) => ErrorKind::Internal,
            Self::Damaged(_) | Self::Version { .. } => ErrorKind::Corrupt,
        }
    }

    /// What the disk said, and where.
    pub(super) fn io(op: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { op, path: path.into(), source: Arc::new(source) }
    }
}

impl From<WalError> for StoreError {
    fn from(error: WalError) -> Self {
        Self::new(error.kind(), error.to_string())
    }
}
