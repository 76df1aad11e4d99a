//! `pyrrha migrate plan|run|verify`: from a bucket of Thanos, Mimir or Cortex, with proof.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use pyrrha_bucket::attach::AttachConfig;
use pyrrha_bucket::downsample::{FIVE_MINUTES, HOUR};
use pyrrha_bucket::tools::{BucketTools, ComparedTenant, CopiedTenant, CopyOptions, MigrationPlan};
use pyrrha_model::rfc3339;
use pyrrha_model::time::parse_duration;

use super::bucket::{BucketArgs, FormArgs, OwnerArgs, print_adoption, print_left, tools_of};
use super::output::{self, CommandError, Out, size};
use super::progress::Progress;

/// Steps of a migration. The first and the last write nothing.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Shows what the bucket has, what does not count, and what would be refused.
    Plan(Box<PlanArgs>),
    /// Adopts the blocks where they are, or copies them to another bucket; may be done again and again.
    Run(Box<RunArgs>),
    /// Compares answers from the bucket as its owner left it with answers from Pyrrha's tenants.
    Verify(Box<VerifyArgs>),
}

#[derive(Debug, clap::Args)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    bucket: BucketArgs,
    #[command(flatten)]
    owners: OwnerArgs,
    #[command(flatten)]
    form: FormArgs,
}

/// Where the blocks go.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Target {
    /// YAML file that names the bucket that blocks are copied to.
    #[arg(long = "objstore-to.config-file", value_name = "FILE")]
    to: Option<PathBuf>,
    /// The blocks stay in their bucket, and are adopted there.
    #[arg(long)]
    in_place: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    bucket: BucketArgs,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    owners: OwnerArgs,
    /// Copy blocks, too, of which data was there and went for good by retention or deletes, or may have: of
    /// what is old that is forgotten.
    #[arg(long, conflicts_with = "in_place")]
    bring_back: bool,
    /// Show what would be done, and write nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    form: FormArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    bucket: BucketArgs,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    owners: OwnerArgs,
    /// Label that tells replicas apart: they are compared as one; may be repeated. Needed once the
    /// destination has merged them.
    #[arg(long = "deduplication.replica-label", value_name = "NAME")]
    replica_label: Vec<String>,
    /// Directory for headers of blocks; what is put there is removed.
    #[arg(long, value_name = "DIR", default_value = "./data/migrate")]
    scratch_dir: PathBuf,
    /// Time that is compared at once.
    #[arg(long, value_name = "DURATION", default_value = "1d", value_parser = parse_piece)]
    range: i64,
    #[command(flatten)]
    form: FormArgs,
}

/// Memory of a comparison, for each side.
const MEMORY: usize = 512 << 20;

pub(super) fn run(command: Command) -> ExitCode {
    match command {
        Command::Plan(args) => output::run(|out| plan(out, &args)),
        Command::Run(args) => output::run(|out| migrate(out, &args)),
        Command::Verify(args) => output::run(|out| verify(out, &args)),
    }
}

fn parse_piece(text: &str) -> Result<i64, String> {
    match parse_duration(text).map_err(|e| e.to_string())? {
        ms if ms > 0 => Ok(ms),
        _ => Err("must be more than zero".to_owned()),
    }
}

/// Headers of blocks that are kept on the local disk while they are read.
struct Kept(PathBuf);

impl Drop for Kept {
    fn drop(&mut self) {
        // It may never have been made.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn plan(out: &mut Out, args: &PlanArgs) -> Result<bool, CommandError> {
    let config = args.owners.config();
    let mut progress = Progress::new();
    let from = tools_of(args.bucket.open()?);
    let plan = from.migration_plan(&config, &mut |what, done, total| progress.show(what, done, total))?;
    progress.clear();
    args.form.print(out, &plan, |out| print_plan(out, &plan))?;
    Ok(plan.refused.is_empty())
}

fn print_plan(out: &mut Out, plan: &MigrationPlan) -> io::Result<()> {
    print_left(out, "hidden", &plan.hidden)?;
    print_left(out, "refused", &plan.refused)?;
    for tenant in plan.tenants.iter().filter(|tenant| tenant.blocks > 0) {
        let of = |ms: i64| tenant.resolutions.get(&ms).copied().unwrap_or(0);
        writeln!(
            out,
            "tenant={} blocks={} raw={} 5m={} 1h={} labelsets={} series={} samples={} bytes={} from={} to={} hidden={}",
            tenant.tenant,
            tenant.blocks,
            of(0),
            of(FIVE_MINUTES),
            of(HOUR),
            tenant.label_sets,
            tenant.series,
            tenant.samples,
            size(tenant.bytes),
            rfc3339::format(tenant.min_time),
            rfc3339::format(tenant.max_time),
            tenant.hidden.values().sum::<u64>(),
        )?;
    }
    writeln!(
        out,
        "tenants={} hidden={} refused={}",
        plan.tenants.len(),
        plan.hidden.len(),
        plan.refused.len()
    )
}

impl Target {
    /// The tools over the destination, which is known to honour conditions if it is to be written to.
    fn open(&self, from: &BucketArgs, writes: bool) -> Result<BucketTools, CommandError> {
        let opened = match &self.to {
            Some(file) => BucketArgs::of_file(file.clone()).open_empty()?.probed(writes)?,
            None => from.open()?.probed(writes)?,
        };
        Ok(tools_of(opened))
    }
}

fn migrate(out: &mut Out, args: &RunArgs) -> Result<bool, CommandError> {
    let config = args.owners.config();
    let to = args.target.open(&args.bucket, !args.dry_run)?;
    if args.target.in_place {
        let done = to.adopt(&config, &[], args.dry_run)?;
        args.form.print(out, &done, |out| print_adoption(out, &done, args.dry_run))?;
        return Ok(done.is_whole());
    }
    let from = tools_of(args.bucket.open()?);
    let options = CopyOptions { dry_run: args.dry_run, brings_back: args.bring_back };
    let mut progress = Progress::new();
    let mut show = |what: &str, done: u64, total: u64| progress.show(what, done, total);
    let done = from.copy_from_others(&config, &to, options, &mut show)?;
    progress.clear();
    args.form.print(out, &done, |out| print_copied(out, &done, args.dry_run))?;
    Ok(true)
}

fn print_copied(out: &mut Out, done: &[CopiedTenant], dry_run: bool) -> io::Result<()> {
    for tenant in done {
        tenant
            .blocks
            .iter()
            .try_for_each(|block| writeln!(out, "copied tenant={} block={block}", tenant.tenant))?;
        print_left(out, "left out", &tenant.left_out)?;
        writeln!(
            out,
            "tenant={} blocks={} known={} left_out={} bytes={}{}",
            tenant.tenant,
            tenant.blocks.len(),
            tenant.known_blocks,
            tenant.left_out.len(),
            size(tenant.copied_bytes),
            if dry_run { " (nothing was written)" } else { "" },
        )?;
    }
    Ok(())
}

fn verify(out: &mut Out, args: &VerifyArgs) -> Result<bool, CommandError> {
    let mut config = AttachConfig { replica_labels: args.replica_label.clone(), ..args.owners.config() };
    let kept = Kept(args.scratch_dir.join(format!("headers-{}", std::process::id())));
    config.reading.cache_dir.clone_from(&kept.0);
    let (from, to) = (tools_of(args.bucket.open()?), args.target.open(&args.bucket, false)?);
    let mut progress = Progress::new();
    let mut show = |what: &str, done: u64, total: u64| progress.show(what, done, total);
    let found = from.compare_with(&config, &to, args.range, MEMORY, &mut show)?;
    progress.clear();
    args.form.print(out, &found, |out| print_compared(out, &found))?;
    Ok(found.iter().all(ComparedTenant::is_equal))
}

fn print_compared(out: &mut Out, found: &[ComparedTenant]) -> io::Result<()> {
    for tenant in found {
        for range in &tenant.ranges {
            let (a, b) = (range.source, range.destination);
            writeln!(
                out,
                "{} tenant={} from={} to={} series={}/{} samples={}/{} crc32c={:08x}/{:08x}",
                if range.is_equal() { "equal" } else { "DIFFERS" },
                tenant.tenant,
                rfc3339::format(range.start),
                rfc3339::format(range.end),
                a.series,
                b.series,
                a.samples,
                b.samples,
                a.crc32c,
                b.crc32c
            )?;
            range.differences.iter().try_for_each(|difference| writeln!(out, "  {difference}"))?;
        }
        for dir in &tenant.missing_windows {
            writeln!(
                out,
                "MISSING tenant={} dir={dir}: windows that the destination does not have",
                tenant.tenant
            )?;
        }
        let bad = tenant.ranges.iter().filter(|range| !range.is_equal()).count();
        writeln!(out, "tenant={} ranges={} different={bad}", tenant.tenant, tenant.ranges.len())?;
    }
    Ok(())
}
