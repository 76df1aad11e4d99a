//! Samples as exposition text: Prometheus' or OpenMetrics', by what the scraper accepts.

use std::borrow::Cow;

use pyrrha_model::go_fmt::{push_float_g, push_json_timestamp};
use pyrrha_model::labels::{is_legacy_label_name, is_legacy_metric_name};
use pyrrha_model::{Labels, METRIC_NAME, StoreError, Timestamp};

use super::{Newest, Value};

/// Samples between two looks at whether to go on.
const UNASKED: usize = 1000;

/// How to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Format {
    open_metrics: bool,
    /// Names may hold any characters, in quotes; else those that are not allowed become underscores.
    any_names: bool,
}

impl Format {
    /// What an `Accept` header asks for.
    pub(super) fn accepted(accept: &str) -> Self {
        Self {
            open_metrics: accept.contains("application/openmetrics-text"),
            any_names: accept.contains("escaping=allow-utf-8"),
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match (self.open_metrics, self.any_names) {
            (true, true) => {
                "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8"
            }
            (true, false) => {
                "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"
            }
            (false, true) => "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
            (false, false) => "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
        }
    }

    fn metric_name(self, name: &str) -> Cow<'_, str> {
        self.escaped(name, is_legacy_metric_name(name), |c| c.is_ascii_alphanumeric() || "_:".contains(c))
    }

    fn label_name(self, name: &str) -> Cow<'_, str> {
        self.escaped(name, is_legacy_label_name(name), |c| c.is_ascii_alphanumeric() || c == '_')
    }

    fn escaped(self, name: &str, is_legacy: bool, allowed: impl Fn(char) -> bool) -> Cow<'_, str> {
        if is_legacy || self.any_names {
            return name.into();
        }
        let keep =
            |(i, c): (usize, char)| if allowed(c) && !(i == 0 && c.is_ascii_digit()) { c } else { '_' };
        name.chars().enumerate().map(keep).collect::<String>().into()
    }
}

/// Writes samples that are sorted by name.
pub(super) fn write(
    samples: &[Newest],
    format: Format,
    check: impl Fn() -> Result<(), StoreError>,
) -> Result<Vec<u8>, StoreError> {
    let mut writer = Writer { out: Vec::new(), format };
    let mut family = None;
    for (i, sample) in samples.iter().enumerate() {
        if i % UNASKED == 0 {
            check()?;
        }
        let kind = match (&sample.value, format.open_metrics) {
            (Value::Buckets(_), _) => "histogram",
            (Value::Float(_), true) => "unknown",
            (Value::Float(_), false) => "untyped",
        };
        let name = format.metric_name(sample.labels.metric_name());
        if family.as_ref() != Some(&(name.clone(), kind)) {
            writer.describe(&name, kind);
        }
        writer.sample(&name, sample);
        family = Some((name, kind));
    }
    if format.open_metrics {
        writer.out.extend_from_slice(b"# EOF\n");
    }
    Ok(writer.out)
}

struct Writer {
    out: Vec<u8>,
    format: Format,
}

impl Writer {
    fn describe(&mut self, name: &str, kind: &str) {
        self.out.extend_from_slice(b"# TYPE ");
        if is_legacy_metric_name(name) {
            self.text(name)
        } else {
            self.quoted(name)
        }
        self.text(" ");
        self.text(kind);
        self.text("\n");
    }

    fn sample(&mut self, name: &str, sample: &Newest) {
        let Newest { labels, time, value } = sample;
        match value {
            Value::Float(value) => self.line(name, labels, None, *value, *time),
            Value::Buckets(histogram) => {
                let (bucket, mut below, mut buckets) =
                    (format!("{name}_bucket"), 0.0, histogram.positive().peekable());
                for bound in histogram.custom_values.iter() {
                    while let Some(b) = buckets.next_if(|b| b.upper <= *bound) {
                        below += b.count;
                    }
                    self.line(&bucket, labels, Some(*bound), below, *time);
                }
                self.line(&bucket, labels, Some(f64::INFINITY), histogram.count, *time);
                self.line(&format!("{name}_sum"), labels, None, histogram.sum, *time);
                self.line(&format!("{name}_count"), labels, None, histogram.count, *time);
            }
        }
    }

    fn line(&mut self, name: &str, labels: &Labels, bound: Option<f64>, value: f64, time: Timestamp) {
        let is_bare = is_legacy_metric_name(name);
        if is_bare {
            self.text(name);
        }
        self.text("{");
        if !is_bare {
            self.quoted(name);
            self.text(",");
        }
        for label in labels.iter().filter(|l| l.name != METRIC_NAME) {
            let name = self.format.label_name(&label.name);
            if is_legacy_label_name(&name) {
                self.text(&name)
            } else {
                self.quoted(&name)
            }
            self.text("=");
            self.quoted(&label.value);
            self.text(",");
        }
        // So that the scraper does not put its own in.
        if labels.get("instance").is_none() {
            self.text("instance=\"\",");
        }
        match bound {
            Some(bound) => {
                self.text("le=\"");
                push_float_g(&mut self.out, bound);
                self.text("\"");
            }
            None => drop(self.out.pop()),
        }
        self.text("} ");
        push_float_g(&mut self.out, value);
        self.text(" ");
        if self.format.open_metrics {
            push_json_timestamp(&mut self.out, time);
        } else {
            self.text(&time.to_string());
        }
        self.text("\n");
    }

    fn text(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn quoted(&mut self, text: &str) {
        self.out.push(b'"');
        for byte in text.bytes() {
            match byte {
                b'\n' => self.out.extend_from_slice(b"\\n"),
                b'"' | b'\\' => self.out.extend_from_slice(&[b'\\', byte]),
                _ => self.out.push(byte),
            }
        }
        self.out.push(b'"');
    }
}
