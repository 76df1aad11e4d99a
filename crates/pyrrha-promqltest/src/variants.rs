//! Rewritten queries that must give the same result: `@` pins every selector to the time of the
//! original evaluation, so that the evaluation time does not matter.

use pyrrha_model::Timestamp;
use pyrrha_promql::ast::{At, Expr};
use pyrrha_promql::function::FunctionId;

/// `expr` with `@ t` on every selector and subquery, unless it has a time of its own; `start()` and `end()`
/// become `t`, which they are in an instant query. `None` if a function in it looks at the evaluation time. A
/// subquery is not changed inside.
pub(crate) fn pinned(expr: &Expr, t: Timestamp) -> Option<Expr> {
    let mut pinned = expr.clone();
    pin(&mut pinned, At::Time(t), false).then_some(pinned)
}

/// Evaluation times of the pinned variants of a query at `t`.
pub(crate) fn times(t: Timestamp) -> Vec<Timestamp> {
    if t == 0 { vec![-1000, 0, 1000] } else { vec![-10 * t, 0, t / 5, t, 10 * t] }
}

/// Returns false if the expression depends on the evaluation time.
fn pin(expr: &mut Expr, t: At, fixed: bool) -> bool {
    let set = |at: &mut Option<At>| {
        if !fixed && !matches!(at, Some(At::Time(_))) {
            *at = Some(t);
        }
    };
    match expr {
        Expr::Number(_) | Expr::String(_) => true,
        Expr::Selector(e) => {
            set(&mut e.at);
            true
        }
        Expr::Matrix(e) => {
            set(&mut e.selector.at);
            true
        }
        Expr::Subquery(e) => {
            set(&mut e.at);
            pin(&mut e.expr, t, true)
        }
        Expr::Paren(e) => pin(&mut e.expr, t, fixed),
        Expr::Unary(e) => pin(&mut e.expr, t, fixed),
        Expr::Binary(e) => pin(&mut e.lhs, t, fixed) & pin(&mut e.rhs, t, fixed),
        Expr::Aggregate(e) => {
            let param = e.param.as_mut().is_none_or(|p| pin(p, t, fixed));
            pin(&mut e.expr, t, fixed) & param
        }
        Expr::Call(e) => {
            let depends = matches!(
                e.function.id,
                FunctionId::DaysInMonth
                    | FunctionId::DayOfMonth
                    | FunctionId::DayOfWeek
                    | FunctionId::DayOfYear
                    | FunctionId::End
                    | FunctionId::Hour
                    | FunctionId::Minute
                    | FunctionId::Month
                    | FunctionId::Year
                    | FunctionId::PredictLinear
                    | FunctionId::Range
                    | FunctionId::Start
                    | FunctionId::Step
                    | FunctionId::Time
                    | FunctionId::Timestamp
            );
            e.args.iter_mut().fold(!depends, |ok, arg| pin(arg, t, fixed) & ok)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_and_outer_subqueries_are_pinned() {
        let pin = |query: &str| {
            let expr = pyrrha_promql::parse(query, &crate::script_features()).expect("parses");
            pinned(&expr, 10_000).map(|e| e.to_string())
        };
        assert_eq!(
            pin("sum(a) + max_over_time(b[5m:])").as_deref(),
            Some("sum(a @ 10.000) + max_over_time(b[5m:] @ 10.000)")
        );
        assert_eq!(
            pin("rate(a[1m] @ 5) + b offset 1m").as_deref(),
            Some("rate(a[1m] @ 5.000) + b @ 10.000 offset 1m")
        );
        assert_eq!(
            pin("a @ start() + sum_over_time(b[1m:1s] @ end() offset 1s)").as_deref(),
            Some("a @ 10.000 + sum_over_time(b[1m:1s] @ 10.000 offset 1s)")
        );
        assert_eq!(pin("time() + a"), None);
    }
}
