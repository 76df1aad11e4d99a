//! Value columns: neighbours are other series, so each value is made short by itself.
//!
//! `uvarint n | n bytes of codes | payload`. Codes are nibbles (low half first); payload bytes are
//! little-endian. One code per value, and what it takes from the payload:
//! - 0, 1: the value 0, 1
//! - 2: the bits of the value before (of 0 for the first)
//! - 3..=9: an integer, zigzag, in 1..=7 bytes
//! - 10..=13: an integer, as zigzag difference to the integer before, in 0..=3 bytes
//! - 14: a decimal; a second nibble says in how many bytes (1..=7) its zigzag mantissa follows,
//!   and (by 8 added) that its exponent is that of the decimal before; else a byte of exponent
//!   comes first
//! - 15: bits XORed with those of the value before; a second nibble says how many bytes are left
//!
//! Every code is exact, so NaNs with their payload, infinities, -0 and stale markers survive.

use super::check_count;
use crate::DecodeError;
use crate::decimal::{Decimal, POWERS};
use crate::varint::{put_uvarint, take_bytes, take_uvarint, unzigzag, zigzag};

const ZERO: u8 = 0;
const ONE: u8 = 1;
const SAME: u8 = 2;
/// An integer of `code - INTEGER` bytes.
const INTEGER: u8 = 2;
/// A difference of `code - DIFFERENCE` bytes.
const DIFFERENCE: u8 = 10;
const DECIMAL: u8 = 14;
const XOR: u8 = 15;

/// In a decimal's second nibble: the exponent is that of the decimal before.
const SAME_EXPONENT: u8 = 8;
/// Most bytes of a mantissa of 53 bits, zigzag.
const MANTISSA_BYTES: u32 = 7;
/// Most bytes of a difference.
const DIFFERENCE_BYTES: u32 = 3;

const MALFORMED: DecodeError = DecodeError::Malformed { part: "value column" };

/// What the next value is coded against; writer and reader keep it alike.
#[derive(Debug, Default)]
struct Before {
    bits: u64,
    integer: i64,
    exponent: u8,
}

/// Appends a column of values, bit for bit.
pub fn encode_values(values: &[f64], out: &mut Vec<u8>) {
    let mut writer = Writer {
        codes: Vec::with_capacity(values.len() / 2 + values.len() / 8 + 2),
        half: false,
        payload: vec![0; values.len() * 9 + 8],
        at: 0,
    };
    let mut before = Before::default();
    for &value in values {
        writer.put_value(&mut before, value);
    }
    put_uvarint(out, writer.codes.len() as u64);
    out.extend_from_slice(&writer.codes);
    out.extend_from_slice(&writer.payload[..writer.at]);
}

struct Writer {
    codes: Vec<u8>,
    /// Whether the last byte of codes has room for another.
    half: bool,
    /// Room for the worst case, and for storing eight bytes where fewer are meant.
    payload: Vec<u8>,
    at: usize,
}

impl Writer {
    #[inline]
    fn code(&mut self, code: u8) {
        match self.codes.last_mut() {
            Some(last) if self.half => *last |= code << 4,
            _ => self.codes.push(code),
        }
        self.half = !self.half;
    }

    #[inline]
    fn payload(&mut self, value: u64, bytes: u32) {
        self.payload[self.at..self.at + 8].copy_from_slice(&value.to_le_bytes());
        self.at += bytes as usize;
    }

    #[inline]
    fn put_value(&mut self, before: &mut Before, value: f64) {
        let bits = value.to_bits();
        if bits == before.bits {
            return self.code(SAME);
        }
        if let Some(integer) = Decimal::integer(value) {
            self.put_integer(integer, before.integer);
            before.integer = integer;
        } else if let Some(decimal) = decimal(value, before.exponent) {
            self.put_decimal(decimal, before.exponent);
            before.exponent = decimal.exponent;
        } else {
            let xor = bits ^ before.bits;
            let bytes = byte_len(xor);
            self.code(XOR);
            self.code(bytes as u8);
            self.payload(xor, bytes);
        }
        before.bits = bits;
    }

    #[inline]
    fn put_integer(&mut self, integer: i64, before: i64) {
        if let 0 | 1 = integer {
            return self.code(if integer == 0 { ZERO } else { ONE });
        }
        let (own, difference) = (zigzag(integer), zigzag(integer.wrapping_sub(before)));
        let (own_bytes, difference_bytes) = (byte_len(own), byte_len(difference));
        if difference_bytes < own_bytes && difference_bytes <= DIFFERENCE_BYTES {
            self.code(DIFFERENCE + difference_bytes as u8);
            self.payload(difference, difference_bytes);
        } else {
            self.code(INTEGER + own_bytes as u8);
            self.payload(own, own_bytes);
        }
    }

    #[inline]
    fn put_decimal(&mut self, decimal: Decimal, before: u8) {
        let mantissa = zigzag(decimal.mantissa);
        let bytes = byte_len(mantissa);
        self.code(DECIMAL);
        if decimal.exponent == before {
            self.code(bytes as u8 | SAME_EXPONENT);
        } else {
            self.code(bytes as u8);
            self.payload(u64::from(decimal.exponent), 1);
        }
        self.payload(mantissa, bytes);
    }
}

/// Bytes that hold `value`; 0 for 0.
#[inline]
fn byte_len(value: u64) -> u32 {
    (71 - value.leading_zeros()) / 8
}

/// `value` as a decimal, in the exponent before unless another saves more than it costs.
#[inline]
fn decimal(value: f64, exponent: u8) -> Option<Decimal> {
    let Some(mantissa) = Decimal::at(value, exponent) else {
        return Decimal::of(value);
    };
    let kept = Decimal { mantissa, exponent };
    if mantissa % 10 != 0 {
        return Some(kept);
    }
    let stripped = kept.stripped();
    let saved = byte_len(zigzag(mantissa)).saturating_sub(byte_len(zigzag(stripped.mantissa)));
    Some(if saved > 1 { stripped } else { kept })
}

/// Reads a column of `count` values.
pub fn decode_values(input: &mut &[u8], count: usize, out: &mut Vec<f64>) -> Result<(), DecodeError> {
    check_count(count)?;
    let mut rest = *input;
    let len = take_uvarint(&mut rest)?;
    let len = usize::try_from(len).map_err(|_| MALFORMED)?;
    let codes = take_bytes(&mut rest, len)?;
    // Each value has a code at least, so the count cannot ask for more room than that.
    if count > codes.len().saturating_mul(2) {
        return Err(DecodeError::Truncated { part: "value column" });
    }
    let start = out.len();
    out.reserve(count);
    let mut reader = Reader { codes, next: 0, payload: rest, at: 0 };
    let mut before = Before::default();
    for _ in 0..count {
        match reader.value(&mut before) {
            Ok(value) => out.push(value),
            Err(error) => {
                out.truncate(start);
                return Err(error);
            }
        }
    }
    *input = &rest[reader.at..];
    Ok(())
}

struct Reader<'a> {
    codes: &'a [u8],
    /// The next nibble.
    next: usize,
    payload: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    #[inline]
    fn code(&mut self) -> Result<u8, DecodeError> {
        let byte = *self.codes.get(self.next / 2).ok_or(DecodeError::Truncated { part: "value codes" })?;
        let code = byte >> (self.next % 2 * 4) & 0xf;
        self.next += 1;
        Ok(code)
    }

    /// Reads `bytes` (at most 8) payload bytes.
    #[inline]
    fn payload(&mut self, bytes: u32) -> Result<u64, DecodeError> {
        let rest = &self.payload[self.at..];
        let Some(word) = rest.first_chunk::<8>() else { return self.last_payload(bytes) };
        self.at += bytes as usize;
        let word = u64::from_le_bytes(*word);
        Ok(if bytes == 8 { word } else { word & ((1 << (8 * bytes)) - 1) })
    }

    #[cold]
    fn last_payload(&mut self, bytes: u32) -> Result<u64, DecodeError> {
        let end = self.at + bytes as usize;
        let part = self.payload.get(self.at..end).ok_or(DecodeError::Truncated { part: "value payload" })?;
        self.at = end;
        Ok(part.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)))
    }

    #[inline]
    fn value(&mut self, before: &mut Before) -> Result<f64, DecodeError> {
        let code = self.code()?;
        let value = match code {
            ZERO => {
                before.integer = 0;
                0.0
            }
            ONE => {
                before.integer = 1;
                1.0
            }
            SAME => return Ok(f64::from_bits(before.bits)),
            DECIMAL => self.decimal(before)?,
            XOR => {
                let bytes = u32::from(self.code()?);
                if bytes > 8 {
                    return Err(MALFORMED);
                }
                f64::from_bits(self.payload(bytes)? ^ before.bits)
            }
            DIFFERENCE.. => {
                let difference = unzigzag(self.payload(u32::from(code - DIFFERENCE))?);
                before.integer = before.integer.wrapping_add(difference);
                before.integer as f64
            }
            _ => {
                before.integer = unzigzag(self.payload(u32::from(code - INTEGER))?);
                before.integer as f64
            }
        };
        before.bits = value.to_bits();
        Ok(value)
    }

    #[inline]
    fn decimal(&mut self, before: &mut Before) -> Result<f64, DecodeError> {
        let code = self.code()?;
        if code & SAME_EXPONENT == 0 {
            before.exponent = self.payload(1)? as u8;
        }
        let bytes = u32::from(code & !SAME_EXPONENT);
        if bytes > MANTISSA_BYTES || usize::from(before.exponent) >= POWERS.len() {
            return Err(MALFORMED);
        }
        let mantissa = unzigzag(self.payload(bytes)?);
        Ok(Decimal { mantissa, exponent: before.exponent }.value())
    }
}

#[cfg(test)]
mod tests;
