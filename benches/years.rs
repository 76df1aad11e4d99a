//! Writes the blocks of a long history straight into a directory bucket: what `benches/years.sh` measures.
//!
//! `cargo run --release -p pyrrha-benches --bin years -- DIR [--series 10000] [--days 395] [--step-s 60] [--names 10]
//! [--end <unix seconds>]` fills `DIR/anonymous` with one block per 14 days. A tenth of the series is the counter
//! `x`, of twenty jobs; the others are counters and gauges of nine names, or of as many as wanted. Values are those of
//! real things: increments that scatter around a daily curve, gauges of two decimals, and some that stand still.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use pyrrha_encoding::chunk::xor;
use pyrrha_env::{Disk, OsDisk};
use pyrrha_model::contract::{ChunkRef, Timestamps};
use pyrrha_model::{ChunkEncoding, Labels};
use pyrrha_storage::block::{BlockError, BlockId, BlockMeta, BlockWriter};

const DAY: i64 = 86_400_000;
const BLOCK: i64 = 14 * DAY;
/// Names at most.
const NAMES: i64 = 10;
const JOBS: i64 = 20;
/// Samples of a chunk, as heads cut them.
const CHUNK: usize = 120;

/// What is written.
#[derive(Clone, Copy)]
struct Plan {
    series: i64,
    names: i64,
    step: i64,
    /// Aligned to days; the first block begins at a multiple of its length.
    start: i64,
    end: i64,
}

fn main() -> ExitCode {
    let mut dir = None;
    let (mut series, mut days, mut step, mut end) = (10_000i64, 395i64, 60i64, 1_790_000_000i64);
    let mut names = NAMES;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|value| value.parse().ok()).filter(|n| *n > 0);
        let wanted = match argument.as_str() {
            "--series" => &mut series,
            "--days" => &mut days,
            "--step-s" => &mut step,
            "--end" => &mut end,
            "--names" => &mut names,
            name if name.starts_with('-') || dir.is_some() => return usage(),
            _ => {
                dir = Some(argument);
                continue;
            }
        };
        let Some(value) = number() else { return usage() };
        *wanted = value;
    }
    let Some(dir) = dir else { return usage() };
    let end = end * 1000 / DAY * DAY;
    let names = names.min(NAMES);
    let plan = Plan { series: series.max(names), names, step: step * 1000, start: end - days * DAY, end };
    match fill(Path::new(&dir), plan) {
        Ok((blocks, samples)) => {
            println!(
                "{{\"blocks\": {blocks}, \"series\": {}, \"samples\": {samples}, \"start\": {}, \"end\": {}}}",
                plan.series,
                plan.start / 1000,
                plan.end / 1000
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("years: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!(
        "usage: years DIR [--series 10000] [--days 395] [--step-s 60] [--names 10] [--end <unix seconds>]"
    );
    ExitCode::FAILURE
}

/// Writes all blocks, one thread per core; gives their number and that of the samples.
fn fill(dir: &Path, plan: Plan) -> Result<(u64, u64), BlockError> {
    let next = AtomicI64::new(plan.start.div_euclid(BLOCK) * BLOCK);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let mut done = (0, 0);
        loop {
            let begin = next.fetch_add(BLOCK, Ordering::Relaxed);
            if begin >= plan.end {
                return Ok(done);
            }
            done = (done.0 + 1, done.1 + write_block(dir, plan, begin)?);
        }
    };
    let results: Vec<Result<(u64, u64), BlockError>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().expect("no panic")).collect()
    });
    results.into_iter().try_fold((0, 0), |all, one| one.map(|one| (all.0 + one.0, all.1 + one.1)))
}

fn write_block(dir: &Path, plan: Plan, begin: i64) -> Result<u64, BlockError> {
    let ulid = BlockId::from_parts(begin.unsigned_abs(), 1);
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    let mut writer = BlockWriter::create(disk, &dir.join("anonymous").join(ulid.to_string()))?;
    let (first, last) = (begin.max(plan.start), (begin + BLOCK).min(plan.end));
    let mut order: Vec<(Labels, i64)> = (0..plan.series).map(|n| (labels(n, plan.names), n)).collect();
    order.sort();
    let (mut times, mut values, mut samples) = (Vec::new(), Vec::new(), 0);
    for (labels, number) in order {
        let mut chunks = Vec::new();
        let mut series = Values::new(number, plan.names, first);
        // Each target is scraped at a moment of its own.
        let mut at = first + (number / plan.names * 7_919) % plan.step;
        while at < last {
            times.clear();
            values.clear();
            while at < last && times.len() < CHUNK {
                times.push(at);
                values.push(series.next(at));
                at += plan.step;
            }
            samples += times.len() as u64;
            chunks.push(ChunkRef {
                min_time: times[0],
                max_time: times[times.len() - 1],
                encoding: ChunkEncoding::Xor,
                timestamps: Timestamps::Own,
                bytes: xor::encode(&times, &values).into(),
            });
        }
        writer.add_series(&labels, &chunks)?;
    }
    writer.finish(BlockMeta::of_head(ulid, first, last))?;
    Ok(samples)
}

fn labels(number: i64, names: i64) -> Labels {
    let (name, target) = (number % names, number / names);
    let name = if name == 0 { "x".to_owned() } else { format!("metric_{name}") };
    Labels::from_pairs([
        ("__name__", name),
        ("job", format!("job-{:02}", target % JOBS)),
        ("instance", format!("host-{target:05}.example.net:9100")),
    ])
}

/// The values of a series, which do not depend on the samples before `first` but for a counter's start.
struct Values {
    kind: i64,
    random: u64,
    value: f64,
}

impl Values {
    fn new(number: i64, names: i64, first: i64) -> Self {
        let kind = number % names;
        let random = number.unsigned_abs().wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ first.unsigned_abs();
        // Between blocks counters jump up, as after a gap; with steps under 20 s they begin anew, as after a
        // restart.
        let value = if kind < 6 { (first / 1000) as f64 } else { 40.0 };
        Self { kind, random, value }
    }

    fn next(&mut self, at: i64) -> f64 {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let noise = (self.random >> 40) as f64 / (1u64 << 24) as f64;
        // Load follows the day.
        let day = 1.0 + (at.rem_euclid(DAY) as f64 / DAY as f64 * std::f64::consts::TAU).sin() / 2.0;
        match self.kind {
            0..=5 => self.value += (noise * 40.0 * day).floor(),
            6 | 7 => {
                self.value = ((self.value + (noise - 0.5) * 2.0).clamp(0.0, 100.0) * 100.0).round() / 100.0
            }
            8 => {
                if noise < 0.01 {
                    self.value = (noise * 10_000.0).floor();
                }
            }
            _ => self.value = noise * day,
        }
        self.value
    }
}
