use pyrrha_model::contract::{QueryContext, Queryable, Refused, SelectHints, SeriesBatch};
use pyrrha_model::{Matcher, TimeRange};

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
    assert_eq!(add(&db, "b", 899, 1.0), Err(Refused::TooOld));
    let times: Vec<_> = db.dump(&TenantId::anonymous())[&labels("a")].iter().map(|s| s.1).collect();
    assert_eq!(times, [900, 1000]);
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
