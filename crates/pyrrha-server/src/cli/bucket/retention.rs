//! `pyrrha bucket retention`: what is past retention leaves, once.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use pyrrha_bucket::{Compactor, Expiring};
use pyrrha_env::OsDisk;
use pyrrha_model::contract::CancelToken;
use pyrrha_model::{TenantId, rfc3339};

use super::select::{FormArgs, parse_tenant, resolution};
use super::{BucketArgs, Opened, tools_of};
use crate::cli::output::{CommandError, Out, size, table};
use crate::config::{LogFormat, LogLevel, WorkerFlags};
use crate::logging;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    bucket: BucketArgs,
    /// Tenant; may be repeated [default: all].
    #[arg(long, value_name = "TENANT", value_parser = parse_tenant)]
    tenant: Vec<TenantId>,
    #[command(flatten)]
    worker: WorkerFlags,
    /// Show what would leave and why, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Directory for what is being made, of this command alone; it is emptied.
    #[arg(long, value_name = "DIR", default_value = "./data/retention")]
    scratch_dir: PathBuf,
    #[command(flatten)]
    form: FormArgs,
}

pub(super) fn run(out: &mut Out, args: Args) -> Result<bool, CommandError> {
    logging::start(LogLevel::Warn, LogFormat::Logfmt);
    let settings = args.worker.resolve().map_err(CommandError::new)?;
    let opened = args.bucket.open()?.probed(!args.dry_run)?;
    let tools = tools_of(opened.clone());
    let Opened { runtime, tenants, clock } = opened;
    let wanted = tools.tenant_ids(&args.tenant)?;
    let config = settings.config(args.scratch_dir);
    let disk = Arc::new(OsDisk);
    let compactor = match args.dry_run {
        true => Compactor::observer(tenants, runtime.clone(), disk, clock, config),
        false => Compactor::new(tenants, runtime.clone(), disk, clock, config).map_err(CommandError::new)?,
    };
    let cancel = CancelToken::default();
    runtime.handle().spawn(super::compact::on_signal(cancel.clone()));
    let all = compactor.retain(&wanted, args.dry_run, &cancel)?;
    args.form.print(out, &all, |out| print(out, &all, args.dry_run))?;
    Ok(true)
}

fn print(out: &mut Out, all: &[Expiring], dry_run: bool) -> io::Result<()> {
    let head = ["TENANT", "ULID", "FROM", "TO", "RESOLUTION", "BYTES", "NOTE"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(all.iter().map(|one| {
        let why = match one.horizon {
            Some(horizon) => format!("past {}", rfc3339::format(horizon)),
            None => format!("rewritten without {}", one.without.join(" ")),
        };
        let what = match (one.awaits_windows, one.committed) {
            (true, _) => "stays until its windows are made",
            (false, true) => "done",
            (false, false) if dry_run => "would be done",
            (false, false) => "another worker was first",
        };
        let note = format!("{why}: {what}");
        vec![
            one.tenant.clone(),
            one.block.clone(),
            rfc3339::format(one.min_time),
            rfc3339::format(one.max_time),
            resolution(one.resolution),
            size(one.bytes),
            note,
        ]
    }));
    table(out, &rows)?;
    let leaving = all.iter().filter(|one| !one.awaits_windows);
    let (count, bytes) = leaving.fold((0u64, 0u64), |(n, sum), one| (n + 1, sum.saturating_add(one.bytes)));
    let note = if dry_run { " (nothing was done)" } else { "" };
    writeln!(out, "blocks={count} bytes={bytes} ({}){note}", size(bytes))
}
