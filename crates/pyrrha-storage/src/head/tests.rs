//! The head against a naive model.

use std::collections::BTreeMap;

use proptest::prelude::*;
use pyrrha_encoding::{SeriesSamples, Want, decode_series};
use pyrrha_model::contract::{
    Appender, Ingest, LabelQuery, QueryContext, SelectHints, SeriesBatch, SeriesKey, Value,
};
use pyrrha_model::{ErrorKind, Exemplar, Matcher, Metadata, StoreError, TimeRange};
use pyrrha_testkit::{ModelDb, ModelRules, SimClock};

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
    head_with(StorageConfig::new("unused"))
}

fn head_with(config: StorageConfig) -> (Arc<Head>, Arc<TestLog>) {
    with_log(bare_head(config))
}

fn bare_head(config: StorageConfig) -> Head {
    let clock = Arc::new(SimClock::new(1_700_000_000_000));
    Head::new(TenantId::anonymous(), Arc::new(config), clock, Arc::default())
}

fn with_log(head: Head) -> (Arc<Head>, Arc<TestLog>) {
    let head = Arc::new(head);
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
            let mut decoded = SeriesSamples::default();
            decode_series(entry, range, Want::default(), &mut decoded).expect("chunks");
            let column = decoded.floats;
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
        head.label_names(&ctx, &LabelQuery::all(TimeRange::ALL), &HeadView::default()).expect("names"),
        ["__name__", "i"]
    );
    let query = LabelQuery::new([vec![Matcher::equal("__name__", "m")]], TimeRange::ALL);
    let values = head.label_values(&ctx, "i", &query, &HeadView::default()).expect("values");
    assert_eq!(values[..2], ["0", "1"]);
    let none = head
        .series(&ctx, &[], &LabelQuery::all(TimeRange::new(2000, 3000)), &HeadView::default())
        .expect("series");
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

/// What the model has, as [`read`] gives it.
fn dump(model: &ModelDb) -> Model {
    let bits = |samples: Vec<(i64, i64, Value)>| {
        samples
            .into_iter()
            .map(|(_, t, value)| match value {
                Value::Float(v) => (t, v.to_bits()),
                _ => panic!("only floats are appended"),
            })
            .collect()
    };
    model.dump(&TenantId::anonymous()).into_iter().map(|(labels, samples)| (labels, bits(samples))).collect()
}

#[test]
fn late_samples_are_seen_at_once_and_a_select_keeps_its_view() {
    let (head, log) = new_head();
    const SECOND: i64 = 1000;
    for t in (0..400).step_by(2) {
        assert_eq!(append(&head, &log, &[(0, t * SECOND, t as f64)]), [Ok(())]);
    }
    for t in (1..200).step_by(2) {
        assert_eq!(append(&head, &log, &[(0, t * SECOND, t as f64)]), [Ok(())]);
    }
    let ctx = QueryContext::unlimited();
    let mut before = head
        .select(&ctx, &[], TimeRange::ALL, &SelectHints::default(), HeadView::default())
        .expect("a select");
    for t in (201..400).step_by(2) {
        assert_eq!(append(&head, &log, &[(0, t * SECOND, t as f64)]), [Ok(())]);
    }
    let times = |model: Model| model[&labels(0)].iter().map(|s| s.0 / SECOND).collect::<Vec<_>>();
    let expected: Vec<i64> = (0..400).filter(|t| t % 2 == 0 || *t < 200).collect();
    assert_eq!(times(drain(&ctx, &mut *before, TimeRange::ALL)), expected);
    assert_eq!(times(read(&head, &[], TimeRange::ALL)), (0..400).collect::<Vec<_>>());
    assert_eq!(times(read(&head, &[], TimeRange::new(3 * SECOND, 5 * SECOND))), [3, 4, 5]);
    assert_eq!(head.metrics.late.get(), 199, "the last one is newer than all");
    assert_eq!(append(&head, &log, &[(0, 7 * SECOND, 7.0)]), [Ok(())], "a repetition");
    assert_eq!(append(&head, &log, &[(0, 7 * SECOND, 8.0)]), [Err(Refused::Duplicate)]);
    assert_eq!(append(&head, &log, &[(0, 8 * SECOND, 7.0)]), [Err(Refused::Duplicate)]);
    assert_eq!(head.metrics.late.get(), 199);
    let mut stats = HeadStats::default();
    head.add_stats(&mut stats);
    assert_eq!(stats.late_chunks, 199 / 32 + 1);
}

#[test]
fn a_late_sample_meets_those_that_wait_for_the_log() {
    let (head, log) = new_head();
    append(&head, &log, &[(0, 1000, 1.0)]);
    log.hold.store(true, Ordering::Relaxed);
    assert_eq!(
        append(&head, &log, &[(0, 2000, 2.0), (0, 3000, 3.0), (0, 2500, 2.5)]),
        [Ok(()), Ok(()), Ok(())]
    );
    assert_eq!(append(&head, &log, &[(0, 4000, 4.0)]), [Ok(())]);
    let refused = [2000, 2500, 3000, 4000].map(|t| (0, t, 9.0));
    let duplicate = || Err(Refused::Duplicate);
    assert_eq!(append(&head, &log, &refused), [duplicate(), duplicate(), duplicate(), duplicate()]);
    let repeated = [(0, 2000, 2.0), (0, 2500, 2.5), (0, 3000, 3.0), (0, 3500, 3.5)];
    assert_eq!(append(&head, &log, &repeated), [Ok(()), Ok(()), Ok(()), Ok(())]);
    {
        let mut appender = HeadAppender::open(head.clone(), log.clone()).expect("an appender");
        let series = appender.resolve(None, &labels(0)).expect("a series");
        appender.append(series, 0, 1500, 1.5).expect("admitted");
        assert_eq!(appender.append(series, 0, 1500, 1.6), Err(Refused::Duplicate));
    }
    assert_eq!(append(&head, &log, &[(0, 1500, 1.7)]), [Ok(())], "the dropped batch is forgotten");
    log.settle(true);
    let found = read(&head, &[], TimeRange::ALL)[&labels(0)].clone();
    let expected =
        [(1000, 1.0), (1500, 1.7), (2000, 2.0), (2500, 2.5), (3000, 3.0), (3500, 3.5), (4000, 4.0f64)];
    assert_eq!(found, expected.map(|(t, v)| (t, v.to_bits())));
    // An abandoned one leaves its time free.
    assert_eq!(append(&head, &log, &[(0, 3600, 1.0), (0, 5000, 5.0)]), [Ok(()), Ok(())]);
    log.settle(false);
    log.hold.store(false, Ordering::Relaxed);
    assert_eq!(append(&head, &log, &[(0, 3600, 2.0), (0, 5000, 6.0)]), [Ok(()), Ok(())]);
    assert_eq!(append(&head, &log, &[(0, 3600, 3.0)]), [duplicate()]);
    assert_eq!(head.metrics.conflicts.get(), 0);
}

#[test]
fn a_gap_stays_open_while_a_batch_admitted_during_recovery_is_on_its_way() {
    const HOUR: i64 = 3_600_000;
    let (head, log) = with_log(bare_head(StorageConfig::new("unused")).unrecovered());
    let gap = TimeRange::new(2 * HOUR, 4 * HOUR - 1);
    log.hold.store(true, Ordering::Relaxed);
    assert_eq!(append(&head, &log, &[(0, 3 * HOUR, 3.0)]), [Ok(())]);
    // What the log had is newer, and the head is recovered before the batch is durable.
    let logged = LogBatch {
        refs: vec![0],
        times: vec![10 * HOUR],
        values: vec![10.0],
        ..LogBatch::new(TenantId::anonymous())
    };
    head.recover(&mut logged.clone(), LogPosition::default(), &[]);
    while !head.reclassify_next() {}
    assert_eq!(head.close_gaps(gap), None, "its sample would be below a block that lacks it");
    log.settle(true);
    assert_eq!(head.close_gaps(gap), None, "now it is a late one");
    let found = read(&head, &[], TimeRange::ALL)[&labels(0)].clone();
    assert_eq!(found, [(3 * HOUR, 3.0f64.to_bits()), (10 * HOUR, 10.0f64.to_bits())]);
}

#[test]
fn a_batch_admitted_during_recovery_that_is_abandoned_leaves_no_gap_open() {
    const HOUR: i64 = 3_600_000;
    let (head, log) = with_log(bare_head(StorageConfig::new("unused")).unrecovered());
    let gap = TimeRange::new(2 * HOUR, 4 * HOUR - 1);
    log.hold.store(true, Ordering::Relaxed);
    assert_eq!(append(&head, &log, &[(0, 3 * HOUR, 3.0)]), [Ok(())]);
    while !head.reclassify_next() {}
    assert_eq!(head.close_gaps(gap), None);
    log.settle(false);
    assert_eq!(head.close_gaps(gap), Some(vec![gap]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_admitted_is_what_is_read(
        batches in prop::collection::vec(prop::collection::vec((0usize..5, -3i64..200, 0u8..3), 1..60), 1..40),
        step in 1i64..400_000, start in -20_000_000i64..20_000_000, from in -3i64..200, to in -3i64..200,
        window in prop_oneof![Just(0i64), 1i64..20_000_000],
    ) {
        let clock = Arc::new(SimClock::new(1_700_000_000_000));
        let (head, log) = head_with(StorageConfig { out_of_order_window_ms: window, ..StorageConfig::new("unused") });
        let model = ModelDb::with_rules(ModelRules {
            out_of_order_window_ms: window, clock: Some(clock), start_timestamps: false,
        });
        for (round, batch) in batches.iter().enumerate() {
            let samples: Vec<(usize, i64, f64)> = batch.iter()
                .map(|&(i, t, v)| (i, start + (t + round as i64 * 20) * step, f64::from(v))).collect();
            let results = append(&head, &log, &samples);
            let mut appender = model.appender(&TenantId::anonymous()).expect("always opens");
            let expected: Vec<_> = samples.iter().map(|&(i, t, v)| {
                let series = appender.resolve(None, &labels(i)).expect("no limit");
                appender.append(series, 0, t, v)
            }).collect();
            appender.commit().expect("always commits");
            prop_assert_eq!(results, expected);
        }
        let mut model = dump(&model);
        prop_assert_eq!(&read(&head, &[], TimeRange::ALL), &model);
        let range = TimeRange::new(start + from * step, start + to * step);
        let mut cut = read(&head, &[], range);
        cut.retain(|_, samples| !samples.is_empty());
        for samples in model.values_mut() {
            samples.retain(|&(t, _)| range.contains(t));
        }
        model.retain(|_, samples| !samples.is_empty());
        prop_assert_eq!(cut, model);
        prop_assert_eq!(head.metrics.conflicts.get(), 0);
    }
}

#[test]
fn metadata_is_logged_again_without_exemplars_that_the_log_has() {
    let (head, log) = new_head();
    append(&head, &log, &[(0, 1000, 1.0)]);
    let at = |segment| LogPosition { segment, offset: 0 };
    let metadata = Metadata { help: "help".to_owned(), ..Metadata::default() };
    let mut batch = LogBatch::new(TenantId::anonymous());
    batch.metadata.push(("m".to_owned(), metadata.clone()));
    head.append_extras(&batch, at(1));
    head.extras_saved(&head.extras_until(i64::MAX), true);
    let mut batch = LogBatch::new(TenantId::anonymous());
    let exemplar = Exemplar { labels: Labels::from_pairs([("trace", "x")]), value: 1.0, timestamp: 1000 };
    batch.exemplars.push((0, exemplar));
    head.append_extras(&batch, at(5));

    log.hold.store(true, Ordering::Relaxed);
    head.log_extras_again(at(3), &*log).expect("logs");
    let logged = log.held.lock().pop().expect("a batch");
    assert_eq!(logged.metadata, [("m".to_owned(), metadata)]);
    assert!(logged.exemplars.is_empty(), "the log has them further on");
    assert_eq!(head.extras_until(i64::MAX).exemplars.len(), 1, "nor are they forgotten");
    assert_eq!(head.extras.read().logged_from, Some(at(5)));

    head.log_extras_again(at(6), &*log).expect("logs");
    let logged = log.held.lock().pop().expect("a batch");
    assert_eq!((logged.metadata.len(), logged.exemplars.len()), (1, 1));
    head.settled(false);
    head.settled(false);
}
