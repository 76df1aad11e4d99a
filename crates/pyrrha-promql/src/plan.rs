//! The logical plan: what the tree means once the bounds of the query are known. Durations,
//! `@` and `offset` are numbers here, parentheses and `start()` and the like are gone.

mod build;
mod duration;

use pyrrha_model::{Matcher, Timestamp};

use crate::ast::{AggregateOp, BinaryOp, Pos, RangeMode, ValueType, VectorMatching};
use crate::function::{Function, FunctionId};

pub(crate) use build::{Bounds, build};

/// A node of the plan.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    /// Where in the query, parentheses around it not included.
    pub(crate) pos: Pos,
    pub(crate) ty: ValueType,
    /// Whether its value is the same at every step, because of `@`.
    pub(crate) invariant: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Number(f64),
    Text(String),
    /// An instant selector.
    Select(Selector),
    /// A range selector.
    Matrix(Selector),
    Subquery(Box<Subquery>),
    /// `-x`
    Negate(Box<Node>),
    Binary(Box<Binary>),
    Call(Call),
    Aggregate(Box<Aggregate>),
}

/// A selector with its times resolved.
#[derive(Debug, Clone)]
pub(crate) struct Selector {
    pub(crate) matchers: Vec<Matcher>,
    /// `@`, ms.
    pub(crate) at: Option<Timestamp>,
    /// ms
    pub(crate) offset: i64,
    /// ms; 0 for an instant selector.
    pub(crate) range: i64,
    pub(crate) mode: RangeMode,
    /// Function or aggregation directly above, and the grouping of the latter: hints for stores.
    pub(crate) above: &'static str,
}

#[derive(Debug, Clone)]
pub(crate) struct Subquery {
    pub(crate) expr: Node,
    /// ms
    pub(crate) range: i64,
    /// ms
    pub(crate) step: i64,
    pub(crate) at: Option<Timestamp>,
    /// ms
    pub(crate) offset: i64,
}

#[derive(Debug, Clone)]
pub(crate) struct Binary {
    pub(crate) op: BinaryOp,
    pub(crate) lhs: Node,
    pub(crate) rhs: Node,
    pub(crate) return_bool: bool,
    pub(crate) matching: Option<VectorMatching>,
}

#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) function: &'static Function,
    pub(crate) args: Vec<Node>,
    /// Where the arguments stand.
    pub(crate) positions: Vec<Pos>,
}

#[derive(Debug, Clone)]
pub(crate) struct Aggregate {
    pub(crate) op: AggregateOp,
    pub(crate) expr: Node,
    pub(crate) param: Option<Node>,
    pub(crate) grouping: Vec<String>,
    pub(crate) without: bool,
    pub(crate) expr_pos: Pos,
    pub(crate) param_pos: Pos,
}

impl Call {
    pub(crate) fn id(&self) -> FunctionId {
        self.function.id
    }

    /// The first argument of that type.
    pub(crate) fn arg(&self, ty: ValueType) -> Option<&Node> {
        self.args.iter().find(|a| a.ty == ty)
    }
}

impl Node {
    /// The number, if it is a literal.
    pub(crate) fn number(&self) -> Option<f64> {
        match self.kind {
            Kind::Number(v) => Some(v),
            _ => None,
        }
    }

    /// The selector of an instant or range selector.
    pub(crate) fn selector(&self) -> Option<&Selector> {
        match &self.kind {
            Kind::Select(selector) | Kind::Matrix(selector) => Some(selector),
            _ => None,
        }
    }

    /// The first selector below, in the order written, with the `@` and `offset` of the innermost
    /// that has one.
    pub(crate) fn first_selector(&self) -> Option<&Selector> {
        match &self.kind {
            Kind::Select(selector) | Kind::Matrix(selector) => Some(selector),
            Kind::Number(_) | Kind::Text(_) => None,
            Kind::Subquery(subquery) => subquery.expr.first_selector(),
            Kind::Negate(node) => node.first_selector(),
            Kind::Binary(binary) => binary.lhs.first_selector().or_else(|| binary.rhs.first_selector()),
            Kind::Call(call) => call.args.iter().find_map(Node::first_selector),
            Kind::Aggregate(aggregate) => aggregate
                .expr
                .first_selector()
                .or_else(|| aggregate.param.as_ref().and_then(Node::first_selector)),
        }
    }
}
