//! Uploading a local file, in parts where it is large.

use std::sync::Arc;

use bytes::Bytes;
use object_store::{MultipartUpload, ObjectStoreExt, PutPayload};
use pyrrha_encoding::crc;
use pyrrha_env::DiskFile;

use super::{Bucket, Operation};
use crate::error::BucketError;

/// Size of a part; files up to this are written at once. Stores want 5 MiB at least, and take
/// 10,000 parts.
const PART_BYTES: u64 = 16 << 20;

impl Bucket {
    /// Writes an object with the content of a file and gives the CRC-32C of what was sent. Memory:
    /// one part.
    pub async fn upload(&self, key: &str, file: Arc<dyn DiskFile>, bytes: u64) -> Result<u32, BucketError> {
        if bytes <= PART_BYTES {
            let content = part(&file, key, 0, bytes)?;
            let sum = crc::checksum(&content);
            self.put(key, content).await?;
            return Ok(sum);
        }
        let mut attempt = 1;
        loop {
            // Each request of it is bounded in time and retried by the client below.
            self.0.counters.attempt(Operation::Upload);
            match self.upload_parts(key, &file, bytes).await {
                Ok(sum) => {
                    self.0.counters.sent(usize::try_from(bytes).unwrap_or(usize::MAX));
                    return Ok(sum);
                }
                Err(error @ BucketError::Failed { .. }) if attempt < self.0.policy.attempts => {
                    tracing::debug!(key, attempt, %error, "upload is tried again");
                    self.0.counters.failure(Operation::Upload);
                    tokio::time::sleep(self.0.policy.first_wait).await;
                    attempt += 1;
                }
                Err(error) => {
                    self.0.counters.failure(Operation::Upload);
                    return Err(error);
                }
            }
        }
    }

    async fn upload_parts(
        &self,
        key: &str,
        file: &Arc<dyn DiskFile>,
        bytes: u64,
    ) -> Result<u32, BucketError> {
        let failed = |source| BucketError::Failed {
            operation: Operation::Upload,
            key: key.to_owned(),
            attempts: 1,
            source,
        };
        let _slot = self.0.slots.acquire().await.ok();
        let mut upload = self.0.store.put_multipart(&self.path(key)).await.map_err(failed)?;
        match send_parts(&mut *upload, file, key, bytes).await {
            Ok(sum) => {
                upload.complete().await.map_err(failed)?;
                Ok(sum)
            }
            Err(error) => {
                // What was sent is paid for until it is given up.
                let _ = upload.abort().await;
                Err(error.or_failed(failed))
            }
        }
    }
}

/// Sends all parts; an error of the store comes as `Store`.
async fn send_parts(
    upload: &mut dyn MultipartUpload,
    file: &Arc<dyn DiskFile>,
    key: &str,
    bytes: u64,
) -> Result<u32, PartError> {
    let (mut sum, mut at) = (0, 0);
    while at < bytes {
        let content = part(file, key, at, (bytes - at).min(PART_BYTES)).map_err(PartError::Local)?;
        sum = crc::checksum_append(sum, &content);
        at += content.len() as u64;
        upload.put_part(PutPayload::from_bytes(content)).await.map_err(PartError::Store)?;
    }
    Ok(sum)
}

enum PartError {
    Store(object_store::Error),
    Local(BucketError),
}

impl PartError {
    fn or_failed(self, failed: impl Fn(object_store::Error) -> BucketError) -> BucketError {
        match self {
            Self::Store(source) => failed(source),
            Self::Local(error) => error,
        }
    }
}

fn part(file: &Arc<dyn DiskFile>, key: &str, at: u64, bytes: u64) -> Result<Bytes, BucketError> {
    let mut buffer = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
    file.read_at(at, &mut buffer).map_err(|source| BucketError::Local { file: key.to_owned(), source })?;
    Ok(buffer.into())
}
