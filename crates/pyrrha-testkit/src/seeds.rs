//! Which seeds a simulation runs.

use std::panic::{RefUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

/// Runs a simulation with each of `default` seeds, on all processors; with as many as `PYRRHA_SEEDS` says,
/// or with the one of `PYRRHA_SEED`, if the environment has them. A failure says which seed to replay.
///
/// # Panics
/// If a run does.
pub fn run_seeds(default: u64, run: impl Fn(u64) + RefUnwindSafe + Sync) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("PYRRHA_SEED") {
        return run(seed);
    }
    let seeds = number("PYRRHA_SEEDS").unwrap_or(default);
    if let Some(seed) = first_failure(seeds, run) {
        panic!("failed: replay it with PYRRHA_SEED={seed}");
    }
}

/// The least seed below `seeds` whose run panics, of those that were begun before one did.
fn first_failure(seeds: u64, run: impl Fn(u64) + RefUnwindSafe + Sync) -> Option<u64> {
    let (next, failed) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
    let work = || {
        while failed.load(Ordering::Relaxed) == u64::MAX {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return;
            }
            if catch_unwind(|| run(seed)).is_err() {
                failed.fetch_min(seed, Ordering::Relaxed);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let failed = failed.into_inner();
    (failed < seeds).then_some(failed)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn each_seed_runs_once_and_a_failing_one_is_named() {
        let seen = Mutex::new(Vec::new());
        assert_eq!(first_failure(50, |seed| seen.lock().expect("no panic").push(seed)), None);
        let mut seen = seen.into_inner().expect("no panic");
        seen.sort_unstable();
        assert_eq!(seen, (0..50).collect::<Vec<_>>());
        assert_eq!(first_failure(50, |seed| assert_ne!(seed, 17)), Some(17));
    }
}
