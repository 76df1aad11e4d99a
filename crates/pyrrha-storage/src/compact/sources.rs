//! The merge of inputs wherever they are: on a disk, or read by ranges from a bucket.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use pyrrha_env::Disk;
use pyrrha_model::contract::{ChunkRef, DeleteId, QueryContext, SeriesEntry, SeriesSet};
use pyrrha_model::{ErrorKind, Labels, StoreError};

use super::sidecars::{self, Sidecars};
use super::{SeriesMerge, chunks, replicas};
use crate::block::{BlockId, BlockMeta, BlockWriter, ExemplarFile, Layout, MetadataFile};

/// An input of a merge.
pub struct Source<'a> {
    /// Its meta, without the external labels that tell replicas apart.
    pub meta: BlockMeta,
    /// Which replica it is from. Inputs of one replica are merged sample by sample; where several
    /// replicas have a series, one is taken and the others fill its gaps.
    pub replica: String,
    /// All its series, sorted by labels, with what is deleted of them.
    pub series: Box<dyn SeriesSet>,
    /// The newest delete that `series` honours.
    pub deletes_through: DeleteId,
    /// Its exemplars, if any.
    pub exemplars: Option<&'a ExemplarFile>,
    /// Its metadata, if any.
    pub metadata: Option<&'a MetadataFile>,
}

/// A block that a merge has written.
#[derive(Debug, Clone)]
pub struct Merged {
    /// What it holds.
    pub meta: BlockMeta,
    /// Samples that were dropped because another value of their series and time stays.
    pub conflicts: u64,
}

/// Merges `sources`, read under `ctx`, into the block `output` under `home`, as
/// [`compact`](super::compact) does. Gives the output's meta, or `None`, and no block, if nothing is
/// left.
pub fn merge_sources(
    disk: &Arc<dyn Disk>,
    home: &Path,
    output: BlockId,
    sources: Vec<Source<'_>>,
    ctx: &QueryContext,
) -> Result<Option<BlockMeta>, StoreError> {
    let dir = home.join(output.to_string());
    let meta = |parents: &[BlockMeta]| BlockMeta::of_compaction(output, parents);
    Ok(write_merged(disk, &dir, Layout::Standard, sources, meta, ctx)?.map(|merged| merged.meta))
}

/// Merges `sources` into the block `dir` of this layout; `meta` says what it is, by what its inputs are.
pub(super) fn write_merged(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    layout: Layout,
    mut sources: Vec<Source<'_>>,
    meta: impl FnOnce(&[BlockMeta]) -> BlockMeta,
    ctx: &QueryContext,
) -> Result<Option<Merged>, StoreError> {
    // One order of the inputs, so that one set of them gives one output.
    sources.sort_by_key(|source| source.meta.ulid);
    let through = sources.iter().map(|source| source.deletes_through).min().unwrap_or_default();
    let (mut metas, mut files, mut sets) = (Vec::new(), Vec::new(), BTreeMap::<String, Vec<_>>::new());
    for source in sources {
        metas.push(source.meta);
        files.push((source.exemplars, source.metadata));
        sets.entry(source.replica).or_default().push(source.series);
    }
    let mut merge = Replicas::new(sets.into_values(), ctx)?;
    let mut writer = BlockWriter::create_as(disk.clone(), dir, layout)?;
    // What these hide is not written; later ones were not known when the inputs were chosen.
    writer.knows_deletes(through);
    let meta = meta(&metas);
    let (mut chunks, mut written) = (Vec::new(), 0u64);
    while let Some(labels) = merge.next(&mut chunks, meta.ulid)? {
        ctx.cancel.check()?;
        writer.add_series(&labels, &chunks)?;
        written += u64::from(!chunks.is_empty());
    }
    if written == 0 {
        return Ok(None);
    }
    let beside: Vec<Sidecars<'_>> = metas
        .iter()
        .zip(files)
        .map(|(meta, (exemplars, metadata))| Sidecars { meta, exemplars, metadata })
        .collect();
    sidecars::merge(&mut writer, &beside, ctx)?;
    let conflicts = merge.conflicts;
    Ok(Some(Merged { meta: writer.finish(meta)?, conflicts }))
}

/// A merge per replica, side by side.
struct Replicas<'a> {
    inputs: Vec<(SeriesMerge<'a>, Option<(Labels, SeriesEntry)>)>,
    /// Samples dropped because another value of their time stays.
    conflicts: u64,
}

impl<'a> Replicas<'a> {
    fn new(
        replicas: impl Iterator<Item = Vec<Box<dyn SeriesSet>>>,
        ctx: &'a QueryContext,
    ) -> Result<Self, StoreError> {
        let mut inputs = Vec::new();
        for sets in replicas {
            let mut merge = SeriesMerge::new(sets, ctx)?;
            let first = merge.next_series()?;
            inputs.push((merge, first));
        }
        Ok(Self { inputs, conflicts: 0 })
    }

    /// The next series in label order, with `chunks` replaced by its chunks.
    fn next(&mut self, chunks: &mut Vec<ChunkRef>, output: BlockId) -> Result<Option<Labels>, StoreError> {
        chunks.clear();
        let least = self.inputs.iter().filter_map(|(_, current)| current.as_ref().map(|(l, _)| l)).min();
        let Some(labels) = least.cloned() else { return Ok(None) };
        let mut entries = Vec::new();
        for (merge, current) in &mut self.inputs {
            if let Some((_, entry)) = current.take_if(|(other, _)| *other == labels) {
                entries.push(entry);
                *current = merge.next_series()?;
            }
        }
        let merged = match entries.as_slice() {
            [only] => chunks::resolve(only, chunks),
            several => replicas::merge_replicas(labels.metric_name(), several, chunks).map(|()| 0),
        };
        self.conflicts += merged.map_err(|source| {
            let message = format!("chunk cannot be merged: series={labels} output={output}");
            StoreError::caused(ErrorKind::Corrupt, message, source)
        })?;
        Ok(Some(labels))
    }
}
