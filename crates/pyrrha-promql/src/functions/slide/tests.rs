use super::*;
use proptest::prelude::*;

/// Windows of `length` samples' worth of time, one per step, left-open.
fn windows(times: &[Timestamp], length: i64) -> impl FnMut(usize, Range<usize>) -> (Range<usize>, i64, i64) {
    let times = times.to_vec();
    move |step, _| {
        let end = step as i64 * 7;
        let inside = |t: &&i64| **t > end - length && **t <= end;
        let start = times.iter().take_while(|t| **t <= end - length).count();
        let count = times.iter().filter(inside).count();
        (start..start + count, end - length, end)
    }
}

fn values() -> impl Strategy<Value = Vec<f64>> {
    let special = prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(-0.0), Just(1e308), Just(0.1)];
    prop_oneof![
        proptest::collection::vec((-5i32..5).prop_map(f64::from), 0..40),
        proptest::collection::vec(prop_oneof![any::<i16>().prop_map(f64::from), special], 0..40),
    ]
}

proptest! {
    /// Sliding gives the bits that each window alone gives.
    #[test]
    fn sliding_is_exact(values in values(), length in 1i64..60) {
        let times: Vec<i64> = (0..values.len() as i64).map(|i| i * 5).collect();
        use Slide::*;
        for slide in [Rate, Increase, Delta, Irate, Idelta, Resets, Changes, Sum, Avg, Min, Max, Count, First, Last] {
            let mut slid = Column::new(30);
            slide.run(&times, &values, &mut slid, windows(&times, length));
            for step in 0..30 {
                let (window, start, end) = windows(&times, length)(step, 0..0);
                let mut alone = Column::new(1);
                slide.run(&times[window.clone()], &values[window.clone()], &mut alone, |_, _| (0..window.len(), start, end));
                prop_assert_eq!(
                    slid.float(step).map(|v| if v.is_nan() { 0 } else { v.to_bits() }),
                    alone.float(0).map(|v| if v.is_nan() { 0 } else { v.to_bits() }),
                    "{:?} step {}", slide, step
                );
            }
        }
    }
}
