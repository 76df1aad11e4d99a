//! What became of a script.

use std::fmt;

use serde::Serialize;

/// The outcome of one script.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ScriptReport {
    /// The script's name, usually its file.
    pub name: String,
    /// Cases that held.
    pub passed: usize,
    /// Cases that did not, and commands that cannot be read.
    pub failed: usize,
    /// What did not hold, and loads that failed.
    pub failures: Vec<Failure>,
}

/// One thing that did not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// Line of the command in the script, from 1.
    pub line: usize,
    /// The query, or the command.
    pub query: String,
    /// Which execution: the query itself, a variant with `@`, the check as range query.
    pub execution: String,
    /// What was expected.
    pub expected: String,
    /// What came.
    pub got: String,
}

impl ScriptReport {
    /// Whether everything held.
    pub fn is_ok(&self) -> bool {
        self.failures.is_empty()
    }
}

impl fmt::Display for ScriptReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} passed, {} failed", self.name, self.passed, self.failed)?;
        for failure in &self.failures {
            let Failure { line, query, execution, expected, got } = failure;
            writeln!(f, "{}:{line}: {query}\n  run:      {execution}", self.name)?;
            writeln!(f, "  expected: {expected}\n  got:      {got}")?;
        }
        Ok(())
    }
}
