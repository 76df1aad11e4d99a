//! Function calls and aggregations.

use pyrrha_model::go_fmt;

use super::{Parsed, Parser, Size};
use crate::ast::{Aggregate, AggregateOp, Call, Expr};
use crate::function;
use crate::lexer::{Keyword, Token, TokenKind};

impl Parser<'_> {
    /// `name(args)`; the name is consumed, `(` is the lookahead.
    pub(super) fn call(&mut self, name: Token) -> Parsed<Expr> {
        let args = self.args()?;
        self.raise(self.size, name.start)?;
        let text = self.text(name);
        let Some(function) = function::lookup(text) else {
            let message = format!("unknown function with name {}", go_fmt::quote(text));
            return Err(self.error(Self::token_pos(name), message));
        };
        if function.experimental && !self.features.experimental_functions {
            let message = format!("function {} is not enabled", go_fmt::quote(text));
            return Err(self.error(Self::token_pos(name), message));
        }
        Ok(Expr::Call(Call { function, args, pos: self.pos_from(name.start) }))
    }

    /// `(a, b)`; leaves the size of all arguments together.
    fn args(&mut self) -> Parsed<Vec<Expr>> {
        self.next()?;
        let mut args = Vec::new();
        let mut size = Size::NOTHING;
        if self.next_if(TokenKind::RightParen)?.is_some() {
            self.size = size;
            return Ok(args);
        }
        loop {
            args.push(self.expr(0)?);
            size = size.max(self.size);
            let after = self.peek()?;
            match after.kind {
                TokenKind::RightParen => {
                    self.next()?;
                    self.size = size;
                    return Ok(args);
                }
                TokenKind::Comma => self.next()?,
                _ => return self.unexpected_here(),
            };
            if !self.starts_expr()? {
                return Err(
                    self.error(Self::token_pos(after), "trailing commas not allowed in function call args")
                );
            }
        }
    }

    /// What begins with an aggregator's name, which is consumed: an aggregation, or a metric of
    /// that name.
    pub(super) fn aggregation_or_metric(&mut self, op: AggregateOp, name: Token) -> Parsed<Expr> {
        match self.peek()?.kind {
            TokenKind::LeftParen | TokenKind::Keyword(Keyword::By | Keyword::Without) => {
                self.aggregation(op, name)
            }
            _ => self.selector(Some(name)).map(Expr::Selector),
        }
    }

    fn aggregation(&mut self, op: AggregateOp, name: Token) -> Parsed<Expr> {
        let mut grouping = self.grouping()?;
        if self.peek()?.kind != TokenKind::LeftParen {
            return self.unexpected("aggregation", "");
        }
        self.open_aggregations += 1;
        let mut args = self.args()?;
        self.open_aggregations -= 1;
        let size = self.size;
        if grouping.is_none() {
            grouping = self.grouping()?;
        }
        self.raise(size, name.start)?;

        let pos = self.pos_from(name.start);
        if args.is_empty() {
            return Err(self.error(pos, "no arguments for aggregate expression provided"));
        }
        if op.is_experimental() && !self.features.experimental_functions {
            let message = format!(
                "{}() is experimental and must be enabled with --enable-feature=promql-experimental-functions",
                op.as_str()
            );
            return Err(self.error(pos, message));
        }
        let expected = if op.has_param() { 2 } else { 1 };
        let given = args.len();
        let (Some(expr), true) = (args.pop(), given == expected) else {
            let message = format!(
                "wrong number of arguments for aggregate expression provided, expected {expected}, got {given}"
            );
            return Err(self.error(pos, message));
        };
        let (without, grouping) = grouping.unwrap_or_default();
        Ok(Expr::Aggregate(Aggregate {
            op,
            expr: Box::new(expr),
            param: args.pop().map(Box::new),
            grouping,
            without,
            pos,
        }))
    }

    /// `by (a)` or `without (a)`, if it is there: whether `without`, and the labels.
    fn grouping(&mut self) -> Parsed<Option<(bool, Vec<String>)>> {
        let without = match self.peek()?.kind {
            TokenKind::Keyword(Keyword::By) => false,
            TokenKind::Keyword(Keyword::Without) => true,
            _ => return Ok(None),
        };
        self.next()?;
        Ok(Some((without, self.label_list()?)))
    }
}
