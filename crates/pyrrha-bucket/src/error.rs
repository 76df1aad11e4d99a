//! Errors of the bucket. Each names the operation and the key.

use pyrrha_model::{ErrorKind, StoreError};

use crate::door::Operation;

/// Why an operation on the bucket failed.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// There is no such object.
    #[error("object not found: key={key}")]
    NotFound {
        /// Key of the object.
        key: String,
    },
    /// The store failed, or could not be reached, in every attempt.
    #[error("bucket operation failed: operation={operation} key={key} attempts={attempts}: {source}")]
    Failed {
        /// What was tried.
        operation: Operation,
        /// Key or prefix.
        key: String,
        /// How often it was tried.
        attempts: u32,
        /// What the store said last.
        source: object_store::Error,
    },
    /// No answer came in time, in any attempt.
    #[error(
        "bucket operation timed out: operation={operation} key={key} attempts={attempts} timeout_ms={timeout_ms}"
    )]
    TimedOut {
        /// What was tried.
        operation: Operation,
        /// Key or prefix.
        key: String,
        /// How often it was tried.
        attempts: u32,
        /// Time given to each attempt.
        timeout_ms: u64,
    },
    /// The credentials are missing, wrong, or not enough.
    #[error("bucket refuses access: operation={operation} key={key}: {source}")]
    Denied {
        /// What was tried.
        operation: Operation,
        /// Key or prefix.
        key: String,
        /// What the store said.
        source: object_store::Error,
    },
    /// An object is larger than its reader takes.
    #[error("object is too large: key={key} bytes={bytes} limit={limit}")]
    TooLarge {
        /// Key of the object.
        key: String,
        /// Its length.
        bytes: u64,
        /// The most that is read.
        limit: u64,
    },
    /// What is stored is not what it should be.
    #[error("object is damaged: {what} key={key}")]
    Corrupt {
        /// Key of the object.
        key: String,
        /// What is wrong.
        what: String,
    },
    /// What is stored is of a later version than is understood here: it is left as it is.
    #[error("object is of an unknown version: version={version} key={key}")]
    UnknownVersion {
        /// Key of the object.
        key: String,
        /// Its version.
        version: u64,
    },
    /// A local file could not be read or written.
    #[error("file i/o failed: file={file}: {source}")]
    Local {
        /// The file.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The store overwrites what a conditional create must not touch.
    #[error(
        "bucket ignores conditions: bucket={bucket} key={key}: an object that exists was created a second \
         time, so two writers would lose blocks; use a store that honours `If-None-Match: *`"
    )]
    NoConditions {
        /// The bucket.
        bucket: String,
        /// Key of the probe.
        key: String,
    },
    /// The bucket's own threads are gone, which is so while the server stops.
    #[error("bucket is closed")]
    Closed,
    /// The query that waited was stopped.
    #[error(transparent)]
    Stopped(#[from] StoreError),
}

impl BucketError {
    /// What the caller should do next.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Failed { .. } | Self::TimedOut { .. } | Self::Local { .. } | Self::Closed => {
                ErrorKind::Unavailable
            }
            Self::Denied { .. } | Self::NoConditions { .. } | Self::UnknownVersion { .. } => {
                ErrorKind::Invalid
            }
            Self::TooLarge { .. } | Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::Stopped(error) => error.kind(),
        }
    }
}

impl BucketError {
    /// Whether an error of a query is for want of an object, which somebody else may have deleted.
    pub(crate) fn is_gone(error: &StoreError) -> bool {
        Self::gone_key(error).is_some()
    }

    /// The object for want of which a query failed.
    pub(crate) fn gone_key(error: &StoreError) -> Option<&str> {
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            if let Some(Self::NotFound { key }) = error.downcast_ref() {
                return Some(key);
            }
            cause = error.source();
        }
        None
    }
}

impl From<BucketError> for StoreError {
    fn from(error: BucketError) -> Self {
        match error {
            BucketError::Stopped(stopped) => stopped,
            // To whoever asks a query, a bucket that refuses is one that cannot be reached.
            BucketError::Denied { .. } | BucketError::NoConditions { .. } => {
                StoreError::new(ErrorKind::Unavailable, error.to_string())
            }
            // Whoever can look for what took its place does.
            BucketError::NotFound { .. } => {
                StoreError::caused(ErrorKind::Unavailable, "data is gone from the bucket", error)
            }
            other => StoreError::new(other.kind(), other.to_string()),
        }
    }
}

impl From<BucketError> for std::io::Error {
    fn from(error: BucketError) -> Self {
        let kind = match &error {
            BucketError::NotFound { .. } => std::io::ErrorKind::NotFound,
            BucketError::TimedOut { .. } => std::io::ErrorKind::TimedOut,
            _ => std::io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}
