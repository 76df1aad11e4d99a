//! `pyrrha promql …`

use std::process::ExitCode;

use clap::Subcommand;
use pyrrha_promql::Features;

/// What can be done with PromQL.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Prints an expression in standard form.
    Format {
        /// The expression.
        query: String,
    },
    /// Checks an expression and prints it in one line.
    Parse {
        /// The expression.
        query: String,
    },
}

pub(super) fn run(command: Command) -> ExitCode {
    let (Command::Format { query } | Command::Parse { query }) = &command;
    match pyrrha_promql::parse(query, &Features::all()) {
        Ok(expr) => {
            match command {
                Command::Format { .. } => println!("{}", pyrrha_promql::printer::pretty(&expr)),
                Command::Parse { .. } => println!("{expr}"),
            }
            ExitCode::SUCCESS
        }
        Err(error) => super::fail(error),
    }
}
