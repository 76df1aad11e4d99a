//! `pyrrha export`: series and samples for other tools.

mod csv;
mod json;
mod openmetrics;
mod remote;

use std::io::Write;
use std::path::PathBuf;
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
    /// A data directory of Prometheus or Pyrrha, or a single block.
    #[arg(value_name = "DIR", required_unless_present = "url", conflicts_with = "url")]
    dir: Option<PathBuf>,
    /// A running server, Pyrrha or Prometheus, instead of a directory: http://host:port.
    #[arg(long)]
    url: Option<String>,
    /// Tenant, in a data directory of Pyrrha or on its server.
    #[arg(long, default_value = "anonymous")]
    tenant: String,
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

fn encoder(format: Format) -> Box<dyn Encode> {
    match format {
        Format::Openmetrics => Box::new(openmetrics::Encoder::default()),
        Format::Json => Box::new(json::Encoder),
        Format::Csv => Box::new(csv::Encoder::default()),
    }
}

pub(super) fn run(args: Args) -> ExitCode {
    output::run(|out| match (args.url, args.dir) {
        (Some(url), _) => remote::run_to(out, &url, &args.tenant, &args.selection, args.format),
        (None, dir) => {
            let directory = DirectoryArgs::new(dir.unwrap_or_default(), args.tenant);
            run_to(out, &directory, &args.selection, args.format)
        }
    })
}

/// Exports a directory.
pub(super) fn run_to(
    out: &mut Out,
    directory: &DirectoryArgs,
    selection: &Selection,
    format: Format,
) -> Result<bool, CommandError> {
    let mut encoder = encoder(format);
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
