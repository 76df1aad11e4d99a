//! The parser of PromQL: precedence climbing with one token of lookahead (decision 35).
//!
//! The first error is the one reported, with Prometheus' text and position. Types are checked only
//! when the syntax is right.

mod binary;
mod call;
mod check;
mod duration;
mod error;
mod expr;
mod postfix;
mod selector;
#[cfg(test)]
mod tests;

pub use error::{ParseError, SelectorError, line_and_column};

use pyrrha_model::Matcher;
use pyrrha_model::go_regex::GoRegex;

use crate::ast::{Expr, Pos};
use crate::depth::{ORDINARY_HEIGHT, with_room};
use crate::features::Features;
use crate::lexer::{Lexer, Token, TokenKind, unquote};

/// How deep an expression may be.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Most levels of nesting that are read recursively (parentheses, arguments, unary operators).
    nesting: usize,
    /// Greatest height of a syntax tree: a chain of binary operators is as high as it is long. It
    /// bounds the recursion of everything that walks a tree.
    height: usize,
    /// Greatest height where chains of left operands count once: those are dropped and printed in a loop.
    turns: usize,
    /// Most operators of a duration expression.
    durations: usize,
}

impl Limits {
    /// What any thread has the stack for: nearly all expressions.
    const ORDINARY: Self = Self { nesting: 128, height: ORDINARY_HEIGHT, turns: 512, durations: 128 };
    /// Read and walked on a thread with a stack of its own. Pretty printed, a chain takes as many bytes as the
    /// square of its length: some 40 MB then.
    const DEEPEST: Self = Self { nesting: 1000, height: 4096, turns: 2048, durations: 128 };
}

/// Longest text, bytes. Positions in it are 32 bits wide, and what is made of it takes many times as much.
pub const TEXT_BYTES_MAX: usize = 1 << 20;

/// Bytes that the compiled regular expressions of a query's selectors may take together, see [`program_bytes`].
pub const PROGRAM_BYTES_MAX: usize = 64 << 20;

/// Parses a query and checks its types.
pub fn parse(query: &str, features: &Features) -> Result<Expr, ParseError> {
    check_length(query)?;
    let mut parser = Parser::new(query, features);
    let read = parser.checked_query();
    if !parser.too_deep {
        return read;
    }
    let deeper = || Parser { limits: Limits::DEEPEST, ..Parser::new(query, features) }.checked_query();
    // An error that says how deep is too deep, if there is no thread for it.
    with_room(Limits::DEEPEST.height, deeper).unwrap_or(read)
}

/// Parses a selector as `match[]` takes it: a name, matchers, nothing else.
pub fn parse_selector(query: &str) -> Result<Vec<Matcher>, SelectorError> {
    check_length(query)?;
    let matchers = Parser::new(query, &Features::default()).lone_selector()?;
    if matchers.iter().all(Matcher::matches_empty) {
        return Err(SelectorError::Empty);
    }
    Ok(matchers)
}

/// About how many bytes the compiled regular expressions of matchers take.
pub fn program_bytes<'a>(matchers: impl IntoIterator<Item = &'a Matcher>) -> usize {
    matchers.into_iter().filter_map(Matcher::regex).map(GoRegex::program_bytes).sum()
}

fn check_length(query: &str) -> Parsed<()> {
    if query.len() <= TEXT_BYTES_MAX {
        return Ok(());
    }
    let message = format!("query is too long: bytes={} limit={TEXT_BYTES_MAX}", query.len());
    Err(ParseError::new("", Pos::default(), message))
}

type Parsed<T> = Result<T, ParseError>;

/// How high an expression is, see [`Limits`].
#[derive(Debug, Clone, Copy)]
struct Size {
    height: usize,
    turns: usize,
}

impl Size {
    const NOTHING: Self = Self { height: 0, turns: 0 };
    const LEAF: Self = Self { height: 1, turns: 1 };

    fn max(self, other: Self) -> Self {
        Self { height: self.height.max(other.height), turns: self.turns.max(other.turns) }
    }
}

struct Parser<'q> {
    query: &'q str,
    features: &'q Features,
    lexer: Lexer<'q>,
    lookahead: Option<Token>,
    /// End of the last token consumed.
    last_end: usize,
    /// Levels of nesting at the moment.
    nesting: usize,
    /// Aggregations around this place whose parentheses are open.
    open_aggregations: usize,
    limits: Limits,
    /// Whether a limit was met.
    too_deep: bool,
    /// Size of the expression read last.
    size: Size,
    /// Operators of the duration expression being read.
    duration_operators: usize,
    /// Bytes of the regular expressions that were compiled.
    program_bytes: usize,
}

impl<'q> Parser<'q> {
    fn new(query: &'q str, features: &'q Features) -> Self {
        Self {
            query,
            features,
            lexer: Lexer::new(query),
            lookahead: None,
            last_end: 0,
            nesting: 0,
            open_aggregations: 0,
            limits: Limits::ORDINARY,
            too_deep: false,
            size: Size::LEAF,
            duration_operators: 0,
            program_bytes: 0,
        }
    }

    fn checked_query(&mut self) -> Parsed<Expr> {
        let mut expr = self.query()?;
        check::check(self.query, &mut expr)?;
        Ok(expr)
    }

    fn query(&mut self) -> Parsed<Expr> {
        if self.peek()?.kind == TokenKind::Eof {
            return Err(self.error_at(0, "no expression found in input"));
        }
        let expr = self.expr(0)?;
        match self.peek()?.kind {
            TokenKind::Eof => Ok(expr),
            _ => self.unexpected_here(),
        }
    }

    fn lone_selector(&mut self) -> Parsed<Vec<Matcher>> {
        let first = self.peek()?;
        let selector = match first.kind {
            TokenKind::LeftBrace => self.selector(None)?,
            kind if expr::is_metric_word(kind) => {
                self.next()?;
                self.selector(Some(first))?
            }
            _ => return self.unexpected_here(),
        };
        check::selector(self.query, &selector)?;
        match self.peek()?.kind {
            TokenKind::Eof => Ok(selector.matchers),
            _ => self.unexpected_here(),
        }
    }

    fn peek(&mut self) -> Parsed<Token> {
        if let Some(token) = self.lookahead {
            return Ok(token);
        }
        match self.lexer.next_token() {
            Ok(token) => Ok(*self.lookahead.insert(token)),
            Err(e) => Err(self.error_at(e.start, e.message)),
        }
    }

    /// Consumes the next token, which was peeked at.
    fn next(&mut self) -> Parsed<Token> {
        let token = self.peek()?;
        self.lookahead = None;
        self.last_end = token.end;
        Ok(token)
    }

    fn next_if(&mut self, kind: TokenKind) -> Parsed<Option<Token>> {
        if self.peek()?.kind == kind { self.next().map(Some) } else { Ok(None) }
    }

    /// From `start` to the end of the last token.
    fn pos_from(&self, start: usize) -> Pos {
        Pos { start: start as u32, end: self.last_end as u32 }
    }

    fn token_pos(token: Token) -> Pos {
        Pos { start: token.start as u32, end: token.end as u32 }
    }

    fn text(&self, token: Token) -> &'q str {
        token.text(self.query)
    }

    fn unquoted(&self, token: Token) -> Parsed<String> {
        let text = self.text(token);
        unquote(text).ok_or_else(|| {
            let quoted = pyrrha_model::go_fmt::quote(text);
            self.error_at(token.start, format!("error unquoting string {quoted}: invalid syntax"))
        })
    }

    fn error_at(&self, start: usize, message: impl Into<String>) -> ParseError {
        let at = start as u32;
        ParseError::new(self.query, Pos { start: at, end: at }, message)
    }

    fn error(&self, pos: Pos, message: impl Into<String>) -> ParseError {
        ParseError::new(self.query, pos, message)
    }

    /// `unexpected X in <context>, expected <what>` at the lookahead.
    fn unexpected<T>(&mut self, context: &str, expected: &str) -> Parsed<T> {
        let token = self.peek()?;
        let mut message = format!("unexpected {}", token.describe(self.query));
        if !context.is_empty() {
            message.push_str(" in ");
            message.push_str(context);
        }
        if !expected.is_empty() {
            message.push_str(", expected ");
            message.push_str(expected);
        }
        Err(self.error_at(token.start, message))
    }

    /// `unexpected X` where nothing nearer names the context: an open aggregation does.
    fn unexpected_here<T>(&mut self) -> Parsed<T> {
        self.unexpected(if self.open_aggregations > 0 { "aggregation" } else { "" }, "")
    }

    /// Runs `read` one level deeper.
    fn nested<T>(&mut self, start: usize, read: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        self.nesting += 1;
        if self.nesting > self.limits.nesting {
            return Err(self.too_deep(start));
        }
        let result = read(self);
        self.nesting -= 1;
        result
    }

    /// Notes the size of an expression whose operands have at most this one.
    fn raise(&mut self, operands: Size, start: usize) -> Parsed<()> {
        self.grow(Size { height: operands.height + 1, turns: operands.turns + 1 }, start)
    }

    /// Notes the size of a binary operator.
    fn raise_binary(&mut self, lhs: Size, rhs: Size, start: usize) -> Parsed<()> {
        let size = Size { height: lhs.height.max(rhs.height) + 1, turns: lhs.turns.max(rhs.turns + 1) };
        self.grow(size, start)
    }

    fn grow(&mut self, size: Size, start: usize) -> Parsed<()> {
        self.size = size;
        let within = size.height <= self.limits.height && size.turns <= self.limits.turns;
        if within { Ok(()) } else { Err(self.too_deep(start)) }
    }

    fn too_deep(&mut self, start: usize) -> ParseError {
        self.too_deep = true;
        let Limits { nesting, height, .. } = Limits::DEEPEST;
        self.error_at(
            start,
            format!("expression is nested too deeply: at most {nesting} levels and {height} operators"),
        )
    }
}
