//! JSON lines: `{"metric":{…},"values":[[t,"v"],…],"histograms":[[t,{…}],…]}`. A stale marker is
//! `null`.

use pyrrha_model::contract::Value;
use pyrrha_model::go_fmt::{push_json_float, push_json_timestamp};
use pyrrha_model::{FloatHistogram, Labels, Timestamp, is_stale_nan};
use pyrrha_storage::tsdb::StoredSample;

pub(super) struct Encoder;

impl super::Encode for Encoder {
    fn series(&mut self, labels: &Labels, samples: &[StoredSample], out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"metric\":{");
        for (i, label) in labels.iter().enumerate() {
            out.extend_from_slice(if i == 0 { b"" } else { b"," });
            crate::json::push_string(out, &label.name);
            out.push(b':');
            crate::json::push_string(out, &label.value);
        }
        out.push(b'}');
        list(out, "values", samples.iter().filter_map(float), |out, value| {
            if is_stale_nan(value) {
                return out.extend_from_slice(b"null");
            }
            out.push(b'"');
            push_json_float(out, value);
            out.push(b'"');
        });
        list(out, "histograms", samples.iter().filter_map(histogram), |out, value| {
            if value.is_stale() {
                return out.extend_from_slice(b"null");
            }
            crate::json::histogram::push(out, &value);
        });
        out.extend_from_slice(b"}\n");
    }
}

fn float((_, time, value): &StoredSample) -> Option<(Timestamp, f64)> {
    match value {
        Value::Float(value) => Some((*time, *value)),
        Value::Histogram(_) | Value::FloatHistogram(_) => None,
    }
}

fn histogram((_, time, value): &StoredSample) -> Option<(Timestamp, FloatHistogram)> {
    match value {
        Value::Float(_) => None,
        Value::Histogram(histogram) => Some((*time, histogram.to_float())),
        Value::FloatHistogram(histogram) => Some((*time, (**histogram).clone())),
    }
}

/// `,"name":[[time,value],…]`, or nothing where there are none.
pub(super) fn list<V>(
    out: &mut Vec<u8>,
    name: &str,
    samples: impl Iterator<Item = (Timestamp, V)>,
    push: impl Fn(&mut Vec<u8>, V),
) {
    let mut any = false;
    for (time, value) in samples {
        if any {
            out.push(b',');
        } else {
            out.extend_from_slice(format!(",\"{name}\":[").as_bytes());
        }
        any = true;
        out.push(b'[');
        push_json_timestamp(out, time);
        out.push(b',');
        push(out, value);
        out.push(b']');
    }
    if any {
        out.push(b']');
    }
}
