//! Runs the project's own scripts, and the shared conformance scripts where they are at hand.

use std::fs;
use std::path::{Path, PathBuf};

use pyrrha_promql::{Engine, EngineOptions, Optimiser};
use pyrrha_promqltest::{EngineTarget, ScriptReport, run_script, script_options};
use pyrrha_testkit::ModelDb;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Runs every script of a folder, in order of their names; prints what failed.
fn run_folder(folder: &Path, options: &EngineOptions) -> Vec<ScriptReport> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the folder can be listed")
        .map(|entry| entry.expect("the folder can be listed").path())
        .filter(|path| path.extension().is_some_and(|e| e == "test"))
        .collect();
    files.sort();
    let reports: Vec<ScriptReport> = files
        .iter()
        .map(|path| {
            let text = fs::read_to_string(path).expect("scripts are text");
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let mut target = EngineTarget::new(Engine::new(options.clone()), ModelDb::new);
            run_script(&name, &text, &mut target)
        })
        .collect();
    for report in &reports {
        println!("{report}");
    }
    let (passed, failed) = reports.iter().fold((0, 0), |(p, f), r| (p + r.passed, f + r.failed));
    println!("{}: {passed} passed, {failed} failed", folder.display());
    reports
}

#[test]
fn own_scripts_hold() {
    let reports = run_folder(&workspace().join("testdata/promql"), &script_options());
    assert!(!reports.is_empty());
    assert!(reports.iter().all(ScriptReport::is_ok), "some cases failed, see above");
}

#[test]
fn shared_scripts_hold() {
    shared("as they are", script_options());
}

#[test]
fn shared_scripts_hold_without_the_optimiser() {
    shared("without the optimiser", EngineOptions { optimiser: Optimiser::OFF, ..script_options() });
}

#[test]
fn shared_scripts_hold_on_several_threads() {
    shared("on several threads", EngineOptions { threads: 3, thread_worth: 0, ..script_options() });
}

fn shared(how: &str, options: EngineOptions) {
    let folder = workspace().join("../shared/promqltest");
    if !folder.is_dir() {
        println!("skipped {how}: no folder {}", folder.display());
        return;
    }
    println!("{how}:");
    let reports = run_folder(&folder, &options);
    let cases: usize = reports.iter().map(|r| r.passed + r.failed).sum();
    assert_eq!(cases, 1539, "every eval is one case");
    assert!(reports.iter().all(ScriptReport::is_ok), "some cases failed, see above");
}
