//! What commands print, and how they end.

use std::io::{self, BufWriter, StdoutLock, Write};
use std::process::ExitCode;

/// Standard output, buffered.
pub(super) type Out = BufWriter<StdoutLock<'static>>;

/// Why a command ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommandError {
    /// Nothing reads the output any more, `head` has seen enough.
    #[error("output is closed")]
    Closed,
    /// What to tell the user.
    #[error("{0}")]
    Failed(String),
}

impl CommandError {
    /// An error that reads as `error` does.
    pub(super) fn new(error: impl std::fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<io::Error> for CommandError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Failed(format!("cannot write the output: {error}")),
        }
    }
}

impl From<pyrrha_storage::tsdb::TsdbError> for CommandError {
    fn from(error: pyrrha_storage::tsdb::TsdbError) -> Self {
        Self::new(error)
    }
}

impl From<pyrrha_model::StoreError> for CommandError {
    fn from(error: pyrrha_model::StoreError) -> Self {
        Self::new(error)
    }
}

/// Runs a command over standard output; `Ok(false)` is exit code 1 without a message.
pub(super) fn run(command: impl FnOnce(&mut Out) -> Result<bool, CommandError>) -> ExitCode {
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let done = command(&mut out).and_then(|ok| Ok(out.flush().map(|()| ok)?));
    match done {
        Ok(true) | Err(CommandError::Closed) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(CommandError::Failed(message)) => {
            let _ = out.flush();
            super::fail(message)
        }
    }
}

/// Says something beside the output.
pub(super) fn warn(message: impl std::fmt::Display) {
    eprintln!("pyrrha: {message}");
}

/// Writes rows in columns of equal width, as promtool does.
pub(super) fn table(out: &mut impl Write, rows: &[Vec<String>]) -> io::Result<()> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count() + 2).max().unwrap_or(0).max(13)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        for (i, cell) in row.iter().enumerate() {
            if i + 1 == row.len() {
                write!(out, "{cell}")?;
            } else {
                write!(out, "{cell:<width$}", width = widths[i])?;
            }
        }
        writeln!(out)?;
    }
    Ok(())
}

/// A size in the largest unit that leaves a whole number before the point.
pub(super) fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let step = (bytes.checked_ilog2().unwrap_or(0) / 10).min(4);
    match step {
        0 => format!("{bytes}B"),
        step => format!("{:.1}{}", bytes as f64 / (1u64 << (10 * step)) as f64, units[step as usize]),
    }
}

/// A duration as Go prints it: `2h0m0s`, `30.001s`, `1ms`.
pub(super) fn go_duration(ms: i64) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    let ms = ms.unsigned_abs();
    if ms == 0 {
        return "0s".to_owned();
    }
    if ms < 1000 {
        return format!("{sign}{ms}ms");
    }
    let (hours, minutes, rest) = (ms / 3_600_000, ms / 60_000 % 60, ms % 60_000);
    let fraction = format!(".{:03}", rest % 1000);
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    let seconds = format!("{}{fraction}s", rest / 1000);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}"),
        (0, _) => format!("{sign}{minutes}m{seconds}"),
        _ => format!("{sign}{hours}h{minutes}m{seconds}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_read_as_promtool_prints_them() {
        let durations =
            [(0, "0s"), (1, "1ms"), (30_001, "30.001s"), (7_200_000, "2h0m0s"), (61_500, "1m1.5s")];
        for (ms, text) in durations {
            assert_eq!(go_duration(ms), text);
        }
        for (bytes, text) in [(0, "0B"), (708, "708B"), (1536, "1.5KiB"), (3 << 30, "3.0GiB")] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut out = Vec::new();
        let row = |a: &str, b: &str| vec![a.to_owned(), b.to_owned()];
        table(&mut out, &[row("BLOCK ULID", "SIZE"), row("01M7YB0FKNVYW18BC83Z7PWSYM", "708")])
            .expect("writes");
        let expected = "BLOCK ULID                  SIZE\n01M7YB0FKNVYW18BC83Z7PWSYM  708\n";
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }
}
