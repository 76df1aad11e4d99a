//! `pyrrha tsdb dump`: series and samples as text.

use clap::ValueEnum;
use pyrrha_model::contract::Value;
use pyrrha_model::{Labels, go_fmt};
use pyrrha_storage::tsdb::{StoredSample, visit_series};
use std::io::Write;

use super::{DirectoryArgs, Selection};
use crate::cli::directory::Sources;
use crate::cli::export;
use crate::cli::output::{CommandError, Out};

/// Form of a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Format {
    /// promtool's: `{labels} value timestamp`, a line per sample.
    Text,
    /// OpenMetrics, as `pyrrha export openmetrics`.
    Openmetrics,
}

pub(super) fn run(
    out: &mut Out,
    directory: &DirectoryArgs,
    selection: &Selection,
    format: Format,
) -> Result<bool, CommandError> {
    if format == Format::Openmetrics {
        return export::run_to(out, directory, selection, export::Format::Openmetrics);
    }
    let (sources, matchers) = (Sources::open(directory, selection)?, selection.matchers()?);
    let mut line = Vec::new();
    visit_series(&sources.ctx, &sources.sources(), &matchers, selection.range(), |labels, samples| {
        line.clear();
        push_labels(&mut line, labels);
        let len = line.len();
        for sample in samples {
            line.truncate(len);
            push_sample(&mut line, sample);
            out.write_all(&line)?;
        }
        Ok::<(), CommandError>(())
    })?;
    sources.report();
    Ok(true)
}

/// `{a="b", c="d"}`, the metric's name as a label like others.
fn push_labels(line: &mut Vec<u8>, labels: &Labels) {
    let mut text = String::from("{");
    for (i, label) in labels.iter().enumerate() {
        text.push_str(if i == 0 { "" } else { ", " });
        if pyrrha_model::labels::is_legacy_label_name(&label.name) {
            text.push_str(&label.name);
        } else {
            go_fmt::push_quoted(&mut text, &label.name);
        }
        text.push('=');
        go_fmt::push_quoted(&mut text, &label.value);
    }
    text.push('}');
    line.extend_from_slice(text.as_bytes());
}

/// ` value timestamp` and the end of the line.
fn push_sample(line: &mut Vec<u8>, (_, time, value): &StoredSample) {
    line.push(b' ');
    match value {
        Value::Float(value) => go_fmt::push_float_g(line, *value),
        Value::Histogram(histogram) => line.extend_from_slice(histogram.to_float().to_string().as_bytes()),
        Value::FloatHistogram(histogram) => line.extend_from_slice(histogram.to_string().as_bytes()),
    }
    line.push(b' ');
    line.extend_from_slice(itoa::Buffer::new().format(*time).as_bytes());
    line.push(b'\n');
}
