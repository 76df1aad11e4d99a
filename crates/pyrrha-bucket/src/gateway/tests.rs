//! The bucket answers as local blocks do, over stores that fail, and says what it lacks.

use std::time::Duration;

use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use pyrrha_model::contract::{LabelQuery, MemoryBudget, QueryContext, Queryable, SelectHints};
use pyrrha_model::{ErrorKind, MatchOp, Matcher, TimeRange};
use pyrrha_testkit::SimDisk;

use super::*;
use crate::door::Operation;
use crate::faulty::{Faults, FaultyStore};
use crate::worlds::{RANGE, World, block, id, select};

mod cost;

fn matcher(op: MatchOp, name: &str, value: &str) -> Matcher {
    Matcher::new(op, name, value).expect("a valid expression")
}

fn selectors() -> Vec<Vec<Matcher>> {
    use MatchOp::{Equal, NotEqual, NotRegex, Regex};
    vec![
        vec![],
        vec![matcher(Equal, "__name__", "metric_1")],
        vec![matcher(Regex, "__name__", "metric_[02]"), matcher(Equal, "zone", "a")],
        vec![matcher(Equal, "zone", "")],
        vec![matcher(NotEqual, "zone", "")],
        vec![matcher(Regex, "instance", "host-000.*"), matcher(NotRegex, "instance", ".*[13579]")],
        vec![matcher(Regex, "instance", ".+"), matcher(NotEqual, "__name__", "metric_0")],
        vec![matcher(Equal, "instance", "nobody")],
        vec![matcher(Equal, "nothing", "x"), matcher(Equal, "zone", "a")],
        vec![matcher(NotEqual, "nothing", "x")],
    ]
}

/// Everything that can be asked of both gives the same.
fn answers_as(world: &World, local: &dyn Queryable, ctx: &QueryContext) {
    let remote = world.queryable([]);
    let part = TimeRange::new(1_800_000, 1_900_000);
    for matchers in selectors() {
        for (range, limit) in
            [(TimeRange::ALL, 0), (part, 0), (TimeRange::ALL, 5), (TimeRange::new(-9, -1), 0)]
        {
            for shard in [None, Some((1, 3))] {
                let hints = SelectHints { limit, shard, ..SelectHints::default() };
                let expected = select(local, ctx, &matchers, range, &hints).expect("sound");
                let found = select(&remote, ctx, &matchers, range, &hints).expect("sound");
                assert_eq!(found, expected, "{matchers:?} {range:?} {limit}");
            }
        }
        let sets = if matchers.is_empty() { vec![] } else { vec![matchers.clone(), selectors()[1].clone()] };
        for range in [TimeRange::ALL, TimeRange::new(-9, -1)] {
            let query = LabelQuery::new(sets.clone(), range);
            assert_eq!(
                remote.label_names(ctx, &query).expect("sound"),
                local.label_names(ctx, &query).expect("sound")
            );
            let three = query.clone().limited_to(3);
            for name in ["__name__", "instance", "zone", "nothing"] {
                assert_eq!(
                    remote.label_values(ctx, name, &three).expect("sound"),
                    local.label_values(ctx, name, &three).expect("sound")
                );
            }
            let nine = query.limited_to(9);
            assert_eq!(remote.series(ctx, &nine).expect("sound"), local.series(ctx, &nine).expect("sound"));
        }
    }
}

#[test]
fn who_dies_while_it_reads_does_not_make_an_answer_shorter() {
    let disk = SimDisk::new(1);
    let store = FaultyStore::new(1, Faults::default());
    let shipper = World::on(disk.clone(), Arc::new(store.clone()), 1 << 20);
    shipper.ship(&[block(&disk, 0, 300)]).expect("no fault");
    let (ctx, hints) = (QueryContext::unlimited(), SelectHints::default());
    let all = |world: &World| select(&world.queryable([]), &ctx, &[], TimeRange::ALL, &hints);
    let expected = all(&shipper).expect("no fault");
    let mut died = 0;
    for reads in 0..200 {
        let world = World::on(SimDisk::new(reads), Arc::new(store.clone()), 0);
        world.tenants.discover().expect("reads");
        store.panics_after(reads as i64);
        let found = all(&world);
        store.panics_after(i64::MAX);
        match found {
            Err(_) => died += 1,
            Ok(found) => {
                assert!(found == expected, "after {reads} reads: {} of {}", found.len(), expected.len());
                break;
            }
        }
    }
    assert!((1..200).contains(&died), "{died}");
}

#[test]
fn the_bucket_answers_as_the_block_does() {
    for cache in [64 << 20, 100_000, 0] {
        let world = World::on(SimDisk::new(1), Arc::new(InMemory::new()), cache);
        let local = block(&world.disk, 0, 700);
        world.ship(std::slice::from_ref(&local)).expect("no fault");
        answers_as(&world, &local, &QueryContext::unlimited());
        assert!(world.gateway.stats().memory.bytes <= cache);
    }
}

#[test]
fn a_store_that_fails_now_and_then_answers_the_same() {
    let objects = Arc::new(InMemory::new());
    let calm = World::on(SimDisk::new(1), objects.clone(), 0);
    let local = block(&calm.disk, 0, 150);
    calm.ship(std::slice::from_ref(&local)).expect("no fault");
    let faults = Faults { hangs: 0, ..Faults::ROUGH };
    for seed in 0..2 {
        let store = FaultyStore::over(objects.clone(), seed, faults);
        let world = World::on(SimDisk::new(seed), Arc::new(store), 0);
        answers_as(&world, &local, &QueryContext::unlimited());
        assert!(world.bucket.counters().failures(Operation::GetRange) > 0);
    }
}

#[test]
fn a_query_costs_what_it_touches() {
    let world = World::new();
    let blocks: Vec<_> = (0..10).map(|n| block(&world.disk, n, 50)).collect();
    world.ship(&blocks).expect("no fault");
    let requests = |world: &World| world.bucket.counters().requests();
    let ctx = QueryContext::unlimited();
    let one = TimeRange::new(3 * RANGE, 4 * RANGE - 1);
    let ask = |world: &World| {
        select(&world.queryable([]), &ctx, &selectors()[1], one, &SelectHints::default())
            .expect("sound")
            .len()
    };
    // Another process opens: which tenants there are; the hint; whether the number is there, the next, and the one before; that
    // number and its base.
    let open = |disk: &SimDisk| World::on(disk.clone(), world.bucket.store(), 64 << 20);
    let other = open(&SimDisk::new(2));
    assert_eq!(ask(&other), 17);
    let counters = other.bucket.counters();
    assert_eq!((counters.attempts(Operation::List), counters.attempts(Operation::Head)), (1, 3));
    // A small index comes in one piece, and stays: header with postings and entries, chunks.
    assert_eq!(counters.attempts(Operation::GetRange), 2);
    let before = requests(&other);
    assert_eq!(ask(&other), 17);
    assert_eq!(requests(&other), before, "all of it is in memory");
    // After a restart the header is still here.
    drop(other.db);
    let again = World::on(other.disk, world.bucket.store(), 64 << 20);
    assert_eq!(ask(&again), 17);
    assert_eq!(again.bucket.counters().attempts(Operation::GetRange), 2, "index pages and chunks");
}

#[test]
fn a_block_that_is_here_too_is_read_here() {
    let world = World::new();
    let blocks = [block(&world.disk, 0, 20), block(&world.disk, 1, 20)];
    world.ship(&blocks).expect("no fault");
    let ctx = QueryContext::unlimited();
    let count = |local: Vec<BlockId>| {
        let found = select(&world.queryable(local), &ctx, &[], TimeRange::ALL, &SelectHints::default());
        found.expect("sound").iter().map(|(_, chunks)| chunks.len()).sum::<usize>()
    };
    assert_eq!(count(vec![]), 100);
    assert_eq!(count(vec![id(1)]), 50);
    assert_eq!(count(vec![id(1), id(2)]), 0);
}

#[test]
fn what_is_damaged_or_gone_is_named_or_a_gap() {
    let objects = Arc::new(InMemory::new());
    let world = World::on(SimDisk::new(1), objects.clone(), 1 << 20);
    let blocks = [block(&world.disk, 0, 20), block(&world.disk, 1, 20), block(&world.disk, 2, 20)];
    world.ship(&blocks).expect("no fault");
    let key = |n: u64, file: &str| Path::from(format!("prefix/anonymous/{}/{file}", id(n)));
    world.runtime.handle().block_on(async {
        objects.delete(&key(1, "index")).await.expect("it is there");
        let chunks =
            objects.get(&key(2, "chunks/000001")).await.expect("there").bytes().await.expect("bytes");
        let mut chunks = chunks.to_vec();
        chunks[100] ^= 4;
        objects.put(&key(2, "chunks/000001"), chunks.into()).await.expect("no fault");
    });
    let mut ctx = QueryContext::unlimited();
    let ask =
        |ctx: &QueryContext, range| select(&world.queryable([]), ctx, &[], range, &SelectHints::default());
    let error = ask(&ctx, TimeRange::new(0, RANGE - 1)).expect_err("the index is gone");
    assert!(
        error.kind() == ErrorKind::Unavailable && error.to_string().contains(&id(1).to_string()),
        "{error}"
    );
    let error = ask(&ctx, TimeRange::new(RANGE, 2 * RANGE - 1)).expect_err("a chunk is damaged");
    assert!(error.kind() == ErrorKind::Corrupt && error.to_string().contains(&id(2).to_string()), "{error}");
    assert_eq!(ask(&ctx, TimeRange::new(2 * RANGE, 3 * RANGE)).expect("sound").len(), 20);
    ctx.partial_response = true;
    ask(&ctx, TimeRange::ALL).expect("what there is");
    let mut gaps: Vec<i64> = ctx.notices.gaps().iter().map(|(range, _)| range.start).collect();
    gaps.sort_unstable();
    assert_eq!(gaps, [0, RANGE]);
}

#[test]
fn the_budget_of_a_query_holds_and_is_given_back() {
    let world = World::new();
    let local = block(&world.disk, 0, 700);
    world.ship(std::slice::from_ref(&local)).expect("no fault");
    for limit in [100, 3_000, 30_000, 90_000] {
        let budget = MemoryBudget::new("query", limit, None);
        let ctx = QueryContext { budget: budget.clone(), ..QueryContext::unlimited() };
        let error = select(&world.queryable([]), &ctx, &[], TimeRange::ALL, &SelectHints::default())
            .expect_err("it does not fit");
        assert_eq!(error.kind(), ErrorKind::Limit, "{limit}: {error}");
        assert!(budget.peak() <= limit);
        // What runs beside ends soon after the query.
        for _ in 0..4000 {
            if budget.used() > 0 {
                world.runtime.handle().block_on(async { tokio::time::sleep(Duration::from_millis(5)).await });
            }
        }
        assert_eq!(budget.used(), 0, "{limit}");
    }
}

#[test]
fn a_kept_header_that_is_damaged_is_fetched_again() {
    let world = World::new();
    let local = block(&world.disk, 0, 30);
    world.ship(std::slice::from_ref(&local)).expect("no fault");
    let ctx = QueryContext::unlimited();
    let ask = |world: &World| {
        select(&world.queryable([]), &ctx, &[], TimeRange::ALL, &SelectHints::default()).expect("sound").len()
    };
    assert_eq!(ask(&world), 30);
    let kept = std::path::PathBuf::from(format!("/cache/anonymous/{}.header", id(1)));
    world.disk.flip_bit(&kept, 40, 3).expect("it is there");
    drop(world.db);
    let again = World::on(world.disk, world.bucket.store(), 1 << 20);
    assert_eq!(ask(&again), 30);
}

#[test]
fn headers_of_blocks_that_are_gone_are_removed() {
    let world = World::new();
    let blocks = [block(&world.disk, 0, 5), block(&world.disk, 1, 5)];
    world.ship(&blocks).expect("no fault");
    let ctx = QueryContext::unlimited();
    select(&world.queryable([]), &ctx, &[], TimeRange::ALL, &SelectHints::default()).expect("sound");
    let kept = || -> Vec<String> {
        let listed = world.disk.list("/cache/anonymous".as_ref()).expect("it is there");
        listed.into_iter().map(|entry| entry.name).collect()
    };
    let header = |n| format!("{}.header", id(n));
    assert_eq!(kept(), [header(1), header(2)]);
    // Of a server that ran before.
    for name in [header(9), format!("{}.tmp", id(9))] {
        world.disk.create_new(&std::path::Path::new("/cache/anonymous").join(name)).expect("no fault");
    }
    world.gateway.refresh().expect("no fault");
    assert_eq!(kept(), [header(1), header(2)]);
    world.tenants.manifest(&World::tenant()).expect("reads").commit(&[], &[id(1)]).expect("no fault");
    world.gateway.refresh().expect("no fault");
    assert_eq!(kept(), [header(2)]);
}
