//! Rounds of an adopter: what is new is listed, what is known costs nothing, what is ours is left alone.

use pyrrha_env::Clock;
use pyrrha_model::TimeRange;
use pyrrha_model::contract::{QueryContext, SelectHints};
use pyrrha_storage::block::BlockMeta;
use pyrrha_testkit::SimDisk;
use pyrrha_testkit::foreign_bucket::{ForeignBlock, ForeignBucket};

use super::*;
use crate::Operation;
use crate::tools::adopt::tests::{config, fill, ulid};
use crate::tools::tests::{delete, tools};
use crate::worlds::{RANGE, World, block, id, select, series, write};

fn nothing(_: &TenantId) -> BTreeSet<BlockId> {
    BTreeSet::new()
}

fn foreign(n: u128) -> ForeignBucket {
    let mut foreign = ForeignBucket::default();
    let start = n as i64 * RANGE;
    let block = ForeignBlock::new(&ulid(n), start, start + RANGE, &[("cluster", "eu")]);
    foreign.add("", &block.with_floats(&[("__name__", "up")], &[(start + 1000, n as f64)]));
    foreign
}

fn round(adopter: &Adopter) -> Adoption {
    adopter.round(&nothing, &CancelToken::default()).expect("no fault")
}

fn adopted(done: &Adoption) -> usize {
    done.tenants.iter().map(|tenant| tenant.blocks.len()).sum()
}

fn samples(world: &World) -> usize {
    let ctx = QueryContext::unlimited();
    let rows = select(&world.queryable([]), &ctx, &[], TimeRange::ALL, &SelectHints::default());
    rows.expect("reads").iter().map(|(_, chunks)| chunks.len()).sum()
}

#[test]
fn what_is_uploaded_later_is_adopted_and_what_is_known_is_not_read_again() {
    let world = World::new();
    fill(&world, &foreign(1));
    let adopter = Adopter::new(tools(&world), config(&[]));
    assert_eq!((adopted(&round(&adopter)), samples(&world)), (1, 1));
    let gets = || world.bucket.counters().attempts(Operation::Get);
    let manifest = world.tenants.manifest(&World::tenant()).expect("opens");
    let (before, number) = (gets(), manifest.current().number);
    assert_eq!(adopted(&round(&adopter)), 0);
    let idle = gets() - before;
    assert_eq!(manifest.current().number, number, "nothing is committed for nothing");
    fill(&world, &foreign(2));
    let before = gets();
    assert_eq!((adopted(&round(&adopter)), samples(&world)), (1, 2));
    assert_eq!(gets() - before, idle + 1, "the new meta alone");
    assert_eq!(adopter.metrics().blocks.load(Ordering::Relaxed), 2);
    // Somebody's compactor was not stopped.
    for key in ["index", "chunks/000001", "meta.json"] {
        delete(&world, &format!("{}/{key}", ulid(1)));
    }
    assert!(!round(&adopter).is_whole());
    assert_eq!(adopter.metrics().missing.load(Ordering::Relaxed), 1);
}

#[test]
fn what_is_being_shipped_is_not_adopted() {
    let world = World::new();
    let ours = [block(&world.disk, 3, 10)];
    world.ship(&ours).expect("no fault");
    // As it is a moment before the shipper commits.
    let manifest = world.tenants.manifest(&World::tenant()).expect("opens");
    manifest.commit(&[], &[id(4)]).expect("no fault");
    let layout = crate::attach::BucketLayout::Tenants;
    let adopter = Adopter::new(tools(&world), AttachConfig { layout, ..config(&[]) });
    let local = |_: &TenantId| BTreeSet::from([id(4)]);
    assert_eq!(adopted(&adopter.round(&local, &CancelToken::default()).expect("no fault")), 0);
    assert_eq!(adopted(&round(&adopter)), 1, "it would have been");
}

#[test]
fn what_another_server_may_be_shipping_is_left_to_it_for_a_day() {
    let world = World::new();
    let made = world.clock.now_ms();
    let ulid = BlockId::from_parts(made as u64, 7);
    let meta = BlockMeta::of_head(ulid, 0, RANGE);
    world.ship(&[write(&world.disk, meta, &series(0, 10))]).expect("no fault");
    let manifest = world.tenants.manifest(&World::tenant()).expect("opens");
    manifest.commit(&[], &[ulid]).expect("no fault");
    let layout = crate::attach::BucketLayout::Tenants;
    let adopter = Adopter::new(tools(&world), AttachConfig { layout, ..config(&[]) });
    assert_eq!(adopted(&round(&adopter)), 0, "its server commits it");
    world.clock.advance(std::time::Duration::from_secs(24 * 3600));
    assert_eq!(adopted(&round(&adopter)), 1, "that server is gone");
}

#[test]
fn several_servers_adopt_each_block_once_while_others_upload() {
    let objects = Arc::new(object_store::memory::InMemory::new());
    let worlds: Vec<World> = (0..4).map(|n| World::on(SimDisk::new(n), objects.clone(), 1 << 20)).collect();
    let adopters: Vec<Adopter> = worlds.iter().map(|world| Adopter::new(tools(world), config(&[]))).collect();
    let uploader = World::on(SimDisk::new(9), objects, 1 << 20);
    std::thread::scope(|scope| {
        for adopter in &adopters {
            scope.spawn(|| {
                while adopters.iter().map(|a| a.metrics().blocks.load(Ordering::Relaxed)).sum::<u64>() < 12 {
                    // A commit that others were before too often is tried again in the next round.
                    let _ = adopter.round(&nothing, &CancelToken::default());
                }
            });
        }
        (1..=12).for_each(|n| fill(&uploader, &foreign(n)));
    });
    let by_each = adopters.iter().map(|a| a.metrics().blocks.load(Ordering::Relaxed));
    assert_eq!(by_each.sum::<u64>(), 12);
    uploader.tenants.manifest(&World::tenant()).expect("opens").refresh().expect("reads");
    assert_eq!(samples(&uploader), 12);
    assert!(adopters.iter().all(|adopter| adopted(&round(adopter)) == 0));
}

#[test]
fn a_round_that_fails_is_counted_and_leaves_all_as_it_was() {
    let world = World::new();
    fill(&world, &foreign(1));
    let adopter = Adopter::new(tools(&world), config(&[]));
    let cancel = CancelToken::default();
    cancel.cancel(pyrrha_model::contract::CancelReason::Canceled);
    adopter.round(&nothing, &cancel).expect_err("it was stopped");
    assert_eq!(adopter.metrics().failures.load(Ordering::Relaxed), 1);
    assert_eq!((adopted(&round(&adopter)), samples(&world)), (1, 1));
}
