//! Exemplars and metadata that lie beside blocks of the bucket, which may have left the local store.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use pyrrha_model::contract::{Exemplars, LabelQuery, QueryContext};
use pyrrha_model::{Exemplar, Labels, Metadata, StoreError, TimeRange, Timestamp};
use pyrrha_storage::block::{BlockId, ExemplarFile, MetadataFile, tidy_exemplars};
use pyrrha_storage::manifest::{BlockEntry, ManifestState};

use super::block::BucketBlock;
use super::budget::Reserved;
use super::questions::{Answered, ask_each};
use crate::block_files::files;
use crate::runtime::BucketRuntime;

const EXEMPLARS: &str = "exemplars";
const METADATA: &str = "metadata";
/// The newest blocks that are asked for metadata, one request each at first: it says what metrics are, and those
/// of today are in the newest.
const METADATA_BLOCKS: usize = 32;

/// Whether a block has exemplars.
pub(super) fn has_exemplars(entry: &BlockEntry) -> bool {
    has(entry, EXEMPLARS)
}

fn has(entry: &BlockEntry, name: &str) -> bool {
    files(entry).iter().any(|file| file.name == name)
}

/// The newest blocks of a state with metadata, without those that are `hidden`, the newest first.
pub(super) fn newest_with_metadata(
    state: &ManifestState,
    hidden: impl Fn(&BlockEntry) -> bool,
) -> Vec<Arc<BlockEntry>> {
    let mut blocks: Vec<Arc<BlockEntry>> =
        state.blocks.values().filter(|entry| has(entry, METADATA) && !hidden(entry)).cloned().collect();
    blocks.sort_by_key(|entry| Reverse((entry.max_time, entry.ulid)));
    blocks.truncate(METADATA_BLOCKS);
    blocks
}

impl BucketBlock {
    /// A file beside the standard ones, whole; `None` if it has none.
    async fn whole(&self, name: &'static str, reserved: &mut Reserved) -> Result<Option<Bytes>, StoreError> {
        let Some((object, bytes)) = self.sidecar(name) else { return Ok(None) };
        Ok(Some(object.one(0..bytes, reserved).await?))
    }
}

/// The exemplars of a block that a query asks for, by the labels of their series.
pub(super) async fn exemplars_of(
    block: Arc<BucketBlock>,
    ctx: QueryContext,
    query: LabelQuery,
) -> Result<Vec<Exemplars>, StoreError> {
    let Some(left) = block.external.left_of_query(&query) else { return Ok(Vec::new()) };
    let mut reserved = Reserved::new(&ctx, 0)?;
    let Some(bytes) = block.whole(EXEMPLARS, &mut reserved).await? else { return Ok(Vec::new()) };
    let file = ExemplarFile::parse(&block.id().to_string(), bytes)?;
    let mut found = Vec::new();
    if !file.times().overlaps(&query.range) {
        return Ok(found);
    }
    for series in file.series(&left.matcher_sets, query.range) {
        ctx.cancel.check()?;
        let Exemplars { series, exemplars } = series?;
        let text = |labels: &Labels| labels.iter().map(|l| l.name.len() + l.value.len() + 48).sum::<usize>();
        let held: usize = exemplars.iter().map(|e| text(&e.labels) + size_of::<Exemplar>()).sum();
        reserved.grow((held + text(&series)) as u64)?;
        found.push(Exemplars { series: block.external.of_series(&series), exemplars });
    }
    Ok(found)
}

/// What the local store and blocks beside it have, as one; without blocks that cannot be read, if the answer may
/// have gaps.
pub(super) fn union_of_exemplars(
    ctx: &QueryContext,
    query: &LabelQuery,
    local: Vec<Exemplars>,
    answers: Vec<Answered<Exemplars>>,
) -> Result<Vec<Exemplars>, StoreError> {
    let mut found: BTreeMap<Labels, Vec<Exemplar>> = BTreeMap::new();
    let mut take = |all: Vec<Exemplars>| {
        all.into_iter().for_each(|e| found.entry(e.series).or_default().extend(e.exemplars));
    };
    take(local);
    for (missing, answer) in answers {
        match answer {
            Err(error) if ctx.partial_response => ctx.notices.gap(missing, error.to_string()),
            answer => take(answer?),
        }
    }
    let found = found.into_iter().take(query.most()).map(|(series, mut exemplars)| {
        tidy_exemplars(&mut exemplars);
        Exemplars { series, exemplars }
    });
    Ok(found.collect())
}

/// What a block says of metrics, with its place among blocks.
type Described = ((Timestamp, BlockId), BTreeMap<String, Metadata>);

/// Adds what blocks say of metrics, of `metric` alone if it is given, that `found` does not have: what the newest
/// says, of each.
pub(super) fn add_metadata(
    runtime: &BucketRuntime,
    ctx: &QueryContext,
    blocks: impl IntoIterator<Item = Arc<BucketBlock>>,
    metric: Option<&str>,
    found: &mut BTreeMap<String, Vec<Metadata>>,
) -> Result<(), StoreError> {
    let (ctx, metric) = (ctx.clone(), metric.map(str::to_owned));
    let ask = |block: Arc<BucketBlock>| metadata_of(block, ctx.clone(), metric.clone());
    let mut described = Vec::new();
    for (_, answer) in ask_each(runtime, &ctx, blocks, ask)? {
        match answer {
            Ok(of_block) => described.extend(of_block),
            // Metadata describes; without that of one block the rest still does.
            Err(error) => {
                ctx.cancel.check()?;
                tracing::warn!(tenant = %ctx.tenant, %error, "metadata of a block in the bucket is left out");
            }
        }
    }
    described.sort_by_key(|(place, _)| Reverse(*place));
    for (name, metadata) in described.into_iter().flat_map(|(_, metadata)| metadata) {
        found.entry(name).or_insert_with(|| vec![metadata]);
    }
    Ok(())
}

async fn metadata_of(
    block: Arc<BucketBlock>,
    ctx: QueryContext,
    metric: Option<String>,
) -> Result<Vec<Described>, StoreError> {
    let mut reserved = Reserved::new(&ctx, 0)?;
    let Some(bytes) = block.whole(METADATA, &mut reserved).await? else { return Ok(Vec::new()) };
    let mut found = BTreeMap::new();
    MetadataFile::parse(&block.id().to_string(), bytes)?.collect(metric.as_deref(), &mut found)?;
    let TimeRange { end, .. } = block.range();
    Ok(vec![((end, block.id()), found)])
}

#[cfg(test)]
mod tests;
