//! The window of meaningful bits that consecutive XORed values share.

use crate::DecodeError;
use crate::bits::{BitReader, BitSink, PEEK_BITS};

const MALFORMED: DecodeError = DecodeError::Malformed { part: "xor window" };

/// Leading zeros that the format can say (five bits).
const MAX_LEADING: u32 = 31;

/// A writer's window. A chunk starts without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    leading: u8,
    trailing: u8,
}

impl Window {
    pub(super) const NONE: Self = Self { leading: 0xff, trailing: 0 };

    /// Whether the bits of `xor` (not zero) lie inside the window.
    #[inline]
    pub(super) fn fits(self, xor: u64) -> bool {
        xor.leading_zeros().min(MAX_LEADING) >= u32::from(self.leading)
            && xor.trailing_zeros() >= u32::from(self.trailing)
    }

    /// Writes the bits of `xor` inside the window.
    #[inline]
    pub(super) fn put(self, sink: &mut impl BitSink, xor: u64) {
        sink.put(xor >> self.trailing, 64 - u32::from(self.leading) - u32::from(self.trailing));
    }

    /// Makes the window that of `xor` (not zero); writes it and the bits inside it.
    #[inline]
    pub(super) fn put_new(&mut self, sink: &mut impl BitSink, xor: u64) {
        let leading = xor.leading_zeros().min(MAX_LEADING);
        let trailing = xor.trailing_zeros();
        (self.leading, self.trailing) = (leading as u8, trailing as u8);
        // 64 meaningful bits do not fit six bits and are written as 0.
        let significant = 64 - leading - trailing;
        sink.put(u64::from(leading << 6 | significant & 63), 11);
        self.put(sink, xor);
    }

    /// XOR's value coding: `0` equal, `10` bits in the window, `11` a new window and bits.
    #[inline]
    pub(super) fn put_xor(&mut self, sink: &mut impl BitSink, xor: u64) {
        if xor == 0 {
            sink.put(0, 1);
        } else if self.fits(xor) {
            sink.put(0b10, 2);
            self.put(sink, xor);
        } else {
            sink.put(0b11, 2);
            self.put_new(sink, xor);
        }
    }
}

/// A reader's window; no meaningful bits: there is none yet.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ReadWindow {
    significant: u32,
    trailing: u32,
}

impl ReadWindow {
    /// The writer's window at the same place.
    pub(super) fn to_write(self) -> Window {
        if self.significant == 0 {
            return Window::NONE;
        }
        Window { leading: (64 - self.significant - self.trailing) as u8, trailing: self.trailing as u8 }
    }

    /// Reads the XOR inside the window, behind `control` bits. `word` is what the reader peeks.
    #[inline(always)]
    pub(super) fn read(self, r: &mut BitReader<'_>, word: u64, control: u32) -> Result<u64, DecodeError> {
        let n = self.significant;
        if n == 0 {
            return Err(MALFORMED);
        }
        let bits = if control + n <= PEEK_BITS {
            r.skip(control + n);
            word << control >> (64 - n)
        } else {
            r.skip(control);
            r.read(n)
        };
        Ok(bits << self.trailing)
    }

    /// Reads a new window and the XOR inside it, behind `control` bits.
    #[inline(always)]
    pub(super) fn read_new(
        &mut self,
        r: &mut BitReader<'_>,
        word: u64,
        control: u32,
    ) -> Result<u64, DecodeError> {
        let head = word << control;
        let leading = (head >> 59) as u32;
        let significant = match (head >> 53) as u32 & 63 {
            0 => 64,
            n => n,
        };
        self.trailing = 64u32.checked_sub(leading + significant).ok_or(MALFORMED)?;
        self.significant = significant;
        self.read(r, word, control + 11)
    }

    /// Reads XOR's value coding; gives what to XOR the value before with.
    #[inline(always)]
    pub(super) fn read_xor(&mut self, r: &mut BitReader<'_>) -> Result<u64, DecodeError> {
        let word = r.peek();
        match word >> 62 {
            0b10 => self.read(r, word, 2),
            0b11 => self.read_new(r, word, 2),
            _ => {
                r.skip(1);
                Ok(0)
            }
        }
    }
}
