use super::*;

fn histogram(count: f64) -> Arc<FloatHistogram> {
    Arc::new(FloatHistogram { count, ..Default::default() })
}

#[test]
fn a_step_holds_a_float_or_a_histogram_never_both() {
    let mut column = Column::new(70);
    column.set(65, Sample::Float(1.0));
    column.set(65, Sample::Histogram(histogram(2.0)));
    column.set(3, Sample::Histogram(histogram(3.0)));
    assert_eq!(column.float(65), None);
    assert_eq!(column.iter().map(|(s, _)| s).collect::<Vec<_>>(), [3, 65]);
    column.set(65, Sample::Float(4.0));
    assert_eq!(column.get(65), Some(Sample::Float(4.0)));
    assert_eq!(column.len(), 2);
    column.clear(65);
    column.clear(3);
    assert!(column.is_empty());
}

#[test]
fn columns_merge_only_where_disjoint() {
    let (mut a, mut b) = (Column::new(3), Column::new(3));
    a.set_float(0, 1.0);
    b.set_histogram(2, histogram(1.0));
    assert!(a.merge(&b));
    assert_eq!(a.len(), 2);
    b.set_float(0, 5.0);
    assert!(!a.merge(&b));
    assert_eq!(a.float(0), Some(1.0));
}

#[test]
fn bits_know_their_length() {
    assert_eq!(Bits::all(64).count(), 64);
    assert_eq!(Bits::all(65).iter().last(), Some(64));
    assert_eq!(Bits::all(0).count(), 0);
    let mut bits = Bits::all(130);
    bits.subtract(&Bits::all(130));
    assert!(bits.is_empty());
}

#[test]
fn a_range_of_steps_is_each_of_them() {
    for range in [0..0, 3..3, 3..4, 0..64, 63..65, 60..130, 128..130, 0..130] {
        let (mut whole, mut one_by_one) = (Bits::none(130), Bits::none(130));
        one_by_one.set(7);
        whole.set(7);
        range.clone().for_each(|step| one_by_one.set(step));
        whole.set_range(range.clone());
        assert_eq!(whole, one_by_one, "{range:?}");
    }
}

#[test]
fn steps_end_at_or_before_the_end() {
    assert_eq!(Steps::between(0, 25, 10).count, 3);
    assert_eq!(Steps::between(0, 25, 10).end(), 20);
    assert_eq!(Steps::between(1, 0, 10).count, 0);
    assert_eq!(Steps::instant(7).time(0), 7);
}
