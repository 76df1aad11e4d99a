//! Label matchers: the four conditions a selector may put on a label's value.

use std::fmt;
use std::sync::Arc;

use crate::go_regex::{GoRegex, RegexError};

/// The kind of condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`, anchored at both ends
    Regex,
    /// `!~`, anchored at both ends
    NotRegex,
}

impl MatchOp {
    /// The operator as written in PromQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Regex => "=~",
            Self::NotRegex => "!~",
        }
    }
}

/// A condition on one label. An absent label counts as the empty value.
#[derive(Clone)]
pub struct Matcher {
    /// Label name.
    pub name: String,
    /// Kind of condition.
    pub op: MatchOp,
    /// The literal value or the regular expression as written.
    pub value: String,
    regex: Option<Arc<GoRegex>>,
}

impl Matcher {
    /// Builds a matcher; compiles the expression for the regex kinds (Go RE2 syntax, decided in
    /// [`crate::go_regex`]).
    pub fn new(op: MatchOp, name: impl Into<String>, value: impl Into<String>) -> Result<Self, RegexError> {
        let (name, value) = (name.into(), value.into());
        let regex = match op {
            MatchOp::Equal | MatchOp::NotEqual => None,
            MatchOp::Regex | MatchOp::NotRegex => Some(Arc::new(GoRegex::anchored(&value)?)),
        };
        Ok(Self { name, op, value, regex })
    }

    /// `name="value"`, which cannot fail.
    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), op: MatchOp::Equal, value: value.into(), regex: None }
    }

    /// Whether a label with this value satisfies the condition.
    pub fn matches(&self, value: &str) -> bool {
        match (self.op, &self.regex) {
            (MatchOp::NotEqual, _) => self.value != value,
            (MatchOp::Regex, Some(regex)) => regex.is_match(value),
            (MatchOp::NotRegex, Some(regex)) => !regex.is_match(value),
            _ => self.value == value,
        }
    }

    /// Whether the condition holds for a series without this label.
    pub fn matches_empty(&self) -> bool {
        self.matches("")
    }

    /// The compiled expression of a regex matcher: its literal, set or prefix form lets an index
    /// look values up instead of scanning them.
    pub fn regex(&self) -> Option<&GoRegex> {
        self.regex.as_deref()
    }

    /// The same condition, negated.
    pub fn inverted(&self) -> Self {
        let op = match self.op {
            MatchOp::Equal => MatchOp::NotEqual,
            MatchOp::NotEqual => MatchOp::Equal,
            MatchOp::Regex => MatchOp::NotRegex,
            MatchOp::NotRegex => MatchOp::Regex,
        };
        Self { op, ..self.clone() }
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.op, &self.value) == (&other.name, other.op, &other.value)
    }
}

impl Eq for Matcher {}

impl std::hash::Hash for Matcher {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (&self.name, self.op, &self.value).hash(state);
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if crate::labels::is_legacy_label_name(&self.name) {
            f.write_str(&self.name)?;
        } else {
            f.write_str(&crate::go_fmt::quote(&self.name))?;
        }
        write!(f, "{}{}", self.op.as_str(), crate::go_fmt::quote(&self.value))
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
