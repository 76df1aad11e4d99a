//! Binary operators: precedence, matching modifiers, label lists.

use super::{Parsed, Parser};
use crate::ast::{Binary, BinaryOp, Cardinality, Expr, Pos, VectorMatching};
use crate::lexer::{Keyword, TokenKind};

/// Of `^`, which binds tighter than all others and to the right.
pub(super) const POW_PRECEDENCE: u8 = 6;

/// How tightly an operator binds; unary operators bind like `*`.
pub(super) fn precedence(op: BinaryOp) -> u8 {
    match op {
        BinaryOp::Or => 1,
        BinaryOp::And | BinaryOp::Unless => 2,
        BinaryOp::Eq
        | BinaryOp::Ne
        | BinaryOp::Gt
        | BinaryOp::Lt
        | BinaryOp::Ge
        | BinaryOp::Le
        | BinaryOp::TrimUpper
        | BinaryOp::TrimLower => 3,
        BinaryOp::Add | BinaryOp::Sub => 4,
        BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod | BinaryOp::Atan2 => 5,
        BinaryOp::Pow => POW_PRECEDENCE,
    }
}

impl Parser<'_> {
    /// The operator at the lookahead, its modifiers and its right operand.
    pub(super) fn binary(&mut self, op: BinaryOp, precedence: u8, lhs: Expr) -> Parsed<Expr> {
        let lhs_size = self.size;
        self.next()?;
        let return_bool = self.next_if(TokenKind::Keyword(Keyword::Bool))?.is_some();
        let matching = self.matching()?;
        let rhs = self.expr(if op == BinaryOp::Pow { precedence } else { precedence + 1 })?;
        let pos = Pos { start: lhs.pos().start, end: rhs.pos().end };
        self.raise_binary(lhs_size, self.size, pos.start as usize)?;
        Ok(Expr::Binary(Binary {
            op,
            lhs: Box::new(lhs),
            rhs: Box::new(rhs),
            return_bool,
            matching: Some(matching),
            pos,
        }))
    }

    fn matching(&mut self) -> Parsed<VectorMatching> {
        let mut matching = VectorMatching::default();
        match self.peek()?.kind {
            TokenKind::Keyword(Keyword::On) => matching.on = true,
            TokenKind::Keyword(Keyword::Ignoring) => {}
            _ => {
                self.fill_modifiers(&mut matching)?;
                return Ok(matching);
            }
        }
        self.next()?;
        matching.labels = self.label_list()?;
        matching.card = match self.peek()?.kind {
            TokenKind::Keyword(Keyword::GroupLeft) => Cardinality::ManyToOne,
            TokenKind::Keyword(Keyword::GroupRight) => Cardinality::OneToMany,
            _ => Cardinality::OneToOne,
        };
        if matching.card != Cardinality::OneToOne {
            self.next()?;
            if self.peek()?.kind == TokenKind::LeftParen {
                matching.include = self.label_list()?;
            }
        }
        self.fill_modifiers(&mut matching)?;
        Ok(matching)
    }

    fn fill_modifiers(&mut self, matching: &mut VectorMatching) -> Parsed<()> {
        match self.peek()?.kind {
            TokenKind::Keyword(Keyword::Fill) => {
                let value = Some(self.fill_value()?);
                (matching.fill_left, matching.fill_right) = (value, value);
            }
            TokenKind::Keyword(Keyword::FillLeft) => {
                matching.fill_left = Some(self.fill_value()?);
                if self.peek()?.kind == TokenKind::Keyword(Keyword::FillRight) {
                    matching.fill_right = Some(self.fill_value()?);
                }
            }
            TokenKind::Keyword(Keyword::FillRight) => {
                matching.fill_right = Some(self.fill_value()?);
                if self.peek()?.kind == TokenKind::Keyword(Keyword::FillLeft) {
                    matching.fill_left = Some(self.fill_value()?);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// `fill(-1.5)`: the keyword is the lookahead.
    fn fill_value(&mut self) -> Parsed<f64> {
        let keyword = self.next()?;
        if self.next_if(TokenKind::LeftParen)?.is_none() {
            return self.unexpected_here();
        }
        let value = self.signed_number()?;
        if self.next_if(TokenKind::RightParen)?.is_none() {
            return self.unexpected_here();
        }
        if !self.features.binop_fill_modifiers {
            return Err(
                self.error(Self::token_pos(keyword), "binop fill modifiers are experimental and not enabled")
            );
        }
        Ok(value)
    }

    fn signed_number(&mut self) -> Parsed<f64> {
        let negative = match self.peek()?.kind {
            TokenKind::Op(BinaryOp::Sub) => true,
            TokenKind::Op(BinaryOp::Add) => false,
            TokenKind::Number | TokenKind::Duration => return Ok(self.number()?.value),
            _ => return self.unexpected_here(),
        };
        self.next()?;
        match self.peek()?.kind {
            TokenKind::Number | TokenKind::Duration => {
                let value = self.number()?.value;
                Ok(if negative { -value } else { value })
            }
            _ => self.unexpected_here(),
        }
    }

    /// `(a, b, "c.d",)`.
    pub(super) fn label_list(&mut self) -> Parsed<Vec<String>> {
        const CONTEXT: &str = "grouping opts";
        if self.next_if(TokenKind::LeftParen)?.is_none() {
            return self.unexpected(CONTEXT, "\"(\"");
        }
        let mut labels = Vec::new();
        if self.next_if(TokenKind::RightParen)?.is_some() {
            return Ok(labels);
        }
        loop {
            let token = self.peek()?;
            let label = if Self::is_label_word(token) {
                self.text(token).to_owned()
            } else if token.kind == TokenKind::String {
                self.unquoted(token)?
            } else {
                return self.unexpected(CONTEXT, "label");
            };
            self.next()?;
            if label.is_empty() {
                return Err(self.error_at(token.start, "invalid label name for grouping: \"\""));
            }
            labels.push(label);
            let after = self.peek()?.kind;
            if !matches!(after, TokenKind::Comma | TokenKind::RightParen) {
                return self.unexpected(CONTEXT, "\",\" or \")\"");
            }
            self.next()?;
            if after == TokenKind::RightParen || self.next_if(TokenKind::RightParen)?.is_some() {
                return Ok(labels);
            }
        }
    }
}
