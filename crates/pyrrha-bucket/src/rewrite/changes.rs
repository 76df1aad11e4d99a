//! What a rewrite changed: counted, and line by line in the file `change.log` of the new block.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pyrrha_env::{Disk, DiskFile};
use pyrrha_model::{Labels, TimeRange};
use serde::Serialize;

use crate::error::BucketError;
use crate::upload_block::local;

/// The file within the block.
pub(crate) const CHANGE_LOG: &str = "change.log";
/// Lines are written in pieces of so many bytes.
const PIECE: usize = 1 << 18;

/// What a rewrite changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Changes {
    /// Series that were looked at.
    pub series: u64,
    /// Series that went.
    pub deleted_series: u64,
    /// Series of which samples of some times went.
    pub cut_series: u64,
    /// Series that have other labels.
    pub relabelled_series: u64,
    /// Exemplars that went.
    pub deleted_exemplars: u64,
}

impl Changes {
    /// Whether anything is other than before.
    pub fn is_any(&self) -> bool {
        self.deleted_series + self.cut_series + self.relabelled_series + self.deleted_exemplars > 0
    }
}

/// Counts, and writes lines to a file if there is one.
pub(crate) struct ChangeLog {
    pub(crate) changes: Changes,
    file: Option<(PathBuf, Arc<dyn DiskFile>, u64)>,
    lines: String,
}

impl ChangeLog {
    /// To a file that must not exist.
    pub(crate) fn create(disk: &dyn Disk, path: &Path) -> Result<Self, BucketError> {
        if let Some(dir) = path.parent() {
            disk.create_dir_all(dir).map_err(local(dir))?;
        }
        let file = Arc::from(disk.create_new(path).map_err(local(path))?);
        Ok(Self { file: Some((path.to_owned(), file, 0)), ..Self::counting() })
    }

    /// One that only counts.
    pub(crate) fn counting() -> Self {
        Self { changes: Changes::default(), file: None, lines: String::new() }
    }

    pub(super) fn deleted(&mut self, labels: &Labels) -> Result<(), BucketError> {
        self.changes.deleted_series += 1;
        self.line(|lines| writeln!(lines, "deleted {labels}"))
    }

    pub(super) fn cut(&mut self, labels: &Labels, intervals: &[TimeRange]) -> Result<(), BucketError> {
        self.changes.cut_series += 1;
        self.line(|lines| {
            write!(lines, "cut {labels}")?;
            intervals.iter().try_for_each(|i| write!(lines, " [{} {}]", i.start, i.end))?;
            writeln!(lines)
        })
    }

    pub(super) fn relabelled(&mut self, from: &Labels, to: &Labels) -> Result<(), BucketError> {
        self.changes.relabelled_series += 1;
        self.line(|lines| writeln!(lines, "relabelled {from} to {to}"))
    }

    fn line(&mut self, write: impl FnOnce(&mut String) -> std::fmt::Result) -> Result<(), BucketError> {
        if self.file.is_none() {
            return Ok(());
        }
        // Writing to a string does not fail.
        let _ = write(&mut self.lines);
        if self.lines.len() >= PIECE { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), BucketError> {
        let Some((path, file, at)) = &mut self.file else { return Ok(()) };
        file.write_at(*at, self.lines.as_bytes()).map_err(local(path))?;
        *at += self.lines.len() as u64;
        self.lines.clear();
        Ok(())
    }

    /// Writes what is left, durably.
    pub(crate) fn finish(&mut self) -> Result<(), BucketError> {
        self.flush()?;
        let Some((path, file, _)) = &self.file else { return Ok(()) };
        file.sync_data().map_err(local(path))
    }
}
