//! The disk door.

use std::io;
use std::path::Path;

use bytes::Bytes;

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// File name without its directory.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Length in bytes; 0 for a directory.
    pub len: u64,
}

/// A file system. Nothing is durable before it is synced: file contents by
/// [`DiskFile::sync_data`], names by [`Disk::sync_dir`] of their directory.
pub trait Disk: Send + Sync + std::fmt::Debug {
    /// Creates a directory and its parents; succeeds if it exists.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// The entries of a directory, sorted by name.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;

    /// Creates a file that must not exist yet, for reading and writing.
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// The whole content of a file.
    fn read(&self, path: &Path) -> io::Result<Bytes>;

    /// The whole content of a file as a memory map. Only for files that Pyrrha alone writes and
    /// that never get shorter while mapped (decision 12); bytes written later inside the mapped
    /// length may or may not be visible.
    fn map(&self, path: &Path) -> io::Result<Bytes>;

    /// Whether a file or directory of that name exists.
    fn exists(&self, path: &Path) -> bool;

    /// Renames, replacing `to` if it exists.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file a second name that must not exist yet: the no-replace commit.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory with all that is in it; succeeds if it does not exist.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Takes an exclusive lock on a file (created if absent), held until the guard drops. Fails
    /// with `WouldBlock` if another process or guard holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>>;
}

/// An open file.
pub trait DiskFile: Send + Sync + std::fmt::Debug {
    /// Writes all of `bytes` at `offset`, growing the file if needed.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Reads exactly `buffer.len()` bytes at `offset`.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Makes the content and length durable (fdatasync).
    fn sync_data(&self) -> io::Result<()>;

    /// Reserves space up to `len` bytes and grows the file to it, filled with zeros.
    fn allocate(&self, len: u64) -> io::Result<()>;

    /// Cuts or grows the file.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Its length.
    fn len(&self) -> io::Result<u64>;

    /// Whether it has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// Guard of a lock; dropping it unlocks.
pub trait DiskLock: Send + Sync + std::fmt::Debug {}
