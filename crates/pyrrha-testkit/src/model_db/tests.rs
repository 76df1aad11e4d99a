use proptest::prelude::*;
use pyrrha_encoding::{SeriesSamples, Want, decode_series};
use pyrrha_model::contract::{QueryContext, Queryable, Refused, SelectHints, SeriesBatch};
use pyrrha_model::{FloatHistogram, Matcher, Span, TimeRange};

use super::*;

fn labels(i: &str) -> Labels {
    Labels::from_pairs([("__name__", "m"), ("i", i)])
}

fn add(db: &ModelDb, i: &str, t: Timestamp, v: f64) -> Result<(), Refused> {
    let mut batch = db.appender(&TenantId::anonymous()).expect("always opens");
    let series = batch.resolve(None, &labels(i))?;
    batch.append(series, 0, t, v)?;
    batch.commit().expect("always commits");
    Ok(())
}

#[test]
fn samples_are_refused_by_the_plain_rules() {
    let db = ModelDb::new();
    assert_eq!(add(&db, "a", 10, 1.0), Ok(()));
    assert_eq!(add(&db, "a", 10, 1.0), Ok(()), "a repetition");
    assert_eq!(add(&db, "a", 10, 2.0), Err(Refused::Duplicate));
    assert_eq!(add(&db, "a", 9, 1.0), Err(Refused::OutOfOrder));
    let db = ModelDb::with_rules(ModelRules { out_of_order_window_ms: 100, ..ModelRules::default() });
    assert_eq!(add(&db, "a", 1000, 1.0), Ok(()));
    assert_eq!(add(&db, "a", 900, 1.0), Ok(()));
    assert_eq!(add(&db, "a", 899, 1.0), Err(Refused::TooOld));
    assert_eq!(add(&db, "b", 899, 1.0), Ok(()), "newer than its series' last one, which there is none");
    assert_eq!(add(&db, "a", 900, 2.0), Err(Refused::Duplicate));
    let times: Vec<_> = db.dump(&TenantId::anonymous())[&labels("a")].iter().map(|s| s.1).collect();
    assert_eq!(times, [900, 1000]);
}

#[test]
fn what_is_cut_is_merged() {
    let db = ModelDb::with_rules(ModelRules { out_of_order_window_ms: 500, ..ModelRules::default() });
    let stale = pyrrha_model::stale_nan();
    for (t, v) in [(600, 5.0), (610, stale), (1000, 1.0)] {
        add(&db, "a", t, v).expect("in order");
    }
    db.cut(&TenantId::anonymous(), TimeRange::new(600, 699));
    for (t, v) in [(600, 4.0), (610, -7.0), (620, 1.0)] {
        assert_eq!(add(&db, "a", t, v), Ok(()));
        assert_eq!(add(&db, "a", t, v + 1.0), Err(Refused::Duplicate), "the head has the late one");
    }
    assert_eq!(add(&db, "b", 499, 1.0), Ok(()));
    assert_eq!(add(&db, "b", 650, 1.0), Ok(()), "late, because the range is cut");
    assert_eq!(add(&db, "b", 640, 1.0), Ok(()));
    let samples = db.dump(&TenantId::anonymous())[&labels("a")].clone();
    let samples: Vec<_> = samples.into_iter().map(|(_, t, v)| (t, v)).collect();
    let float = |t, v| (t, Value::Float(v));
    assert_eq!(samples, [float(600, 5.0), float(610, -7.0), float(620, 1.0), float(1000, 1.0)]);
}

#[test]
fn a_batch_is_invisible_until_committed() {
    let db = ModelDb::new();
    let tenant = TenantId::anonymous();
    let mut batch = db.appender(&tenant).expect("always opens");
    let series = batch.resolve(None, &labels("a")).expect("no limits");
    batch.append(series, 0, 1, 1.0).expect("first sample");
    assert!(db.dump(&tenant).is_empty());
    drop(batch);
    assert!(db.dump(&tenant).is_empty());
}

#[test]
fn a_select_is_sorted_and_honours_matchers_and_shards() {
    let db = ModelDb::new();
    for i in ["c", "a", "b"] {
        add(&db, i, 10, 1.0).expect("first sample");
    }
    let select = |matchers: &[Matcher], range, shard| {
        let ctx = QueryContext::unlimited();
        let hints = SelectHints { shard, ..SelectHints::default() };
        let mut set = db.select(&ctx, matchers, range, &hints).expect("selects");
        let mut batch = SeriesBatch::default();
        let mut found = Vec::new();
        while set.next_batch(2, &mut batch).expect("reads") {
            found.extend(
                batch.series.iter().map(|s| batch.resolve(&ctx.symbols, s).get("i").map(str::to_owned)),
            );
        }
        found.into_iter().flatten().collect::<Vec<_>>()
    };
    assert_eq!(select(&[], TimeRange::ALL, None), ["a", "b", "c"]);
    assert_eq!(select(&[Matcher::equal("i", "b")], TimeRange::ALL, None), ["b"]);
    assert_eq!(select(&[], TimeRange::new(11, 20), None), Vec::<String>::new());
    let mut both = select(&[], TimeRange::ALL, Some((0, 2)));
    both.extend(select(&[], TimeRange::ALL, Some((1, 2))));
    both.sort();
    assert_eq!(both, ["a", "b", "c"]);
}

/// A start timestamp, a value and what it is: float, stale marker or histogram.
fn sample() -> impl Strategy<Value = (i64, u8, u32)> {
    (0i64..1000, 0u8..8, 0u32..1000)
}

fn value(kind: u8, n: u32) -> Value {
    match kind {
        0..=4 => Value::Float(f64::from(n) / 8.0),
        5 => Value::Float(pyrrha_model::stale_nan()),
        _ => Value::FloatHistogram(Box::new(FloatHistogram {
            count: f64::from(n),
            sum: f64::from(n) * 0.5,
            positive_spans: vec![Span { offset: i32::from(kind), length: 1 }],
            positive_buckets: vec![f64::from(n)],
            ..FloatHistogram::default()
        })),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What is decoded of a select is what was appended, and nothing of it depends on the range.
    #[test]
    fn a_select_gives_back_what_was_appended(
        samples in proptest::collection::vec(sample(), 1..300),
        from in 0i64..300,
        length in 0i64..300,
    ) {
        let db = ModelDb::new();
        let tenant = TenantId::anonymous();
        let mut batch = db.appender(&tenant).expect("always opens");
        let series = batch.resolve(None, &labels("a")).expect("no limits");
        for (t, (start, kind, n)) in samples.iter().enumerate() {
            let t = t as i64;
            match value(*kind, *n) {
                Value::Float(v) => batch.append(series, *start, t, v).expect("in order"),
                histogram => batch.append_histogram(series, *start, t, histogram).expect("in order"),
            }
        }
        let stats = batch.commit().expect("always commits");
        prop_assert_eq!(stats.samples + stats.histograms, samples.len() as u64);

        let ctx = QueryContext::unlimited();
        let range = TimeRange::new(from, from + length);
        let mut set = db.select(&ctx, &[], range, &SelectHints::default()).expect("selects");
        let (mut batch, mut found) = (SeriesBatch::default(), SeriesSamples::default());
        let any = set.next_batch(10, &mut batch).expect("reads");
        prop_assert_eq!(any, from < samples.len() as i64);
        if let Some(entry) = batch.series.first() {
            let want = Want { starts: true, histogram_stats_only: false };
            decode_series(entry, range, want, &mut found).expect("our own chunks");
        }
        let (mut floats, mut histograms) = (Vec::new(), Vec::new());
        for (t, (start, kind, n)) in samples.iter().enumerate().filter(|(t, _)| range.contains(*t as i64)) {
            match value(*kind, *n) {
                Value::Float(v) => floats.push((t as i64, *start, v.to_bits())),
                Value::FloatHistogram(h) => histograms.push((t as i64, *start, h.count.to_bits())),
                Value::Histogram(_) => {}
            }
        }
        let column = |times: &[i64], starts: &[i64], bits: Vec<u64>| {
            times.iter().zip(starts).zip(bits).map(|((t, s), b)| (*t, *s, b)).collect::<Vec<_>>()
        };
        let f = &found.floats;
        prop_assert_eq!(column(&f.times, &f.starts, f.values.iter().map(|v| v.to_bits()).collect()), floats);
        let h = &found.histograms;
        let counts = h.values.iter().map(|h| h.count.to_bits()).collect();
        prop_assert_eq!(column(&h.times, &h.starts, counts), histograms);
    }
}

#[test]
fn a_delete_hides_what_was_there_until_it_is_undone() {
    use pyrrha_model::contract::Deletes;
    use pyrrha_model::{Matcher, TimeRange};
    let db = ModelDb::new();
    let tenant = TenantId::anonymous();
    let put = |t: i64| {
        let mut appender = db.appender(&tenant).expect("open");
        let series = appender.resolve(None, &Labels::from_pairs([("a", "x")])).expect("a series");
        let admitted = appender.append(series, 0, t, t as f64);
        appender.commit().expect("a commit");
        admitted
    };
    let times = || -> Vec<i64> { db.dump(&tenant).into_values().flatten().map(|(_, t, _)| t).collect() };
    assert_eq!(db.delete(&tenant, &[], TimeRange::ALL).expect("deletes"), None, "there is no such tenant");
    (1..5).for_each(|t| put(t).expect("admitted"));
    let sets = [vec![Matcher::equal("a", "x")]];
    let first = db.delete(&tenant, &sets, TimeRange::new(2, 3)).expect("deletes").expect("an id");
    let second = db.delete(&tenant, &sets, TimeRange::new(3, 9)).expect("deletes").expect("an id");
    assert_eq!(times(), [1]);
    put(5).expect("newer than the delete");
    assert!(put(3).is_err(), "late, and there is no window");
    assert_eq!(times(), [1, 5]);
    db.undo_delete(&tenant, first).expect("undone");
    assert_eq!(times(), [1, 2, 5], "the second delete hides 3 as well");
    db.undo_delete(&tenant, second).expect("undone");
    assert_eq!(times(), [1, 2, 3, 4, 5]);
    assert!(db.undo_delete(&tenant, second).is_err());
}
