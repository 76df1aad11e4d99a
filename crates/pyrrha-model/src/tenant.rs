//! Tenant ids: who a request speaks for. Beside the data, never inside it.

use std::fmt;
use std::sync::Arc;

/// A valid tenant id, by Mimir's rules: 1 to 150 bytes of `a-z A-Z 0-9 ! - _ . * ' ( )`, neither
/// `.` nor `..` nor the reserved `__mimir_cluster`; so it is always safe as one path segment.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(Arc<str>);

/// Why a tenant id was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TenantIdError {
    /// No id, or an empty one.
    #[error("tenant ID is empty")]
    Empty,
    /// More than [`TenantId::MAX_BYTES`] bytes.
    #[error("tenant ID is too long: max 150 characters")]
    TooLong,
    /// A character outside the allowed set.
    #[error("tenant ID '{id}' contains unsupported character '{character}'")]
    Character {
        /// The id as given.
        id: String,
        /// The first character that is not allowed.
        character: char,
    },
    /// `.`, `..` or a reserved name.
    #[error("tenant ID is '.', '..' or a reserved name")]
    Unsafe,
}

impl TenantId {
    /// Longest id, in bytes.
    pub const MAX_BYTES: usize = 150;

    /// Checks and wraps an id.
    pub fn new(id: &str) -> Result<Self, TenantIdError> {
        if id.is_empty() {
            return Err(TenantIdError::Empty);
        }
        if let Some(character) = id.chars().find(|c| !c.is_ascii_alphanumeric() && !"!-_.*'()".contains(*c)) {
            return Err(TenantIdError::Character {
                id: id.chars().take(Self::MAX_BYTES).collect(),
                character,
            });
        }
        if id.len() > Self::MAX_BYTES {
            return Err(TenantIdError::TooLong);
        }
        if matches!(id, "." | ".." | "__mimir_cluster") {
            return Err(TenantIdError::Unsafe);
        }
        Ok(Self(id.into()))
    }

    /// The tenant of requests that name none.
    pub fn anonymous() -> Self {
        Self("anonymous".into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TenantId({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_never_a_path() {
        for id in ["a/b", "a\\b", "a b", "a|b", "é", "", ".", "..", "__mimir_cluster", &"x".repeat(151)] {
            assert!(TenantId::new(id).is_err(), "{id:?} must be refused");
        }
        for id in ["anonymous", "team-a_1.*'()!", &"x".repeat(150)] {
            assert!(TenantId::new(id).is_ok(), "{id:?} must be accepted");
        }
    }
}
