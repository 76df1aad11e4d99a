//! Which blocks a data directory has, and which of them count.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pyrrha_env::{Clock, DirEntry, Disk, DiskLock};
use pyrrha_model::TenantId;

use super::TsdbError;
use crate::block::{Block, BlockError, BlockId, BlockMeta, Layout};
use crate::manifest::{DiskManifestStore, Manifest, ManifestState};

const MANIFEST_DIR: &str = "manifest";

/// Whose directory it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirectoryKind {
    /// Prometheus': blocks, `wal/` and `chunks_head/` beside each other.
    Prometheus,
    /// A tenant's part of one of Pyrrha's: blocks and a manifest that names the live ones.
    Pyrrha {
        /// The whole data directory, where the path given was one.
        data_dir: Option<PathBuf>,
    },
    /// A single block.
    Block,
}

/// A data directory, found to be one.
#[derive(Debug, Clone)]
pub struct Directory {
    disk: Arc<dyn Disk>,
    kind: DirectoryKind,
    /// Where the blocks are.
    home: PathBuf,
    path: PathBuf,
}

/// Whether a block is part of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is.
    Live,
    /// Another block that is there was made from it, and it was not removed yet.
    Replaced,
    /// The manifest does not name it: it is unfinished, removed, or foreign.
    Unlisted,
    /// The manifest names it, and it is not there.
    Missing,
}

/// A block of a directory.
#[derive(Debug)]
pub struct FoundBlock {
    /// Its id.
    pub id: BlockId,
    /// Its directory.
    pub dir: PathBuf,
    /// Whether it is part of the data.
    pub standing: Standing,
    /// The block, or why it does not open.
    pub block: Result<Block, BlockError>,
}

impl Directory {
    /// Finds out what `path` is. `tenant` chooses the part of a Pyrrha data directory.
    pub fn find(disk: Arc<dyn Disk>, path: &Path, tenant: &TenantId) -> Result<Self, TsdbError> {
        let entries = disk.list(path).map_err(TsdbError::io("list directory", path))?;
        let has = |name: &str| entries.iter().any(|e| e.name == name);
        let found = |kind, home: &Path| Self {
            disk: disk.clone(),
            kind,
            home: home.to_owned(),
            path: path.to_owned(),
        };
        if Layout::ALL.iter().any(|layout| has(layout.meta_file())) {
            return Ok(found(DirectoryKind::Block, path));
        }
        if has("VERSION") || has("bucket") {
            let (bucket, kind) =
                (path.join("bucket"), DirectoryKind::Pyrrha { data_dir: Some(path.to_owned()) });
            let home = bucket.join(tenant.as_str());
            if disk.exists(&home) {
                return Ok(found(kind, &home));
            }
            let tenants = if disk.exists(&bucket) {
                disk.list(&bucket).map_err(TsdbError::io("list directory", &bucket))?
            } else {
                Vec::new()
            };
            let present: Vec<String> = tenants.into_iter().filter(|e| e.is_dir).map(|e| e.name).collect();
            return Err(TsdbError::NoTenant {
                tenant: tenant.to_string(),
                path: path.to_owned(),
                present: present.join(", "),
            });
        }
        if has(MANIFEST_DIR) {
            return Ok(found(DirectoryKind::Pyrrha { data_dir: None }, path));
        }
        let is_block = |name: &str| name.parse::<BlockId>().is_ok();
        if has("wal") || has("chunks_head") || entries.iter().any(|e| e.is_dir && is_block(&e.name)) {
            return Ok(found(DirectoryKind::Prometheus, path));
        }
        Err(TsdbError::Unknown { path: path.to_owned() })
    }

    /// Whose it is.
    pub fn kind(&self) -> &DirectoryKind {
        &self.kind
    }

    /// Where its blocks are.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The disk it is on.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Opens its blocks, by time. One that does not open is in the list with the reason.
    pub fn blocks(&self) -> Result<Vec<FoundBlock>, TsdbError> {
        if self.kind == DirectoryKind::Block {
            let block = Block::open(&*self.disk, &self.home);
            let id = block.as_ref().map_or(BlockId::from_parts(0, 0), |b| b.meta().ulid);
            return Ok(vec![FoundBlock { id, dir: self.home.clone(), standing: Standing::Live, block }]);
        }
        let entries = self.disk.list(&self.home).map_err(TsdbError::io("list directory", &self.home))?;
        let mut ids: BTreeSet<(BlockId, Layout)> = blocks_in(&entries, Layout::Standard).collect();
        let manifest = self.manifest()?;
        if let Some(manifest) = &manifest {
            let dense = Layout::Dense.home(&self.home);
            if self.disk.exists(&dense) {
                let entries = self.disk.list(&dense).map_err(TsdbError::io("list directory", &dense))?;
                ids.extend(blocks_in(&entries, Layout::Dense));
            }
            ids.extend(manifest.blocks.values().map(|b| (b.ulid, b.layout())));
        }
        let open = |(id, layout): (BlockId, Layout)| {
            let dir = layout.home(&self.home).join(id.to_string());
            let listed = |m: &ManifestState| m.blocks.get(&id).is_some_and(|b| b.layout() == layout);
            let standing = match &manifest {
                Some(manifest) if !listed(manifest) => Standing::Unlisted,
                Some(_) if !self.disk.exists(&dir) => Standing::Missing,
                _ => Standing::Live,
            };
            FoundBlock { id, block: Block::open(&*self.disk, &dir), dir, standing }
        };
        let mut found: Vec<FoundBlock> = ids.into_iter().map(open).collect();
        if manifest.is_none() {
            mark_replaced(&mut found);
        }
        let order = |f: &FoundBlock| (f.block.as_ref().map_or(i64::MIN, |b| b.meta().min_time), f.id);
        found.sort_by_key(order);
        Ok(found)
    }

    /// Which of some blocks count where no manifest says so; by id.
    pub(crate) fn standing_of(
        blocks: impl Iterator<Item = (BlockId, Result<Block, BlockError>)>,
    ) -> Vec<FoundBlock> {
        let found = |(id, block): (BlockId, Result<Block, BlockError>)| {
            let dir = block.as_ref().map_or_else(|_| PathBuf::new(), |b| b.dir().to_owned());
            FoundBlock { id, dir, standing: Standing::Live, block }
        };
        let mut found: Vec<FoundBlock> = blocks.map(found).collect();
        mark_replaced(&mut found);
        found
    }

    /// The newest manifest, where the directory has them.
    pub fn manifest(&self) -> Result<Option<Arc<ManifestState>>, TsdbError> {
        let dir = self.home.join(MANIFEST_DIR);
        if !matches!(self.kind, DirectoryKind::Pyrrha { .. }) {
            return Ok(None);
        }
        if !self.disk.exists(&dir) {
            return Ok(Some(Arc::default()));
        }
        let store = DiskManifestStore::read_only(self.disk.clone(), &dir);
        Ok(Some(Manifest::read(&store)?))
    }

    /// The manifest, for commits. Whoever asks holds the directory's lock.
    pub fn open_manifest(&self, clock: Arc<dyn Clock>) -> Result<Option<Manifest>, TsdbError> {
        if !matches!(self.kind, DirectoryKind::Pyrrha { .. }) {
            return Ok(None);
        }
        let dir = self.home.join(MANIFEST_DIR);
        let store =
            DiskManifestStore::open(self.disk.clone(), &dir).map_err(TsdbError::io("open manifest", &dir))?;
        Ok(Some(Manifest::open(Arc::new(store), clock)?))
    }

    /// Keeps the server whose directory this is from starting; fails if it runs.
    pub fn lock(&self) -> Result<Option<Box<dyn DiskLock>>, TsdbError> {
        let path = match &self.kind {
            DirectoryKind::Prometheus => self.path.join("lock"),
            DirectoryKind::Pyrrha { data_dir: Some(dir) } => dir.join("LOCK"),
            DirectoryKind::Pyrrha { data_dir: None } | DirectoryKind::Block => return Ok(None),
        };
        match self.disk.lock(&path) {
            Ok(lock) => Ok(Some(lock)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(TsdbError::InUse { path }),
            Err(error) => Err(TsdbError::io("lock data directory", &path)(error)),
        }
    }
}

fn blocks_in(entries: &[DirEntry], layout: Layout) -> impl Iterator<Item = (BlockId, Layout)> {
    entries.iter().filter(|e| e.is_dir).filter_map(move |e| Some((e.name.parse().ok()?, layout)))
}

/// Prometheus removes the parents of a compacted block only after it is there: until then both
/// hold the same samples.
fn mark_replaced(found: &mut [FoundBlock]) {
    let metas = found.iter().filter_map(|f| f.block.as_ref().ok()).map(Block::meta);
    let parents: BTreeSet<BlockId> =
        metas.flat_map(|m: &BlockMeta| m.compaction.parents.iter().map(|p| p.ulid)).collect();
    for found in found.iter_mut() {
        let deletable = found.block.as_ref().is_ok_and(|b| b.meta().compaction.deletable);
        if deletable || parents.contains(&found.id) {
            found.standing = Standing::Replaced;
        }
    }
}
