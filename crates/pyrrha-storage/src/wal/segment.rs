//! Segment files: their names, header and the list of earlier segments in it (`docs/format/wal.md`).

use std::path::{Path, PathBuf};

use super::WalError;
use super::frame::{SegmentKey, u32_at, u64_at};

const MAGIC: &[u8; 8] = b"PYRRHAWL";
/// The format that this build writes and reads.
const VERSION: u32 = 1;
/// Bytes of one copy of the identity: magic, version, list length, number, nonce, created, CRC.
const IDENTITY: usize = 44;
/// Where the second copy of the identity lies: in another sector.
const SECOND: usize = 512;
/// Where the list of earlier segments lies.
const LIST: usize = 1024;
/// Bytes of an entry of the list.
const ENTRY: usize = 24;
/// Most entries that a header lists.
pub(super) const MAX_LISTED: usize = 4096;

/// The end of a segment that could not be read when its successor was created.
pub(super) const UNKNOWN: u64 = u64::MAX;

/// How an earlier segment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Ended {
    /// Number of the segment.
    pub(super) number: u64,
    /// End of its last durable record, what lies beyond never counts; [`UNKNOWN`] if nobody could
    /// read it.
    pub(super) end: u64,
    /// Durable records.
    pub(super) records: u32,
    /// Samples in them.
    pub(super) samples: u32,
}

/// A segment's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) key: SegmentKey,
    /// Wall-clock time of its creation, ms.
    pub(super) created_ms: i64,
    /// The segments that stood when it was created; `None` if the list is damaged.
    pub(super) earlier: Option<Vec<Ended>>,
    /// Where the first record starts.
    pub(super) first: usize,
}

/// The path of a segment.
pub(crate) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:010}.wal"))
}

/// The number in a segment's file name; `None` for other files.
pub(crate) fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".wal")?;
    let ours = digits.len() >= 10 && digits.bytes().all(|b| b.is_ascii_digit());
    if ours { digits.parse().ok() } else { None }
}

/// The bytes of a header.
pub(super) fn encode_header(key: SegmentKey, created_ms: i64, earlier: &[Ended]) -> Vec<u8> {
    let mut identity = Vec::with_capacity(IDENTITY);
    identity.extend_from_slice(MAGIC);
    identity.extend_from_slice(&VERSION.to_le_bytes());
    identity.extend_from_slice(&(earlier.len() as u32).to_le_bytes());
    identity.extend_from_slice(&key.number.to_le_bytes());
    identity.extend_from_slice(&key.nonce.to_le_bytes());
    identity.extend_from_slice(&created_ms.to_le_bytes());
    identity.extend_from_slice(&crc32c::crc32c(&identity).to_le_bytes());
    let mut out = vec![0; LIST];
    out[..IDENTITY].copy_from_slice(&identity);
    out[SECOND..SECOND + IDENTITY].copy_from_slice(&identity);
    for ended in earlier {
        out.extend_from_slice(&ended.number.to_le_bytes());
        out.extend_from_slice(&ended.end.to_le_bytes());
        out.extend_from_slice(&ended.records.to_le_bytes());
        out.extend_from_slice(&ended.samples.to_le_bytes());
    }
    let crc = crc32c::crc32c_append(key.nonce as u32, &out[LIST..]);
    out.extend_from_slice(&crc.to_le_bytes());
    out.resize(out.len().next_multiple_of(super::frame::ALIGN), 0);
    out
}

/// Reads the header of the segment that should have this number; `None` if it is not readable.
/// Fails only if the format is of another version.
pub(super) fn decode_header(
    bytes: &[u8],
    number: u64,
    path: &Path,
) -> Result<Option<SegmentHeader>, WalError> {
    for at in [0, SECOND] {
        let Some(copy) = bytes.get(at..at + IDENTITY) else { continue };
        let intact = crc32c::crc32c(&copy[..IDENTITY - 4]) == u32_at(copy, IDENTITY - 4);
        if &copy[..8] != MAGIC || !intact {
            continue;
        }
        let version = u32_at(copy, 8);
        if version != VERSION {
            return Err(WalError::Version { path: path.into(), found: version, supported: VERSION });
        }
        let key = SegmentKey { number: u64_at(copy, 16), nonce: u64_at(copy, 24) };
        if key.number != number {
            continue;
        }
        let listed = (u32_at(copy, 12) as usize).min(MAX_LISTED);
        let end = LIST + listed * ENTRY;
        return Ok(Some(SegmentHeader {
            key,
            created_ms: u64_at(copy, 32) as i64,
            earlier: decode_list(bytes, end, key),
            first: (end + 4).next_multiple_of(super::frame::ALIGN),
        }));
    }
    Ok(None)
}

fn decode_list(bytes: &[u8], end: usize, key: SegmentKey) -> Option<Vec<Ended>> {
    let list = bytes.get(LIST..end)?;
    let stored = u32_at(bytes.get(end..end + 4)?, 0);
    if crc32c::crc32c_append(key.nonce as u32, list) != stored {
        return None;
    }
    let entry = |e: &[u8]| Ended {
        number: u64_at(e, 0),
        end: u64_at(e, 8),
        records: u32_at(e, 16),
        samples: u32_at(e, 20),
    };
    Some(list.chunks_exact(ENTRY).map(entry).collect())
}

/// Whether a file whose header is not readable ever held records: they are written only after the
/// header is durable.
pub(super) fn has_records(bytes: &[u8]) -> bool {
    bytes.get(LIST..).is_some_and(super::frame::looks_framed)
}
