//! `pyrrha tsdb analyze`: a cardinality report.

use std::io::{self, Write};

use pyrrha_storage::tsdb::{Analysis, ChunkFill, Count};

use super::DirectoryArgs;
use crate::cli::directory::live_blocks;
use crate::cli::output::{CommandError, Out, go_duration};

/// Which block, and how much of it.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    directory: DirectoryArgs,
    /// Block to look at [default: the newest].
    #[arg(long, value_name = "ULID")]
    block: Option<String>,
    /// Only series of this selector.
    #[arg(long = "match", value_name = "SELECTOR")]
    matcher: Option<String>,
    /// Length of each list.
    #[arg(long, default_value_t = 20)]
    limit: usize,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(out: &mut Out, args: &Args) -> Result<bool, CommandError> {
    let matchers = match &args.matcher {
        Some(text) => pyrrha_promql::parser::parse_selector(text).map_err(CommandError::new)?,
        None => Vec::new(),
    };
    let mut found = args.directory.find()?.blocks()?;
    if let Some(wanted) = &args.block {
        found.retain(|f| f.id.to_string() == *wanted);
    }
    let block = live_blocks(found, false)?.pop().ok_or_else(|| match &args.block {
        Some(block) => CommandError::new(format!("block is not there block={block}")),
        None => CommandError::new("directory has no blocks"),
    })?;
    let analysis = pyrrha_storage::tsdb::analyze(&block, &matchers, args.limit)?;
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &analysis).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        print(out, &analysis)?;
    }
    Ok(true)
}

fn print(out: &mut Out, analysis: &Analysis) -> io::Result<()> {
    writeln!(out, "Block ID: {}", analysis.block)?;
    writeln!(out, "Duration: {}", go_duration(analysis.max_time.saturating_sub(analysis.min_time)))?;
    writeln!(out, "Series: {}", analysis.series)?;
    writeln!(out, "Label names: {}", analysis.label_names)?;
    writeln!(out, "Postings (unique label pairs): {}", analysis.label_pairs)?;
    writeln!(out, "Postings entries (total label pairs): {}", analysis.postings_entries)?;
    let lists = [
        ("Label pairs most involved in churning", &analysis.churning_pairs),
        ("Label names most involved in churning", &analysis.churning_names),
        ("Most common label pairs", &analysis.common_pairs),
        ("Label names with highest cumulative label value length", &analysis.value_bytes),
        ("Highest cardinality labels", &analysis.cardinality),
        ("Highest cardinality metric names", &analysis.metrics),
    ];
    for (title, list) in lists {
        writeln!(out, "\n{title}:")?;
        for Count { name, count } in list {
            writeln!(out, "{count} {name}")?;
        }
    }
    for (encoding, fill) in &analysis.chunks {
        chunk_fill(out, encoding, fill)?;
    }
    Ok(())
}

fn chunk_fill(out: &mut Out, encoding: &str, fill: &ChunkFill) -> io::Result<()> {
    let per = |a: u64, b: u64| a as f64 / b.max(1) as f64;
    writeln!(
        out,
        "\nChunks of encoding {encoding}: {} with {} samples and {} bytes ({:.1} samples per chunk, {:.2} bytes per sample)",
        fill.chunks,
        fill.samples,
        fill.bytes,
        per(fill.samples, fill.chunks),
        per(fill.bytes, fill.samples)
    )?;
    for (class, &chunks) in fill.by_samples.iter().enumerate().filter(|&(_, &chunks)| chunks > 0) {
        let share = 100.0 * per(chunks, fill.chunks);
        let from = class * 10;
        let to = if class + 1 == fill.by_samples.len() { "more".to_owned() } else { (from + 9).to_string() };
        writeln!(out, "{chunks} ({share:.0} %) with {from} to {to} samples")?;
    }
    Ok(())
}
