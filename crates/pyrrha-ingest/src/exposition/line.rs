//! One sample line: `name{label="value",…} value [timestamp] [# {…} value [timestamp]]`.

use nom::IResult;
use nom::Parser;
use nom::branch::alt;
use nom::bytes::complete::{take_till1, take_while, take_while1};
use nom::character::complete::{char, none_of, one_of, space0};
use nom::combinator::{opt, recognize, value};
use nom::error::Error;
use nom::multi::{fold_many0, separated_list0};
use nom::sequence::{delimited, pair, preceded, separated_pair, terminated};
use pyrrha_model::{Exemplar, Label, Labels, METRIC_NAME, Timestamp};

use super::{ExposedSample, Format};

type Parsed<'a, T> = IResult<&'a str, T, Error<&'a str>>;

/// Reads a sample line without its surrounding space.
pub(super) fn sample(line: &str, format: Format) -> Result<ExposedSample, String> {
    let at = |rest: &str| format!("at byte {}: {:?}", line.len() - rest.len(), short(rest));
    let broken = |error: nom::Err<Error<&str>>| match error {
        nom::Err::Error(e) | nom::Err::Failure(e) => format!("cannot read sample {}", at(e.input)),
        nom::Err::Incomplete(_) => "sample ends too early".to_owned(),
    };
    let (rest, (name, mut pairs)) = series(line).map_err(broken)?;
    pairs.extend(name.map(|name| (METRIC_NAME.to_owned(), name)));
    let labels = unique(pairs)?;
    if labels.get(METRIC_NAME).is_none() {
        return Err("sample has no metric name".to_owned());
    }
    let (rest, value) = number(rest).map_err(broken)?;
    let value = float(value)?;
    let (rest, time) = opt(preceded(spaces1, number)).parse(rest).map_err(broken)?;
    let timestamp = time.map(|t| timestamp(t, format)).transpose()?;
    let (rest, exemplar) = opt(exemplar).parse(rest).map_err(broken)?;
    if !rest.trim().is_empty() {
        return Err(format!("unexpected text {}", at(rest)));
    }
    let exemplar = exemplar.map(|(pairs, value, time)| {
        Ok::<_, String>(Exemplar {
            labels: unique(pairs)?,
            value: float(value)?,
            timestamp: time.map_or(Ok(0), |t| self::timestamp(t, format))?,
        })
    });
    Ok(ExposedSample { labels, value, timestamp, exemplar: exemplar.transpose()? })
}

/// Reads the family name of a comment; gives the name and what follows.
pub(super) fn family_name(text: &str) -> Result<(String, &str), String> {
    let mut name = alt((quoted, take_till1(char::is_whitespace).map(str::to_owned)));
    match name.parse(text) {
        Ok((rest, name)) => Ok((name, rest)),
        Err(_) => Err(format!("missing metric name before {:?}", short(text))),
    }
}

/// `\\` and `\n` of a help text.
pub(super) fn unescape_help(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n') => out.push('\n'),
                Some('\\') => out.push('\\'),
                Some('"') => out.push('"'),
                Some(other) => out.extend(['\\', other]),
                None => out.push('\\'),
            },
            c => out.push(c),
        }
    }
    out
}

type Pairs = Vec<(String, String)>;

/// The name before the braces, if any, and the labels. A bare quoted string in the braces is the
/// name.
fn series(line: &str) -> Parsed<'_, (Option<String>, Pairs)> {
    let (rest, name) = opt(identifier(":")).parse(line)?;
    let (rest, pairs) = opt(preceded(space0, braces)).parse(rest)?;
    if name.is_none() && pairs.is_none() {
        return Err(nom::Err::Error(Error::new(line, nom::error::ErrorKind::Alpha)));
    }
    let (rest, ()) = spaces0(rest)?;
    Ok((rest, (name.map(str::to_owned), pairs.unwrap_or_default())))
}

fn braces(input: &str) -> Parsed<'_, Pairs> {
    let name = || alt((quoted, identifier("").map(str::to_owned)));
    let label = separated_pair(name(), delimited(spaces0, char('='), spaces0), quoted);
    let bare = quoted.map(|name| (METRIC_NAME.to_owned(), name));
    let items = separated_list0(delimited(spaces0, char(','), spaces0), alt((label, bare)));
    let end = (spaces0, opt(char(',')), spaces0, char('}'));
    delimited(pair(char('{'), spaces0), items, end).parse(input)
}

fn exemplar(input: &str) -> Parsed<'_, (Pairs, &str, Option<&str>)> {
    let body = (terminated(braces, spaces0), number, opt(preceded(spaces1, number)));
    preceded((spaces1, char('#'), spaces0), body).parse(input)
}

fn identifier<'a>(also: &'static str) -> impl Parser<&'a str, Output = &'a str, Error = Error<&'a str>> {
    let first = move |c: char| c.is_ascii_alphabetic() || c == '_' || also.contains(c);
    recognize(pair(
        take_while1(first),
        take_while(move |c: char| c.is_ascii_alphanumeric() || c == '_' || also.contains(c)),
    ))
}

fn quoted(input: &str) -> Parsed<'_, String> {
    let plain = take_while1(|c| c != '"' && c != '\\').map(str::to_owned);
    let escape =
        preceded(char('\\'), alt((value("\n", char('n')), value("\\", char('\\')), value("\"", char('"')))));
    // A backslash before anything else stands for itself, as Prometheus reads it.
    let backslash = recognize(pair(char('\\'), none_of("\n")));
    let piece = alt((plain, escape.map(str::to_owned), backslash.map(str::to_owned)));
    let text = fold_many0(piece, String::new, |mut text, piece| {
        text.push_str(&piece);
        text
    });
    delimited(char('"'), text, char('"')).parse(input)
}

fn number(input: &str) -> Parsed<'_, &str> {
    take_while1(|c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_')).parse(input)
}

fn spaces0(input: &str) -> Parsed<'_, ()> {
    value((), take_while(|c| c == ' ' || c == '\t')).parse(input)
}

fn spaces1(input: &str) -> Parsed<'_, ()> {
    value((), pair(one_of(" \t"), spaces0)).parse(input)
}

fn float(text: &str) -> Result<f64, String> {
    // Rust reads what the formats allow (inf, nan, exponents) and nothing else that is a number.
    text.parse().map_err(|_| format!("{:?} is not a number", short(text)))
}

fn timestamp(text: &str, format: Format) -> Result<Timestamp, String> {
    let bad = || format!("{:?} is not a timestamp", short(text));
    match format {
        Format::Prometheus => text.parse().map_err(|_| bad()),
        Format::OpenMetrics => {
            let ms = (float(text).map_err(|_| bad())? * 1000.0).round();
            // i64 holds every whole number of ms within this bound.
            if ms.abs() < 9.2e18 { Ok(ms as Timestamp) } else { Err(bad()) }
        }
    }
}

fn unique(pairs: Pairs) -> Result<Labels, String> {
    let mut labels: Vec<_> =
        pairs.into_iter().filter(|(_, v)| !v.is_empty()).map(|(name, value)| Label { name, value }).collect();
    labels.sort_unstable();
    match labels.windows(2).find(|w| w[0].name == w[1].name) {
        Some(twice) => Err(format!("label {:?} is given twice", twice[0].name)),
        None => Ok(Labels::from_sorted(labels)),
    }
}

fn short(text: &str) -> String {
    text.chars().take(40).collect()
}
