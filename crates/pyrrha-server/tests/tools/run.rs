//! Running programs, and data for them.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output};

/// Runs the binary under test.
pub(crate) fn pyrrha(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pyrrha")).args(arguments).output().unwrap()
}

/// Runs the binary, which has to succeed; gives its output.
pub(crate) fn pyrrha_ok(arguments: &[&str]) -> String {
    let output = pyrrha(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "pyrrha {arguments:?}: {errors}\n{}", text(&output));
    text(&output)
}

/// What it printed.
pub(crate) fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What promtool prints; `None`, with a word, where it is not there.
pub(crate) fn promtool(arguments: &[&str]) -> Option<String> {
    let output = match Command::new("promtool").args(arguments).output() {
        Ok(output) => output,
        Err(error) => {
            println!("skipped: promtool cannot be run: {error}");
            return None;
        }
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool {arguments:?}: {errors}");
    Some(text(&output))
}

/// OpenMetrics text of `hosts` counters over `hours` hours.
pub(crate) fn openmetrics(hosts: u32, hours: u32) -> String {
    let mut page = String::from("# HELP m A counter.\n# TYPE m counter\n");
    for host in 0..hosts {
        for i in (0..hours * 3600).step_by(30) {
            let (value, time) = (f64::from(i * host) + 0.5, 1_700_000_000 + i);
            let line =
                writeln!(page, r#"m_total{{host="h{host:02}",path="a\"b\\c\nd"}} {value} {time}.{host:03}"#);
            line.unwrap();
        }
    }
    page.push_str("# EOF\n");
    page
}

/// A directory with blocks that promtool made, as Prometheus has it.
pub(crate) fn prometheus_directory(page: &str) -> Option<tempfile::TempDir> {
    let dir = tempfile::tempdir().unwrap();
    let (file, data) = (dir.path().join("page.txt"), dir.path().join("data"));
    std::fs::write(&file, page).unwrap();
    std::fs::create_dir_all(data.join("wal")).unwrap();
    promtool(&["tsdb", "create-blocks-from", "openmetrics", path(&file), path(&data)])?;
    Some(dir)
}

/// A path as an argument.
pub(crate) fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The lines of a text, sorted.
pub(crate) fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}
