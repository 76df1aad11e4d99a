//! The work of a merge: inputs are read by ranges, so that the disk holds only the output.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use pyrrha_env::Disk;
use pyrrha_model::contract::{CancelToken, DeleteId, QueryContext, SeriesBatch, SeriesSet, WindowHints};
use pyrrha_model::{ErrorKind, Labels, Matcher, StoreError, TenantId};
use pyrrha_storage::block::{
    Block, BlockDeletes, BlockId, BlockMeta, ExemplarFile, MetadataFile, ThanosMeta,
};
use pyrrha_storage::compact::{Source, split_sources};
use pyrrha_storage::manifest::{BlockEntry, ManifestState};

use super::places::output_root;
use super::prune;
use crate::block_files::{
    self, BlockFile, META, deletes_through, external_labels, files, lists_deletes, with_deletes_through,
    with_root,
};
use crate::deletes::Standing;
use crate::door::Bucket;
use crate::downsample::{Built, DownsampleTask, Origin, build, deletes_applied, note_deletes_applied};
use crate::error::BucketError;
use crate::fetch::to_file;
use crate::gateway::{Gateway, GatewayConfig};
use crate::marks::{MarkFiles, carry_over};
use crate::rebuild::META_MAX;
use crate::runtime::BucketRuntime;
use crate::shard::{Shard, Split, name_shard};
use crate::tenants::BucketTenants;
use crate::upload_block::{Upload, local};

/// Pages of the inputs that are kept: what a request brought beyond what was asked for.
const PAGES_BYTES: usize = 16 << 20;
/// Largest file of deletes that is read.
const DELETES_MAX: u64 = 256 << 20;

/// Where a job works, and on what.
pub(super) struct Work<'a> {
    pub(super) tenants: &'a Arc<BucketTenants>,
    pub(super) runtime: &'a Arc<BucketRuntime>,
    pub(super) disk: &'a Arc<dyn Disk>,
    pub(super) tenant: &'a TenantId,
    pub(super) inputs: Vec<Arc<BlockEntry>>,
    /// Ids that the blocks it makes may have.
    pub(super) outputs: &'a [BlockId],
    /// A directory of its own.
    pub(super) scratch: PathBuf,
    pub(super) ctx: QueryContext,
    pub(super) replica_labels: &'a [String],
    /// Deletes that are final: what they hide is not written.
    pub(super) deletes: Arc<[Standing]>,
    /// The manifest number through which all deletes are final.
    pub(super) settled: u64,
    /// Series that retention rules which are due match: they are not written, either.
    pub(super) leave_out: Arc<[Vec<Matcher>]>,
    /// The names of those rules.
    pub(super) prunes: Vec<String>,
    /// Histograms with custom buckets stay at full resolution.
    pub(super) keeps_custom_buckets: bool,
    /// Asked before anything is uploaded: whether the job is still this worker's.
    pub(super) before_upload: Box<dyn Fn() -> Result<(), StoreError> + 'a>,
}

/// Why a job failed, and which input is to blame if that is known.
#[derive(Debug)]
pub(super) struct WorkError {
    pub(super) error: StoreError,
    pub(super) damaged: Option<BlockId>,
}

impl<E: Into<StoreError>> From<E> for WorkError {
    fn from(error: E) -> Self {
        Self { error: error.into(), damaged: None }
    }
}

/// What lies beside the samples of an input.
#[derive(Default)]
pub(super) struct Beside {
    pub(super) exemplars: Option<ExemplarFile>,
    pub(super) metadata: Option<MetadataFile>,
    pub(super) deletes: BlockDeletes,
}

/// What reads blocks for jobs, with headers in a directory.
pub(super) fn reader(
    tenants: &Arc<BucketTenants>,
    runtime: &Arc<BucketRuntime>,
    disk: &Arc<dyn Disk>,
    cache_dir: PathBuf,
) -> Gateway {
    let config = GatewayConfig { cache_dir, cache_bytes: PAGES_BYTES, disk_bytes: 0, header_bytes: 4 << 20 };
    Gateway::new(tenants.clone(), runtime.clone(), disk.clone(), config)
}

impl Work<'_> {
    fn bucket(&self) -> &Bucket {
        self.tenants.bucket()
    }

    /// The newest delete that is applied in what is made.
    pub(super) fn honoured(&self) -> DeleteId {
        self.deletes.iter().map(|standing| standing.delete.id).max().unwrap_or_default()
    }

    /// How what it makes is split.
    fn split(&self) -> Split {
        Split::new(self.inputs.iter().map(|input| Shard::of(input)), self.outputs.len())
    }

    /// Merges the inputs into blocks in the scratch directory, one for each of its outputs that has series.
    pub(super) fn merge(&self) -> Result<Vec<Block>, WorkError> {
        let damaged = Arc::new(Mutex::new(None));
        let blame = |error: StoreError| {
            let damaged = if error.kind() == ErrorKind::Corrupt { damaged.lock().take() } else { None };
            WorkError { error, damaged }
        };
        let (metas, beside) = self.fetch_beside()?;
        let reader = self.reader();
        let mut sources = Vec::with_capacity(self.inputs.len());
        for ((entry, meta), beside) in self.inputs.iter().zip(metas).zip(&beside) {
            let (deletes, leave_out) = (self.deletes.clone(), self.leave_out.clone());
            let series = reader.whole_block(self.tenant, entry.clone(), None, deletes, leave_out, &self.ctx);
            sources.push(Source {
                replica: self.replica_of(entry),
                meta: self.listed_meta(entry, meta),
                series: Box::new(Blamed { series, block: entry.ulid, damaged: damaged.clone() }),
                deletes_through: beside.deletes.through.max(deletes_through(entry)).max(self.honoured()),
                exemplars: beside.exemplars.as_ref(),
                metadata: beside.metadata.as_ref(),
            });
        }
        let split = self.split();
        let name = |part: usize, meta: &mut BlockMeta| name_shard(meta, split.shard(part));
        let (outputs, part_of) = (self.named(split), |labels: &Labels| split.part_of(labels));
        let made = split_sources(self.disk, &self.scratch, outputs, &part_of, &name, sources, &self.ctx);
        let made = made.map_err(blame)?;
        made.into_iter().flatten().map(|meta| Ok(self.verified(meta.ulid)?)).collect()
    }

    /// The outputs that a split makes.
    fn named(&self, split: Split) -> &[BlockId] {
        &self.outputs[..split.parts().min(self.outputs.len())]
    }

    /// A block that was made, as it reads.
    fn verified(&self, made: BlockId) -> Result<Block, StoreError> {
        let block = Block::open(&**self.disk, &self.scratch.join(made.to_string()))?;
        block.verify(&self.ctx)?;
        Ok(block)
    }

    /// Makes blocks of windows of the inputs in the scratch directory, one for each of its outputs that has
    /// series; one at least.
    pub(super) fn downsample(&self, state: &ManifestState, resolution: i64) -> Result<Vec<Block>, WorkError> {
        let keeps_custom_buckets = self.keeps_custom_buckets;
        let task = DownsampleTask::of(state, resolution, self.inputs.clone());
        let task = DownsampleTask { keeps_custom_buckets, ..task };
        let damaged = Arc::new(Mutex::new(None));
        let reader = self.reader();
        let both = WindowHints { edges: true, values: true, counter: false, max_resolution_ms: i64::MAX };
        let mut metas = Vec::with_capacity(self.inputs.len());
        let mut sets: Vec<Box<dyn SeriesSet>> = Vec::with_capacity(self.inputs.len());
        for entry in &self.inputs {
            let json = self.fetch(entry, META, META_MAX)?;
            let name = entry.ulid.to_string();
            let lost = || {
                StoreError::new(ErrorKind::Corrupt, format!("block is corrupt: no meta.json block={name}"))
            };
            metas.push(self.listed_meta(entry, BlockMeta::parse(&name, &json.ok_or_else(lost)?)?));
            let (deletes, leave_out) = (self.deletes.clone(), self.leave_out.clone());
            let series =
                reader.whole_block(self.tenant, entry.clone(), Some(both), deletes, leave_out, &self.ctx);
            sets.push(Box::new(Blamed { series, block: entry.ulid, damaged: damaged.clone() }));
        }
        let series = pyrrha_storage::merge(&self.ctx, sets, 0);
        let split = self.split();
        let place = Built { disk: self.disk, home: &self.scratch, outputs: self.named(split), split };
        let made = build(&place, &task, &metas, series, &self.ctx).map_err(|error| {
            let damaged = if error.kind() == ErrorKind::Corrupt { damaged.lock().take() } else { None };
            WorkError { error, damaged }
        })?;
        let open = |meta: BlockMeta| {
            let dir = self.scratch.join(meta.ulid.to_string());
            Ok(Block::open(&**self.disk, &dir).map_err(StoreError::from)?)
        };
        made.into_iter().map(open).collect()
    }

    /// Says which deletes and retention rules are applied in what is made of the inputs.
    fn note_applied(&self, entry: &mut BlockEntry) {
        prune::note(entry, &self.inputs, &self.prunes);
        let before = self.inputs.iter().map(|input| deletes_applied(input)).min().unwrap_or(0);
        let newest = self.deletes.iter().map(|standing| standing.number).max().unwrap_or(0);
        note_deletes_applied(entry, before.max(newest));
        // Of windows that are written anew.
        if entry.resolution > 0
            && self.inputs.iter().all(|input| input.resolution == entry.resolution)
            && let Some(origin) = Origin::of(entry)
        {
            Origin { through: origin.through.max(self.settled), ..origin }.put(entry);
        }
    }

    pub(super) fn reader(&self) -> Gateway {
        reader(self.tenants, self.runtime, self.disk, self.scratch.join("headers"))
    }

    /// The input of a purge with a word that final deletes hide nothing of it, and rules that are due match
    /// nothing, if that is so: then it need not be written anew.
    pub(super) fn untouched(&self) -> Result<Option<BlockEntry>, WorkError> {
        let [entry] = self.inputs.as_slice() else { return Ok(None) };
        let reader = self.reader();
        let deletes = self.deletes.clone();
        let hidden = reader.is_hidden(self.tenant, entry.clone(), deletes, self.leave_out.clone(), &self.ctx);
        let hidden = hidden.map_err(|error| {
            let damaged = (error.kind() == ErrorKind::Corrupt).then_some(entry.ulid);
            WorkError { error, damaged }
        })?;
        let known = deletes_through(entry).max(self.honoured());
        // What it lists of deletes that were taken back may stay.
        Ok((!hidden && !lists_deletes(entry)).then(|| {
            let mut entry = match entry.resolution {
                0 => with_deletes_through(entry, known),
                _ => BlockEntry::clone(entry),
            };
            self.note_applied(&mut entry);
            entry
        }))
    }

    /// Uploads a block that was made, verifies it, and gives its entry.
    pub(super) fn upload(&self, block: Block) -> Result<BlockEntry, StoreError> {
        (self.before_upload)()?;
        let root = output_root(self.inputs.iter().map(|input| &**input));
        let dir = block_files::dir_under(self.tenant, root, block.meta().ulid);
        let upload = Upload::new(self.bucket().clone(), self.disk.clone(), dir, block.clone());
        let sent = self.runtime.wait_while(&self.ctx.cancel, async move { upload.run().await })?;
        let mut entry = with_root(block_files::entry_of(&block, sent), root);
        self.note_applied(&mut entry);
        entry.imported = self.inputs.iter().any(|input| input.imported);
        if self.inputs.iter().all(|input| input.resolution == entry.resolution) {
            carry_over(&self.inputs, &mut entry);
            let (files, made) = (MarkFiles::new(self.bucket().clone(), self.tenant), [entry.clone()]);
            self.runtime.wait_while(&self.ctx.cancel, async move { files.write(&made).await })?;
        }
        Ok(entry)
    }

    /// The values of the labels that tell replicas apart.
    fn replica_of(&self, entry: &BlockEntry) -> String {
        let labels = external_labels(entry);
        let values = self.replica_labels.iter().map(|name| labels.get(name).cloned().unwrap_or_default());
        values.collect::<Vec<_>>().join("\u{1}")
    }

    /// The meta with the external labels that the manifest says, without those that tell replicas apart, and
    /// without what is said of files.
    pub(super) fn listed_meta(&self, entry: &BlockEntry, mut meta: BlockMeta) -> BlockMeta {
        let mut labels = external_labels(entry);
        labels.retain(|name, _| !self.replica_labels.contains(name));
        if meta.thanos.is_none() && !labels.is_empty() {
            meta.thanos = Some(ThanosMeta { version: 1, ..ThanosMeta::default() });
        }
        if let Some(thanos) = &mut meta.thanos {
            thanos.labels = Some(labels);
            thanos.files.clear();
            thanos.segment_files.clear();
            thanos.index_stats = None;
            thanos.upload_time = None;
            "compactor".clone_into(&mut thanos.source);
        }
        meta
    }

    /// Metas and sidecars of all inputs.
    pub(super) fn fetch_beside(&self) -> Result<(Vec<BlockMeta>, Vec<Beside>), WorkError> {
        let (mut metas, mut all) = (Vec::new(), Vec::new());
        for entry in &self.inputs {
            self.ctx.cancel.check()?;
            let damaged = |what: &str| WorkError {
                error: StoreError::new(
                    ErrorKind::Corrupt,
                    format!("block is corrupt: {what} block={}", entry.ulid),
                ),
                damaged: Some(entry.ulid),
            };
            let json = self.fetch(entry, META, META_MAX)?.ok_or_else(|| damaged("no meta.json"))?;
            let name = entry.ulid.to_string();
            let meta = BlockMeta::parse(&name, &json).map_err(|e| damaged(&e.to_string()))?;
            let place = SidecarPlace {
                bucket: self.bucket(),
                runtime: self.runtime,
                disk: self.disk,
                tenant: self.tenant,
                dir: &self.scratch.join("inputs").join(&name),
                cancel: &self.ctx.cancel,
            };
            let mut beside = Beside::default();
            for file in files(entry) {
                match file.name.as_str() {
                    "deletes" => {
                        let bytes = self.fetch(entry, "deletes", DELETES_MAX)?;
                        let bytes = bytes.ok_or_else(|| damaged("deletes are gone"))?;
                        beside.deletes =
                            BlockDeletes::parse(&name, bytes).map_err(|e| damaged(&e.to_string()))?;
                    }
                    "exemplars" => beside.exemplars = place.sidecar(entry, &file, ExemplarFile::parse)?,
                    "metadata" => beside.metadata = place.sidecar(entry, &file, MetadataFile::parse)?,
                    _ => {}
                }
            }
            metas.push(meta);
            all.push(beside);
        }
        Ok((metas, all))
    }

    fn fetch(&self, entry: &BlockEntry, name: &str, limit: u64) -> Result<Option<Bytes>, StoreError> {
        let key = format!("{}/{name}", block_files::dir(self.tenant, entry));
        let bucket = self.bucket().clone();
        Ok(self.runtime.wait_while(&self.ctx.cancel, async move { bucket.get(&key, limit).await })?)
    }
}

/// Where sidecars of a block are brought.
pub(super) struct SidecarPlace<'a> {
    pub(super) bucket: &'a Bucket,
    pub(super) runtime: &'a BucketRuntime,
    pub(super) disk: &'a Arc<dyn Disk>,
    pub(super) tenant: &'a TenantId,
    /// A directory of their own.
    pub(super) dir: &'a Path,
    pub(super) cancel: &'a CancelToken,
}

impl SidecarPlace<'_> {
    /// A sidecar of a block, mapped from the directory; `None` if it does not read.
    pub(super) fn sidecar<T, E: std::fmt::Display>(
        &self,
        entry: &BlockEntry,
        file: &BlockFile,
        parse: impl FnOnce(&str, Bytes) -> Result<T, E>,
    ) -> Result<Option<T>, StoreError> {
        let path = self.dir.join(&file.name);
        let key = format!("{}/{}", block_files::dir(self.tenant, entry), file.name);
        let (bucket, disk, to, bytes) = (self.bucket.clone(), self.disk.clone(), path.clone(), file.bytes);
        let fetched = self
            .runtime
            .wait_while(self.cancel, async move { to_file(&bucket, &key, bytes, &*disk, &to).await });
        match fetched {
            // Shorter than it should be.
            Err(error @ BucketError::Corrupt { .. }) => Ok(readable(Err(error))),
            Err(error) => Err(error.into()),
            Ok(_) => {
                let bytes = self.disk.map(&path).map_err(local(&path))?;
                Ok(readable(parse(&entry.ulid.to_string(), bytes)))
            }
        }
    }
}

/// A sidecar that does not read costs what it holds and nothing else.
fn readable<T, E: std::fmt::Display>(result: Result<T, E>) -> Option<T> {
    result.inspect_err(|error| tracing::error!(%error, "sidecar is damaged and is not merged")).ok()
}

/// Remembers which input an error is from.
pub(super) struct Blamed {
    pub(super) series: Box<dyn SeriesSet>,
    pub(super) block: BlockId,
    pub(super) damaged: Arc<Mutex<Option<BlockId>>>,
}

impl SeriesSet for Blamed {
    fn next_batch(&mut self, max: usize, batch: &mut SeriesBatch) -> Result<bool, StoreError> {
        self.series.next_batch(max, batch).inspect_err(|error| {
            if error.kind() == ErrorKind::Corrupt {
                *self.damaged.lock() = Some(self.block);
            }
        })
    }
}
