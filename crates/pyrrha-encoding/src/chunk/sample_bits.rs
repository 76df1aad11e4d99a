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

/// Up to 248 bits, more than any float sample takes in any encoding, placed as they will lie in the
/// chunk's bytes.
#[derive(Debug)]
pub(super) struct SampleBits {
    /// The current word, left-aligned; bits before the sample and behind it are zero.
    acc: u64,
    /// How many bits of it are used.
    used: u32,
    words: [u64; 4],
    /// How many words are full.
    full: usize,
    /// Where in the chunk the sample begins, in bits.
    start: u32,
}

impl SampleBits {
    /// For a sample behind the first `start` bits of a chunk.
    #[inline]
    pub(super) fn new(start: u32) -> Self {
        Self { acc: 0, used: start % 8, words: [0; 4], full: 0, start }
    }

    /// Writes the bits to the chunk; gives their end. The rest of the last byte becomes zero.
    pub(super) fn write(mut self, buffer: &mut impl ChunkBuffer) -> u32 {
        self.words[self.full] = self.acc;
        let (before, start) = (self.start % 8, self.start / 8);
        let end = start * 8 + self.full as u32 * 64 + self.used;
        let end_byte = end.div_ceil(8) as usize;
        let target = &mut buffer.grow(end_byte)[start as usize..end_byte];
        self.words[0] |= kept(target, before);
        for (word, piece) in self.words.iter().zip(target.chunks_mut(8)) {
            copy_start(piece, word.to_be_bytes());
        }
        end
    }
}

/// Writes the `len` low bits of `value`, which ends within eight bytes of where the chunk's last
/// byte begins, behind the first `start` bits of a chunk; gives their end.
#[inline]
pub(super) fn write_word(buffer: &mut impl ChunkBuffer, start: u32, value: u64, len: u32) -> u32 {
    let (before, end) = (start % 8, start + len);
    let target = &mut buffer.grow(end.div_ceil(8) as usize)[(start / 8) as usize..end.div_ceil(8) as usize];
    let word = kept(target, before) | value << (64 - before - len);
    copy_start(target, word.to_be_bytes());
    end
}

/// The first `bits` (below 8) bits of the target, as the highest of a word.
#[inline]
fn kept(target: &[u8], bits: u32) -> u64 {
    match target.first() {
        Some(byte) if bits > 0 => u64::from(byte & !(0xff >> bits)) << 56,
        _ => 0,
    }
}

/// Copies the first bytes; two overlapping moves cost less than a call or a loop.
#[inline]
fn copy_start(target: &mut [u8], bytes: [u8; 8]) {
    match target.len() {
        8 => target.copy_from_slice(&bytes),
        n @ 4..8 => {
            target[..4].copy_from_slice(&bytes[..4]);
            target[n - 4..].copy_from_slice(&bytes[n - 4..n]);
        }
        n @ 2..4 => {
            target[..2].copy_from_slice(&bytes[..2]);
            target[n - 1] = bytes[n - 1];
        }
        1 => target[0] = bytes[0],
        _ => {}
    }
}

impl BitSink for SampleBits {
    #[inline]
    fn put(&mut self, value: u64, bits: u32) {
        if bits == 0 {
            return;
        }
        let value = value & (u64::MAX >> (64 - bits));
        let free = 64 - self.used;
        if bits < free {
            self.acc |= value << (free - bits);
            self.used += bits;
            return;
        }
        let rest = bits - free;
        self.words[self.full] = self.acc | value >> rest;
        self.full += 1;
        self.acc = if rest == 0 { 0 } else { value << (64 - rest) };
        self.used = rest;
    }
}

#[cfg(test)]
mod tests;
