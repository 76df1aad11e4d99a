//! `pyrrha import …`

mod openmetrics;
mod prometheus;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Subcommand;
use pyrrha_env::{OsDisk, SystemClock};
use pyrrha_model::TenantId;
use pyrrha_storage::backfill::{BackfillError, Published, Target};
use pyrrha_storage::prometheus::LogError;

use super::output::{self, CommandError};

/// What can be imported.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Makes blocks of OpenMetrics text with times, in bounded memory.
    Openmetrics(openmetrics::Args),
    /// Takes over a data directory of Prometheus: its blocks, by hard links, and its log.
    Prometheus(prometheus::Args),
}

/// Where imported data goes.
#[derive(Debug, clap::Args)]
struct TargetArgs {
    /// Data directory, which no server may have open.
    #[arg(long = "storage.path", env = "PYRRHA_STORAGE_PATH", value_name = "DIR", default_value = "./data")]
    storage_path: PathBuf,
    /// Tenant whose data it becomes.
    #[arg(long, default_value = "anonymous")]
    tenant: String,
}

impl TargetArgs {
    fn open(&self) -> Result<Target, CommandError> {
        let tenant = TenantId::new(&self.tenant).map_err(CommandError::new)?;
        let clock = Arc::new(SystemClock::new());
        Ok(Target::tenant(Arc::new(OsDisk), clock, &self.storage_path, &tenant)?)
    }
}

pub(super) fn run(command: Command) -> ExitCode {
    output::run(|out| match command {
        Command::Openmetrics(args) => openmetrics::run(out, &args),
        Command::Prometheus(args) => prometheus::run(out, &args),
    })
}

/// One line about blocks that became live.
fn summary(published: &Published) -> String {
    format!("blocks added={} already there={}", published.added.len(), published.known.len())
}

impl From<BackfillError> for CommandError {
    fn from(error: BackfillError) -> Self {
        Self::new(error)
    }
}

impl From<LogError> for CommandError {
    fn from(error: LogError) -> Self {
        Self::new(error)
    }
}
