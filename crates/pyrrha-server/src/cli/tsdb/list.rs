//! `pyrrha tsdb list`: the blocks in promtool's columns.

use std::io::Write;

use pyrrha_storage::block::Block;
use pyrrha_storage::tsdb::{FoundBlock, Standing};
use serde::Serialize;

use super::DirectoryArgs;
use crate::cli::output::{CommandError, Out, go_duration, size, table};
use pyrrha_model::rfc3339;

const COLUMNS: [&str; 8] =
    ["BLOCK ULID", "MIN TIME", "MAX TIME", "DURATION", "NUM SAMPLES", "NUM CHUNKS", "NUM SERIES", "SIZE"];

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    ulid: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(flatten)]
    block: Option<Sizes>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sizes {
    min_time: i64,
    max_time: i64,
    num_samples: u64,
    num_chunks: u64,
    num_series: u64,
    size_bytes: u64,
    level: u32,
    sources: Vec<String>,
}

pub(super) fn run(
    out: &mut Out,
    directory: &DirectoryArgs,
    human: bool,
    json: bool,
) -> Result<bool, CommandError> {
    let found = directory.find()?.blocks()?;
    if json {
        let listed: Vec<Listed> = found.iter().map(listed).collect();
        serde_json::to_writer_pretty(&mut *out, &listed).map_err(std::io::Error::from)?;
        writeln!(out)?;
        return Ok(true);
    }
    // The state is worth a column only where there is something to say.
    let plain = found.iter().all(|f| state(f) == "live");
    let mut header: Vec<String> = COLUMNS.iter().map(|&c| c.to_owned()).collect();
    header.extend((!plain).then(|| "STATE".to_owned()));
    let mut rows = vec![header];
    for found in &found {
        let mut row = match &found.block {
            Ok(block) => cells(block, human),
            Err(_) => {
                let blank = std::iter::repeat_n("-".to_owned(), COLUMNS.len() - 1);
                std::iter::once(found.id.to_string()).chain(blank).collect()
            }
        };
        row.extend((!plain).then(|| state(found).to_owned()));
        rows.push(row);
    }
    table(out, &rows)?;
    Ok(true)
}

fn cells(block: &Block, human: bool) -> Vec<String> {
    let meta = block.meta();
    let time = |ms: i64| if human { rfc3339::format(ms) } else { ms.to_string() };
    vec![
        meta.ulid.to_string(),
        time(meta.min_time),
        time(meta.max_time),
        go_duration(meta.max_time.saturating_sub(meta.min_time)),
        meta.stats.num_samples.to_string(),
        meta.stats.num_chunks.to_string(),
        meta.stats.num_series.to_string(),
        if human { size(block.bytes()) } else { block.bytes().to_string() },
    ]
}

fn state(found: &FoundBlock) -> &'static str {
    match (found.standing, &found.block) {
        (Standing::Missing, _) => "missing",
        (_, Err(_)) => "damaged",
        (Standing::Live, _) => "live",
        (Standing::Replaced, _) => "replaced",
        (Standing::Unlisted, _) => "unlisted",
    }
}

fn listed(found: &FoundBlock) -> Listed {
    let sizes = |block: &Block| {
        let meta = block.meta();
        Sizes {
            min_time: meta.min_time,
            max_time: meta.max_time,
            num_samples: meta.stats.num_samples,
            num_chunks: meta.stats.num_chunks,
            num_series: meta.stats.num_series,
            size_bytes: block.bytes(),
            level: meta.compaction.level,
            sources: meta.compaction.sources.iter().map(ToString::to_string).collect(),
        }
    };
    Listed {
        ulid: found.id.to_string(),
        state: state(found),
        error: found.block.as_ref().err().map(ToString::to_string),
        block: found.block.as_ref().ok().map(sizes),
    }
}
