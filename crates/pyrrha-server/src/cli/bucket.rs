//! `pyrrha bucket …`

mod compact;
mod du;
mod jobs;
mod ls;
mod rebuild;
mod replicate;
mod select;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use pyrrha_bucket::tools::BucketTools;
use pyrrha_bucket::{BucketRuntime, BucketTenants, config};
use pyrrha_env::{Clock, OsDisk, SystemClock};

use super::output::{self, CommandError};
use compact::Task;

/// What can be done with the blocks in an object store.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Merges blocks and removes what is past retention, beside any number of others that do.
    Compact(Box<compact::Args>),
    /// Shows jobs: planned, under way, failed, and how long they take.
    Jobs(Box<jobs::Args>),
    /// Lists live blocks, by the manifests alone.
    Ls(Box<ls::Args>),
    /// Lists live blocks with what their metas say.
    Inspect(Box<ls::Args>),
    /// Shows how much room blocks, orphans and the rest take.
    Du(Box<du::Args>),
    /// Makes the windows that are to be made, and ends; other jobs are left alone.
    Downsample(Box<compact::Args>),
    /// Removes what jobs left and has been left for the delay, ends jobs of dead workers, and ends.
    Cleanup(Box<compact::Args>),
    /// Makes the manifest of a tenant anew from the blocks that are there.
    RebuildManifest(Box<rebuild::Args>),
    /// Copies blocks to another bucket; what is there already is not copied again.
    Replicate(Box<replicate::Args>),
    /// Looks whether what the manifests name is there and sound; exit code 1 if it is not.
    Verify(Box<verify::Args>),
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

/// The tools over an open bucket.
fn tools_of(opened: Opened) -> BucketTools {
    let Opened { runtime, tenants, clock } = opened;
    BucketTools::new(tenants, runtime, Arc::new(OsDisk), clock)
}

pub(super) fn run(command: Command) -> ExitCode {
    match command {
        Command::Compact(args) => output::run(|out| compact::run(out, *args, Task::All)),
        Command::Downsample(args) => output::run(|out| compact::run(out, *args, Task::Downsample)),
        Command::Cleanup(args) => output::run(|out| compact::run(out, *args, Task::CleanUp)),
        Command::Replicate(args) => output::run(|out| replicate::run(out, *args)),
        Command::RebuildManifest(args) => output::run(|out| rebuild::run(out, *args)),
        Command::Jobs(args) => output::run(|out| jobs::run(out, *args)),
        Command::Ls(args) => output::run(|out| ls::run(out, *args, false)),
        Command::Inspect(args) => output::run(|out| ls::run(out, *args, true)),
        Command::Du(args) => output::run(|out| du::run(out, *args)),
        Command::Verify(args) => output::run(|out| verify::run(out, *args)),
    }
}
