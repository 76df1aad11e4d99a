//! An export from a running server, by its query API: one request per series, so that no answer is
//! larger than a series. A server never gives out stale markers.

use std::collections::BTreeMap;
use std::io::Write;

use pyrrha_env::Clock;
use pyrrha_model::contract::Value;
use pyrrha_model::{Labels, TimeRange, Timestamp};
use pyrrha_storage::tsdb::StoredSample;
use serde_json::Value as Json;

use super::Format;
use crate::cli::directory::Selection;
use crate::cli::output::{CommandError, Out, warn};
use crate::cli::query::client::Client;

/// Servers take samples up to this much from the future.
const FUTURE_MS: Timestamp = 600_000;

/// Labels by name.
type Pairs = BTreeMap<String, String>;

/// Exports what the server at `url` has for the tenant.
pub(super) fn run_to(
    out: &mut Out,
    url: &str,
    tenant: &str,
    selection: &Selection,
    format: Format,
) -> Result<bool, CommandError> {
    // What does not parse is said before anybody is asked.
    selection.matchers()?;
    let now = pyrrha_env::SystemClock::new().now_ms();
    let asked = selection.range();
    let range = TimeRange::new(asked.start.max(0), asked.end.min(now + FUTURE_MS));
    let client = Client::new(url, Some(tenant)).map_err(CommandError::new)?;
    let mut encoder = super::encoder(format);
    let (mut buffer, mut histograms) = (Vec::new(), 0);
    encoder.begin(&mut buffer);
    for pairs in series(&client, selection.selectors(), range)? {
        let Some(found) = samples(&client, &pairs, range)? else { continue };
        if format == Format::Json {
            push_line(&mut buffer, &pairs, &found);
        } else {
            histograms += found.histograms.len();
            let labels = Labels::from_pairs(pairs);
            encoder.series(&labels, &found.floats()?, &mut buffer);
        }
        out.write_all(&buffer)?;
        buffer.clear();
    }
    encoder.end(&mut buffer);
    out.write_all(&buffer)?;
    if histograms > 0 {
        warn(format!(
            "a server gives native histograms to json alone, left out: native histograms={histograms}"
        ));
    }
    Ok(true)
}

/// The series that match, each once, in order.
fn series(client: &Client, selectors: &[String], range: TimeRange) -> Result<Vec<Pairs>, CommandError> {
    let mut form = vec![("start", seconds(range.start)), ("end", seconds(range.end))];
    form.extend(selectors.iter().map(|s| ("match[]", s.clone())));
    if selectors.is_empty() {
        form.push(("match[]", "{__name__!=\"\"}".to_owned()));
    }
    let mut answer = ask(client, "api/v1/series", &form)?;
    let mut series: Vec<Pairs> = serde_json::from_value(answer["data"].take()).map_err(strange)?;
    series.sort_unstable();
    series.dedup();
    Ok(series)
}

/// Samples of a series, as the server writes them: time in seconds and value.
struct Found {
    values: Vec<Json>,
    histograms: Vec<Json>,
}

impl Found {
    fn floats(&self) -> Result<Vec<StoredSample>, CommandError> {
        let one = |point: &Json| {
            let value = point[1].as_str().and_then(|v| v.parse().ok());
            let sample = time(point).zip(value).map(|(t, v)| (0, t, Value::Float(v)));
            sample.ok_or_else(|| strange(format!("sample={point}")))
        };
        self.values.iter().map(one).collect()
    }
}

/// What the server has of one series, if anything.
fn samples(client: &Client, pairs: &Pairs, range: TimeRange) -> Result<Option<Found>, CommandError> {
    // A range of PromQL is open on the left.
    let length = range.end.saturating_sub(range.start).saturating_add(1).max(1);
    let form = [("query", format!("{}[{length}ms]", selector(pairs))), ("time", seconds(range.end))];
    found(ask(client, "api/v1/query", &form)?, pairs, range)
}

/// The samples of a series within a range, of the answer to a query for a range vector.
fn found(mut answer: Json, pairs: &Pairs, range: TimeRange) -> Result<Option<Found>, CommandError> {
    // Series with more labels match too.
    let same =
        |found: &Json| serde_json::from_value::<Pairs>(found["metric"].clone()).is_ok_and(|p| p == *pairs);
    let result = answer.pointer_mut("/data/result").and_then(Json::as_array_mut);
    let all = result.ok_or_else(|| strange("no list at data.result"))?;
    let Some(found) = all.iter_mut().find(|found| same(found)) else { return Ok(None) };
    let mut list = |name: &str| match found.get_mut(name).map(Json::take) {
        Some(Json::Array(mut points)) => {
            // Before Prometheus 3 ranges were closed.
            points.retain(|p| time(p).is_some_and(|t| range.start <= t && t <= range.end));
            points
        }
        _ => Vec::new(),
    };
    let found = Found { values: list("values"), histograms: list("histograms") };
    Ok((!found.values.is_empty() || !found.histograms.is_empty()).then_some(found))
}

/// A selector of exactly these labels, and perhaps others.
fn selector(pairs: &Pairs) -> String {
    let plain = |name: &str| {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        name.bytes().all(word) && !name.starts_with(|c: char| c.is_ascii_digit())
    };
    // JSON's escapes are among those of PromQL.
    let quoted = |text: &str| Json::from(text).to_string();
    let one = |(name, value): (&String, &String)| {
        let name = if plain(name) { name.clone() } else { quoted(name) };
        format!("{name}={}", quoted(value))
    };
    format!("{{{}}}", pairs.iter().map(one).collect::<Vec<_>>().join(","))
}

/// The line of `export json`: what the server says, in the order of keys that an export has.
fn push_line(out: &mut Vec<u8>, pairs: &Pairs, found: &Found) {
    out.extend_from_slice(format!("{{\"metric\":{}", serde_json::json!(pairs)).as_bytes());
    for (name, points) in [("values", &found.values), ("histograms", &found.histograms)] {
        let points = points.iter().filter_map(|point| Some((time(point)?, &point[1])));
        super::json::list(out, name, points, |out, value| {
            out.extend_from_slice(value.to_string().as_bytes());
        });
    }
    out.extend_from_slice(b"}\n");
}

fn time(point: &Json) -> Option<Timestamp> {
    // Saturates, which is out of any range.
    point[0].as_f64().map(|seconds| (seconds * 1000.0).round() as Timestamp)
}

fn seconds(ms: Timestamp) -> String {
    (ms as f64 / 1000.0).to_string()
}

fn ask(client: &Client, path: &str, form: &[(&str, String)]) -> Result<Json, CommandError> {
    let answer = client.post(path, form).map_err(CommandError::new)?;
    if answer["status"] == "success" {
        for warning in answer["warnings"].as_array().into_iter().flatten().filter_map(Json::as_str) {
            warn(format!("the server warns: {warning}"));
        }
        return Ok(answer);
    }
    let text = |key: &str| answer[key].as_str().unwrap_or("unknown").to_owned();
    Err(CommandError::new(format!("the server refuses: {}: {}", text("errorType"), text("error"))))
}

fn strange(error: impl std::fmt::Display) -> CommandError {
    CommandError::new(format!("no answer of a Prometheus API: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_quotes_names_and_values() {
        let pairs = [("__name__", "m"), ("a.b", "x\"\\\n\u{1}"), ("9", "")];
        let pairs: Pairs = pairs.map(|(n, v)| (n.to_owned(), v.to_owned())).into();
        let text = selector(&pairs);
        assert_eq!(text, r#"{"9"="",__name__="m","a.b"="x\"\\\n\u0001"}"#);
        let parsed = pyrrha_promql::parser::parse_selector(&text).expect("a selector");
        assert_eq!(parsed.len(), 3);
        assert!(parsed.iter().any(|m| m.value == "x\"\\\n\u{1}"));
    }

    #[test]
    fn answers_of_another_shape_are_errors() {
        let (pairs, range) = (Pairs::from([("a".to_owned(), "b".to_owned())]), TimeRange::new(1000, 2000));
        for text in ["{}", r#"{"data":[]}"#, r#"{"data":{"result":{}}}"#, r#"{"data":{"result":7}}"#] {
            let answer = serde_json::from_str(text).expect("JSON");
            assert!(found(answer, &pairs, range).is_err(), "{text}");
        }
        for text in [
            "[]",
            "[1]",
            r#"[{"metric":[]}]"#,
            r#"[{"metric":{"a":"b"}}]"#,
            r#"[{"metric":{"a":"b"},"values":1}]"#,
        ] {
            let answer =
                serde_json::json!({"data": {"result": serde_json::from_str::<Json>(text).expect("JSON")}});
            assert!(found(answer, &pairs, range).is_ok_and(|found| found.is_none()), "{text}");
        }
        let answer =
            r#"{"data":{"result":[{"metric":{"a":"b"},"values":[[0.5,"1"],[1.5,"2"],[2.5,"3"],[]]}]}}"#;
        let found = found(serde_json::from_str(answer).expect("JSON"), &pairs, range);
        assert_eq!(found.expect("fits").expect("some").values, [serde_json::json!([1.5, "2"])]);
    }
}
