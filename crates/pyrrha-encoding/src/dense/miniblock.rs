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

/// Fills the first `len` (at most [`BLOCK`]) of `numbers` from a miniblock; what is behind them is
/// anything.
pub(super) fn decode(input: &mut &[u8], numbers: &mut [i64; BLOCK], len: usize) -> Result<(), DecodeError> {
    let width = u32::from(take_u8(input)?);
    let patches = take_u8(input)?;
    let least = take_varint(input)?;
    if width > 64 {
        return Err(MALFORMED);
    }
    let ahead = *input;
    let packed = take_bytes(input, (len * width as usize).div_ceil(8))?;
    let numbers = &mut numbers[..len.next_multiple_of(GROUP).min(BLOCK)];
    match width {
        0 => numbers.fill(least),
        1..=NARROW => unpack_narrow(ahead, width, least, numbers),
        _ => unpack_wide(packed, width, least, numbers),
    }
    for _ in 0..patches {
        let place = usize::from(take_u8(input)?);
        let high = take_uvarint(input)?;
        let number = numbers[..len].get_mut(place).filter(|_| width < 64).ok_or(MALFORMED)?;
        *number = number.wrapping_add((high << width) as i64);
    }
    Ok(())
}

/// Numbers that end on a byte, whatever their width.
const GROUP: usize = 8;
/// Widest number for which there is a loop of its own.
const NARROW: u32 = 32;
/// Bytes that the loads of a group of narrow numbers reach: the last one begins in byte 28.
const REACH: usize = 36;

/// Unpacks by a loop whose shifts are constants. `packed` may go on behind the numbers.
fn unpack_narrow(packed: &[u8], width: u32, least: i64, groups: &mut [i64]) {
    match width {
        1 => unpack::<1>(packed, least, groups),
        2 => unpack::<2>(packed, least, groups),
        3 => unpack::<3>(packed, least, groups),
        4 => unpack::<4>(packed, least, groups),
        5 => unpack::<5>(packed, least, groups),
        6 => unpack::<6>(packed, least, groups),
        7 => unpack::<7>(packed, least, groups),
        8 => unpack::<8>(packed, least, groups),
        9 => unpack::<9>(packed, least, groups),
        10 => unpack::<10>(packed, least, groups),
        11 => unpack::<11>(packed, least, groups),
        12 => unpack::<12>(packed, least, groups),
        13 => unpack::<13>(packed, least, groups),
        14 => unpack::<14>(packed, least, groups),
        15 => unpack::<15>(packed, least, groups),
        16 => unpack::<16>(packed, least, groups),
        17 => unpack::<17>(packed, least, groups),
        18 => unpack::<18>(packed, least, groups),
        19 => unpack::<19>(packed, least, groups),
        20 => unpack::<20>(packed, least, groups),
        21 => unpack::<21>(packed, least, groups),
        22 => unpack::<22>(packed, least, groups),
        23 => unpack::<23>(packed, least, groups),
        24 => unpack::<24>(packed, least, groups),
        25 => unpack::<25>(packed, least, groups),
        26 => unpack::<26>(packed, least, groups),
        27 => unpack::<27>(packed, least, groups),
        28 => unpack::<28>(packed, least, groups),
        29 => unpack::<29>(packed, least, groups),
        30 => unpack::<30>(packed, least, groups),
        31 => unpack::<31>(packed, least, groups),
        32 => unpack::<32>(packed, least, groups),
        _ => {}
    }
}

/// One load, shift and mask per number.
#[inline]
fn unpack<const WIDTH: usize>(packed: &[u8], least: i64, groups: &mut [i64]) {
    let mut rest = packed;
    for group in groups.chunks_exact_mut(GROUP) {
        let mut copy = [0u8; REACH];
        let bytes = match rest.first_chunk::<REACH>() {
            Some(bytes) => bytes,
            None => {
                copy[..rest.len()].copy_from_slice(rest);
                &copy
            }
        };
        for (k, number) in group.iter_mut().enumerate() {
            let at = k * WIDTH / 8;
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            let word = u64::from_le_bytes(word) >> (k * WIDTH % 8) & (u64::MAX >> (64 - WIDTH));
            *number = least.wrapping_add(word as i64);
        }
        rest = rest.get(WIDTH..).unwrap_or_default();
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
