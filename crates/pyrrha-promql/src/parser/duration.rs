//! Durations: literals and duration expressions, in brackets and behind `offset`.

use std::sync::Arc;

use super::{Parsed, Parser, binary};
use crate::ast::{BinaryOp, Duration, DurationExpr, NumberLiteral, Pos};
use crate::lexer::{BoundWord, TokenKind};

/// Where a duration stands, for its errors.
#[derive(Clone, Copy)]
struct Place<'a> {
    context: &'a str,
    expected: &'a str,
}

const OFFSET: Place<'_> = Place { context: "offset", expected: "number, duration, step(), or range()" };

impl Parser<'_> {
    /// A range or step: positive, with arithmetic.
    pub(super) fn bracket_duration(&mut self, context: &str, expected: &str) -> Parsed<Duration> {
        let place = Place { context, expected };
        self.duration_operators = 0;
        let expr = self.duration_expr(place, 0)?;
        if let DurationExpr::Number(number) = &expr
            && number.value <= 0.0
        {
            return Err(self.error(number.pos, "duration must be greater than 0"));
        }
        self.finish(expr)
    }

    /// What may follow `offset`: arithmetic only in parentheses.
    pub(super) fn offset_duration(&mut self) -> Parsed<Duration> {
        let token = self.peek()?;
        self.duration_operators = 0;
        let negative = match token.kind {
            TokenKind::Op(BinaryOp::Sub) => Some(true),
            TokenKind::Op(BinaryOp::Add) => Some(false),
            _ => None,
        };
        let expr = if let Some(negative) = negative {
            self.next()?;
            // Another sign makes it a duration expression like any other.
            let signed = matches!(self.peek()?.kind, TokenKind::Op(BinaryOp::Sub | BinaryOp::Add));
            let operand = if signed { self.duration_unary(OFFSET)? } else { self.duration_operand(OFFSET)? };
            self.sign(negative, operand, token.start)
        } else {
            self.duration_operand(OFFSET)?
        };
        self.finish(expr)
    }

    /// Literals become milliseconds.
    fn finish(&self, expr: DurationExpr) -> Parsed<Duration> {
        match expr {
            DurationExpr::Number(number) => self.fixed(number).map(Duration::Fixed),
            expr => Ok(Duration::Expr(Arc::new(expr))),
        }
    }

    fn fixed(&self, number: NumberLiteral) -> Parsed<i64> {
        let nanoseconds = (number.value * 1e9).round();
        if nanoseconds.is_nan() || nanoseconds.abs() >= i64::MAX as f64 {
            return Err(self.error(number.pos, "duration out of range"));
        }
        Ok(nanoseconds as i64 / 1_000_000)
    }

    fn duration_expr(&mut self, place: Place<'_>, min_precedence: u8) -> Parsed<DurationExpr> {
        let start = self.peek()?.start;
        self.nested(start, |p| {
            let mut lhs = p.duration_unary(place)?;
            loop {
                let TokenKind::Op(op) = p.peek()?.kind else { return Ok(lhs) };
                let arithmetic = matches!(
                    op,
                    BinaryOp::Add
                        | BinaryOp::Sub
                        | BinaryOp::Mul
                        | BinaryOp::Div
                        | BinaryOp::Mod
                        | BinaryOp::Pow
                );
                let precedence = binary::precedence(op);
                if !arithmetic || precedence < min_precedence {
                    return Ok(lhs);
                }
                p.duration_operators += 1;
                if p.duration_operators > p.limits.durations {
                    return Err(p.too_deep(start));
                }
                let operator = p.next()?;
                let rhs = p.duration_expr(place, precedence + u8::from(op != BinaryOp::Pow))?;
                let by_zero = match op {
                    BinaryOp::Div => Some("division by zero"),
                    BinaryOp::Mod => Some("modulo by zero"),
                    _ => None,
                };
                // What is only found to be zero by evaluation is refused there.
                if let (Some(message), DurationExpr::Number(divisor)) = (by_zero, &rhs)
                    && divisor.value == 0.0
                {
                    return Err(p.error(Self::token_pos(operator), message));
                }
                let pos = p.pos_from(start);
                lhs = DurationExpr::Binary { op, lhs: Box::new(lhs), rhs: Box::new(rhs), pos };
            }
        })
    }

    fn duration_unary(&mut self, place: Place<'_>) -> Parsed<DurationExpr> {
        let token = self.peek()?;
        let negative = match token.kind {
            TokenKind::Op(BinaryOp::Sub) => true,
            TokenKind::Op(BinaryOp::Add) => false,
            _ => return self.duration_operand(place),
        };
        self.next()?;
        let operand = self.duration_expr(place, binary::POW_PRECEDENCE)?;
        Ok(self.sign(negative, operand, token.start))
    }

    fn sign(&self, negative: bool, operand: DurationExpr, start: usize) -> DurationExpr {
        let pos = self.pos_from(start);
        match operand {
            DurationExpr::Number(n) => {
                let value = if negative { -n.value } else { n.value };
                DurationExpr::Number(NumberLiteral { value, pos, ..n })
            }
            operand if !negative => operand,
            operand => DurationExpr::Unary { negative, expr: Box::new(operand), pos },
        }
    }

    fn duration_operand(&mut self, place: Place<'_>) -> Parsed<DurationExpr> {
        let token = self.peek()?;
        match token.kind {
            TokenKind::Number | TokenKind::Duration => self.number().map(DurationExpr::Number),
            TokenKind::LeftParen => {
                self.next()?;
                let inner = self.duration_expr(place, 0)?;
                self.expect(TokenKind::RightParen, place)?;
                let pos = self.pos_from(token.start);
                Ok(parenthesised(inner, pos))
            }
            TokenKind::Bound(word) if !matches!(word, BoundWord::Start | BoundWord::End) => {
                self.next()?;
                self.duration_function(word, token.start, place)
            }
            _ => self.unexpected(place.context, place.expected),
        }
    }

    fn duration_function(&mut self, word: BoundWord, start: usize, place: Place<'_>) -> Parsed<DurationExpr> {
        self.expect(TokenKind::LeftParen, place)?;
        if matches!(word, BoundWord::Step | BoundWord::Range) {
            self.expect(TokenKind::RightParen, place)?;
            let pos = self.pos_from(start);
            return Ok(if word == BoundWord::Step {
                DurationExpr::Step(pos)
            } else {
                DurationExpr::Range(pos)
            });
        }
        let lhs = Box::new(self.duration_expr(place, 0)?);
        self.expect(TokenKind::Comma, place)?;
        let rhs = Box::new(self.duration_expr(place, 0)?);
        self.expect(TokenKind::RightParen, place)?;
        let pos = self.pos_from(start);
        Ok(if word == BoundWord::MinOf {
            DurationExpr::MinOf(lhs, rhs, pos)
        } else {
            DurationExpr::MaxOf(lhs, rhs, pos)
        })
    }

    fn expect(&mut self, kind: TokenKind, place: Place<'_>) -> Parsed<()> {
        match self.next_if(kind)? {
            Some(_) => Ok(()),
            None => self.unexpected(place.context, place.expected),
        }
    }
}

/// Parentheses matter around operators only, and once.
fn parenthesised(inner: DurationExpr, pos: Pos) -> DurationExpr {
    match inner {
        DurationExpr::Number(number) => DurationExpr::Number(number),
        DurationExpr::Paren(inner, _) => DurationExpr::Paren(inner, pos),
        inner => DurationExpr::Paren(Box::new(inner), pos),
    }
}
