//! `pyrrha bucket verify`: whether what the manifests name is there and sound.

use std::io::{self, Write};
use std::path::PathBuf;

use pyrrha_bucket::tools::{Depth, VerifyOptions, VerifyReport};

use super::select::{FormArgs, SelectArgs, word};
use super::{BucketArgs, tools_of};
use crate::cli::output::{CommandError, Out, size};
use crate::cli::progress::Progress;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    bucket: BucketArgs,
    #[command(flatten)]
    select: SelectArgs,
    /// Read every byte, and compare checksums.
    #[arg(long)]
    checksums: bool,
    /// Bring each block here and decode all of it, too.
    #[arg(long)]
    deep: bool,
    /// Directory for blocks that are decoded, one at a time.
    #[arg(long, value_name = "DIR", default_value = "./data/verify")]
    scratch_dir: PathBuf,
    /// End with exit code 1 for warnings, too.
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    form: FormArgs,
}

pub(super) fn run(out: &mut Out, args: Args) -> Result<bool, CommandError> {
    let depth = match (args.deep, args.checksums) {
        (true, _) => Depth::Deep,
        (false, true) => Depth::Checksums,
        (false, false) => Depth::Objects,
    };
    let options =
        VerifyOptions { selector: args.select.selector()?, depth, scratch_dir: args.scratch_dir.clone() };
    let tools = tools_of(args.bucket.open()?);
    let mut progress = Progress::new();
    let mut reports = Vec::new();
    for tenant in args.select.tenants_of(&tools)? {
        let mut show = |what: &str, done: u64, total: u64| progress.show(what, done, total);
        reports.push(tools.verify(&tenant, &options, &mut show)?);
    }
    progress.clear();
    let sound = |report: &VerifyReport| {
        if args.strict { report.issues.is_empty() } else { report.is_sound() }
    };
    let good = reports.iter().all(sound);
    args.form.print(out, &reports, |out| reports.iter().try_for_each(|report| print(out, report)))?;
    Ok(good)
}

fn print(out: &mut Out, report: &VerifyReport) -> io::Result<()> {
    let sound = if report.is_sound() { "sound" } else { "DAMAGED" };
    let VerifyReport { tenant, manifest, blocks, objects, samples, .. } = report;
    writeln!(
        out,
        "{tenant}: {sound} manifest={manifest} blocks={blocks} objects={objects} bytes={} read={} samples={samples} issues={}",
        size(report.bytes),
        size(report.read_bytes),
        report.issues.len(),
    )?;
    for issue in &report.issues {
        write!(out, "  {}", word(issue.severity))?;
        if let Some(block) = issue.block {
            write!(out, " block={block}")?;
        }
        if let Some(file) = &issue.file {
            write!(out, " file={file}")?;
        }
        if let Some(offset) = issue.offset {
            write!(out, " offset={offset}")?;
        }
        writeln!(out, ": {}", issue.what)?;
    }
    Ok(())
}
