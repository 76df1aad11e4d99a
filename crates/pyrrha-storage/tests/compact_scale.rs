//! A compaction of twelve blocks of two hours streams: memory stays under its cap however large they are.
//!
//! `PYRRHA_SERIES=100000 cargo test --release -p pyrrha-storage --test compact_scale -- --nocapture` does it
//! with 576 M samples, and prints speed and memory.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use pyrrha_encoding::encode_series;
use pyrrha_env::{Clock, Disk, OsDisk, SystemClock};
use pyrrha_model::contract::{CancelToken, ChunkRef, MemoryBudget, QueryContext, Value};
use pyrrha_model::{Labels, TenantId};
use pyrrha_storage::block::{Block, BlockId, BlockMeta, BlockWriter, Layout};
use pyrrha_storage::compact::compact;

const BLOCKS: i64 = 12;
const RANGE: i64 = 2 * 3_600_000;
const STEP: i64 = 15_000;
/// Series whose samples differ; the rest repeats them.
const PATTERNS: u64 = 16;

/// Chunks of the samples that a series of this pattern has in a block.
fn chunks(pattern: u64, block: i64) -> Vec<ChunkRef> {
    let mut state = pattern * 7919 + block as u64 + 1;
    let mut value = (pattern * 1000) as f64;
    let samples: Vec<_> = (0..RANGE / STEP)
        .map(|i| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            value += (state >> 56) as f64 / 4.0;
            (0, block * RANGE + i * STEP + (pattern as i64 * 100), Value::Float(value))
        })
        .collect();
    encode_series(&samples, false)
}

fn write_block(disk: &Arc<dyn Disk>, home: &Path, number: i64, series: u64) -> Block {
    let ulid = BlockId::from_parts(1000 + number as u64, 0);
    let dir = home.join(ulid.to_string());
    let mut writer = BlockWriter::create(disk.clone(), &dir).unwrap();
    let patterns: Vec<Vec<ChunkRef>> = (0..PATTERNS).map(|p| chunks(p, number)).collect();
    for i in 0..series {
        let labels = Labels::from_pairs([
            ("__name__", "http_requests_total".to_owned()),
            ("host", format!("host-{:06}.example.net", i / 100)),
            ("path", format!("/api/v1/thing{:02}", i % 100)),
        ]);
        writer.add_series(&labels, &patterns[(i % PATTERNS) as usize]).unwrap();
    }
    writer.finish(BlockMeta::of_head(ulid, number * RANGE, (number + 1) * RANGE)).unwrap();
    Block::open(&**disk, &dir).unwrap()
}

/// A figure of `/proc/self/status`, bytes; 0 where there is none.
fn status(key: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// User and system time of the process, seconds.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(") ").next().unwrap_or("").split(' ').collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

/// Merges blocks of so many series under a cap; gives the most anonymous memory above what there was.
fn merge(series: u64, cap: usize) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    let blocks: Vec<Block> = (0..BLOCKS).map(|n| write_block(&disk, dir.path(), n, series)).collect();
    let bytes: u64 = blocks.iter().map(Block::bytes).sum();
    let before = status("RssAnon");
    let (most, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let budget = MemoryBudget::new("compaction", cap, None);
    let ctx = QueryContext::new(TenantId::anonymous(), budget, CancelToken::default());
    let (clock, cpu) = (SystemClock::new(), cpu_seconds());
    let began = clock.monotonic();
    let meta = std::thread::scope(|scope| {
        scope.spawn(|| {
            let clock = SystemClock::new();
            while !done.load(Ordering::Acquire) {
                most.fetch_max(status("RssAnon"), Ordering::Relaxed);
                clock.sleep(Duration::from_millis(2));
            }
        });
        let output = BlockId::from_parts(9999, 1);
        let meta = compact(&disk, dir.path(), output, Layout::Standard, &blocks, &ctx);
        done.store(true, Ordering::Release);
        meta.unwrap().unwrap().meta
    });
    let (seconds, cpu) = ((clock.monotonic() - began).as_secs_f64(), cpu_seconds() - cpu);
    assert_eq!(meta.stats.num_samples, series * (BLOCKS * RANGE / STEP) as u64);
    assert_eq!(meta.stats.num_series, series);
    let above = most.load(Ordering::Relaxed).saturating_sub(before);
    let samples = meta.stats.num_samples as f64 / 1e6;
    println!(
        "{series} series, {samples:.1} M samples, {bytes} bytes: {seconds:.2} s, cpu {cpu:.2} s, {:.1} M samples/s of cpu, anonymous memory {above} bytes",
        samples / cpu.max(0.01)
    );
    above
}

#[test]
fn memory_does_not_grow_with_what_is_merged() {
    let series = std::env::var("PYRRHA_SERIES").ok().and_then(|n| n.parse().ok()).unwrap_or(4_000);
    let cap = 16 << 20;
    let above = merge(series, cap);
    assert!(above <= cap as u64, "{above}");
}
