//! The plan for people: which operator does what, and what it holds.

use std::fmt;
use std::time::Duration;

use pyrrha_model::time::DurationDisplay;

use super::{Kind, Node, Selector};
use crate::ast::{AggregateOp, RangeMode, ValueType};
use crate::depth::ORDINARY_HEIGHT;
use crate::exec::Watch;
use crate::functions;
use crate::kernel::InstantKernel;
use crate::observe::NodeStats;

/// One operator of an explained plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainNode {
    /// What it does: `select`, `range`, `aggregate sum`, `call rate`, `operator +` and so on.
    pub operator: String,
    /// Matchers, times, grouping.
    pub detail: String,
    /// Whether it passes series on one by one, or holds a table.
    pub holds: bool,
    /// Whether it is evaluated once because `@` fixes its time.
    pub once: bool,
    /// The number it shares with equal parts of the query, which are evaluated once together.
    pub shared: Option<usize>,
    /// What it did, if it was evaluated and is not a scalar.
    pub stats: Option<NodeStats>,
    /// Its operands.
    pub children: Vec<ExplainNode>,
}

impl ExplainNode {
    /// The plan; with what its operators did, if it was watched.
    pub(crate) fn of(node: &Node, watch: Option<&Watch>) -> Self {
        Self::at(node, watch, 1)
    }

    fn at(node: &Node, watch: Option<&Watch>, level: usize) -> Self {
        if level > ORDINARY_HEIGHT {
            return Self::left_out();
        }
        let (operator, detail, holds, children) = describe(node);
        let once = node.invariant && !children.is_empty() || node.selector().is_some_and(|s| s.at.is_some());
        let children: Vec<Self> =
            children.into_iter().map(|child| Self::at(child, watch, level + 1)).collect();
        let stats = watch.and_then(|watch| {
            let (mut stats, whole) = watch.stats(node.number);
            if !whole {
                stats.time += children.iter().filter_map(|c| c.stats).map(|s| s.time).sum::<Duration>();
            }
            (whole || stats != NodeStats::default()).then_some(stats)
        });
        Self { operator, detail, holds, once, shared: node.shared, stats, children }
    }
}

impl ExplainNode {
    /// In place of what is too deep for readers of a tree.
    fn left_out() -> Self {
        Self {
            operator: "left out".to_owned(),
            detail: format!("deeper than {ORDINARY_HEIGHT} levels"),
            holds: false,
            once: false,
            shared: None,
            stats: None,
            children: Vec::new(),
        }
    }
}

/// The selector of a query that took the most, in words.
pub(crate) fn dearest(root: &Node, watch: &Watch) -> Option<String> {
    let (number, stats) = watch.dearest();
    let mut found = None;
    root.visit(&mut |node| {
        if node.number == number {
            found = Some(node.selector().map_or_else(|| describe(node).0, selector_detail));
        }
    });
    let NodeStats { series, samples, bytes, .. } = stats;
    found.map(|selector| {
        format!("dearest selector: {selector}, series read={series}, samples={samples}, bytes={bytes}")
    })
}

fn describe(node: &Node) -> (String, String, bool, Vec<&Node>) {
    match &node.kind {
        Kind::Number(v) => ("number".into(), pyrrha_model::go_fmt::float_f(*v), false, Vec::new()),
        Kind::Text(text) => ("string".into(), pyrrha_model::go_fmt::quote(text), false, Vec::new()),
        Kind::Select(selector) => ("select".into(), selector_detail(selector), false, Vec::new()),
        Kind::Matrix(selector) => ("range".into(), selector_detail(selector), false, Vec::new()),
        Kind::Subquery(subquery) => {
            let mut detail =
                format!("[{}:{}]", DurationDisplay(subquery.range), DurationDisplay(subquery.step));
            push_times(&mut detail, subquery.at, subquery.offset);
            ("subquery".into(), detail, false, vec![&subquery.expr])
        }
        Kind::Negate(inner) => ("negate".into(), String::new(), false, vec![inner]),
        Kind::Binary(binary) => {
            let detail = match &binary.matching {
                None => String::new(),
                Some(m) => format!("{} ({})", if m.on { "on" } else { "ignoring" }, m.labels.join(", ")),
            };
            let operator = format!("operator {}", binary.op.as_str());
            (operator, detail, binary.matching.is_some(), vec![&binary.lhs, &binary.rhs])
        }
        Kind::Call(call) => {
            let streams = call.args.iter().any(|a| a.ty == ValueType::Matrix)
                || matches!(
                    functions::instant_kernel(call.id()),
                    Some(InstantKernel::Map(_) | InstantKernel::Series(_))
                );
            let holds = !streams && call.function.returns == ValueType::Vector;
            (format!("call {}", call.function.name), String::new(), holds, call.args.iter().collect())
        }
        Kind::Aggregate(aggregate) => {
            let by = if aggregate.without { "without" } else { "by" };
            let detail = format!("{by} ({})", aggregate.grouping.join(", "));
            let holds = matches!(
                aggregate.op,
                AggregateOp::CountValues
                    | AggregateOp::Limitk
                    | AggregateOp::LimitRatio
                    | AggregateOp::Quantile
            );
            let children = aggregate.param.iter().chain([&aggregate.expr]).collect();
            (format!("aggregate {}", aggregate.op.as_str()), detail, holds, children)
        }
    }
}

fn selector_detail(selector: &Selector) -> String {
    let matchers: Vec<String> = selector.matchers.iter().map(ToString::to_string).collect();
    let mut detail = format!("{{{}}}", matchers.join(","));
    if selector.range > 0 {
        detail += &format!("[{}]", DurationDisplay(selector.range));
    }
    match selector.mode {
        RangeMode::Classic => {}
        RangeMode::Anchored => detail += " anchored",
        RangeMode::Smoothed => detail += " smoothed",
    }
    push_times(&mut detail, selector.at, selector.offset);
    if let Some(projection) = &selector.projection {
        let which = if projection.include { "labels" } else { "labels without" };
        detail += &format!(" {which} ({})", projection.labels.join(", "));
    }
    if selector.stats_only {
        detail += " count and sum only";
    }
    detail
}

fn push_times(detail: &mut String, at: Option<i64>, offset: i64) {
    if let Some(at) = at {
        *detail += &format!(" @ {:.3}", at as f64 / 1000.0);
    }
    if offset != 0 {
        *detail += &format!(" offset {}", DurationDisplay(offset));
    }
}

impl fmt::Display for ExplainNode {
    /// One line per operator, operands indented below it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, 0)
    }
}

impl ExplainNode {
    fn write(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        write!(f, "{:1$}{2}", "", depth * 2, self.operator)?;
        if !self.detail.is_empty() {
            write!(f, " {}", self.detail)?;
        }
        if self.holds {
            f.write_str(" · holds its input")?;
        }
        if self.once {
            f.write_str(" · once")?;
        }
        if let Some(shared) = self.shared {
            write!(f, " · shared #{shared}")?;
        }
        if let Some(NodeStats { series, samples, bytes, time }) = self.stats {
            let ms = time.as_secs_f64() * 1000.0;
            write!(f, " · series={series} samples={samples} bytes={bytes} time={ms:.3}ms")?;
        }
        writeln!(f)?;
        self.children.iter().try_for_each(|c| c.write(f, depth + 1))
    }
}
