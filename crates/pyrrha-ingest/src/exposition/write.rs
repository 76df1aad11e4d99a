//! Writes OpenMetrics text.

use pyrrha_model::go_fmt::{push_float_g, push_json_timestamp};
use pyrrha_model::labels::{is_legacy_label_name, is_legacy_metric_name};
use pyrrha_model::{Labels, METRIC_NAME, Timestamp};

/// Writes samples with their times, series after series. Names beyond `[a-zA-Z_:][a-zA-Z0-9_:]*`
/// are quoted, as later versions of the format have it.
#[derive(Debug, Default)]
pub struct OpenMetricsWriter {
    /// Name and labels of the series, and a space.
    series: Vec<u8>,
}

impl OpenMetricsWriter {
    /// Begins a series.
    pub fn series(&mut self, labels: &Labels) {
        let out = &mut self.series;
        out.clear();
        let name = labels.metric_name();
        let bare = is_legacy_metric_name(name);
        if bare {
            out.extend_from_slice(name.as_bytes());
        }
        let mut separator: &[u8] = b"{";
        if !bare && !name.is_empty() {
            out.extend_from_slice(separator);
            push_quoted(out, name);
            separator = b",";
        }
        for label in labels.iter().filter(|l| l.name != METRIC_NAME) {
            out.extend_from_slice(separator);
            separator = b",";
            if is_legacy_label_name(&label.name) {
                out.extend_from_slice(label.name.as_bytes());
            } else {
                push_quoted(out, &label.name);
            }
            out.push(b'=');
            push_quoted(out, &label.value);
        }
        out.extend_from_slice(if separator == b"," { b"} " } else { b" " });
    }

    /// Writes a sample of the series that was begun, at `time` ms.
    pub fn sample(&self, value: f64, time: Timestamp, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.series);
        push_float_g(out, value);
        out.push(b' ');
        push_json_timestamp(out, time);
        out.push(b'\n');
    }

    /// Ends the text.
    pub fn end(out: &mut Vec<u8>) {
        out.extend_from_slice(b"# EOF\n");
    }
}

fn push_quoted(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}
