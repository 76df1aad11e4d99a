//! The bytes of one simulated file: what the program sees, what is durable, what lies between.

use std::io;

use bytes::Bytes;

use crate::SimRng;

/// Bytes that a disk writes wholly or not at all.
const SECTOR: u64 = 512;

/// Content with a sparse tail of zeros.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    bytes: Vec<u8>,
    len: u64,
}

impl Content {
    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let (start, end) = (offset as usize, offset as usize + bytes.len());
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[start..end].copy_from_slice(bytes);
        self.len = self.len.max(end as u64);
    }

    fn set_len(&mut self, len: u64) {
        self.bytes.truncate(usize::try_from(len).unwrap_or(usize::MAX));
        self.len = len;
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        if offset.checked_add(buffer.len() as u64).is_none_or(|end| end > self.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer.fill(0);
        if let Some(have) = self.bytes.get(offset as usize..) {
            let n = have.len().min(buffer.len());
            buffer[..n].copy_from_slice(&have[..n]);
        }
        Ok(())
    }
}

/// A change that was not synced yet.
#[derive(Debug)]
enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    SetLen(u64),
}

/// What of a change reaches the disk although it was not synced.
#[derive(Clone, Copy)]
enum Kept {
    Nothing,
    /// The new length, with zeros.
    Length,
    /// Some sectors.
    Sectors,
    All,
}

/// A file.
#[derive(Debug, Default)]
pub(super) struct Blob {
    live: Content,
    durable: Content,
    pending: Vec<Change>,
}

impl Blob {
    pub(super) fn len(&self) -> u64 {
        self.live.len
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.live.write(offset, bytes);
        self.pending.push(Change::Write { offset, bytes: bytes.to_vec() });
    }

    /// A write of which only some sectors reach the page cache.
    pub(super) fn write_torn(&mut self, offset: u64, bytes: &[u8], rng: &mut SimRng) {
        let keep = rng.index(bytes.len() + 1);
        self.write(offset, &bytes[..keep]);
    }

    pub(super) fn set_len(&mut self, len: u64) {
        self.live.set_len(len);
        self.pending.push(Change::SetLen(len));
    }

    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.live.read(offset, buffer)
    }

    pub(super) fn content(&self) -> Bytes {
        let mut all = self.live.bytes.clone();
        all.resize(self.live.len as usize, 0);
        Bytes::from(all)
    }

    pub(super) fn change_byte(&mut self, offset: u64, change: impl Fn(u8) -> u8) -> io::Result<()> {
        let mut byte = [0];
        self.live.read(offset, &mut byte)?;
        self.live.write(offset, &[change(byte[0])]);
        if self.durable.read(offset, &mut byte).is_ok() {
            self.durable.write(offset, &[change(byte[0])]);
        }
        for pending in &mut self.pending {
            if let Change::Write { offset: start, bytes } = pending
                && let Some(at) = offset.checked_sub(*start)
                && let Some(byte) = bytes.get_mut(at as usize)
            {
                *byte = change(*byte);
            }
        }
        Ok(())
    }

    /// A successful fdatasync: all that was changed since the last sync, failed or not, is durable.
    pub(super) fn sync(&mut self) {
        for change in self.pending.drain(..) {
            match change {
                Change::Write { offset, bytes } => self.durable.write(offset, &bytes),
                Change::SetLen(len) => self.durable.set_len(len),
            }
        }
    }

    /// A failed fdatasync, as Linux does it: some changes reach the disk, the others are marked
    /// clean and never will, and the program goes on seeing all of them.
    pub(super) fn sync_failed(&mut self, rng: &mut SimRng) {
        self.keep_some(rng);
    }

    /// Power loss.
    pub(super) fn crash(&mut self, rng: &mut SimRng) {
        self.keep_some(rng);
        self.live = self.durable.clone();
    }

    fn keep_some(&mut self, rng: &mut SimRng) {
        // Nothing, everything, a prefix, or any part: each is what some file system does.
        let mood = rng.below(4);
        let cut = rng.index(self.pending.len() + 1);
        for (i, change) in std::mem::take(&mut self.pending).into_iter().enumerate() {
            let kept = match mood {
                0 => Kept::Nothing,
                1 => Kept::All,
                2 if i < cut => Kept::All,
                2 if i == cut => Kept::Sectors,
                2 => Kept::Nothing,
                _ => [Kept::Nothing, Kept::Length, Kept::Sectors, Kept::All][rng.index(4)],
            };
            match (change, kept) {
                (_, Kept::Nothing) => {}
                (Change::SetLen(len), _) => self.durable.set_len(len),
                (Change::Write { offset, bytes }, Kept::All) => self.durable.write(offset, &bytes),
                (Change::Write { offset, bytes }, Kept::Sectors) => self.keep_sectors(offset, &bytes, rng),
                (Change::Write { offset, bytes }, Kept::Length) => {
                    self.durable.len = self.durable.len.max(offset + bytes.len() as u64);
                }
            }
        }
    }

    fn keep_sectors(&mut self, offset: u64, bytes: &[u8], rng: &mut SimRng) {
        let prefix = rng.percent(50);
        let mut at = 0usize;
        while at < bytes.len() {
            let to_boundary = (SECTOR - (offset + at as u64) % SECTOR) as usize;
            let end = (at + to_boundary).min(bytes.len());
            if rng.percent(if prefix { 80 } else { 50 }) {
                self.durable.write(offset + at as u64, &bytes[at..end]);
            } else if prefix {
                return;
            }
            at = end;
        }
    }
}
