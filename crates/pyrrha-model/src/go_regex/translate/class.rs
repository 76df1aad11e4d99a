//! Character classes and escapes of single characters.

use std::fmt::Write;

use super::{RegexError, Translator};

const RANGE: &str = "invalid character class range";
const ESCAPE: &str = "invalid escape sequence";
const MAX_CODE: u32 = 0x10_FFFF;

impl Translator<'_> {
    /// `[...]`: nothing nests and no operator exists inside, unlike in the regex crate.
    pub(super) fn bracket_class(&mut self) -> Result<(), RegexError> {
        let start = self.at;
        self.at += 1;
        self.out.push('[');
        if self.rest().starts_with('^') {
            self.at += 1;
            self.out.push('^');
        }
        let mut first = true;
        while first || !self.rest().starts_with(']') {
            first = false;
            if self.posix_class()? || self.escaped_class()? {
                continue;
            }
            let range = self.at;
            let low = self.class_char(start)?;
            let mut high = low;
            if self.rest().starts_with('-') && self.rest().len() > 1 && !self.rest().starts_with("-]") {
                self.at += 1;
                high = self.class_char(start)?;
                if high < low {
                    return Err(RegexError::new(RANGE, self.since(range)));
                }
            }
            push_items(&mut self.out, low, high);
        }
        self.at += 1;
        self.out.push(']');
        Ok(())
    }

    /// One character of a class that began at `start`.
    fn class_char(&mut self, start: usize) -> Result<u32, RegexError> {
        match self.rest().chars().next() {
            None => Err(RegexError::new("missing closing ]", &self.source[start..])),
            Some('\\') => self.escaped_char(),
            Some(c) => {
                self.at += c.len_utf8();
                Ok(c.into())
            }
        }
    }

    /// `[:alpha:]` inside a class.
    fn posix_class(&mut self) -> Result<bool, RegexError> {
        let rest = self.rest();
        let Some(body) = rest.strip_prefix("[:") else { return Ok(false) };
        let Some(end) = body.find(":]") else { return Ok(false) };
        let whole = &rest[..end + 4];
        let name = &body[..end];
        const NAMES: [&str; 14] = [
            "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
            "space", "upper", "word", "xdigit",
        ];
        if !NAMES.contains(&name.strip_prefix('^').unwrap_or(name)) {
            return Err(RegexError::new(RANGE, whole));
        }
        self.at += whole.len();
        self.out.push_str(whole);
        Ok(true)
    }

    /// `\d \D \s \S \w \W` (ASCII), `\pL`, `\p{Greek}`; valid outside brackets too.
    pub(super) fn escaped_class(&mut self) -> Result<bool, RegexError> {
        let rest = self.rest();
        if !rest.starts_with('\\') {
            return Ok(false);
        }
        let class = match rest.as_bytes().get(1) {
            Some(b'd') => "[0-9]",
            Some(b'D') => "[^0-9]",
            Some(b's') => r"[\t\n\x0C\r ]",
            Some(b'S') => r"[^\t\n\x0C\r ]",
            Some(b'w') => "[0-9A-Za-z_]",
            Some(b'W') => "[^0-9A-Za-z_]",
            Some(sign @ (b'p' | b'P')) => return self.unicode_class(*sign == b'P').map(|()| true),
            _ => return Ok(false),
        };
        self.at += 2;
        self.out.push_str(class);
        Ok(true)
    }

    fn unicode_class(&mut self, mut negative: bool) -> Result<(), RegexError> {
        let rest = self.rest();
        let (name, whole) = match rest[2..].chars().next() {
            None => ("", rest),
            Some('{') => {
                let end = rest.find('}').ok_or_else(|| RegexError::new(RANGE, rest))?;
                (&rest[3..end], &rest[..=end])
            }
            Some(c) => (&rest[2..2 + c.len_utf8()], &rest[..2 + c.len_utf8()]),
        };
        let name = match name.strip_prefix('^') {
            Some(name) => {
                negative = !negative;
                name
            }
            None => name,
        };
        let class = unicode_table(name).ok_or_else(|| RegexError::new(RANGE, whole))?;
        self.at += whole.len();
        let _ = write!(self.out, "[{}{class}]", if negative { "^" } else { "" });
        Ok(())
    }

    /// A backslash and the character it stands for.
    pub(super) fn escaped_char(&mut self) -> Result<u32, RegexError> {
        let start = self.at;
        self.at += 1;
        let Some(c) = self.next_char() else {
            return Err(RegexError::new("trailing backslash at end of expression", ""));
        };
        let code = match c {
            // A single digit from 1 to 7 would be a backreference.
            '1'..='7' if !self.rest().starts_with(|c| matches!(c, '0'..='7')) => None,
            '0'..='7' => Some(self.octal(c)),
            'x' => self.hexadecimal(),
            'a' => Some(0x07),
            'f' => Some(0x0C),
            'n' => Some(0x0A),
            'r' => Some(0x0D),
            't' => Some(0x09),
            'v' => Some(0x0B),
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Some(c.into()),
            _ => None,
        };
        code.ok_or_else(|| RegexError::new(ESCAPE, self.since(start)))
    }

    fn next_char(&mut self) -> Option<char> {
        let c = self.rest().chars().next()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn octal(&mut self, first: char) -> u32 {
        let mut code = first.to_digit(8).unwrap_or(0);
        for _ in 0..2 {
            let Some(digit) = self.rest().chars().next().and_then(|c| c.to_digit(8)) else { break };
            self.at += 1;
            code = code * 8 + digit;
        }
        code
    }

    /// After `\x`: two digits, or any number in braces.
    fn hexadecimal(&mut self) -> Option<u32> {
        let first = self.next_char()?;
        if first != '{' {
            let second = self.next_char()?;
            return Some(first.to_digit(16)? * 16 + second.to_digit(16)?);
        }
        let (mut code, mut digits) = (0u32, 0);
        loop {
            let c = self.next_char()?;
            if c == '}' {
                return (digits > 0).then_some(code);
            }
            code = code * 16 + c.to_digit(16)?;
            digits += 1;
            if code > MAX_CODE {
                return None;
            }
        }
    }
}

/// A class of the characters from `low` to `high`.
pub(super) fn push_range(out: &mut String, low: u32, high: u32) {
    match char::from_u32(low).filter(|_| low == high) {
        Some(c) => super::push_literal(out, c),
        None => {
            out.push('[');
            push_items(out, low, high);
            out.push(']');
        }
    }
}

/// The range inside brackets, without surrogates, which text cannot contain.
fn push_items(out: &mut String, low: u32, high: u32) {
    const SURROGATES: std::ops::RangeInclusive<u32> = 0xD800..=0xDFFF;
    let before = (low, high.min(0xD7FF));
    let after = (low.max(0xE000), high);
    let mut empty = true;
    for (low, high) in if SURROGATES.end() < &low { [after, (1, 0)] } else { [before, after] } {
        if low <= high {
            empty = false;
            let _ = write!(out, "\\x{{{low:X}}}-\\x{{{high:X}}}");
        }
    }
    if empty {
        // A set of nothing.
        out.push_str(r"[^\x{0}-\x{10FFFF}]");
    }
}

/// The regex crate's name for a general category or script as Go spells it.
fn unicode_table(name: &str) -> Option<String> {
    const CATEGORIES: [&str; 38] = [
        "Any", "Cc", "Cf", "Co", "Cs", "L", "Ll", "Lm", "Lo", "Lt", "Lu", "M", "Mc", "Me", "Mn", "N", "Nd",
        "Nl", "No", "P", "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "S", "Sc", "Sk", "Sm", "So", "Z", "Zl",
        "Zp", "Zs", "C", "Cn",
    ];
    match name {
        // Text has no surrogates.
        "Cs" => return Some(r"[^\x{0}-\x{10FFFF}]".into()),
        // Go's C leaves out what is not assigned.
        "C" => return Some(r"\p{Cc}\p{Cf}\p{Co}".into()),
        _ if CATEGORIES.contains(&name) => return Some(format!("\\p{{{name}}}")),
        _ => {}
    }
    let spelled = name.len() > 2
        && name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.bytes().all(|b| b == b'_' || b.is_ascii_alphabetic());
    let class = format!("\\p{{sc={name}}}");
    (spelled && regex_syntax::parse(&class).is_ok()).then_some(class)
}
