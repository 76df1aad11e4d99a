//! What tools see of a block that queries do not: single entries, whole segments, files past damage.

use std::path::Path;

use pyrrha_env::Disk;
use pyrrha_index::{ChunkMeta, IndexSalvage, RoaringBitmap, SeriesRow, postings_for_matchers};
use pyrrha_model::contract::{CancelToken, ChunkRef};
use pyrrha_model::{ErrorKind, Labels, Matcher};

use super::dense::Columns;
use super::error::Blame;
use super::segments::{Segments, segment_name};
use super::{
    Block, BlockError, BlockMeta, ExemplarFile, INDEX_FILE, Layout, MetadataFile, TOMBSTONES_FILE, Tombstones,
};

impl Block {
    /// References of the series that satisfy all matchers.
    pub(crate) fn series_matching(&self, matchers: &[Matcher]) -> Result<RoaringBitmap, BlockError> {
        let found = postings_for_matchers(&self.0.index, matchers, &CancelToken::default());
        found.map_err(|e| self.0.blame.index(e))
    }

    /// A series entry.
    pub(crate) fn series_row(&self, series: u32, row: &mut SeriesRow) -> Result<(), BlockError> {
        self.0.row(series, row)
    }

    /// The string of a symbol reference.
    pub(crate) fn symbol(&self, reference: u32) -> Result<&str, BlockError> {
        self.0.index.symbol(reference).map_err(|e| self.0.blame.index(e))
    }

    /// The labels of an entry.
    pub(crate) fn row_labels(&self, row: &SeriesRow) -> Result<Labels, BlockError> {
        let mut pairs = Vec::with_capacity(row.labels.len());
        for &(name, value) in &row.labels {
            pairs.push((self.symbol(name)?, self.symbol(value)?));
        }
        Ok(Labels::from_pairs(pairs))
    }

    /// A chunk, verified.
    pub(crate) fn row_chunk(&self, chunk: &ChunkMeta) -> Result<ChunkRef, BlockError> {
        self.0.chunk(chunk, &mut Columns::default())
    }

    /// File and offset of a chunk.
    pub(crate) fn chunk_place(chunk: &ChunkMeta) -> (String, u64) {
        (segment_name((chunk.reference >> 32) as u32), chunk.reference & u64::from(u32::MAX))
    }

    /// Calls `visit` with the reference of each chunk that the segments hold, named by the index or
    /// not; gives the place where each segment that is damaged stops being readable.
    pub(crate) fn walk_segments(&self, visit: impl FnMut(u64)) -> Vec<(String, u64, String)> {
        self.0.segments.walk(visit)
    }
}

/// A block's files, as far as they can be read.
#[derive(Debug)]
pub(crate) struct BlockRemains {
    /// What `meta.json` says, if it can be read.
    pub(crate) meta: Result<BlockMeta, BlockError>,
    /// The series section.
    pub(crate) index: IndexSalvage,
    /// Deleted intervals, if they can be read.
    pub(crate) tombstones: Result<Tombstones, BlockError>,
    /// Exemplars, if the file can be opened.
    pub(crate) exemplars: Result<Option<ExemplarFile>, BlockError>,
    /// Metadata, if the file can be opened.
    pub(crate) metadata: Result<Option<MetadataFile>, BlockError>,
    segments: Segments,
    blame: Blame,
}

impl BlockRemains {
    /// Opens what is left of a block. Fails if its symbols cannot be read, or the disk fails.
    pub(crate) fn open(disk: &dyn Disk, dir: &Path) -> Result<Self, BlockError> {
        let blame = Blame::new(dir);
        let layout = Layout::of(disk, dir);
        let file = layout.meta_file();
        let json = disk.read(&dir.join(file)).map_err(blame.io(file));
        let meta = match json.and_then(|json| layout.read_meta(&blame, &json)) {
            Err(error) if error.kind() == ErrorKind::Unavailable => return Err(error),
            meta => meta,
        };
        let file = disk.map(&dir.join(INDEX_FILE)).map_err(blame.io(INDEX_FILE))?;
        let index = IndexSalvage::open(file).map_err(|e| blame.index(e))?;
        let tombstones = if disk.exists(&dir.join(TOMBSTONES_FILE)) {
            let file = disk.read(&dir.join(TOMBSTONES_FILE)).map_err(blame.io(TOMBSTONES_FILE))?;
            Tombstones::decode(&blame, &file)
        } else {
            Ok(Tombstones::default())
        };
        let (exemplars, metadata) =
            (ExemplarFile::open(disk, dir, &blame), MetadataFile::open(disk, dir, &blame));
        let segments = Segments::open_damaged(disk, dir, layout, &blame)?;
        Ok(Self { meta, index, tombstones, exemplars, metadata, segments, blame })
    }

    /// The labels of an entry.
    pub(crate) fn labels(&self, row: &SeriesRow) -> Result<Labels, BlockError> {
        let mut pairs = Vec::with_capacity(row.labels.len());
        for &(name, value) in &row.labels {
            let text = |reference| self.index.symbol(reference).map_err(|e| self.blame.index(e));
            pairs.push((text(name)?, text(value)?));
        }
        Ok(Labels::from_pairs(pairs))
    }

    /// A chunk, verified.
    pub(crate) fn chunk(&self, meta: &ChunkMeta) -> Result<ChunkRef, BlockError> {
        self.segments.chunk(&self.blame, meta, &mut Columns::default())
    }
}
