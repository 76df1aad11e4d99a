//! Lists of sealed chunks: 32 bytes per chunk, linked from the newest to the oldest of a series, so
//! that one index is a snapshot of all chunks that a series had at a moment.

use pyrrha_model::contract::ChunkRef;
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
    /// A chunk that was put at `place`, with `before` before it in its series.
    pub(crate) fn of(chunk: &ChunkRef, place: Place, before: u32) -> Self {
        let span = (chunk.max_time - chunk.min_time) as u32;
        Self { min_time: chunk.min_time, span, place, before, encoding: chunk.encoding as u8 }
    }

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

    /// Frees the chunks of the list that ends in `tail` for which `gone` is true. Returns the new tail.
    pub(crate) fn prune(&mut self, tail: u32, gone: impl Fn(&Sealed) -> bool) -> u32 {
        let (mut index, mut newest, mut kept) = (tail, NONE, NONE);
        while index != NONE {
            let before = self.get(index).before;
            if gone(self.get(index)) {
                self.free.push(index);
            } else {
                if kept == NONE {
                    newest = index;
                } else {
                    self.items[kept as usize].before = index;
                }
                kept = index;
            }
            index = before;
        }
        if kept != NONE {
            self.items[kept as usize].before = NONE;
        }
        newest
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_may_lie_anywhere_in_the_list() {
        for gone in 0u32..32 {
            let mut lists = SealedLists::default();
            let mut tail = NONE;
            for min_time in 0..5 {
                tail = lists.push(Sealed { min_time, before: tail, ..Sealed::default() });
            }
            let is_gone = |sealed: &Sealed| gone >> sealed.min_time & 1 == 1;
            let (mut index, mut left) = (lists.prune(tail, is_gone), Vec::new());
            while index != NONE {
                left.push(lists.get(index).min_time);
                index = lists.get(index).before;
            }
            assert_eq!(left, (0..5).rev().filter(|t| gone >> t & 1 == 0).collect::<Vec<_>>());
            assert_eq!(lists.len(), left.len());
        }
    }
}
