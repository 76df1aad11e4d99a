//! Types and arity, checked from the leaves up once the syntax is right.

use pyrrha_model::METRIC_NAME;
use pyrrha_model::go_fmt::quote;

use super::{ParseError, Parsed, selector::name_twice};
use crate::ast::{
    Aggregate, AggregateOp, Binary, BinaryOp, Call, Cardinality, Expr, Pos, Subquery, Unary, ValueType,
    VectorMatching, VectorSelector,
};
use crate::function::FunctionId;

/// Checks `expr` and settles what only types decide: which operators match vectors.
pub(super) fn check(query: &str, expr: &mut Expr) -> Parsed<()> {
    Checker { query }.expr(expr).map(drop)
}

/// Checks that a selector names its metric once. It may match everything.
pub(super) fn selector(query: &str, selector: &VectorSelector) -> Parsed<()> {
    Checker { query }.selector(selector, true)
}

struct Checker<'q> {
    query: &'q str,
}

impl Checker<'_> {
    fn error<T>(&self, pos: Pos, message: impl Into<String>) -> Parsed<T> {
        Err(ParseError::new(self.query, pos, message))
    }

    fn expr(&self, expr: &mut Expr) -> Parsed<ValueType> {
        match expr {
            Expr::Number(_) | Expr::String(_) => {}
            Expr::Selector(e) => self.selector(e, false)?,
            Expr::Matrix(e) => self.selector(&e.selector, false)?,
            Expr::Subquery(e) => self.subquery(e)?,
            Expr::Paren(e) => return self.expr(&mut e.expr),
            Expr::Unary(e) => self.unary(e)?,
            Expr::Binary(e) => return self.binary(e),
            Expr::Call(e) => self.call(e)?,
            Expr::Aggregate(e) => self.aggregate(e)?,
        }
        Ok(expr.value_type())
    }

    fn selector(&self, selector: &VectorSelector, may_be_empty: bool) -> Parsed<()> {
        if let Some(name) = &selector.name {
            // The first matcher is the one of the name before the braces.
            return match selector.matchers.iter().skip(1).find(|m| m.name == METRIC_NAME) {
                Some(other) => self.error(selector.pos, name_twice(name, &other.value)),
                None => Ok(()),
            };
        }
        if may_be_empty || selector.matchers.iter().any(|m| !m.matches_empty()) {
            return Ok(());
        }
        self.error(selector.pos, "vector selector must contain at least one non-empty matcher")
    }

    fn subquery(&self, subquery: &mut Subquery) -> Parsed<()> {
        match self.expr(&mut subquery.expr)? {
            ValueType::Vector => Ok(()),
            other => self.error(
                subquery.pos,
                format!("subquery is only allowed on instant vector, got {} instead", other.as_str()),
            ),
        }
    }

    fn unary(&self, unary: &mut Unary) -> Parsed<()> {
        match self.expr(&mut unary.expr)? {
            ValueType::Scalar | ValueType::Vector => Ok(()),
            other => self.error(
                unary.pos,
                format!(
                    "unary expression only allowed on expressions of type scalar or instant vector, got {}",
                    quote(other.describe())
                ),
            ),
        }
    }

    fn binary(&self, binary: &mut Binary) -> Parsed<ValueType> {
        let lhs = self.expr(&mut binary.lhs)?;
        let rhs = self.expr(&mut binary.rhs)?;
        let op = binary.op;
        let scalars = lhs == ValueType::Scalar && rhs == ValueType::Scalar;
        if binary.return_bool && !op.is_comparison() {
            return self
                .error(self.operator_pos(binary), "bool modifier can only be used on comparison operators");
        }
        if op.is_comparison() && !binary.return_bool && scalars {
            return self
                .error(self.operator_pos(binary), "comparisons between scalars must use BOOL modifier");
        }
        let matching = binary.matching.take().unwrap_or_default();
        if matching.on
            && let Some(twice) = matching.labels.iter().find(|l| matching.include.contains(l))
        {
            let message = format!("label {} must not occur in ON and GROUP clause at once", quote(twice));
            return self.error(self.operator_pos(binary), message);
        }
        for (ty, operand) in [(lhs, &binary.lhs), (rhs, &binary.rhs)] {
            if !matches!(ty, ValueType::Scalar | ValueType::Vector) {
                return self.error(
                    operand.pos(),
                    "binary expression must contain only scalar and instant vector types",
                );
            }
        }
        binary.matching = if lhs == ValueType::Vector && rhs == ValueType::Vector {
            Some(self.vector_matching(op, matching, binary.pos)?)
        } else {
            self.no_matching(op, &matching, binary.pos)?;
            None
        };
        Ok(if scalars { ValueType::Scalar } else { ValueType::Vector })
    }

    fn vector_matching(
        &self,
        op: BinaryOp,
        mut matching: VectorMatching,
        pos: Pos,
    ) -> Parsed<VectorMatching> {
        if !op.is_set() {
            return Ok(matching);
        }
        if matching.card != Cardinality::OneToOne {
            return self.error(pos, format!("no grouping allowed for {} operation", quote(op.as_str())));
        }
        if matching.fill_left.is_some() || matching.fill_right.is_some() {
            return self.error(pos, "filling in missing series not allowed for set operators");
        }
        matching.card = Cardinality::ManyToMany;
        Ok(matching)
    }

    fn no_matching(&self, op: BinaryOp, matching: &VectorMatching, pos: Pos) -> Parsed<()> {
        if !matching.labels.is_empty() {
            return self.error(pos, "vector matching only allowed between instant vectors");
        }
        if matching.fill_left.is_some() || matching.fill_right.is_some() {
            return self.error(pos, "filling in missing series only allowed between instant vectors");
        }
        if op.is_set() {
            return self.error(
                pos,
                format!("set operator {} not allowed in binary scalar expression", quote(op.as_str())),
            );
        }
        Ok(())
    }

    /// Where the operator stands: behind the left operand, blanks skipped.
    fn operator_pos(&self, binary: &Binary) -> Pos {
        let (mut start, mut end) = (binary.lhs.pos().end, binary.rhs.pos().start);
        let bytes = self.query.as_bytes();
        let blank = |at: u32| bytes.get(at as usize).is_some_and(u8::is_ascii_whitespace);
        while start < end && blank(start) {
            start += 1;
        }
        while end > start && blank(end - 1) {
            end -= 1;
        }
        Pos { start, end }
    }

    fn aggregate(&self, aggregate: &mut Aggregate) -> Parsed<()> {
        self.expect(&mut aggregate.expr, ValueType::Vector, "aggregation expression")?;
        let Some(param) = &mut aggregate.param else { return Ok(()) };
        let wanted = match aggregate.op {
            AggregateOp::CountValues => ValueType::String,
            _ => ValueType::Scalar,
        };
        self.expect(param, wanted, "aggregation parameter")
    }

    fn call(&self, call: &mut Call) -> Parsed<()> {
        self.arity(call)?;
        let function = call.function;
        let context = format!("call to function {}", quote(function.name));
        let is_info = function.id == FunctionId::Info;
        for (i, arg) in call.args.iter_mut().enumerate() {
            let Some(&wanted) = function.args.get(i).or(function.args.last()) else { continue };
            if is_info && i == 1 {
                self.info_selector(call.pos, arg, &context)?;
                continue;
            }
            self.expect(arg, wanted, &context)?;
        }
        Ok(())
    }

    /// The second argument of `info` is matchers only, and may match anything.
    fn info_selector(&self, call: Pos, arg: &mut Expr, context: &str) -> Parsed<()> {
        let ty = arg.value_type();
        if ty != ValueType::Vector {
            return self.mismatch(call, ValueType::Vector, context, ty);
        }
        match arg {
            Expr::Selector(s) if s.name.is_none() => self.selector(s, true),
            Expr::Selector(s) => {
                self.error(s.pos, "expected label selectors only, got vector selector instead")
            }
            other => self.error(other.pos(), "expected label selectors only"),
        }
    }

    fn arity(&self, call: &Call) -> Parsed<()> {
        let (function, given) = (call.function, call.args.len());
        let (bound, wanted) = match usize::try_from(function.variadic) {
            Ok(0) if given != function.args.len() => ("", function.args.len()),
            Ok(0) => return Ok(()),
            extra => {
                let least = function.args.len().saturating_sub(1);
                match extra {
                    _ if given < least => ("at least ", least),
                    Ok(extra) if given > least + extra => ("at most ", least + extra),
                    _ => return Ok(()),
                }
            }
        };
        let name = quote(function.name);
        self.error(call.pos, format!("expected {bound}{wanted} argument(s) in call to {name}, got {given}"))
    }

    fn expect(&self, expr: &mut Expr, wanted: ValueType, context: &str) -> Parsed<()> {
        let ty = self.expr(expr)?;
        if ty == wanted { Ok(()) } else { self.mismatch(expr.pos(), wanted, context, ty) }
    }

    fn mismatch(&self, pos: Pos, wanted: ValueType, context: &str, got: ValueType) -> Parsed<()> {
        self.error(pos, format!("expected type {} in {context}, got {}", wanted.describe(), got.describe()))
    }
}
