//! The container of a block's sidecar files: pages with checksums, and a trailer that says how many
//! there are. Format: docs/format/sidecars.md.
//!
//! ```text
//! magic | version 1 | 0 0 0 | { len u32 | page | crc32c(page) u32 }* | trailer, 32 bytes
//! ```

use std::path::Path;

use bytes::Bytes;
use pyrrha_encoding::crc;
use pyrrha_encoding::varint::{put_uvarint, take_bytes, take_count, take_u32, take_u64};
use pyrrha_env::{Disk, DiskFile};
use pyrrha_model::{TimeRange, Timestamp};

use super::error::{Blame, BlockError};

const VERSION: u8 = 1;
const HEADER: usize = 8;
const TRAILER: usize = 32;
/// Bytes after which a page is full.
const PAGE: usize = 64 << 10;

/// Name and magic of a sidecar file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    pub(super) file: &'static str,
    pub(super) magic: [u8; 4],
}

/// What the trailer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Summary {
    pages: u32,
    /// Exemplars, or metric families.
    pub(super) entries: u64,
    /// Times of the first and last entry, ms; empty where entries have no time.
    pub(super) times: TimeRange,
}

impl Default for Summary {
    fn default() -> Self {
        Self { pages: 0, entries: 0, times: TimeRange::new(Timestamp::MAX, Timestamp::MIN) }
    }
}

impl Summary {
    /// Counts an entry of time `t`.
    pub(super) fn add(&mut self, t: Timestamp) {
        self.entries += 1;
        self.times = TimeRange::new(self.times.start.min(t), self.times.end.max(t));
    }

    fn encode(&self, header: &[u8]) -> Vec<u8> {
        let mut out = self.pages.to_be_bytes().to_vec();
        out.extend_from_slice(&self.entries.to_be_bytes());
        out.extend_from_slice(&self.times.start.to_be_bytes());
        out.extend_from_slice(&self.times.end.to_be_bytes());
        let sum = crc::checksum_append(crc::checksum(header), &out);
        out.extend_from_slice(&sum.to_be_bytes());
        out
    }

    fn decode(header: &[u8], trailer: &[u8]) -> Option<Self> {
        let (body, sum) = trailer.split_last_chunk::<4>()?;
        if crc::checksum_append(crc::checksum(header), body) != u32::from_be_bytes(*sum) {
            return None;
        }
        let input = &mut &body[..];
        let (pages, entries) = (take_u32(input).ok()?, take_u64(input).ok()?);
        let (start, end) = (take_u64(input).ok()?, take_u64(input).ok()?);
        Some(Self { pages, entries, times: TimeRange::new(start as i64, end as i64) })
    }
}

/// Writes a sidecar file, which is created with the first page.
#[derive(Debug)]
pub(super) struct SidecarWriter<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    blame: &'a Blame,
    kind: Kind,
    file: Option<Box<dyn DiskFile>>,
    offset: u64,
    pub(super) summary: Summary,
}

impl<'a> SidecarWriter<'a> {
    pub(super) fn new(disk: &'a dyn Disk, dir: &'a Path, blame: &'a Blame, kind: Kind) -> Self {
        Self { disk, dir, blame, kind, file: None, offset: 0, summary: Summary::default() }
    }

    /// Whether a page of so many bytes is full.
    pub(super) fn is_full(page: usize) -> bool {
        page >= PAGE
    }

    /// Appends a page.
    pub(super) fn page(&mut self, body: &[u8]) -> Result<(), BlockError> {
        if u32::try_from(body.len()).is_err() {
            return Err(self.blame.refused(format!("page of {} beyond 4 GiB", self.kind.file)));
        }
        let mut framed = Vec::with_capacity(body.len() + HEADER + 8);
        if self.file.is_none() {
            let file = self.disk.create_new(&self.dir.join(self.kind.file));
            self.file = Some(file.map_err(self.blame.io(self.kind.file))?);
            framed.extend_from_slice(&self.header());
        }
        crc::put_section(&mut framed, body);
        self.summary.pages += 1;
        self.write(&framed)
    }

    fn header(&self) -> [u8; HEADER] {
        let [a, b, c, d] = self.kind.magic;
        [a, b, c, d, VERSION, 0, 0, 0]
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), BlockError> {
        let Some(file) = &self.file else { return Ok(()) };
        file.write_at(self.offset, bytes).map_err(self.blame.io(self.kind.file))?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    /// Ends the file and syncs it; without a page there is none.
    pub(super) fn finish(mut self) -> Result<Summary, BlockError> {
        let trailer = self.summary.encode(&self.header());
        self.write(&trailer)?;
        match &self.file {
            Some(file) => file.sync_data().map_err(self.blame.io(self.kind.file))?,
            None => return Ok(Summary::default()),
        }
        Ok(self.summary)
    }
}

/// An open sidecar file. Its header and trailer are verified, its pages when they are read.
#[derive(Debug)]
pub(super) struct Sidecar {
    kind: Kind,
    blame: Blame,
    bytes: Bytes,
    pub(super) summary: Summary,
}

impl Sidecar {
    /// Opens the file of a block; `None` if the block has none.
    pub(super) fn open(
        disk: &dyn Disk,
        dir: &Path,
        blame: &Blame,
        kind: Kind,
    ) -> Result<Option<Self>, BlockError> {
        let path = dir.join(kind.file);
        if !disk.exists(&path) {
            return Ok(None);
        }
        let bytes = disk.map(&path).map_err(blame.io(kind.file))?;
        Self::of(bytes, blame, kind).map(Some)
    }

    /// Reads a file's content, whoever wrote it; `block` is the block's name, for errors.
    pub(super) fn parse(block: &str, bytes: Bytes, kind: Kind) -> Result<Self, BlockError> {
        Self::of(bytes, &Blame::new(block.as_ref()), kind)
    }

    fn of(bytes: Bytes, blame: &Blame, kind: Kind) -> Result<Self, BlockError> {
        let header = bytes
            .get(..HEADER)
            .filter(|h| h.starts_with(&kind.magic))
            .ok_or_else(|| blame.corrupt(kind.file, 0, "sidecar header"))?;
        if header[4] != VERSION {
            return Err(blame.corrupt(kind.file, 4, format!("sidecar version {}", header[4])));
        }
        let at = bytes.len().checked_sub(TRAILER).filter(|&at| at >= HEADER);
        let at = at.ok_or_else(|| blame.corrupt(kind.file, HEADER as u64, "sidecar is too short"))?;
        let summary = Summary::decode(header, &bytes[at..])
            .ok_or_else(|| blame.corrupt(kind.file, at as u64, "sidecar trailer"))?;
        Ok(Self { kind, blame: blame.clone(), bytes, summary })
    }

    /// Bytes of the file.
    pub(super) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Its pages, in order, each with its offset.
    pub(super) fn pages(&self) -> Pages<'_> {
        Pages { sidecar: self, at: HEADER, left: self.summary.pages }
    }

    /// The file's damage at an offset.
    pub(super) fn damage(&self, offset: usize, what: &str) -> BlockError {
        self.blame.corrupt(self.kind.file, offset as u64, what)
    }
}

/// The pages of a sidecar, one after another.
#[derive(Debug, Clone)]
pub(super) struct Pages<'a> {
    sidecar: &'a Sidecar,
    at: usize,
    left: u32,
}

impl<'a> Iterator for Pages<'a> {
    type Item = Result<(usize, &'a [u8]), BlockError>;

    fn next(&mut self) -> Option<Self::Item> {
        let end = self.sidecar.bytes.len() - TRAILER;
        if self.left == 0 {
            let rest = std::mem::replace(&mut self.at, end);
            return (rest != end).then(|| Err(self.sidecar.damage(rest, "bytes after the last page")));
        }
        let at = self.at;
        let mut input = &self.sidecar.bytes[at..end];
        match crc::take_section("sidecar page", &mut input) {
            Ok(page) => {
                self.left -= 1;
                self.at = end - input.len();
                Some(Ok((at, page)))
            }
            Err(error) => {
                (self.left, self.at) = (0, end);
                Some(Err(self.sidecar.damage(at, &error.to_string())))
            }
        }
    }
}

/// Appends a text with its length.
pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_uvarint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Reads a text with its length.
pub(super) fn take_text<'a>(input: &mut &'a [u8]) -> Option<&'a str> {
    let len = take_count(input, 1).ok()?;
    std::str::from_utf8(take_bytes(input, len).ok()?).ok()
}

#[cfg(test)]
mod tests;
