//! Regular expressions with the meaning of Go's RE2 (decision 36).
//!
//! ```text
//! Go syntax ─► translate ─► regex-syntax HIR ─► set | pieces | any   no automaton needed
//!                                └────────────► regex automaton      everything else
//! ```

mod form;
mod template;
mod translate;

use std::fmt;
use std::sync::Arc;

use regex::bytes::{Regex, RegexBuilder};

use form::{Form, Piece};
pub use template::Template;

/// Bytes that the compiled program of one expression may take, in the steps in which it is told how
/// much one takes at most.
const PROGRAM_LIMITS: [usize; 3] = [16 << 10, 256 << 10, 8 << 20];
/// Bytes that the lazily built automaton of one expression may take, per thread.
const CACHE_LIMIT: usize = 2 << 20;

/// A compiled, fully anchored expression: `^(?s:RE)$`.
#[derive(Clone)]
pub struct GoRegex {
    source: Arc<str>,
    prefix: Option<Box<str>>,
    matching: Matching,
}

#[derive(Clone)]
enum Matching {
    Set { sorted: Arc<[String]> },
    Pieces(Arc<[Piece]>),
    Automaton(Regex, usize),
}

/// Why an expression was refused, with Go's text: `error parsing regexp: <kind>: <part>`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {0}")]
pub struct RegexError(pub String);

impl RegexError {
    /// `kind` is Go's text for it; `part` is shown in backquotes.
    fn new(kind: &str, part: &str) -> Self {
        const SHOWN: usize = 1024;
        let end = part.char_indices().map(|(i, c)| i + c.len_utf8()).take_while(|i| *i <= SHOWN).last();
        Self(format!("{kind}: `{}`", &part[..end.unwrap_or(0)]))
    }

    fn too_large(expression: &str) -> Self {
        Self::new("expression too large", expression)
    }
}

impl GoRegex {
    /// Compiles `expression` anchored at both ends, with `.` matching newlines.
    pub fn anchored(expression: &str) -> Result<Self, RegexError> {
        let source: Arc<str> = expression.into();
        if let Some(words) = form::plain_alternatives(expression) {
            return Ok(Self { source, prefix: None, matching: Matching::Set { sorted: words.into() } });
        }
        let translated = translate::translate(expression)?;
        let hir = form::parse(&translated, expression)?;
        let prefix = form::prefix(&hir).map(Into::into);
        let matching = match form::form(&hir) {
            Form::Set(words) => Matching::Set { sorted: words.into() },
            Form::Pieces(pieces) => Matching::Pieces(pieces.into()),
            Form::Other => {
                let (regex, bytes) = automaton(&translated, expression)?;
                Matching::Automaton(regex, bytes)
            }
        };
        Ok(Self { source, prefix, matching })
    }

    /// The expression as written.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// Whether the whole of `text` matches.
    pub fn is_match(&self, text: &str) -> bool {
        match &self.matching {
            Matching::Set { sorted } => match &**sorted {
                [] => false,
                [word] => word == text,
                words => words.binary_search_by(|w| w.as_str().cmp(text)).is_ok(),
            },
            Matching::Pieces(pieces) => form::pieces_match(pieces, text),
            Matching::Automaton(regex, _) => {
                self.prefix.as_deref().is_none_or(|p| text.starts_with(p)) && regex.is_match(text.as_bytes())
            }
        }
    }

    /// About how many bytes the compiled program takes, rounded up; 0 where there is none.
    pub fn program_bytes(&self) -> usize {
        match &self.matching {
            Matching::Set { .. } | Matching::Pieces(_) => 0,
            Matching::Automaton(_, bytes) => *bytes,
        }
    }

    /// All strings that match, sorted, where they are few and finite (`a|b|c(d|e)`).
    pub fn set_matches(&self) -> Option<&[String]> {
        match &self.matching {
            Matching::Set { sorted } => Some(sorted),
            _ => None,
        }
    }

    /// A non-empty text with which everything that matches begins. None for finite sets, which
    /// [`set_matches`](Self::set_matches) gives more precisely.
    pub fn prefix(&self) -> Option<&str> {
        self.prefix.as_deref()
    }

    /// Whether it is `.*`: matches every value, the empty one too.
    pub fn is_any(&self) -> bool {
        matches!(&self.matching, Matching::Pieces(p) if matches!(**p, [Piece::Any]))
    }

    /// Whether it is `.+`: matches every value but the empty one.
    pub fn is_any_nonempty(&self) -> bool {
        matches!(&self.matching, Matching::Pieces(p) if matches!(**p, [Piece::Some]))
    }
}

impl fmt::Debug for GoRegex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GoRegex({})", self.source)
    }
}

/// An anchored expression that is used for its groups, as `label_replace` and relabelling do.
#[derive(Clone)]
pub struct GoReplacer {
    regex: Regex,
    template: Template,
}

impl GoReplacer {
    /// Compiles `expression` anchored at both ends, and the replacement `template` with its `$1`,
    /// `${1}`, `$name`, `$$`.
    pub fn new(expression: &str, template: &str) -> Result<Self, RegexError> {
        let (regex, _) = automaton(&translate::translate(expression)?, expression)?;
        let template = Template::parse(template, &regex);
        Ok(Self { regex, template })
    }

    /// The template filled in with the groups of `text`; None if `text` does not match.
    pub fn replace(&self, text: &str) -> Option<String> {
        if let Some(constant) = self.template.constant() {
            return self.regex.is_match(text.as_bytes()).then(|| constant.to_owned());
        }
        let groups = self.regex.captures(text.as_bytes())?;
        Some(self.template.expand(text, &groups))
    }
}

impl fmt::Debug for GoReplacer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GoReplacer({})", self.regex.as_str())
    }
}

/// The compiled program, and about how many bytes it takes: the least step that it fits in.
fn automaton(translated: &str, expression: &str) -> Result<(Regex, usize), RegexError> {
    let mut builder = RegexBuilder::new(&format!(r"\A(?s:{translated})\z"));
    builder.dfa_size_limit(CACHE_LIMIT).nest_limit(form::NEST_LIMIT);
    let mut fitting = PROGRAM_LIMITS.into_iter().map(|limit| (builder.size_limit(limit).build(), limit));
    fitting
        .find_map(|(regex, limit)| Some((regex.ok()?, limit)))
        .ok_or_else(|| RegexError::too_large(expression))
}

#[cfg(test)]
mod tests;
