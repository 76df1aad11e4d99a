//! Prints expressions exactly as Prometheus does: positions in annotations are computed on
//! re-printed text too.

mod pretty;
#[cfg(test)]
mod tests;

pub use pretty::pretty;

use std::fmt::{self, Display, Formatter};

use pyrrha_model::go_fmt;
use pyrrha_model::labels::is_legacy_label_name;
use pyrrha_model::time::DurationDisplay;
use pyrrha_model::{METRIC_NAME, MatchOp};

use crate::ast::{
    Aggregate, At, AtBound, Binary, BinaryOp, Cardinality, Duration, DurationExpr, Expr, MatrixSelector,
    NumberLiteral, Pos, RangeMode, Subquery, VectorMatching, VectorSelector,
};
use crate::depth::with_room;
use crate::lexer::raw_byte;

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(e) => e.fmt(f),
            Self::String(e) => f.write_str(&quoted(&e.value)),
            Self::Selector(e) => e.fmt(f),
            Self::Matrix(e) => e.fmt(f),
            Self::Subquery(e) => write!(f, "{}{}", e.expr, SubquerySuffix(e)),
            Self::Paren(e) => write!(f, "({})", e.expr),
            Self::Unary(e) => write!(f, "{}{}", sign(e.negative), e.expr),
            Self::Binary(e) => chain(e, f),
            Self::Call(e) => {
                write!(f, "{}(", e.function.name)?;
                for (i, arg) in e.args.iter().enumerate() {
                    write!(f, "{}{arg}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str(")")
            }
            Self::Aggregate(e) => {
                write!(f, "{}(", AggregateHead(e))?;
                if let Some(param) = &e.param {
                    write!(f, "{param}, ")?;
                }
                write!(f, "{})", e.expr)
            }
        }
    }
}

/// A chain of binary operators from its leftmost operand on. Prints in a loop, as chains may be long.
fn chain(last: &Binary, f: &mut Formatter<'_>) -> fmt::Result {
    let mut chain = vec![last];
    let mut binary = last;
    loop {
        match (infinite_base(binary), &*binary.lhs) {
            (Some(base), _) => f.write_str(base)?,
            (None, Expr::Binary(lhs)) => {
                chain.push(lhs);
                binary = lhs;
                continue;
            }
            (None, lhs) => lhs.fmt(f)?,
        }
        break;
    }
    chain.into_iter().rev().try_for_each(|e| write!(f, " {} {}", Operator(e), e.rhs))
}

impl Expr {
    /// Whether both are the same but for positions; NaN literals are equal. For tests and tools.
    pub fn eq_ignoring_pos(&self, other: &Self) -> bool {
        let text = |expr: &Self| {
            let mut expr = expr.clone();
            strip_positions(&mut expr);
            format!("{expr:?}")
        };
        let height = self.height().max(other.height());
        // Where there is no room to compare they are not known to be the same.
        with_room(height, || text(self) == text(other)).unwrap_or(false)
    }
}

impl Display for NumberLiteral {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.duration {
            DurationDisplay((self.value * 1000.0).round() as i64).fmt(f)
        } else {
            f.write_str(&go_fmt::float_f(self.value))
        }
    }
}

impl Display for VectorSelector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_name_and_matchers(self, f)?;
        write!(f, "{}{}{}", AtSuffix(self.at), ModeSuffix(self.mode), OffsetSuffix(&self.offset))
    }
}

impl Display for MatrixSelector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let selector = &self.selector;
        write_name_and_matchers(selector, f)?;
        write!(
            f,
            "[{}]{}{}{}",
            self.range,
            ModeSuffix(selector.mode),
            AtSuffix(selector.at),
            OffsetSuffix(&selector.offset)
        )
    }
}

impl Display for Duration {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(ms) => DurationDisplay(*ms).fmt(f),
            Self::Expr(expr) => expr.fmt(f),
        }
    }
}

impl Display for DurationExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Step(_) => f.write_str("step()"),
            Self::Range(_) => f.write_str("range()"),
            Self::MinOf(a, b, _) => write!(f, "min_of({a}, {b})"),
            Self::MaxOf(a, b, _) => write!(f, "max_of({a}, {b})"),
            Self::Unary { negative, expr, .. } => write!(f, "{}{expr}", sign(*negative)),
            Self::Binary { op, lhs, rhs, .. } => write!(f, "{lhs} {} {rhs}", op.as_str()),
            Self::Paren(inner, _) => write!(f, "({inner})"),
        }
    }
}

/// A string literal that the lexer reads back as `text`: with `\xff` for a byte that is no UTF-8.
pub(crate) fn quoted(text: &str) -> String {
    readable(go_fmt::quote(text))
}

/// The lexer takes a bare U+FFFD for text that was no UTF-8: as an escape it is read back.
fn readable(quoted: String) -> String {
    if !quoted.contains('\u{FFFD}') && !quoted.contains("\\U0010ff") {
        return quoted;
    }
    let mut out = String::with_capacity(quoted.len());
    let mut rest = quoted.as_str();
    while let Some(c) = rest.chars().next() {
        // Escapes are taken as a whole, so that a quoted backslash hides what follows it.
        let escape = if c == '\\' { rest.get(..2).unwrap_or(rest) } else { &rest[..c.len_utf8()] };
        let code = rest.strip_prefix("\\U").and_then(|r| u32::from_str_radix(r.get(..8)?, 16).ok());
        let taken = match code.and_then(char::from_u32).and_then(raw_byte) {
            Some(byte) => {
                out.push_str(&format!("\\x{byte:02x}"));
                10
            }
            None if c == '\u{FFFD}' => {
                out.push_str("\\ufffd");
                c.len_utf8()
            }
            None => {
                out.push_str(escape);
                escape.len()
            }
        };
        rest = &rest[taken..];
    }
    out
}

fn sign(negative: bool) -> &'static str {
    if negative { "-" } else { "+" }
}

fn write_name_and_matchers(selector: &VectorSelector, f: &mut Formatter<'_>) -> fmt::Result {
    let name = selector.name.as_deref().unwrap_or("");
    // The matcher of the name in front of the braces is not repeated inside.
    let is_name = |m: &pyrrha_model::Matcher| {
        m.name == METRIC_NAME && m.op == MatchOp::Equal && m.value == name && !name.is_empty()
    };
    let mut matchers: Vec<String> =
        selector.matchers.iter().filter(|m| !is_name(m)).map(|m| readable(m.to_string())).collect();
    f.write_str(name)?;
    if matchers.is_empty() && !name.is_empty() {
        return Ok(());
    }
    matchers.sort_unstable();
    write!(f, "{{{}}}", matchers.join(","))
}

/// ` @ 1.500`, ` @ start()`.
struct AtSuffix(Option<At>);

impl Display for AtSuffix {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => Ok(()),
            Some(At::Time(ms)) => write!(f, " @ {:.3}", ms as f64 / 1000.0),
            Some(At::Bound(AtBound::Start)) => f.write_str(" @ start()"),
            Some(At::Bound(AtBound::End)) => f.write_str(" @ end()"),
        }
    }
}

/// ` anchored`, ` smoothed`.
struct ModeSuffix(RangeMode);

impl Display for ModeSuffix {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            RangeMode::Classic => "",
            RangeMode::Anchored => " anchored",
            RangeMode::Smoothed => " smoothed",
        })
    }
}

/// ` offset 5m`.
struct OffsetSuffix<'a>(&'a Duration);

impl Display for OffsetSuffix<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            &Duration::ZERO => Ok(()),
            offset => write!(f, " offset {offset}"),
        }
    }
}

/// `[5m:1m] @ 1.000 offset 5m`.
struct SubquerySuffix<'a>(&'a Subquery);

impl Display for SubquerySuffix<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let subquery = self.0;
        write!(f, "[{}:", subquery.range)?;
        if let Some(step) = &subquery.step {
            step.fmt(f)?;
        }
        write!(f, "]{}{}", AtSuffix(subquery.at), OffsetSuffix(&subquery.offset))
    }
}

/// `sum by (a, b) `, without the arguments.
struct AggregateHead<'a>(&'a Aggregate);

impl Display for AggregateHead<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Aggregate { op, grouping, without, .. } = self.0;
        f.write_str(op.as_str())?;
        match (without, grouping.is_empty()) {
            (true, _) => write!(f, " without ({}) ", LabelList(grouping)),
            (false, false) => write!(f, " by ({}) ", LabelList(grouping)),
            (false, true) => Ok(()),
        }
    }
}

/// How infinity is written on the left of `^`: the sign of `+Inf` would take the power for its operand.
fn infinite_base(binary: &Binary) -> Option<&'static str> {
    match &*binary.lhs {
        Expr::Number(base) if binary.op == BinaryOp::Pow && base.value == f64::INFINITY => Some("Inf"),
        _ => None,
    }
}

/// `== bool on (a) group_left (b) fill (0)`, without the operands.
struct Operator<'a>(&'a Binary);

impl Display for Operator<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.op.as_str())?;
        if self.0.return_bool {
            f.write_str(" bool")?;
        }
        match &self.0.matching {
            Some(matching) => write_matching(matching, f),
            None => Ok(()),
        }
    }
}

fn write_matching(matching: &VectorMatching, f: &mut Formatter<'_>) -> fmt::Result {
    let group = match matching.card {
        Cardinality::ManyToOne => Some("group_left"),
        Cardinality::OneToMany => Some("group_right"),
        Cardinality::OneToOne | Cardinality::ManyToMany => None,
    };
    if matching.on || !matching.labels.is_empty() || group.is_some() {
        let word = if matching.on { "on" } else { "ignoring" };
        write!(f, " {word} ({})", LabelList(&matching.labels))?;
    }
    if let Some(group) = group {
        write!(f, " {group} ({})", LabelList(&matching.include))?;
    }
    match (matching.fill_left, matching.fill_right) {
        (Some(left), Some(right)) if left == right || left.is_nan() && right.is_nan() => {
            write!(f, " fill ({})", go_fmt::float_g(left))
        }
        (left, right) => {
            for (word, value) in [("fill_left", left), ("fill_right", right)] {
                if let Some(value) = value {
                    write!(f, " {word} ({})", go_fmt::float_g(value))?;
                }
            }
            Ok(())
        }
    }
}

/// `a, b, "c.d"`.
struct LabelList<'a>(&'a [String]);

impl Display for LabelList<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (i, label) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            if is_legacy_label_name(label) {
                f.write_str(label)?;
            } else {
                f.write_str(&quoted(label))?;
            }
        }
        Ok(())
    }
}

fn strip_positions(expr: &mut Expr) {
    let none = Pos::default();
    match expr {
        Expr::Number(e) => e.pos = none,
        Expr::String(e) => e.pos = none,
        Expr::Selector(e) => strip_selector(e),
        Expr::Matrix(e) => {
            e.pos = none;
            strip_selector(&mut e.selector);
            strip_duration(&mut e.range);
        }
        Expr::Subquery(e) => {
            e.pos = none;
            strip_positions(&mut e.expr);
            strip_duration(&mut e.range);
            strip_duration(&mut e.offset);
            e.step.iter_mut().for_each(strip_duration);
        }
        Expr::Paren(e) => {
            e.pos = none;
            strip_positions(&mut e.expr);
        }
        Expr::Unary(e) => {
            e.pos = none;
            strip_positions(&mut e.expr);
        }
        Expr::Binary(e) => {
            e.pos = none;
            strip_positions(&mut e.lhs);
            strip_positions(&mut e.rhs);
        }
        Expr::Call(e) => {
            e.pos = none;
            e.args.iter_mut().for_each(strip_positions);
        }
        Expr::Aggregate(e) => {
            e.pos = none;
            strip_positions(&mut e.expr);
            if let Some(param) = &mut e.param {
                strip_positions(param);
            }
        }
    }
}

fn strip_selector(selector: &mut VectorSelector) {
    selector.pos = Pos::default();
    // Printing sorts matchers; their order has no meaning.
    selector.matchers.sort_by_key(ToString::to_string);
    strip_duration(&mut selector.offset);
}

fn strip_duration(duration: &mut Duration) {
    if let Duration::Expr(expr) = duration {
        strip_duration_expr(std::sync::Arc::make_mut(expr));
    }
}

fn strip_duration_expr(expr: &mut DurationExpr) {
    match expr {
        DurationExpr::Number(number) => number.pos = Pos::default(),
        DurationExpr::Step(pos) | DurationExpr::Range(pos) => *pos = Pos::default(),
        DurationExpr::MinOf(a, b, pos) | DurationExpr::MaxOf(a, b, pos) => {
            *pos = Pos::default();
            strip_duration_expr(a);
            strip_duration_expr(b);
        }
        DurationExpr::Unary { expr, pos, .. } | DurationExpr::Paren(expr, pos) => {
            *pos = Pos::default();
            strip_duration_expr(expr);
        }
        DurationExpr::Binary { lhs, rhs, pos, .. } => {
            *pos = Pos::default();
            strip_duration_expr(lhs);
            strip_duration_expr(rhs);
        }
    }
}
