//! Regular expressions with the meaning of Go's RE2 (decision 36).

use std::fmt;

use regex::Regex;

/// A compiled, fully anchored expression: `^(?s:RE)$`.
#[derive(Clone)]
pub struct GoRegex {
    regex: Regex,
}

/// Why an expression was refused, with Go's text: `error parsing regexp: <kind>: <part>`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {0}")]
pub struct RegexError(pub String);

impl GoRegex {
    /// Compiles `expression` anchored at both ends, with `.` matching newlines.
    pub fn anchored(expression: &str) -> Result<Self, RegexError> {
        let regex = Regex::new(&format!("^(?s:{expression})$")).map_err(|e| RegexError(e.to_string()))?;
        Ok(Self { regex })
    }

    /// Whether the whole of `text` matches.
    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }
}

impl fmt::Debug for GoRegex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GoRegex({})", self.regex.as_str())
    }
}
