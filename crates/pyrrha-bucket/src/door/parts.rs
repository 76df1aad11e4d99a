//! Writing an object with its checksum, in parts where it is large, wherever its content comes from.

use std::future::Future;

use bytes::Bytes;
use object_store::{MultipartUpload, ObjectStoreExt, PutPayload};
use pyrrha_encoding::crc;

use super::{Bucket, Operation};
use crate::error::BucketError;

/// Size of a part; objects up to this are written at once. Stores want 5 MiB at least, and take
/// 10,000 parts.
const PART_BYTES: u64 = 16 << 20;

/// The content of an object, read in order, and again where an upload is tried again.
pub(super) trait Content: Sync {
    /// So many bytes from an offset on.
    fn part(&self, at: u64, bytes: u64) -> impl Future<Output = Result<Bytes, BucketError>> + Send;

    /// Whether this is the checksum that it should have.
    fn check(&self, sum: u32) -> Result<(), BucketError>;
}

impl Bucket {
    /// Writes an object of so many bytes and gives the CRC-32C of what was sent. Nothing is written if that is
    /// not as it should be. Memory: one part.
    pub(super) async fn write(
        &self,
        key: &str,
        bytes: u64,
        content: &impl Content,
    ) -> Result<u32, BucketError> {
        if bytes <= PART_BYTES {
            let part = content.part(0, bytes).await?;
            let sum = crc::checksum(&part);
            content.check(sum)?;
            self.put(key, part).await?;
            return Ok(sum);
        }
        let mut attempt = 1;
        loop {
            // Each request of it is bounded in time and retried by the client below.
            self.0.counters.attempt(Operation::Upload);
            let error = match self.write_parts(key, bytes, content).await {
                Ok(sum) => {
                    self.0.counters.sent(usize::try_from(bytes).unwrap_or(usize::MAX));
                    return Ok(sum);
                }
                Err(error) => error,
            };
            self.0.counters.failure(Operation::Upload);
            // What was to be read failed as often as it may.
            let is_ours = matches!(error, BucketError::Failed { operation: Operation::Upload, .. });
            if !is_ours || attempt >= self.0.policy.attempts {
                return Err(error);
            }
            tracing::debug!(key, attempt, %error, "upload is tried again");
            tokio::time::sleep(self.0.policy.first_wait).await;
            attempt += 1;
        }
    }

    async fn write_parts(&self, key: &str, bytes: u64, content: &impl Content) -> Result<u32, BucketError> {
        let path = self.path(key);
        let mut upload = self.of_upload(key, self.0.store.put_multipart(&path)).await?;
        let sent = self.send_parts(&mut *upload, key, bytes, content).await;
        if sent.is_err() {
            // What was sent is paid for until it is given up.
            let _ = upload.abort().await;
        }
        sent
    }

    async fn send_parts(
        &self,
        upload: &mut dyn MultipartUpload,
        key: &str,
        bytes: u64,
        content: &impl Content,
    ) -> Result<u32, BucketError> {
        let (mut sum, mut at) = (0, 0);
        while at < bytes {
            let part = content.part(at, (bytes - at).min(PART_BYTES)).await?;
            sum = crc::checksum_append(sum, &part);
            at += part.len() as u64;
            let part = upload.put_part(PutPayload::from_bytes(part));
            self.of_upload(key, part).await?;
        }
        content.check(sum)?;
        self.of_upload(key, upload.complete()).await?;
        Ok(sum)
    }

    /// One request of an upload. Content is read without a slot, as it may need one of the same bucket.
    async fn of_upload<T>(
        &self,
        key: &str,
        request: impl Future<Output = Result<T, object_store::Error>>,
    ) -> Result<T, BucketError> {
        let _slot = self.0.slots.acquire().await.ok();
        request.await.map_err(|source| BucketError::Failed {
            operation: Operation::Upload,
            key: key.to_owned(),
            attempts: 1,
            source,
        })
    }
}
