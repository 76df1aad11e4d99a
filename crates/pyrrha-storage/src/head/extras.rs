//! What a head has besides samples, on its way into blocks: exemplars and metadata (decision 11).
//!
//! Both are logged before they are acknowledged. A cut writes them into the block's sidecar files;
//! what no block has yet is logged once more before the log loses its beginning.

use std::collections::{BTreeMap, BTreeSet};

use pyrrha_model::contract::Exemplars;
use pyrrha_model::{Labels, Metadata, StoreError, Timestamp};

use super::exemplars::{ExemplarRing, MetadataMap};
use super::{CommitLog, Head};
use crate::block::tidy_exemplars;
use crate::wal::{LogBatch, LogPosition};

/// What a head has besides samples.
#[derive(Debug, Default)]
pub(super) struct Extras {
    pub(super) exemplars: ExemplarRing,
    pub(super) metadata: MetadataMap,
    /// Families whose metadata is in no block.
    unsaved: BTreeSet<String>,
    /// Where the log has metadata that came after the oldest checkpoint: that one says something else,
    /// and a start that begins with it has to find this in the log although a block has it.
    newer: BTreeMap<String, LogPosition>,
    /// The log has nothing before this place of what is in no block.
    pub(super) logged_from: Option<LogPosition>,
}

impl Extras {
    /// Sets the metadata of a family, which no block has.
    pub(super) fn set_metadata(&mut self, metric: &str, metadata: Metadata) {
        self.unsaved.insert(metric.to_owned());
        self.metadata.insert(metric.to_owned(), metadata);
    }

    fn nothing_to_save(&self) -> bool {
        self.exemplars.len() == 0 && self.unsaved.is_empty()
    }
}

/// Exemplars and metadata for a block.
#[derive(Debug)]
pub(crate) struct BlockExtras {
    /// By labels, each series' by time.
    pub(crate) exemplars: Vec<Exemplars>,
    /// By family.
    pub(crate) metadata: BTreeMap<String, Metadata>,
    /// Exemplars that came at or after this are not among them.
    next: u64,
    /// Nor are later ones.
    end: Timestamp,
}

impl Head {
    pub(super) fn append_extras(&self, batch: &LogBatch, position: LogPosition) {
        if batch.exemplars.is_empty() && batch.metadata.is_empty() {
            return;
        }
        let mut extras = self.extras.write();
        for (series, exemplar) in &batch.exemplars {
            let most = self.config.max_exemplars_per_tenant;
            self.metrics.exemplars_dropped.add(extras.exemplars.push(*series, exemplar.clone(), most));
        }
        for (metric, metadata) in &batch.metadata {
            extras.set_metadata(metric, metadata.clone());
            extras.newer.insert(metric.clone(), position);
        }
        extras.logged_from = Some(extras.logged_from.map_or(position, |from| from.min(position)));
    }

    /// Exemplars up to `end` and all metadata, for a block that ends there. Late exemplars, of ranges
    /// that were cut before, are among them.
    pub(crate) fn extras_until(&self, end: Timestamp) -> BlockExtras {
        let directory = self.directory.read();
        let extras = self.extras.read();
        let mut by_series: BTreeMap<u32, Vec<_>> = BTreeMap::new();
        for item in extras.exemplars.iter().filter(|item| item.exemplar.timestamp <= end) {
            by_series.entry(item.series).or_default().push(item.exemplar.clone());
        }
        let mut exemplars: BTreeMap<Labels, Vec<_>> = BTreeMap::new();
        for (series, found) in by_series {
            let labels = directory.labels(series);
            if !labels.is_empty() {
                exemplars.entry(labels).or_default().extend(found);
            }
        }
        let exemplars = exemplars.into_iter().map(|(series, mut exemplars)| {
            tidy_exemplars(&mut exemplars);
            Exemplars { series, exemplars }
        });
        BlockExtras {
            exemplars: exemplars.collect(),
            metadata: extras.metadata.clone(),
            next: extras.exemplars.next(),
            end,
        }
    }

    /// The exemplars after `from` up to `end`, and all metadata, for a block of a snapshot.
    pub(crate) fn extras_within(&self, from: Timestamp, end: Timestamp) -> BlockExtras {
        let mut extras = self.extras_until(end);
        for found in &mut extras.exemplars {
            found.exemplars.retain(|exemplar| exemplar.timestamp > from);
        }
        extras.exemplars.retain(|found| !found.exemplars.is_empty());
        extras
    }

    /// A live block has these: the log need not have them any longer, nor the ring its exemplars.
    /// Metadata is that of the `newest` block, by its time: what another one says is not read.
    pub(crate) fn extras_saved(&self, saved: &BlockExtras, newest: bool) {
        let mut extras = self.extras.write();
        extras.exemplars.retain(|item| item.number >= saved.next || item.exemplar.timestamp > saved.end);
        let Extras { metadata, unsaved, .. } = &mut *extras;
        unsaved.retain(|metric| !newest || metadata.get(metric) != saved.metadata.get(metric));
        if extras.nothing_to_save() {
            extras.logged_from = None;
        }
    }

    /// Logs once more what no block has, if some of it lies before `keep_from`.
    pub(crate) fn log_extras_again(
        &self,
        keep_from: LogPosition,
        log: &dyn CommitLog,
    ) -> Result<(), StoreError> {
        let mut batch = LogBatch::new(self.tenant.clone());
        let unsaved_too = {
            let mut extras = self.extras.write();
            let newer = extras.newer.iter().filter(|(_, at)| **at < keep_from);
            let newer: BTreeSet<String> = newer.map(|(metric, _)| metric.clone()).collect();
            let unsaved_too = extras.logged_from.is_some_and(|from| from < keep_from);
            if !unsaved_too && newer.is_empty() {
                return Ok(());
            }
            let mut metrics = newer;
            if unsaved_too {
                batch.exemplars = extras.exemplars.take();
                metrics.append(&mut extras.unsaved);
                extras.logged_from = None;
            }
            let of = |metric: String| extras.metadata.get(&metric).map(|m| (metric.clone(), m.clone()));
            batch.metadata = metrics.into_iter().filter_map(of).collect();
            unsaved_too
        };
        let (exemplars, metadata) = (batch.exemplars.clone(), batch.metadata.clone());
        self.submit(batch, log).inspect_err(|_| {
            if unsaved_too {
                let mut extras = self.extras.write();
                extras.exemplars.put_back(exemplars);
                extras.unsaved.extend(metadata.into_iter().map(|(metric, _)| metric));
                extras.logged_from = Some(LogPosition::default());
            }
        })
    }

    /// Forgets what came before `position`: no checkpoint is from before that.
    pub(crate) fn forget_newer_metadata(&self, position: LogPosition) {
        self.extras.write().newer.retain(|_, at| *at >= position);
    }

    pub(super) fn submit(&self, batch: LogBatch, log: &dyn CommitLog) -> Result<(), StoreError> {
        let (_, pending) = {
            let _order = self.admission.lock();
            self.enqueue(batch, log)?
        };
        pending()
    }

    /// Waits until every batch submitted so far is applied or abandoned.
    pub(crate) fn settle(&self, log: &dyn CommitLog) -> Result<(), StoreError> {
        self.submit(LogBatch::new(self.tenant.clone()), log)
    }
}
