//! Tokens of PromQL, and how errors name them.

use pyrrha_model::go_fmt;

use crate::ast::{AggregateOp, BinaryOp};

/// Words that only mean something at certain places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keyword {
    Anchored,
    Bool,
    By,
    Fill,
    FillLeft,
    FillRight,
    GroupLeft,
    GroupRight,
    Ignoring,
    Offset,
    On,
    Smoothed,
    Without,
}

/// Words that are a function of durations or bounds when `(` follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BoundWord {
    Start,
    End,
    Step,
    Range,
    MinOf,
    MaxOf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenKind {
    Eof,
    Identifier,
    MetricIdentifier,
    Number,
    Duration,
    String,
    LeftParen,
    RightParen,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    Comma,
    Colon,
    /// `=`
    Assign,
    /// `=~`
    EqRegex,
    /// `!~`
    NeRegex,
    /// `@`
    At,
    Op(BinaryOp),
    Aggregate(AggregateOp),
    Keyword(Keyword),
    Bound(BoundWord),
}

/// A token: its kind and its bytes in the query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Token {
    pub(crate) fn text<'q>(&self, query: &'q str) -> &'q str {
        query.get(self.start..self.end).unwrap_or("")
    }

    /// The token as "unexpected ..." names it.
    pub(crate) fn describe(&self, query: &str) -> String {
        let text = self.text(query);
        match self.kind {
            TokenKind::Eof => "end of input".to_owned(),
            TokenKind::Identifier => format!("identifier {}", go_fmt::quote(text)),
            TokenKind::MetricIdentifier => format!("metric identifier {}", go_fmt::quote(text)),
            TokenKind::Number => format!("number {}", shortened(text)),
            TokenKind::Duration => format!("duration {}", shortened(text)),
            TokenKind::String => format!("string {}", shortened(text)),
            TokenKind::Keyword(_) => format!("<{text}>"),
            TokenKind::Op(_) | TokenKind::EqRegex | TokenKind::NeRegex | TokenKind::At => {
                format!("<op:{text}>")
            }
            TokenKind::Aggregate(_) => format!("<aggr:{text}>"),
            TokenKind::LeftParen
            | TokenKind::RightParen
            | TokenKind::LeftBrace
            | TokenKind::RightBrace
            | TokenKind::LeftBracket
            | TokenKind::RightBracket
            | TokenKind::Comma
            | TokenKind::Colon
            | TokenKind::Assign
            | TokenKind::Bound(_) => go_fmt::quote(text),
        }
    }
}

/// Quoted; of more than ten bytes only the first ten characters.
fn shortened(text: &str) -> String {
    if text.len() > 10 {
        let head: String = text.chars().take(10).collect();
        format!("{}...", go_fmt::quote(&head))
    } else {
        go_fmt::quote(text)
    }
}

/// The kind of a word outside braces; case does not matter for keywords.
pub(crate) fn word_kind(word: &str) -> TokenKind {
    use TokenKind::{Aggregate, Bound, Op};
    const LONGEST_KEYWORD: usize = 12;
    if word.contains(':') {
        return TokenKind::MetricIdentifier;
    }
    if word.len() > LONGEST_KEYWORD {
        return TokenKind::Identifier;
    }
    let keyword = TokenKind::Keyword;
    match word.to_ascii_lowercase().as_str() {
        "and" => Op(BinaryOp::And),
        "or" => Op(BinaryOp::Or),
        "unless" => Op(BinaryOp::Unless),
        "atan2" => Op(BinaryOp::Atan2),
        "sum" => Aggregate(AggregateOp::Sum),
        "avg" => Aggregate(AggregateOp::Avg),
        "count" => Aggregate(AggregateOp::Count),
        "min" => Aggregate(AggregateOp::Min),
        "max" => Aggregate(AggregateOp::Max),
        "group" => Aggregate(AggregateOp::Group),
        "stddev" => Aggregate(AggregateOp::Stddev),
        "stdvar" => Aggregate(AggregateOp::Stdvar),
        "topk" => Aggregate(AggregateOp::Topk),
        "bottomk" => Aggregate(AggregateOp::Bottomk),
        "count_values" => Aggregate(AggregateOp::CountValues),
        "quantile" => Aggregate(AggregateOp::Quantile),
        "limitk" => Aggregate(AggregateOp::Limitk),
        "limit_ratio" => Aggregate(AggregateOp::LimitRatio),
        "offset" => keyword(Keyword::Offset),
        "smoothed" => keyword(Keyword::Smoothed),
        "anchored" => keyword(Keyword::Anchored),
        "by" => keyword(Keyword::By),
        "without" => keyword(Keyword::Without),
        "on" => keyword(Keyword::On),
        "ignoring" => keyword(Keyword::Ignoring),
        "group_left" => keyword(Keyword::GroupLeft),
        "group_right" => keyword(Keyword::GroupRight),
        "bool" => keyword(Keyword::Bool),
        "fill" => keyword(Keyword::Fill),
        "fill_left" => keyword(Keyword::FillLeft),
        "fill_right" => keyword(Keyword::FillRight),
        "start" => Bound(BoundWord::Start),
        "end" => Bound(BoundWord::End),
        "step" => Bound(BoundWord::Step),
        "range" => Bound(BoundWord::Range),
        "min_of" => Bound(BoundWord::MinOf),
        "max_of" => Bound(BoundWord::MaxOf),
        "inf" | "nan" => TokenKind::Number,
        _ => TokenKind::Identifier,
    }
}
