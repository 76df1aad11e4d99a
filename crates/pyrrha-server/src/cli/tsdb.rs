//! `pyrrha tsdb …`

mod analyze;
mod dump;
mod list;
mod repair;
mod verify;

use std::process::ExitCode;

use clap::Subcommand;

use super::directory::{DirectoryArgs, Selection};
use super::output;

/// What can be done with a data directory, Prometheus' or Pyrrha's.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Lists the blocks.
    List {
        #[command(flatten)]
        directory: DirectoryArgs,
        /// Times, durations and sizes for humans.
        #[arg(short = 'r', long)]
        human_readable: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Shows what makes a block large: cardinality, churn, chunk fill.
    Analyze(analyze::Args),
    /// Prints series and samples.
    Dump {
        #[command(flatten)]
        directory: DirectoryArgs,
        #[command(flatten)]
        selection: Selection,
        /// Form of the output.
        #[arg(long, value_enum, default_value = "text")]
        format: dump::Format,
    },
    /// Reads everything and says what is damaged; exit code 1 if anything is.
    Verify {
        #[command(flatten)]
        directory: DirectoryArgs,
        /// Print JSON, a line per block.
        #[arg(long)]
        json: bool,
    },
    /// Rewrites damaged blocks from what is readable. The originals stay, under their names with .bak.
    Repair {
        #[command(flatten)]
        directory: DirectoryArgs,
        /// Do it; without this the repair is only described.
        #[arg(long)]
        yes: bool,
        /// Print JSON, a line per block.
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(command: Command) -> ExitCode {
    output::run(|out| match command {
        Command::List { directory, human_readable, json } => list::run(out, &directory, human_readable, json),
        Command::Analyze(args) => analyze::run(out, &args),
        Command::Dump { directory, selection, format } => dump::run(out, &directory, &selection, format),
        Command::Verify { directory, json } => verify::run(out, &directory, json),
        Command::Repair { directory, yes, json } => repair::run(out, &directory, yes, json),
    })
}
