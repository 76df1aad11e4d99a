//! Sample columns of a record: series references, times, values.

use pyrrha_encoding::DecodeError;
use pyrrha_encoding::varint::{put_varint, take_array, take_varint};

/// Appends series references, each as the difference to the one before.
pub(super) fn put_refs(out: &mut Vec<u8>, refs: &[u32]) {
    let mut before = 0i64;
    for &series in refs {
        put_varint(out, i64::from(series) - before);
        before = i64::from(series);
    }
}

/// Reads `count` series references.
pub(super) fn take_refs(input: &mut &[u8], count: usize) -> Result<Vec<u32>, DecodeError> {
    let mut refs = Vec::with_capacity(count.min(input.len()));
    let mut before = 0i64;
    for _ in 0..count {
        before = before.wrapping_add(take_varint(input)?);
        refs.push(u32::try_from(before).map_err(|_| DecodeError::Malformed { part: "series reference" })?);
    }
    Ok(refs)
}

/// Appends times, each as the difference to the one before.
pub(super) fn put_times(out: &mut Vec<u8>, times: &[i64]) {
    let mut before = 0i64;
    for &t in times {
        put_varint(out, t.wrapping_sub(before));
        before = t;
    }
}

/// Reads `count` times.
pub(super) fn take_times(input: &mut &[u8], count: usize) -> Result<Vec<i64>, DecodeError> {
    let mut times = Vec::with_capacity(count.min(input.len()));
    let mut before = 0i64;
    for _ in 0..count {
        before = before.wrapping_add(take_varint(input)?);
        times.push(before);
    }
    Ok(times)
}

/// Appends values, bit for bit.
pub(super) fn put_values(out: &mut Vec<u8>, values: &[f64]) {
    for v in values {
        out.extend_from_slice(&v.to_bits().to_le_bytes());
    }
}

/// Reads `count` values.
pub(super) fn take_values(input: &mut &[u8], count: usize) -> Result<Vec<f64>, DecodeError> {
    let mut values = Vec::with_capacity(count.min(input.len() / 8));
    for _ in 0..count {
        values.push(f64::from_bits(u64::from_le_bytes(take_array(input)?)));
    }
    Ok(values)
}
