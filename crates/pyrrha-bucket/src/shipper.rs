//! The shipper: local blocks go up to the bucket, one at a time, beside the traffic.
//!
//! What is to be shipped is no list of its own but a comparison: a local block whose sources the
//! bucket's manifest does not cover. So a restart, a crash in the middle or a failed attempt need
//! nothing to be remembered. Order: data, `meta.json`, manifest; a block counts from the last.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pyrrha_encoding::crc;
use pyrrha_env::{Disk, DiskFile};
use pyrrha_model::{StoreError, TenantId};
use pyrrha_storage::block::{Block, BlockId};
use pyrrha_storage::manifest::{BlockEntry, ManifestState};

use crate::block_files::{self, BlockFile};
use crate::door::Bucket;
use crate::error::BucketError;
use crate::runtime::BucketRuntime;
use crate::tenants::BucketTenants;

const META: &str = "meta.json";
const CHUNKS: &str = "chunks";
/// A local file is read in pieces of so many bytes.
const BUFFER: u64 = 1 << 20;

/// Ships blocks of local stores.
#[derive(Debug)]
pub struct Shipper {
    tenants: Arc<BucketTenants>,
    runtime: Arc<BucketRuntime>,
    disk: Arc<dyn Disk>,
    metrics: ShipperMetrics,
}

/// What a shipper has done, and has before it.
#[derive(Debug, Default)]
pub struct ShipperMetrics {
    /// Blocks that the last look found to ship.
    pub backlog_blocks: AtomicU64,
    /// Their bytes.
    pub backlog_bytes: AtomicU64,
    /// Blocks shipped.
    pub shipped_blocks: AtomicU64,
    /// Their bytes.
    pub shipped_bytes: AtomicU64,
    /// Attempts that failed.
    pub failures: AtomicU64,
}

impl Shipper {
    /// A shipper to the bucket of `tenants`, of blocks that are on `disk`.
    pub fn new(tenants: Arc<BucketTenants>, runtime: Arc<BucketRuntime>, disk: Arc<dyn Disk>) -> Self {
        Self { tenants, runtime, disk, metrics: ShipperMetrics::default() }
    }

    /// What it has done.
    pub fn metrics(&self) -> &ShipperMetrics {
        &self.metrics
    }

    /// Those of `blocks` of which the bucket holds all data.
    pub fn shipped(&self, tenant: &TenantId, blocks: &[Block]) -> Result<Vec<BlockId>, StoreError> {
        let state = self.tenants.manifest(tenant)?.current();
        Ok(blocks.iter().filter(|b| is_covered(&state, b)).map(|b| b.meta().ulid).collect())
    }

    /// Ships what of `blocks`, the live blocks of each tenant, is not in the bucket, oldest first.
    /// A block that fails is tried again at the next call; the first error is given when all were
    /// tried. Waits for requests, so it must not be called on a thread of a runtime. `stop` ends it
    /// between two blocks.
    pub fn ship(&self, blocks: &[(TenantId, Vec<Block>)], stop: &dyn Fn() -> bool) -> Result<(), StoreError> {
        let mut result = Ok(());
        let mut backlog = Vec::new();
        for (tenant, blocks) in blocks {
            match self.tenants.manifest(tenant) {
                Ok(manifest) => {
                    let state = manifest.current();
                    let open = blocks.iter().filter(|b| !is_covered(&state, b));
                    backlog.extend(open.map(|block| (tenant, block)));
                }
                Err(error) => result = result.and(Err(error)),
            }
        }
        backlog.sort_by_key(|(_, block)| (block.meta().min_time, block.meta().ulid));
        let bytes = backlog.iter().map(|(_, block)| block.bytes()).sum();
        self.metrics.backlog_blocks.store(backlog.len() as u64, Ordering::Relaxed);
        self.metrics.backlog_bytes.store(bytes, Ordering::Relaxed);
        for (tenant, block) in backlog {
            if stop() {
                break;
            }
            if let Err(error) = self.ship_block(tenant, block) {
                self.metrics.failures.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%tenant, block = %block.meta().ulid, %error, "block could not be shipped and is tried again");
                result = result.and(Err(error));
                continue;
            }
            self.metrics.shipped_blocks.fetch_add(1, Ordering::Relaxed);
            self.metrics.shipped_bytes.fetch_add(block.bytes(), Ordering::Relaxed);
            self.metrics.backlog_blocks.fetch_sub(1, Ordering::Relaxed);
            self.metrics.backlog_bytes.fetch_sub(block.bytes(), Ordering::Relaxed);
        }
        result
    }

    fn ship_block(&self, tenant: &TenantId, block: &Block) -> Result<(), StoreError> {
        let upload = Upload {
            bucket: self.tenants.bucket().clone(),
            disk: self.disk.clone(),
            key: format!("{tenant}/{}", block.meta().ulid),
            block: block.clone(),
        };
        let files = self.runtime.wait(async move { upload.run().await })?;
        let entry = block_files::entry(block.meta(), files);
        let manifest = self.tenants.manifest(tenant)?;
        // What it was made from leaves with the same commit.
        let replaced = replaced_by(&manifest.current(), &entry);
        manifest.commit(&[entry], &replaced)?;
        tracing::info!(%tenant, block = %block.meta().ulid, bytes = block.bytes(), "block shipped");
        Ok(())
    }
}

/// Whether the bucket holds the data of all blocks that a block was made from.
fn is_covered(state: &ManifestState, block: &Block) -> bool {
    let meta = block.meta();
    if state.blocks.contains_key(&meta.ulid) {
        return true;
    }
    let sources = &meta.compaction.sources;
    !sources.is_empty() && sources.iter().all(|&source| state.covers(source))
}

/// Live blocks of the same resolution that hold nothing but what `entry` holds.
fn replaced_by(state: &ManifestState, entry: &BlockEntry) -> Vec<BlockId> {
    let held = |b: &BlockEntry| {
        b.resolution == entry.resolution
            && b.ulid != entry.ulid
            && !b.sources.is_empty()
            && b.sources.iter().all(|source| entry.sources.contains(source))
    };
    state.blocks.values().filter(|b| held(b)).map(|b| b.ulid).collect()
}

/// The upload of one block.
struct Upload {
    bucket: Bucket,
    disk: Arc<dyn Disk>,
    key: String,
    block: Block,
}

impl Upload {
    /// Uploads what is missing, verifies all of it, and gives the files. An earlier attempt may
    /// have brought some: an object is whole or absent, and a block never changes.
    async fn run(&self) -> Result<Vec<BlockFile>, BucketError> {
        let there = self.bucket.list(&self.key).await?;
        let is_there = |name: &str, bytes: u64| {
            there.iter().any(|o| o.bytes == bytes && self.name_of(&o.key) == Some(name))
        };
        let mut names = self.local_files()?;
        // Whoever looks at the bucket takes a block for whole once this is there.
        names.push(META.to_owned());
        let mut files = Vec::new();
        for name in names {
            let path = self.block.dir().join(&name);
            let file = Arc::<dyn DiskFile>::from(self.disk.open(&path).map_err(local(&path))?);
            let bytes = file.len().map_err(local(&path))?;
            let sum = if is_there(&name, bytes) {
                checksum(&*file, &path, bytes)?
            } else {
                self.bucket.upload(&format!("{}/{name}", self.key), file, bytes).await?
            };
            files.push(BlockFile { name, bytes, crc32c: Some(sum) });
        }
        self.verify(&files).await?;
        Ok(files)
    }

    fn name_of<'k>(&self, key: &'k str) -> Option<&'k str> {
        key.strip_prefix(&self.key)?.strip_prefix('/')
    }

    /// The block's files but `meta.json`: chunks, and what lies beside them.
    fn local_files(&self) -> Result<Vec<String>, BucketError> {
        let dir = self.block.dir();
        let list = |dir: &Path| self.disk.list(dir).map_err(local(dir));
        let mut names = Vec::new();
        for entry in list(dir)? {
            match (entry.is_dir, entry.name.as_str()) {
                (true, CHUNKS) => {
                    let segments = list(&dir.join(CHUNKS))?;
                    names.extend(
                        segments.into_iter().filter(|s| !s.is_dir).map(|s| format!("{CHUNKS}/{}", s.name)),
                    );
                }
                (true, _) | (false, META) => {}
                (false, name) => names.push(name.to_owned()),
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Whether the bucket has each file in its full length.
    async fn verify(&self, files: &[BlockFile]) -> Result<(), BucketError> {
        let there = self.bucket.list(&self.key).await?;
        for file in files {
            let found = there.iter().find(|o| self.name_of(&o.key) == Some(&file.name)).map(|o| o.bytes);
            if found != Some(file.bytes) {
                let what = format!("uploaded bytes={} found={found:?}", file.bytes);
                return Err(BucketError::Corrupt { key: format!("{}/{}", self.key, file.name), what });
            }
        }
        Ok(())
    }
}

fn checksum(file: &dyn DiskFile, path: &Path, bytes: u64) -> Result<u32, BucketError> {
    let (mut sum, mut at) = (0, 0);
    let mut buffer = Vec::new();
    while at < bytes {
        buffer.resize((bytes - at).min(BUFFER) as usize, 0);
        file.read_at(at, &mut buffer).map_err(local(path))?;
        sum = crc::checksum_append(sum, &buffer);
        at += buffer.len() as u64;
    }
    Ok(sum)
}

fn local(path: &Path) -> impl Fn(std::io::Error) -> BucketError + '_ {
    move |source| BucketError::Local { file: path.display().to_string(), source }
}

#[cfg(test)]
mod tests;
