//! The bits of one sample, and how they reach a chunk whose bytes live elsewhere.

use crate::bits::BitSink;

/// The bytes of a chunk that is being appended to, wherever they live (a vector, a slab of an
/// arena).
pub trait ChunkBuffer {
    /// The chunk's bytes, made at least `len` long. Those it has are kept; new ones may hold
    /// anything.
    fn grow(&mut self, len: usize) -> &mut [u8];
}

impl ChunkBuffer for Vec<u8> {
    #[inline]
    fn grow(&mut self, len: usize) -> &mut [u8] {
        if self.len() < len {
            self.resize(len, 0);
        }
        self
    }
}

/// Up to 256 bits, more than any float sample takes in any encoding.
#[derive(Debug, Default)]
pub(super) struct SampleBits {
    words: [u64; 4],
    len: u32,
}

impl BitSink for SampleBits {
    #[inline]
    fn put(&mut self, value: u64, bits: u32) {
        if bits == 0 {
            return;
        }
        let value = value & (u64::MAX >> (64 - bits));
        let (word, used) = ((self.len / 64) as usize, self.len % 64);
        let free = 64 - used;
        if bits <= free {
            self.words[word] |= value << (free - bits);
        } else {
            self.words[word] |= value >> (bits - free);
            self.words[word + 1] = value << (64 - (bits - free));
        }
        self.len += bits;
    }
}

impl SampleBits {
    /// Writes the bits behind the first `*at` bits of a chunk and moves `at` to their end. The
    /// rest of the last byte becomes zero.
    #[inline]
    pub(super) fn write(&self, buffer: &mut impl ChunkBuffer, at: &mut u32) {
        let (start, used) = ((*at / 8) as usize, *at % 8);
        *at += self.len;
        let end = at.div_ceil(8) as usize;
        let target = &mut buffer.grow(end)[start..end];
        let mut carry = match target.first() {
            Some(byte) if used > 0 => u64::from(byte & !(0xff >> used)) << 56,
            _ => 0,
        };
        for (word, piece) in self.words.iter().chain(&[0]).zip(target.chunks_mut(8)) {
            let bytes = (carry | word >> used).to_be_bytes();
            // Two shifts, so that `used == 0` shifts everything out.
            carry = word << 1 << (63 - used);
            for (to, from) in piece.iter_mut().zip(bytes) {
                *to = from;
            }
        }
    }
}

#[cfg(test)]
mod tests;
