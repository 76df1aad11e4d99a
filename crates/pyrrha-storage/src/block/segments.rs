//! Chunk segments: the files under `chunks/`.
//!
//! ```text
//! 85BD40DD | version 1 | 0 0 0 | { uvarint len | encoding | data[len] | crc32c(encoding, data) }*
//! "PYR" D1 | version 1 | 0 0 0 | the same, of a dense block
//! ```

use std::path::{Path, PathBuf};

use bytes::Bytes;
use pyrrha_encoding::chunk::sample_count;
use pyrrha_encoding::crc;
use pyrrha_encoding::dense::decode_times;
use pyrrha_env::{Disk, DiskFile};
use pyrrha_index::ChunkMeta;
use pyrrha_model::contract::{ChunkRef, Timestamps};
use pyrrha_model::{ChunkEncoding, Timestamp};

use super::dense::{Columns, column_offset};
use super::error::{Blame, BlockError};
use super::{CHUNKS_DIR, Layout};

/// Bytes of a segment's header.
const HEADER: usize = 8;
/// Segments are cut before they grow beyond this.
pub(super) const SEGMENT_BYTES: u64 = 512 << 20;
const BUFFER: usize = 1 << 20;
/// Length, encoding and checksum take at most this many bytes.
const FRAME_BYTES: u64 = 5 + 1 + 4;

/// Writes chunk segments.
#[derive(Debug)]
pub(super) struct SegmentWriter {
    dir: PathBuf,
    layout: Layout,
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
    pub(super) fn new(dir: PathBuf, layout: Layout, limit: u64) -> Self {
        Self { dir, layout, limit, current: None, count: 0 }
    }

    /// Whether a reference is into the segment that is being written.
    pub(super) fn is_current(&self, reference: u64) -> bool {
        self.current.is_some() && reference >> 32 == u64::from(self.count - 1)
    }

    /// Ends the segment if a column and a chunk of so many bytes together have no room in it.
    pub(super) fn make_room(&mut self, blame: &Blame, bytes: usize) -> Result<(), BlockError> {
        let needed = bytes as u64 + 2 * FRAME_BYTES;
        if self.current.as_ref().is_some_and(|s| s.len() + needed > self.limit) {
            self.close(blame)?;
        }
        Ok(())
    }

    /// Appends a chunk and gives its reference.
    pub(super) fn append(
        &mut self,
        disk: &dyn Disk,
        blame: &Blame,
        chunk: &ChunkRef,
    ) -> Result<u64, BlockError> {
        let len = chunk.bytes.len() as u64;
        if len > u64::from(u32::MAX) - FRAME_BYTES - HEADER as u64 {
            return Err(blame.refused("chunk beyond 4 GiB"));
        }
        if self.current.as_ref().is_some_and(|s| s.len() + FRAME_BYTES + len > self.limit) {
            self.close(blame)?;
        }
        let segment = match &mut self.current {
            Some(segment) => segment,
            none => none.insert(begin(disk, &self.dir, self.layout, &mut self.count, blame)?),
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

fn begin(
    disk: &dyn Disk,
    dir: &Path,
    layout: Layout,
    count: &mut u32,
    blame: &Blame,
) -> Result<Segment, BlockError> {
    *count += 1;
    let name = segment_name(*count - 1);
    let file = disk.create_new(&dir.join(format!("{count:06}"))).map_err(blame.io(&name))?;
    Ok(Segment { file, name, buffer: layout.segment_header().to_vec(), flushed: 0 })
}

/// Path of a segment within its block; `index` counts from 0, file names from 1.
pub(super) fn segment_name(index: u32) -> String {
    format!("{CHUNKS_DIR}/{:06}", u64::from(index) + 1)
}

/// The chunk segments of an open block.
#[derive(Debug)]
pub(super) struct Segments {
    layout: Layout,
    files: Vec<Bytes>,
}

impl Segments {
    /// Maps all segments and checks their headers.
    pub(super) fn open(
        disk: &dyn Disk,
        block: &Path,
        layout: Layout,
        blame: &Blame,
    ) -> Result<Self, BlockError> {
        // Other readers of the standard layout do not look at the three bytes after the version.
        let header = layout.segment_header();
        let header = if layout == Layout::Standard { &header[..5] } else { &header[..] };
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
            if !file.starts_with(header) {
                return Err(blame.corrupt(&name, 0, "segment header"));
            }
            files.push(file);
        }
        Ok(Self { layout, files })
    }

    /// Maps what segments there are, whatever their headers: chunks carry checksums of their own.
    pub(super) fn open_damaged(
        disk: &dyn Disk,
        block: &Path,
        layout: Layout,
        blame: &Blame,
    ) -> Result<Self, BlockError> {
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
        Ok(Self { layout, files })
    }

    /// Calls `visit` with the reference of each chunk of samples; gives file, offset and reason where a segment
    /// stops being readable.
    pub(super) fn walk(&self, mut visit: impl FnMut(u64)) -> Vec<(String, u64, String)> {
        let mut stops = Vec::new();
        for (index, file) in (0u32..).zip(&self.files) {
            let mut input = file.get(HEADER..).unwrap_or_default();
            // A writer that died may have left what it had reserved.
            while input.iter().any(|&b| b != 0) {
                let offset = (file.len() - input.len()) as u64;
                match crc::take_chunk(&mut input) {
                    Ok((ChunkEncoding::Dense, data)) if is_column(data) => {}
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

    /// Reads and verifies the chunk that an index entry names. What it shares with others is looked
    /// for in `columns`, and put there.
    pub(super) fn chunk(
        &self,
        blame: &Blame,
        meta: &ChunkMeta,
        columns: &mut Columns,
    ) -> Result<ChunkRef, BlockError> {
        let index = (meta.reference >> 32) as u32;
        let offset = meta.reference & u64::from(u32::MAX);
        let damaged = |what: String| blame.corrupt(&segment_name(index), offset, what);
        let (encoding, bytes) = self.record(blame, index, offset)?;
        if encoding == ChunkEncoding::Dense && self.layout == Layout::Standard {
            return Err(damaged("dense chunk in a standard block".to_owned()));
        }
        let (min_time, max_time) = (meta.min_time, meta.max_time);
        let mut chunk = ChunkRef { min_time, max_time, encoding, timestamps: Timestamps::Own, bytes };
        if let Some(column) = column_offset(&chunk).map_err(|e| damaged(e.to_string()))? {
            let reference = u64::from(index) << 32 | u64::from(column);
            let times = columns.get(reference, || self.column(blame, index, u64::from(column)))?;
            if sample_count(encoding, &chunk.bytes).ok() != Some(times.len()) {
                return Err(damaged("times of chunk are of another length".to_owned()));
            }
            chunk.timestamps = Timestamps::Shared(times);
        }
        Ok(chunk)
    }

    /// A column of times.
    fn column(&self, blame: &Blame, index: u32, offset: u64) -> Result<Vec<Timestamp>, BlockError> {
        let damaged = |what: String| blame.corrupt(&segment_name(index), offset, what);
        let (encoding, bytes) = self.record(blame, index, offset)?;
        let times = match encoding {
            ChunkEncoding::Dense => decode_times(&bytes).map_err(|e| damaged(e.to_string()))?,
            _ => None,
        };
        times.ok_or_else(|| damaged("is no column of times".to_owned()))
    }

    /// What a segment has at an offset, verified.
    fn record(&self, blame: &Blame, index: u32, offset: u64) -> Result<(ChunkEncoding, Bytes), BlockError> {
        let damaged = |what: String| blame.corrupt(&segment_name(index), offset, what);
        let file = self.files.get(index as usize).ok_or_else(|| damaged("segment is missing".to_owned()))?;
        let mut input = file
            .get(offset as usize..)
            .filter(|_| offset >= HEADER as u64)
            .ok_or_else(|| damaged("chunk outside its segment".to_owned()))?;
        let (encoding, data) = crc::take_chunk(&mut input).map_err(|e| damaged(e.to_string()))?;
        Ok((encoding, file.slice_ref(data)))
    }
}

fn is_column(data: &[u8]) -> bool {
    matches!(decode_times(data), Ok(Some(_)))
}
