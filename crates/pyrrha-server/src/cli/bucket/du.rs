//! `pyrrha bucket du`: how much room what takes.

use std::io::{self, Write};

use pyrrha_bucket::tools::{FileKind, ObjectClass, Usage, UsageRow};

use super::select::{FormArgs, SelectArgs, resolution, word};
use super::{BucketArgs, tools_of};
use crate::cli::output::{CommandError, Out, size, table};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    bucket: BucketArgs,
    #[command(flatten)]
    select: SelectArgs,
    #[command(flatten)]
    form: FormArgs,
}

pub(super) fn run(out: &mut Out, args: Args) -> Result<bool, CommandError> {
    let selector = args.select.selector()?;
    let tools = tools_of(args.bucket.open()?);
    let tenants = args.select.tenants_of(&tools)?;
    let all: Vec<Usage> =
        tenants.iter().map(|tenant| tools.usage(tenant, &selector)).collect::<Result<_, _>>()?;
    args.form.print(out, &all, |out| print(out, &all))?;
    Ok(true)
}

fn print(out: &mut Out, all: &[Usage]) -> io::Result<()> {
    let head = ["TENANT", "CLASS", "RESOLUTION", "LEVEL", "KIND", "OBJECTS", "BYTES", "SIZE"];
    let mut cells = vec![head.map(str::to_owned).to_vec()];
    for usage in all {
        cells.extend(usage.rows.iter().map(|row| cells_of(&usage.tenant, row)));
    }
    table(out, &cells)?;
    for usage in all {
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
    Ok(())
}

fn cells_of(tenant: &str, row: &UsageRow) -> Vec<String> {
    vec![
        tenant.to_owned(),
        word(row.class),
        row.resolution.map_or("-".to_owned(), resolution),
        row.level.map_or("-".to_owned(), |level| level.to_string()),
        if row.kind == FileKind::None { "-".to_owned() } else { word(row.kind) },
        row.objects.to_string(),
        row.bytes.to_string(),
        size(row.bytes),
    ]
}
