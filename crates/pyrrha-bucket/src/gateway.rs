//! The store gateway: blocks of the bucket as a source of series, read by ranges.
//!
//! A query costs, per block it touches: the header once in the life of the cache directory (two or
//! three requests), then one round for postings, one per some hundreds of series entries, and one
//! per some megabytes of chunks. Rounds ask for many ranges at once, and near ranges as one.

mod block;
mod budget;
mod chunks;
mod deletes;
mod disk_cache;
mod foreign;
mod header;
mod labels;
mod open_blocks;
mod pace;
mod pages;
mod queryable;
mod questions;
mod ranges;
mod rows;
mod segments;
mod set;
mod sharded;
mod sidecars;
mod stored_lists;
mod stream;
mod streams;
mod windows;

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use pyrrha_env::Disk;
use pyrrha_model::contract::{QueryContext, SelectHints, SeriesSet, WindowHints};
use pyrrha_model::{Matcher, StoreError, TenantId, TimeRange, Timestamp};
use pyrrha_storage::block::BlockId;
use pyrrha_storage::manifest::{BlockEntry, ManifestState};
use std::collections::HashMap;

pub(crate) use block::BucketBlock;
pub(crate) use foreign::{ForeignBlock, ForeignReader, InnerValues, inner_values};
pub(crate) use header::check as check_header;
pub(crate) use pace::{Pace, Paced};
pub use pages::{CacheStats, GatewayStats};
pub use queryable::{BucketQueryable, LocalSources};
pub(crate) use questions::{Answered, ask_each, names_of, series_of, union, values_of};
pub(crate) use streams::{merged_since, streams_of};
pub(crate) use windows::{WINDOWS_MAX, chunks_of, decoded_bytes};

use crate::deletes::Standing;
use crate::downsample::is_usable;
use crate::runtime::BucketRuntime;
use crate::shard::Residues;
use crate::tenants::BucketTenants;
use pages::Caches;
use segments::Candidate;
use set::BucketSet;
use stream::Selection;
use streams::Streams;

/// How a gateway reads.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// Where headers of blocks are kept: a cache, which may be removed at any time while no server
    /// runs.
    pub cache_dir: PathBuf,
    /// Pages of bucket data held in memory, bytes.
    pub cache_bytes: usize,
    /// Pages of bucket data held on disk, bytes; 0 for none.
    pub disk_bytes: u64,
    /// Tables of opened blocks held in memory, bytes. What queries need beyond it is their own.
    pub header_bytes: usize,
}

/// Reads blocks of the bucket.
#[derive(Debug)]
pub struct Gateway {
    pub(crate) tenants: Arc<BucketTenants>,
    pub(crate) runtime: Arc<BucketRuntime>,
    disk: Arc<dyn Disk>,
    config: GatewayConfig,
    caches: Arc<Caches>,
    /// External labels that tell replicas apart.
    replica_labels: Vec<String>,
    /// Of each tenant, the blocks that answer together.
    streams: Streams,
    /// Blocks that a query has touched. A header is a map of a local file and some tables.
    blocks: Mutex<HashMap<(TenantId, BlockId), Arc<BucketBlock>>>,
    /// Manifests as of which headers of blocks that are gone were removed.
    swept: Mutex<HashMap<TenantId, u64>>,
}

/// What answers a query.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    /// Blocks, each with what it answers for.
    pub(crate) blocks: Vec<(Arc<BucketBlock>, Chosen)>,
    /// What there is to say about it.
    pub(crate) warnings: Vec<String>,
    /// Deletes that stand as of the same state.
    pub(crate) deletes: Arc<[Standing]>,
}

impl Gateway {
    /// A gateway to the blocks that the manifests of `tenants` name.
    pub fn new(
        tenants: Arc<BucketTenants>,
        runtime: Arc<BucketRuntime>,
        disk: Arc<dyn Disk>,
        config: GatewayConfig,
    ) -> Self {
        let caches = Arc::new(Caches::new(disk.clone(), &config));
        let (replica_labels, streams, blocks, swept) = Default::default();
        Self { tenants, runtime, disk, config, caches, replica_labels, streams, blocks, swept }
    }

    /// The same, for which blocks whose external labels differ only in these are replicas.
    pub fn with_replica_labels(self, replica_labels: Vec<String>) -> Self {
        Self { replica_labels, ..self }
    }

    /// What the caches hold and did.
    pub fn stats(&self) -> GatewayStats {
        self.caches.stats()
    }

    /// Reads what others committed since, and forgets blocks that are gone and their headers.
    pub fn refresh(&self) -> Result<(), StoreError> {
        let result = self.tenants.refresh();
        self.blocks.lock().retain(|(tenant, block), _| {
            let state = self.tenants.known(tenant);
            state.is_none_or(|state| state.blocks.contains_key(block))
        });
        self.tenants.all().iter().for_each(|tenant| self.sweep(tenant));
        result
    }

    /// Removes headers of a tenant's blocks that are gone, whoever kept them, if there is a new manifest.
    fn sweep(&self, tenant: &TenantId) {
        let Some(state) = self.tenants.known(tenant) else { return };
        if self.swept.lock().insert(tenant.clone(), state.number) == Some(state.number) {
            return;
        }
        let is_live = |name: &str| {
            // By the state after the listing: what was kept before it is of that one or an earlier one.
            let (state, block) = (self.tenants.known(tenant), name.parse());
            state.is_none_or(|state| block.is_ok_and(|block: BlockId| state.blocks.contains_key(&block)))
        };
        header::sweep(&*self.disk, &self.config.cache_dir.join(tenant.as_str()), is_live);
    }

    /// All series of a block without what `deletes` hide and without series of which a set of `leave_out`
    /// holds, for rewriting it: of one of windows, with windows if they are asked for. Waits for requests as it is read.
    pub(crate) fn whole_block(
        &self,
        tenant: &TenantId,
        entry: Arc<BlockEntry>,
        windows: Option<WindowHints>,
        deletes: Arc<[Standing]>,
        leave_out: Arc<[Vec<Matcher>]>,
        ctx: &QueryContext,
    ) -> Box<dyn SeriesSet> {
        let pace = Pace::of(ctx, std::iter::once(&*entry));
        let selection = Selection {
            pace: pace.clone(),
            tells_gone: false,
            block: Arc::new(BucketBlock::new(self, tenant, entry)),
            ctx: ctx.clone(),
            matchers: Arc::default(),
            range: TimeRange::ALL,
            hints: SelectHints { windows, ..SelectHints::default() },
            deletes,
            leave_out,
            horizon: None,
            without: Arc::default(),
            only: None,
        };
        Box::new(Paced::new(Box::new(BucketSet::start(self.runtime.handle(), selection)), pace))
    }

    /// Whether `deletes` hide some of a block, or a set of `leave_out` holds of a series. Waits for requests.
    pub(crate) fn is_hidden(
        &self,
        tenant: &TenantId,
        entry: Arc<BlockEntry>,
        deletes: Arc<[Standing]>,
        leave_out: Arc<[Vec<Matcher>]>,
        ctx: &QueryContext,
    ) -> Result<bool, StoreError> {
        let (block, inner) = (BucketBlock::new(self, tenant, entry), ctx.clone());
        let look = async move {
            let found = async {
                let opened = block.open(&inner).await?;
                for matchers in &block.external.left_of_sets(&leave_out) {
                    if !block.matching(&inner, &opened, matchers).await?.is_empty() {
                        return Ok::<_, StoreError>(true);
                    }
                }
                Ok(!block.hidden(&inner, &opened, &deletes).await?.is_empty())
            };
            Ok(found.await)
        };
        self.runtime.wait_while(&ctx.cancel, look)?
    }

    /// The blocks of a tenant that answer a query, and for which times. `hidden` names blocks whose
    /// data somebody else has, `horizon` the time before which a resolution is past retention. Also what there is to say of times that are answered otherwise than asked.
    pub(crate) fn parts(
        &self,
        tenant: &TenantId,
        state: &Arc<ManifestState>,
        range: TimeRange,
        hints: &SelectHints,
        hidden: impl Fn(&BlockEntry) -> bool,
        horizon: impl Fn(i64) -> Option<Timestamp>,
    ) -> Parts {
        let (mut parts, mut warnings) = (Vec::new(), Vec::new());
        for stream in self.streams.of(tenant, state, &self.replica_labels).iter() {
            let (own, said) = choose(stream, range, hints, &hidden, &horizon);
            parts.extend(own);
            warnings.extend(said);
        }
        warnings.sort_unstable();
        warnings.dedup();
        let deletes = state.deletes.iter().filter_map(Standing::of).collect();
        let blocks = parts.into_iter().map(|part| (self.block(tenant, part.entry.clone()), part)).collect();
        Parts { blocks, warnings, deletes }
    }

    fn block(&self, tenant: &TenantId, entry: Arc<BlockEntry>) -> Arc<BucketBlock> {
        let key = (tenant.clone(), entry.ulid);
        let new = || Arc::new(BucketBlock::new(self, tenant, entry));
        self.blocks.lock().entry(key).or_insert_with(new).clone()
    }
}

/// A block that answers a query.
#[derive(Debug, Clone)]
pub(crate) struct Chosen {
    pub(crate) entry: Arc<BlockEntry>,
    /// The times that it answers for.
    pub(crate) range: TimeRange,
    /// The series that it answers for, if others do for the rest of its series.
    pub(crate) only: Option<Residues>,
}

/// The blocks of a state that answer a query, and what there is to say about it. `hidden` names blocks whose
/// data somebody else has, `horizon` the time before which samples of a resolution (ms) do not count.
pub(crate) fn choose(
    state: &ManifestState,
    range: TimeRange,
    hints: &SelectHints,
    hidden: impl Fn(&BlockEntry) -> bool,
    horizon: impl Fn(i64) -> Option<Timestamp>,
) -> (Vec<Chosen>, Vec<String>) {
    let near = state.overlapping(segments::reach(range));
    let since = |entry: &BlockEntry| horizon(entry.resolution).unwrap_or(Timestamp::MIN);
    let candidates: Vec<Candidate> = near
        .into_iter()
        .filter(|entry| since(entry) < entry.max_time)
        .map(|entry| Candidate {
            since: since(&entry),
            hidden: hidden(&entry),
            usable: entry.resolution > 0 && hints.windows.is_some() && is_usable(state, &entry),
            entry,
        })
        .collect();
    let chosen = sharded::choose(&candidates, range, hints);
    let coarse = chosen.coarse.into_iter();
    let mut warnings: Vec<String> =
        coarse.map(|(range, resolution)| segments::warning(range, resolution, hints)).collect();
    warnings.sort_unstable();
    warnings.dedup();
    (chosen.blocks, warnings)
}

#[cfg(test)]
mod tests;
