//! Making blocks live: in a tenant's manifest by one commit, or as directories beside others.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pyrrha_env::{Clock, Disk, DiskLock, SystemClock};
use pyrrha_model::contract::{DeleteId, Deletes, QueryContext};
use pyrrha_model::{ErrorKind, StoreError, TenantId};

use super::{BackfillError, Staged};
use crate::block::{Block, BlockDeletes, BlockId, CHUNKS_DIR, Layout, UNFINISHED};
use crate::compact::to_standard;
use crate::config::StorageConfig;
use crate::db::{DELETES_MARK, Db, check_log_read};
use crate::durable;
use crate::error::StorageError;
use crate::manifest::{BlockEntry, DiskManifestStore, Manifest, ManifestState};
use crate::tsdb::TsdbError;

/// Where blocks become live.
#[derive(Debug)]
pub struct Target {
    disk: Arc<dyn Disk>,
    home: PathBuf,
    manifest: Option<Manifest>,
    /// What is imported comes after all deletes up to this one, so that they hide none of that.
    deletes_through: DeleteId,
    /// Keeps a server from starting meanwhile.
    _lock: Option<Box<dyn DiskLock>>,
}

/// What became of some blocks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Published {
    /// Blocks that are live now.
    pub added: Vec<BlockId>,
    /// Blocks that were live already, or of which a block was made that is.
    pub known: Vec<BlockId>,
}

impl Target {
    /// A plain directory of blocks, as Prometheus has it; created if it does not exist.
    pub fn directory(disk: Arc<dyn Disk>, home: &Path) -> Result<Self, BackfillError> {
        durable::create_dir(&*disk, home).map_err(BackfillError::io("create directory", home))?;
        let home = home.to_owned();
        Ok(Self { disk, home, manifest: None, deletes_through: DeleteId::default(), _lock: None })
    }

    /// A tenant of a data directory of Pyrrha, which no server may have open; both are created if
    /// they do not exist.
    pub fn tenant(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        data_dir: &Path,
        tenant: &TenantId,
    ) -> Result<Self, BackfillError> {
        if !disk.exists(&data_dir.join("VERSION")) {
            // Opening a new one makes all that belongs to it.
            let config = StorageConfig::new(data_dir);
            drop(Db::open(config, disk.clone(), Arc::new(SystemClock::new())).map_err(TsdbError::from)?);
        }
        let deletes_through = deletes_through(&disk, &clock, data_dir, tenant)?;
        let lock = disk.lock(&data_dir.join("LOCK")).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => TsdbError::from(StorageError::InUse { path: data_dir.to_owned() }),
            _ => TsdbError::io("lock data directory", data_dir)(error),
        })?;
        let home = data_dir.join("bucket").join(tenant.as_str());
        durable::create_dir(&*disk, &home).map_err(BackfillError::io("create directory", &home))?;
        let dir = home.join("manifest");
        let store =
            DiskManifestStore::open(disk.clone(), &dir).map_err(BackfillError::io("open manifest", &dir))?;
        let manifest = Some(Manifest::open(Arc::new(store), clock)?);
        Ok(Self { disk, home, manifest, deletes_through, _lock: Some(lock) })
    }

    /// Where the blocks are.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The live blocks, where a manifest says so.
    pub fn manifest(&self) -> Option<Arc<ManifestState>> {
        self.manifest.as_ref().map(Manifest::current)
    }

    /// Whether the data of a block is live already.
    pub fn has(&self, id: BlockId) -> bool {
        match &self.manifest {
            Some(manifest) => manifest.current().covers(id),
            None => self.disk.exists(&self.home.join(id.to_string())),
        }
    }

    /// Brings a foreign block under this roof, by hard links where the file system allows, and
    /// makes it live. Does nothing if its data is live already.
    pub fn adopt(&self, block: &Block) -> Result<bool, BackfillError> {
        let id = block.meta().ulid;
        if self.has(id) {
            return Ok(false);
        }
        let staging = self.home.join(format!("{id}{UNFINISHED}"));
        match block.layout() {
            Layout::Standard => link_block(&*self.disk, block.dir(), &staging)
                .map_err(BackfillError::io("link block", &staging))?,
            Layout::Dense => {
                to_standard(&self.disk, block, &staging, &QueryContext::unlimited())?;
            }
        }
        publish(self, &[Staged { id, dir: staging }])?;
        Ok(true)
    }
}

/// Makes blocks live, all at once where a manifest says what is.
pub fn publish(target: &Target, staged: &[Staged]) -> Result<Published, BackfillError> {
    let mut published = Published::default();
    let mut entries = Vec::new();
    for Staged { id, dir } in staged {
        if target.has(*id) {
            published.known.push(*id);
            continue;
        }
        let to = target.home.join(id.to_string());
        // An earlier import may have died before its commit.
        target
            .disk
            .remove_dir_all(&to)
            .and_then(|()| target.disk.rename(dir, &to))
            .map_err(BackfillError::io("move block", &to))?;
        BlockDeletes { through: target.deletes_through, ..BlockDeletes::default() }
            .replace(&*target.disk, &to)?;
        let block = Block::open(&*target.disk, &to)?;
        entries.push(BlockEntry::of_block(&block).imported());
        published.added.push(*id);
    }
    target.disk.sync_dir(&target.home).map_err(BackfillError::io("sync directory", &target.home))?;
    if let Some(manifest) = target.manifest.as_ref().filter(|_| !entries.is_empty()) {
        manifest.commit(&entries, &[])?;
    }
    for dir in staged.iter().filter_map(|s| s.dir.parent()).filter(|dir| is_staging(dir)) {
        target.disk.remove_dir_all(dir).map_err(BackfillError::io("remove directory", dir))?;
    }
    Ok(published)
}

/// The newest delete of a tenant that stands. Deletes are in the log, which is read if there may be any.
fn deletes_through(
    disk: &Arc<dyn Disk>,
    clock: &Arc<dyn Clock>,
    data_dir: &Path,
    tenant: &TenantId,
) -> Result<DeleteId, BackfillError> {
    // Where deletes are made without this directory, as of what is only in a bucket, they have ids by the clock.
    let now = DeleteId(BlockId::new(&**clock).number());
    if !disk.exists(&data_dir.join("head").join(tenant.as_str()).join(DELETES_MARK)) {
        return Ok(now);
    }
    let config = StorageConfig { disk_reserve_bytes: 0, ..StorageConfig::new(data_dir) };
    let db = Db::open(config, disk.clone(), clock.clone()).map_err(TsdbError::from)?;
    if !db.wait_recovered() {
        let text = "log cannot be replayed, deletes that stand are not known";
        return Err(StoreError::new(ErrorKind::Unavailable, text).into());
    }
    check_log_read(&db.log_damage(), data_dir)?;
    let through = db.standing_deletes(tenant)?.iter().map(|delete| delete.id).max();
    db.close().map_err(TsdbError::from)?;
    Ok(now.max(through.unwrap_or_default()))
}

/// Whether a directory is one of unfinished blocks.
fn is_staging(dir: &Path) -> bool {
    dir.file_name().is_some_and(|name| name.to_string_lossy().ends_with(UNFINISHED))
}

/// The same files under another directory, durably.
fn link_block(disk: &dyn Disk, from: &Path, to: &Path) -> io::Result<()> {
    disk.remove_dir_all(to)?;
    for part in [Path::new(""), Path::new(CHUNKS_DIR)] {
        let (from, to) = (from.join(part), to.join(part));
        if !disk.exists(&from) {
            continue;
        }
        disk.create_dir_all(&to)?;
        for entry in disk.list(&from)?.iter().filter(|e| !e.is_dir) {
            link_file(disk, &from.join(&entry.name), &to.join(&entry.name))?;
        }
        disk.sync_dir(&to)?;
    }
    Ok(())
}

/// A second name for a file, or a copy where that cannot be.
fn link_file(disk: &dyn Disk, from: &Path, to: &Path) -> io::Result<()> {
    if disk.hard_link(from, to).is_ok() {
        return Ok(());
    }
    let bytes = disk.map(from)?;
    let file = disk.create_new(to)?;
    let mut offset = 0;
    for piece in bytes.chunks(8 << 20) {
        file.write_at(offset, piece)?;
        offset += piece.len() as u64;
    }
    file.sync_data()
}
