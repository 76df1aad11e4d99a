//! `pyrrha import openmetrics`: text with times as blocks, line by line.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pyrrha_env::{OsDisk, SystemClock};
use pyrrha_ingest::exposition::{ExposedSample, OpenMetricsLines};
use pyrrha_model::contract::Value;
use pyrrha_storage::backfill::{Backfill, BackfillConfig, SeriesSlot, Target, publish};

use super::TargetArgs;
use crate::cli::output::{CommandError, Out};
use crate::cli::progress::Progress;

/// No line is longer than this.
const LINE_MAX: u64 = 16 << 20;

/// What to import, and where to.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// OpenMetrics text in which every sample has a time; `-` is standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Write blocks into this directory, as Prometheus has them, instead of a data directory.
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    #[command(flatten)]
    target: TargetArgs,
    /// Memory for samples that are not written yet.
    #[arg(long, value_name = "BYTES", default_value = "256MiB", value_parser = parse_bytes)]
    memory: usize,
}

fn parse_bytes(text: &str) -> Result<usize, String> {
    crate::config::parse_bytes(text)
}

pub(super) fn run(out: &mut Out, args: &Args) -> Result<bool, CommandError> {
    let (reader, total) = open(&args.file)?;
    let target = match &args.output {
        Some(dir) => Target::directory(Arc::new(OsDisk), dir)?,
        None => args.target.open()?,
    };
    let config = BackfillConfig { memory_bytes: args.memory, ..BackfillConfig::default() };
    let clock = Arc::new(SystemClock::new());
    let mut backfill = Backfill::begin(Arc::new(OsDisk), clock, target.home(), "import", config)?;
    read(reader, total, &args.file, &mut backfill)?;
    let (staged, stats) = backfill.finish()?;
    let published = publish(&target, &staged)?;
    writeln!(
        out,
        "imported samples={} exemplars={} repeated={} blocks={} into {}",
        stats.samples,
        stats.exemplars,
        stats.repeated,
        published.added.len(),
        target.home().display()
    )?;
    Ok(true)
}

/// The text and its length, 0 if it is not known.
fn open(path: &Path) -> Result<(Box<dyn BufRead>, u64), CommandError> {
    if path == Path::new("-") {
        return Ok((Box::new(BufReader::new(std::io::stdin())), 0));
    }
    let fail = |e: std::io::Error| CommandError::new(format!("cannot read file={}: {e}", path.display()));
    let file = File::open(path).map_err(fail)?;
    let len = file.metadata().map_err(fail)?.len();
    Ok((Box::new(BufReader::with_capacity(1 << 20, file)), len))
}

fn read(
    mut reader: Box<dyn BufRead>,
    total: u64,
    path: &Path,
    backfill: &mut Backfill,
) -> Result<(), CommandError> {
    let name = path.display();
    let (mut lines, mut progress) = (OpenMetricsLines::default(), Progress::new());
    let (mut line, mut done) = (Vec::new(), 0u64);
    loop {
        line.clear();
        let read = (&mut reader).take(LINE_MAX).read_until(b'\n', &mut line);
        let len = read.map_err(|e| CommandError::new(format!("cannot read file={name}: {e}")))? as u64;
        if len == 0 {
            break;
        }
        if len == LINE_MAX && line.last() != Some(&b'\n') {
            let number = lines.lines() + 1;
            return Err(CommandError::new(format!(
                "file={name}: line {number} is longer than {LINE_MAX} bytes"
            )));
        }
        done += len;
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        let sample = lines.take(&line).map_err(|e| CommandError::new(format!("file={name}: {e}")))?;
        if let Some(sample) = sample {
            push(backfill, sample)?;
        }
        if lines.lines().is_multiple_of(4096) {
            progress.show("import", done, total);
        }
    }
    let metadata = lines.finish().map_err(|e| CommandError::new(format!("file={name}: {e}")))?;
    // Families are known now; they go into the blocks that are not written yet.
    metadata.into_iter().for_each(|(family, metadata)| backfill.describe(&family, metadata));
    Ok(())
}

fn push(backfill: &mut Backfill, sample: ExposedSample) -> Result<(), CommandError> {
    let ExposedSample { labels, value, timestamp, exemplar } = sample;
    // The reader lets no sample through without a time.
    let Some(time) = timestamp else { return Ok(()) };
    backfill.push(&mut SeriesSlot::default(), &labels, 0, time, Value::Float(value))?;
    if let Some(exemplar) = exemplar {
        backfill.push_exemplar(&labels, time, exemplar)?;
    }
    Ok(())
}
