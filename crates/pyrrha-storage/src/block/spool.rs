//! Series on their way into an index, whose symbols are not all known yet.

use std::io;
use std::path::PathBuf;

use pyrrha_encoding::DecodeError;
use pyrrha_encoding::varint::{
    put_uvarint, put_varint, take_count, take_uvarint, take_uvarint32, take_varint,
};
use pyrrha_env::{Disk, DiskFile};
use pyrrha_index::{ChunkMeta, SeriesRow};

/// Bytes kept in memory before they go to a file.
const MEMORY: usize = 4 << 20;

/// Rows in the order in which they came: in memory while they are few, else in a temporary file.
#[derive(Debug)]
pub(super) struct Spool {
    path: PathBuf,
    file: Option<Box<dyn DiskFile>>,
    flushed: u64,
    buffer: Vec<u8>,
}

impl Spool {
    /// A spool that will use the file `path`, which must not exist.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, file: None, flushed: 0, buffer: Vec::new() }
    }

    /// Adds a row whose label references are any ids.
    pub(super) fn push(&mut self, disk: &dyn Disk, row: &SeriesRow) -> io::Result<()> {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&[0; 4]);
        encode(row, &mut self.buffer);
        let len = (self.buffer.len() - start - 4) as u32;
        self.buffer[start..start + 4].copy_from_slice(&len.to_be_bytes());
        if self.buffer.len() >= MEMORY {
            self.flush(disk)?;
        }
        Ok(())
    }

    fn flush(&mut self, disk: &dyn Disk) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(disk.create_new(&self.path)?),
        };
        file.write_at(self.flushed, &self.buffer)?;
        self.flushed += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Calls `visit` with each row, then removes the file. An inner error is `visit`'s.
    pub(super) fn drain<E>(
        mut self,
        disk: &dyn Disk,
        mut visit: impl FnMut(&mut SeriesRow) -> Result<(), E>,
    ) -> io::Result<Result<(), E>> {
        let unsound = |_| io::Error::other("spooled series changed while the block was written");
        if self.file.is_some() {
            self.flush(disk)?;
        }
        let mut row = SeriesRow::default();
        let mut done = 0u64;
        loop {
            let mut input = self.buffer.as_slice();
            while let Some(mut entry) = take_entry(&mut input) {
                decode(&mut entry, &mut row).map_err(unsound)?;
                if let Err(error) = visit(&mut row) {
                    return Ok(Err(error));
                }
            }
            let left = input.len();
            self.buffer.drain(..self.buffer.len() - left);
            let Some(file) = self.file.as_ref().filter(|_| done < self.flushed) else { break };
            let more = (self.flushed - done).min(MEMORY as u64);
            self.buffer.resize(left + more as usize, 0);
            file.read_at(done, &mut self.buffer[left..])?;
            done += more;
        }
        if self.file.take().is_some() { disk.remove_file(&self.path).map(Ok) } else { Ok(Ok(())) }
    }
}

fn take_entry<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (len, rest) = input.split_first_chunk::<4>()?;
    let (entry, rest) = rest.split_at_checked(u32::from_be_bytes(*len) as usize)?;
    *input = rest;
    Some(entry)
}

fn encode(row: &SeriesRow, out: &mut Vec<u8>) {
    put_uvarint(out, row.labels.len() as u64);
    for &(name, value) in &row.labels {
        put_uvarint(out, u64::from(name));
        put_uvarint(out, u64::from(value));
    }
    put_uvarint(out, row.chunks.len() as u64);
    for chunk in &row.chunks {
        put_varint(out, chunk.min_time);
        put_varint(out, chunk.max_time.wrapping_sub(chunk.min_time));
        put_uvarint(out, chunk.reference);
    }
}

fn decode(input: &mut &[u8], row: &mut SeriesRow) -> Result<(), DecodeError> {
    row.labels.clear();
    for _ in 0..take_count(input, 2)? {
        row.labels.push((take_uvarint32(input)?, take_uvarint32(input)?));
    }
    row.chunks.clear();
    for _ in 0..take_count(input, 3)? {
        let min_time = take_varint(input)?;
        let max_time = min_time.wrapping_add(take_varint(input)?);
        row.chunks.push(ChunkMeta { min_time, max_time, reference: take_uvarint(input)? });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::path::Path;

    use pyrrha_testkit::SimDisk;

    use super::*;

    #[test]
    fn rows_come_back_in_order_from_memory_and_from_a_file() {
        for count in [0, 10, 300_000u32] {
            let disk = SimDisk::new(1);
            let row_of = |i: u32| SeriesRow {
                labels: vec![(1, i), (2, i / 7)],
                chunks: vec![ChunkMeta {
                    min_time: -5,
                    max_time: i64::from(i),
                    reference: u64::from(i) << 20,
                }],
            };
            let mut spool = Spool::new("/spool".into());
            for i in 0..count {
                spool.push(&disk, &row_of(i)).expect("no fault");
            }
            assert_eq!(disk.exists(Path::new("/spool")), count > 1000);
            let mut seen = 0;
            let visited = spool.drain(&disk, |row| {
                assert_eq!(*row, row_of(seen));
                seen += 1;
                Ok::<(), Infallible>(())
            });
            assert!(visited.is_ok());
            assert_eq!(seen, count);
            assert!(!disk.exists(Path::new("/spool")));
        }
    }
}
