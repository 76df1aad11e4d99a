//! Chunk segments: the files under `chunks/`.
//!
//! ```text
//! 85BD40DD | version 1 | 0 0 0 | { uvarint len | encoding | data[len] | crc32c(encoding, data) }*
//! ```

use std::path::{Path, PathBuf};

use bytes::Bytes;
use pyrrha_encoding::crc;
use pyrrha_env::{Disk, DiskFile};
use pyrrha_index::ChunkMeta;
use pyrrha_model::contract::{ChunkRef, Timestamps};

use super::CHUNKS_DIR;
use super::error::{Blame, BlockError};

const HEADER: [u8; 8] = [0x85, 0xBD, 0x40, 0xDD, 1, 0, 0, 0];
/// Segments are cut before they grow beyond this.
pub(super) const SEGMENT_BYTES: u64 = 512 << 20;
const BUFFER: usize = 1 << 20;
/// Length, encoding and checksum take at most this many bytes.
const FRAME_BYTES: u64 = 5 + 1 + 4;

/// Writes chunk segments.
#[derive(Debug)]
pub(super) struct SegmentWriter {
    dir: PathBuf,
    limit: u64,
    current: Option<Segment>,
    /// Number of segments begun.
    count: u32,
}

#[derive(Debug)]
struct Segment {
    file: Box<dyn DiskFile>,
    name: String,
    buffer: Vec<u8>,
    flushed: u64,
}

impl Segment {
    fn len(&self) -> u64 {
        self.flushed + self.buffer.len() as u64
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.write_at(self.flushed, &self.buffer)?;
        self.flushed += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

impl SegmentWriter {
    /// Writes into the existing directory `dir`, segments of at most `limit` bytes.
    pub(super) fn new(dir: PathBuf, limit: u64) -> Self {
        Self { dir, limit, current: None, count: 0 }
    }

    /// Appends a chunk and gives its reference.
    pub(super) fn append(
        &mut self,
        disk: &dyn Disk,
        blame: &Blame,
        chunk: &ChunkRef,
    ) -> Result<u64, BlockError> {
        let len = chunk.bytes.len() as u64;
        if len > u64::from(u32::MAX) - FRAME_BYTES - HEADER.len() as u64 {
            return Err(blame.refused("chunk beyond 4 GiB"));
        }
        if self.current.as_ref().is_some_and(|s| s.len() + FRAME_BYTES + len > self.limit) {
            self.close(blame)?;
        }
        let segment = match &mut self.current {
            Some(segment) => segment,
            none => none.insert(begin(disk, &self.dir, &mut self.count, blame)?),
        };
        let offset = segment.len();
        crc::put_chunk(&mut segment.buffer, chunk.encoding, &chunk.bytes);
        if segment.buffer.len() >= BUFFER {
            segment.flush().map_err(blame.io(&segment.name))?;
        }
        Ok(u64::from(self.count - 1) << 32 | offset)
    }

    /// Writes and syncs what is left. Names are not synced.
    pub(super) fn finish(&mut self, blame: &Blame) -> Result<(), BlockError> {
        self.close(blame)
    }

    fn close(&mut self, blame: &Blame) -> Result<(), BlockError> {
        let Some(mut segment) = self.current.take() else { return Ok(()) };
        segment.flush().and_then(|()| segment.file.sync_data()).map_err(blame.io(&segment.name))
    }
}

fn begin(disk: &dyn Disk, dir: &Path, count: &mut u32, blame: &Blame) -> Result<Segment, BlockError> {
    *count += 1;
    let name = segment_name(*count - 1);
    let file = disk.create_new(&dir.join(format!("{count:06}"))).map_err(blame.io(&name))?;
    Ok(Segment { file, name, buffer: HEADER.to_vec(), flushed: 0 })
}

/// Path of a segment within its block; `index` counts from 0, file names from 1.
pub(super) fn segment_name(index: u32) -> String {
    format!("{CHUNKS_DIR}/{:06}", u64::from(index) + 1)
}

/// The chunk segments of an open block.
#[derive(Debug)]
pub(super) struct Segments {
    files: Vec<Bytes>,
}

impl Segments {
    /// Maps all segments and checks their headers.
    pub(super) fn open(disk: &dyn Disk, block: &Path, blame: &Blame) -> Result<Self, BlockError> {
        let dir = block.join(CHUNKS_DIR);
        // A block without samples may lack the directory.
        let entries =
            if disk.exists(&dir) { disk.list(&dir).map_err(blame.io(CHUNKS_DIR))? } else { Vec::new() };
        let mut files = Vec::new();
        for entry in entries.iter().filter(|e| !e.is_dir && e.name.bytes().all(|b| b.is_ascii_digit())) {
            let name = segment_name(files.len() as u32);
            if name.strip_prefix(CHUNKS_DIR).and_then(|n| n.strip_prefix('/')) != Some(&entry.name) {
                return Err(blame.corrupt(&name, 0, "segment is missing"));
            }
            let file = disk.map(&dir.join(&entry.name)).map_err(blame.io(&name))?;
            // Readers do not look at the three bytes after the version.
            if !file.starts_with(&HEADER[..5]) {
                return Err(blame.corrupt(&name, 0, "segment header"));
            }
            files.push(file);
        }
        Ok(Self { files })
    }

    /// Maps what segments there are, whatever their headers: chunks carry checksums of their own.
    pub(super) fn open_damaged(disk: &dyn Disk, block: &Path, blame: &Blame) -> Result<Self, BlockError> {
        let dir = block.join(CHUNKS_DIR);
        let entries =
            if disk.exists(&dir) { disk.list(&dir).map_err(blame.io(CHUNKS_DIR))? } else { Vec::new() };
        let mut files = Vec::new();
        for entry in entries.iter().filter(|e| !e.is_dir) {
            // A reference can name no more than so many, and files are named one after another.
            let Some(number) = entry.name.parse::<usize>().ok().filter(|n| (1..=1 << 20).contains(n)) else {
                continue;
            };
            if files.len() < number {
                files.resize(number, Bytes::new());
            }
            files[number - 1] = disk.map(&dir.join(&entry.name)).map_err(blame.io(CHUNKS_DIR))?;
        }
        Ok(Self { files })
    }

    /// Calls `visit` with the reference of each chunk; gives file, offset and reason where a segment
    /// stops being readable.
    pub(super) fn walk(&self, mut visit: impl FnMut(u64)) -> Vec<(String, u64, String)> {
        let mut stops = Vec::new();
        for (index, file) in (0u32..).zip(&self.files) {
            let mut input = file.get(HEADER.len()..).unwrap_or_default();
            // A writer that died may have left what it had reserved.
            while input.iter().any(|&b| b != 0) {
                let offset = (file.len() - input.len()) as u64;
                match crc::take_chunk(&mut input) {
                    Ok(_) => visit(u64::from(index) << 32 | offset),
                    Err(error) => {
                        stops.push((segment_name(index), offset, error.to_string()));
                        break;
                    }
                }
            }
        }
        stops
    }

    /// Bytes of all segments.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|f| f.len() as u64).sum()
    }

    /// Reads and verifies the chunk that an index entry names.
    pub(super) fn chunk(&self, blame: &Blame, meta: &ChunkMeta) -> Result<ChunkRef, BlockError> {
        let index = (meta.reference >> 32) as u32;
        let offset = meta.reference & u64::from(u32::MAX);
        let damaged = |what: String| blame.corrupt(&segment_name(index), offset, what);
        let file = self.files.get(index as usize).ok_or_else(|| damaged("segment is missing".to_owned()))?;
        let mut input = file
            .get(offset as usize..)
            .filter(|_| offset >= HEADER.len() as u64)
            .ok_or_else(|| damaged("chunk outside its segment".to_owned()))?;
        let (encoding, data) = crc::take_chunk(&mut input).map_err(|e| damaged(e.to_string()))?;
        Ok(ChunkRef {
            min_time: meta.min_time,
            max_time: meta.max_time,
            encoding,
            timestamps: Timestamps::Own,
            bytes: file.slice_ref(data),
        })
    }
}
