//! `pyrrha tsdb verify`: reads everything and says what is damaged.

use std::io::{self, Write};

use pyrrha_storage::tsdb::{BlockReport, Standing, verify_block};
use serde::Serialize;

use super::DirectoryArgs;
use crate::cli::output::{CommandError, Out};

#[derive(Serialize)]
struct Line<'a> {
    block: String,
    sound: bool,
    #[serde(flatten)]
    report: &'a BlockReport,
}

pub(super) fn run(out: &mut Out, directory: &DirectoryArgs, json: bool) -> Result<bool, CommandError> {
    let directory = directory.find()?;
    let mut sound = true;
    for found in directory.blocks()? {
        let mut report = verify_block(&**directory.disk(), &found.dir);
        match found.standing {
            Standing::Live | Standing::Missing => {}
            Standing::Replaced => {
                report.notes.push("block is replaced by another that was made from it".into())
            }
            Standing::Unlisted => {
                report.notes.push("block is in no manifest, and no part of the data".into())
            }
        }
        // What is no part of the data may be in any state.
        let counts = found.standing != Standing::Unlisted;
        sound &= report.is_sound() || !counts;
        if json {
            let line = Line { block: found.id.to_string(), sound: report.is_sound(), report: &report };
            serde_json::to_writer(&mut *out, &line).map_err(io::Error::from)?;
            writeln!(out)?;
        } else {
            print(out, &found.dir.display().to_string(), &report)?;
        }
        out.flush()?;
    }
    Ok(sound)
}

fn print(out: &mut Out, dir: &str, report: &BlockReport) -> io::Result<()> {
    let word = if report.is_sound() { "sound" } else { "DAMAGED" };
    let BlockReport { series, chunks, samples, .. } = report;
    writeln!(out, "{dir}: {word} series={series} chunks={chunks} samples={samples}")?;
    for problem in &report.problems {
        write!(out, "  {}", problem.file)?;
        if let Some(offset) = problem.offset {
            write!(out, " offset={offset}")?;
        }
        write!(out, ": {}", problem.what)?;
        if let Some(series) = &problem.series {
            write!(out, " series={series}")?;
        }
        writeln!(out)?;
    }
    if report.more_problems > 0 {
        writeln!(out, "  and {} problems more", report.more_problems)?;
    }
    for note in &report.notes {
        writeln!(out, "  note: {note}")?;
    }
    Ok(())
}
