//! Numbers and durations, as tokens.

use nom::bytes::complete::{tag, take_while1};
use nom::character::complete::one_of;
use nom::combinator::{opt, recognize};
use nom::multi::many0_count;
use nom::sequence::pair;
use nom::{IResult, Parser};

use super::{Lexed, Lexer, TokenKind, is_word_part};

impl Lexer<'_> {
    /// A number or a duration; the token begins at `self.start`.
    pub(super) fn number(&mut self) -> Lexed<TokenKind> {
        let text = &self.query[self.start..];
        let (digits, well_formed) = scan_number(text);
        let ends = |at: usize| !text[at..].starts_with(is_word_part);
        if well_formed && ends(digits) {
            self.at = self.start + digits;
            return Ok(TokenKind::Number);
        }
        let units = scan_units(&text[digits..]);
        self.at = self.start + digits + units.bytes;
        if units.complete {
            if ends(digits + units.bytes) {
                return Ok(TokenKind::Duration);
            }
            self.bump();
        }
        let bad = &self.query[self.start..self.at];
        Err(self.error(format!("bad number or duration syntax: {}", pyrrha_model::go_fmt::quote(bad))))
    }
}

/// Bytes of the longest prefix that is read as a number, and whether it may be one. What looks like a
/// number here, as `.5.5`, may still be none to whoever reads it.
fn scan_number(text: &str) -> (usize, bool) {
    let bytes = text.as_bytes();
    let hex = matches!(bytes, [b'0', b'x' | b'X', ..]);
    let is_digit = |b: u8| if hex { b.is_ascii_hexdigit() } else { b.is_ascii_digit() };
    let next = |at: usize, of: &[u8]| bytes.get(at).is_some_and(|b| of.contains(b));
    let mut at = if hex { 2 + usize::from(next(2, b"_")) } else { usize::from(next(0, b"0")) };
    // A dot in front does not count among those of which there is one.
    at += usize::from(next(at, b"."));
    at += usize::from(bytes.get(at).copied().is_some_and(is_digit));
    let (mut dot, mut exponent) = (false, false);
    while let Some(&b) = bytes.get(at) {
        if is_digit(b) {
            at += 1;
            continue;
        }
        match b {
            b'.' => {
                at += 1;
                if dot {
                    return (at, false);
                }
                dot = true;
                if next(at, b"_.") {
                    return (at + 1, false);
                }
                if hex {
                    return (at, false);
                }
            }
            b'e' | b'E' => {
                at += 1;
                if exponent {
                    return (at, false);
                }
                exponent = true;
                at += usize::from(next(at, b"+-"));
                if next(at, b"._eE") {
                    return (at + 1, false);
                }
                if at == bytes.len() {
                    return (at, false);
                }
            }
            b'_' => {
                at += 1;
                if next(at, b"._eE") {
                    return (at + 1, false);
                }
                if at == bytes.len() {
                    return (at, false);
                }
            }
            _ => break,
        }
    }
    (at, at > 0)
}

struct Units {
    bytes: usize,
    complete: bool,
}

/// What follows the first number of a duration: `m`, `h30m`, `s500ms`.
fn scan_units(text: &str) -> Units {
    fn unit(text: &str) -> IResult<&str, &str> {
        recognize(pair(one_of("smhdw"), opt(tag("s")))).parse(text)
    }
    // Years come first only.
    fn first_unit(text: &str) -> IResult<&str, &str> {
        recognize(pair(one_of("smhdwy"), opt(tag("s")))).parse(text)
    }
    fn digits(text: &str) -> IResult<&str, &str> {
        take_while1(|c: char| c.is_ascii_digit())(text)
    }
    let Ok((rest, _)) = recognize((first_unit, many0_count(pair(digits, unit)))).parse(text) else {
        return Units { bytes: 0, complete: false };
    };
    // Digits without a unit spoil the whole.
    match digits(rest) {
        Ok((rest, _)) => Units { bytes: text.len() - rest.len(), complete: false },
        Err(_) => Units { bytes: text.len() - rest.len(), complete: true },
    }
}
