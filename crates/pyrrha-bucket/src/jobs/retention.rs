//! What is too old leaves the bucket, block by block, and a clock that jumps removes nothing
//! (decision 22).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pyrrha_model::contract::CancelToken;
use pyrrha_model::{ErrorKind, StoreError, TenantId, Timestamp};
use pyrrha_storage::block::BlockId;
use pyrrha_storage::manifest::{BlockEntry, ManifestState};
use serde::Serialize;

use super::perform::{Ended, Orders};
use super::prune;
use super::runner::Compactor;
use super::{JobKind, JobSpec, MatcherRetention};
use crate::block_files::set_aside;
use crate::downsample::{self, DownsampleTask, FIVE_MINUTES, HOUR};

/// Two looks at the wall clock, so far apart by the monotonic clock, have to agree.
const APART: Duration = Duration::from_secs(3600);
/// By how much the clocks may disagree, ms.
const TOLERANCE_MS: u64 = 10 * 60_000;

/// How long blocks stay in the bucket; zero is for ever.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retention {
    /// Raw samples.
    pub raw: Duration,
    /// By resolution in ms, where it differs from raw samples.
    pub resolutions: BTreeMap<i64, Duration>,
    /// Tenants for whom all resolutions stay as long as this instead.
    pub tenants: BTreeMap<TenantId, Duration>,
    /// Series that stay shorter.
    pub matchers: Vec<MatcherRetention>,
    /// Tenants that have these rules instead.
    pub tenant_matchers: BTreeMap<TenantId, Vec<MatcherRetention>>,
}

impl Retention {
    /// The time before which samples of a resolution are past retention.
    pub fn horizon(&self, tenant: &TenantId, resolution: i64, now: Timestamp) -> Option<Timestamp> {
        let own = self.tenants.get(tenant).or_else(|| self.resolutions.get(&resolution));
        let keep = i64::try_from(own.unwrap_or(&self.raw).as_millis()).unwrap_or(i64::MAX);
        (keep > 0).then(|| now.saturating_sub(keep))
    }

    /// A tenant's rules for series that stay shorter.
    pub(super) fn matchers_of(&self, tenant: &TenantId) -> &[MatcherRetention] {
        self.tenant_matchers.get(tenant).unwrap_or(&self.matchers)
    }

    /// Whether anything ever leaves.
    pub(super) fn is_some(&self) -> bool {
        if !self.matchers.is_empty() || self.tenant_matchers.values().any(|rules| !rules.is_empty()) {
            return true;
        }
        !self.raw.is_zero() || self.resolutions.values().chain(self.tenants.values()).any(|d| !d.is_zero())
    }
}

/// A block that is past retention, whether it is to be downsampled yet, and the time before which samples are
/// past it.
type Past = (Arc<BlockEntry>, bool, Timestamp);

/// A look at the clocks.
#[derive(Debug, Clone, Copy)]
struct Look {
    monotonic: Duration,
    wall: Timestamp,
}

/// What is known of the clocks.
#[derive(Debug, Default)]
pub(super) struct Looks(Mutex<Option<Look>>);

impl Looks {
    /// The wall clock's time, if the store's clock and an earlier look agree with it.
    fn trusted(&self, monotonic: Duration, wall: Timestamp, store: Timestamp) -> Option<Timestamp> {
        let mut looks = self.0.lock();
        if wall.abs_diff(store) > TOLERANCE_MS {
            *looks = None;
            return None;
        }
        let Some(before) = *looks else {
            *looks = Some(Look { monotonic, wall });
            return None;
        };
        let passed = monotonic.saturating_sub(before.monotonic);
        let expected = before.wall.saturating_add(i64::try_from(passed.as_millis()).unwrap_or(i64::MAX));
        if expected.abs_diff(wall) > TOLERANCE_MS {
            *looks = Some(Look { monotonic, wall });
            return None;
        }
        // The first look stays: drift shows against it.
        (passed >= APART).then_some(wall)
    }
}

impl Compactor {
    /// The wall clock's time if blocks may be removed by it.
    pub(super) fn retention_time(&self) -> Result<Option<Timestamp>, StoreError> {
        if !self.config().retention.is_some() {
            return Ok(None);
        }
        let Some(tenant) = self.tenants().all().into_iter().next() else { return Ok(None) };
        let store = match self.config().trust_own_clock {
            true => self.clock().now_ms(),
            false => self.store_now_ms(&self.directory(&tenant))?,
        };
        Ok(self.looks().trusted(self.clock().monotonic(), self.clock().now_ms(), store))
    }

    /// The wall clock's time, if the store's clock agrees with it.
    pub(super) fn agreed_time(&self, tenant: &TenantId) -> Result<Option<Timestamp>, StoreError> {
        let now = self.clock().now_ms();
        if self.config().trust_own_clock {
            return Ok(Some(now));
        }
        let store = self.store_now_ms(&self.directory(tenant))?;
        let agreed = now.abs_diff(store) <= TOLERANCE_MS;
        if !agreed {
            tracing::warn!(now, store, "this clock and the store's disagree, nothing is removed by time");
        }
        Ok(agreed.then_some(now))
    }

    /// The removal of a tenant's blocks that are past retention as of `now`.
    pub(super) fn expired(
        &self,
        tenant: &TenantId,
        state: &ManifestState,
        now: Timestamp,
    ) -> Option<JobSpec> {
        removal_of(going(&self.past(tenant, state, &self.awaited(tenant, state, now), now)))
    }

    /// Blocks that are past retention as of `now`. Those that are `awaited` get windows first.
    fn past(
        &self,
        tenant: &TenantId,
        state: &ManifestState,
        awaited: &BTreeSet<BlockId>,
        now: Timestamp,
    ) -> Vec<Past> {
        let past = |block: &Arc<BlockEntry>| {
            let horizon = self.config().retention.horizon(tenant, block.resolution, now)?;
            let waits = awaited.contains(&block.ulid) && set_aside(block).is_none();
            (block.max_time <= horizon).then(|| (block.clone(), waits, horizon))
        };
        state.blocks.values().filter_map(past).collect()
    }

    /// Blocks that windows are to be made of yet: they stay until that is done (decision 24), unless nobody can
    /// read them.
    fn awaited(&self, tenant: &TenantId, state: &ManifestState, now: Timestamp) -> BTreeSet<BlockId> {
        let off = self.config().leaves.contains(&JobKind::FiveMinutes);
        let tasks = if off { Vec::new() } else { downsample::plan(state, &self.config().replica_labels) };
        let jobs = tasks.iter().map(DownsampleTask::job);
        jobs.filter(|job| !self.is_past(tenant, job, now)).flat_map(|job| job.inputs).collect()
    }

    /// Whether windows are past retention before they are made: then nobody makes them.
    pub(super) fn is_past(&self, tenant: &TenantId, job: &JobSpec, now: Timestamp) -> bool {
        let resolution = if job.kind == JobKind::Hour { HOUR } else { FIVE_MINUTES };
        let horizon = self.config().retention.horizon(tenant, resolution, now);
        horizon.is_some_and(|horizon| job.max_time <= horizon)
    }

    /// Removes what is past retention of these tenants, and says what that is, the oldest first. It goes by one
    /// look at clocks that agree, as somebody asks for it. With `dry_run` nothing is removed.
    pub fn retain(
        &self,
        tenants: &[TenantId],
        dry_run: bool,
        cancel: &CancelToken,
    ) -> Result<Vec<Expiring>, StoreError> {
        let mut all = Vec::new();
        for tenant in tenants {
            let state = self.tenants().manifest(tenant)?.refresh()?;
            let Some(now) = self.agreed_time(tenant)? else {
                let text = "this machine's clock and the store's disagree, nothing leaves by time";
                return Err(StoreError::new(ErrorKind::Unavailable, text));
            };
            let mut held = self.awaited(tenant, &state, now);
            let mut past = self.past(tenant, &state, &held, now);
            past.sort_by_key(|(block, ..)| (block.min_time, block.ulid));
            let spec = removal_of(going(&past)).filter(|_| !dry_run);
            let done = spec.map_or(Ok(false), |spec| {
                let ended = self.do_now(tenant, &spec, Orders::default(), cancel)?;
                Ok::<_, StoreError>(ended == Ended::Committed)
            })?;
            // What has gone, or gets windows first, is not pruned.
            held.extend(past.iter().map(|(block, ..)| block.ulid));
            all.extend(past.into_iter().map(|(block, awaits_windows, horizon)| Expiring {
                horizon: Some(horizon),
                awaits_windows,
                committed: done && !awaits_windows,
                ..Expiring::of(tenant, &block)
            }));
            for spec in prune::plan(&self.config().retention, tenant, &state, &held, now) {
                cancel.check()?;
                let rules = self.due_to(tenant, &state, &spec, now);
                let block = spec.inputs.first().and_then(|input| state.blocks.get(input));
                let without = rules.1.clone();
                let orders = Orders { rules, rewrite: None };
                let committed = !dry_run && self.do_now(tenant, &spec, orders, cancel)? == Ended::Committed;
                all.extend(block.map(|block| Expiring { without, committed, ..Expiring::of(tenant, block) }));
            }
        }
        Ok(all)
    }
}

/// A block that is past retention, or has series that are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Expiring {
    /// The tenant.
    pub tenant: String,
    /// The block.
    pub block: String,
    /// ms; 0 for raw samples.
    pub resolution: i64,
    /// First millisecond of its range.
    pub min_time: Timestamp,
    /// First millisecond after its range.
    pub max_time: Timestamp,
    /// Bytes of its files.
    pub bytes: u64,
    /// What ends at or before this time is past retention, ms; none if only some series are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub horizon: Option<Timestamp>,
    /// Selectors of series that are past a rule: the block is written anew without them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<String>,
    /// Whether it stays until its windows are made.
    pub awaits_windows: bool,
    /// Whether it has left.
    pub committed: bool,
}

impl Expiring {
    fn of(tenant: &TenantId, block: &BlockEntry) -> Self {
        Self {
            tenant: tenant.to_string(),
            block: block.ulid.to_string(),
            resolution: block.resolution,
            min_time: block.min_time,
            max_time: block.max_time,
            bytes: block.bytes,
            horizon: None,
            without: Vec::new(),
            awaits_windows: false,
            committed: false,
        }
    }
}

/// Those that nothing waits for.
fn going(past: &[Past]) -> impl Iterator<Item = &Arc<BlockEntry>> {
    past.iter().filter(|(_, awaited, _)| !awaited).map(|(block, ..)| block)
}

/// The job that removes these, if there are any.
pub(super) fn removal_of<'a>(blocks: impl Iterator<Item = &'a Arc<BlockEntry>>) -> Option<JobSpec> {
    let old: Vec<_> = blocks.collect();
    (!old.is_empty()).then(|| JobSpec {
        kind: JobKind::Retain,
        inputs: Vec::new(),
        replaces: old.iter().map(|b| b.ulid).collect(),
        outputs: 0,
        min_time: old.iter().map(|b| b.min_time).min().unwrap_or(0),
        max_time: old.iter().map(|b| b.max_time).max().unwrap_or(0),
        bytes: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;

    #[test]
    fn a_jump_of_any_clock_removes_nothing() {
        let looks = Looks::default();
        let at =
            |s: u64, wall: i64, store: i64| looks.trusted(Duration::from_secs(s), wall * 1000, store * 1000);
        assert_eq!(at(0, 1_000_000, 1_000_000), None, "one look is none");
        assert_eq!(at(HOUR, 1_003_600, 1_003_650), Some(1_003_600_000));
        // The wall clock jumps by a year, alone or with the store's.
        assert_eq!(at(HOUR + 10, 32_000_000, 1_003_700), None);
        assert_eq!(at(HOUR + 20, 1_003_620, 1_003_620), None, "begun anew");
        assert_eq!(at(2 * HOUR + 30, 1_007_230, 1_007_230), Some(1_007_230_000));
        assert_eq!(at(2 * HOUR + 40, 32_000_000, 32_000_000), None);
        assert_eq!(at(2 * HOUR + 50, 1_007_250, 1_007_250), None);
    }

    #[test]
    fn tenants_go_before_resolutions_before_raw() {
        let (a, b) = (TenantId::new("a").expect("valid"), TenantId::new("b").expect("valid"));
        let retention = Retention {
            raw: Duration::from_secs(10),
            resolutions: BTreeMap::from([(300_000, Duration::ZERO)]),
            tenants: BTreeMap::from([(b.clone(), Duration::from_secs(1))]),
            ..Retention::default()
        };
        assert_eq!(retention.horizon(&a, 0, 100_000), Some(90_000));
        assert_eq!(retention.horizon(&a, 300_000, 100_000), None);
        assert_eq!(retention.horizon(&a, 3_600_000, 100_000), Some(90_000));
        assert_eq!(retention.horizon(&b, 300_000, 100_000), Some(99_000));
        assert!(!Retention::default().is_some());
    }
}
