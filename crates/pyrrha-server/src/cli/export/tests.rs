//! What each form looks like.

use pyrrha_model::contract::Value;
use pyrrha_model::{Histogram, Labels, Span, stale_nan};

use super::{Encode, StoredSample, csv, json, openmetrics};

fn samples() -> (Labels, Vec<StoredSample>) {
    let histogram = Histogram {
        count: 3,
        sum: 4.5,
        positive_spans: vec![Span { offset: 0, length: 1 }],
        positive_buckets: vec![3],
        ..Histogram::default()
    };
    let labels = Labels::from_pairs([("__name__", "m"), ("path", "a,\"b\"\nc")]);
    let floats = [(1_000, 1.5), (2_500, f64::INFINITY), (3_000, stale_nan())];
    let mut samples: Vec<StoredSample> = floats.map(|(t, v)| (0, t, Value::Float(v))).into();
    samples.push((0, 4_000, Value::Histogram(Box::new(histogram))));
    (labels, samples)
}

fn encode(mut encoder: impl Encode) -> (String, Option<String>) {
    let (labels, samples) = samples();
    let mut out = Vec::new();
    encoder.begin(&mut out);
    encoder.series(&labels, &samples, &mut out);
    encoder.end(&mut out);
    (String::from_utf8(out).expect("text"), encoder.left_out())
}

#[test]
fn openmetrics_has_seconds_and_an_end_and_says_what_it_cannot_carry() {
    let (text, left_out) = encode(openmetrics::Encoder::default());
    let series = r#"m{path="a,\"b\"\nc"}"#;
    assert_eq!(text, format!("{series} 1.5 1\n{series} +Inf 2.500\n# EOF\n"));
    let left_out = left_out.expect("a word");
    assert!(left_out.ends_with("native histograms=1 stale markers=1"), "{left_out}");
}

#[test]
fn json_has_values_and_histograms_of_a_series_in_one_line() {
    let (text, _) = encode(json::Encoder);
    let line: serde_json::Value = serde_json::from_str(text.trim_end()).expect("one line of JSON");
    assert_eq!(line["metric"]["path"], "a,\"b\"\nc");
    assert_eq!(line["values"], serde_json::json!([[1, "1.5"], [2.5, "+Inf"], [3, null]]));
    assert_eq!(
        line["histograms"],
        serde_json::json!([[4, {"count": "3", "sum": "4.5", "buckets": [[0, "0.5", "1", "3"]]}]])
    );
}

#[test]
fn csv_quotes_what_needs_it() {
    let (text, _) = encode(csv::Encoder::default());
    let lines: Vec<&str> = text.split("\r\n").collect();
    assert_eq!(lines[0], "timestamp,metric,labels,value");
    assert_eq!(lines[1], r#"1000,m,"{""path"":""a,\""b\""\nc""}",1.5"#);
    assert!(lines[3].starts_with("3000,m,") && lines[3].ends_with("\","), "{}", lines[3]);
    assert!(lines[4].ends_with(r#","{count:3, sum:4.5, (0.5,1]:3}""#), "{}", lines[4]);
}
