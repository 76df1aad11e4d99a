//! The manifest of a tenant: which blocks are live, as numbered files of which the newest counts.
//!
//! ```text
//! <bucket>/<tenant>/manifest/00000000000000000001.json    base: all live blocks
//!                            00000000000000000002.json    changes since base 1
//!                            00000000000000000003.json    changes since base 1
//! ```
//!
//! A commit creates the next number, which fails if it exists: of two writers one wins, the other
//! applies its change again to what the winner left (decisions 13, 15, 16). Nothing is ever
//! overwritten. See `docs/format/manifest.md`.

mod disk_store;
mod error;
mod record;
mod state;

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use pyrrha_env::Clock;

pub use disk_store::DiskManifestStore;
pub use error::ManifestError;
pub use state::{BlockEntry, Change, DeleteEntry, ManifestState};

use crate::block::BlockId;
use record::Record;

/// How many numbers are kept at least, whatever else: a writer that read any of them can still
/// tell whether it won.
const KEEP: u64 = 64;
/// Lost races after which a commit gives up.
const ATTEMPTS: usize = 64;

/// Where the numbered files of one tenant are.
pub trait ManifestStore: Send + Sync + std::fmt::Debug {
    /// Creates a number that must not exist yet, durably and with all of `bytes` or not at all. An
    /// error says nothing about whether it was created.
    fn create(&self, number: u64, bytes: &[u8]) -> io::Result<Created>;

    /// The content of a number, `None` if it does not exist.
    fn get(&self, number: u64) -> io::Result<Option<Bytes>>;

    /// Whether a number exists.
    fn exists(&self, number: u64) -> io::Result<bool> {
        Ok(self.get(number)?.is_some())
    }

    /// All numbers that exist, ascending.
    fn list(&self) -> io::Result<Vec<u64>>;

    /// Removes a number; succeeds if it does not exist.
    fn remove(&self, number: u64) -> io::Result<()>;

    /// A number from which to look for the newest, where listing is dear. It may lag.
    fn hint(&self) -> io::Result<Option<u64>> {
        Ok(None)
    }

    /// Leaves a hint for the next reader. Losing it does no harm.
    fn set_hint(&self, number: u64) -> io::Result<()> {
        let _ = number;
        Ok(())
    }

    /// Whether what [`get`](Self::get) gives survives a power loss. So it is with object stores; on
    /// a disk a name is seen before it is synced.
    fn reads_are_durable(&self) -> bool;
}

/// What became of a create.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// It was created, durably.
    Created,
    /// The number existed and is unchanged.
    Exists,
}

/// The manifest of one tenant, open for reading and committing. Threads share it.
#[derive(Debug)]
pub struct Manifest {
    store: Arc<dyn ManifestStore>,
    clock: Arc<dyn Clock>,
    writer: BlockId,
    current: RwLock<Arc<ManifestState>>,
    /// Commits of this process come one after another.
    committing: Mutex<()>,
}

impl Manifest {
    /// Reads the newest manifest; a tenant without one has no blocks.
    pub fn open(store: Arc<dyn ManifestStore>, clock: Arc<dyn Clock>) -> Result<Self, ManifestError> {
        let writer = BlockId::new(&*clock);
        Self::open_as(store, clock, writer)
    }

    /// As [`open`](Self::open), committing under a given writer id, which no other process may use.
    pub fn open_as(
        store: Arc<dyn ManifestStore>,
        clock: Arc<dyn Clock>,
        writer: BlockId,
    ) -> Result<Self, ManifestError> {
        let current = RwLock::new(Arc::new(newest(&*store)?));
        Ok(Self { store, clock, writer, current, committing: Mutex::new(()) })
    }

    /// The newest state of a store, without opening it for commits.
    pub fn read(store: &dyn ManifestStore) -> Result<Arc<ManifestState>, ManifestError> {
        Ok(Arc::new(newest(store)?))
    }

    /// Commits a manifest with exactly these blocks above all numbers that exist, for a history
    /// that is lost or damaged. If the newest manifest reads, its deletions stay in force.
    pub fn rebuild(
        store: Arc<dyn ManifestStore>,
        clock: Arc<dyn Clock>,
        blocks: &[BlockEntry],
    ) -> Result<Self, ManifestError> {
        let writer = BlockId::new(&*clock);
        let number = store.list().map_err(|source| ManifestError::Io { number: 0, source })?;
        let number = number.last().copied().unwrap_or(0);
        let before = match newest(&*store) {
            Ok(state) => state,
            Err(ManifestError::Corrupt { .. }) => ManifestState::default(),
            Err(error) => return Err(error),
        };
        let state = before.rebuilt(number.max(before.number) + 1, blocks, writer, clock.now_ms());
        let manifest = Self { store, clock, writer, current: RwLock::default(), committing: Mutex::new(()) };
        if !manifest.try_create(&state)? {
            return Err(ManifestError::Contended { number: state.number });
        }
        *manifest.current.write() = Arc::new(state);
        let _ = manifest.store.set_hint(number + 1);
        Ok(manifest)
    }

    /// The state that was read or committed last. Holding it pins a snapshot.
    pub fn current(&self) -> Arc<ManifestState> {
        self.current.read().clone()
    }

    /// Reads what others committed since. If nobody did, it asks only whether two numbers exist.
    pub fn refresh(&self) -> Result<Arc<ManifestState>, ManifestError> {
        let _one = self.committing.lock();
        self.reload()
    }

    /// Makes blocks live and others not, in one step: [`commit_change`](Self::commit_change) for
    /// the common case.
    pub fn commit(
        &self,
        added: &[BlockEntry],
        removed: &[BlockId],
    ) -> Result<Arc<ManifestState>, ManifestError> {
        self.commit_change(&Change { added: added.to_vec(), removed: removed.to_vec(), ..Change::default() })
    }

    /// Applies a change to the newest state and commits it as the next number. When it returns
    /// `Ok` the change survives power loss. After an error it may or may not have happened;
    /// committing the same change again is safe.
    pub fn commit_change(&self, change: &Change) -> Result<Arc<ManifestState>, ManifestError> {
        let _one = self.committing.lock();
        let mut state = self.current();
        for _ in 0..ATTEMPTS {
            let next = match state.apply(change, self.writer, self.clock.now_ms()) {
                Ok(next) => next,
                Err(error) => {
                    // What does not fit the state that was read last may fit the newest.
                    let newest = self.reload()?;
                    if newest.number == state.number {
                        return Err(error);
                    }
                    state = newest;
                    continue;
                }
            };
            if self.try_create(&next)? {
                let next = Arc::new(next);
                *self.current.write() = next.clone();
                self.prune(&next);
                return Ok(next);
            }
            state = self.reload()?;
        }
        Err(ManifestError::Contended { number: state.number })
    }

    /// Creates the number of `next`. False if another writer has won it.
    fn try_create(&self, next: &ManifestState) -> Result<bool, ManifestError> {
        let number = next.number;
        let record = next.to_record();
        let io = |source| ManifestError::Io { number, source };
        match self.store.create(number, &record.encode()) {
            Ok(Created::Created) => {}
            Ok(Created::Exists) => return self.is_mine(&record),
            // The reply is lost, maybe not the commit.
            Err(_) if self.store.reads_are_durable() && self.is_mine(&record)? => {}
            Err(source) => return Err(io(source)),
        }
        // A writer that slept while its number was used, collected and so became free again has
        // created it below the newest: the number before is gone then, as collection ascends.
        let overslept = match number {
            // Another writer may have gone on from here already; if history was collected, what there is
            // goes by a later base.
            1 => match self.store.list().map_err(io)?.last() {
                Some(&last) if last > 1 => read_record(&*self.store, last)?.is_none_or(|r| r.base > 1),
                _ => false,
            },
            _ => !self.store.exists(number - 1).map_err(io)?,
        };
        if overslept {
            self.store.remove(number).map_err(io)?;
            return Ok(false);
        }
        Ok(true)
    }

    /// Whether the stored number is this very commit, and known to be durable.
    fn is_mine(&self, record: &Record) -> Result<bool, ManifestError> {
        let io = |source| ManifestError::Io { number: record.number, source };
        let Some(bytes) = self.store.get(record.number).map_err(io)? else { return Ok(false) };
        Ok(self.store.reads_are_durable() && Record::decode(record.number, &bytes)? == *record)
    }

    fn reload(&self) -> Result<Arc<ManifestState>, ManifestError> {
        let known = self.current();
        if known.number > 0 {
            let is_last = !exists(&*self.store, known.number.saturating_add(1))?;
            // As long as it exists nothing after it was collected either.
            if is_last && exists(&*self.store, known.number)? {
                return Ok(known);
            }
        }
        let state = Arc::new(newest(&*self.store)?);
        *self.current.write() = state.clone();
        Ok(state)
    }

    /// Removes numbers that no reader needs, oldest first. What fails is done by a later commit.
    fn prune(&self, state: &ManifestState) {
        let _ = self.store.set_hint(state.number);
        // Looking at every commit would cost a listing each.
        if !state.number.is_multiple_of(KEEP) {
            return;
        }
        let oldest_kept = state.number.saturating_sub(KEEP).min(state.base);
        let Ok(numbers) = self.store.list() else { return };
        // The oldest number that is kept needs its base.
        let first = numbers.iter().copied().find(|&n| n >= oldest_kept).unwrap_or(oldest_kept);
        let needed = read_record(&*self.store, first).ok().flatten().map_or(0, |r| r.base.min(first));
        for number in numbers.into_iter().take_while(|&n| n < needed) {
            if self.store.remove(number).is_err() {
                return;
            }
        }
    }
}

/// The newest state.
fn newest(store: &dyn ManifestStore) -> Result<ManifestState, ManifestError> {
    for _ in 0..ATTEMPTS {
        let Some(number) = newest_number(store)? else { return Ok(ManifestState::default()) };
        // It is gone if it was collected meanwhile, which is so only if there are newer ones.
        if let Some(state) = read_state(store, number)? {
            return Ok(state);
        }
    }
    Err(ManifestError::Contended { number: 0 })
}

fn newest_number(store: &dyn ManifestStore) -> Result<Option<u64>, ManifestError> {
    let io = |source| ManifestError::Io { number: 0, source };
    if let Some(hint) = store.hint().map_err(io)?
        && exists(store, hint)?
    {
        let number = last_from(store, hint)?;
        // A number whose predecessor is gone was created by a writer that had overslept.
        if number > 1 && exists(store, number - 1)? {
            return Ok(Some(number));
        }
    }
    Ok(store.list().map_err(io)?.last().copied())
}

fn exists(store: &dyn ManifestStore, number: u64) -> Result<bool, ManifestError> {
    store.exists(number).map_err(|source| ManifestError::Io { number, source })
}

/// The last of the numbers that follow one without a gap.
fn last_from(store: &dyn ManifestStore, mut number: u64) -> Result<u64, ManifestError> {
    while number < u64::MAX && exists(store, number + 1)? {
        number += 1;
    }
    Ok(number)
}

fn read_record(store: &dyn ManifestStore, number: u64) -> Result<Option<Record>, ManifestError> {
    let bytes = store.get(number).map_err(|source| ManifestError::Io { number, source })?;
    bytes.map(|bytes| Record::decode(number, &bytes)).transpose()
}

fn read_state(store: &dyn ManifestStore, number: u64) -> Result<Option<ManifestState>, ManifestError> {
    let Some(record) = read_record(store, number)? else { return Ok(None) };
    if record.base == number {
        return Ok(Some(ManifestState::from_records(None, record)?));
    }
    let Some(base) = read_record(store, record.base)? else { return Ok(None) };
    Ok(Some(ManifestState::from_records(Some(base), record)?))
}

#[cfg(test)]
mod tests;
