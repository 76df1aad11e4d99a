//! Quoted and raw strings: their extent as tokens, and their text.

use pyrrha_model::go_fmt::unicode_point;

use super::{Lexed, Lexer, TokenKind};

impl Lexer<'_> {
    /// A string whose opening `quote` was just read.
    pub(super) fn string(&mut self, quote: char) -> Lexed<TokenKind> {
        let raw = quote == '`';
        loop {
            match self.bump() {
                // Text that was no UTF-8 reaches the lexer as this character.
                Some('\u{FFFD}') => return Err(self.error("invalid UTF-8 rune")),
                Some(c) if c == quote => return Ok(TokenKind::String),
                None if raw => return Err(self.error("unterminated raw string")),
                None => return Err(self.error("unterminated quoted string")),
                Some('\n') if !raw => return Err(self.error("unterminated quoted string")),
                Some('\\') if !raw => self.escape(quote)?,
                Some(_) => {}
            }
        }
    }

    /// Checks the escape sequence behind a backslash.
    fn escape(&mut self, quote: char) -> Lexed<()> {
        let (digits, base) = match self.peek() {
            None => return Err(self.error("escape sequence not terminated")),
            Some(c) if c == quote || "abfnrtv\\".contains(c) => {
                self.bump();
                return Ok(());
            }
            Some('0'..='7') => (3, 8),
            Some('x') => (2, 16),
            Some('u') => (4, 16),
            Some('U') => (8, 16),
            Some(c) => return Err(self.error(format!("unknown escape sequence {}", unicode_point(c)))),
        };
        if base == 16 {
            self.bump();
        }
        let mut value = 0u32;
        for _ in 0..digits {
            let Some(c) = self.peek() else {
                return Err(self.error("escape sequence not terminated"));
            };
            let Some(digit) = c.to_digit(base) else {
                return Err(self.error(format!("illegal character {} in escape sequence", unicode_point(c))));
            };
            value = value.wrapping_mul(base).wrapping_add(digit);
            self.bump();
        }
        let valid = if digits < 4 { value <= 255 } else { char::from_u32(value).is_some() };
        match valid {
            true => Ok(()),
            false => Err(self.error("escape sequence is an invalid Unicode code point")),
        }
    }
}

/// The text of a string token. Escapes can spell bytes that are no UTF-8; those become
/// characters of which `raw_byte` knows. `None` if the token is not a string as the lexer accepts them.
pub fn unquote(token: &str) -> Option<String> {
    let quote = token.chars().next().filter(|c| matches!(c, '"' | '\'' | '`'))?;
    let inner = token.strip_prefix(quote)?.strip_suffix(quote)?;
    if quote == '`' {
        // As in Go, raw strings lose carriage returns.
        return Some(inner.replace('\r', ""));
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let escape = chars.next()?;
        let mut number = |first: u32, count: usize, base: u32| {
            (0..count).try_fold(first, |value, _| {
                Some(value.wrapping_mul(base).wrapping_add(chars.next()?.to_digit(base)?))
            })
        };
        match escape {
            'a' => out.push(7),
            'b' => out.push(8),
            'f' => out.push(12),
            'n' => out.push(b'\n'),
            'r' => out.push(b'\r'),
            't' => out.push(b'\t'),
            'v' => out.push(11),
            '0'..='7' => out.push(u8::try_from(number(escape.to_digit(8)?, 2, 8)?).ok()?),
            'x' => out.push(u8::try_from(number(0, 2, 16)?).ok()?),
            'u' | 'U' => {
                let c = char::from_u32(number(0, if escape == 'u' { 4 } else { 8 }, 16)?)?;
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            c if c == quote || c == '\\' => out.push(c as u8),
            _ => return None,
        }
    }
    Some(String::from_utf8(out).unwrap_or_else(|e| with_raw_bytes(e.as_bytes())))
}

/// Where the characters begin that stand for bytes which are no UTF-8: the end of the last private
/// use plane.
const RAW_BYTES: u32 = 0x10_FF00;

fn with_raw_bytes(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 8);
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        out.extend(chunk.invalid().iter().filter_map(|b| char::from_u32(RAW_BYTES + u32::from(*b))));
    }
    out
}

/// The text as others shall see it: what stands for a byte that is no UTF-8 is replaced, as Prometheus' JSON does.
pub(crate) fn lossy(text: &str) -> String {
    text.chars().map(|c| if raw_byte(c).is_some() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// The byte that a character of a string stands for, if an escape spelt one that is no UTF-8.
pub fn raw_byte(c: char) -> Option<u8> {
    u32::from(c).checked_sub(RAW_BYTES).and_then(|b| u8::try_from(b).ok()).filter(|b| *b >= 0x80)
}
