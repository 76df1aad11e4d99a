//! Histogram literals: `{{schema:1 sum:-0.3 count:3.1 buckets:[5 10 7] offset:-3}}`.

use nom::Parser;
use nom::bytes::complete::{tag, take_while1};
use nom::character::complete::{char, multispace0, multispace1};
use nom::multi::separated_list0;
use nom::sequence::{delimited, terminated};
use pyrrha_model::{CounterResetHint, FloatHistogram, Span};

use super::{Parsed, refuse, values::number};

/// A literal, and whether it names a counter-reset hint.
pub(super) fn histogram(input: &str) -> Parsed<'_, (Box<FloatHistogram>, bool)> {
    let (mut rest, _) = terminated(tag("{{"), multispace0).parse(input)?;
    let mut parts = Parts::default();
    while let Ok((after, key)) = key(rest) {
        rest = parts.read(key, after)?.0.trim_start();
    }
    let (rest, _) = tag("}}").parse(rest)?;
    let hint_set = parts.hint.is_some();
    Ok((rest, (Box::new(parts.build()), hint_set)))
}

fn key(input: &str) -> Parsed<'_, &str> {
    terminated(take_while1(|c: char| c.is_ascii_alphanumeric() || c == '_'), char(':')).parse(input)
}

#[derive(Default)]
struct Parts {
    schema: Option<f64>,
    sum: Option<f64>,
    count: Option<f64>,
    zero_count: Option<f64>,
    zero_threshold: Option<f64>,
    positive: Option<Vec<f64>>,
    positive_offset: Option<f64>,
    negative: Option<Vec<f64>>,
    negative_offset: Option<f64>,
    custom_values: Option<Vec<f64>>,
    hint: Option<CounterResetHint>,
}

impl Parts {
    /// Reads the value of `key`; a key given twice is refused.
    fn read<'a>(&mut self, key: &str, input: &'a str) -> Parsed<'a, ()> {
        let slot = match key {
            "schema" => &mut self.schema,
            "sum" => &mut self.sum,
            "count" => &mut self.count,
            "z_bucket" => &mut self.zero_count,
            "z_bucket_w" => &mut self.zero_threshold,
            "offset" => &mut self.positive_offset,
            "n_offset" => &mut self.negative_offset,
            "buckets" => return fill(&mut self.positive, input, list),
            "n_buckets" => return fill(&mut self.negative, input, list),
            "custom_values" => return fill(&mut self.custom_values, input, list),
            "counter_reset_hint" => return fill(&mut self.hint, input, hint),
            _ => return refuse(input),
        };
        fill(slot, input, number)
    }

    fn build(self) -> FloatHistogram {
        let side = |buckets: Option<Vec<f64>>, offset: Option<f64>| {
            let buckets = buckets.unwrap_or_default();
            let span = Span { offset: offset.unwrap_or(0.0) as i32, length: buckets.len() as u32 };
            (if buckets.is_empty() { Vec::new() } else { vec![span] }, buckets)
        };
        let (positive_spans, positive_buckets) = side(self.positive, self.positive_offset);
        let (negative_spans, negative_buckets) = side(self.negative, self.negative_offset);
        FloatHistogram {
            counter_reset_hint: self.hint.unwrap_or_default(),
            schema: self.schema.unwrap_or(0.0) as i32,
            zero_threshold: self.zero_threshold.unwrap_or(0.0),
            zero_count: self.zero_count.unwrap_or(0.0),
            count: self.count.unwrap_or(0.0),
            sum: self.sum.unwrap_or(0.0),
            positive_spans,
            negative_spans,
            positive_buckets,
            negative_buckets,
            custom_values: self.custom_values.unwrap_or_default().into(),
        }
    }
}

fn fill<'a, T>(
    slot: &mut Option<T>,
    input: &'a str,
    read: impl Fn(&'a str) -> Parsed<'a, T>,
) -> Parsed<'a, ()> {
    if slot.is_some() {
        return refuse(input);
    }
    let (rest, value) = read(input)?;
    *slot = Some(value);
    Ok((rest, ()))
}

/// `[1 2 3]`
fn list(input: &str) -> Parsed<'_, Vec<f64>> {
    delimited((char('['), multispace0), separated_list0(multispace1, number), (multispace0, char(']')))
        .parse(input)
}

fn hint(input: &str) -> Parsed<'_, CounterResetHint> {
    let (rest, word) = take_while1(|c: char| c.is_ascii_alphabetic() || c == '_').parse(input)?;
    let hint = match word {
        "unknown" => CounterResetHint::Unknown,
        "reset" => CounterResetHint::Reset,
        "not_reset" => CounterResetHint::NotReset,
        "gauge" => CounterResetHint::Gauge,
        _ => return refuse(input),
    };
    Ok((rest, hint))
}
