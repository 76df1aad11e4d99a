//! The script language: `clear`, `load`, `eval` and what an `eval` expects.

mod eval;
mod load;
#[cfg(test)]
mod tests;

pub use eval::{Eval, Expectation, ExpectedSeries, Range, TextMatch, When};
pub use load::Load;

/// A command of a script.
#[derive(Debug)]
pub enum Command {
    /// Empties the store.
    Clear,
    /// Adds samples.
    Load(Load),
    /// A query and what it shall return: one case.
    Eval(Box<Eval>),
}

/// A command and the line it begins at, from 1. An `eval` that cannot be read is still a case.
#[derive(Debug)]
pub struct ScriptItem {
    /// Line.
    pub line: usize,
    /// The command as far as it could be read.
    pub command: Result<Command, ScriptError>,
}

/// Why a command could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ScriptError {
    /// Line, from 1.
    pub line: usize,
    /// Text of that line.
    pub text: String,
    /// What is wrong.
    pub message: String,
    /// Whether the command is an `eval`, and so a case.
    pub is_case: bool,
}

/// A line of a block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'a> {
    pub(crate) number: usize,
    pub(crate) text: &'a str,
}

impl Line<'_> {
    pub(crate) fn error(&self, message: impl Into<String>) -> ScriptError {
        ScriptError { line: self.number, text: self.text.to_owned(), message: message.into(), is_case: false }
    }
}

/// Splits a script into its commands.
pub fn parse_script(text: &str) -> Vec<ScriptItem> {
    // A comment is an empty line, and so ends a block.
    let lines: Vec<Line<'_>> = text
        .split('\n')
        .enumerate()
        .map(|(i, l)| Line { number: i + 1, text: if l.trim().starts_with('#') { "" } else { l.trim() } })
        .collect();
    let mut items = Vec::new();
    let mut rest = lines.as_slice();
    while let Some((head, after)) = rest.split_first() {
        rest = after;
        if head.text.is_empty() {
            continue;
        }
        let word = head.text.split([' ', '\t']).next().unwrap_or("").to_ascii_lowercase();
        let has_block = word.starts_with("load") || word.starts_with("eval");
        let block_len = if has_block { block_len(after) } else { 0 };
        let (block, after) = after.split_at(block_len);
        rest = after;
        let command = if word == "clear" {
            Ok(Command::Clear)
        } else if word.starts_with("load") {
            load::parse(*head, block).map(Command::Load)
        } else if word.starts_with("eval") {
            let eval = eval::parse(*head, block);
            eval.map(|e| Command::Eval(Box::new(e))).map_err(|e| ScriptError { is_case: true, ..e })
        } else {
            Err(head.error(format!("invalid command {word:?}")))
        };
        items.push(ScriptItem { line: head.number, command });
    }
    items
}

/// Lines up to the next empty one.
fn block_len(lines: &[Line<'_>]) -> usize {
    lines.iter().position(|l| l.text.is_empty()).unwrap_or(lines.len())
}
