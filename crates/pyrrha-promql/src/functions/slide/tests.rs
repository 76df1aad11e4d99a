use super::*;
use proptest::prelude::*;

/// Runs over windows of `length`, left-open, one per step of 7.
fn slid(slide: Slide, times: &[Timestamp], values: &[f64], length: i64, plans: &mut WindowPlans) -> Column {
    let mut column = Column::new(30);
    let plan = plans.prepare(times, 30, |step| (step as i64 * 7 - length, step as i64 * 7));
    slide.run(times, values, &mut column, plan, || false);
    column
}

/// The samples of the window that ends at `end`, found by looking at each.
fn window(times: &[Timestamp], length: i64, end: i64) -> Range<usize> {
    let start = times.iter().take_while(|t| **t <= end - length).count();
    start..start + times.iter().filter(|t| **t > end - length && **t <= end).count()
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
            let slid = slid(slide, &times, &values, length, &mut WindowPlans::default());
            for step in 0..30 {
                let end = step as i64 * 7;
                let window = window(&times, length, end);
                let (mut alone, mut only) = (Column::new(1), WindowPlans::default());
                let plan = only.prepare(&times[window.clone()], 1, |_| (end - length, end));
                slide.run(&times[window.clone()], &values[window], &mut alone, plan, || false);
                prop_assert_eq!(
                    slid.float(step).map(|v| if v.is_nan() { 0 } else { v.to_bits() }),
                    alone.float(0).map(|v| if v.is_nan() { 0 } else { v.to_bits() }),
                    "{:?} step {}", slide, step
                );
            }
        }
    }
}

proptest! {
    /// Series of targets in any order, with times that differ behind the first, give what each alone gives.
    #[test]
    fn plans_are_those_of_the_times(order in proptest::collection::vec((0i64..4, 0i64..3), 1..30), length in 1i64..60) {
        let values: Vec<f64> = (0..20).map(f64::from).collect();
        let mut plans = WindowPlans::default();
        for (target, jitter) in order {
            let times: Vec<i64> = (0..20).map(|i| target + i * 5 + if i == 9 { jitter } else { 0 }).collect();
            let together = slid(Slide::Rate, &times, &values, length, &mut plans);
            prop_assert_eq!(together, slid(Slide::Rate, &times, &values, length, &mut WindowPlans::default()));
        }
    }
}
