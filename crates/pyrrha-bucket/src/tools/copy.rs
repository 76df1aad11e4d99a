//! Copying a block's objects to another bucket, each verified by its checksum.

use pyrrha_model::{ErrorKind, StoreError};
use pyrrha_storage::manifest::BlockEntry;

use super::fetch::{checksum, is_plain};
use super::{BucketTools, Progress};
use crate::block_files::{BlockFile, dir_in, files};
use crate::door::Bucket;
use crate::error::BucketError;

const META: &str = "meta.json";

/// What a copy of blocks has come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Copied {
    /// Bytes that were copied, or would be.
    pub(crate) copied_bytes: u64,
    /// Bytes that were there.
    pub(crate) present_bytes: u64,
}

/// A copy of blocks from one tenant's directory to another's.
pub(crate) struct BlockCopy<'a> {
    pub(crate) from: &'a BucketTools,
    pub(crate) to: &'a BucketTools,
    /// The tenant's directory, here and there.
    pub(crate) dirs: (&'a str, &'a str),
    /// What progress calls it.
    pub(crate) word: &'a str,
    /// Nothing is written.
    pub(crate) dry_run: bool,
    /// Bytes of all blocks that are to be copied.
    pub(crate) total: u64,
}

/// The files of a block as its entry names them, `meta.json` last: whoever looks at a bucket takes a block
/// for whole once that is there.
pub(crate) fn named_files(entry: &BlockEntry) -> Result<Vec<BlockFile>, StoreError> {
    let mut named = files(entry);
    if named.is_empty() || !named.iter().all(|file| is_plain(&file.name)) {
        let text = format!("manifest does not name the files of a block: block={}", entry.ulid);
        return Err(StoreError::new(ErrorKind::Corrupt, text));
    }
    named.sort_by_key(|file| file.name == META);
    Ok(named)
}

impl BlockCopy<'_> {
    /// Copies what is missing of a block's objects, and gives them with checksums.
    pub(crate) fn block(
        &self,
        entry: &BlockEntry,
        done: &mut Copied,
        progress: Progress<'_>,
    ) -> Result<Vec<BlockFile>, StoreError> {
        let mut named = named_files(entry)?;
        // Where it goes it lies under the tenant.
        let from_dir = dir_in(self.dirs.0, entry);
        let dir = format!("{}/{}", self.dirs.1, entry.ulid);
        let (bucket, at) = (self.to.tenants.bucket().clone(), dir.clone());
        let there = self.to.runtime.wait(async move { bucket.list(&at).await })?;
        for file in &mut named {
            progress(self.word, done.copied_bytes.saturating_add(done.present_bytes), self.total);
            let from_key = format!("{from_dir}/{}", file.name);
            let key = format!("{dir}/{}", file.name);
            let is_there = there.iter().any(|o| o.key == key && o.bytes == file.bytes);
            let (expected, bytes) = (file.crc32c, file.bytes);
            if self.dry_run {
                let sum = if is_there { &mut done.present_bytes } else { &mut done.copied_bytes };
                *sum = sum.saturating_add(bytes);
                continue;
            }
            let (source, to) = (self.from.tenants.bucket().clone(), self.to.tenants.bucket().clone());
            let one = One { from_key, key, bytes, expected, is_there };
            let (sum, copied) = self.from.runtime.wait(async move { one.copy(&source, &to).await })?;
            file.crc32c = Some(sum);
            let count = if copied { &mut done.copied_bytes } else { &mut done.present_bytes };
            *count = count.saturating_add(bytes);
        }
        Ok(named)
    }
}

/// One object.
struct One {
    from_key: String,
    key: String,
    bytes: u64,
    expected: Option<u32>,
    is_there: bool,
}

impl One {
    /// Copies it unless it is there with the right checksum. Gives that, and whether it was copied.
    async fn copy(&self, source: &Bucket, target: &Bucket) -> Result<(u32, bool), BucketError> {
        let Self { from_key, key, bytes, expected, is_there } = self;
        if *is_there && let Some(expected) = *expected {
            // An object is whole or absent, but one of that name and length may be another's.
            if checksum(target, key, *bytes).await? == expected {
                return Ok((expected, false));
            }
        }
        let sum = target.copy_from(key, source, from_key, *bytes, *expected).await?;
        let stored = target.head(key).await?.map(|object| object.bytes);
        if stored != Some(*bytes) {
            let what = format!("copied bytes={bytes} found={stored:?}");
            return Err(BucketError::Corrupt { key: key.clone(), what });
        }
        Ok((sum, true))
    }
}
