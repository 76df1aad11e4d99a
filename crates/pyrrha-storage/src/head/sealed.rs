//! Lists of sealed chunks: 32 bytes per chunk, linked from the newest to the oldest of a series, so
//! that one index is a snapshot of all chunks that a series had at a moment.

use pyrrha_model::{ChunkEncoding, TimeRange, Timestamp};

use super::chunk_store::Place;
use super::paged::Paged;

/// No chunk.
pub(crate) const NONE: u32 = u32::MAX;

/// A sealed chunk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sealed {
    pub(crate) min_time: Timestamp,
    /// Time of its last sample less `min_time`.
    pub(crate) span: u32,
    pub(crate) place: Place,
    /// The chunk before it in its series, or [`NONE`].
    pub(crate) before: u32,
    /// Its encoding byte.
    pub(crate) encoding: u8,
}

impl Default for Sealed {
    fn default() -> Self {
        Self { min_time: 0, span: 0, place: Place::default(), before: NONE, encoding: 0 }
    }
}

impl Sealed {
    /// Time of the last sample, ms.
    pub(crate) fn max_time(&self) -> Timestamp {
        self.min_time + i64::from(self.span)
    }

    /// From first to last sample.
    pub(crate) fn range(&self) -> TimeRange {
        TimeRange::new(self.min_time, self.max_time())
    }

    /// How its bytes are encoded.
    pub(crate) fn encoding(&self) -> ChunkEncoding {
        ChunkEncoding::from_byte(self.encoding).unwrap_or(ChunkEncoding::Xor)
    }
}

/// All sealed chunks.
#[derive(Debug, Default)]
pub(crate) struct SealedLists {
    items: Paged<Sealed>,
    free: Vec<u32>,
}

impl SealedLists {
    /// Adds a chunk and returns its index.
    pub(crate) fn push(&mut self, sealed: Sealed) -> u32 {
        match self.free.pop() {
            Some(index) => {
                self.items[index as usize] = sealed;
                index
            }
            None => u32::try_from(self.items.push(sealed)).expect("fewer than 2^32 sealed chunks"),
        }
    }

    /// The chunk of an index.
    #[inline]
    pub(crate) fn get(&self, index: u32) -> &Sealed {
        &self.items[index as usize]
    }

    /// Says where a chunk is now.
    pub(crate) fn set_place(&mut self, index: u32, place: Place) {
        self.items[index as usize].place = place;
    }

    /// Says which chunk is before another.
    pub(crate) fn set_before(&mut self, index: u32, before: u32) {
        self.items[index as usize].before = before;
    }

    /// Frees the chunks of the list that ends in `tail` for which `gone` is true, which must be
    /// its oldest. Returns the new tail.
    pub(crate) fn prune(&mut self, tail: u32, gone: impl Fn(&Sealed) -> bool) -> u32 {
        let (mut index, mut kept) = (tail, NONE);
        while index != NONE && !gone(self.get(index)) {
            kept = index;
            index = self.get(index).before;
        }
        while index != NONE {
            let before = self.get(index).before;
            self.free.push(index);
            index = before;
        }
        if kept == NONE {
            return NONE;
        }
        self.items[kept as usize].before = NONE;
        tail
    }

    /// Number of chunks.
    pub(crate) fn len(&self) -> usize {
        self.items.len() - self.free.len()
    }

    /// Bytes allocated.
    pub(crate) fn bytes(&self) -> usize {
        self.items.bytes() + self.free.capacity() * 4
    }
}
