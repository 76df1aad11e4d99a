//! Bit streams, most significant bit first, as Prometheus' chunks use them.

use crate::DecodeError;
use crate::varint::{MAX_VARINT_LEN, unzigzag, zigzag};

/// Takes bits.
pub trait BitSink {
    /// Appends the `bits` (at most 64) low bits of `value`, highest first.
    fn put(&mut self, value: u64, bits: u32);

    /// Appends a LEB128 number, eight bits at a time.
    fn put_uvarint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.put(value & 0x7f | 0x80, 8);
            value >>= 7;
        }
        self.put(value, 8);
    }

    /// Appends a zigzag LEB128 number.
    fn put_varint(&mut self, value: i64) {
        self.put_uvarint(zigzag(value));
    }
}

/// A growing bit stream: bits gather in a 64-bit accumulator and leave it eight bytes at a time.
#[derive(Debug, Clone, Default)]
pub struct BitWriter {
    bytes: Vec<u8>,
    /// Pending bits, left-aligned; the rest is zero.
    acc: u64,
    /// How many bits are pending; below 64.
    used: u32,
}

impl BitWriter {
    /// An empty stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bits written so far.
    pub fn bit_len(&self) -> usize {
        self.bytes.len() * 8 + self.used as usize
    }

    /// Bytes that [`finish`](Self::finish) would give.
    pub fn byte_len(&self) -> usize {
        self.bit_len().div_ceil(8)
    }

    /// The stream's bytes; the last is filled with zero bits.
    pub fn finish(mut self) -> Vec<u8> {
        let pending = self.used.div_ceil(8) as usize;
        self.bytes.extend_from_slice(&self.acc.to_be_bytes()[..pending]);
        self.bytes
    }
}

impl BitSink for BitWriter {
    #[inline]
    fn put(&mut self, value: u64, bits: u32) {
        debug_assert!(bits <= 64);
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
        self.bytes.extend_from_slice(&(self.acc | value >> rest).to_be_bytes());
        self.acc = if rest == 0 { 0 } else { value << (64 - rest) };
        self.used = rest;
    }
}

/// Reads a bit stream. Past the end it reads zeros; [`check`](Self::check) tells whether that
/// happened, so that loops of bounded length need one check per round and not one per read.
#[derive(Debug, Clone)]
pub struct BitReader<'a> {
    bytes: &'a [u8],
    /// Position in bits; beyond the end after reading too much.
    pos: usize,
}

impl<'a> BitReader<'a> {
    /// A reader at the first bit of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, pos: 0 }
    }

    /// A reader that stands before bit `pos`.
    pub(crate) fn at(bytes: &'a [u8], pos: usize) -> Self {
        Self { bytes, pos }
    }

    /// What is read, and the position in bits.
    pub(crate) fn parts(&self) -> (&'a [u8], usize) {
        (self.bytes, self.pos)
    }

    /// Position in bits.
    #[inline]
    pub fn position(&self) -> usize {
        self.pos
    }

    /// Fails if more was read than there is.
    #[inline]
    pub fn check(&self, part: &'static str) -> Result<(), DecodeError> {
        if self.pos <= self.bytes.len() * 8 { Ok(()) } else { Err(DecodeError::Truncated { part }) }
    }

    /// The next bits, left-aligned: at least [`PEEK_BITS`] of them.
    #[inline]
    pub fn peek(&self) -> u64 {
        peek_at(self.bytes, self.pos)
    }

    /// Moves on by `bits` bits.
    #[inline]
    pub fn skip(&mut self, bits: u32) {
        // Cannot wrap: loops are bounded and usize has room for 2^60 bytes of bits.
        self.pos = self.pos.wrapping_add(bits as usize);
    }

    /// Reads one bit.
    #[inline]
    pub fn bit(&mut self) -> bool {
        let bit = self.peek() >> 63 != 0;
        self.skip(1);
        bit
    }

    /// Reads `bits` (at most 64) bits as an unsigned number.
    #[inline]
    pub fn read(&mut self, bits: u32) -> u64 {
        debug_assert!(bits <= 64);
        if bits == 0 {
            return 0;
        }
        if bits <= PEEK_BITS {
            let value = self.peek() >> (64 - bits);
            self.skip(bits);
            return value;
        }
        let high = self.peek() >> 32;
        self.skip(32);
        let low_bits = bits - 32;
        let low = self.peek() >> (64 - low_bits);
        self.skip(low_bits);
        high << low_bits | low
    }

    /// Reads an IEEE 754 double's bits.
    #[inline]
    pub fn read_f64(&mut self) -> f64 {
        f64::from_bits(self.read(64))
    }

    /// Reads a LEB128 number, eight bits at a time.
    pub fn uvarint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for i in 0..MAX_VARINT_LEN {
            let byte = self.read(8);
            if i == MAX_VARINT_LEN - 1 && byte > 1 {
                break;
            }
            value |= (byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                self.check("varint")?;
                return Ok(value);
            }
        }
        Err(DecodeError::Malformed { part: "varint" })
    }

    /// Reads a zigzag LEB128 number.
    pub fn varint(&mut self) -> Result<i64, DecodeError> {
        self.uvarint().map(unzigzag)
    }
}

/// The bits of `bytes` from bit `pos` on, left-aligned: at least [`PEEK_BITS`] of them; zeros behind
/// the end.
#[inline(always)]
pub(crate) fn peek_at(bytes: &[u8], pos: usize) -> u64 {
    let at = pos / 8;
    // `at + 8` cannot overflow, which spares a comparison.
    let word = match bytes.get(at..at + 8).and_then(|word| word.first_chunk::<8>()) {
        Some(bytes) => u64::from_be_bytes(*bytes),
        None => peek_tail(bytes, at),
    };
    word << (pos % 8)
}

#[cold]
fn peek_tail(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    if let Some(rest) = bytes.get(at..) {
        for (to, from) in word.iter_mut().zip(rest) {
            *to = *from;
        }
    }
    u64::from_be_bytes(word)
}

/// `bits` (1 to 64) bits of `bytes` from bit `pos` on.
#[cold]
pub(crate) fn read_at(bytes: &[u8], pos: usize, bits: u32) -> u64 {
    BitReader::at(bytes, pos).read(bits)
}

/// Bits that [`BitReader::peek`] gives at least.
pub const PEEK_BITS: u32 = 57;

/// Interprets `bits` (1 to 64) low bits of `value` as a signed number of Prometheus' asymmetric kind:
/// values above `2^(bits-1)` are negative, so that `+2^(bits-1)` is in and `-2^(bits-1)` is not.
#[inline]
pub fn sign(value: u64, bits: u32) -> i64 {
    if bits < 64 && value > 1 << (bits - 1) { value.wrapping_sub(1 << bits) as i64 } else { value as i64 }
}

/// Whether `value` fits `bits` (below 64) bits of the kind that [`sign`] reads.
#[inline]
pub fn fits_signed(value: i64, bits: u32) -> bool {
    let half = 1i64 << (bits - 1);
    -(half - 1) <= value && value <= half
}

#[cfg(test)]
mod tests;
