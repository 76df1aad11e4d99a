//! An open block.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pyrrha_env::Disk;
use pyrrha_index::{
    ChunkMeta, IndexReader, RoaringBitmap, SeriesRow, label_names, label_values, postings_for_matchers,
};
use pyrrha_model::contract::{
    ChunkRef, Delete, DeleteId, Exemplars, LabelQuery, QueryContext, Queryable, SelectHints, SeriesSet,
};
use pyrrha_model::{Exemplar, Label, Labels, Matcher, Metadata, StoreError, TimeRange, Timestamp};

use super::deletes::{Hidden, HiddenPart, HiddenSeries};
use super::dense::Columns;
use super::error::{Blame, BlockError};
use super::segments::Segments;
use super::set::{BlockSet, Reserved, drop_deleted};
use super::{
    BlockDeletes, BlockId, BlockMeta, ExemplarFile, INDEX_FILE, Layout, MetadataFile, TOMBSTONES_FILE,
    Tombstones,
};

/// An open block: its files are mapped, which is safe as no one changes a finished block. Cheap to
/// clone; a query's series set keeps it open.
#[derive(Debug, Clone)]
pub struct Block(pub(super) Arc<Parts>, Arc<Hidden>);

/// What an open block consists of.
#[derive(Debug)]
pub(super) struct Parts {
    dir: PathBuf,
    pub(super) meta: BlockMeta,
    layout: Layout,
    bytes: u64,
    pub(super) index: IndexReader,
    pub(super) segments: Segments,
    pub(super) tombstones: Tombstones,
    exemplars: OneFile<ExemplarFile>,
    metadata: OneFile<MetadataFile>,
    deletes: BlockDeletes,
    pub(super) blame: Blame,
}

/// A sidecar file: absent, open, or damaged, which costs what it holds and nothing else.
type OneFile<T> = Result<Option<T>, BlockError>;

impl Block {
    /// Opens the block in `dir`, whoever wrote it. Verifies `meta.json`, the index's tables,
    /// segment headers and tombstones now, and every series, postings list and chunk when it is
    /// read.
    pub fn open(disk: &dyn Disk, dir: &Path) -> Result<Self, BlockError> {
        Self::open_with_tables(disk, dir, None)
    }

    /// The same; of the index's tables nothing is read now if `tables` is a file that
    /// [`IndexReader::encode_tables`] gave for it. Any other file there is passed over.
    pub fn open_with_tables(disk: &dyn Disk, dir: &Path, tables: Option<&Path>) -> Result<Self, BlockError> {
        let blame = Blame::new(dir);
        let layout = Layout::of(disk, dir);
        let file = layout.meta_file();
        let json = disk.read(&dir.join(file)).map_err(blame.io(file))?;
        let meta = layout.read_meta(&blame, &json)?;
        let file = disk.map(&dir.join(INDEX_FILE)).map_err(blame.io(INDEX_FILE))?;
        let index_bytes = file.len() as u64;
        let tables = tables.filter(|path| disk.exists(path)).and_then(|path| disk.map(path).ok());
        let index = IndexReader::open_with(file, tables.as_ref()).map_err(|e| blame.index(e))?;
        let segments = Segments::open(disk, dir, layout, &blame)?;
        let (tombstones, tombstones_bytes) = if disk.exists(&dir.join(TOMBSTONES_FILE)) {
            let file = disk.read(&dir.join(TOMBSTONES_FILE)).map_err(blame.io(TOMBSTONES_FILE))?;
            (Tombstones::decode(&blame, &file)?, file.len() as u64)
        } else {
            (Tombstones::default(), 0)
        };
        let exemplars = ExemplarFile::open(disk, dir, &blame);
        let metadata = MetadataFile::open(disk, dir, &blame);
        // Without it what is deleted would be there again, so a damaged one is a damaged block.
        let deletes = BlockDeletes::open(disk, dir, &blame)?;
        let hidden = Hidden::listed(&deletes);
        let mut bytes = json.len() as u64 + index_bytes + segments.bytes() + tombstones_bytes;
        bytes += exemplars.iter().flatten().map(ExemplarFile::bytes).sum::<u64>();
        bytes += metadata.iter().flatten().map(MetadataFile::bytes).sum::<u64>();
        let dir = dir.to_owned();
        let parts = Parts {
            dir,
            meta,
            layout,
            bytes,
            index,
            segments,
            tombstones,
            exemplars,
            metadata,
            deletes,
            blame,
        };
        Ok(Self(Arc::new(parts), Arc::new(hidden)))
    }

    /// A block that was just opened, with the id and the range that its manifest has, which has a checksum
    /// where `meta.json` has none.
    pub(crate) fn listed_as(mut self, id: BlockId, min_time: Timestamp, max_time: Timestamp) -> Self {
        let meta = &self.0.meta;
        if (meta.ulid, meta.min_time, meta.max_time) != (id, min_time, max_time) {
            tracing::error!(block = %id, dir = %self.0.dir.display(), "meta.json has another id or range than the manifest, which counts");
            if let Some(parts) = Arc::get_mut(&mut self.0) {
                (parts.meta.ulid, parts.meta.min_time, parts.meta.max_time) = (id, min_time, max_time);
            }
        }
        self
    }

    /// Whether the disk did not give a file of exemplars or metadata, which may be sound.
    pub(crate) fn lacks_files(&self) -> bool {
        let refused = |error: Option<&BlockError>| error.is_some_and(|e| matches!(e, BlockError::Io { .. }));
        refused(self.0.exemplars.as_ref().err()) || refused(self.0.metadata.as_ref().err())
    }

    /// What `meta.json` says.
    pub fn meta(&self) -> &BlockMeta {
        &self.0.meta
    }

    /// How its floats are stored.
    pub fn layout(&self) -> Layout {
        self.0.layout
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// Bytes of its files.
    pub fn bytes(&self) -> u64 {
        self.0.bytes
    }

    /// Its index.
    pub fn index(&self) -> &IndexReader {
        &self.0.index
    }

    /// Its deleted intervals.
    pub fn tombstones(&self) -> &Tombstones {
        &self.0.tombstones
    }

    /// Its exemplars; `None` if it has none. Fails if the file is damaged.
    pub fn exemplar_file(&self) -> Result<Option<&ExemplarFile>, StoreError> {
        self.0.exemplars.as_ref().map(Option::as_ref).map_err(StoreError::from)
    }

    /// Its metadata; `None` if it has none. Fails if the file is damaged.
    pub fn metadata_file(&self) -> Result<Option<&MetadataFile>, StoreError> {
        self.0.metadata.as_ref().map(Option::as_ref).map_err(StoreError::from)
    }

    /// The deletes that it was made in the knowledge of.
    pub fn deletes(&self) -> &BlockDeletes {
        &self.0.deletes
    }

    /// The same block, of which `standing`, the deletes that stand, hide what they have to, and no
    /// other deletes do. Deletes up to `through` are known.
    pub fn with_deletes<'d>(
        &self,
        standing: impl IntoIterator<Item = &'d Delete>,
        through: DeleteId,
        ctx: &QueryContext,
    ) -> Result<Self, StoreError> {
        let (known, before) = (&self.0.deletes, &*self.1);
        let mut hidden = Hidden { through: through.max(known.through), ..Hidden::default() };
        for delete in standing {
            // A delete says the same for ever, and a block never changes.
            let what = if before.asked.binary_search(&delete.id).is_ok() {
                before.part(delete.id).map(|part| part.what.clone())
            } else if delete.id <= known.through {
                known.hidden.get(&delete.id).map(|listed| Arc::new(HiddenSeries::Listed(listed.clone())))
            } else {
                self.matching_delete(delete, ctx)?.map(Arc::new)
            };
            let part = |what| HiddenPart { delete: delete.id, is_final: delete.is_final, what };
            hidden.parts.extend(what.map(part));
            hidden.asked.push(delete.id);
        }
        hidden.parts.sort_by_key(|part| part.delete);
        hidden.asked.sort_unstable();
        Ok(Self(self.0.clone(), Arc::new(hidden)))
    }

    fn matching_delete(
        &self,
        delete: &Delete,
        ctx: &QueryContext,
    ) -> Result<Option<HiddenSeries>, StoreError> {
        if !self.overlaps(delete.range) {
            return Ok(None);
        }
        let mut series = RoaringBitmap::new();
        for matchers in &delete.matcher_sets {
            series |= self.0.matching(ctx, matchers)?;
        }
        Ok((!series.is_empty()).then_some(HiddenSeries::Matching(series, delete.range)))
    }

    /// All that is deleted of the block, by tombstones and by deletes that stand.
    pub fn all_deleted(&self) -> Tombstones {
        let mut all = self.0.tombstones.clone();
        for part in &self.1.parts {
            match &*part.what {
                HiddenSeries::Matching(series, range) => {
                    series.iter().for_each(|series| all.add(u64::from(series), *range));
                }
                HiddenSeries::Listed(listed) => {
                    listed.iter().for_each(|(series, interval)| all.add(series, interval));
                }
            }
        }
        all
    }

    /// The newest delete that is honoured in what is read of the block.
    pub fn deletes_through(&self) -> DeleteId {
        self.1.through
    }

    /// Whether a delete hides some of the block.
    pub fn is_hidden_by(&self, delete: DeleteId) -> bool {
        self.1.part(delete).is_some()
    }

    /// Whether a delete that can be undone hides some of it: what it hides must not get lost.
    pub fn is_undoable(&self) -> bool {
        self.1.parts.iter().any(|part| !part.is_final)
    }

    /// The block to write anew so that what is deleted for good is gone from the disk; `None` if
    /// nothing is, or if it cannot be done yet.
    pub fn to_purge(&self) -> Option<Self> {
        let (last, undoable) = self.1.parts.iter().fold((None, false), |(last, undoable), part| {
            let listed = matches!(*part.what, HiddenSeries::Listed(_));
            (last.max(part.is_final.then_some(part.delete)), undoable || !part.is_final && listed)
        });
        // What an undoable delete lists is in terms of this block's series.
        let through = last.filter(|_| !undoable)?;
        if self.1.parts.iter().any(|part| !part.is_final && part.delete <= through) {
            return None;
        }
        let parts = self.1.parts.iter().filter(|part| part.is_final).cloned().collect();
        let through = through.max(self.0.deletes.through);
        Some(Self(self.0.clone(), Arc::new(Hidden { through, parts, asked: Vec::new() })))
    }

    /// Reads and verifies everything. Gives the number of chunks.
    pub fn verify(&self, ctx: &QueryContext) -> Result<u64, StoreError> {
        let (mut row, mut columns) = (SeriesRow::default(), Columns::default());
        let mut chunks = 0;
        self.0.index.verify_tables().map_err(|e| self.0.blame.index(e))?;
        for series in &self.0.matching(ctx, &[])? {
            ctx.cancel.check()?;
            self.0.row(series, &mut row)?;
            self.0.labels(&row)?;
            for chunk in &row.chunks {
                self.0.chunk(chunk, &mut columns)?;
                chunks += 1;
            }
        }
        if let Some(exemplars) = self.exemplar_file()? {
            exemplars.series(&[], TimeRange::ALL).try_for_each(|series| series.map(drop))?;
        }
        if let Some(metadata) = self.metadata_file()? {
            metadata.collect(None, &mut BTreeMap::new())?;
        }
        Ok(chunks)
    }

    fn overlaps(&self, range: TimeRange) -> bool {
        self.0.meta.range().overlaps(&range)
    }

    /// What `find` gives for each matcher set, as one.
    fn union(
        &self,
        query: &LabelQuery,
        find: impl Fn(&[Matcher]) -> Result<Vec<String>, pyrrha_index::IndexError>,
    ) -> Result<Vec<String>, StoreError> {
        Ok(query.union(query.sets().map(|set| find(set).map_err(|e| self.0.blame.index(e))))?)
    }
}

impl Parts {
    pub(super) fn row(&self, series: u32, row: &mut SeriesRow) -> Result<(), BlockError> {
        self.index.series(series, row).map_err(|e| self.blame.index(e))
    }

    pub(super) fn chunk(&self, meta: &ChunkMeta, columns: &mut Columns) -> Result<ChunkRef, BlockError> {
        self.segments.chunk(&self.blame, meta, columns)
    }

    pub(super) fn matching(
        &self,
        ctx: &QueryContext,
        matchers: &[Matcher],
    ) -> Result<RoaringBitmap, StoreError> {
        let found = postings_for_matchers(&self.index, matchers, &ctx.cancel);
        Ok(found.map_err(|e| self.blame.index(e))?)
    }

    /// The series that satisfy one of the query's matcher sets.
    pub(super) fn matching_any(
        &self,
        ctx: &QueryContext,
        query: &LabelQuery,
    ) -> Result<RoaringBitmap, StoreError> {
        let mut all = RoaringBitmap::new();
        for matchers in query.sets() {
            all |= self.matching(ctx, matchers)?;
        }
        Ok(all)
    }
}

impl Queryable for Block {
    fn select(
        &self,
        ctx: &QueryContext,
        matchers: &[Matcher],
        range: TimeRange,
        hints: &SelectHints,
    ) -> Result<Box<dyn SeriesSet>, StoreError> {
        let series =
            if self.overlaps(range) { self.0.matching(ctx, matchers)? } else { RoaringBitmap::new() };
        Ok(Box::new(BlockSet::new(self.0.clone(), self.1.clone(), ctx, series, range, hints)?))
    }

    fn label_names(&self, ctx: &QueryContext, query: &LabelQuery) -> Result<Vec<String>, StoreError> {
        if !self.overlaps(query.range) {
            return Ok(Vec::new());
        }
        if !self.0.within(query.range) {
            return query.union([self.0.names_in(ctx, query)]);
        }
        self.union(query, |matchers| label_names(&self.0.index, matchers, query.limit, &ctx.cancel))
    }

    fn label_values(
        &self,
        ctx: &QueryContext,
        name: &str,
        query: &LabelQuery,
    ) -> Result<Vec<String>, StoreError> {
        if !self.overlaps(query.range) {
            return Ok(Vec::new());
        }
        if !self.0.within(query.range) {
            return query.union([self.0.values_in(ctx, name, query)]);
        }
        self.union(query, |matchers| label_values(&self.0.index, name, matchers, query.limit, &ctx.cancel))
    }

    fn series(&self, ctx: &QueryContext, query: &LabelQuery) -> Result<Vec<Labels>, StoreError> {
        if !self.overlaps(query.range) {
            return Ok(Vec::new());
        }
        let matching = self.0.matching_any(ctx, query)?;
        let mut reserved = Reserved::new(&ctx.budget, matching.serialized_size())?;
        let (mut row, mut found) = (SeriesRow::default(), Vec::new());
        for series in &matching {
            ctx.cancel.check()?;
            self.0.row(series, &mut row)?;
            drop_deleted(&self.0, &self.1, series, &mut row);
            if row.chunks.iter().any(|c| TimeRange::new(c.min_time, c.max_time).overlaps(&query.range)) {
                let labels = self.0.labels(&row)?;
                let text: usize = labels.iter().map(|l| l.name.len() + l.value.len()).sum();
                reserved.grow(text + labels.len() * size_of::<Label>() + size_of::<Labels>())?;
                found.push(labels);
            }
            if found.len() == query.most() {
                break;
            }
        }
        Ok(found)
    }

    fn exemplars(&self, ctx: &QueryContext, query: &LabelQuery) -> Result<Vec<Exemplars>, StoreError> {
        let Some(file) = self.exemplar_file()?.filter(|file| file.times().overlaps(&query.range)) else {
            return Ok(Vec::new());
        };
        let mut found: Vec<Exemplars> = Vec::new();
        let mut reserved = Reserved::new(&ctx.budget, 0)?;
        for series in file.series(&query.matcher_sets, query.range) {
            ctx.cancel.check()?;
            let series = series?;
            reserved.grow(size_of_exemplars(&series))?;
            let full = found.len() == query.most();
            match found.last_mut() {
                Some(last) if last.series == series.series => last.exemplars.extend(series.exemplars),
                _ if full => break,
                _ => found.push(series),
            }
        }
        Ok(found)
    }

    fn metadata(
        &self,
        _ctx: &QueryContext,
        metric: Option<&str>,
    ) -> Result<BTreeMap<String, Vec<Metadata>>, StoreError> {
        let mut found = BTreeMap::new();
        if let Some(file) = self.metadata_file()? {
            file.collect(metric, &mut found)?;
        }
        Ok(found.into_iter().map(|(name, metadata)| (name, vec![metadata])).collect())
    }
}

/// Bytes that a series' exemplars take in memory, about.
fn size_of_exemplars(series: &Exemplars) -> usize {
    let labels = |labels: &Labels| -> usize {
        labels.iter().map(|l| l.name.len() + l.value.len() + size_of::<Label>()).sum()
    };
    let exemplars = series.exemplars.iter().map(|e| labels(&e.labels) + size_of::<Exemplar>());
    labels(&series.series) + size_of::<Exemplars>() + exemplars.sum::<usize>()
}
