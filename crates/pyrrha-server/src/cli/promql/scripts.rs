//! `pyrrha promql test`: scripts on the real engine over a real database.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use pyrrha_env::{OsDisk, SystemClock};
use pyrrha_promql::Engine;
use pyrrha_promqltest::{EngineTarget, ScriptReport, run_script, script_options};
use pyrrha_storage::{Db, StorageConfig};
use serde::Serialize;

use crate::store::DbStore;

/// Scripts write little: a small log is enough, and quick to make.
const SEGMENT_BYTES: u64 = 1 << 20;

#[derive(Serialize)]
struct Total {
    passed: usize,
    failed: usize,
    files: Vec<ScriptReport>,
}

pub(super) fn run(files: &[PathBuf], json: bool) -> ExitCode {
    let home = std::env::temp_dir().join(format!("pyrrha-promql-test-{}", std::process::id()));
    let result = run_all(files, json, &home);
    if let Err(error) = std::fs::remove_dir_all(&home)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        eprintln!("pyrrha: cannot remove path={}: {error}", home.display());
    }
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => super::super::fail(error),
    }
}

/// Whether everything held.
fn run_all(files: &[PathBuf], json: bool, home: &std::path::Path) -> Result<bool, String> {
    let mut total = Total { passed: 0, failed: 0, files: Vec::new() };
    for (i, path) in files.iter().enumerate() {
        let text = std::fs::read_to_string(path)
            .map_err(|e| format!("cannot read the script: file={}: {e}", path.display()))?;
        let mut opened = 0usize;
        let fresh = || {
            opened += 1;
            database(home.join(format!("{i}-{opened}")))
        };
        let mut target = EngineTarget::new(Engine::new(script_options()), fresh);
        let report = run_script(&path.display().to_string(), &text, &mut target);
        if !json {
            print!("{report}");
        }
        total.passed += report.passed;
        total.failed += report.failed;
        total.files.push(report);
    }
    if json {
        println!("{}", serde_json::to_string_pretty(&total).map_err(|e| e.to_string())?);
    } else {
        println!("total: {} passed, {} failed", total.passed, total.failed);
    }
    Ok(total.files.iter().all(ScriptReport::is_ok))
}

/// An empty database.
#[allow(clippy::expect_used, reason = "scripts cannot run without a writable temporary directory")]
fn database(dir: PathBuf) -> DbStore {
    let mut config = StorageConfig::new(&dir);
    config.wal.segment_bytes = SEGMENT_BYTES;
    config.disk_reserve_bytes = 0;
    config.start_timestamps = true;
    let db = Db::open(config, Arc::new(OsDisk), Arc::new(SystemClock::new()))
        .expect("the temporary directory is writable");
    // An empty log is replayed in no time; what a script loads is judged by the usual rules then.
    db.wait_recovered();
    DbStore::new(Arc::new(db))
}
