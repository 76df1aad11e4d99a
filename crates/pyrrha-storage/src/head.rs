//! The head of one tenant: what is in the log and not yet in a block, readable and appendable.
//!
//! ```text
//! appender ──admission lock──► log ──fdatasync──► apply ──write lock──► hot lines, slabs ─► sealed chunks ─► files
//!     └─► directory: labels, postings                                      └── select: a snapshot of 12 bytes a series
//! ```
//!
//! Locks, in the order in which they are taken: admission, directory, order, data, extras. Nothing
//! waits for the log or the disk while it holds one of the last four.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};
use pyrrha_env::{Clock, Disk};
use pyrrha_model::contract::Refused;
use pyrrha_model::{Labels, StoreError, TenantId};

use crate::config::StorageConfig;
use crate::db::HeadStats;
use crate::metrics::Metrics;
use crate::wal::{LogBatch, LogPosition};
use admission::{Admission, Newest};
use data::{Appended, ChunkRules, HeadData};
use directory::Directory;
use extras::Extras;
use order::LabelOrder;
use paged::Paged;
use recover::RecoveryState;

mod admission;
mod appender;
mod cardinality;
mod check;
mod checkpoint;
mod checkpoint_late;
mod chunk_store;
mod cut;
mod data;
mod deletes;
mod directory;
mod exemplars;
mod extras;
mod keys;
mod label_query;
mod late;
mod order;
mod paged;
mod recover;
mod sealed;
mod select;
mod side;
mod slab;
mod validate;

pub(crate) use admission::{add_range, is_cut};
pub(crate) use appender::{CommitLog, HeadAppender, Pending};
pub use cardinality::Cardinality;
pub(crate) use checkpoint::{HeadRestorer, TENANT as CHECKPOINT_TENANT};
pub(crate) use chunk_store::parse_file_name;
pub(crate) use cut::{Cut, CutSeries};
pub(crate) use extras::BlockExtras;
pub(crate) use select::HeadView;

/// The head of one tenant.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) tenant: TenantId,
    pub(crate) config: Arc<StorageConfig>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
    admission: Arc<Mutex<Admission>>,
    directory: RwLock<Directory>,
    order: Mutex<Arc<LabelOrder>>,
    data: RwLock<HeadData>,
    extras: RwLock<Extras>,
    /// Batches between submission and apply or abandon.
    in_flight: AtomicUsize,
    /// Batches submitted, and how many of them are applied or abandoned, which is in the same order.
    submitted: AtomicU64,
    settled: AtomicU64,
    /// Length of the tenant's out-of-order window, ms.
    window_ms: i64,
    /// A batch was abandoned: admitted samples are reset once nothing is in flight.
    draining: AtomicBool,
    recovery: RecoveryState,
}

impl Head {
    /// An empty head.
    pub(crate) fn new(
        tenant: TenantId,
        config: Arc<StorageConfig>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let rules = ChunkRules {
            range_ms: config.block_range_ms.max(1),
            samples: config.samples_per_chunk.max(2),
            start_timestamps: config.start_timestamps,
        };
        Self {
            window_ms: config.out_of_order_window_of(&tenant),
            submitted: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            tenant,
            config,
            clock,
            metrics,
            admission: Arc::default(),
            directory: RwLock::default(),
            order: Mutex::default(),
            data: RwLock::new(HeadData::new(rules)),
            extras: RwLock::default(),
            in_flight: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            recovery: RecoveryState::default(),
        }
    }

    /// The series of `labels`, and whether it is new.
    fn find_or_create(&self, admission: &mut Admission, labels: &Labels) -> Result<(u32, bool), Refused> {
        let (hash, found) = {
            let directory = self.directory.read();
            let hash = directory.hash(labels);
            (hash, directory.find(hash, labels))
        };
        if let Some(series) = found {
            return Ok((self.admitted(admission, series), false));
        }
        let mut directory = self.directory.write();
        // Recovery may have created it since.
        if let Some(series) = directory.find(hash, labels) {
            return Ok((self.admitted(admission, series), false));
        }
        let limit = self.config.max_series_per_tenant;
        // Which series are new is known after recovery only.
        if limit > 0 && directory.len() >= limit && self.is_recovered() {
            return Err(Refused::Limit(format!("per-tenant series limit reached: limit={limit}")));
        }
        let series = directory.create(hash, labels);
        let len = series as usize + 1;
        // Who finds the series finds its place too.
        self.data.write().hot.grow(len);
        drop(directory);
        admission.newest.grow(len);
        self.metrics.series_created.add(1);
        Ok((series, true))
    }

    /// Makes room in the admission for a series that recovery may have created.
    fn admitted(&self, admission: &mut Admission, series: u32) -> u32 {
        if admission.newest.len() <= series as usize {
            admission.newest.grow(series as usize + 1);
        }
        series
    }

    /// Visits the labels of a series.
    pub(crate) fn visit_labels(&self, series: u32, visit: &mut dyn FnMut(&str, &str)) {
        self.directory.read().pairs(series).for_each(|(name, value)| visit(name, value));
    }

    /// Makes a durable batch visible, at the end of recovery if that goes on.
    pub(crate) fn apply(&self, batch: &LogBatch, position: LogPosition) {
        if self.take_unjudged(batch, position) {
            self.metrics.samples.add(batch.refs.len() as u64);
            self.metrics.histograms.add(batch.histograms.len() as u64);
            self.metrics.exemplars.add(batch.exemplars.len() as u64);
            return;
        }
        let appended = self.append(batch, position);
        self.metrics.samples.add(appended.floats);
        self.metrics.histograms.add(appended.histograms);
        self.metrics.late.add(appended.late);
        self.metrics.conflicts.add(appended.conflicts);
        self.metrics.starts_dropped.add(appended.starts_dropped);
        self.metrics.exemplars.add(batch.exemplars.len() as u64);
    }

    fn append(&self, batch: &LogBatch, position: LogPosition) -> Appended {
        self.append_extras(batch, position);
        let mut data = self.data.write();
        data.now = self.clock.monotonic();
        // A delete hides what was there before its batch.
        batch.deletes.iter().for_each(|delete| data.deletes.apply(delete, position));
        if !data.deletes.hides_nothing() {
            data.deletes.show(batch, position);
        }
        let before = data.chunks_sealed;
        let appended = data.append_batch(batch, position);
        self.metrics.chunks_sealed.add(data.chunks_sealed - before);
        appended
    }

    /// Queues a batch for the log; gives its number. Called under the admission lock: numbers and
    /// the log have one order.
    fn enqueue(&self, batch: LogBatch, log: &dyn CommitLog) -> Result<(u64, Pending), StoreError> {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        let number = self.submitted.fetch_add(1, Ordering::AcqRel);
        log.submit(batch).map(|pending| (number, pending)).inspect_err(|_| {
            self.submitted.fetch_sub(1, Ordering::AcqRel);
            self.in_flight.fetch_sub(1, Ordering::AcqRel);
        })
    }

    /// Ends a batch that was submitted, applied or not.
    pub(crate) fn settled(&self, applied: bool) {
        self.settled.fetch_add(1, Ordering::AcqRel);
        if !applied {
            self.recovery.withdrawn();
            self.metrics.batches_abandoned.add(1);
            self.draining.store(true, Ordering::Release);
        }
        let last = self.in_flight.fetch_sub(1, Ordering::AcqRel) == 1;
        if last && self.draining.load(Ordering::Acquire) {
            let mut admission = self.admission.lock();
            // A batch may have been submitted since; then the last of those does this.
            if self.in_flight.load(Ordering::Acquire) == 0 {
                self.reset_admission(&mut admission);
                self.draining.store(false, Ordering::Release);
            }
        }
    }

    /// Makes what is admitted equal to what is applied. Before the head is recovered that is not
    /// known: every sample counts as the first of its series then.
    fn reset_admission(&self, admission: &mut Admission) {
        admission.forget_batches();
        if !self.is_recovered() {
            let len = admission.newest.len();
            (admission.newest, admission.newest_time) = (Paged::default(), None);
            admission.newest.grow(len);
            admission.histograms.clear();
            admission.exemplars.reset(&exemplars::ExemplarRing::default());
            admission.metadata.clear();
            return;
        }
        {
            let extras = self.extras.read();
            admission.exemplars.reset(&extras.exemplars);
            admission.metadata.clone_from(&extras.metadata);
        }
        let data = self.data.read();
        admission.histograms = data.histogram_series();
        let len = data.hot.len();
        admission.newest.grow(len);
        admission.newest_time = data.newest_time;
        for series in 0..len {
            let newest = data.hot[series].newest;
            // Writing would bring back a page that was freed.
            if admission.newest[series] != newest {
                admission.newest[series] = newest;
            }
            if newest.t != i64::MIN {
                admission.newest_time = admission.newest_time.max(Some(newest.t));
            }
        }
        admit_newest_late(admission, &data);
    }

    /// Moves sealed chunks from memory to files in `dir`; `all` includes pages that are not full.
    pub(crate) fn write_chunks(&self, disk: &dyn Disk, dir: &Path, all: bool) -> io::Result<()> {
        // Looking first keeps the committer from waiting when there is nothing to do.
        let unwritten = self.data.write().store.unwritten(all);
        for unwritten in unwritten {
            let written = unwritten.write(disk, dir)?;
            self.data.write().store.written(written);
        }
        Ok(())
    }

    /// Names of the head chunk files in use.
    pub(crate) fn chunk_file_names(&self) -> Vec<String> {
        self.data.read().store.segments().map(|s| chunk_store::file_name(s.0, s.1)).collect()
    }

    /// Lets no new head chunk file have this number or a lower one.
    pub(crate) fn reserve_chunk_files(&self, number: u32) {
        self.data.write().store.reserve_numbers(number.saturating_add(1));
    }

    /// Adds the sizes of this head.
    pub(crate) fn add_stats(&self, stats: &mut HeadStats) {
        let (memory, files) = self.bytes();
        let data = self.data.read();
        stats.chunks += data.sealed.len() as u64;
        stats.late_chunks += (data.late.chunks() + data.late.open_chunks()) as u64;
        for info in data.ranges.values().chain(data.late.iter().map(|range| &range.info)) {
            let (min, max) = stats.times.unwrap_or((info.min_time, info.max_time));
            stats.times = Some((min.min(info.min_time), max.max(info.max_time)));
        }
        drop(data);
        {
            let directory = self.directory.read();
            stats.series += directory.len() as u64;
            stats.index_bytes += directory.bytes() as u64;
        }
        stats.memory_bytes += memory as u64;
        stats.file_bytes += files as u64;
    }

    /// Number of series.
    pub(crate) fn series_count(&self) -> usize {
        self.directory.read().len()
    }

    /// Bytes on the heap, about, and bytes in mapped files.
    pub(crate) fn bytes(&self) -> (usize, usize) {
        let admission = self.admission.lock();
        let admitted = admission.keys.bytes() + admission.newest.bytes();
        drop(admission);
        let (memory, files) = self.data.read().bytes();
        (admitted + memory + self.directory.read().bytes(), files)
    }
}

/// A late sample may be newer than what its series has in order, where a cut of its range has
/// failed: it counts as the newest then.
fn admit_newest_late(admission: &mut Admission, data: &HeadData) {
    let Admission { cut, newest, .. } = admission;
    data.newest_late(
        |start| !is_cut(cut, start),
        |series, late| {
            if late.t > newest[series as usize].t {
                newest[series as usize] = late;
            }
        },
    );
}

#[cfg(test)]
mod tests;
