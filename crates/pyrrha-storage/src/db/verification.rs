//! Blocks are read as a whole when a query found one damaged, and now and then for no reason: what
//! proves damaged twice is set aside before anyone needs it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pyrrha_model::contract::{CancelToken, QueryContext, SeriesBatch, SeriesSet};
use pyrrha_model::{ErrorKind, StoreError};

use super::Shared;
use super::tenant::Tenant;
use crate::block::{Block, BlockId};
use crate::query::EmptySet;

/// What is known of a tenant's blocks besides what they hold.
#[derive(Debug, Default)]
pub(crate) struct Verification {
    /// Blocks that a query found damaged.
    suspects: Mutex<BTreeSet<BlockId>>,
    turns: Mutex<Turns>,
}

/// Which block is read when, by monotonic time.
#[derive(Debug, Default)]
struct Turns {
    due: BTreeMap<BlockId, Duration>,
    /// When somebody looks again.
    next_look: Duration,
}

/// Time between two looks for a block whose turn it is.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Blocks that are new to this process take their turns spread over so many parts of the time.
const PARTS: u32 = 64;

impl Verification {
    /// A query found this block damaged.
    pub(super) fn suspect(&self, block: BlockId) {
        self.suspects.lock().insert(block);
    }

    /// Whether a query found a block damaged and nobody has looked at it since.
    pub(super) fn has_suspects(&self) -> bool {
        !self.suspects.lock().is_empty()
    }
}

impl Shared {
    /// What a query gets of a block. Damage is an error, or a gap where an incomplete answer is wanted;
    /// in either case somebody looks at the block.
    pub(super) fn watch(
        &self,
        tenant: &Arc<Tenant>,
        ctx: &QueryContext,
        block: &Block,
        selected: Result<Box<dyn SeriesSet>, StoreError>,
    ) -> Result<Box<dyn SeriesSet>, StoreError> {
        let watch = Watch { tenant: tenant.clone(), ctx: ctx.clone(), block: block.clone() };
        match selected {
            Ok(set) => Ok(Box::new(WatchedSet { set, watch })),
            Err(error) => watch.judge(error).map(|()| Box::new(EmptySet) as Box<dyn SeriesSet>),
        }
    }

    /// The same of what a block answers at once.
    pub(super) fn watch_answer<T>(
        &self,
        tenant: &Arc<Tenant>,
        ctx: &QueryContext,
        block: &Block,
        answer: Result<Vec<T>, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let watch = || Watch { tenant: tenant.clone(), ctx: ctx.clone(), block: block.clone() };
        answer.or_else(|error| watch().judge(error).map(|()| Vec::new()))
    }

    /// Whether a block is to be read as a whole now.
    pub(super) fn may_verify(&self) -> bool {
        self.tenants.all().iter().any(|t| t.verification.has_suspects() || self.verify_next_of(t).is_some())
    }

    /// Reads the blocks that queries found damaged, then at most one more.
    pub(super) fn verify_blocks(&self, cancel: &CancelToken) {
        for tenant in self.tenants.all() {
            let suspects = std::mem::take(&mut *tenant.verification.suspects.lock());
            for block in tenant.blocks().iter().filter(|b| suspects.contains(&b.meta().ulid)) {
                self.verify_block(&tenant, block, cancel);
            }
        }
        let next =
            self.tenants.all().into_iter().find_map(|t| self.verify_next_of(&t).map(|block| (t, block)));
        if let Some((tenant, block)) = next {
            self.verify_block(&tenant, &block, cancel);
        }
    }

    /// The block of a tenant whose turn it is: each in its time, and one at a time.
    fn verify_next_of(&self, tenant: &Tenant) -> Option<Block> {
        let every = self.config.verify_every;
        if every.is_zero() {
            return None;
        }
        let now = self.clock.monotonic();
        let mut turns = tenant.verification.turns.lock();
        if now < turns.next_look {
            return None;
        }
        let view = tenant.view.read().clone();
        let before = std::mem::take(&mut turns.due);
        let mut next = None;
        for block in view.blocks.iter() {
            let id = block.meta().ulid;
            // A process that is often started anew gets to every block too, in the end.
            let part = 1 + (id.number() % u128::from(PARTS)) as u32;
            let due = before.get(&id).copied().unwrap_or(now + every / PARTS * part);
            turns.due.insert(id, due);
            if due <= now && next.is_none() && !view.quarantined.contains_key(&id) {
                next = Some(block.clone());
            }
        }
        if next.is_none() {
            turns.next_look = now + LOOK_EVERY;
        }
        next
    }

    fn verify_block(&self, tenant: &Tenant, block: &Block, cancel: &CancelToken) {
        let id = block.meta().ulid;
        let due = self.clock.monotonic() + self.config.verify_every;
        tenant.verification.turns.lock().due.insert(id, due);
        if tenant.view.read().quarantined.contains_key(&id) {
            return;
        }
        self.metrics.blocks_verified.add(1);
        // Opened anew: what a query saw may have been read wrongly.
        let look = || {
            let block = Block::open(&*self.disk, block.dir())?;
            self.examine(tenant, &block, cancel)
        };
        let damaged = |result: &Result<(), StoreError>| {
            result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Corrupt)
        };
        if damaged(&look())
            && let again = look()
            && damaged(&again)
            && let Err(damage) = again
        {
            self.quarantine(tenant, block, &damage);
        }
    }
}

/// Who reads which block.
struct Watch {
    tenant: Arc<Tenant>,
    ctx: QueryContext,
    block: Block,
}

impl Watch {
    /// What becomes of an error: an answer without the block may do.
    fn judge(&self, error: StoreError) -> Result<(), StoreError> {
        if error.kind() != ErrorKind::Corrupt {
            return Err(error);
        }
        self.tenant.verification.suspect(self.block.meta().ulid);
        if !self.ctx.partial_response {
            return Err(error);
        }
        self.ctx.notices.gap(self.block.meta().range(), error.to_string());
        Ok(())
    }
}

/// Series of a block, up to where it is damaged.
struct WatchedSet {
    set: Box<dyn SeriesSet>,
    watch: Watch,
}

impl SeriesSet for WatchedSet {
    fn next_batch(&mut self, max: usize, batch: &mut SeriesBatch) -> Result<bool, StoreError> {
        // A block leaves out what is damaged of it where that is wanted, and tells of a gap.
        let ctx = &self.watch.ctx;
        let before = ctx.notices.gap_count();
        match self.set.next_batch(max, batch) {
            Ok(more) => {
                if ctx.notices.gap_count() > before {
                    self.watch.tenant.verification.suspect(self.watch.block.meta().ulid);
                }
                Ok(more)
            }
            Err(error) => {
                batch.clear();
                self.watch.judge(error)?;
                self.set = Box::new(EmptySet);
                Ok(false)
            }
        }
    }
}
