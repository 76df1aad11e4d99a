//! What is in a bucket: directories, files and marks by LIST, metas by one request each, once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use pyrrha_model::{TenantId, Timestamp};
use pyrrha_storage::block::{BlockId, BlockMeta};
use pyrrha_storage::manifest::BlockEntry;

use super::rules::Candidate;
use super::{AttachConfig, BucketLayout, entry_without_meta};
use crate::block_files::{self, BlockFile, META};
use crate::door::{Bucket, ObjectInfo};
use crate::error::BucketError;
use crate::marks::{MARK_MAX, Mark, MarkKind};
use crate::mimir_index::{self, ListedBlock, MimirIndex};
use crate::rebuild::META_MAX;
use crate::tenants::tenant_of;

/// Requests for small objects under way at once.
const REQUESTS_AT_ONCE: usize = 32;
/// Tenants that are looked at at once.
const ROOTS_AT_ONCE: usize = 16;
/// Age up to which a bucket index is believed unless something else is said. Mimir writes it every 15 minutes.
const INDEX_MAX_AGE: Duration = Duration::from_secs(3600);
const TENANT_DELETION: &str = "tenant-deletion-mark.json";
/// Where marks of tenants lie beside their directories.
const GLOBAL_MARKS: &str = "__markers__";

/// Small objects that were read: by key, with length and time of change.
pub(crate) type Metas = HashMap<String, (u64, i64, Result<Small, String>)>;

/// What a small object says.
#[derive(Debug, Clone)]
pub(crate) enum Small {
    Meta(Arc<BlockMeta>),
    /// When a block is to be deleted from, ms.
    Deletion(Timestamp),
    /// Why it is not to be merged.
    NoCompact(String),
}

/// What a look found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) layout: BucketLayout,
    pub(super) blocks: Vec<Candidate>,
    /// Tenants of whom the index was believed.
    pub(super) indexed: usize,
}

/// A look at a bucket.
pub(super) struct Listing {
    pub(super) bucket: Bucket,
    pub(super) config: AttachConfig,
    pub(super) now: Timestamp,
    /// Whether a bucket index may answer for a tenant: it names neither files nor sources.
    pub(super) by_index: bool,
    /// Small objects that were read before. What is learnt is kept here though the look may fail.
    pub(super) known: Arc<Mutex<Metas>>,
}

/// A directory with the name of a block.
#[derive(Debug, Default)]
struct Directory {
    files: Vec<BlockFile>,
    meta: Option<ObjectInfo>,
    deletion: Option<ObjectInfo>,
    no_compact: Option<ObjectInfo>,
}

impl Directory {
    fn small(&self) -> impl Iterator<Item = &ObjectInfo> {
        [&self.meta, &self.deletion, &self.no_compact].into_iter().flatten()
    }
}

/// Where blocks lie side by side, and whose they are if the place says it.
type Root = (String, Option<TenantId>);

/// What is known of the blocks of a root.
enum Blocks {
    /// What its bucket index says.
    Indexed(Vec<Candidate>),
    Listed(BTreeMap<BlockId, Directory>),
    /// They are those of a tenant who is to be deleted.
    Deleted,
}

impl Listing {
    /// Looks.
    pub(super) async fn run(self) -> Result<Found, BucketError> {
        let (layout, roots, global_marks) = self.roots().await?;
        let looks = roots.into_iter().map(|root| async {
            let blocks = self.blocks_of(&root, global_marks).await?;
            Ok::<_, BucketError>((root, blocks))
        });
        let looks = futures::stream::iter(looks.collect::<Vec<_>>()).buffered(ROOTS_AT_ONCE);
        let roots: Vec<(Root, Blocks)> = looks.try_collect().await?;
        let small = roots.iter().filter_map(|(_, blocks)| match blocks {
            Blocks::Listed(directories) => Some(directories.values().flat_map(Directory::small)),
            Blocks::Indexed(_) | Blocks::Deleted => None,
        });
        let small: Vec<ObjectInfo> = small.flatten().cloned().collect();
        self.read(&small).await?;
        let used: HashSet<&str> = small.iter().map(|object| object.key.as_str()).collect();
        let known = &mut *self.known.lock();
        known.retain(|key, _| used.contains(key.as_str()));
        let mut found = Found { layout, blocks: Vec::new(), indexed: 0 };
        for ((dir, tenant), blocks) in roots {
            match blocks {
                Blocks::Deleted => {}
                Blocks::Indexed(blocks) => {
                    found.indexed += 1;
                    found.blocks.extend(blocks);
                }
                Blocks::Listed(directories) => {
                    found.blocks.extend(candidates(&dir, tenant.as_ref(), &directories, known));
                }
            }
        }
        Ok(found)
    }

    /// How the bucket is laid out, where its blocks lie, and whether there are marks of tenants beside them.
    async fn roots(&self) -> Result<(BucketLayout, Vec<Root>, bool), BucketError> {
        let flat = || (BucketLayout::Flat, vec![(String::new(), None)], false);
        if self.config.layout == BucketLayout::Flat {
            return Ok(flat());
        }
        let names = self.bucket.list_dirs("").await?;
        let root = |name: &String| tenant_of(name).map(|tenant| (name.clone(), Some(tenant)));
        let tenants: Vec<Root> = names.iter().filter_map(root).collect();
        let any_block = names.iter().any(|name| name.parse::<BlockId>().is_ok());
        if self.config.layout == BucketLayout::Auto && (any_block || tenants.is_empty()) {
            return Ok(flat());
        }
        Ok((BucketLayout::Tenants, tenants, names.iter().any(|name| name == GLOBAL_MARKS)))
    }

    /// What is known of the blocks of a root before a meta is read.
    async fn blocks_of(&self, (dir, tenant): &Root, global_marks: bool) -> Result<Blocks, BucketError> {
        if let Some(tenant) = tenant {
            if self.is_deleted(dir, global_marks).await? {
                return Ok(Blocks::Deleted);
            }
            if let Some(blocks) = self.by_index(dir, tenant).await? {
                return Ok(Blocks::Indexed(blocks));
            }
        }
        Ok(Blocks::Listed(sort_objects(dir, self.bucket.list(dir).await?)))
    }

    /// Whether a tenant is to be deleted: a mark says so in one of two places.
    async fn is_deleted(&self, dir: &str, global_marks: bool) -> Result<bool, BucketError> {
        let beside = format!("{dir}/markers/{TENANT_DELETION}");
        if self.bucket.head(&beside).await?.is_some() {
            return Ok(true);
        }
        let global = format!("{GLOBAL_MARKS}/{dir}/{TENANT_DELETION}");
        Ok(global_marks && self.bucket.head(&global).await?.is_some())
    }

    /// The blocks of a tenant by its bucket index, if there is one and it is fresh.
    async fn by_index(&self, dir: &str, tenant: &TenantId) -> Result<Option<Vec<Candidate>>, BucketError> {
        if !self.by_index {
            return Ok(None);
        }
        let key = format!("{dir}/{}", mimir_index::NAME);
        let packed = match self.bucket.get(&key, mimir_index::PACKED_MAX).await {
            Ok(Some(packed)) => packed,
            Ok(None) => return Ok(None),
            Err(error @ BucketError::TooLarge { .. }) => {
                tracing::warn!(%error, "bucket index is not used, the tenant's directory is listed");
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let index: MimirIndex<ListedBlock> = match mimir_index::unpack(packed).await {
            Ok(index) => index,
            Err(error) => {
                let error = error.of(&key);
                tracing::warn!(%error, "bucket index is not used, the tenant's directory is listed");
                return Ok(None);
            }
        };
        let oldest =
            self.config.index_max_age.unwrap_or(INDEX_MAX_AGE).as_millis().try_into().unwrap_or(i64::MAX);
        if self.now.saturating_sub(index.updated_at.saturating_mul(1000)) > oldest {
            tracing::warn!(
                key,
                updated_at = index.updated_at,
                "bucket index is old, the tenant's directory is listed"
            );
            return Ok(None);
        }
        let marks: HashMap<BlockId, i64> =
            index.block_deletion_marks.iter().map(|m| (m.block_id, m.deletion_time)).collect();
        let block = |indexed: ListedBlock| {
            let mut meta = BlockMeta::of_head(indexed.block_id, indexed.min_time, indexed.max_time);
            meta.compaction.level = u32::try_from(indexed.compaction_level.max(1)).unwrap_or(u32::MAX);
            // Not said: nobody else has its data as far as this tells.
            meta.compaction.sources.clear();
            Candidate {
                tenant: Some(tenant.clone()),
                dir: format!("{dir}/{}", indexed.block_id),
                entry: Arc::new(BlockEntry::of(&meta, 0)),
                labels: shard_label(indexed.compactor_shard_id),
                deletion: marks.get(&indexed.block_id).map(|at| at.saturating_mul(1000)),
                ..Candidate::default()
            }
        };
        let blocks = index.blocks.into_iter().filter(|block| block.min_time <= block.max_time);
        Ok(Some(blocks.map(block).collect()))
    }

    /// Reads those of the objects that are not known.
    async fn read(&self, objects: &[ObjectInfo]) -> Result<(), BucketError> {
        let new: Vec<ObjectInfo> = {
            let known = self.known.lock();
            let is_new =
                |o: &&ObjectInfo| known.get(&o.key).is_none_or(|k| (k.0, k.1) != (o.bytes, o.modified_ms));
            objects.iter().filter(is_new).cloned().collect()
        };
        let reads = new.into_iter().map(|object| {
            let bucket = self.bucket.clone();
            async move {
                let limit = if object.key.ends_with(META) { META_MAX } else { MARK_MAX };
                (bucket.get(&object.key, limit).await, object)
            }
        });
        let mut answers = futures::stream::iter(reads).buffer_unordered(REQUESTS_AT_ONCE);
        while let Some((answer, object)) = answers.next().await {
            let says = match answer {
                Ok(Some(bytes)) => parse(&object.key, &bytes),
                // It went while we looked; the next listing will not have it.
                Ok(None) => continue,
                Err(error @ BucketError::TooLarge { .. }) => Err(error.to_string()),
                Err(error) => return Err(error),
            };
            self.known.lock().insert(object.key, (object.bytes, object.modified_ms, says));
        }
        Ok(())
    }
}

/// The blocks in the directories under `dir` ("" for all of the bucket), by what is known of small objects.
fn candidates(
    dir: &str,
    tenant: Option<&TenantId>,
    directories: &BTreeMap<BlockId, Directory>,
    known: &Metas,
) -> Vec<Candidate> {
    let say = |object: &Option<ObjectInfo>| object.as_ref().and_then(|o| known.get(&o.key)).map(|k| &k.2);
    let mut blocks = Vec::new();
    for (id, directory) in directories {
        let place = if dir.is_empty() { id.to_string() } else { format!("{dir}/{id}") };
        let mut block = Candidate { tenant: tenant.cloned(), dir: place, ..Candidate::default() };
        match say(&directory.meta) {
            Some(Ok(Small::Meta(meta))) => {
                block.entry = Arc::new(block_files::entry(meta, directory.files.clone()));
                block.labels = meta.thanos.as_ref().and_then(|t| t.labels.clone()).unwrap_or_default();
                block.meta = Some(meta.clone());
            }
            said => {
                block.entry = Arc::new(entry_without_meta(*id));
                block.partial = directory.meta.is_none();
                block.damaged = match said {
                    Some(Err(why)) => Some(why.clone()),
                    _ if directory.meta.is_some() => Some("meta.json went away".to_owned()),
                    _ => None,
                };
            }
        }
        block.deletion = match say(&directory.deletion) {
            Some(Ok(Small::Deletion(at))) => Some(*at),
            // A mark that does not read was made when it was written.
            Some(_) => directory.deletion.as_ref().map(|mark| mark.modified_ms),
            None => None,
        };
        block.no_compact = match say(&directory.no_compact) {
            Some(Ok(Small::NoCompact(why))) => Some(why.clone()),
            Some(_) => Some("mark does not read".to_owned()),
            None => None,
        };
        blocks.push(block);
    }
    blocks
}

/// External labels of a block of which only the shard is known.
fn shard_label(shard: String) -> BTreeMap<String, String> {
    (!shard.is_empty()).then(|| (crate::shard::SHARD_LABEL.to_owned(), shard)).into_iter().collect()
}

/// Objects under `dir` by block.
fn sort_objects(dir: &str, objects: Vec<ObjectInfo>) -> BTreeMap<BlockId, Directory> {
    let mut directories: BTreeMap<BlockId, Directory> = BTreeMap::new();
    for object in objects {
        let path = if dir.is_empty() {
            Some(object.key.as_str())
        } else {
            object.key.strip_prefix(dir).and_then(|k| k.strip_prefix('/'))
        };
        let Some((first, name)) = path.and_then(|p| p.split_once('/')) else { continue };
        if first == "markers" {
            // A copy of a mark, under the block's id.
            let Some((id, name)) = name.split_once('-') else { continue };
            let Ok(id) = id.parse::<BlockId>() else { continue };
            // There they follow its id and a hyphen.
            match mark_kind(name) {
                Some(MarkKind::Deletion) => directories.entry(id).or_default().deletion = Some(object),
                Some(MarkKind::NoCompact) => directories.entry(id).or_default().no_compact = Some(object),
                Some(MarkKind::NoDownsample) | None => {}
            }
            continue;
        }
        let Ok(id) = first.parse::<BlockId>() else { continue };
        let (name, bytes) = (name.to_owned(), object.bytes);
        let directory = directories.entry(id).or_default();
        match mark_kind(&name) {
            // The mark beside the block comes before its copy.
            Some(MarkKind::Deletion) => directory.deletion = Some(object),
            Some(MarkKind::NoCompact) => directory.no_compact = Some(object),
            Some(MarkKind::NoDownsample) => {}
            None if name == META => directory.meta = Some(object),
            None => {}
        }
        directory.files.push(BlockFile { name, bytes, crc32c: None });
    }
    // What is left of a block that is gone is nothing of it.
    directories.retain(|_, d| !d.files.is_empty());
    directories
}

/// Which mark a file of this name is.
fn mark_kind(name: &str) -> Option<MarkKind> {
    MarkKind::ALL.into_iter().find(|kind| kind.file() == name)
}

/// What a small object says, by its name.
fn parse(key: &str, bytes: &Bytes) -> Result<Small, String> {
    let (dir, name) = key.rsplit_once('/').unwrap_or(("", key));
    if name == META {
        let id = dir.rsplit('/').next().unwrap_or(dir);
        let meta = BlockMeta::parse(id, bytes).map_err(|e| e.to_string())?;
        if meta.ulid.to_string() != id {
            return Err(format!("meta.json is that of block={}", meta.ulid));
        }
        return Ok(Small::Meta(Arc::new(meta)));
    }
    if name.ends_with(MarkKind::Deletion.file()) {
        return Ok(Small::Deletion(Mark::decode(MarkKind::Deletion, bytes)?.at));
    }
    let reason = Mark::decode(MarkKind::NoCompact, bytes)?.reason;
    Ok(Small::NoCompact(if reason.is_empty() { "no reason given".to_owned() } else { reason }))
}
