//! Sealed chunks of a head: appended to pages in memory, moved to files of their own and read from
//! there through memory maps, so that only open chunks take anonymous memory.
//!
//! Format of the files: docs/format/head.md.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use pyrrha_env::{Disk, DiskFile};
use pyrrha_model::{ChunkEncoding, Timestamp};

/// First bytes of a head chunk file: magic and version.
pub(crate) const FILE_HEADER: [u8; 8] = *b"PYHC\0\0\0\x01";
/// Bytes before a chunk in its record: length, encoding, three zeros, CRC-32C.
pub(crate) const RECORD_HEADER: usize = 12;
const PAGE: usize = 64 << 10;
/// Ends of file names, by what is on the shelf.
const IN_ORDER: &str = ".chunks";
const LATE: &str = ".late";
const FILE_LIMIT: u32 = 128 << 20;
/// Files are allocated at least so far ahead, and by their length up to the most.
const ALLOCATE: (u64, u64) = (64 << 10, 8 << 20);

/// Which chunks share a segment: those of one block range that came in order, or those of one late
/// range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Shelf {
    /// Start of the block range.
    pub(crate) start: Timestamp,
    /// Id of the late range; 0: in order.
    pub(crate) late: u64,
}

impl Shelf {
    /// Of chunks that came in order.
    pub(crate) fn in_order(start: Timestamp) -> Self {
        Self { start, late: 0 }
    }
}

/// Where a sealed chunk is: segment number, offset of its bytes, their length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Place {
    pub(crate) segment: u32,
    pub(crate) offset: u32,
    pub(crate) len: u32,
}

/// Chunks of one shelf, in one file.
#[derive(Debug)]
struct Segment {
    shelf: Shelf,
    /// The file's content as far as it is written.
    mapped: Bytes,
    /// Full pages with their offsets that are not in the file yet.
    pages: Vec<(u32, Bytes)>,
    /// The page being filled.
    page: Vec<u8>,
    page_offset: u32,
    file: Option<Arc<SegmentFile>>,
}

/// An open head chunk file.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    path: PathBuf,
    file: Box<dyn DiskFile>,
    /// A sync has failed: what it was to make durable may be lost, whatever a later one says.
    failed: AtomicBool,
}

/// Bytes of a segment that wait for its file.
pub(crate) struct Unwritten {
    segment: u32,
    shelf: Shelf,
    file: Option<Arc<SegmentFile>>,
    from: u32,
    pages: Vec<(u32, Bytes)>,
}

/// A segment's file after a write.
pub(crate) struct Written {
    segment: u32,
    file: Arc<SegmentFile>,
    mapped: Bytes,
}

/// All sealed chunks of a head.
#[derive(Debug, Default)]
pub(crate) struct ChunkStore {
    segments: BTreeMap<u32, Segment>,
    next: u32,
    /// The segment that takes the chunks of a shelf.
    open: BTreeMap<Shelf, u32>,
}

/// A chunk could not be read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Damaged;

impl ChunkStore {
    /// Stores a chunk on a shelf.
    pub(crate) fn append(&mut self, shelf: Shelf, encoding: ChunkEncoding, chunk: &[u8]) -> Place {
        let number = self.segment_for(shelf, chunk.len());
        let segment = self.segments.get_mut(&number).expect("segment_for returns a segment that exists");
        if segment.page.len() + chunk.len() + RECORD_HEADER > PAGE {
            segment.close_page();
        }
        let head = [encoding as u8, 0, 0, 0];
        let crc = crc32c::crc32c_append(crc32c::crc32c(&head), chunk);
        segment.page.extend_from_slice(&(chunk.len() as u32).to_le_bytes());
        segment.page.extend_from_slice(&head);
        segment.page.extend_from_slice(&crc.to_le_bytes());
        let offset = segment.page_offset + segment.page.len() as u32;
        segment.page.extend_from_slice(chunk);
        Place { segment: number, offset, len: chunk.len() as u32 }
    }

    fn segment_for(&mut self, shelf: Shelf, len: usize) -> u32 {
        if let Some(&number) = self.open.get(&shelf)
            && self.segments.get(&number).is_some_and(|s| (s.end() as usize) + len < FILE_LIMIT as usize)
        {
            return number;
        }
        let number = self.next;
        self.next += 1;
        self.open.insert(shelf, number);
        self.segments.insert(number, Segment::new(shelf));
        number
    }

    /// Adds a file that an earlier run wrote, under its number.
    pub(crate) fn adopt(&mut self, number: u32, shelf: Shelf, mapped: Bytes) {
        let mut segment = Segment::new(shelf);
        segment.page.clear();
        segment.page_offset = u32::try_from(mapped.len()).unwrap_or(u32::MAX);
        segment.mapped = mapped;
        self.segments.insert(number, segment);
        self.next = self.next.max(number + 1);
    }

    /// Numbers from here on are free.
    pub(crate) fn reserve_numbers(&mut self, next: u32) {
        self.next = self.next.max(next);
    }

    /// The number of the next file.
    pub(crate) fn next_number(&self) -> u32 {
        self.next
    }

    /// The bytes of a chunk, verified.
    pub(crate) fn read(&self, place: Place, encoding: ChunkEncoding) -> Result<Bytes, Damaged> {
        let segment = self.segments.get(&place.segment).ok_or(Damaged)?;
        let (held, at) = segment.record(place).ok_or(Damaged)?;
        let record = held.bytes().get(at.clone()).ok_or(Damaged)?;
        let (head, chunk) = record.split_at_checked(RECORD_HEADER).ok_or(Damaged)?;
        let crc = crc32c::crc32c_append(crc32c::crc32c(&head[4..8]), chunk);
        if head[..4] != place.len.to_le_bytes()
            || head[4] != encoding as u8
            || head[8..12] != crc.to_le_bytes()
        {
            return Err(Damaged);
        }
        Ok(held.share(at.start + RECORD_HEADER..at.end))
    }

    /// The first byte of a chunk's record, unchecked; 0 where there is none.
    #[inline]
    pub(crate) fn first_byte(&self, place: Place) -> u8 {
        let record = self.segments.get(&place.segment).and_then(|segment| segment.record(place));
        record.and_then(|(held, at)| held.bytes().get(at.start).copied()).unwrap_or(0)
    }

    /// What files have to take; `all` includes pages that are not full.
    pub(crate) fn unwritten(&mut self, all: bool) -> Vec<Unwritten> {
        let mut found = Vec::new();
        for (&number, segment) in &mut self.segments {
            if all && !segment.page.is_empty() && segment.end() > segment.mapped.len() as u32 {
                segment.close_page();
            }
            if !segment.pages.is_empty() {
                found.push(Unwritten {
                    segment: number,
                    shelf: segment.shelf,
                    file: segment.file.clone(),
                    from: segment.mapped.len() as u32,
                    pages: segment.pages.clone(),
                });
            }
        }
        found
    }

    /// Takes over what was written: chunks are read from the file from now on.
    pub(crate) fn written(&mut self, written: Written) {
        if let Some(segment) = self.segments.get_mut(&written.segment) {
            let end = written.mapped.len() as u32;
            segment.pages.retain(|(offset, _)| *offset >= end);
            segment.mapped = written.mapped;
            segment.file = Some(written.file);
        }
    }

    /// Segments as (number, shelf, bytes in the file, the file if this run wrote it).
    pub(crate) fn segments(&self) -> impl Iterator<Item = (u32, Shelf, u32, Option<&Arc<SegmentFile>>)> + '_ {
        self.segments.iter().map(|(&n, s)| (n, s.shelf, s.mapped.len() as u32, s.file.as_ref()))
    }

    /// Forgets the segments of shelves for which `gone` is true, and returns their numbers and
    /// shelves: their files can be removed.
    pub(crate) fn remove(&mut self, gone: impl Fn(Shelf) -> bool) -> Vec<(u32, Shelf)> {
        self.open.retain(|&shelf, _| !gone(shelf));
        let dead: Vec<(u32, Shelf)> =
            self.segments.iter().filter(|(_, s)| gone(s.shelf)).map(|(&n, s)| (n, s.shelf)).collect();
        dead.iter().for_each(|(number, _)| drop(self.segments.remove(number)));
        dead
    }

    /// Bytes in anonymous memory, and bytes in files.
    pub(crate) fn bytes(&self) -> (usize, usize) {
        self.segments.values().fold((0, 0), |(memory, files), s| {
            let pages: usize = s.pages.iter().map(|(_, p)| p.len()).sum();
            (memory + pages + s.page.capacity(), files + s.mapped.len())
        })
    }
}

impl Segment {
    fn new(shelf: Shelf) -> Self {
        Self {
            shelf,
            mapped: Bytes::new(),
            pages: Vec::new(),
            page: FILE_HEADER.to_vec(),
            page_offset: 0,
            file: None,
        }
    }

    fn end(&self) -> u32 {
        self.page_offset + self.page.len() as u32
    }

    fn close_page(&mut self) {
        if !self.page.is_empty() {
            let page = Bytes::from(std::mem::take(&mut self.page).into_boxed_slice());
            let offset = self.page_offset;
            self.page_offset += page.len() as u32;
            self.pages.push((offset, page));
        }
    }

    /// Where the record of a chunk with its header is.
    fn record(&self, place: Place) -> Option<(Held<'_>, Range<usize>)> {
        let start = (place.offset as usize).checked_sub(RECORD_HEADER)?;
        let end = (place.offset as usize).checked_add(place.len as usize)?;
        if end <= self.mapped.len() {
            return Some((Held::Shared(&self.mapped), start..end));
        }
        if start >= self.page_offset as usize {
            let before = self.page_offset as usize;
            return Some((Held::Open(&self.page), start - before..end - before));
        }
        let after = self.pages.partition_point(|(offset, _)| *offset as usize <= start);
        let (offset, page) = self.pages.get(after.checked_sub(1)?)?;
        let before = *offset as usize;
        Some((Held::Shared(page), start - before..end - before))
    }
}

/// Bytes of a segment.
enum Held<'a> {
    /// That others may hold on to.
    Shared(&'a Bytes),
    /// Of the page that is being filled.
    Open(&'a [u8]),
}

impl Held<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Open(bytes) => bytes,
        }
    }

    /// Bytes to keep. Threads that read the same file count on one number, so this is done once for
    /// each chunk.
    fn share(&self, range: Range<usize>) -> Bytes {
        match self {
            Self::Shared(bytes) => bytes.slice(range),
            Self::Open(bytes) => Bytes::copy_from_slice(&bytes[range]),
        }
    }
}

impl SegmentFile {
    /// Makes its content durable. False if it is not and never will be.
    pub(crate) fn sync(&self) -> bool {
        if self.failed.load(Ordering::Acquire) {
            return false;
        }
        match self.file.sync_data() {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(path = %self.path.display(), %error, "head chunk file could not be synced, checkpoints hold its chunks from now on");
                self.failed.store(true, Ordering::Release);
                false
            }
        }
    }
}

impl Unwritten {
    /// Writes the pages, creating the file in `dir` if there is none yet.
    pub(crate) fn write(self, disk: &dyn Disk, dir: &Path) -> io::Result<Written> {
        let file = match self.file {
            Some(file) => file,
            None => {
                let path = dir.join(file_name(self.segment, self.shelf));
                let file = disk.create_new(&path)?;
                Arc::new(SegmentFile { path, file, failed: AtomicBool::new(false) })
            }
        };
        let (mut at, from) = (u64::from(self.from), u64::from(self.from));
        let total: u64 = self.pages.iter().map(|(_, p)| p.len() as u64).sum();
        let len = file.file.len()?;
        if len < from + total {
            let ahead = from.clamp(ALLOCATE.0, ALLOCATE.1);
            file.file.allocate(from + total + ahead)?;
        }
        for (offset, page) in &self.pages {
            debug_assert_eq!(u64::from(*offset), at);
            file.file.write_at(at, page)?;
            at += page.len() as u64;
        }
        let mapped = disk.map(&file.path)?;
        let end = usize::try_from(at).map_err(io::Error::other)?;
        if mapped.len() < end {
            return Err(io::Error::other("head chunk file is shorter than what was written to it"));
        }
        Ok(Written { segment: self.segment, file, mapped: mapped.slice(..end) })
    }
}

/// Name of a head chunk file.
pub(crate) fn file_name(segment: u32, shelf: Shelf) -> String {
    let suffix = if shelf.late == 0 { IN_ORDER } else { LATE };
    format!("{segment:08}-{}{suffix}", shelf.start)
}

/// Segment number and range start of a head chunk file's name.
pub(crate) fn parse_file_name(name: &str) -> Option<(u32, Timestamp)> {
    let rest = name.strip_suffix(IN_ORDER).or_else(|| name.strip_suffix(LATE))?;
    let (segment, start) = rest.split_once('-')?;
    Some((segment.parse().ok()?, start.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use pyrrha_env::OsDisk;

    use super::*;

    #[test]
    fn chunks_read_back_from_page_and_file_and_damage_is_seen() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut store = ChunkStore::default();
        let chunk = |i: usize| vec![i as u8; 10 + i % 500];
        let mut places = Vec::new();
        for i in 0..3000 {
            let shelf = Shelf { start: 0, late: i as u64 % 2 };
            places.push(store.append(shelf, ChunkEncoding::Xor, &chunk(i)));
            if i % 1000 == 999 {
                for unwritten in store.unwritten(i == 1999) {
                    let written = unwritten.write(&OsDisk, dir.path()).expect("write");
                    store.written(written);
                }
            }
        }
        for (i, &place) in places.iter().enumerate() {
            assert_eq!(store.read(place, ChunkEncoding::Xor).as_deref(), Ok(&chunk(i)[..]), "chunk {i}");
        }
        assert_eq!(store.read(places[0], ChunkEncoding::Histogram), Err(Damaged));
        let off = Place { offset: places[5].offset + 1, ..places[5] };
        assert_eq!(store.read(off, ChunkEncoding::Xor), Err(Damaged));
        let file = store.segments().find_map(|s| s.3.cloned()).expect("a file");
        let at = u64::from(places[0].offset);
        file.file.write_at(at, &[99]).expect("write");
        assert_eq!(store.read(places[0], ChunkEncoding::Xor), Err(Damaged));
        assert_eq!(store.remove(|shelf| shelf.late == 0).len(), 1);
        assert_eq!(store.read(places[2], ChunkEncoding::Xor), Err(Damaged));
        assert!(store.read(places[1], ChunkEncoding::Xor).is_ok());
        let shelf = Shelf::in_order(-7200);
        assert_eq!(parse_file_name(&file_name(3, shelf)), Some((3, -7200)));
        assert_ne!(file_name(3, shelf), file_name(3, Shelf { late: 7, ..shelf }));
        assert_eq!(parse_file_name(&file_name(3, Shelf { late: 7, ..shelf })), Some((3, -7200)));
    }
}
