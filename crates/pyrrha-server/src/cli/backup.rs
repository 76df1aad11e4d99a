//! `pyrrha backup …`: backups of a bucket's tenants in another bucket.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use pyrrha_bucket::backup::{
    BackedUp, BackupChoice, BackupInfo, BackupOptions, BackupReport, Backups, RestoreOptions, Restored,
};
use pyrrha_model::{TenantId, rfc3339};
use pyrrha_storage::block::BlockId;

use super::bucket::select::{FormArgs, parse_id, parse_tenant, resolution};
use super::bucket::{BucketArgs, Opened, tools_of};
use super::output::{self, CommandError, Out, size, table};
use super::progress::Progress;

/// What can be done with backups.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Makes a backup of tenants of a bucket as of now; blocks that earlier ones have are not copied again.
    Create(Box<CreateArgs>),
    /// Lists backups.
    Ls(Box<LookArgs>),
    /// Reads all that backups name and compares checksums; exit code 1 if something is not as it was.
    Verify(Box<VerifyArgs>),
    /// Restores a backup of each tenant into a bucket where it has nothing.
    Restore(Box<RestoreArgs>),
}

/// Where backups are.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Place {
    /// YAML file that names the bucket with the backups.
    #[arg(long = "backup.config-file", env = "PYRRHA_BACKUP_CONFIG_FILE", value_name = "FILE")]
    backup_config_file: Option<PathBuf>,
    /// Directory with the backups.
    #[arg(long = "backup.dir", value_name = "DIR")]
    backup_dir: Option<PathBuf>,
}

impl Place {
    fn open(&self, writes: bool) -> Result<Opened, CommandError> {
        match (&self.backup_config_file, &self.backup_dir) {
            (Some(file), _) => BucketArgs::of_file(file.clone()).open_to_fill(writes),
            (None, Some(dir)) => Opened::directory(dir, writes),
            (None, None) => Err(CommandError::new("neither --backup.config-file nor --backup.dir is given")),
        }
    }

    fn backups(&self) -> Result<Backups, CommandError> {
        Ok(Backups::new(tools_of(self.open(false)?)))
    }
}

/// Which tenants.
#[derive(Debug, Args)]
struct Tenants {
    /// Tenant; may be repeated [default: all].
    #[arg(long, value_name = "TENANT", value_parser = parse_tenant)]
    tenant: Vec<TenantId>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct CreateArgs {
    #[command(flatten)]
    bucket: BucketArgs,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    tenants: Tenants,
    /// Show what would be copied, and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Read what earlier backups have brought, too, and copy anew what is damaged; otherwise lengths alone are
    /// compared.
    #[arg(long, conflicts_with = "dry_run")]
    verify: bool,
    #[command(flatten)]
    form: FormArgs,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct LookArgs {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    tenants: Tenants,
    #[command(flatten)]
    form: FormArgs,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct VerifyArgs {
    #[command(flatten)]
    look: LookArgs,
    /// Id of one backup [default: all].
    #[arg(long, value_name = "ULID", value_parser = parse_id)]
    id: Option<BlockId>,
    /// Compare lengths alone, and read nothing.
    #[arg(long)]
    lengths_only: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RestoreArgs {
    #[command(flatten)]
    bucket: BucketArgs,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    tenants: Tenants,
    /// Id of a backup, of the one tenant that has it [default: the newest of each].
    #[arg(long, value_name = "ULID", value_parser = parse_id)]
    id: Option<BlockId>,
    /// Restore the one tenant that is named as this one.
    #[arg(long, value_name = "TENANT", value_parser = parse_tenant)]
    to_tenant: Option<TenantId>,
    /// Restore what is sound, though some blocks of the backup are damaged, and name those; exit code 1.
    #[arg(long)]
    leave_out_damaged: bool,
    /// Show what would be copied, and write nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    form: FormArgs,
}

pub(super) fn run(command: Command) -> ExitCode {
    match command {
        Command::Create(args) => output::run(|out| create(out, &args)),
        Command::Ls(args) => output::run(|out| list(out, &args)),
        Command::Verify(args) => output::run(|out| verify(out, &args)),
        Command::Restore(args) => output::run(|out| restore(out, &args)),
    }
}

fn create(out: &mut Out, args: &CreateArgs) -> Result<bool, CommandError> {
    let from = tools_of(args.bucket.open()?);
    let backups = Backups::new(tools_of(args.place.open(!args.dry_run)?));
    let mut progress = Progress::new();
    let mut all = Vec::new();
    for tenant in from.tenant_ids(&args.tenants.tenant)? {
        let mut show = |what: &str, done: u64, total: u64| progress.show(what, done, total);
        let options = BackupOptions { dry_run: args.dry_run, verifies: args.verify };
        all.push(backups.create(&from, &tenant, options, &mut show)?);
    }
    progress.clear();
    args.form.print(out, &all, |out| all.iter().try_for_each(|done| print_created(out, done)))?;
    Ok(true)
}

fn print_created(out: &mut Out, done: &BackedUp) -> io::Result<()> {
    writeln!(
        out,
        "tenant={} backup={} manifest={} blocks={} known={} mended={} copied={} present={}",
        done.tenant,
        done.backup.as_deref().unwrap_or("- (nothing was written)"),
        done.manifest,
        done.blocks,
        done.known_blocks,
        done.mended_blocks,
        size(done.copied_bytes),
        size(done.present_bytes),
    )
}

fn list(out: &mut Out, args: &LookArgs) -> Result<bool, CommandError> {
    let backups = args.place.backups()?;
    let mut all = Vec::new();
    for tenant in backups.tenant_ids(&args.tenants.tenant)? {
        all.extend(backups.list(&tenant)?);
    }
    args.form.print(out, &all, |out| print_list(out, &all))?;
    Ok(true)
}

fn print_list(out: &mut Out, all: &[BackupInfo]) -> io::Result<()> {
    let head = ["TENANT", "BACKUP", "CREATED", "MANIFEST", "BLOCKS", "SIZE", "FROM", "TO", "SOURCE"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(all.iter().map(|backup| {
        vec![
            backup.tenant.clone(),
            backup.id.clone(),
            rfc3339::format(backup.created_at),
            backup.manifest.to_string(),
            backup.blocks.to_string(),
            size(backup.bytes),
            rfc3339::format(backup.min_time),
            rfc3339::format(backup.max_time),
            backup.source.clone(),
        ]
    }));
    table(out, &rows)
}

fn verify(out: &mut Out, args: &VerifyArgs) -> Result<bool, CommandError> {
    let backups = args.look.place.backups()?;
    let mut progress = Progress::new();
    let mut all = Vec::new();
    for tenant in backups.tenant_ids(&args.look.tenants.tenant)? {
        if let Some(id) = args.id
            && !backups.list(&tenant)?.iter().any(|backup| backup.id == id.to_string())
        {
            continue;
        }
        let mut show = |what: &str, done: u64, total: u64| progress.show(what, done, total);
        all.push(backups.verify(&tenant, args.id.map(BackupChoice::Id), args.lengths_only, &mut show)?);
    }
    progress.clear();
    args.look.form.print(out, &all, |out| all.iter().try_for_each(|report| print_report(out, report)))?;
    if all.iter().all(|report| report.backups.is_empty() && report.issues.is_empty()) {
        return Err(CommandError::new("there is no such backup"));
    }
    Ok(all.iter().all(|report| report.issues.is_empty()))
}

fn print_report(out: &mut Out, report: &BackupReport) -> io::Result<()> {
    writeln!(
        out,
        "{}: {} backups={} blocks={} objects={} bytes={} read={} issues={}",
        report.tenant,
        if report.issues.is_empty() { "sound" } else { "DAMAGED" },
        report.backups.len(),
        report.blocks,
        report.objects,
        size(report.bytes),
        size(report.read_bytes),
        report.issues.len(),
    )?;
    for issue in &report.issues {
        write!(out, "  error")?;
        for (name, value) in [("backup", &issue.backup), ("block", &issue.block), ("file", &issue.file)] {
            if let Some(value) = value {
                write!(out, " {name}={value}")?;
            }
        }
        writeln!(out, ": {}", issue.what)?;
    }
    if report.issues.iter().any(|issue| issue.block.is_some()) {
        writeln!(
            out,
            "  `backup create --verify` copies damaged blocks anew, as long as the bucket has them"
        )?;
    }
    Ok(())
}

fn restore(out: &mut Out, args: &RestoreArgs) -> Result<bool, CommandError> {
    let backups = args.place.backups()?;
    let tenants = backups.tenant_ids(&args.tenants.tenant)?;
    let mut chosen: Vec<(TenantId, BackupChoice)> = Vec::new();
    for tenant in tenants {
        let ids: Vec<String> = backups.list(&tenant)?.into_iter().map(|backup| backup.id).collect();
        match args.id {
            Some(id) if ids.contains(&id.to_string()) => chosen.push((tenant, BackupChoice::Id(id))),
            None if !ids.is_empty() => chosen.push((tenant, BackupChoice::Newest)),
            _ => {}
        }
    }
    if chosen.is_empty() {
        return Err(CommandError::new("there is no such backup"));
    }
    if args.to_tenant.is_some() && chosen.len() > 1 {
        return Err(CommandError::new("--to-tenant is for one tenant: name it with --tenant"));
    }
    let to = tools_of(args.bucket.open_to_fill(!args.dry_run)?);
    let mut progress = Progress::new();
    let mut all = Vec::new();
    for (tenant, choice) in &chosen {
        let mut show = |what: &str, done: u64, total: u64| progress.show(what, done, total);
        let to_tenant = args.to_tenant.as_ref().unwrap_or(tenant);
        let options = RestoreOptions { dry_run: args.dry_run, leaves_out_damaged: args.leave_out_damaged };
        all.push(backups.restore(tenant, *choice, (&to, to_tenant), options, &mut show)?);
    }
    progress.clear();
    args.form.print(out, &all, |out| all.iter().try_for_each(|done| print_restored(out, done)))?;
    Ok(all.iter().all(|done| done.left_out.is_empty()))
}

fn print_restored(out: &mut Out, done: &Restored) -> io::Result<()> {
    let word = match (done.was_restored, done.committed) {
        (true, _) => " (was restored before)",
        (false, true) => "",
        (false, false) => " (nothing was written)",
    };
    writeln!(
        out,
        "tenant={} backup={} blocks={} copied={} present={}{word}",
        done.restored_to,
        done.backup,
        done.blocks,
        size(done.copied_bytes),
        size(done.present_bytes),
    )?;
    for one in &done.left_out {
        let (from, to) = (rfc3339::format(one.min_time), rfc3339::format(one.max_time));
        writeln!(
            out,
            "  LEFT OUT block={} resolution={} from={from} to={to}: {}",
            one.block,
            resolution(one.resolution),
            one.what
        )?;
    }
    Ok(())
}
