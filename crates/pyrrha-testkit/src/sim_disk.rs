//! A disk in memory that forgets, tears, fills up, fails and flips bits, all under a seed.
//!
//! What is durable is told apart from what the running program sees: a write, a length or a name
//! reaches the durable side when it is synced, and at a [`SimDisk::crash`] an arbitrary part of
//! what was not synced reaches it too, by 512-byte sectors and by single names. Threads may share
//! the disk; a run is reproducible if its operations come in the same order.

mod blob;
mod crash;
mod fault;
mod file;
mod tree;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use pyrrha_env::{DirEntry, Disk, DiskFile, DiskLock};

use fault::Verdict;
pub use fault::{DiskOp, Fault};
use file::SimFile;
use tree::State;

/// A handle to a simulated disk; clones share it.
#[derive(Debug, Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

impl SimDisk {
    /// An empty disk without limits or faults, whose crashes depend on `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: Arc::new(Mutex::new(State::new(seed))) }
    }

    /// Power loss and restart: an arbitrary legal part of what was not synced is kept, the rest is
    /// gone; open files go stale, locks are released, planned faults are forgotten, power is back.
    pub fn crash(&self) {
        self.state.lock().crash();
    }

    /// Process death and restart: the disk keeps everything that was written, synced or not.
    pub fn kill(&self) {
        self.state.lock().restart();
    }

    /// Every operation fails from now on, until [`crash`](Self::crash) or [`kill`](Self::kill).
    pub fn power_off(&self) {
        self.state.lock().faults.power_off();
    }

    /// Whether power is off.
    pub fn is_off(&self) -> bool {
        self.state.lock().faults.is_off()
    }

    /// Lets the `n`-th operation from now (0: the next) fail in this way. Plans add up.
    pub fn fail_in(&self, n: u64, fault: Fault) {
        self.state.lock().faults.plan_at(n, fault);
    }

    /// Lets the `n`-th operation of this kind from now (0: the next) fail in this way.
    pub fn fail_op_in(&self, op: DiskOp, n: u64, fault: Fault) {
        self.state.lock().faults.plan_op(op, n, fault);
    }

    /// Lets each operation fail with this probability per mille.
    pub fn fail_randomly(&self, per_mille: u64, fault: Fault) {
        self.state.lock().faults.set_random(per_mille, fault);
    }

    /// Forgets every planned and random fault.
    pub fn heal(&self) {
        self.state.lock().faults.clear();
    }

    /// Forgets every planned and random fault, unless the power is off already.
    pub fn heal_unless_off(&self) {
        let mut state = self.state.lock();
        if !state.faults.is_off() {
            state.faults.clear();
        }
    }

    /// Limits the bytes that files may take in all; growing beyond fails with `StorageFull`.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().capacity = bytes;
    }

    /// Bytes that files take.
    pub fn used(&self) -> u64 {
        self.state.lock().used()
    }

    /// Operations done so far.
    pub fn operations(&self) -> u64 {
        self.state.lock().faults.count()
    }

    /// Flips one bit of a file, durably and at once.
    pub fn flip_bit(&self, path: &Path, offset: u64, bit: u8) -> io::Result<()> {
        self.overwrite_raw(path, offset, |byte| byte ^ (1 << (bit & 7)))
    }

    /// Sets one byte of a file, durably and at once.
    pub fn poke(&self, path: &Path, offset: u64, byte: u8) -> io::Result<()> {
        self.overwrite_raw(path, offset, |_| byte)
    }

    fn overwrite_raw(&self, path: &Path, offset: u64, change: impl Fn(u8) -> u8) -> io::Result<()> {
        let mut state = self.state.lock();
        let id = state.file_id(path)?;
        state.file_mut(id)?.change_byte(offset, change)
    }

    /// Runs a checked operation that has no partial effect.
    fn run<T>(&self, op: DiskOp, action: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state.lock();
        match state.faults.check(op) {
            Verdict::Go => action(&mut state),
            // The change may have been made although it is reported as failed.
            Verdict::FailAfter(error) => {
                let _ = action(&mut state);
                Err(error)
            }
            Verdict::Fail(error) => Err(error),
        }
    }
}

impl Disk for SimDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.run(DiskOp::CreateDir, |s| s.create_dir_all(path))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.run(DiskOp::List, |s| s.list(dir))
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let (inode, epoch) = self.run(DiskOp::Create, |s| Ok((s.create(path)?, s.epoch)))?;
        Ok(Box::new(SimFile { state: self.state.clone(), inode, epoch }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let (inode, epoch) = self.run(DiskOp::Open, |s| Ok((s.file_id(path)?, s.epoch)))?;
        Ok(Box::new(SimFile { state: self.state.clone(), inode, epoch }))
    }

    fn read(&self, path: &Path) -> io::Result<Bytes> {
        self.run(DiskOp::Read, |s| s.content(path))
    }

    fn map(&self, path: &Path) -> io::Result<Bytes> {
        self.run(DiskOp::Map, |s| s.content(path))
    }

    fn exists(&self, path: &Path) -> bool {
        self.state.lock().lookup(path).is_ok()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.run(DiskOp::Rename, |s| s.rename(from, to))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.run(DiskOp::HardLink, |s| s.hard_link(from, to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.run(DiskOp::Remove, |s| s.remove_file(path))
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.run(DiskOp::Remove, |s| s.remove_dir_all(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        match state.faults.check(DiskOp::SyncDir) {
            Verdict::Go => state.sync_dir(path),
            // Unlike pages, names stay in the journal: a later sync that succeeds covers them.
            Verdict::Fail(error) | Verdict::FailAfter(error) => Err(error),
        }
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        let epoch = self.run(DiskOp::Lock, |s| s.lock(path))?;
        Ok(Box::new(SimLock { state: self.state.clone(), path: path.to_path_buf(), epoch }))
    }
}

#[derive(Debug)]
struct SimLock {
    state: Arc<Mutex<State>>,
    path: PathBuf,
    epoch: u64,
}

impl DiskLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        if state.epoch == self.epoch {
            state.locks.remove(&self.path);
        }
    }
}

#[cfg(test)]
mod tests;
