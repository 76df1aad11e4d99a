//! Tests of the encoder: bytes as Prometheus writes them, in one piece or many.

use std::sync::Arc;

use proptest::prelude::*;
use pyrrha_model::{FloatHistogram, Span};
use serde_json::{Value, json};

use super::*;

fn encode(value: QueryValue, start: Timestamp, step: i64) -> String {
    let mut encoder = ResultEncoder::new(value, start, step, b"}}".to_vec());
    let (mut all, mut piece) = (Vec::new(), Vec::new());
    while encoder.next_piece(&mut piece) {
        all.extend_from_slice(&piece);
    }
    String::from_utf8(all).expect("UTF-8")
}

fn up(instance: &str) -> Labels {
    Labels::from_pairs([("__name__", "up"), ("instance", instance)])
}

#[test]
fn a_number_that_repeats_is_written_like_one_that_does_not() {
    let nan = f64::from_bits(0x7ff8_0000_0000_0001);
    let numbers =
        [0.0, -0.0, -0.0, 0.0, f64::NAN, nan, f64::NAN, f64::INFINITY, f64::INFINITY, f64::NEG_INFINITY, 1.5];
    // Each number beside each, and the same one three times.
    let pairs = numbers.iter().flat_map(|a| numbers.iter().flat_map(move |b| [*a, *b, *b, *b, *a]));
    let floats: Vec<(Timestamp, f64)> = (0..).zip(pairs).map(|(i, v)| (i * 1000, v)).collect();
    let expected: Vec<Value> =
        floats.iter().map(|(t, v)| json!([t / 1000, pyrrha_model::go_fmt::json_float(*v)])).collect();
    let matrix = vec![MatrixSeries { labels: up("a"), floats, histograms: vec![] }];
    let text = encode(QueryValue::Matrix(matrix), 0, 1000);
    assert!(text.contains(r#""-0""#), "the sign of zero is told");
    let value: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(value["data"]["result"][0]["values"], json!(expected));
}

#[test]
fn scalars_and_strings_are_one_point() {
    assert_eq!(
        encode(QueryValue::Scalar { t: 4000, v: 2.0 }, 0, 0),
        r#"{"status":"success","data":{"resultType":"scalar","result":[4,"2"]}}"#
    );
    for (v, text) in [(1e21, "1000000000000000000000"), (-1e-7, "-0.0000001"), (f64::INFINITY, "+Inf")] {
        let encoded = encode(QueryValue::Scalar { t: 0, v }, 0, 0);
        assert!(encoded.contains(&format!("[0,\"{text}\"]")), "{encoded}");
    }
    assert_eq!(
        encode(QueryValue::String { t: 1500, text: "a\"\n\u{1}é".into() }, 0, 0),
        r#"{"status":"success","data":{"resultType":"string","result":[1.500,"a\"\n\u0001é"]}}"#
    );
}

#[test]
fn vectors_and_matrices_look_like_prometheus() {
    let vector = QueryValue::Vector(vec![
        VectorSample { labels: up("a"), t: 1005, value: Sample::Float(f64::INFINITY) },
        VectorSample { labels: Labels::empty(), t: 0, value: Sample::Float(1e-7) },
    ]);
    assert_eq!(
        encode(vector, 0, 0),
        r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"up","instance":"a"},"value":[1.005,"+Inf"]},{"metric":{},"value":[0,"1e-07"]}]}}"#
    );
    let matrix = QueryValue::Matrix(vec![
        MatrixSeries { labels: up("a"), floats: vec![(0, 1.0), (15_000, 2.5)], histograms: vec![] },
        MatrixSeries { labels: up("b"), floats: vec![(15_000, f64::NAN)], histograms: vec![] },
    ]);
    assert_eq!(
        encode(matrix, 0, 15_000),
        r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"up","instance":"a"},"values":[[0,"1"],[15,"2.5"]]},{"metric":{"__name__":"up","instance":"b"},"values":[[15,"NaN"]]}]}}"#
    );
    assert_eq!(
        encode(QueryValue::Matrix(vec![]), 0, 1),
        r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#
    );
}

#[test]
fn histograms_list_the_buckets_that_hold_something() {
    let h = FloatHistogram {
        schema: 0,
        count: 10.0,
        sum: 3.5,
        zero_threshold: 0.001,
        zero_count: 2.0,
        positive_spans: vec![Span { offset: 0, length: 2 }, Span { offset: 1, length: 1 }],
        positive_buckets: vec![3.0, 0.0, 1.0],
        negative_spans: vec![Span { offset: 1, length: 2 }],
        negative_buckets: vec![1.0, 3.0],
        ..FloatHistogram::default()
    };
    let value = QueryValue::Vector(vec![VectorSample {
        labels: Labels::empty(),
        t: 1000,
        value: Sample::Histogram(Arc::new(h)),
    }]);
    let parsed: Value = serde_json::from_str(&encode(value, 0, 0)).expect("JSON");
    assert_eq!(
        parsed["data"]["result"][0]["histogram"],
        json!([1, {"count": "10", "sum": "3.5", "buckets": [
            [1, "-4", "-2", "3"], [1, "-2", "-1", "1"], [3, "-0.001", "0.001", "2"],
            [0, "0.5", "1", "3"], [0, "4", "8", "1"],
        ]}])
    );
    let custom = FloatHistogram {
        schema: pyrrha_model::histogram::CUSTOM_BUCKETS_SCHEMA,
        count: 3.0,
        positive_spans: vec![Span { offset: 0, length: 3 }],
        positive_buckets: vec![1.0, 1.0, 1.0],
        custom_values: Arc::new([5.0, 10.0]),
        ..FloatHistogram::default()
    };
    let mut out = Vec::new();
    histogram::push(&mut out, &custom);
    assert_eq!(
        String::from_utf8(out).expect("UTF-8"),
        r#"{"count":"3","sum":"0","buckets":[[3,"-Inf","5","1"],[0,"5","10","1"],[0,"10","+Inf","1"]]}"#
    );
}

#[test]
fn a_large_matrix_comes_in_pieces_of_bounded_size() {
    let floats: Vec<_> = (0..20_000i64).map(|i| (i * 1000, i as f64 / 8.0)).collect();
    let h = Arc::new(FloatHistogram { count: 1.0, ..FloatHistogram::default() });
    let histograms: Vec<_> = (20_000..25_000i64).map(|i| (i * 1000, h.clone())).collect();
    let series: Vec<_> = ["a", "b", "c"]
        .into_iter()
        .map(|i| MatrixSeries { labels: up(i), floats: floats.clone(), histograms: histograms.clone() })
        .collect();
    let mut encoder = ResultEncoder::new(QueryValue::Matrix(series), 0, 1000, b"}}".to_vec());
    let (mut all, mut piece) = (Vec::new(), Vec::new());
    while encoder.next_piece(&mut piece) {
        assert!(piece.len() < PIECE_BYTES + 1024, "{}", piece.len());
        all.extend_from_slice(&piece);
    }
    let parsed: Value = serde_json::from_slice(&all).expect("JSON");
    for i in 0..3 {
        let values = parsed["data"]["result"][i]["values"].as_array().expect("a list");
        assert_eq!(values.len(), 20_000);
        assert_eq!(values[19_999], json!([19_999, "2499.875"]));
        let histograms = parsed["data"]["result"][i]["histograms"].as_array().expect("a list");
        assert_eq!(histograms.len(), 5000);
    }
}

#[test]
fn a_piece_may_end_anywhere() {
    let h = Arc::new(FloatHistogram { count: 1.0, ..FloatHistogram::default() });
    for padding in 0..110 {
        let mut series: Vec<_> = (0..700)
            .map(|i| MatrixSeries {
                labels: up(&i.to_string()),
                floats: vec![(0, 1.5), (1000, 2.5)],
                histograms: if i % 2 == 0 { vec![(2000, h.clone())] } else { vec![] },
            })
            .collect();
        series[0].labels = up(&"x".repeat(padding + 1));
        let text = encode(QueryValue::Matrix(series), 0, 1000);
        let parsed: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{padding}: {e}"));
        let result = parsed["data"]["result"].as_array().expect("a list");
        assert_eq!(result.len(), 700);
        assert!(result.iter().all(|s| s["values"].as_array().is_some_and(|v| v.len() == 2)));
    }
}

proptest! {
    #[test]
    fn every_string_reads_back(text in any::<String>()) {
        let mut out = Vec::new();
        push_string(&mut out, &text);
        let replaced = text.replace(|c| pyrrha_promql::raw_byte(c).is_some(), "\u{FFFD}");
        prop_assert_eq!(serde_json::from_slice::<String>(&out).expect("JSON"), replaced);
    }

    #[test]
    fn rendered_times_are_those_of_the_samples(
        start in -10_000_000i64..10_000_000,
        step in 1i64..100_000,
        mut picks in proptest::collection::vec(0i64..500, 1..50),
        off_grid in any::<bool>(),
    ) {
        picks.sort_unstable();
        picks.dedup();
        let shift = i64::from(off_grid && step > 1);
        let floats: Vec<_> = picks.iter().map(|i| (start + i * step + shift, 1.0)).collect();
        let one = |name| MatrixSeries { labels: up(name), floats: floats.clone(), histograms: vec![] };
        let text = encode(QueryValue::Matrix(vec![one("a"), one("b")]), start, step);
        let parsed: Value = serde_json::from_str(&text).expect("JSON");
        for series in parsed["data"]["result"].as_array().expect("a list") {
            let times: Vec<_> = series["values"].as_array().expect("a list").iter()
                .map(|v| (v[0].as_f64().expect("a number") * 1000.0).round() as i64).collect();
            prop_assert_eq!(times, floats.iter().map(|f| f.0).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_piece_that_fills_up_in_a_label_set_repeats_nothing() {
    // The label set alone ends at every offset around the bound of a piece.
    for pad in PIECE_BYTES - 200..PIECE_BYTES + 20 {
        let labels = Labels::from_pairs([("__name__", "a".repeat(pad))]);
        let matrix = QueryValue::Matrix(vec![
            MatrixSeries { labels, floats: vec![(0, 1.0), (1, 2.0)], histograms: vec![] },
            MatrixSeries { labels: up("b"), floats: vec![(0, 3.0)], histograms: vec![] },
        ]);
        let text = encode(matrix, 0, 0);
        let answer: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("pad {pad}: {e}"));
        assert_eq!(answer["data"]["result"][0]["values"], json!([[0, "1"], [0.001, "2"]]), "pad {pad}");
        assert_eq!(answer["data"]["result"][1]["values"], json!([[0, "3"]]), "pad {pad}");
    }
}

#[test]
fn bytes_that_are_no_utf8_are_replaced() {
    let string = |query: &str| {
        let mut out = Vec::new();
        push_string(&mut out, &pyrrha_promql::unquote(query).expect("a string"));
        serde_json::from_slice::<String>(&out).expect("JSON")
    };
    assert_eq!(string(r#""\xff""#), "\u{FFFD}");
    assert_eq!(string(r#""a\x80\xc0\n\xffb\"\U00100000""#), "a\u{FFFD}\u{FFFD}\n\u{FFFD}b\"\u{100000}");
}
