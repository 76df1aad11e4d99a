//! Numbered manifests of a tenant as objects of a bucket.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use pyrrha_model::TenantId;
use pyrrha_storage::manifest::{self, ManifestStore};

use crate::door::{Bucket, Created};
use crate::error::BucketError;
use crate::runtime::BucketRuntime;

/// Where they lie below a tenant's directory.
const MANIFESTS: &str = "manifest";
const SUFFIX: &str = ".json";
/// Digits of a number in its key, so that keys sort as numbers.
const DIGITS: usize = 20;
/// Largest manifest that is read: some hundreds of thousands of blocks.
const MANIFEST_MAX: u64 = 512 << 20;
const HINT: &str = "hint";

/// Manifests under `<tenant>/manifest/`. A number is created with the one condition that every
/// honest store knows, "if it does not exist"; the newest is found from a hint by asking for the
/// next number, and keys are listed only where the hint leads nowhere.
#[derive(Debug)]
pub struct BucketManifestStore {
    bucket: Bucket,
    runtime: Arc<BucketRuntime>,
    dir: String,
}

impl BucketManifestStore {
    /// The manifests of a tenant. Waits for requests on `runtime`, so its methods must not be
    /// called on a thread of one.
    pub fn new(bucket: Bucket, runtime: Arc<BucketRuntime>, tenant: &TenantId) -> Self {
        Self { bucket, runtime, dir: format!("{tenant}/{MANIFESTS}") }
    }

    fn key(&self, number: u64) -> String {
        format!("{}/{number:0DIGITS$}{SUFFIX}", self.dir)
    }

    fn wait<T: Send + 'static>(
        &self,
        task: impl Future<Output = Result<T, BucketError>> + Send + 'static,
    ) -> io::Result<T> {
        Ok(self.runtime.wait(task)?)
    }
}

impl ManifestStore for BucketManifestStore {
    fn create(&self, number: u64, bytes: &[u8]) -> io::Result<manifest::Created> {
        let (bucket, key, bytes) = (self.bucket.clone(), self.key(number), Bytes::copy_from_slice(bytes));
        match self.wait(async move { bucket.create(&key, bytes).await })? {
            Created::Created => Ok(manifest::Created::Created),
            Created::Exists => Ok(manifest::Created::Exists),
        }
    }

    fn get(&self, number: u64) -> io::Result<Option<Bytes>> {
        let (bucket, key) = (self.bucket.clone(), self.key(number));
        self.wait(async move { bucket.get(&key, MANIFEST_MAX).await })
    }

    fn exists(&self, number: u64) -> io::Result<bool> {
        let (bucket, key) = (self.bucket.clone(), self.key(number));
        Ok(self.wait(async move { bucket.head(&key).await })?.is_some())
    }

    fn list(&self) -> io::Result<Vec<u64>> {
        let (bucket, dir) = (self.bucket.clone(), self.dir.clone());
        let objects = self.wait(async move { bucket.list(&dir).await })?;
        // Sorted, as keys have one length.
        Ok(objects.iter().filter_map(|o| number_of(&self.dir, &o.key)).collect())
    }

    fn remove(&self, number: u64) -> io::Result<()> {
        let (bucket, key) = (self.bucket.clone(), self.key(number));
        self.wait(async move { bucket.delete(&key).await })
    }

    fn hint(&self) -> io::Result<Option<u64>> {
        let (bucket, key) = (self.bucket.clone(), format!("{}/{HINT}", self.dir));
        let text = self.wait(async move { bucket.get(&key, 64).await })?;
        // A hint that does not read is as good as none.
        Ok(text.and_then(|t| std::str::from_utf8(&t).ok()?.trim().parse().ok()))
    }

    fn set_hint(&self, number: u64) -> io::Result<()> {
        let (bucket, key) = (self.bucket.clone(), format!("{}/{HINT}", self.dir));
        self.wait(async move { bucket.put(&key, Bytes::from(number.to_string())).await })
    }

    fn reads_are_durable(&self) -> bool {
        true
    }
}

/// Whether a tenant has a manifest.
pub(crate) async fn has_manifests(bucket: &Bucket, tenant: &TenantId) -> Result<bool, BucketError> {
    let dir = format!("{tenant}/{MANIFESTS}");
    Ok(bucket.list(&dir).await?.iter().any(|object| number_of(&dir, &object.key).is_some()))
}

fn number_of(dir: &str, key: &str) -> Option<u64> {
    let digits = key.strip_prefix(dir)?.strip_prefix('/')?.strip_suffix(SUFFIX)?;
    (digits.len() == DIGITS && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests;
