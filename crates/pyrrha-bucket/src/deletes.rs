//! Deletes of a store with a bucket: durable in the log of the local store, then in the manifest.
//!
//! The local store hides what its head and its blocks have, the gateway what the bucket's blocks have
//! (by the same rule: a block says up to which delete it was made in knowledge of them), and jobs
//! write blocks anew once a delete is final.

use std::sync::Arc;
use std::time::Duration;

use pyrrha_env::Clock;
use pyrrha_model::contract::{Delete, DeleteId, Deletes};
use pyrrha_model::{ErrorKind, Matcher, StoreError, TenantId, TimeRange, Timestamp};
use pyrrha_storage::block::BlockId;
use pyrrha_storage::manifest::{BlockEntry, Change, DeleteEntry, Manifest, ManifestError};

use crate::block_files::{deletes_through, lists_deletes};
use crate::downsample::Origin;
use crate::tenants::BucketTenants;

/// A commit of which nobody knows whether it happened is tried so often.
const COMMIT_TRIES: usize = 3;
/// Most deletes of a tenant that stand at once: each costs every query a little.
const MOST_STANDING: usize = 1000;

/// Deletes that reach the bucket, too. Waits for requests, so it must not be used on a thread of a
/// runtime.
pub struct BucketDeletes {
    local: Arc<dyn Deletes>,
    tenants: Arc<BucketTenants>,
    clock: Arc<dyn Clock>,
}

impl BucketDeletes {
    /// Of the bucket of `tenants` and of a store before it.
    pub fn new(local: Arc<dyn Deletes>, tenants: Arc<BucketTenants>, clock: Arc<dyn Clock>) -> Self {
        Self { local, tenants, clock }
    }
}

/// A delete that stands in a manifest.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    /// The manifest number that brought it.
    pub(crate) number: u64,
    pub(crate) delete: Delete,
}

impl Standing {
    /// That of an entry; `None` if it only fences commits.
    pub(crate) fn of(entry: &DeleteEntry) -> Option<Self> {
        Some(Self { number: entry.number, delete: entry.to_delete()? })
    }
}

/// Commits a change, which may be made twice, and again while it is in doubt.
pub(crate) fn commit(manifest: &Manifest, change: &Change) -> Result<(), ManifestError> {
    let mut tries = 1;
    loop {
        match manifest.commit_change(change) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Unavailable && tries < COMMIT_TRIES => tries += 1,
            Err(error) => return Err(error),
        }
    }
}

impl Deletes for BucketDeletes {
    fn delete(
        &self,
        tenant: &TenantId,
        matcher_sets: &[Vec<Matcher>],
        range: TimeRange,
    ) -> Result<Option<DeleteId>, StoreError> {
        let manifest = self.tenants.manifest(tenant)?;
        let live = manifest.refresh()?;
        if live.deletes.len() >= MOST_STANDING {
            let text = format!("deletes that stand: limit={MOST_STANDING}, purge them first");
            return Err(StoreError::new(ErrorKind::Limit, text));
        }
        // A clock that is ahead would hold up this delete, and all that come after it. One that is behind costs
        // what can be taken back.
        let at = self.clock.now_ms().min(self.tenants.store_now_ms(tenant)?);
        let local = self.local.delete(tenant, matcher_sets, range)?;
        let made = || {
            let deletes = live.deletes.iter().filter_map(|d| d.id.parse::<DeleteId>().ok());
            let newest = deletes.chain(live.blocks.values().map(|b| deletes_through(b))).max();
            let next = newest.map_or(0, |id| id.0.saturating_add(1));
            DeleteId(BlockId::new(&*self.clock).number().max(next))
        };
        let id = match local {
            Some(id) => id,
            // What is only in the bucket.
            None if live.blocks.is_empty() => return Ok(None),
            None => made(),
        };
        let delete = Delete { id, matcher_sets: matcher_sets.to_vec(), range, at, is_final: false };
        let change = Change { deletes: vec![DeleteEntry::of(&delete)], ..Change::default() };
        if let Err(error) = commit(&manifest, &change) {
            // Whoever asked is told that it failed: what can be taken back is.
            if local.is_some() {
                let _ = self.local.undo_delete(tenant, id);
            }
            return Err(error.into());
        }
        Ok(Some(id))
    }

    fn undo_delete(&self, tenant: &TenantId, id: DeleteId) -> Result<(), StoreError> {
        let manifest = self.tenants.manifest(tenant)?;
        let live = manifest.refresh()?;
        let text = id.to_string();
        if let Some(entry) = live.deletes.iter().find(|d| d.id == text) {
            if entry.is_final {
                let text = format!("delete is final, its samples are being removed: id={id}");
                return Err(StoreError::new(ErrorKind::Invalid, text));
            }
            commit(&manifest, &Change { deletes_done: vec![entry.number], ..Change::default() })?;
            return match self.local.undo_delete(tenant, id) {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                result => result,
            };
        }
        self.local.undo_delete(tenant, id)
    }

    fn standing_deletes(&self, tenant: &TenantId) -> Result<Vec<Delete>, StoreError> {
        let live = self.tenants.to_read(tenant)?.map(|manifest| manifest.refresh()).transpose()?;
        let known = live.iter().flat_map(|live| &live.deletes);
        let mut all: Vec<Delete> = known.filter_map(DeleteEntry::to_delete).collect();
        for delete in self.local.standing_deletes(tenant)? {
            if !all.iter().any(|known| known.id == delete.id) {
                all.push(delete);
            }
        }
        all.sort_by_key(|delete| delete.id);
        Ok(all)
    }

    /// The bucket's blocks are written anew by jobs, later.
    fn purge_deletes(&self, tenant: &TenantId) -> Result<(), StoreError> {
        let manifest = self.tenants.manifest(tenant)?;
        let live = manifest.refresh()?;
        let open = live.deletes.iter().filter(|d| !d.is_final).map(|d| d.number).collect::<Vec<_>>();
        if !open.is_empty() {
            commit(&manifest, &Change { deletes_final: open, ..Change::default() })?;
        }
        self.local.purge_deletes(tenant)
    }
}

/// What is due of the deletes that stand: they become final, and are forgotten when no block needs
/// them. `None` if nothing is.
pub(crate) fn due(
    state: &pyrrha_storage::manifest::ManifestState,
    now: i64,
    undo: Duration,
) -> Option<Change> {
    let undo = i64::try_from(undo.as_millis()).unwrap_or(i64::MAX);
    let (mut change, mut waits) = (Change::default(), false);
    for (id, delete, at) in with_times(state, now) {
        let age = now.saturating_sub(at);
        if !delete.is_final {
            // One after another: a block that is written anew without what a final delete hides says that it
            // knows all before it.
            waits |= age < undo;
            if !waits {
                change.deletes_final.push(delete.number);
            }
            continue;
        }
        // A block that was cut before it may come up late.
        let needed = state.blocks.values().any(|block| needs(block, id, delete));
        if !needed && age >= undo.saturating_mul(2) {
            change.deletes_done.push(delete.number);
        }
    }
    (!change.deletes_final.is_empty() || !change.deletes_done.is_empty()).then_some(change)
}

/// The deletes that stand, in the order in which they were made, each with when, ms. A time that is yet to come is
/// of a clock that was ahead: such a delete was made before the next one, at the latest.
fn with_times(
    state: &pyrrha_storage::manifest::ManifestState,
    now: i64,
) -> Vec<(DeleteId, &DeleteEntry, Timestamp)> {
    let known = state.deletes.iter();
    let known = known.filter_map(|delete| Some((delete.id.parse::<DeleteId>().ok()?, delete)));
    let mut deletes: Vec<(DeleteId, &DeleteEntry)> = known.collect();
    deletes.sort_by_key(|(id, _)| *id);
    let mut next = Timestamp::MAX;
    let mut timed = Vec::with_capacity(deletes.len());
    for (id, delete) in deletes.into_iter().rev() {
        next = if delete.at > now { delete.at.min(next) } else { delete.at };
        timed.push((id, delete, next));
    }
    timed.reverse();
    timed
}

/// Whether a delete with this id may hide something that a block has.
pub(crate) fn needs(block: &BlockEntry, id: DeleteId, delete: &DeleteEntry) -> bool {
    let unknown = match Origin::of(block) {
        // Windows are made of what it was applied to, or say that it was not.
        Some(origin) => origin.through < delete.number,
        None => deletes_through(block) < id || lists_deletes(block),
    };
    unknown && block.range().overlaps(&delete.range())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delete_becomes_final_after_those_before_it() {
        let delete = |id: u128, number: u64, at: i64| DeleteEntry {
            number,
            ..DeleteEntry::of(&Delete {
                id: DeleteId(id),
                matcher_sets: vec![vec![Matcher::equal("a", "b")]],
                range: TimeRange::ALL,
                at,
                is_final: false,
            })
        };
        let finals = |deletes: [DeleteEntry; 2], now| {
            let mut state = pyrrha_storage::manifest::ManifestState::default();
            state.deletes = deletes.into();
            due(&state, now, Duration::from_secs(1)).map(|change| change.deletes_final)
        };
        // The clock of whoever made the first was ahead: it was made before the second.
        let first_ahead = || [delete(7, 1, 5_000), delete(8, 2, 1_000)];
        assert_eq!(finals(first_ahead(), 1_900), None);
        assert_eq!(finals(first_ahead(), 2_000), Some(vec![1, 2]));
        // Nobody knows when the second was, but by its clock.
        let second_ahead = || [delete(7, 1, 1_000), delete(8, 2, 5_000)];
        assert_eq!(finals(second_ahead(), 2_000), Some(vec![1]));
        assert_eq!(finals(second_ahead(), 6_000), Some(vec![1, 2]));
        // Both are of the past: what knows of the second would be taken to know of the first.
        assert_eq!(finals([delete(7, 1, 1_900), delete(8, 2, 1_000)], 2_000), None);
    }
}
