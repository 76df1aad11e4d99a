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
        self.at = self.start + digits;
        if well_formed && ends(digits) {
            return Ok(TokenKind::Number);
        }
        let units = scan_units(&text[digits..]);
        self.at += units.bytes;
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

/// Bytes of the longest prefix that is read as a number, and whether it is well formed.
fn scan_number(text: &str) -> (usize, bool) {
    let bytes = text.as_bytes();
    let hex = matches!(bytes, [b'0', b'x' | b'X', ..]);
    let is_digit = |b: u8| if hex { b.is_ascii_hexdigit() } else { b.is_ascii_digit() };
    // A separator may stand behind `0x`.
    let prefix = if bytes.get(2) == Some(&b'_') { 3 } else { 2 };
    let (mut at, mut dot, mut exponent) = (if hex { prefix } else { 0 }, false, false);
    while let Some(&b) = bytes.get(at) {
        let next = bytes.get(at + 1).copied();
        match b {
            b if is_digit(b) => at += 1,
            // A separator stands between digits. What else follows than other parts of a number or the
            // end of the query is left to whoever reads the number.
            b'_' => match next {
                Some(b) if is_digit(b) || !b"._eE".contains(&b) => at += 1,
                Some(_) => return (at + 2, false),
                None => return (at + 1, false),
            },
            b'.' => {
                at += 1;
                if dot || hex || exponent {
                    return (at, false);
                }
                dot = true;
                if let Some(b'.' | b'_') = next {
                    return (at + 1, false);
                }
            }
            b'e' | b'E' if !hex => {
                at += 1;
                if exponent {
                    return (at, false);
                }
                exponent = true;
                if let Some(b'+' | b'-') = bytes.get(at) {
                    at += 1;
                }
                match bytes.get(at) {
                    Some(b'.' | b'_' | b'e' | b'E') => return (at + 1, false),
                    Some(_) => {}
                    None => return (at, false),
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
        recognize(pair(one_of("smhdwy"), opt(tag("s")))).parse(text)
    }
    fn digits(text: &str) -> IResult<&str, &str> {
        take_while1(|c: char| c.is_ascii_digit())(text)
    }
    let Ok((rest, _)) = recognize((unit, many0_count(pair(digits, unit)))).parse(text) else {
        return Units { bytes: 0, complete: false };
    };
    // Digits without a unit spoil the whole.
    match digits(rest) {
        Ok((rest, _)) => Units { bytes: text.len() - rest.len(), complete: false },
        Err(_) => Units { bytes: text.len() - rest.len(), complete: true },
    }
}
