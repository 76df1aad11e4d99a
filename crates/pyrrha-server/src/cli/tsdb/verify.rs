//! `pyrrha tsdb verify`: reads everything and says what is damaged.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pyrrha_env::SystemClock;
use pyrrha_storage::prometheus::{LogFault, verify_head};
use pyrrha_storage::tsdb::{
    BlockReport, Directory, DirectoryKind, Standing, TsdbError, verify_block, verify_log as verify_own_log,
};
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
    match directory.kind() {
        DirectoryKind::Prometheus => sound &= verify_log(out, &directory, json)?,
        DirectoryKind::Pyrrha { data_dir: Some(dir) } => sound &= verify_own(out, &directory, dir, json)?,
        DirectoryKind::Pyrrha { data_dir: None } | DirectoryKind::Block => {}
    }
    Ok(sound)
}

#[derive(Serialize)]
struct OwnLogLine {
    log: String,
    sound: bool,
    segments: u64,
    records: u64,
    samples: u64,
    checkpoints: u64,
    chunks: u64,
    faults: Vec<OwnFault>,
    more_faults: u64,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct OwnFault {
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    what: String,
}

/// Reads log, checkpoints and head chunks of a data directory, of all its tenants.
fn verify_own(out: &mut Out, directory: &Directory, dir: &Path, json: bool) -> Result<bool, CommandError> {
    let _lock = match directory.lock() {
        Ok(lock) => lock,
        // It would change while it is read.
        Err(TsdbError::InUse { .. }) => {
            eprintln!("a server has the directory open: its log is not read");
            return Ok(true);
        }
        Err(error) => return Err(error.into()),
    };
    let report = verify_own_log(directory.disk(), Arc::new(SystemClock::new()), dir)?;
    let sound = report.is_sound();
    let fault = |fault: pyrrha_storage::tsdb::LogFault| OwnFault {
        file: fault.path.display().to_string(),
        offset: fault.offset,
        what: fault.what,
    };
    let line = OwnLogLine {
        log: dir.display().to_string(),
        sound,
        segments: report.segments,
        records: report.records,
        samples: report.samples,
        checkpoints: report.checkpoints,
        chunks: report.chunks,
        faults: report.faults.into_iter().map(fault).collect(),
        more_faults: report.more_faults,
        notes: report.notes,
    };
    if json {
        serde_json::to_writer(&mut *out, &line).map_err(io::Error::from)?;
        writeln!(out)?;
        return Ok(sound);
    }
    let word = if sound { "sound" } else { "DAMAGED" };
    let OwnLogLine { log, segments, records, samples, checkpoints, chunks, .. } = &line;
    writeln!(
        out,
        "{log}: log {word} segments={segments} records={records} samples={samples} checkpoints={checkpoints} head_chunks={chunks}"
    )?;
    for OwnFault { file, offset, what } in &line.faults {
        let offset = offset.map(|at| format!(" offset={at}")).unwrap_or_default();
        writeln!(out, "  {file}{offset}: {what}")?;
    }
    if line.more_faults > 0 {
        writeln!(out, "  and {} faults more", line.more_faults)?;
    }
    for note in &line.notes {
        writeln!(out, "  note: {note}")?;
    }
    Ok(sound)
}

/// A write that was cut off is within so many bytes of the end of its file.
const TORN_MAX: u64 = 128 << 10;

#[derive(Serialize)]
struct LogLine {
    log: String,
    sound: bool,
    series: u64,
    samples: u64,
    faults: Vec<Fault>,
}

#[derive(Serialize)]
struct Fault {
    file: String,
    offset: u64,
    what: String,
    /// Whether Prometheus mends it at its next start.
    expected: bool,
}

/// Reads the log, the out-of-order log and the head chunks of a Prometheus. What is wrong with the
/// end of a file that was being written when Prometheus stopped is shown, and is no damage.
fn verify_log(out: &mut Out, directory: &Directory, json: bool) -> Result<bool, CommandError> {
    let report = verify_head(&**directory.disk(), directory.home())?;
    let last = newest(directory, "wal").into_iter().chain(newest(directory, "wbl"));
    let last: Vec<(PathBuf, u64)> = last.chain(newest(directory, "chunks_head")).collect();
    let is_end = |path: &PathBuf, offset: u64| {
        last.iter().any(|(last, len)| last == path && offset.saturating_add(TORN_MAX) >= *len)
    };
    let fault = |(path, fault): &(PathBuf, LogFault)| Fault {
        file: path.display().to_string(),
        offset: fault.offset,
        what: fault.what.clone(),
        expected: is_end(path, fault.offset),
    };
    let faults: Vec<Fault> = report.faults.iter().map(fault).collect();
    let sound = faults.iter().all(|f| f.expected) && report.more_faults == 0;
    let log = directory.home().display().to_string();
    if json {
        let line = LogLine { log, sound, series: report.series, samples: report.samples, faults };
        serde_json::to_writer(&mut *out, &line).map_err(io::Error::from)?;
        writeln!(out)?;
        return Ok(sound);
    }
    let word = if sound { "sound" } else { "DAMAGED" };
    writeln!(out, "{log}: log {word} series={} samples={}", report.series, report.samples)?;
    for Fault { file, offset, what, expected } in faults {
        let note = if expected { "note: cut off where writing stopped: " } else { "" };
        writeln!(out, "  {note}{file} offset={offset}: {what}")?;
    }
    if report.more_faults > 0 {
        writeln!(out, "  and {} faults more", report.more_faults)?;
    }
    Ok(sound)
}

/// The file of a directory that is written to, and its length.
fn newest(directory: &Directory, part: &str) -> Option<(PathBuf, u64)> {
    let dir = directory.home().join(part);
    let entries = directory.disk().list(&dir).ok()?;
    let is_number = |name: &str| name.bytes().all(|b| b.is_ascii_digit());
    entries.iter().filter(|e| is_number(&e.name)).map(|e| (dir.join(&e.name), e.len)).next_back()
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
