//! `pyrrha bucket compact`, and `downsample` and `cleanup`, which do a part of it once.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pyrrha_bucket::tools::ObjectClass;
use pyrrha_bucket::{
    Compactor, CompactorConfig, JobKind, JobPhase, MarkKind, Mirror, MirrorKind, Retention, Round,
    TenantOverview, marks, unread_by_thanos,
};
use pyrrha_env::OsDisk;
use pyrrha_model::contract::{CancelReason, CancelToken};
use pyrrha_model::{Timestamp, rfc3339};
use serde::Serialize;

use super::select::FormArgs;
use super::{BucketArgs, Opened, jobs, tools_of};
use crate::cli::output::{CommandError, Out};
use crate::config::{LogFormat, LogLevel, WorkerFlags};
use crate::logging;

/// How often a worker that waits looks whether it is to stop.
const LOOK_EVERY: Duration = Duration::from_millis(100);

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    bucket: BucketArgs,
    /// End when there is nothing left to do.
    #[arg(long)]
    once: bool,
    /// Show the jobs that would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Directory for what is being made, of this worker alone; it is emptied.
    #[arg(long, value_name = "DIR", default_value = "./data/compactor")]
    scratch_dir: PathBuf,
    #[command(flatten)]
    worker: WorkerFlags,
    /// How much to log.
    #[arg(long = "log.level", env = "PYRRHA_LOG_LEVEL", value_enum, default_value = "info")]
    log_level: LogLevel,
    /// Shape of log lines.
    #[arg(long = "log.format", env = "PYRRHA_LOG_FORMAT", value_enum, default_value = "logfmt")]
    log_format: LogFormat,
    #[command(flatten)]
    form: FormArgs,
}

impl Args {
    pub(super) fn form(&self) -> FormArgs {
        self.form
    }

    pub(super) fn bucket(&self) -> &BucketArgs {
        &self.bucket
    }

    pub(super) fn is_dry_run(&self) -> bool {
        self.dry_run
    }
}

/// What a worker does of all that there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    /// All of it, until it is stopped.
    All,
    /// Windows, once.
    Downsample,
    /// What ended jobs left, and what is marked for deletion, once.
    CleanUp,
}

impl Task {
    fn limit(self, config: &mut CompactorConfig) {
        match self {
            Self::All => {}
            Self::Downsample => config.leaves = JobKind::OTHERS.to_vec(),
            // What is marked for deletion goes, too; nothing does by its age.
            Self::CleanUp => {
                config.leaves = [&JobKind::OTHERS[..], &JobKind::DOWNSAMPLING[..]].concat();
                config.leaves.retain(|kind| *kind != JobKind::Retain);
                config.retention = Retention::default();
            }
        }
    }
}

/// What a worker did that ended by itself, or would do.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Outcome {
    /// Jobs that were done.
    #[serde(skip_serializing_if = "Option::is_none")]
    jobs: Option<u64>,
    /// Jobs that failed and were not done since.
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<usize>,
    /// Jobs that would be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenants: Option<Vec<TenantOverview>>,
    /// Blocks that would go.
    #[serde(skip_serializing_if = "Option::is_none")]
    leaving: Option<Vec<Leaving>>,
    /// Whether all could be done, or looked at.
    #[serde(skip)]
    pub(super) good: bool,
}

/// A block that goes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Leaving {
    tenant: String,
    block: String,
    bytes: u64,
    /// Its objects, if a job left it.
    #[serde(skip_serializing_if = "Option::is_none")]
    objects: Option<u64>,
    /// When it leaves, ms, if it is marked for deletion; its files go after the delay once more.
    #[serde(skip_serializing_if = "Option::is_none")]
    leaves_at: Option<Timestamp>,
}

impl Outcome {
    /// In lines.
    pub(super) fn print(&self, out: &mut Out) -> io::Result<()> {
        if let Some(jobs) = self.jobs {
            let note = self.failed.map(|failed| format!(" failed={failed}")).unwrap_or_default();
            writeln!(out, "jobs={jobs}{note}")?;
        }
        if let Some(tenants) = &self.tenants {
            jobs::show(out, tenants)?;
        }
        let Some(leaving) = &self.leaving else { return Ok(()) };
        for Leaving { tenant, block, bytes, objects, leaves_at } in leaving {
            write!(out, "tenant={tenant} block={block} ")?;
            if let Some(objects) = objects {
                write!(out, "objects={objects} ")?;
            }
            match leaves_at.map(rfc3339::format) {
                None => writeln!(out, "bytes={bytes} goes after the delay")?,
                Some(from) => writeln!(
                    out,
                    "bytes={bytes} marked for deletion, leaves at {from}, its files go after the delay once more"
                )?,
            }
        }
        writeln!(out, "leaving={} (nothing was done)", leaving.len())
    }
}

pub(super) fn run(out: &mut Out, args: Args, task: Task) -> Result<bool, CommandError> {
    let form = args.form;
    let Some(outcome) = work(args, task)? else { return Ok(true) };
    form.print(out, &outcome, |out| outcome.print(out))?;
    Ok(outcome.good)
}

/// Does it, and gives what came of it if it is to end by itself.
pub(super) fn work(args: Args, task: Task) -> Result<Option<Outcome>, CommandError> {
    logging::start(args.log_level, args.log_format);
    let settings = args.worker.resolve().map_err(CommandError::new)?;
    let mut config = settings.config(args.scratch_dir);
    task.limit(&mut config);
    let once = args.once || task != Task::All;
    let patience = config.lease_timeout * 2;
    let opened = args.bucket.open()?;
    if args.dry_run {
        return dry_run(opened, config, task).map(Some);
    }
    let Opened { runtime, tenants, clock } = opened.probed(true)?;
    if settings.mirror().is_some_and(|mirror| mirror.kind == MirrorKind::Thanos) {
        tenants.discover()?;
        if let Some((tenant, block)) = unread_by_thanos(&tenants) {
            let text = format!(
                "chunks have start timestamps, which Thanos does not read: tenant={tenant} block={block}; take \
                 --objstore.mirror off, or let nobody store them"
            );
            return Err(CommandError::new(text));
        }
    }
    let mirror =
        settings.mirror().map(|config| Mirror::new(tenants.clone(), runtime.clone(), clock.clone(), config));
    let compactor = Compactor::new(tenants, runtime.clone(), Arc::new(OsDisk), clock.clone(), config)
        .map_err(CommandError::new)?;
    let cancel = CancelToken::default();
    runtime.handle().spawn(on_signal(cancel.clone()));
    let wait_for = |time: Duration| {
        let until = clock.monotonic() + time;
        while clock.monotonic() < until && cancel.reason().is_none() {
            clock.sleep(LOOK_EVERY.min(time));
        }
    };
    let mut calm = Calm { since: clock.monotonic(), patience };
    let mut jobs = 0;
    let mut good = true;
    std::thread::scope(|scope| {
        // Jobs may take hours, and Mimir does not wait that long.
        if let Some(mirror) = mirror.as_ref().filter(|_| !once) {
            scope.spawn(|| {
                while cancel.reason().is_none() {
                    // What could not be done is in the log.
                    let _ = mirror.round(&cancel);
                    wait_for(settings.interval.min(Mirror::EVERY));
                }
            });
        }
        // The scope waits for the mirror, also if this panics.
        let _stops = (!once).then(|| StopsMirror(&cancel));
        while cancel.reason().is_none() {
            let (Round { jobs: done, waits }, result) = compactor.try_round(&cancel);
            good = result.is_ok();
            if let Err(error) = result {
                tracing::error!(%error, "not all could be done");
            }
            jobs += done;
            if once && calm.is_over(done, waits, clock.monotonic()) {
                break;
            }
            if !(once && done > 0) {
                wait_for(if once { settings.interval.min(patience / 8) } else { settings.interval });
            }
        }
    });
    if let Some(mirror) = mirror.filter(|_| once) {
        good &= mirror.round(&cancel).is_ok();
    }
    if once {
        let failed =
            failed_jobs(&compactor).inspect_err(|error| tracing::warn!(%error, "jobs are not known"));
        let failed = failed.unwrap_or(0);
        if cancel.reason().is_some() {
            return Err(CommandError::new(format!("interrupted before all was done: jobs={jobs}")));
        }
        return Ok(Some(Outcome {
            jobs: Some(jobs),
            failed: (failed > 0).then_some(failed),
            good: good && failed == 0,
            ..Outcome::default()
        }));
    }
    match good {
        true => Ok(None),
        false => Err(CommandError::new("not all could be done: the log says what")),
    }
}

/// Ends the mirror's thread when it goes.
struct StopsMirror<'a>(&'a CancelToken);

impl Drop for StopsMirror<'_> {
    fn drop(&mut self) {
        self.0.cancel(CancelReason::Canceled);
    }
}

/// How long a worker that is to end when nothing is left to do waits for what it cannot do now: others may be
/// dead, and who holds a job is watched for a while; jobs that failed are tried again.
struct Calm {
    /// When something was done last, or it began.
    since: Duration,
    patience: Duration,
}

impl Calm {
    /// Whether nothing is left to wait for after a round that did so many jobs.
    fn is_over(&mut self, done: u64, waits: bool, now: Duration) -> bool {
        if done > 0 {
            self.since = now;
            return false;
        }
        !waits || now.saturating_sub(self.since) >= self.patience
    }
}

/// Jobs that failed and were not done since.
fn failed_jobs(compactor: &Compactor) -> Result<usize, pyrrha_model::StoreError> {
    let all = compactor.overview()?;
    Ok(all.iter().flat_map(|tenant| &tenant.jobs).filter(|job| job.phase == JobPhase::Failed).count())
}

/// Shows what would be done.
fn dry_run(opened: Opened, config: CompactorConfig, task: Task) -> Result<Outcome, CommandError> {
    if task == Task::CleanUp {
        let tools = tools_of(opened);
        let mut leaving = Vec::new();
        for tenant in tools.tenant_ids(&[])? {
            let survey = tools.survey(&tenant)?;
            for block in survey.blocks_of(ObjectClass::Leaving) {
                let objects = survey.objects.iter().filter(|o| o.block == Some(block));
                let (count, bytes) = objects.fold((0u64, 0u64), |(n, sum), o| (n + 1, sum + o.bytes));
                let (tenant, block) = (tenant.to_string(), block.to_string());
                leaving.push(Leaving { tenant, block, bytes, objects: Some(count), leaves_at: None });
            }
            let delay = i64::try_from(config.delete_delay.as_millis()).unwrap_or(i64::MAX);
            for entry in survey.state.blocks.values() {
                let Some(mark) = marks(entry).remove(&MarkKind::Deletion) else { continue };
                let (tenant, block) = (tenant.to_string(), entry.ulid.to_string());
                let leaves_at = Some(mark.at.saturating_add(delay));
                leaving.push(Leaving { tenant, block, bytes: entry.bytes, objects: None, leaves_at });
            }
        }
        return Ok(Outcome { leaving: Some(leaving), good: true, ..Outcome::default() });
    }
    let Opened { runtime, tenants, clock } = opened;
    let unread = jobs::warn_of_unread(&tenants)?;
    let observer = Compactor::observer(tenants, runtime, Arc::new(OsDisk), clock, config);
    Ok(Outcome { tenants: Some(observer.overview()?), good: unread == 0, ..Outcome::default() })
}

/// Stops the worker when the system or the user says so.
pub(super) async fn on_signal(cancel: CancelToken) {
    #[cfg(unix)]
    if let Ok(mut term) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = term.recv() => {}
        }
        cancel.cancel(CancelReason::Canceled);
        return;
    }
    if tokio::signal::ctrl_c().await.is_ok() {
        cancel.cancel(CancelReason::Canceled);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_a_job_that_failed_waits_from_when_it_did_something_last() {
        let (at, patience) = (Duration::from_secs, Duration::from_secs(240));
        let mut calm = Calm { since: at(0), patience };
        assert!(!calm.is_over(1, true, at(1000)), "a job of a quarter of an hour failed");
        assert!(!calm.is_over(0, true, at(1030)) && !calm.is_over(0, true, at(1239)));
        assert!(!calm.is_over(1, true, at(1239)), "it was tried again");
        assert!(!calm.is_over(0, true, at(1400)));
        assert!(calm.is_over(0, true, at(1480)) && calm.is_over(0, false, at(1250)));
    }
}
