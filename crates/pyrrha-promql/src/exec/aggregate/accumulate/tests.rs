use super::*;

#[test]
fn quantiles_interpolate_and_nan_sorts_first() {
    assert_eq!(quantile(0.5, &mut [3.0, 1.0, 2.0]), 2.0);
    assert_eq!(quantile(0.25, &mut [1.0, 2.0]), 1.25);
    assert_eq!(quantile(1.0, &mut [f64::NAN, 2.0]), 2.0);
    assert!(quantile(0.0, &mut [2.0, f64::NAN]).is_nan());
    assert_eq!(quantile(1.1, &mut [1.0]), f64::INFINITY);
    assert_eq!(quantile(-0.1, &mut [1.0]), f64::NEG_INFINITY);
}

#[test]
fn merged_moments_are_those_of_all_values() {
    let add = |values: &[f64]| {
        let mut accumulator = Accumulator::new(AggregateOp::Stdvar, 1);
        values.iter().for_each(|v| accumulator.add(&Column::dense(vec![*v]), &mut |_| {}));
        accumulator
    };
    let mut left = add(&[1.0, 2.0]);
    left.merge(add(&[3.0, 4.0, 10.0]), &mut |_| {});
    let value = left.finish(None, &mut |_| {}).float(0).unwrap_or(f64::NAN);
    assert!((value - 10.0).abs() < 1e-12, "{value}");
}
