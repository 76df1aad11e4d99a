//! From the syntax tree to the plan.

use pyrrha_model::Timestamp;

use super::duration::resolve;
use super::optimise;
use super::{Aggregate, Binary, Call, Kind, Node, Selector, Subquery};
use crate::ast::{self, At, AtBound, BinaryOp, Expr, Pos, RangeMode, ValueType};
use crate::engine::Optimiser;
use crate::error::QueryError;
use crate::function::FunctionId;

/// What a plan has to know of its query.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// First step, ms.
    pub(crate) start: Timestamp,
    /// Last step as asked for, ms.
    pub(crate) end: Timestamp,
    /// ms; 0 for an instant query.
    pub(crate) step: i64,
    /// Step of subqueries that name none, ms.
    pub(crate) default_step: i64,
    /// Which rules run.
    pub(crate) optimiser: Optimiser,
    /// Whether names are dropped at the end.
    pub(crate) delayed_name_removal: bool,
}

/// Builds the plan of an expression.
pub(crate) fn build(expr: &Expr, bounds: &Bounds) -> Result<Node, QueryError> {
    // A subquery that is the result itself counts what is below it.
    let whole = matches!(expr.unparen(), Expr::Subquery(_));
    let mut root = node(expr, bounds, Above { whole, ..Above::default() })?;
    if bounds.optimiser.project_labels {
        optimise::project(&mut root, bounds.delayed_name_removal);
    }
    if bounds.optimiser.share_common {
        optimise::share(&mut root);
    }
    root.enumerate();
    Ok(root)
}

/// What stands above a node.
#[derive(Debug, Clone, Copy, Default)]
struct Above {
    /// The function or aggregation directly above.
    name: &'static str,
    /// Whether of histograms only count and sum are looked at.
    stats_only: bool,
    /// Whether a subquery is above.
    in_subquery: bool,
    /// Whether the node is a subquery that is the whole query.
    whole: bool,
}

impl Above {
    fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    /// Below a call: some functions look at buckets, some only at count and sum.
    fn call(self, call: &ast::Call) -> Self {
        let stats_only = match call.function.id {
            FunctionId::HistogramCount | FunctionId::HistogramSum | FunctionId::HistogramAvg => true,
            FunctionId::HistogramQuantile
            | FunctionId::HistogramQuantiles
            | FunctionId::HistogramFraction => false,
            _ => self.stats_only,
        };
        Self { name: call.function.name, stats_only, ..self }
    }
}

fn node(expr: &Expr, bounds: &Bounds, above: Above) -> Result<Node, QueryError> {
    let (pos, ty) = (expr.pos(), expr.value_type());
    let make = |kind, invariant| Ok(Node { kind, pos, ty, invariant, shared: None, number: 0 });
    match expr {
        Expr::Number(number) => make(Kind::Number(number.value), true),
        Expr::String(text) => make(Kind::Text(text.value.clone()), true),
        Expr::Paren(paren) => node(&paren.expr, bounds, above),
        Expr::Selector(selector) => {
            let selector = self::selector(selector, 0, bounds, above)?;
            let invariant = selector.at.is_some();
            make(Kind::Select(selector), invariant)
        }
        Expr::Matrix(matrix) => {
            let range = resolve(&matrix.range, bounds, true)?;
            let selector = self::selector(&matrix.selector, range, bounds, above)?;
            let invariant = selector.at.is_some();
            make(Kind::Matrix(selector), invariant)
        }
        Expr::Subquery(subquery) => {
            let step = match &subquery.step {
                Some(step) => resolve(step, bounds, true)?,
                None => bounds.default_step,
            };
            let kind = Kind::Subquery(Box::new(Subquery {
                expr: node(&subquery.expr, bounds, Above { in_subquery: !above.whole, ..Above::default() })?,
                range: resolve(&subquery.range, bounds, true)?,
                step: step.max(1),
                at: at(subquery.at, bounds),
                offset: resolve(&subquery.offset, bounds, false)?,
                counted: !above.in_subquery,
            }));
            make(kind, subquery.at.is_some())
        }
        Expr::Unary(unary) => {
            let inner = node(&unary.expr, bounds, above.named(""))?;
            match (&inner.kind, unary.negative) {
                (_, false) => Ok(inner),
                (Kind::Number(v), true) if bounds.optimiser.fold_constants => make(Kind::Number(-v), true),
                (_, true) => {
                    let invariant = inner.invariant;
                    make(Kind::Negate(Box::new(inner)), invariant)
                }
            }
        }
        Expr::Binary(binary) => self::binary(binary, bounds, pos, ty, above),
        Expr::Call(call) => self::call(call, bounds, pos, ty, above),
        Expr::Aggregate(aggregate) => {
            let expr = node(&aggregate.expr, bounds, above.named(aggregate.op.as_str()))?;
            let param = aggregate
                .param
                .as_deref()
                .map(|p| node(p, bounds, Above { name: "", stats_only: false, ..above }))
                .transpose()?;
            let invariant = expr.invariant && param.as_ref().is_none_or(|p| p.invariant);
            let kind = Kind::Aggregate(Box::new(Aggregate {
                op: aggregate.op,
                expr,
                grouping: aggregate.grouping.clone(),
                without: aggregate.without,
                pos,
                expr_pos: aggregate.expr.unparen().pos(),
                param_pos: aggregate.param.as_ref().map(|p| p.unparen().pos()).unwrap_or_default(),
                param,
            }));
            make(kind, invariant)
        }
    }
}

fn selector(
    selector: &ast::VectorSelector,
    range: i64,
    bounds: &Bounds,
    above: Above,
) -> Result<Selector, QueryError> {
    Ok(Selector {
        matchers: selector.matchers.clone(),
        at: at(selector.at, bounds),
        offset: resolve(&selector.offset, bounds, false)?,
        range,
        mode: selector.mode,
        projection: None,
        stats_only: above.stats_only,
        above: above.name,
        pos: selector.pos,
        number: 0,
        counted: !above.in_subquery,
    })
}

fn at(at: Option<At>, bounds: &Bounds) -> Option<Timestamp> {
    at.map(|at| match at {
        At::Time(t) => t,
        At::Bound(AtBound::Start) => bounds.start,
        At::Bound(AtBound::End) => bounds.end,
    })
}

fn binary(
    binary: &ast::Binary,
    bounds: &Bounds,
    pos: Pos,
    ty: ValueType,
    above: Above,
) -> Result<Node, QueryError> {
    let trims = matches!(binary.op, BinaryOp::TrimUpper | BinaryOp::TrimLower);
    let above = Above { name: "", stats_only: above.stats_only && !trims, ..above };
    let (lhs, rhs) = (node(&binary.lhs, bounds, above)?, node(&binary.rhs, bounds, above)?);
    if bounds.optimiser.fold_constants
        && let (Some(a), Some(b)) = (lhs.number(), rhs.number())
        && let Some(value) = crate::exec::scalar_binary(binary.op, a, b)
    {
        return Ok(Node { kind: Kind::Number(value), pos, ty, invariant: true, shared: None, number: 0 });
    }
    let invariant = lhs.invariant && rhs.invariant;
    let kind = Kind::Binary(Box::new(Binary {
        op: binary.op,
        lhs,
        rhs,
        return_bool: binary.return_bool,
        matching: binary.matching.clone(),
    }));
    Ok(Node { kind, pos, ty, invariant, shared: None, number: 0 })
}

fn call(
    call: &ast::Call,
    bounds: &Bounds,
    pos: Pos,
    ty: ValueType,
    above: Above,
) -> Result<Node, QueryError> {
    let id = call.function.id;
    let folded = match id {
        FunctionId::Pi => Some(std::f64::consts::PI),
        FunctionId::Start => Some(bounds.start as f64 / 1000.0),
        FunctionId::End => Some(bounds.end as f64 / 1000.0),
        FunctionId::Step => Some(bounds.step as f64 / 1000.0),
        FunctionId::Range => Some((bounds.end - bounds.start) as f64 / 1000.0),
        _ => None,
    };
    if let Some(value) = folded {
        return Ok(Node { kind: Kind::Number(value), pos, ty, invariant: true, shared: None, number: 0 });
    }
    check_mode(call)?;
    let args =
        call.args.iter().map(|arg| node(arg, bounds, above.call(call))).collect::<Result<Vec<_>, _>>()?;
    let position = |arg: &Expr| match arg.unparen() {
        Expr::Subquery(_) => Pos::default(),
        arg => arg.pos(),
    };
    let positions = call.args.iter().map(position).collect();
    let invariant = !depends_on_time(id, args.len()) && args.iter().all(|a| a.invariant);
    Ok(Node {
        kind: Kind::Call(Call { function: call.function, args, positions }),
        pos,
        ty,
        invariant,
        shared: None,
        number: 0,
    })
}

/// Functions whose value depends on the evaluation time itself.
fn depends_on_time(id: FunctionId, args: usize) -> bool {
    match id {
        FunctionId::Time | FunctionId::Timestamp | FunctionId::PredictLinear => true,
        FunctionId::DaysInMonth
        | FunctionId::DayOfMonth
        | FunctionId::DayOfWeek
        | FunctionId::DayOfYear
        | FunctionId::Hour
        | FunctionId::Minute
        | FunctionId::Month
        | FunctionId::Year => args == 0,
        _ => false,
    }
}

/// Anchored and smoothed ranges are for some functions only.
fn check_mode(call: &ast::Call) -> Result<(), QueryError> {
    use FunctionId::{Changes, Delta, Increase, Rate, Resets};
    let mode = call.args.iter().find_map(|arg| match arg.unparen() {
        Expr::Matrix(matrix) => Some(matrix.selector.mode),
        _ => None,
    });
    let id = call.function.id;
    match mode {
        Some(RangeMode::Anchored) if !matches!(id, Changes | Delta | Increase | Rate | Resets) => {
            Err(QueryError::execution(format!(
                "anchored modifier can only be used with: changes, delta, increase, rate, resets - not with {}",
                call.function.name
            )))
        }
        Some(RangeMode::Smoothed) if !matches!(id, Delta | Increase | Rate) => {
            Err(QueryError::execution(format!(
                "smoothed modifier can only be used with: delta, increase, rate - not with {}",
                call.function.name
            )))
        }
        _ => Ok(()),
    }
}
