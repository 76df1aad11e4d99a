//! The one classification of errors, by what the caller should do next.

use std::error::Error;
use std::fmt;

/// What the caller of a failed operation should do next. Disjoint by design: every error enum of
/// the workspace maps each variant to exactly one kind, without a wildcard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Fix the request: it does not parse, or breaks a rule of the data model.
    Invalid,
    /// Nothing of that name exists.
    NotFound,
    /// Well-formed, but cannot be evaluated on this data (a many-to-many match, say).
    Execution,
    /// Ask for less, or wait: a limit or budget would be exceeded.
    Limit,
    /// Narrow the query or raise its deadline.
    Timeout,
    /// Nothing: the client left.
    Canceled,
    /// Retry with backoff.
    Unavailable,
    /// An operator has to look: stored bytes are damaged.
    Corrupt,
    /// Report a bug.
    Internal,
}

/// The error of the storage contract: a kind, a message that names what was wrong and where, and
/// the cause where there is one.
pub struct StoreError {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl StoreError {
    /// An error without a further cause. `message` is lower case, without a full stop, with its
    /// coordinates as `key=value`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// An error caused by `source`.
    pub fn caused(
        kind: ErrorKind,
        message: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self { kind, message: message.into(), source: Some(source.into()) }
    }

    /// What the caller should do next.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreError({:?}: {self})", self.kind)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|e| e as &(dyn Error + 'static))
    }
}
