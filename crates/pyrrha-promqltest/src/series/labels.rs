//! Label sets: `name{a="b", "c.d"="e"}`, `{"metric.name"}`, `{}`.

use nom::Parser;
use nom::branch::alt;
use nom::bytes::complete::take_while;
use nom::character::complete::{char, multispace0, one_of, satisfy};
use nom::combinator::{map, opt, recognize};
use nom::multi::separated_list0;
use nom::sequence::{delimited, pair, preceded, terminated};
use pyrrha_model::{Labels, METRIC_NAME};

use super::{Parsed, refuse};

/// A label set at the beginning of `input`.
pub(crate) fn labels(input: &str) -> Parsed<'_, Labels> {
    let (rest, name) = opt(metric_name).parse(input)?;
    // `name {{...}}` is a name and a histogram.
    let braces = rest.trim_start();
    if !braces.starts_with('{') || braces.starts_with("{{") {
        return match name {
            Some(name) => Ok((rest, Labels::from_pairs([(METRIC_NAME, name)]))),
            None => refuse(input),
        };
    }
    let (rest, pairs) = delimited(
        char('{'),
        terminated(separated_list0(blank(char(',')), blank(label)), opt(blank(char(',')))),
        preceded(multispace0, char('}')),
    )
    .parse(braces)?;
    let name = name.map(|n| (METRIC_NAME.to_owned(), n.to_owned()));
    Ok((rest, Labels::from_pairs(name.into_iter().chain(pairs))))
}

/// `a="b"`, `"a.b"="c"`, or a bare quoted metric name.
fn label(input: &str) -> Parsed<'_, (String, String)> {
    let (rest, name) = alt((string, map(identifier, str::to_owned))).parse(input)?;
    let quoted = !input.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    match preceded(blank(char('=')), blank(string)).parse(rest) {
        Ok((rest, value)) => Ok((rest, (name, value))),
        Err(_) if quoted => Ok((rest, (METRIC_NAME.to_owned(), name))),
        Err(e) => Err(e),
    }
}

fn metric_name(input: &str) -> Parsed<'_, &str> {
    recognize(pair(
        satisfy(|c| c.is_ascii_alphabetic() || c == '_' || c == ':'),
        take_while(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':'),
    ))
    .parse(input)
}

fn identifier(input: &str) -> Parsed<'_, &str> {
    recognize(pair(
        satisfy(|c| c.is_ascii_alphabetic() || c == '_'),
        take_while(|c: char| c.is_ascii_alphanumeric() || c == '_'),
    ))
    .parse(input)
}

/// A string as PromQL writes it.
fn string(input: &str) -> Parsed<'_, String> {
    let (_, quote) = one_of("\"'`").parse(input)?;
    let mut escaped = false;
    for (at, c) in input.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if c == '\\' && quote != '`' {
            escaped = true;
        } else if c == quote {
            let (token, rest) = input.split_at(at + c.len_utf8());
            return match pyrrha_promql::unquote(token) {
                Some(text) => Ok((rest, text)),
                None => refuse(input),
            };
        }
    }
    refuse(input)
}

fn blank<'a, T>(
    inner: impl Parser<&'a str, Output = T, Error = nom::error::Error<&'a str>>,
) -> impl Parser<&'a str, Output = T, Error = nom::error::Error<&'a str>> {
    delimited(multispace0, inner, multispace0)
}
