//! Samples that a start takes for late ones.

use pyrrha_model::{FloatHistogram, Histogram};

use super::*;

#[test]
fn all_kinds_of_samples_become_late_with_their_start_timestamps() {
    let integer = |n: u64| Value::Histogram(Box::new(Histogram { count: n, ..Histogram::default() }));
    let float =
        |n: f64| Value::FloatHistogram(Box::new(FloatHistogram { count: n, ..FloatHistogram::default() }));
    let histogram = |series, t, start, value| LogHistogram { series, t, start, value };
    let mut batch = LogBatch::new(TenantId::anonymous());
    batch.refs = vec![1, 2, 3, 4];
    batch.times = vec![10, 20, 30, 40];
    batch.values = vec![1.0, 2.0, 3.0, 4.0];
    batch.starts = vec![5, 15, 0, 35];
    batch.histograms = vec![
        histogram(5, 20, 11, integer(7)),
        histogram(6, 31, 12, float(8.0)),
        histogram(7, 40, 13, float(9.0)),
    ];
    batch.late = vec![histogram(8, 3, 2, Value::Float(6.0))];
    make_late(&mut batch, |t| (20..=31).contains(&t));
    assert_eq!(batch.refs, [1, UNKNOWN, UNKNOWN, 4]);
    assert_eq!((batch.times, batch.starts), (vec![10, 20, 30, 40], vec![5, 15, 0, 35]));
    assert_eq!(batch.histograms, [histogram(7, 40, 13, float(9.0))]);
    let late = [
        histogram(8, 3, 2, Value::Float(6.0)),
        histogram(2, 20, 15, Value::Float(2.0)),
        histogram(3, 30, 0, Value::Float(3.0)),
        histogram(5, 20, 11, integer(7)),
        histogram(6, 31, 12, float(8.0)),
    ];
    assert_eq!(batch.late, late);

    let mut without = LogBatch::new(TenantId::anonymous());
    (without.refs, without.times, without.values) = (vec![1], vec![20], vec![1.0]);
    make_late(&mut without, |_| true);
    assert_eq!(without.late, [histogram(1, 20, 0, Value::Float(1.0))]);
}
