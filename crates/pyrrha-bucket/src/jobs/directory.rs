//! The files of a tenant's jobs.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use pyrrha_model::{StoreError, TenantId};

use super::record::JobRecord;
use crate::door::{Bucket, Created};
use crate::error::BucketError;
use crate::runtime::BucketRuntime;

/// Digits of an epoch in its key, so that keys sort as numbers.
const DIGITS: usize = 10;
/// Largest file of a job that is read.
const RECORD_MAX: u64 = 16 << 20;
/// Object whose time of writing is the store's clock.
const CLOCK: &str = "clock";

/// The directory `<tenant>/jobs` of a bucket. Waits for requests, so it must not be used on a thread
/// of a runtime.
#[derive(Debug, Clone)]
pub(crate) struct JobDirectory {
    pub(crate) bucket: Bucket,
    pub(crate) runtime: Arc<BucketRuntime>,
    dir: String,
}

/// A job as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JobFiles {
    /// All epochs, ascending; never empty.
    pub(crate) epochs: Vec<u64>,
    /// When the newest was written last, by the store's clock, ms.
    pub(crate) modified_ms: i64,
}

impl JobFiles {
    pub(crate) fn newest(&self) -> u64 {
        self.epochs.last().copied().unwrap_or(0)
    }
}

impl JobDirectory {
    pub(crate) fn new(bucket: Bucket, runtime: Arc<BucketRuntime>, tenant: &TenantId) -> Self {
        Self { bucket, runtime, dir: format!("{tenant}/jobs") }
    }

    pub(crate) fn key(&self, id: &str, epoch: u64) -> String {
        format!("{}/{id}/{epoch:0DIGITS$}", self.dir)
    }

    /// All jobs by id.
    pub(crate) fn list(&self) -> Result<BTreeMap<String, JobFiles>, StoreError> {
        let (bucket, dir) = (self.bucket.clone(), self.dir.clone());
        let objects = self.runtime.wait(async move { bucket.list(&dir).await })?;
        let mut jobs: BTreeMap<String, JobFiles> = BTreeMap::new();
        // Sorted by key, so epochs come ascending.
        for object in objects {
            let Some(path) = object.key.strip_prefix(&self.dir).and_then(|p| p.strip_prefix('/')) else {
                continue;
            };
            let Some((id, epoch)) = path.split_once('/') else { continue };
            let Some(epoch) = epoch_of(epoch) else { continue };
            let files =
                jobs.entry(id.to_owned()).or_insert(JobFiles { epochs: Vec::new(), modified_ms: i64::MIN });
            files.epochs.push(epoch);
            files.modified_ms = object.modified_ms;
        }
        Ok(jobs)
    }

    /// What an epoch says; `None` if it is gone, or is none of ours.
    pub(crate) fn read(&self, id: &str, epoch: u64) -> Result<Option<JobRecord>, StoreError> {
        let (bucket, key) = (self.bucket.clone(), self.key(id, epoch));
        let bytes = self.runtime.wait(async move { bucket.get(&key, RECORD_MAX).await })?;
        Ok(bytes.and_then(|bytes| JobRecord::decode(&bytes)))
    }

    /// Takes an epoch. False if another worker has it.
    pub(crate) fn take(&self, id: &str, epoch: u64, record: &JobRecord) -> Result<bool, StoreError> {
        let (bucket, key, bytes) = (self.bucket.clone(), self.key(id, epoch), Bytes::from(record.encode()));
        let created = self.runtime.wait(async move { bucket.create(&key, bytes).await })?;
        // It may be there from an attempt of which the reply was lost.
        Ok(created == Created::Created || self.read(id, epoch)?.as_ref() == Some(record))
    }

    /// Overwrites an epoch that is ours.
    pub(crate) fn write(&self, id: &str, epoch: u64, record: &JobRecord) -> Result<(), StoreError> {
        let (bucket, key, bytes) = (self.bucket.clone(), self.key(id, epoch), Bytes::from(record.encode()));
        Ok(self.runtime.wait(async move { bucket.put(&key, bytes).await })?)
    }

    /// Removes a job: the newest epoch last, so that an older one never counts.
    pub(crate) fn remove(&self, id: &str, files: &JobFiles) -> Result<(), StoreError> {
        let bucket = self.bucket.clone();
        let keys: Vec<String> = files.epochs.iter().map(|&epoch| self.key(id, epoch)).collect();
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

fn epoch_of(text: &str) -> Option<u64> {
    (text.len() == DIGITS && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}
