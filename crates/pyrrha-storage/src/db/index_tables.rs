//! Files of the tables of large indexes, with which a start opens blocks without reading them.
//!
//! ```text
//! <data>/index-tables/<tenant>/<ULID>     docs/format/index-tables.md
//! ```
//!
//! They are a cache. Housekeeping writes them, one block at a time, and removes those of blocks that are gone.
//! They are not synced: what a crash leaves of one is passed over, and written anew.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use pyrrha_index::TablesOrigin;
use pyrrha_model::{ErrorKind, StoreError, TenantId};

use super::Shared;
use super::tenant::Tenant;
use crate::block::{Block, BlockId};

const DIR: &str = "index-tables";

/// What is known of the files of a tenant.
#[derive(Debug, Default)]
pub(crate) struct IndexTables {
    /// The live blocks when the directory was tidied up last; `None`: it was not yet.
    seen: Option<Vec<BlockId>>,
    /// Blocks that are done, and where their open index had its tables from then.
    done: BTreeMap<BlockId, TablesOrigin>,
}

impl Shared {
    /// Where the file of a block is, if it has one.
    pub(super) fn index_tables_of(&self, tenant: &TenantId, block: BlockId) -> PathBuf {
        self.index_tables_dir(tenant).join(block.to_string())
    }

    fn index_tables_dir(&self, tenant: &TenantId) -> PathBuf {
        self.config.dir.join(DIR).join(tenant.as_str())
    }

    /// Removes the files of blocks that are gone, and writes the file of at most one block that lacks it or
    /// whose file did not fit. What fails is a matter of the log: the next start is slower.
    pub(super) fn keep_index_tables(&self, tenant: &Tenant) {
        let blocks = tenant.view.read().blocks.clone();
        let mut state = tenant.index_tables.lock();
        let id = &tenant.head.tenant;
        let ids = blocks.iter().map(|block| block.meta().ulid);
        if !state.seen.as_ref().is_some_and(|seen| seen.iter().copied().eq(ids.clone())) {
            let live: BTreeSet<BlockId> = ids.clone().collect();
            if let Err(error) = self.remove_index_tables(id, &live) {
                tracing::warn!(tenant = %id, %error, "index tables of blocks that are gone could not be removed");
            }
            state.done.retain(|block, _| live.contains(block));
            state.seen = Some(ids.collect());
        }
        for block in blocks.iter() {
            let (ulid, origin) = (block.meta().ulid, block.index().tables_origin());
            if state.done.get(&ulid) == Some(&origin) {
                continue;
            }
            state.done.insert(ulid, origin);
            if origin == TablesOrigin::Kept || !self.wants_tables(block) {
                continue;
            }
            if origin == TablesOrigin::Misfit {
                self.metrics.index_tables_misfit.add(1);
                tracing::warn!(tenant = %id, block = %ulid, "index tables do not fit the index, and are written anew");
            }
            if let Err(error) = self.write_index_tables(id, block) {
                tracing::warn!(tenant = %id, block = %ulid, %error, "index tables could not be written, the next start opens the block slowly");
            }
            return;
        }
    }

    fn wants_tables(&self, block: &Block) -> bool {
        block.index().entry_count().is_ok_and(|entries| entries >= self.config.index_tables_from)
    }

    fn write_index_tables(&self, tenant: &TenantId, block: &Block) -> Result<(), StoreError> {
        let Some(bytes) = block.index().encode_tables().map_err(StoreError::from)? else { return Ok(()) };
        let write = |path: &Path| {
            self.disk.create_dir_all(&self.index_tables_dir(tenant))?;
            if self.disk.exists(path) {
                self.disk.remove_file(path)?;
            }
            self.disk.create_new(path)?.write_at(0, &bytes)
        };
        let path = self.index_tables_of(tenant, block.meta().ulid);
        write(&path).map_err(|error| {
            StoreError::new(ErrorKind::Unavailable, format!("{error} file={}", path.display()))
        })?;
        self.metrics.index_tables_written.add(1);
        Ok(())
    }

    fn remove_index_tables(&self, tenant: &TenantId, live: &BTreeSet<BlockId>) -> io::Result<()> {
        let dir = self.index_tables_dir(tenant);
        if !self.disk.exists(&dir) {
            return Ok(());
        }
        for entry in self.disk.list(&dir)? {
            let block = entry.name.parse::<BlockId>();
            if !entry.is_dir && !block.is_ok_and(|block| live.contains(&block)) {
                self.disk.remove_file(&dir.join(&entry.name))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
