//! The merge of inputs wherever they are, on a disk or read by ranges from a bucket, into one block or several.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
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
    Ok(split_sources(disk, home, &[output], &|_| 0, &|_, _| {}, sources, ctx)?.pop().flatten())
}

/// As [`merge_sources`], into several blocks: each series goes into the one that `part_of` gives the place of.
/// Metadata, which is of families and not of series, goes into all. `name` has the last word on the meta of
/// each. Gives the metas in the order of `outputs`, `None` for one that is not written, as nothing belongs
/// there.
pub fn split_sources(
    disk: &Arc<dyn Disk>,
    home: &Path,
    outputs: &[BlockId],
    part_of: &dyn Fn(&Labels) -> usize,
    name: &dyn Fn(usize, &mut BlockMeta),
    sources: Vec<Source<'_>>,
    ctx: &QueryContext,
) -> Result<Vec<Option<BlockMeta>>, StoreError> {
    let dirs: Vec<PathBuf> = outputs.iter().map(|output| home.join(output.to_string())).collect();
    let meta = |part: usize, parents: &[BlockMeta]| {
        let mut meta = BlockMeta::of_compaction(outputs[part], parents);
        name(part, &mut meta);
        meta
    };
    let written = write_split(disk, &dirs, Layout::Standard, part_of, sources, meta, ctx)?;
    Ok(written.into_iter().map(|merged| merged.map(|merged| merged.meta)).collect())
}

/// Merges `sources` into the block `dir` of this layout; `meta` says what it is, by what its inputs are.
pub(super) fn write_merged(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    layout: Layout,
    sources: Vec<Source<'_>>,
    meta: impl Fn(&[BlockMeta]) -> BlockMeta,
    ctx: &QueryContext,
) -> Result<Option<Merged>, StoreError> {
    let dirs = [dir.to_owned()];
    let written = write_split(disk, &dirs, layout, &|_| 0, sources, |_, parents| meta(parents), ctx)?;
    Ok(written.into_iter().next().flatten())
}

/// A block that is being written, and how many series it has.
struct Part {
    writer: BlockWriter,
    meta: BlockMeta,
    series: u64,
    conflicts: u64,
}

/// Merges `sources` into the blocks `dirs` of this layout.
fn write_split(
    disk: &Arc<dyn Disk>,
    dirs: &[PathBuf],
    layout: Layout,
    part_of: &dyn Fn(&Labels) -> usize,
    mut sources: Vec<Source<'_>>,
    meta: impl Fn(usize, &[BlockMeta]) -> BlockMeta,
    ctx: &QueryContext,
) -> Result<Vec<Option<Merged>>, StoreError> {
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
    let mut parts = Vec::with_capacity(dirs.len());
    for (i, dir) in dirs.iter().enumerate() {
        let mut writer = BlockWriter::create_as(disk.clone(), dir, layout)?;
        // What these hide is not written; later ones were not known when the inputs were chosen.
        writer.knows_deletes(through);
        parts.push(Part { writer, meta: meta(i, &metas), series: 0, conflicts: 0 });
    }
    let output = parts.first().map_or(BlockId::from_parts(0, 0), |part| part.meta.ulid);
    let (mut chunks, mut conflicts) = (Vec::new(), 0);
    while let Some(labels) = merge.next(&mut chunks, output)? {
        ctx.cancel.check()?;
        let at = part_of(&labels);
        let part = parts.get_mut(at).ok_or_else(|| no_part(at))?;
        part.writer.add_series(&labels, &chunks)?;
        part.series += u64::from(!chunks.is_empty());
        part.conflicts += merge.conflicts - std::mem::replace(&mut conflicts, merge.conflicts);
    }
    let beside: Vec<Sidecars<'_>> = metas
        .iter()
        .zip(files)
        .map(|(meta, (exemplars, metadata))| Sidecars { meta, exemplars, metadata })
        .collect();
    let mut written = Vec::with_capacity(parts.len());
    for (i, Part { mut writer, meta, series, conflicts }) in parts.into_iter().enumerate() {
        if series == 0 {
            written.push(None);
            continue;
        }
        sidecars::merge(&mut writer, &beside, &|labels| part_of(labels) == i, ctx)?;
        written.push(Some(Merged { meta: writer.finish(meta)?, conflicts }));
    }
    Ok(written)
}

fn no_part(at: usize) -> StoreError {
    StoreError::new(ErrorKind::Internal, format!("a series belongs to no output: part={at}"))
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
