//! `pyrrha bucket rewrite`: blocks without some series or times, or with other labels.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use pyrrha_bucket::rewrite::RewriteRules;
use pyrrha_bucket::{Compactor, CompactorConfig, RewrittenBlock};
use pyrrha_env::OsDisk;
use pyrrha_model::contract::CancelToken;

use super::select::{FormArgs, SelectArgs};
use super::{BucketArgs, Opened, tools_of};
use crate::cli::output::{CommandError, Out, size};
use crate::cli::progress::Progress;
use crate::config::{LogFormat, LogLevel, WorkerFlags};
use crate::logging;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    bucket: BucketArgs,
    #[command(flatten)]
    select: SelectArgs,
    /// All blocks, where nothing chooses some.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    rules: Rules,
    /// Read the blocks and show what would change, and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Directory for what is being made, of this command alone; it is emptied.
    #[arg(long, value_name = "DIR", default_value = "./data/rewrite")]
    scratch_dir: PathBuf,
    #[command(flatten)]
    worker: WorkerFlags,
    #[command(flatten)]
    form: FormArgs,
}

/// What is done, by the names of Thanos where it has them.
#[derive(Debug, clap::Args)]
struct Rules {
    /// YAML that says which series, and which times of them, are deleted.
    #[arg(long = "rewrite.to-delete-config", value_name = "YAML", conflicts_with = "delete_file")]
    delete: Option<String>,
    /// File with that YAML.
    #[arg(long = "rewrite.to-delete-config-file", value_name = "FILE")]
    delete_file: Option<PathBuf>,
    /// YAML of the same form that says what is kept alone.
    #[arg(long = "rewrite.to-keep-config", value_name = "YAML", conflicts_with = "keep_file")]
    keep: Option<String>,
    /// File with that YAML.
    #[arg(long = "rewrite.to-keep-config-file", value_name = "FILE")]
    keep_file: Option<PathBuf>,
    /// YAML of relabelling rules, as Prometheus has them.
    #[arg(long = "rewrite.to-relabel-config", value_name = "YAML", conflicts_with = "relabel_file")]
    relabel: Option<String>,
    /// File with that YAML.
    #[arg(long = "rewrite.to-relabel-config-file", value_name = "FILE")]
    relabel_file: Option<PathBuf>,
}

impl Rules {
    fn read(&self) -> Result<RewriteRules, CommandError> {
        let text = |text: &Option<String>, file: &Option<PathBuf>| match file {
            None => Ok(text.clone()),
            Some(file) => std::fs::read_to_string(file).map(Some).map_err(|e| {
                CommandError::new(format!("cannot read the rules: {e} file={}", file.display()))
            }),
        };
        let delete = text(&self.delete, &self.delete_file)?;
        let keep = text(&self.keep, &self.keep_file)?;
        let relabel = text(&self.relabel, &self.relabel_file)?;
        let parse = |text: &str| pyrrha_promql::parser::parse_selector(text).map_err(|e| e.to_string());
        RewriteRules::parse(delete.as_deref(), keep.as_deref(), relabel.as_deref(), &parse)
            .map_err(CommandError::new)
    }
}

pub(super) fn run(out: &mut Out, args: Args) -> Result<bool, CommandError> {
    logging::start(LogLevel::Warn, LogFormat::Logfmt);
    let rules = Arc::new(args.rules.read()?);
    let selector = args.select.chosen(args.all)?;
    let opened = args.bucket.open()?.probed(!args.dry_run)?;
    let tools = tools_of(opened.clone());
    let Opened { runtime, tenants, clock } = opened;
    let settings = args.worker.resolve().map_err(CommandError::new)?;
    let config: CompactorConfig = settings.config(args.scratch_dir.clone());
    let compactor = Compactor::new(tenants, runtime.clone(), Arc::new(OsDisk), clock, config)
        .map_err(CommandError::new)?;
    let cancel = CancelToken::default();
    runtime.handle().spawn(super::compact::on_signal(cancel.clone()));
    let mut progress = Progress::new();
    let mut all = Vec::new();
    for tenant in args.select.tenants_of(&tools)? {
        let mut show = |what: &str, done: u64, total: u64| progress.show(what, done, total);
        all.extend(compactor.rewrite(&tenant, &selector, &rules, args.dry_run, &cancel, &mut show)?);
    }
    progress.clear();
    args.form.print(out, &all, |out| print(out, &all, args.dry_run))?;
    Ok(all.iter().all(|one| one.refused.is_none()))
}

fn print(out: &mut Out, all: &[RewrittenBlock], dry_run: bool) -> io::Result<()> {
    for one in all {
        if let Some(why) = &one.refused {
            writeln!(out, "tenant={} block={} NOT rewritten: {why}", one.tenant, one.block)?;
            continue;
        }
        let word = match (&one.rewritten_to, one.committed, one.changes.is_any()) {
            (Some(made), ..) => format!("rewritten to={made}"),
            (None, true, _) => "nothing is left".to_owned(),
            (None, false, true) => "would be rewritten".to_owned(),
            (None, false, false) => "unchanged".to_owned(),
        };
        writeln!(
            out,
            "tenant={} block={} {word} series={} deleted={} cut={} relabelled={} exemplars_deleted={} bytes={} after={} windows={}",
            one.tenant,
            one.block,
            one.changes.series,
            one.changes.deleted_series,
            one.changes.cut_series,
            one.changes.relabelled_series,
            one.changes.deleted_exemplars,
            size(one.bytes),
            if one.committed { size(one.bytes_after) } else { "-".to_owned() },
            one.windows.len(),
        )?;
    }
    let changed = all.iter().filter(|one| one.changes.is_any()).count();
    let note = if dry_run { " (nothing was written)" } else { "" };
    writeln!(out, "blocks={} changed={changed}{note}", all.len())
}
