//! Ten thousand blocks in a bucket on a disk: what opening the store costs, and what reading all of it does.
//! Figures are printed; docs/benchmarks.md has some.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use pyrrha_bucket::{
    Bucket, BucketQueryable, BucketRuntime, BucketTenants, Gateway, GatewayConfig, Operation, Shipper, config,
};
use pyrrha_encoding::chunk::xor;
use pyrrha_env::{Clock, Disk, OsDisk, SystemClock};
use pyrrha_model::contract::{
    ChunkRef, MemoryBudget, QueryContext, Queryable, SelectHints, SeriesBatch, Timestamps,
};
use pyrrha_model::{ChunkEncoding, Labels, Matcher, TenantId, TimeRange};
use pyrrha_storage::block::{Block, BlockId, BlockMeta, BlockWriter};
use pyrrha_storage::manifest::{BlockEntry, Change};
use pyrrha_storage::{Db, StorageConfig};

const BLOCKS: u64 = 10_000;
const SERIES: u64 = 5;
const HOURS: i64 = 7_200_000;

/// A process that reads the bucket in `dir`.
struct Process {
    bucket: Bucket,
    runtime: Arc<BucketRuntime>,
    tenants: Arc<BucketTenants>,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
}

impl Process {
    fn new(dir: &Path) -> Self {
        let bucket = config::open_directory(&dir.join("bucket")).unwrap();
        let runtime = Arc::new(BucketRuntime::start(2).unwrap());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let tenants = Arc::new(BucketTenants::new(bucket.clone(), runtime.clone(), clock.clone()));
        Self { bucket, runtime, tenants, disk: Arc::new(OsDisk), clock }
    }

    fn queryable(&self, dir: &Path) -> BucketQueryable {
        let config = GatewayConfig {
            cache_dir: dir.join("cache"),
            cache_bytes: 64 << 20,
            disk_bytes: 0,
            header_bytes: 64 << 20,
        };
        let gateway =
            Arc::new(Gateway::new(self.tenants.clone(), self.runtime.clone(), self.disk.clone(), config));
        let local = StorageConfig::new(dir.join("data"));
        let db = Db::open_single_threaded(local, self.disk.clone(), self.clock.clone()).unwrap();
        BucketQueryable::new(Arc::new(db).queryable(), Arc::new(|_| Default::default()), gateway)
    }
}

/// A block of two hours whose series have a sample a minute.
fn block(dir: &Path) -> Block {
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    let id = BlockId::from_parts(1, 1);
    let home = dir.join(id.to_string());
    disk.create_dir_all(dir).unwrap();
    let times: Vec<i64> = (0..120).map(|i| i * 60_000).collect();
    let values: Vec<f64> = times.iter().map(|t| (t / 60_000 * 7 % 41) as f64).collect();
    let mut writer = BlockWriter::create(disk, &home).unwrap();
    for i in 0..SERIES {
        let labels = Labels::from_pairs([("__name__", "up".to_owned()), ("instance", format!("host-{i}"))]);
        let chunk = ChunkRef {
            min_time: times[0],
            max_time: times[119],
            encoding: ChunkEncoding::Xor,
            timestamps: Timestamps::Own,
            bytes: Bytes::from(xor::encode(&times, &values)),
        };
        writer.add_series(&labels, &[chunk]).unwrap();
    }
    writer.finish(BlockMeta::of_head(id, 0, HOURS)).unwrap();
    Block::open(&OsDisk, &home).unwrap()
}

/// Ships a block, and copies it to all that come after it in time.
fn fill(dir: &Path) {
    let process = Process::new(dir);
    let tenant = TenantId::anonymous();
    let shipper = Shipper::new(process.tenants.clone(), process.runtime.clone(), process.disk.clone());
    shipper.ship(&[(tenant.clone(), vec![block(&dir.join("local"))])], &|| false).unwrap();
    let manifest = process.tenants.manifest(&tenant).unwrap();
    let original = manifest.current().blocks.values().next().unwrap().as_ref().clone();
    let home = |id: BlockId| dir.join("bucket/anonymous").join(id.to_string());
    let copies = (1..BLOCKS).map(|n| {
        let ulid = BlockId::from_parts(1 + n, 1);
        let to = home(ulid);
        std::fs::create_dir_all(to.join("chunks")).unwrap();
        for file in ["meta.json", "index", "chunks/000001"] {
            std::fs::hard_link(home(original.ulid).join(file), to.join(file)).unwrap();
        }
        let (start, end) = (n as i64 * HOURS, (n as i64 + 1) * HOURS);
        BlockEntry { ulid, sources: vec![ulid], min_time: start, max_time: end, ..original.clone() }
    });
    manifest.commit_change(&Change { added: copies.collect(), ..Change::default() }).unwrap();
}

/// Resident memory of this process, bytes; 0 where that is not told.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}

#[test]
fn ten_thousand_blocks_open_with_one_manifest() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let tenant = TenantId::anonymous();
    let process = Process::new(dir.path());
    let counters = process.bucket.counters();
    let before = resident();
    let began = process.clock.monotonic();
    let manifest = process.tenants.manifest(&tenant).unwrap();
    let took = process.clock.monotonic() - began;
    assert_eq!(manifest.current().blocks.len() as u64, BLOCKS);
    let grown = resident().saturating_sub(before);
    println!(
        "open: blocks={BLOCKS} took={took:?} requests={} memory={} KiB",
        counters.requests(),
        grown >> 10
    );
    // The hint; whether the number that it names is there, the next, and the one before; that number and its base.
    assert!(counters.requests() <= 6, "{}", counters.requests());
    assert_eq!((counters.attempts(Operation::List), counters.attempts(Operation::Head)), (0, 3));
    assert!(grown < 200 << 20, "{grown}");

    let all = process.queryable(dir.path());
    let matchers = [Matcher::equal("__name__", "up")];
    let ask = |range: TimeRange, budget: usize| {
        let budget = MemoryBudget::new("query", budget, None);
        let ctx = QueryContext { budget, ..QueryContext::unlimited() };
        let began = process.clock.monotonic();
        let mut set = all.select(&ctx, &matchers, range, &SelectHints::default()).unwrap();
        let (mut batch, mut series, mut chunks) = (SeriesBatch::default(), 0, 0);
        while set.next_batch(256, &mut batch).unwrap() {
            series += batch.series.len() as u64;
            chunks += batch.series.iter().map(|entry| entry.chunks.len() as u64).sum::<u64>();
        }
        let took = process.clock.monotonic() - began;
        let (fetched, peak) = (ctx.fetched.counts(), ctx.budget.peak() >> 10);
        println!("read: series={series} chunks={chunks} took={took:?} budget_peak={peak} KiB {fetched:?}");
        (series, chunks, fetched.requests)
    };
    let requests = counters.requests();
    assert_eq!(ask(TimeRange::new(-9, -1), 1 << 20), (0, 0, 0));
    assert_eq!(counters.requests(), requests, "blocks of other times cost nothing");
    // The index, which is small, and chunks: of the one block that is touched. Its entry says the times.
    let (_, _, one) = ask(TimeRange::new(0, HOURS - 1), 8 << 20);
    assert_eq!(one, 2);
    let before = resident();
    let (series, _, requests) = ask(TimeRange::ALL, 256 << 20);
    assert_eq!((series, requests), (SERIES, 2 * (BLOCKS - 1)));
    println!("memory={} KiB more", resident().saturating_sub(before) >> 10);
    ask(TimeRange::ALL, 256 << 20);
}
