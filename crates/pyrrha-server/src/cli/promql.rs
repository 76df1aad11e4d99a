//! `pyrrha promql …`

mod scripts;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use pyrrha_promql::Features;

/// What can be done with PromQL.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Prints an expression in standard form.
    Format {
        /// The expression.
        #[arg(allow_hyphen_values = true)]
        query: String,
    },
    /// Checks an expression and prints it in one line.
    Parse {
        /// The expression.
        #[arg(allow_hyphen_values = true)]
        query: String,
    },
    /// Runs test scripts against the engine over a database in a temporary directory.
    Test {
        /// Scripts in the promqltest language.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Print the report as JSON.
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(command: Command) -> ExitCode {
    match command {
        Command::Format { query } => print_parsed(&query, pyrrha_promql::printer::pretty),
        Command::Parse { query } => print_parsed(&query, ToString::to_string),
        Command::Test { files, json } => scripts::run(&files, json),
    }
}

fn print_parsed(query: &str, print: impl Fn(&pyrrha_promql::ast::Expr) -> String) -> ExitCode {
    match pyrrha_promql::parse(query, &Features::all()) {
        Ok(expr) => {
            println!("{}", print(&expr));
            ExitCode::SUCCESS
        }
        Err(error) => super::fail(error),
    }
}
