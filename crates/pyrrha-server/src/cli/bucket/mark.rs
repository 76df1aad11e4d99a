//! `pyrrha bucket mark` and `pyrrha bucket unmark`.

use std::io::{self, Write};

use pyrrha_bucket::MarkKind;
use pyrrha_bucket::tools::{Marked, Unmark};

use super::select::{FormArgs, SelectArgs};
use super::{BucketArgs, tools_of};
use crate::cli::output::{CommandError, Out};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct MarkArgs {
    #[command(flatten)]
    which: Which,
    /// What is said of the blocks.
    #[arg(long, value_enum)]
    marker: Marker,
    /// Why, for people.
    #[arg(long, value_name = "TEXT", default_value = "")]
    details: String,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct UnmarkArgs {
    #[command(flatten)]
    which: Which,
    /// What is taken back.
    #[arg(long, value_enum)]
    marker: Taken,
}

#[derive(Debug, clap::Args)]
struct Which {
    #[command(flatten)]
    bucket: BucketArgs,
    #[command(flatten)]
    select: SelectArgs,
    /// All blocks, where nothing chooses some.
    #[arg(long)]
    all: bool,
    /// Show what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    form: FormArgs,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Marker {
    /// They go: out of queries after `--compactor.delete-delay`, their files after it once more.
    Deletion,
    /// They are merged with no other.
    NoCompact,
    /// No windows are made of them.
    NoDownsample,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Taken {
    Deletion,
    NoCompact,
    NoDownsample,
    /// That a job which failed on a block set it aside: it is tried again.
    SetAside,
}

pub(super) fn mark(out: &mut Out, args: MarkArgs) -> Result<bool, CommandError> {
    let kind = match args.marker {
        Marker::Deletion => MarkKind::Deletion,
        Marker::NoCompact => MarkKind::NoCompact,
        Marker::NoDownsample => MarkKind::NoDownsample,
    };
    let dry_run = args.which.dry_run;
    run(out, args.which, |tools, tenant, selector| tools.mark(tenant, selector, kind, &args.details, dry_run))
}

pub(super) fn unmark(out: &mut Out, args: UnmarkArgs) -> Result<bool, CommandError> {
    let what = match args.marker {
        Taken::Deletion => Unmark::Mark(MarkKind::Deletion),
        Taken::NoCompact => Unmark::Mark(MarkKind::NoCompact),
        Taken::NoDownsample => Unmark::Mark(MarkKind::NoDownsample),
        Taken::SetAside => Unmark::SetAside,
    };
    let dry_run = args.which.dry_run;
    run(out, args.which, |tools, tenant, selector| tools.unmark(tenant, selector, what, dry_run))
}

fn run(
    out: &mut Out,
    which: Which,
    one: impl Fn(
        &pyrrha_bucket::tools::BucketTools,
        &pyrrha_model::TenantId,
        &pyrrha_bucket::tools::BlockSelector,
    ) -> Result<Marked, pyrrha_model::StoreError>,
) -> Result<bool, CommandError> {
    let selector = which.select.chosen(which.all)?;
    let tools = tools_of(which.bucket.open()?.probed(!which.dry_run)?);
    let mut all = Vec::new();
    for tenant in which.select.tenants_of(&tools)? {
        all.push(one(&tools, &tenant, &selector)?);
    }
    which.form.print(out, &all, |out| print(out, &all, which.dry_run))?;
    if all.iter().all(|marked| marked.blocks.is_empty() && marked.unchanged == 0) {
        return Err(CommandError::new("no live block is chosen"));
    }
    Ok(true)
}

fn print(out: &mut Out, all: &[Marked], dry_run: bool) -> io::Result<()> {
    for done in all {
        done.blocks.iter().try_for_each(|block| writeln!(out, "tenant={} block={block}", done.tenant))?;
        writeln!(
            out,
            "tenant={} changed={} unchanged={}{}",
            done.tenant,
            done.blocks.len(),
            done.unchanged,
            if dry_run { " (nothing was written)" } else { "" },
        )?;
    }
    Ok(())
}
