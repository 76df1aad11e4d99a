//! The pretty printer: what is longer than a line is split, two blanks of indent a level.

use super::{AggregateHead, Operator, SubquerySuffix};
use crate::ast::Expr;

/// Longest expression that stays on one line, in bytes.
const LINE: usize = 100;

/// The expression over several lines, as `format_query` returns it.
pub fn pretty(expr: &Expr) -> String {
    let mut out = String::new();
    write(expr, 0, &mut out);
    out
}

fn indent(level: usize, out: &mut String) {
    out.extend(std::iter::repeat_n("  ", level));
}

fn write(expr: &Expr, level: usize, out: &mut String) {
    let line = expr.to_string();
    if line.len() <= LINE {
        indent(level, out);
        out.push_str(&line);
        return;
    }
    match expr {
        Expr::Number(_) | Expr::String(_) | Expr::Selector(_) | Expr::Matrix(_) => {
            indent(level, out);
            out.push_str(&line);
        }
        Expr::Subquery(e) => {
            write(&e.expr, level, out);
            out.push_str(&SubquerySuffix(e).to_string());
        }
        Expr::Unary(e) => {
            indent(level, out);
            out.push(if e.negative { '-' } else { '+' });
            let mut operand = String::new();
            write(&e.expr, level, &mut operand);
            out.push_str(operand.trim_start());
        }
        Expr::Paren(e) => block("(", std::iter::once(&*e.expr), level, out),
        Expr::Call(e) => block(&format!("{}(", e.function.name), e.args.iter(), level, out),
        Expr::Aggregate(e) => {
            let args = e.param.as_deref().into_iter().chain(std::iter::once(&*e.expr));
            block(&format!("{}(", AggregateHead(e)), args, level, out);
        }
        Expr::Binary(e) => {
            write(&e.lhs, level + 1, out);
            out.push('\n');
            indent(level, out);
            out.push_str(&Operator(e).to_string());
            out.push('\n');
            write(&e.rhs, level + 1, out);
        }
    }
}

/// `head`, the parts on lines of their own, `)`.
fn block<'e>(head: &str, parts: impl Iterator<Item = &'e Expr>, level: usize, out: &mut String) {
    indent(level, out);
    out.push_str(head);
    for (i, part) in parts.enumerate() {
        out.push_str(if i == 0 { "\n" } else { ",\n" });
        write(part, level + 1, out);
    }
    out.push('\n');
    indent(level, out);
    out.push(')');
}
