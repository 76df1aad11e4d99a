//! Writing a block, so that it is there wholly or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pyrrha_encoding::chunk::sample_count;
use pyrrha_env::Disk;
use pyrrha_index::{ChunkMeta, IndexWriter, SeriesRow, SortedSymbols, SymbolPool};
use pyrrha_model::contract::{ChunkRef, DeleteId, Exemplars};
use pyrrha_model::{Labels, Metadata, TimeRange};

use super::dense::ChunkWriter;
use super::error::{Blame, BlockError, name_of};
use super::exemplars::ExemplarWriter;
use super::having::HavingWriter;
use super::segments::{SEGMENT_BYTES, SegmentWriter};
use super::spool::Spool;
use super::windows::WindowsWriter;
use super::{BlockDeletes, BlockMeta, BlockStats, CHUNKS_DIR, INDEX_FILE, Layout, metadata};
use crate::durable;

/// Suffix of a directory that is not finished: Prometheus removes such at start, and so do we.
pub const UNFINISHED: &str = ".tmp-for-creation";

/// Writes a block under a temporary name. Dropping it unfinished removes what was written.
///
/// Memory: the symbols, and what [`IndexWriter`] holds; chunks and series go to disk at once.
#[derive(Debug)]
pub struct BlockWriter {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    unfinished: PathBuf,
    blame: Blame,
    layout: Layout,
    segments: SegmentWriter,
    chunks: ChunkWriter,
    spool: Option<Spool>,
    symbols: SymbolPool,
    previous: Vec<(u32, u32)>,
    row: SeriesRow,
    stats: BlockStats,
    windows: Option<WindowsWriter>,
    through: DeleteId,
    /// Encodings of its chunks.
    encodings: BTreeSet<u8>,
    /// By delete: series, as counted, and what is hidden of them.
    hidden: BTreeMap<DeleteId, Vec<(u64, TimeRange)>>,
}

impl BlockWriter {
    /// Begins a block of the standard layout that will be the directory `dir`, which must not exist.
    pub fn create(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, BlockError> {
        Self::create_as(disk, dir, Layout::Standard)
    }

    /// The same of another layout. Chunks may come as they are in either one: what is written is
    /// converted, bit for bit.
    pub fn create_as(disk: Arc<dyn Disk>, dir: &Path, layout: Layout) -> Result<Self, BlockError> {
        Self::with_segment_bytes(disk, dir, layout, SEGMENT_BYTES)
    }

    pub(super) fn with_segment_bytes(
        disk: Arc<dyn Disk>,
        dir: &Path,
        layout: Layout,
        limit: u64,
    ) -> Result<Self, BlockError> {
        let blame = Blame::new(dir);
        if disk.exists(dir) {
            return Err(blame.refused("a block of that name exists"));
        }
        let mut name = dir.file_name().unwrap_or_default().to_os_string();
        name.push(UNFINISHED);
        let unfinished = dir.with_file_name(name);
        let chunks = unfinished.join(CHUNKS_DIR);
        disk.remove_dir_all(&unfinished)
            .and_then(|()| durable::create_dir(&*disk, dir.parent().unwrap_or(Path::new("."))))
            .and_then(|()| disk.create_dir_all(&chunks))
            .map_err(blame.io(CHUNKS_DIR))?;
        Ok(Self {
            layout,
            segments: SegmentWriter::new(chunks, layout, limit),
            chunks: ChunkWriter::new(layout, &name_of(dir)),
            spool: Some(Spool::new(unfinished.join("series.spool"))),
            disk,
            dir: dir.to_owned(),
            unfinished,
            blame,
            symbols: SymbolPool::new(),
            previous: Vec::new(),
            row: SeriesRow::default(),
            stats: BlockStats::default(),
            windows: None,
            through: DeleteId::default(),
            encodings: BTreeSet::new(),
            hidden: BTreeMap::new(),
        })
    }

    /// Adds a series with its chunks by time, which do not overlap. Series come sorted by labels.
    /// One without chunks is left out.
    pub fn add_series(&mut self, labels: &Labels, chunks: &[ChunkRef]) -> Result<(), BlockError> {
        if chunks.is_empty() {
            return Ok(());
        }
        self.intern(labels)?;
        self.check_chunks(labels, chunks)?;
        self.row.chunks.clear();
        let (row, stats, encodings) = (&mut self.row, &mut self.stats, &mut self.encodings);
        self.chunks.append(&mut self.segments, &*self.disk, &self.blame, chunks, |chunk, reference| {
            let (min_time, max_time) = (chunk.min_time, chunk.max_time);
            row.chunks.push(ChunkMeta { min_time, max_time, reference });
            count(stats, chunk);
            encodings.insert(chunk.encoding as u8);
        })?;
        self.stats.num_series += 1;
        let Some(spool) = &mut self.spool else { return Err(self.blame.refused("the block is finished")) };
        spool.push(&*self.disk, &self.row).map_err(self.blame.io("series.spool"))
    }

    /// Adds a downsampled series: its aggregate chunks, and both parts of its windows, which other tools
    /// do not see.
    pub fn add_windows(
        &mut self,
        labels: &Labels,
        chunks: &[ChunkRef],
        edges: &ChunkRef,
        values: &ChunkRef,
    ) -> Result<(), BlockError> {
        self.add_series(labels, chunks)?;
        let Some(first) = self.row.chunks.first().filter(|_| !chunks.is_empty()) else { return Ok(()) };
        let key = first.reference;
        let windows = match &mut self.windows {
            Some(windows) => windows,
            none => none.insert(WindowsWriter::create(&*self.disk, &self.unfinished, &self.blame)?),
        };
        windows.add(&self.blame, key, edges, values)
    }

    /// Says that deletes up to `through` hide nothing of the block but what [`hide`](Self::hide) says.
    pub fn knows_deletes(&mut self, through: DeleteId) {
        self.through = through;
    }

    /// Hides an interval of the series that was added last, for as long as a delete stands.
    pub fn hide(&mut self, delete: DeleteId, interval: TimeRange) {
        if let Some(series) = self.stats.num_series.checked_sub(1) {
            self.hidden.entry(delete).or_default().push((series, interval));
        }
    }

    /// Writes the exemplars of the block, once: series by labels, each with its exemplars by time.
    /// Gives their number. Other tools do not see them.
    pub fn write_exemplars<E: From<BlockError>>(
        &mut self,
        series: impl IntoIterator<Item = Result<Exemplars, E>>,
    ) -> Result<u64, E> {
        let mut out = ExemplarWriter::new(&*self.disk, &self.unfinished, &self.blame);
        for series in series {
            out.add(&series?)?;
        }
        Ok(out.finish()?)
    }

    /// Writes the metadata of metric families, once, sorted by name. Other tools do not see it.
    pub fn write_metadata<'m>(
        &mut self,
        families: impl IntoIterator<Item = (&'m str, &'m Metadata)>,
    ) -> Result<(), BlockError> {
        metadata::write(&*self.disk, &self.unfinished, &self.blame, families.into_iter())
    }

    /// Writes the index and `meta.json` (or what stands in its place), syncs everything and gives the block its name. Of `meta`
    /// the stats are replaced, and the range is widened to what was written. After an error
    /// nothing may be concluded: the block is there wholly or not at all, and no manifest names it.
    pub fn finish(mut self, mut meta: BlockMeta) -> Result<BlockMeta, BlockError> {
        let disk = self.disk.clone();
        self.segments.finish(&self.blame)?;
        if let Some(windows) = self.windows.take() {
            windows.finish(&self.blame)?;
        }
        let (first, last) = self.write_index()?;
        if self.stats.num_series > 0 {
            meta.min_time = meta.min_time.min(first);
            meta.max_time = meta.max_time.max(last.saturating_add(1));
        }
        meta.stats = self.stats.clone();
        meta.note_encodings(&self.encodings);
        let file = self.layout.meta_file();
        durable::write_new(&*disk, &self.unfinished.join(file), &self.layout.encode_meta(&meta))
            .map_err(self.blame.io(file))?;
        let parent = self.dir.parent().unwrap_or(Path::new("."));
        disk.sync_dir(&self.unfinished.join(CHUNKS_DIR))
            .and_then(|()| disk.sync_dir(&self.unfinished))
            .and_then(|()| disk.rename(&self.unfinished, &self.dir))
            .and_then(|()| disk.sync_dir(parent))
            .map_err(self.blame.io("."))?;
        Ok(meta)
    }

    fn intern(&mut self, labels: &Labels) -> Result<(), BlockError> {
        self.row.labels.clear();
        for label in labels {
            let pair = (self.symbols.intern(&label.name), self.symbols.intern(&label.value));
            self.row.labels.push(pair);
        }
        let text = |&(name, value): &(u32, u32)| (self.symbols.get(name), self.symbols.get(value));
        let ascends = self.previous.iter().map(text).lt(self.row.labels.iter().map(text));
        if self.stats.num_series > 0 && !ascends {
            return Err(self.blame.refused(format!("series out of order: {labels}")));
        }
        self.previous.clone_from(&self.row.labels);
        Ok(())
    }

    fn check_chunks(&self, labels: &Labels, chunks: &[ChunkRef]) -> Result<(), BlockError> {
        let mut before: Option<&ChunkRef> = None;
        for chunk in chunks {
            if chunk.min_time > chunk.max_time || before.is_some_and(|b| b.max_time >= chunk.min_time) {
                let (min, max) = (chunk.min_time, chunk.max_time);
                return Err(self
                    .blame
                    .refused(format!("chunk out of order: {labels} min_time={min} max_time={max}")));
            }
            before = Some(chunk);
        }
        Ok(())
    }

    /// Writes the index from the spooled series; gives the times of the first and last sample.
    fn write_index(&mut self) -> Result<(i64, i64), BlockError> {
        let symbols = SortedSymbols::new(std::mem::take(&mut self.symbols));
        let path = self.unfinished.join(INDEX_FILE);
        let file = self.disk.create_new(&path).map_err(self.blame.io(INDEX_FILE))?;
        let blame = &self.blame;
        let mut index = IndexWriter::new(file, symbols).map_err(|e| blame.index(e))?;
        let (mut first, mut last) = (i64::MAX, i64::MIN);
        let mut references = Vec::new();
        let wants_references = !self.hidden.is_empty();
        let mut having = HavingWriter::default();
        let mut add = |row: &mut SeriesRow| {
            for (name, value) in &mut row.labels {
                let ordinal = |id| index.symbols().ordinal(id).ok_or_else(|| blame.refused("unknown symbol"));
                (*name, *value) = (ordinal(*name)?, ordinal(*value)?);
            }
            for chunk in &row.chunks {
                (first, last) = (first.min(chunk.min_time), last.max(chunk.max_time));
            }
            let reference = index.add_series(&row.labels, &row.chunks).map_err(|e| blame.index(e))?;
            having.add(reference, row.labels.iter().map(|(name, _)| *name));
            if wants_references {
                references.push(reference);
            }
            Ok(())
        };
        if let Some(spool) = self.spool.take() {
            spool.drain(&*self.disk, &mut add).map_err(blame.io("series.spool"))??;
        }
        having.write(&*self.disk, &self.unfinished, blame, index.symbols())?;
        index.finish().map_err(|e| blame.index(e))?;
        let mut deletes = BlockDeletes { through: self.through, hidden: BTreeMap::new() };
        for (delete, list) in std::mem::take(&mut self.hidden) {
            let hidden = deletes.hidden.entry(delete).or_default();
            for (series, interval) in list {
                let reference = usize::try_from(series).ok().and_then(|series| references.get(series));
                hidden.add(u64::from(reference.copied().unwrap_or(u32::MAX)), interval);
            }
        }
        deletes.write(&*self.disk, &self.unfinished, blame)?;
        Ok((first, last))
    }
}

fn count(stats: &mut BlockStats, chunk: &ChunkRef) {
    // An aggregate has no count of its own; a chunk too short for one holds nothing.
    let samples = sample_count(chunk.encoding, &chunk.bytes).unwrap_or(0) as u64;
    stats.num_chunks += 1;
    stats.num_samples += samples;
    if chunk.encoding.is_float() {
        stats.num_float_samples += samples;
    } else {
        stats.num_histogram_samples += samples;
    }
}

impl Drop for BlockWriter {
    fn drop(&mut self) {
        // After a rename nothing is there; a directory that stays is removed at the next start.
        let _ = self.disk.remove_dir_all(&self.unfinished);
    }
}

/// Removes blocks that a crash left unfinished under `dir`; gives their number.
pub fn remove_unfinished(disk: &dyn Disk, dir: &Path) -> std::io::Result<usize> {
    let mut removed = 0;
    for entry in disk.list(dir)? {
        if entry.is_dir && entry.name.ends_with(UNFINISHED) {
            disk.remove_dir_all(&dir.join(&entry.name))?;
            removed += 1;
        }
    }
    Ok(removed)
}
