//! The values of a series: `_`, `_x3`, `1`, `1x3`, `1+2x3`, `stale`, `{{...}}+{{...}}x3`.

use nom::Parser;
use nom::branch::alt;
use nom::bytes::complete::{tag, tag_no_case, take_while1};
use nom::character::complete::{char, digit1, one_of};
use nom::combinator::{map, map_res, opt, peek, recognize};
use nom::number::complete::recognize_float;
use nom::sequence::{pair, preceded};
use pyrrha_model::{FloatHistogram, stale_nan, time::parse_duration};

use super::{MAX_VALUES, Parsed, SequenceValue, SeriesError, failed, histogram, refuse};

/// All values of `rest`, the end of `line`; items are separated by blanks.
pub(super) fn values(line: &str, rest: &str) -> Result<Vec<Option<SequenceValue>>, SeriesError> {
    let mut values = Vec::new();
    let mut rest = rest;
    loop {
        let trimmed = rest.trim_start();
        if trimmed.is_empty() {
            return Ok(values);
        }
        if trimmed.len() == rest.len() {
            return Err(SeriesError::new(line, rest, "blank expected before a value"));
        }
        let (after, item) =
            item(trimmed).map_err(|e| failed(line, e, "number, \"stale\", \"_\" or histogram expected"))?;
        item.expand(&mut values).map_err(|message| SeriesError::new(line, trimmed, message))?;
        rest = after;
    }
}

enum Item {
    Missing(usize),
    Floats { first: f64, step: f64, more: usize },
    Histograms { first: Described, step: Option<(bool, Described)>, more: usize },
}

type Described = (Box<FloatHistogram>, bool);

fn item(input: &str) -> Parsed<'_, Item> {
    alt((
        map(preceded(char('_'), opt(times)), |n| Item::Missing(n.unwrap_or(1))),
        histograms,
        map((number, signed, times), |(first, step, more)| Item::Floats { first, step, more }),
        map((number, opt(times)), |(first, more)| Item::Floats { first, step: 0.0, more: more.unwrap_or(0) }),
    ))
    .parse(input)
}

fn histograms(input: &str) -> Parsed<'_, Item> {
    let (rest, first) = histogram::histogram(input)?;
    let (rest, step) = opt(pair(one_of("+-"), histogram::histogram)).parse(rest)?;
    let (rest, more) = if step.is_some() { map(times, Some).parse(rest)? } else { opt(times).parse(rest)? };
    let step = step.map(|(sign, h)| (sign == '-', h));
    Ok((rest, Item::Histograms { first, step, more: more.unwrap_or(0) }))
}

/// `x5`
pub(super) fn times(input: &str) -> Parsed<'_, usize> {
    preceded(char('x'), map_res(digit1, str::parse)).parse(input)
}

/// A number that must have a sign.
fn signed(input: &str) -> Parsed<'_, f64> {
    preceded(peek(one_of("+-")), number).parse(input)
}

/// A float, `Inf`, `NaN`, `stale`, or a duration in seconds; with or without sign.
pub(crate) fn number(input: &str) -> Parsed<'_, f64> {
    let (rest, sign) = opt(one_of("+-")).parse(input)?;
    let (rest, value) = alt((
        map(tag_no_case("inf"), |_| f64::INFINITY),
        map(tag_no_case("nan"), |_| f64::NAN),
        map(tag("stale"), |_| stale_nan()),
        duration,
        map_res(recognize_float, str::parse::<f64>),
    ))
    .parse(rest)?;
    Ok((rest, if sign == Some('-') { -value } else { value }))
}

/// A duration's seconds.
fn duration(input: &str) -> Parsed<'_, f64> {
    let (rest, ms) = duration_ms(input)?;
    Ok((rest, ms as f64 / 1000.0))
}

/// A duration without sign, with units, in milliseconds.
pub(super) fn duration_ms(input: &str) -> Parsed<'_, i64> {
    let unit = |c: char| "smhdwy".contains(c);
    let (rest, text) = recognize(nom::multi::many1_count(pair(digit1, take_while1(unit)))).parse(input)?;
    match parse_duration(text) {
        Ok(ms) => Ok((rest, ms)),
        Err(_) => refuse(input),
    }
}

impl Item {
    fn expand(self, values: &mut Vec<Option<SequenceValue>>) -> Result<(), String> {
        let count = match &self {
            Self::Missing(count) => *count,
            Self::Floats { more, .. } | Self::Histograms { more, .. } => more.saturating_add(1),
        };
        if values.len().saturating_add(count) > MAX_VALUES {
            return Err(format!("more than {MAX_VALUES} values"));
        }
        match self {
            Self::Missing(_) => values.extend(std::iter::repeat_n(None, count)),
            Self::Floats { mut first, step, .. } => {
                for _ in 0..count {
                    values.push(Some(SequenceValue::Float(first)));
                    // A stale marker keeps its bits: arithmetic would quiet it.
                    first = if step == 0.0 { first } else { first + step };
                }
            }
            Self::Histograms { first: (h, set), step: None, .. } => {
                let value = Some(SequenceValue::Histogram(h, set));
                values.extend(std::iter::repeat_n(value, count));
            }
            Self::Histograms { first: (h, set), step: Some((minus, (step, step_set))), .. } => {
                let mut running = h;
                values.push(Some(SequenceValue::Histogram(running.clone(), set)));
                for _ in 1..count {
                    if running.schema > step.schema {
                        return Err(format!(
                            "error combining histograms: cannot merge from schema {} to {}",
                            step.schema, running.schema
                        ));
                    }
                    let combined = if minus { running.sub(&step) } else { running.add(&step) };
                    combined.map_err(|e| format!("error combining histograms: {e}"))?;
                    values.push(Some(SequenceValue::Histogram(running.clone(), step_set)));
                }
            }
        }
        Ok(())
    }
}
