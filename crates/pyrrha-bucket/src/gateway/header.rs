//! The header of a block's index: fetched by ranges once, kept in a local file, mapped.
//!
//! ```text
//! head of the index | tail of the index | length of the index u64 | crc32c u32 | "pyrrhaH1"
//! ```
//!
//! All integers big-endian; the checksum is of everything before it.

use std::io;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use pyrrha_encoding::crc;
use pyrrha_encoding::varint::{take_u32, take_u64};
use pyrrha_env::Disk;
use pyrrha_index::{HeaderLayout, IndexError, IndexHeader};
use pyrrha_model::StoreError;
use pyrrha_model::contract::{Fetched, QueryContext};

use super::budget::Reserved;
use crate::door::Bucket;
use crate::error::BucketError;

const MAGIC: &[u8; 8] = b"pyrrhaH1";
const TRAILER: usize = 8 + 4 + MAGIC.len();
/// What is fetched of the end of an index before anything is known: of most blocks all of the tail.
const FIRST_FETCH: u64 = 128 << 10;
/// Largest header.
const HEADER_MAX: u64 = 2 << 30;

/// Reads the header that was kept in a file; `None` if there is none, or it is damaged.
pub(super) fn load(disk: &dyn Disk, path: &Path, index_bytes: u64) -> Option<IndexHeader> {
    if !disk.exists(path) {
        return None;
    }
    let file = match disk.map(path) {
        Ok(file) => file,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "kept header cannot be read and is fetched again");
            return None;
        }
    };
    let header = parts(&file, index_bytes).and_then(|parts| IndexHeader::open(&parts, index_bytes).ok());
    if header.is_none() {
        tracing::warn!(path = %path.display(), "kept header is damaged and is fetched again");
        let _ = disk.remove_file(path);
    }
    header
}

/// The header's parts in a file that is whole and of an index of that length.
fn parts(file: &Bytes, index_bytes: u64) -> Option<Bytes> {
    let (parts, mut trailer) = file.split_at(file.len().checked_sub(TRAILER)?);
    let length = take_u64(&mut trailer).ok()?;
    let sum = take_u32(&mut trailer).ok()?;
    let checked = &file[..parts.len() + 8];
    let sound = length == index_bytes && trailer == MAGIC && sum == crc::checksum(checked);
    sound.then(|| file.slice(..parts.len()))
}

/// Keeps a header's parts. Failing to do harms nothing but the next start.
pub(super) fn keep(disk: &dyn Disk, path: &Path, parts: &[u8], index_bytes: u64) -> io::Result<()> {
    let mut trailer = index_bytes.to_be_bytes().to_vec();
    let sum = crc::checksum_append(crc::checksum(parts), &trailer);
    trailer.extend_from_slice(&sum.to_be_bytes());
    trailer.extend_from_slice(MAGIC);
    if let Some(dir) = path.parent() {
        disk.create_dir_all(dir)?;
    }
    let draft = path.with_extension("tmp");
    if disk.exists(&draft) {
        disk.remove_file(&draft)?;
    }
    let file = disk.create_new(&draft)?;
    file.write_at(0, parts)?;
    file.write_at(parts.len() as u64, &trailer)?;
    // Not synced: what a power loss tears the checksum tells, and it is fetched again.
    disk.rename(&draft, path)
}

/// Fetches the parts of a header: the end of the index, then what is missing of tail and head. Gives the
/// whole index, too, if it is so small that it came along.
pub(super) async fn fetch(
    bucket: &Bucket,
    key: &str,
    index_bytes: u64,
    reserved: &mut Reserved,
) -> Result<(Bytes, Option<Bytes>), StoreError> {
    let damaged = |e: IndexError| BucketError::Corrupt { key: key.to_owned(), what: e.to_string() };
    let first = index_bytes.saturating_sub(FIRST_FETCH);
    reserved.grow(index_bytes - first)?;
    let fetched = reserved.fetched().clone();
    let exactly = |range| exactly(bucket, key, range, &fetched);
    let end = exactly(first..index_bytes).await?;
    let toc = end.len().saturating_sub(HeaderLayout::TOC_BYTES as usize);
    let layout = HeaderLayout::read(&end[toc..], index_bytes).map_err(damaged)?;
    let bytes = layout.head.end.saturating_add(layout.tail.end - layout.tail.start);
    if bytes > HEADER_MAX {
        return Err(BucketError::TooLarge { key: key.to_owned(), bytes, limit: HEADER_MAX }.into());
    }
    // What is fetched, and the parts in one piece.
    reserved.grow(bytes.saturating_mul(2))?;
    let head = async {
        // A small index is here already.
        if first == 0 {
            Ok(end.slice(..layout.head.end as usize))
        } else {
            exactly(layout.head.clone()).await
        }
    };
    let tail = async {
        if layout.tail.start >= first {
            return Ok(end.slice((layout.tail.start - first) as usize..));
        }
        let before = exactly(layout.tail.start..first).await?;
        let mut tail = BytesMut::from(&before[..]);
        tail.extend_from_slice(&end);
        Ok(tail.freeze())
    };
    let (head, tail) = futures::future::try_join(head, tail).await?;
    let mut parts = BytesMut::with_capacity(head.len() + tail.len());
    parts.extend_from_slice(&head);
    parts.extend_from_slice(&tail);
    Ok((parts.freeze(), (first == 0).then_some(end)))
}

/// Reads the tables of an index of that length, and keeps nothing.
pub(crate) async fn check(bucket: &Bucket, key: &str, index_bytes: u64) -> Result<(), StoreError> {
    let mut reserved = Reserved::new(&QueryContext::unlimited(), 0)?;
    let (parts, _) = fetch(bucket, key, index_bytes, &mut reserved).await?;
    let corrupt = |e: IndexError| StoreError::new(e.kind(), format!("index does not read: {e} key={key}"));
    IndexHeader::open(&parts, index_bytes).map(drop).map_err(corrupt)
}

/// Removes the headers in a directory, and drafts of them, of which `is_live` does not know the block's name.
/// A block that is read still has what it mapped; what is not removed now is at the next time.
pub(super) fn sweep(disk: &dyn Disk, dir: &Path, is_live: impl Fn(&str) -> bool) {
    if !disk.exists(dir) {
        return;
    }
    let listed = match disk.list(dir) {
        Ok(listed) => listed,
        Err(error) => {
            tracing::warn!(dir = %dir.display(), %error, "kept headers cannot be listed");
            return;
        }
    };
    for entry in listed.iter().filter(|entry| !entry.is_dir) {
        let name = entry.name.strip_suffix(".header").or_else(|| entry.name.strip_suffix(".tmp"));
        if name.is_none_or(&is_live) {
            continue;
        }
        if let Err(error) = disk.remove_file(&dir.join(&entry.name)) {
            tracing::warn!(dir = %dir.display(), file = entry.name, %error, "header of a block that is gone cannot be removed");
        }
    }
}

async fn exactly(
    bucket: &Bucket,
    key: &str,
    range: std::ops::Range<u64>,
    fetched: &Fetched,
) -> Result<Bytes, BucketError> {
    let wanted = range.end - range.start;
    let bytes = bucket.get_range(key, range).await?;
    fetched.request(bytes.len() as u64);
    if bytes.len() as u64 != wanted {
        return Err(BucketError::Corrupt { key: key.to_owned(), what: "index is cut short".to_owned() });
    }
    Ok(bytes)
}
