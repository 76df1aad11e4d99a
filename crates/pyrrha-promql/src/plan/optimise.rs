//! Rules that change the work, never the result (decision 30). Constant folding happens while the
//! plan is built, hoisting of what `@` makes invariant while it is evaluated.

use pyrrha_model::contract::Projection;
use pyrrha_model::{METRIC_NAME, MatchOp};
use std::collections::HashMap;

use super::{Aggregate, Kind, Node, Selector};
use crate::ast::{AggregateOp, Pos};
use crate::function::FunctionId;
use crate::functions;
use crate::kernel::InstantKernel;

/// Plans with more nodes than this are not searched for equal parts.
const MOST_NODES: usize = 1000;

/// Marks equal sub-expressions whose values are held in any case, so that they are evaluated once.
/// What streams is not worth holding: memory would grow with series instead of groups.
pub(super) fn share(root: &mut Node) {
    let (mut nodes, mut held) = (0, 0);
    root.visit(&mut |node| {
        nodes += 1;
        held += usize::from(is_held(node));
    });
    if nodes > MOST_NODES || held < 2 {
        return;
    }
    let mut seen: HashMap<String, (usize, usize)> = HashMap::new();
    root.visit(&mut |node| {
        if is_held(node) {
            let next = seen.len();
            seen.entry(shape(node)).or_insert((next, 0)).1 += 1;
        }
    });
    if seen.values().all(|(_, count)| *count < 2) {
        return;
    }
    root.visit_mut(&mut |node| {
        if is_held(node) {
            node.shared = seen.get(&shape(node)).filter(|(_, count)| *count > 1).map(|(id, _)| *id);
        }
    });
}

fn is_held(node: &Node) -> bool {
    match &node.kind {
        Kind::Aggregate(_) => true,
        Kind::Binary(binary) => binary.matching.is_some(),
        Kind::Number(_)
        | Kind::Text(_)
        | Kind::Select(_)
        | Kind::Matrix(_)
        | Kind::Subquery(_)
        | Kind::Negate(_)
        | Kind::Call(_) => false,
    }
}

/// The node as text, with positions relative to its start: equal iff it means the same and is
/// written the same, so that its annotations can be moved.
fn shape(node: &Node) -> String {
    let start = node.pos.start;
    let mut copy = node.clone();
    copy.visit_mut(&mut |n| {
        n.shared = None;
        n.each_position(&mut |pos| {
            *pos = Pos { start: pos.start.wrapping_sub(start), end: pos.end.wrapping_sub(start) };
        });
    });
    format!("{copy:?}")
}

/// Tells selectors below an aggregation which labels it looks at, where nothing between the two
/// looks at another. The name is kept, because annotations name the metric.
pub(super) fn project(root: &mut Node, delayed_name_removal: bool) {
    root.visit_mut(&mut |node| {
        if let Kind::Aggregate(aggregate) = &mut node.kind
            && folds(aggregate.op)
        {
            let projection = wanted(aggregate);
            if let Some(selector) = streamed(&mut aggregate.expr)
                && (delayed_name_removal || has_one_name(selector))
            {
                selector.projection = Some(projection);
            }
        }
    });
}

fn folds(op: AggregateOp) -> bool {
    match op {
        AggregateOp::Sum
        | AggregateOp::Avg
        | AggregateOp::Min
        | AggregateOp::Max
        | AggregateOp::Count
        | AggregateOp::Group
        | AggregateOp::Stddev
        | AggregateOp::Stdvar
        | AggregateOp::Quantile => true,
        AggregateOp::Topk
        | AggregateOp::Bottomk
        | AggregateOp::CountValues
        | AggregateOp::Limitk
        | AggregateOp::LimitRatio => false,
    }
}

fn wanted(aggregate: &Aggregate) -> Projection {
    // What annotations say about counters needs the type beside the name.
    let kept = [METRIC_NAME, "__type__", "__unit__"];
    let mut labels: Vec<String> = aggregate.grouping.clone();
    if aggregate.without {
        labels.retain(|l| !kept.contains(&l.as_str()));
    } else {
        labels.extend(kept.map(str::to_owned));
    }
    labels.sort();
    labels.dedup();
    Projection { include: !aggregate.without, labels }
}

/// The selector whose series reach the aggregation one by one.
fn streamed(node: &mut Node) -> Option<&mut Selector> {
    match &mut node.kind {
        Kind::Select(selector) | Kind::Matrix(selector) => Some(selector),
        Kind::Negate(inner) => streamed(inner),
        Kind::Call(call) => {
            let by_series = matches!(
                functions::instant_kernel(call.id()),
                Some(InstantKernel::Map(_) | InstantKernel::Series(_))
            );
            let range = call.args.iter().any(|a| matches!(a.kind, Kind::Matrix(_)));
            if !by_series && (!range || call.id() == FunctionId::AbsentOverTime) {
                return None;
            }
            call.args
                .iter_mut()
                .find(|a| a.selector().is_some() || !matches!(a.kind, Kind::Number(_)))
                .and_then(streamed)
        }
        Kind::Number(_) | Kind::Text(_) | Kind::Subquery(_) | Kind::Binary(_) | Kind::Aggregate(_) => None,
    }
}

/// Whether all series of the selector have one name, so that dropping it makes no two equal.
pub(crate) fn has_one_name(selector: &Selector) -> bool {
    selector.matchers.iter().any(|m| m.name == METRIC_NAME && m.op == MatchOp::Equal && !m.value.is_empty())
}
