//! The layer check: a crate imports only from below, and the edge (async, HTTP, object stores)
//! stays at the edge. Reads `cargo metadata`.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// What each crate may import of the house, from the ground up. A new crate has to be entered here.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("pyrrha-model", &[]),
    ("pyrrha-env", &["pyrrha-model"]),
    ("pyrrha-encoding", &["pyrrha-model"]),
    ("pyrrha-index", &["pyrrha-model", "pyrrha-env", "pyrrha-encoding"]),
    ("pyrrha-storage", &["pyrrha-model", "pyrrha-env", "pyrrha-encoding", "pyrrha-index"]),
    ("pyrrha-promql", &["pyrrha-model", "pyrrha-encoding"]),
    ("pyrrha-promqltest", &["pyrrha-model", "pyrrha-encoding", "pyrrha-promql"]),
    ("pyrrha-ingest", &["pyrrha-model", "pyrrha-encoding"]),
    ("pyrrha-testkit", &["pyrrha-model", "pyrrha-env", "pyrrha-encoding"]),
    ("pyrrha-bucket", &["pyrrha-model", "pyrrha-env", "pyrrha-encoding", "pyrrha-index", "pyrrha-storage"]),
    (
        "pyrrha-server",
        &[
            "pyrrha-model",
            "pyrrha-env",
            "pyrrha-encoding",
            "pyrrha-index",
            "pyrrha-storage",
            "pyrrha-promql",
            "pyrrha-promqltest",
            "pyrrha-ingest",
            "pyrrha-bucket",
        ],
    ),
];

/// Only the edge may use these.
const EDGE_ONLY: &[&str] = &["tokio", "hyper", "hyper-util", "axum", "tower", "tower-http", "object_store"];
const EDGE: &[&str] = &["pyrrha-bucket", "pyrrha-rules", "pyrrha-server"];

/// Crates outside the house's layers: they may look at everything.
const OUTSIDE: &[&str] = &["pyrrha-benches", "xtask"];

/// Development dependencies may use the test kit, too; upwards they may not go either.
const TEST_KIT: &str = "pyrrha-testkit";

/// Findings of the layer check for the workspace at `root`.
pub(crate) fn check(root: &Path) -> Result<Vec<String>, String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root)
        .output()
        .map_err(|e| format!("cargo metadata: {e}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let metadata: Value =
        serde_json::from_slice(&output.stdout).map_err(|e| format!("cargo metadata: {e}"))?;
    Ok(findings(&metadata))
}

fn findings(metadata: &Value) -> Vec<String> {
    let mut findings = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        if OUTSIDE.contains(&name) {
            continue;
        }
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(n, _)| *n == name) else {
            findings
                .push(format!("crate {name} has no place in the layers: enter it in xtask/src/layers.rs"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let import = dependency["name"].as_str().unwrap_or_default();
            let for_tests = dependency["kind"].as_str() == Some("dev");
            if import.starts_with("pyrrha-")
                && !allowed.contains(&import)
                && !(for_tests && import == TEST_KIT)
            {
                findings.push(format!("{name} imports {import}, which is not below it"));
            }
            if EDGE_ONLY.contains(&import) && !EDGE.contains(&name) {
                findings.push(format!(
                    "{name} imports {import}, which belongs to the edge ({})",
                    EDGE.join(", ")
                ));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependency: &str, kind: Value) -> Value {
        serde_json::json!({"packages": [{"name": name, "dependencies": [{"name": dependency, "kind": kind}]}]})
    }

    #[test]
    fn an_upward_import_is_found() {
        assert_eq!(findings(&package("pyrrha-model", "pyrrha-storage", Value::Null)).len(), 1);
        assert_eq!(findings(&package("pyrrha-promql", "pyrrha-storage", "dev".into())).len(), 1);
        assert_eq!(findings(&package("pyrrha-index", "tokio", Value::Null)).len(), 1);
        assert_eq!(findings(&package("pyrrha-unheard-of", "bytes", Value::Null)).len(), 1);
    }

    #[test]
    fn a_downward_import_is_fine() {
        assert!(findings(&package("pyrrha-storage", "pyrrha-index", Value::Null)).is_empty());
        assert!(findings(&package("pyrrha-ingest", "pyrrha-testkit", "dev".into())).is_empty());
        assert!(findings(&package("pyrrha-server", "tokio", Value::Null)).is_empty());
    }
}
