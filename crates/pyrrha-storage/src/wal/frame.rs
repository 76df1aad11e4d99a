//! Records in a segment file: framed, checksummed, and findable after damage (`docs/format/wal.md`).
//!
//! A frame starts at a multiple of eight bytes with a magic number; both of its checksums cover the
//! segment's number and nonce and the frame's own offset, so that bytes which were copied, moved or
//! left over from elsewhere are never taken for a record.

use super::WalError;

/// First four bytes of a frame.
const MAGIC: u32 = 0x1EA5_7E9F;
/// Bytes before the payload.
pub(super) const HEADER: usize = 32;
/// Frames start at multiples of this.
pub(super) const ALIGN: usize = 8;
/// Flag of the last frame of a group commit.
const LAST: u8 = 1;

/// What ties frames to one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentKey {
    pub(super) number: u64,
    pub(super) nonce: u64,
}

impl SegmentKey {
    /// Checksum that those of a frame at `offset` continue.
    fn seed(self, offset: u64) -> u32 {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.nonce.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.number.to_le_bytes());
        bytes[16..].copy_from_slice(&offset.to_le_bytes());
        crc32c::crc32c(&bytes)
    }
}

/// The header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct FrameHeader {
    /// Bytes of payload.
    pub(super) len: u32,
    /// What the payload is.
    pub(super) kind: u8,
    /// Whether it is the last frame of its group commit.
    pub(super) last: bool,
    /// Number of its group commit in the segment, modulo 2^16.
    pub(super) group: u16,
    /// Frames before it in the segment.
    pub(super) records_before: u32,
    /// Samples before it in the segment.
    pub(super) samples_before: u32,
    /// Samples in it.
    pub(super) samples: u32,
}

/// What is at an offset.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// A good frame, and where the next one may start.
    Frame(FrameHeader, &'a [u8], usize),
    /// A good header over a bad payload, and where the next frame may start.
    BadPayload(FrameHeader, usize),
    /// No frame: zeros or damage.
    Nothing,
}

/// Appends room for a frame header; the payload is to follow. Gives the frame's start in `out`.
pub(super) fn begin(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.resize(start + HEADER, 0);
    start
}

/// Completes the frame that begins at `start` of `out` and will lie at `offset` of its segment.
/// `header.len` is filled in. Fails if the payload takes 4 GiB or more.
pub(super) fn finish(
    out: &mut Vec<u8>,
    start: usize,
    mut header: FrameHeader,
    key: SegmentKey,
    offset: u64,
) -> Result<(), WalError> {
    let (payload_start, payload_end) = (start + HEADER, out.len());
    header.len = u32::try_from(payload_end - payload_start)
        .map_err(|_| WalError::BadBatch("its record would take 4 GiB or more"))?;
    let seed = key.seed(offset);
    let payload_crc = crc32c::crc32c_append(seed, &out[payload_start..payload_end]);
    let head = &mut out[start..payload_start];
    head[..4].copy_from_slice(&MAGIC.to_le_bytes());
    head[4..8].copy_from_slice(&header.len.to_le_bytes());
    head[8] = header.kind;
    head[9] = if header.last { LAST } else { 0 };
    head[10..12].copy_from_slice(&header.group.to_le_bytes());
    head[12..16].copy_from_slice(&header.records_before.to_le_bytes());
    head[16..20].copy_from_slice(&header.samples_before.to_le_bytes());
    head[20..24].copy_from_slice(&header.samples.to_le_bytes());
    head[24..28].copy_from_slice(&payload_crc.to_le_bytes());
    let header_crc = crc32c::crc32c_append(seed, &head[..28]);
    head[28..].copy_from_slice(&header_crc.to_le_bytes());
    out.resize(out.len().next_multiple_of(ALIGN), 0);
    Ok(())
}

/// Looks at `offset` (a multiple of eight) of a segment's bytes.
pub(super) fn read(segment: &[u8], offset: usize, key: SegmentKey) -> Found<'_> {
    let Some(head) = segment.get(offset..).and_then(|rest| rest.first_chunk::<HEADER>()) else {
        return Found::Nothing;
    };
    if u32_at(head, 0) != MAGIC {
        return Found::Nothing;
    }
    let seed = key.seed(offset as u64);
    if crc32c::crc32c_append(seed, &head[..28]) != u32_at(head, 28) {
        return Found::Nothing;
    }
    let header = FrameHeader {
        len: u32_at(head, 4),
        kind: head[8],
        last: head[9] & LAST != 0,
        group: u16::from_le_bytes([head[10], head[11]]),
        records_before: u32_at(head, 12),
        samples_before: u32_at(head, 16),
        samples: u32_at(head, 20),
    };
    let start = offset + HEADER;
    let end = start.saturating_add(header.len as usize);
    let next = end.min(segment.len()).next_multiple_of(ALIGN);
    match segment.get(start..end) {
        Some(payload) if crc32c::crc32c_append(seed, payload) == u32_at(head, 24) => {
            Found::Frame(header, payload, next)
        }
        _ => Found::BadPayload(header, next),
    }
}

/// The first offset at or after `from` with a good frame header.
pub(super) fn search(segment: &[u8], from: usize, key: SegmentKey) -> Option<usize> {
    let mut at = from.next_multiple_of(ALIGN);
    while at + HEADER <= segment.len() {
        // Only one in 2^32 offsets of foreign bytes costs more than this comparison.
        if segment[at..at + 4] == MAGIC.to_le_bytes() && read(segment, at, key) != Found::Nothing {
            return Some(at);
        }
        at += ALIGN;
    }
    None
}

/// Whether there is anything like a frame in bytes whose key is not known.
pub(super) fn looks_framed(bytes: &[u8]) -> bool {
    bytes.chunks(ALIGN).any(|chunk| chunk.starts_with(&MAGIC.to_le_bytes()))
}

/// A little-endian number inside bytes that are known to be long enough.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut four = [0; 4];
    four.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(four)
}

/// See [`u32_at`].
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(eight)
}
