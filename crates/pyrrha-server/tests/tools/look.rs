//! Listing, dumping, verifying and repairing blocks that promtool made.

use crate::run::{openmetrics, path, prometheus_directory, promtool, pyrrha, pyrrha_ok, sorted, text};

#[test]
fn a_dump_is_that_of_promtool_and_an_export_makes_the_same_blocks() {
    let Some(dir) = prometheus_directory(&openmetrics(5, 5)) else { return };
    let data = dir.path().join("data");
    let Some(theirs) = promtool(&["tsdb", "dump", path(&data)]) else { return };
    assert_eq!(sorted(&pyrrha_ok(&["tsdb", "dump", path(&data)])), sorted(&theirs));

    let part =
        ["--match={host=~'h0[12]'}", "--min-time=1700000000000", "--max-time=1700003600000", path(&data)];
    let ours = pyrrha_ok(&[&["tsdb", "dump"], &part[..]].concat());
    let theirs = promtool(&[&["tsdb", "dump"], &part[..]].concat()).unwrap();
    assert_eq!(sorted(&ours), sorted(&theirs));
    assert!(!ours.is_empty());

    let page = pyrrha_ok(&["export", "openmetrics", path(&data)]);
    let again = prometheus_directory(&page).unwrap();
    let dump = promtool(&["tsdb", "dump", path(&again.path().join("data"))]).unwrap();
    assert_eq!(sorted(&dump), sorted(&pyrrha_ok(&["tsdb", "dump", path(&data)])));
}

#[test]
fn blocks_are_listed_in_the_columns_of_promtool() {
    let Some(dir) = prometheus_directory(&openmetrics(2, 3)) else { return };
    let data = dir.path().join("data");
    let Some(theirs) = promtool(&["tsdb", "list", path(&data)]) else { return };
    let ours = pyrrha_ok(&["tsdb", "list", path(&data)]);
    let columns = |text: &str| -> Vec<String> {
        let but_size =
            |line: &str| line.split_whitespace().rev().skip(1).map(str::to_owned).collect::<Vec<_>>();
        text.lines().flat_map(but_size).collect()
    };
    assert_eq!(columns(&ours), columns(&theirs));
    let json = pyrrha_ok(&["tsdb", "list", "--json", path(&data)]);
    let blocks: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(blocks.as_array().map(Vec::len), Some(ours.lines().count() - 1));
    let analysis = pyrrha_ok(&["tsdb", "analyze", "--limit=2", path(&data)]);
    let theirs = promtool(&["tsdb", "analyze", "--limit=2", path(&data)]).unwrap();
    let head = |text: &str| text.lines().take(6).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(head(&analysis), head(&theirs));
}

#[test]
fn damage_is_found_named_and_mended() {
    let Some(dir) = prometheus_directory(&openmetrics(3, 3)) else { return };
    let data = dir.path().join("data");
    let count = |dir: &std::path::Path| pyrrha_ok(&["tsdb", "dump", path(dir)]).lines().count();
    let before = count(&data);
    pyrrha_ok(&["tsdb", "verify", path(&data)]);
    let block =
        std::fs::read_dir(&data).unwrap().map(|e| e.unwrap().path()).find(|p| p.join("index").exists());
    let segment = block.unwrap().join("chunks/000001");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[60] ^= 1;
    std::fs::write(&segment, bytes).unwrap();

    let found = pyrrha(&["tsdb", "verify", path(&data)]);
    assert_eq!(found.status.code(), Some(1));
    assert!(text(&found).contains("chunks/000001 offset=8: checksum mismatch"), "{}", text(&found));
    let plan = pyrrha(&["tsdb", "repair", path(&data)]);
    assert_eq!(plan.status.code(), Some(1));
    assert!(text(&plan).contains("nothing was changed"), "{}", text(&plan));
    pyrrha_ok(&["tsdb", "repair", "--yes", path(&data)]);
    pyrrha_ok(&["tsdb", "verify", path(&data)]);
    let after = count(&data);
    assert!(
        after < before && after + 300 >= before,
        "one chunk of {before} samples is lost, {after} are left"
    );
    let theirs = promtool(&["tsdb", "dump", path(&data)]).unwrap();
    assert_eq!(theirs.lines().count(), after);
}

#[test]
fn what_is_no_data_directory_is_refused_in_clear_words() {
    let dir = tempfile::tempdir().unwrap();
    let output = pyrrha(&["tsdb", "list", path(dir.path())]);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("neither a data directory nor a block"), "{error}");
}
