//! What belongs to one tenant: its head, and which of its ranges are read from blocks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::{Mutex, RwLock};
use pyrrha_model::contract::QueryContext;
use pyrrha_model::{ErrorKind, StoreError, TenantId, TimeRange};

use super::Shared;
use super::compaction::CompactionState;
use super::cut::CutState;
use super::index_tables::IndexTables;
use super::quarantine::{Quarantined, read_mark};
use super::verification::Verification;
use crate::block::{Block, BlockId};
use crate::durable;
use crate::error::StorageError;
use crate::head::{Head, HeadView, add_range, parse_file_name};
use crate::manifest::{BlockEntry, DiskManifestStore, Manifest, ManifestState};

/// One tenant of the database.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) head: Arc<Head>,
    pub(crate) manifest: Manifest,
    /// Cuts come one after another. Whoever changes the list of blocks holds this.
    pub(crate) cuts: Mutex<CutState>,
    pub(crate) compaction: Mutex<CompactionState>,
    pub(crate) verification: Verification,
    /// Which blocks have a file of their index's tables.
    pub(crate) index_tables: Mutex<IndexTables>,
    /// Deletes may stand. Known at a start before the log is read.
    pub(crate) may_have_deletes: AtomicBool,
    /// Blocks whose data a bucket holds too.
    pub(crate) shipped: Mutex<BTreeSet<BlockId>>,
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
    /// Live blocks that are not compacted.
    pub(crate) quarantined: Arc<BTreeMap<BlockId, Quarantined>>,
}

/// What answers lack.
#[derive(Debug, Clone)]
pub(crate) struct Missing {
    pub(crate) block: BlockId,
    pub(crate) range: TimeRange,
    pub(crate) why: String,
}

impl Missing {
    /// A block that cannot be read, and why.
    pub(crate) fn new(block: &Block, error: &StoreError) -> Self {
        let id = block.meta().ulid;
        let why = format!("block cannot be read block={id}: {error}");
        Self { block: id, range: block.meta().range(), why }
    }
}

impl TenantView {
    /// Whether something of the range cannot be read.
    pub(crate) fn lacks(&self, range: TimeRange) -> bool {
        self.missing.iter().any(|m| m.range.overlaps(&range))
    }

    /// Fails, or notes the gaps where an incomplete answer is wanted, if something of the range
    /// cannot be read.
    pub(crate) fn check_complete(&self, ctx: &QueryContext, range: TimeRange) -> Result<(), StoreError> {
        for missing in self.missing.iter().filter(|m| m.range.overlaps(&range)) {
            if !ctx.partial_response {
                return Err(StoreError::new(ErrorKind::Corrupt, missing.why.clone()));
            }
            ctx.notices.gap(missing.range, missing.why.clone());
        }
        if !self.quarantined.is_empty() {
            self.warn_of_damage(ctx, range);
        }
        Ok(())
    }

    /// Names the damaged blocks that an answer may have a part of.
    fn warn_of_damage(&self, ctx: &QueryContext, range: TimeRange) {
        for block in self.blocks.iter().filter(|b| b.meta().range().overlaps(&range)) {
            let ulid = block.meta().ulid;
            if let Some(damage) = self.quarantined.get(&ulid).and_then(|q| q.damage.as_ref()) {
                ctx.notices.warn(format!("block is damaged in part and quarantined block={ulid}: {damage}"));
            }
        }
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
        let (mut blocks, mut missing) = (Vec::new(), Vec::new());
        let mut quarantined = BTreeMap::new();
        for entry in manifest.current().blocks.values() {
            self.open_block(id, entry, &mut blocks, &mut missing, &mut quarantined);
        }
        blocks.sort_by_key(|b| b.meta().min_time);
        let mut head = Head::new(id.clone(), self.config.clone(), self.clock.clone(), self.metrics.clone());
        if !self.recovery.is_replayed() {
            head = head.unrecovered();
        }
        for entry in self.disk.list(&dir).map_err(StorageError::io("list directory", &dir))? {
            if let Some((number, _)) = parse_file_name(&entry.name) {
                head.reserve_chunk_files(number);
            }
        }
        let mut cut = Vec::new();
        for entry in manifest.current().blocks.values().filter(|b| !b.imported) {
            add_range(&mut cut, entry.range());
        }
        cut.iter().for_each(|&range| head.refuse_range(range));
        let view = TenantView {
            head: HeadView { cut: cut.into(), ..HeadView::default() },
            blocks: blocks.into(),
            missing: missing.into(),
            quarantined: quarantined.into(),
        };
        Ok(Tenant {
            head: Arc::new(head),
            manifest,
            cuts: Mutex::default(),
            compaction: Mutex::default(),
            verification: Verification::default(),
            index_tables: Mutex::default(),
            may_have_deletes: AtomicBool::new(self.has_deletes_mark(id)),
            shipped: Mutex::default(),
            view: RwLock::new(view),
        })
    }

    /// Opens a live block. One that does not open is left out: its range is missing from answers,
    /// which say so, and nothing else is.
    fn open_block(
        &self,
        id: &TenantId,
        entry: &BlockEntry,
        blocks: &mut Vec<Block>,
        missing: &mut Vec<Missing>,
        quarantined: &mut BTreeMap<BlockId, Quarantined>,
    ) {
        let dir = entry.dir(&self.bucket_dir(id));
        let tables = self.index_tables_of(id, entry.ulid);
        match Block::open_with_tables(&*self.disk, &dir, Some(&tables)) {
            Ok(block) => {
                let block = block.listed_as(entry.ulid, entry.min_time, entry.max_time);
                quarantined.extend(read_mark(&*self.disk, &dir).map(|mark| (entry.ulid, mark)));
                blocks.push(block);
            }
            Err(error) => {
                self.metrics.blocks_damaged.add(1);
                tracing::error!(tenant = %id, block = %entry.ulid, %error, "block cannot be read and is left out");
                let why = format!("block cannot be read block={}: {error}", entry.ulid);
                missing.push(Missing { block: entry.ulid, range: entry.range(), why });
            }
        }
    }

    /// Makes the blocks that queries read those that `live` lists. `fresh` is one that is open
    /// already. Whoever calls this holds the tenant's cuts.
    pub(crate) fn follow(&self, tenant: &Tenant, live: &ManifestState, fresh: Option<Block>) {
        let view = tenant.view.read().clone();
        let mut blocks: Vec<Block> = view.blocks.iter().cloned().chain(fresh).collect();
        let mut missing = view.missing.to_vec();
        let mut quarantined = (*view.quarantined).clone();
        blocks.retain(|b| live.blocks.contains_key(&b.meta().ulid));
        missing.retain(|m| live.blocks.contains_key(&m.block));
        quarantined.retain(|block, _| live.blocks.contains_key(block));
        let known: BTreeSet<BlockId> =
            blocks.iter().map(|b| b.meta().ulid).chain(missing.iter().map(|m| m.block)).collect();
        for entry in live.blocks.values() {
            if !known.contains(&entry.ulid) {
                self.open_block(&tenant.head.tenant, entry, &mut blocks, &mut missing, &mut quarantined);
            }
        }
        blocks.sort_by_key(|b| b.meta().min_time);
        self.hide_in(tenant, &mut blocks, &mut missing);
        let mut view = tenant.view.write();
        view.blocks = blocks.into();
        view.missing = missing.into();
        view.quarantined = quarantined.into();
    }

    /// Moves sealed chunks from memory to files; `all` includes pages that are not full.
    pub(crate) fn write_head_chunks(&self, tenant: &Tenant, all: bool) -> Result<(), StorageError> {
        let dir = self.head_dir(&tenant.head.tenant);
        tenant.head.write_chunks(&*self.disk, &dir, all).map_err(StorageError::io("write head chunks", &dir))
    }
}
