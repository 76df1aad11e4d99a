//! Checkpoints: what lets a restart begin near the end of the log (decision 3).

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use pyrrha_encoding::DecodeError;
use pyrrha_model::TenantId;

use super::tenant::Tenant;
use super::{Db, Shared};
use crate::error::StorageError;
use crate::head::{CHECKPOINT_TENANT, HeadRestorer, parse_file_name};
use crate::wal::checkpoint::Checkpoint;

/// A series in a checkpoint takes about as many bytes as so many samples in the log.
const SAMPLES_PER_SERIES: u64 = 40;

impl Db {
    /// Writes a checkpoint if one is due. A failure is logged, counted, and tried again later.
    pub(super) fn checkpoint_if_due(&self) {
        let config = &self.shared.config;
        let now = self.shared.clock.monotonic();
        let appended = self.shared.metrics.samples.get() + self.shared.metrics.histograms.get();
        let mut last = self.last_checkpoint.lock();
        let new = appended.saturating_sub(last.appended);
        let late = now.saturating_sub(last.at) >= config.checkpoint_every;
        // A checkpoint costs by the series: where there are many it may come later.
        let series: usize = self.shared.tenants.all().iter().map(|t| t.head.series_count()).sum();
        let enough = config.checkpoint_after_samples.max(series as u64 * SAMPLES_PER_SERIES);
        // Replay does not know which late samples have become a block: it starts behind them.
        let cut = self.shared.metrics.late_ranges_cut.get();
        if cut == last.late_ranges_cut && (new == 0 || !late && new < enough) {
            return;
        }
        // Failed or not: the next try is as far away as the next checkpoint.
        *last = LastCheckpoint { at: now, appended, late_ranges_cut: cut };
        if let Err(error) = self.checkpoint() {
            self.shared.metrics.checkpoints_failed.add(1);
            tracing::warn!(%error, "checkpoint failed, a restart would read more of the log");
        }
    }

    /// Writes a checkpoint.
    pub(super) fn checkpoint(&self) -> Result<(), StorageError> {
        // Everything before this is applied; what is applied while the heads are read is both in
        // the checkpoint and replayed, which leaves it out the second time. A restart reads from
        // the start of a segment and so no definitions that it has no use for.
        let position = self.wal.cut_segment();
        let disk = &*self.shared.disk;
        let tenants = self.shared.tenants.all();
        let mut synced = Vec::with_capacity(tenants.len());
        for tenant in &tenants {
            let dir = self.shared.head_dir(&tenant.head.tenant);
            let files =
                tenant.head.sync_chunks(disk, &dir).map_err(StorageError::io("sync head chunks", &dir))?;
            synced.push(files);
        }
        let mut out = self.checkpoints.begin(position, self.shared.clock.now_ms())?;
        for (tenant, files) in tenants.iter().zip(&synced) {
            tenant.head.write_checkpoint(&mut out, files)?;
        }
        out.finish()?;
        if let Some(oldest) = self.checkpoints.log_needed_from()? {
            for tenant in &tenants {
                tenant.head.forget_ended_deletes(oldest);
                tenant.head.forget_newer_metadata(oldest);
            }
        }
        self.shared.metrics.checkpoints.add(1);
        Ok(())
    }
}

/// When the last checkpoint was written.
#[derive(Debug, Default)]
pub(crate) struct LastCheckpoint {
    at: std::time::Duration,
    /// Samples appended by then.
    appended: u64,
    /// Late ranges cut by then.
    late_ranges_cut: u64,
}

impl LastCheckpoint {
    /// A start is as good as a checkpoint.
    pub(crate) fn now(at: std::time::Duration) -> Self {
        Self { at, ..Self::default() }
    }
}

impl Shared {
    pub(crate) fn checkpoint_dir(&self) -> PathBuf {
        self.config.dir.join("checkpoint")
    }

    /// A process that was killed may not have come to make the checkpoint's name durable. What
    /// begins at it must not begin elsewhere after a power loss.
    pub(super) fn keep_checkpoints(&self) -> Result<(), StorageError> {
        let dir = self.checkpoint_dir();
        self.disk.sync_dir(&dir).map_err(StorageError::io("sync directory", &dir))
    }

    /// Brings the head whose sections begin at `section` to what the checkpoint has of it; false
    /// behind the last one.
    pub(super) fn restore_next(
        &self,
        checkpoint: &Checkpoint,
        section: &mut usize,
    ) -> Result<bool, StorageError> {
        let damaged = |error: DecodeError| {
            StorageError::Store(pyrrha_model::StoreError::new(
                pyrrha_model::ErrorKind::Corrupt,
                format!("checkpoint does not decode number={}: {error}", checkpoint.number),
            ))
        };
        let Some((kind, payload)) = checkpoint.sections.get(*section) else { return Ok(false) };
        let tenant = std::str::from_utf8(payload).ok().and_then(|id| TenantId::new(id).ok());
        let (CHECKPOINT_TENANT, Some(id)) = (*kind, tenant) else {
            return Err(damaged(DecodeError::Malformed { part: "checkpoint tenant" }));
        };
        let tenant: Arc<Tenant> = self.tenant(&id)?;
        let dir = self.head_dir(&id);
        let mut restorer = HeadRestorer::new(&tenant.head, &*self.disk, &dir);
        *section += 1;
        while let Some((kind, payload)) = checkpoint.sections.get(*section) {
            if *kind == CHECKPOINT_TENANT {
                break;
            }
            restorer.section(*kind, payload).map_err(damaged)?;
            *section += 1;
        }
        Ok(true)
    }

    /// Removes the head chunk files of earlier runs that no head uses: the log has what they hold.
    pub(crate) fn remove_unused_head_chunks(&self) -> Result<(), StorageError> {
        for tenant in self.tenants.all() {
            let dir = self.head_dir(&tenant.head.tenant);
            let used: BTreeSet<String> = tenant.head.chunk_file_names().into_iter().collect();
            let entries = self.disk.list(&dir).map_err(StorageError::io("list directory", &dir))?;
            for entry in entries.iter().filter(|e| !e.is_dir && !used.contains(&e.name)) {
                if parse_file_name(&entry.name).is_none() {
                    continue;
                }
                let path = dir.join(&entry.name);
                self.disk.remove_file(&path).map_err(StorageError::io("remove head chunk file", &path))?;
            }
        }
        Ok(())
    }
}
