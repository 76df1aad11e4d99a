use super::*;

fn bucket(le: &str, counts: &[f64]) -> LoadedSeries {
    series(&[("__name__", "h_bucket"), ("le", le)], counts)
}

fn series(labels: &[(&str, &str)], values: &[f64]) -> LoadedSeries {
    LoadedSeries {
        labels: Labels::from_pairs(labels.iter().copied()),
        samples: values.iter().enumerate().map(|(i, v)| (0, i as i64, LoadedValue::Float(*v))).collect(),
    }
}

#[test]
fn buckets_become_custom_bounds() {
    let found = histograms(&[
        bucket("1", &[1.0, 2.0]),
        bucket("+Inf", &[3.0, 6.0]),
        bucket("0.5", &[0.0, 1.0]),
        bucket("x", &[9.0, 9.0]),
        series(&[("__name__", "h_sum")], &[2.5, 5.0]),
    ])
    .expect("well formed");
    let [one] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(one.labels.to_string(), "h");
    let (_, 1, LoadedValue::Histogram(h)) = &one.samples[1] else { panic!() };
    assert_eq!((h.count, h.sum, &*h.custom_values), (6.0, 5.0, [0.5, 1.0].as_slice()));
    assert_eq!(h.positive_buckets, [1.0, 1.0, 4.0]);
}

#[test]
fn contradictions_are_refused() {
    assert!(histograms(&[bucket("1", &[3.0]), bucket("2", &[1.0])]).is_err());
    assert!(histograms(&[bucket("+Inf", &[3.0]), series(&[("__name__", "h_count")], &[4.0])]).is_err());
}
