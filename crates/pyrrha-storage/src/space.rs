//! Room on the disk: who sees that there is none, and the reserve for what must go on then.
//!
//! A cut frees log segments, but needs room for its block first. So a file of some size is kept
//! for nothing else: on a full disk it goes, the cut is made, and writes are refused until there is
//! room for the file again (decision 9).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use pyrrha_env::{DirEntry, Disk, DiskFile, DiskLock};
use pyrrha_model::{ErrorKind, StoreError};

use crate::metrics::Counter;

/// Name of the reserve in the data directory.
pub(crate) const RESERVE_FILE: &str = "reserve";

/// What is known about room on the disk.
#[derive(Debug, Default)]
struct Seen {
    /// An operation failed for want of room, and the reserve was not restored since.
    full: AtomicBool,
    /// Operations that failed so.
    failures: AtomicU64,
}

impl Seen {
    fn look<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result
            && matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        {
            self.failures.fetch_add(1, Ordering::AcqRel);
            self.full.store(true, Ordering::Release);
        }
        result
    }
}

/// The reserve of one data directory.
#[derive(Debug)]
pub(crate) struct Reserve {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    bytes: u64,
    seen: Arc<Seen>,
    /// Whether the file is there, in full length.
    held: Mutex<bool>,
    /// How often the reserve was used.
    pub(crate) released: Counter,
    /// Writes that were refused because the disk is full.
    pub(crate) refused: Counter,
}

impl Reserve {
    /// A reserve of so many bytes in `dir`, and the disk that watches for want of room. Nothing is
    /// reserved before [`restore`](Self::restore).
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: &Path, bytes: u64) -> (Self, Arc<dyn Disk>) {
        let seen = Arc::<Seen>::default();
        let watched = Arc::new(WatchedDisk { disk, seen: seen.clone() });
        let reserve = Self {
            disk: watched.clone(),
            path: dir.join(RESERVE_FILE),
            bytes,
            seen,
            held: Mutex::new(false),
            released: Counter::default(),
            refused: Counter::default(),
        };
        (reserve, watched)
    }

    /// Whether the disk is full.
    pub(crate) fn is_full(&self) -> bool {
        self.seen.full.load(Ordering::Acquire)
    }

    /// Fails while the disk is full: what is left is for cuts.
    pub(crate) fn check_writable(&self) -> Result<(), StoreError> {
        if !self.is_full() {
            return Ok(());
        }
        self.refused.add(1);
        let dir = self.path.parent().unwrap_or(Path::new(".")).display();
        let text = format!("disk is full, writes are refused until space is freed path={dir}");
        Err(StoreError::new(ErrorKind::Unavailable, text))
    }

    /// Failures for want of room so far, to be compared after an attempt at something.
    pub(crate) fn failures(&self) -> u64 {
        self.seen.failures.load(Ordering::Acquire)
    }

    /// After an attempt that failed: gives the reserve up if room was wanted since `failures`. True
    /// if it is worth to try again.
    pub(crate) fn release_since(&self, failures: u64) -> bool {
        let mut held = self.held.lock();
        if self.failures() == failures || !*held || self.bytes == 0 {
            return false;
        }
        if let Err(error) = self.disk.remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "disk reserve could not be released");
            return false;
        }
        *held = false;
        self.released.add(1);
        tracing::warn!(bytes = self.bytes, "disk is full, its reserve is released");
        true
    }

    /// Reserves what is not reserved. Where the disk was full, writes go on once the reserve fits
    /// twice, so that they do not stop again at once.
    pub(crate) fn restore(&self) {
        let mut held = self.held.lock();
        let (full, failures) = (self.is_full(), self.failures());
        if *held && !full {
            return;
        }
        match self.allocate(*held, if full { self.bytes.saturating_mul(2) } else { self.bytes }) {
            Ok(()) => {
                *held = true;
                if full && self.failures() == failures {
                    self.seen.full.store(false, Ordering::Release);
                    tracing::info!("the disk has room again, writes go on");
                }
            }
            Err(error) if !full => {
                tracing::error!(path = %self.path.display(), %error, "disk reserve could not be made");
            }
            // It has been said that the disk is full, and is tried again in a second.
            Err(_) => {}
        }
    }

    /// Makes the file, with room for `bytes` for a moment. After an error it is as it was.
    fn allocate(&self, held: bool, bytes: u64) -> io::Result<()> {
        if self.bytes == 0 {
            return Ok(());
        }
        let file = match self.disk.open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.disk.create_new(&self.path)?,
            result => result?,
        };
        let allocated = file.allocate(bytes);
        if allocated.is_err() && !held {
            drop(file);
            let _ = self.disk.remove_file(&self.path);
            return allocated;
        }
        // What was taken for the moment, or in part, is given back.
        let trimmed = if file.len()? > self.bytes { file.set_len(self.bytes) } else { Ok(()) };
        allocated.and(trimmed)
    }
}

/// A disk that notes when there is no room left on the one below.
#[derive(Debug)]
struct WatchedDisk {
    disk: Arc<dyn Disk>,
    seen: Arc<Seen>,
}

impl WatchedDisk {
    fn file(&self, file: io::Result<Box<dyn DiskFile>>) -> io::Result<Box<dyn DiskFile>> {
        let file = self.seen.look(file)?;
        Ok(Box::new(WatchedFile { file, seen: self.seen.clone() }))
    }
}

impl Disk for WatchedDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.seen.look(self.disk.create_dir_all(path))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.disk.list(dir)
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.file(self.disk.create_new(path))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.file(self.disk.open(path))
    }

    fn read(&self, path: &Path) -> io::Result<Bytes> {
        self.disk.read(path)
    }

    fn map(&self, path: &Path) -> io::Result<Bytes> {
        self.disk.map(path)
    }

    fn exists(&self, path: &Path) -> bool {
        self.disk.exists(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.seen.look(self.disk.rename(from, to))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.seen.look(self.disk.hard_link(from, to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.seen.look(self.disk.sync_dir(path))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        self.disk.lock(path)
    }
}

#[derive(Debug)]
struct WatchedFile {
    file: Box<dyn DiskFile>,
    seen: Arc<Seen>,
}

impl DiskFile for WatchedFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.seen.look(self.file.write_at(offset, bytes))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, buffer)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.seen.look(self.file.sync_data())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.seen.look(self.file.allocate(len))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.seen.look(self.file.set_len(len))
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}

#[cfg(test)]
mod tests;
