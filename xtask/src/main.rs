//! Checks of the house: `cargo xtask check` runs all, `layers`, `headers` or `links` one of them.
//! The same checks run as tests of this crate.

mod headers;
mod layers;
mod links;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A check returns what is wrong, one finding per line.
type Check = fn(&Path) -> Result<Vec<String>, String>;

const CHECKS: [(&str, Check); 3] =
    [("layers", layers::check), ("headers", headers::check), ("links", links::check)];

fn main() -> ExitCode {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    let checks: Vec<_> =
        CHECKS.into_iter().filter(|(name, _)| wanted == "check" || wanted == *name).collect();
    if checks.is_empty() {
        eprintln!("usage: cargo xtask check|layers|headers|links");
        return ExitCode::FAILURE;
    }
    let mut sound = true;
    for (name, check) in checks {
        match check(&workspace_root()) {
            Ok(findings) if findings.is_empty() => println!("{name}: ok"),
            Ok(findings) => {
                sound = false;
                for finding in findings {
                    eprintln!("{name}: {finding}");
                }
            }
            Err(error) => {
                sound = false;
                eprintln!("{name}: could not run: {error}");
            }
        }
    }
    if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// Files below `dir` with one of the extensions, except build output and hidden directories.
fn files(dir: &Path, extensions: &[&str], found: &mut Vec<PathBuf>) -> Result<(), String> {
    let entries = std::fs::read_dir(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if name.starts_with('.') || name == "target" || name == "data" {
            continue;
        }
        if path.is_dir() {
            files(&path, extensions, found)?;
        } else if path.extension().is_some_and(|e| extensions.iter().any(|x| e == *x)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_house_stands() {
        for (name, check) in CHECKS {
            let findings = check(&workspace_root()).expect("the check runs");
            assert!(findings.is_empty(), "{name}:\n{}", findings.join("\n"));
        }
    }
}
