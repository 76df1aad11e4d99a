//! Buckets as Thanos and Mimir leave them answer as the samples in them do, and are left as they are.

use std::time::Duration;

use object_store::memory::InMemory;
use proptest::prelude::*;
use pyrrha_encoding::windows::HistogramWindows;
use pyrrha_encoding::{SeriesSamples, Want, decode_series};
use pyrrha_model::contract::{
    CancelReason, LabelQuery, QueryContext, Queryable, SelectHints, SeriesBatch, WindowHints,
};
use pyrrha_model::{Labels, MatchOp, Matcher, TimeRange};
use pyrrha_storage::{Db, StorageConfig};
use pyrrha_testkit::foreign_bucket::{
    ForeignBlock, ForeignBucket, ForeignHistogram, IndexedBlock, bucket_index, deletion_mark, no_compact_mark,
};
use pyrrha_testkit::{SimClock, SimDisk};

use super::*;
use crate::RetryPolicy;
use crate::door::Operation;
use crate::faulty::{Faults, FaultyStore};
use crate::worlds::{policy, wait_until};

/// When tests happen.
const NOW: i64 = 1_000_000_000_000;
const HOUR: i64 = 3_600_000;

/// The id of a block that was made so long ago.
fn ulid(age: i64, n: u128) -> String {
    BlockId::from_parts((NOW - age) as u64, n).to_string()
}

struct World {
    attached: Arc<AttachedBucket>,
    bucket: Bucket,
    runtime: Arc<BucketRuntime>,
    all: WithBuckets,
    clock: Arc<SimClock>,
    disk: Arc<dyn Disk>,
    ctx: QueryContext,
}

impl World {
    fn new(foreign: &ForeignBucket, change: impl FnOnce(&mut AttachConfig)) -> Self {
        Self::on(Arc::new(InMemory::new()), foreign, change)
    }

    fn on(
        store: Arc<dyn object_store::ObjectStore>,
        foreign: &ForeignBucket,
        change: impl FnOnce(&mut AttachConfig),
    ) -> Self {
        let runtime = Arc::new(BucketRuntime::start(2).expect("threads"));
        // What is silent stays so for the whole of a test.
        let policy = RetryPolicy { timeout: Duration::from_secs(600), ..policy() };
        let bucket = Bucket::new(store, "foreign", "some/prefix", policy);
        let world_bucket = bucket.clone();
        let objects = foreign.objects.clone();
        let filled = runtime.wait(async move {
            for (key, bytes) in objects {
                bucket.put(&key, bytes.into()).await?;
            }
            Ok(())
        });
        filled.expect("no fault");
        let mut config = AttachConfig::new(GatewayConfig {
            cache_dir: "/cache".into(),
            cache_bytes: 1 << 20,
            disk_bytes: 0,
            header_bytes: 1 << 20,
        });
        change(&mut config);
        let clock = Arc::new(SimClock::new(NOW));
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
        let attached =
            AttachedBucket::new(world_bucket.clone(), runtime.clone(), disk.clone(), clock.clone(), config);
        let attached = Arc::new(attached);
        attached.look().expect("no fault");
        let db = Db::open_single_threaded(StorageConfig::new("/data"), disk.clone(), clock.clone())
            .expect("opens");
        let all = WithBuckets::new(Arc::new(db).queryable(), vec![attached.clone()]);
        Self { attached, bucket: world_bucket, runtime, all, clock, disk, ctx: QueryContext::unlimited() }
    }

    fn of(tenant: &str) -> QueryContext {
        QueryContext { tenant: TenantId::new(tenant).expect("a tenant"), ..QueryContext::unlimited() }
    }

    fn put(&self, key: &str, bytes: Vec<u8>) {
        let (bucket, key) = (self.bucket.clone(), key.to_owned());
        self.runtime.wait(async move { bucket.put(&key, bytes.into()).await }).expect("no fault");
    }

    fn samples(&self, ctx: &QueryContext, matchers: &[Matcher]) -> Vec<(String, Vec<(i64, f64)>)> {
        let hints = SelectHints::default();
        let set = self.all.select(ctx, matchers, TimeRange::ALL, &hints).expect("an answer");
        read(ctx, set)
    }

    fn seen(&self) -> Vec<String> {
        let mut seen: Vec<String> =
            self.attached.view().seen.iter().map(|b| b.entry.ulid.to_string()).collect();
        seen.sort();
        seen
    }

    fn writes(&self) -> u64 {
        let counters = self.bucket.counters();
        [Operation::Put, Operation::Create, Operation::Upload, Operation::Delete]
            .iter()
            .map(|o| counters.attempts(*o))
            .sum()
    }
}

fn text(labels: &Labels) -> String {
    labels.iter().map(|l| format!("{}={}", l.name, l.value)).collect::<Vec<_>>().join(",")
}

pub(crate) fn read(
    ctx: &QueryContext,
    mut set: Box<dyn pyrrha_model::contract::SeriesSet>,
) -> Vec<(String, Vec<(i64, f64)>)> {
    let (mut batch, mut all, mut samples) = (SeriesBatch::default(), Vec::new(), SeriesSamples::default());
    let mut last: Option<Labels> = None;
    while set.next_batch(7, &mut batch).expect("an answer") {
        for entry in &batch.series {
            decode_series(entry, TimeRange::ALL, Want::default(), &mut samples).expect("sound chunks");
            let labels = batch.resolve(&ctx.symbols, entry);
            assert!(last.as_ref().is_none_or(|last| *last < labels), "series are sorted and unique");
            let floats =
                samples.floats.times.iter().copied().zip(samples.floats.values.iter().copied()).collect();
            all.push((text(&labels), floats));
            last = Some(labels);
        }
    }
    all
}

pub(crate) fn every(step: i64, range: std::ops::Range<i64>, value: impl Fn(i64) -> f64) -> Vec<(i64, f64)> {
    range.step_by(step as usize).map(|t| (t, value(t))).collect()
}

#[test]
fn a_flat_bucket_answers_with_external_labels() {
    let samples = every(60_000, 0..2 * HOUR, |t| t as f64);
    let mut foreign = ForeignBucket::default();
    for (n, cluster) in [(1, "eu"), (2, "us")] {
        let block =
            ForeignBlock::new(&ulid(9 * HOUR, n), 0, 2 * HOUR, &[("cluster", cluster), ("zone", "z")])
                .with_floats(&[("__name__", "up")], &samples)
                // Goes on with a name before that of the external label.
                .with_floats(&[("__name__", "up"), ("a", "1")], &samples[..50])
                .with_floats(&[("__name__", "up"), ("job", "x")], &samples[50..])
                // Has it of its own: the external one counts.
                .with_floats(&[("__name__", "own"), ("cluster", "mine"), ("b", "1")], &samples[..1]);
        foreign.add("", &block);
    }
    let world = World::new(&foreign, |_| {});
    let before = world.writes();
    let names: Vec<String> = world.samples(&world.ctx, &[]).into_iter().map(|s| s.0).collect();
    let expected = [
        "__name__=own,b=1,cluster=eu,zone=z",
        "__name__=own,b=1,cluster=us,zone=z",
        "__name__=up,a=1,cluster=eu,zone=z",
        "__name__=up,a=1,cluster=us,zone=z",
        "__name__=up,cluster=eu,job=x,zone=z",
        "__name__=up,cluster=eu,zone=z",
        "__name__=up,cluster=us,job=x,zone=z",
        "__name__=up,cluster=us,zone=z",
    ];
    assert_eq!(names, expected);
    let eu = [Matcher::equal("__name__", "up"), Matcher::equal("cluster", "eu"), Matcher::equal("job", "")];
    let found = world.samples(&world.ctx, &eu);
    assert_eq!(found.len(), 2);
    assert_eq!(found[1], ("__name__=up,cluster=eu,zone=z".to_owned(), samples));
    // A block whose labels cannot match is not asked.
    let requests = world.bucket.counters().requests();
    assert!(world.samples(&world.ctx, &[Matcher::equal("cluster", "asia")]).is_empty());
    assert!(
        world
            .samples(&world.ctx, &[Matcher::new(MatchOp::NotRegex, "zone", "z|y").expect("sound")])
            .is_empty()
    );
    assert_eq!(world.bucket.counters().requests(), requests);
    // Labels.
    let all = LabelQuery::all(TimeRange::ALL);
    assert_eq!(
        world.all.label_names(&world.ctx, &all).expect("names"),
        ["__name__", "a", "b", "cluster", "job", "zone"]
    );
    assert_eq!(world.all.label_values(&world.ctx, "cluster", &all).expect("values"), ["eu", "us"]);
    let own = LabelQuery::new(
        vec![vec![Matcher::equal("a", "1"), Matcher::equal("cluster", "us")]],
        TimeRange::ALL,
    );
    assert_eq!(world.all.label_values(&world.ctx, "cluster", &own).expect("values"), ["us"]);
    let series = world.all.series(&world.ctx, &own).expect("series");
    assert_eq!(series.iter().map(text).collect::<Vec<_>>(), ["__name__=up,a=1,cluster=us,zone=z"]);
    assert_eq!(world.writes(), before, "nothing is written");
    // Shards are of all labels.
    let mut sharded = Vec::new();
    for index in 0..3 {
        let hints = SelectHints { shard: Some((index, 3)), ..SelectHints::default() };
        let set = world.all.select(&world.ctx, &[], TimeRange::ALL, &hints).expect("an answer");
        sharded.extend(read(&world.ctx, set).into_iter().map(|s| s.0));
    }
    sharded.sort();
    let mut sorted = expected.to_vec();
    sorted.sort();
    assert_eq!(sharded, sorted);
}

#[test]
fn what_thanos_does_not_see_is_not_seen() {
    let block = |age: i64, n: u128| {
        ForeignBlock::new(&ulid(age, n), 0, HOUR, &[]).with_floats(&[("__name__", "up")], &[(n as i64, 1.0)])
    };
    let (old, young, partial, marked, gone) =
        (block(9 * HOUR, 1), block(600_000, 2), block(9 * HOUR, 3), block(90 * HOUR, 4), block(90 * HOUR, 5));
    let fresh = block(600_000, 6).compacted(2, &[&ulid(99 * HOUR, 50), &ulid(99 * HOUR, 51)]);
    let replaced = {
        let mut block = block(99 * HOUR, 7);
        block.sources = vec![ulid(99 * HOUR, 50)];
        block
    };
    let mut foreign = ForeignBucket::default();
    for block in [&old, &young, &marked, &gone, &fresh, &replaced] {
        foreign.add("", block);
    }
    for (name, bytes) in partial.files().into_iter().filter(|(name, _)| name != "meta.json") {
        foreign.put(&format!("{}/{name}", partial.ulid), bytes);
    }
    let hours = |n: i64| (NOW - n * HOUR) / 1000;
    foreign.put(&format!("{}/deletion-mark.json", marked.ulid), deletion_mark(&marked.ulid, hours(23)));
    foreign.put(&format!("{}/deletion-mark.json", gone.ulid), deletion_mark(&gone.ulid, hours(25)));
    foreign.put(&format!("{}/no-compact-mark.json", old.ulid), no_compact_mark(&old.ulid, hours(1)));
    let damaged = ulid(9 * HOUR, 8);
    foreign.put(&format!("{damaged}/meta.json"), b"{".to_vec());
    foreign.put("debug/metas/x.json", b"{}".to_vec());
    let world = World::new(&foreign, |_| {});
    let mut expected = vec![old.ulid.clone(), marked.ulid.clone(), fresh.ulid.clone()];
    expected.sort();
    assert_eq!(world.seen(), expected);
    let view = world.attached.view();
    let why = |ulid: &str| view.hidden.iter().find(|b| b.block.to_string() == ulid).map(|b| b.why.word());
    assert_eq!(why(&young.ulid), Some("young"));
    assert_eq!(why(&partial.ulid), Some("partial"));
    assert_eq!(why(&gone.ulid), Some("deleted"));
    assert_eq!(why(&replaced.ulid), Some("superseded"));
    assert_eq!(why(&damaged), Some("damaged"));
    let no_compact = view.seen.iter().find_map(|b| b.no_compact.clone());
    assert_eq!(no_compact.as_deref(), Some("index-size-exceeding"));
    let times: Vec<i64> = world.samples(&world.ctx, &[])[0].1.iter().map(|s| s.0).collect();
    assert_eq!(times, [1, 4, 6]);
    // Later the young one is there, the upload is done, and the marked one is gone. Metas are not read again.
    world.clock.advance(Duration::from_secs(2 * 3600));
    let files = partial.files();
    world.put(&format!("{}/meta.json", partial.ulid), files[2].1.clone());
    let gets = world.bucket.counters().attempts(Operation::Get);
    assert_eq!(world.attached.look().expect("no fault"), Looked { added: 2, removed: 1 });
    assert_eq!(world.bucket.counters().attempts(Operation::Get), gets + 1);
    let times: Vec<i64> = world.samples(&world.ctx, &[])[0].1.iter().map(|s| s.0).collect();
    assert_eq!(times, [1, 2, 3, 6]);
}

/// Deletes a block as a compactor does: its meta first.
fn delete(world: &World, block: &ForeignBlock) {
    let mut names: Vec<String> = block.files().into_iter().map(|(name, _)| name).collect();
    names.sort_by_key(|name| name != "meta.json");
    let (bucket, dir) = (world.bucket.clone(), block.ulid.clone());
    let deleted = world.runtime.wait(async move {
        for name in names {
            bucket.delete(&format!("{dir}/{name}")).await?;
        }
        Ok(())
    });
    deleted.expect("no fault");
}

fn put(world: &World, block: &ForeignBlock) {
    block.files().into_iter().for_each(|(name, bytes)| world.put(&format!("{}/{name}", block.ulid), bytes));
}

/// A block of so many series, and the one that a compactor makes of it.
fn with_successor(series: usize) -> (ForeignBlock, ForeignBlock) {
    let samples = every(15_000, 0..2 * HOUR, |t| (t / 15_000 * 7919 % 1013) as f64 / 7.0);
    let fill = |mut block: ForeignBlock| {
        for i in 0..series {
            block = block.with_floats(&[("__name__", "x"), ("i", &format!("{i:04}"))], &samples);
        }
        block
    };
    let first = fill(ForeignBlock::new(&ulid(9 * HOUR, 1), 0, 2 * HOUR, &[("cluster", "eu")]));
    let second = ForeignBlock::new(&ulid(8 * HOUR, 2), 0, 2 * HOUR, &[("cluster", "eu")]);
    let second = fill(second.compacted(2, &[&first.ulid]));
    (first, second)
}

#[test]
fn a_block_that_was_deleted_is_looked_for_again() {
    let (first, second) = with_successor(20);
    let mut foreign = ForeignBucket::default();
    foreign.add("", &first);
    let replaced = || {
        let world = World::new(&foreign, |_| {});
        let expected = world.samples(&world.ctx, &[]);
        // Another server, which has read nothing.
        let world = World::new(&foreign, |_| {});
        put(&world, &second);
        delete(&world, &first);
        (world, expected)
    };
    let (world, expected) = replaced();
    assert_eq!(expected.len(), 20);
    let lists = world.bucket.counters().attempts(Operation::List);
    assert_eq!(world.samples(&world.ctx, &[]), expected);
    assert_eq!(world.seen(), std::slice::from_ref(&second.ulid));
    assert!(world.bucket.counters().attempts(Operation::List) > lists);
    let lists = world.bucket.counters().attempts(Operation::List);
    assert_eq!(world.samples(&world.ctx, &[]), expected);
    assert_eq!(world.bucket.counters().attempts(Operation::List), lists, "once is enough");
    assert!(world.ctx.notices.gaps().is_empty());
    // Labels, too; and where answers may have gaps, there is none.
    let (mut world, expected) = replaced();
    world.ctx.partial_response = true;
    let query = LabelQuery::all(TimeRange::ALL);
    assert_eq!(world.all.label_values(&world.ctx, "i", &query).expect("an answer").len(), 20);
    assert_eq!(world.samples(&world.ctx, &[]), expected);
    assert!(world.ctx.notices.gaps().is_empty());
    let (mut world, expected) = replaced();
    world.ctx.partial_response = true;
    assert_eq!(world.samples(&world.ctx, &[]), expected);
    assert!(world.ctx.notices.gaps().is_empty());
}

#[test]
fn a_block_may_be_deleted_while_it_is_read() {
    let (first, second) = with_successor(1500);
    let mut foreign = ForeignBucket::default();
    foreign.add("", &first);
    let world = World::new(&foreign, |config| config.reading.cache_bytes = 0);
    let expected = world.samples(&world.ctx, &[]);
    let hints = SelectHints::default();
    let mut set = world.all.select(&world.ctx, &[], TimeRange::ALL, &hints).expect("an answer");
    let mut batch = SeriesBatch::default();
    let mut given = Vec::new();
    for _ in 0..3 {
        assert!(set.next_batch(7, &mut batch).expect("an answer"));
        given.extend(batch.series.iter().map(|entry| text(&batch.resolve(&world.ctx.symbols, entry))));
    }
    put(&world, &second);
    delete(&world, &first);
    let lists = world.bucket.counters().attempts(Operation::List);
    given.extend(read(&world.ctx, set).into_iter().map(|(labels, samples)| {
        assert_eq!(samples.len(), expected[0].1.len());
        labels
    }));
    assert!(world.bucket.counters().attempts(Operation::List) > lists, "it was noticed");
    assert_eq!(given, expected.into_iter().map(|(labels, _)| labels).collect::<Vec<_>>());
}

#[test]
fn a_block_without_its_index_is_said_and_not_looked_for_all_the_time() {
    let (first, _) = with_successor(3);
    let other = ForeignBlock::new(&ulid(9 * HOUR, 5), 2 * HOUR, 4 * HOUR, &[("cluster", "eu")])
        .with_floats(&[("__name__", "y")], &[(3 * HOUR, 1.0)]);
    let mut foreign = ForeignBucket::default();
    foreign.add("", &first).add("", &other);
    let mut world = World::new(&foreign, |_| {});
    let (bucket, key) = (world.bucket.clone(), format!("{}/index", first.ulid));
    world.runtime.wait(async move { bucket.delete(&key).await }).expect("no fault");
    let hints = SelectHints::default();
    let ask = |world: &World| {
        let mut set = world.all.select(&world.ctx, &[], TimeRange::ALL, &hints).expect("it begins");
        let mut batch = SeriesBatch::default();
        let mut found = 0;
        while set.next_batch(7, &mut batch)? {
            found += batch.series.len();
        }
        Ok::<usize, StoreError>(found)
    };
    let error = ask(&world).expect_err("the index is gone").to_string();
    assert!(error.contains("attached bucket=foreign") && error.contains(&first.ulid), "{error}");
    let lists = world.bucket.counters().attempts(Operation::List);
    ask(&world).expect_err("it is still gone");
    world.ctx.partial_response = true;
    assert_eq!(ask(&world).expect("what there is"), 1);
    let gaps = world.ctx.notices.gaps();
    assert!(gaps.len() == 1 && gaps[0].1.contains(&first.ulid), "{gaps:?}");
    assert_eq!(world.bucket.counters().attempts(Operation::List), lists, "nobody looked again");
}

#[test]
fn replicas_are_one_series_without_gaps() {
    // One replica misses a while, the other another; one block has replicas among its series.
    let value = |t: i64| t as f64;
    let a: Vec<_> =
        every(15_000, 0..HOUR, value).into_iter().filter(|s| !(600_000..900_000).contains(&s.0)).collect();
    let b: Vec<_> = every(15_000, 4_000..HOUR, value)
        .into_iter()
        .filter(|s| !(2_000_000..2_500_000).contains(&s.0))
        .collect();
    let outer = |n, replica, samples: &[(i64, f64)]| {
        ForeignBlock::new(&ulid(9 * HOUR, n), 0, HOUR, &[("cluster", "eu"), ("replica", replica)])
            .with_floats(&[("__name__", "x"), ("job", "j")], samples)
    };
    let inner = ForeignBlock::new(&ulid(9 * HOUR, 3), 0, HOUR, &[("cluster", "us")])
        .with_floats(&[("__name__", "x"), ("job", "j"), ("replica", "a")], &a)
        .with_floats(&[("__name__", "x"), ("job", "j"), ("replica", "b")], &b)
        .with_floats(&[("__name__", "x"), ("replica", "a")], &a)
        .with_floats(&[("__name__", "x")], &[(7, 7.0)]);
    let mut foreign = ForeignBucket::default();
    foreign.add("", &outer(1, "a", &a)).add("", &outer(2, "b", &b)).add("", &inner);
    let world = World::new(&foreign, |config| config.replica_labels = vec!["replica".to_owned()]);
    let found = world.samples(&world.ctx, &[]);
    let names: Vec<&str> = found.iter().map(|s| s.0.as_str()).collect();
    assert_eq!(
        names,
        ["__name__=x,cluster=eu,job=j", "__name__=x,cluster=us", "__name__=x,cluster=us,job=j"]
    );
    for at in [0, 2] {
        let gaps = found[at].1.windows(2).map(|pair| pair[1].0 - pair[0].0);
        assert!(gaps.max().expect("samples") <= 23_000, "no gap is longer than an interval and a half");
        assert!(found[at].1.len() <= 242, "the same scrape counts once");
    }
    assert_eq!(found[0].1, found[2].1, "it does not matter where the label is");
    // Asked for one replica, its samples come alone.
    for (cluster, own) in [("eu", &a), ("us", &a)] {
        let one =
            [Matcher::equal("replica", "a"), Matcher::equal("cluster", cluster), Matcher::equal("job", "j")];
        assert_eq!(&world.samples(&world.ctx, &one)[0].1, own);
    }
    let names = world.all.label_names(&world.ctx, &LabelQuery::all(TimeRange::ALL)).expect("names");
    assert_eq!(names, ["__name__", "cluster", "job"]);
    // Without the setting they are different series.
    assert_eq!(World::new(&foreign, |_| {}).samples(&world.ctx, &[]).len(), 6);
}

#[test]
fn blocks_go_to_tenants_by_rule() {
    let block = |n, labels: &[(&str, &str)]| {
        ForeignBlock::new(&ulid(9 * HOUR, n), 0, HOUR, labels)
            .with_floats(&[("__name__", "x")], &[(n as i64, 0.0)])
    };
    let mut foreign = ForeignBucket::default();
    foreign.add("", &block(1, &[("cluster", "eu-1")]));
    foreign.add("", &block(2, &[("tenant_id", "team")]));
    foreign.add("", &block(3, &[("tenant_id", "not/valid")]));
    foreign.add("", &block(4, &[]));
    let rule = TenantRule::new(
        &BTreeMap::from([("cluster".to_owned(), "eu-.*".to_owned())]),
        TenantId::new("europe").expect("valid"),
    );
    let world = World::new(&foreign, |config| {
        config.tenants.rules.push(rule.expect("a rule"));
        config.tenants.label = Some("tenant_id".to_owned());
    });
    assert_eq!(world.samples(&World::of("europe"), &[])[0].0, "__name__=x,cluster=eu-1");
    assert_eq!(world.samples(&World::of("team"), &[])[0].0, "__name__=x");
    assert_eq!(world.samples(&world.ctx, &[]), [("__name__=x".to_owned(), vec![(4, 0.0)])]);
    assert_eq!(world.attached.view().hidden[0].why, Why::NoTenant);
}

#[test]
fn a_bucket_with_tenants_is_read_by_index_or_by_listing() {
    let block = |n: u128, shard: &str| {
        ForeignBlock::new(
            &ulid(600_000, n),
            0,
            HOUR,
            &[("__compactor_shard_id__", shard), ("__org_id__", "one")],
        )
        .with_floats(&[("__name__", "x"), ("n", &n.to_string())], &[(n as i64, 0.0)])
    };
    let (a, b, marked) = (block(1, "1_of_2"), block(2, "2_of_2"), block(3, "1_of_2"));
    let mut foreign = ForeignBucket::default();
    for dir in ["one", "two"] {
        for block in [&a, &b, &marked] {
            foreign.add(dir, block);
        }
        let mark = deletion_mark(&marked.ulid, (NOW - 2 * HOUR) / 1000);
        foreign.put(&format!("{dir}/markers/{}-deletion-mark.json", marked.ulid), mark);
    }
    foreign.add("gone", &a);
    foreign.put("gone/markers/tenant-deletion-mark.json", b"{}".to_vec());
    foreign.put("__mimir_cluster/seed.json", b"{}".to_vec());
    let indexed = |block: &ForeignBlock, deleted_at| IndexedBlock {
        ulid: block.ulid.clone(),
        min_time: 0,
        max_time: HOUR,
        uploaded_at: NOW / 1000 - 600,
        shard: Some("1_of_2".to_owned()),
        deleted_at,
    };
    let list = [indexed(&a, None), indexed(&marked, Some((NOW - 2 * HOUR) / 1000))];
    // The index knows less than is there, so that it shows who answered.
    foreign.put("one/bucket-index.json.gz", bucket_index(&list, NOW / 1000 - 60));
    foreign.put("two/bucket-index.json.gz", bucket_index(&list, NOW / 1000 - 7200));
    let world = World::new(&foreign, |_| {});
    let names = |tenant: &str| -> Vec<String> {
        world.samples(&World::of(tenant), &[]).into_iter().map(|s| s.0).collect()
    };
    assert_eq!(names("one"), ["__name__=x,n=1"], "by its index");
    assert_eq!(names("two"), ["__name__=x,n=1", "__name__=x,n=2"], "by listing, as its index is old");
    assert!(names("gone").is_empty());
    assert_eq!(world.attached.view().indexed, 1);
    for bad in [&b"no gzip"[..], &bucket_index(&list, 0)[..40]] {
        world.put("one/bucket-index.json.gz", bad.to_vec());
        world.attached.look().expect("no fault");
        assert_eq!(names("one").len(), 2, "a bad index is not used");
    }
}

/// A bucket of Mimir with a block of each tenant.
fn of_tenants(tenants: &[&str]) -> ForeignBucket {
    let mut foreign = ForeignBucket::default();
    for (n, tenant) in tenants.iter().enumerate() {
        let block = ForeignBlock::new(&ulid(9 * HOUR, n as u128), 0, HOUR, &[]);
        foreign.add(tenant, &block.with_floats(&[("__name__", "x")], &[(1, 0.0)]));
    }
    foreign
}

#[test]
fn a_tenant_that_is_to_be_deleted_is_not_there() {
    let mut foreign = of_tenants(&["newer", "older", "stays"]);
    foreign.put("__markers__/newer/tenant-deletion-mark.json", b"{}".to_vec());
    foreign.put("older/markers/tenant-deletion-mark.json", b"{}".to_vec());
    let tenants =
        |world: &World| -> Vec<String> { world.attached.view().tenants().map(ToString::to_string).collect() };
    let world = World::new(&foreign, |_| {});
    assert_eq!(tenants(&world), ["stays"], "by listing");
    let (bucket, config) = (world.bucket.clone(), world.attached.config.clone());
    let listed = world.runtime.wait(survey(bucket, config, NOW, Arc::default())).expect("no fault");
    assert_eq!(listed.len(), 1, "nor is it adopted");
    for tenant in ["newer", "older", "stays"] {
        foreign.put(&format!("{tenant}/bucket-index.json.gz"), bucket_index(&[], NOW / 1000));
    }
    let world = World::new(&foreign, |_| {});
    assert_eq!(world.attached.view().indexed, 1, "by its index");
}

#[test]
fn tenants_are_looked_at_some_at_a_time() {
    let names: Vec<String> = (0..40).map(|n| format!("tenant-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let store = FaultyStore::new(1, Faults { slow: 100, ..Faults::default() });
    let world = World::on(Arc::new(store.clone()), &of_tenants(&names), |_| {});
    assert_eq!(world.seen().len(), 40);
    store.most_at_once();
    world.attached.look().expect("no fault");
    let most = store.most_at_once();
    assert!((2..=16).contains(&most), "at once: {most}");
}

#[test]
fn a_look_ends_with_the_query_that_waits_for_it() {
    let (first, second) = with_successor(3);
    let mut foreign = ForeignBucket::default();
    foreign.add("", &first).add("", &second);
    let store = FaultyStore::new(1, Faults::default());
    let world = World::on(Arc::new(store.clone()), &foreign, |_| {});
    let known = world.attached.metas.lock().len();
    assert_eq!(known, 2);
    store.is_silent(true);
    let (attached, view) = (&world.attached, world.attached.view());
    let (looking, waiting) = (CancelToken::default(), CancelToken::default());
    std::thread::scope(|scope| {
        let one = scope.spawn(|| attached.look_for("a", &view, &looking));
        wait_until("one looks", || !attached.gone.lock().is_empty());
        let other = scope.spawn(|| attached.look_for("b", &view, &waiting));
        waiting.cancel(CancelReason::TimedOut);
        other.join().expect("no panic").expect_err("stopped while another looks");
        assert!(!one.is_finished());
        looking.cancel(CancelReason::Canceled);
        one.join().expect("no panic").expect_err("stopped while it looks");
    });
    assert!(attached.gone.lock().is_empty(), "it was not looked for");
    assert_eq!(
        (attached.looks().failed, attached.looks().last_error),
        (0, None),
        "that is not the bucket's fault"
    );
    assert_eq!(attached.metas.lock().len(), known, "what was read before is known");
    store.is_silent(false);
    let gets = world.bucket.counters().attempts(Operation::Get);
    attached.look_for("a", &view, &CancelToken::default()).expect("it is not stopped");
    assert_eq!(world.bucket.counters().attempts(Operation::Get), gets);
}

#[test]
fn headers_of_blocks_that_are_gone_go() {
    let (first, second) = with_successor(3);
    let mut foreign = ForeignBucket::default();
    foreign.add("", &first);
    let world = World::new(&foreign, |_| {});
    let kept = || -> Vec<String> {
        let listed = world.disk.list("/cache".as_ref()).expect("no fault").into_iter();
        listed.filter(|entry| !entry.is_dir).map(|entry| entry.name).collect()
    };
    world.samples(&world.ctx, &[]);
    let header = |block: &ForeignBlock| format!("{}.header", block.ulid);
    assert_eq!(kept(), [header(&first)]);
    world.attached.look().expect("no fault");
    assert_eq!(kept(), [header(&first)]);
    put(&world, &second);
    delete(&world, &first);
    world.attached.look().expect("no fault");
    world.samples(&world.ctx, &[]);
    assert_eq!(kept(), [header(&second)]);
}

#[test]
fn values_of_a_label_are_as_many_as_are_wanted() {
    let (first, _) = with_successor(20);
    let mut foreign = ForeignBucket::default();
    foreign.add("", &first);
    let world = World::new(&foreign, |_| {});
    let view = world.attached.view();
    let block = view.streams[&world.ctx.tenant][0].blocks[&view.seen[0].entry.ulid].1.block().clone();
    let ask = |matchers: Vec<Vec<Matcher>>, limit: usize| {
        let query = LabelQuery { limit, ..LabelQuery::new(matchers, TimeRange::ALL) };
        let answer = crate::gateway::values_of(block.clone(), world.ctx.clone(), "i".to_owned(), query);
        world.runtime.wait(async move { Ok(answer.await) }).expect("no fault").expect("an answer")
    };
    let few = || vec![vec![Matcher::new(MatchOp::Regex, "i", "000[5-9]").expect("sound")]];
    let all = || vec![vec![Matcher::equal("__name__", "x"), Matcher::equal("cluster", "eu")]];
    assert_eq!(ask(Vec::new(), 2), ["0000", "0001"]);
    assert_eq!(ask(all(), 2), ["0000", "0001"]);
    assert_eq!(ask(all(), 0).len(), 20);
    assert_eq!(ask(few(), 2), ["0005", "0006"]);
    assert_eq!(ask(few(), 0).len(), 5);
}

#[test]
fn blocks_with_replicas_in_them_are_opened_some_at_a_time() {
    let mut foreign = ForeignBucket::default();
    for n in 0..40 {
        let block = ForeignBlock::new(&ulid(9 * HOUR, n), 0, HOUR, &[])
            .with_floats(&[("__name__", "x"), ("replica", &n.to_string())], &[(n as i64, 0.0)]);
        foreign.add("", &block);
    }
    let store = FaultyStore::new(1, Faults { slow: 100, ..Faults::default() });
    let world = World::on(Arc::new(store.clone()), &foreign, |config| {
        config.replica_labels = vec!["replica".to_owned()];
    });
    let view = world.attached.view();
    let blocks = view.streams[&world.ctx.tenant].iter().flat_map(|stream| stream.blocks.values());
    let blocks: Vec<_> = blocks.map(|(_, block)| block).collect();
    store.most_at_once();
    let values = crate::gateway::inner_values(&world.ctx, &blocks, 64).expect("it is not stopped");
    assert!((2..=16).contains(&store.most_at_once()));
    let found = values.into_iter().map(|values| values.expect("an answer")[0].1.clone());
    let mut found: Vec<String> = found.flatten().collect();
    found.sort_by_key(|n| n.parse::<u32>().expect("a number"));
    assert_eq!(found, (0..40).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(world.samples(&world.ctx, &[])[0].1.len(), 40, "all are one series");
}

#[test]
fn windows_of_a_replica_are_not_read_where_replicas_were_merged() {
    let samples = every(60_000, 0..48 * HOUR, |t| (t / 60_000 % 100) as f64);
    let (a, b) = (ulid(90 * HOUR, 1), ulid(90 * HOUR, 2));
    let replica = &[("cluster", "eu"), ("replica", "a")];
    let mut hours = ForeignBlock::new(&ulid(80 * HOUR, 3), 0, 48 * HOUR, replica).compacted(1, &[&a]);
    hours.resolution = HOUR;
    let hours = hours.with_windows(&[("__name__", "x")], &samples);
    let merged = ForeignBlock::new(&ulid(70 * HOUR, 4), 0, 48 * HOUR, &[("cluster", "eu")])
        .compacted(2, &[&a, &b])
        .with_floats(&[("__name__", "x")], &samples);
    let mut foreign = ForeignBucket::default();
    foreign.add("", &hours);
    let range = TimeRange::new(0, 48 * HOUR - 1);
    let replicas = |config: &mut AttachConfig| config.replica_labels = vec!["replica".to_owned()];
    assert!(windows(&World::new(&foreign, replicas), range, 2 * HOUR).is_some());
    foreign.add("", &merged);
    assert_eq!(windows(&World::new(&foreign, replicas), range, 2 * HOUR), None, "samples of both answer");
}

/// `(start, count, sum, min, max)`
type Window = (i64, u32, f64, f64, f64);

/// The windows of a series.
fn windows(world: &World, range: TimeRange, length: i64) -> Option<Vec<Window>> {
    let windows =
        Some(WindowHints { edges: false, values: true, counter: false, max_resolution_ms: i64::MAX });
    let hints = SelectHints { step_ms: length, range_ms: length, windows, ..SelectHints::default() };
    let mut set = world.all.select(&world.ctx, &[], range, &hints).expect("an answer");
    let (mut batch, mut samples) = (SeriesBatch::default(), SeriesSamples::default());
    assert!(set.next_batch(9, &mut batch).expect("an answer"));
    decode_series(&batch.series[0], TimeRange::ALL, Want::default(), &mut samples).expect("sound");
    let w = samples.windows;
    let row = |i: usize| (w.starts[i], w.counts[i], w.values.sums[i], w.values.mins[i], w.values.maxs[i]);
    (!w.is_empty()).then(|| (0..w.len()).map(row).collect())
}

#[test]
fn windows_of_others_answer_ranges_twice_as_long() {
    let samples = every(60_000, 0..48 * HOUR, |t| (t / 60_000 % 100) as f64);
    let raw = ForeignBlock::new(&ulid(90 * HOUR, 1), 0, 48 * HOUR, &[("cluster", "eu"), ("replica", "a")])
        .with_floats(&[("__name__", "x")], &samples);
    let mut hours =
        ForeignBlock::new(&ulid(80 * HOUR, 2), 0, 48 * HOUR, &[("cluster", "eu"), ("replica", "a")])
            .compacted(1, &[&raw.ulid]);
    hours.resolution = HOUR;
    let hours = hours.with_windows(&[("__name__", "x")], &samples);
    let mut foreign = ForeignBucket::default();
    foreign.add("", &raw).add("", &hours);
    let world = World::new(&foreign, |_| {});
    let range = TimeRange::new(0, 48 * HOUR - 1);
    assert_eq!(windows(&world, range, HOUR), None, "as long as a window is too short");
    let found = windows(&world, range, 2 * HOUR).expect("windows");
    let expected: Vec<_> = samples
        .chunks(60)
        .map(|w| {
            let values = || w.iter().map(|s| s.1);
            (w[0].0, 60, values().sum(), values().fold(f64::MAX, f64::min), values().fold(f64::MIN, f64::max))
        })
        .collect();
    assert_eq!(found, expected, "exactly what the samples say of each window");
    // Raw samples are gone: windows answer, and the answer says so.
    let mut foreign = ForeignBucket::default();
    foreign.add("", &hours);
    let world = World::new(&foreign, |_| {});
    assert_eq!(windows(&world, range, HOUR).expect("windows"), expected);
    assert!(
        world.ctx.notices.warnings()[0].contains("only windows of 1h are kept"),
        "{:?}",
        world.ctx.notices
    );
    // Of two replicas each window is the fuller one's.
    let mut other =
        ForeignBlock::new(&ulid(80 * HOUR, 3), 0, 48 * HOUR, &[("cluster", "eu"), ("replica", "b")])
            .compacted(1, &[&ulid(80 * HOUR, 3)]);
    other.resolution = HOUR;
    let missing = |s: &&(i64, f64)| !(5 * HOUR..6 * HOUR + 1_800_000).contains(&s.0);
    let few: Vec<_> = samples.iter().filter(missing).copied().collect();
    let mut foreign = ForeignBucket::default();
    foreign.add("", &hours).add("", &other.with_windows(&[("__name__", "x")], &few));
    let world = World::new(&foreign, |config| config.replica_labels = vec!["replica".to_owned()]);
    assert_eq!(windows(&world, range, 2 * HOUR).expect("windows"), expected);
}

#[test]
fn windows_of_histograms_that_others_made_are_sums_and_a_counter() {
    let hour_of = |t: i64| (t / HOUR) as f64;
    // Begins anew every 500 minutes.
    let at = |t: i64| {
        let n = (t / 60_000 % 500) as f64;
        (t, ForeignHistogram { sum: n * 1.5, buckets: [n, 2.0 * n, 0.0, (n / 7.0).floor()] })
    };
    let samples: Vec<_> = (0..48 * HOUR).step_by(60_000).map(at).collect();
    let mut hours = ForeignBlock::new(&ulid(80 * HOUR, 2), 0, 48 * HOUR, &[("cluster", "eu")])
        .compacted(1, &[&ulid(90 * HOUR, 1)]);
    hours.resolution = HOUR;
    let floats = every(60_000, 0..48 * HOUR, |t| (t / 60_000 % 100) as f64);
    let hours = hours
        .with_histogram_windows(&[("__name__", "h")], &samples)
        .with_windows(&[("__name__", "x")], &floats);
    let mut foreign = ForeignBucket::default();
    foreign.add("", &hours);
    let world = World::new(&foreign, |_| {});
    let w = histogram_windows(&world);
    assert_eq!((w.len(), w.has_edges(), w.has_values()), (48, true, true));
    let mut total = 0.0;
    for (i, group) in samples.chunks(60).enumerate() {
        assert_eq!((w.starts[i], w.counts[i]), (i as i64 * HOUR, 60));
        let sum = |of: &dyn Fn(&ForeignHistogram) -> f64| group.iter().map(|(_, h)| of(h)).sum::<f64>();
        let found = &w.values.sums[i];
        assert_eq!(found.sum, sum(&|h| h.sum));
        let buckets = [0, 1, 2, 3].map(|b| sum(&|h| h.buckets[b]));
        assert_eq!((&found.positive_buckets[..], found.count), (&buckets[..], buckets.iter().sum()));
        // The counter rises by what the samples do.
        for (t, h) in group {
            let before = samples[((t / 60_000) as usize).saturating_sub(1)].1;
            let (now, before) = (h.buckets[1], before.buckets[1]);
            total += if now < before { now } else { now - before };
        }
        let kept = w.kept(i..i + 1);
        assert_eq!(w.edges.samples[kept.end - 1].positive_buckets[1], total, "hour {}", hour_of(w.starts[i]));
        assert_eq!(w.edges.times[kept.end - 1], ((i as i64 + 1) * HOUR - 1).min(48 * HOUR - 60_000));
        assert_eq!(kept.len(), 2);
    }
    // Of two replicas each window is the fuller one's.
    let replica = |number: u128, name: &str, samples: &[(i64, ForeignHistogram)]| {
        let external = [("cluster", "eu"), ("replica", name)];
        let mut block = ForeignBlock::new(&ulid(80 * HOUR, number), 0, 48 * HOUR, &external)
            .compacted(1, &[&ulid(80 * HOUR, number)]);
        block.resolution = HOUR;
        block.with_histogram_windows(&[("__name__", "h")], samples)
    };
    let missing = |s: &&(i64, ForeignHistogram)| !(5 * HOUR..6 * HOUR + 1_800_000).contains(&s.0);
    let few: Vec<_> = samples.iter().filter(missing).copied().collect();
    let mut foreign = ForeignBucket::default();
    foreign.add("", &replica(3, "a", &few)).add("", &replica(4, "b", &samples));
    let world = World::new(&foreign, |config| config.replica_labels = vec!["replica".to_owned()]);
    let merged = histogram_windows(&world);
    assert_eq!((&merged.starts, &merged.counts), (&w.starts, &w.counts));
    assert_eq!(merged.values.sums[6], w.values.sums[6]);
}

/// The windows of the first series, which has histograms alone.
fn histogram_windows(world: &World) -> HistogramWindows {
    let windows =
        Some(WindowHints { edges: true, values: true, counter: false, max_resolution_ms: i64::MAX });
    let hints = SelectHints { step_ms: 2 * HOUR, range_ms: 2 * HOUR, windows, ..SelectHints::default() };
    let range = TimeRange::new(0, 48 * HOUR - 1);
    let mut set = world.all.select(&world.ctx, &[], range, &hints).expect("an answer");
    let (mut batch, mut found) = (SeriesBatch::default(), SeriesSamples::default());
    assert!(set.next_batch(9, &mut batch).expect("an answer"));
    decode_series(&batch.series[0], TimeRange::ALL, Want::default(), &mut found).expect("sound");
    assert!(found.windows.is_empty() && found.floats.times.is_empty() && found.histograms.times.is_empty());
    found.histogram_windows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_block_reads_as_its_samples(
        series in prop::collection::btree_map(
            prop::collection::btree_map("[a-e]", "[xyz]", 1..4),
            prop::collection::btree_map(0i64..7_200_000, -1e9f64..1e9, 1..300), 1..40),
        external in prop::collection::btree_map("[bdz]", "[uv]", 0..3),
    ) {
        let external: Vec<(&str, &str)> = external.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let mut block = ForeignBlock::new(&ulid(9 * HOUR, 1), 0, 2 * HOUR, &external);
        let mut expected: BTreeMap<Labels, BTreeMap<i64, f64>> = BTreeMap::new();
        for (labels, samples) in series {
            let pairs: Vec<(&str, &str)> = labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            let list: Vec<(i64, f64)> = samples.iter().map(|(t, v)| (*t, *v)).collect();
            block = block.with_floats(&pairs, &list);
            let mut seen = labels.clone();
            seen.extend(external.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
            // Series that only differed in what is overwritten are one.
            expected.entry(Labels::from_pairs(seen)).or_default().extend(samples);
        }
        let mut foreign = ForeignBucket::default();
        foreign.add("", &block);
        let world = World::new(&foreign, |_| {});
        let set = world.all.select(&world.ctx, &[], TimeRange::ALL, &SelectHints::default()).expect("an answer");
        let mut found: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        let (mut set, mut batch, mut samples) = (set, SeriesBatch::default(), SeriesSamples::default());
        while set.next_batch(5, &mut batch).expect("an answer") {
            for entry in &batch.series {
                decode_series(entry, TimeRange::ALL, Want::default(), &mut samples).expect("sound");
                let labels = text(&batch.resolve(&world.ctx.symbols, entry));
                prop_assert!(found.insert(labels, samples.floats.times.clone()).is_none(), "each series once");
            }
        }
        let times = expected.iter().map(|(l, s)| (text(l), s.keys().copied().collect())).collect();
        prop_assert_eq!(found, times);
    }
}
