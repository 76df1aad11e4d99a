//! Backfilled samples against a map, and what is live after a crash.

use proptest::prelude::*;
use pyrrha_env::SystemClock;
use pyrrha_model::contract::{DeleteId, Deletes, Ingest, LabelQuery, QueryContext, Queryable};
use pyrrha_model::{Histogram, MetricType, TenantId};
use pyrrha_testkit::SimDisk;

use super::*;
use crate::Db;
use crate::block::Block;
use crate::config::StorageConfig;
use crate::tsdb::{Directory, Standing, TsdbError, visit_series};

type Model = BTreeMap<(String, Timestamp), String>;

fn labels(i: u8) -> Labels {
    Labels::from_pairs([("__name__", "m".to_owned()), ("i", i.to_string())])
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

fn begin(disk: &Arc<dyn Disk>, home: &Path, config: BackfillConfig) -> Backfill {
    Backfill::begin(disk.clone(), clock(), home, "import", config).expect("begins")
}

fn read(disk: &Arc<dyn Disk>, home: &Path) -> Model {
    let directory = Directory::find(disk.clone(), home, &TenantId::anonymous()).expect("finds");
    let found = directory.blocks().expect("lists");
    let live = found.into_iter().filter(|f| f.standing == Standing::Live);
    let blocks: Vec<Block> = live.map(|f| f.block.expect("opens")).collect();
    let sources: Vec<&dyn Queryable> = blocks.iter().map(|b| b as &dyn Queryable).collect();
    let mut model = Model::new();
    visit_series::<TsdbError>(
        &QueryContext::unlimited(),
        &sources,
        &[],
        TimeRange::ALL,
        |labels, samples| {
            for (_, time, value) in samples {
                model.insert((labels.to_string(), *time), text(value));
            }
            Ok(())
        },
    )
    .expect("reads");
    model
}

/// A value without its hint, which encoding sets.
fn text(value: &Value) -> String {
    match value {
        Value::Float(float) => format!("float {:x}", float.to_bits()),
        Value::Histogram(h) => format!("histogram {} {}", h.count, h.sum),
        Value::FloatHistogram(h) => format!("float histogram {} {}", h.count, h.sum),
    }
}

fn value(kind: u8, n: i32) -> Value {
    let count = u64::from(n.unsigned_abs());
    match kind {
        0 => Value::Histogram(Box::new(Histogram {
            zero_count: count,
            count,
            sum: 1.0,
            ..Histogram::default()
        })),
        _ => Value::Float(f64::from(n) / 3.0),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_time_of_a_series_is_there_once(
        samples in prop::collection::vec((0u8..4, -3_000i64..3_000, 0u8..6, 0i32..100), 1..300),
        memory in 200usize..20_000,
        deleted in prop::option::of((0u8..4, -3_000i64..3_000, 0i64..1_000)),
    ) {
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
        let home = Path::new("/out");
        let config = BackfillConfig { range_ms: 1_000, memory_bytes: memory, ..BackfillConfig::default() };
        let mut backfill = begin(&disk, home, config);
        let mut slots = [SeriesSlot::default(); 4];
        let mut model = Model::new();
        for &(series, time, kind, n) in &samples {
            let slot = &mut slots[usize::from(series)];
            backfill.push(slot, &labels(series), 0, time, value(kind, n)).expect("pushes");
            model.insert((labels(series).to_string(), time), String::new());
        }
        if let Some((series, start, len)) = deleted {
            let range = TimeRange::new(start, start + len);
            backfill.delete(&labels(series), range);
            model.retain(|(name, t), _| *name != labels(series).to_string() || !range.contains(*t));
        }
        let (staged, stats) = backfill.finish().expect("finishes");
        prop_assert_eq!(stats.samples, samples.len() as u64);
        let target = Target::directory(disk.clone(), home).expect("a directory");
        let published = publish(&target, &staged).expect("publishes");
        prop_assert_eq!(published.added.len(), staged.len());
        if model.is_empty() {
            prop_assert!(staged.is_empty());
        } else {
            let found = read(&disk, home);
            prop_assert_eq!(found.keys().collect::<Vec<_>>(), model.keys().collect::<Vec<_>>());
            for (key, value) in &found {
                let same = samples.iter().filter(|(s, t, ..)| (labels(*s).to_string(), *t) == *key);
                let mut choices = same.map(|&(_, _, kind, n)| text(&self::value(kind, n)));
                prop_assert!(choices.any(|c| c == *value), "{:?} is {}, which nobody pushed", key, value);
            }
            for block in &staged {
                let report = crate::tsdb::verify_block(&*disk, &home.join(block.id.to_string()));
                prop_assert!(report.is_sound(), "{:?}", report);
            }
        }
    }
}

fn backfill_one(disk: &Arc<dyn Disk>, home: &Path, identity: Option<u128>, v: f64) -> Vec<Staged> {
    let mut backfill = begin(disk, home, BackfillConfig { identity, ..BackfillConfig::default() });
    let mut slot = SeriesSlot::default();
    for t in [5_000, 8_000_000] {
        backfill.push(&mut slot, &labels(1), 0, t, Value::Float(v)).expect("pushes");
    }
    backfill.finish().expect("finishes").0
}

#[test]
fn blocks_become_live_in_one_commit_and_only_once() {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
    let (data, tenant) = (Path::new("/data"), TenantId::new("team").expect("a tenant"));
    let target = Target::tenant(disk.clone(), clock(), data, &tenant).expect("a new data directory");
    let in_use = Target::tenant(disk.clone(), clock(), data, &tenant).expect_err("locked").to_string();
    assert!(in_use.contains("in use by another process"), "{in_use}");
    let first = publish(&target, &backfill_one(&disk, target.home(), Some(7), 1.0)).expect("publishes");
    assert_eq!((first.added.len(), first.known.len()), (2, 0));
    let state = target.manifest().expect("a manifest");
    assert_eq!((state.number, state.blocks.len()), (1, 2));
    assert!(state.blocks.values().all(|b| b.imported));
    let again = publish(&target, &backfill_one(&disk, target.home(), Some(7), 1.0)).expect("publishes");
    assert_eq!((again.added.len(), again.known), (0, first.added.clone()));
    drop(target);
    // The server has them, and takes newer samples of the same range.
    let db = Db::open(StorageConfig::new(data), disk.clone(), clock()).expect("opens");
    let mut appender = db.appender(&tenant).expect("an appender");
    let series = appender.resolve(None, &labels(1)).expect("a series");
    appender.append(series, 0, 6_000, 2.0).expect("the range is not cut");
    appender.commit().expect("commits");
    db.close().expect("closes");
    drop(db);
    let db = Db::open(StorageConfig::new(data), disk, clock()).expect("opens");
    let mut ctx = QueryContext::unlimited();
    ctx.tenant = tenant;
    let mut times = Vec::new();
    visit_series::<TsdbError>(&ctx, &[&*db.queryable()], &[], TimeRange::ALL, |_, samples| {
        times.extend(samples.iter().map(|s| s.1));
        Ok(())
    })
    .expect("reads");
    assert_eq!(times, [5_000, 6_000, 8_000_000]);
}

#[test]
fn deletes_that_stand_do_not_hide_what_is_imported_after_them() {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
    let (data, tenant) = (Path::new("/data"), TenantId::anonymous());
    let db = Db::open(StorageConfig::new(data), disk.clone(), clock()).expect("opens");
    assert!(db.wait_recovered());
    let mut appender = db.appender(&tenant).expect("an appender");
    let series = appender.resolve(None, &labels(1)).expect("a series");
    appender.append(series, 0, 5_000, 2.0).expect("admitted");
    appender.commit().expect("commits");
    let matchers = [vec![pyrrha_model::Matcher::equal("i", "1")]];
    db.delete(&tenant, &matchers, TimeRange::ALL).expect("deletes");
    db.close().expect("closes");
    drop(db);
    let target = Target::tenant(disk.clone(), clock(), data, &tenant).expect("deletes are no hindrance");
    publish(&target, &backfill_one(&disk, target.home(), None, 4.0)).expect("publishes");
    let imported = read(&disk, data);
    assert!(!imported.is_empty(), "what came after the delete is seen");
    drop(target);
    let open = || {
        let db = Db::open(StorageConfig::new(data), disk.clone(), clock()).expect("opens");
        assert!(db.wait_recovered());
        db
    };
    let seen = |db: &Db| {
        let mut times = Vec::new();
        let ctx = QueryContext { tenant: tenant.clone(), ..QueryContext::unlimited() };
        visit_series::<TsdbError>(&ctx, &[&*db.queryable()], &matchers, TimeRange::ALL, |_, samples| {
            times.extend(samples.iter().map(|s| (s.1, matches!(s.2, Value::Float(v) if v == 2.0))));
            Ok(())
        })
        .expect("reads");
        times
    };
    let db = open();
    let shown = seen(&db);
    assert!(!shown.is_empty() && !shown.contains(&(5_000, true)), "what was deleted stays so: {shown:?}");
    let again = db.delete(&tenant, &matchers, TimeRange::ALL).expect("deletes").expect("an id");
    assert!(seen(&db).is_empty(), "a later delete hides what was imported before it");
    db.undo_delete(&tenant, again).expect("undoes");
    assert_eq!(seen(&db), shown);
}

#[test]
fn what_is_imported_comes_after_deletes_that_only_a_bucket_knows() {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
    let (data, tenant) = (Path::new("/data"), TenantId::anonymous());
    let elsewhere = DeleteId(BlockId::from_parts(clock().now_ms() as u64 - 1, 0).number());
    let target = Target::tenant(disk.clone(), clock(), data, &tenant).expect("a target");
    publish(&target, &backfill_one(&disk, target.home(), None, 4.0)).expect("publishes");
    let imported = target.manifest().expect("a manifest").blocks.keys().copied().collect::<Vec<_>>();
    for block in imported {
        let block = Block::open(&*disk, &target.home().join(block.to_string())).expect("sound");
        assert!(block.deletes().through > elsewhere);
    }
}

#[test]
fn a_block_is_adopted_once_and_again_after_a_crash_before_the_commit() {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
    let foreign = Path::new("/prometheus");
    let plain = Target::directory(disk.clone(), foreign).expect("a directory");
    publish(&plain, &backfill_one(&disk, foreign, None, 4.0)).expect("publishes");
    let directory = Directory::find(disk.clone(), foreign, &TenantId::anonymous()).expect("finds");
    let blocks: Vec<Block> =
        directory.blocks().expect("lists").into_iter().filter_map(|f| f.block.ok()).collect();
    assert_eq!(blocks.len(), 2);
    let data = Path::new("/data");
    let target = Target::tenant(disk.clone(), clock(), data, &TenantId::anonymous()).expect("a target");
    // What a crash leaves: the directory without a manifest that names it.
    link_for_test(&disk, &blocks[0], target.home());
    assert!(target.adopt(&blocks[0]).expect("adopts"));
    assert!(!target.adopt(&blocks[0]).expect("is there"));
    assert!(target.adopt(&blocks[1]).expect("adopts"));
    drop(target);
    assert_eq!(read(&disk, data), read(&disk, foreign));
}

fn link_for_test(disk: &Arc<dyn Disk>, block: &Block, home: &Path) {
    let half = home.join(block.meta().ulid.to_string());
    disk.create_dir_all(&half).expect("creates");
    disk.create_new(&half.join("meta.json")).expect("creates");
}

#[test]
fn exemplars_and_metadata_go_along_through_full_memory() {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
    let home = Path::new("/out");
    let mut backfill = begin(&disk, home, BackfillConfig { memory_bytes: 400, ..BackfillConfig::default() });
    let metadata = Metadata { metric_type: MetricType::Counter, help: "h".into(), unit: String::new() };
    backfill.describe("m", metadata.clone());
    let mut slot = SeriesSlot::default();
    for t in 1..=20 {
        backfill.push(&mut slot, &labels(1), 0, t, Value::Float(1.0)).expect("pushes");
        let exemplar = Exemplar { labels: labels(9), value: t as f64, timestamp: 0 };
        backfill.push_exemplar(&labels(1), t, exemplar).expect("pushes");
    }
    let (staged, stats) = backfill.finish().expect("finishes");
    assert!(stats.flushes > 1 && staged.len() == 1, "{stats:?}");
    let block = Block::open(&*disk, &staged[0].dir).expect("opens");
    let ctx = QueryContext::unlimited();
    let exemplars = block.exemplars(&ctx, &LabelQuery::all(TimeRange::ALL)).expect("reads");
    assert_eq!(exemplars[0].exemplars.len(), 20);
    assert_eq!(block.metadata(&ctx, None).expect("reads")["m"], [metadata]);
}
