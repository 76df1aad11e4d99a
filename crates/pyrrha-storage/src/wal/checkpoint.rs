//! Checkpoint files: written whole or not at all, checked whole before use, two of them kept.
//!
//! The head says what is in the sections; this is the container (`docs/format/wal.md`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use pyrrha_env::{Disk, DiskFile};

use super::frame::{u32_at, u64_at};
use super::{LogPosition, WalError};
use crate::durable;

const MAGIC: &[u8; 8] = b"PYRRHACP";
const VERSION: u32 = 1;
/// Bytes of the file header.
const HEADER: usize = 48;
/// Bytes before the payload of a section.
const SECTION: usize = 24;
/// Kind of the section that ends the file.
const END: u32 = u32::MAX;
/// Checkpoints that stay when a newer one is complete.
const KEPT: usize = 2;
/// Bytes that are written at once.
const WRITE: usize = 1 << 20;

/// The checkpoints in a directory.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

/// Which segments have been there, though they may be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UsedSegments {
    /// Those up to this position.
    pub up_to: LogPosition,
    /// Some more may have been: a checkpoint does not tell now, but may on another day.
    pub unknown: bool,
}

impl From<LogPosition> for UsedSegments {
    fn from(up_to: LogPosition) -> Self {
        Self { up_to, unknown: false }
    }
}

/// A checkpoint that was read and whose checksums are right.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// Its number; newer ones have greater numbers.
    pub number: u64,
    /// Where replay starts.
    pub position: LogPosition,
    /// Kind and payload of its sections, in the order in which they were written.
    pub sections: Vec<(u32, Bytes)>,
}

/// A checkpoint's file, and what is in it, or why it is of no use.
pub type Inspected = (PathBuf, Result<Checkpoint, String>);

/// A checkpoint that is being written. Dropped unfinished, it never was.
#[derive(Debug)]
pub struct CheckpointWriter {
    checkpoints: Checkpoints,
    number: u64,
    file: Box<dyn DiskFile>,
    offset: u64,
    buffer: Vec<u8>,
    sections: u64,
    /// Checksum over the checksums of all sections.
    crc: u32,
}

impl Checkpoints {
    /// The checkpoints of `dir`, which is created if there is none; removes unfinished ones.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, WalError> {
        durable::create_dir(&*disk, dir).map_err(|e| WalError::io("create directory", dir, e))?;
        let all = Self { disk, dir: dir.to_path_buf() };
        for (name, number) in all.names()? {
            if number.is_none() {
                let _ = all.disk.remove_file(&all.dir.join(name));
            }
        }
        Ok(all)
    }

    /// Our files; those without a number are unfinished.
    fn names(&self) -> Result<Vec<(String, Option<u64>)>, WalError> {
        let entries = self.disk.list(&self.dir).map_err(|e| WalError::io("list", &self.dir, e))?;
        let ours = |name: String| match name.split_once('.') {
            Some((number, "checkpoint")) => number.parse().ok().map(|n| (name, Some(n))),
            Some((_, "checkpoint-temp")) => Some((name, None)),
            _ => None,
        };
        Ok(entries.into_iter().filter(|e| !e.is_dir).filter_map(|e| ours(e.name)).collect())
    }

    /// Numbers of the finished checkpoints, oldest first.
    fn numbers(&self) -> Result<Vec<u64>, WalError> {
        let mut numbers: Vec<u64> = self.names()?.into_iter().filter_map(|(_, number)| number).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number:010}.checkpoint"))
    }

    /// The checkpoints of `dir`, oldest first, each as it is: whole, or why it is not. Writes nothing.
    pub fn inspect(disk: Arc<dyn Disk>, dir: &Path) -> Result<Vec<Inspected>, WalError> {
        let all = Self { disk, dir: dir.to_path_buf() };
        if !all.disk.exists(dir) {
            return Ok(Vec::new());
        }
        let look = |number: u64| {
            let path = all.path(number);
            let found = match all.disk.map(&path).map(|bytes| decode(&bytes, number)) {
                Ok(Some(Read::Good(checkpoint))) => Ok(checkpoint),
                Ok(Some(Read::Version(found))) => {
                    Err(format!("unknown format version {found}, this build reads {VERSION}"))
                }
                Ok(None) => Err("checksum mismatch".to_owned()),
                Err(error) => Err(format!("not readable: {error}")),
            };
            (path, found)
        };
        Ok(all.numbers()?.into_iter().map(look).collect())
    }

    /// The newest checkpoint that is whole, if there is one. Damaged ones are passed over and
    /// logged. Fails if the newest readable one has another format version.
    pub fn latest(&self) -> Result<Option<Checkpoint>, WalError> {
        for number in self.numbers()?.into_iter().rev() {
            let path = self.path(number);
            match self.disk.map(&path).map(|bytes| decode(&bytes, number)) {
                Ok(Some(Read::Good(checkpoint))) => return Ok(Some(checkpoint)),
                Ok(Some(Read::Version(found))) => {
                    return Err(WalError::Version { path, found, supported: VERSION });
                }
                Ok(None) => {
                    tracing::error!(path = %path.display(), "checkpoint is damaged, trying an older one")
                }
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "checkpoint is not readable, trying an older one");
                }
            }
        }
        Ok(None)
    }

    /// The segments that checkpoints here may name, by a look at the headers.
    pub fn used_segments(&self) -> Result<UsedSegments, WalError> {
        let mut used = UsedSegments::default();
        for number in self.numbers()? {
            match self.disk.map(&self.path(number)).map(|bytes| decode_header(&bytes, number)) {
                Ok(Some(Read::Good(position))) => used.up_to = used.up_to.max(position),
                // It will not be used.
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(checkpoint = number, %error, "checkpoint is not readable, segment numbers are left out");
                    used.unknown = true;
                }
            }
        }
        Ok(used)
    }

    /// The position before which no kept checkpoint needs the log: that of the oldest of the last
    /// two. `None` while there is none.
    pub fn log_needed_from(&self) -> Result<Option<LogPosition>, WalError> {
        let numbers = self.numbers()?;
        let kept = &numbers[numbers.len().saturating_sub(KEPT)..];
        let mut least = None;
        for &number in kept {
            let bytes = self.disk.map(&self.path(number));
            let header = bytes.ok().and_then(|bytes| decode_header(&bytes, number));
            // A damaged one needs nothing: it will not be used.
            if let Some(Read::Good(position)) = header {
                least = Some(least.map_or(position, |l: LogPosition| l.min(position)));
            }
        }
        Ok(least)
    }

    /// Starts a checkpoint; `position` is where replay on top of it starts.
    pub fn begin(&self, position: LogPosition, created_ms: i64) -> Result<CheckpointWriter, WalError> {
        let number = self.numbers()?.last().map_or(0, |n| n.saturating_add(1));
        let path = self.temp(number);
        let _ = self.disk.remove_file(&path);
        let file = self.disk.create_new(&path).map_err(|e| WalError::io("create", &path, e))?;
        let mut buffer = Vec::with_capacity(WRITE + (WRITE >> 2));
        buffer.extend_from_slice(MAGIC);
        buffer.extend_from_slice(&VERSION.to_le_bytes());
        for field in [number, position.segment, position.offset, created_ms as u64] {
            buffer.extend_from_slice(&field.to_le_bytes());
        }
        let crc = crc32c::crc32c(&buffer);
        buffer.extend_from_slice(&crc.to_le_bytes());
        let checkpoints = self.clone();
        Ok(CheckpointWriter { checkpoints, number, file, offset: 0, buffer, sections: 0, crc })
    }

    fn temp(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number:010}.checkpoint-temp"))
    }
}

impl CheckpointWriter {
    /// Appends a section. Every kind but `u32::MAX` is the caller's to give; kinds may repeat.
    pub fn section(&mut self, kind: u32, payload: &[u8]) -> Result<(), WalError> {
        let mut head = [0; SECTION];
        head[..4].copy_from_slice(&kind.to_le_bytes());
        head[8..16].copy_from_slice(&(payload.len() as u64).to_le_bytes());
        let crc = section_crc(self.number, &head[..16], payload);
        head[16..20].copy_from_slice(&crc.to_le_bytes());
        self.crc = crc32c::crc32c_append(self.crc, &crc.to_le_bytes());
        self.sections += 1;
        self.buffer.extend_from_slice(&head);
        self.buffer.extend_from_slice(payload);
        self.buffer.resize(self.buffer.len().next_multiple_of(8), 0);
        if self.buffer.len() >= WRITE { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), WalError> {
        let result = self.file.write_at(self.offset, &self.buffer);
        result.map_err(|e| WalError::io("write", self.checkpoints.temp(self.number), e))?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Makes the checkpoint durable and the newest one, and removes all but the last two.
    pub fn finish(mut self) -> Result<(), WalError> {
        let mut end = [0; 16];
        end[..8].copy_from_slice(&self.sections.to_le_bytes());
        end[8..12].copy_from_slice(&self.crc.to_le_bytes());
        self.section(END, &end)?;
        self.flush()?;
        let all = &self.checkpoints;
        let (temp, path) = (all.temp(self.number), all.path(self.number));
        self.file.sync_data().map_err(|e| WalError::io("sync", &temp, e))?;
        all.disk.rename(&temp, &path).map_err(|e| WalError::io("rename", &temp, e))?;
        all.disk.sync_dir(&all.dir).map_err(|e| WalError::io("sync directory", &all.dir, e))?;
        let numbers = all.numbers()?;
        for &number in &numbers[..numbers.len().saturating_sub(KEPT)] {
            // Left over, it is removed the next time.
            let _ = all.disk.remove_file(&all.path(number));
        }
        Ok(())
    }
}

fn section_crc(number: u64, head: &[u8], payload: &[u8]) -> u32 {
    let seed = crc32c::crc32c(&number.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(seed, head), payload)
}

enum Read<T> {
    Good(T),
    Version(u32),
}

fn decode_header(bytes: &[u8], number: u64) -> Option<Read<LogPosition>> {
    let header = bytes.first_chunk::<HEADER>()?;
    if &header[..8] != MAGIC || crc32c::crc32c(&header[..HEADER - 4]) != u32_at(header, HEADER - 4) {
        return None;
    }
    let version = u32_at(header, 8);
    if version != VERSION {
        return Some(Read::Version(version));
    }
    let position = LogPosition { segment: u64_at(header, 20), offset: u64_at(header, 28) };
    (u64_at(header, 12) == number).then_some(Read::Good(position))
}

/// Reads a checkpoint; `None` if any of it is damaged.
fn decode(bytes: &Bytes, number: u64) -> Option<Read<Checkpoint>> {
    let position = match decode_header(bytes, number)? {
        Read::Good(position) => position,
        Read::Version(version) => return Some(Read::Version(version)),
    };
    let mut sections = Vec::new();
    let (mut at, mut crc) = (HEADER, u32_at(bytes, HEADER - 4));
    loop {
        let head = bytes.get(at..)?.first_chunk::<SECTION>()?;
        let len = usize::try_from(u64_at(head, 8)).ok()?;
        let start = at + SECTION;
        let end = start.checked_add(len).filter(|&end| end <= bytes.len())?;
        let stored = u32_at(head, 16);
        if section_crc(number, &head[..16], &bytes[start..end]) != stored {
            return None;
        }
        if u32_at(head, 0) == END {
            let whole = len == 16
                && u64_at(&bytes[start..end], 0) == sections.len() as u64
                && u32_at(&bytes[start..end], 8) == crc;
            return whole.then_some(Read::Good(Checkpoint { number, position, sections }));
        }
        crc = crc32c::crc32c_append(crc, &stored.to_le_bytes());
        sections.push((u32_at(head, 0), bytes.slice(start..end)));
        at = end.next_multiple_of(8);
    }
}

#[cfg(test)]
mod tests;
