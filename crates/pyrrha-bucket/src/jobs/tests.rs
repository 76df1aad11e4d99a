//! Workers on one bucket: what they leave is what was there, once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use object_store::memory::InMemory;
use pyrrha_encoding::{SeriesSamples, Want, decode_series};
use pyrrha_env::{Clock, Disk};
use pyrrha_model::contract::{
    CancelToken, Delete, DeleteId, QueryContext, Queryable, SelectHints, SeriesBatch,
};
use pyrrha_model::{Matcher, TenantId, TimeRange};
use pyrrha_storage::block::Block;
use pyrrha_storage::manifest::{Change, DeleteEntry, ManifestState};
use pyrrha_testkit::{SimClock, SimDisk};

mod marked;
mod rewritten;
mod sharded;

use super::directory::BoardJob;
use super::*;
use crate::door::{Bucket, RetryPolicy};
use crate::faulty::{Faults, FaultyStore};
use crate::runtime::BucketRuntime;
use crate::tenants::BucketTenants;
use crate::worlds::{RANGE, World, block, write};

/// Samples, as bits, by series.
type Samples = BTreeMap<String, BTreeMap<i64, u64>>;

fn samples(from: &dyn Queryable) -> Samples {
    let ctx = QueryContext::unlimited();
    let mut set = from.select(&ctx, &[], TimeRange::ALL, &SelectHints::default()).expect("selects");
    let (mut batch, mut decoded, mut found) =
        (SeriesBatch::default(), SeriesSamples::default(), Samples::new());
    while set.next_batch(64, &mut batch).expect("reads") {
        for entry in &batch.series {
            decode_series(entry, TimeRange::ALL, Want::default(), &mut decoded).expect("decodes");
            let pairs =
                decoded.floats.times.iter().copied().zip(decoded.floats.values.iter().map(|v| v.to_bits()));
            if decoded.floats.times.is_empty() {
                continue;
            }
            found.entry(batch.resolve(&ctx.symbols, entry).to_string()).or_default().extend(pairs);
        }
    }
    found
}

fn count(samples: &Samples) -> u64 {
    samples.values().map(|s| s.len() as u64).sum()
}

/// A worker process.
struct Worker {
    compactor: Compactor,
    clock: Arc<SimClock>,
    store: FaultyStore,
}

impl Worker {
    fn new(objects: &Arc<InMemory>, seed: u64, faults: Faults) -> Self {
        let policy = RetryPolicy {
            attempts: 8,
            first_wait: Duration::from_millis(1),
            longest_wait: Duration::from_millis(4),
            timeout: Duration::from_millis(80),
            ..RetryPolicy::default()
        };
        let runtime = Arc::new(BucketRuntime::start(1).expect("threads"));
        let store = FaultyStore::over(objects.clone(), seed, faults);
        let bucket = Bucket::new(Arc::new(store.clone()), "test", "prefix", policy);
        let clock = Arc::new(SimClock::new(100 * RANGE));
        let shared: Arc<dyn Clock> = clock.clone();
        let tenants = Arc::new(BucketTenants::new(bucket, runtime.clone(), shared.clone()));
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(seed));
        let config = CompactorConfig {
            lease_timeout: Duration::from_secs(1),
            delete_delay: Duration::ZERO,
            trust_own_clock: true,
            replica_labels: vec!["replica".to_owned()],
            ..CompactorConfig::new("/scratch")
        };
        let compactor = Compactor::new(tenants, runtime, disk, shared, config).expect("a free directory");
        Self { compactor, clock, store }
    }

    fn reconfigure(&mut self, change: impl FnOnce(&mut CompactorConfig)) {
        let mut config = self.compactor.config().clone();
        config.scratch_dir = "/other".into();
        change(&mut config);
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(77));
        let (tenants, runtime) = (self.compactor.tenants().clone(), self.compactor.runtime().clone());
        self.compactor =
            Compactor::new(tenants, runtime, disk, self.clock.clone(), config).expect("a free directory");
    }

    fn round(&self) -> Round {
        self.compactor.round(&CancelToken::default()).expect("no fault")
    }

    /// As `pyrrha bucket cleanup --orphans-older-than 0s` does.
    fn remove_orphans(&self) -> usize {
        let clock: Arc<dyn Clock> = self.clock.clone();
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
        let (tenants, runtime) = (self.compactor.tenants().clone(), self.compactor.runtime().clone());
        let tools = crate::tools::BucketTools::new(tenants, runtime, disk, clock);
        tools.remove_orphans(&TenantId::anonymous(), Duration::ZERO, false).expect("no fault").len()
    }

    fn state(&self) -> Arc<ManifestState> {
        let manifest = self.compactor.tenants().manifest(&TenantId::anonymous()).expect("reads");
        manifest.refresh().expect("reads")
    }

    fn keys(&self) -> Vec<String> {
        let bucket = self.compactor.tenants().bucket().clone();
        let listed = self.compactor.runtime().wait(async move { bucket.list("anonymous").await });
        listed.expect("lists").into_iter().map(|o| o.key).collect()
    }

    /// Directories of blocks, and jobs, that are in the bucket.
    fn left(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        let (mut blocks, mut jobs) = (BTreeSet::new(), BTreeSet::new());
        for key in self.keys() {
            let parts: Vec<&str> = key.split('/').collect();
            match parts.as_slice() {
                [_, "manifest", _] | [_, "jobs", "clock"] => {}
                [_, "jobs", job, _] => drop(jobs.insert((*job).to_owned())),
                [_, block, ..] => drop(blocks.insert((*block).to_owned())),
                _ => {}
            }
        }
        (blocks, jobs)
    }
}

/// Ships blocks, and gives what they hold.
fn fill(objects: &Arc<InMemory>, make: impl FnOnce(&SimDisk) -> Vec<Block>) -> Samples {
    let world = World::on(SimDisk::new(1), objects.clone(), 8 << 20);
    let blocks = make(&world.disk);
    world.ship(&blocks).expect("no fault");
    samples(&world.queryable([]))
}

fn read(objects: &Arc<InMemory>) -> Samples {
    let world = World::on(SimDisk::new(1), objects.clone(), 8 << 20);
    world.tenants.manifest(&World::tenant()).expect("reads");
    samples(&world.queryable([]))
}

#[test]
fn one_worker_climbs_the_ladder_and_leaves_nothing() {
    let objects = Arc::new(InMemory::new());
    let expected = fill(&objects, |disk| (0..14).map(|n| block(disk, n, 20)).collect());
    let worker = Worker::new(&objects, 1, Faults::default());
    let plan = worker.compactor.overview().expect("reads");
    assert!(plan.is_empty(), "no tenant is known yet");
    let round = worker.round();
    assert!(round.jobs >= 3 && !round.waits, "{round:?}");
    let state = worker.state();
    let ranges: Vec<(i64, i64, u32)> = state
        .overlapping(TimeRange::ALL)
        .iter()
        .map(|b| (b.min_time / RANGE, b.max_time / RANGE, b.level))
        .collect();
    assert_eq!(ranges, [(0, 12, 3), (12, 14, 2)]);
    assert!(read(&objects) == expected);
    assert_eq!(state.blocks.values().map(|b| b.samples).sum::<u64>(), count(&expected));
    let (blocks, jobs) = worker.left();
    assert_eq!(blocks, state.blocks.keys().map(ToString::to_string).collect());
    assert_eq!(jobs.len(), 0, "{jobs:?}");
    let metrics = worker.compactor.metrics();
    assert_eq!(metrics.jobs_done.load(Ordering::Relaxed), 4);
    assert_eq!(metrics.planned_jobs.load(Ordering::Relaxed), 0);
    assert_eq!(worker.round(), Round::default());
}

/// What ends of leases name, each as often as it is named.
fn named(worker: &Worker) -> BTreeMap<BlockId, usize> {
    let board = worker.compactor.directory(&TenantId::anonymous()).load().expect("reads");
    let mut named = BTreeMap::new();
    for ended in board.values().flat_map(BoardJob::ended) {
        ended.record.named().for_each(|block| *named.entry(block).or_default() += 1);
    }
    named
}

#[test]
fn blocks_stay_for_the_delay_from_when_they_were_replaced_not_from_when_they_were_made() {
    let objects = Arc::new(InMemory::new());
    fill(&objects, |disk| (0..14).map(|n| block(disk, n, 6)).collect());
    let mut worker = Worker::new(&objects, 1, Faults::default());
    worker.reconfigure(|config| config.delete_delay = Duration::from_secs(3600));
    worker.round();
    let live = worker.state();
    let there = worker.left().0;
    let replaced = there.iter().filter_map(|name| name.parse::<BlockId>().ok());
    let replaced: BTreeSet<BlockId> = replaced.filter(|block| !live.blocks.contains_key(block)).collect();
    assert_eq!(replaced.len(), 16, "fourteen that were shipped, and two that were made of them");
    // Each by the one job that replaced it: whoever made it has ended long before that, maybe.
    assert_eq!(named(&worker), replaced.into_iter().map(|block| (block, 1)).collect());
    // A delete that hides nothing: the block stays as it is.
    let manifest = worker.compactor.tenants().manifest(&TenantId::anonymous()).expect("reads");
    let before = named(&worker);
    let deletes = vec![delete(7, "nobody", i64::MIN, i64::MAX, true)];
    manifest.commit_change(&Change { deletes, ..Change::default() }).expect("commits");
    assert_eq!(worker.round().jobs, 2);
    assert_eq!(worker.state().blocks.keys().collect::<Vec<_>>(), live.blocks.keys().collect::<Vec<_>>());
    assert!(
        named(&worker)
            .into_iter()
            .all(|(block, n)| before.get(&block) == Some(&n) || !live.blocks.contains_key(&block))
    );
}

#[test]
fn what_another_has_cleaned_up_since_the_listing_is_left_alone() {
    let objects = Arc::new(InMemory::new());
    fill(&objects, |disk| (0..6).map(|n| block(disk, n, 6)).collect());
    let mut worker = Worker::new(&objects, 1, Faults::default());
    worker.reconfigure(|config| config.delete_delay = Duration::from_secs(3600));
    worker.round();
    let tenant = TenantId::anonymous();
    let board = worker.compactor.board(&tenant, &worker.compactor.directory(&tenant)).expect("reads");
    assert!(named(&worker).contains_key(&crate::worlds::id(1)), "a job has replaced it");
    worker.reconfigure(|config| config.delete_delay = Duration::ZERO);
    worker.compactor.tenants().discover().expect("reads");
    Worker::new(&objects, 2, Faults::default()).round();
    assert_eq!(worker.left().1.len(), 0, "it was cleaned up");
    // Somebody brings it back.
    let key = format!("anonymous/{}/meta.json", crate::worlds::id(1));
    marked::put(&worker, &key, bytes::Bytes::from_static(b"{}"));
    worker.compactor.clean_up(&tenant, &board).expect("no fault");
    assert!(worker.keys().iter().any(|there| there.ends_with(&key)), "{:?}", worker.keys());
}

#[test]
fn what_a_dead_worker_had_committed_is_named_by_nobody_while_it_is_live() {
    let objects = Arc::new(InMemory::new());
    fill(&objects, |disk| (0..6).map(|n| block(disk, n, 6)).collect());
    let workers = [2, 3].map(|seed| {
        let mut worker = Worker::new(&objects, seed, Faults::default());
        worker.reconfigure(|config| config.delete_delay = Duration::from_secs(3600));
        worker
    });
    let [died, other] = &workers;
    died.round();
    // As if it had died between the commit and its end.
    let ends: Vec<String> = died.keys().into_iter().filter(|key| key.ends_with(".end")).collect();
    assert!(!ends.is_empty());
    died.compactor.directory(&TenantId::anonymous()).remove(ends).expect("no fault");
    other.round();
    other.clock.advance(Duration::from_millis(1_001));
    other.round();
    other.clock.advance(Duration::from_millis(1_001));
    other.round();
    let (live, named) = (other.state(), named(other));
    assert!(live.blocks.keys().all(|block| !named.contains_key(block)), "{named:?}");
    assert!((0..6).all(|n| named.contains_key(&crate::worlds::id(n + 1))), "{named:?}");
}

#[test]
fn a_job_of_a_dead_worker_is_taken_over_and_cannot_be_committed() {
    let objects = Arc::new(InMemory::new());
    let expected = fill(&objects, |disk| (0..8).map(|n| block(disk, n, 10)).collect());
    // It dies somewhere on the way, each time later.
    let other = Worker::new(&objects, 2, Faults::default());
    for requests in [12, 30, 40, 50, 60, 70] {
        let dying = Worker::new(&objects, requests as u64, Faults::default());
        dying.store.dies_after(requests);
        let _ = dying.compactor.round(&CancelToken::default());
    }
    other.round();
    other.clock.advance(Duration::from_millis(1_001));
    for _ in 0..3 {
        other.round();
        other.clock.advance(Duration::from_millis(1_001));
    }
    assert!(read(&objects) == expected);
    let state = other.state();
    assert_eq!(state.blocks.values().map(|b| b.samples).sum::<u64>(), count(&expected));
    let (blocks, jobs) = other.left();
    assert_eq!(blocks, state.blocks.keys().map(ToString::to_string).collect());
    assert_eq!((jobs.len(), state.revoked.len()), (0, 0), "{jobs:?}");
}

#[test]
fn what_no_job_has_named_is_never_removed() {
    let objects = Arc::new(InMemory::new());
    fill(&objects, |disk| (0..8).map(|n| block(disk, n, 5)).collect());
    let worker = Worker::new(&objects, 1, Faults::default());
    let foreign = "anonymous/01ARZ3NDEKTSV4RRFFQ69G5FAV/chunks/000001";
    let bucket = worker.compactor.tenants().bucket().clone();
    worker
        .compactor
        .runtime()
        .wait(async move { bucket.put(foreign, Bytes::from("an upload that goes on")).await })
        .expect("no fault");
    worker.round();
    worker.clock.advance(Duration::from_secs(1_000_000));
    worker.round();
    assert!(worker.keys().iter().any(|key| key == foreign));
}

#[test]
fn a_damaged_block_is_set_aside_and_the_others_go_on() {
    let objects = Arc::new(InMemory::new());
    fill(&objects, |disk| (0..14).map(|n| block(disk, n, 5)).collect());
    let worker = Worker::new(&objects, 1, Faults::default());
    worker.compactor.tenants().discover().expect("reads");
    let victim = worker.state().overlapping(TimeRange::ALL)[2].ulid;
    let bucket = worker.compactor.tenants().bucket().clone();
    worker
        .compactor
        .runtime()
        .wait(async move {
            let key = format!("anonymous/{victim}/chunks/000001");
            let mut bytes = bucket.get(&key, 1 << 20).await?.expect("it is there").to_vec();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0xff;
            bucket.put(&key, bytes.into()).await
        })
        .expect("no fault");
    worker.round();
    let state = worker.state();
    assert!(state.blocks[&victim].other["setAside"].as_str().expect("a reason").contains("corrupt"));
    assert_eq!(worker.compactor.metrics().blocks_set_aside.load(Ordering::Relaxed), 1);
    // Its window is merged without it.
    let ranges: Vec<(i64, i64)> =
        state.overlapping(TimeRange::ALL).iter().map(|b| (b.min_time / RANGE, b.max_time / RANGE)).collect();
    assert_eq!(ranges, [(0, 12), (2, 3), (12, 14)]);
    let overview = worker.compactor.overview().expect("reads");
    assert_eq!(overview[0].set_aside.len(), 1);
    assert!(overview[0].jobs.iter().all(|job| job.phase == JobPhase::Failed));
}

#[test]
fn replicas_become_one() {
    let objects = Arc::new(InMemory::new());
    fill(&objects, |disk| {
        let of = |n: u64, replica: &str| {
            let mut meta = pyrrha_storage::block::BlockMeta::of_head(crate::worlds::id(n), 0, RANGE);
            let labels = [("cluster", "eu"), ("replica", replica)];
            meta.thanos = Some(pyrrha_storage::block::ThanosMeta {
                labels: Some(labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into()),
                ..Default::default()
            });
            write(disk, meta, &crate::worlds::series(0, 10))
        };
        vec![of(1, "a"), of(2, "b")]
    });
    let worker = Worker::new(&objects, 1, Faults::default());
    worker.round();
    let state = worker.state();
    let only: Vec<_> = state.blocks.values().collect();
    assert_eq!(only.len(), 1);
    assert_eq!(only[0].other["labels"], serde_json::json!({"cluster": "eu"}));
    assert_eq!(only[0].samples, count(&read(&objects)));
}

#[test]
fn what_is_past_retention_goes_when_the_clocks_agree() {
    let objects = Arc::new(InMemory::new());
    let before = fill(&objects, |disk| (0..14).map(|n| block(disk, n, 5)).collect());
    let mut worker = Worker::new(&objects, 1, Faults::default());
    // The world's clock shows the 100th range: eight blocks are older than 92 ranges.
    worker.reconfigure(|config| {
        config.retention.raw = Duration::from_millis(92 * RANGE as u64);
        config.trust_own_clock = true;
        config.ladder = Ladder::new(vec![RANGE]).expect("a ladder");
    });
    worker.round();
    assert_eq!(worker.state().blocks.len(), 14, "one look at the clock is none");
    worker.clock.advance(Duration::from_secs(3600));
    worker.round();
    let state = worker.state();
    assert!(state.blocks.values().all(|b| b.min_time >= 8 * RANGE), "{:?}", state.blocks.keys());
    assert_eq!(state.blocks.len(), 6);
    assert!(state.covers(crate::worlds::id(1)), "whoever has it does not ship it again");
    assert_eq!(worker.left().0, state.blocks.keys().map(ToString::to_string).collect());
    let left = read(&objects);
    assert!(count(&left) < count(&before));
    assert!(left.values().flat_map(|s| s.keys()).all(|&t| t >= 8 * RANGE));
}

fn delete(n: u128, i: &str, from: i64, to: i64, is_final: bool) -> DeleteEntry {
    DeleteEntry::of(&Delete {
        id: DeleteId(n),
        matcher_sets: vec![vec![Matcher::equal("instance", format!("host-{i}"))]],
        range: TimeRange::new(from, to),
        at: 100 * RANGE,
        is_final,
    })
}

fn without(mut samples: Samples, i: &str, from: i64, to: i64) -> Samples {
    for (_, values) in samples.iter_mut().filter(|(labels, _)| labels.contains(&format!("host-{i}"))) {
        values.retain(|&t, _| t < from || t > to);
    }
    samples.retain(|_, values| !values.is_empty());
    samples
}

#[test]
fn deletes_hide_at_once_stay_through_merges_and_leave_the_bucket_when_final() {
    let objects = Arc::new(InMemory::new());
    let before = fill(&objects, |disk| (0..14).map(|n| block(disk, n, 8)).collect());
    let worker = Worker::new(&objects, 1, Faults::default());
    worker.compactor.tenants().discover().expect("reads");
    let manifest = worker.compactor.tenants().manifest(&TenantId::anonymous()).expect("reads");
    let deletes = |deletes| Change { deletes, ..Change::default() };
    let all = delete(7, "00003", i64::MIN, i64::MAX, false);
    let part = delete(8, "00004", RANGE, 3 * RANGE, false);
    manifest.commit_change(&deletes(vec![all.clone()])).expect("commits");
    manifest.commit_change(&deletes(vec![part])).expect("commits");
    let hidden = without(without(before.clone(), "00003", i64::MIN, i64::MAX), "00004", RANGE, 3 * RANGE);
    assert!(count(&hidden) < count(&before) && hidden != before);
    assert!(read(&objects) == hidden, "at once");
    worker.round();
    let state = worker.state();
    assert_eq!(state.blocks.len(), 2, "merged with what is hidden");
    assert_eq!(state.blocks.values().map(|b| b.samples).sum::<u64>(), count(&before));
    assert!(read(&objects) == hidden);
    // One is taken back.
    let taken_back = state.deletes.iter().find(|d| d.id == all.id).expect("it stands").number;
    manifest.commit_change(&Change { deletes_done: vec![taken_back], ..Change::default() }).expect("commits");
    let left = without(before, "00004", RANGE, 3 * RANGE);
    assert!(read(&objects) == left);
    // The other becomes final, and is forgotten when nothing is left of it.
    worker.clock.advance(Duration::from_secs(24 * 3600));
    worker.round();
    let state = worker.state();
    assert_eq!(state.blocks.values().map(|b| b.samples).sum::<u64>(), count(&left), "gone from the bucket");
    assert!(state.deletes[0].is_final);
    worker.clock.advance(Duration::from_secs(24 * 3600));
    worker.round();
    assert!(worker.state().deletes.is_empty());
    assert!(read(&objects) == left);
    assert_eq!(worker.left().0, worker.state().blocks.keys().map(ToString::to_string).collect());
}

#[test]
fn a_clock_that_is_ahead_makes_no_delete_final() {
    let objects = Arc::new(InMemory::new());
    fill(&objects, |disk| (0..2).map(|n| block(disk, n, 8)).collect());
    let mut worker = Worker::new(&objects, 1, Faults::default());
    worker.reconfigure(|config| config.trust_own_clock = false);
    worker.compactor.tenants().discover().expect("reads");
    let manifest = worker.compactor.tenants().manifest(&TenantId::anonymous()).expect("reads");
    let deletes = vec![delete(8, "00004", i64::MIN, i64::MAX, false)];
    manifest.commit_change(&Change { deletes, ..Change::default() }).expect("commits");
    worker.clock.advance(Duration::from_secs(25 * 3600));
    worker.round();
    assert!(!worker.state().deletes[0].is_final, "the store's clock does not agree");
    worker.reconfigure(|config| config.trust_own_clock = true);
    worker.round();
    assert!(worker.state().deletes[0].is_final);
}

#[test]
fn a_block_that_is_deleted_wholly_goes_for_good() {
    let objects = Arc::new(InMemory::new());
    fill(&objects, |disk| (0..2).map(|n| block(disk, n, 1)).collect());
    let mut worker = Worker::new(&objects, 1, Faults::default());
    worker.reconfigure(|config| config.ladder = Ladder::new(vec![RANGE]).expect("a ladder"));
    worker.compactor.tenants().discover().expect("reads");
    let manifest = worker.compactor.tenants().manifest(&TenantId::anonymous()).expect("reads");
    let all = delete(7, "00000", i64::MIN, RANGE - 1, true);
    manifest.commit_change(&Change { deletes: vec![all], ..Change::default() }).expect("commits");
    worker.round();
    let state = worker.state();
    assert_eq!(state.overlapping(TimeRange::ALL).iter().map(|b| b.min_time).collect::<Vec<_>>(), [RANGE]);
    assert!(state.covers(crate::worlds::id(1)));
    assert_eq!(worker.left().0.len(), 1);
}

#[test]
fn raw_blocks_wait_for_their_windows() {
    let objects = Arc::new(InMemory::new());
    fill(&objects, |disk| (0..14).map(|n| block(disk, n, 5)).collect());
    let mut worker = Worker::new(&objects, 1, Faults::default());
    worker.reconfigure(|config| {
        config.retention.raw = Duration::from_millis(92 * RANGE as u64);
        config.retention.resolutions = [(300_000, Duration::ZERO), (3_600_000, Duration::ZERO)].into();
        config.trust_own_clock = true;
        config.ladder = Ladder::new(vec![RANGE]).expect("a ladder");
        config.leaves.clear();
    });
    worker.compactor.tenants().discover().expect("reads");
    let state = worker.state();
    let now = 100 * RANGE;
    assert!(worker.compactor.expired(&TenantId::anonymous(), &state, now).is_none(), "not downsampled yet");
    worker.round();
    worker.clock.advance(Duration::from_secs(3600));
    worker.round();
    let state = worker.state();
    let of = |resolution: i64| state.blocks.values().filter(move |b| b.resolution == resolution);
    assert!(of(0).all(|b| b.min_time >= 8 * RANGE));
    assert!(of(300_000).any(|b| b.min_time < 8 * RANGE), "windows stay");
}

#[test]
fn raw_blocks_do_not_wait_for_windows_that_are_past_retention_themselves() {
    let objects = Arc::new(InMemory::new());
    fill(&objects, |disk| (0..14).map(|n| block(disk, n, 5)).collect());
    let mut worker = Worker::new(&objects, 1, Faults::default());
    worker.reconfigure(|config| {
        config.retention.raw = Duration::from_millis(92 * RANGE as u64);
        config.ladder = Ladder::new(vec![RANGE]).expect("a ladder");
        config.leaves.clear();
    });
    worker.compactor.tenants().discover().expect("reads");
    let gone = worker.compactor.expired(&TenantId::anonymous(), &worker.state(), 100 * RANGE);
    assert_eq!(gone.expect("some").replaces.len(), 8);
}

/// Workers that fail, sleep, are taken for dead and, if they are `mortal`, die, on a bucket that fails; then
/// one that does not. All of them remove at once what ended jobs left.
fn storm(workers: u64, seed: u64, mortal: bool) {
    storm_of(workers, seed, mortal, crate::shard::BlockTargets::default());
}

/// The same, where blocks become only so large.
fn storm_of(workers: u64, seed: u64, mortal: bool, targets: crate::shard::BlockTargets) {
    let objects = Arc::new(InMemory::new());
    let shards = if targets.series > 0 { 2 } else { 1 };
    let expected = fill(&objects, |disk| {
        let count = if shards > 1 { 40 } else { 6 };
        let mut blocks: Vec<Block> = (0..14).map(|n| block(disk, n, count)).collect();
        // What came late overlaps.
        let late = pyrrha_storage::block::BlockMeta::of_head(crate::worlds::id(200), 3 * RANGE, 4 * RANGE);
        blocks.push(write(disk, late, &crate::worlds::series(3, 9)));
        blocks
    });
    std::thread::scope(|scope| {
        for worker in 0..workers {
            let objects = &objects;
            scope.spawn(move || {
                for life in 0..3u64 {
                    let number = (seed * 100 + worker) * 10 + life;
                    let mut worker = Worker::new(objects, number, Faults::ROUGH);
                    worker.reconfigure(|config| config.targets = targets);
                    if mortal && life < 2 {
                        worker.store.dies_after(40 + (number * 37 % 160) as i64);
                    }
                    for _ in 0..2 {
                        let _ = worker.compactor.round(&CancelToken::default());
                        // Who is slow is taken for dead.
                        worker.clock.advance(Duration::from_millis(1_001));
                    }
                }
            });
        }
    });
    let mut last = Worker::new(&objects, 9, Faults::default());
    last.reconfigure(|config| config.targets = targets);
    for _ in 0..6 {
        last.round();
        last.clock.advance(Duration::from_secs(100));
    }
    assert!(read(&objects) == expected, "seed={seed}");
    let state = last.state();
    assert_eq!(state.blocks.values().map(|b| b.samples).sum::<u64>(), count(&expected), "seed={seed}");
    if mortal {
        // Who died after others had taken over and cleaned up, and before it could say so, has left what
        // nobody knows of.
        last.remove_orphans();
    }
    let (blocks, jobs) = last.left();
    assert_eq!(blocks, state.blocks.keys().map(ToString::to_string).collect(), "seed={seed}");
    assert_eq!((jobs.len(), state.revoked.len()), (0, 0), "seed={seed} {jobs:?}");
    let ranges: Vec<(i64, i64)> =
        state.overlapping(TimeRange::ALL).iter().map(|b| (b.min_time / RANGE, b.max_time / RANGE)).collect();
    let wanted: Vec<(i64, i64)> =
        [(0, 12), (12, 14)].into_iter().flat_map(|range| std::iter::repeat_n(range, shards)).collect();
    assert_eq!(ranges, wanted, "seed={seed}");
}

/// More with `PYRRHA_SEEDS`.
fn seeds(usual: u64) -> std::ops::Range<u64> {
    0..std::env::var("PYRRHA_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

#[test]
fn two_workers_in_a_storm() {
    seeds(3).for_each(|seed| storm(2, seed, true));
    seeds(2).for_each(|seed| storm(2, 500 + seed, false));
}

#[test]
fn workers_that_split_in_a_storm() {
    let targets = crate::shard::BlockTargets { series: 30, index_bytes: 0, splits: true };
    seeds(2).for_each(|seed| storm_of(3, 3000 + seed, true, targets));
    seeds(1).for_each(|seed| storm_of(3, 3500 + seed, false, targets));
}

#[test]
fn four_workers_in_a_storm() {
    seeds(1).for_each(|seed| storm(4, 1000 + seed, true));
    seeds(1).for_each(|seed| storm(4, 1500 + seed, false));
}

#[test]
fn eight_workers_in_a_storm() {
    seeds(1).for_each(|seed| storm(8, 2000 + seed, true));
}

#[test]
fn eight_workers_that_live_in_a_storm() {
    seeds(1).for_each(|seed| storm(8, 2500 + seed, false));
}

#[test]
fn metrics_tell_of_jobs_before_they_are_done_and_as_overviews_do() {
    let objects = Arc::new(InMemory::new());
    fill(&objects, |disk| (0..14).map(|n| block(disk, n, 6)).collect());
    let tenant = TenantId::anonymous();
    let of = |worker: &Worker| {
        let metrics = worker.compactor.metrics();
        (metrics.planned_jobs.load(Ordering::Relaxed), metrics.backlog_bytes.load(Ordering::Relaxed))
    };
    let looking = Worker::new(&objects, 1, Faults::default());
    let plan = looking.compactor.overview_of(&tenant).expect("reads");
    assert!(plan.jobs.len() > 1 && plan.backlog_bytes > 0);
    // Whoever has opened it counts it.
    looking.compactor.tenants().discover().expect("reads");
    looking.compactor.overview_of(&tenant).expect("reads");
    assert_eq!(of(&looking), (plan.jobs.len() as u64, plan.backlog_bytes));
    // A worker does so before it begins.
    let worker = Worker::new(&objects, 2, Faults::default());
    let stopped = CancelToken::default();
    stopped.cancel(pyrrha_model::contract::CancelReason::Canceled);
    worker.compactor.round(&stopped).expect("nothing to do");
    assert_eq!(of(&worker), of(&looking));
    worker.round();
    assert_eq!(of(&worker), (0, 0));
}

#[test]
fn what_does_not_go_by_waiting_is_not_waited_for() {
    let objects = Arc::new(InMemory::new());
    fill(&objects, |disk| (0..14).map(|n| block(disk, n, 6)).collect());
    let worker = Worker::new(&objects, 1, Faults::default());
    let bad = "broken/manifest/00000000000000000001.json";
    marked::put(&worker, bad, Bytes::from_static(b"{"));
    let (round, result) = worker.compactor.try_round(&CancelToken::default());
    assert_eq!(result.expect_err("a manifest is damaged").kind(), pyrrha_model::ErrorKind::Corrupt);
    assert!(round.jobs >= 3 && !round.waits, "{round:?}");
}

#[test]
fn a_job_that_fails_is_not_tried_again_at_once_where_files_go_at_once() {
    let objects = Arc::new(InMemory::new());
    fill(&objects, |disk| (0..14).map(|n| block(disk, n, 6)).collect());
    let worker = Worker::new(&objects, 1, Faults::default());
    worker.compactor.tenants().discover().expect("reads");
    let victim = worker.state().overlapping(TimeRange::ALL)[2].ulid;
    let (bucket, key) =
        (worker.compactor.tenants().bucket().clone(), format!("anonymous/{victim}/chunks/000001"));
    worker.compactor.runtime().wait(async move { bucket.delete(&key).await }).expect("no fault");
    let failures = || worker.compactor.metrics().jobs_failed.load(Ordering::Relaxed);
    worker.round();
    let before = failures();
    assert!(before > 0);
    for _ in 0..5 {
        worker.round();
    }
    assert_eq!(failures(), before, "it waits for its next attempt");
    worker.clock.advance(Duration::from_secs(600));
    worker.round();
    assert!(failures() > before, "which comes");
}

#[test]
fn who_only_counts_jobs_asks_for_nothing_where_nothing_is_to_do() {
    let objects = Arc::new(InMemory::new());
    fill(&objects, |disk| (0..14).map(|n| block(disk, n, 6)).collect());
    let (worker, counting) =
        (Worker::new(&objects, 1, Faults::default()), Worker::new(&objects, 2, Faults::default()));
    let of = |worker: &Worker| {
        let metrics = worker.compactor.metrics();
        (metrics.planned_jobs.load(Ordering::Relaxed), metrics.backlog_bytes.load(Ordering::Relaxed))
    };
    counting.compactor.tenants().discover().expect("reads");
    counting.compactor.count_all().expect("reads");
    worker.compactor.tenants().discover().expect("reads");
    worker.compactor.overview().expect("reads");
    assert!(of(&counting).0 > 0 && of(&counting) == of(&worker), "{:?}", of(&counting));
    worker.round();
    counting.state();
    let requests = || counting.compactor.tenants().bucket().counters().requests();
    let before = requests();
    for _ in 0..5 {
        counting.compactor.count_all().expect("reads");
    }
    assert_eq!((of(&counting), requests() - before), ((0, 0), 0));
}
