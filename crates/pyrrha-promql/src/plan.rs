//! The logical plan: what the tree means once the bounds of the query are known. Durations,
//! `@` and `offset` are numbers here, parentheses and `start()` and the like are gone.

mod build;
mod duration;
mod explain;
mod optimise;

use pyrrha_model::contract::Projection;
use pyrrha_model::{Matcher, Timestamp};

use crate::ast::{AggregateOp, BinaryOp, Pos, RangeMode, ValueType, VectorMatching};
use crate::function::{Function, FunctionId};

pub(crate) use build::{Bounds, build};
pub use explain::ExplainNode;
pub(crate) use explain::dearest;
pub(crate) use optimise::has_one_name;

/// A node of the plan.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    /// Where in the query, parentheses around it not included.
    pub(crate) pos: Pos,
    pub(crate) ty: ValueType,
    /// Whether its value is the same at every step, because of `@`.
    pub(crate) invariant: bool,
    /// The same number as another node that has the same value.
    pub(crate) shared: Option<usize>,
    /// Its number among the nodes of the plan, parents first.
    pub(crate) number: usize,
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
    /// The labels that are needed; all if `None`.
    pub(crate) projection: Option<Projection>,
    /// Whether of histograms only count and sum are needed (decision 34).
    pub(crate) stats_only: bool,
    /// Function or aggregation directly above: a hint for stores.
    pub(crate) above: &'static str,
    /// Where in the query.
    pub(crate) pos: Pos,
    /// The number of its node.
    pub(crate) number: usize,
    /// Whether its samples are counted: below a subquery only the windows of that are.
    pub(crate) counted: bool,
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
    /// Whether its windows are counted: below another one they are not.
    pub(crate) counted: bool,
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
    /// Where the arguments stand. A subquery has no position of its own, as in Prometheus: notes about
    /// it point to the start of the query.
    pub(crate) positions: Vec<Pos>,
}

#[derive(Debug, Clone)]
pub(crate) struct Aggregate {
    pub(crate) op: AggregateOp,
    pub(crate) expr: Node,
    pub(crate) param: Option<Node>,
    pub(crate) grouping: Vec<String>,
    pub(crate) without: bool,
    /// Where all of it stands.
    pub(crate) pos: Pos,
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
    /// Calls `each` for this node and all below, parents first.
    pub(crate) fn visit(&self, each: &mut impl FnMut(&Node)) {
        each(self);
        match &self.kind {
            Kind::Number(_) | Kind::Text(_) | Kind::Select(_) | Kind::Matrix(_) => {}
            Kind::Subquery(subquery) => subquery.expr.visit(each),
            Kind::Negate(node) => node.visit(each),
            Kind::Binary(binary) => {
                binary.lhs.visit(each);
                binary.rhs.visit(each);
            }
            Kind::Call(call) => call.args.iter().for_each(|a| a.visit(each)),
            Kind::Aggregate(aggregate) => {
                aggregate.expr.visit(each);
                if let Some(param) = &aggregate.param {
                    param.visit(each);
                }
            }
        }
    }

    /// Number of nodes: this one and all below.
    pub(crate) fn count(&self) -> usize {
        let mut nodes = 0;
        self.visit(&mut |_| nodes += 1);
        nodes
    }

    /// Numbers the nodes.
    fn enumerate(&mut self) {
        let mut next = 0;
        self.visit_mut(&mut |node| {
            node.number = next;
            if let Kind::Select(selector) | Kind::Matrix(selector) = &mut node.kind {
                selector.number = next;
            }
            next += 1;
        });
    }

    /// Calls `each` for this node and all below, parents first.
    pub(crate) fn visit_mut(&mut self, each: &mut impl FnMut(&mut Node)) {
        each(self);
        match &mut self.kind {
            Kind::Number(_) | Kind::Text(_) | Kind::Select(_) | Kind::Matrix(_) => {}
            Kind::Subquery(subquery) => subquery.expr.visit_mut(each),
            Kind::Negate(node) => node.visit_mut(each),
            Kind::Binary(binary) => {
                binary.lhs.visit_mut(each);
                binary.rhs.visit_mut(each);
            }
            Kind::Call(call) => call.args.iter_mut().for_each(|a| a.visit_mut(each)),
            Kind::Aggregate(aggregate) => {
                aggregate.expr.visit_mut(each);
                if let Some(param) = &mut aggregate.param {
                    param.visit_mut(each);
                }
            }
        }
    }

    /// Calls `each` for every position that this node holds itself.
    fn each_position(&mut self, each: &mut impl FnMut(&mut Pos)) {
        each(&mut self.pos);
        match &mut self.kind {
            Kind::Select(selector) | Kind::Matrix(selector) => each(&mut selector.pos),
            Kind::Call(call) => {
                call.positions.iter_mut().filter(|pos| **pos != Pos::default()).for_each(each)
            }
            Kind::Aggregate(aggregate) => {
                each(&mut aggregate.pos);
                each(&mut aggregate.expr_pos);
                if aggregate.param.is_some() {
                    each(&mut aggregate.param_pos);
                }
            }
            Kind::Number(_) | Kind::Text(_) | Kind::Subquery(_) | Kind::Negate(_) | Kind::Binary(_) => {}
        }
    }

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

    /// The first selector below, in the order written.
    pub(crate) fn first_selector(&self) -> Option<&Selector> {
        self.first_lookup().map(|lookup| lookup.selector)
    }

    /// The first selector below, and when it looks: its own `@` or that of the innermost subquery
    /// around it that has one, and the offsets up to there.
    pub(crate) fn first_lookup(&self) -> Option<Lookup<'_>> {
        match &self.kind {
            Kind::Select(selector) | Kind::Matrix(selector) => {
                Some(Lookup { selector, at: selector.at, offset: selector.offset })
            }
            Kind::Number(_) | Kind::Text(_) => None,
            Kind::Subquery(subquery) => subquery.expr.first_lookup().map(|inner| match inner.at {
                Some(_) => inner,
                None => {
                    let offset = inner.offset.saturating_add(subquery.offset);
                    Lookup { at: subquery.at, offset, ..inner }
                }
            }),
            Kind::Negate(node) => node.first_lookup(),
            Kind::Binary(binary) => binary.lhs.first_lookup().or_else(|| binary.rhs.first_lookup()),
            Kind::Call(call) => call.args.iter().find_map(Node::first_lookup),
            Kind::Aggregate(aggregate) => aggregate
                .expr
                .first_lookup()
                .or_else(|| aggregate.param.as_ref().and_then(Node::first_lookup)),
        }
    }
}

/// A selector and when it looks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lookup<'a> {
    pub(crate) selector: &'a Selector,
    pub(crate) at: Option<Timestamp>,
    /// ms
    pub(crate) offset: i64,
}
