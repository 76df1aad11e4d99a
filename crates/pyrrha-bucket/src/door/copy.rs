//! Copying an object from another bucket, in parts where it is large, with its checksum.

use bytes::Bytes;
use object_store::{MultipartUpload, ObjectStoreExt, PutPayload};
use pyrrha_encoding::crc;

use super::{Bucket, Operation};
use crate::error::BucketError;

/// Size of a part; objects up to this are written at once.
const PART_BYTES: u64 = 16 << 20;

impl Bucket {
    /// Writes an object with the content of one of `bytes` in another bucket, and gives its CRC-32C. If
    /// another checksum is `expected`, nothing is written. Memory: one part.
    pub async fn copy_from(
        &self,
        key: &str,
        from: &Bucket,
        from_key: &str,
        bytes: u64,
        expected: Option<u32>,
    ) -> Result<u32, BucketError> {
        let damaged = |sum: u32| {
            let what = format!("expected crc32c={:08x} found={sum:08x}", expected.unwrap_or_default());
            BucketError::Corrupt { key: from_key.to_owned(), what }
        };
        let is_wrong = |sum: u32| expected.is_some_and(|expected| expected != sum);
        if bytes <= PART_BYTES {
            let content = if bytes == 0 { Bytes::new() } else { exactly(from, from_key, 0, bytes).await? };
            let sum = crc::checksum(&content);
            if is_wrong(sum) {
                return Err(damaged(sum));
            }
            self.put(key, content).await?;
            return Ok(sum);
        }
        let failed = |source| BucketError::Failed {
            operation: Operation::Upload,
            key: key.to_owned(),
            attempts: 1,
            source,
        };
        self.0.counters.attempt(Operation::Upload);
        let mut upload = self.0.store.put_multipart(&self.path(key)).await.map_err(failed)?;
        let sent = match send(&mut *upload, from, from_key, bytes).await {
            Ok(Ok(sum)) if is_wrong(sum) => Err(damaged(sum)),
            Ok(Ok(sum)) => upload.complete().await.map(|_| sum).map_err(failed),
            Ok(Err(source)) => Err(failed(source)),
            Err(error) => Err(error),
        };
        match sent {
            Ok(sum) => {
                self.0.counters.sent(usize::try_from(bytes).unwrap_or(usize::MAX));
                Ok(sum)
            }
            Err(error) => {
                self.0.counters.failure(Operation::Upload);
                // What was sent is paid for until it is given up.
                let _ = upload.abort().await;
                Err(error)
            }
        }
    }
}

/// Sends all parts; the outer error is the source's, the inner one the target's.
async fn send(
    upload: &mut dyn MultipartUpload,
    from: &Bucket,
    key: &str,
    bytes: u64,
) -> Result<Result<u32, object_store::Error>, BucketError> {
    let (mut sum, mut at) = (0, 0);
    while at < bytes {
        let content = exactly(from, key, at, (bytes - at).min(PART_BYTES)).await?;
        sum = crc::checksum_append(sum, &content);
        at += content.len() as u64;
        if let Err(error) = upload.put_part(PutPayload::from_bytes(content)).await {
            return Ok(Err(error));
        }
    }
    Ok(Ok(sum))
}

async fn exactly(from: &Bucket, key: &str, at: u64, bytes: u64) -> Result<Bytes, BucketError> {
    let content = from.get_range(key, at..at + bytes).await?;
    if content.len() as u64 != bytes {
        let what = format!("object ends at bytes={}", at + content.len() as u64);
        return Err(BucketError::Corrupt { key: key.to_owned(), what });
    }
    Ok(content)
}
