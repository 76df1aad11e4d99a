//! Whole columns against the value of each step alone.

use proptest::prelude::*;
use pyrrha_encoding::WindowSpan;
use pyrrha_encoding::windows::fold_floats;
use pyrrha_model::TimeRange;

use super::super::{AsOf, Found};
use super::*;
use crate::functions::slide::advance;

const R: i64 = 300_000;
const STEPS: usize = 60;

fn windows(samples: &[(i64, f64)]) -> Windows {
    let mut windows = Windows::default();
    let passed = |at: &mut i64, gap: &i64| Some(std::mem::replace(at, *at + gap));
    let times: Vec<i64> = samples.iter().map(|(gap, _)| gap).scan(0, passed).collect();
    let values: Vec<f64> = samples.iter().map(|(_, value)| *value).collect();
    fold_floats(&times, &values, R, &mut windows);
    windows
}

fn bits(column: &Column) -> Vec<Option<u64>> {
    (0..column.steps()).map(|step| column.float(step).map(f64::to_bits)).collect()
}

fn samples() -> impl Strategy<Value = Vec<(i64, f64)>> {
    let gap = prop_oneof![8 => Just(60_000), 1 => 1i64..2 * R];
    let value = prop_oneof![8 => (0..1000).prop_map(f64::from), 1 => Just(f64::NAN), 1 => -9.0..9.0];
    prop::collection::vec((gap, value), 0..300)
}

proptest! {
    #[test]
    fn columns_have_the_bits_of_single_steps(
        series in prop::collection::vec(samples(), 1..4),
        (range, step) in (1..5 * R, 1..3 * R),
        (covered, aligned) in (0..80 * R, any::<bool>()),
    ) {
        let whole = |ms: i64| if aligned { (ms / R + 1) * R } else { ms };
        let (range, step) = (whole(range), whole(step));
        let spans = [WindowSpan { range: TimeRange::new(-R, covered), resolution: R }];
        let bounds = |i: usize| (i as i64 * step - 1 - range, i as i64 * step - 1);
        let mut plan = RangePlan::default();
        // The same windows twice, too.
        for samples in series.iter().chain(series.last()) {
            let windows = windows(samples);
            let plan = plan.prepare(&windows.ends, &spans, STEPS, bounds);
            for function in [FunctionId::Rate, FunctionId::Increase, FunctionId::Delta] {
                let mut column = Column::new(STEPS);
                prop_assert!(fill(function, &windows, (plan, range), &mut column, || true));
                let (mut expected, mut points) = (Column::new(STEPS), 0);
                for i in 0..STEPS {
                    let (start, end) = bounds(i);
                    let (start, end) = AsOf(&spans).range(start, end);
                    let within = advance(&windows.ends, 0..0, start, end);
                    points += within.len();
                    let part = Part { windows: &windows, range: within, start, end, asked: range };
                    if !part.range.is_empty() && let Found::Value(value) = part.value(function) {
                        expected.set_float(i, value);
                    }
                }
                prop_assert_eq!(bits(&column), bits(&expected));
                prop_assert_eq!(plan.points(), points);
            }
        }
    }
}

#[test]
fn a_stopped_query_and_other_functions_leave_nothing() {
    let windows = windows(&[(60_000, 1.0), (60_000, 2.0), (60_000, 3.0)]);
    let mut plan = RangePlan::default();
    let plan = plan.prepare(&windows.ends, &[], 1, |_| (-1, R));
    let mut column = Column::new(1);
    assert!(!fill(FunctionId::Resets, &windows, (plan, R), &mut column, || true));
    assert!(fill(FunctionId::Rate, &windows, (plan, R), &mut column, || false));
    assert!(column.is_empty());
    assert!(fill(FunctionId::Rate, &windows, (plan, R), &mut column, || true));
    assert!(!column.is_empty());
}
