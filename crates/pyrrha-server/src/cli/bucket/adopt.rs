//! `pyrrha bucket adopt`: blocks of Thanos and Mimir become the tenants' own, where they are.

use std::io::{self, Write};

use pyrrha_bucket::tools::{Adoption, LeftOut};
use pyrrha_model::TenantId;

use super::owners::OwnerArgs;
use super::select::{FormArgs, parse_tenant};
use super::{BucketArgs, tools_of};
use crate::cli::output::{CommandError, Out, size};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    bucket: BucketArgs,
    #[command(flatten)]
    owners: OwnerArgs,
    /// Tenant whose blocks are adopted; may be repeated [default: all].
    #[arg(long, value_name = "TENANT", value_parser = parse_tenant)]
    tenant: Vec<TenantId>,
    /// Show what would be adopted, and write nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    form: FormArgs,
}

pub(super) fn run(out: &mut Out, args: Args) -> Result<bool, CommandError> {
    let tools = tools_of(args.bucket.open()?.probed(!args.dry_run)?);
    let done = tools.adopt(&args.owners.config(), &args.tenant, args.dry_run)?;
    args.form.print(out, &done, |out| print(out, &done, args.dry_run))?;
    Ok(done.is_whole())
}

/// Prints blocks that were left out, or what else the word says.
pub(in crate::cli) fn print_left(out: &mut Out, word: &str, blocks: &[LeftOut]) -> io::Result<()> {
    blocks.iter().try_for_each(|left| {
        let tenant = left.tenant.as_deref().unwrap_or("-");
        writeln!(out, "{word} tenant={tenant} dir={} why={}: {}", left.dir, left.why, left.detail)
    })
}

/// Prints what was adopted and what was not.
pub(in crate::cli) fn print(out: &mut Out, done: &Adoption, dry_run: bool) -> io::Result<()> {
    print_left(out, "left out", &done.left_out)?;
    for tenant in &done.tenants {
        let name = &tenant.tenant;
        for block in &tenant.blocks {
            writeln!(
                out,
                "adopted tenant={name} dir={} from={} to={} samples={} labels={:?}",
                block.dir, block.min_time, block.max_time, block.samples, block.labels
            )?;
        }
        tenant.replaced.iter().try_for_each(|block| writeln!(out, "replaced tenant={name} block={block}"))?;
        for block in &tenant.missing {
            writeln!(
                out,
                "missing tenant={name} block={block}: somebody has removed a block that is listed"
            )?;
        }
        let bytes = tenant.blocks.iter().map(|block| block.bytes).fold(0, u64::saturating_add);
        writeln!(
            out,
            "tenant={name} blocks={} known={} replaced={} missing={} bytes={}{}",
            tenant.blocks.len(),
            tenant.known_blocks,
            tenant.replaced.len(),
            tenant.missing.len(),
            size(bytes),
            if dry_run { " (nothing was written)" } else { "" },
        )?;
    }
    Ok(())
}
