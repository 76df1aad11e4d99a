//! Numbered manifests as files of a directory.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use pyrrha_env::Disk;

use super::{Created, ManifestStore};
use crate::durable;

const SUFFIX: &str = ".json";
const UNFINISHED: &str = ".tmp";
/// Digits of a number in its file name, so that names sort as numbers.
const DIGITS: usize = 20;

/// Manifests in a directory, usually `<bucket>/<tenant>/manifest`.
#[derive(Debug)]
pub struct DiskManifestStore {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// Tells apart the temporary files of this process.
    attempts: AtomicU64,
}

impl DiskManifestStore {
    /// Opens the directory, which is created if it does not exist, and removes what a crash left
    /// unfinished. Only one process may have a tenant's manifest open for writing on a disk; the
    /// data directory's lock sees to that.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> io::Result<Self> {
        durable::create_dir(&*disk, dir)?;
        for entry in disk.list(dir)?.iter().filter(|e| !e.is_dir && e.name.ends_with(UNFINISHED)) {
            disk.remove_file(&dir.join(&entry.name))?;
        }
        // A process that was killed may have created a number without making its name durable. What
        // is read from now on, and built upon, must still be there after a power loss.
        disk.sync_dir(dir)?;
        Ok(Self { disk, dir: dir.to_owned(), attempts: AtomicU64::new(0) })
    }

    /// For reading alone: touches nothing, and need not exist. What is read may not be durable yet.
    pub fn read_only(disk: Arc<dyn Disk>, dir: &Path) -> Self {
        Self { disk, dir: dir.to_owned(), attempts: AtomicU64::new(0) }
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number:0DIGITS$}{SUFFIX}"))
    }
}

impl ManifestStore for DiskManifestStore {
    fn create(&self, number: u64, bytes: &[u8]) -> io::Result<Created> {
        let (path, attempt) = (self.path(number), self.attempts.fetch_add(1, Ordering::Relaxed));
        let temporary = self.dir.join(format!("{number:0DIGITS$}.{attempt}{UNFINISHED}"));
        let linked = durable::write_new(&*self.disk, &temporary, bytes)
            .and_then(|()| self.disk.hard_link(&temporary, &path));
        let result = match linked {
            Ok(()) => self.disk.sync_dir(&self.dir).map(|()| Created::Created),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && self.disk.exists(&path) => {
                Ok(Created::Exists)
            }
            Err(error) => Err(error),
        };
        // A name whose sync failed may be lost at any time: rather it is not there at all, so that
        // the next attempt makes and syncs a new one. Another writer's file is left alone.
        if result.is_err() && self.disk.read(&path).is_ok_and(|found| found == bytes) {
            let _ = self.disk.remove_file(&path);
        }
        let _ = self.disk.remove_file(&temporary);
        result
    }

    fn get(&self, number: u64) -> io::Result<Option<Bytes>> {
        match self.disk.read(&self.path(number)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn list(&self) -> io::Result<Vec<u64>> {
        let entries = self.disk.list(&self.dir)?;
        let mut numbers: Vec<u64> = entries.iter().filter_map(|e| number_of(&e.name)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn remove(&self, number: u64) -> io::Result<()> {
        match self.disk.remove_file(&self.path(number)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn reads_are_durable(&self) -> bool {
        false
    }
}

fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    (digits.len() == DIGITS && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}
