//! The files `windows` and `windows-values` of a downsampled block: windows of every series, found by
//! its first chunk. Format: docs/format/windows.md.
//!
//! ```text
//! windows:        PYWN | version 1 | 0 0 0 | chunk* | page* | first keys | trailer
//! windows-values: PYWV | version 1 | 0 0 0 | chunk*
//! page:           up to 256 × { key u64 | edges u64, u32 | values u64, u32 } | crc32c
//! trailer:        pages at u64 | entries u64 | crc32c(first keys) u32 | crc32c(trailer up to here) u32
//! ```

use std::ops::Range;
use std::path::Path;

use pyrrha_encoding::DecodeError;
use pyrrha_encoding::crc;
use pyrrha_encoding::varint::{take_u32, take_u64};
use pyrrha_env::{Disk, DiskFile};
use pyrrha_model::contract::ChunkRef;

use super::error::{Blame, BlockError};

/// File of the first and last samples, and of the table.
pub const WINDOWS_FILE: &str = "windows";
/// File of sums and extremes.
pub const WINDOWS_VALUES_FILE: &str = "windows-values";

const HEADER: [u8; 8] = *b"PYWN\x01\0\0\0";
const VALUES_HEADER: [u8; 8] = *b"PYWV\x01\0\0\0";
const BUFFER: usize = 1 << 20;
const ENTRY: u64 = 32;
const PAGE_ENTRIES: u64 = 256;
const TRAILER: u64 = 24;
const MALFORMED: DecodeError = DecodeError::Malformed { part: "windows table" };

/// Where the windows of a series are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowsEntry {
    /// Reference of the series' first chunk.
    pub key: u64,
    /// Its chunk in [`WINDOWS_FILE`], with length and checksum.
    pub edges: Range<u64>,
    /// Its chunk in [`WINDOWS_VALUES_FILE`], likewise.
    pub values: Range<u64>,
}

/// Writes both files.
#[derive(Debug)]
pub(super) struct WindowsWriter {
    edges: Stream,
    values: Stream,
    table: Vec<WindowsEntry>,
}

#[derive(Debug)]
struct Stream {
    file: Box<dyn DiskFile>,
    name: &'static str,
    buffer: Vec<u8>,
    flushed: u64,
}

impl Stream {
    fn create(
        disk: &dyn Disk,
        dir: &Path,
        blame: &Blame,
        name: &'static str,
        header: [u8; 8],
    ) -> Result<Self, BlockError> {
        let file = disk.create_new(&dir.join(name)).map_err(blame.io(name))?;
        Ok(Self { file, name, buffer: header.to_vec(), flushed: 0 })
    }

    fn at(&self) -> u64 {
        self.flushed + self.buffer.len() as u64
    }

    fn chunk(&mut self, blame: &Blame, chunk: &ChunkRef) -> Result<Range<u64>, BlockError> {
        let start = self.at();
        crc::put_chunk(&mut self.buffer, chunk.encoding, &chunk.bytes);
        if u32::try_from(self.at() - start).is_err() {
            return Err(blame.refused("windows of a series beyond 4 GiB"));
        }
        if self.buffer.len() >= BUFFER {
            self.flush(blame)?;
        }
        Ok(start..self.at())
    }

    fn flush(&mut self, blame: &Blame) -> Result<(), BlockError> {
        self.file.write_at(self.flushed, &self.buffer).map_err(blame.io(self.name))?;
        self.flushed += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn finish(mut self, blame: &Blame) -> Result<(), BlockError> {
        self.flush(blame)?;
        self.file.sync_data().map_err(blame.io(self.name))
    }
}

impl WindowsWriter {
    pub(super) fn create(disk: &dyn Disk, dir: &Path, blame: &Blame) -> Result<Self, BlockError> {
        Ok(Self {
            edges: Stream::create(disk, dir, blame, WINDOWS_FILE, HEADER)?,
            values: Stream::create(disk, dir, blame, WINDOWS_VALUES_FILE, VALUES_HEADER)?,
            table: Vec::new(),
        })
    }

    /// Adds the windows of a series; keys ascend.
    pub(super) fn add(
        &mut self,
        blame: &Blame,
        key: u64,
        edges: &ChunkRef,
        values: &ChunkRef,
    ) -> Result<(), BlockError> {
        let entry = WindowsEntry {
            key,
            edges: self.edges.chunk(blame, edges)?,
            values: self.values.chunk(blame, values)?,
        };
        self.table.push(entry);
        Ok(())
    }

    pub(super) fn finish(mut self, blame: &Blame) -> Result<(), BlockError> {
        let table = self.edges.at();
        for page in self.table.chunks(PAGE_ENTRIES as usize) {
            let out = &mut self.edges.buffer;
            let start = out.len();
            for entry in page {
                out.extend_from_slice(&entry.key.to_be_bytes());
                for range in [&entry.edges, &entry.values] {
                    out.extend_from_slice(&range.start.to_be_bytes());
                    out.extend_from_slice(&((range.end - range.start) as u32).to_be_bytes());
                }
            }
            let sum = crc::checksum(&out[start..]);
            out.extend_from_slice(&sum.to_be_bytes());
            if out.len() >= BUFFER {
                self.edges.flush(blame)?;
            }
        }
        let out = &mut self.edges.buffer;
        let keys = out.len();
        for page in self.table.chunks(PAGE_ENTRIES as usize) {
            out.extend(page.iter().take(1).flat_map(|entry| entry.key.to_be_bytes()));
        }
        let sum = crc::checksum(&out[keys..]);
        let mut trailer = table.to_be_bytes().to_vec();
        trailer.extend_from_slice(&(self.table.len() as u64).to_be_bytes());
        trailer.extend_from_slice(&sum.to_be_bytes());
        let sum = crc::checksum(&trailer);
        trailer.extend_from_slice(&sum.to_be_bytes());
        out.extend_from_slice(&trailer);
        self.edges.finish(blame)?;
        self.values.finish(blame)
    }
}

/// The table of a [`WINDOWS_FILE`] that is read by ranges: the trailer first, then the first keys,
/// then pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowsTable {
    /// Where pages begin.
    pages: u64,
    entries: u64,
    keys: Vec<u64>,
}

impl WindowsTable {
    /// The trailer of a file of `bytes` bytes.
    pub fn trailer_range(bytes: u64) -> Range<u64> {
        bytes.saturating_sub(TRAILER)..bytes
    }

    /// What the trailer says of a file of `bytes` bytes: a table, and where its first keys are.
    pub fn trailer(trailer: &[u8], bytes: u64) -> Result<(Self, Range<u64>), DecodeError> {
        let Some((body, sum)) = trailer.split_last_chunk::<4>() else {
            return Err(DecodeError::Truncated { part: "windows trailer" });
        };
        crc::verify("windows trailer", body, u32::from_be_bytes(*sum))?;
        let input = &mut &body[..];
        let (pages, entries) = (take_u64(input)?, take_u64(input)?);
        let count = entries.div_ceil(PAGE_ENTRIES);
        let page_bytes = entries.checked_mul(ENTRY).and_then(|b| b.checked_add(count * 4));
        let keys = page_bytes.and_then(|b| b.checked_add(pages)).ok_or(MALFORMED)?;
        let end = keys.checked_add(count * 8).and_then(|end| end.checked_add(TRAILER));
        if end != Some(bytes) {
            return Err(MALFORMED);
        }
        Ok((Self { pages, entries, keys: Vec::new() }, keys..bytes - TRAILER))
    }

    /// Takes the first keys; `trailer` as before.
    pub fn set_keys(&mut self, keys: &[u8], trailer: &[u8]) -> Result<(), DecodeError> {
        let input = &mut trailer.get(16..).unwrap_or_default();
        crc::verify("windows keys", keys, take_u32(input)?)?;
        let (keys, rest) = keys.as_chunks::<8>();
        self.keys = keys.iter().map(|key| u64::from_be_bytes(*key)).collect();
        let complete = rest.is_empty() && self.keys.len() as u64 == self.entries.div_ceil(PAGE_ENTRIES);
        if complete && self.keys.is_sorted_by(|a, b| a < b) { Ok(()) } else { Err(MALFORMED) }
    }

    /// Bytes of the page that has a series, if one has.
    pub fn page_of(&self, key: u64) -> Option<Range<u64>> {
        let page = self.keys.partition_point(|first| *first <= key).checked_sub(1)? as u64;
        let entries = (self.entries - page * PAGE_ENTRIES).min(PAGE_ENTRIES);
        let start = self.pages + page * (PAGE_ENTRIES * ENTRY + 4);
        Some(start..start + entries * ENTRY + 4)
    }

    /// The entries of a page.
    pub fn entries(page: &[u8]) -> Result<Vec<WindowsEntry>, DecodeError> {
        let Some((body, sum)) = page.split_last_chunk::<4>() else {
            return Err(DecodeError::Truncated { part: "windows page" });
        };
        crc::verify("windows page", body, u32::from_be_bytes(*sum))?;
        let (mut input, mut entries) = (body, Vec::with_capacity(body.len() / ENTRY as usize));
        while !input.is_empty() {
            let input = &mut input;
            let key = take_u64(input)?;
            let mut range = || {
                let (start, len) = (take_u64(input)?, take_u32(input)?);
                Ok(start..start.checked_add(u64::from(len)).ok_or(MALFORMED)?)
            };
            entries.push(WindowsEntry { key, edges: range()?, values: range()? });
        }
        if entries.is_sorted_by(|a, b| a.key < b.key) { Ok(entries) } else { Err(MALFORMED) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pyrrha_encoding::windows::{WindowPart, Windows, encode_windows, fold_floats};
    use pyrrha_testkit::SimDisk;

    use super::*;

    #[test]
    fn every_series_is_found_and_damage_is_seen() {
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
        let dir = Path::new("/block");
        disk.create_dir_all(dir).expect("no fault");
        let blame = Blame::new(dir);
        let mut writer = WindowsWriter::create(&*disk, dir, &blame).expect("no fault");
        let mut windows = Windows::default();
        fold_floats(&[1, 2, 400_000], &[1.0, 2.0, 3.0], 300_000, &mut windows);
        let part = |part| encode_windows(&windows, 300_000, part).expect("both parts");
        let (edges, values) = (part(WindowPart::Edges), part(WindowPart::Values));
        let keys: Vec<u64> = (0..1000).map(|i| 8 + i * 50).collect();
        for key in &keys {
            writer.add(&blame, *key, &edges, &values).expect("no fault");
        }
        writer.finish(&blame).expect("no fault");
        let read = |name| disk.map(&dir.join(name)).expect("a file").to_vec();
        let (mut file, values_file) = (read(WINDOWS_FILE), read(WINDOWS_VALUES_FILE));
        let len = file.len() as u64;
        let cut = |file: &[u8], r: Range<u64>| file[r.start as usize..r.end as usize].to_vec();
        let trailer = cut(&file, WindowsTable::trailer_range(len));
        let (mut table, first) = WindowsTable::trailer(&trailer, len).expect("sound");
        table.set_keys(&cut(&file, first.clone()), &trailer).expect("sound");
        for key in &keys {
            let page = table.page_of(*key).expect("a page");
            let entries = WindowsTable::entries(&cut(&file, page)).expect("sound");
            let entry = entries.iter().find(|e| e.key == *key).expect("an entry");
            for (file, range, chunk) in
                [(&file, &entry.edges, &edges), (&values_file, &entry.values, &values)]
            {
                let bytes = cut(file, range.clone());
                let (encoding, data) = crc::take_chunk(&mut &bytes[..]).expect("a chunk");
                assert_eq!((encoding, data), (chunk.encoding, &chunk.bytes[..]));
            }
        }
        assert_eq!(table.page_of(7), None);
        let page = table.page_of(keys[300]).expect("a page");
        file[page.start as usize + 9] ^= 1;
        WindowsTable::entries(&cut(&file, page)).expect_err("a flipped bit");
        file[first.start as usize] ^= 1;
        table.set_keys(&cut(&file, first), &trailer).expect_err("a flipped bit");
        WindowsTable::trailer(&trailer, len + 1).expect_err("another length");
        WindowsTable::trailer(&trailer[1..], len).expect_err("cut");
    }
}
