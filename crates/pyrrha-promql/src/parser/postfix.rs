//! What follows an operand: `[range]`, `[range:step]`, `@`, `offset`, `anchored`, `smoothed`.

use super::{Parsed, Parser, Size};
use crate::ast::{At, AtBound, BinaryOp, Duration, Expr, MatrixSelector, Pos, RangeMode, Subquery};
use crate::lexer::{BoundWord, Keyword, TokenKind};

impl Parser<'_> {
    /// An operand with its postfix modifiers.
    pub(super) fn postfixed(&mut self) -> Parsed<Expr> {
        let mut expr = self.primary()?;
        loop {
            expr = match self.peek()?.kind {
                TokenKind::LeftBracket => self.brackets(expr)?,
                TokenKind::At => self.at(expr)?,
                TokenKind::Keyword(Keyword::Offset) => self.offset(expr)?,
                TokenKind::Keyword(Keyword::Anchored) => self.mode(expr, RangeMode::Anchored)?,
                TokenKind::Keyword(Keyword::Smoothed) => self.mode(expr, RangeMode::Smoothed)?,
                _ => return Ok(expr),
            };
        }
    }

    fn brackets(&mut self, expr: Expr) -> Parsed<Expr> {
        let bracket = self.next()?;
        let range =
            self.bracket_duration("subquery or range selector", "number, duration, step(), or range()")?;
        match self.peek()?.kind {
            TokenKind::RightBracket => self.next()?,
            TokenKind::Colon => return self.subquery(expr, range),
            _ => return self.unexpected("subquery or range", "\":\" or \"]\""),
        };
        let refused = match expr {
            Expr::Selector(s) if is_set(&s.offset) => "no offset modifiers allowed before range",
            Expr::Selector(s) if s.at.is_some() => "no @ modifiers allowed before range",
            Expr::Selector(selector) => {
                let pos = self.pos_from(selector.pos.start as usize);
                self.size = Size { height: 2, turns: 2 };
                return Ok(Expr::Matrix(MatrixSelector { selector, range, pos }));
            }
            _ => "ranges only allowed for vector selectors",
        };
        Err(self.error(Self::token_pos(bracket), refused))
    }

    fn subquery(&mut self, expr: Expr, range: Duration) -> Parsed<Expr> {
        self.next()?;
        let step = match self.peek()?.kind {
            TokenKind::RightBracket => None,
            _ => Some(
                self.bracket_duration("subquery selector", "number, duration, step(), range(), or \"]\"")?,
            ),
        };
        if self.next_if(TokenKind::RightBracket)?.is_none() {
            return self.unexpected("subquery selector", "\"]\"");
        }
        let start = expr.pos().start as usize;
        self.raise(self.size, start)?;
        Ok(Expr::Subquery(Subquery {
            expr: Box::new(expr),
            range,
            step,
            at: None,
            offset: Duration::ZERO,
            pos: self.pos_from(start),
        }))
    }

    fn offset(&mut self, mut expr: Expr) -> Parsed<Expr> {
        self.next()?;
        let offset = self.offset_duration()?;
        let (pos, end) = (expr.pos(), self.last_end as u32);
        let Some(slot) = modifiers(&mut expr) else {
            return Err(self.error(pos, preceded("offset")));
        };
        if is_set(slot.offset) {
            return Err(self.error(pos, "offset may not be set multiple times"));
        }
        *slot.offset = offset;
        slot.stretch(end);
        Ok(expr)
    }

    fn at(&mut self, mut expr: Expr) -> Parsed<Expr> {
        self.next()?;
        let pos = expr.pos();
        let at = self.at_time(pos)?;
        let end = self.last_end as u32;
        let Some(slot) = modifiers(&mut expr) else {
            return Err(self.error(pos, preceded("@")));
        };
        if slot.at.is_some() {
            return Err(self.error(pos, "@ <timestamp> may not be set multiple times"));
        }
        *slot.at = Some(at);
        slot.stretch(end);
        Ok(expr)
    }

    fn at_time(&mut self, pos: Pos) -> Parsed<At> {
        const CONTEXT: &str = "@";
        const EXPECTED: &str = "timestamp";
        let negative = match self.peek()?.kind {
            TokenKind::Bound(word @ (BoundWord::Start | BoundWord::End)) => {
                self.next()?;
                for paren in [TokenKind::LeftParen, TokenKind::RightParen] {
                    if self.next_if(paren)?.is_none() {
                        return self.unexpected(CONTEXT, EXPECTED);
                    }
                }
                let bound = if word == BoundWord::Start { AtBound::Start } else { AtBound::End };
                return Ok(At::Bound(bound));
            }
            TokenKind::Op(BinaryOp::Sub) => Some(true),
            TokenKind::Op(BinaryOp::Add) => Some(false),
            _ => None,
        };
        if negative.is_some() {
            self.next()?;
        }
        if !matches!(self.peek()?.kind, TokenKind::Number | TokenKind::Duration) {
            return self.unexpected(CONTEXT, EXPECTED);
        }
        let value = self.number()?.value;
        let seconds = if negative == Some(true) { -value } else { value };
        const LIMIT: f64 = i64::MAX as f64;
        if !(seconds > -LIMIT && seconds < LIMIT) {
            let shown = match seconds {
                f64::INFINITY => "+Inf".to_owned(),
                f64::NEG_INFINITY => "-Inf".to_owned(),
                other => format!("{other:.6}"),
            };
            return Err(self.error(pos, format!("timestamp out of bounds for @ modifier: {shown}")));
        }
        Ok(At::Time((seconds * 1000.0).round() as i64))
    }

    fn mode(&mut self, mut expr: Expr, mode: RangeMode) -> Parsed<Expr> {
        self.next()?;
        let word = if mode == RangeMode::Anchored { "anchored" } else { "smoothed" };
        let (pos, end) = (expr.pos(), self.last_end as u32);
        if !self.features.extended_range_selectors {
            return Err(self.error(pos, format!("{word} modifier is experimental and not enabled")));
        }
        let selector = match &mut expr {
            Expr::Selector(s) => s,
            Expr::Matrix(m) => {
                m.pos.end = end;
                &mut m.selector
            }
            Expr::Subquery(_) => {
                return Err(self.error(pos, format!("{word} modifier is not supported for subqueries")));
            }
            _ => return Err(self.error(pos, format!("{word} modifier not implemented"))),
        };
        if selector.mode != RangeMode::Classic && selector.mode != mode {
            return Err(self.error(pos, "anchored and smoothed modifiers cannot be used together"));
        }
        selector.mode = mode;
        selector.pos.end = end;
        Ok(expr)
    }
}

/// The modifiers of an expression that can have them.
struct Modifiers<'e> {
    at: &'e mut Option<At>,
    offset: &'e mut Duration,
    pos: &'e mut Pos,
    outer: Option<&'e mut Pos>,
}

impl Modifiers<'_> {
    /// The modifier that was just read belongs to the expression.
    fn stretch(self, end: u32) {
        // A range selector's inner selector keeps its extent: the brackets come before modifiers.
        self.outer.unwrap_or(self.pos).end = end;
    }
}

fn modifiers(expr: &mut Expr) -> Option<Modifiers<'_>> {
    Some(match expr {
        Expr::Selector(s) => Modifiers { at: &mut s.at, offset: &mut s.offset, pos: &mut s.pos, outer: None },
        Expr::Matrix(m) => Modifiers {
            at: &mut m.selector.at,
            offset: &mut m.selector.offset,
            pos: &mut m.selector.pos,
            outer: Some(&mut m.pos),
        },
        Expr::Subquery(s) => Modifiers { at: &mut s.at, offset: &mut s.offset, pos: &mut s.pos, outer: None },
        _ => return None,
    })
}

/// An offset of zero counts as none, as in Prometheus.
fn is_set(offset: &Duration) -> bool {
    *offset != Duration::ZERO
}

fn preceded(modifier: &str) -> String {
    format!(
        "{modifier} modifier must be preceded by an instant vector selector or range vector selector or a subquery"
    )
}
