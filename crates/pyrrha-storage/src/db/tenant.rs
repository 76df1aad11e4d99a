//! What belongs to one tenant: its head, and which of its ranges are read from blocks.

use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use pyrrha_model::contract::QueryContext;
use pyrrha_model::{ErrorKind, StoreError, TenantId, TimeRange};

use super::Shared;
use super::cut::CutState;
use crate::block::Block;
use crate::durable;
use crate::error::StorageError;
use crate::head::{Head, HeadView, add_range, parse_file_name};
use crate::manifest::{DiskManifestStore, Manifest};

/// One tenant of the database.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) head: Arc<Head>,
    pub(crate) manifest: Manifest,
    /// Cuts come one after another.
    pub(crate) cuts: Mutex<CutState>,
    /// What a query reads, taken at once, so that a cut neither hides nor doubles a sample.
    pub(crate) view: RwLock<TenantView>,
}

impl Tenant {
    /// The live blocks, by time.
    pub(crate) fn blocks(&self) -> Vec<Block> {
        self.view.read().blocks.to_vec()
    }
}

/// The sources of a query at one moment.
#[derive(Debug, Clone)]
pub(crate) struct TenantView {
    /// What of the head is to be read.
    pub(crate) head: HeadView,
    /// The live blocks, by time.
    pub(crate) blocks: Arc<[Block]>,
    /// Live blocks that cannot be read.
    pub(crate) missing: Arc<[Missing]>,
}

/// What answers lack.
#[derive(Debug, Clone)]
pub(crate) struct Missing {
    range: TimeRange,
    why: String,
}

impl TenantView {
    /// Fails, or notes the gaps where an incomplete answer is wanted, if something of the range
    /// cannot be read.
    pub(crate) fn check_complete(&self, ctx: &QueryContext, range: TimeRange) -> Result<(), StoreError> {
        for missing in self.missing.iter().filter(|m| m.range.overlaps(&range)) {
            if !ctx.partial_response {
                return Err(StoreError::new(ErrorKind::Corrupt, missing.why.clone()));
            }
            ctx.notices.gap(missing.range, missing.why.clone());
        }
        Ok(())
    }
}

impl Shared {
    /// The tenant, created if it is new.
    pub(crate) fn tenant(&self, id: &TenantId) -> Result<Arc<Tenant>, StorageError> {
        if let Some(tenant) = self.tenants.get(id) {
            return Ok(tenant);
        }
        self.tenants.get_or_open(id, || self.open_tenant(id))
    }

    fn open_tenant(&self, id: &TenantId) -> Result<Tenant, StorageError> {
        let dir = self.head_dir(id);
        durable::create_dir(&*self.disk, &dir).map_err(StorageError::io("create directory", &dir))?;
        let bucket = self.bucket_dir(id);
        let manifests = bucket.join("manifest");
        let store = DiskManifestStore::open(self.disk.clone(), &manifests)
            .map_err(StorageError::io("open manifest", &manifests))?;
        let manifest = Manifest::open(Arc::new(store), self.clock.clone())?;
        if let Err(error) = self.sweep_jobs(id, &manifest.current()) {
            tracing::warn!(tenant = %id, %error, "jobs of an earlier run could not be tidied up, the next start does it");
        }
        let (blocks, missing) = self.open_blocks(id, &manifest);
        let head = Head::new(id.clone(), self.config.clone(), self.clock.clone(), self.metrics.clone());
        for entry in self.disk.list(&dir).map_err(StorageError::io("list directory", &dir))? {
            if let Some((number, _)) = parse_file_name(&entry.name) {
                head.reserve_chunk_files(number);
            }
        }
        let mut cut = Vec::new();
        for entry in manifest.current().blocks.values() {
            add_range(&mut cut, entry.range());
        }
        cut.iter().for_each(|&range| head.refuse_range(range));
        let view = TenantView {
            head: HeadView { cut: cut.into(), ..HeadView::default() },
            blocks: blocks.into(),
            missing: missing.into(),
        };
        Ok(Tenant { head: Arc::new(head), manifest, cuts: Mutex::default(), view: RwLock::new(view) })
    }

    /// Opens the live blocks. One that does not open is left out: its range is missing from
    /// answers, which say so, and nothing else is.
    fn open_blocks(&self, id: &TenantId, manifest: &Manifest) -> (Vec<Block>, Vec<Missing>) {
        let (mut blocks, mut missing) = (Vec::new(), Vec::new());
        for entry in manifest.current().blocks.values() {
            let dir = self.bucket_dir(id).join(entry.ulid.to_string());
            match Block::open(&*self.disk, &dir) {
                Ok(block) => blocks.push(block),
                Err(error) => {
                    self.metrics.blocks_damaged.add(1);
                    tracing::error!(tenant = %id, block = %entry.ulid, %error, "block cannot be read and is left out");
                    let why = format!("block cannot be read block={}: {error}", entry.ulid);
                    missing.push(Missing { range: entry.range(), why });
                }
            }
        }
        blocks.sort_by_key(|b| b.meta().min_time);
        (blocks, missing)
    }

    /// Moves sealed chunks from memory to files; `all` includes pages that are not full.
    pub(crate) fn write_head_chunks(&self, tenant: &Tenant, all: bool) -> Result<(), StorageError> {
        let dir = self.head_dir(&tenant.head.tenant);
        tenant.head.write_chunks(&*self.disk, &dir, all).map_err(StorageError::io("write head chunks", &dir))
    }
}
