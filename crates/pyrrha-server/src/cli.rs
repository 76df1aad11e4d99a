//! The command line: `pyrrha <noun> <verb>`.

mod backup;
mod bucket;
mod directory;
mod export;
mod import;
mod migrate;
mod output;
mod progress;
mod promql;
mod query;
mod server;
mod tsdb;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A Prometheus-compatible time-series database.
#[derive(Debug, Parser)]
#[command(name = "pyrrha", version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the database: remote write in, PromQL out.
    Server(Box<crate::config::Flags>),
    /// Tests, formats and parses PromQL.
    Promql {
        #[command(subcommand)]
        command: promql::Command,
    },
    /// Asks a running server.
    Query {
        #[command(subcommand)]
        command: query::Command,
    },
    /// Looks into data directories, Prometheus' or Pyrrha's, and mends them.
    Tsdb {
        #[command(subcommand)]
        command: tsdb::Command,
    },
    /// Looks after the blocks in an object store, and shows what there is to do.
    Bucket {
        #[command(subcommand)]
        command: bucket::Command,
    },
    /// Makes, verifies and restores backups of the blocks in an object store.
    Backup {
        #[command(subcommand)]
        command: backup::Command,
    },
    /// Takes over a bucket of Thanos, Mimir or Cortex, and shows that the answers are the same.
    Migrate {
        #[command(subcommand)]
        command: migrate::Command,
    },
    /// Writes series and samples of a data directory for other tools.
    Export(export::Args),
    /// Brings data of other systems into a data directory.
    Import {
        #[command(subcommand)]
        command: import::Command,
    },
}

/// Runs the command that the process' arguments name.
pub fn run() -> ExitCode {
    match Cli::parse().command {
        Command::Server(flags) => server::run(*flags),
        Command::Promql { command } => promql::run(command),
        Command::Query { command } => query::run(command),
        Command::Tsdb { command } => tsdb::run(command),
        Command::Bucket { command } => bucket::run(command),
        Command::Backup { command } => backup::run(command),
        Command::Migrate { command } => migrate::run(command),
        Command::Export(args) => export::run(args),
        Command::Import { command } => import::run(command),
    }
}

/// Says in one line what stopped the command.
fn fail(error: impl std::fmt::Display) -> ExitCode {
    eprintln!("pyrrha: {error}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn arguments_of_all_commands_go_together() {
        super::Cli::command().debug_assert();
    }
}
