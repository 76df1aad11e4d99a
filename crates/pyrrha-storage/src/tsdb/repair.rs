//! What is readable of a damaged block, as a new block.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pyrrha_env::{Clock, Disk};
use pyrrha_index::SeriesRow;
use pyrrha_model::contract::{ChunkRef, SeriesEntry};
use pyrrha_model::{Labels, TimeRange, Timestamp};
use serde::Serialize;

use super::verify::with_true_times;
use super::{Directory, DirectoryKind, TsdbError};
use crate::block::{Block, BlockId, BlockMeta, BlockRemains, BlockWriter, ParentBlock, Tombstones};
use crate::compact::chunks::resolve;
use crate::manifest::BlockEntry;

/// Losses of one block that are kept; the rest is counted.
const KEPT: usize = 1000;

/// Something that cannot be brought back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// The series, where its labels can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub series: Option<String>,
    /// First and last time of what is lost, ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range: Option<(Timestamp, Timestamp)>,
    /// Why.
    pub why: String,
}

/// What a repair keeps and loses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Repair {
    /// Series with at least one readable chunk.
    pub series: u64,
    /// Chunks that are kept.
    pub chunks: u64,
    /// What is lost, at most a thousand.
    pub losses: Vec<Loss>,
    /// Losses beyond those listed.
    pub more_losses: u64,
    /// What is lost or made anew besides series and chunks.
    pub notes: Vec<String>,
}

impl Repair {
    fn lose(&mut self, series: Option<&Labels>, range: Option<(Timestamp, Timestamp)>, why: String) {
        if self.losses.len() < KEPT {
            self.losses.push(Loss { series: series.map(Labels::to_string), range, why });
        } else {
            self.more_losses += 1;
        }
    }
}

/// What became of a block.
#[derive(Debug, Clone, Serialize)]
pub struct Repaired {
    /// What was kept and lost.
    pub repair: Repair,
    /// The new block; none if nothing was readable.
    pub block: Option<BlockId>,
    /// Where the damaged one is now.
    pub original: PathBuf,
}

/// Says what a repair of the block in `dir` would keep and lose. Writes nothing.
pub fn plan_repair(disk: &dyn Disk, dir: &Path) -> Result<Repair, TsdbError> {
    let mut remains = remains_of(disk, dir)?;
    let mut repair = Repair::default();
    describe(&remains, &mut repair);
    mend(&mut remains, &mut repair, &mut |_, _| Ok(()))?;
    Ok(repair)
}

/// Writes what is readable of the block `id` as a new block, which takes its place; the damaged
/// one stays beside it under its name with `.bak`, which no reader looks at. The caller holds the
/// directory's lock. A crash leaves the one or the other in place, or (in a directory of
/// Prometheus) both, of which the new one says that it replaces the old.
pub fn repair(directory: &Directory, dir: &Path, clock: &Arc<dyn Clock>) -> Result<Repaired, TsdbError> {
    let disk = directory.disk();
    let mut remains = remains_of(&**disk, dir)?;
    let mut repair = Repair::default();
    let old = describe(&remains, &mut repair);
    let parent = dir.parent().unwrap_or(Path::new("."));
    let (name, id) = (name_of(dir), BlockId::new(&**clock));
    // What was dense is repaired to what anyone reads, and lies where that does.
    let at_home =
        dir.starts_with(directory.home()) && matches!(directory.kind(), DirectoryKind::Pyrrha { .. });
    let target_home = if at_home { directory.home() } else { parent };
    let target = target_home.join(id.to_string());
    let manifest = directory.open_manifest(clock.clone())?;
    let live = manifest.as_ref().map(|m| m.current().blocks.keys().find(|k| k.to_string() == name).copied());
    if live == Some(None) {
        return Err(TsdbError::Beyond {
            block: name,
            what: "no manifest names it: it is no part of the data".into(),
        });
    }
    let mut writer = BlockWriter::create(disk.clone(), &target)?;
    let mut times: Option<(Timestamp, Timestamp)> = None;
    mend(&mut remains, &mut repair, &mut |labels, chunks| {
        for chunk in chunks {
            let (first, last) = times.unwrap_or((chunk.min_time, chunk.max_time));
            times = Some((first.min(chunk.min_time), last.max(chunk.max_time)));
        }
        Ok(writer.add_series(labels, chunks)?)
    })?;
    if times.is_some() {
        sidecars(&remains, &mut repair, &mut writer)?;
    }
    let written = match times {
        None => None,
        Some((first, last)) => Some(writer.finish(new_meta(old, id, &name, first, last))?),
    };
    if let (Some(manifest), Some(Some(live))) = (manifest, live) {
        let added = match &written {
            Some(meta) => {
                debug_assert_eq!(meta.ulid, id);
                vec![BlockEntry::of_block(&Block::open(&**disk, &target)?)]
            }
            None => Vec::new(),
        };
        manifest.commit(&added, &[live])?;
    }
    let original = parent.join(format!("{name}.bak"));
    disk.rename(dir, &original)
        .and_then(|()| disk.sync_dir(parent))
        .map_err(TsdbError::io("rename block", dir))?;
    Ok(Repaired { repair, block: written.map(|meta| meta.ulid), original })
}

fn remains_of(disk: &dyn Disk, dir: &Path) -> Result<BlockRemains, TsdbError> {
    BlockRemains::open(disk, dir)
        .map_err(|error| TsdbError::Beyond { block: name_of(dir), what: error.to_string() })
}

fn name_of(dir: &Path) -> String {
    dir.file_name().unwrap_or(dir.as_os_str()).to_string_lossy().into_owned()
}

/// Notes what is lost besides series and chunks; gives the meta, if it can be read.
fn describe(remains: &BlockRemains, repair: &mut Repair) -> Option<BlockMeta> {
    if let Err(error) = &remains.tombstones {
        repair.notes.push(format!("what was deleted comes back, as tombstones cannot be read: {error}"));
    }
    if let Err(error) = &remains.meta {
        repair.notes.push(format!("meta.json is made anew: {error}"));
    }
    remains.meta.as_ref().ok().cloned()
}

/// Carries over what is readable of exemplars and metadata.
fn sidecars(remains: &BlockRemains, repair: &mut Repair, writer: &mut BlockWriter) -> Result<(), TsdbError> {
    let mut lost = Vec::new();
    match &remains.exemplars {
        Ok(None) => {}
        Ok(Some(file)) => {
            // Behind damage nothing is read: what comes before is in order.
            let series = file.series(&[], TimeRange::ALL).map_while(|series| {
                series.map_err(|error| lost.push(format!("exemplars are lost from here on: {error}"))).ok()
            });
            writer.write_exemplars(series.map(Ok::<_, TsdbError>))?;
        }
        Err(error) => lost.push(format!("exemplars are lost: {error}")),
    }
    match &remains.metadata {
        Ok(None) => {}
        Ok(Some(file)) => {
            let mut families = BTreeMap::new();
            if let Err(error) = file.collect(None, &mut families) {
                lost.push(format!("metadata is lost in part: {error}"));
            }
            writer.write_metadata(families.iter().map(|(name, metadata)| (name.as_str(), metadata)))?;
        }
        Err(error) => lost.push(format!("metadata is lost: {error}")),
    }
    repair.notes.extend(lost);
    Ok(())
}

fn new_meta(old: Option<BlockMeta>, id: BlockId, name: &str, first: Timestamp, last: Timestamp) -> BlockMeta {
    let end = last.saturating_add(1);
    let parent = name.parse().ok();
    let mut meta = old.unwrap_or_else(|| BlockMeta::of_head(parent.unwrap_or(id), first, end));
    if let Some(ulid) = parent {
        meta.compaction.parents =
            vec![ParentBlock { ulid, min_time: meta.min_time, max_time: meta.max_time }];
    }
    meta.ulid = id;
    if meta.compaction.sources.is_empty() {
        meta.compaction.sources = vec![parent.unwrap_or(id)];
    }
    // Files are others now.
    if let Some(thanos) = &mut meta.thanos {
        thanos.segment_files.clear();
        thanos.files.clear();
    }
    meta
}

type Write<'a> = &'a mut dyn FnMut(&Labels, &[ChunkRef]) -> Result<(), TsdbError>;

/// Walks the series entries; hands over what can be kept.
fn mend(remains: &mut BlockRemains, repair: &mut Repair, write: Write<'_>) -> Result<(), TsdbError> {
    let none = Tombstones::default();
    let (mut row, mut previous) = (SeriesRow::default(), None::<Labels>);
    while let Some(reference) = remains.index.next_series(&mut row) {
        let labels = match remains.labels(&row) {
            Ok(labels) => labels,
            Err(error) => {
                repair.lose(None, None, error.to_string());
                continue;
            }
        };
        if previous.as_ref().is_some_and(|p| *p >= labels) {
            repair.lose(Some(&labels), None, "series out of order, or twice".to_owned());
            continue;
        }
        let mut entry = SeriesEntry::default();
        for meta in &row.chunks {
            match remains.chunk(meta).map_err(|e| e.to_string()).and_then(with_true_times) {
                Ok(chunk) => entry.chunks.push(chunk),
                Err(why) => repair.lose(Some(&labels), Some((meta.min_time, meta.max_time)), why),
            }
        }
        entry.chunks.sort_by_key(|chunk| chunk.min_time);
        entry.deleted.extend_from_slice(remains.tombstones.as_ref().unwrap_or(&none).of(reference));
        let mut chunks = Vec::new();
        if let Err(error) = resolve(&entry, &mut chunks) {
            repair.lose(Some(&labels), None, error.to_string());
            continue;
        }
        if !chunks.is_empty() {
            repair.series += 1;
            repair.chunks += chunks.len() as u64;
            write(&labels, &chunks)?;
        }
        previous = Some(labels);
    }
    for &offset in remains.index.damaged() {
        repair.lose(None, None, format!("series entries are damaged file=index offset={offset}"));
    }
    Ok(())
}
