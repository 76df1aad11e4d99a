//! Selectors: a metric's name and its matchers.

use pyrrha_model::{METRIC_NAME, MatchOp, Matcher};

use super::{PROGRAM_BYTES_MAX, Parsed, Parser, Size, program_bytes};
use crate::ast::{BinaryOp, Duration, RangeMode, VectorSelector};
use crate::lexer::{Token, TokenKind};

const CONTEXT: &str = "label matching";

impl Parser<'_> {
    /// `name{matchers}`; the name, if any, is consumed.
    pub(super) fn selector(&mut self, name: Option<Token>) -> Parsed<VectorSelector> {
        let start = match name {
            Some(token) => token.start,
            None => self.peek()?.start,
        };
        let name = name.map(|token| self.text(token).to_owned());
        let mut matchers: Vec<Matcher> = name.iter().map(|n| Matcher::equal(METRIC_NAME, n)).collect();
        if self.next_if(TokenKind::LeftBrace)?.is_some() {
            self.matchers(&mut matchers)?;
        }
        self.size = Size::LEAF;
        Ok(VectorSelector {
            name,
            matchers,
            at: None,
            offset: Duration::ZERO,
            mode: RangeMode::Classic,
            pos: self.pos_from(start),
        })
    }

    fn matchers(&mut self, matchers: &mut Vec<Matcher>) -> Parsed<()> {
        loop {
            if self.next_if(TokenKind::RightBrace)?.is_some() {
                return Ok(());
            }
            let matcher = self.matcher()?;
            matchers.push(matcher);
            if self.next_if(TokenKind::Comma)?.is_none() && self.peek()?.kind != TokenKind::RightBrace {
                return self.unexpected(CONTEXT, "\",\" or \"}\"");
            }
        }
    }

    /// One matcher; a bare quoted word is the metric's name.
    fn matcher(&mut self) -> Parsed<Matcher> {
        let token = self.peek()?;
        let label = match token.kind {
            TokenKind::Identifier => self.text(token).to_owned(),
            TokenKind::String => self.unquoted(token)?,
            _ => return self.unexpected(CONTEXT, "identifier or \"}\""),
        };
        self.next()?;
        let op = match self.peek()?.kind {
            TokenKind::Assign => MatchOp::Equal,
            TokenKind::Op(BinaryOp::Ne) => MatchOp::NotEqual,
            TokenKind::EqRegex => MatchOp::Regex,
            TokenKind::NeRegex => MatchOp::NotRegex,
            _ if token.kind == TokenKind::String => return Ok(Matcher::equal(METRIC_NAME, label)),
            _ => return self.unexpected(CONTEXT, "label matching operator"),
        };
        self.next()?;
        let value = self.peek()?;
        if value.kind != TokenKind::String {
            return self.unexpected(CONTEXT, "string");
        }
        self.next()?;
        let matcher = Matcher::new(op, label, self.unquoted(value)?)
            .map_err(|e| self.error(self.pos_from(token.start), e.to_string()))?;
        self.program_bytes += program_bytes([&matcher]);
        if self.program_bytes > PROGRAM_BYTES_MAX {
            let message =
                format!("regular expressions are too large together: limit={PROGRAM_BYTES_MAX} bytes");
            return Err(self.error(self.pos_from(token.start), message));
        }
        Ok(matcher)
    }
}

/// The error of a selector that names its metric twice.
pub(super) fn name_twice(first: &str, second: &str) -> String {
    use pyrrha_model::go_fmt::quote;
    format!("metric name must not be set twice: {} or {}", quote(first), quote(second))
}
