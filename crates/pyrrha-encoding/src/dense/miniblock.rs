//! Up to 128 integers: their least, and how far each is above it, bit-packed; the few that do not
//! fit the width are patched.
//!
//! `width u8 | patches u8 | varint least | packed | {place u8, uvarint high bits}*`. Packed numbers lie
//! behind each other from the lowest bit of the first byte on.

use super::MALFORMED;
use crate::DecodeError;
use crate::varint::{put_uvarint, put_varint, take_bytes, take_u8, take_uvarint, take_varint, uvarint_len};

/// Numbers of a full miniblock.
pub(super) const BLOCK: usize = 128;

/// Widest number that one unaligned load of eight bytes gives.
const LOAD_BITS: u32 = 57;

/// Appends a miniblock of 1 to [`BLOCK`] numbers.
pub(super) fn encode(numbers: &[i64], out: &mut Vec<u8>) {
    let least = numbers.iter().copied().min().unwrap_or(0);
    let above = |n: i64| n.wrapping_sub(least) as u64;
    let width = best_width(numbers.iter().map(|&n| above(n)), numbers.len());
    let wide = |n: &i64| width < 64 && above(*n) >> width != 0;
    out.push(width as u8);
    out.push(numbers.iter().filter(|n| wide(n)).count() as u8);
    put_varint(out, least);
    if width > 0 {
        pack(numbers.iter().map(|&n| above(n) & (u64::MAX >> (64 - width))), width, out);
    }
    for (place, n) in numbers.iter().enumerate().filter(|(_, n)| wide(n)) {
        out.push(place as u8);
        put_uvarint(out, above(*n) >> width);
    }
}

/// The width for which numbers and patches take the fewest bytes.
fn best_width(numbers: impl Iterator<Item = u64>, count: usize) -> u32 {
    let mut lengths = [0usize; 65];
    numbers.for_each(|n| lengths[(64 - n.leading_zeros()) as usize] += 1);
    let longest = lengths.iter().rposition(|&n| n > 0).unwrap_or(0);
    let cost = |width: usize| {
        let patch = |length: usize| lengths[length] * (1 + uvarint_len(1 << (length - width - 1)));
        (count * width).div_ceil(8) + (width + 1..=longest).map(patch).sum::<usize>()
    };
    (0..=longest).min_by_key(|&width| cost(width)).unwrap_or(0) as u32
}

fn pack(numbers: impl Iterator<Item = u64>, width: u32, out: &mut Vec<u8>) {
    let (mut acc, mut used) = (0u128, 0);
    for n in numbers {
        acc |= u128::from(n) << used;
        used += width;
        if used >= 64 {
            out.extend_from_slice(&(acc as u64).to_le_bytes());
            acc >>= 64;
            used -= 64;
        }
    }
    out.extend_from_slice(&acc.to_le_bytes()[..used.div_ceil(8) as usize]);
}

/// Fills `numbers` (at most [`BLOCK`]) from a miniblock.
pub(super) fn decode(input: &mut &[u8], numbers: &mut [i64]) -> Result<(), DecodeError> {
    let width = u32::from(take_u8(input)?);
    let patches = take_u8(input)?;
    let least = take_varint(input)?;
    if width > 64 {
        return Err(MALFORMED);
    }
    let packed = take_bytes(input, (numbers.len() * width as usize).div_ceil(8))?;
    match width {
        0 => numbers.fill(least),
        1..=LOAD_BITS => unpack(packed, width, least, numbers),
        _ => unpack_wide(packed, width, least, numbers),
    }
    for _ in 0..patches {
        let place = usize::from(take_u8(input)?);
        let high = take_uvarint(input)?;
        let number = numbers.get_mut(place).filter(|_| width < 64).ok_or(MALFORMED)?;
        *number = number.wrapping_add((high << width) as i64);
    }
    Ok(())
}

/// Room for a packed miniblock of loadable width; a power of two, so that no load needs a check.
const ROOM: usize = 1024;

/// One load, shift and mask per number, from a copy that has eight bytes behind it.
#[inline]
fn unpack(packed: &[u8], width: u32, least: i64, numbers: &mut [i64]) {
    let mask = u64::MAX >> (64 - width);
    let mut padded = [0u8; ROOM + 8];
    let len = packed.len().min(ROOM);
    padded[..len].copy_from_slice(&packed[..len]);
    let mut bit = 0usize;
    for number in numbers {
        let at = bit / 8 % ROOM;
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&padded[at..at + 8]);
        let word = u64::from_le_bytes(bytes);
        *number = least.wrapping_add((word >> (bit % 8) & mask) as i64);
        bit += width as usize;
    }
}

fn unpack_wide(packed: &[u8], width: u32, least: i64, numbers: &mut [i64]) {
    let mut bit = 0usize;
    for number in numbers {
        let mut word = [0u8; 16];
        let rest = packed.get(bit / 8..).unwrap_or(&[]);
        let len = rest.len().min(16);
        word[..len].copy_from_slice(&rest[..len]);
        let value = (u128::from_le_bytes(word) >> (bit % 8)) as u64 & (u64::MAX >> (64 - width));
        *number = least.wrapping_add(value as i64);
        bit += width as usize;
    }
}

#[cfg(test)]
mod tests;
