use pyrrha_model::contract::{CancelReason, CancelToken};
use pyrrha_model::{Labels, SymbolTable};

use super::*;
use crate::ast::{Pos, ValueType};
use crate::functions::slide::WindowPlans;
use crate::kernel::{FLOATS_UNASKED, FloatSlice, HistogramSlice, KernelArgs, KernelNotes, Window};
use crate::labels::LabelIds;
use crate::value::{Column, Sample, ScalarColumn, Series, Steps};

fn args<'a>(symbols: &'a SymbolTable, scalars: &'a [ScalarColumn], strings: &'a [String]) -> KernelArgs<'a> {
    KernelArgs {
        scalars,
        strings,
        steps: Steps::instant(0),
        step: 0,
        symbols,
        range_query: false,
        delayed_name_removal: false,
        type_and_unit_labels: false,
        start_timestamps: false,
    }
}

/// The value of a function over floats one minute apart, the last of them at the evaluation time.
fn over_time(function: FunctionId, values: &[f64], scalars: &[f64]) -> (Option<f64>, Option<String>) {
    let symbols = SymbolTable::new();
    let scalars: Vec<ScalarColumn> = scalars.iter().map(|s| ScalarColumn::Constant(*s)).collect();
    let times: Vec<i64> = (1..=values.len() as i64).map(|i| i * 60_000).collect();
    let end = values.len() as i64 * 60_000;
    let floats = FloatSlice { times: &times, values, starts: &[] };
    let window = Window { floats, histograms: HistogramSlice::default(), start: 0, end, time: end };
    let positions = [Pos::default(); 3];
    let mut notes = KernelNotes::new(&symbols, &positions);
    let kernel = range_kernel(function, RangeMode::Classic).expect("a kernel");
    let value = kernel(&window, &args(&symbols, &scalars, &[]), &mut notes);
    (value.and_then(|v| v.as_float()), notes.take_failure().map(|e| e.to_string()))
}

/// Functions that take as long over a long window as over a short one.
const AT_ONCE: &[FunctionId] = &[
    FunctionId::AbsentOverTime,
    FunctionId::CountOverTime,
    FunctionId::Delta,
    FunctionId::FirstOverTime,
    FunctionId::Idelta,
    FunctionId::Irate,
    FunctionId::LastOverTime,
    FunctionId::PresentOverTime,
    FunctionId::TsOfFirstOverTime,
    FunctionId::TsOfLastOverTime,
];

/// Most times that a function asks again once it was told that its query is cancelled.
const ASKED_AGAIN: usize = 3;

#[test]
fn no_function_goes_on_for_long_after_its_query_was_cancelled() {
    let values: Vec<f64> = (0..500_000u64).map(|i| (i * 7919 % 1_000_003) as f64).collect();
    let times: Vec<i64> = (1..=values.len() as i64).map(|i| i * 15_000).collect();
    let end = values.len() as i64 * 15_000;
    let floats = FloatSlice { times: &times, values: &values, starts: &[] };
    let window = Window { floats, histograms: HistogramSlice::default(), start: 0, end, time: end };
    let (symbols, positions) = (SymbolTable::new(), [Pos::default(); 3]);
    let scalars = [ScalarColumn::Constant(0.4), ScalarColumn::Constant(0.6)];
    let (cancelled, goes_on) = (CancelToken::default(), CancelToken::default());
    cancelled.cancel(CancelReason::Canceled);
    for function in crate::function::FUNCTIONS.iter().filter(|f| f.args.contains(&ValueType::Matrix)) {
        let kernel = range_kernel(function.id, RangeMode::Classic).expect("a kernel");
        // One that looks at all samples asks between any two blocks of them.
        let least = if AT_ONCE.contains(&function.id) { 0 } else { values.len() / FLOATS_UNASKED };
        let run = |cancel| {
            let mut notes = KernelNotes::new(&symbols, &positions).until(cancel);
            kernel(&window, &args(&symbols, &scalars, &[]), &mut notes);
            notes.asked.get()
        };
        let (whole, stopped) = (run(&goes_on), run(&cancelled));
        assert!(whole >= least && stopped <= 1 + ASKED_AGAIN, "{}: {whole}, {stopped}", function.name);
        let Some(slide) = slide(function.id) else { continue };
        let mut plans = WindowPlans::default();
        let (plan, room) = plans.prepare(&times, 1, |_| (0, end));
        let mut run = |asks: usize| {
            let asked = std::cell::Cell::new(0);
            let cancelled = || asked.replace(asked.get() + 1) >= asks;
            slide.run(&times, &values, &mut Column::new(1), (plan, &mut *room), cancelled);
            asked.get()
        };
        // Cancelled once it is inside the window.
        let (whole, stopped) = (run(usize::MAX), run(2));
        let what = format!("sliding {}: {whole}, {stopped}", function.name);
        assert!(whole >= least && stopped <= 3 + ASKED_AGAIN, "{what}");
    }
}

#[test]
fn quantiles_of_many_values_are_those_of_ordering_them() {
    let special = [f64::NAN, -0.0, 0.0, f64::INFINITY, f64::NEG_INFINITY, 5e-324];
    let value = |i: u64| match i * 2_654_435_761 % 1009 {
        n @ 0..6 => special[n as usize],
        n @ 6..500 => n as f64 / 7.0 - 40.0,
        _ => f64::from_bits((i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
    };
    let many: Vec<f64> = (0..100_000).map(value).map(|v| if v.is_nan() { f64::NAN } else { v }).collect();
    let equal = vec![2.5; 70_000];
    for values in [many, equal] {
        for q in [0.0, 0.001, 0.013, 0.25, 0.5, 0.731, 0.99, 1.0, -1.0, 2.0, f64::NAN] {
            let found = over_time(FunctionId::QuantileOverTime, &values, &[q]).0.map(f64::to_bits);
            let expected = over_time::quantile(q, &mut values.clone());
            assert_eq!(found, Some(expected.to_bits()), "{q}");
        }
    }
}

fn instant(
    function: FunctionId,
    input: &[(&[(&str, &str)], f64)],
    scalars: &[f64],
    strings: &[&str],
) -> Vec<(String, f64)> {
    let symbols = SymbolTable::new();
    let scalars: Vec<ScalarColumn> = scalars.iter().map(|s| ScalarColumn::Constant(*s)).collect();
    let strings: Vec<String> = strings.iter().map(ToString::to_string).collect();
    let args = args(&symbols, &scalars, &strings);
    let positions = [Pos::default(); 4];
    let mut notes = KernelNotes::new(&symbols, &positions);
    let series = input.iter().map(|(labels, value)| Series {
        labels: LabelIds::intern(&symbols, &Labels::from_pairs(labels.iter().copied())),
        drop_name: false,
        column: Column::dense(vec![*value]),
    });
    let out = match instant_kernel(function).expect("a kernel") {
        InstantKernel::Map(map) => {
            return input.iter().map(|(_, value)| (String::new(), map(*value))).collect();
        }
        InstantKernel::Series(kernel) => series
            .map(|mut s| {
                kernel(&mut s.column, &args, &mut notes);
                s
            })
            .collect(),
        InstantKernel::Vector(kernel) => kernel(series.collect(), &args, &mut notes).expect("no error"),
    };
    out.iter().filter_map(|s| Some((s.labels.resolve(&symbols).to_string(), s.column.float(0)?))).collect()
}

fn close(a: Option<f64>, b: f64) -> bool {
    a.is_some_and(|a| a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() < 1e-9)
}

#[test]
fn every_function_has_a_kernel_or_is_the_engines() {
    use FunctionId as F;
    let engine = [
        F::Absent,
        F::AbsentOverTime,
        F::AvgOverTime,
        F::Changes,
        F::CountOverTime,
        F::Delta,
        F::End,
        F::FirstOverTime,
        F::Idelta,
        F::Increase,
        F::Info,
        F::Irate,
        F::LastOverTime,
        F::MaxOf,
        F::MaxOverTime,
        F::MinOf,
        F::MinOverTime,
        F::Pi,
        F::PresentOverTime,
        F::Range,
        F::Rate,
        F::Resets,
        F::Scalar,
        F::Sort,
        F::SortByLabel,
        F::SortByLabelDesc,
        F::SortDesc,
        F::Start,
        F::StartTimestamp,
        F::Step,
        F::SumOverTime,
        F::Time,
        F::Timestamp,
        F::Vector,
    ];
    for function in crate::function::FUNCTIONS {
        let here =
            instant_kernel(function.id).is_some() || range_kernel(function.id, RangeMode::Classic).is_some();
        assert!(here || engine.contains(&function.id), "{}", function.name);
    }
    assert!(info_kernel().is_some());
}

#[test]
fn dates_are_civil_and_utc() {
    use FunctionId as F;
    // 29 February 2024 was a Thursday.
    let leap = 1_709_251_199.0;
    for (function, want) in [
        (F::Year, 2024.0),
        (F::Month, 2.0),
        (F::DayOfMonth, 29.0),
        (F::DayOfWeek, 4.0),
        (F::DayOfYear, 60.0),
        (F::DaysInMonth, 29.0),
        (F::Hour, 23.0),
        (F::Minute, 59.0),
    ] {
        assert_eq!(instant(function, &[(&[], leap)], &[], &[])[0].1, want, "{function:?}");
    }
    assert_eq!(instant(F::DayOfYear, &[(&[], -1.0)], &[], &[])[0].1, 365.0);
    assert_eq!(instant(F::Year, &[(&[], -1.0)], &[], &[])[0].1, 1969.0);
    assert_eq!(
        instant(F::DaysInMonth, &[(&[], -2_203_977_600.0)], &[], &[])[0].1,
        28.0,
        "1900 was no leap year"
    );
    // As Prometheus says, beyond what its clock can hold.
    for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300] {
        let of = |function| instant(function, &[(&[], odd)], &[], &[])[0].1;
        let date = [F::Year, F::Month, F::DayOfMonth, F::Hour, F::Minute, F::DayOfWeek, F::DayOfYear].map(of);
        assert_eq!(date, [292_277_026_596.0, 12.0, 4.0, 15.0, 30.0, 0.0, 339.0]);
    }
}

#[test]
fn clamping_and_rounding() {
    use FunctionId as F;
    let one =
        |function, v: f64, scalars: &[f64]| instant(function, &[(&[], v)], scalars, &[]).first().map(|r| r.1);
    assert_eq!(one(F::Clamp, 5.0, &[0.0, 3.0]), Some(3.0));
    assert_eq!(one(F::Clamp, 5.0, &[3.0, 0.0]), None);
    assert!(close(one(F::Clamp, 5.0, &[f64::NAN, 3.0]), f64::NAN));
    assert!(close(one(F::ClampMin, f64::NAN, &[1.0]), f64::NAN));
    assert_eq!(one(F::ClampMax, 5.0, &[1.0]), Some(1.0));
    assert_eq!(one(F::Round, 2.5, &[]), Some(3.0));
    assert_eq!(one(F::Round, -2.5, &[]), Some(-2.0));
    assert_eq!(one(F::Round, 7.0, &[5.0]), Some(5.0));
    assert_eq!(one(F::Sgn, -3.0, &[]), Some(-1.0));
}

#[test]
fn ranges_are_summed_up() {
    use FunctionId as F;
    let value = |function, values: &[f64], scalars: &[f64]| over_time(function, values, scalars).0;
    assert!(close(value(F::QuantileOverTime, &[3.0, 1.0, 2.0, 4.0], &[0.5]), 2.5));
    assert!(close(value(F::QuantileOverTime, &[f64::NAN, 1.0], &[1.0]), 1.0));
    assert!(close(value(F::QuantileOverTime, &[1.0], &[2.0]), f64::INFINITY));
    assert!(close(value(F::MadOverTime, &[4.0, 6.0, 2.0, 1.0, 999.0, 1.0, 2.0], &[]), 1.0));
    assert!(close(value(F::StdvarOverTime, &[1.0, 2.0, 3.0, 4.0], &[]), 1.25));
    assert!(close(value(F::Deriv, &[0.0, 60.0, 120.0], &[]), 1.0));
    assert!(close(value(F::PredictLinear, &[0.0, 60.0, 120.0], &[60.0]), 180.0));
    assert!(close(value(F::Deriv, &[f64::INFINITY, f64::INFINITY], &[]), f64::NAN));
    assert_eq!(value(F::Deriv, &[1.0], &[]), None);
    assert!(close(value(F::TsOfMaxOverTime, &[1.0, 5.0, 5.0, 2.0], &[]), 180.0));
    assert!(close(value(F::TsOfMinOverTime, &[1.0, 5.0, 1.0, 2.0], &[]), 180.0));
    assert!(close(value(F::TsOfFirstOverTime, &[1.0, 5.0], &[]), 60.0));
    assert!(close(value(F::TsOfLastOverTime, &[1.0, 5.0], &[]), 120.0));
    let (value, error) = over_time(F::DoubleExponentialSmoothing, &[1.0, 2.0], &[0.0, 0.5]);
    assert_eq!(value, None);
    assert_eq!(error.as_deref(), Some("invalid smoothing factor. Expected: 0 < sf < 1, got: 0.000000"));
}

#[test]
fn classic_buckets_are_grouped_fixed_and_interpolated() {
    let bucket = |le: &'static str, count: f64| -> (&'static [(&'static str, &'static str)], f64) {
        (Box::leak(Box::new([("__name__", "h"), ("le", le)])), count)
    };
    let input = [
        bucket("0.1", 2.0),
        bucket("1", 1.0),
        bucket("10", 5.0),
        bucket("100", 4.0),
        bucket("1000", 9.0),
        bucket("+Inf", 8.0),
    ];
    let got = instant(FunctionId::HistogramQuantile, &input, &[0.5], &[]);
    assert_eq!(got, [("{}".to_owned(), 8.5)]);
    let got = instant(
        FunctionId::HistogramFraction,
        &[bucket("1", 2.0), bucket("1.0", 2.0), bucket("+Inf", 8.0)],
        &[0.0, 0.5],
        &[],
    );
    assert_eq!(got, [("{}".to_owned(), 0.25)]);
    assert!(instant(FunctionId::HistogramQuantile, &[bucket("x", 2.0)], &[0.5], &[]).is_empty());
    let got = instant(
        FunctionId::HistogramQuantiles,
        &[bucket("1", 2.0), bucket("+Inf", 2.0)],
        &[0.0, 1.0],
        &["q"],
    );
    assert_eq!(got, [("{q=\"0.0\"}".to_owned(), 0.0), ("{q=\"1.0\"}".to_owned(), 1.0)]);
}

#[test]
fn labels_are_replaced_and_joined() {
    let input: [(&[(&str, &str)], f64); 1] = [(&[("__name__", "m"), ("src", "a-b")], 1.0)];
    let replaced = |strings: &[&str]| instant(FunctionId::LabelReplace, &input, &[], strings)[0].0.clone();
    assert_eq!(replaced(&["dst", "$2.$1", "src", "(.*)-(.*)"]), r#"m{dst="b.a", src="a-b"}"#);
    assert_eq!(replaced(&["dst", "x", "src", "a"]), r#"m{src="a-b"}"#);
    assert_eq!(replaced(&["src", "", "src", ".*"]), "m");
    let joined = instant(FunctionId::LabelJoin, &input, &[], &["dst", "/", "src", "none", "src"]);
    assert_eq!(joined[0].0, r#"m{dst="a-b//a-b", src="a-b"}"#);
}

#[test]
fn histogram_functions_drop_floats() {
    let symbols = SymbolTable::new();
    let mut notes = KernelNotes::new(&symbols, &[]);
    let mut column = Column::new(2);
    column.set(0, Sample::Float(1.0));
    let histogram = pyrrha_model::FloatHistogram { count: 4.0, sum: 6.0, ..Default::default() };
    column.set(1, Sample::Histogram(histogram.into()));
    let Some(InstantKernel::Series(kernel)) = instant_kernel(FunctionId::HistogramAvg) else {
        panic!("a series kernel")
    };
    kernel(&mut column, &args(&symbols, &[], &[]), &mut notes);
    assert_eq!((column.float(0), column.float(1)), (None, Some(1.5)));
}
