//! Integers of unequal probability: a unary prefix picks one of nine widths.

use crate::bits::{BitReader, BitSink, fits_signed, sign};

/// Widths by number of leading one bits (0 to 8); the prefix ends with a zero bit, but for the
/// last.
const WIDTHS: [u32; 9] = [0, 3, 6, 9, 12, 18, 25, 56, 64];

/// Writes a signed number: `0` for 0, `10` and 3 bits, `110` and 6 bits, ...
#[inline]
pub(super) fn put_varbit_int(sink: &mut impl BitSink, value: i64) {
    if value == 0 {
        return sink.put(0, 1);
    }
    let class = (1..8).find(|&class| fits_signed(value, WIDTHS[class])).unwrap_or(8);
    put_class(sink, class, value as u64);
}

/// Writes an unsigned number, likewise.
#[inline]
pub(super) fn put_varbit_uint(sink: &mut impl BitSink, value: u64) {
    if value == 0 {
        return sink.put(0, 1);
    }
    let class = (1..8).find(|&class| value >> WIDTHS[class] == 0).unwrap_or(8);
    put_class(sink, class, value);
}

#[inline]
fn put_class(sink: &mut impl BitSink, class: usize, value: u64) {
    // `class` ones and a zero, but eight ones alone.
    let (prefix, len) = if class == 8 { (0xff, 8) } else { (((1 << class) - 1) << 1, class as u32 + 1) };
    sink.put(prefix, len);
    sink.put(value, WIDTHS[class]);
}

/// Reads a signed number.
#[inline]
pub(super) fn read_varbit_int(r: &mut BitReader<'_>) -> i64 {
    let (value, width) = read(r);
    if width == 0 { 0 } else { sign(value, width) }
}

/// Reads an unsigned number.
#[inline]
pub(super) fn read_varbit_uint(r: &mut BitReader<'_>) -> u64 {
    read(r).0
}

#[inline(always)]
fn read(r: &mut BitReader<'_>) -> (u64, u32) {
    let word = r.peek();
    let ones = word.leading_ones().min(8);
    let width = WIDTHS[ones as usize];
    if ones == 0 {
        r.skip(1);
        return (0, 0);
    }
    let prefix = if ones == 8 { 8 } else { ones + 1 };
    if ones <= 6 {
        r.skip(prefix + width);
        return (word << prefix >> (64 - width), width);
    }
    r.skip(prefix);
    (r.read(width), width)
}

#[cfg(test)]
mod tests;
