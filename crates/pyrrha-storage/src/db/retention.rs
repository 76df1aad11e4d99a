//! Blocks past retention are removed, and a clock that jumps removes nothing (decision 22).

use std::time::Duration;

use pyrrha_model::Timestamp;

use super::tenant::Tenant;
use super::{Db, Shared};
use crate::block::{Block, BlockId};
use crate::error::StorageError;

/// Two looks at the wall clock, so far apart by the monotonic clock, have to agree.
const APART: Duration = Duration::from_secs(3600);
/// By how much they may disagree, ms.
const TOLERANCE_MS: u64 = 10 * 60_000;

/// A look at both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
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
    /// Removes what is past retention, about once an hour.
    pub(super) fn retain(&self) -> Result<(), StorageError> {
        let retention = i64::try_from(self.shared.config.retention.as_millis()).unwrap_or(i64::MAX);
        if retention == 0 {
            return Ok(());
        }
        let now = Look::at(&self.shared);
        let before = {
            let mut last = self.last_look.lock();
            match *last {
                Some(before) if now.monotonic.saturating_sub(before.monotonic) < APART => return Ok(()),
                before => {
                    *last = Some(now);
                    before
                }
            }
        };
        if !before.is_some_and(|before| now.agrees_with(&before)) {
            return Ok(());
        }
        let horizon = now.wall.saturating_sub(retention);
        self.shared.tenants.all().iter().try_for_each(|tenant| self.shared.remove_before(tenant, horizon))
    }
}

impl Shared {
    /// Removes the blocks that end before `horizon`.
    fn remove_before(&self, tenant: &Tenant, horizon: Timestamp) -> Result<(), StorageError> {
        // A cut changes the list of blocks too.
        let _cuts = tenant.cuts.lock();
        let manifest = tenant.manifest.current();
        let old: Vec<BlockId> =
            manifest.blocks.values().filter(|b| b.max_time <= horizon).map(|b| b.ulid).collect();
        if old.is_empty() {
            return Ok(());
        }
        let id = &tenant.head.tenant;
        let job = self.begin_job(id, &[], &old)?;
        let live = tenant.manifest.commit(&[], &old)?;
        {
            let mut view = tenant.view.write();
            let kept: Vec<Block> =
                view.blocks.iter().filter(|b| !old.contains(&b.meta().ulid)).cloned().collect();
            view.blocks = kept.into();
        }
        for block in &old {
            tracing::info!(tenant = %id, %block, "block is past retention and removed");
            self.metrics.blocks_removed.add(1);
        }
        // Queries that have one open keep its bytes.
        self.end_job(id, &job, &live);
        Ok(())
    }
}
