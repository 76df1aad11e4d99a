//! A cache of pages of bucket objects on disk, within a hard budget of bytes.
//!
//! Pages are appended to segment files. A segment is removed whole when the budget needs its bytes;
//! what is asked for in the oldest ones is appended again before. Nothing is synced: each record says
//! what it is and carries a checksum, and what a crash tore is not there.
//!
//! ```text
//! record: "PyP1" | length of the key u16 | length of the data u32 | page u64 | key | data | crc32c u32
//! ```

use std::collections::VecDeque;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use pyrrha_encoding::crc;
use pyrrha_encoding::varint::{take_array, take_u16, take_u32, take_u64};
use pyrrha_env::{Disk, DiskFile};
use std::collections::HashMap;

use super::pages::{CacheStats, PAGE};

const MAGIC: &[u8; 4] = b"PyP1";
const HEADER: usize = 4 + 2 + 4 + 8;
const SUM: usize = 4;
/// Longest key of an object.
const KEY_MAX: usize = 2048;
const SUFFIX: &str = ".pages";
/// A segment is this part of the budget, within bounds.
const SEGMENTS: u64 = 16;
const SEGMENT_MAX: u64 = 64 << 20;

/// Pages on disk. Methods wait for the disk.
#[derive(Debug)]
pub(super) struct DiskCache {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    limit: u64,
    /// Opened by whoever needs it first.
    inner: Mutex<Option<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    segments: VecDeque<Segment>,
    /// By hash of object and page. The record says whether it is the one.
    pages: HashMap<u64, Place>,
    next: u64,
    stats: CacheStats,
}

#[derive(Debug)]
struct Segment {
    number: u64,
    file: Box<dyn DiskFile>,
    bytes: u64,
    hashes: Vec<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    segment: u64,
    offset: u64,
    length: u32,
}

impl DiskCache {
    /// A cache in `dir` of at most `limit` bytes of files.
    pub(super) fn new(disk: Arc<dyn Disk>, dir: PathBuf, limit: u64) -> Self {
        Self { disk, dir, limit, inner: Mutex::default() }
    }

    /// What it holds and did.
    pub(super) fn stats(&self) -> CacheStats {
        self.inner.lock().as_ref().map(|inner| inner.stats).unwrap_or_default()
    }

    /// The pages of an object that are here.
    pub(super) fn get(&self, object: &str, pages: &[u64]) -> Vec<Option<Bytes>> {
        let mut guard = self.inner.lock();
        let inner = guard.get_or_insert_with(|| self.open());
        pages.iter().map(|&page| self.get_one(inner, object, page)).collect()
    }

    /// Keeps pages of an object.
    pub(super) fn put(&self, object: &str, pages: &[(u64, Bytes)]) {
        let mut guard = self.inner.lock();
        let inner = guard.get_or_insert_with(|| self.open());
        for (page, bytes) in pages {
            if !inner.pages.contains_key(&hash(object, *page)) {
                self.put_one(inner, object, *page, bytes);
            }
        }
    }

    fn segment_bytes(&self) -> u64 {
        (self.limit / SEGMENTS).min(SEGMENT_MAX)
    }

    fn get_one(&self, inner: &mut Inner, object: &str, page: u64) -> Option<Bytes> {
        let hash = hash(object, page);
        let found = inner.pages.get(&hash).copied().and_then(|place| {
            let segment = inner.segments.iter().find(|s| s.number == place.segment)?;
            let mut record = vec![0; place.length as usize];
            let read = segment.file.read_at(place.offset, &mut record);
            let data = read.is_ok().then(|| check(record, object, page))?;
            if data.is_none() {
                inner.pages.remove(&hash);
            }
            data.map(|data| (data, place.segment))
        });
        let Some((data, segment)) = found else {
            inner.stats.misses += 1;
            return None;
        };
        inner.stats.hits += 1;
        let rank = inner.segments.iter().position(|s| s.number == segment).unwrap_or(0);
        if rank * 4 < inner.segments.len() && inner.segments.len() > 4 {
            self.put_one(inner, object, page, &data);
        }
        Some(data)
    }

    fn put_one(&self, inner: &mut Inner, object: &str, page: u64, data: &[u8]) {
        if object.len() > KEY_MAX || data.len() as u64 > PAGE {
            return;
        }
        let record = record(object, page, data);
        let length = record.len() as u64;
        if length > self.segment_bytes() {
            return;
        }
        let is_full = inner.segments.back().is_none_or(|s| s.bytes + length > self.segment_bytes());
        while inner.stats.bytes as u64 + length > self.limit && self.drop_oldest(inner) {}
        if let Err(error) = self.append(inner, is_full, hash(object, page), &record) {
            tracing::warn!(dir = %self.dir.display(), %error, "pages of the bucket cannot be kept on disk");
            // It may be full: half of what is held is given back.
            let half = inner.stats.bytes / 2;
            while inner.stats.bytes > half && self.drop_oldest(inner) {}
        }
    }

    fn append(&self, inner: &mut Inner, begin: bool, hash: u64, record: &[u8]) -> io::Result<()> {
        if begin || inner.segments.is_empty() {
            let number = inner.next;
            inner.next += 1;
            let file = self.disk.create_new(&self.path(number))?;
            inner.segments.push_back(Segment { number, file, bytes: 0, hashes: Vec::new() });
        }
        let Some(segment) = inner.segments.back_mut() else { return Ok(()) };
        segment.file.write_at(segment.bytes, record)?;
        let place = Place { segment: segment.number, offset: segment.bytes, length: record.len() as u32 };
        segment.hashes.push(hash);
        segment.bytes += record.len() as u64;
        inner.stats.bytes += record.len();
        inner.pages.insert(hash, place);
        Ok(())
    }

    /// Removes the oldest segment; false if there is none.
    fn drop_oldest(&self, inner: &mut Inner) -> bool {
        let Some(segment) = inner.segments.pop_front() else { return false };
        for hash in &segment.hashes {
            if inner.pages.get(hash).is_some_and(|place| place.segment == segment.number) {
                inner.pages.remove(hash);
                inner.stats.evicted += 1;
            }
        }
        inner.stats.bytes = inner.stats.bytes.saturating_sub(segment.bytes as usize);
        if let Err(error) = self.disk.remove_file(&self.path(segment.number)) {
            tracing::warn!(dir = %self.dir.display(), %error, "a segment of cached pages cannot be removed");
        }
        true
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number:016x}{SUFFIX}"))
    }

    /// Reads which pages the segments have. What cannot be read is as good as not there.
    fn open(&self) -> Inner {
        let mut inner = Inner::default();
        let listed = self.disk.create_dir_all(&self.dir).and_then(|()| self.disk.list(&self.dir));
        let mut numbers: Vec<u64> = listed
            .unwrap_or_default()
            .iter()
            .filter_map(|entry| u64::from_str_radix(entry.name.strip_suffix(SUFFIX)?, 16).ok())
            .collect();
        numbers.sort_unstable();
        for number in numbers {
            inner.next = inner.next.max(number.saturating_add(1));
            match self.scan(number, &mut inner.pages) {
                Ok(segment) => {
                    inner.stats.bytes += segment.bytes as usize;
                    inner.segments.push_back(segment);
                }
                Err(error) => {
                    tracing::warn!(dir = %self.dir.display(), %error, "a segment of cached pages cannot be read");
                    let _ = self.disk.remove_file(&self.path(number));
                }
            }
        }
        while inner.stats.bytes as u64 > self.limit && self.drop_oldest(&mut inner) {}
        inner
    }

    /// Walks over the records of a segment, without their data.
    fn scan(&self, number: u64, pages: &mut HashMap<u64, Place>) -> io::Result<Segment> {
        let file = self.disk.open(&self.path(number))?;
        let length = file.len()?;
        let (mut at, mut hashes) = (0, Vec::new());
        let mut buffer = vec![0; HEADER + KEY_MAX];
        while at < length {
            let read = (length - at).min(buffer.len() as u64) as usize;
            file.read_at(at, &mut buffer[..read])?;
            let Some((object, page, bytes)) = header(&buffer[..read]) else { break };
            let end = at + bytes as u64;
            if end > length {
                break;
            }
            let hash = hash(object, page);
            pages.insert(hash, Place { segment: number, offset: at, length: bytes as u32 });
            hashes.push(hash);
            at = end;
        }
        // What follows is not appended to: its length counts.
        Ok(Segment { number, file, bytes: length, hashes })
    }
}

/// Two pages of one hash take turns.
fn hash(object: &str, page: u64) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one((object, page))
}

fn record(object: &str, page: u64, data: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(HEADER + object.len() + data.len() + SUM);
    record.extend_from_slice(MAGIC);
    record.extend_from_slice(&(object.len() as u16).to_be_bytes());
    record.extend_from_slice(&(data.len() as u32).to_be_bytes());
    record.extend_from_slice(&page.to_be_bytes());
    record.extend_from_slice(object.as_bytes());
    record.extend_from_slice(data);
    let sum = crc::checksum(&record);
    record.extend_from_slice(&sum.to_be_bytes());
    record
}

/// Object, page and length of the record that begins here.
fn header(bytes: &[u8]) -> Option<(&str, u64, usize)> {
    let input = &mut &bytes[..];
    if &take_array::<4>(input).ok()? != MAGIC {
        return None;
    }
    let (key, data) = (usize::from(take_u16(input).ok()?), take_u32(input).ok()? as usize);
    let page = take_u64(input).ok()?;
    if data as u64 > PAGE {
        return None;
    }
    let object = std::str::from_utf8(input.get(..key)?).ok()?;
    Some((object, page, HEADER + key + data + SUM))
}

/// The data of a record, if it is whole and of that page.
fn check(record: Vec<u8>, object: &str, page: u64) -> Option<Bytes> {
    let (body, sum) = record.split_last_chunk::<SUM>()?;
    let (found, number, length) = header(body)?;
    let is_it = found == object && number == page && length == record.len();
    if !is_it || crc::checksum(body) != u32::from_be_bytes(*sum) {
        return None;
    }
    let data = HEADER + object.len()..body.len();
    Some(Bytes::from(record).slice(data))
}

/// Where the pages of a gateway are, in the directory of its cache.
pub(super) fn dir(cache: &Path) -> PathBuf {
    cache.join("pages")
}

#[cfg(test)]
mod tests;
