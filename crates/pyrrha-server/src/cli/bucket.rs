//! `pyrrha bucket …`

mod adopt;
mod cleanup;
mod compact;
mod du;
mod jobs;
mod ls;
mod mark;
mod owners;
mod rebuild;
mod replicate;
mod retention;
mod rewrite;
pub(super) mod select;
mod verify;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use pyrrha_bucket::tools::BucketTools;
use pyrrha_bucket::{Bucket, BucketRuntime, BucketTenants, config};
use pyrrha_env::{Clock, OsDisk, SystemClock};
use pyrrha_storage::block::BlockId;

use super::output::{self, CommandError};
use crate::config::{LogFormat, LogLevel};
use crate::logging;
pub(super) use adopt::{print as print_adoption, print_left};
use compact::Task;
pub(super) use owners::OwnerArgs;
pub(super) use select::FormArgs;

/// What can be done with the blocks in an object store.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Lists blocks of Thanos or Mimir in manifests where they are: they become the tenants' own, and nothing is
    /// copied or moved. Done again, it brings in what came meanwhile.
    Adopt(Box<adopt::Args>),
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
    Cleanup(Box<cleanup::Args>),
    /// Makes the manifest of a tenant anew from the blocks that are there.
    RebuildManifest(Box<rebuild::Args>),
    /// Marks blocks: for deletion, to be merged with no other, or to get no windows.
    Mark(Box<mark::MarkArgs>),
    /// Takes marks back, whoever made them.
    Unmark(Box<mark::UnmarkArgs>),
    /// Removes what is past retention, once.
    Retention(Box<retention::Args>),
    /// Writes blocks anew without some series or times, or with other labels.
    Rewrite(Box<rewrite::Args>),
    /// Copies blocks to another bucket; what is there already is not copied again.
    Replicate(Box<replicate::Args>),
    /// Looks whether what the manifests name is there and sound; exit code 1 if it is not.
    Verify(Box<verify::Args>),
}

/// Which bucket.
#[derive(Debug, Clone, Args)]
pub(super) struct BucketArgs {
    /// YAML file that names the bucket, as Thanos reads it.
    #[arg(long = "objstore.config-file", env = "PYRRHA_OBJSTORE_CONFIG_FILE", value_name = "FILE")]
    config_file: PathBuf,
}

/// An open bucket.
#[derive(Clone)]
pub(super) struct Opened {
    pub(super) runtime: Arc<BucketRuntime>,
    pub(super) tenants: Arc<BucketTenants>,
    pub(super) clock: Arc<dyn Clock>,
}

impl BucketArgs {
    /// The bucket that a file names.
    pub(super) fn of_file(config_file: PathBuf) -> Self {
        Self { config_file }
    }

    /// The bucket; a directory must exist, so that a name that is mistyped is no empty bucket.
    pub(super) fn open(&self) -> Result<Opened, CommandError> {
        let file = &self.config_file;
        Opened::new(config::open_existing_file(file), file)
    }

    /// The bucket, for whoever tries what would fill it: a directory is created.
    pub(super) fn open_empty(&self) -> Result<Opened, CommandError> {
        let file = &self.config_file;
        Opened::new(config::open_file(file), file)
    }

    /// The bucket for whoever may be the first to write to it, if it `writes`: then a directory is created, and a
    /// store that ignores conditions is refused.
    pub(super) fn open_to_fill(&self, writes: bool) -> Result<Opened, CommandError> {
        match writes {
            true => self.open_empty()?.probed(true),
            false => self.open(),
        }
    }
}

impl Opened {
    /// A bucket in a directory, for whoever may be the first to write to it, if it `writes`.
    pub(super) fn directory(dir: &Path, writes: bool) -> Result<Self, CommandError> {
        match writes {
            true => Self::new(config::open_directory(dir), dir)?.probed(true),
            false => Self::new(config::open_existing_directory(dir), dir),
        }
    }

    fn new(bucket: Result<Bucket, config::ConfigError>, at: &Path) -> Result<Self, CommandError> {
        // For who has not started it otherwise: why nothing comes of a bucket that hangs.
        logging::start(LogLevel::Warn, LogFormat::Logfmt);
        let bucket = bucket.map_err(|e| CommandError::new(format!("{e} file={}", at.display())))?;
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        let runtime = BucketRuntime::start(threads)
            .map_err(|e| CommandError::new(format!("cannot start threads: {e}")))?;
        let (runtime, clock) = (Arc::new(runtime), Arc::new(SystemClock::new()));
        let tenants = Arc::new(BucketTenants::new(bucket, runtime.clone(), clock.clone()));
        Ok(Self { runtime, tenants, clock })
    }

    /// The bucket, for whoever writes to it if it `writes`: then a store that ignores conditions is refused.
    pub(super) fn probed(self, writes: bool) -> Result<Self, CommandError> {
        if writes {
            let (bucket, id) = (self.tenants.bucket().clone(), BlockId::new(&*self.clock));
            self.runtime.wait(async move { bucket.probe(id).await }).map_err(CommandError::new)?;
        }
        Ok(self)
    }
}

/// The tools over an open bucket.
pub(super) fn tools_of(opened: Opened) -> BucketTools {
    let Opened { runtime, tenants, clock } = opened;
    BucketTools::new(tenants, runtime, Arc::new(OsDisk), clock)
}

pub(super) fn run(command: Command) -> ExitCode {
    match command {
        Command::Adopt(args) => output::run(|out| adopt::run(out, *args)),
        Command::Compact(args) => output::run(|out| compact::run(out, *args, Task::All)),
        Command::Downsample(args) => output::run(|out| compact::run(out, *args, Task::Downsample)),
        Command::Cleanup(args) => output::run(|out| cleanup::run(out, *args)),
        Command::Mark(args) => output::run(|out| mark::mark(out, *args)),
        Command::Unmark(args) => output::run(|out| mark::unmark(out, *args)),
        Command::Retention(args) => output::run(|out| retention::run(out, *args)),
        Command::Rewrite(args) => output::run(|out| rewrite::run(out, *args)),
        Command::Replicate(args) => output::run(|out| replicate::run(out, *args)),
        Command::RebuildManifest(args) => output::run(|out| rebuild::run(out, *args)),
        Command::Jobs(args) => output::run(|out| jobs::run(out, *args)),
        Command::Ls(args) => output::run(|out| ls::run(out, *args, false)),
        Command::Inspect(args) => output::run(|out| ls::run(out, *args, true)),
        Command::Du(args) => output::run(|out| du::run(out, *args)),
        Command::Verify(args) => output::run(|out| verify::run(out, *args)),
    }
}
