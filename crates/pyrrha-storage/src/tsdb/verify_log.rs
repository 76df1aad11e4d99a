//! Reads log, checkpoints and head chunks of a Pyrrha data directory, as a start would, and says what
//! is wrong with them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pyrrha_env::{Clock, Disk};
use pyrrha_model::TenantId;

use super::TsdbError;
use crate::StorageConfig;
use crate::db::unread_segments;
use crate::error::StorageError;
use crate::head::{CHECKPOINT_TENANT, Head, HeadRestorer};
use crate::manifest::{DiskManifestStore, Manifest};
use crate::wal::checkpoint::{Checkpoint, Checkpoints};
use crate::wal::inspect;

/// Faults that are kept; the rest is counted.
const KEPT: usize = 1000;

/// Something that is damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFault {
    /// The file.
    pub path: PathBuf,
    /// Where in it, if that is known.
    pub offset: Option<u64>,
    /// What is wrong.
    pub what: String,
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct LogReport {
    /// Segments with records.
    pub segments: u64,
    /// Readable records in them.
    pub records: u64,
    /// Samples in those.
    pub samples: u64,
    /// Checkpoints that are whole.
    pub checkpoints: u64,
    /// Sealed chunks of the newest of them.
    pub chunks: u64,
    /// What is damaged, at most a thousand places.
    pub faults: Vec<LogFault>,
    /// Faults beyond those listed.
    pub more_faults: u64,
    /// What is odd and does no harm.
    pub notes: Vec<String>,
}

impl LogReport {
    /// Whether nothing is damaged.
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }

    fn add(&mut self, path: PathBuf, offset: Option<u64>, what: String) {
        if self.faults.len() < KEPT {
            self.faults.push(LogFault { path, offset, what });
        } else {
            self.more_faults += 1;
        }
    }
}

/// Reads the log, the checkpoints, and the chunks that the newest checkpoint names. Writes nothing. No
/// server may have the directory open: it would change under the reader.
pub fn verify_log(
    disk: &Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    data_dir: &Path,
) -> Result<LogReport, TsdbError> {
    verify_log_of(disk, clock, &StorageConfig::new(data_dir))
}

/// Like [`verify_log`], of a directory whose database has this configuration: with the range of its blocks a
/// head is restored from a checkpoint.
pub fn verify_log_of(
    disk: &Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    config: &StorageConfig,
) -> Result<LogReport, TsdbError> {
    let data_dir = &*config.dir;
    let mut report = LogReport::default();
    let wal = data_dir.join("wal");
    if disk.exists(&wal) {
        let contents = inspect(disk.clone(), &wal).map_err(StorageError::from)?;
        (report.segments, report.records, report.samples) =
            (contents.segments, contents.records, contents.samples);
        for damage in &contents.damage.places {
            let lost = damage.samples.map_or_else(|| "some".to_owned(), |samples| samples.to_string());
            let what = format!("{} bytes={} samples_lost={lost}", damage.reason.as_str(), damage.bytes);
            report.add(contents.path(damage.segment), Some(damage.offset), what);
        }
        report.more_faults += contents.damage.count - contents.damage.places.len() as u64;
        if contents.damage.torn_bytes > 0 {
            report.notes.push(format!(
                "the end of the log is torn, nothing of it was acknowledged bytes={}",
                contents.damage.torn_bytes
            ));
        }
    }
    match unread_segments(&**disk, &wal).map_err(StorageError::io("read list of unread segments", &wal))? {
        Some((path, Err(what))) => report.add(path, None, what),
        Some((_, Ok(segments))) if !segments.is_empty() => report.notes.push(format!(
            "segments that an earlier start could not read, it may have cut ranges without them: {}",
            segments.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
        )),
        _ => {}
    }
    let mut newest = None;
    let checkpoints =
        Checkpoints::inspect(disk.clone(), &data_dir.join("checkpoint")).map_err(StorageError::from)?;
    for (path, checkpoint) in checkpoints {
        match checkpoint {
            Ok(checkpoint) => {
                report.checkpoints += 1;
                newest = Some((path, checkpoint));
            }
            Err(what) => report.add(path, None, what),
        }
    }
    if let Some((path, checkpoint)) = newest {
        restore(disk, clock, config, &path, &checkpoint, &mut report)?;
    }
    Ok(report)
}

/// Restores heads from a checkpoint and reads their chunks.
fn restore(
    disk: &Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    config: &StorageConfig,
    path: &Path,
    checkpoint: &Checkpoint,
    report: &mut LogReport,
) -> Result<(), TsdbError> {
    let (data_dir, config) = (&*config.dir, Arc::new(config.clone()));
    let mut sections = checkpoint.sections.iter().peekable();
    while let Some((kind, payload)) = sections.next() {
        let tenant = std::str::from_utf8(payload).ok().and_then(|id| TenantId::new(id).ok());
        let (CHECKPOINT_TENANT, Some(tenant)) = (*kind, tenant) else {
            report.add(path.to_owned(), None, "tenant does not decode".to_owned());
            return Ok(());
        };
        let head = Head::new(tenant.clone(), config.clone(), clock.clone(), Arc::default());
        let manifest = data_dir.join("bucket").join(tenant.as_str()).join("manifest");
        if disk.exists(&manifest) {
            // What has become a block since is not looked for.
            let state = Manifest::read(&DiskManifestStore::read_only(disk.clone(), &manifest))?;
            state.blocks.values().filter(|b| !b.imported).for_each(|b| head.refuse_range(b.range()));
        }
        let dir = data_dir.join("head").join(tenant.as_str());
        let mut restorer = HeadRestorer::new(&head, &**disk, &dir);
        while let Some((kind, payload)) = sections.next_if(|(kind, _)| *kind != CHECKPOINT_TENANT) {
            if let Err(error) = restorer.section(*kind, payload) {
                let what = format!("does not decode, a start reads the whole log tenant={tenant}: {error}");
                report.add(path.to_owned(), None, what);
                return Ok(());
            }
        }
        let (chunks, damaged) = head.check_chunks();
        report.chunks += chunks;
        for (file, offset) in damaged {
            report.add(dir.join(file), Some(u64::from(offset)), "checksum mismatch of a chunk".to_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
