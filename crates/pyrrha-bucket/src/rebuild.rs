//! A manifest from nothing but the blocks that are in the bucket.

use std::collections::BTreeMap;
use std::sync::Arc;

use pyrrha_env::Clock;
use pyrrha_model::{StoreError, TenantId};
use pyrrha_storage::block::{BlockId, BlockMeta};
use pyrrha_storage::manifest::{BlockEntry, Manifest, ManifestState};

use crate::block_files::{self, BlockFile, FILES, META};
use crate::door::Bucket;
use crate::error::BucketError;
use crate::manifest_store::BucketManifestStore;
use crate::marks::MarkKind;
use crate::runtime::BucketRuntime;
use crate::shard::{Shard, cover};
use crate::sources::{Holders, holders_first};

/// Largest `meta.json` that is read.
pub(crate) const META_MAX: u64 = 64 << 20;

/// What a tenant's directory in the bucket holds.
#[derive(Debug, Default)]
pub struct FoundBlocks {
    /// Blocks that are whole and not replaced by others.
    pub live: Vec<BlockEntry>,
    /// Blocks whose data another one holds, and the other.
    pub replaced: Vec<(BlockId, BlockId)>,
    /// Blocks that somebody marked for deletion.
    pub marked: Vec<BlockId>,
    /// Directories without `meta.json`: uploads that go on or were given up.
    pub partial: Vec<BlockId>,
    /// Blocks whose `meta.json` does not read, and why.
    pub damaged: Vec<(BlockId, String)>,
}

/// Looks at all blocks of a tenant: one listing, and one request per block.
pub async fn find_blocks(bucket: &Bucket, tenant: &TenantId) -> Result<FoundBlocks, BucketError> {
    let mut directories: BTreeMap<BlockId, Vec<BlockFile>> = BTreeMap::new();
    for object in bucket.list(tenant.as_str()).await? {
        let path = object.key.strip_prefix(tenant.as_str()).and_then(|k| k.strip_prefix('/'));
        let Some((directory, name)) = path.and_then(|p| p.split_once('/')) else { continue };
        let Ok(block) = directory.parse::<BlockId>() else { continue };
        let file = BlockFile { name: name.to_owned(), bytes: object.bytes, crc32c: None };
        directories.entry(block).or_default().push(file);
    }
    let mut found = FoundBlocks::default();
    let mut entries = Vec::new();
    for (block, files) in directories {
        let has = |name: &str| files.iter().any(|f| f.name == name);
        if has(MarkKind::Deletion.file()) {
            found.marked.push(block);
        } else if !has(META) {
            found.partial.push(block);
        } else {
            match read_meta(bucket, tenant, block).await? {
                Ok(meta) => entries.push(block_files::entry(&meta, files)),
                Err(why) => found.damaged.push((block, why)),
            }
        }
    }
    sort_out(entries, &mut found);
    Ok(found)
}

/// Reads `meta.json`; the inner error says why it is no meta of this block.
async fn read_meta(
    bucket: &Bucket,
    tenant: &TenantId,
    block: BlockId,
) -> Result<Result<BlockMeta, String>, BucketError> {
    let key = format!("{}/{META}", block_files::dir_under(tenant, None, block));
    let Some(json) = bucket.get(&key, META_MAX).await? else {
        return Ok(Err("meta.json went away".to_owned()));
    };
    Ok(match BlockMeta::parse(&block.to_string(), &json) {
        Ok(meta) if meta.ulid != block => Err(format!("meta.json is that of block={}", meta.ulid)),
        Ok(meta) => Ok(meta),
        Err(error) => Err(error.to_string()),
    })
}

/// Decides which blocks are live: all but those whose sources another of the same resolution has
/// all of.
fn sort_out(mut entries: Vec<BlockEntry>, found: &mut FoundBlocks) {
    entries.sort_by_key(holders_first);
    let mut holders = Holders::default();
    for entry in entries {
        // One shard of a split block has not what another has.
        let known = holders.of(&entry.resolution, &entry);
        let shards = known.iter().map(|&by| Shard::of(&found.live[by]));
        if let Some(&by) = known.first().filter(|_| cover(shards, Shard::of(&entry))) {
            found.replaced.push((entry.ulid, found.live[by].ulid));
            continue;
        }
        holders.add(&entry.resolution, &entry, found.live.len());
        found.live.push(entry);
    }
    found.live.sort_by_key(|entry| entry.ulid);
}

/// Commits a manifest that names exactly the blocks that are in the bucket, and gives it with what
/// was found. Deletions in force survive if the newest manifest still reads. Waits for requests, so
/// it must not be called on a thread of a runtime.
pub fn rebuild_manifest(
    bucket: &Bucket,
    runtime: &Arc<BucketRuntime>,
    tenant: &TenantId,
    clock: Arc<dyn Clock>,
) -> Result<(Arc<ManifestState>, FoundBlocks), StoreError> {
    let (from, id) = (bucket.clone(), tenant.clone());
    let found = runtime.wait(async move { find_blocks(&from, &id).await })?;
    let store = BucketManifestStore::new(bucket.clone(), runtime.clone(), tenant);
    let manifest = Manifest::rebuild(Arc::new(store), clock, &found.live)?;
    let lacking = manifest.current().blocks.values().filter(|b| !b.other.contains_key(FILES)).count();
    debug_assert_eq!(lacking, 0, "every entry that was found names its files");
    Ok((manifest.current(), found))
}
