//! The lexer of PromQL: one token at a time, so that an error is reported where a reader of the
//! query meets it first.
//!
//! ```text
//! outside ──`{`──► braces ──`}`──► outside
//! outside ──`[`──► brackets ──number, `]`──► outside
//! ```
//! Behind the first number in brackets, most of what is a token outside is one again, until `]`.

mod number;
mod string;
#[cfg(test)]
mod tests;
pub(crate) mod token;

pub(crate) use string::lossy;
pub use string::{raw_byte, unquote};
pub(crate) use token::{BoundWord, Keyword, Token, TokenKind};

use crate::ast::BinaryOp;

/// Why the text is no sequence of tokens, and at which byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LexError {
    pub(crate) start: usize,
    pub(crate) message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Outside,
    Braces,
    Brackets,
}

/// Splits a query into tokens.
#[derive(Debug)]
pub(crate) struct Lexer<'q> {
    query: &'q str,
    /// First byte of the current token.
    start: usize,
    /// Next byte to read.
    at: usize,
    mode: Mode,
    open_parens: usize,
    /// Between `[` and `]`.
    bracket_open: bool,
    /// A number or duration was read in brackets.
    duration_seen: bool,
    /// In these brackets a colon was read.
    colon_seen: bool,
}

type Lexed<T> = Result<T, LexError>;

impl<'q> Lexer<'q> {
    pub(crate) fn new(query: &'q str) -> Self {
        Self {
            query,
            start: 0,
            at: 0,
            mode: Mode::Outside,
            open_parens: 0,
            bracket_open: false,
            duration_seen: false,
            colon_seen: false,
        }
    }

    /// The next token; at the end of the query that is `Eof`, again and again.
    pub(crate) fn next_token(&mut self) -> Lexed<Token> {
        self.skip_blanks();
        self.start = self.at;
        let kind = match self.mode {
            Mode::Outside => self.outside()?,
            Mode::Braces => self.braces()?,
            Mode::Brackets => self.brackets()?,
        };
        Ok(Token { kind, start: self.start, end: self.at })
    }

    fn skip_blanks(&mut self) {
        loop {
            match self.peek() {
                Some(' ' | '\t' | '\n' | '\r') => self.at += 1,
                // In brackets a comment is an error, as in Prometheus.
                Some('#') if self.mode != Mode::Brackets => {
                    self.at += self.rest().find('\n').unwrap_or(self.rest().len());
                }
                _ => return,
            }
        }
    }

    fn outside(&mut self) -> Lexed<TokenKind> {
        let Some(c) = self.bump() else {
            return match self.open_parens {
                0 if self.bracket_open => Err(self.error("unclosed left bracket")),
                0 => Ok(TokenKind::Eof),
                _ => Err(self.error("unclosed left parenthesis")),
            };
        };
        Ok(match c {
            ',' => TokenKind::Comma,
            '*' => TokenKind::Op(BinaryOp::Mul),
            '/' => TokenKind::Op(BinaryOp::Div),
            '%' => TokenKind::Op(BinaryOp::Mod),
            '+' => TokenKind::Op(BinaryOp::Add),
            '-' => TokenKind::Op(BinaryOp::Sub),
            '^' => TokenKind::Op(BinaryOp::Pow),
            '@' => TokenKind::At,
            '=' => match self.peek() {
                Some('=') => self.take(TokenKind::Op(BinaryOp::Eq)),
                Some('~') => return Err(self.unexpected_char("unexpected character after '=': ", Some('~'))),
                _ => TokenKind::Assign,
            },
            '!' => match self.peek() {
                Some('=') => self.take(TokenKind::Op(BinaryOp::Ne)),
                other => return Err(self.unexpected_char("unexpected character after '!': ", other)),
            },
            '<' => match self.peek() {
                Some('=') => self.take(TokenKind::Op(BinaryOp::Le)),
                Some('/') => self.take(TokenKind::Op(BinaryOp::TrimUpper)),
                _ => TokenKind::Op(BinaryOp::Lt),
            },
            '>' => match self.peek() {
                Some('=') => self.take(TokenKind::Op(BinaryOp::Ge)),
                Some('/') => self.take(TokenKind::Op(BinaryOp::TrimLower)),
                _ => TokenKind::Op(BinaryOp::Gt),
            },
            '(' => self.open_paren(),
            ')' => return self.close_paren(),
            '{' => {
                self.mode = Mode::Braces;
                TokenKind::LeftBrace
            }
            '[' if self.bracket_open => {
                return Err(self.unexpected_char("unexpected left bracket ", Some(c)));
            }
            '[' => {
                self.mode = Mode::Brackets;
                self.bracket_open = true;
                self.colon_seen = false;
                TokenKind::LeftBracket
            }
            ']' if self.bracket_open => self.close_bracket(),
            ']' => return Err(self.unexpected_char("unexpected right bracket ", Some(c))),
            '"' | '\'' | '`' => return self.string(c),
            c if self.starts_number(c) => return self.number(),
            c if (is_word_start(c) || c == ':') && self.bracket_open => return self.in_brackets(c),
            c if is_word_start(c) || c == ':' => self.word(),
            c => return Err(self.unexpected_char("unexpected character: ", Some(c))),
        })
    }

    fn braces(&mut self) -> Lexed<TokenKind> {
        let Some(c) = self.bump() else {
            return Err(self.error("unexpected end of input inside braces"));
        };
        Ok(match c {
            ',' => TokenKind::Comma,
            '"' | '\'' | '`' => return self.string(c),
            '=' => match self.peek() {
                Some('~') => self.take(TokenKind::EqRegex),
                _ => TokenKind::Assign,
            },
            '!' => match self.peek() {
                Some('~') => self.take(TokenKind::NeRegex),
                Some('=') => self.take(TokenKind::Op(BinaryOp::Ne)),
                other => {
                    return Err(self.unexpected_char("unexpected character after '!' inside braces: ", other));
                }
            },
            '{' => return Err(self.unexpected_char("unexpected left brace ", Some(c))),
            '}' => {
                self.mode = Mode::Outside;
                TokenKind::RightBrace
            }
            c if is_word_start(c) => {
                self.skip_while(is_word_part);
                TokenKind::Identifier
            }
            c => return Err(self.unexpected_char("unexpected character inside braces: ", Some(c))),
        })
    }

    /// Behind `[` until a number or duration was read: nothing but what begins a duration expression.
    fn brackets(&mut self) -> Lexed<TokenKind> {
        const UNEXPECTED: &str = "unexpected character in duration expression: ";
        let Some(c) = self.bump() else {
            return Err(self.error("unexpected end of input in duration expression"));
        };
        Ok(match c {
            ']' => self.close_bracket(),
            ':' => return self.colon(),
            '(' => self.open_paren(),
            ')' => return self.close_paren(),
            ',' => TokenKind::Comma,
            '+' => TokenKind::Op(BinaryOp::Add),
            '-' => TokenKind::Op(BinaryOp::Sub),
            '*' => TokenKind::Op(BinaryOp::Mul),
            '/' => TokenKind::Op(BinaryOp::Div),
            '%' => TokenKind::Op(BinaryOp::Mod),
            '^' => TokenKind::Op(BinaryOp::Pow),
            c if self.starts_number(c) => {
                self.duration_seen = true;
                self.mode = Mode::Outside;
                return self.number();
            }
            c => match self.duration_word(c) {
                Some(kind) => kind,
                None => return Err(self.unexpected_char(UNEXPECTED, Some(c))),
            },
        })
    }

    fn close_bracket(&mut self) -> TokenKind {
        self.mode = Mode::Outside;
        self.bracket_open = false;
        TokenKind::RightBracket
    }

    /// One of the functions of duration expressions.
    fn duration_word(&mut self, first: char) -> Option<TokenKind> {
        if !is_word_start(first) {
            return None;
        }
        self.skip_while(is_word_start);
        match token::word_kind(&self.query[self.start..self.at]) {
            kind @ TokenKind::Bound(
                BoundWord::Step | BoundWord::Range | BoundWord::MinOf | BoundWord::MaxOf,
            ) => {
                self.duration_seen = true;
                Some(kind)
            }
            _ => None,
        }
    }

    fn colon(&mut self) -> Lexed<TokenKind> {
        let message = if !self.duration_seen {
            "unexpected colon before duration in duration expression"
        } else if self.colon_seen {
            "unexpected repeated colon in duration expression"
        } else {
            self.colon_seen = true;
            return Ok(TokenKind::Colon);
        };
        // Both are noticed behind the colon.
        Err(LexError { start: self.at, message: message.to_owned() })
    }

    /// A word or colon behind the first number in brackets.
    fn in_brackets(&mut self, c: char) -> Lexed<TokenKind> {
        if c == ':' {
            if self.colon_seen {
                return Err(self.unexpected_char("unexpected colon ", Some(c)));
            }
            self.colon_seen = true;
            return Ok(TokenKind::Colon);
        }
        self.duration_word(c).ok_or_else(|| {
            let c = pyrrha_model::go_fmt::quote_char(c);
            self.error(format!("unexpected character: {c}, expected ':'"))
        })
    }

    fn open_paren(&mut self) -> TokenKind {
        self.open_parens += 1;
        TokenKind::LeftParen
    }

    fn close_paren(&mut self) -> Lexed<TokenKind> {
        if self.open_parens == 0 {
            // Noticed behind the parenthesis, as in Prometheus.
            self.start = self.at;
            return Err(self.unexpected_char("unexpected right parenthesis ", Some(')')));
        }
        self.open_parens -= 1;
        Ok(TokenKind::RightParen)
    }

    fn word(&mut self) -> TokenKind {
        self.skip_while(|c| is_word_part(c) || c == ':');
        let kind = token::word_kind(&self.query[self.start..self.at]);
        let is_fill =
            matches!(kind, TokenKind::Keyword(Keyword::Fill | Keyword::FillLeft | Keyword::FillRight));
        // A metric may be called `fill`: only `fill (` is the modifier.
        if is_fill && !self.rest().trim_start_matches([' ', '\t', '\n', '\r']).starts_with('(') {
            return TokenKind::Identifier;
        }
        kind
    }

    fn starts_number(&self, c: char) -> bool {
        c.is_ascii_digit() || c == '.' && self.peek().is_some_and(|c| c.is_ascii_digit())
    }

    fn rest(&self) -> &'q str {
        &self.query[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    /// Consumes the ASCII character that was peeked at.
    fn take(&mut self, kind: TokenKind) -> TokenKind {
        self.at += 1;
        kind
    }

    fn skip_while(&mut self, keep: impl Fn(char) -> bool) {
        let rest = self.rest();
        self.at += rest.find(|c| !keep(c)).unwrap_or(rest.len());
    }

    fn error(&self, message: impl Into<String>) -> LexError {
        LexError { start: self.start, message: message.into() }
    }

    fn unexpected_char(&self, what: &str, c: Option<char>) -> LexError {
        // The end of the input is a character that is none.
        self.error(format!("{what}{}", pyrrha_model::go_fmt::quote_char(c.unwrap_or('\u{FFFD}'))))
    }
}

pub(crate) fn is_word_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

pub(crate) fn is_word_part(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}
