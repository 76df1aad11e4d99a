//! Integer columns: differences, or runs of equal numbers or of equal differences.
//!
//! `mode u8 | data`, whichever mode is shortest:
//! - 0: `{varint difference}*`
//! - 1: `{varint difference of this run to the one before, uvarint length-1}*`, a run of equal
//!   numbers (the times of one scrape)
//! - 2: the same over differences, a run being of equal differences (series in the order in which
//!   they came up; samples of one series)
//!
//! The first number's difference is to 0.

use pyrrha_model::Timestamp;

use super::check_count;
use crate::DecodeError;
use crate::varint::{put_uvarint, put_varint, take_u8, take_uvarint, take_varint, uvarint_len, zigzag};

const PLAIN: u8 = 0;
const RUNS: u8 = 1;
const DIFFERENCE_RUNS: u8 = 2;

/// Appends a column of 32-bit numbers.
pub fn encode_u32_column(values: &[u32], out: &mut Vec<u8>) {
    encode(values.iter().map(|&v| i64::from(v)), out);
}

/// Appends a column of times (or start timestamps).
pub fn encode_times(times: &[Timestamp], out: &mut Vec<u8>) {
    encode(times.iter().copied(), out);
}

/// Reads a column of `count` 32-bit numbers.
pub fn decode_u32_column(input: &mut &[u8], count: usize, out: &mut Vec<u32>) -> Result<(), DecodeError> {
    let len = out.len();
    let mut fits = true;
    let done = decode(input, count, |value, run| {
        fits &= u32::try_from(value).is_ok();
        out.extend(std::iter::repeat_n(value as u32, run));
    });
    match done {
        Ok(rest) if fits => {
            *input = rest;
            Ok(())
        }
        failed => {
            out.truncate(len);
            failed.and(Err(DecodeError::Malformed { part: "u32 column" }))
        }
    }
}

/// Reads a column of `count` times.
pub fn decode_times(input: &mut &[u8], count: usize, out: &mut Vec<Timestamp>) -> Result<(), DecodeError> {
    let len = out.len();
    let done = decode(input, count, |value, run| out.extend(std::iter::repeat_n(value, run)));
    match done {
        Ok(rest) => {
            *input = rest;
            Ok(())
        }
        Err(error) => {
            out.truncate(len);
            Err(error)
        }
    }
}

fn encode(values: impl Iterator<Item = i64> + Clone, out: &mut Vec<u8>) {
    let cost = |run: (i64, u64)| uvarint_len(zigzag(run.0)) + uvarint_len(run.1 - 1);
    let plain: usize = differences(values.clone()).map(|d| uvarint_len(zigzag(d))).sum();
    let mut runs = 0;
    for_runs(values.clone(), |run| runs += cost(run));
    let mut difference_runs = 0;
    for_runs(differences(values.clone()), |run| difference_runs += cost(run));
    if runs <= plain && runs <= difference_runs {
        out.push(RUNS);
        for_runs(values, |run| put_run(run, out));
    } else if difference_runs < plain {
        out.push(DIFFERENCE_RUNS);
        for_runs(differences(values), |run| put_run(run, out));
    } else {
        out.push(PLAIN);
        out.reserve(plain);
        differences(values).for_each(|d| put_varint(out, d));
    }
}

fn put_run((value, length): (i64, u64), out: &mut Vec<u8>) {
    put_varint(out, value);
    put_uvarint(out, length - 1);
}

fn differences(values: impl Iterator<Item = i64> + Clone) -> impl Iterator<Item = i64> + Clone {
    let mut before = 0i64;
    values.map(move |value| value.wrapping_sub(std::mem::replace(&mut before, value)))
}

/// Calls `run` with each run of equal values: the difference to the run before, and the length.
fn for_runs(values: impl Iterator<Item = i64>, mut run: impl FnMut((i64, u64))) {
    let (mut before, mut current, mut length) = (0i64, 0i64, 0u64);
    for value in values {
        if length > 0 && value == current {
            length += 1;
            continue;
        }
        if length > 0 {
            run((current.wrapping_sub(before), length));
            before = current;
        }
        (current, length) = (value, 1);
    }
    if length > 0 {
        run((current.wrapping_sub(before), length));
    }
}

/// Calls `emit` with values and how often each comes; gives the rest of the input.
fn decode<'a>(
    input: &mut &'a [u8],
    count: usize,
    mut emit: impl FnMut(i64, usize),
) -> Result<&'a [u8], DecodeError> {
    check_count(count)?;
    let mut rest = *input;
    let mode = take_u8(&mut rest)?;
    let (mut value, mut difference, mut left) = (0i64, 0i64, count);
    while left > 0 {
        let read = take_varint(&mut rest)?;
        if mode == PLAIN {
            value = value.wrapping_add(read);
            emit(value, 1);
            left -= 1;
            continue;
        }
        let length = take_uvarint(&mut rest)?;
        let length = usize::try_from(length).ok().filter(|&n| n < left);
        let length = length.ok_or(DecodeError::Malformed { part: "column run" })? + 1;
        left -= length;
        match mode {
            RUNS => {
                value = value.wrapping_add(read);
                emit(value, length);
            }
            DIFFERENCE_RUNS => {
                difference = difference.wrapping_add(read);
                for _ in 0..length {
                    value = value.wrapping_add(difference);
                    emit(value, 1);
                }
            }
            _ => return Err(DecodeError::Malformed { part: "column mode" }),
        }
    }
    Ok(rest)
}

#[cfg(test)]
mod tests;
