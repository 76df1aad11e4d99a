//! The times of chunks decoded before, by the time at which a chunk begins: all series of one target have
//! the same, in whatever order the targets come.

use pyrrha_model::contract::ChunkRef;
use pyrrha_model::{ChunkEncoding, Timestamp};

use crate::chunk::{Rhythm, sample_count};

/// Most rhythms kept: one and a half kilobytes each, of chunks of 120 samples.
const KEPT: usize = 2048;

/// Chunks with more samples than this are not worth their room.
const SAMPLES_MAX: usize = 256;

/// Places to look at; more than are kept, so that few share one.
const PLACES: usize = 2 * KEPT;

/// Lookups after which it is decided whether keeping pays.
const PERIOD: u32 = 4096;

/// Periods without keeping, after one in which it did not pay.
const REST: u32 = 16;

/// Rhythms of chunks. What a chunk's rhythm is taken for is only a guess, which decoding checks: any
/// other is correct, too, and slower.
#[derive(Debug, Default)]
pub(crate) struct Rhythms {
    /// By hash of the first time, number of a rhythm; [`NONE`] for none.
    places: Vec<u16>,
    /// Rhythms with the first times of their chunks.
    kept: Vec<(Timestamp, Rhythm)>,
    /// Without keeping: by a chunk's number in its series, around.
    by_number: Vec<Rhythm>,
    /// Lookups of this period, and how many of them found what they looked for.
    looked: u32,
    found: u32,
    /// Lookups until keeping is tried again.
    rest: u32,
    /// Bytes allocated by the rhythms that were [grown](Self::grown).
    bytes: usize,
}

/// No rhythm.
const NONE: u16 = u16::MAX;

/// Chunks of a series that have a rhythm of their own where none is kept.
const NUMBERS: usize = 64;

impl Rhythms {
    /// The rhythm that chunk `number` of a series goes by, most likely.
    pub(crate) fn of(&mut self, number: usize, chunk: &ChunkRef) -> &mut Rhythm {
        let worth = chunk.min_time != chunk.max_time
            && chunk.encoding == ChunkEncoding::Xor
            && sample_count(chunk.encoding, &chunk.bytes).is_ok_and(|count| count <= SAMPLES_MAX);
        if worth && self.rest == 0 {
            self.kept(chunk.min_time)
        } else {
            self.rest = self.rest.saturating_sub(u32::from(worth));
            self.by_number(number)
        }
    }

    /// Counts what a rhythm that was lent has grown by, bytes.
    #[inline]
    pub(crate) fn grown(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Bytes allocated.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
            + self.places.capacity() * size_of::<u16>()
            + self.kept.capacity() * size_of::<(Timestamp, Rhythm)>()
            + self.by_number.capacity() * size_of::<Rhythm>()
    }

    fn by_number(&mut self, number: usize) -> &mut Rhythm {
        let number = number % NUMBERS;
        if self.by_number.len() <= number {
            self.by_number.resize_with(number + 1, Rhythm::default);
        }
        &mut self.by_number[number]
    }

    fn kept(&mut self, first: Timestamp) -> &mut Rhythm {
        if self.places.is_empty() {
            self.places.resize(PLACES, NONE);
        }
        // Fibonacci hashing: the upper bits are those that all bits of the time reach.
        let hash = (first as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let place = (hash >> (64 - PLACES.trailing_zeros())) as usize;
        let mut at = usize::from(self.places[place]);
        if at >= self.kept.len() {
            at = self.kept.len();
            if at < KEPT {
                self.kept.push((first, Rhythm::default()));
            } else {
                at = place % KEPT;
            }
            self.places[place] = at as u16;
        }
        let found = self.kept[at].0 == first;
        self.count(found);
        let (begins, rhythm) = &mut self.kept[at];
        *begins = first;
        rhythm
    }

    fn count(&mut self, found: bool) {
        self.looked += 1;
        self.found += u32::from(found);
        if self.looked == PERIOD {
            if self.found < PERIOD / 4 {
                self.rest = REST * PERIOD;
            }
            (self.looked, self.found) = (0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pyrrha_model::contract::Timestamps;

    use super::*;

    fn chunk(first: Timestamp, samples: u16) -> ChunkRef {
        ChunkRef {
            min_time: first,
            max_time: first + 1000,
            encoding: ChunkEncoding::Xor,
            timestamps: Timestamps::Own,
            bytes: Bytes::copy_from_slice(&samples.to_be_bytes()),
        }
    }

    fn address(rhythm: &Rhythm) -> usize {
        std::ptr::from_ref(rhythm) as usize
    }

    #[test]
    fn chunks_that_begin_together_share_a_rhythm() {
        let mut rhythms = Rhythms::default();
        for first in 0..300 {
            rhythms.of(0, &chunk(first, 120));
        }
        let of = |rhythms: &mut Rhythms, first| address(rhythms.of(7, &chunk(first, 120)));
        let (a, b) = (of(&mut rhythms, 5), of(&mut rhythms, 250));
        assert_ne!(a, b);
        assert_eq!((of(&mut rhythms, 5), of(&mut rhythms, 250)), (a, b));
    }

    #[test]
    fn keeping_is_bounded_and_rests_where_it_does_not_pay() {
        let mut rhythms = Rhythms::default();
        rhythms.of(0, &chunk(1, 10_000));
        assert_eq!((rhythms.kept.len(), rhythms.by_number.len()), (0, 1));
        for first in 0..3 * i64::from(PERIOD) {
            rhythms.of(1, &chunk(first * 15_000, 120));
        }
        assert!(rhythms.kept.len() <= KEPT && rhythms.rest > 0);
        assert_eq!(rhythms.by_number.len(), 2);
    }
}
