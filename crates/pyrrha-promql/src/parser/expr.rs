//! Expressions: operators by precedence, operands, literals.

use pyrrha_model::time::parse_duration;

use super::{Parsed, Parser, Size, binary};
use crate::ast::{BinaryOp, Expr, NumberLiteral, Paren, StringLiteral, Unary};
use crate::lexer::{BoundWord, Keyword, Token, TokenKind};

impl Parser<'_> {
    /// An expression of operators that bind at least as tightly as `min_precedence`.
    pub(super) fn expr(&mut self, min_precedence: u8) -> Parsed<Expr> {
        let start = self.peek()?.start;
        self.nested(start, |p| {
            let mut lhs = p.unary()?;
            loop {
                let TokenKind::Op(op) = p.peek()?.kind else { return Ok(lhs) };
                let precedence = binary::precedence(op);
                if precedence < min_precedence {
                    return Ok(lhs);
                }
                lhs = p.binary(op, precedence, lhs)?;
            }
        })
    }

    fn unary(&mut self) -> Parsed<Expr> {
        let token = self.peek()?;
        let negative = match token.kind {
            TokenKind::Op(BinaryOp::Sub) => true,
            TokenKind::Op(BinaryOp::Add) => false,
            _ => return self.postfixed(),
        };
        self.next()?;
        // As tight as `*`: only `^` is taken along.
        let operand = self.expr(binary::POW_PRECEDENCE)?;
        if let Expr::Number(number) = operand {
            let value = if negative { -number.value } else { number.value };
            return Ok(Expr::Number(NumberLiteral { value, pos: self.pos_from(token.start), ..number }));
        }
        self.raise(self.size, token.start)?;
        Ok(Expr::Unary(Unary { negative, expr: Box::new(operand), pos: self.pos_from(token.start) }))
    }

    /// An operand without its postfix modifiers.
    pub(super) fn primary(&mut self) -> Parsed<Expr> {
        let token = self.peek()?;
        self.size = Size::LEAF;
        match token.kind {
            TokenKind::Number | TokenKind::Duration => self.number().map(Expr::Number),
            TokenKind::String => {
                self.next()?;
                let value = self.unquoted(token)?;
                Ok(Expr::String(StringLiteral { value, pos: Self::token_pos(token) }))
            }
            TokenKind::LeftParen => {
                self.next()?;
                let expr = Box::new(self.expr(0)?);
                if self.next_if(TokenKind::RightParen)?.is_none() {
                    return self.unexpected_here();
                }
                self.raise(self.size, token.start)?;
                Ok(Expr::Paren(Paren { expr, pos: self.pos_from(token.start) }))
            }
            TokenKind::LeftBrace => self.selector(None).map(Expr::Selector),
            TokenKind::Aggregate(op) => {
                self.next()?;
                self.aggregation_or_metric(op, token)
            }
            TokenKind::Identifier | TokenKind::Bound(_) => {
                self.next()?;
                if self.peek()?.kind == TokenKind::LeftParen {
                    return self.call(token);
                }
                self.selector(Some(token)).map(Expr::Selector)
            }
            kind if is_metric_word(kind) => {
                self.next()?;
                self.selector(Some(token)).map(Expr::Selector)
            }
            _ => self.unexpected_here(),
        }
    }

    /// A number or duration without sign.
    pub(super) fn number(&mut self) -> Parsed<NumberLiteral> {
        let token = self.next()?;
        let text = self.text(token);
        let pos = Self::token_pos(token);
        if token.kind == TokenKind::Duration {
            let ms = parse_duration(text).map_err(|e| self.error(pos, e.to_string()))?;
            // Seconds and fraction apart, as Go computes it.
            let value = (ms / 1000) as f64 + ((ms % 1000) * 1_000_000) as f64 / 1e9;
            return Ok(NumberLiteral { value, duration: true, pos });
        }
        let value = parse_number(text).map_err(|e| self.error(pos, format!("error parsing number: {e}")))?;
        Ok(NumberLiteral { value, duration: false, pos })
    }

    pub(super) fn starts_expr(&mut self) -> Parsed<bool> {
        let kind = self.peek()?.kind;
        Ok(is_metric_word(kind)
            || matches!(
                kind,
                TokenKind::Number
                    | TokenKind::Duration
                    | TokenKind::String
                    | TokenKind::LeftParen
                    | TokenKind::LeftBrace
                    | TokenKind::Op(BinaryOp::Add | BinaryOp::Sub)
            ))
    }

    /// The words of a token that may be a label in `by (...)` and the like.
    pub(super) fn is_label_word(token: Token) -> bool {
        match token.kind {
            TokenKind::Identifier
            | TokenKind::MetricIdentifier
            | TokenKind::Aggregate(_)
            | TokenKind::Bound(_) => true,
            // It may name a metric, but no label.
            TokenKind::Keyword(keyword) => keyword != Keyword::Without,
            TokenKind::Op(op) => op.is_set() || op == BinaryOp::Atan2,
            _ => false,
        }
    }
}

/// Words that may name a metric at the beginning of an expression.
pub(super) fn is_metric_word(kind: TokenKind) -> bool {
    match kind {
        TokenKind::Identifier
        | TokenKind::MetricIdentifier
        | TokenKind::Aggregate(_)
        | TokenKind::Bound(
            BoundWord::Start
            | BoundWord::End
            | BoundWord::Step
            | BoundWord::Range
            | BoundWord::MinOf
            | BoundWord::MaxOf,
        ) => true,
        TokenKind::Op(op) => op.is_set(),
        TokenKind::Keyword(keyword) => !matches!(
            keyword,
            Keyword::Bool | Keyword::On | Keyword::Ignoring | Keyword::GroupLeft | Keyword::GroupRight
        ),
        _ => false,
    }
}

/// Numbers as Go reads them: an integer in any base, else a float.
fn parse_number(text: &str) -> Result<f64, String> {
    let digits: String = text.chars().filter(|c| *c != '_').collect();
    let refused =
        |why: &str| format!("strconv.ParseFloat: parsing {}: {why}", pyrrha_model::go_fmt::quote(text));
    // Separators stand between digits, one at a time.
    if text.ends_with('_') || text.contains("__") {
        return Err(refused("invalid syntax"));
    }
    if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        return match i64::from_str_radix(hex, 16) {
            Ok(n) => Ok(n as f64),
            Err(_) => Err(refused("invalid syntax")),
        };
    }
    if digits.len() > 1
        && digits.starts_with('0')
        && let Ok(n) = i64::from_str_radix(&digits, 8)
    {
        return Ok(n as f64);
    }
    match digits.parse::<f64>() {
        Ok(v) if v.is_infinite() && !digits.eq_ignore_ascii_case("inf") => Err(refused("value out of range")),
        Ok(v) => Ok(v),
        Err(_) => Err(refused("invalid syntax")),
    }
}
