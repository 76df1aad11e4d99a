//! `pyrrha bucket rebuild-manifest`

use std::io::{self, Write};

use pyrrha_bucket::FoundBlocks;
use pyrrha_model::TenantId;
use pyrrha_storage::block::BlockId;
use serde::Serialize;

use super::select::{FormArgs, parse_tenant};
use super::{BucketArgs, tools_of};
use crate::cli::output::{CommandError, Out};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    bucket: BucketArgs,
    /// Tenant.
    #[arg(long, value_name = "TENANT", value_parser = parse_tenant)]
    tenant: TenantId,
    /// Show what would be live, and commit nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do it although the manifest reads: blocks that were replaced or let go and are not removed yet may
    /// be live again.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    form: FormArgs,
}

#[derive(Serialize)]
struct Found {
    tenant: String,
    committed: bool,
    live: Vec<String>,
    replaced: Vec<(String, String)>,
    marked: Vec<String>,
    partial: Vec<String>,
    damaged: Vec<(String, String)>,
}

pub(super) fn run(out: &mut Out, args: Args) -> Result<bool, CommandError> {
    let tools = tools_of(args.bucket.open()?.probed(!args.dry_run)?);
    tools.tenant_ids(std::slice::from_ref(&args.tenant))?;
    let FoundBlocks { live, replaced, marked, partial, damaged } =
        tools.rebuild(&args.tenant, args.force, args.dry_run)?;
    let texts = |ids: &[BlockId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    let found = Found {
        tenant: args.tenant.to_string(),
        committed: !args.dry_run,
        live: live.iter().map(|entry| entry.ulid.to_string()).collect(),
        replaced: replaced.iter().map(|(block, by)| (block.to_string(), by.to_string())).collect(),
        marked: texts(&marked),
        partial: texts(&partial),
        damaged: damaged.iter().map(|(block, why)| (block.to_string(), why.clone())).collect(),
    };
    args.form.print(out, &found, |out| print(out, &found))?;
    Ok(found.damaged.is_empty())
}

fn print(out: &mut Out, found: &Found) -> io::Result<()> {
    found.live.iter().try_for_each(|block| writeln!(out, "live block={block}"))?;
    found.replaced.iter().try_for_each(|(block, by)| writeln!(out, "replaced block={block} by={by}"))?;
    found.marked.iter().try_for_each(|block| writeln!(out, "marked for deletion block={block}"))?;
    found.partial.iter().try_for_each(|block| writeln!(out, "without meta.json block={block}"))?;
    found.damaged.iter().try_for_each(|(block, why)| writeln!(out, "damaged block={block}: {why}"))?;
    let word = if found.committed { "committed" } else { "would be committed" };
    writeln!(out, "tenant={} live={} {word}", found.tenant, found.live.len())
}
