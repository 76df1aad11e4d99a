//! Results and plans as text.

use std::fmt::Write;

use pyrrha_model::go_fmt::quote;
use serde_json::Value;

/// A result, as promtool prints it.
pub(super) fn result(data: &Value) -> String {
    let (kind, result) = (data["resultType"].as_str().unwrap_or(""), &data["result"]);
    let mut out = String::new();
    match kind {
        "scalar" | "string" => {
            let _ = writeln!(out, "{kind}: {} @[{}]", text(&result[1]), result[0]);
        }
        _ => result.as_array().into_iter().flatten().for_each(|series| push_series(&mut out, series)),
    }
    out
}

fn push_series(out: &mut String, series: &Value) {
    let _ = write!(out, "{} =>", metric(&series["metric"]));
    for key in ["value", "histogram"] {
        if let Some(point) = series.get(key) {
            let _ = write!(out, " {} @[{}]", text(&point[1]), point[0]);
        }
    }
    out.push('\n');
    for key in ["values", "histograms"] {
        for point in series[key].as_array().into_iter().flatten() {
            let _ = writeln!(out, "{} @[{}]", text(&point[1]), point[0]);
        }
    }
}

/// A float is a text already; a histogram is shown as JSON.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// `name{label="value"}`
fn metric(labels: &Value) -> String {
    let empty = serde_json::Map::new();
    let labels = labels.as_object().unwrap_or(&empty);
    let name = labels.get("__name__").and_then(Value::as_str).unwrap_or("");
    let mut pairs: Vec<(&str, &str)> = labels
        .iter()
        .filter(|(name, _)| *name != "__name__")
        .map(|(name, value)| (name.as_str(), value.as_str().unwrap_or("")))
        .collect();
    pairs.sort_unstable();
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={}", quote(value))).collect();
    if pairs.is_empty() && !name.is_empty() {
        name.to_owned()
    } else {
        format!("{name}{{{}}}", pairs.join(", "))
    }
}

/// A plan: an operator a line, operands indented below it.
pub(super) fn plan(node: &Value) -> String {
    let mut out = String::new();
    push_operator(&mut out, node, 0);
    let of = |key: &str| node["bucket"][key].as_u64().unwrap_or(0);
    let keys = ["requests", "fetchedBytes", "memoryCacheBytes", "diskCacheBytes"].map(of);
    if keys.iter().any(|count| *count > 0) {
        let [requests, fetched, memory, disk] = keys;
        let _ = writeln!(
            out,
            "bucket: requests={requests} bytes={fetched} from_memory={memory} from_disk={disk}"
        );
    }
    out
}

fn push_operator(out: &mut String, node: &Value, depth: usize) {
    let word = |key: &str| node[key].as_str().unwrap_or("");
    let _ = write!(out, "{:1$}{2}", "", depth * 2, word("operator"));
    if !word("detail").is_empty() {
        let _ = write!(out, " {}", word("detail"));
    }
    for (key, says) in [("holdsInput", "holds its input"), ("once", "once")] {
        if node[key] == true {
            let _ = write!(out, " · {says}");
        }
    }
    if let Some(number) = node["shared"].as_u64() {
        let _ = write!(out, " · shared #{number}");
    }
    if let Some(seconds) = node["timeSeconds"].as_f64() {
        let ms = seconds * 1000.0;
        let _ = write!(
            out,
            " · series={} samples={} bytes={} time={ms:.3}ms",
            node["series"], node["samples"], node["bytes"]
        );
    }
    out.push('\n');
    for operand in node["operands"].as_array().into_iter().flatten() {
        push_operator(out, operand, depth + 1);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn results_look_like_promtools() {
        let vector = json!({"resultType": "vector", "result": [
            {"metric": {"__name__": "up", "job": "a\"b", "a": "1"}, "value": [1.5, "2"]},
            {"metric": {"__name__": "up"}, "value": [1.5, "NaN"]},
            {"metric": {}, "histogram": [1.5, {"count": "1"}]},
        ]});
        assert_eq!(
            result(&vector),
            "up{a=\"1\", job=\"a\\\"b\"} => 2 @[1.5]\nup => NaN @[1.5]\n{} => {\"count\":\"1\"} @[1.5]\n"
        );
        let matrix = json!({"resultType": "matrix", "result": [
            {"metric": {"__name__": "up"}, "values": [[1, "2"], [2, "3"]]},
        ]});
        assert_eq!(result(&matrix), "up =>\n2 @[1]\n3 @[2]\n");
        assert_eq!(result(&json!({"resultType": "scalar", "result": [4, "2"]})), "scalar: 2 @[4]\n");
    }

    #[test]
    fn plans_are_indented() {
        let tree = json!({"operator": "aggregate sum", "detail": "by ()", "holdsInput": false, "once": true,
            "series": 1, "samples": 2, "bytes": 3, "timeSeconds": 0.0015,
            "operands": [{"operator": "number", "detail": "1", "holdsInput": true, "once": false, "shared": 2}]});
        assert_eq!(
            plan(&tree),
            "aggregate sum by () · once · series=1 samples=2 bytes=3 time=1.500ms\n  number 1 · holds its input · shared #2\n"
        );
    }
}
