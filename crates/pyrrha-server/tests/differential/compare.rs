//! Says whether two answers are the same.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::http::Response;

/// Largest relative difference of equal values.
const TOLERANCE: f64 = 1e-9;
/// Differences below this are noise of cancellation: the data's values are between 0.25 and 1e7.
const NOISE: f64 = 1e-7;

/// What the comparison says.
pub(crate) enum Verdict {
    /// The same.
    Equal {
        /// Number of samples.
        samples: usize,
    },
    /// Both refuse the query.
    BothRefuse,
    /// The reference refuses what today's language allows.
    Incomparable,
    /// Not the same; how.
    Different(String),
}

type Samples = BTreeMap<String, BTreeMap<String, f64>>;

/// Compares the answer of the reference with that of the server under test.
pub(crate) fn verdict(reference: &Response, tested: &Response) -> Verdict {
    let (want, got): (Value, Value) = match (parse(reference), parse(tested)) {
        (Ok(want), Ok(got)) => (want, got),
        (Err(why), _) => return Verdict::Different(format!("reference: {why}")),
        (_, Err(why)) => return Verdict::Different(format!("tested: {why}")),
    };
    match (want["status"].as_str(), got["status"].as_str()) {
        (Some("success"), Some("success")) => compare(&want["data"], &got["data"]),
        (Some("error"), Some("error")) => Verdict::BothRefuse,
        // 2.42 fails where series with disjoint steps are merged today, and checks matches later.
        (Some("error"), Some("success")) => Verdict::Incomparable,
        (_, _) if got["error"].as_str().is_some_and(|e| e.contains("multiple matches for labels")) => {
            Verdict::Incomparable
        }
        (_, _) => Verdict::Different(format!("refused: {}", got["error"])),
    }
}

fn parse(response: &Response) -> Result<Value, String> {
    serde_json::from_slice(&response.body)
        .map_err(|e| format!("{}: {e}: {}", response.status, response.text()))
}

fn compare(want: &Value, got: &Value) -> Verdict {
    if want["resultType"] != got["resultType"] {
        return Verdict::Different(format!("type {} instead of {}", got["resultType"], want["resultType"]));
    }
    let (want, got) = (samples(want), samples(got));
    for (series, values) in &want {
        let Some(others) = got.get(series) else {
            return Verdict::Different(format!("series {series} is missing"));
        };
        for (t, value) in values {
            match others.get(t) {
                None => return Verdict::Different(format!("{series} has nothing at {t}, not {value}")),
                Some(other) if !same(*value, *other) => {
                    return Verdict::Different(format!("{series} at {t}: {other} instead of {value}"));
                }
                Some(_) => {}
            }
        }
        if let Some(t) = others.keys().find(|t| !values.contains_key(*t)) {
            return Verdict::Different(format!("{series} has {} at {t}, where nothing is", others[t]));
        }
    }
    if let Some(series) = got.keys().find(|s| !want.contains_key(*s)) {
        return Verdict::Different(format!("series {series} should not be there"));
    }
    Verdict::Equal { samples: want.values().map(BTreeMap::len).sum() }
}

fn same(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= NOISE.max(TOLERANCE * a.abs().max(b.abs()))
}

fn samples(data: &Value) -> Samples {
    let result = &data["result"];
    let mut all = Samples::new();
    if data["resultType"] == "scalar" {
        let (t, v) = pair(result);
        return BTreeMap::from([("scalar".to_owned(), BTreeMap::from([(t, v)]))]);
    }
    for series in result.as_array().into_iter().flatten() {
        let points = match series.get("values") {
            Some(values) => values.as_array().into_iter().flatten().map(pair).collect(),
            None => BTreeMap::from([pair(&series["value"])]),
        };
        all.insert(series["metric"].to_string(), points);
    }
    all
}

fn pair(point: &Value) -> (String, f64) {
    let value = point[1].as_str().unwrap_or("");
    (point[0].to_string(), value.parse().unwrap_or_else(|_| panic!("{value:?} is no sample value")))
}
