//! `pyrrha bucket replicate`: copies blocks to another bucket.

use std::io::{self, Write};
use std::path::PathBuf;

use pyrrha_bucket::tools::{CopyOptions, Replicated};

use super::select::{FormArgs, SelectArgs};
use super::{BucketArgs, print_left, tools_of};
use crate::cli::output::{CommandError, Out, size};
use crate::cli::progress::Progress;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    bucket: BucketArgs,
    /// YAML file that names the bucket that is copied to.
    #[arg(long = "objstore-to.config-file", value_name = "FILE")]
    to: PathBuf,
    #[command(flatten)]
    select: SelectArgs,
    /// Copy blocks, too, of which data was there and went for good by retention or deletes, or may have: of
    /// what is old that is forgotten.
    #[arg(long)]
    bring_back: bool,
    /// Show what would be copied, and write nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    form: FormArgs,
}

pub(super) fn run(out: &mut Out, args: Args) -> Result<bool, CommandError> {
    let selector = args.select.selector()?;
    let from = tools_of(args.bucket.open()?);
    let to = tools_of(BucketArgs::of_file(args.to.clone()).open_to_fill(!args.dry_run)?);
    let options = CopyOptions { dry_run: args.dry_run, brings_back: args.bring_back };
    let mut progress = Progress::new();
    let mut all = Vec::new();
    for tenant in args.select.tenants_of(&from)? {
        let mut show = |what: &str, done: u64, total: u64| progress.show(what, done, total);
        all.push(from.replicate(&to, &tenant, &selector, options, &mut show)?);
    }
    progress.clear();
    args.form.print(out, &all, |out| print(out, &all, args.dry_run))?;
    Ok(true)
}

fn print(out: &mut Out, all: &[Replicated], dry_run: bool) -> io::Result<()> {
    for done in all {
        done.blocks.iter().try_for_each(|block| writeln!(out, "tenant={} block={block}", done.tenant))?;
        print_left(out, "left out", &done.left_out)?;
        writeln!(
            out,
            "tenant={} blocks={} known={} replaced={} left_out={} copied={} present={}{}",
            done.tenant,
            done.blocks.len(),
            done.known_blocks,
            done.replaced.len(),
            done.left_out.len(),
            size(done.copied_bytes),
            size(done.present_bytes),
            if dry_run { " (nothing was written)" } else { "" },
        )?;
    }
    Ok(())
}
