//! Blocks with the same external labels: the streams of a tenant. Which blocks answer a query is chosen in
//! each by itself.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use pyrrha_model::contract::{QueryContext, SelectHints};
use pyrrha_model::{Matcher, TenantId, TimeRange};
use pyrrha_storage::block::BlockId;
use pyrrha_storage::manifest::ManifestState;

use super::SeenBlock;
use crate::external::External;
use crate::gateway::{Chosen, ForeignBlock, ForeignReader, choose, merged_since};

/// Blocks of one origin.
#[derive(Debug)]
pub(super) struct ForeignStream {
    pub(super) external: External,
    state: ManifestState,
    pub(super) blocks: BTreeMap<BlockId, (String, ForeignBlock)>,
}

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
    let mut places: HashMap<(TenantId, BTreeMap<String, String>), usize> = HashMap::new();
    for block in seen {
        let labels = block.labels.iter().filter(|(name, _)| !name.starts_with("__"));
        let labels: BTreeMap<String, String> = labels.map(|(n, v)| (n.clone(), v.clone())).collect();
        let own = streams.entry(block.tenant.clone()).or_default();
        let at = *places.entry((block.tenant.clone(), labels)).or_insert_with(|| {
            let external = External::new(&block.labels, owner, replica_labels.clone());
            own.push(ForeignStream { external, state: ManifestState::default(), blocks: BTreeMap::new() });
            own.len() - 1
        });
        let stream = &mut own[at];
        let same = |old: &&&ForeignBlock| *old.entry() == block.entry && *old.external() == stream.external;
        let reads = match known.get(block.dir.as_str()).filter(same) {
            Some(old) => (*old).clone(),
            None => reader.block(&block.dir, block.entry.clone(), stream.external.clone()),
        };
        stream.blocks.insert(block.entry.ulid, (block.dir.clone(), reads));
        stream.state.blocks.insert(block.entry.ulid, block.entry.clone());
    }
    let mut keys: HashMap<TenantId, BTreeMap<usize, BTreeMap<String, String>>> = HashMap::new();
    for ((tenant, labels), at) in places {
        keys.entry(tenant).or_default().insert(at, labels);
    }
    for (tenant, own) in &mut streams {
        let keys = keys.remove(tenant).unwrap_or_default().into_values();
        let keyed: Vec<_> = keys.zip(own.iter().map(|stream| &stream.state)).collect();
        let gone = merged_since(&keyed, &replica_labels);
        for (stream, gone) in own.iter_mut().zip(gone) {
            stream.state.blocks.retain(|id, _| !gone.contains(id));
        }
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
        let (parts, warnings) = choose(&self.state, range, hints, |_| false, |_| None);
        warnings.into_iter().for_each(|warning| ctx.notices.warn(warning));
        let block = |Chosen { entry, range, only }| {
            Some((self.blocks.get(&entry.ulid)?.1.clone().answering(only), range))
        };
        parts.into_iter().filter_map(block).collect()
    }

    /// The blocks that may have series of a query, each with the times that it answers for.
    pub(super) fn asked(
        &self,
        ctx: &QueryContext,
        matchers: &[Matcher],
        range: TimeRange,
        hints: &SelectHints,
    ) -> Vec<(ForeignBlock, TimeRange)> {
        match self.external.left_of(matchers) {
            Some(_) => self.parts(ctx, range, hints),
            None => Vec::new(),
        }
    }
}
