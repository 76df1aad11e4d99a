//! `pyrrha bucket …`

mod compact;
mod jobs;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use pyrrha_bucket::{BucketRuntime, BucketTenants, config};
use pyrrha_env::{Clock, SystemClock};

use super::output::{self, CommandError};

/// What can be done with the blocks in an object store.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Merges blocks and removes what is past retention, beside any number of others that do.
    Compact(Box<compact::Args>),
    /// Shows jobs: planned, under way, failed, and how long they take.
    Jobs(Box<jobs::Args>),
}

/// Which bucket.
#[derive(Debug, Args)]
pub(super) struct BucketArgs {
    /// YAML file that names the bucket, as Thanos reads it.
    #[arg(long = "objstore.config-file", env = "PYRRHA_OBJSTORE_CONFIG_FILE", value_name = "FILE")]
    config_file: PathBuf,
}

/// An open bucket.
pub(super) struct Opened {
    pub(super) runtime: Arc<BucketRuntime>,
    pub(super) tenants: Arc<BucketTenants>,
    pub(super) clock: Arc<dyn Clock>,
}

impl BucketArgs {
    pub(super) fn open(&self) -> Result<Opened, CommandError> {
        let file = &self.config_file;
        let bucket =
            config::open_file(file).map_err(|e| CommandError::new(format!("{e} file={}", file.display())))?;
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        let runtime = BucketRuntime::start(threads)
            .map_err(|e| CommandError::new(format!("cannot start threads: {e}")))?;
        let (runtime, clock) = (Arc::new(runtime), Arc::new(SystemClock::new()));
        let tenants = Arc::new(BucketTenants::new(bucket, runtime.clone(), clock.clone()));
        Ok(Opened { runtime, tenants, clock })
    }
}

pub(super) fn run(command: Command) -> ExitCode {
    match command {
        Command::Compact(args) => output::run(|out| compact::run(out, *args)),
        Command::Jobs(args) => output::run(|out| jobs::run(out, *args)),
    }
}
