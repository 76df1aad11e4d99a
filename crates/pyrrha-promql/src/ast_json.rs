//! The syntax tree as JSON, in the shape that `/api/v1/parse_query` returns and Prometheus' user
//! interface reads.

use pyrrha_model::{ErrorKind, METRIC_NAME, go_fmt};
use serde_json::{Value, json};

use crate::ast::{
    At, AtBound, Cardinality, Duration, DurationExpr, Expr, RangeMode, Subquery, VectorMatching,
    VectorSelector,
};
use crate::depth::ORDINARY_HEIGHT;
use crate::lexer::lossy;

/// An expression whose tree nobody could read: it would nest too deeply for readers and writers of JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the tree of the expression is too deep: levels={levels} limit={ORDINARY_HEIGHT}")]
pub struct TooDeep {
    /// How deep it is.
    pub levels: usize,
}

impl TooDeep {
    /// What the caller should do next.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

/// The tree of `expr`. Durations are milliseconds; a duration expression, which has no value yet,
/// is 0 and its tree is in `rangeExpr`, `stepExpr` or `offsetExpr`, which are null otherwise.
pub fn to_json(expr: &Expr) -> Result<Value, TooDeep> {
    let levels = expr.height();
    if levels > ORDINARY_HEIGHT { Err(TooDeep { levels }) } else { Ok(tree(expr)) }
}

fn tree(expr: &Expr) -> Value {
    match expr {
        Expr::Number(e) => json!({ "type": "numberLiteral", "val": go_fmt::float_f(e.value) }),
        Expr::String(e) => json!({ "type": "stringLiteral", "val": lossy(&e.value) }),
        Expr::Selector(e) => selector("vectorSelector", e),
        Expr::Matrix(e) => {
            let mut node = selector("matrixSelector", &e.selector);
            add_duration(&mut node, "range", &e.range);
            node
        }
        Expr::Subquery(e) => subquery(e),
        Expr::Paren(e) => with(json!({ "type": "parenExpr" }), [("expr", tree(&e.expr))]),
        Expr::Unary(e) => {
            let op = if e.negative { "-" } else { "+" };
            with(json!({ "type": "unaryExpr", "op": op }), [("expr", tree(&e.expr))])
        }
        Expr::Binary(e) => with(
            json!({
                "type": "binaryExpr",
                "op": e.op.as_str(),
                "matching": e.matching.as_ref().map(matching),
                "bool": e.return_bool,
            }),
            [("lhs", tree(&e.lhs)), ("rhs", tree(&e.rhs))],
        ),
        Expr::Call(e) => with(
            json!({
                "type": "call",
                "func": {
                    "name": e.function.name,
                    "argTypes": e.function.args.iter().map(|t| t.as_str()).collect::<Vec<_>>(),
                    "variadic": e.function.variadic,
                    "returnType": e.function.returns.as_str(),
                },
            }),
            [("args", e.args.iter().map(tree).collect())],
        ),
        Expr::Aggregate(e) => with(
            json!({
                "type": "aggregation",
                "op": e.op.as_str(),
                "grouping": e.grouping,
                "without": e.without,
            }),
            [("expr", tree(&e.expr)), ("param", e.param.as_deref().map_or(Value::Null, tree))],
        ),
    }
}

/// Adds subtrees to a node. They are moved: `json!` would copy them at every level.
fn with<const N: usize>(mut node: Value, subtrees: [(&str, Value); N]) -> Value {
    for (key, subtree) in subtrees {
        node[key] = subtree;
    }
    node
}

fn selector(kind: &str, selector: &VectorSelector) -> Value {
    let name = selector.name.as_deref().unwrap_or("");
    // The matcher of the name in front of the braces comes last.
    let is_name = |m: &&pyrrha_model::Matcher| !name.is_empty() && m.name == METRIC_NAME;
    let (names, others): (Vec<_>, Vec<_>) = selector.matchers.iter().partition(is_name);
    let matchers: Vec<Value> = others
        .into_iter()
        .chain(names)
        .map(|m| json!({ "name": lossy(&m.name), "value": lossy(&m.value), "type": m.op.as_str() }))
        .collect();
    let mut node = json!({
        "type": kind,
        "name": lossy(name),
        "matchers": matchers,
        "anchored": selector.mode == RangeMode::Anchored,
        "smoothed": selector.mode == RangeMode::Smoothed,
    });
    add_duration(&mut node, "offset", &selector.offset);
    add_at(&mut node, selector.at);
    node
}

fn subquery(subquery: &Subquery) -> Value {
    let mut node = with(json!({ "type": "subquery" }), [("expr", tree(&subquery.expr))]);
    add_duration(&mut node, "range", &subquery.range);
    add_duration(&mut node, "step", subquery.step.as_ref().unwrap_or(&Duration::ZERO));
    add_duration(&mut node, "offset", &subquery.offset);
    add_at(&mut node, subquery.at);
    node
}

fn add_duration(node: &mut Value, key: &str, duration: &Duration) {
    match duration {
        Duration::Fixed(ms) => {
            node[key] = json!(ms);
            node[format!("{key}Expr")] = Value::Null;
        }
        Duration::Expr(expr) => {
            node[key] = json!(0);
            node[format!("{key}Expr")] = duration_tree(expr, false);
        }
    }
}

/// The tree of a duration expression; `wrapped` if parentheses stand around it.
fn duration_tree(expr: &DurationExpr, wrapped: bool) -> Value {
    let (op, lhs, rhs) = match expr {
        DurationExpr::Number(number) => {
            let val = go_fmt::float_f(number.value);
            return json!({ "type": "numberLiteral", "val": val, "duration": number.duration });
        }
        DurationExpr::Paren(inner, _) => return duration_tree(inner, true),
        DurationExpr::Step(_) => ("step", None, None),
        DurationExpr::Range(_) => ("range", None, None),
        DurationExpr::MinOf(a, b, _) => ("min_of", Some(a), Some(b)),
        DurationExpr::MaxOf(a, b, _) => ("max_of", Some(a), Some(b)),
        DurationExpr::Unary { negative, expr, .. } => (if *negative { "-" } else { "+" }, None, Some(expr)),
        DurationExpr::Binary { op, lhs, rhs, .. } => (op.as_str(), Some(lhs), Some(rhs)),
    };
    let [lhs, rhs] = [lhs, rhs].map(|e| e.map_or(Value::Null, |e| duration_tree(e, false)));
    with(json!({ "type": "durationExpr", "op": op, "wrapped": wrapped }), [("lhs", lhs), ("rhs", rhs)])
}

fn add_at(node: &mut Value, at: Option<At>) {
    let (timestamp, bound) = match at {
        None => (Value::Null, Value::Null),
        Some(At::Time(ms)) => (json!(ms), Value::Null),
        Some(At::Bound(AtBound::Start)) => (Value::Null, json!("start")),
        Some(At::Bound(AtBound::End)) => (Value::Null, json!("end")),
    };
    node["timestamp"] = timestamp;
    node["startOrEnd"] = bound;
}

fn matching(matching: &VectorMatching) -> Value {
    let card = match matching.card {
        Cardinality::OneToOne => "one-to-one",
        Cardinality::ManyToOne => "many-to-one",
        Cardinality::OneToMany => "one-to-many",
        Cardinality::ManyToMany => "many-to-many",
    };
    // JSON has no NaN or infinity: those are texts, as sample values are.
    let fill = |value: Option<f64>| match value {
        Some(value) if !value.is_finite() => json!(go_fmt::float_f(value)),
        // Whole numbers without a point, as Go writes them.
        Some(value) if value.fract() == 0.0 && value.abs() < 1e15 => json!(value as i64),
        value => json!(value),
    };
    json!({
        "card": card,
        "labels": matching.labels,
        "on": matching.on,
        "include": matching.include,
        "fillValues": { "lhs": fill(matching.fill_left), "rhs": fill(matching.fill_right) },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_has_the_interface_s_shape() {
        let parse = |query: &str| {
            to_json(&crate::parse(query, &crate::Features::all()).expect("parses")).expect("shallow")
        };
        assert_eq!(
            parse("m{a!=\"b\"} @ 1.5 offset 1m"),
            json!({
                "type": "vectorSelector", "name": "m", "offset": 60_000, "offsetExpr": null, "timestamp": 1500, "startOrEnd": null,
                "anchored": false, "smoothed": false,
                "matchers": [
                    { "name": "a", "value": "b", "type": "!=" },
                    { "name": "__name__", "value": "m", "type": "=" },
                ],
            })
        );
        let tree = parse("topk by (x) (3, rate(m[5m])) > bool on (x) group_left (y) -n @ end()");
        assert_eq!(tree["type"], "binaryExpr");
        assert_eq!(tree["bool"], true);
        assert_eq!(tree["matching"]["card"], "many-to-one");
        assert_eq!(tree["matching"]["include"], json!(["y"]));
        assert_eq!(tree["lhs"]["param"], json!({ "type": "numberLiteral", "val": "3" }));
        assert_eq!(tree["lhs"]["grouping"], json!(["x"]));
        assert_eq!(
            tree["lhs"]["expr"]["func"],
            json!({ "name": "rate", "argTypes": ["matrix"], "variadic": 0, "returnType": "vector" })
        );
        assert_eq!(tree["lhs"]["expr"]["args"][0]["range"], 300_000);
        assert_eq!(tree["rhs"]["op"], "-");
    }

    #[test]
    fn duration_expressions_are_trees_of_their_own() {
        let tree = to_json(&crate::parse("m[1h:step()] @ start()", &crate::Features::all()).expect("parses"))
            .expect("shallow");
        let step =
            json!({ "type": "durationExpr", "op": "step", "lhs": null, "rhs": null, "wrapped": false });
        assert_eq!((&tree["step"], &tree["stepExpr"]), (&json!(0), &step));
        assert_eq!((&tree["range"], &tree["rangeExpr"]), (&json!(3_600_000), &Value::Null));
        assert_eq!((&tree["timestamp"], &tree["startOrEnd"]), (&Value::Null, &json!("start")));
        let tree = to_json(&crate::parse("m offset -(1m + 2)", &crate::Features::all()).expect("parses"))
            .expect("shallow");
        let number = |val, duration| json!({ "type": "numberLiteral", "val": val, "duration": duration });
        let sum = json!({
            "type": "durationExpr", "op": "+", "lhs": number("60", true), "rhs": number("2", false),
            "wrapped": true,
        });
        assert_eq!((&tree["offsetExpr"]["op"], &tree["offsetExpr"]["rhs"]), (&json!("-"), &sum));
    }
}
