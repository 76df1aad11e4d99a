//! A mirrored bucket is read as one of Thanos or Mimir, with the answers of the gateway.

use std::io::Read;

use flate2::read::GzDecoder;
use object_store::memory::InMemory;
use pyrrha_env::Disk;
use pyrrha_model::TimeRange;
use pyrrha_model::contract::{QueryContext, Queryable, SelectHints};
use pyrrha_testkit::SimDisk;
use pyrrha_testkit::foreign_bucket::{IndexedBlock as Foreign, bucket_index};

use super::*;
use crate::attach::tests::read;
use crate::attach::{AttachConfig, AttachedBucket, BucketLayout, WithBuckets};
use crate::config::open_directory;
use crate::door::Operation;
use crate::faulty::{Faults, FaultyStore};
use crate::tools::tests::put;
use crate::worlds::{RANGE, World, block, id, policy, wait_until};
use crate::{Compactor, CompactorConfig, GatewayConfig};

const INDEX: &str = "anonymous/bucket-index.json.gz";
const HOUR: Duration = Duration::from_secs(3600);
const TWO_DAYS: Duration = Duration::from_secs(48 * 3600);

/// A world, and the objects that it is before.
struct Mirrored {
    world: World,
    objects: Arc<InMemory>,
}

impl std::ops::Deref for Mirrored {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

/// With so many blocks, and a clock that agrees with that of the store.
fn world(blocks: u64) -> Mirrored {
    let objects = Arc::new(InMemory::new());
    let world = World::on(SimDisk::new(1), objects.clone(), 64 << 20);
    let blocks: Vec<_> = (0..blocks).map(|n| block(&world.disk, n, 5)).collect();
    world.ship(&blocks).expect("no fault");
    let store = modified(&world, &meta(1));
    let ahead = u64::try_from(store - world.clock.now_ms()).expect("it is not 1970");
    world.clock.advance(Duration::from_millis(ahead));
    Mirrored { world, objects }
}

fn mirror(world: &World, kind: MirrorKind) -> Mirror {
    let config = MirrorConfig { kind, delete_delay: TWO_DAYS };
    Mirror::new(world.tenants.clone(), world.runtime.clone(), world.clock.clone(), config)
}

fn round(mirror: &Mirror) {
    mirror.round(&CancelToken::default()).expect("no fault");
}

fn meta(n: u64) -> String {
    format!("anonymous/{}/meta.json", id(n))
}

fn modified(world: &World, key: &str) -> i64 {
    let (bucket, key) = (world.bucket.clone(), key.to_owned());
    let found = world.runtime.wait(async move { bucket.head(&key).await });
    found.expect("no fault").expect("it is there").modified_ms
}

fn get(world: &World, key: &str) -> Option<bytes::Bytes> {
    let (bucket, key) = (world.bucket.clone(), key.to_owned());
    world.runtime.wait(async move { bucket.get(&key, 1 << 20).await }).expect("no fault")
}

fn json(world: &World) -> String {
    let mut json = String::new();
    GzDecoder::new(&get(world, INDEX).expect("an index")[..]).read_to_string(&mut json).expect("gzip");
    json
}

/// Blocks of the index, and those of them that are marked.
fn listed(world: &World) -> (Vec<String>, Vec<String>) {
    let json: serde_json::Value = serde_json::from_str(&json(world)).expect("JSON");
    let ids = |list: &str| -> Vec<String> {
        let list = json[list].as_array().expect("a list").iter();
        list.map(|block| block["block_id"].as_str().expect("an id").to_owned()).collect()
    };
    (ids("blocks"), ids("block_deletion_marks"))
}

fn keys(world: &World, ends: &str) -> usize {
    let bucket = world.bucket.clone();
    let all = world.runtime.wait(async move { bucket.list("anonymous").await }).expect("no fault");
    all.iter().filter(|object| object.key.ends_with(ends)).count()
}

/// Merges and removes, with files of replaced blocks staying so long.
fn compact(world: &World, delete_delay: Duration) {
    let config = CompactorConfig { delete_delay, ..CompactorConfig::new("/scratch") };
    let (tenants, runtime) = (world.tenants.clone(), world.runtime.clone());
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(3));
    let compactor = Compactor::new(tenants, runtime, disk, world.clock.clone(), config);
    compactor.expect("a free directory").round(&CancelToken::default()).expect("no fault");
}

type Samples = Vec<(String, Vec<(i64, f64)>)>;

fn samples(from: &dyn Queryable) -> Samples {
    let ctx = QueryContext::unlimited();
    let set = from.select(&ctx, &[], TimeRange::ALL, &SelectHints::default()).expect("an answer");
    read(&ctx, set)
}

/// What a reader of the bucket's own kind finds, and how many tenants an index told it of.
fn attached(world: &World, prefix: &str, layout: BucketLayout) -> (Samples, usize) {
    let bucket = Bucket::new(world.bucket.store(), "mirrored", prefix, policy());
    let mut config = AttachConfig::new(GatewayConfig {
        cache_dir: "/attached".into(),
        cache_bytes: 1 << 20,
        disk_bytes: 0,
        header_bytes: 1 << 20,
    });
    config.layout = layout;
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(2));
    let attached =
        Arc::new(AttachedBucket::new(bucket, world.runtime.clone(), disk, world.clock.clone(), config));
    attached.look().expect("no fault");
    let both = WithBuckets::new(world.db.queryable(), vec![attached.clone()]);
    (samples(&both), attached.view().indexed)
}

#[test]
fn the_index_is_written_as_mimir_reads_it() {
    let world = world(2);
    round(&mirror(&world, MirrorKind::Mimir));
    let (first, second) = (modified(&world, &meta(1)) / 1000, modified(&world, &meta(2)) / 1000);
    let now = world.clock.now_ms() / 1000;
    let expected = [
        r#"{"version":2,"blocks":["#,
        r#"{"block_id":"00000000010000000000000001","min_time":0,"max_time":7200000,"#,
        &format!(
            r#""segments_format":"1b6d","segments_num":1,"uploaded_at":{first},"compaction_level":1}},"#
        ),
        r#"{"block_id":"00000000020000000000000001","min_time":7200000,"max_time":14400000,"#,
        &format!(
            r#""segments_format":"1b6d","segments_num":1,"uploaded_at":{second},"compaction_level":1}}],"#
        ),
        &format!(r#""block_deletion_marks":[],"updated_at":{now}}}"#),
    ];
    assert_eq!(json(&world), expected.concat());
}

#[test]
fn an_index_is_kept_fresh_and_costs_nothing_in_between() {
    let world = world(2);
    let mirror = self::mirror(&world, MirrorKind::Mimir);
    round(&mirror);
    let (before, requests) = (json(&world), || world.bucket.counters().requests());
    let asked = requests();
    round(&mirror);
    world.clock.advance(Duration::from_secs(14 * 60));
    round(&mirror);
    assert_eq!(requests(), asked);
    // Another server finds that it is done.
    let other = self::mirror(&world, MirrorKind::Mimir);
    let puts = world.bucket.counters().attempts(Operation::Put);
    round(&other);
    assert_eq!(world.bucket.counters().attempts(Operation::Put), puts);
    assert_eq!(json(&world), before);
    world.clock.advance(Duration::from_secs(2 * 60));
    let now = world.clock.now_ms() / 1000;
    round(&other);
    assert!(json(&world).ends_with(&format!(r#""updated_at":{now}}}"#)));
    round(&mirror);
    assert_eq!(mirror.metrics().indexes_written.load(Ordering::Relaxed), 1, "the other was first");
    // A new block does not wait.
    world.ship(&[block(&world.disk, 2, 5)]).expect("no fault");
    round(&mirror);
    assert_eq!(listed(&world).0.len(), 3);
    // A damaged one is written anew.
    put(&world, INDEX, b"no gzip".to_vec());
    world.clock.advance(HOUR);
    round(&mirror);
    assert_eq!(listed(&world).0.len(), 3);
}

#[test]
fn where_conditions_on_what_is_there_never_hold_the_index_is_written_without() {
    let ours = world(2);
    let faults = Faults { refuses_updates: true, ..Faults::default() };
    let store = FaultyStore::over(ours.objects.clone(), 1, faults);
    let world = World::on(ours.disk.clone(), Arc::new(store), 64 << 20);
    world.clock.set_wall(ours.clock.now_ms());
    world.tenants.discover().expect("reads");
    let mirror = self::mirror(&world, MirrorKind::Mimir);
    round(&mirror);
    for more in 2..5 {
        world.ship(&[block(&world.disk, more, 5)]).expect("no fault");
        round(&mirror);
        let late = mirror.metrics().late_indexes.load(Ordering::Relaxed);
        assert_eq!(late, 1, "once it may be another who wrote it");
        // It is still as it was: nobody has.
        round(&mirror);
        assert_eq!(listed(&world).0.len() as u64, more + 1);
    }
}

#[test]
fn an_index_of_a_later_version_stays_as_it_is() {
    let world = world(2);
    let mirror = self::mirror(&world, MirrorKind::Mimir);
    let later = packed(br#"{"version":3,"blocks":[],"updated_at":7}"#);
    put(&world, INDEX, later.clone());
    let error = mirror.round(&CancelToken::default()).expect_err("it is not understood");
    assert!(error.to_string().contains("version=3"), "{error}");
    assert_eq!(mirror.metrics().failures.load(Ordering::Relaxed), 1);
    assert_eq!(get(&world, INDEX).as_deref(), Some(&later[..]));
}

fn packed(json: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, json).expect("memory");
    packed.finish().expect("memory")
}

#[test]
fn readers_of_mimir_and_thanos_find_what_the_gateway_does() {
    let world = world(8);
    let mirror = self::mirror(&world, MirrorKind::Mimir);
    let expected = samples(&world.queryable([]));
    let same = |when: &str| {
        let (by_index, indexed) = attached(&world, "prefix", BucketLayout::Tenants);
        assert_eq!((by_index == expected, indexed), (true, 1), "as one of Mimir {when}");
        let (flat, _) = attached(&world, "prefix/anonymous", BucketLayout::Flat);
        assert!(flat == expected, "as one of Thanos {when}");
    };
    round(&mirror);
    assert_eq!(listed(&world).0.len(), 8);
    same("before blocks are merged");
    compact(&world, TWO_DAYS);
    let live = world.tenants.manifest(&World::tenant()).expect("reads").current().blocks.len();
    assert!(live < 8, "some were merged");
    round(&mirror);
    let replaced = 8 - (live - 1);
    let (blocks, marked) = listed(&world);
    assert_eq!((blocks.len(), marked.len()), (live + replaced, replaced), "those that leave are marked");
    // What was merged again before anybody saw it is not listed, and marked nonetheless.
    let files = keys(&world, "/deletion-mark.json");
    assert!(files >= replaced && mirror.metrics().marked_blocks.load(Ordering::Relaxed) == files as u64);
    assert_eq!(keys(&world, "-deletion-mark.json"), files, "copies");
    let mark = get(&world, &format!("anonymous/{}/deletion-mark.json", id(1))).expect("a mark");
    let mark: serde_json::Value = serde_json::from_slice(&mark).expect("JSON");
    assert_eq!(mark["id"], id(1).to_string());
    assert_eq!((mark["version"].as_i64(), mark["deletion_time"].is_i64()), (Some(1), true));
    same("while they leave");
    world.clock.advance(2 * HOUR);
    round(&mirror);
    same("when marks count");
    compact(&world, Duration::ZERO);
    world.clock.advance(HOUR);
    round(&mirror);
    let (blocks, marked) = listed(&world);
    assert_eq!((blocks.len(), marked.len()), (live, 0));
    assert_eq!(keys(&world, "deletion-mark.json"), 0);
    same("when they are gone");
}

#[test]
fn for_thanos_there_are_marks_and_nothing_else() {
    let world = world(8);
    let mirror = self::mirror(&world, MirrorKind::Thanos);
    compact(&world, TWO_DAYS);
    round(&mirror);
    let marked = mirror.metrics().marked_blocks.load(Ordering::Relaxed);
    assert!(marked > 0);
    assert_eq!(keys(&world, "/deletion-mark.json") as u64, marked);
    assert_eq!((keys(&world, "-deletion-mark.json"), get(&world, INDEX)), (0, None));
    let requests = world.bucket.counters().attempts(Operation::Head);
    world.clock.advance(HOUR);
    round(&mirror);
    // That of the manifest, and whether there is a next one.
    assert_eq!(
        world.bucket.counters().attempts(Operation::Head),
        requests + 2,
        "they are not asked for again"
    );
}

#[test]
fn blocks_with_start_timestamps_are_known_before_thanos_meets_them() {
    use pyrrha_model::contract::{ChunkRef, Value};
    let world = world(1);
    assert_eq!(crate::unread_by_thanos(&world.tenants), None);
    let starts: Vec<_> = (0..50).map(|i| (i * 1000, i * 15_000 + 1000, Value::Float(i as f64))).collect();
    let chunks: Vec<ChunkRef> = pyrrha_encoding::encode_series(&starts, true);
    let labels = pyrrha_model::Labels::from_pairs([("__name__", "m")]);
    let meta = pyrrha_storage::block::BlockMeta::of_head(id(9), 0, RANGE);
    let block = crate::worlds::write(&world.disk, meta, &[(labels, chunks)]);
    world.ship(&[block]).expect("no fault");
    assert_eq!(crate::unread_by_thanos(&world.tenants), Some((World::tenant(), id(9))));
    compact(&world, TWO_DAYS);
    let (_, merged) = crate::unread_by_thanos(&world.tenants).expect("what is made of it has them, too");
    assert_ne!(merged, id(9));
}

#[test]
fn what_no_job_of_ours_has_replaced_is_left_alone() {
    let world = world(1);
    let foreign = |n: u64| Foreign {
        ulid: id(n).to_string(),
        min_time: 0,
        max_time: RANGE,
        uploaded_at: 7,
        shard: Some("1_of_2".to_owned()),
        deleted_at: (n == 8).then_some(9),
    };
    put(&world, &meta(7), b"{}".to_vec());
    put(&world, &meta(8), b"{}".to_vec());
    let now = world.clock.now_ms() / 1000;
    put(&world, INDEX, bucket_index(&[foreign(7), foreign(8), foreign(9)], now));
    round(&mirror(&world, MirrorKind::Mimir));
    let (blocks, marked) = listed(&world);
    let ids = |numbers: &[u64]| numbers.iter().map(|n| id(*n).to_string()).collect::<Vec<_>>();
    assert_eq!((blocks, marked), (ids(&[1, 7, 8]), ids(&[8])), "one is not there any more");
    assert!(json(&world).contains(r#""uploaded_at":7,"compactor_shard_id":"1_of_2""#));
    assert_eq!(keys(&world, "deletion-mark.json"), 0);
}

/// Ends others when it goes, by a panic too.
struct StopsOthers<'a>(&'a AtomicBool);

impl Drop for StopsOthers<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn writers_in_a_storm_never_go_back() {
    let world = world(8);
    let objects = world.objects.clone();
    let expected = samples(&world.queryable([]));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for seed in 0..3 {
            let store = FaultyStore::over(objects.clone(), seed, Faults::ROUGH);
            let bucket = Bucket::new(Arc::new(store), "rough", "prefix", policy());
            let (runtime, clock, over) = (world.runtime.clone(), world.clock.clone(), &over);
            scope.spawn(move || {
                let tenants = Arc::new(BucketTenants::new(bucket, runtime.clone(), clock.clone()));
                let config = MirrorConfig { kind: MirrorKind::Mimir, delete_delay: TWO_DAYS };
                while !over.load(Ordering::Relaxed) {
                    let known = tenants.discover();
                    // Nothing is remembered, so that each round looks.
                    let mirror = Mirror::new(tenants.clone(), runtime.clone(), clock.clone(), config);
                    let _ = known.map(|_| mirror.round(&CancelToken::default()));
                }
            });
        }
        let _stops = StopsOthers(&over);
        let manifest = world.tenants.manifest(&World::tenant()).expect("reads");
        wait_until("an index is written", || get(&world, INDEX).is_some());
        let mut seen: HashSet<String> = HashSet::new();
        for more in 8..14 {
            world.ship(&[block(&world.disk, more, 5)]).expect("no fault");
            compact(&world, TWO_DAYS);
            wait_until("what is live is listed", || {
                let blocks: HashSet<String> = listed(&world).0.into_iter().collect();
                let gone: Vec<_> = seen.difference(&blocks).collect();
                assert!(gone.is_empty(), "nothing is removed, so what was listed is: {gone:?}");
                seen = blocks;
                manifest.current().blocks.keys().all(|live| seen.contains(&live.to_string()))
            });
        }
    });
    round(&mirror(&world, MirrorKind::Mimir));
    let (_, marked) = listed(&world);
    let live = world.tenants.manifest(&World::tenant()).expect("reads").current();
    assert!(
        !marked.is_empty() && marked.iter().all(|b| !live.blocks.contains_key(&b.parse().expect("an id")))
    );
    let found = attached(&world, "prefix", BucketLayout::Tenants).0;
    assert!(found == samples(&world.queryable([])) && found.len() >= expected.len());
}

#[test]
fn who_did_not_see_the_newest_does_not_write() {
    let runtime = crate::BucketRuntime::start(1).expect("a thread");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let memory = Bucket::new(Arc::new(InMemory::new()), "memory", "p", policy());
    let on_disk = open_directory(dir.path()).expect("a directory");
    for (bucket, conditional) in [(memory, true), (on_disk, false)] {
        let replaced = runtime.wait(async move {
            let (none, nothing) = bucket.get_to_replace("a/b", 100).await?;
            assert_eq!(none, None);
            let mut replaced = Vec::new();
            for (text, seen) in [("one", &nothing), ("two", &nothing)] {
                replaced.push(bucket.replace("a/b", text.into(), seen).await?);
            }
            let (one, seen) = bucket.get_to_replace("a/b", 100).await?;
            assert_eq!(one.as_deref(), Some(&b"one"[..]));
            for text in ["three", "four"] {
                replaced.push(bucket.replace("a/b", text.into(), &seen).await?);
            }
            let large = bucket.get_to_replace("a/b", 2).await.expect_err("three bytes");
            assert!(matches!(large, crate::BucketError::TooLarge { bytes: 3.., .. }), "{large}");
            Ok(replaced)
        });
        let last = if conditional { Replaced::Changed } else { Replaced::Written };
        let expected = [Replaced::Written, Replaced::Changed, Replaced::Written, last];
        assert_eq!(replaced.expect("no fault"), expected);
    }
}
