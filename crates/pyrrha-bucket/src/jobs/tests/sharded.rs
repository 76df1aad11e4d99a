//! Blocks that are split by the hash of their series: what is read stays what it was.

use proptest::prelude::*;
use pyrrha_model::Labels;
use pyrrha_model::contract::WindowHints;
use pyrrha_storage::block::BlockMeta;
use pyrrha_storage::manifest::BlockEntry;

use super::*;
use crate::block_files::{deletes_through, external_labels};
use crate::rewrite::RewriteRules;
use crate::shard::{BlockTargets, SHARD_LABEL, Shard};
use crate::tools::BlockSelector;
use crate::worlds::{id, series};

fn of_series(series: u64) -> BlockTargets {
    BlockTargets { series, index_bytes: 0, splits: true }
}

/// A worker that splits, and does all kinds of jobs if it makes `windows`.
fn worker(objects: &Arc<InMemory>, targets: BlockTargets, windows: bool) -> Worker {
    let mut worker = Worker::new(objects, 1, Faults::default());
    worker.reconfigure(|config| {
        config.targets = targets;
        if windows {
            config.leaves.clear();
        }
    });
    worker.compactor.tenants().discover().expect("reads");
    worker
}

fn run(worker: &Worker) {
    while worker.round().jobs > 0 {}
}

/// Begin and end of each live block, with its shard and resolution.
fn blocks(worker: &Worker) -> Vec<(i64, i64, String, i64)> {
    let state = worker.state();
    let of = |b: &Arc<BlockEntry>| {
        let shard = external_labels(b).remove(SHARD_LABEL).unwrap_or_default();
        (b.min_time / RANGE, b.max_time / RANGE, shard, b.resolution)
    };
    let mut all: Vec<_> = state.blocks.values().map(of).collect();
    all.sort();
    all
}

/// Labels of the series of each block.
fn series_of(worker: &Worker, entry: &Arc<BlockEntry>) -> Vec<Labels> {
    let ctx = QueryContext::unlimited();
    let tenant = TenantId::anonymous();
    let reader = worker.compactor.looking();
    let mut set = reader.whole_block(&tenant, entry.clone(), None, Arc::default(), Arc::default(), &ctx);
    let (mut batch, mut all) = (SeriesBatch::default(), Vec::new());
    while set.next_batch(50, &mut batch).expect("reads") {
        all.extend(batch.series.iter().map(|entry| batch.resolve(&ctx.symbols, entry)));
    }
    all
}

/// What queries over windows of an hour read: of each series its windows, and how many samples.
fn windows(objects: &Arc<InMemory>) -> BTreeMap<Labels, (String, usize)> {
    let world = World::on(SimDisk::new(1), objects.clone(), 8 << 20);
    world.tenants.manifest(&World::tenant()).expect("reads");
    let all = WindowHints { edges: true, values: true, counter: false, max_resolution_ms: i64::MAX };
    let hour = crate::downsample::HOUR;
    let hints = SelectHints { step_ms: hour, range_ms: hour, windows: Some(all), ..SelectHints::default() };
    let (ctx, range) = (QueryContext::unlimited(), TimeRange::new(0, 14 * RANGE - 1));
    let mut set = world.queryable([]).select(&ctx, &[], range, &hints).expect("reads");
    let (mut batch, mut seen) = (SeriesBatch::default(), BTreeMap::new());
    while set.next_batch(50, &mut batch).expect("reads") {
        for entry in &batch.series {
            let mut found = SeriesSamples::default();
            decode_series(entry, range, Want::default(), &mut found).expect("decodes");
            let text = format!("{:?}", found.windows);
            seen.insert(batch.resolve(&ctx.symbols, entry), (text, found.floats.times.len()));
        }
    }
    assert!(ctx.notices.warnings().is_empty());
    seen
}

/// The live blocks are what the bucket has, and each series of a shard belongs there.
fn check(worker: &Worker, expected: &Samples, objects: &Arc<InMemory>) {
    assert!(read(objects) == *expected);
    let state = worker.state();
    let raw = state.blocks.values().filter(|b| b.resolution == 0);
    assert_eq!(raw.map(|b| b.samples).sum::<u64>(), count(expected), "nothing is there twice");
    for entry in state.blocks.values() {
        let shard = Shard::of(entry);
        let in_shard = |labels: &Labels| shard.has_residue(crate::shard::stable_hash(labels));
        let series = series_of(worker, entry);
        assert!(!series.is_empty() && series.iter().all(in_shard), "{shard:?}");
    }
    let (blocks, jobs) = worker.left();
    assert_eq!(blocks, state.blocks.keys().map(ToString::to_string).collect());
    assert_eq!(jobs.len(), 0, "{jobs:?}");
}

fn shards(from: i64, to: i64, count: u32, resolution: i64) -> Vec<(i64, i64, String, i64)> {
    (1..=count).map(|i| (from, to, format!("{i}_of_{count}"), resolution)).collect()
}

#[test]
fn what_would_be_too_large_becomes_several_blocks_in_one_commit() {
    let objects = Arc::new(InMemory::new());
    let expected = fill(&objects, |disk| (0..14).map(|n| block(disk, n, 64)).collect());
    let worker = worker(&objects, of_series(20), false);
    let before = worker.state();
    run(&worker);
    assert_eq!(blocks(&worker), [shards(0, 12, 4, 0), shards(12, 14, 4, 0)].concat());
    check(&worker, &expected, &objects);
    // Fourteen become two times four, these four: each shard by itself.
    assert_eq!(worker.compactor.metrics().jobs_done.load(Ordering::Relaxed), 3 + 4);
    let state = worker.state();
    assert!(before.blocks.keys().all(|block| state.covers(*block)), "nobody ships them again");
    // Who has lost the manifest finds the same.
    let bucket = worker.compactor.tenants().bucket().clone();
    let tenant = TenantId::anonymous();
    let found = worker.compactor.runtime().wait(async move { crate::find_blocks(&bucket, &tenant).await });
    let found = found.expect("lists");
    let ids: Vec<_> = found.live.iter().map(|entry| entry.ulid).collect();
    assert_eq!(ids, state.blocks.keys().copied().collect::<Vec<_>>());
    assert!(found.live.iter().all(|entry| Shard::of(entry) != Shard::WHOLE));
}

#[test]
fn what_is_late_is_merged_into_the_shards_and_shards_grow_apart() {
    let objects = Arc::new(InMemory::new());
    fill(&objects, |disk| (0..6).map(|n| block(disk, n, 64)).collect());
    run(&worker(&objects, of_series(40), false));
    // What overlaps all shards of one block; and the next ranges, of more series.
    let expected = fill(&objects, |disk| {
        let late = BlockMeta::of_head(id(200), RANGE, 2 * RANGE);
        let late = write(disk, late, &series(1, 70));
        std::iter::once(late).chain((6..14).map(|n| block(disk, n, 64))).collect()
    });
    let worker = worker(&objects, of_series(20), false);
    run(&worker);
    check(&worker, &expected, &objects);
    let found = blocks(&worker);
    let first: Vec<_> = found.iter().filter(|b| b.0 == 0).cloned().collect();
    assert!(first.len() >= 4 && first.iter().all(|(from, to, ..)| (*from, *to) == (0, 12)), "{found:?}");
}

#[test]
fn windows_of_shards_are_those_of_the_whole() {
    let make = |disk: &SimDisk| -> Vec<Block> { (0..14).map(|n| block(disk, n, 64)).collect() };
    let (whole, split) = (Arc::new(InMemory::new()), Arc::new(InMemory::new()));
    let expected = fill(&whole, make);
    fill(&split, make);
    run(&worker(&whole, BlockTargets::default(), true));
    let wanted = windows(&whole);
    assert!(wanted.values().all(|(_, samples)| *samples == 0) && wanted.len() == 64);
    // First windows of whole blocks, then samples are split, then shard by shard windows are.
    let samples_of = |worker: &Worker, resolution| {
        let state = worker.state();
        state.blocks.values().filter(|b| b.resolution == resolution).map(|b| b.samples).sum::<u64>()
    };
    let mut first = worker(&split, BlockTargets::default(), true);
    first.reconfigure(|config| config.ladder = Ladder::new(vec![RANGE]).expect("a ladder"));
    run(&first);
    assert!(windows(&split) == wanted);
    run(&worker(&split, of_series(20), false));
    assert!(windows(&split) == wanted, "they say what the shards say");
    let last = worker(&split, of_series(20), true);
    run(&last);
    assert!(windows(&split) == wanted);
    check(&last, &expected, &split);
    for resolution in [crate::downsample::FIVE_MINUTES, crate::downsample::HOUR] {
        let found: Vec<_> = blocks(&last).into_iter().filter(|b| b.3 == resolution).collect();
        assert_eq!(found, [shards(0, 12, 4, resolution), shards(12, 14, 4, resolution)].concat());
    }
    assert!(samples_of(&last, 0) == count(&expected));
}

#[test]
fn one_shard_without_windows_is_read_as_samples_and_the_others_are_not() {
    let objects = Arc::new(InMemory::new());
    fill(&objects, |disk| (0..12).map(|n| block(disk, n, 64)).collect());
    let worker = worker(&objects, of_series(40), true);
    run(&worker);
    let wanted = windows(&objects);
    let shard = |b: &BlockEntry| Shard::of(b).text();
    let is_of_one = |labels: &Labels| crate::shard::stable_hash(labels).is_multiple_of(2);
    assert!(wanted.keys().any(is_of_one) && !wanted.keys().all(is_of_one));
    // The windows of one shard go.
    let manifest = worker.compactor.tenants().manifest(&TenantId::anonymous()).expect("reads");
    let state = worker.state();
    let windows_of_one =
        state.blocks.values().filter(|b| b.resolution > 0 && shard(b).as_deref() == Some("1_of_2"));
    let removed: Vec<BlockId> = windows_of_one.map(|b| b.ulid).collect();
    assert_eq!(removed.len(), 2);
    manifest.commit_change(&Change { removed, ..Change::default() }).expect("commits");
    let found = windows(&objects);
    assert!(found.keys().eq(wanted.keys()));
    for (labels, seen) in &found {
        assert_eq!(seen == &wanted[labels], !is_of_one(labels), "{labels}");
        assert_eq!(seen.1 > 0, is_of_one(labels), "samples: {labels}");
    }
    run(&worker);
    assert!(windows(&objects) == wanted);
}

#[test]
fn deletes_and_rewrites_keep_shards_and_a_shard_that_is_empty_leaves_the_others() {
    let objects = Arc::new(InMemory::new());
    let before = fill(&objects, |disk| (0..6).map(|n| block(disk, n, 64)).collect());
    let worker = worker(&objects, of_series(40), true);
    run(&worker);
    let manifest = worker.compactor.tenants().manifest(&TenantId::anonymous()).expect("reads");
    // One series, then all of the first shard.
    let deletes = vec![delete(7, "00003", i64::MIN, i64::MAX, true)];
    manifest.commit_change(&Change { deletes, ..Change::default() }).expect("commits");
    run(&worker);
    let left = without(before.clone(), "00003", i64::MIN, i64::MAX);
    check(&worker, &left, &objects);
    let of = |resolution| [shards(0, 6, 2, 0), shards(0, 6, 2, resolution)].concat();
    let raw = |b: &(i64, i64, String, i64)| b.3 == 0;
    assert_eq!(blocks(&worker).into_iter().filter(raw).collect::<Vec<_>>(), shards(0, 6, 2, 0));
    assert!(of(300_000).iter().all(|b| blocks(&worker).contains(b)), "{:?}", blocks(&worker));
    let state = worker.state();
    let one =
        state.blocks.values().find(|b| b.resolution == 0 && Shard::of(b).text().as_deref() == Some("1_of_2"));
    let one = one.expect("it is live").clone();
    let hosts: Vec<String> =
        series_of(&worker, &one).iter().filter_map(|l| Some(l.get("instance")?.to_owned())).collect();
    let all: Vec<Matcher> = vec![
        Matcher::new(pyrrha_model::MatchOp::Regex, "instance", hosts.join("|").as_str()).expect("a pattern"),
    ];
    let gone = DeleteEntry::of(&Delete {
        id: DeleteId(8),
        matcher_sets: vec![all],
        range: TimeRange::new(i64::MIN, i64::MAX),
        at: 100 * RANGE,
        is_final: true,
    });
    manifest.commit_change(&Change { deletes: vec![gone], ..Change::default() }).expect("commits");
    run(&worker);
    let mut left = left;
    left.retain(|labels, _| !hosts.iter().any(|host| labels.contains(host.as_str())));
    check(&worker, &left, &objects);
    let state = worker.state();
    let raw: Vec<_> = state.blocks.values().filter(|b| b.resolution == 0).collect();
    assert_eq!(raw.len(), 1);
    assert!(deletes_through(raw[0]) >= DeleteId(8));
    assert!(!state.gone.iter().any(|source| raw[0].sources.contains(source)), "the other shard is there");
    assert!(raw[0].sources.iter().all(|source| state.covers(*source)));
}

#[test]
fn series_that_get_other_labels_are_of_other_shards() {
    let objects = Arc::new(InMemory::new());
    let before = fill(&objects, |disk| (0..6).map(|n| block(disk, n, 64)).collect());
    let worker = worker(&objects, of_series(40), true);
    run(&worker);
    let parse = |text: &str| Err(text.to_owned());
    let relabel = "- action: replace\n  target_label: site\n  replacement: berlin\n";
    let rules = Arc::new(RewriteRules::parse(None, None, Some(relabel), &parse).expect("rules"));
    let (tenant, cancel) = (TenantId::anonymous(), CancelToken::default());
    let selector = BlockSelector::default();
    let done = worker.compactor.rewrite(&tenant, &selector, &rules, false, &cancel, &mut |_, _, _| {});
    assert_eq!(done.expect("no fault").iter().filter(|b| b.committed).count(), 2);
    assert!(blocks(&worker).iter().all(|b| b.2.is_empty()), "no claim that does not hold");
    let expected: Samples = before
        .into_iter()
        .map(|(labels, s)| (labels.replace(", zone", ", site=\"berlin\", zone"), s))
        .collect();
    assert_eq!(count(&read(&objects)), count(&expected));
    // They overlap, and are merged, and split by what they are called now.
    run(&worker);
    let expected = read(&objects);
    check(&worker, &expected, &objects);
    assert_eq!(blocks(&worker).iter().filter(|b| b.3 == 0).count(), 2, "{:?}", blocks(&worker));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// Whatever comes when, and however large blocks may become from then on.
    #[test]
    fn what_is_read_does_not_depend_on_shards(
        steps in proptest::collection::vec(
            (proptest::collection::vec((0u64..8, 20usize..80), 1..5), prop_oneof![Just(0u64), 8u64..80]), 1..4),
        late in 0u64..8,
    ) {
        let objects = Arc::new(InMemory::new());
        let (mut number, mut expected) = (0, Samples::new());
        for (shipped, target) in steps {
            expected = fill(&objects, |disk| {
                let mut make = |(n, count): (u64, usize)| {
                    number += 1;
                    let meta = BlockMeta::of_head(id(1000 + number), n as i64 * RANGE, (n as i64 + 1) * RANGE);
                    write(disk, meta, &series(n, count))
                };
                shipped.into_iter().chain([(late, 30)]).map(&mut make).collect()
            });
            let worker = worker(&objects, of_series(target), false);
            run(&worker);
            prop_assert!(read(&objects) == expected);
            check(&worker, &expected, &objects);
        }
        prop_assert!(!expected.is_empty());
    }
}
