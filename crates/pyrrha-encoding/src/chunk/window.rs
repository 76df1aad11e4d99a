//! The window of meaningful bits that consecutive XORed values share.

use crate::DecodeError;
use crate::bits::{BitReader, BitSink, PEEK_BITS, peek_at, read_at};

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

    /// Writes the `control_len` (at most 3) bits of `control`, then those of `xor` in the window.
    #[inline]
    pub(super) fn put(self, sink: &mut impl BitSink, control: u64, control_len: u32, xor: u64) {
        let bits = 64 - u32::from(self.leading) - u32::from(self.trailing);
        let value = xor >> self.trailing;
        if bits + control_len <= 64 {
            sink.put(control << bits | value, bits + control_len);
        } else {
            sink.put(control, control_len);
            sink.put(value, bits);
        }
    }

    /// Makes the window that of `xor` (not zero); writes control bits, the window, and the bits in
    /// it.
    #[inline]
    pub(super) fn put_new(&mut self, sink: &mut impl BitSink, control: u64, control_len: u32, xor: u64) {
        let leading = xor.leading_zeros().min(MAX_LEADING);
        let trailing = xor.trailing_zeros();
        (self.leading, self.trailing) = (leading as u8, trailing as u8);
        // 64 meaningful bits do not fit six bits and are written as 0.
        let bits = 64 - leading - trailing;
        let head = control << 11 | u64::from(leading << 6 | bits & 63);
        let value = xor >> trailing;
        if bits + control_len + 11 <= 64 {
            sink.put(head << bits | value, bits + control_len + 11);
        } else {
            sink.put(head, control_len + 11);
            sink.put(value, bits);
        }
    }

    /// What [`put_xor`](Self::put_xor) writes and how many bits that is, if they fit a word.
    #[inline]
    pub(super) fn xor_bits(&mut self, xor: u64) -> Option<(u64, u32)> {
        if xor == 0 {
            return Some((0, 1));
        }
        if self.fits(xor) {
            let bits = 64 - u32::from(self.leading) - u32::from(self.trailing);
            return (bits <= 62).then(|| (0b10 << bits | xor >> self.trailing, bits + 2));
        }
        let (leading, trailing) = (xor.leading_zeros().min(MAX_LEADING), xor.trailing_zeros());
        let bits = 64 - leading - trailing;
        if bits > 51 {
            return None;
        }
        (self.leading, self.trailing) = (leading as u8, trailing as u8);
        let head = u64::from(0b11 << 11 | leading << 6 | bits);
        Some((head << bits | xor >> trailing, bits + 13))
    }

    /// XOR's value coding: `0` equal, `10` bits in the window, `11` a new window and bits.
    #[inline]
    pub(super) fn put_xor(&mut self, sink: &mut impl BitSink, xor: u64) {
        if xor == 0 {
            sink.put(0, 1);
        } else if self.fits(xor) {
            self.put(sink, 0b10, 2, xor);
        } else {
            self.put_new(sink, 0b11, 2, xor);
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
        // Six bits: 64 is written as 0.
        let significant = ((head >> 53) as u32).wrapping_sub(1) % 64 + 1;
        self.trailing = 64u32.checked_sub(leading + significant).ok_or(MALFORMED)?;
        self.significant = significant;
        self.read(r, word, control + 11)
    }

    /// Reads what is not zero in XOR's value coding: `word` is what lies at `pos`, and the control bits
    /// are behind its first `before` bits. Gives the XOR and the position behind it. Nothing here
    /// goes through memory, for each sample waits for the position of the one before.
    #[inline(always)]
    pub(super) fn read_changed(
        &mut self,
        bytes: &[u8],
        pos: usize,
        word: u64,
        before: u32,
    ) -> Result<(u64, usize), DecodeError> {
        let mut head = before + 2;
        if word << before >> 62 == 0b11 {
            let window = word << head;
            self.significant = ((window >> 53) as u32).wrapping_sub(1) % 64 + 1;
            let outside = 64u32.wrapping_sub((window >> 59) as u32 + self.significant);
            self.trailing = outside;
            if outside > 63 {
                return Err(MALFORMED);
            }
            head += 11;
        } else if self.significant == 0 {
            return Err(MALFORMED);
        }
        let n = self.significant;
        let end = pos + (head + n) as usize;
        let bits = if head + n <= PEEK_BITS {
            word << head >> (64 - n)
        } else if n <= PEEK_BITS {
            peek_at(bytes, pos + head as usize) >> (64 - n)
        } else {
            read_at(bytes, pos + head as usize, n)
        };
        Ok((bits << self.trailing, end))
    }

    /// Reads XOR's value coding; gives what to XOR the value before with.
    #[inline(always)]
    pub(super) fn read_xor(&mut self, r: &mut BitReader<'_>) -> Result<u64, DecodeError> {
        let word = r.peek();
        self.read_xor_in(r, word, 0)
    }

    /// As [`read_xor`](Self::read_xor), behind `before` bits of the peeked word.
    #[inline(always)]
    pub(super) fn read_xor_in(
        &mut self,
        r: &mut BitReader<'_>,
        word: u64,
        before: u32,
    ) -> Result<u64, DecodeError> {
        let control = word << before;
        if control >> 63 == 0 {
            r.skip(before + 1);
            Ok(0)
        } else if control >> 62 == 0b10 {
            self.read(r, word, before + 2)
        } else {
            self.read_new(r, word, before + 2)
        }
    }
}
