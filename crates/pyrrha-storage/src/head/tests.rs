//! The head against a naive model.

use std::collections::BTreeMap;

use proptest::prelude::*;
use pyrrha_encoding::FloatColumn;
use pyrrha_encoding::chunk::decode_floats;
use pyrrha_model::contract::{Appender, QueryContext, SelectHints, SeriesBatch, SeriesKey};
use pyrrha_model::{ErrorKind, Matcher, StoreError, TimeRange};
use pyrrha_testkit::SimClock;

use super::select::HeadView;
use super::*;

/// A log that applies at once, or keeps batches until told, or fails.
#[derive(Debug, Default)]
pub(crate) struct TestLog {
    head: Option<Arc<Head>>,
    held: Mutex<Vec<LogBatch>>,
    hold: AtomicBool,
}

impl CommitLog for TestLog {
    fn submit(&self, batch: LogBatch) -> Result<Pending, StoreError> {
        self.held.lock().push(batch);
        if !self.hold.load(Ordering::Relaxed) {
            self.settle(true);
        }
        Ok(Box::new(|| Ok(())))
    }
}

impl TestLog {
    fn settle(&self, durable: bool) {
        let head = self.head.as_ref().expect("a head");
        for batch in self.held.lock().drain(..) {
            if durable {
                head.apply(&batch, LogPosition::default());
            }
            head.settled(durable);
        }
    }
}

fn new_head() -> (Arc<Head>, Arc<TestLog>) {
    let clock = Arc::new(SimClock::new(1_700_000_000_000));
    let head = Arc::new(Head::new(
        TenantId::anonymous(),
        Arc::new(StorageConfig::new("unused")),
        clock,
        Arc::default(),
    ));
    let log = TestLog { head: Some(head.clone()), ..TestLog::default() };
    (head, Arc::new(log))
}

type Model = BTreeMap<Labels, Vec<(i64, u64)>>;

fn read(head: &Arc<Head>, matchers: &[Matcher], range: TimeRange) -> Model {
    let ctx = QueryContext::unlimited();
    let mut set =
        head.select(&ctx, matchers, range, &SelectHints::default(), HeadView::default()).expect("a select");
    drain(&ctx, &mut *set, range)
}

fn drain(ctx: &QueryContext, set: &mut dyn pyrrha_model::contract::SeriesSet, range: TimeRange) -> Model {
    let (mut batch, mut model, mut order) = (SeriesBatch::default(), Model::new(), Vec::new());
    while set.next_batch(3, &mut batch).expect("a batch") {
        for entry in &batch.series {
            let mut column = FloatColumn::default();
            for chunk in &entry.chunks {
                decode_floats(chunk.encoding, &chunk.bytes, range, &mut column, false).expect("a chunk");
            }
            let labels = batch.resolve(&ctx.symbols, entry);
            order.push(labels.clone());
            let samples =
                column.times.iter().copied().zip(column.values.iter().map(|v| v.to_bits())).collect();
            model.insert(labels, samples);
        }
    }
    assert!(order.is_sorted(), "series come in label order");
    model
}

fn labels(i: usize) -> Labels {
    Labels::from_pairs([("__name__", "m".to_owned()), ("i", format!("{i}"))])
}

fn append(head: &Arc<Head>, log: &Arc<TestLog>, samples: &[(usize, i64, f64)]) -> Vec<Result<(), Refused>> {
    let mut appender = Box::new(HeadAppender::open(head.clone(), log.clone()).expect("an appender"));
    let results = samples
        .iter()
        .map(|&(i, t, v)| {
            let key = SeriesKey(i as u128 * 0x1234_5678_9abc_def1);
            let mut found = Vec::new();
            appender.lookup(&[key], &mut found);
            let series = match found[0] {
                Some(series) => series,
                None => appender.resolve(Some(key), &labels(i))?,
            };
            appender.append(series, 0, t, v)
        })
        .collect();
    appender.commit().expect("a commit");
    results
}

#[test]
fn a_select_sees_batches_wholly_and_keeps_its_view() {
    let (head, log) = new_head();
    for t in 0..200 {
        append(&head, &log, &[(0, t * 1000, t as f64), (1, t * 1000, 0.0)]);
    }
    let ctx = QueryContext::unlimited();
    let mut set = head
        .select(
            &ctx,
            &[Matcher::equal("__name__", "m")],
            TimeRange::ALL,
            &SelectHints::default(),
            HeadView::default(),
        )
        .expect("a select");
    for t in 200..400 {
        append(&head, &log, &[(0, t * 1000, t as f64), (1, t * 1000, 0.0), (2, t * 1000, 1.0)]);
    }
    let seen = drain(&ctx, &mut *set, TimeRange::ALL);
    assert_eq!(seen.len(), 2);
    assert!(seen.values().all(|samples| samples.len() == 200), "what came later is not seen");
    let now = read(&head, &[], TimeRange::ALL);
    assert_eq!(now.values().map(Vec::len).collect::<Vec<_>>(), [400, 400, 200]);
}

#[test]
fn a_dropped_batch_and_an_abandoned_one_leave_no_trace() {
    let (head, log) = new_head();
    append(&head, &log, &[(0, 1000, 1.0)]);
    {
        let mut appender = HeadAppender::open(head.clone(), log.clone()).expect("an appender");
        let series = appender.resolve(None, &labels(0)).expect("a series");
        appender.append(series, 0, 2000, 2.0).expect("admitted");
        appender.append(series, 0, 3000, 3.0).expect("admitted");
    }
    log.hold.store(true, Ordering::Relaxed);
    assert_eq!(append(&head, &log, &[(0, 2000, 5.0)]), [Ok(())], "the dropped batch is forgotten");
    // The repetition of a sample that still waits is logged itself.
    assert_eq!(append(&head, &log, &[(0, 2000, 5.0)]), [Ok(())]);
    assert_eq!(log.held.lock().len(), 2);
    let failed = log.held.lock().remove(0);
    drop(failed);
    head.settled(false);
    let error = HeadAppender::open(head.clone(), log.clone())
        .err()
        .expect("writes wait until the failure is settled");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    log.settle(true);
    log.hold.store(false, Ordering::Relaxed);
    assert_eq!(
        read(&head, &[], TimeRange::ALL)[&labels(0)],
        [(1000, 1f64.to_bits()), (2000, 5f64.to_bits())]
    );
    assert_eq!(append(&head, &log, &[(0, 3000, 6.0)]), [Ok(())]);
}

#[test]
fn projection_limit_and_label_queries() {
    let (head, log) = new_head();
    append(&head, &log, &(0..10).map(|i| (i, 1000, 1.0)).collect::<Vec<_>>());
    let ctx = QueryContext::unlimited();
    let hints = SelectHints {
        projection: Some(pyrrha_model::contract::Projection { include: true, labels: vec!["i".to_owned()] }),
        limit: 4,
        ..SelectHints::default()
    };
    let mut set = head.select(&ctx, &[], TimeRange::ALL, &hints, HeadView::default()).expect("a select");
    let seen = drain(&ctx, &mut *set, TimeRange::ALL);
    assert_eq!(
        seen.keys().map(Labels::to_string).collect::<Vec<_>>(),
        [r#"{i="0"}"#, r#"{i="1"}"#, r#"{i="2"}"#, r#"{i="3"}"#]
    );
    assert_eq!(
        head.label_names(&ctx, &[], TimeRange::ALL, &HeadView::default()).expect("names"),
        ["__name__", "i"]
    );
    let values = head
        .label_values(&ctx, "i", &[Matcher::equal("__name__", "m")], TimeRange::ALL, &HeadView::default())
        .expect("values");
    assert_eq!(values[..2], ["0", "1"]);
    let none = head.series(&ctx, &[], TimeRange::new(2000, 3000), 0, &HeadView::default()).expect("series");
    assert!(none.is_empty());
}

#[test]
fn where_the_newest_sample_is_asked_for_it_comes_without_its_chunk() {
    let (head, log) = new_head();
    append(&head, &log, &[(0, 1000, 1.0), (0, 2000, 2.0), (1, 1000, 3.0), (1, 1500, 4.0), (1, 9000, 5.0)]);
    let ctx = QueryContext::unlimited();
    let hints = SelectHints { newest_only: true, ..SelectHints::default() };
    let range = TimeRange::new(0, 3000);
    let select = || head.select(&ctx, &[], range, &hints, HeadView::default()).expect("a select");
    let seen = drain(&ctx, &mut *select(), range);
    assert_eq!(seen[&labels(0)], [(2000, 2f64.to_bits())]);
    // Its newest sample is not in the range.
    assert_eq!(seen[&labels(1)], [(1000, 3f64.to_bits()), (1500, 4f64.to_bits())]);
    // A sample that came after the query began is not seen.
    let mut set = select();
    append(&head, &log, &[(0, 2500, 6.0)]);
    assert_eq!(drain(&ctx, &mut *set, range)[&labels(0)].last(), Some(&(2000, 2f64.to_bits())));
    assert_eq!(drain(&ctx, &mut *select(), range)[&labels(0)], [(2500, 6f64.to_bits())]);
}

#[test]
fn a_query_over_its_budget_fails_and_gives_everything_back() {
    let (head, log) = new_head();
    append(&head, &log, &(0..1000).map(|i| (i, 1000, 1.0)).collect::<Vec<_>>());
    let mut ctx = QueryContext::unlimited();
    ctx.budget = pyrrha_model::contract::MemoryBudget::new("query", 20_000, None);
    let select = |ctx: &QueryContext| {
        let mut set = head.select(ctx, &[], TimeRange::ALL, &SelectHints::default(), HeadView::default())?;
        let mut batch = SeriesBatch::default();
        while set.next_batch(1000, &mut batch)? {}
        Ok::<_, StoreError>(())
    };
    assert_eq!(select(&ctx).expect_err("too little memory").kind(), ErrorKind::Limit);
    assert_eq!(ctx.budget.used(), 0);
    ctx.budget = pyrrha_model::contract::MemoryBudget::new("query", 200_000, None);
    select(&ctx).expect("enough memory");
    assert_eq!(ctx.budget.used(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_admitted_is_what_is_read(
        batches in prop::collection::vec(prop::collection::vec((0usize..5, -3i64..200, 0u8..3), 1..60), 1..40),
        step in 1i64..400_000, start in -20_000_000i64..20_000_000, from in -3i64..200, to in -3i64..200,
    ) {
        let (head, log) = new_head();
        let mut model = Model::new();
        for (round, batch) in batches.iter().enumerate() {
            let samples: Vec<(usize, i64, f64)> = batch.iter()
                .map(|&(i, t, v)| (i, start + (t + round as i64 * 20) * step, f64::from(v))).collect();
            let results = append(&head, &log, &samples);
            for ((i, t, v), result) in samples.into_iter().zip(results) {
                let stored = model.entry(labels(i)).or_default();
                let expected = match stored.last() {
                    Some(&(last, bits)) if t == last && bits == v.to_bits() => Ok(()),
                    Some(&(last, _)) if t == last => Err(Refused::Duplicate),
                    Some(&(last, _)) if t < last => Err(Refused::OutOfOrder),
                    _ => { stored.push((t, v.to_bits())); Ok(()) }
                };
                prop_assert_eq!(result, expected);
            }
        }
        prop_assert_eq!(&read(&head, &[], TimeRange::ALL), &model);
        let range = TimeRange::new(start + from * step, start + to * step);
        let mut cut = read(&head, &[], range);
        cut.retain(|_, samples| !samples.is_empty());
        for samples in model.values_mut() {
            samples.retain(|&(t, _)| range.contains(t));
        }
        model.retain(|_, samples| !samples.is_empty());
        prop_assert_eq!(cut, model);
    }
}
