//! CSV by RFC 4180: time in ms, metric name, the other labels as JSON, value. A stale marker is an
//! empty value, a native histogram its text form.

use pyrrha_model::contract::Value;
use pyrrha_model::{Labels, METRIC_NAME, go_fmt, is_stale_nan};
use pyrrha_storage::tsdb::StoredSample;

#[derive(Default)]
pub(super) struct Encoder {
    /// Name and labels of the series, as they stand in each of its lines.
    series: Vec<u8>,
}

impl super::Encode for Encoder {
    fn begin(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"timestamp,metric,labels,value\r\n");
    }

    fn series(&mut self, labels: &Labels, samples: &[StoredSample], out: &mut Vec<u8>) {
        self.series.clear();
        push_cell(&mut self.series, labels.metric_name());
        self.series.push(b',');
        let mut json = Vec::from(*b"{");
        for label in labels.iter().filter(|l| l.name != METRIC_NAME) {
            json.extend_from_slice(if json.len() == 1 { b"" } else { b"," });
            crate::json::push_string(&mut json, &label.name);
            json.push(b':');
            crate::json::push_string(&mut json, &label.value);
        }
        json.push(b'}');
        push_cell(&mut self.series, &String::from_utf8_lossy(&json));
        self.series.push(b',');
        for (_, time, value) in samples {
            out.extend_from_slice(itoa::Buffer::new().format(*time).as_bytes());
            out.push(b',');
            out.extend_from_slice(&self.series);
            match value {
                Value::Float(value) if is_stale_nan(*value) => {}
                Value::Float(value) => go_fmt::push_float_g(out, *value),
                Value::Histogram(h) if h.is_stale() => {}
                Value::FloatHistogram(h) if h.is_stale() => {}
                Value::Histogram(h) => push_cell(out, &h.to_float().to_string()),
                Value::FloatHistogram(h) => push_cell(out, &h.to_string()),
            }
            out.extend_from_slice(b"\r\n");
        }
    }
}

fn push_cell(out: &mut Vec<u8>, text: &str) {
    if !text.contains([',', '"', '\n', '\r']) {
        return out.extend_from_slice(text.as_bytes());
    }
    out.push(b'"');
    for byte in text.bytes() {
        out.extend_from_slice(if byte == b'"' { b"\"\"" } else { std::slice::from_ref(&byte) });
    }
    out.push(b'"');
}
