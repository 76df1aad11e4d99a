//! What tests of this crate have in common: blocks, a bucket, and what reads it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;
use object_store::memory::InMemory;
use pyrrha_encoding::chunk::xor;
use pyrrha_env::{Clock, Disk};
use pyrrha_model::contract::{ChunkRef, QueryContext, Queryable, SelectHints, SeriesBatch, Timestamps};
use pyrrha_model::{ChunkEncoding, Labels, Matcher, StoreError, TenantId, TimeRange};
use pyrrha_storage::block::{Block, BlockId, BlockMeta, BlockWriter};
use pyrrha_storage::{Db, StorageConfig};
use pyrrha_testkit::{SimClock, SimDisk};

use crate::{
    Bucket, BucketQueryable, BucketRuntime, BucketTenants, Gateway, GatewayConfig, LocalSources, RetryPolicy,
    Shipper,
};

/// Two hours.
pub(crate) const RANGE: i64 = 7_200_000;

pub(crate) fn policy() -> RetryPolicy {
    RetryPolicy {
        attempts: 12,
        first_wait: Duration::from_millis(1),
        longest_wait: Duration::from_millis(4),
        timeout: Duration::from_millis(500),
        ..RetryPolicy::default()
    }
}

pub(crate) fn id(n: u64) -> BlockId {
    BlockId::from_parts(n, 1)
}

fn chunk(start: i64, samples: i64) -> ChunkRef {
    let times: Vec<i64> = (0..samples).map(|i| start + i * 15_000).collect();
    let values: Vec<f64> = times.iter().map(|&t| (t / 1000 % 97) as f64 / 4.0).collect();
    ChunkRef {
        min_time: times[0],
        max_time: times[times.len() - 1],
        encoding: ChunkEncoding::Xor,
        timestamps: Timestamps::Own,
        bytes: xor::encode(&times, &values).into(),
    }
}

/// The series of test block `n`, whose range is the `n`th two hours.
pub(crate) fn series(n: u64, count: usize) -> Vec<(Labels, Vec<ChunkRef>)> {
    let labels = |i: usize| {
        Labels::from_pairs([
            ("__name__", format!("metric_{}", i % 3)),
            ("instance", format!("host-{i:05}")),
            ("zone", if i.is_multiple_of(2) { "a".to_owned() } else { String::new() }),
        ])
    };
    let start = n as i64 * RANGE;
    let chunks = |i: usize| (0..=(i % 4) as i64).map(|c| chunk(start + c * 1_800_000, 60)).collect();
    let mut series: Vec<(Labels, Vec<ChunkRef>)> = (0..count).map(|i| (labels(i), chunks(i))).collect();
    series.sort_by(|a, b| a.0.cmp(&b.0));
    series
}

/// Writes test block `n` under `/local`.
pub(crate) fn block(disk: &SimDisk, n: u64, count: usize) -> Block {
    let meta = BlockMeta::of_head(id(n + 1), n as i64 * RANGE, (n as i64 + 1) * RANGE);
    write(disk, meta, &series(n, count))
}

pub(crate) fn write(disk: &SimDisk, meta: BlockMeta, series: &[(Labels, Vec<ChunkRef>)]) -> Block {
    let dir = Path::new("/local").join(meta.ulid.to_string());
    let mut writer = BlockWriter::create(Arc::new(disk.clone()), &dir).expect("no fault");
    for (labels, chunks) in series {
        writer.add_series(labels, chunks).expect("in order");
    }
    writer.finish(meta).expect("no fault");
    Block::open(disk, &dir).expect("a sound block")
}

/// A process with a local disk, before a bucket.
pub(crate) struct World {
    pub(crate) disk: SimDisk,
    pub(crate) runtime: Arc<BucketRuntime>,
    pub(crate) bucket: Bucket,
    pub(crate) tenants: Arc<BucketTenants>,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) shipper: Shipper,
    pub(crate) db: Arc<Db>,
    pub(crate) clock: Arc<SimClock>,
}

impl World {
    /// With a disk, before the objects of a store.
    pub(crate) fn on(disk: SimDisk, store: Arc<dyn ObjectStore>, cache_bytes: usize) -> Self {
        let config =
            GatewayConfig { cache_dir: "/cache".into(), cache_bytes, disk_bytes: 0, header_bytes: 1 << 20 };
        Self::reading(disk, store, config)
    }

    /// The same, with caches of its own.
    pub(crate) fn reading(disk: SimDisk, store: Arc<dyn ObjectStore>, config: GatewayConfig) -> Self {
        // Two worlds on one disk are two servers.
        static DATA: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let runtime = Arc::new(BucketRuntime::start(2).expect("threads"));
        let bucket = Bucket::new(store, "test", "prefix", policy());
        let sim = Arc::new(SimClock::new(100 * RANGE));
        let clock: Arc<dyn Clock> = sim.clone();
        let tenants = Arc::new(BucketTenants::new(bucket.clone(), runtime.clone(), clock.clone()));
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let gateway = Arc::new(Gateway::new(tenants.clone(), runtime.clone(), shared.clone(), config));
        let shipper = Shipper::new(tenants.clone(), runtime.clone(), shared.clone());
        let db = Db::open_single_threaded(
            StorageConfig::new(format!("/data-{}", DATA.fetch_add(1, std::sync::atomic::Ordering::Relaxed))),
            shared,
            clock,
        )
        .expect("opens");
        Self { disk, runtime, bucket, tenants, gateway, shipper, db: Arc::new(db), clock: sim }
    }

    pub(crate) fn new() -> Self {
        Self::on(SimDisk::new(1), Arc::new(InMemory::new()), 64 << 20)
    }

    pub(crate) fn tenant() -> TenantId {
        TenantId::anonymous()
    }

    pub(crate) fn ship(&self, blocks: &[Block]) -> Result<(), StoreError> {
        self.shipper.ship(&[(Self::tenant(), blocks.to_vec())], &|| false)
    }

    /// What queries read, with `local` hiding what was made from those blocks.
    pub(crate) fn queryable(&self, local: impl IntoIterator<Item = BlockId>) -> BucketQueryable {
        let local: BTreeSet<BlockId> = local.into_iter().collect();
        let sources: LocalSources = Arc::new(move |_| local.clone());
        BucketQueryable::new(self.db.queryable(), sources, self.gateway.clone())
    }
}

/// Labels with the chunks' first and last times and bytes.
pub(crate) type Rows = Vec<(Labels, Vec<(i64, i64, Vec<u8>)>)>;

pub(crate) fn select(
    from: &dyn Queryable,
    ctx: &QueryContext,
    matchers: &[Matcher],
    range: TimeRange,
    hints: &SelectHints,
) -> Result<Rows, StoreError> {
    let mut set = from.select(ctx, matchers, range, hints)?;
    let (mut batch, mut all) = (SeriesBatch::default(), Vec::new());
    while set.next_batch(37, &mut batch)? {
        for entry in &batch.series {
            let chunks = entry.chunks.iter().map(|c| (c.min_time, c.max_time, c.bytes.to_vec())).collect();
            all.push((batch.resolve(&ctx.symbols, entry), chunks));
        }
    }
    Ok(all)
}

/// Waits for a condition that others bring about.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let (_open, never) = std::sync::mpsc::channel::<()>();
    for _ in 0..60_000 {
        if is_so() {
            return;
        }
        let _ = never.recv_timeout(Duration::from_millis(1));
    }
    panic!("it was waited for in vain: {what}");
}
