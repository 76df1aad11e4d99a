//! CRC-32C checksums and the framings of Prometheus' files that carry them (big-endian).

use pyrrha_model::ChunkEncoding;

use crate::DecodeError;
use crate::varint::{put_uvarint, take_bytes, take_u8, take_u32, take_uvarint32};

/// CRC-32C (Castagnoli) of `bytes`.
#[inline]
pub fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// CRC-32C of a first part with checksum `crc` followed by `bytes`.
#[inline]
pub fn checksum_append(crc: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc, bytes)
}

/// Fails if `stored` is not the checksum of `bytes`.
pub fn verify(part: &'static str, bytes: &[u8], stored: u32) -> Result<(), DecodeError> {
    let computed = checksum(bytes);
    if stored == computed { Ok(()) } else { Err(DecodeError::Checksum { part, stored, computed }) }
}

/// Appends a section of an index file: `len u32 | body | crc32c(body) u32`. `body` must be shorter
/// than 4 GiB.
pub fn put_section(out: &mut Vec<u8>, body: &[u8]) {
    debug_assert!(u32::try_from(body.len()).is_ok());
    out.extend_from_slice(&(body.len() as u32).to_be_bytes());
    out.extend_from_slice(body);
    out.extend_from_slice(&checksum(body).to_be_bytes());
}

/// Reads a section of an index file and verifies it; gives its body.
pub fn take_section<'a>(part: &'static str, input: &mut &'a [u8]) -> Result<&'a [u8], DecodeError> {
    let mut rest = *input;
    let len = take_u32(&mut rest)? as usize;
    let body = take_bytes(&mut rest, len).map_err(|_| DecodeError::Truncated { part })?;
    verify(part, body, take_u32(&mut rest)?)?;
    *input = rest;
    Ok(body)
}

/// Appends a chunk of a chunk segment: `uvarint len(data) | encoding u8 | data |
/// crc32c(encoding, data) u32`. `data` must be shorter than 4 GiB.
pub fn put_chunk(out: &mut Vec<u8>, encoding: ChunkEncoding, data: &[u8]) {
    debug_assert!(u32::try_from(data.len()).is_ok());
    put_uvarint(out, data.len() as u64);
    let start = out.len();
    out.push(encoding as u8);
    out.extend_from_slice(data);
    let crc = checksum(&out[start..]);
    out.extend_from_slice(&crc.to_be_bytes());
}

/// Reads a chunk of a chunk segment and verifies it.
pub fn take_chunk<'a>(input: &mut &'a [u8]) -> Result<(ChunkEncoding, &'a [u8]), DecodeError> {
    let mut rest = *input;
    let len = take_uvarint32(&mut rest)? as usize;
    let summed = rest;
    let byte = take_u8(&mut rest)?;
    let data = take_bytes(&mut rest, len).map_err(|_| DecodeError::Truncated { part: "chunk" })?;
    verify("chunk", &summed[..len + 1], take_u32(&mut rest)?)?;
    let encoding = ChunkEncoding::from_byte(byte).ok_or(DecodeError::Encoding { encoding: byte })?;
    *input = rest;
    Ok((encoding, data))
}

/// What [`seal_text`] appends: line feed, eight digits, line feed.
const SEAL: usize = 10;

/// Ends a text with a line feed, and the checksum of all that as eight hexadecimal digits and a line feed.
pub fn seal_text(text: &mut Vec<u8>) {
    text.push(b'\n');
    let sum = digits_of(text);
    text.extend_from_slice(&sum);
}

/// Verifies a text that [`seal_text`] ended; gives it with its line feed.
pub fn open_text<'a>(part: &'static str, sealed: &'a [u8]) -> Result<&'a [u8], DecodeError> {
    let at = sealed.len().checked_sub(SEAL - 1).filter(|&at| at > 0);
    let (text, sum) = sealed.split_at(at.ok_or(DecodeError::Truncated { part })?);
    let stored = std::str::from_utf8(sum).ok().and_then(|sum| u32::from_str_radix(sum.trim_end(), 16).ok());
    verify(part, text, stored.ok_or(DecodeError::Malformed { part })?)?;
    // Nor any other way of writing the same number.
    if sum == digits_of(text) && text.ends_with(b"\n") {
        Ok(text)
    } else {
        Err(DecodeError::Malformed { part })
    }
}

fn digits_of(text: &[u8]) -> [u8; SEAL - 1] {
    let (sum, mut digits) = (checksum(text), [b'\n'; SEAL - 1]);
    for (i, digit) in digits[..8].iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(sum >> (28 - 4 * i)) as usize & 15];
    }
    digits
}

#[cfg(test)]
mod tests;
