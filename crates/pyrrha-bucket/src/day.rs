//! What a day of one tenant costs in requests: a server that ships, looks for other servers' blocks, and looks
//! after the bucket, with nobody asking. Requests do not depend on the number of series but for the parts of large
//! files.

use std::sync::Arc;
use std::time::Duration;

use object_store::memory::InMemory;
use pyrrha_env::{Clock, Disk};
use pyrrha_model::contract::CancelToken;
use pyrrha_testkit::SimDisk;

use crate::worlds::{RANGE, World, block};
use crate::{Compactor, CompactorConfig, Operation};

/// A server looks at manifests so often, and for jobs so often.
const REFRESH: Duration = Duration::from_secs(30);
const ROUNDS_PER_REFRESH: u64 = 2;
const DAY: i64 = 12 * RANGE;

/// Requests of an operation so far.
fn attempts(world: &World) -> Vec<u64> {
    Operation::ALL.iter().map(|&operation| world.bucket.counters().attempts(operation)).collect()
}

/// Requests of the day by operation, and of an idle hour in it. `merges` is whether there are jobs.
fn day(merges: bool) -> Vec<u64> {
    let world = World::on(SimDisk::new(1), Arc::new(InMemory::new()), 8 << 20);
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(2));
    let clock: Arc<dyn Clock> = world.clock.clone();
    let mut config = CompactorConfig::new("/scratch");
    config.leaves.clear();
    let compactor = Compactor::new(world.tenants.clone(), world.runtime.clone(), disk, clock, config)
        .expect("a directory");
    let mut local = Vec::new();
    let mut before = Vec::new();
    // The clock begins at a hundred ranges.
    for n in 100..100 + 3 * 12 {
        // The third day is counted: jobs of the two before are about as many as its own.
        if n == 100 + 2 * 12 {
            before = attempts(&world);
        }
        if merges || n == 100 {
            local.push(block(&world.disk, n, 4));
        }
        world.ship(&local).expect("no fault");
        for look in 0..(RANGE as u64 / 1000 / REFRESH.as_secs()) {
            world.gateway.refresh().expect("no fault");
            if look % ROUNDS_PER_REFRESH == 0 {
                compactor.round(&CancelToken::default()).expect("no fault");
            }
            world.clock.advance(REFRESH);
        }
    }
    attempts(&world).iter().zip(before).map(|(now, before)| now - before).collect()
}

#[test]
fn a_day_costs_so_many_requests() {
    let (idle, busy) = (day(false), day(true));
    for (i, operation) in Operation::ALL.iter().enumerate() {
        println!("{:>10}: {:>6} a day, {:>6} of them for nothing", operation.name(), busy[i], idle[i]);
    }
    let sum = |counts: &[u64]| counts.iter().sum::<u64>();
    let (looks, rounds) = (DAY as u64 / 30_000, DAY as u64 / 60_000);
    println!("{:>10}: {:>6} a day, {:>6} of them for nothing", "all", sum(&busy), sum(&idle));
    // A look asks whether two manifests exist; a round does so too, lists tenants and jobs, and asks for the
    // store's clock six times an hour.
    assert!(sum(&idle) <= 2 * looks + 4 * rounds + 2 * 6 * 24, "idle={}", sum(&idle));
    // Twelve blocks come, and there are fewer jobs than blocks: merges into 12 h and a day, and windows.
    assert!(sum(&busy) - sum(&idle) <= 12 * 150, "busy={}", sum(&busy));
    assert!(busy[Operation::Put as usize] + busy[Operation::Create as usize] >= 12 * 4, "blocks are shipped");
}
