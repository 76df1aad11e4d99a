//! `pyrrha bucket du`: how much room what takes.

use std::io::{self, Write};

use pyrrha_bucket::tools::{FileKind, ObjectClass, Usage, UsageRow};

use super::select::{Form, SelectArgs, resolution};
use super::{BucketArgs, tools_of};
use crate::cli::output::{CommandError, Out, size, table};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    bucket: BucketArgs,
    #[command(flatten)]
    select: SelectArgs,
    /// Form of the output.
    #[arg(long, short, value_enum, default_value = "table")]
    output: Form,
}

pub(super) fn run(out: &mut Out, args: Args) -> Result<bool, CommandError> {
    let selector = args.select.selector()?;
    let tools = tools_of(args.bucket.open()?);
    let tenants = tools.tenant_ids(args.select.tenants())?;
    let all: Vec<Usage> =
        tenants.iter().map(|tenant| tools.usage(tenant, &selector)).collect::<Result<_, _>>()?;
    if args.output == Form::Json {
        serde_json::to_writer_pretty(&mut *out, &all).map_err(io::Error::from)?;
        writeln!(out)?;
        return Ok(true);
    }
    let head = ["TENANT", "CLASS", "RESOLUTION", "LEVEL", "KIND", "OBJECTS", "BYTES", "SIZE"];
    let mut cells = vec![head.map(str::to_owned).to_vec()];
    for usage in &all {
        cells.extend(usage.rows.iter().map(|row| cells_of(&usage.tenant, row)));
    }
    table(out, &cells)?;
    for usage in &all {
        let per_sample = usage.bytes_of(ObjectClass::Live) as f64 / usage.samples.max(1) as f64;
        writeln!(
            out,
            "tenant={} blocks={} samples={} live={} orphaned={} unreferenced={} leaving={} total={} bytes_per_sample={per_sample:.2}",
            usage.tenant,
            usage.blocks,
            usage.samples,
            size(usage.bytes_of(ObjectClass::Live)),
            size(usage.bytes_of(ObjectClass::Orphaned)),
            size(usage.bytes_of(ObjectClass::Unreferenced)),
            size(usage.bytes_of(ObjectClass::Leaving)),
            size(usage.bytes()),
        )?;
    }
    Ok(true)
}

fn cells_of(tenant: &str, row: &UsageRow) -> Vec<String> {
    let class = match row.class {
        ObjectClass::Live => "live",
        ObjectClass::Unreferenced => "unreferenced",
        ObjectClass::Working => "working",
        ObjectClass::Leaving => "leaving",
        ObjectClass::Orphaned => "orphaned",
        ObjectClass::Manifest => "manifest",
        ObjectClass::Jobs => "jobs",
        ObjectClass::Other => "other",
    };
    let kind = match row.kind {
        FileKind::Chunks => "chunks",
        FileKind::Index => "index",
        FileKind::Windows => "windows",
        FileKind::Meta => "meta",
        FileKind::Mark => "mark",
        FileKind::Sidecar => "sidecar",
        FileKind::None => "-",
    };
    vec![
        tenant.to_owned(),
        class.to_owned(),
        row.resolution.map_or("-".to_owned(), resolution),
        row.level.map_or("-".to_owned(), |level| level.to_string()),
        kind.to_owned(),
        row.objects.to_string(),
        row.bytes.to_string(),
        size(row.bytes),
    ]
}
