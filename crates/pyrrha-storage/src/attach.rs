//! Directories of blocks that somebody else writes, read in place: nothing is written there, not
//! even a lock, and no manifest is kept (decision 17).
//!
//! What a directory has is looked at again now and then. A block that another was made from is left
//! out, as is one that is half written or damaged, with a warning; a query that is under way keeps
//! the blocks that it began with.

mod spanning;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use pyrrha_env::Disk;
use pyrrha_model::TenantId;

use crate::block::{Block, BlockId};
use crate::tsdb::{Directory, Standing, TsdbError};

pub use spanning::Spanning;

/// A directory of blocks that is attached to a tenant.
#[derive(Debug)]
pub struct Attached {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    tenant: TenantId,
    blocks: RwLock<Arc<[Block]>>,
    /// What was said about blocks that cannot be read, so that it is said once.
    unreadable: Mutex<BTreeMap<BlockId, String>>,
}

/// What a look at a directory changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refreshed {
    /// Blocks that are read from now on.
    pub added: usize,
    /// Blocks that are not read any more: they are gone, or another took their place.
    pub removed: usize,
    /// Blocks that are there and cannot be read.
    pub unreadable: usize,
}

impl Attached {
    /// Attaches a directory, whose blocks become the tenant's for queries. Fails if the directory
    /// cannot be listed; an empty one is fine.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, tenant: TenantId) -> Result<Self, TsdbError> {
        let attached = Self {
            disk,
            dir: dir.to_owned(),
            tenant,
            blocks: RwLock::new(Arc::new([])),
            unreadable: Mutex::default(),
        };
        attached.refresh()?;
        Ok(attached)
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The tenant whose queries read it.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// The blocks that are read, by time.
    pub fn blocks(&self) -> Arc<[Block]> {
        self.blocks.read().clone()
    }

    /// Looks at the directory again.
    pub fn refresh(&self) -> Result<Refreshed, TsdbError> {
        let known = self.blocks();
        let entries = self.disk.list(&self.dir).map_err(TsdbError::io("list directory", &self.dir))?;
        let ids = entries.iter().filter(|e| e.is_dir).filter_map(|e| e.name.parse::<BlockId>().ok());
        let open = |id: BlockId| match known.iter().find(|b| b.meta().ulid == id) {
            Some(block) => (id, Ok(block.clone())),
            None => (id, Block::open(&*self.disk, &self.dir.join(id.to_string()))),
        };
        let found = Directory::standing_of(ids.map(open));
        let (mut blocks, mut unreadable) = (Vec::new(), BTreeMap::new());
        for found in found.into_iter().filter(|f| f.standing == Standing::Live) {
            match found.block {
                // Aggregates are no samples, and would be taken for such.
                Ok(block) if is_downsampled(&block) => {
                    unreadable.insert(found.id, "block is downsampled".to_owned());
                }
                Ok(block) => blocks.push(block),
                Err(error) => {
                    unreadable.insert(found.id, error.to_string());
                }
            }
        }
        let refreshed = Refreshed {
            added: blocks.iter().filter(|b| !known.iter().any(|k| k.meta().ulid == b.meta().ulid)).count(),
            removed: known.iter().filter(|k| !blocks.iter().any(|b| b.meta().ulid == k.meta().ulid)).count(),
            unreadable: unreadable.len(),
        };
        self.complain(unreadable);
        if refreshed.added + refreshed.removed > 0 {
            *self.blocks.write() = blocks.into();
            let dir = self.dir.display();
            tracing::info!(%dir, added = refreshed.added, removed = refreshed.removed, "attached blocks changed");
        }
        Ok(refreshed)
    }

    /// Warns of what was not known to be unreadable.
    fn complain(&self, unreadable: BTreeMap<BlockId, String>) {
        let mut known = self.unreadable.lock();
        for (block, error) in unreadable.iter().filter(|(block, error)| known.get(block) != Some(error)) {
            tracing::warn!(dir = %self.dir.display(), %block, error, "attached block is left out until it can be read");
        }
        *known = unreadable;
    }
}

fn is_downsampled(block: &Block) -> bool {
    block.meta().thanos.as_ref().is_some_and(|thanos| thanos.downsample.resolution != 0)
}

#[cfg(test)]
mod tests;
