//! `pyrrha bucket jobs`

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use pyrrha_bucket::{BucketTenants, Compactor, JobPhase, TenantOverview};
use pyrrha_env::OsDisk;
use pyrrha_model::rfc3339;

use super::select::FormArgs;
use super::{BucketArgs, Opened};
use crate::cli::output::{CommandError, Out, go_duration, size, table, warn};
use crate::config::WorkerFlags;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    bucket: BucketArgs,
    #[command(flatten)]
    worker: WorkerFlags,
    /// Print JSON, a line per tenant.
    #[arg(long, conflicts_with = "output")]
    json: bool,
    #[command(flatten)]
    form: FormArgs,
}

pub(super) fn run(out: &mut Out, args: Args) -> Result<bool, CommandError> {
    let settings = args.worker.resolve().map_err(CommandError::new)?;
    let Opened { runtime, tenants, clock } = args.bucket.open()?;
    let unread = warn_of_unread(&tenants)?;
    let config = settings.config(PathBuf::new());
    let compactor = Compactor::observer(tenants, runtime, Arc::new(OsDisk), clock, config);
    let overview = compactor.overview()?;
    if args.json {
        for tenant in &overview {
            let line = serde_json::to_string(tenant).map_err(CommandError::new)?;
            writeln!(out, "{line}")?;
        }
        return Ok(unread == 0);
    }
    args.form.print(out, &overview, |out| show(out, &overview))?;
    Ok(unread == 0)
}

/// Opens all tenants, warns of those whose manifest does not read, and counts them.
pub(super) fn warn_of_unread(tenants: &BucketTenants) -> Result<usize, CommandError> {
    let failed = tenants.discover()?;
    failed.iter().for_each(|(tenant, error)| warn(format!("tenant={tenant}: {error}")));
    Ok(failed.len())
}

/// Shows jobs in columns, and a line per tenant.
pub(super) fn show(out: &mut Out, overview: &[TenantOverview]) -> std::io::Result<()> {
    let head = ["TENANT", "PHASE", "KIND", "FROM", "TO", "BLOCKS", "BYTES", "NOTE"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    overview.iter().for_each(|tenant| rows.extend(rows_of(tenant)));
    table(out, &rows)?;
    for tenant in overview {
        let eta = tenant
            .eta_ms
            .map_or("not known".to_owned(), |ms| go_duration(i64::try_from(ms).unwrap_or(i64::MAX)));
        writeln!(
            out,
            "tenant={} blocks={} jobs={} backlog={} eta={eta}",
            tenant.tenant,
            tenant.blocks,
            tenant.jobs.len(),
            size(tenant.backlog_bytes)
        )?;
    }
    Ok(())
}

fn rows_of(tenant: &TenantOverview) -> Vec<Vec<String>> {
    let of = tenant.tenant.to_string();
    let jobs = tenant.jobs.iter().map(|job| {
        let phase = match job.phase {
            JobPhase::Planned => "planned",
            JobPhase::Running => "running",
            JobPhase::Failed => "failed",
        };
        let note = job.error.clone().or_else(|| job.worker.as_ref().map(|w| format!("worker={w}")));
        vec![
            of.clone(),
            phase.to_owned(),
            job.kind.name().to_owned(),
            rfc3339::format(job.min_time),
            rfc3339::format(job.max_time),
            job.inputs.len().to_string(),
            size(job.bytes),
            note.unwrap_or_default(),
        ]
    });
    let aside = tenant.set_aside.iter().map(|block| {
        let times = [rfc3339::format(block.min_time), rfc3339::format(block.max_time)];
        let [from, to] = times;
        let note = format!("block={} {}", block.ulid, block.reason);
        vec![of.clone(), "set-aside".to_owned(), String::new(), from, to, "1".to_owned(), String::new(), note]
    });
    jobs.chain(aside).collect()
}
