//! What reading costs: requests within the formula of docs/format/cache.md, memory within budgets.

use std::time::Duration;

use pyrrha_model::contract::{FetchedCounts, SeriesBatch};
use pyrrha_storage::block::{Block, HAVING_FILE};
use pyrrha_storage::manifest::Change;

use super::*;
use crate::block_files::files;

/// Blocks of the bucket with the files of block `n`, of the same times, under other names.
fn copies(world: &World, local: &Block, count: u64) {
    world.ship(std::slice::from_ref(local)).expect("no fault");
    let manifest = world.tenants.manifest(&World::tenant()).expect("it opens");
    let original = manifest.current().blocks.values().next().expect("it was shipped").as_ref().clone();
    let names: Vec<String> = files(&original).into_iter().map(|f| f.name).collect();
    let ids: Vec<BlockId> = (1..count).map(|n| BlockId::from_parts(1_000_000 + n, 1)).collect();
    let (bucket, from, to) = (world.bucket.clone(), original.ulid, ids.clone());
    let copied = world.runtime.wait(async move {
        for name in names {
            let bytes = bucket.get(&format!("anonymous/{from}/{name}"), 1 << 30).await?.expect("it is there");
            for id in &to {
                bucket.put(&format!("anonymous/{id}/{name}"), bytes.clone()).await?;
            }
        }
        Ok(())
    });
    copied.expect("no fault");
    let added = ids.into_iter().map(|id| BlockEntry { ulid: id, sources: vec![id], ..original.clone() });
    manifest.commit_change(&Change { added: added.collect(), ..Change::default() }).expect("no fault");
}

fn ask(world: &World, ctx: &QueryContext, matchers: &[Matcher]) -> Result<usize, StoreError> {
    let found = select(&world.queryable([]), ctx, matchers, TimeRange::ALL, &SelectHints::default())?;
    Ok(found.iter().map(|(_, chunks)| chunks.len()).sum())
}

fn limited(bytes: usize) -> QueryContext {
    QueryContext { budget: MemoryBudget::new("query", bytes, None), ..QueryContext::unlimited() }
}

/// Waits for what runs beside a query and ends soon after it.
fn settle(world: &World, ctx: &QueryContext) {
    wait_until(world, || ctx.budget.used() == 0, "a query that is over takes nothing");
}

/// Tasks of queries that are over end a little after them.
fn wait_until(world: &World, holds: impl Fn() -> bool, what: &str) {
    for _ in 0..4000 {
        if holds() {
            return;
        }
        // A sleep is made within the runtime.
        world.runtime.handle().block_on(async { tokio::time::sleep(Duration::from_millis(5)).await });
    }
    panic!("{what}");
}

/// Most requests that a cold query of `series` series of a block sends, as docs/format/cache.md says.
fn formula(entry: &BlockEntry, series: u64, names: u64) -> u64 {
    let files = files(entry);
    let bytes =
        |of: &dyn Fn(&str) -> bool| -> u64 { files.iter().filter(|f| of(&f.name)).map(|f| f.bytes).sum() };
    let spans = |bytes: u64| bytes.div_ceil(5 * (32 << 10));
    let index = bytes(&|name| name == "index");
    let chunks = bytes(&|name| name.starts_with("chunks/"));
    let segments = files.iter().filter(|f| f.name.starts_with("chunks/")).count() as u64;
    let beside = files.iter().filter(|f| ["tombstones", "deletes"].contains(&&*f.name)).count() as u64;
    let having = if files.iter().any(|f| f.name == HAVING_FILE) { 2 + names } else { 0 };
    let header = 3;
    let postings = 2 * (1 + spans(index));
    let entries = 2 * series.div_ceil(256) + spans(index);
    let pieces = series.div_ceil(64) + chunks.div_ceil(1 << 20);
    header + beside + having + postings + entries + 2 * pieces + spans(chunks) + segments
}

#[test]
fn requests_of_a_query_are_bounded_by_the_formula() {
    let world = World::new();
    let sizes = [1, 70, 700, 3000];
    let blocks: Vec<Block> = (0..).zip(sizes).map(|(n, size)| block(&world.disk, n, size)).collect();
    world.ship(&blocks).expect("no fault");
    let manifest = world.tenants.manifest(&World::tenant()).expect("it opens");
    let entries: Vec<_> = manifest.current().blocks.values().cloned().collect();
    assert_eq!(entries.len(), sizes.len());
    for cache in [0, 64 << 20] {
        for matchers in selectors() {
            // Another process, which has nothing yet.
            let cold = World::on(SimDisk::new(2), world.bucket.store(), cache);
            let ctx = QueryContext::unlimited();
            ask(&cold, &ctx, &matchers).expect("sound");
            let names = matchers.len() as u64;
            let bound: u64 = entries.iter().map(|e| formula(e, e.series, names)).sum();
            let FetchedCounts { requests, bytes, .. } = ctx.fetched.counts();
            assert!((4..=bound).contains(&requests), "{matchers:?}: {requests} of at most {bound}");
            let counters = cold.bucket.counters();
            assert_eq!(counters.attempts(Operation::GetRange), requests, "all are counted");
            assert!(bytes <= counters.received_bytes());
            // Which tenants there are; whether three manifests are there.
            assert_eq!((counters.attempts(Operation::List), counters.attempts(Operation::Head)), (1, 3));
        }
    }
}

#[test]
fn whoever_has_a_label_is_told_by_a_short_list() {
    use MatchOp::{Equal, NotEqual, NotRegex, Regex};
    const SERIES: usize = 12_000;
    let with = World::new();
    let local = block(&with.disk, 0, SERIES);
    with.ship(std::slice::from_ref(&local)).expect("no fault");
    let without = World::new();
    let plain = block(&without.disk, 0, SERIES);
    without.disk.remove_file(&plain.dir().join(HAVING_FILE)).expect("it is there");
    without.ship(&[Block::open(&without.disk, plain.dir()).expect("sound")]).expect("no fault");
    let of_metric = |op, name, value| vec![Matcher::equal("__name__", "metric_1"), matcher(op, name, value)];
    for matchers in [
        of_metric(NotEqual, "instance", ""),
        of_metric(Regex, "instance", ".+"),
        of_metric(Equal, "instance", ""),
        of_metric(NotRegex, "instance", ".+"),
        of_metric(NotEqual, "zone", ""),
        of_metric(Equal, "zone", ""),
        of_metric(NotEqual, "nothing", ""),
        vec![matcher(Equal, "zone", ""), matcher(NotEqual, "instance", "")],
    ] {
        let counts = [&with, &without].map(|world| {
            let cold = World::on(SimDisk::new(2), world.bucket.store(), 64 << 20);
            let hints = SelectHints::default();
            let ctx = QueryContext::unlimited();
            let expected = select(&local, &ctx, &matchers, TimeRange::ALL, &hints).expect("sound");
            let found = select(&cold.queryable([]), &ctx, &matchers, TimeRange::ALL, &hints);
            assert!(found.expect("sound") == expected, "{matchers:?}");
            ctx.fetched.counts()
        });
        // One request has trailer, table and lists: they are in one page or two.
        assert!(counts[0].requests <= counts[1].requests + 1, "{matchers:?} {counts:?}");
        if matchers.iter().any(|m| &*m.name == "instance") {
            // Twelve thousand lists of one series each stayed where they are.
            assert!(counts[0].bytes + 100_000 < counts[1].bytes, "{matchers:?} {counts:?}");
        }
    }
}

#[test]
fn many_blocks_share_the_budget_of_a_query() {
    let world = World::new();
    let local = block(&world.disk, 0, 200);
    let (blocks, chunks) = (1000, 500);
    copies(&world, &local, blocks);
    // All of it is more than what it is read with.
    let ctx = limited(40 << 20);
    assert_eq!(ask(&world, &ctx, &[]).expect("it fits"), blocks as usize * chunks);
    assert!(ctx.budget.peak() > 12 << 20 && ctx.budget.peak() <= 40 << 20, "{}", ctx.budget.peak());
    settle(&world, &ctx);
    let all = QueryContext::unlimited();
    ask(&world, &all, &[]).expect("it fits");
    assert!(all.budget.peak() > 80 << 20, "{}", all.budget.peak());
    // Some blocks only.
    let one = limited(40 << 20);
    assert_eq!(ask(&world, &one, &selectors()[5]).expect("it fits") % blocks as usize, 0);
}

#[test]
fn opened_blocks_stay_within_their_budget() {
    let first = World::new();
    copies(&first, &block(&first.disk, 0, 20), 60);
    let config = |header_bytes| GatewayConfig {
        cache_dir: "/cache".into(),
        cache_bytes: 64 << 20,
        disk_bytes: 0,
        header_bytes,
    };
    // About ten of them, and none.
    for limit in [50_000, 100] {
        let world = World::reading(SimDisk::new(3), first.bucket.store(), config(limit));
        let ctx = limited(64 << 20);
        let expected = ask(&first, &QueryContext::unlimited(), &[]).expect("sound");
        assert_eq!(ask(&world, &ctx, &[]).expect("sound"), expected);
        settle(&world, &ctx);
        let headers = world.gateway.stats().headers;
        assert!(headers.bytes <= limit, "{headers:?}");
        assert_eq!((headers.misses, headers.hits), (60, 0));
        // One after the other, as jobs read them: with pages of their own.
        let manifest = world.tenants.manifest(&World::tenant()).expect("open").current();
        for entry in manifest.blocks.values() {
            let mut series = world.gateway.whole_block(
                &World::tenant(),
                entry.clone(),
                None,
                Arc::default(),
                Arc::default(),
                &QueryContext::unlimited(),
            );
            let mut batch = SeriesBatch::default();
            while series.next_batch(64, &mut batch).expect("sound") {}
            assert!(world.gateway.stats().headers.bytes <= limit);
        }
        let requests = world.bucket.counters().attempts(Operation::GetRange);
        assert_eq!(ask(&world, &ctx, &[]).expect("sound"), expected);
        settle(&world, &ctx);
        let headers = world.gateway.stats().headers;
        assert!(headers.bytes <= limit && headers.misses >= 110, "{headers:?}");
        assert_eq!(headers.evicted > 0, limit == 50_000, "{headers:?}");
        let later = world.bucket.counters().attempts(Operation::GetRange);
        assert_eq!(later, requests, "headers are files, pages in memory");
    }
    // What is read again and again stays.
    let world = World::reading(SimDisk::new(3), first.bucket.store(), config(1 << 20));
    for _ in 0..3 {
        ask(&world, &QueryContext::unlimited(), &[]).expect("sound");
    }
    let headers = world.gateway.stats().headers;
    assert_eq!((headers.misses, headers.hits, headers.evicted), (60, 120, 0));
    world.gateway.blocks.lock().clear();
    wait_until(&world, || world.gateway.stats().headers.bytes == 0, "blocks that are gone take nothing");
}
