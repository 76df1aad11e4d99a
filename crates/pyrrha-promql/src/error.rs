//! Why a query failed, with Prometheus' texts.

use pyrrha_model::{ErrorKind, StoreError};

/// Why a query failed. Texts are those that clients of Prometheus match on.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The expression does not parse, or is not allowed here.
    #[error("{0}")]
    Invalid(String),
    /// The expression cannot be evaluated on this data.
    #[error("{0}")]
    Execution(String),
    /// The limit on samples held at once.
    #[error("query processing would load too many samples into memory in query execution")]
    TooManySamples,
    /// The query was cancelled or its deadline passed; or a memory budget would be exceeded.
    #[error("{0}")]
    Stopped(StoreError),
    /// The store failed.
    #[error("expanding series: {0}")]
    Store(StoreError),
}

impl QueryError {
    /// What the caller should do next.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::Execution(_) => ErrorKind::Execution,
            Self::TooManySamples => ErrorKind::Limit,
            Self::Stopped(error) | Self::Store(error) => error.kind(),
        }
    }

    /// An [`QueryError::Execution`].
    pub fn execution(text: impl Into<String>) -> Self {
        Self::Execution(text.into())
    }

    /// An exceeded memory budget names the selector that took the most.
    pub(crate) fn name_dearest(self, dearest: impl FnOnce() -> Option<String>) -> Self {
        match self {
            Self::Stopped(error) if error.kind() == ErrorKind::Limit => Self::Stopped(match dearest() {
                Some(dearest) => StoreError::new(ErrorKind::Limit, format!("{error}; {dearest}")),
                None => error,
            }),
            other => other,
        }
    }

    /// Wraps what a store returned; a stopped query keeps its own text.
    pub fn from_store(error: StoreError) -> Self {
        match error.kind() {
            ErrorKind::Canceled | ErrorKind::Timeout | ErrorKind::Limit => Self::Stopped(error),
            ErrorKind::Invalid
            | ErrorKind::NotFound
            | ErrorKind::Execution
            | ErrorKind::Unavailable
            | ErrorKind::Corrupt
            | ErrorKind::Internal => Self::Store(error),
        }
    }
}
