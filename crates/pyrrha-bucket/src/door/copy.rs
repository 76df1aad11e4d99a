//! Copying an object from another bucket.

use bytes::Bytes;

use super::Bucket;
use super::parts::Content;
use crate::error::BucketError;

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
        self.write(key, bytes, &Remote { bucket: from, key: from_key, expected }).await
    }
}

/// An object of a bucket.
struct Remote<'a> {
    bucket: &'a Bucket,
    key: &'a str,
    expected: Option<u32>,
}

impl Content for Remote<'_> {
    async fn part(&self, at: u64, bytes: u64) -> Result<Bytes, BucketError> {
        if bytes == 0 {
            return Ok(Bytes::new());
        }
        let content = self.bucket.get_range(self.key, at..at + bytes).await?;
        if content.len() as u64 != bytes {
            let what = format!("object ends at bytes={}", at + content.len() as u64);
            return Err(BucketError::Corrupt { key: self.key.to_owned(), what });
        }
        Ok(content)
    }

    fn check(&self, sum: u32) -> Result<(), BucketError> {
        match self.expected {
            Some(expected) if expected != sum => {
                let what = format!("expected crc32c={expected:08x} found={sum:08x}");
                Err(BucketError::Corrupt { key: self.key.to_owned(), what })
            }
            _ => Ok(()),
        }
    }
}
