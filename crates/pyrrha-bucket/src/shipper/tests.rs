//! What is shipped is all there, whatever fails in between, and comes back on an empty disk.

use std::sync::atomic::Ordering;

use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use pyrrha_model::contract::{Ingest, QueryContext, SelectHints};
use pyrrha_model::{Labels, TimeRange};
use pyrrha_storage::block::{BlockMeta, BlockWriter};
use pyrrha_testkit::SimDisk;

use super::*;
use crate::faulty::{Faults, FaultyStore};
use crate::tools::tests::{block_dirs, clean_up, ship_merged};
use crate::worlds::{RANGE, World, block, id, select, series, write};
use crate::{BucketManifestStore, Operation, find_blocks, rebuild_manifest};

fn all(world: &World) -> crate::worlds::Rows {
    let ctx = QueryContext::unlimited();
    select(&world.queryable([]), &ctx, &[], TimeRange::ALL, &SelectHints::default()).expect("sound")
}

#[test]
fn failures_in_the_middle_are_made_good() {
    for seed in 0..4 {
        let objects = Arc::new(InMemory::new());
        let faults = Faults { unavailable: 40, hangs: 0, ..Faults::ROUGH };
        let disk = SimDisk::new(seed);
        let rough = World::on(disk.clone(), Arc::new(FaultyStore::over(objects.clone(), seed, faults)), 0);
        let blocks: Vec<Block> = (0..4).map(|n| block(&disk, n, 10)).collect();
        let mut calls = 0;
        while rough.ship(&blocks).is_err() {
            calls += 1;
            assert!(calls < 100, "it does not get through");
        }
        assert_eq!(rough.shipper.metrics().backlog_blocks.load(Ordering::Relaxed), 0);
        drop(rough.db);
        let calm = World::on(SimDisk::new(9), objects, 1 << 20);
        let state = calm.tenants.manifest(&World::tenant()).expect("sound").current();
        assert_eq!(state.blocks.keys().copied().collect::<Vec<_>>(), (1..5).map(id).collect::<Vec<_>>());
        assert_eq!(all(&calm).len(), 10);
        assert_eq!(all(&calm).iter().map(|(_, chunks)| chunks.len()).sum::<usize>(), 4 * 23);
        let requests = calm.bucket.counters().attempts(Operation::Put);
        calm.ship(&blocks).expect("nothing to do");
        assert_eq!(calm.bucket.counters().attempts(Operation::Put), requests);
    }
}

#[test]
fn a_dense_block_goes_up_as_others_read_it() {
    let (world, other) = (World::new(), World::new());
    let meta = BlockMeta::of_head(id(1), 0, RANGE);
    let standard = block(&other.disk, 0, 30);
    let dir = std::path::Path::new("/local/dense").join(id(1).to_string());
    let disk: Arc<dyn Disk> = Arc::new(world.disk.clone());
    let mut writer = BlockWriter::create_as(disk, &dir, Layout::Dense).expect("no fault");
    for (labels, chunks) in series(0, 30) {
        writer.add_series(&labels, &chunks).expect("in order");
    }
    writer.finish(meta).expect("no fault");
    let dense = Block::open(&world.disk, &dir).expect("sound");
    world.ship(std::slice::from_ref(&dense)).expect("no fault");
    other.ship(std::slice::from_ref(&standard)).expect("no fault");
    let states = [&world, &other].map(|w| w.tenants.manifest(&World::tenant()).expect("sound").current());
    assert_eq!(states[0].blocks, states[1].blocks, "the same files, checksums too");
    assert_eq!(all(&world), all(&other));
    assert_eq!(world.disk.list(&dir.with_file_name("")).expect("lists").len(), 1, "no draft is left");
}

#[test]
fn an_upload_goes_on_where_another_stopped() {
    let world = World::new();
    let local = block(&world.disk, 0, 30);
    world.ship(std::slice::from_ref(&local)).expect("no fault");
    // As if the process had died before meta.json and the commit.
    let other = World::on(world.disk.clone(), Arc::new(InMemory::new()), 0);
    let tenant = World::tenant();
    let key = format!("{tenant}/{}/chunks/000001", id(1));
    let bytes = world.runtime.wait({
        let (bucket, key) = (world.bucket.clone(), key.clone());
        async move { bucket.get(&key, u64::MAX).await }
    });
    let bytes = bytes.expect("no fault").expect("it is there");
    let (bucket, put) = (other.bucket.clone(), key.clone());
    other.runtime.wait(async move { bucket.put(&put, bytes).await }).expect("no fault");
    assert_eq!(other.bucket.counters().attempts(Operation::Put), 1);
    other.ship(std::slice::from_ref(&local)).expect("no fault");
    // The index, meta.json and the manifest's hint.
    assert_eq!(other.bucket.counters().attempts(Operation::Put), 4);
    let states = [&world, &other].map(|w| w.tenants.manifest(&tenant).expect("sound").current());
    assert_eq!(states[0].blocks, states[1].blocks, "checksums too");
}

#[test]
fn a_wiped_server_comes_back_with_what_was_shipped() {
    let objects = Arc::new(InMemory::new());
    let world = World::on(SimDisk::new(1), objects.clone(), 1 << 20);
    let tenant = World::tenant();
    for step in 0..400i64 {
        let mut appender = world.db.appender(&tenant).expect("an appender");
        for i in 0..5 {
            let labels = Labels::from_pairs([("__name__", "up".to_owned()), ("i", i.to_string())]);
            let series = appender.resolve(None, &labels).expect("a series");
            appender.append(series, 0, 90 * RANGE + step * 60_000, (step * i) as f64).expect("admitted");
        }
        appender.commit().expect("a commit");
    }
    world.clock.advance(std::time::Duration::from_secs(7200));
    world.db.maintain().expect("maintains");
    let blocks = world.db.open_blocks(&tenant);
    assert!(blocks.len() >= 2, "{}", blocks.len());
    world.db.remove_shipped(&tenant, i64::MAX).expect("nothing to do");
    assert_eq!(world.db.open_blocks(&tenant).len(), blocks.len(), "nothing is shipped yet");
    world.ship(&blocks).expect("no fault");
    let shipped = blocks.iter().map(|b| b.meta().max_time).max().expect("blocks");
    let sources: Vec<BlockId> = blocks.iter().flat_map(|b| b.meta().compaction.sources.clone()).collect();
    let ctx = QueryContext::unlimited();
    let range = TimeRange::new(0, shipped - 1);
    let hints = SelectHints::default();
    let before = select(&world.queryable(sources), &ctx, &[], range, &hints).expect("sound");
    // What is shipped may leave, and the answer stays.
    world.db.set_shipped(&tenant, world.shipper.shipped(&tenant, &blocks).expect("no fault"));
    world.db.remove_shipped(&tenant, i64::MAX).expect("no fault");
    assert_eq!(world.db.open_blocks(&tenant).len(), 0);
    assert_eq!(select(&world.queryable([]), &ctx, &[], range, &hints).expect("sound"), before);
    let old = |rows: crate::worlds::Rows| -> crate::worlds::Rows {
        let keep = |chunks: Vec<(i64, i64, Vec<u8>)>| chunks.into_iter().filter(|c| c.1 < shipped).collect();
        rows.into_iter().map(|(labels, chunks)| (labels, keep(chunks))).collect()
    };
    drop(world);
    let wiped = World::on(SimDisk::new(2), objects, 1 << 20);
    let after = select(&wiped.queryable([]), &ctx, &[], range, &hints).expect("sound");
    assert_eq!(after.len(), 5);
    assert_eq!(old(after), old(before));
    assert!(wiped.tenants.discover().expect("no fault").is_empty());
    assert_eq!(wiped.tenants.all(), [tenant]);
}

#[test]
fn a_compacted_block_takes_the_place_of_what_it_was_made_from() {
    let world = World::new();
    let (a, b) = (block(&world.disk, 0, 5), block(&world.disk, 1, 5));
    world.ship(&[a.clone(), b.clone()]).expect("no fault");
    // Made of blocks that are shipped: nothing new in it.
    let ab = BlockMeta {
        ulid: id(100),
        ..BlockMeta::of_compaction(id(100), &[a.meta().clone(), b.meta().clone()])
    };
    let ab = write(&world.disk, ab, &series(0, 5));
    assert_eq!(world.shipper.shipped(&World::tenant(), std::slice::from_ref(&ab)).expect("sound"), [id(100)]);
    let late = BlockMeta::of_head(id(50), 0, RANGE);
    let abc = BlockMeta::of_compaction(id(101), &[ab.meta().clone(), late]);
    let abc = write(&world.disk, abc, &series(0, 5));
    world.ship(std::slice::from_ref(&abc)).expect("no fault");
    let live = world.tenants.manifest(&World::tenant()).expect("sound").current();
    assert_eq!(live.blocks.keys().copied().collect::<Vec<_>>(), [id(101)]);
    assert_eq!(world.shipper.shipped(&World::tenant(), &[a, b, ab, abc]).expect("sound").len(), 4);
}

#[test]
fn a_lost_manifest_is_rebuilt_from_the_blocks() {
    let objects = Arc::new(InMemory::new());
    let world = World::on(SimDisk::new(1), objects.clone(), 1 << 20);
    let blocks: Vec<Block> = (0..3).map(|n| block(&world.disk, n, 7)).collect();
    world.ship(&blocks).expect("no fault");
    let tenant = World::tenant();
    let before = world.tenants.manifest(&tenant).expect("sound").current();
    let rows = all(&world);
    let bucket = world.bucket.clone();
    world.runtime.handle().block_on(async {
        for object in bucket.list("anonymous/manifest").await.expect("no fault") {
            bucket.delete(&object.key).await.expect("no fault");
        }
        let key = |file: &str| Key::from(format!("prefix/anonymous/{}", file));
        objects.put(&key(&format!("{}/index", id(70))), "partial".into()).await.expect("no fault");
        objects.put(&key(&format!("{}/meta.json", id(71))), "noise".into()).await.expect("no fault");
        objects.put(&key("README/meta.json"), "not ours".into()).await.expect("no fault");
        // A block that the others replace, and one that is marked.
        let mut old = blocks[0].meta().clone();
        old.ulid = id(72);
        old.compaction.level = 0;
        objects.put(&key(&format!("{}/meta.json", id(72))), old.to_json().into()).await.expect("no fault");
        objects.put(&key(&format!("{}/meta.json", id(73))), "{}".into()).await.expect("no fault");
        objects.put(&key(&format!("{}/deletion-mark.json", id(73))), "{}".into()).await.expect("no fault");
        let found = find_blocks(&bucket, &tenant).await.expect("no fault");
        assert_eq!((found.partial, found.marked, found.damaged.len()), (vec![id(70)], vec![id(73)], 1));
        assert_eq!(found.replaced, [(id(72), id(1))]);
    });
    drop(world.db);
    let again = World::on(SimDisk::new(3), objects, 1 << 20);
    let clock = Arc::new(pyrrha_testkit::SimClock::new(5));
    let (state, _) = rebuild_manifest(&again.bucket, &again.runtime, &tenant, clock).expect("no fault");
    assert_eq!(state.blocks.keys().collect::<Vec<_>>(), before.blocks.keys().collect::<Vec<_>>());
    assert_eq!(all(&again), rows);
    let store = BucketManifestStore::new(again.bucket.clone(), again.runtime.clone(), &tenant);
    let read =
        pyrrha_storage::manifest::Manifest::open(Arc::new(store), Arc::new(pyrrha_testkit::SimClock::new(6)));
    assert_eq!(read.expect("sound").current().blocks, state.blocks);
}

#[test]
fn what_a_shipped_block_has_replaced_goes_after_the_delay() {
    let world = World::new();
    world.ship(&[block(&world.disk, 0, 40), block(&world.disk, 1, 40)]).expect("no fault");
    ship_merged(&world);
    let state = world.tenants.manifest(&World::tenant()).expect("sound").current();
    assert_eq!(state.blocks.keys().copied().collect::<Vec<_>>(), [id(9)]);
    clean_up(&world, std::time::Duration::from_secs(3600));
    assert_eq!(block_dirs(&world), [id(1), id(2), id(9)]);
    clean_up(&world, std::time::Duration::ZERO);
    assert_eq!(block_dirs(&world), [id(9)]);
}

#[test]
fn what_is_to_be_shipped_is_counted_before_the_bucket_is_asked() {
    let world = World::new();
    let blocks: Vec<Block> = (0..3).map(|n| block(&world.disk, n, 5)).collect();
    let before = world.bucket.counters().requests();
    let all = [(World::tenant(), blocks.clone())];
    let left = || world.shipper.metrics().backlog_blocks.load(Ordering::Relaxed);
    world.shipper.look(&all);
    assert_eq!((left(), world.bucket.counters().requests()), (3, before));
    world.ship(&blocks[..2]).expect("no fault");
    world.shipper.look(&all);
    assert_eq!(left(), 1);
}
