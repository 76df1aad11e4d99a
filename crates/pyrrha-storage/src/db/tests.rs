//! The database on disks that are real and disks that forget.

use std::collections::BTreeMap;
use std::path::Path;

use pyrrha_encoding::chunk::decode_floats;
use pyrrha_encoding::{FloatColumn, SeriesSamples, Want, decode_series};
use pyrrha_env::{OsDisk, SystemClock};
use pyrrha_model::contract::{LabelQuery, QueryContext, SelectHints, SeriesBatch, Value};
use pyrrha_model::{Exemplar, Histogram, Labels, Matcher, Metadata, MetricType, Span, TimeRange, stale_nan};

use super::*;

mod late;

pub(crate) type Samples = BTreeMap<Labels, Vec<(i64, u64)>>;

fn open(dir: &Path) -> Result<Db, StorageError> {
    Db::open(StorageConfig::new(dir), Arc::new(OsDisk), Arc::new(SystemClock::new()))
}

/// The same database, once everything in it can be read and housekeeping is done.
pub(crate) fn recovered(db: Db) -> Db {
    assert!(db.wait_recovered());
    db
}

pub(crate) fn labels(i: usize) -> Labels {
    Labels::from_pairs([("__name__", "m".to_owned()), ("i", i.to_string())])
}

pub(crate) fn append(db: &Db, tenant: &TenantId, samples: &[(usize, i64, f64)]) {
    let mut appender = db.appender(tenant).expect("an appender");
    for &(i, t, v) in samples {
        let series = appender.resolve(None, &labels(i)).expect("a series");
        appender.append(series, 0, t, v).expect("admitted");
    }
    appender.commit().expect("a commit");
}

pub(crate) fn read(db: &Db, tenant: &TenantId) -> Samples {
    let mut ctx = QueryContext::unlimited();
    ctx.tenant = tenant.clone();
    let mut set = db
        .queryable()
        .select(&ctx, &[Matcher::equal("__name__", "m")], TimeRange::ALL, &SelectHints::default())
        .expect("a select");
    let (mut batch, mut found) = (SeriesBatch::default(), Samples::new());
    while set.next_batch(7, &mut batch).expect("a batch") {
        for entry in &batch.series {
            let mut decoded = SeriesSamples::default();
            decode_series(entry, TimeRange::ALL, Want::default(), &mut decoded).expect("chunks");
            let (floats, histograms) = (decoded.floats, decoded.histograms);
            let floats = floats.times.iter().copied().zip(floats.values.iter().map(|v| v.to_bits()));
            let sums = histograms.values.iter().map(|h| h.sum.to_bits());
            let histograms = histograms.times.iter().copied().zip(sums);
            let mut samples: Vec<(i64, u64)> = floats.chain(histograms).collect();
            samples.sort_by_key(|s| s.0);
            found.insert(batch.resolve(&ctx.symbols, entry), samples);
        }
    }
    found
}

#[test]
fn what_was_acknowledged_is_there_after_a_restart() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (a, b) = (TenantId::anonymous(), TenantId::new("b").expect("a tenant"));
    let db = open(dir.path()).expect("opens");
    for t in 0..300 {
        append(&db, &a, &[(0, t * 15_000, t as f64), (1, t * 15_000, f64::NAN)]);
        append(&db, &b, &[(0, t * 15_000, -1.0)]);
        if t % 50 == 0 {
            db.maintain().expect("maintains");
        }
    }
    let before = (read(&db, &a), read(&db, &b));
    assert_eq!(before.0.values().map(Vec::len).collect::<Vec<_>>(), [300, 300]);
    drop(db);
    let db = open(dir.path()).expect("opens again");
    assert_eq!((read(&db, &a), read(&db, &b)), before);
    append(&db, &a, &[(0, 300 * 15_000, 1.0)]);
    assert_eq!(read(&db, &a)[&labels(0)].len(), 301);
}

#[test]
fn a_second_process_another_version_and_a_foreign_directory_are_refused() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let db = open(dir.path()).expect("opens");
    let error = open(dir.path()).expect_err("in use");
    assert!(matches!(error, StorageError::InUse { .. }), "{error}");
    db.close().expect("closes");
    assert_eq!(db.appender(&TenantId::anonymous()).err().map(|e| e.kind()), Some(ErrorKind::Unavailable));
    drop(db);
    std::fs::write(dir.path().join("VERSION"), "7\n").expect("write");
    let error = open(dir.path()).expect_err("another version");
    assert!(error.to_string().contains(r#"format version "7", this build reads "1""#), "{error}");
    std::fs::remove_file(dir.path().join("VERSION")).expect("remove");
    let error = open(dir.path()).expect_err("a foreign directory");
    assert!(matches!(error, StorageError::Foreign { .. }), "{error}");
    let file = dir.path().join("file");
    std::fs::write(&file, "").expect("write");
    let error = open(&file).expect_err("not a directory");
    assert!(error.to_string().starts_with("cannot create data directory path="), "{error}");
}

#[test]
fn histograms_exemplars_and_metadata_survive_a_restart() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let tenant = TenantId::anonymous();
    let db = open(dir.path()).expect("opens");
    let histogram = |n: u64| {
        Value::Histogram(Box::new(Histogram {
            count: n,
            sum: n as f64,
            positive_spans: vec![Span { offset: 0, length: 1 }],
            positive_buckets: vec![n as i64],
            ..Histogram::default()
        }))
    };
    for n in 0..200u64 {
        let t = n as i64 * 60_000;
        let mut appender = db.appender(&tenant).expect("an appender");
        let series = appender.resolve(None, &labels(0)).expect("a series");
        let mixed = appender.resolve(None, &labels(1)).expect("a series");
        appender.append_histogram(series, 0, t, histogram(n)).expect("admitted");
        // Kinds alternate within one batch: what is stored follows time.
        appender.append(mixed, 0, t, 1.0).expect("admitted");
        appender.append_histogram(mixed, 0, t + 1, histogram(1)).expect("admitted");
        appender.append(mixed, 0, t + 2, 2.0).expect("admitted");
        let exemplar = Exemplar { labels: Labels::from_pairs([("trace", "x")]), value: 1.0, timestamp: t };
        appender.append_exemplar(series, exemplar.clone()).expect("admitted");
        assert!(appender.append_exemplar(series, exemplar).is_err());
        appender.append_metadata("m", Metadata { metric_type: MetricType::Histogram, ..Metadata::default() });
        appender.commit().expect("a commit");
    }
    append(&db, &tenant, &[(0, 200 * 60_000, stale_nan())]);
    let check = |db: &Db| {
        let found = read(db, &tenant);
        assert_eq!(found[&labels(0)].len(), 201);
        assert_eq!(found[&labels(0)][200].1, stale_nan().to_bits(), "a stale float ends the histograms");
        assert_eq!(found[&labels(1)].len(), 600);
        let ctx = QueryContext::unlimited();
        let exemplars =
            db.queryable().exemplars(&ctx, &LabelQuery::all(TimeRange::new(0, 600_000))).expect("exemplars");
        assert_eq!(exemplars.len(), 1);
        assert_eq!(exemplars[0].exemplars.len(), 11);
        assert_eq!(db.queryable().metadata(&ctx, Some("m")).expect("metadata").len(), 1);
    };
    check(&db);
    drop(db);
    let db = open(dir.path()).expect("opens again");
    check(&db);
    append(&db, &tenant, &[(0, 201 * 60_000, stale_nan())]);
    assert_eq!(read(&db, &tenant)[&labels(0)].len(), 202);
}

#[test]
fn start_timestamps_are_kept_where_the_option_is_on() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let tenant = TenantId::anonymous();
    let config = StorageConfig { start_timestamps: true, ..StorageConfig::new(dir.path()) };
    let open = || {
        recovered(Db::open(config.clone(), Arc::new(OsDisk), Arc::new(SystemClock::new())).expect("opens"))
    };
    let db = open();
    for t in 1..250i64 {
        let mut appender = db.appender(&tenant).expect("an appender");
        let series = appender.resolve(None, &labels(0)).expect("a series");
        appender.append(series, t / 100 * 1000, t * 1000, t as f64).expect("admitted");
        appender.commit().expect("a commit");
    }
    let check = |db: &Db| {
        let ctx = QueryContext::unlimited();
        let mut set =
            db.queryable().select(&ctx, &[], TimeRange::ALL, &SelectHints::default()).expect("a select");
        let (mut batch, mut floats) = (SeriesBatch::default(), FloatColumn::default());
        assert!(set.next_batch(7, &mut batch).expect("a batch"));
        for chunk in &batch.series[0].chunks {
            decode_floats(chunk.encoding, &chunk.bytes, TimeRange::ALL, &mut floats, true).expect("a chunk");
        }
        assert_eq!(floats.times.len(), 249);
        assert!(floats.times.iter().zip(&floats.starts).all(|(t, s)| *s == t / 1000 / 100 * 1000));
    };
    check(&db);
    drop(db);
    check(&open());
}

/// Settings under which one hour of data after a range is enough to cut it at once.
fn cutting(dir: &Path) -> StorageConfig {
    StorageConfig { quiet_before_cut: std::time::Duration::ZERO, ..StorageConfig::new(dir) }
}

fn open_cutting(dir: &Path) -> Db {
    recovered(Db::open(cutting(dir), Arc::new(OsDisk), Arc::new(SystemClock::new())).expect("opens"))
}

#[test]
fn a_passed_range_becomes_a_block_and_no_sample_is_lost_or_doubled() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let tenant = TenantId::anonymous();
    let db = open_cutting(dir.path());
    const MINUTE: i64 = 60_000;
    let mut expected = Samples::new();
    for t in 0..400 {
        // Series 3 ends early, series 4 begins late.
        let samples: Vec<(usize, i64, f64)> = (0..5)
            .filter(|i| (*i != 3 || t < 60) && (*i != 4 || t > 200))
            .map(|i| (i, t * MINUTE, (t * 10 + i as i64) as f64))
            .collect();
        append(&db, &tenant, &samples);
        for (i, t, v) in samples {
            expected.entry(labels(i)).or_default().push((t, v.to_bits()));
        }
        if t % 7 == 0 {
            db.maintain().expect("maintains");
            assert_eq!(read(&db, &tenant), expected, "after {t} minutes");
        }
    }
    assert_eq!(db.metrics().blocks_cut.get(), 2);
    assert_eq!(db.metrics().series_removed.get(), 1, "a series with nothing left has gone");
    assert_eq!(db.head_stats().series, 4);
    let mut appender = db.appender(&tenant).expect("an appender");
    let series = appender.resolve(None, &labels(9)).expect("a series");
    assert!(appender.append(series, 0, MINUTE, 1.0).is_err(), "a cut range takes no sample");
    drop(appender);
    drop(db);
    let db = open_cutting(dir.path());
    assert_eq!(read(&db, &tenant), expected);
    assert!(db.metrics().replayed.get() < 5 * 400, "what is in blocks is not replayed into the head");
    append(&db, &tenant, &[(3, 400 * MINUTE, 1.0)]);
    expected.entry(labels(3)).or_default().push((400 * MINUTE, 1f64.to_bits()));
    assert_eq!(read(&db, &tenant), expected);
    let names =
        db.queryable().label_values(&QueryContext::unlimited(), "i", &LabelQuery::all(TimeRange::ALL));
    assert_eq!(names.expect("values"), ["0", "1", "2", "3", "4"]);
}

#[test]
fn exemplars_and_metadata_go_into_blocks_and_leave_the_log() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let tenant = TenantId::anonymous();
    let db = open_cutting(dir.path());
    const MINUTE: i64 = 60_000;
    let exemplar =
        |t: i64| Exemplar { labels: Labels::from_pairs([("trace", "x")]), value: 1.0, timestamp: t };
    for t in 0..400 {
        let mut appender = db.appender(&tenant).expect("an appender");
        let series = appender.resolve(None, &labels(0)).expect("a series");
        appender.append(series, 0, t * MINUTE, 1.0).expect("admitted");
        appender.append_exemplar(series, exemplar(t * MINUTE)).expect("admitted");
        // A series that has exemplars and no sample, ever.
        let bare = appender.resolve(None, &labels(7)).expect("a series");
        appender.append_exemplar(bare, exemplar(t * MINUTE)).expect("admitted");
        if t == 5 {
            let help = Metadata { help: "early".into(), ..Metadata::default() };
            appender.append_metadata("m", help);
        }
        appender.commit().expect("a commit");
        if t % 9 == 0 {
            db.maintain().expect("maintains");
        }
    }
    let check = |db: &Db| {
        let (ctx, store) = (QueryContext::unlimited(), db.queryable());
        let found = store.exemplars(&ctx, &LabelQuery::all(TimeRange::ALL)).expect("exemplars");
        let counts: Vec<usize> = found.iter().map(|e| e.exemplars.len()).collect();
        assert_eq!(counts, [400, 400], "each once, from blocks and head");
        let late = TimeRange::new(350 * MINUTE, i64::MAX);
        let found = store
            .exemplars(&ctx, &LabelQuery::new([vec![Matcher::equal("i", "7")]], late))
            .expect("exemplars");
        assert_eq!((found.len(), found[0].exemplars.len()), (1, 50));
        assert_eq!(store.metadata(&ctx, Some("m")).expect("metadata")["m"][0].help, "early");
        assert_eq!(store.metadata(&ctx, None).expect("metadata").len(), 1);
    };
    assert_eq!(db.metrics().blocks_cut.get(), 2);
    check(&db);
    let head = db.shared.tenants.get(&tenant).expect("the tenant").head.clone();
    assert_eq!(head.extras_until(i64::MAX).exemplars[0].exemplars.len(), 160, "the rest is in blocks");
    drop((db, head));
    check(&open_cutting(dir.path()));
    // Without a word of the log, blocks still have what was cut.
    std::fs::remove_dir_all(dir.path().join("wal")).expect("removes");
    std::fs::remove_dir_all(dir.path().join("checkpoint")).expect("removes");
    let db = open_cutting(dir.path());
    let ctx = QueryContext::unlimited();
    let found = db.queryable().exemplars(&ctx, &LabelQuery::all(TimeRange::ALL)).expect("exemplars");
    assert_eq!(found.iter().map(|e| e.exemplars.len()).collect::<Vec<_>>(), [240, 240]);
    assert_eq!(db.queryable().metadata(&ctx, None).expect("metadata").len(), 1);
}

#[test]
fn label_queries_pass_over_what_of_the_head_only_older_readers_see() {
    const HOUR: i64 = 3_600_000;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let tenant = TenantId::anonymous();
    let db = open_cutting(dir.path());
    append(&db, &tenant, &[(0, 0, 1.0)]);
    append(&db, &tenant, &[(1, 9 * HOUR, 1.0)]);
    let (ctx, store) = (QueryContext::unlimited(), db.queryable());
    let reader = store.select(&ctx, &[], TimeRange::ALL, &SelectHints::default()).expect("a select");
    db.maintain().expect("maintains");
    assert_eq!(db.metrics().blocks_cut.get(), 1);
    // All of the head that is not cut, and none of the block.
    let query = LabelQuery::all(TimeRange::new(8 * HOUR, 10 * HOUR));
    assert_eq!(db.head_stats().series, 2, "the reader has what was cut");
    assert_eq!(store.label_values(&ctx, "i", &query).expect("values"), ["1"]);
    assert_eq!(store.series(&ctx, &query).expect("series"), [labels(1)]);
    drop(reader);
    db.maintain().expect("maintains");
    assert_eq!(db.head_stats().series, 1);
    assert_eq!(store.label_values(&ctx, "i", &query).expect("values"), ["1"]);
}

#[test]
fn label_queries_see_what_has_samples_in_their_range_and_statistics_count_it() {
    const STEP: i64 = 600_000;
    const HOURS: i64 = 20;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let tenant = TenantId::anonymous();
    let db = open_cutting(dir.path());
    let mut rng = pyrrha_testkit::SimRng::new(7);
    // Each series has samples from one step to another, and a label that no other has.
    let spans: Vec<(i64, i64)> = (0..40)
        .map(|_| {
            let start = rng.below(HOURS as u64 * 6) as i64;
            (start, start + rng.below(30) as i64)
        })
        .collect();
    let labels_of = |i: usize| {
        Labels::from_pairs([
            ("__name__", format!("m{}", i % 3)),
            ("i", i.to_string()),
            (&*format!("only{i}"), "x".to_owned()),
        ])
    };
    for step in 0..HOURS * 6 + 30 {
        let mut appender = db.appender(&tenant).expect("an appender");
        for (i, _) in spans.iter().enumerate().filter(|(_, s)| s.0 <= step && step <= s.1) {
            let series = appender.resolve(None, &labels_of(i)).expect("a series");
            appender.append(series, 0, step * STEP, 1.0).expect("admitted");
        }
        appender.commit().expect("a commit");
        if step % 20 == 0 {
            db.maintain().expect("maintains");
        }
    }
    // Compaction has a thread of its own.
    let some_are_large = || db.blocks(&tenant).iter().any(|b| b.compaction.level > 1);
    for _ in 0..20_000 {
        if some_are_large() {
            break;
        }
        db.maintain().expect("maintains");
        std::thread::yield_now();
    }
    assert!(some_are_large());
    let (ctx, store) = (QueryContext::unlimited(), db.queryable());
    for _ in 0..100 {
        let from = rng.below(HOURS as u64 * 6 + 30) as i64;
        let range = TimeRange::new(from * STEP, (from + rng.below(40) as i64) * STEP);
        let third = rng.below(3);
        let sets = match rng.below(3) {
            0 => vec![],
            1 => vec![vec![Matcher::equal("__name__", format!("m{third}"))]],
            _ => vec![vec![Matcher::equal("i", "1")], vec![Matcher::equal("__name__", "m2")]],
        };
        let wanted: Vec<usize> = (0..spans.len())
            .filter(|&i| spans[i].0 * STEP <= range.end && range.start <= spans[i].1 * STEP)
            .filter(|&i| match &sets[..] {
                [] => true,
                [_] => i as u64 % 3 == third,
                _ => i == 1 || i % 3 == 2,
            })
            .collect();
        let sorted = |mut list: Vec<String>| {
            list.sort();
            list
        };
        let query = LabelQuery::new(sets, range);
        let values = store.label_values(&ctx, "i", &query).expect("values");
        assert_eq!(values, sorted(wanted.iter().map(|i| i.to_string()).collect()), "{range:?}");
        let own = wanted.iter().map(|i| format!("only{i}"));
        let common = ["__name__", "i"].iter().map(|n| n.to_string()).filter(|_| !wanted.is_empty());
        let names = store.label_names(&ctx, &query).expect("names");
        assert_eq!(names, sorted(own.chain(common).collect()), "{range:?}");
        assert_eq!(store.series(&ctx, &query).expect("series").len(), wanted.len());
    }
    let found = db.cardinality(&tenant, 2);
    assert_eq!(found.series, db.head_stats().series);
    assert_eq!(found.values_by_label[0], ("i".to_owned(), found.series));
    let times = found.times.expect("the head is not empty");
    let series = store.series(&ctx, &LabelQuery::all(times)).expect("series");
    let count = |m: &str| series.iter().filter(|l| l.metric_name() == m).count() as u64;
    let mut by_metric: Vec<(String, u64)> = ["m0", "m1", "m2"].map(|m| (m.to_owned(), count(m))).into();
    by_metric.sort_by_key(|(name, n)| (std::cmp::Reverse(*n), name.clone()));
    by_metric.retain(|(_, n)| *n > 0);
    by_metric.truncate(2);
    assert_eq!(found.series_by_metric, by_metric);
    assert!(found.chunks >= found.series && found.label_pairs > 2 * found.series);
}

#[test]
fn a_query_that_began_before_a_cut_reads_on_what_it_saw() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let tenant = TenantId::anonymous();
    let db = open_cutting(dir.path());
    for t in 0..300 {
        append(&db, &tenant, &(0..10).map(|i| (i, t * 60_000, t as f64)).collect::<Vec<_>>());
    }
    let ctx = QueryContext::unlimited();
    let mut before =
        db.queryable().select(&ctx, &[], TimeRange::ALL, &SelectHints::default()).expect("a select");
    db.maintain().expect("maintains");
    assert!(db.metrics().blocks_cut.get() > 0);
    let mut after =
        db.queryable().select(&ctx, &[], TimeRange::ALL, &SelectHints::default()).expect("a select");
    db.maintain().expect("maintains");
    let count = |set: &mut Box<dyn pyrrha_model::contract::SeriesSet>| {
        let (mut batch, mut samples) = (SeriesBatch::default(), SeriesSamples::default());
        let mut found = Vec::new();
        while set.next_batch(3, &mut batch).expect("a batch") {
            for entry in &batch.series {
                decode_series(entry, TimeRange::ALL, Want::default(), &mut samples).expect("chunks");
                found.push(samples.floats.times.len());
            }
        }
        found
    };
    assert_eq!(count(&mut before), [300; 10]);
    drop(before);
    db.maintain().expect("maintains");
    assert_eq!(count(&mut after), [300; 10]);
}

#[test]
fn an_unreadable_block_is_named_by_what_it_would_have_answered() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let tenant = TenantId::anonymous();
    let db = open_cutting(dir.path());
    for t in 0..300 {
        append(&db, &tenant, &[(0, t * 60_000, t as f64)]);
    }
    db.maintain().expect("maintains");
    drop(db);
    let bucket = dir.path().join("bucket/anonymous");
    let block = std::fs::read_dir(&bucket)
        .expect("blocks")
        .filter_map(Result::ok)
        .find(|e| e.path().join("index").exists())
        .expect("a block");
    std::fs::write(block.path().join("index"), b"nonsense").expect("write");
    let db = open_cutting(dir.path());
    let mut ctx = QueryContext::unlimited();
    let select = |ctx: &QueryContext, range| {
        db.queryable().select(ctx, &[], range, &SelectHints::default()).map(|_| ()).map_err(|e| e.kind())
    };
    assert_eq!(select(&ctx, TimeRange::new(0, 1000)), Err(ErrorKind::Corrupt));
    assert_eq!(select(&ctx, TimeRange::new(200 * 60_000, i64::MAX)), Ok(()));
    ctx.partial_response = true;
    assert_eq!(select(&ctx, TimeRange::new(0, 1000)), Ok(()));
    assert_eq!(ctx.notices.gaps().len(), 1);
}

#[test]
fn retention_removes_old_blocks_and_a_clock_that_jumps_removes_nothing() {
    use std::time::Duration;
    const HOUR: i64 = 3_600_000;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let tenant = TenantId::anonymous();
    let clock = Arc::new(pyrrha_testkit::SimClock::new(10 * HOUR));
    let config =
        StorageConfig { retention: Duration::from_secs(24 * 3600), compaction: false, ..cutting(dir.path()) };
    let db = recovered(Db::open(config, Arc::new(OsDisk), clock.clone()).expect("opens"));
    for t in 0..10 {
        append(&db, &tenant, &[(0, t * HOUR, t as f64)]);
    }
    let maintain = || db.maintain().expect("maintains");
    maintain();
    assert_eq!(db.metrics().blocks_cut.get(), 4);
    clock.jump_wall(1000 * HOUR);
    for _ in 0..2 {
        maintain();
        clock.jump_wall(-500 * HOUR);
        clock.advance(Duration::from_secs(3700));
        maintain();
    }
    assert_eq!(read(&db, &tenant)[&labels(0)].len(), 10, "no two looks agreed");
    clock.set_wall(29 * HOUR);
    clock.advance(Duration::from_secs(3700));
    maintain();
    clock.advance(Duration::from_secs(3700));
    maintain();
    assert_eq!(db.metrics().blocks_removed.get(), 3);
    assert_eq!(read(&db, &tenant)[&labels(0)].len(), 2, "of a block that stays, what is too old is hidden");
    let ctx = QueryContext::unlimited();
    let names = |end| {
        db.queryable().label_names(&ctx, &LabelQuery::all(TimeRange::new(0, end))).expect("names").len()
    };
    assert_eq!((names(10 * HOUR), names(5 * HOUR)), (2, 0));
}

#[test]
fn retention_by_size_removes_the_oldest_blocks_of_all_tenants_and_never_what_is_in_none() {
    const HOUR: i64 = 3_600_000;
    let disk = pyrrha_testkit::SimDisk::new(1);
    let clock = Arc::new(pyrrha_testkit::SimClock::new(100 * HOUR));
    let tenants = ["a", "b"].map(|id| TenantId::new(id).expect("a tenant"));
    let config = |retention_bytes| StorageConfig {
        wal: crate::wal::WalConfig { segment_bytes: 2 << 10, ..Default::default() },
        disk_reserve_bytes: 0,
        compaction: false,
        retention_bytes,
        ..cutting(Path::new("data"))
    };
    let open = |bytes| {
        Db::open_single_threaded(config(bytes), Arc::new(disk.clone()), clock.clone()).expect("opens")
    };
    let db = open(0);
    for hour in 0..20 {
        tenants.iter().for_each(|t| append(&db, t, &[(0, hour * HOUR, hour as f64)]));
    }
    db.maintain().expect("maintains");
    let count = |db: &Db| tenants.each_ref().map(|t| db.blocks(t).len());
    assert_eq!(count(&db), [9, 9]);
    drop(db);
    let db = open(10 << 10);
    db.maintain().expect("maintains");
    let [a, b] = count(&db);
    assert!(a.abs_diff(b) <= 1 && a > 0 && a < 9, "{a} and {b} blocks are left");
    let times: Vec<i64> = read(&db, &tenants[0])[&labels(0)].iter().map(|s| s.0).collect();
    assert_eq!(times.last(), Some(&(19 * HOUR)), "the oldest went");
    drop(db);
    let db = open(1);
    db.maintain().expect("maintains");
    assert_eq!(count(&db), [0, 0]);
    assert_eq!(read(&db, &tenants[0])[&labels(0)].len(), 2, "the head is never removed");
}

#[test]
fn a_tenant_that_keeps_too_much_of_the_log_is_cut_early_and_a_silent_one_in_half_an_hour() {
    use std::time::Duration;
    const HOUR: i64 = 3_600_000;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let [sparse, busy, silent] = ["sparse", "busy", "silent"].map(|id| TenantId::new(id).expect("a tenant"));
    let clock = Arc::new(pyrrha_testkit::SimClock::new(100 * HOUR));
    let config = StorageConfig {
        wal: crate::wal::WalConfig { segment_bytes: 4 << 10, ..Default::default() },
        log_limit_bytes: 40 << 10,
        ..StorageConfig::new(dir.path())
    };
    let db = recovered(Db::open(config, Arc::new(OsDisk), clock.clone()).expect("opens"));
    let maintain = || db.maintain().expect("maintains");
    let cut = || db.metrics().blocks_cut.get();
    append(&db, &sparse, &[(0, 10 * HOUR, 1.0), (1, 100 * HOUR, 1.0)]);
    clock.advance(Duration::from_secs(5));
    maintain();
    assert_eq!(cut(), 0, "its sender may have more for the range");
    for n in 0..1000 {
        append(&db, &busy, &[(0, 100 * HOUR + n, 1.0)]);
    }
    maintain();
    assert_eq!(cut(), 1, "the range holds back 40 KiB of the log");
    append(&db, &silent, &[(0, 99 * HOUR, 1.0)]);
    clock.advance(Duration::from_secs(20 * 60));
    append(&db, &busy, &[(0, 100 * HOUR + 2000, 1.0)]);
    clock.advance(Duration::from_secs(11 * 60));
    maintain();
    assert_eq!(cut(), 1, "a range that is young by the wall clock takes what senders kept");
    clock.advance(Duration::from_secs(170 * 60));
    append(&db, &busy, &[(0, 103 * HOUR, 1.0)]);
    maintain();
    let blocks = |tenant| db.blocks(tenant).len();
    assert_eq!((blocks(&silent), blocks(&sparse)), (1, 2), "all is in blocks, though nothing newer came");
}

#[test]
fn a_cut_finishes_on_a_full_disk_and_then_writes_go_on() {
    const MINUTE: i64 = 60_000;
    let disk = pyrrha_testkit::SimDisk::new(1);
    let clock = Arc::new(pyrrha_testkit::SimClock::new(100 * 60 * MINUTE));
    let tenant = TenantId::anonymous();
    let config = || StorageConfig {
        wal: crate::wal::WalConfig { segment_bytes: 8 << 10, ..Default::default() },
        disk_reserve_bytes: 64 << 10,
        ..cutting(Path::new("data"))
    };
    let open = || Db::open_single_threaded(config(), Arc::new(disk.clone()), clock.clone()).expect("opens");
    let db = open();
    let written = std::cell::Cell::new(0i64);
    let write = |db: &Db| -> Result<(), String> {
        let mut appender = db.appender(&tenant).map_err(|e| e.to_string())?;
        let series = appender.resolve(None, &labels(0)).map_err(|e| e.to_string())?;
        let n = written.get();
        appender.append(series, 0, n * MINUTE, n as f64).map_err(|e| e.to_string())?;
        appender.commit().map_err(|e| e.to_string())?;
        written.set(n + 1);
        Ok(())
    };
    // Four hours are to be cut, and nothing is free beside the reserve.
    while write(&db).is_ok() {
        if disk.used() > 400 << 10 {
            disk.set_capacity(Some(disk.used()));
        }
    }
    let refusal = write(&db).expect_err("full");
    assert!(refusal.starts_with("disk is full, writes are refused until space is freed"), "{refusal}");
    assert!(db.is_disk_full());
    (0..20).for_each(|_| db.maintain().expect("maintains"));
    assert!(db.metrics().blocks_cut.get() > 0);
    assert!(db.metrics().cuts_failed.get() == 0 && db.reserve_counts().0 > 0, "the cut took the reserve");
    assert!(!db.is_disk_full(), "the log gave room");
    write(&db).expect("writes go on");
    let found = read(&db, &tenant);
    assert_eq!(found[&labels(0)].len() as i64, written.get(), "nothing acknowledged is lost");
    drop(db);
    // A start on a full disk reads, and refuses writes.
    disk.remove_file(Path::new("data/reserve")).expect("removes");
    disk.set_capacity(Some(disk.used()));
    let db = open();
    assert_eq!(read(&db, &tenant)[&labels(0)].len() as i64, written.get());
    assert!(write(&db).is_err());
    disk.set_capacity(None);
    db.maintain().expect("maintains");
    write(&db).expect("writes go on");
}

#[test]
fn writers_readers_cuts_and_checkpoints_run_side_by_side() {
    use std::sync::atomic::AtomicBool;
    const WRITERS: usize = 3;
    const ROUNDS: i64 = 300;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let tenant = TenantId::anonymous();
    let config = StorageConfig {
        block_range_ms: 60_000,
        samples_per_chunk: 10,
        checkpoint_after_samples: 500,
        ..cutting(dir.path())
    };
    let db = recovered(Db::open(config, Arc::new(OsDisk), Arc::new(SystemClock::new())).expect("opens"));
    let (done, together) = (AtomicBool::new(false), std::sync::Barrier::new(WRITERS));
    std::thread::scope(|scope| {
        let (db, done, tenant, together) = (&db, &done, &tenant, &together);
        scope.spawn(move || {
            while !done.load(Ordering::Acquire) {
                db.maintain().expect("maintains");
            }
        });
        scope.spawn(move || {
            let mut before = 0;
            while !done.load(Ordering::Acquire) {
                let samples = read(db, tenant).values().map(Vec::len).sum::<usize>();
                assert!(samples >= before, "{samples} after {before}");
                before = samples;
                let ctx = QueryContext::unlimited();
                db.queryable().exemplars(&ctx, &LabelQuery::all(TimeRange::ALL)).expect("exemplars");
            }
        });
        std::thread::scope(|writers| {
            for w in 0..WRITERS {
                writers.spawn(move || {
                    for t in 0..ROUNDS {
                        // Nobody falls half a range behind.
                        if t % 15 == 0 {
                            together.wait();
                        }
                        let samples: Vec<(usize, i64, f64)> =
                            (0..10).map(|i| (w * 10 + i, t * 1000, t as f64)).collect();
                        append(db, tenant, &samples);
                    }
                });
            }
        });
        done.store(true, Ordering::Release);
    });
    // On a busy machine the last ranges are cut only now.
    (0..2).for_each(|_| db.maintain().expect("maintains"));
    assert!(db.metrics().blocks_cut.get() >= 2 && db.metrics().checkpoints.get() >= 1);
    let check = |db: &Db| {
        let found = read(db, &tenant);
        assert_eq!(found.len(), WRITERS * 10);
        assert!(found.values().all(|s| s.len() == ROUNDS as usize), "every sample once");
    };
    check(&db);
    drop(db);
    check(&open_cutting(dir.path()));
}
