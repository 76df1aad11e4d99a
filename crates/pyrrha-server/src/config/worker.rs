//! Settings of workers on a bucket that are no servers: flags, and the file that servers of the bucket have.

use std::path::PathBuf;

use clap::Args;

use super::{CompactorFlags, CompactorSettings, ConfigError, file, limits};

/// Flags of a worker.
#[derive(Debug, Default, Args)]
pub struct WorkerFlags {
    /// YAML file of settings that servers of the bucket have: its sections `compactor` and `limits` count, so that
    /// all agree on how long which tenant's samples stay. Flags go before it.
    #[arg(long = "config.file", env = "PYRRHA_CONFIG_FILE", value_name = "FILE")]
    pub settings_file: Option<PathBuf>,
    /// What is set for this worker alone.
    #[command(flatten)]
    pub compactor: CompactorFlags,
}

impl WorkerFlags {
    /// The settings of a worker: of its flags, else of the file, else the defaults. All of the file is checked.
    pub(crate) fn resolve(self) -> Result<CompactorSettings, ConfigError> {
        let (file, _) = file::load(self.settings_file.as_deref())?;
        let limits = limits::resolve(file.limits)?;
        CompactorSettings::resolve(self.compactor, None, file.compactor, &limits)
    }
}
