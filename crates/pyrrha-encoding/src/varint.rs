//! Whole-byte integers: LEB128 varints (as Go's `binary.PutUvarint` / `PutVarint`) and big-endian.
//!
//! The `take_*` functions read from the front of a slice and move it on; on error it is unchanged.

use crate::DecodeError;

/// Most bytes that a 64-bit varint takes.
pub const MAX_VARINT_LEN: usize = 10;

/// Appends an unsigned LEB128 number.
#[inline]
pub fn put_uvarint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed number: zigzag, then LEB128.
#[inline]
pub fn put_varint(out: &mut Vec<u8>, value: i64) {
    put_uvarint(out, zigzag(value));
}

/// Bytes that [`put_uvarint`] appends.
#[inline]
pub fn uvarint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros()).div_ceil(7) as usize
}

/// Maps small numbers of either sign to small unsigned ones: 0, -1, 1, -2, ... to 0, 1, 2, 3, ...
#[inline]
pub fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The inverse of [`zigzag`].
#[inline]
pub fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Reads an unsigned LEB128 number. Truncated, longer than ten bytes or over 64 bits: an error.
#[inline]
pub fn take_uvarint(input: &mut &[u8]) -> Result<u64, DecodeError> {
    if let [byte @ 0..0x80, rest @ ..] = *input {
        *input = rest;
        return Ok(u64::from(*byte));
    }
    take_long_uvarint(input)
}

fn take_long_uvarint(input: &mut &[u8]) -> Result<u64, DecodeError> {
    let mut value = 0u64;
    for (i, &byte) in input.iter().take(MAX_VARINT_LEN).enumerate() {
        if i == MAX_VARINT_LEN - 1 && byte > 1 {
            return Err(DecodeError::Malformed { part: "varint" });
        }
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            *input = &input[i + 1..];
            return Ok(value);
        }
    }
    Err(DecodeError::Truncated { part: "varint" })
}

/// Reads a signed number: LEB128, then zigzag.
#[inline]
pub fn take_varint(input: &mut &[u8]) -> Result<i64, DecodeError> {
    take_uvarint(input).map(unzigzag)
}

/// Reads an unsigned LEB128 number that must fit 32 bits.
#[inline]
pub fn take_uvarint32(input: &mut &[u8]) -> Result<u32, DecodeError> {
    let mut rest = *input;
    let value = take_uvarint(&mut rest)?;
    let value = u32::try_from(value).map_err(|_| DecodeError::Malformed { part: "varint32" })?;
    *input = rest;
    Ok(value)
}

/// Reads an unsigned LEB128 count of things that take at least `min_size` bytes each of what
/// follows, so that it may be used to size an allocation.
#[inline]
pub fn take_count(input: &mut &[u8], min_size: usize) -> Result<usize, DecodeError> {
    let mut rest = *input;
    let count = take_uvarint(&mut rest)?;
    let fits = usize::try_from(count).ok().filter(|&n| n <= rest.len() / min_size.max(1));
    let count = fits.ok_or(DecodeError::Malformed { part: "count" })?;
    *input = rest;
    Ok(count)
}

/// Reads `len` bytes.
#[inline]
pub fn take_bytes<'a>(input: &mut &'a [u8], len: usize) -> Result<&'a [u8], DecodeError> {
    let (head, rest) = input.split_at_checked(len).ok_or(DecodeError::Truncated { part: "bytes" })?;
    *input = rest;
    Ok(head)
}

/// Reads a varint length and so many bytes.
#[inline]
pub fn take_length_prefixed<'a>(input: &mut &'a [u8]) -> Result<&'a [u8], DecodeError> {
    let mut rest = *input;
    let len = take_uvarint(&mut rest)?;
    let len = usize::try_from(len).map_err(|_| DecodeError::Truncated { part: "bytes" })?;
    let bytes = take_bytes(&mut rest, len)?;
    *input = rest;
    Ok(bytes)
}

/// Reads `N` bytes.
#[inline]
pub fn take_array<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], DecodeError> {
    let (head, rest) = input.split_first_chunk().ok_or(DecodeError::Truncated { part: "fixed integer" })?;
    *input = rest;
    Ok(*head)
}

/// Reads one byte.
#[inline]
pub fn take_u8(input: &mut &[u8]) -> Result<u8, DecodeError> {
    take_array(input).map(|[byte]: [u8; 1]| byte)
}

/// Reads a big-endian 16-bit number.
#[inline]
pub fn take_u16(input: &mut &[u8]) -> Result<u16, DecodeError> {
    take_array(input).map(u16::from_be_bytes)
}

/// Reads a big-endian 32-bit number.
#[inline]
pub fn take_u32(input: &mut &[u8]) -> Result<u32, DecodeError> {
    take_array(input).map(u32::from_be_bytes)
}

/// Reads a big-endian 64-bit number.
#[inline]
pub fn take_u64(input: &mut &[u8]) -> Result<u64, DecodeError> {
    take_array(input).map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests;
