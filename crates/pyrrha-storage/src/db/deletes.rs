//! Deletes of series: durable in the log, honoured by head and blocks at once, undone within a day,
//! then made final and removed from the disk block by block (decision 23, ADR 0010).

use std::io;
use std::sync::atomic::Ordering;

use pyrrha_model::contract::{CancelToken, Delete, DeleteId, Deletes, QueryContext};
use pyrrha_model::{ErrorKind, Matcher, StoreError, TenantId, TimeRange};

use super::tenant::{Missing, Tenant};
use super::unread::check_read;
use super::{Db, Shared};
use crate::block::{Block, BlockId};
use crate::durable;
use crate::error::StorageError;
use crate::wal::LogDelete;

/// File in a tenant's directory of the head that is there while deletes may stand.
pub(crate) const MARK: &str = "deletes";
/// Most deletes of a tenant that stand at once: each costs every query a little.
const MOST_STANDING: usize = 1000;
/// Most deletes of a tenant that are remembered at once, with those that have nothing left to hide.
const MOST_REMEMBERED: usize = 10 * MOST_STANDING;

impl Deletes for Db {
    fn delete(
        &self,
        tenant: &TenantId,
        matcher_sets: &[Vec<Matcher>],
        range: TimeRange,
    ) -> Result<Option<DeleteId>, StoreError> {
        self.check_open()?;
        let Some(tenant) = self.shared.tenants.get(tenant) else {
            return if self.shared.recovery.is_replayed() { Ok(None) } else { Err(recovering()) };
        };
        self.check_recovered(&tenant)?;
        self.check_log_read()?;
        // No block comes or goes meanwhile: what is in the head when the delete is made is hidden
        // there, and what is in blocks is hidden in those.
        let _cuts = tenant.cuts.lock();
        let (mut standing, last) = tenant.head.standing_deletes();
        check_count(tenant.head.effective_deletes().len(), standing.len())?;
        // Newer than what imported blocks know, by whatever clock.
        let blocks = tenant.blocks();
        let known = blocks.iter().map(Block::deletes_through).fold(last, DeleteId::max);
        let id = DeleteId(BlockId::new(&*self.shared.clock).number().max(known.0.saturating_add(1)));
        let at = self.shared.clock.now_ms();
        let delete = Delete { id, matcher_sets: matcher_sets.to_vec(), range, at, is_final: false };
        standing.push(delete.clone());
        // First: a block whose index cannot be read refuses the delete.
        let ctx = self.shared.delete_context(&tenant);
        let hiding: Vec<Block> =
            blocks.iter().map(|b| b.with_deletes(&standing, id, &ctx)).collect::<Result<_, _>>()?;
        self.shared.mark_deletes(&tenant)?;
        tenant.head.delete(delete, &*self.log)?;
        show(&tenant, hiding);
        self.shared.metrics.deletes.add(1);
        tracing::info!(tenant = %tenant.head.tenant, delete = %id, start = range.start, end = range.end, "series deleted");
        Ok(Some(id))
    }

    fn undo_delete(&self, tenant: &TenantId, id: DeleteId) -> Result<(), StoreError> {
        self.check_open()?;
        let none = || StoreError::new(ErrorKind::NotFound, format!("no such delete stands: id={id}"));
        let tenant = self.shared.tenants.get(tenant).ok_or_else(none)?;
        self.check_recovered(&tenant)?;
        self.check_log_read()?;
        let _cuts = tenant.cuts.lock();
        let standing = tenant.head.effective_deletes();
        let delete = standing.iter().find(|d| d.id == id).ok_or_else(none)?;
        if delete.is_final {
            let text = format!("delete is final, its samples are being removed: id={id}");
            return Err(StoreError::new(ErrorKind::Invalid, text));
        }
        tenant.head.change_deletes(vec![LogDelete::Undo(id)], &*self.log)?;
        self.shared.hide_deleted(&tenant);
        tracing::info!(tenant = %tenant.head.tenant, delete = %id, "delete undone");
        Ok(())
    }

    fn standing_deletes(&self, tenant: &TenantId) -> Result<Vec<Delete>, StoreError> {
        let Some(tenant) = self.shared.tenants.get(tenant) else { return Ok(Vec::new()) };
        self.check_recovered(&tenant)?;
        Ok(tenant.head.effective_deletes())
    }

    fn purge_deletes(&self, tenant: &TenantId) -> Result<(), StoreError> {
        self.check_open()?;
        let Some(tenant) = self.shared.tenants.get(tenant) else { return Ok(()) };
        self.check_recovered(&tenant)?;
        self.check_log_read()?;
        self.make_final(&tenant, |_| true)?;
        while let Some(block) = tenant.blocks().iter().find_map(Block::to_purge) {
            if !self.shared.compact_blocks(&tenant, &[block], &CancelToken::default())? {
                let text = "a block with deleted samples cannot be written anew, a restart may help";
                return Err(StoreError::new(ErrorKind::Unavailable, text));
            }
        }
        Ok(self.forget_done(&tenant)?)
    }
}

/// Fails if there are too many deletes: `effective` that do something, `all` with those that the log or
/// checkpoints still have.
fn check_count(effective: usize, all: usize) -> Result<(), StoreError> {
    let text = if effective >= MOST_STANDING {
        format!("deletes that stand: limit={MOST_STANDING}, purge them first")
    } else if all >= MOST_REMEMBERED {
        format!("deletes that the log has: limit={MOST_REMEMBERED}, try again after the next checkpoint")
    } else {
        return Ok(());
    };
    Err(StoreError::new(ErrorKind::Limit, text))
}

fn recovering() -> StoreError {
    let text = "the log is being replayed, deletes are known when it is, try again";
    StoreError::new(ErrorKind::Unavailable, text)
}

impl Db {
    /// Brings deletes into force that somebody else remembers, and this database does not: it lost its
    /// disk since. They hide nothing of what was acknowledged since. Gives how many there were.
    pub fn learn_deletes(&self, tenant: &TenantId, standing: &[Delete]) -> Result<usize, StoreError> {
        self.check_open()?;
        let Some(tenant) = self.shared.tenants.get(tenant) else { return Ok(0) };
        self.check_recovered(&tenant)?;
        let _cuts = tenant.cuts.lock();
        let (_, last) = tenant.head.standing_deletes();
        let new: Vec<LogDelete> =
            standing.iter().filter(|d| d.id > last).cloned().map(LogDelete::Stands).collect();
        let count = new.len();
        if count > 0 {
            self.shared.mark_deletes(&tenant)?;
            tenant.head.change_deletes(new, &*self.log)?;
            self.shared.hide_deleted(&tenant);
        }
        Ok(count)
    }

    fn check_recovered(&self, tenant: &Tenant) -> Result<(), StoreError> {
        if tenant.head.is_recovered() { Ok(()) } else { Err(recovering()) }
    }

    /// Fails if a part of the log cannot be read. A new delete could not hide what is in it, which may be
    /// back after a restart; and it may have the end of a delete, which is then neither undone nor made final.
    fn check_log_read(&self) -> Result<(), StoreError> {
        check_read(&self.shared.recovery.damage(), &self.shared.config.dir)
    }

    fn check_open(&self) -> Result<(), StoreError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(StoreError::new(ErrorKind::Unavailable, "database is closed"));
        }
        self.shared.reserve.check_writable()
    }

    /// Makes deletes final whose time to be undone is over, and forgets those of which nothing is
    /// left. What they hide of blocks is removed by compaction.
    pub(super) fn settle_deletes(&self, tenant: &Tenant) -> Result<(), StorageError> {
        // A part of the log that cannot be read may say that one of them was undone.
        if !tenant.head.is_recovered() || self.shared.keeps_whole_log() {
            return Ok(());
        }
        let undo = i64::try_from(self.shared.config.delete_undo.as_millis()).unwrap_or(i64::MAX);
        let now = self.shared.clock.now_ms();
        self.make_final(tenant, |delete| now.saturating_sub(delete.at) >= undo)?;
        self.forget_done(tenant)
    }

    fn make_final(&self, tenant: &Tenant, due: impl Fn(&Delete) -> bool) -> Result<(), StorageError> {
        if tenant.head.standing_deletes().0.iter().all(|d| d.is_final || !due(d)) {
            return Ok(());
        }
        let _cuts = tenant.cuts.lock();
        let (standing, _) = tenant.head.standing_deletes();
        let due = standing.iter().filter(|d| !d.is_final && due(d));
        let changes: Vec<LogDelete> = due.map(|d| LogDelete::Final(d.id)).collect();
        tenant.head.change_deletes(changes, &*self.log)?;
        self.shared.hide_deleted(tenant);
        // There may be something to remove although the manifest is what it was.
        tenant.compaction.lock().look_again();
        Ok(())
    }

    fn forget_done(&self, tenant: &Tenant) -> Result<(), StorageError> {
        let (standing, _) = tenant.head.standing_deletes();
        if standing.is_empty() {
            return self.shared.unmark_deletes(tenant);
        }
        if !standing.iter().any(|d| d.is_final) {
            return Ok(());
        }
        let _cuts = tenant.cuts.lock();
        let view = tenant.view.read().clone();
        let (standing, _) = tenant.head.standing_deletes();
        // A block that cannot be read now may be readable after the next start.
        let left = |d: &Delete| {
            tenant.head.is_hidden_by(d.id)
                || view.blocks.iter().any(|b| b.is_hidden_by(d.id))
                || view.lacks(d.range)
        };
        // Nor may the log or a checkpoint have some: once a block is gone that had nothing else, a start
        // would take them for samples of a range that is in no block.
        let (now, from) = (self.wal.position(), *self.truncated.lock());
        let done = |d: &&Delete| d.is_final && tenant.head.is_done(d.id, left(d), now, from);
        let done: Vec<LogDelete> = standing.iter().filter(done).map(|d| LogDelete::Done(d.id)).collect();
        if !done.is_empty() {
            tenant.head.change_deletes(done, &*self.log)?;
        }
        Ok(())
    }
}

/// Queries read these from now on.
fn show(tenant: &Tenant, blocks: Vec<Block>) {
    tenant.view.write().blocks = blocks.into();
}

impl Shared {
    pub(super) fn delete_context(&self, tenant: &Tenant) -> QueryContext {
        QueryContext { tenant: tenant.head.tenant.clone(), ..QueryContext::unlimited() }
    }

    /// Says, durably, that deletes may stand: a start then waits for the log before it reads blocks.
    fn mark_deletes(&self, tenant: &Tenant) -> Result<(), StorageError> {
        if tenant.may_have_deletes.load(Ordering::Acquire) {
            return Ok(());
        }
        let path = self.head_dir(&tenant.head.tenant).join(MARK);
        let marked = match durable::write_new(&*self.disk, &path, b"") {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => result,
        };
        marked
            .and_then(|()| durable::sync_name(&*self.disk, &path))
            .map_err(StorageError::io("write mark of deletes", &path))?;
        tenant.may_have_deletes.store(true, Ordering::Release);
        Ok(())
    }

    /// Takes it back: no delete stands.
    fn unmark_deletes(&self, tenant: &Tenant) -> Result<(), StorageError> {
        if !tenant.may_have_deletes.load(Ordering::Acquire) {
            return Ok(());
        }
        let _cuts = tenant.cuts.lock();
        if !tenant.head.standing_deletes().0.is_empty() {
            return Ok(());
        }
        let path = self.head_dir(&tenant.head.tenant).join(MARK);
        self.disk.remove_file(&path).map_err(StorageError::io("remove mark of deletes", &path))?;
        tenant.may_have_deletes.store(false, Ordering::Release);
        Ok(())
    }

    /// Whether the mark is there.
    pub(super) fn has_deletes_mark(&self, tenant: &TenantId) -> bool {
        self.disk.exists(&self.head_dir(tenant).join(MARK))
    }

    /// Hides in the tenant's blocks what the deletes that stand say. Whoever calls it holds the lock
    /// of cuts. A block of which that cannot be said is read no more: what is deleted stays so.
    pub(crate) fn hide_deleted(&self, tenant: &Tenant) {
        let view = tenant.view.read().clone();
        let (mut blocks, mut missing) = (view.blocks.to_vec(), view.missing.to_vec());
        self.hide_in(tenant, &mut blocks, &mut missing);
        let mut view = tenant.view.write();
        view.blocks = blocks.into();
        view.missing = missing.into();
    }

    /// Makes blocks hide what the deletes that stand say; those that cannot become missing.
    pub(super) fn hide_in(&self, tenant: &Tenant, blocks: &mut Vec<Block>, missing: &mut Vec<Missing>) {
        let (standing, last) = tenant.head.standing_deletes();
        let ctx = self.delete_context(tenant);
        blocks.retain_mut(|block| match block.with_deletes(&standing, last, &ctx) {
            Ok(hiding) => {
                *block = hiding;
                true
            }
            Err(error) => {
                self.metrics.blocks_damaged.add(1);
                tracing::error!(tenant = %tenant.head.tenant, block = %block.meta().ulid, %error, "deletes cannot be applied to a block, which is left out");
                missing.push(Missing::new(block, &error));
                false
            }
        });
    }

    /// Does so for all tenants, after a start.
    pub(crate) fn hide_all_deleted(&self) {
        for tenant in self.tenants.all() {
            let _cuts = tenant.cuts.lock();
            self.hide_deleted(&tenant);
        }
    }
}

#[cfg(test)]
mod tests;
