//! `pyrrha bucket cleanup`.

use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;

use super::compact::{self, Outcome, Task};
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
    let form = args.worker.form();
    let outcome = compact::work(args.worker, Task::CleanUp)?.unwrap_or_default();
    let mut cleaned = CleanedUp { orphans: args.orphans_older_than.map(|_| Vec::new()), outcome };
    if !cleaned.outcome.good && cleaned.orphans.is_some() {
        eprintln!("orphans are left alone, as not all could be cleaned up: the log says what");
    } else if let (Some(older_than), Some(orphans)) = (args.orphans_older_than, &mut cleaned.orphans) {
        let tools = tools_of(bucket.open()?);
        for tenant in tools.tenant_ids(&[])? {
            let found = tools.remove_orphans(&tenant, older_than, dry_run)?;
            orphans.extend(found.iter().map(|orphan| OrphanedBlock {
                tenant: tenant.to_string(),
                block: orphan.block.to_string(),
                objects: orphan.objects,
                bytes: orphan.bytes,
            }));
        }
    }
    form.print(out, &cleaned, |out| print(out, &cleaned, dry_run))?;
    Ok(cleaned.outcome.good)
}

/// What was removed, or would be.
#[derive(Debug, Serialize)]
struct CleanedUp {
    #[serde(flatten)]
    outcome: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    orphans: Option<Vec<OrphanedBlock>>,
}

#[derive(Debug, Serialize)]
struct OrphanedBlock {
    tenant: String,
    block: String,
    objects: u64,
    bytes: u64,
}

fn print(out: &mut Out, cleaned: &CleanedUp, dry_run: bool) -> io::Result<()> {
    cleaned.outcome.print(out)?;
    let done = if dry_run { "goes" } else { "removed" };
    for OrphanedBlock { tenant, block, objects, bytes } in cleaned.orphans.iter().flatten() {
        writeln!(out, "tenant={tenant} orphan={block} objects={objects} size={} {done}", size(*bytes))?;
    }
    Ok(())
}
