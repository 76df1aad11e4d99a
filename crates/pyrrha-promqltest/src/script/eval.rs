//! `eval`: a query, when it is evaluated, and what is expected of it.

use nom::Parser;
use nom::combinator::all_consuming;
use pyrrha_model::Timestamp;
use pyrrha_model::time::parse_duration;
use pyrrha_promql::ast::Expr;
use pyrrha_promql::unquote;
use regex::Regex;

use super::{Line, ScriptError};
use crate::series::{self, SequenceValue, parse_series};
use crate::target::script_features;

/// A case.
#[derive(Debug)]
pub struct Eval {
    /// Line in the script, from 1.
    pub line: usize,
    /// The query.
    pub query: String,
    /// The query, parsed.
    pub expr: Expr,
    /// When it is evaluated.
    pub when: When,
    /// What it shall give.
    pub expect: Expectation,
}

/// When a query is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// At one time, ms.
    Instant(Timestamp),
    /// At several.
    Range(Range),
}

/// Times `start`, `start + step` and so on up to `end`, ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// First.
    pub start: Timestamp,
    /// No time is after it.
    pub end: Timestamp,
    /// Distance.
    pub step: i64,
}

/// What a case expects.
#[derive(Debug, Default)]
pub struct Expectation {
    /// Series come in the order of the lines.
    pub ordered: bool,
    /// The evaluation fails, with such an error.
    pub fail: Option<TextMatch>,
    /// Warnings: each line matches one, and each warning some line.
    pub warn: Vec<TextMatch>,
    /// No warning.
    pub no_warn: bool,
    /// Infos, likewise.
    pub info: Vec<TextMatch>,
    /// No info.
    pub no_info: bool,
    /// The result is this string.
    pub string: Option<String>,
    /// The result of an instant query is a range vector, with values at these times.
    pub range_vector: Option<Range>,
    /// The result is this scalar.
    pub scalar: Option<f64>,
    /// The result's series, in the order of the lines.
    pub series: Vec<ExpectedSeries>,
}

/// A series of a result.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpectedSeries {
    /// Its labels.
    pub labels: pyrrha_model::Labels,
    /// Its values by time.
    pub values: Vec<Option<SequenceValue>>,
}

/// What a text has to be.
#[derive(Debug, Clone)]
pub enum TextMatch {
    /// Anything.
    Any,
    /// Exactly this.
    Text(String),
    /// Something this matches.
    Regex(Regex),
}

impl TextMatch {
    /// Whether `text` is what is expected.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Text(expected) => expected == text,
            Self::Regex(regex) => regex.is_match(text),
        }
    }
}

impl std::fmt::Display for TextMatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Any => f.write_str("any text"),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Regex(regex) => write!(f, "text matching {:?}", regex.as_str()),
        }
    }
}

/// Reads an `eval`.
pub(super) fn parse(head: Line<'_>, block: &[Line<'_>]) -> Result<Eval, ScriptError> {
    let (kind, query, when) = head_line(head)?;
    let expr = pyrrha_promql::parse(query, &script_features()).map_err(|e| head.error(e.to_string()))?;
    let mut expect = Expectation::default();
    match kind {
        "" => {}
        "_fail" => expect.fail = Some(TextMatch::Any),
        "_warn" => expect.warn.push(TextMatch::Any),
        "_info" => expect.info.push(TextMatch::Any),
        "_ordered" => expect.ordered = true,
        _ => return Err(head.error("invalid eval command")),
    }
    for line in block {
        if expect.scalar.is_some() {
            return Err(line.error("nothing may follow a scalar"));
        }
        expect.line(*line, when)?;
    }
    if expect.no_warn && !expect.warn.is_empty() || expect.no_info && !expect.info.is_empty() {
        return Err(head.error("expect lines contradict each other"));
    }
    Ok(Eval { line: head.number, query: query.to_owned(), expr, when, expect })
}

/// Kind suffix, query, and when.
fn head_line(head: Line<'_>) -> Result<(&str, &str, When), ScriptError> {
    let bad = || {
        head.error("invalid eval command, expected \"eval instant at <t> <query>\" or \"eval range from <t> to <t> step <d> <query>\"")
    };
    let (command, rest) = word(head.text);
    let kind = command.get("eval".len()..).unwrap_or("");
    let (mode, rest) = word(rest);
    let time = |text: &str| time(text).ok_or_else(|| head.error(format!("invalid time {text:?}")));
    let keyword = |rest: &'_ str, wanted: &str| {
        let (found, _) = word(rest);
        if found == wanted { Ok(()) } else { Err(bad()) }
    };
    let when;
    let query = match mode {
        "instant" => {
            keyword(rest, "at")?;
            let (at, rest) = word(word(rest).1);
            when = When::Instant(time(at)?);
            rest
        }
        "range" => {
            let mut rest = rest;
            let mut times = [0; 3];
            for (slot, name) in times.iter_mut().zip(["from", "to", "step"]) {
                keyword(rest, name)?;
                let (text, after) = word(word(rest).1);
                *slot = time(text)?;
                rest = after;
            }
            let [start, end, step] = times;
            if end < start || step <= 0 {
                return Err(head.error("invalid range: end before start, or step not positive"));
            }
            when = When::Range(Range { start, end, step });
            rest
        }
        _ => return Err(bad()),
    };
    if query.is_empty() { Err(bad()) } else { Ok((kind, query, when)) }
}

/// The first word, and the rest without leading blanks.
fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    let end = text.find([' ', '\t']).unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

/// A time as a duration since 0, in ms, maybe negative.
fn time(text: &str) -> Option<Timestamp> {
    match text.strip_prefix('-') {
        Some(text) => parse_duration(text).ok().map(|ms| -ms),
        None => parse_duration(text).ok(),
    }
}

impl Expectation {
    fn line(&mut self, line: Line<'_>, when: When) -> Result<(), ScriptError> {
        let text = line.text;
        if let Some(message) = text.strip_prefix("expected_fail_message") {
            return self.old_failure(line, TextMatch::Text(message.trim().to_owned()));
        }
        if let Some(pattern) = text.strip_prefix("expected_fail_regexp") {
            let regex = Regex::new(pattern.trim()).map_err(|e| line.error(e.to_string()))?;
            return self.old_failure(line, TextMatch::Regex(regex));
        }
        if word(text).0 == "expect" {
            return self.expect(line, word(text).1);
        }
        if let Some(value) = scalar(text) {
            self.scalar = Some(value);
            return Ok(());
        }
        let described = parse_series(text).map_err(|e| line.error(e.to_string()))?;
        if matches!(when, When::Instant(_)) && self.range_vector.is_none() && described.values.len() > 1 {
            return Err(line.error("an instant query has one value per series"));
        }
        let expected = ExpectedSeries { labels: described.labels, values: described.values };
        match self.series.iter_mut().find(|s| s.labels == expected.labels) {
            Some(known) => *known = expected,
            None => self.series.push(expected),
        }
        Ok(())
    }

    fn old_failure(&mut self, line: Line<'_>, wanted: TextMatch) -> Result<(), ScriptError> {
        match &mut self.fail {
            Some(slot @ TextMatch::Any) => {
                *slot = wanted;
                Ok(())
            }
            _ => Err(line.error("only after eval_fail, and once")),
        }
    }

    fn expect(&mut self, line: Line<'_>, what: &str) -> Result<(), ScriptError> {
        let (kind, rest) = word(what);
        if kind == "range" && word(rest).0 == "vector" {
            let fields: Vec<&str> = rest.split_whitespace().collect();
            let ["vector", "from", start, "to", end, "step", step] = fields.as_slice() else {
                return Err(line.error("expected \"expect range vector from <t> to <t> step <d>\""));
            };
            let (Some(start), Some(end), Some(step)) = (time(start), time(end), time(step)) else {
                return Err(line.error("invalid times of a range vector"));
            };
            self.range_vector = Some(Range { start, end, step: step.max(1) });
            return Ok(());
        }
        if kind == "string" {
            self.string = Some(unquote(rest).ok_or_else(|| line.error("expected a quoted string"))?);
            return Ok(());
        }
        let wanted = text_match(line, rest)?;
        match kind {
            "ordered" => self.ordered = true,
            "fail" if self.fail.is_some() => return Err(line.error("more than one expect fail")),
            "fail" => self.fail = Some(wanted),
            "warn" => self.warn.push(wanted),
            "info" => self.info.push(wanted),
            "no_warn" => self.no_warn = true,
            "no_info" => self.no_info = true,
            _ => return Err(line.error("invalid expect statement")),
        }
        Ok(())
    }
}

/// `msg:text`, `regex:pattern`, or nothing.
fn text_match(line: Line<'_>, text: &str) -> Result<TextMatch, ScriptError> {
    if text.is_empty() {
        return Ok(TextMatch::Any);
    }
    if let Some(message) = text.strip_prefix("msg:") {
        return Ok(TextMatch::Text(message.trim().to_owned()));
    }
    match text.strip_prefix("regex:") {
        Some(pattern) => {
            Regex::new(pattern.trim()).map(TextMatch::Regex).map_err(|e| line.error(e.to_string()))
        }
        None => Err(line.error("expected \"msg:\" or \"regex:\"")),
    }
}

/// A line that is just a number: a Go integer of any base, or a float.
fn scalar(text: &str) -> Option<f64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let integer = match digits.get(..2).map(str::to_ascii_lowercase).as_deref() {
        Some("0x") => i64::from_str_radix(&digits[2..], 16).ok(),
        Some("0b") => i64::from_str_radix(&digits[2..], 2).ok(),
        Some("0o") => i64::from_str_radix(&digits[2..], 8).ok(),
        Some(_) if digits.starts_with('0') => i64::from_str_radix(digits, 8).ok(),
        _ => None,
    };
    let value = match integer {
        Some(n) => n as f64,
        None => match all_consuming(series::number).parse(digits) {
            Ok((_, v)) if !digits.ends_with(|c: char| "smhdwy".contains(c)) && digits != "stale" => v,
            _ => return None,
        },
    };
    Some(if negative { -value } else { value })
}
