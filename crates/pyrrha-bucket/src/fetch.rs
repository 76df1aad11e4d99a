//! Reading objects piece by piece: for their checksum, or to a local file.

use std::path::{Component, Path};

use pyrrha_encoding::crc;
use pyrrha_env::Disk;

use crate::door::Bucket;
use crate::error::BucketError;
use crate::upload_block::local;

/// An object is read in pieces of so many bytes.
const PIECE: u64 = 8 << 20;

/// Whether a file's name, as a manifest says it, stays within the directory of its block.
pub(crate) fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && !name.contains('\\')
        && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
}

/// The CRC-32C of an object of so many bytes.
pub(crate) async fn checksum(bucket: &Bucket, key: &str, bytes: u64) -> Result<u32, BucketError> {
    let (mut sum, mut at) = (0, 0);
    while at < bytes {
        let piece = piece(bucket, key, at, bytes).await?;
        sum = crc::checksum_append(sum, &piece);
        at += piece.len() as u64;
    }
    Ok(sum)
}

/// Writes an object of so many bytes to a file that must not exist, and gives its CRC-32C. The file is not
/// durable: it is for work that begins anew after a crash.
pub(crate) async fn to_file(
    bucket: &Bucket,
    key: &str,
    bytes: u64,
    disk: &dyn Disk,
    path: &Path,
) -> Result<u32, BucketError> {
    if let Some(dir) = path.parent() {
        disk.create_dir_all(dir).map_err(local(dir))?;
    }
    let file = disk.create_new(path).map_err(local(path))?;
    let (mut sum, mut at) = (0, 0);
    while at < bytes {
        let piece = piece(bucket, key, at, bytes).await?;
        file.write_at(at, &piece).map_err(local(path))?;
        sum = crc::checksum_append(sum, &piece);
        at += piece.len() as u64;
    }
    Ok(sum)
}

async fn piece(bucket: &Bucket, key: &str, at: u64, bytes: u64) -> Result<bytes::Bytes, BucketError> {
    let piece = bucket.get_range(key, at..bytes.min(at + PIECE)).await?;
    if piece.is_empty() {
        return Err(BucketError::Corrupt { key: key.to_owned(), what: format!("object ends at bytes={at}") });
    }
    Ok(piece)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_not_followed() {
        assert!(["index", "chunks/000001", "a.b"].into_iter().all(is_plain));
        assert!(!["", "../x", "a/../../x", "/etc/passwd", "a\\b", "./x", "a/.."].into_iter().any(is_plain));
    }
}
