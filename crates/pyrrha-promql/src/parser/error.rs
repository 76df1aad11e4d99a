//! Why a query does not parse, and where.

use std::fmt;

use pyrrha_model::ErrorKind;

use crate::ast::Pos;

/// Why a query does not parse. Prints as Prometheus does: `1:5: parse error: text`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// Line of the error, from 1; 0 where there is none, as in an empty query.
    pub line: u32,
    /// Column of the error in bytes, from 1.
    pub column: u32,
    /// Where in the query.
    pub pos: Pos,
    /// What is wrong.
    pub message: String,
}

impl ParseError {
    pub(super) fn new(query: &str, pos: Pos, message: impl Into<String>) -> Self {
        let (line, column) = if query.is_empty() { (0, 0) } else { line_and_column(query, pos.start) };
        Self { line, column, pos, message: message.into() }
    }

    /// Always [`ErrorKind::Invalid`].
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            return write!(f, "unknown position: parse error: {}", self.message);
        }
        write!(f, "{}:{}: parse error: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for ParseError {}

/// Why a `match[]` was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// It does not parse.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// It would match every series.
    #[error("match[] must contain at least one non-empty matcher")]
    Empty,
}

impl SelectorError {
    /// Always [`ErrorKind::Invalid`].
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Parse(_) | Self::Empty => ErrorKind::Invalid,
        }
    }
}

/// Line and column of a byte of `query`, both from 1; columns count bytes. Annotations use it too.
pub fn line_and_column(query: &str, at: u32) -> (u32, u32) {
    let before = &query.as_bytes()[..(at as usize).min(query.len())];
    let lines = before.iter().filter(|b| **b == b'\n').count();
    let column = before.len() - before.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
    (lines as u32 + 1, column as u32 + 1)
}
