//! `GET /api/v1/status/self_metrics`: the server's own metrics as JSON, in the form that Protocol Buffers give
//! `io.prometheus.client.MetricFamily`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use pyrrha_ingest::exposition::{self, Exposition, Format};
use pyrrha_model::contract::QueryContext;
use pyrrha_model::go_regex::GoRegex;
use pyrrha_model::{ErrorKind, Labels, MetricType};
use serde_json::{Map, Value, json};

use super::envelope::{ApiError, NoticeLists, success};
use super::request::ApiRequest;
use super::work;
use crate::app::App;

/// `GET /api/v1/status/self_metrics`: of all families, or of those whose whole name `metric_name_pattern` matches.
pub(crate) async fn self_metrics(
    State(app): State<Arc<App>>,
    request: ApiRequest,
) -> Result<Response, ApiError> {
    const PATTERN: &str = "metric_name_pattern";
    let pattern = request.params.get(PATTERN).map(str::to_owned);
    let job = {
        let app = app.clone();
        move |_: &QueryContext, _: &ApiRequest| {
            let pattern = pattern.as_deref().map(GoRegex::anchored).transpose();
            let pattern = pattern.map_err(|e| ApiError::parameter(PATTERN, e))?;
            let text = app.telemetry.render();
            let read = exposition::parse(&text, Format::OpenMetrics)
                .map_err(|e| ApiError::of_kind(ErrorKind::Internal, e.to_string()))?;
            Ok(families(&read, |name| pattern.as_ref().is_none_or(|p| p.is_match(name))))
        }
    };
    let (found, _) = work::run(&app, request, "own metrics", job).await?;
    Ok(success(&found, &NoticeLists::default()))
}

/// A family, named as Prometheus' older text format names it: with the suffix of its samples.
struct Family {
    kind: MetricType,
    help: String,
    /// By the labels that tell them apart.
    metrics: BTreeMap<Labels, Metric>,
}

#[derive(Default)]
struct Metric {
    value: f64,
    count: f64,
    /// Bounds and how much is not above them; the last, infinite one is the count.
    buckets: Vec<(f64, f64)>,
}

/// The families that are wanted, by name.
fn families(read: &Exposition, wanted: impl Fn(&str) -> bool) -> Vec<Value> {
    let mut all: BTreeMap<String, Family> = BTreeMap::new();
    for (base, metadata) in &read.metadata {
        let suffix = match metadata.metric_type {
            MetricType::Counter => "_total",
            MetricType::Info => "_info",
            _ => "",
        };
        let name = format!("{base}{suffix}");
        if wanted(&name) {
            let (kind, help) = (metadata.metric_type, metadata.help.clone());
            all.insert(name, Family { kind, help, metrics: BTreeMap::new() });
        }
    }
    for sample in &read.samples {
        let name = sample.labels.metric_name();
        let suffixes = ["_bucket", "_sum", "_count"];
        let of_histogram = suffixes.into_iter().find_map(|suffix| Some((name.strip_suffix(suffix)?, suffix)));
        let is_histogram = |family: &Family| family.kind == MetricType::Histogram;
        if let Some((base, suffix)) = of_histogram
            && let Some(family) = all.get_mut(base).filter(|family| is_histogram(family))
        {
            family.add_to_histogram(&sample.labels, suffix, sample.value);
        } else if let Some(family) = all.get_mut(name) {
            family.metrics.entry(without(&sample.labels, &["__name__"])).or_default().value = sample.value;
        }
    }
    // Of families without samples Go tells nothing.
    all.retain(|_, family| !family.metrics.is_empty());
    all.iter().map(|(name, family)| family.render(name)).collect()
}

impl Family {
    fn add_to_histogram(&mut self, labels: &Labels, suffix: &str, value: f64) {
        let bound = labels.get("le").and_then(|le| le.parse().ok());
        let metric = self.metrics.entry(without(labels, &["__name__", "le"])).or_default();
        match (suffix, bound) {
            ("_sum", _) => metric.value = value,
            ("_count", _) => metric.count = value,
            (_, Some(bound)) if bound != f64::INFINITY => metric.buckets.push((bound, value)),
            _ => {}
        }
    }

    fn render(&self, name: &str) -> Value {
        let kind = match self.kind {
            MetricType::Counter => "COUNTER",
            MetricType::Gauge | MetricType::Info | MetricType::StateSet => "GAUGE",
            MetricType::Histogram => "HISTOGRAM",
            MetricType::GaugeHistogram | MetricType::Summary | MetricType::Unknown => "UNTYPED",
        };
        let metrics: Vec<Value> = self.metrics.iter().map(|(labels, m)| m.render(kind, labels)).collect();
        json!({"name": name, "help": self.help, "type": kind, "metric": metrics})
    }
}

impl Metric {
    fn render(&self, kind: &str, labels: &Labels) -> Value {
        let mut metric = Map::new();
        if !labels.is_empty() {
            let pairs: Vec<Value> =
                labels.iter().map(|l| json!({"name": l.name, "value": l.value})).collect();
            metric.insert("label".to_owned(), pairs.into());
        }
        let value = if kind == "HISTOGRAM" {
            // Integers of 64 bits are strings there.
            let whole = |n: f64| (n as u64).to_string();
            let bucket =
                |(bound, n): &(f64, f64)| json!({"cumulativeCount": whole(*n), "upperBound": number(*bound)});
            let buckets: Vec<Value> = self.buckets.iter().map(bucket).collect();
            json!({"sampleCount": whole(self.count), "sampleSum": number(self.value), "bucket": buckets})
        } else {
            json!({"value": number(self.value)})
        };
        metric.insert(kind.to_lowercase(), value);
        metric.into()
    }
}

fn without(labels: &Labels, names: &[&str]) -> Labels {
    let mut builder = labels.to_builder();
    builder.retain(|label| !names.contains(&label.name.as_str()));
    builder.build()
}

/// A number as Protocol Buffers have it in JSON: what JSON cannot say is a word.
fn number(value: f64) -> Value {
    /// From here on not every integer is a float.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.is_nan() {
        "NaN".into()
    } else if value.is_infinite() {
        if value > 0.0 { "Infinity".into() } else { "-Infinity".into() }
    } else if value.fract() == 0.0 && value.abs() < EXACT {
        (value as i64).into()
    } else {
        value.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_what_go_makes_of_them() {
        let text = "# HELP b Version.\n# TYPE b info\nb_info{v=\"1\"} 1\n# HELP r Requests.\n# TYPE r counter\n\
                    r_total{code=\"200\"} 3\nr_total{code=\"500\"} 0\n# TYPE h histogram\nh_sum{q=\"x\"} 1.5\n\
                    h_count{q=\"x\"} 3\nh_bucket{q=\"x\",le=\"0.5\"} 2\nh_bucket{q=\"x\",le=\"+Inf\"} 3\n\
                    # TYPE u unknown\nu NaN\n# TYPE e gauge\n# TYPE r_sum gauge\nr_sum 2.5\n# EOF\n";
        let read = exposition::parse(text, Format::OpenMetrics).expect("well-formed");
        let label = |name: &str, value: &str| json!([{"name": name, "value": value}]);
        let expected = json!([
            {"name": "b_info", "help": "Version.", "type": "GAUGE",
             "metric": [{"label": label("v", "1"), "gauge": {"value": 1}}]},
            {"name": "h", "help": "", "type": "HISTOGRAM",
             "metric": [{"label": label("q", "x"),
                         "histogram": {"sampleCount": "3", "sampleSum": 1.5,
                                       "bucket": [{"cumulativeCount": "2", "upperBound": 0.5}]}}]},
            {"name": "r_sum", "help": "", "type": "GAUGE", "metric": [{"gauge": {"value": 2.5}}]},
            {"name": "r_total", "help": "Requests.", "type": "COUNTER",
             "metric": [{"label": label("code", "200"), "counter": {"value": 3}},
                        {"label": label("code", "500"), "counter": {"value": 0}}]},
            {"name": "u", "help": "", "type": "UNTYPED", "metric": [{"untyped": {"value": "NaN"}}]},
        ]);
        assert_eq!(Value::Array(families(&read, |_| true)), expected);
        let some = families(&read, |name| name == "h");
        assert_eq!(Value::Array(some), json!([expected[1]]));
    }
}
