//! `pyrrha backup …` over buckets in directories.

use crate::bucket::{Fixture, id};
use crate::run::{pyrrha, pyrrha_ok, text};

fn json(arguments: &[&str]) -> serde_json::Value {
    serde_json::from_str(&pyrrha_ok(&[arguments, &["--output=json"]].concat())).unwrap()
}

#[test]
fn a_backup_is_made_verified_and_restored() {
    let fixture = Fixture::new();
    let dir = fixture.home.path().join("backups");
    let place = format!("--backup.dir={}", dir.display());
    let looked = json(&["backup", "create", &fixture.flag, &place, "--dry-run"]);
    assert_eq!((looked[0]["blocks"].as_u64(), looked[0]["backup"].as_str()), (Some(3), None));
    let made = json(&["backup", "create", &fixture.flag, &place]);
    assert_eq!(made[0]["copiedBytes"], looked[0]["copiedBytes"]);
    let again = json(&["backup", "create", &fixture.flag, &place, "--tenant=team-a"]);
    assert_eq!((again[0]["knownBlocks"].as_u64(), again[0]["copiedBytes"].as_u64()), (Some(3), Some(0)));
    let listed = json(&["backup", "ls", &place]);
    assert_eq!(listed.as_array().unwrap().len(), 2);
    assert_eq!(listed[0]["id"], made[0]["backup"]);
    let said = pyrrha_ok(&["backup", "verify", &place]);
    assert!(said.starts_with("team-a: sound backups=2 blocks=3"), "{said}");

    // Into an empty bucket, where it is as it was.
    let file = fixture.home.path().join("new.yml");
    let bucket = fixture.home.path().join("new");
    std::fs::write(&file, format!("type: FILESYSTEM\nconfig:\n  directory: {}\n", bucket.display())).unwrap();
    let flag = format!("--objstore.config-file={}", file.display());
    json(&["backup", "restore", &flag, &place, "--dry-run"]);
    assert!(!bucket.join("team-a").exists());
    let chosen = format!("--id={}", made[0]["backup"].as_str().unwrap());
    let done = json(&["backup", "restore", &flag, &place, &chosen]);
    assert_eq!((done[0]["blocks"].as_u64(), done[0]["committed"].as_bool()), (Some(3), Some(true)));
    let scratch = format!("--scratch-dir={}", fixture.home.path().join("scratch").display());
    pyrrha_ok(&["bucket", "verify", &flag, "--deep", "--strict", &scratch]);
    let blocks = |flag: &str| json(&["bucket", "ls", flag])["blocks"].clone();
    assert_eq!(blocks(&flag), blocks(&fixture.flag));
    let again = json(&["backup", "restore", &flag, &place]);
    assert_eq!(again[0]["wasRestored"], true);
    json(&["backup", "restore", &flag, &place, "--to-tenant=team-b"]);
    assert_eq!(json(&["bucket", "ls", &flag, "--tenant=team-b"])["total"]["blocks"], 3);

    // Not where something else is, and not what is damaged.
    pyrrha_ok(&["bucket", "mark", &flag, "--tenant=team-a", "--all", "--marker=deletion"]);
    let other = format!("--id={}", id(1));
    let refused = pyrrha(&["backup", "restore", &flag, &place, &other]);
    assert_eq!(refused.status.code(), Some(1), "no such backup");
    let beside = format!("--backup.config-file={}", file.display());
    let refused = pyrrha(&["backup", "create", &fixture.flag, &beside]);
    let errors = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && errors.contains("bucket that lives"), "{errors}");
    let index = dir.join("team-a").join(id(1).to_string()).join("index");
    let mut bytes = std::fs::read(&index).unwrap();
    bytes[30] ^= 1;
    std::fs::write(&index, &bytes).unwrap();
    assert!(pyrrha(&["backup", "verify", &place, "--lengths-only"]).status.success());
    let found = pyrrha(&["backup", "verify", &place]);
    assert_eq!(found.status.code(), Some(1));
    assert!(text(&found).contains("file=index: expected crc32c="), "{}", text(&found));
    std::fs::remove_dir_all(bucket.join("team-a")).unwrap();
    assert!(!pyrrha(&["backup", "restore", &flag, &place, "--tenant=team-a"]).status.success());
    assert_eq!(json(&["bucket", "ls", &flag, "--tenant=team-a"])["total"]["blocks"], 0);
}
