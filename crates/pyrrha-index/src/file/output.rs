//! Sequential, buffered output to a file, with a running checksum.

use std::io;

use pyrrha_encoding::crc;
use pyrrha_env::DiskFile;

const BUFFER: usize = 1 << 20;

/// Appends to a file through a buffer.
#[derive(Debug)]
pub(super) struct Output {
    file: Box<dyn DiskFile>,
    buffer: Vec<u8>,
    flushed: u64,
    sum: u32,
}

impl Output {
    pub(super) fn new(file: Box<dyn DiskFile>) -> Self {
        Self { file, buffer: Vec::with_capacity(BUFFER), flushed: 0, sum: 0 }
    }

    /// Offset of the next byte.
    pub(super) fn position(&self) -> u64 {
        self.flushed + self.buffer.len() as u64
    }

    pub(super) fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.buffer.len() + bytes.len() > BUFFER {
            self.flush()?;
        }
        self.sum = crc::checksum_append(self.sum, bytes);
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Writes zeros up to the next multiple of `alignment`.
    pub(super) fn align(&mut self, alignment: usize) -> io::Result<()> {
        const ZEROS: [u8; 16] = [0; 16];
        let over = (self.position() % alignment as u64) as usize;
        if over == 0 { Ok(()) } else { self.put(&ZEROS[..alignment - over]) }
    }

    /// Starts a section of `len` bytes, which the caller puts next.
    pub(super) fn begin_section(&mut self, len: u32) -> io::Result<()> {
        self.put(&len.to_be_bytes())?;
        self.sum = 0;
        Ok(())
    }

    /// Ends a section with the checksum of what was put since it began.
    pub(super) fn end_section(&mut self) -> io::Result<()> {
        let sum = self.sum;
        self.put(&sum.to_be_bytes())
    }

    /// Hands buffered bytes to the file, which can then be read.
    pub(super) fn flush(&mut self) -> io::Result<&dyn DiskFile> {
        if !self.buffer.is_empty() {
            self.file.write_at(self.flushed, &self.buffer)?;
            self.flushed += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(&*self.file)
    }

    /// Another look at what was flushed.
    pub(super) fn file(&self) -> &dyn DiskFile {
        &*self.file
    }
}
