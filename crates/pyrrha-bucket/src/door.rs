//! The door to an object store: few operations, each counted, bounded in time, and retried.

mod copy;
mod counters;
mod parts;
mod probe;
mod replace;
mod retry;
mod upload;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;

pub use counters::{Counters, Operation};
pub(crate) use probe::PROBES;
pub(crate) use replace::{Replaced, Seen};
pub use retry::RetryPolicy;

use crate::error::BucketError;

/// Requests that are under way at once, over all users of a bucket.
const REQUESTS_AT_ONCE: usize = 64;
/// Keys that one listing may give: beyond, the prefix is not one of ours.
const LIST_MAX: usize = 4_000_000;

/// A bucket, or the part of it under a prefix. Cheap to clone; clones share everything.
#[derive(Debug, Clone)]
pub struct Bucket(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Arc<dyn ObjectStore>,
    /// For messages, without credentials.
    name: String,
    prefix: Path,
    policy: RetryPolicy,
    counters: Arc<Counters>,
    slots: Semaphore,
    /// When it was told last that it does not answer.
    told_slow: Mutex<Option<Instant>>,
}

/// What became of a conditional create.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// The object was created.
    Created,
    /// It exists already; nothing was changed. Maybe an earlier attempt of this very call did it.
    Exists,
}

/// An object as listings show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its key, relative to the bucket's prefix.
    pub key: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// When it was written last, by the store's clock, ms since the epoch.
    pub modified_ms: i64,
}

impl Bucket {
    /// A door to the objects of `store` under `prefix` ("" for all). `name` stands for it in
    /// messages.
    pub fn new(
        store: Arc<dyn ObjectStore>,
        name: impl Into<String>,
        prefix: &str,
        policy: RetryPolicy,
    ) -> Self {
        Self(Arc::new(Inner {
            store,
            name: name.into(),
            prefix: Path::from(prefix),
            policy,
            counters: Arc::default(),
            slots: Semaphore::new(REQUESTS_AT_ONCE),
            told_slow: Mutex::default(),
        }))
    }

    /// Its name in messages.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    #[cfg(test)]
    pub(crate) fn store(&self) -> Arc<dyn ObjectStore> {
        self.0.store.clone()
    }

    /// What was asked of it so far.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.0.counters
    }

    /// The content of an object of at most `limit` bytes; `None` if there is none.
    pub async fn get(&self, key: &str, limit: u64) -> Result<Option<Bytes>, BucketError> {
        let path = self.path(key);
        let read = || async {
            let result = self.0.store.get_opts(&path, GetOptions::default()).await?;
            let bytes = result.meta.size;
            if bytes > limit { Ok(Err(bytes)) } else { Ok(Ok(result.bytes().await?)) }
        };
        match self.run(Operation::Get, key, read).await {
            Ok(Ok(found)) => {
                self.0.counters.received(found.len());
                Ok(Some(found))
            }
            Ok(Err(bytes)) => Err(BucketError::TooLarge { key: key.to_owned(), bytes, limit }),
            Err(BucketError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The bytes of a range of an object; fewer where the object ends before the range does.
    pub async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, BucketError> {
        let path = self.path(key);
        let wanted = range.end.saturating_sub(range.start);
        let read = || async {
            let options =
                GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
            self.0.store.get_opts(&path, options).await?.bytes().await
        };
        let bytes = self.run(Operation::GetRange, key, read).await?;
        self.0.counters.received(bytes.len());
        if bytes.len() as u64 > wanted {
            let what = format!("store sent bytes={} for a range of {wanted}", bytes.len());
            return Err(BucketError::Corrupt { key: key.to_owned(), what });
        }
        Ok(bytes)
    }

    /// Writes an object, whatever was there. Readers see all of it or nothing.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<(), BucketError> {
        let path = self.path(key);
        let write = || self.0.store.put(&path, PutPayload::from_bytes(bytes.clone()));
        self.run(Operation::Put, key, write).await?;
        self.0.counters.sent(bytes.len());
        Ok(())
    }

    /// Writes an object that must not exist yet.
    pub async fn create(&self, key: &str, bytes: Bytes) -> Result<Created, BucketError> {
        let path = self.path(key);
        let write = || async {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            let put = self.0.store.put_opts(&path, PutPayload::from_bytes(bytes.clone()), options).await;
            match put {
                Ok(_) => Ok(Created::Created),
                // Some stores answer a race that nobody has won yet in the same way.
                Err(object_store::Error::AlreadyExists { path: at, source }) => {
                    match self.0.store.head(&path).await {
                        Ok(_) => Ok(Created::Exists),
                        Err(object_store::Error::NotFound { .. }) => Err(object_store::Error::Generic {
                            store: "race",
                            source: format!("{at}: {source}").into(),
                        }),
                        Err(error) => Err(error),
                    }
                }
                Err(error) => Err(error),
            }
        };
        let created = self.run(Operation::Create, key, write).await?;
        self.0.counters.sent(bytes.len());
        Ok(created)
    }

    /// Writes an object that must not exist yet and whose content nobody else writes. False if another is
    /// there; true also if an earlier attempt, of which the reply was lost, has done it.
    pub async fn create_or_mine(&self, key: &str, bytes: Bytes) -> Result<bool, BucketError> {
        if self.create(key, bytes.clone()).await? == Created::Created {
            return Ok(true);
        }
        match self.get(key, bytes.len() as u64).await {
            Ok(found) => Ok(found == Some(bytes)),
            Err(BucketError::TooLarge { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Length of an object, `None` if there is none.
    pub async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, BucketError> {
        let path = self.path(key);
        match self.run(Operation::Head, key, || self.0.store.head(&path)).await {
            Ok(meta) => Ok(Some(self.info(&meta))),
            Err(BucketError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All objects whose key begins with the path `prefix`, sorted by key.
    pub async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, BucketError> {
        let path = self.path(prefix);
        let read = || async {
            let mut found = Vec::new();
            let mut pages = self.0.store.list(Some(&path));
            while let Some(meta) = pages.try_next().await? {
                if found.len() == LIST_MAX {
                    break;
                }
                found.push(self.info(&meta));
            }
            Ok(found)
        };
        let mut found = self.run(Operation::List, prefix, read).await?;
        found.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }

    /// Names of the directories right below the path `prefix`, sorted.
    pub async fn list_dirs(&self, prefix: &str) -> Result<Vec<String>, BucketError> {
        let path = self.path(prefix);
        let read = || self.0.store.list_with_delimiter(Some(&path));
        let found = self.run(Operation::List, prefix, read).await?;
        let mut names: Vec<String> =
            found.common_prefixes.iter().filter_map(|p| p.filename().map(str::to_owned)).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Removes an object; succeeds if there is none.
    pub async fn delete(&self, key: &str) -> Result<(), BucketError> {
        let path = self.path(key);
        match self.run(Operation::Delete, key, || self.0.store.delete(&path)).await {
            Ok(()) | Err(BucketError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn path(&self, key: &str) -> Path {
        let mut path = self.0.prefix.clone();
        path = key.split('/').filter(|part| !part.is_empty()).fold(path, |path, part| path.join(part));
        path
    }

    fn info(&self, meta: &object_store::ObjectMeta) -> ObjectInfo {
        let key = meta.location.as_ref();
        let prefix = self.0.prefix.as_ref();
        let key = key.strip_prefix(prefix).unwrap_or(key).trim_start_matches('/');
        ObjectInfo {
            key: key.to_owned(),
            bytes: meta.size,
            modified_ms: meta.last_modified.timestamp_millis(),
        }
    }
}

#[cfg(test)]
mod tests;
