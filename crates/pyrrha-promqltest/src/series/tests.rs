use pyrrha_model::{CounterResetHint, Span, is_stale_nan};

use super::*;

fn floats(line: &str) -> Vec<Option<f64>> {
    let values = parse_series(line).unwrap_or_else(|e| panic!("{line}: {e}")).values;
    values
        .into_iter()
        .map(|v| {
            v.map(|v| match v {
                SequenceValue::Float(v) => v,
                SequenceValue::Histogram(..) => panic!("{line}"),
            })
        })
        .collect()
}

#[test]
fn values_repeat_and_step() {
    assert_eq!(floats("m 1 2x1 3+2x2 4-1x1"), [1., 2., 2., 3., 5., 7., 4., 3.].map(Some));
    assert_eq!(
        floats("m -1-1x1 +5 .5 1e3 Inf -inf 5m"),
        [-1., -2., 5., 0.5, 1e3, f64::INFINITY, f64::NEG_INFINITY, 300.].map(Some)
    );
    assert_eq!(floats("m _ 1 _x2"), [None, Some(1.0), None, None]);
    assert_eq!(floats("m"), []);
    let stale = floats("m stale NaN stalex1");
    assert_eq!(
        stale.iter().map(|v| v.is_some_and(is_stale_nan)).collect::<Vec<_>>(),
        [true, false, true, true]
    );
    for bad in [
        "m 1,2",
        "m x5",
        "m 1x",
        "m {{schema:1",
        "m 0x1F",
        "m 1x99999999",
        "{a=1} 1",
        "1 2",
        "m {{sum:1 sum:2}}",
    ] {
        assert!(parse_series(bad).is_err(), "{bad}");
    }
}

#[test]
fn labels_may_be_quoted() {
    let labels = |line: &str| parse_series(line).unwrap_or_else(|e| panic!("{line}: {e}")).labels.to_string();
    assert_eq!(labels("m{a=\"b\", c='d',} 1"), "m{a=\"b\", c=\"d\"}");
    assert_eq!(labels("{\"my.m\", \"a.b\"=\"c d\"} 1"), "{\"my.m\", \"a.b\"=\"c d\"}");
    assert_eq!(labels("{} 1"), "{}");
    assert_eq!(labels("m {{schema:0}}"), "m");
    assert_eq!(labels("fill{a=\"}{\"} 1"), "fill{a=\"}{\"}");
}

#[test]
fn histograms_have_their_parts() {
    let line = "m {{schema:1 sum:-0.3 count:3.1 z_bucket:7 z_bucket_w:0.05 buckets:[5 10 7] offset:-3 n_buckets:[4 5] n_offset:-5 counter_reset_hint:gauge}}";
    let values = parse_series(line).expect("a histogram").values;
    let [Some(SequenceValue::Histogram(h, true))] = values.as_slice() else { panic!("{values:?}") };
    assert_eq!((h.schema, h.sum, h.count, h.zero_count, h.zero_threshold), (1, -0.3, 3.1, 7.0, 0.05));
    assert_eq!(h.positive_spans, [Span { offset: -3, length: 3 }]);
    assert_eq!(h.negative_buckets, [4.0, 5.0]);
    assert_eq!(h.counter_reset_hint, CounterResetHint::Gauge);
    let values = parse_series("m {{count:1 buckets:[1]}}+{{count:2 buckets:[2]}}x2").expect("three").values;
    let counts: Vec<f64> = values
        .iter()
        .map(|v| match v {
            Some(SequenceValue::Histogram(h, false)) => h.count,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(counts, [1.0, 3.0, 5.0]);
}

#[test]
fn start_timestamps_are_offsets() {
    let line = "_ _x2 -30s-1mx2 0 1ms";
    let offsets = starts(line, line);
    assert_eq!(
        offsets,
        Ok(vec![None, None, None, Some(-30_000), Some(-90_000), Some(-150_000), Some(0), Some(1)])
    );
}
