//! JSON of query results: a streaming encoder that writes Prometheus' `data` in pieces
//! (decision 38). Source of the format: Prometheus' HTTP API documentation.

pub(crate) mod histogram;
mod times;

use pyrrha_model::go_fmt::{push_float_f, push_json_float, push_json_timestamp};
use pyrrha_model::{Labels, Timestamp};
use pyrrha_promql::value::Sample;
use pyrrha_promql::{MatrixSeries, QueryValue, VectorSample};

use crate::active::Pieces;
use times::TimeTexts;

/// Bytes after which a piece is handed on.
pub(crate) const PIECE_BYTES: usize = 64 << 10;

/// Writes `{"status":"success","data":{"resultType":…,"result":…` in pieces, then a tail.
pub(crate) struct ResultEncoder {
    value: QueryValue,
    times: TimeTexts,
    /// Statistics, notices and closing braces.
    tail: Vec<u8>,
    place: Place,
}

/// How far the encoder has come.
#[derive(Debug, Clone, Copy)]
enum Place {
    Start,
    /// Before element `item`; in a matrix, before sample `sample` of it.
    Item {
        item: usize,
        sample: usize,
    },
    Tail,
    Done,
}

impl ResultEncoder {
    /// An encoder of `value`, whose samples lie at `start + i·step` (ms; step 0: anywhere). `tail`
    /// follows the result: it begins with what comes after `"result":[…]`.
    pub(crate) fn new(value: QueryValue, start: Timestamp, step: i64, tail: Vec<u8>) -> Self {
        let steps = match &value {
            QueryValue::Matrix(series) if step > 0 && series.len() > 1 => {
                let last = series.iter().filter_map(|s| s.floats.last()).map(|(t, _)| *t).max();
                last.map_or(0, |last| last.saturating_sub(start) / step + 1)
            }
            _ => 0,
        };
        let times = TimeTexts::render(start, step, usize::try_from(steps).unwrap_or(0));
        Self { value, times, tail, place: Place::Start }
    }

    fn start(&self, out: &mut Vec<u8>) -> Place {
        let kind = match &self.value {
            QueryValue::Scalar { .. } => "scalar",
            QueryValue::String { .. } => "string",
            QueryValue::Vector(_) => "vector",
            QueryValue::Matrix(_) => "matrix",
        };
        // `resultType` comes first: Grafana buffers the whole result otherwise.
        out.extend_from_slice(br#"{"status":"success","data":{"resultType":""#);
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(br#"","result":["#);
        match &self.value {
            QueryValue::Scalar { t, v } => {
                // Scalars have no exponent, however large or small, as in Prometheus.
                push_json_timestamp(out, *t);
                out.extend_from_slice(b",\"");
                push_float_f(out, *v);
                out.push(b'"');
            }
            QueryValue::String { t, text } => {
                push_json_timestamp(out, *t);
                out.push(b',');
                push_string(out, text);
            }
            QueryValue::Vector(_) | QueryValue::Matrix(_) => return Place::Item { item: 0, sample: 0 },
        }
        out.push(b']');
        Place::Tail
    }
}

impl Pieces for ResultEncoder {
    fn next_piece(&mut self, out: &mut Vec<u8>) -> bool {
        out.clear();
        while out.len() < PIECE_BYTES {
            self.place = match self.place {
                Place::Start => self.start(out),
                Place::Item { item, sample } => match &self.value {
                    QueryValue::Vector(samples) => push_vector(out, samples, item),
                    QueryValue::Matrix(series) => push_matrix(out, series, &self.times, item, sample),
                    QueryValue::Scalar { .. } | QueryValue::String { .. } => Place::Tail,
                },
                Place::Tail => {
                    out.extend_from_slice(&self.tail);
                    Place::Done
                }
                Place::Done => break,
            };
        }
        !out.is_empty()
    }
}

/// `t,"v"`
fn push_float_point(out: &mut Vec<u8>, t: Timestamp, v: f64) {
    push_json_timestamp(out, t);
    out.extend_from_slice(b",\"");
    push_json_float(out, v);
    out.push(b'"');
}

fn push_vector(out: &mut Vec<u8>, samples: &[VectorSample], mut item: usize) -> Place {
    while let Some(sample) = samples.get(item) {
        if out.len() >= PIECE_BYTES {
            return Place::Item { item, sample: 0 };
        }
        out.extend_from_slice(if item == 0 { br#"{"metric":"# } else { br#",{"metric":"# });
        push_labels(out, &sample.labels);
        match &sample.value {
            Sample::Float(v) => {
                out.extend_from_slice(br#","value":["#);
                push_float_point(out, sample.t, *v);
            }
            Sample::Histogram(h) => {
                out.extend_from_slice(br#","histogram":["#);
                push_json_timestamp(out, sample.t);
                out.push(b',');
                histogram::push(out, h);
            }
        }
        out.extend_from_slice(b"]}");
        item += 1;
    }
    out.push(b']');
    Place::Tail
}

fn push_matrix(
    out: &mut Vec<u8>,
    series: &[MatrixSeries],
    times: &TimeTexts,
    mut item: usize,
    mut sample: usize,
) -> Place {
    while let Some(one) = series.get(item) {
        if sample == 0 {
            if out.len() >= PIECE_BYTES {
                return Place::Item { item, sample };
            }
            out.extend_from_slice(if item == 0 { br#"{"metric":"# } else { br#",{"metric":"# });
            push_labels(out, &one.labels);
        }
        sample = push_floats(out, &one.floats, times, sample);
        if sample < one.floats.len() {
            return Place::Item { item, sample };
        }
        sample = one.floats.len() + push_histograms(out, one, sample - one.floats.len());
        if sample < one.floats.len() + one.histograms.len() {
            return Place::Item { item, sample };
        }
        out.push(b'}');
        (item, sample) = (item + 1, 0);
    }
    out.push(b']');
    Place::Tail
}

/// Writes floats from number `from` on, until the piece is full; returns the next one's number.
fn push_floats(out: &mut Vec<u8>, floats: &[(Timestamp, f64)], times: &TimeTexts, from: usize) -> usize {
    let Some(rest) = floats.get(from..).filter(|r| !r.is_empty()) else { return from };
    if from == 0 {
        out.extend_from_slice(br#","values":["#);
    }
    let mut cursor = times.cursor();
    // The text of the value before: many gauges and counters stand still.
    let mut before = (None, 0..0);
    for (i, (t, v)) in rest.iter().enumerate() {
        // The first one is written in any case, so that the series' opening is not repeated.
        if out.len() >= PIECE_BYTES && from + i > 0 {
            return from + i;
        }
        if from + i > 0 {
            out.push(b',');
        }
        match cursor.seek(*t) {
            Some(text) => out.extend_from_slice(text),
            None => {
                out.push(b'[');
                push_json_timestamp(out, *t);
                out.extend_from_slice(b",\"");
            }
        }
        let text = out.len();
        if before.0 == Some(v.to_bits()) {
            out.extend_from_within(before.1);
        } else {
            push_json_float(out, *v);
        }
        before = (Some(v.to_bits()), text..out.len());
        out.extend_from_slice(b"\"]");
    }
    out.push(b']');
    floats.len()
}

/// Likewise for histograms.
fn push_histograms(out: &mut Vec<u8>, series: &MatrixSeries, from: usize) -> usize {
    let Some(rest) = series.histograms.get(from..).filter(|r| !r.is_empty()) else { return from };
    if from == 0 {
        out.extend_from_slice(br#","histograms":["#);
    }
    for (i, (t, h)) in rest.iter().enumerate() {
        // The first one is written in any case, so that its opening is not repeated.
        if out.len() >= PIECE_BYTES && from + i > 0 {
            return from + i;
        }
        out.extend_from_slice(if from + i > 0 { b",[" } else { b"[" });
        push_json_timestamp(out, *t);
        out.push(b',');
        histogram::push(out, h);
        out.push(b']');
    }
    out.push(b']');
    series.histograms.len()
}

/// A label set as an object.
pub(crate) fn push_labels(out: &mut Vec<u8>, labels: &Labels) {
    out.push(b'{');
    for (i, label) in labels.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        push_string(out, &label.name);
        out.push(b':');
        push_string(out, &label.value);
    }
    out.push(b'}');
}

/// First byte of all characters that may stand for a raw byte.
const RAW_BYTE_LEAD: u8 = 0xf4;

/// Whether the text begins with a character that stands for a byte which is no UTF-8.
fn stands_for_raw_byte(text: &str) -> bool {
    text.chars().next().is_some_and(|c| pyrrha_promql::raw_byte(c).is_some())
}

/// A string with JSON's escapes. Bytes that are no UTF-8, which queries can spell, become U+FFFD as in
/// Prometheus' answers.
pub(crate) fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut written = 0;
    for (i, &b) in bytes.iter().enumerate() {
        if b >= 0x20 && b != b'"' && b != b'\\' && (b != RAW_BYTE_LEAD || !stands_for_raw_byte(&text[i..])) {
            continue;
        }
        out.extend_from_slice(&bytes[written..i]);
        written = i + 1;
        match b {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            RAW_BYTE_LEAD => {
                out.extend_from_slice("\u{FFFD}".as_bytes());
                written = i + '\u{10FFFF}'.len_utf8();
            }
            b => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
            }
        }
    }
    out.extend_from_slice(&bytes[written..]);
    out.push(b'"');
}

#[cfg(test)]
mod tests;
