//! Uploading a local file.

use std::sync::Arc;

use bytes::Bytes;
use pyrrha_env::DiskFile;

use super::Bucket;
use super::parts::Content;
use crate::error::BucketError;

impl Bucket {
    /// Writes an object with the content of a file and gives the CRC-32C of what was sent. Memory:
    /// one part.
    pub async fn upload(&self, key: &str, file: Arc<dyn DiskFile>, bytes: u64) -> Result<u32, BucketError> {
        self.write(key, bytes, &Local { file, key }).await
    }
}

/// A file, and the key that it is written to.
struct Local<'a> {
    file: Arc<dyn DiskFile>,
    key: &'a str,
}

impl Content for Local<'_> {
    async fn part(&self, at: u64, bytes: u64) -> Result<Bytes, BucketError> {
        let mut buffer = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
        let local = |source| BucketError::Local { file: self.key.to_owned(), source };
        self.file.read_at(at, &mut buffer).map_err(local)?;
        Ok(buffer.into())
    }

    fn check(&self, _: u32) -> Result<(), BucketError> {
        Ok(())
    }
}
