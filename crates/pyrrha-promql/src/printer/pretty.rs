//! The pretty printer: what is longer than a line is split, two blanks of indent a level.

use std::fmt::Write;

use super::{AggregateHead, Operator, SubquerySuffix, infinite_base};
use crate::ast::Expr;
use crate::depth::with_room;

/// Longest expression that stays on one line, in bytes.
const LINE: usize = 100;

/// The expression over several lines, as `format_query` returns it; on one, if it is deep and no thread with
/// the stack for it starts.
pub fn pretty(expr: &Expr) -> String {
    let printed = with_room(expr.height(), || {
        let mut out = String::new();
        layout(expr, 0, &mut out);
        out
    });
    printed.unwrap_or_else(|_| expr.to_string())
}

fn indent(level: usize, out: &mut String) {
    out.extend(std::iter::repeat_n("  ", level));
}

fn layout(expr: &Expr, level: usize, out: &mut String) {
    if let Some(line) = line(expr) {
        // Prometheus does not indent a subquery that fits; tools compare its output byte for byte.
        if !matches!(expr, Expr::Subquery(_)) {
            indent(level, out);
        }
        out.push_str(&line);
        return;
    }
    match expr {
        Expr::Number(_) | Expr::String(_) | Expr::Selector(_) | Expr::Matrix(_) => {
            indent(level, out);
            out.push_str(&expr.to_string());
        }
        Expr::Subquery(e) => {
            layout(&e.expr, level, out);
            out.push_str(&SubquerySuffix(e).to_string());
        }
        Expr::Unary(e) => {
            indent(level, out);
            out.push(if e.negative { '-' } else { '+' });
            let mut operand = String::new();
            layout(&e.expr, level, &mut operand);
            out.push_str(operand.trim_start());
        }
        Expr::Paren(e) => block("(", std::iter::once(&*e.expr), level, out),
        Expr::Call(e) => block(&format!("{}(", e.function.name), e.args.iter(), level, out),
        Expr::Aggregate(e) => {
            let args = e.param.as_deref().into_iter().chain(std::iter::once(&*e.expr));
            block(&format!("{}(", AggregateHead(e)), args, level, out);
        }
        Expr::Binary(e) => {
            match infinite_base(e) {
                Some(base) => {
                    indent(level + 1, out);
                    out.push_str(base);
                }
                None => layout(&e.lhs, level + 1, out),
            }
            out.push('\n');
            indent(level, out);
            out.push_str(&Operator(e).to_string());
            out.push('\n');
            layout(&e.rhs, level + 1, out);
        }
    }
}

/// The expression on one line, if it fits; what does not is not printed to its end.
fn line(expr: &Expr) -> Option<String> {
    let mut line = Line(String::new());
    write!(line, "{expr}").ok().map(|()| line.0)
}

/// Takes at most [`LINE`] bytes.
struct Line(String);

impl Write for Line {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        if self.0.len() + text.len() > LINE {
            return Err(std::fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

/// `head`, the parts on lines of their own, `)`.
fn block<'e>(head: &str, parts: impl Iterator<Item = &'e Expr>, level: usize, out: &mut String) {
    indent(level, out);
    out.push_str(head);
    for (i, part) in parts.enumerate() {
        out.push_str(if i == 0 { "\n" } else { ",\n" });
        layout(part, level + 1, out);
    }
    out.push('\n');
    indent(level, out);
    out.push(')');
}
