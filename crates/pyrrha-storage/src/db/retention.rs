//! What is too old or too much is removed, block by block, and a clock that jumps removes nothing
//! (decision 22).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pyrrha_model::StoreError;
use pyrrha_model::contract::{SeriesBatch, SeriesSet};
use pyrrha_model::{ErrorKind, TenantId, TimeRange, Timestamp};

use super::tenant::Tenant;
use super::{Db, Shared};
use crate::block::BlockId;
use crate::error::StorageError;
use crate::manifest::BlockEntry;

/// Two looks at the wall clock, so far apart by the monotonic clock, have to agree.
const APART: Duration = Duration::from_secs(3600);
/// By how much they may disagree, ms.
const TOLERANCE_MS: u64 = 10 * 60_000;
/// Time between two looks at how much there is.
const SIZE_EVERY: Duration = Duration::from_secs(60);

/// When retention looked last.
#[derive(Debug, Default)]
pub(crate) struct RetentionState {
    clocks: Option<Look>,
    /// Monotonic.
    size: Option<Duration>,
    /// Bytes of log and head chunks at the first look of a run in which the log cannot be truncated.
    kept_log: Option<u64>,
}

/// A look at both clocks.
#[derive(Debug, Clone, Copy)]
struct Look {
    monotonic: Duration,
    wall: Timestamp,
}

impl Look {
    fn at(shared: &Shared) -> Self {
        Self { monotonic: shared.clock.monotonic(), wall: shared.clock.now_ms() }
    }

    /// Whether the wall clock went on as the monotonic one did since `before`.
    fn agrees_with(&self, before: &Self) -> bool {
        let passed = self.monotonic.saturating_sub(before.monotonic).as_millis() as i64;
        before.wall.saturating_add(passed).abs_diff(self.wall) <= TOLERANCE_MS
    }
}

impl Db {
    /// Removes what is past retention, about once an hour, and what is too much, about once a
    /// minute.
    pub(super) fn retain(&self) -> Result<(), StorageError> {
        let mut state = self.retention.lock();
        let now = Look::at(&self.shared);
        if state.clocks.is_none_or(|before| now.monotonic.saturating_sub(before.monotonic) >= APART) {
            let trusted = state.clocks.is_some_and(|before| now.agrees_with(&before));
            state.clocks = Some(now);
            if trusted {
                self.retain_time(now.wall)?;
            }
        }
        if state.size.is_none_or(|before| now.monotonic.saturating_sub(before) >= SIZE_EVERY) {
            state.size = Some(now.monotonic);
            self.retain_size(&mut state.kept_log)?;
        }
        Ok(())
    }

    fn retain_time(&self, now: Timestamp) -> Result<(), StorageError> {
        for tenant in self.shared.tenants.all() {
            let Some(horizon) = self.shared.horizon(&tenant.head.tenant, now) else { continue };
            let past = |block: &BlockEntry| block.max_time <= horizon;
            self.shared.with_reserve(|| self.shared.remove_blocks(&tenant, "past retention", past))?;
        }
        Ok(())
    }

    /// Removes the oldest blocks of all tenants while blocks, log and head chunks together are more
    /// than they may be. What is not in a block yet is never removed.
    fn retain_size(&self, kept_log: &mut Option<u64>) -> Result<(), StorageError> {
        let limit = self.shared.config.retention_bytes;
        if limit == 0 {
            return Ok(());
        }
        let tenants = self.shared.tenants.all();
        let mut total = self.beside_blocks(kept_log);
        let mut blocks: Vec<(usize, Arc<BlockEntry>)> = Vec::new();
        for (i, tenant) in tenants.iter().enumerate() {
            blocks.extend(tenant.manifest.current().blocks.values().map(|b| (i, b.clone())));
        }
        total += blocks.iter().map(|(_, b)| b.bytes).sum::<u64>();
        // What may not leave makes no room.
        blocks.retain(|(i, b)| self.shared.may_leave(&tenants[*i], b.ulid));
        blocks.sort_by_key(|(_, b)| (b.max_time, b.ulid));
        let mut gone: BTreeMap<usize, Vec<BlockId>> = BTreeMap::new();
        for (i, block) in blocks.iter().take_while(|(_, b)| {
            let over = total > limit;
            total = total.saturating_sub(b.bytes);
            over
        }) {
            gone.entry(*i).or_default().push(block.ulid);
        }
        for (i, ids) in gone {
            let beyond = |block: &BlockEntry| ids.contains(&block.ulid);
            self.shared
                .with_reserve(|| self.shared.remove_blocks(&tenants[i], "beyond the size to keep", beyond))?;
        }
        Ok(())
    }

    /// Bytes of log and head chunks that count. While a segment cannot be read they only grow, and blocks must
    /// not go for them.
    fn beside_blocks(&self, kept_log: &mut Option<u64>) -> u64 {
        let all = self.wal.bytes() + self.head_stats().file_bytes;
        if !self.shared.keeps_whole_log() {
            return all;
        }
        let counted = all.min(*kept_log.get_or_insert(all));
        if counted < all {
            tracing::warn!(
                bytes = all - counted,
                "the log grows, as a segment of it cannot be read; retention by size does not count that"
            );
        }
        counted
    }
}

impl Shared {
    /// The time before which samples of a tenant are past retention.
    pub(crate) fn horizon(&self, tenant: &TenantId, now: Timestamp) -> Option<Timestamp> {
        let retention = self.config.retention_of(tenant);
        let ms = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
        (ms > 0).then(|| now.saturating_sub(ms))
    }

    /// What of a range answers may have: samples past retention are hidden at once, by the wall
    /// clock as it is. Should it be wrong, they are back when it is right.
    pub(crate) fn visible(&self, tenant: &TenantId, range: TimeRange) -> TimeRange {
        let horizon = self.horizon(tenant, self.clock.now_ms());
        TimeRange { start: horizon.map_or(range.start, |h| range.start.max(h)), end: range.end }
    }

    /// Tries something once more with the reserve's room if it fails for want of room.
    pub(super) fn with_reserve<T>(
        &self,
        mut attempt: impl FnMut() -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let failures = self.reserve.failures();
        attempt().or_else(|error| if self.reserve.release_since(failures) { attempt() } else { Err(error) })
    }

    /// Removes the live blocks for which `gone` is true, but none that a bucket is to have and has
    /// not.
    pub(crate) fn remove_blocks(
        &self,
        tenant: &Tenant,
        why: &'static str,
        gone: impl Fn(&BlockEntry) -> bool,
    ) -> Result<(), StorageError> {
        // A cut changes the list of blocks too.
        let _cuts = tenant.cuts.lock();
        let current = tenant.manifest.current();
        let old: Vec<BlockId> = current
            .blocks
            .values()
            .filter(|b| gone(b) && self.may_leave(tenant, b.ulid))
            .map(|b| b.ulid)
            .collect();
        if old.is_empty() {
            return Ok(());
        }
        let id = &tenant.head.tenant;
        let job = self.begin_job(id, &[], &old)?;
        let live = match tenant.manifest.commit(&[], &old) {
            Ok(live) => live,
            Err(error) => {
                // In doubt the next start knows what became of it.
                if error.kind() != ErrorKind::Unavailable {
                    self.end_job(id, &job, &tenant.manifest.current());
                }
                return Err(error.into());
            }
        };
        self.follow(tenant, &live, None);
        for block in &old {
            tracing::info!(tenant = %id, %block, why, "block removed");
        }
        self.metrics.blocks_removed.add(old.len() as u64);
        // Queries that have one open keep its bytes.
        self.end_job(id, &job, &live);
        Ok(())
    }
}

/// Series without the samples before a moment.
pub(crate) struct FromHorizon {
    pub(crate) set: Box<dyn SeriesSet>,
    pub(crate) horizon: Timestamp,
}

impl SeriesSet for FromHorizon {
    fn next_batch(&mut self, max: usize, batch: &mut SeriesBatch) -> Result<bool, StoreError> {
        let more = self.set.next_batch(max, batch)?;
        let hidden = TimeRange::new(Timestamp::MIN, self.horizon.saturating_sub(1));
        for entry in &mut batch.series {
            if entry.chunks.iter().any(|chunk| chunk.min_time < self.horizon) {
                entry.deleted.push(hidden);
            }
        }
        Ok(more)
    }
}
