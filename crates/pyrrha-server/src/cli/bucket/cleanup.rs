//! `pyrrha bucket cleanup`.

use std::io::Write;
use std::time::Duration;

use super::compact::{self, Task};
use super::tools_of;
use crate::cli::output::{CommandError, Out, size};
use crate::config::span;

// The worker's arguments are a group of the same name.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    worker: compact::Args,
    /// Remove blocks, too, that neither manifests nor jobs name and of which nothing was written for so
    /// long: uploads that were given up, or blocks of others.
    #[arg(long, value_name = "DURATION", value_parser = span)]
    orphans_older_than: Option<Duration>,
}

pub(super) fn run(out: &mut Out, args: Args) -> Result<bool, CommandError> {
    let (bucket, dry_run) = (args.worker.bucket().clone(), args.worker.is_dry_run());
    // What could not be cleaned up may be what a job still names.
    let good = compact::run(out, args.worker, Task::CleanUp)?;
    let Some(older_than) = args.orphans_older_than else { return Ok(good) };
    if !good {
        eprintln!("orphans are left alone, as not all could be cleaned up: the log says what");
        return Ok(false);
    }
    let tools = tools_of(bucket.open()?);
    let done = if dry_run { "goes" } else { "removed" };
    for tenant in tools.tenant_ids(&[])? {
        for orphan in tools.remove_orphans(&tenant, older_than, dry_run)? {
            let (block, objects) = (orphan.block, orphan.objects);
            writeln!(
                out,
                "tenant={tenant} orphan={block} objects={objects} size={} {done}",
                size(orphan.bytes)
            )?;
        }
    }
    Ok(good)
}
