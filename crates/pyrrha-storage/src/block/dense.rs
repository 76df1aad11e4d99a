//! Writing the chunks of a series in a block's layout, and the columns of times that dense chunks
//! share.

use std::sync::Arc;

use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use pyrrha_encoding::dense::{Draft, column_of, encode_times, standard_chunks, with_column};
use pyrrha_env::Disk;
use pyrrha_model::contract::{ChunkRef, Timestamps};
use pyrrha_model::{ChunkEncoding, Timestamp};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128_with_seed};

use super::Layout;
use super::error::{Blame, BlockError};
use super::segments::SegmentWriter;

/// Columns that a writer remembers; when there are more it begins anew.
const REMEMBERED: usize = 1 << 18;
/// Bytes of decoded columns that a reader keeps.
const KEPT: usize = 8 << 20;

/// Puts chunks into segments.
#[derive(Debug)]
pub(super) struct ChunkWriter {
    layout: Layout,
    draft: Draft,
    /// By a hash of the times: `None` if one chunk has them itself, else the reference of the column.
    columns: HashMap<u128, Option<u64>, RandomState>,
    /// Not known to who sends samples, as it comes from a block's random name.
    seed: u64,
    packed: Vec<u8>,
}

impl ChunkWriter {
    pub(super) fn new(layout: Layout, name: &str) -> Self {
        Self {
            layout,
            draft: Draft::default(),
            columns: HashMap::default(),
            seed: xxh3_64(name.as_bytes()),
            packed: Vec::new(),
        }
    }

    /// Appends the chunks of a series, in order, and hands over each that was written, as it was
    /// written, with its reference.
    pub(super) fn append(
        &mut self,
        segments: &mut SegmentWriter,
        disk: &dyn Disk,
        blame: &Blame,
        chunks: &[ChunkRef],
        mut written: impl FnMut(&ChunkRef, u64),
    ) -> Result<(), BlockError> {
        if self.layout == Layout::Standard {
            let mut standard = Vec::new();
            for chunk in chunks {
                standard.clear();
                standard_chunks(chunk, &mut standard)
                    .map_err(|e| blame.refused(format!("chunk does not decode: {e}")))?;
                for chunk in &standard {
                    written(chunk, segments.append(disk, blame, chunk)?);
                }
            }
            return Ok(());
        }
        for chunk in chunks {
            if self.draft.push(chunk) {
                continue;
            }
            self.flush(segments, disk, blame, &mut written)?;
            if self.draft.push(chunk) {
                continue;
            }
            match &chunk.timestamps {
                Timestamps::Shared(times) if chunk.encoding == ChunkEncoding::Dense => {
                    let times = times.clone();
                    self.share(segments, disk, blame, chunk.clone(), &times, &mut written)?;
                }
                _ => {
                    let mut standard = Vec::new();
                    let chunks = match (chunk.encoding, &chunk.timestamps) {
                        (_, Timestamps::Own) => std::slice::from_ref(chunk),
                        (_, Timestamps::Shared(_)) => {
                            standard_chunks(chunk, &mut standard)
                                .map_err(|e| blame.refused(format!("chunk does not decode: {e}")))?;
                            &standard
                        }
                    };
                    for chunk in chunks {
                        written(chunk, segments.append(disk, blame, chunk)?);
                    }
                }
            }
        }
        self.flush(segments, disk, blame, &mut written)
    }

    /// Writes what the draft has.
    fn flush(
        &mut self,
        segments: &mut SegmentWriter,
        disk: &dyn Disk,
        blame: &Blame,
        written: &mut impl FnMut(&ChunkRef, u64),
    ) -> Result<(), BlockError> {
        let times = self.draft.times();
        let Some((&min_time, &max_time)) = times.first().zip(times.last()) else { return Ok(()) };
        let own = ChunkRef {
            min_time,
            max_time,
            encoding: ChunkEncoding::Dense,
            timestamps: Timestamps::Own,
            bytes: Bytes::new(),
        };
        let key = key(&mut self.packed, times, self.seed);
        if self.columns.contains_key(&key) {
            let times: Arc<[Timestamp]> = times.into();
            let shared = ChunkRef {
                bytes: self.draft.encode_shared(0).into(),
                timestamps: Timestamps::Shared(times.clone()),
                ..own
            };
            self.draft.clear();
            return self.share(segments, disk, blame, shared, &times, written);
        }
        let chunk = ChunkRef { bytes: self.draft.encode().into(), ..own };
        self.draft.clear();
        self.remember(key, None);
        written(&chunk, segments.append(disk, blame, &chunk)?);
        Ok(())
    }

    /// Writes a chunk whose times are in a column, and the column if the segment has it not yet.
    fn share(
        &mut self,
        segments: &mut SegmentWriter,
        disk: &dyn Disk,
        blame: &Blame,
        mut chunk: ChunkRef,
        times: &[Timestamp],
        written: &mut impl FnMut(&ChunkRef, u64),
    ) -> Result<(), BlockError> {
        let key = key(&mut self.packed, times, self.seed);
        let column = encode_times(times);
        segments.make_room(blame, column.len() + chunk.bytes.len())?;
        let there = self.columns.get(&key).copied().flatten().filter(|r| segments.is_current(*r));
        let reference = match there {
            Some(reference) => reference,
            None => {
                let record = ChunkRef { bytes: column.into(), timestamps: Timestamps::Own, ..chunk.clone() };
                let reference = segments.append(disk, blame, &record)?;
                self.remember(key, Some(reference));
                reference
            }
        };
        // A segment is shorter than 4 GiB.
        chunk.bytes = with_column(&chunk.bytes, reference as u32).into();
        written(&chunk, segments.append(disk, blame, &chunk)?);
        Ok(())
    }

    fn remember(&mut self, key: u128, reference: Option<u64>) {
        if self.columns.len() >= REMEMBERED {
            self.columns.clear();
        }
        self.columns.insert(key, reference);
    }
}

fn key(packed: &mut Vec<u8>, times: &[Timestamp], seed: u64) -> u128 {
    packed.clear();
    times.iter().for_each(|t| packed.extend_from_slice(&t.to_ne_bytes()));
    xxh3_128_with_seed(packed, seed)
}

/// Columns of times that were decoded, for the next chunk that shares them.
#[derive(Debug, Default)]
pub(super) struct Columns {
    by_reference: HashMap<u64, Arc<[Timestamp]>, RandomState>,
    bytes: usize,
}

impl Columns {
    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The column of this reference, by `read` if it is not here.
    pub(super) fn get<E>(
        &mut self,
        reference: u64,
        read: impl FnOnce() -> Result<Vec<Timestamp>, E>,
    ) -> Result<Arc<[Timestamp]>, E> {
        if let Some(times) = self.by_reference.get(&reference) {
            return Ok(times.clone());
        }
        let times: Arc<[Timestamp]> = read()?.into();
        let bytes = size_of_val(&times[..]) + size_of::<(u64, Arc<[Timestamp]>)>();
        if self.bytes + bytes > KEPT {
            self.by_reference.clear();
            self.bytes = 0;
        }
        self.bytes += bytes;
        self.by_reference.insert(reference, times.clone());
        Ok(times)
    }
}

/// Offset of the column that has the times of a chunk; `None` if it has them itself.
pub(super) fn column_offset(chunk: &ChunkRef) -> Result<Option<u32>, pyrrha_encoding::DecodeError> {
    if chunk.encoding == ChunkEncoding::Dense { column_of(&chunk.bytes) } else { Ok(None) }
}

#[cfg(test)]
mod tests;
