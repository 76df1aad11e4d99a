//! Copying a block's objects to another bucket, each verified by its checksum.

use futures::stream::{self, StreamExt, TryStreamExt};
use pyrrha_model::{ErrorKind, StoreError, TenantId};
use pyrrha_storage::block::BlockId;
use pyrrha_storage::manifest::BlockEntry;

use super::{BucketTools, Progress};
use crate::block_files::{BlockFile, META, dir_under, files};
use crate::door::{Bucket, ObjectInfo};
use crate::error::BucketError;
use crate::fetch::{checksum, is_plain};
use crate::marks::{MarkFiles, SUFFIX};

/// Requests for small objects under way at once.
const REQUESTS_AT_ONCE: usize = 16;

/// How blocks are copied to another bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CopyOptions {
    /// Nothing is written.
    pub dry_run: bool,
    /// Blocks are copied, too, of which data was there and went for good by retention or deletes, or may have.
    pub brings_back: bool,
}

/// What a copy of blocks has come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Copied {
    /// Bytes that were copied, or would be.
    pub(crate) copied_bytes: u64,
    /// Bytes that were there.
    pub(crate) present_bytes: u64,
}

/// A copy of blocks to a tenant of another bucket.
pub(crate) struct BlockCopy<'a> {
    pub(crate) from: &'a BucketTools,
    pub(crate) to: &'a BucketTools,
    /// Whose they are there.
    pub(crate) tenant: &'a TenantId,
    /// What progress calls it.
    pub(crate) word: &'a str,
    /// Nothing is written.
    pub(crate) dry_run: bool,
    /// Each object is read back.
    pub(crate) reads_back: bool,
    /// Bytes of all blocks that are to be copied.
    pub(crate) total: u64,
}

/// The files of a block as its entry names them, `meta.json` last: whoever looks at a bucket takes a block
/// for whole once that is there.
pub(crate) fn named_files(entry: &BlockEntry) -> Result<Vec<BlockFile>, StoreError> {
    let mut named = files(entry);
    if named.is_empty() || !named.iter().all(|file| is_plain(&file.name)) {
        let text = format!("files of a block are not named, or oddly: block={}", entry.ulid);
        return Err(StoreError::new(ErrorKind::Corrupt, text));
    }
    named.sort_by_key(|file| file.name == META);
    Ok(named)
}

impl BlockCopy<'_> {
    /// Fails if copied blocks are not there any more. Of a block that is removed `meta.json` goes first.
    pub(crate) fn must_be_there(&self, entries: &[BlockEntry]) -> Result<(), StoreError> {
        let (bucket, tenant) = (self.to.tenants.bucket().clone(), self.tenant.clone());
        let blocks: Vec<BlockId> = entries.iter().map(|entry| entry.ulid).collect();
        let gone = self.to.runtime.wait(async move {
            let looks = blocks.into_iter().map(|block| {
                let (bucket, key) = (&bucket, format!("{}/{META}", dir_under(&tenant, None, block)));
                async move { Ok::<_, BucketError>(bucket.head(&key).await?.is_none().then_some(block)) }
            });
            let looks = looks.collect::<Vec<_>>();
            let found: Vec<_> = stream::iter(looks).buffered(REQUESTS_AT_ONCE).try_collect().await?;
            Ok(found.into_iter().flatten().next())
        })?;
        let Some(block) = gone else { return Ok(()) };
        let text = format!(
            "a block was removed while others were copied, run it again: tenant={} block={block}",
            self.tenant
        );
        Err(StoreError::new(ErrorKind::Unavailable, text))
    }

    /// Copies what is missing of a block's objects, which lie in `from_dir`, and gives them with checksums.
    pub(crate) fn block(
        &self,
        from_dir: &str,
        entry: &BlockEntry,
        done: &mut Copied,
        progress: Progress<'_>,
    ) -> Result<Vec<BlockFile>, StoreError> {
        let mut named = named_files(entry)?;
        // Where it goes it lies under the tenant.
        let dir = dir_under(self.tenant, None, entry.ulid);
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
            let one = One { from_key, key, bytes, expected, is_there, reads_back: self.reads_back };
            let (sum, copied) = self.from.runtime.wait(async move { one.copy(&source, &to).await })?;
            file.crc32c = Some(sum);
            let count = if copied { &mut done.copied_bytes } else { &mut done.present_bytes };
            *count = count.saturating_add(bytes);
        }
        if !self.dry_run {
            let (bucket, files) = (self.to.tenants.bucket().clone(), named.clone());
            let marks = MarkFiles::new(bucket.clone(), self.tenant);
            let block = entry.ulid;
            self.to.runtime.wait(async move {
                let there = bucket.list(&dir).await?;
                verify(&there, &dir, &files)?;
                // Those of an earlier life would let it go again. What its entry has is written with the commit.
                for mark in there.iter().filter(|object| object.key.ends_with(SUFFIX)) {
                    bucket.delete(&mark.key).await?;
                }
                marks.forget(block).await
            })?;
        }
        Ok(named)
    }
}

/// Whether each file is there in its full length.
fn verify(there: &[ObjectInfo], dir: &str, files: &[BlockFile]) -> Result<(), BucketError> {
    for file in files {
        let key = format!("{dir}/{}", file.name);
        let found = there.iter().find(|object| object.key == key).map(|object| object.bytes);
        if found != Some(file.bytes) {
            let what = format!("copied bytes={} found={found:?}", file.bytes);
            return Err(BucketError::Corrupt { key, what });
        }
    }
    Ok(())
}

/// One object.
struct One {
    from_key: String,
    key: String,
    bytes: u64,
    expected: Option<u32>,
    is_there: bool,
    reads_back: bool,
}

impl One {
    /// Copies it unless it is there with the right checksum. Gives that, and whether it was copied.
    async fn copy(&self, source: &Bucket, target: &Bucket) -> Result<(u32, bool), BucketError> {
        let Self { from_key, key, bytes, expected, is_there, reads_back } = self;
        if *is_there && let Some(expected) = *expected {
            // An object is whole or absent, but one of that name and length may be another's.
            if checksum(target, key, *bytes).await? == expected {
                return Ok((expected, false));
            }
        }
        let sum = target.copy_from(key, source, from_key, *bytes, *expected).await?;
        if *reads_back {
            let stored = checksum(target, key, *bytes).await?;
            if stored != sum {
                let what = format!("expected crc32c={sum:08x} found={stored:08x}");
                return Err(BucketError::Corrupt { key: key.clone(), what });
            }
        }
        Ok((sum, true))
    }
}
