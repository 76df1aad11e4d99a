//! Tools over a bucket in memory, with faults made on purpose.

use std::sync::Arc;

use bytes::Bytes;
use pyrrha_env::{Clock, Disk};
use pyrrha_model::{Matcher, TimeRange};

use super::*;
use crate::worlds::{RANGE, World, block, id};

pub(crate) fn tools(world: &World) -> BucketTools {
    let disk: Arc<dyn Disk> = Arc::new(world.disk.clone());
    let clock: Arc<dyn Clock> = world.clock.clone();
    BucketTools::new(world.tenants.clone(), world.runtime.clone(), disk, clock)
}

pub(crate) fn put(world: &World, key: &str, bytes: Vec<u8>) {
    let (bucket, key) = (world.bucket.clone(), key.to_owned());
    world.runtime.wait(async move { bucket.put(&key, Bytes::from(bytes)).await }).expect("no fault");
}

fn get(world: &World, key: &str) -> Vec<u8> {
    let (bucket, key) = (world.bucket.clone(), key.to_owned());
    let found = world.runtime.wait(async move { bucket.get(&key, u64::MAX).await }).expect("no fault");
    found.expect("it is there").to_vec()
}

pub(crate) fn delete(world: &World, key: &str) {
    let (bucket, key) = (world.bucket.clone(), key.to_owned());
    world.runtime.wait(async move { bucket.delete(&key).await }).expect("no fault");
}

/// Marks all blocks for deletion, and has them removed by a job that ended just now: their files stay.
pub(crate) fn let_go(world: &World) {
    let all = BlockSelector::default();
    tools(world).mark(&World::tenant(), &all, crate::MarkKind::Deletion, "", false).expect("no fault");
    world.clock.advance(std::time::Duration::from_secs(3601));
    clean_up(world, std::time::Duration::from_secs(3600));
    assert!(tools(world).state(&World::tenant()).expect("no fault").blocks.is_empty());
}

/// Ships a block that was made of test blocks 0 and 1, and of one that was not shipped.
pub(crate) fn ship_merged(world: &World) {
    let mut meta = pyrrha_storage::block::BlockMeta::of_head(id(9), 0, 2 * RANGE);
    (meta.compaction.level, meta.compaction.sources) = (2, vec![id(1), id(2), id(3)]);
    let merged = crate::worlds::write(&world.disk, meta, &crate::worlds::series(0, 40));
    world.ship(&[merged]).expect("no fault");
}

/// Directories of blocks of the tenant.
pub(crate) fn block_dirs(world: &World) -> Vec<BlockId> {
    let bucket = world.bucket.clone();
    let dirs = world.runtime.wait(async move { bucket.list_dirs("anonymous").await }).expect("no fault");
    dirs.iter().filter_map(|name| name.parse().ok()).collect()
}

/// A round of a worker that removes what has been over for so long.
pub(crate) fn clean_up(world: &World, delete_delay: std::time::Duration) {
    let config = crate::CompactorConfig {
        delete_delay,
        trust_own_clock: true,
        ..crate::CompactorConfig::new("/cleaning")
    };
    let (disk, clock): (Arc<dyn Disk>, Arc<dyn Clock>) = (Arc::new(world.disk.clone()), world.clock.clone());
    let worker = crate::Compactor::new(world.tenants.clone(), world.runtime.clone(), disk, clock, config);
    let cancel = pyrrha_model::contract::CancelToken::default();
    worker.expect("a free directory").round(&cancel).expect("no fault");
}

/// Three blocks in a bucket.
fn three() -> World {
    let world = World::new();
    let blocks: Vec<_> = (0..3).map(|n| block(&world.disk, n, 50)).collect();
    world.ship(&blocks).expect("no fault");
    world
}

fn verify(world: &World, depth: Depth) -> VerifyReport {
    let options = VerifyOptions { depth, scratch_dir: "/scratch".into(), ..VerifyOptions::default() };
    tools(world).verify(&World::tenant(), &options, &mut |_, _, _| {}).expect("a bucket that answers")
}

fn kinds(report: &VerifyReport) -> Vec<(IssueKind, Option<String>)> {
    report.issues.iter().map(|issue| (issue.kind, issue.file.clone())).collect()
}

#[test]
fn a_meta_that_says_more_than_the_block_has_is_found_at_any_depth() {
    let world = three();
    let key = format!("anonymous/{}/meta.json", id(2));
    let sound = String::from_utf8(get(&world, &key)).expect("text");
    for (field, from, to) in
        [("maxTime", 2 * RANGE, 3 * RANGE), ("minTime", RANGE, 3_200_000), ("maxTime", 2 * RANGE, 94_400_000)]
    {
        let flipped = sound.replacen(&format!("\"{field}\": {from}"), &format!("\"{field}\": {to}"), 1);
        assert_ne!(flipped, sound);
        put(&world, &key, flipped.into_bytes());
        for depth in [Depth::Objects, Depth::Checksums, Depth::Deep] {
            let report = verify(&world, depth);
            let meta = report.issues.iter().filter(|issue| issue.kind == IssueKind::Meta);
            assert_eq!(meta.map(|issue| issue.block).collect::<Vec<_>>(), [Some(id(2))], "{field} {depth:?}");
            assert!(!report.is_sound());
        }
    }
}

#[test]
fn a_sound_bucket_has_no_issues_at_any_depth() {
    let world = three();
    for depth in [Depth::Objects, Depth::Checksums, Depth::Deep] {
        let report = verify(&world, depth);
        assert_eq!(report.issues, []);
        assert!(report.is_sound() && report.blocks == 3 && report.objects >= 9);
        assert_eq!(report.read_bytes, if depth == Depth::Objects { 0 } else { report.bytes });
        assert_eq!(report.samples > 0, depth == Depth::Deep);
    }
    assert!(
        !world.disk.exists(std::path::Path::new("/scratch/pyrrha-verify").join(id(1).to_string()).as_path())
    );
}

#[test]
fn each_fault_is_found_at_its_depth_and_named() {
    let key = |file: &str| format!("anonymous/{}/{file}", id(2));
    // A byte in the middle of the chunks: only who reads it knows.
    let world = three();
    let mut chunks = get(&world, &key("chunks/000001"));
    let middle = chunks.len() / 2;
    chunks[middle] ^= 1;
    put(&world, &key("chunks/000001"), chunks);
    assert_eq!(verify(&world, Depth::Objects).issues, []);
    let report = verify(&world, Depth::Checksums);
    assert_eq!(kinds(&report), [(IssueKind::Checksum, Some("chunks/000001".to_owned()))]);
    assert!(!report.is_sound());
    let report = verify(&world, Depth::Deep);
    let damage = report.issues.iter().find(|i| i.kind == IssueKind::Damage).expect("it is decoded");
    assert!(damage.offset.is_some_and(|at| at <= middle as u64) && damage.block == Some(id(2)));

    // The same in the table of contents of an index.
    let world = three();
    let mut index = get(&world, &key("index"));
    let end = index.len() - 10;
    index[end] ^= 1;
    put(&world, &key("index"), index.clone());
    assert_eq!(kinds(&verify(&world, Depth::Objects)), [(IssueKind::Index, Some("index".to_owned()))]);
    index.pop();
    put(&world, &key("index"), index);
    assert_eq!(kinds(&verify(&world, Depth::Objects)), [(IssueKind::Length, Some("index".to_owned()))]);
    delete(&world, &key("index"));
    for depth in [Depth::Objects, Depth::Checksums, Depth::Deep] {
        assert_eq!(kinds(&verify(&world, depth)), [(IssueKind::Missing, Some("index".to_owned()))]);
    }

    // A meta that is another block's, and none.
    let world = three();
    put(&world, &key("meta.json"), get(&world, &format!("anonymous/{}/meta.json", id(1))));
    let report = verify(&world, Depth::Objects);
    // ULID, both times and sources are others.
    assert_eq!(report.issues.iter().filter(|i| i.kind == IssueKind::Meta).count(), 4);
    delete(&world, &key("meta.json"));
    assert_eq!(kinds(&verify(&world, Depth::Objects)), [(IssueKind::Missing, Some("meta.json".to_owned()))]);
}

#[test]
fn what_nothing_names_is_told_apart_and_counted() {
    let world = three();
    put(&world, &format!("anonymous/{}/index", id(77)), vec![0; 100]);
    put(&world, &format!("anonymous/{}/core", id(1)), vec![0; 7]);
    put(&world, &format!("anonymous/{}/no-compact-mark.json", id(1)), b"{}".to_vec());
    put(&world, "anonymous/readme", b"hello".to_vec());
    let report = verify(&world, Depth::Objects);
    assert!(report.is_sound());
    assert_eq!(
        kinds(&report),
        [(IssueKind::Orphan, None), (IssueKind::Unreferenced, Some("core".to_owned()))]
    );
    let tools = tools(&world);
    let usage = tools.usage(&World::tenant(), &BlockSelector::default()).expect("no fault");
    assert_eq!(usage.blocks, 3);
    assert_eq!(usage.bytes_of(ObjectClass::Orphaned), 100);
    assert_eq!(usage.bytes_of(ObjectClass::Unreferenced), 7);
    assert_eq!(usage.bytes_of(ObjectClass::Other), 5);
    let state = tools.state(&World::tenant()).expect("no fault");
    let live: u64 = state.blocks.values().map(|b| b.bytes).sum();
    assert_eq!(usage.bytes_of(ObjectClass::Live), live + 2);
    let all = world.runtime.wait({
        let bucket = world.bucket.clone();
        async move { bucket.list("").await }
    });
    assert_eq!(usage.bytes(), all.expect("no fault").iter().map(|o| o.bytes).sum::<u64>());
    // Of one block alone.
    let one = BlockSelector { ids: [id(3)].into(), ..BlockSelector::default() };
    let usage = tools.usage(&World::tenant(), &one).expect("no fault");
    assert_eq!((usage.blocks, usage.bytes()), (1, state.blocks[&id(3)].bytes));
}

#[test]
fn duplicates_and_overlaps_are_told() {
    let world = three();
    let tools = tools(&world);
    let manifest = world.tenants.manifest(&World::tenant()).expect("opens");
    let mut again = (*manifest.current().blocks[&id(2)]).clone();
    again.ulid = id(50);
    manifest.commit(&[again], &[]).expect("no fault");
    for file in ["index", "chunks/000001", "meta.json"] {
        put(
            &world,
            &format!("anonymous/{}/{file}", id(50)),
            get(&world, &format!("anonymous/{}/{file}", id(2))),
        );
    }
    let report = tools
        .verify(&World::tenant(), &VerifyOptions::default(), &mut |_, _, _| {})
        .expect("a bucket that answers");
    let of = |kind| report.issues.iter().filter(|i| i.kind == kind).map(|i| i.block).collect::<Vec<_>>();
    assert_eq!(of(IssueKind::Duplicate), [Some(id(2))]);
    assert_eq!(of(IssueKind::Overlap), [Some(id(50))]);
    // Its meta names the block it was copied from.
    assert_eq!(of(IssueKind::Meta), [Some(id(50))]);
}

#[test]
fn selectors_choose() {
    let world = three();
    let state = tools(&world).state(&World::tenant()).expect("no fault");
    let count = |selector: BlockSelector| state.blocks.values().filter(|b| selector.selects(b)).count();
    assert_eq!(count(BlockSelector::default()), 3);
    let range = Some(TimeRange::new(RANGE, RANGE + 1));
    assert_eq!(count(BlockSelector { range, ..BlockSelector::default() }), 1);
    assert_eq!(count(BlockSelector { resolutions: [300_000].into(), ..BlockSelector::default() }), 0);
    assert_eq!(count(BlockSelector { min_level: Some(2), ..BlockSelector::default() }), 0);
    let labels = |value| vec![vec![Matcher::equal("cluster", value)]];
    assert_eq!(count(BlockSelector { labels: labels("eu"), ..BlockSelector::default() }), 0);
    assert_eq!(count(BlockSelector { labels: labels(""), ..BlockSelector::default() }), 3);
}

#[test]
fn a_manifest_is_rebuilt_only_where_none_reads_or_on_demand() {
    let world = three();
    let tools = tools(&world);
    put(&world, &format!("anonymous/{}/index", id(77)), vec![0; 100]);
    let refused = tools.rebuild(&World::tenant(), false, false).expect_err("it reads");
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    let found = tools.rebuild(&World::tenant(), true, true).expect("no fault");
    assert_eq!((found.live.len(), found.partial.len()), (3, 1));
    let before = tools.state(&World::tenant()).expect("no fault");
    // The newest number is damaged: nothing reads any more.
    let newest = format!("anonymous/manifest/{:020}.json", before.number);
    put(&world, &newest, b"{}".to_vec());
    let disk: Arc<dyn Disk> = Arc::new(world.disk.clone());
    let fresh = World::on(world.disk.clone(), world.bucket.store(), 1 << 20);
    let again = BucketTools::new(fresh.tenants.clone(), fresh.runtime.clone(), disk, fresh.clock.clone());
    let report =
        again.verify(&World::tenant(), &VerifyOptions::default(), &mut |_, _, _| {}).expect("answers");
    assert_eq!(kinds(&report), [(IssueKind::Manifest, None)]);
    again.rebuild(&World::tenant(), false, false).expect("no fault");
    let last = World::on(world.disk.clone(), world.bucket.store(), 1 << 20);
    let state = last.tenants.manifest(&World::tenant()).expect("opens").current();
    assert!(state.number > before.number);
    assert_eq!(state.blocks.keys().collect::<Vec<_>>(), before.blocks.keys().collect::<Vec<_>>());
}

#[test]
fn a_file_that_is_cut_off_hides_no_other_damage() {
    let world = three();
    let key = format!("anonymous/{}/meta.json", id(1));
    let cut = get(&world, &key)[..8].to_vec();
    put(&world, &key, cut);
    let index = format!("anonymous/{}/index", id(3));
    let mut flipped = get(&world, &index);
    flipped[30] ^= 1;
    put(&world, &index, flipped);
    let report = verify(&world, Depth::Deep);
    let of = |block| report.issues.iter().filter(move |issue| issue.block == Some(block)).collect::<Vec<_>>();
    assert_eq!(of(id(1)).iter().map(|issue| issue.kind).collect::<Vec<_>>(), [IssueKind::Length]);
    assert!(of(id(2)).is_empty() && of(id(3)).iter().any(|issue| issue.kind == IssueKind::Checksum));
    assert!(report.samples > 0);
}
