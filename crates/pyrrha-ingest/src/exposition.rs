//! Reads and writes exposition text: Prometheus' text format 0.0.4 and OpenMetrics 1.0.
//!
//! Source: the two formats' specifications. Times are milliseconds in the former and seconds in
//! the latter; everything else that differs is accepted in both.

mod line;
mod stream;
mod write;

use std::collections::BTreeMap;

use pyrrha_model::{Exemplar, Labels, Metadata, MetricType, Timestamp};

pub use stream::OpenMetricsLines;
pub use write::OpenMetricsWriter;

/// Dialect of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `text/plain; version=0.0.4`
    Prometheus,
    /// `application/openmetrics-text`
    OpenMetrics,
}

/// What a text holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Exposition {
    /// Samples in order of appearance.
    pub samples: Vec<ExposedSample>,
    /// Metadata by metric family.
    pub metadata: BTreeMap<String, Metadata>,
}

/// One line of a text.
#[derive(Debug, Clone, PartialEq)]
pub struct ExposedSample {
    /// Labels, name included.
    pub labels: Labels,
    /// Value.
    pub value: f64,
    /// Time if the line has one, ms.
    pub timestamp: Option<Timestamp>,
    /// Exemplar if the line has one.
    pub exemplar: Option<Exemplar>,
}

/// A line that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("exposition text, line {line}: {message}")]
pub struct ExpositionError {
    /// Line number, from 1.
    pub line: usize,
    /// What is wrong, with the place in the line.
    pub message: String,
}

/// Reads a whole text. The first line that cannot be read fails it.
pub fn parse(text: &str, format: Format) -> Result<Exposition, ExpositionError> {
    let mut exposition = Exposition::default();
    for (index, raw) in text.lines().enumerate() {
        let fault = |message| ExpositionError { line: index + 1, message };
        let raw = raw.trim_matches([' ', '\t', '\r']);
        if raw.is_empty() {
            continue;
        }
        if let Some(comment) = raw.strip_prefix('#') {
            if comment.trim() == "EOF" {
                break;
            }
            describe(comment, &mut exposition.metadata).map_err(fault)?;
        } else {
            exposition.samples.push(line::sample(raw, format).map_err(fault)?);
        }
    }
    Ok(exposition)
}

/// Takes a `HELP`, `TYPE` or `UNIT` comment; any other comment says nothing.
fn describe(comment: &str, metadata: &mut BTreeMap<String, Metadata>) -> Result<(), String> {
    let Some((keyword, rest)) = comment.trim_start().split_once([' ', '\t']) else { return Ok(()) };
    if !matches!(keyword, "HELP" | "TYPE" | "UNIT") {
        return Ok(());
    }
    let (metric, text) = line::family_name(rest.trim_start())?;
    let entry = metadata.entry(metric).or_default();
    let text = text.trim();
    match keyword {
        "HELP" => entry.help = line::unescape_help(text),
        "UNIT" => entry.unit = text.to_owned(),
        _ => entry.metric_type = metric_type(text)?,
    }
    Ok(())
}

fn metric_type(text: &str) -> Result<MetricType, String> {
    Ok(match text {
        "counter" => MetricType::Counter,
        "gauge" => MetricType::Gauge,
        "histogram" => MetricType::Histogram,
        "gaugehistogram" => MetricType::GaugeHistogram,
        "summary" => MetricType::Summary,
        "info" => MetricType::Info,
        "stateset" => MetricType::StateSet,
        "untyped" | "unknown" => MetricType::Unknown,
        other => return Err(format!("invalid metric type {other:?}")),
    })
}

#[cfg(test)]
mod tests;
