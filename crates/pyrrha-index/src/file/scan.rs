//! Reading the series section back in order, while the file is being written.

use std::io;

use pyrrha_encoding::varint::take_uvarint32;
use pyrrha_env::DiskFile;

use super::SERIES_ALIGN;

const WINDOW: usize = 1 << 20;

/// Walks the entries of a series section that this process has just written.
#[derive(Debug)]
pub(super) struct SeriesScan {
    next: u64,
    end: u64,
    window: Vec<u8>,
    window_start: u64,
}

impl SeriesScan {
    pub(super) fn new(start: u64, end: u64) -> Self {
        Self { next: start, end, window: Vec::new(), window_start: start }
    }

    /// The next series reference and the content of its entry.
    pub(super) fn next(&mut self, file: &dyn DiskFile) -> io::Result<Option<(u32, &[u8])>> {
        let start = self.next.next_multiple_of(SERIES_ALIGN as u64);
        if start >= self.end {
            return Ok(None);
        }
        let unsound = || io::Error::other("series section changed while it was written");
        // The length prefix takes five bytes at most; every entry is longer than its prefix.
        let mut head = self.bytes(file, start, 5)?;
        let before = head.len();
        let len = take_uvarint32(&mut head).map_err(|_| unsound())? as usize;
        let prefix = before - head.len();
        self.next = start + (prefix + len + 4) as u64;
        let entry = self.bytes(file, start, prefix + len)?;
        let content = entry.get(prefix..prefix + len).ok_or_else(unsound)?;
        Ok(Some(((start / SERIES_ALIGN as u64) as u32, content)))
    }

    /// At least `len` bytes at `start`, fewer only at the end of the section.
    fn bytes(&mut self, file: &dyn DiskFile, start: u64, len: usize) -> io::Result<&[u8]> {
        let window_end = self.window_start + self.window.len() as u64;
        let wanted_end = (start + len as u64).min(self.end);
        if start < self.window_start || wanted_end > window_end {
            let size = (len.max(WINDOW) as u64).min(self.end - start) as usize;
            self.window.resize(size, 0);
            file.read_at(start, &mut self.window)?;
            self.window_start = start;
        }
        let from = (start - self.window_start) as usize;
        Ok(&self.window[from..from + (wanted_end - start) as usize])
    }
}
