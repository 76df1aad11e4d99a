//! A syntax tree as JSON, in the shape that Prometheus' `parse_query` answers with.

use pyrrha_model::go_fmt::float_f;
use pyrrha_model::{MatchOp, Matcher};
use pyrrha_promql::ast::{At, AtBound, Cardinality, Duration, Expr, VectorMatching, VectorSelector};
use serde_json::{Map, Value, json};

/// The tree of an expression.
pub(super) fn of(expr: &Expr) -> Value {
    match expr {
        Expr::Number(n) => json!({"type": "numberLiteral", "val": float_f(n.value)}),
        Expr::String(s) => json!({"type": "stringLiteral", "val": s.value}),
        Expr::Selector(s) => Value::Object(selector("vectorSelector", s)),
        Expr::Matrix(m) => {
            let mut node = selector("matrixSelector", &m.selector);
            duration(&mut node, "range", &m.range);
            Value::Object(node)
        }
        Expr::Subquery(s) => {
            let mut node = Map::new();
            node.insert("type".into(), "subquery".into());
            node.insert("expr".into(), of(&s.expr));
            duration(&mut node, "range", &s.range);
            duration(&mut node, "offset", &s.offset);
            duration(&mut node, "step", s.step.as_ref().unwrap_or(&Duration::ZERO));
            at(&mut node, s.at);
            Value::Object(node)
        }
        Expr::Paren(p) => json!({"type": "parenExpr", "expr": of(&p.expr)}),
        Expr::Unary(u) => {
            json!({"type": "unaryExpr", "op": if u.negative { "-" } else { "+" }, "expr": of(&u.expr)})
        }
        Expr::Binary(b) => json!({
            "type": "binaryExpr",
            "op": b.op.as_str(),
            "lhs": of(&b.lhs),
            "rhs": of(&b.rhs),
            "matching": b.matching.as_ref().map(matching),
            "bool": b.return_bool,
        }),
        Expr::Call(c) => json!({
            "type": "call",
            "func": {
                "name": c.function.name,
                "argTypes": c.function.args.iter().map(|a| a.as_str()).collect::<Vec<_>>(),
                "variadic": c.function.variadic,
                "returnType": c.function.returns.as_str(),
            },
            "args": c.args.iter().map(of).collect::<Vec<_>>(),
        }),
        Expr::Aggregate(a) => json!({
            "type": "aggregation",
            "op": a.op.as_str(),
            "expr": of(&a.expr),
            "param": a.param.as_deref().map(of),
            "grouping": a.grouping,
            "without": a.without,
        }),
    }
}

fn selector(kind: &str, s: &VectorSelector) -> Map<String, Value> {
    let mut node = Map::new();
    node.insert("type".into(), kind.into());
    node.insert("name".into(), s.name.clone().unwrap_or_default().into());
    node.insert("matchers".into(), s.matchers.iter().map(matcher).collect());
    duration(&mut node, "offset", &s.offset);
    at(&mut node, s.at);
    node
}

fn matcher(m: &Matcher) -> Value {
    let kind = match m.op {
        MatchOp::Equal => "=",
        MatchOp::NotEqual => "!=",
        MatchOp::Regex => "=~",
        MatchOp::NotRegex => "!~",
    };
    json!({"name": m.name, "value": m.value, "type": kind})
}

/// A duration in ms; one that depends on the query is 0, with its text beside it.
fn duration(node: &mut Map<String, Value>, key: &str, value: &Duration) {
    match value {
        Duration::Fixed(ms) => {
            node.insert(key.into(), (*ms).into());
        }
        Duration::Expr(expr) => {
            node.insert(key.into(), 0.into());
            node.insert(format!("{key}Expr"), expr.to_string().into());
        }
    }
}

fn at(node: &mut Map<String, Value>, at: Option<At>) {
    let (timestamp, bound) = match at {
        None => (Value::Null, Value::Null),
        Some(At::Time(t)) => (t.into(), Value::Null),
        Some(At::Bound(AtBound::Start)) => (Value::Null, "start".into()),
        Some(At::Bound(AtBound::End)) => (Value::Null, "end".into()),
    };
    node.insert("timestamp".into(), timestamp);
    node.insert("startOrEnd".into(), bound);
}

fn matching(m: &VectorMatching) -> Value {
    let card = match m.card {
        Cardinality::OneToOne => "one-to-one",
        Cardinality::ManyToOne => "many-to-one",
        Cardinality::OneToMany => "one-to-many",
        Cardinality::ManyToMany => "many-to-many",
    };
    json!({"card": card, "labels": m.labels, "on": m.on, "include": m.include})
}
