//! Which seeds a simulation runs.

/// Runs a simulation with each of `default` seeds; with as many as `PYRRHA_SEEDS` says, or with the one
/// of `PYRRHA_SEED`, if the environment has them. A failure says which seed to replay.
///
/// # Panics
/// If a run does.
pub fn run_seeds(default: u64, run: impl Fn(u64) + std::panic::RefUnwindSafe) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("PYRRHA_SEED") {
        Some(seed) => seed..seed.saturating_add(1),
        None => 0..number("PYRRHA_SEEDS").unwrap_or(default),
    };
    for seed in seeds {
        let result = std::panic::catch_unwind(|| run(seed));
        assert!(result.is_ok(), "failed: replay it with PYRRHA_SEED={seed}");
    }
}
