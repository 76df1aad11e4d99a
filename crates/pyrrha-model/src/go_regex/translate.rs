//! Rewrites Go's RE2 syntax (Perl flags) in the syntax of the regex crate, refusing what Go refuses.
//!
//! Source of the rules: the documentation of Go's `regexp/syntax`.

mod class;

use std::fmt::Write;

use super::RegexError;

/// Longest expression, in bytes, that is not merely words and `|`.
const LENGTH_LIMIT: usize = 128 << 10;
/// Go's limit on counted repetition, nested counts multiplied.
const REPEAT_LIMIT: u32 = 1000;
/// What goes before the name of a group: Go allows names that begin with a digit.
pub(super) const GROUP_PREFIX: char = '_';
/// What parts the name of a group, if an earlier one has it too, from a number that makes it unique. Names
/// of Go have no such character.
pub(super) const TWIN_MARK: char = '.';

/// The expression in the regex crate's syntax, to be used with `.` matching newlines.
pub(super) fn translate(expression: &str) -> Result<String, RegexError> {
    if expression.len() > LENGTH_LIMIT {
        return Err(RegexError::too_large(expression));
    }
    let mut translator = Translator {
        source: expression,
        at: 0,
        out: String::with_capacity(expression.len() + 16),
        groups: Vec::new(),
        frame: Frame::default(),
        names: Vec::new(),
    };
    translator.run()?;
    Ok(translator.out)
}

struct Translator<'a> {
    source: &'a str,
    /// Byte position of what is read next.
    at: usize,
    out: String,
    /// The frames around the current one.
    groups: Vec<Frame>,
    frame: Frame,
    names: Vec<&'a str>,
}

/// What is known of an open group (or of the whole).
#[derive(Default)]
struct Frame {
    /// The thing a repetition would apply to.
    last: Option<Atom>,
    /// Highest product of nested counts in the group.
    count: u32,
}

#[derive(Clone, Copy)]
struct Atom {
    /// End of the thing in the output: a flag group may follow, which Go does not repeat.
    end: usize,
    /// Product of the counts in it.
    count: u32,
}

impl<'a> Translator<'a> {
    fn run(&mut self) -> Result<(), RegexError> {
        // Where the repetition just before began, if there was one.
        let mut last_repeat = None;
        while let Some(c) = self.rest().chars().next() {
            let start = self.at;
            let mut repeated = false;
            match c {
                '(' if self.rest().starts_with("(?") => self.flags()?,
                '(' => self.open("(", 1),
                '|' => {
                    self.at += 1;
                    self.out.push('|');
                    self.frame.last = None;
                }
                ')' => self.close()?,
                '^' | '$' | '.' => {
                    self.at += 1;
                    self.out.push(c);
                    self.atom();
                }
                '[' => {
                    self.bracket_class()?;
                    self.atom();
                }
                '*' | '+' | '?' => {
                    self.at += 1;
                    repeated = true;
                    self.repeat(start, last_repeat, &c.to_string(), None)?;
                }
                '{' => repeated = self.counted(start, last_repeat)?,
                '\\' => self.escape()?,
                c => {
                    self.at += c.len_utf8();
                    self.literal(c);
                }
            }
            last_repeat = repeated.then_some(start);
        }
        if self.groups.is_empty() { Ok(()) } else { Err(RegexError::new("missing closing )", self.source)) }
    }

    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    /// The source from `start` to the current position.
    fn since(&self, start: usize) -> &'a str {
        &self.source[start..self.at]
    }

    /// Something that can be repeated has been written.
    fn atom(&mut self) {
        self.frame.last = Some(Atom { end: self.out.len(), count: 1 });
        self.frame.count = self.frame.count.max(1);
    }

    fn literal(&mut self, c: char) {
        push_literal(&mut self.out, c);
        self.atom();
    }

    fn open(&mut self, text: &str, read: usize) {
        self.at += read;
        self.out.push_str(text);
        self.groups.push(std::mem::take(&mut self.frame));
    }

    fn close(&mut self) -> Result<(), RegexError> {
        let Some(outer) = self.groups.pop() else {
            return Err(RegexError::new("unexpected )", self.source));
        };
        self.at += 1;
        self.out.push(')');
        let count = self.frame.count.max(1);
        self.frame = Frame { last: Some(Atom { end: self.out.len(), count }), count: outer.count.max(count) };
        Ok(())
    }

    /// `(?P<name>`, `(?<name>`, `(?flags)`, `(?flags:`.
    fn flags(&mut self) -> Result<(), RegexError> {
        let (start, rest) = (self.at, self.rest());
        for opening in ["(?P<", "(?<"] {
            if rest.starts_with(opening) {
                return self.named_group(opening.len());
            }
        }
        let mut flags = String::new();
        let (mut negative, mut saw_flag) = (false, false);
        self.at += 2;
        for c in rest.chars().skip(2) {
            self.at += c.len_utf8();
            match c {
                'i' | 'm' | 's' | 'U' => {
                    flags.push(c);
                    saw_flag = true;
                }
                '-' if !negative => {
                    flags.push(c);
                    (negative, saw_flag) = (true, false);
                }
                ':' | ')' if !negative || saw_flag => {
                    return self.end_of_flags(c, &flags);
                }
                _ => break,
            }
        }
        Err(RegexError::new("invalid or unsupported Perl syntax", self.since(start)))
    }

    fn end_of_flags(&mut self, end: char, flags: &str) -> Result<(), RegexError> {
        let flags = unique_flags(flags);
        if end == ':' {
            self.open(&format!("(?{flags}:"), 0);
        } else if !flags.is_empty() {
            let _ = write!(self.out, "(?{flags})");
        }
        Ok(())
    }

    fn named_group(&mut self, opening: usize) -> Result<(), RegexError> {
        let rest = self.rest();
        let kind = "invalid named capture";
        let end = rest.find('>').ok_or_else(|| RegexError::new(kind, rest))?;
        let name = &rest[opening..end];
        if name.is_empty() || !name.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric()) {
            return Err(RegexError::new(kind, &rest[..=end]));
        }
        // Go lets groups share a name, the regex crate does not.
        let twin = if self.names.contains(&name) {
            format!("{TWIN_MARK}{}", self.names.len())
        } else {
            String::new()
        };
        self.names.push(name);
        self.open(&format!("(?P<{GROUP_PREFIX}{name}{twin}>"), end + 1);
        Ok(())
    }

    /// Writes a repetition whose operator was read from `start`.
    fn repeat(
        &mut self,
        start: usize,
        last_repeat: Option<usize>,
        operator: &str,
        counts: Option<(u32, Option<u32>)>,
    ) -> Result<(), RegexError> {
        let lazy = self.rest().starts_with('?');
        self.at += usize::from(lazy);
        if let Some(before) = last_repeat {
            return Err(RegexError::new("invalid nested repetition operator", self.since(before)));
        }
        let Some(mut atom) = self.frame.last else {
            return Err(RegexError::new("missing argument to repetition operator", self.since(start)));
        };
        if let Some((min, max)) = counts {
            let count = max.unwrap_or(min).max(1).saturating_mul(atom.count);
            if (min >= 2 || max.is_some_and(|m| m >= 2)) && count > REPEAT_LIMIT {
                return Err(RegexError::new("invalid repeat count", self.since(start)));
            }
            // Nothing is left of what is repeated zero times.
            atom.count = if max == Some(0) { 1 } else { count };
        }
        let operator = format!("{operator}{}", if lazy { "?" } else { "" });
        self.out.insert_str(atom.end, &operator);
        atom.end += operator.len();
        self.frame.last = Some(atom);
        self.frame.count = self.frame.count.max(atom.count);
        Ok(())
    }

    /// `{n}`, `{n,}`, `{n,m}`, or a literal brace. True if it was a repetition.
    fn counted(&mut self, start: usize, last_repeat: Option<usize>) -> Result<bool, RegexError> {
        let Some((min, max, length)) = counts(self.rest()) else {
            self.at += 1;
            self.literal('{');
            return Ok(false);
        };
        self.at += length;
        let too_many = |n: Option<u32>| n.is_some_and(|n| n > REPEAT_LIMIT);
        if too_many(Some(min)) || too_many(max) || max.is_some_and(|max| min > max) {
            return Err(RegexError::new("invalid repeat count", self.since(start)));
        }
        let operator = match max {
            Some(max) if max == min => format!("{{{min}}}"),
            Some(max) => format!("{{{min},{max}}}"),
            None => format!("{{{min},}}"),
        };
        self.repeat(start, last_repeat, &operator, Some((min, max)))?;
        Ok(true)
    }

    /// A backslash outside brackets.
    fn escape(&mut self) -> Result<(), RegexError> {
        let rest = self.rest();
        let assertion = match rest.as_bytes().get(1) {
            Some(b'A') => r"\A",
            Some(b'z') => r"\z",
            Some(b'b') => r"(?-u:\b)",
            Some(b'B') => r"(?-u:\B)",
            Some(b'C') => return Err(RegexError::new("invalid escape sequence", &rest[..2])),
            Some(b'Q') => {
                let body = &rest[2..];
                let (quoted, read) = match body.find(r"\E") {
                    Some(end) => (&body[..end], end + 4),
                    None => (body, rest.len()),
                };
                self.at += read;
                quoted.chars().for_each(|c| self.literal(c));
                return Ok(());
            }
            _ => {
                if !self.escaped_class()? {
                    let code = self.escaped_char()?;
                    class::push_range(&mut self.out, code, code);
                }
                self.atom();
                return Ok(());
            }
        };
        self.at += 2;
        self.out.push_str(assertion);
        self.atom();
        Ok(())
    }
}

fn push_literal(out: &mut String, c: char) {
    if regex_syntax::is_meta_character(c) {
        out.push('\\');
    }
    out.push(c);
}

/// The regex crate refuses a flag that is given twice; Go does not.
fn unique_flags(flags: &str) -> String {
    let (on, off) = flags.split_once('-').unwrap_or((flags, ""));
    let mut out = String::new();
    // What is set and then cleared is cleared.
    for flag in ['i', 'm', 's', 'U'] {
        if on.contains(flag) && !off.contains(flag) {
            out.push(flag);
        }
    }
    if !off.is_empty() {
        out.push('-');
        out.extend(['i', 'm', 's', 'U'].into_iter().filter(|f| off.contains(*f)));
    }
    out
}

/// Reads `{n}`, `{n,}` or `{n,m}`: the counts (none: no maximum) and the bytes read.
fn counts(text: &str) -> Option<(u32, Option<u32>, usize)> {
    let end = text.find('}')?;
    let body = &text[1..end];
    let number = |digits: &str| {
        let valid = !digits.is_empty()
            && digits.bytes().all(|b| b.is_ascii_digit())
            && (digits.len() == 1 || !digits.starts_with('0'));
        valid.then(|| digits.parse().unwrap_or(u32::MAX))
    };
    let (min, max) = match body.split_once(',') {
        None => {
            let count = number(body)?;
            (count, Some(count))
        }
        Some((min, "")) => (number(min)?, None),
        Some((min, max)) => (number(min)?, Some(number(max)?)),
    };
    Some((min, max, end + 1))
}
