//! A look at a log from outside of a database: all of it is read, and nothing is written.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pyrrha_env::Disk;
use pyrrha_model::TenantId;

use super::checkpoint::UsedSegments;
use super::replay::OldLog;
use super::{DamageReport, LogBatch, LogPosition, ReplaySink, WalError, recover, segment};

/// What is in a log.
#[derive(Debug, Clone, Default)]
pub struct LogContents {
    /// Segments with records.
    pub segments: u64,
    /// Definitions of series; each segment has its own.
    pub definitions: u64,
    /// Readable records.
    pub records: u64,
    /// Samples in them.
    pub samples: u64,
    /// What is not readable, and the torn end, which is no damage.
    pub damage: DamageReport,
    dir: PathBuf,
}

impl LogContents {
    /// The file of a segment.
    pub fn path(&self, number: u64) -> PathBuf {
        segment::path(&self.dir, number)
    }
}

impl ReplaySink for LogContents {
    type Error = std::convert::Infallible;

    fn tenant(&mut self, _: &TenantId) -> Result<(), Self::Error> {
        Ok(())
    }

    fn series(&mut self, _: u32, _: &[(&str, &str)]) {
        self.definitions += 1;
    }

    fn batch(&mut self, _: LogPosition, batch: LogBatch) {
        self.records += 1;
        self.samples += batch.samples() as u64;
    }
}

/// Reads the segments of `dir`, as a start without a checkpoint would.
pub fn inspect(disk: Arc<dyn Disk>, dir: &Path) -> Result<LogContents, WalError> {
    let recovered = recover::look_at(&disk, dir, UsedSegments::default(), false)?;
    let mut contents =
        LogContents { segments: recovered.plan.len() as u64, dir: dir.to_owned(), ..LogContents::default() };
    let log = OldLog { disk, metrics: Arc::default(), recovered };
    let mut replay = log.replay(LogPosition::default());
    while let Ok(true) = replay.step(&mut contents) {}
    contents.damage = replay.report().clone();
    Ok(contents)
}
