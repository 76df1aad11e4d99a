//! `pyrrha export`: series and samples for other tools.

mod csv;
mod json;
mod openmetrics;

use std::io::Write;
use std::process::ExitCode;

use clap::ValueEnum;
use pyrrha_model::Labels;
use pyrrha_storage::tsdb::{StoredSample, visit_series};

use super::directory::{DirectoryArgs, Selection, Sources};
use super::output::{self, CommandError, Out};

/// What to export.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Form of the output.
    #[arg(value_enum)]
    format: Format,
    #[command(flatten)]
    directory: DirectoryArgs,
    #[command(flatten)]
    selection: Selection,
}

/// Form of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// OpenMetrics text with times: float samples alone, without stale markers.
    Openmetrics,
    /// A JSON object per series and line, as a matrix of the query API has them.
    Json,
    /// `timestamp,metric,labels,value` with a header line.
    Csv,
}

/// Writes series in one form.
trait Encode {
    /// What comes before all series.
    fn begin(&mut self, _out: &mut Vec<u8>) {}

    /// A series.
    fn series(&mut self, labels: &Labels, samples: &[StoredSample], out: &mut Vec<u8>);

    /// What comes after all series.
    fn end(&mut self, _out: &mut Vec<u8>) {}

    /// What the form could not carry.
    fn left_out(&self) -> Option<String> {
        None
    }
}

pub(super) fn run(args: Args) -> ExitCode {
    output::run(|out| run_to(out, &args.directory, &args.selection, args.format))
}

/// Exports a directory.
pub(super) fn run_to(
    out: &mut Out,
    directory: &DirectoryArgs,
    selection: &Selection,
    format: Format,
) -> Result<bool, CommandError> {
    let mut encoder: Box<dyn Encode> = match format {
        Format::Openmetrics => Box::new(openmetrics::Encoder::default()),
        Format::Json => Box::new(json::Encoder),
        Format::Csv => Box::new(csv::Encoder::default()),
    };
    let (sources, matchers) = (Sources::open(directory, selection)?, selection.matchers()?);
    let mut buffer = Vec::new();
    encoder.begin(&mut buffer);
    visit_series(&sources.ctx, &sources.sources(), &matchers, selection.range(), |labels, samples| {
        encoder.series(labels, samples, &mut buffer);
        out.write_all(&buffer)?;
        buffer.clear();
        Ok::<(), CommandError>(())
    })?;
    encoder.end(&mut buffer);
    out.write_all(&buffer)?;
    if let Some(left_out) = encoder.left_out() {
        output::warn(left_out);
    }
    sources.report();
    Ok(true)
}

#[cfg(test)]
mod tests;
