//! Values as integers: scaled by one power of ten where that is exact, else their bits.
//!
//! `kind u8 | integers`: kind 0 to 22 is the exponent, and `uvarint n | {uvarint gap, bits u64}*`
//! follows, the values that are no such decimals; kind 255 are the bits themselves, in an order in
//! which neighbouring doubles are neighbouring integers.

use super::{MALFORMED, integers};
use crate::DecodeError;
use crate::decimal::{Decimal, POWERS};
use crate::varint::{put_uvarint, take_count, take_u8, take_u64, take_uvarint};

/// Kind of a column of bits.
const BITS: u8 = 255;

/// One value in so many may be an exception before bits are cheaper.
const EXCEPTIONS: usize = 8;

pub(crate) fn encode(values: &[f64], out: &mut Vec<u8>) {
    match scaled(values) {
        Some(scaled) => {
            out.push(scaled.exponent);
            put_uvarint(out, scaled.exceptions.len() as u64);
            let mut next = 0;
            for (place, value) in scaled.exceptions {
                put_uvarint(out, (place - next) as u64);
                out.extend_from_slice(&value.to_bits().to_be_bytes());
                next = place + 1;
            }
            integers::encode(&scaled.mantissas, out);
        }
        None => {
            out.push(BITS);
            let bits: Vec<i64> = values.iter().map(|v| ordered(v.to_bits())).collect();
            integers::encode(&bits, out);
        }
    }
}

struct Scaled {
    exponent: u8,
    mantissas: Vec<i64>,
    /// Values that are not mantissa / 10^exponent, with their places.
    exceptions: Vec<(usize, f64)>,
}

/// All values at one exponent, if that is exact for most.
fn scaled(values: &[f64]) -> Option<Scaled> {
    let limit = values.len() / EXCEPTIONS;
    let (mut exponent, mut misfits) = (0, 0);
    for &value in values {
        if exponent > 0 && Decimal::at(value, exponent).is_some() {
            continue;
        }
        match Decimal::of(value) {
            Some(decimal) => exponent = exponent.max(decimal.exponent),
            None => misfits += 1,
        }
        if misfits > limit {
            return None;
        }
    }
    let mut scaled = Scaled { exponent, mantissas: Vec::with_capacity(values.len()), exceptions: Vec::new() };
    let mut before = None;
    for (place, &value) in values.iter().enumerate() {
        let mantissa = match exponent {
            0 => Decimal::integer(value),
            _ => Decimal::at(value, exponent),
        };
        let mantissa = mantissa.unwrap_or_else(|| {
            scaled.exceptions.push((place, value));
            // Costs nothing where values change little.
            before.unwrap_or(0)
        });
        scaled.mantissas.push(mantissa);
        before = Some(mantissa);
    }
    (scaled.exceptions.len() <= limit).then_some(scaled)
}

pub(crate) fn decode(input: &mut &[u8], count: usize, out: &mut Vec<f64>) -> Result<(), DecodeError> {
    let kind = take_u8(input)?;
    out.reserve(count);
    if kind == BITS {
        return integers::decode_blocks(input, count, |numbers| {
            out.extend(numbers.iter().map(|&n| f64::from_bits(unordered(n))));
        });
    }
    let power = *POWERS.get(usize::from(kind)).ok_or(MALFORMED)?;
    let exceptions = take_count(input, 9)?;
    let mut listed = Vec::with_capacity(exceptions);
    let mut next = 0usize;
    for _ in 0..exceptions {
        let gap = take_uvarint(input)?;
        let place = usize::try_from(gap).ok().and_then(|gap| next.checked_add(gap));
        let place = place.filter(|&place| place < count).ok_or(MALFORMED)?;
        listed.push((place, f64::from_bits(take_u64(input)?)));
        next = place + 1;
    }
    let start = out.len();
    if kind == 0 {
        integers::decode_blocks(input, count, |numbers| out.extend(numbers.iter().map(|&n| n as f64)))?;
    } else {
        integers::decode_blocks(input, count, |numbers| {
            out.extend(numbers.iter().map(|&n| n as f64 / power));
        })?;
    }
    for (place, value) in listed {
        if let Some(slot) = out.get_mut(start + place) {
            *slot = value;
        }
    }
    Ok(())
}

/// Bits of a double as an integer that grows with it; its own inverse in [`unordered`].
fn ordered(bits: u64) -> i64 {
    let bits = bits as i64;
    if bits < 0 { bits ^ i64::MAX } else { bits }
}

fn unordered(number: i64) -> u64 {
    (if number < 0 { number ^ i64::MAX } else { number }) as u64
}
