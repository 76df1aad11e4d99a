//! The files of a tenant's jobs.
//!
//! A name is taken with a condition (`<epoch>`, the claim) or has the id of the one lease that writes
//! it: `<epoch>.<lease>` is overwritten by each beat, `<epoch>.<lease>.end` is written once. So nobody
//! overwrites what another says, and whoever removes a file removes what it has read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use pyrrha_model::{StoreError, TenantId};
use pyrrha_storage::block::BlockId;

use super::record::{JobRecord, JobState};
use crate::door::{Bucket, ObjectInfo};
use crate::error::BucketError;
use crate::runtime::BucketRuntime;

/// Digits of an epoch in its key, so that keys sort as numbers.
const DIGITS: usize = 10;
/// Largest file of a job that is read.
const RECORD_MAX: u64 = 16 << 20;
/// Object whose time of writing is the store's clock.
const CLOCK: &str = "clock";
/// Ends the name of what a lease says last.
const END: &str = "end";
/// Files that are read at once.
const READS_AT_ONCE: usize = 16;

/// The directory `<tenant>/jobs` of a bucket. Waits for requests, so it must not be used on a thread
/// of a runtime.
#[derive(Debug, Clone)]
pub(crate) struct JobDirectory {
    pub(crate) bucket: Bucket,
    pub(crate) runtime: Arc<BucketRuntime>,
    dir: String,
    ends: Arc<Ends>,
}

/// What leases said last, by key: such a file never changes, and is read once.
#[derive(Debug, Default)]
pub(crate) struct Ends(Mutex<HashMap<String, JobRecord>>);

impl Ends {
    fn get(&self, key: &str) -> Option<JobRecord> {
        self.0.lock().get(key).cloned()
    }

    /// Those below a directory are these from now on.
    fn replace(&self, dir: &str, ends: impl Iterator<Item = (String, JobRecord)>) {
        let mut known = self.0.lock();
        known.retain(|key, _| !key.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/')));
        known.extend(ends);
    }
}

/// A lease as the bucket shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeldLease {
    pub(crate) epoch: u64,
    /// What it says: its end, or else its last beat, or else its claim.
    pub(crate) record: JobRecord,
    /// When that was written, by the store's clock, ms.
    pub(crate) modified_ms: i64,
    /// Keys of its claim, maybe, and of its beats.
    pub(crate) under_way: Vec<String>,
    /// Key of its end.
    pub(crate) end: Option<String>,
    /// For how long this worker has seen it as it is.
    pub(crate) age: Duration,
    /// Another one has ended it.
    pub(crate) over: bool,
}

impl HeldLease {
    /// Whether it may still do something, for all that is known.
    pub(crate) fn is_running(&self) -> bool {
        self.end.is_none() && !self.over
    }
}

/// A job as the bucket shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BoardJob {
    pub(crate) id: String,
    /// The highest epoch of any of its files.
    pub(crate) newest: u64,
    /// Its leases that read, those of lower epochs first. Mostly one.
    pub(crate) leases: Vec<HeldLease>,
}

/// All jobs of a tenant, by id.
pub(crate) type Board = BTreeMap<String, BoardJob>;

impl BoardJob {
    pub(crate) fn running(&self) -> impl Iterator<Item = &HeldLease> {
        self.leases.iter().filter(|lease| lease.is_running())
    }

    pub(crate) fn ended(&self) -> impl Iterator<Item = &HeldLease> {
        self.leases.iter().filter(|lease| lease.end.is_some())
    }

    /// What the last lease that ended said.
    pub(crate) fn last_end(&self) -> Option<&HeldLease> {
        self.ended().last()
    }

    /// Whether it failed last, and nobody tries again.
    pub(crate) fn failed(&self) -> Option<&HeldLease> {
        let last = self.last_end().filter(|last| last.record.state == JobState::Failed)?;
        self.running().next().is_none().then_some(last)
    }

    /// Its leases that may do something still, and of which nothing was heard for so long.
    pub(crate) fn dead(&self, timeout: Duration) -> Vec<&HeldLease> {
        self.running().filter(|lease| lease.age >= timeout).collect()
    }
}

/// The files of one epoch of a job.
#[derive(Debug, Default)]
struct EpochFiles {
    claim: Option<ObjectInfo>,
    /// Beats and ends, by lease.
    leases: BTreeMap<BlockId, (Option<ObjectInfo>, Option<ObjectInfo>)>,
}

/// A file that is to be read.
struct Read {
    id: String,
    epoch: u64,
    /// `None`: the claim says.
    lease: Option<BlockId>,
    object: ObjectInfo,
    under_way: Vec<String>,
    end: Option<String>,
}

impl EpochFiles {
    /// What is read of them: of each lease the file that says most. A claim is read if there is nothing
    /// else: it says no more than the beats.
    fn reads(self, id: &str, epoch: u64) -> Vec<Read> {
        let claim = self.claim.as_ref().map(|claim| claim.key.clone());
        let id = id.to_owned();
        if self.leases.is_empty() {
            let under_way = claim.into_iter().collect();
            let read = |object| Read { id, epoch, lease: None, object, under_way, end: None };
            return self.claim.map(read).into_iter().collect();
        }
        let read = |(lease, (beat, end)): (BlockId, (Option<ObjectInfo>, Option<ObjectInfo>))| {
            let under_way = claim.iter().cloned().chain(beat.iter().map(|o| o.key.clone())).collect();
            let end_key = end.as_ref().map(|end| end.key.clone());
            let object = end.or(beat)?;
            Some(Read { id: id.clone(), epoch, lease: Some(lease), object, under_way, end: end_key })
        };
        self.leases.into_iter().filter_map(read).collect()
    }
}

impl JobDirectory {
    pub(crate) fn new(bucket: Bucket, runtime: Arc<BucketRuntime>, tenant: &TenantId) -> Self {
        Self { bucket, runtime, dir: format!("{tenant}/jobs"), ends: Arc::default() }
    }

    /// With what is known from earlier looks.
    pub(crate) fn knowing(self, ends: Arc<Ends>) -> Self {
        Self { ends, ..self }
    }

    /// Who takes an epoch creates this.
    pub(crate) fn claim_key(&self, id: &str, epoch: u64) -> String {
        format!("{}/{id}/{epoch:0DIGITS$}", self.dir)
    }

    /// A lease writes this while it lives.
    pub(crate) fn beat_key(&self, id: &str, epoch: u64, lease: BlockId) -> String {
        format!("{}.{lease}", self.claim_key(id, epoch))
    }

    fn end_key(&self, id: &str, epoch: u64, lease: BlockId) -> String {
        format!("{}.{END}", self.beat_key(id, epoch, lease))
    }

    /// All jobs by id. Files that do not read are of a later version, and left alone.
    pub(crate) fn load(&self) -> Result<Board, StoreError> {
        let (bucket, dir) = (self.bucket.clone(), self.dir.clone());
        let objects = self.runtime.wait(async move { bucket.list(&dir).await })?;
        let mut listed: BTreeMap<String, BTreeMap<u64, EpochFiles>> = BTreeMap::new();
        for object in objects {
            let path = object.key.strip_prefix(&self.dir).and_then(|p| p.strip_prefix('/'));
            let Some((id, name)) = path.and_then(|path| path.split_once('/')) else { continue };
            let Some((epoch, lease, is_end)) = parts_of(name) else { continue };
            let files = listed.entry(id.to_owned()).or_default().entry(epoch).or_default();
            match (lease, is_end) {
                (None, _) => files.claim = Some(object),
                (Some(lease), false) => files.leases.entry(lease).or_default().0 = Some(object),
                (Some(lease), true) => files.leases.entry(lease).or_default().1 = Some(object),
            }
        }
        let (mut board, mut reads) = (BTreeMap::new(), Vec::new());
        for (id, epochs) in listed {
            let newest = epochs.last_key_value().map_or(0, |(&epoch, _)| epoch);
            reads.extend(epochs.into_iter().flat_map(|(epoch, files)| files.reads(&id, epoch)));
            board.insert(id.clone(), BoardJob { id, newest, leases: Vec::new() });
        }
        let (bucket, ends) = (self.bucket.clone(), self.ends.clone());
        let found: Vec<(Read, Option<JobRecord>)> = self.runtime.wait(async move {
            let gets = reads.into_iter().map(|read| {
                let known = read.end.as_deref().and_then(|key| ends.get(key));
                let bucket = bucket.clone();
                async move {
                    if known.is_some() {
                        return Ok((read, known));
                    }
                    let bytes = bucket.get(&read.object.key, RECORD_MAX).await?;
                    Ok::<_, BucketError>((read, bytes.and_then(|bytes| JobRecord::decode(&bytes))))
                }
            });
            futures::stream::iter(gets).buffered(READS_AT_ONCE).try_collect().await
        })?;
        let ended = found.iter().filter_map(|(read, record)| read.end.clone().zip(record.clone()));
        self.ends.replace(&self.dir, ended);
        for (read, record) in found {
            // One that is gone has ended and was removed since the listing.
            let Some(record) = record.filter(|r| read.lease.is_none_or(|lease| lease == r.lease)) else {
                continue;
            };
            let Some(job) = board.get_mut(&read.id) else { continue };
            job.leases.push(HeldLease {
                epoch: read.epoch,
                record,
                modified_ms: read.object.modified_ms,
                under_way: read.under_way,
                end: read.end,
                age: Duration::ZERO,
                over: false,
            });
        }
        for job in board.values_mut() {
            let over: BTreeSet<BlockId> =
                job.ended().flat_map(|end| end.record.taken_over.iter().copied()).collect();
            for lease in &mut job.leases {
                lease.over = over.contains(&lease.record.lease);
            }
        }
        Ok(board)
    }

    /// Takes an epoch. False if another worker has it.
    pub(crate) fn claim(&self, id: &str, epoch: u64, record: &JobRecord) -> Result<bool, StoreError> {
        let (bucket, key) = (self.bucket.clone(), self.claim_key(id, epoch));
        let bytes = Bytes::from(record.encode());
        // No other has its lease's id.
        Ok(self.runtime.wait(async move { bucket.create_or_mine(&key, bytes).await })?)
    }

    /// Says what a lease that ended comes to: in one file of its own, which is never overwritten by
    /// anything else.
    pub(crate) fn end(&self, id: &str, epoch: u64, record: &JobRecord) -> Result<(), StoreError> {
        let (bucket, key) = (self.bucket.clone(), self.end_key(id, epoch, record.lease));
        let bytes = Bytes::from(record.encode());
        Ok(self.runtime.wait(async move { bucket.put(&key, bytes).await })?)
    }

    /// Whether a file is still there.
    pub(crate) fn has(&self, key: &str) -> Result<bool, StoreError> {
        let (bucket, key) = (self.bucket.clone(), key.to_owned());
        Ok(self.runtime.wait(async move { bucket.head(&key).await })?.is_some())
    }

    /// Removes files, in this order.
    pub(crate) fn remove(&self, keys: Vec<String>) -> Result<(), StoreError> {
        let bucket = self.bucket.clone();
        Ok(self.runtime.wait(async move {
            for key in keys {
                bucket.delete(&key).await?;
            }
            Ok(())
        })?)
    }

    /// The store's clock, ms: a worker's own may be wrong.
    pub(crate) fn store_now_ms(&self) -> Result<i64, StoreError> {
        let (bucket, key) = (self.bucket.clone(), format!("{}/{CLOCK}", self.dir));
        Ok(self.runtime.wait(async move {
            bucket.put(&key, Bytes::from_static(b"now")).await?;
            let object = bucket.head(&key).await?;
            object.map(|object| object.modified_ms).ok_or(BucketError::NotFound { key })
        })?)
    }
}

/// Epoch, lease, and whether it is an end.
fn parts_of(name: &str) -> Option<(u64, Option<BlockId>, bool)> {
    let mut parts = name.split('.');
    let epoch = parts.next().filter(|e| e.len() == DIGITS && e.bytes().all(|b| b.is_ascii_digit()))?;
    let lease = parts.next().map(str::parse::<BlockId>).transpose().ok()?;
    let is_end = match parts.next() {
        None => false,
        Some(END) => true,
        Some(_) => return None,
    };
    let epoch = epoch.parse().ok()?;
    parts.next().is_none().then_some((epoch, lease, is_end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_strictly() {
        let lease = BlockId::from_parts(7, 9);
        assert_eq!(parts_of("0000000012"), Some((12, None, false)));
        assert_eq!(parts_of(&format!("0000000012.{lease}")), Some((12, Some(lease), false)));
        assert_eq!(parts_of(&format!("0000000012.{lease}.end")), Some((12, Some(lease), true)));
        for name in ["12", "000000001x", "0000000012.", "0000000012.end", "clock", ""] {
            assert_eq!(parts_of(name), None, "{name}");
        }
        for rest in [".END", ".end.", ".end.end", "."] {
            assert_eq!(parts_of(&format!("0000000012.{lease}{rest}")), None, "{rest}");
        }
    }
}
