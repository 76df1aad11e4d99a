//! The values of an `@st` line: start timestamps as offsets to their samples.

use nom::Parser;
use nom::branch::alt;
use nom::character::complete::{char, one_of};
use nom::combinator::{map, opt};
use nom::sequence::{pair, preceded};

use super::values::{duration_ms, times};
use super::{MAX_VALUES, Parsed, SeriesError, failed};

/// Offsets in ms by position; `None` where there is no start timestamp. `rest` is the end of
/// `line`, behind `@st`.
pub(crate) fn starts(line: &str, rest: &str) -> Result<Vec<Option<i64>>, SeriesError> {
    let mut offsets = Vec::new();
    let mut rest = rest.trim_start();
    while !rest.is_empty() {
        let (after, (first, step, count)) =
            item(rest).map_err(|e| failed(line, e, "duration or \"_\" expected"))?;
        if offsets.len().saturating_add(count) > MAX_VALUES {
            return Err(SeriesError::new(line, rest, format!("more than {MAX_VALUES} values")));
        }
        if !after.is_empty() && !after.starts_with([' ', '\t']) {
            return Err(SeriesError::new(line, after, "blank expected between start timestamps"));
        }
        let mut offset = first;
        for _ in 0..count {
            offsets.push(offset);
            offset = offset.map(|o| o.saturating_add(step));
        }
        rest = after.trim_start();
    }
    Ok(offsets)
}

/// First offset, step, number.
fn item(input: &str) -> Parsed<'_, (Option<i64>, i64, usize)> {
    alt((
        map(preceded(char('_'), opt(times)), |n| (None, 0, n.unwrap_or(1))),
        map((offset, signed, times), |(first, step, n)| (Some(first), step, n.saturating_add(1))),
        map(pair(offset, opt(times)), |(first, n)| (Some(first), 0, n.map_or(1, |n| n.saturating_add(1)))),
    ))
    .parse(input)
}

fn offset(input: &str) -> Parsed<'_, i64> {
    alt((signed, unsigned)).parse(input)
}

fn signed(input: &str) -> Parsed<'_, i64> {
    map(pair(one_of("+-"), unsigned), |(sign, ms)| if sign == '-' { -ms } else { ms }).parse(input)
}

fn unsigned(input: &str) -> Parsed<'_, i64> {
    alt((duration_ms, map(char('0'), |_| 0))).parse(input)
}
