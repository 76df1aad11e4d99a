//! Blocks with the same external labels: the streams of a tenant. Which blocks answer a query is chosen in
//! each by itself.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use pyrrha_model::contract::{QueryContext, SelectHints, SeriesSet};
use pyrrha_model::{ErrorKind, Matcher, StoreError, TenantId, TimeRange};
use pyrrha_storage::block::BlockId;
use pyrrha_storage::manifest::ManifestState;

use super::SeenBlock;
use super::labels::External;
use super::relabel::Relabelled;
use crate::gateway::{ForeignBlock, ForeignReader, choose};

/// Replicas that are told apart within one block by labels of its series.
const INNER_REPLICAS_MAX: usize = 64;

/// Blocks of one origin.
#[derive(Debug)]
pub(super) struct ForeignStream {
    pub(super) external: External,
    state: ManifestState,
    blocks: BTreeMap<BlockId, (String, ForeignBlock)>,
}

/// Sets of series by the values of the labels that tell replicas apart.
pub(super) type ByReplica = BTreeMap<Vec<String>, Vec<Box<dyn SeriesSet>>>;

/// The values of the labels that tell a replica apart, and the matchers of its series.
type OneReplica = (Vec<String>, Vec<Matcher>);

/// Sorts blocks into streams. Blocks that were there before are taken over with what is known of them.
pub(super) fn streams_of(
    reader: &ForeignReader,
    seen: &[SeenBlock],
    before: &BTreeMap<TenantId, Vec<ForeignStream>>,
    replica_labels: &[String],
    owner: Option<&str>,
) -> BTreeMap<TenantId, Vec<ForeignStream>> {
    let known = before.values().flatten().flat_map(|s| s.blocks.values());
    let known: HashMap<&str, &ForeignBlock> = known.map(|(dir, block)| (dir.as_str(), block)).collect();
    let replica_labels: Arc<[String]> = replica_labels.into();
    let mut streams: BTreeMap<TenantId, Vec<ForeignStream>> = BTreeMap::new();
    let mut places: HashMap<(TenantId, Vec<(String, String)>), usize> = HashMap::new();
    for block in seen {
        let labels = block.labels.iter().filter(|(name, _)| !name.starts_with("__"));
        let labels: Vec<(String, String)> = labels.map(|(n, v)| (n.clone(), v.clone())).collect();
        let own = streams.entry(block.tenant.clone()).or_default();
        let at = *places.entry((block.tenant.clone(), labels)).or_insert_with(|| {
            let external = External::new(&block.labels, owner, replica_labels.clone());
            own.push(ForeignStream { external, state: ManifestState::default(), blocks: BTreeMap::new() });
            own.len() - 1
        });
        let stream = &mut own[at];
        let old = known.get(block.dir.as_str()).filter(|old| *old.entry() == block.entry);
        let reads = old.map_or_else(|| reader.block(&block.dir, block.entry.clone()), |old| (*old).clone());
        stream.blocks.insert(block.entry.ulid, (block.dir.clone(), reads));
        stream.state.blocks.insert(block.entry.ulid, block.entry.clone());
    }
    streams
}

impl ForeignStream {
    /// The blocks that answer a query, each with the times that it answers for.
    pub(super) fn parts(
        &self,
        ctx: &QueryContext,
        range: TimeRange,
        hints: &SelectHints,
    ) -> Vec<(ForeignBlock, TimeRange)> {
        let (parts, warnings) = choose(&self.state, range, hints, |_| false);
        warnings.into_iter().for_each(|warning| ctx.notices.warn(warning));
        let block = |(entry, range): (Arc<pyrrha_storage::manifest::BlockEntry>, TimeRange)| {
            Some((self.blocks.get(&entry.ulid)?.1.clone(), range))
        };
        parts.into_iter().filter_map(block).collect()
    }

    /// Begins to read the series of a query, and sorts what will come by replica.
    pub(super) fn select(
        &self,
        ctx: &QueryContext,
        matchers: &[Matcher],
        range: TimeRange,
        hints: &SelectHints,
        from: &Arc<str>,
        sets: &mut ByReplica,
    ) -> Result<(), StoreError> {
        let Some(matchers) = self.external.left_of(matchers) else { return Ok(()) };
        // Labels are all needed for the order; what is cut by shard or number is cut when they are there.
        let mut inner = hints.with_all_labels();
        let shard = if self.external.changes_nothing() { None } else { inner.shard.take() };
        inner.newest_only = false;
        if !self.external.changes_nothing() {
            inner.limit = 0;
        }
        for (block, range) in self.parts(ctx, range, hints) {
            for (key, own) in self.replicas(ctx, &block, &matchers)? {
                let series = block.select(ctx, own, range, inner.clone(), self.external.dropped());
                let set = Relabelled::new(ctx, series, &self.external, shard, from.clone());
                sets.entry(key).or_default().push(Box::new(set));
            }
        }
        Ok(())
    }

    /// The replicas whose series a block has, with matchers for each.
    fn replicas(
        &self,
        ctx: &QueryContext,
        block: &ForeignBlock,
        matchers: &[Matcher],
    ) -> Result<Vec<OneReplica>, StoreError> {
        let mut replicas = vec![(BTreeMap::new(), matchers.to_vec())];
        for name in self.external.inner_replica_names() {
            let values = match block.values(ctx, name) {
                Ok(values) => values,
                Err(error) if ctx.partial_response && ctx.cancel.reason().is_none() => {
                    ctx.notices.gap(block.entry().range(), error.to_string());
                    return Ok(Vec::new());
                }
                Err(error) => return Err(error),
            };
            if values.is_empty() {
                continue;
            }
            if replicas.len() * (values.len() + 1) > INNER_REPLICAS_MAX {
                let block = block.entry().ulid;
                let text = format!(
                    "too many values of a replica label: label={name} block={block} limit={INNER_REPLICAS_MAX}"
                );
                return Err(StoreError::new(ErrorKind::Limit, text));
            }
            let before = std::mem::take(&mut replicas);
            for value in std::iter::once(String::new()).chain(values) {
                for (key, matchers) in &before {
                    let (mut key, mut matchers) = (key.clone(), matchers.clone());
                    matchers.push(Matcher::equal(name.clone(), value.clone()));
                    key.insert(name.clone(), value.clone());
                    replicas.push((key, matchers));
                }
            }
        }
        let names = self.external.replica_names();
        let key = |inner: &BTreeMap<String, String>| {
            let outer = |name: &String| self.external.replica_value(name).map(str::to_owned);
            names.iter().map(|n| outer(n).or_else(|| inner.get(n).cloned()).unwrap_or_default()).collect()
        };
        Ok(replicas.into_iter().map(|(inner, matchers)| (key(&inner), matchers)).collect())
    }
}
