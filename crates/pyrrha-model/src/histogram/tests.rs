use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn exponential(
    schema: i32,
    offset: i32,
    positive: &[f64],
    negative: &[f64],
    zero: f64,
    threshold: f64,
) -> FloatHistogram {
    let side = |counts: &[f64]| match counts.len() {
        0 => (vec![], vec![]),
        length => (vec![Span { offset, length: length as u32 }], counts.to_vec()),
    };
    let ((positive_spans, positive_buckets), (negative_spans, negative_buckets)) =
        (side(positive), side(negative));
    let count = zero + positive_buckets.iter().chain(&negative_buckets).sum::<f64>();
    FloatHistogram {
        schema,
        zero_threshold: threshold,
        zero_count: zero,
        count,
        sum: count,
        positive_spans,
        positive_buckets,
        negative_spans,
        negative_buckets,
        ..Default::default()
    }
}

fn custom(bounds: &[f64], counts: &[f64]) -> FloatHistogram {
    FloatHistogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        custom_values: bounds.into(),
        zero_threshold: 0.0,
        ..exponential(0, 0, counts, &[], 0.0, 0.0)
    }
}

fn close(a: f64, b: f64) -> bool {
    a == b || (a - b).abs() <= 1e-9 * (a.abs() + b.abs())
}

/// Populated buckets by (negative?, index): the simplest form of a side.
fn as_map(h: &FloatHistogram) -> BTreeMap<(bool, i32), f64> {
    let side = |negative: bool, buckets: Vec<Bucket>| {
        buckets.into_iter().filter(|b| b.count != 0.0).map(move |b| ((negative, b.index), b.count))
    };
    side(false, h.positive().collect()).chain(side(true, h.negative().collect())).collect()
}

#[test]
fn bounds_follow_the_schema() {
    let upper = |index, schema| buckets::upper_bound(index, schema, &[]);
    assert_eq!(upper(0, 0), 1.0);
    assert_eq!(upper(3, 0), 8.0);
    assert_eq!(upper(-1, -2), 0.0625);
    assert!(close(upper(1, 1), 2f64.sqrt()));
    assert!(close(upper(-3, 3), 2f64.powf(-3.0 / 8.0)));
    assert_eq!(upper(1024, 0), f64::MAX);
    assert_eq!(upper(1025, 0), f64::INFINITY);
    assert_eq!(upper(-1074, 0), f64::from_bits(1));
    assert_eq!(upper(i32::MAX, -4), f64::INFINITY);
    assert_eq!(upper(i32::MIN, -4), 0.0);
}

#[test]
fn bounds_are_those_of_prometheus_to_the_last_bit() {
    // What Prometheus 2.42 answers for a histogram with all buckets between 0.5 and 1.
    let lower = |i: i32| buckets::upper_bound(i - 256, 8, &[]);
    assert_eq!(
        [lower(64), lower(128), lower(192)],
        [0.5946035575013605, 0.7071067811865475, 0.8408964152537144]
    );
    assert_eq!(
        [lower(1), lower(100), lower(255)],
        [0.5013556375251013, 0.6554806057623822, 0.9972960560854698]
    );
    let folded = (0..256).fold(0u64, |folded, i| folded.rotate_left(5) ^ lower(i).to_bits());
    assert_eq!(folded, 0xc606_9eca_7bbb_6a32);
    for schema in 0..8 {
        (0..1 << schema).for_each(|i| {
            let coarse = buckets::upper_bound(i - (1 << schema), schema, &[]);
            assert_eq!(coarse, lower(i << (8 - schema)), "schema {schema} bucket {i}");
        });
    }
}

#[test]
fn texts_are_prometheus() {
    let h = FloatHistogram { sum: 5.0, ..exponential(0, 0, &[1.0, 0.0, 2.0], &[1.0], 4.0, 0.001) };
    assert_eq!(h.to_string(), "{count:8, sum:5, [-1,-0.5):1, [-0.001,0.001]:4, (0.5,1]:1, (2,4]:2}");
    let h = FloatHistogram { sum: 5.0, ..custom(&[5.0, 10.0], &[1.0, 2.0, 1e6]) };
    assert_eq!(h.to_string(), "{count:1.000003e+06, sum:5, [-Inf,5]:1, (5,10]:2, (10,+Inf]:1e+06}");
    assert_eq!(FloatHistogram::default().to_string(), "{count:0, sum:0}");
    let rules: Vec<u8> =
        exponential(0, 0, &[1.0], &[1.0], 1.0, 0.1).populated_buckets().map(|b| b.boundary_rule()).collect();
    assert_eq!(rules, [1, 3, 0]);
}

#[test]
fn compaction_keeps_what_is_populated() {
    let mut h = exponential(0, -2, &[0.0, 1.0, 0.0, 0.0, 0.0, 2.0, 0.0], &[0.0], 0.0, 0.0);
    let before = as_map(&h);
    h.compact(2);
    assert_eq!((h.positive_spans.len(), h.positive_buckets.len()), (2, 2));
    h.compact(3);
    assert_eq!((h.positive_spans.len(), h.positive_buckets.len()), (1, 5));
    h.compact(0);
    assert_eq!(h.positive_spans, [Span { offset: -1, length: 1 }, Span { offset: 3, length: 1 }]);
    assert!(h.negative_spans.is_empty());
    assert_eq!(as_map(&h), before);
}

#[test]
fn hints_merge_and_conflicts_are_told() {
    use CounterResetHint::{Gauge, NotReset, Reset, Unknown};
    for (a, b, hint, conflict) in [
        (Reset, Reset, Reset, false),
        (Gauge, Reset, Gauge, false),
        (NotReset, Gauge, Gauge, false),
        (Unknown, NotReset, Unknown, false),
        (Reset, Unknown, Unknown, false),
        (Reset, NotReset, Unknown, true),
    ] {
        let mut sum = FloatHistogram { counter_reset_hint: a, ..Default::default() };
        let other = FloatHistogram { counter_reset_hint: b, ..Default::default() };
        let combined = sum.add(&other).expect("compatible");
        assert_eq!((sum.counter_reset_hint, combined.conflicting_resets), (hint, conflict), "{a:?} {b:?}");
    }
}

#[test]
fn custom_bounds_are_intersected() {
    let mut a = custom(&[2.0, 4.0, 6.0], &[1.0, 2.0, 5.0, 7.0]);
    let b = custom(
        &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0],
        &[10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0],
    );
    let combined = a.add(&b).expect("compatible");
    assert!(combined.reconciled_bounds);
    assert_eq!(
        (&*a.custom_values, &a.positive_buckets[..]),
        (&[2.0, 4.0, 6.0][..], &[31.0, 72.0, 115.0, 247.0][..])
    );
    assert!(!b.is_reset_after(&custom(&[2.0, 4.0, 6.0], &[1.0, 2.0, 5.0, 7.0])));
    assert!(custom(&[2.0, 3.0, 4.0], &[9.0, 0.0, 1.0]).is_reset_after(&custom(&[2.0, 4.0], &[1.0, 2.0])));
    assert_eq!(a.add(&FloatHistogram::default()), Err(IncompatibleSchemas));
}

#[test]
fn a_wider_zero_bucket_swallows_buckets_whole() {
    // The threshold 0.75 cuts the populated bucket (0.5, 1], so the zero bucket grows to 1.
    let mut wide = exponential(0, 0, &[], &[], 5.0, 0.75);
    let combined = wide.add(&exponential(0, -1, &[1.0, 2.0, 4.0], &[8.0], 1.0, 0.25)).expect("compatible");
    assert_eq!(combined, Combined::default());
    assert_eq!((wide.zero_threshold, wide.zero_count, wide.count), (1.0, 17.0, 21.0));
    assert_eq!(as_map(&wide), BTreeMap::from([((false, 1), 4.0)]));
}

#[test]
fn resets_are_found_in_any_part() {
    let old = exponential(1, 0, &[1.0, 2.0, 3.0], &[4.0], 5.0, 0.1);
    let more = |h: &FloatHistogram| FloatHistogram { count: h.count + 100.0, ..h.clone() };
    assert!(!more(&old).is_reset_after(&old));
    assert!(!more(&old.to_schema(0)).is_reset_after(&old), "a lower resolution is no reset");
    assert!(more(&old).is_reset_after(&old.to_schema(0)), "a higher one is");
    for broken in [
        FloatHistogram { count: old.count - 1.0, ..old.clone() },
        FloatHistogram { zero_count: 4.0, ..more(&old) },
        FloatHistogram { zero_threshold: 0.01, ..more(&old) },
        FloatHistogram { negative_spans: vec![], negative_buckets: vec![], ..more(&old) },
        FloatHistogram { positive_buckets: vec![1.0, 1.0, 30.0], ..more(&old) },
        FloatHistogram { counter_reset_hint: CounterResetHint::Reset, ..more(&old) },
        custom(&[1.0], &[1000.0]),
    ] {
        assert!(broken.is_reset_after(&old), "{broken:?}");
    }
    let trusted =
        FloatHistogram { counter_reset_hint: CounterResetHint::NotReset, count: 0.0, ..old.clone() };
    assert!(!trusted.is_reset_after(&old));
}

#[test]
fn kahan_sums_survive_cancellation_and_means_overflow() {
    let of = |sum: f64| FloatHistogram { count: 1.0, sum, ..Default::default() };
    let mut total = KahanHistogram::new(of(5.3));
    for value in [1e100, 1.0, -1e100, 2.0] {
        total.add(&of(value)).expect("compatible");
    }
    assert_eq!(total.finish().sum, 8.3);

    let of = |count: f64| FloatHistogram { count, ..Default::default() };
    let mut mean = HistogramMean::new(of(1.7976931348623157e308));
    for count in [1e308, 1e-6, 1e-6] {
        mean.add(&of(count)).expect("compatible");
    }
    assert!(close(mean.finish().count, 6.99423283715579e307));
}

#[test]
fn quantiles_interpolate_by_kind_of_bucket() {
    let h = exponential(0, 0, &[1.0, 2.0, 1.0], &[], 0.0, 0.0);
    assert!(close(h.quantile(0.5).0, 2f64.sqrt()));
    let h = custom(&[5.0, 10.0], &[1.0, 2.0, 1.0]);
    assert_eq!(h.quantile(0.5).0, 7.5);
    assert_eq!((h.quantile(0.1).0, h.quantile(0.99).0), (2.0, 10.0));
    assert_eq!(custom(&[], &[3.0]).quantile(0.5).0, 0.0);
    assert_eq!(custom(&[-5.0], &[3.0]).quantile(0.5).0, -5.0);
    assert_eq!(h.quantile(-0.1).0, f64::NEG_INFINITY);
    assert_eq!(h.quantile(1.1).0, f64::INFINITY);
    assert!(FloatHistogram::default().quantile(0.5).0.is_nan());
    let with_nan = FloatHistogram { count: 15.0, sum: f64::NAN, ..exponential(0, 0, &[12.0], &[], 0.0, 0.0) };
    assert_eq!(with_nan.quantile(0.8), (1.0, NanEffect::Skewed));
    assert_eq!(with_nan.quantile(0.81).1, NanEffect::ResultIsNan);
    assert_eq!(with_nan.fraction(f64::NEG_INFINITY, f64::INFINITY), (0.8, true));
}

#[test]
fn trimming_estimates_the_sum_anew() {
    let h = FloatHistogram { sum: 172.5, ..custom(&[5.0, 10.0, 15.0, 20.0], &[1.0, 6.0, 4.0, 3.0, 1.0]) };
    let below = h.trim(13.0, Keep::Below);
    assert!(close(below.count, 9.4) && close(below.sum, 75.1), "{below}");
    let above = h.trim(13.0, Keep::Above);
    assert!(close(above.count, 5.6) && close(above.sum, 94.9), "{above}");
    assert_eq!(h.trim(f64::INFINITY, Keep::Below).sum, 172.5);
    assert_eq!(h.trim(0.0, Keep::Above).sum, 172.5);
}

#[test]
fn ingest_refuses_what_prometheus_refuses() {
    let good = Histogram {
        count: 6,
        zero_count: 1,
        positive_spans: vec![Span { offset: 0, length: 2 }],
        positive_buckets: vec![2, 1],
        ..Default::default()
    };
    assert_eq!(good.validate(), Ok(()));
    let spans = |list: &[(i32, u32)]| {
        list.iter().map(|&(offset, length)| Span { offset, length }).collect::<Vec<_>>()
    };
    let bad = [
        (Histogram { count: 7, ..good.clone() }, HistogramError::CountMismatch { count: 7, buckets: 6 }),
        (
            Histogram { count: 5, sum: f64::NAN, ..good.clone() },
            HistogramError::CountTooSmall { count: 5, buckets: 6 },
        ),
        (Histogram { schema: 9, ..good.clone() }, HistogramError::Schema(9)),
        (Histogram { custom_values: [1.0].into(), ..good.clone() }, HistogramError::BoundsUnexpected),
        (Histogram { positive_buckets: vec![2, -3], ..good.clone() }, HistogramError::NegativeBucket(1)),
        (
            Histogram { positive_spans: spans(&[(0, 1), (-1, 1)]), ..good.clone() },
            HistogramError::SpanOffset(1),
        ),
        (
            Histogram { positive_spans: spans(&[(0, 3)]), ..good.clone() },
            HistogramError::SpanLength { spans: 3, buckets: 2 },
        ),
        (Histogram { positive_spans: spans(&[(i32::MAX, 2)]), ..good.clone() }, HistogramError::Range),
        (Histogram { positive_buckets: vec![i64::MAX, i64::MAX], ..good.clone() }, HistogramError::Range),
    ];
    for (histogram, error) in bad {
        assert_eq!(histogram.validate(), Err(error));
    }
    assert_eq!(custom(&[1.0, 2.0], &[1.0, 2.0, 3.0]).validate(), Ok(()));
    for (bounds, counts) in [(&[2.0, 1.0][..], 1), (&[1.0, f64::INFINITY][..], 1), (&[1.0][..], 3)] {
        assert!(custom(bounds, &vec![1.0; counts]).validate().is_err());
    }
    assert_eq!(
        FloatHistogram { count: -1.0, ..Default::default() }.validate(),
        Err(HistogramError::NegativeCount)
    );
}

#[test]
fn receivers_lower_the_resolution_of_integers() {
    let mut fine = Histogram {
        schema: 9,
        positive_spans: vec![Span { offset: 1, length: 3 }],
        positive_buckets: vec![1, 1, 1],
        ..Default::default()
    };
    fine.reduce_resolution(8);
    assert_eq!((fine.schema, fine.positive_buckets), (8, vec![3, 0]));
    assert_eq!(fine.positive_spans, [Span { offset: 1, length: 2 }]);
}

prop_compose! {
    fn any_histogram()(
        schema in -2i32..4,
        offset in -6i32..6,
        positive in proptest::collection::vec(0u8..4, 0..12),
        negative in proptest::collection::vec(0u8..4, 0..6),
        zero in 0u8..4,
        threshold in prop_oneof![Just(0.001), Just(0.25), 0.0f64..3.0],
    ) -> FloatHistogram {
        let floats = |counts: Vec<u8>| counts.into_iter().map(f64::from).collect::<Vec<_>>();
        exponential(schema, offset, &floats(positive), &floats(negative), zero.into(), threshold)
    }
}

/// The sum by the definition: every populated bucket is put where its upper bound belongs.
fn naive_sum(a: &FloatHistogram, b: &FloatHistogram) -> (f64, BTreeMap<(bool, i32), f64>) {
    let schema = a.schema.min(b.schema);
    let mut threshold = a.zero_threshold.max(b.zero_threshold);
    let every = || [a, b].into_iter().flat_map(|h| as_map(h).into_iter().map(move |(key, n)| (h, key, n)));
    let bounds = |h: &FloatHistogram, i| {
        (buckets::upper_bound(i - 1, h.schema, &[]), buckets::upper_bound(i, h.schema, &[]))
    };
    // Only what lies above its own zero bucket can be cut by a wider one.
    while let Some(cut) = every()
        .map(|(h, (_, i), _)| (h.zero_threshold, bounds(h, i)))
        .find(|(own, (lower, upper))| *own < threshold && *lower < threshold && threshold < *upper)
    {
        threshold = cut.1.1;
    }
    let mut map = BTreeMap::new();
    let mut zero = a.zero_count + b.zero_count;
    for (h, (negative, index), count) in every() {
        if h.zero_threshold < threshold && bounds(h, index).1 <= threshold {
            zero += count;
        } else {
            let coarse = layout::coarser_index(index, h.schema.abs_diff(schema));
            *map.entry((negative, coarse)).or_insert(0.0) += count;
        }
    }
    (zero, map)
}

proptest! {
    #[test]
    fn sums_agree_with_a_map_of_buckets(a in any_histogram(), b in any_histogram()) {
        let (zero, map) = naive_sum(&a, &b);
        let mut sum = a.clone();
        sum.add(&b).expect("both are exponential");
        prop_assert_eq!(sum.zero_count, zero);
        prop_assert_eq!(as_map(&sum), map);
        prop_assert_eq!(sum.count, a.count + b.count);

        let mut compensated = KahanHistogram::new(a.clone());
        compensated.add(&b).expect("both are exponential");
        prop_assert!(compensated.finish().same_distribution(&sum));

        let mut back = sum.clone();
        back.sub(&b).expect("both are exponential");
        back.compact(0);
        prop_assert!(as_map(&back).values().all(|n| *n > 0.0));
        prop_assert_eq!(back.count, a.count);
    }

    #[test]
    fn resolution_and_compaction_keep_every_observation(h in any_histogram(), lower in 0i32..5, gap in 0u32..4) {
        let mut reduced = h.to_schema((h.schema - lower).max(MIN_SCHEMA));
        reduced.compact(gap);
        prop_assert_eq!(as_map(&reduced).values().sum::<f64>() + reduced.zero_count, h.count);
        prop_assert!(reduced.validate().is_ok(), "{:?}", reduced);
        let mut compacted = h.clone();
        compacted.compact(gap);
        prop_assert_eq!(as_map(&compacted), as_map(&h));
        prop_assert!(compacted.same_distribution(&h));
    }

    #[test]
    fn a_growing_histogram_never_looks_reset(a in any_histogram(), b in any_histogram()) {
        let mut sum = a.clone();
        sum.add(&b).expect("both are exponential");
        // Adding may lower the resolution and widen the zero bucket, which is no reset.
        prop_assert!(!sum.is_reset_after(&a));
    }

    #[test]
    fn trimming_splits_the_observations(h in any_histogram(), value in -20.0f64..20.0) {
        let (below, above) = (h.trim(value, Keep::Below), h.trim(value, Keep::Above));
        prop_assert!(close(below.count + above.count, h.count), "{} {} {}", h, below, above);
    }

    #[test]
    fn quantile_and_fraction_are_inverse(h in any_histogram(), q in 0.01f64..0.99) {
        prop_assume!(h.count > 0.0);
        // Buckets do not reach into the zero bucket of a real histogram.
        let h = FloatHistogram { zero_threshold: 1e-12, ..h };
        let (value, _) = h.quantile(q);
        let (fraction, _) = h.fraction(f64::NEG_INFINITY, value);
        // Where the rank falls on an empty stretch, every value of it is a quantile.
        let around = h.all_buckets().any(|b| b.count > 0.0 && (close(b.upper, value) || close(b.lower, value)));
        prop_assert!(around || (fraction - q).abs() < 1e-6, "{} {} {}", h, value, fraction);
    }

    /// Damaged chunks may hold anything: nothing may panic, loop long or grow.
    #[test]
    fn hostile_histograms_are_survived(mut a in hostile(), b in hostile(), q in -0.5f64..1.5, value in number()) {
        let _ = (a.quantile(q), a.fraction(value, q), a.variance(), a.to_string(), a.is_reset_after(&b));
        let _ = (a.trim(value, Keep::Below), a.trim(value, Keep::Above), a.validate(), a.same_distribution(&b));
        let _ = (a.to_schema(b.schema), KahanHistogram::new(a.clone()).add(&b), HistogramMean::new(b.clone()).add(&a));
        let _ = (a.add(&b), a.sub(&b));
        a.compact(1);
        prop_assert!(a.positive_buckets.len() + a.negative_buckets.len() < 100);
    }
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![any::<f64>(), Just(f64::NAN), Just(f64::INFINITY), Just(f64::NEG_INFINITY), -10.0f64..10.0]
}

prop_compose! {
    fn side()(
        spans in proptest::collection::vec((prop_oneof![any::<i32>(), -3i32..3], prop_oneof![any::<u32>(), 0u32..4]), 0..4),
        counts in proptest::collection::vec(number(), 0..8),
    ) -> (Vec<Span>, Vec<f64>) {
        (spans.into_iter().map(|(offset, length)| Span { offset, length }).collect(), counts)
    }
}

prop_compose! {
    fn hostile()(
        schema in prop_oneof![any::<i32>(), Just(CUSTOM_BUCKETS_SCHEMA), -4i32..9],
        numbers in [number(), number(), number(), number()],
        positive in side(),
        negative in side(),
        custom in proptest::collection::vec(number(), 0..4),
    ) -> FloatHistogram {
        let [zero_threshold, zero_count, count, sum] = numbers;
        let ((positive_spans, positive_buckets), (negative_spans, negative_buckets)) = (positive, negative);
        FloatHistogram {
            counter_reset_hint: CounterResetHint::Unknown,
            schema, zero_threshold, zero_count, count, sum,
            positive_spans, negative_spans, positive_buckets, negative_buckets,
            custom_values: custom.into(),
        }
    }
}
