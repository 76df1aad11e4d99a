//! Simple forms of expressions that need no automaton: finite sets, and literal pieces with `.*`
//! or `.+` between them.

use memchr::memmem::Finder;
use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, Dot, Hir, HirKind, Look, Repetition};

use super::RegexError;

/// How deep groups and repetitions may nest.
pub(super) const NEST_LIMIT: u32 = 250;
/// Members of a set that arises by multiplying alternatives.
const PRODUCT_LIMIT: usize = 1024;
/// Members and bytes of a set in all.
const SET_LIMIT: usize = 1 << 16;
const SET_BYTES: usize = 16 << 20;

/// A part of an expression such as `foo.*bar.+`.
#[derive(Debug, Clone)]
pub(super) enum Piece {
    /// This text, which is UTF-8.
    Literal(Box<Finder<'static>>),
    /// `.*`
    Any,
    /// `.+`
    Some,
}

/// What an expression can be reduced to.
pub(super) enum Form {
    Set(Vec<String>),
    Pieces(Vec<Piece>),
    Other,
}

/// The sorted alternatives of an expression that is only words and `|`: the commonest long form
/// (a dashboard's multi-value variable), read without building a syntax tree.
pub(super) fn plain_alternatives(expression: &str) -> Option<Vec<String>> {
    if expression.len() > SET_BYTES {
        return None;
    }
    let mut words = vec![String::new()];
    let mut chars = expression.chars();
    while let Some(c) = chars.next() {
        let c = match c {
            '|' => {
                words.push(String::new());
                continue;
            }
            '\\' => chars.next().filter(|c| c.is_ascii_punctuation())?,
            '.' | '+' | '*' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '^' | '$' => return None,
            c => c,
        };
        words.last_mut()?.push(c);
    }
    Some(sorted(words))
}

pub(super) fn parse(translated: &str, expression: &str) -> Result<Hir, RegexError> {
    ParserBuilder::new()
        .utf8(false)
        .dot_matches_new_line(true)
        .nest_limit(NEST_LIMIT)
        .build()
        .parse(translated)
        .map_err(|_| RegexError::too_large(expression))
}

pub(super) fn form(hir: &Hir) -> Form {
    if let Some(words) = set(hir, true, true) {
        return Form::Set(sorted(words));
    }
    let mut pieces = Vec::new();
    match collect_pieces(hir, &mut pieces, true) {
        Some(()) => Form::Pieces(pieces),
        None => Form::Other,
    }
}

/// The literal with which every match begins.
pub(super) fn prefix(hir: &Hir) -> Option<String> {
    match hir.kind() {
        HirKind::Literal(literal) => String::from_utf8(literal.0.to_vec()).ok(),
        HirKind::Capture(capture) => prefix(&capture.sub),
        HirKind::Concat(parts) => {
            let first = parts.iter().find(|p| !matches!(p.kind(), HirKind::Look(Look::Start)))?;
            prefix(first)
        }
        _ => None,
    }
}

/// Whether the whole of `text` consists of the pieces, in order.
pub(super) fn pieces_match(pieces: &[Piece], text: &str) -> bool {
    let (mut rest, mut gap) = (text, None);
    for (i, piece) in pieces.iter().enumerate() {
        let literal = match piece {
            Piece::Any => {
                gap = Some(false);
                continue;
            }
            Piece::Some => {
                gap = Some(true);
                continue;
            }
            Piece::Literal(literal) => literal,
        };
        rest = match gap.take() {
            None if rest.as_bytes().starts_with(literal.needle()) => &rest[literal.needle().len()..],
            None => return false,
            Some(needs_one) => {
                let Some(searched) = after_gap(rest, needs_one) else { return false };
                if i + 1 == pieces.len() {
                    return searched.as_bytes().ends_with(literal.needle());
                }
                // The leftmost place leaves the most for what follows. Text of UTF-8 is found between characters
                // only.
                match literal.find(searched.as_bytes()) {
                    Some(at) => &searched[at + literal.needle().len()..],
                    None => return false,
                }
            }
        };
    }
    match gap {
        None => rest.is_empty(),
        Some(needs_one) => !needs_one || !rest.is_empty(),
    }
}

fn after_gap(rest: &str, needs_one: bool) -> Option<&str> {
    if !needs_one {
        return Some(rest);
    }
    let mut chars = rest.chars();
    chars.next().map(|_| chars.as_str())
}

fn sorted(mut words: Vec<String>) -> Vec<String> {
    words.sort_unstable();
    words.dedup();
    words
}

/// All strings that `hir` matches, if they are few. An anchor counts as nothing where it stands at
/// the edge of the (anchored) whole.
fn set(hir: &Hir, at_start: bool, at_end: bool) -> Option<Vec<String>> {
    match hir.kind() {
        HirKind::Empty => Some(vec![String::new()]),
        HirKind::Literal(literal) => Some(vec![String::from_utf8(literal.0.to_vec()).ok()?]),
        HirKind::Class(class) => class_members(class),
        HirKind::Look(Look::Start) if at_start => Some(vec![String::new()]),
        HirKind::Look(Look::End) if at_end => Some(vec![String::new()]),
        HirKind::Look(_) => None,
        HirKind::Repetition(Repetition { min: 0, max: Some(1), sub, .. }) => {
            let mut words = set(sub, false, false)?;
            words.push(String::new());
            Some(words)
        }
        HirKind::Repetition(_) => None,
        HirKind::Capture(capture) => set(&capture.sub, at_start, at_end),
        HirKind::Concat(parts) => {
            let mut words = vec![String::new()];
            for (i, part) in parts.iter().enumerate() {
                let all_empty = words.len() == 1 && words[0].is_empty();
                let next = set(part, at_start && all_empty, at_end && i + 1 == parts.len())?;
                if words.len() * next.len() > PRODUCT_LIMIT && words.len() > 1 && next.len() > 1 {
                    return None;
                }
                let bytes = |words: &[String]| words.iter().map(String::len).sum::<usize>();
                if bytes(&words) * next.len() + bytes(&next) * words.len() > SET_BYTES {
                    return None;
                }
                words = words.iter().flat_map(|a| next.iter().map(move |b| format!("{a}{b}"))).collect();
            }
            Some(words)
        }
        HirKind::Alternation(branches) => {
            let mut words = Vec::new();
            for branch in branches {
                words.extend(set(branch, at_start, at_end)?);
                if words.len() > SET_LIMIT {
                    return None;
                }
            }
            Some(words)
        }
    }
}

fn class_members(class: &Class) -> Option<Vec<String>> {
    const LIMIT: usize = 64;
    let Class::Unicode(class) = class else { return None };
    let mut members = Vec::new();
    for range in class.ranges() {
        for c in range.start()..=range.end() {
            if members.len() == LIMIT {
                return None;
            }
            members.push(c.to_string());
        }
    }
    Some(members)
}

fn collect_pieces(hir: &Hir, pieces: &mut Vec<Piece>, at_end: bool) -> Option<()> {
    match hir.kind() {
        HirKind::Empty => Some(()),
        HirKind::Look(Look::Start) if pieces.is_empty() => Some(()),
        HirKind::Look(Look::End) if at_end => Some(()),
        HirKind::Literal(literal) => {
            let text = std::str::from_utf8(&literal.0).ok()?;
            let finder = |needle: &[u8]| Box::new(Finder::new(needle).into_owned());
            match pieces.last_mut() {
                Some(Piece::Literal(before)) => {
                    *before = finder(&[before.needle(), text.as_bytes()].concat())
                }
                _ => pieces.push(Piece::Literal(finder(text.as_bytes()))),
            }
            Some(())
        }
        HirKind::Repetition(Repetition { min: min @ (0 | 1), max: None, sub, .. }) if is_dot(sub) => {
            match (pieces.last_mut(), min) {
                // `.+.+` needs two.
                (Some(Piece::Some), 1) => return None,
                (Some(Piece::Some), _) | (Some(Piece::Any), 0) => {}
                (Some(last @ Piece::Any), _) => *last = Piece::Some,
                (_, 0) => pieces.push(Piece::Any),
                _ => pieces.push(Piece::Some),
            }
            Some(())
        }
        HirKind::Capture(capture) => collect_pieces(&capture.sub, pieces, at_end),
        HirKind::Concat(parts) => {
            for (i, part) in parts.iter().enumerate() {
                collect_pieces(part, pieces, at_end && i + 1 == parts.len())?;
            }
            Some(())
        }
        _ => None,
    }
}

fn is_dot(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Capture(capture) => is_dot(&capture.sub),
        _ => *hir == Hir::dot(Dot::AnyChar),
    }
}
