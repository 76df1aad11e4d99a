//! The mirror: what tools of Thanos and Mimir look for beside blocks, kept as the manifest has it (decision 18).
//! See `docs/format/mirror.md`.
//!
//! ```text
//! bucket index, as it is ─► jobs that ended ─► newest manifest ─► deletion marks ─► bucket index, if nobody
//!                                                                                   wrote it meanwhile
//! ```
//!
//! In this order nothing goes backwards: whoever wrote the index that is replaced had read a manifest before,
//! and ours is read later. What a crash leaves undone the next round does. Nothing here is read by ourselves.

mod index;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::stream::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use pyrrha_env::Clock;
use pyrrha_model::contract::CancelToken;
use pyrrha_model::{StoreError, TenantId, Timestamp};
use pyrrha_storage::block::BlockId;
use pyrrha_storage::manifest::{BlockEntry, ManifestState};

use crate::block_files::{META, dir, dir_under, has_starts};
use crate::door::{Bucket, Replaced, Seen};
use crate::error::BucketError;
use crate::jobs::{Ends, JobDirectory, LeavingBlock, leaving};
use crate::marks::{Mark, MarkKind, global_key, mark_of};
use crate::mimir_index::{self, IndexError, IndexedBlock, MimirIndex};
use crate::runtime::BucketRuntime;
use crate::tenants::BucketTenants;
use index::{indexed, is_for_mimir, marks, seconds};

/// An index is written anew after so long though nothing changed, as Mimir does: its queriers refuse one that is
/// older than an hour.
const REFRESH: Duration = Duration::from_secs(15 * 60);
/// How far the clock of another who writes an index may be ahead.
const AHEAD: Duration = Duration::from_secs(3600);
/// Requests for small objects under way at once.
const REQUESTS_AT_ONCE: usize = 16;
/// What a mark says.
const DETAILS: &str = "replaced";

/// Whose tools see a bucket of their kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MirrorKind {
    /// Thanos': blocks that were replaced are marked for deletion.
    Thanos,
    /// Mimir's: the same, with copies of marks and a bucket index.
    Mimir,
}

impl MirrorKind {
    /// All kinds.
    pub const ALL: [Self; 2] = [Self::Thanos, Self::Mimir];

    /// Its name in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Thanos => "thanos",
            Self::Mimir => "mimir",
        }
    }
}

/// How a bucket is mirrored.
#[derive(Debug, Clone, Copy)]
pub struct MirrorConfig {
    /// For whom.
    pub kind: MirrorKind,
    /// The files of blocks that were replaced stay so long.
    pub delete_delay: Duration,
}

/// What a mirror did since it began.
#[derive(Debug, Default)]
pub struct MirrorMetrics {
    /// Blocks that were marked for deletion.
    pub marked_blocks: AtomicU64,
    /// Bucket indexes that were written.
    pub indexes_written: AtomicU64,
    /// Bucket indexes that were not written, as somebody else wrote them meanwhile, or the store said so.
    pub late_indexes: AtomicU64,
    /// Tenants that could not be looked after, at each attempt.
    pub failures: AtomicU64,
}

/// Looks after the mirror of all tenants of a bucket. Several may do so at once.
#[derive(Debug)]
pub struct Mirror {
    tenants: Arc<BucketTenants>,
    runtime: Arc<BucketRuntime>,
    clock: Arc<dyn Clock>,
    config: MirrorConfig,
    metrics: MirrorMetrics,
    ends: Arc<Ends>,
    done: Mutex<HashMap<TenantId, Done>>,
    /// The store is known to refuse conditions that hold.
    unconditional: Arc<AtomicBool>,
}

/// What was done for a tenant.
#[derive(Debug, Clone, Default)]
struct Done {
    /// As of which manifest.
    number: u64,
    /// When, ms.
    at: Timestamp,
    /// Blocks that leave, and have their marks or need none.
    settled: HashSet<BlockId>,
    /// The index that the store refused to replace, as if it were another by now.
    refused: Option<Seen>,
}

/// The first live block, of the tenants that were opened, of which Thanos cannot read the chunks.
pub fn unread_by_thanos(tenants: &BucketTenants) -> Option<(TenantId, BlockId)> {
    tenants.all().into_iter().find_map(|tenant| {
        let state = tenants.known(&tenant)?;
        let block = state.blocks.values().find(|block| has_starts(block))?.ulid;
        Some((tenant, block))
    })
}

impl Mirror {
    /// Rounds are to be no further apart, however seldom there is other work: an index that is not written for
    /// an hour is refused.
    pub const EVERY: Duration = Duration::from_secs(5 * 60);

    /// A mirror of the tenants that `tenants` knows.
    pub fn new(
        tenants: Arc<BucketTenants>,
        runtime: Arc<BucketRuntime>,
        clock: Arc<dyn Clock>,
        config: MirrorConfig,
    ) -> Self {
        let (metrics, ends, done, unconditional) = Default::default();
        Self { tenants, runtime, clock, config, metrics, ends, done, unconditional }
    }

    /// What it did.
    pub fn metrics(&self) -> &MirrorMetrics {
        &self.metrics
    }

    /// Looks after tenants of which there is a new manifest, or for which nothing was done for a while; costs
    /// nothing for the others. Goes on after an error with the next tenant, and gives the first. Waits for
    /// requests, so it must not be called on a thread of a runtime.
    pub fn round(&self, cancel: &CancelToken) -> Result<(), StoreError> {
        let mut result = Ok(());
        for tenant in self.tenants.all() {
            cancel.check()?;
            if let Err(error) = self.look_after(&tenant, cancel) {
                self.metrics.failures.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%tenant, %error, "mirror of a tenant could not be written, it is tried again");
                result = result.and(Err(error));
            }
        }
        result
    }

    fn look_after(&self, tenant: &TenantId, cancel: &CancelToken) -> Result<(), StoreError> {
        let manifest = self.tenants.manifest(tenant)?;
        let now = self.clock.now_ms();
        let done = self.done.lock().get(tenant).cloned();
        let fresh = |done: &Done| done.number == manifest.current().number && is_fresh(done.at, now);
        if done.as_ref().is_some_and(fresh) {
            return Ok(());
        }
        let bucket = self.tenants.bucket().clone();
        let before = match self.config.kind {
            MirrorKind::Thanos => None,
            MirrorKind::Mimir => {
                let (bucket, key) = (bucket.clone(), mimir_index::key(tenant));
                Some(self.runtime.wait_while(cancel, async move { read_index(&bucket, &key).await })?)
            }
        };
        let directory = JobDirectory::new(bucket.clone(), self.runtime.clone(), tenant);
        let leaving = leaving(&directory.knowing(self.ends.clone()), tenant)?;
        let state = manifest.refresh()?;
        let number = state.number;
        let Done { mut settled, refused, .. } = done.unwrap_or_default();
        settled.retain(|block| leaving.contains_key(block));
        if number == 0 {
            // Nothing of it is ours.
            self.done.lock().insert(tenant.clone(), Done { number, at: now, settled, refused: None });
            return Ok(());
        }
        if self.config.kind == MirrorKind::Thanos
            && let Some(block) = state.blocks.values().find(|block| has_starts(block))
        {
            let block = block.ulid;
            tracing::warn!(%tenant, %block, "chunks have start timestamps, which Thanos does not read");
        }
        let work = Work {
            bucket,
            tenant: tenant.clone(),
            kind: self.config.kind,
            state,
            leaving,
            now,
            delay: millis(self.config.delete_delay),
            settled: settled.clone(),
            refused,
            unconditional: self.unconditional.clone(),
        };
        let written = self.runtime.wait_while(cancel, work.run(before))?;
        settled.extend(written.settled);
        self.metrics.marked_blocks.fetch_add(written.marked, Ordering::Relaxed);
        self.metrics.indexes_written.fetch_add(u64::from(written.index), Ordering::Relaxed);
        if written.marked > 0 || written.index {
            tracing::debug!(%tenant, manifest = number, marked = written.marked, index = written.index, "mirror written");
        }
        self.metrics.late_indexes.fetch_add(u64::from(written.refused.is_some()), Ordering::Relaxed);
        // What another wrote meanwhile is looked at in the next round.
        let number = if written.refused.is_some() { 0 } else { number };
        let done = Done { number, at: written.at, settled, refused: written.refused };
        self.done.lock().insert(tenant.clone(), done);
        Ok(())
    }
}

/// Whether what was written at a time, ms, need not be written again. A clock may be a little behind another.
fn is_fresh(at: Timestamp, now: Timestamp) -> bool {
    (-millis(AHEAD)..millis(REFRESH)).contains(&now.saturating_sub(at))
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// An index as it is in the bucket: what it says, if it reads, and what there is to replace.
type Before = (Option<MimirIndex>, Seen);

/// Reads the index that is to be replaced. One that is damaged is none; one that others than we understand is
/// left to them, which is an error.
async fn read_index(bucket: &Bucket, key: &str) -> Result<Before, BucketError> {
    let (packed, seen) = bucket.get_to_replace(key, mimir_index::PACKED_MAX).await?;
    let Some(packed) = packed else { return Ok((None, seen)) };
    let index = match mimir_index::unpack(packed).await {
        Ok(index) => Some(index),
        Err(IndexError::Damaged(error)) => {
            tracing::warn!(key, error, "bucket index is damaged and is written anew");
            None
        }
        Err(error) => return Err(error.of(key)),
    };
    Ok((index, seen))
}

/// What is to be done for a tenant.
struct Work {
    bucket: Bucket,
    tenant: TenantId,
    kind: MirrorKind,
    state: Arc<ManifestState>,
    leaving: BTreeMap<BlockId, LeavingBlock>,
    now: Timestamp,
    /// ms
    delay: i64,
    settled: HashSet<BlockId>,
    refused: Option<Seen>,
    unconditional: Arc<AtomicBool>,
}

/// What was done for a tenant.
#[derive(Default)]
struct Written {
    settled: Vec<BlockId>,
    marked: u64,
    index: bool,
    /// The index that was not replaced, as somebody else wrote it meanwhile.
    refused: Option<Seen>,
    /// As of when, ms.
    at: Timestamp,
}

impl Work {
    async fn run(self, before: Option<Before>) -> Result<Written, BucketError> {
        let mut written = Written { at: self.now, ..Written::default() };
        let is_open = |(block, leaving): &(&BlockId, &LeavingBlock)| {
            !self.state.blocks.contains_key(block) && !self.settled.contains(block) && !self.is_due(leaving)
        };
        let open: Vec<_> = self.leaving.iter().filter(is_open).collect();
        let marks: Vec<_> = open.iter().map(|(block, leaving)| self.mark(**block, leaving)).collect();
        let marks: Vec<bool> = futures::stream::iter(marks).buffered(REQUESTS_AT_ONCE).try_collect().await?;
        written.settled = open.iter().map(|(block, _)| **block).collect();
        written.marked = marks.into_iter().filter(|marked| *marked).count() as u64;
        let Some((before, seen)) = before else { return Ok(written) };
        let none = MimirIndex::new(Vec::new(), Vec::new(), i64::MIN);
        let index = self.index(before.as_ref().unwrap_or(&none)).await?;
        if let Some(before) = before.filter(|before| self.is_as_good(before, &index)) {
            written.at = before.updated_at.saturating_mul(1000);
            return Ok(written);
        }
        let key = mimir_index::key(&self.tenant);
        let packed = index.pack().map_err(|source| BucketError::Local { file: key.clone(), source })?;
        // Nobody has written it since the store said that somebody had.
        if self.refused.as_ref() == Some(&seen) && !self.unconditional.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                key,
                "store refuses to replace an object that is as it was read: conditions on ETags do not work there, \
                 and bucket indexes are written without one"
            );
        }
        if self.unconditional.load(Ordering::Relaxed) {
            self.bucket.put(&key, packed).await?;
            written.index = true;
            return Ok(written);
        }
        match self.bucket.replace(&key, packed, &seen).await? {
            Replaced::Written => written.index = true,
            Replaced::Changed => written.refused = Some(seen),
        }
        Ok(written)
    }

    /// Whether the files of a block may be removed at any time.
    fn is_due(&self, leaving: &LeavingBlock) -> bool {
        leaving.since.saturating_add(self.delay) <= self.now
    }

    /// Whether an index need not be written.
    fn is_as_good(&self, before: &MimirIndex, index: &MimirIndex) -> bool {
        let same = before.blocks == index.blocks && before.block_deletion_marks == index.block_deletion_marks;
        same && is_fresh(before.updated_at.saturating_mul(1000), self.now)
    }

    /// Marks a block that leaves, if there is one still: true if it had no mark.
    async fn mark(&self, block: BlockId, leaving: &LeavingBlock) -> Result<bool, BucketError> {
        let meta = format!("{}/{META}", leaving.dir);
        if self.bucket.head(&meta).await?.is_none() {
            return Ok(false);
        }
        let kind = MarkKind::Deletion;
        let mark = Mark { at: leaving.since, reason: String::new(), details: DETAILS.to_owned() };
        let mut keys = vec![format!("{}/{}", leaving.dir, kind.file())];
        if self.kind == MirrorKind::Mimir {
            keys.push(global_key(&self.tenant, block, kind));
        }
        let mut marked = false;
        for key in &keys {
            if self.bucket.head(key).await?.is_none() {
                self.bucket.put(key, mark.encode(block, kind)).await?;
                marked = true;
            }
        }
        if marked && self.bucket.head(&meta).await?.is_none() {
            // Its files went meanwhile: a mark that stays would let go what is restored there.
            for key in &keys {
                self.bucket.delete(key).await?;
            }
            return Ok(false);
        }
        Ok(marked)
    }

    /// What the index is to say: live blocks, and of those that leave the ones that were listed and are still
    /// there. What it lists and no job of ours has replaced is somebody else's, and stays as it is.
    async fn index(&self, before: &MimirIndex) -> Result<MimirIndex, BucketError> {
        let marked = marks(before);
        let known: HashMap<BlockId, &IndexedBlock> = before.blocks.iter().map(|b| (b.block_id, b)).collect();
        let live = self.state.blocks.values().filter(|entry| is_for_mimir(entry));
        let live = live.map(|entry| {
            let (before, mark) = (known.get(&entry.ulid).copied(), marked.get(&entry.ulid).copied());
            self.live(entry, before, mark)
        });
        let live: Vec<_> = live.collect();
        let leave = before.blocks.iter().filter(|block| !self.state.blocks.contains_key(&block.block_id));
        let leave: Vec<_> =
            leave.map(|block| self.leaves(block, marked.get(&block.block_id).copied())).collect();
        let live: Vec<_> = futures::stream::iter(live).buffered(REQUESTS_AT_ONCE).try_collect().await?;
        let leave: Vec<_> = futures::stream::iter(leave).buffered(REQUESTS_AT_ONCE).try_collect().await?;
        let blocks = live.into_iter().chain(leave).flatten().collect();
        // It does not get older by another clock, unless that was wrong.
        let is_sound = before.updated_at <= seconds(self.now.saturating_add(millis(AHEAD)));
        let updated_at = if is_sound { before.updated_at } else { i64::MIN };
        Ok(index::index(blocks, seconds(self.now).max(updated_at)))
    }

    /// A live block, with the time of its mark, s.
    async fn live(
        &self,
        entry: &BlockEntry,
        before: Option<&IndexedBlock>,
        marked: Option<i64>,
    ) -> Result<Option<(IndexedBlock, Option<i64>)>, BucketError> {
        let dir = dir(&self.tenant, entry);
        let uploaded_at = match before {
            Some(before) => before.uploaded_at,
            None => match self.bucket.head(&format!("{dir}/{META}")).await? {
                Some(meta) => seconds(meta.modified_ms),
                None => return Ok(None),
            },
        };
        let mark = match (mark_of(entry, MarkKind::Deletion), marked) {
            (Some(mark), _) => Some(seconds(mark.at)),
            // One that another tool made and no job has taken in yet.
            (None, Some(at)) => {
                let file = format!("{dir}/{}", MarkKind::Deletion.file());
                self.bucket.head(&file).await?.map(|_| at)
            }
            (None, None) => None,
        };
        Ok(Some((indexed(entry, uploaded_at, before), mark)))
    }

    /// A block that was listed and is not live, with the time of its mark, s; `None` if it is gone.
    async fn leaves(
        &self,
        before: &IndexedBlock,
        marked: Option<i64>,
    ) -> Result<Option<(IndexedBlock, Option<i64>)>, BucketError> {
        let leaving = self.leaving.get(&before.block_id);
        if leaving.is_none_or(|leaving| self.is_due(leaving)) {
            let meta = format!("{}/{META}", dir_under(&self.tenant, None, before.block_id));
            if self.bucket.head(&meta).await?.is_none() {
                return Ok(None);
            }
        }
        Ok(Some((before.clone(), marked.or(leaving.map(|leaving| seconds(leaving.since))))))
    }
}

#[cfg(test)]
mod tests;
