//! Rules for series that stay shorter: when they are applied, and to what.

use std::sync::Arc;

use pyrrha_encoding::{SeriesSamples, Want, decode_series};
use pyrrha_env::{Clock, Disk};
use pyrrha_model::contract::{CancelToken, QueryContext, Queryable, SelectHints, SeriesBatch, WindowHints};
use pyrrha_model::{MatchOp, TenantId, TimeRange};

use super::*;
use crate::downsample::{FIVE_MINUTES, HOUR};
use crate::jobs::{Compactor, CompactorConfig, Ladder};
use crate::worlds::{RANGE, World, block};

/// `metric_1` stays so many two hours, by resolution.
fn rule(keep: &[(i64, u64)]) -> MatcherRetention {
    let matcher = Matcher::new(MatchOp::Regex, "__name__", "metric_[1]").expect("compiles");
    let span = |ranges: u64| Duration::from_millis(ranges * RANGE as u64);
    MatcherRetention::new(vec![matcher], keep.iter().map(|&(r, n)| (r, span(n))).collect())
}

fn worker(world: &World, scratch: &str, rules: Vec<MatcherRetention>, leaves: &[JobKind]) -> Compactor {
    let config = CompactorConfig {
        retention: Retention { matchers: rules, ..Retention::default() },
        trust_own_clock: true,
        delete_delay: Duration::ZERO,
        leaves: leaves.to_vec(),
        ladder: Ladder::new(vec![RANGE]).expect("a ladder"),
        ..CompactorConfig::new(scratch)
    };
    let disk: Arc<dyn Disk> = Arc::new(world.disk.clone());
    Compactor::new(world.tenants.clone(), world.runtime.clone(), disk, world.clock.clone(), config)
        .expect("a free directory")
}

/// Does all that there is to do, once the clocks agree. Gives the number of jobs.
fn run(world: &World, worker: &Compactor) -> u64 {
    let first = worker.round(&CancelToken::default()).expect("no fault").jobs;
    world.clock.advance(Duration::from_secs(3600));
    first + worker.round(&CancelToken::default()).expect("no fault").jobs
}

fn state(world: &World) -> Arc<ManifestState> {
    world.tenants.manifest(&World::tenant()).expect("reads").refresh().expect("reads")
}

/// Samples, or windows where `resolution` is one, by metric and two hours.
fn found(world: &World, resolution: i64) -> BTreeMap<(String, i64), usize> {
    let ctx = QueryContext::unlimited();
    let windows = WindowHints { edges: true, values: true, counter: false, max_resolution_ms: i64::MAX };
    let hints = SelectHints {
        step_ms: resolution,
        range_ms: resolution,
        windows: (resolution > 0).then_some(windows),
        ..SelectHints::default()
    };
    let mut set = world.queryable([]).select(&ctx, &[], TimeRange::ALL, &hints).expect("selects");
    let (mut batch, mut all) = (SeriesBatch::default(), BTreeMap::new());
    while set.next_batch(64, &mut batch).expect("reads") {
        for entry in &batch.series {
            let mut samples = SeriesSamples::default();
            decode_series(entry, TimeRange::ALL, Want::default(), &mut samples).expect("decodes");
            let name = batch.resolve(&ctx.symbols, entry).get("__name__").unwrap_or_default().to_owned();
            for time in samples.floats.times.iter().chain(&samples.windows.starts) {
                *all.entry((name.clone(), time.div_euclid(RANGE))).or_default() += 1;
            }
        }
    }
    all
}

fn without(mut all: BTreeMap<(String, i64), usize>, before: i64) -> BTreeMap<(String, i64), usize> {
    all.retain(|(name, range), _| name != "metric_1" || *range >= before);
    all
}

#[test]
fn matched_series_leave_blocks_that_are_past_their_rule_as_a_whole() {
    let world = World::new();
    let blocks: Vec<_> = (0..4).map(|n| block(&world.disk, 90 + n, 12)).collect();
    world.ship(&blocks).expect("no fault");
    let before = found(&world, 0);
    assert!(before.contains_key(&("metric_1".to_owned(), 90)));
    // The clock shows the 100th range and half an hour more: blocks 90 and 91 are past 8 ranges.
    let leaves = JobKind::DOWNSAMPLING;
    let pruner = worker(&world, "/work", vec![rule(&[(0, 8)])], &leaves);
    let planned = pruner.overview().expect("reads");
    let planned: Vec<_> = planned[0].jobs.iter().map(|job| (job.kind, job.min_time / RANGE)).collect();
    assert_eq!(planned, [(JobKind::Prune, 90), (JobKind::Prune, 91)]);
    assert_eq!(
        pruner.round(&CancelToken::default()).expect("no fault").jobs,
        0,
        "one look at the clock is none"
    );
    world.clock.advance(Duration::from_secs(3600));
    assert_eq!(pruner.round(&CancelToken::default()).expect("no fault").jobs, 2);
    assert_eq!(found(&world, 0), without(before, 92));
    let live = state(&world);
    let pruned: Vec<_> = live.blocks.values().filter(|b| !names(b, PRUNED).is_empty()).collect();
    assert_eq!(pruned.len(), 2);
    assert!(pruned.iter().all(|b| names(b, PRUNED).contains("{__name__=~\"metric_[1]\"}")));
    assert!(pruned.iter().all(|b| identity(b) != b.ulid && b.sources.contains(&identity(b))));
    // It is done: nothing is planned again, nor when a day has passed and the others wait still.
    assert_eq!(pruner.round(&CancelToken::default()).expect("no fault").jobs, 0);
    assert_eq!(pruner.overview().expect("reads")[0].jobs, []);
}

#[test]
fn a_block_without_matching_series_is_not_written_anew_and_one_with_no_others_goes() {
    let world = World::new();
    // One has series of all metrics, one has none.
    world.ship(&[block(&world.disk, 10, 12)]).expect("no fault");
    let none = Matcher::equal("__name__", "other");
    let all = Matcher::new(MatchOp::Regex, "__name__", "metric_.*").expect("compiles");
    let keep = BTreeMap::from([(0, Duration::from_secs(1))]);
    let before = state(&world).blocks.keys().copied().collect::<Vec<_>>();
    let leaves = JobKind::DOWNSAMPLING;
    let rules = vec![MatcherRetention::new(vec![none], keep.clone())];
    let first = worker(&world, "/one", rules, &leaves);
    assert_eq!(run(&world, &first), 1);
    let live = state(&world);
    assert_eq!(live.blocks.keys().copied().collect::<Vec<_>>(), before);
    assert!(live.blocks.values().all(|b| names(b, PRUNED).len() == 1 && identity(b) == b.ulid));
    assert_eq!(run(&world, &first), 0);
    let second = worker(&world, "/two", vec![MatcherRetention::new(vec![all], keep)], &leaves);
    assert_eq!(run(&world, &second), 1);
    let live = state(&world);
    assert!(live.blocks.is_empty() && live.covers(before[0]), "whoever has it does not ship it again");
}

#[test]
fn each_resolution_has_its_own_time_and_windows_outlive_their_samples() {
    let world = World::new();
    let blocks: Vec<_> = (0..4).map(|n| block(&world.disk, 90 + n, 12)).collect();
    world.ship(&blocks).expect("no fault");
    let (raw, five, hour) = (found(&world, 0), 8, 9);
    let rules = vec![rule(&[(0, five), (FIVE_MINUTES, hour)])];
    let pruner = worker(&world, "/work", rules.clone(), &[]);
    // Windows are made before any sample leaves: 8 jobs; then raw 90 and 91, windows of 90.
    assert_eq!(run(&world, &pruner), 8 + 2 + 1);
    let windows = found(&world, FIVE_MINUTES);
    assert!(!windows.contains_key(&("metric_1".to_owned(), 90)));
    assert!(windows.contains_key(&("metric_1".to_owned(), 91)), "its windows stay longer");
    assert!(windows.contains_key(&("metric_0".to_owned(), 90)));
    assert!(found(&world, HOUR).contains_key(&("metric_1".to_owned(), 90)), "hours stay for ever");
    let left = found(&world, 0);
    let samples_of =
        |all: &BTreeMap<(String, i64), usize>, range: i64| all.get(&("metric_1".to_owned(), range)).copied();
    assert_eq!(samples_of(&left, 92), samples_of(&raw, 92));
    assert_eq!((samples_of(&left, 90), samples_of(&left, 91)), (None, None));
    // All of it stands.
    assert_eq!(pruner.round(&CancelToken::default()).expect("no fault").jobs, 0);
    drop(pruner);
    // Merged raw blocks have less than the windows of what was merged: those stay.
    let mut merging = CompactorConfig { leaves: Vec::new(), ..CompactorConfig::new("/merge") };
    merging.retention.matchers = rules;
    merging.ladder = Ladder::new(vec![RANGE, 12 * RANGE]).expect("a ladder");
    let disk: Arc<dyn Disk> = Arc::new(world.disk.clone());
    let clock: Arc<dyn Clock> = world.clock.clone();
    world.clock.advance(Duration::from_secs(24 * 3600));
    let merger = Compactor::new(world.tenants.clone(), world.runtime.clone(), disk, clock, merging);
    let merger = merger.expect("a free directory");
    assert_eq!(merger.round(&CancelToken::default()).expect("no fault").jobs, 1);
    assert_eq!(found(&world, FIVE_MINUTES), windows);
}

#[test]
fn rules_are_remembered_through_merges_and_tenants_have_their_own() {
    let entry = |n: u64, field: &str, names: &[&str]| {
        let meta = pyrrha_storage::block::BlockMeta::of_head(BlockId::from_parts(n, 1), 0, RANGE);
        let mut entry = BlockEntry::of(&meta, 1);
        entry.other.insert(field.to_owned(), names.iter().copied().collect());
        Arc::new(entry)
    };
    let mut merged = (*entry(9, "x", &[])).clone();
    note(&mut merged, &[entry(1, PRUNED, &["a", "b"]), entry(2, PRUNED, &["b"])], &[]);
    assert_eq!(names(&merged, PRUNED), BTreeSet::from(["b".to_owned()]));
    assert_eq!(pruned_partly(&merged), BTreeSet::from(["a".to_owned(), "b".to_owned()]));
    assert_eq!(identity(&merged), merged.ulid, "it stands for itself");
    let mut again = (*entry(10, "x", &[])).clone();
    note(&mut again, &[Arc::new(merged.clone())], &["a".to_owned()]);
    assert_eq!(names(&again, PRUNED), pruned_partly(&again));
    assert_eq!(identity(&again), merged.ulid);
    let (a, b) = (TenantId::new("a").expect("valid"), TenantId::new("b").expect("valid"));
    let retention = Retention {
        matchers: vec![rule(&[(0, 1)])],
        tenant_matchers: BTreeMap::from([(b.clone(), Vec::new())]),
        ..Retention::default()
    };
    assert!(retention.is_some());
    assert_eq!((retention.matchers_of(&a).len(), retention.matchers_of(&b).len()), (1, 0));
}
