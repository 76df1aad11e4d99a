//! Buckets as Thanos and Mimir leave them, adopted: answers are those of the bucket attached, and nothing
//! but the manifest is written.

use std::sync::Arc;
use std::time::Duration;

use pyrrha_model::contract::{
    CancelToken, Delete, DeleteId, LabelQuery, QueryContext, Queryable, SelectHints,
};
use pyrrha_model::{Matcher, TimeRange};
use pyrrha_storage::block::BlockId;
use pyrrha_storage::manifest::DeleteEntry;
use pyrrha_testkit::foreign_bucket::{ForeignBlock, ForeignBucket, deletion_mark, no_compact_mark};

use super::*;
use crate::attach::tests::{every, read};
use crate::attach::{AttachedBucket, TenantRule, WithBuckets};
use crate::tools::tests::{put, tools};
use crate::worlds::{RANGE, World};
use crate::{BucketQueryable, Compactor, CompactorConfig, Gateway, GatewayConfig, MarkKind};

type Series = Vec<(String, Vec<(i64, f64)>)>;

/// The id of a block that was made a day before the tests happen.
pub(in crate::tools) fn ulid(n: u128) -> String {
    BlockId::from_parts((100 * RANGE - 86_400_000) as u64, n).to_string()
}

pub(in crate::tools) fn config(replica: &[&str]) -> AttachConfig {
    let reading = GatewayConfig {
        cache_dir: "/theirs".into(),
        cache_bytes: 1 << 20,
        disk_bytes: 0,
        header_bytes: 1 << 20,
    };
    let replica_labels = replica.iter().map(|&name| name.to_owned()).collect();
    AttachConfig { replica_labels, ..AttachConfig::new(reading) }
}

pub(in crate::tools) fn fill(world: &World, foreign: &ForeignBucket) {
    foreign.objects.iter().for_each(|(key, bytes)| put(world, key, bytes.clone()));
}

/// All objects but those of the manifest.
fn objects(world: &World) -> Vec<(String, u64, i64)> {
    let bucket = world.bucket.clone();
    let all = world.runtime.wait(async move { bucket.list("").await }).expect("no fault");
    let theirs = all.into_iter().filter(|o| !o.key.contains("/manifest/") && !o.key.contains("/jobs/"));
    theirs.map(|o| (o.key, o.bytes, o.modified_ms)).collect()
}

/// What an attached bucket answers.
fn attached(world: &World, config: AttachConfig) -> WithBuckets {
    let disk: Arc<dyn pyrrha_env::Disk> = Arc::new(world.disk.clone());
    let bucket =
        AttachedBucket::new(world.bucket.clone(), world.runtime.clone(), disk, world.clock.clone(), config);
    bucket.look().expect("no fault");
    WithBuckets::new(world.db.queryable(), vec![Arc::new(bucket)])
}

/// What the manifests list, read.
fn listed(world: &World, replica: &[&str]) -> BucketQueryable {
    let reading = GatewayConfig {
        cache_dir: "/ours".into(),
        cache_bytes: 1 << 20,
        disk_bytes: 0,
        header_bytes: 1 << 20,
    };
    let disk: Arc<dyn pyrrha_env::Disk> = Arc::new(world.disk.clone());
    let gateway = Gateway::new(world.tenants.clone(), world.runtime.clone(), disk, reading);
    let gateway = gateway.with_replica_labels(replica.iter().map(|&name| name.to_owned()).collect());
    BucketQueryable::new(world.db.queryable(), Arc::new(|_| BTreeSet::new()), Arc::new(gateway))
}

fn of(tenant: &str) -> QueryContext {
    QueryContext { tenant: TenantId::new(tenant).expect("a tenant"), ..QueryContext::unlimited() }
}

fn samples(from: &dyn Queryable, ctx: &QueryContext, matchers: &[Matcher]) -> Series {
    read(ctx, from.select(ctx, matchers, TimeRange::ALL, &SelectHints::default()).expect("an answer"))
}

fn compact(world: &World, replica: &[&str], delay: Duration) {
    let mut config = CompactorConfig::new("/work");
    config.replica_labels = replica.iter().map(|&name| name.to_owned()).collect();
    config.delete_delay = delay;
    config.leaves = Vec::new();
    let disk: Arc<dyn pyrrha_env::Disk> = Arc::new(world.disk.clone());
    let clock: Arc<dyn pyrrha_env::Clock> = world.clock.clone();
    let compactor = Compactor::new(world.tenants.clone(), world.runtime.clone(), disk, clock, config);
    compactor.expect("a scratch directory").round(&CancelToken::default()).expect("no fault");
}

/// Two clusters of two replicas each, twelve hours in blocks of two, and one block without labels.
pub(in crate::tools) fn thanos() -> ForeignBucket {
    let mut foreign = ForeignBucket::default();
    for (c, cluster) in ["eu", "us"].into_iter().enumerate() {
        for (r, replica) in ["a", "b"].into_iter().enumerate() {
            for n in 0..6i64 {
                let id = ulid((c * 100 + r * 10) as u128 + n as u128 + 1);
                // Each replica misses a while.
                let missed = n * RANGE + 1_000_000 * (r as i64 + 1);
                let times = every(15_000, n * RANGE + 100 * r as i64..(n + 1) * RANGE, |t| (t / 1000) as f64);
                let times: Vec<_> =
                    times.into_iter().filter(|s| !(missed..missed + 400_000).contains(&s.0)).collect();
                let block = ForeignBlock::new(
                    &id,
                    n * RANGE,
                    (n + 1) * RANGE,
                    &[("cluster", cluster), ("replica", replica)],
                )
                .with_floats(&[("__name__", "x")], &times)
                .with_floats(&[("__name__", "x"), ("job", "j")], &times);
                foreign.add("", &block);
            }
        }
    }
    let plain = ForeignBlock::new(&ulid(999), 0, RANGE, &[])
        .with_floats(&[("__name__", "x"), ("cluster", "none")], &[(5, 5.0)]);
    foreign.add("", &plain);
    foreign
}

#[test]
fn a_thanos_bucket_answers_as_attached_and_is_left_as_it_is() {
    let world = World::new();
    fill(&world, &thanos());
    let before = objects(&world);
    let dry = tools(&world).adopt(&config(&[]), &[], true).expect("no fault");
    assert_eq!((dry.tenants[0].blocks.len(), dry.tenants[0].committed), (25, false));
    let done = tools(&world).adopt(&config(&[]), &[], false).expect("no fault");
    assert_eq!(done.tenants[0].blocks, dry.tenants[0].blocks);
    assert!(done.is_whole() && done.tenants[0].committed && done.left_out.is_empty());
    assert_eq!(done.tenants[0].blocks[0].dir, done.tenants[0].blocks[0].ulid, "at the root");
    assert_eq!(objects(&world), before, "nothing was written");
    for replica in [&[][..], &["replica"]] {
        let (theirs, ours) = (attached(&world, config(replica)), listed(&world, replica));
        let ctx = QueryContext::unlimited();
        let sets = [
            vec![],
            vec![Matcher::equal("cluster", "eu")],
            vec![Matcher::equal("cluster", "none")],
            vec![Matcher::equal("cluster", "")],
            vec![Matcher::equal("replica", "b"), Matcher::equal("job", "")],
        ];
        for matchers in sets {
            let expected = samples(&theirs, &ctx, &matchers);
            assert_eq!(samples(&ours, &ctx, &matchers), expected, "{matchers:?}");
            let query = LabelQuery::new(vec![matchers], TimeRange::ALL);
            assert_eq!(ours.series(&ctx, &query).ok(), theirs.series(&ctx, &query).ok());
            assert_eq!(ours.label_names(&ctx, &query).ok(), theirs.label_names(&ctx, &query).ok());
            for name in ["cluster", "replica", "job"] {
                let (a, b) = (ours.label_values(&ctx, name, &query), theirs.label_values(&ctx, name, &query));
                assert_eq!(a.ok(), b.ok(), "{name}");
            }
        }
    }
    // Again there is nothing to do; what comes later is brought in.
    let again = tools(&world).adopt(&config(&[]), &[], false).expect("no fault");
    assert_eq!((again.tenants[0].blocks.len(), again.tenants[0].known_blocks), (0, 25));
    let late = ForeignBlock::new(&ulid(500), 6 * RANGE, 7 * RANGE, &[("cluster", "eu")])
        .with_floats(&[("__name__", "x")], &[(6 * RANGE, 1.0)]);
    let mut more = ForeignBucket::default();
    more.add("", &late);
    fill(&world, &more);
    let last = tools(&world).adopt(&config(&[]), &[], false).expect("no fault");
    assert_eq!(last.tenants[0].blocks[0].ulid, ulid(500));
}

#[test]
fn adopted_blocks_are_merged_where_they_lie_and_replicas_become_one() {
    let world = World::new();
    fill(&world, &thanos());
    let replica = ["replica"];
    tools(&world).adopt(&config(&[]), &[], false).expect("no fault");
    let ctx = QueryContext::unlimited();
    let before = samples(&listed(&world, &replica), &ctx, &[]);
    compact(&world, &replica, Duration::from_secs(3600));
    let state = tools(&world).state(&World::tenant()).expect("no fault");
    let raw: Vec<_> = state.blocks.values().filter(|b| b.resolution == 0).collect();
    assert_eq!(raw.len(), 3, "one of each cluster, and the one without labels");
    for block in raw.iter().filter(|b| b.level > 1) {
        assert_eq!(block_files::root(block), Some(""), "beside those it is made of");
        assert!(!external_labels(block).contains_key("replica"));
        assert!(external_labels(block).contains_key("cluster") && !is_adopted(block));
    }
    let windows: BTreeSet<_> =
        state.blocks.values().filter(|b| b.resolution > 0).map(|b| external_labels(b)).collect();
    assert_eq!(windows.len(), 3, "windows are made of each by itself");
    let after = samples(&listed(&world, &replica), &ctx, &[]);
    let names = |series: &Series| series.iter().map(|s| s.0.clone()).collect::<Vec<_>>();
    assert_eq!(names(&after), names(&before));
    for (new, old) in after.iter().zip(&before) {
        let gap = new.1.windows(2).map(|pair| pair[1].0 - pair[0].0).max();
        assert!(gap.is_none_or(|gap| gap < 31_000), "no gaps {gap:?}");
        assert!(new.1.len().abs_diff(old.1.len()) <= 48, "{} {}", new.1.len(), old.1.len());
    }
    // What was replaced stays for the delay, and is not adopted again.
    let again = tools(&world).adopt(&config(&[]), &[], false).expect("no fault");
    assert!(again.tenants[0].blocks.is_empty(), "{:?}", again.tenants[0].blocks);
    assert!(objects(&world).iter().any(|o| o.0.starts_with(&ulid(1))));
    // Then it goes, and nothing else does: a block that is not listed stays.
    let stray = ForeignBlock::new(&ulid(700), 0, RANGE, &[("cluster", "x")])
        .with_floats(&[("__name__", "y")], &[(1, 1.0)]);
    let mut more = ForeignBucket::default();
    more.add("", &stray);
    fill(&world, &more);
    compact(&world, &replica, Duration::ZERO);
    let left = objects(&world);
    assert!(!left.iter().any(|o| o.0.starts_with(&ulid(1))), "{left:?}");
    assert!(
        left.iter().any(|o| o.0.starts_with(&ulid(700))) && left.iter().any(|o| o.0.starts_with(&ulid(999)))
    );
    assert_eq!(samples(&listed(&world, &replica), &ctx, &[]), after);
    let options = crate::tools::VerifyOptions {
        depth: crate::tools::Depth::Deep,
        scratch_dir: "/scratch".into(),
        ..Default::default()
    };
    let report = tools(&world).verify(&World::tenant(), &options, &mut |_, _, _| {}).expect("no fault");
    assert!(report.issues.is_empty(), "{:?}", report.issues);
    // Attached, the bucket answers the same: others may go on reading it.
    let theirs = samples(&attached(&world, config(&replica)), &ctx, &[Matcher::equal("cluster", "eu")]);
    assert_eq!(theirs, samples(&listed(&world, &replica), &ctx, &[Matcher::equal("cluster", "eu")]));
}

#[test]
fn deletes_by_external_labels_reach_adopted_blocks() {
    let world = World::new();
    fill(&world, &thanos());
    tools(&world).adopt(&config(&[]), &[], false).expect("no fault");
    let delete = |n, at, matchers: Vec<Matcher>| Delete {
        id: DeleteId(n),
        matcher_sets: vec![matchers],
        range: TimeRange::ALL,
        at,
        is_final: false,
    };
    let now = i64::MAX / 2;
    let deletes = vec![
        DeleteEntry::of(&delete(1, now, vec![Matcher::equal("cluster", "eu"), Matcher::equal("job", "j")])),
        DeleteEntry::of(&delete(2, now, vec![Matcher::equal("replica", "a")])),
        // All that these uploaded came later.
        DeleteEntry::of(&delete(3, -600_001, vec![Matcher::equal("cluster", "us")])),
    ];
    let manifest = world.tenants.manifest(&World::tenant()).expect("opens");
    manifest.commit_change(&Change { deletes, ..Change::default() }).expect("no fault");
    let found = samples(&listed(&world, &[]), &QueryContext::unlimited(), &[]);
    let left: Vec<&str> = found.iter().filter(|s| !s.1.is_empty()).map(|s| s.0.as_str()).collect();
    let expected = [
        "__name__=x,cluster=eu,replica=b",
        "__name__=x,cluster=none",
        "__name__=x,cluster=us,job=j,replica=b",
        "__name__=x,cluster=us,replica=b",
    ];
    assert_eq!(left, expected);
}

#[test]
fn a_mimir_bucket_is_adopted_by_tenant_and_shards_stay_apart() {
    let world = World::new();
    let mut foreign = ForeignBucket::default();
    let source = ulid(1);
    let block = |n: u128, shard: &str| {
        ForeignBlock::new(&ulid(n), 0, RANGE, &[("__compactor_shard_id__", shard)])
            .compacted(2, &[&source])
            .with_floats(&[("__name__", "x"), ("n", &n.to_string())], &[(n as i64, n as f64)])
    };
    let whole = ForeignBlock::new(&source, 0, RANGE, &[("__org_id__", "one")])
        .with_floats(&[("__name__", "x"), ("n", "2")], &[(2, 2.0)])
        .with_floats(&[("__name__", "x"), ("n", "3")], &[(3, 3.0)]);
    foreign.add("one", &whole).add("one", &block(2, "1_of_2")).add("two", &block(4, "1_of_1"));
    foreign.put("two/bucket-index.json.gz", b"whatever".to_vec());
    fill(&world, &foreign);
    let done = tools(&world).adopt(&config(&[]), &[], false).expect("no fault");
    let of_one =
        |done: &Adoption| done.tenants.iter().find(|t| t.tenant == "one").cloned().unwrap_or_default();
    assert_eq!(of_one(&done).blocks.len(), 2, "the whole one, as a shard is missing, and that shard");
    assert_eq!(of_one(&done).blocks[0].dir, format!("one/{source}"));
    let names = |tenant: &str| -> Vec<String> {
        samples(&listed(&world, &[]), &of(tenant), &[]).into_iter().map(|s| s.0).collect()
    };
    assert_eq!(names("one"), ["__name__=x,n=2", "__name__=x,n=3"]);
    assert_eq!(names("two"), ["__name__=x,n=4"]);
    // The last shard comes: the whole one leaves with the same commit.
    let mut more = ForeignBucket::default();
    more.add("one", &block(3, "2_of_2"));
    fill(&world, &more);
    let done = tools(&world).adopt(&config(&[]), &[TenantId::new("one").expect("valid")], false);
    let done = of_one(&done.expect("no fault"));
    assert_eq!((done.blocks.len(), &done.replaced[..]), (1, &[source.clone()][..]));
    assert_eq!(names("one"), ["__name__=x,n=2", "__name__=x,n=3"]);
    compact(&world, &[], Duration::ZERO);
    assert_eq!(names("one"), ["__name__=x,n=2", "__name__=x,n=3"]);
    assert!(objects(&world).iter().any(|o| o.0.contains(&source)), "no job of ours has named it");
}

#[test]
fn what_does_not_count_is_left_and_what_was_removed_is_told() {
    let world = World::new();
    let now = 100 * RANGE;
    let block = |n: u128, labels: &[(&str, &str)]| {
        ForeignBlock::new(&ulid(n), 0, RANGE, labels).with_floats(&[("__name__", "x")], &[(n as i64, 0.0)])
    };
    let mut foreign = ForeignBucket::default();
    foreign.add("", &block(1, &[("team", "blue"), ("cluster", "eu")]));
    foreign.add("", &block(2, &[("team", "no/tenant")]));
    foreign
        .add("", &block(3, &[]))
        .put(&format!("{}/deletion-mark.json", ulid(3)), deletion_mark(&ulid(3), now / 1000));
    foreign
        .add("", &block(4, &[]))
        .put(&format!("{}/no-compact-mark.json", ulid(4)), no_compact_mark(&ulid(4), 1));
    foreign.put(&format!("{}/meta.json", ulid(5)), b"{".to_vec());
    foreign.put(&format!("{}/index", ulid(6)), b"{".to_vec());
    let young = BlockId::from_parts(now as u64 - 60_000, 7).to_string();
    foreign.add("", &ForeignBlock { ulid: young.clone(), ..block(7, &[]) });
    foreign.add("", &block(8, &[("cluster", "us-1")]));
    fill(&world, &foreign);
    let mut config = config(&[]);
    config.tenants.label = Some("team".to_owned());
    let rule = BTreeMap::from([("cluster".to_owned(), "us-.*".to_owned())]);
    config
        .tenants
        .rules
        .push(TenantRule::new(&rule, TenantId::new("america").expect("valid")).expect("a rule"));
    let done = tools(&world).adopt(&config, &[], false).expect("no fault");
    let mut why: Vec<(&str, &str)> = done.left_out.iter().map(|l| (l.dir.as_str(), l.why.as_str())).collect();
    why.sort_unstable();
    let names = [
        (ulid(2), "no-tenant"),
        (ulid(3), "deleted"),
        (ulid(5), "damaged"),
        (ulid(6), "partial"),
        (young, "young"),
    ];
    let mut expected: Vec<(&str, &str)> = names.iter().map(|(id, why)| (id.as_str(), *why)).collect();
    expected.sort_unstable();
    assert_eq!(why, expected);
    assert!(!done.is_whole());
    let tenants: Vec<(&str, &str)> =
        done.tenants.iter().map(|t| (t.tenant.as_str(), t.blocks[0].ulid.as_str())).collect();
    assert_eq!(tenants, [("america", &*ulid(8)), ("anonymous", &*ulid(4)), ("blue", &*ulid(1))]);
    assert_eq!(samples(&listed(&world, &[]), &of("blue"), &[])[0].0, "__name__=x,cluster=eu");
    let anonymous = tools(&world).state(&World::tenant()).expect("no fault");
    let mark = anonymous.blocks.values().next().and_then(|b| crate::marks::mark_of(b, MarkKind::NoCompact));
    assert_eq!(mark.map(|mark| mark.reason).as_deref(), Some("index-size-exceeding"));
    // Somebody removes a listed block: that is said, and the manifest keeps it.
    let (bucket, dir) = (world.bucket.clone(), ulid(4));
    world
        .runtime
        .wait(async move {
            for object in bucket.list(&dir).await? {
                bucket.delete(&object.key).await?;
            }
            Ok(())
        })
        .expect("no fault");
    let again = tools(&world).adopt(&config, &[], false).expect("no fault");
    let of = again.tenants.iter().find(|t| t.tenant == "anonymous").expect("it has a block");
    assert_eq!((&of.missing[..], of.committed), (&[ulid(4)][..], false));
}

#[test]
fn windows_of_others_answer_in_their_own_stream() {
    let world = World::new();
    let values = every(60_000, 0..24 * 3_600_000, |t| (t / 60_000) as f64);
    let raw = |n, cluster| {
        ForeignBlock::new(&ulid(n), 0, 12 * RANGE, &[("cluster", cluster)])
            .compacted(3, &[&ulid(n)])
            .with_floats(&[("__name__", "x")], &values)
    };
    let mut hours =
        ForeignBlock::new(&ulid(3), 0, 12 * RANGE, &[("cluster", "eu")]).compacted(3, &[&ulid(1)]);
    hours.resolution = 3_600_000;
    let mut foreign = ForeignBucket::default();
    foreign.add("", &raw(1, "eu")).add("", &raw(2, "us"));
    foreign.add("", &hours.with_windows(&[("__name__", "x")], &values));
    fill(&world, &foreign);
    tools(&world).adopt(&config(&[]), &[], false).expect("no fault");
    let windows = pyrrha_model::contract::WindowHints {
        edges: false,
        values: true,
        counter: false,
        max_resolution_ms: i64::MAX,
    };
    let hints = SelectHints {
        step_ms: 7_200_000,
        range_ms: 7_200_000,
        windows: Some(windows),
        ..SelectHints::default()
    };
    let ctx = QueryContext::unlimited();
    let range = TimeRange::new(0, 24 * 3_600_000 - 1);
    let mut set = listed(&world, &[]).select(&ctx, &[], range, &hints).expect("an answer");
    let mut batch = pyrrha_model::contract::SeriesBatch::default();
    let mut seen = Vec::new();
    while set.next_batch(9, &mut batch).expect("an answer") {
        for entry in &batch.series {
            let is_windows = entry.chunks.iter().all(|c| c.encoding == pyrrha_model::ChunkEncoding::Windows);
            seen.push((batch.resolve(&ctx.symbols, entry).get("cluster").map(str::to_owned), is_windows));
        }
    }
    assert_eq!(seen, [(Some("eu".to_owned()), true), (Some("us".to_owned()), false)]);
}

#[test]
fn a_mark_beside_an_adopted_block_is_found_whether_a_job_reads_it_or_not() {
    let world = World::new();
    fill(&world, &thanos());
    tools(&world).adopt(&config(&[]), &[], false).expect("no fault");
    let mut config = CompactorConfig::new("/work");
    // Nothing is merged: no job has any of them as an input.
    config.ladder = crate::Ladder::new(vec![RANGE]).expect("a ladder");
    let disk: Arc<dyn pyrrha_env::Disk> = Arc::new(world.disk.clone());
    let clock: Arc<dyn pyrrha_env::Clock> = world.clock.clone();
    let worker = Compactor::new(world.tenants.clone(), world.runtime.clone(), disk, clock, config);
    let worker = worker.expect("a scratch directory");
    let rounds = |n: u64| {
        for _ in 0..n {
            assert_eq!(worker.round(&CancelToken::default()).expect("no fault").jobs, 0);
            world.clock.advance(Duration::from_secs(60));
        }
    };
    let marked = |n: u128| {
        let state = tools(&world).state(&World::tenant()).expect("no fault");
        crate::marks::is_marked(
            &state.blocks[&ulid(n).parse::<BlockId>().expect("an id")],
            MarkKind::Deletion,
        )
    };
    rounds(2);
    let now = 100 * RANGE / 1000;
    put(&world, &format!("{}/deletion-mark.json", ulid(3)), deletion_mark(&ulid(3), now));
    let heads = || world.bucket.counters().attempts(crate::Operation::Head);
    let before = heads();
    rounds(2 * 60);
    assert!(marked(3) && !marked(2));
    // Beside each of 25 blocks three kinds are looked for once an hour; the rest is of manifests.
    let looks = heads() - before;
    assert!(looks <= 120 * 4 + 3 * 25 * 3, "{looks}");
}
