//! `pyrrha bucket ls` and `pyrrha bucket inspect`: a row per block, from the manifest, or from it and
//! each block's meta.

use std::collections::BTreeMap;
use std::io::{self, Write};

use pyrrha_bucket::tools::{external_labels, set_aside, shard};
use pyrrha_bucket::{Mark, MarkKind, marks};
use pyrrha_storage::block::BlockMeta;
use pyrrha_storage::manifest::BlockEntry;
use serde::Serialize;

use super::select::{FormArgs, SelectArgs, resolution};
use super::{BucketArgs, tools_of};
use crate::cli::output::{CommandError, Out, go_duration, size, table};
use pyrrha_model::rfc3339;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    bucket: BucketArgs,
    #[command(flatten)]
    select: SelectArgs,
    /// Columns that blocks are sorted by.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "tenant,from,to")]
    sort: Vec<Column>,
    /// Sort in the other direction.
    #[arg(long)]
    reverse: bool,
    #[command(flatten)]
    form: FormArgs,
}

/// What blocks are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Column {
    Tenant,
    Ulid,
    From,
    To,
    Range,
    Series,
    Samples,
    Bytes,
    Level,
    Resolution,
}

/// A block.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    tenant: String,
    ulid: String,
    min_time: i64,
    max_time: i64,
    series: u64,
    samples: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    chunks: Option<u64>,
    bytes: u64,
    level: u32,
    /// ms; 0 for raw samples.
    resolution: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    shard: Option<String>,
    labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    marks: BTreeMap<MarkKind, Mark>,
    #[serde(skip_serializing_if = "Option::is_none")]
    set_aside: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize)]
struct Listing<'a> {
    blocks: &'a [Row],
    total: Total,
}

#[derive(Debug, Default, Serialize)]
struct Total {
    blocks: u64,
    samples: u64,
    bytes: u64,
}

impl Row {
    fn of(tenant: &str, entry: &BlockEntry) -> Self {
        Self {
            tenant: tenant.to_owned(),
            ulid: entry.ulid.to_string(),
            min_time: entry.min_time,
            max_time: entry.max_time,
            series: entry.series,
            samples: entry.samples,
            chunks: None,
            bytes: entry.bytes,
            level: entry.level,
            resolution: entry.resolution,
            shard: shard(entry),
            labels: external_labels(entry),
            source: None,
            marks: marks(entry),
            set_aside: set_aside(entry).map(str::to_owned),
            error: None,
        }
    }

    fn range(&self) -> i64 {
        self.max_time.saturating_sub(self.min_time)
    }

    fn add(&mut self, meta: Result<BlockMeta, String>) {
        match meta {
            Ok(meta) => {
                self.chunks = Some(meta.stats.num_chunks);
                self.source =
                    Some(meta.thanos.map(|t| t.source).filter(|s| !s.is_empty()).unwrap_or_default());
            }
            Err(error) => self.error = Some(error),
        }
    }

    fn cells(&self, inspect: bool) -> Vec<String> {
        let labels: Vec<String> =
            self.labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        let mut cells = vec![
            self.tenant.clone(),
            self.ulid.clone(),
            rfc3339::format(self.min_time),
            rfc3339::format(self.max_time),
            go_duration(self.range()),
            self.level.to_string(),
            resolution(self.resolution),
            self.shard.clone().unwrap_or_else(|| "-".to_owned()),
            self.series.to_string(),
            self.samples.to_string(),
        ];
        let dash = || "-".to_owned();
        if inspect {
            cells.push(self.chunks.map_or_else(dash, |chunks| chunks.to_string()));
        }
        cells.push(size(self.bytes));
        if inspect {
            cells.push(self.source.clone().filter(|s| !s.is_empty()).unwrap_or_else(dash));
        }
        cells.push(if labels.is_empty() { dash() } else { labels.join(",") });
        let mut notes: Vec<String> =
            self.marks.keys().map(|kind| format!("marked {}", kind.name())).collect();
        notes.extend(self.set_aside.as_ref().map(|why| format!("set aside: {why}")));
        notes.extend(self.error.as_ref().map(|why| format!("damaged: {why}")));
        cells.push(notes.join("; "));
        cells
    }
}

pub(super) fn run(out: &mut Out, args: Args, inspect: bool) -> Result<bool, CommandError> {
    let selector = args.select.selector()?;
    let tools = tools_of(args.bucket.open()?);
    let mut rows = Vec::new();
    for tenant in args.select.tenants_of(&tools)? {
        let state = tools.state(&tenant)?;
        let chosen: Vec<_> = state.blocks.values().filter(|b| selector.selects(b)).cloned().collect();
        let mut found: Vec<Row> = chosen.iter().map(|entry| Row::of(tenant.as_str(), entry)).collect();
        if inspect {
            let metas = tools.metas(&tenant, &chosen)?;
            found.iter_mut().zip(metas).for_each(|(row, meta)| row.add(meta));
        }
        rows.append(&mut found);
    }
    sort(&mut rows, &args.sort, args.reverse);
    let total = Total {
        blocks: rows.len() as u64,
        samples: rows.iter().map(|row| row.samples).fold(0, u64::saturating_add),
        bytes: rows.iter().map(|row| row.bytes).fold(0, u64::saturating_add),
    };
    let listing = Listing { blocks: &rows, total };
    args.form.print(out, &listing, |out| print(out, &listing, inspect))?;
    Ok(rows.iter().all(|row| row.error.is_none()))
}

fn sort(rows: &mut [Row], by: &[Column], reverse: bool) {
    rows.sort_by(|a, b| {
        let one = |column: &Column| match column {
            Column::Tenant => a.tenant.cmp(&b.tenant),
            Column::Ulid => a.ulid.cmp(&b.ulid),
            Column::From => a.min_time.cmp(&b.min_time),
            Column::To => a.max_time.cmp(&b.max_time),
            Column::Range => a.range().cmp(&b.range()),
            Column::Series => a.series.cmp(&b.series),
            Column::Samples => a.samples.cmp(&b.samples),
            Column::Bytes => a.bytes.cmp(&b.bytes),
            Column::Level => a.level.cmp(&b.level),
            Column::Resolution => a.resolution.cmp(&b.resolution),
        };
        let first = by.iter().map(one).find(|order| order.is_ne());
        first.unwrap_or_else(|| a.ulid.cmp(&b.ulid))
    });
    if reverse {
        rows.reverse();
    }
}

fn print(out: &mut Out, Listing { blocks: rows, total }: &Listing<'_>, inspect: bool) -> io::Result<()> {
    let mut head = vec![
        "TENANT",
        "ULID",
        "FROM",
        "TO",
        "RANGE",
        "LEVEL",
        "RESOLUTION",
        "SHARD",
        "SERIES",
        "SAMPLES",
        "BYTES",
        "LABELS",
        "NOTE",
    ];
    if inspect {
        head.insert(10, "CHUNKS");
        head.insert(12, "SOURCE");
    }
    let mut cells = vec![head.into_iter().map(str::to_owned).collect()];
    cells.extend(rows.iter().map(|row| row.cells(inspect)));
    table(out, &cells)?;
    writeln!(
        out,
        "blocks={} samples={} bytes={} ({})",
        total.blocks,
        total.samples,
        total.bytes,
        size(total.bytes)
    )
}
