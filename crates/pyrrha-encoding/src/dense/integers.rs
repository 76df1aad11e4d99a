//! Integer sequences: the best of four predictions, what is left of them over its common divisor,
//! bit-packed in miniblocks.
//!
//! `predictor u8 | varint first | uvarint divisor | [...] | miniblocks`. All numbers are differences
//! to the first over the greatest common divisor; a divisor of 0 says that all are equal, and ends
//! the sequence.

use super::MALFORMED;
use super::miniblock::{self, BLOCK};
use crate::DecodeError;
use crate::varint::{put_uvarint, put_varint, take_u8, take_uvarint, take_varint};

/// What a number is predicted to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Predictor {
    /// Nothing: numbers as they are.
    Zero = 0,
    /// The number before.
    Last = 1,
    /// The number before plus the last change.
    Change = 2,
    /// A straight line from the first to the last number; its end is written first.
    Line = 3,
}

const PREDICTORS: [Predictor; 4] = [Predictor::Zero, Predictor::Last, Predictor::Change, Predictor::Line];

pub(crate) fn encode(numbers: &[i64], out: &mut Vec<u8>) {
    let Some(&first) = numbers.first() else { return };
    let divisor = numbers.iter().fold(0, |g, n| gcd(g, n.wrapping_sub(first).unsigned_abs()));
    // Differences that overflow still come back right with divisor 1, as all wraps.
    let overflows = numbers.iter().any(|n| n.checked_sub(first).is_none());
    let divisor = if overflows { 1 } else { divisor };
    if divisor == 0 {
        out.push(Predictor::Zero as u8);
        put_varint(out, first);
        put_uvarint(out, 0);
        return;
    }
    let mut quotients: Vec<i64> = numbers.iter().map(|n| n.wrapping_sub(first)).collect();
    if let Ok(d @ 2..) = i64::try_from(divisor) {
        quotients.iter_mut().for_each(|q| *q /= d);
    }
    let divisor = if i64::try_from(divisor).is_ok() { divisor } else { 1 };
    let (mut best, mut trial): (Option<(Predictor, Vec<u8>)>, _) = (None, Vec::new());
    let mut residuals = Vec::with_capacity(quotients.len());
    for predictor in PREDICTORS {
        residuals.clear();
        trial.clear();
        predict(predictor, &quotients, &mut residuals, &mut trial);
        residuals.chunks(BLOCK).for_each(|block| miniblock::encode(block, &mut trial));
        if best.as_ref().is_none_or(|(_, bytes)| trial.len() < bytes.len()) {
            best = Some((predictor, std::mem::take(&mut trial)));
        }
    }
    if let Some((predictor, bytes)) = best {
        out.push(predictor as u8);
        put_varint(out, first);
        put_uvarint(out, divisor);
        out.extend_from_slice(&bytes);
    }
}

/// What is left of each number; a line's end goes to `out`.
fn predict(predictor: Predictor, numbers: &[i64], residuals: &mut Vec<i64>, out: &mut Vec<u8>) {
    let (mut last, mut change) = (0i64, 0i64);
    match predictor {
        Predictor::Zero => residuals.extend_from_slice(numbers),
        Predictor::Last => {
            residuals.extend(numbers.iter().map(|n| n.wrapping_sub(std::mem::replace(&mut last, *n))))
        }
        Predictor::Change => residuals.extend(numbers.iter().map(|n| {
            let new = n.wrapping_sub(std::mem::replace(&mut last, *n));
            new.wrapping_sub(std::mem::replace(&mut change, new))
        })),
        Predictor::Line => {
            let end = numbers.last().copied().unwrap_or(0);
            put_varint(out, end);
            let mut line = Line::new(end, numbers.len());
            residuals.extend(numbers.iter().map(|n| n.wrapping_sub(line.next())));
        }
    }
}

/// Points of a straight line from 0 at the first place to about `end` at the last.
struct Line {
    point: i64,
    step: i64,
    /// Of 2^32.
    fraction: u64,
    fraction_step: u64,
}

impl Line {
    fn new(end: i64, len: usize) -> Self {
        let steps = i128::try_from(len.saturating_sub(1).max(1)).unwrap_or(1);
        let step = (i128::from(end) << 32).div_euclid(steps);
        Self { point: 0, step: (step >> 32) as i64, fraction: 0, fraction_step: step as u64 & 0xffff_ffff }
    }

    #[inline]
    fn next(&mut self) -> i64 {
        let point = self.point;
        self.fraction += self.fraction_step;
        self.point = point.wrapping_add(self.step).wrapping_add((self.fraction >> 32) as i64);
        self.fraction &= 0xffff_ffff;
        point
    }
}

/// Appends `count` (at most 65,535) numbers; some may be there after an error.
pub(crate) fn decode(input: &mut &[u8], count: usize, out: &mut Vec<i64>) -> Result<(), DecodeError> {
    out.reserve(count);
    decode_blocks(input, count, |numbers| out.extend_from_slice(numbers))
}

/// Hands over `count` numbers, at most [`BLOCK`] at a time, so that they stay in the nearest cache.
#[inline]
pub(crate) fn decode_blocks(
    input: &mut &[u8],
    count: usize,
    mut take: impl FnMut(&[i64]),
) -> Result<(), DecodeError> {
    if count == 0 {
        return Ok(());
    }
    let predictor = take_u8(input)?;
    let predictor = *PREDICTORS.get(usize::from(predictor)).ok_or(MALFORMED)?;
    let first = take_varint(input)?;
    let divisor = take_uvarint(input)? as i64;
    let mut block = [0i64; BLOCK];
    if divisor == 0 {
        block.fill(first);
        (0..count).step_by(BLOCK).for_each(|from| take(&block[..BLOCK.min(count - from)]));
        return Ok(());
    }
    let end = if predictor == Predictor::Line { take_varint(input)? } else { 0 };
    let finish = |n: i64| first.wrapping_add(n.wrapping_mul(divisor));
    let (mut last, mut change, mut line) = (0i64, 0i64, Line::new(end, count));
    for from in (0..count).step_by(BLOCK) {
        let len = BLOCK.min(count - from);
        miniblock::decode(input, &mut block, len)?;
        let numbers = &mut block[..len];
        match predictor {
            Predictor::Zero => numbers.iter_mut().for_each(|n| *n = finish(*n)),
            Predictor::Last => numbers.iter_mut().for_each(|n| {
                last = last.wrapping_add(*n);
                *n = finish(last);
            }),
            Predictor::Change => numbers.iter_mut().for_each(|n| {
                change = change.wrapping_add(*n);
                last = last.wrapping_add(change);
                *n = finish(last);
            }),
            Predictor::Line => numbers.iter_mut().for_each(|n| *n = finish(n.wrapping_add(line.next()))),
        }
        take(numbers);
    }
    Ok(())
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests;
