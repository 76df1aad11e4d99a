//! `pyrrha backup …`.

use crate::bucket::{Fixture, id};
use crate::place::on_each_bucket;
use crate::run::{pyrrha, pyrrha_ok, text};

fn json(arguments: &[&str]) -> serde_json::Value {
    serde_json::from_str(&pyrrha_ok(&[arguments, &["--output=json"]].concat())).unwrap()
}

on_each_bucket! { a_backup_is_made_verified_and_restored }

#[test]
fn a_directory_of_backups_needs_no_file() {
    let fixture = Fixture::new(crate::place::Place::directory());
    let place = format!("--backup.dir={}", fixture.place.home().join("kept").display());
    json(&["backup", "create", &fixture.flag, &place]);
    assert_eq!(json(&["backup", "ls", &place]).as_array().unwrap().len(), 1);
    assert!(fixture.place.home().join("kept/team-a").join(id(1).to_string()).join("index").exists());
}

fn a_backup_is_made_verified_and_restored(fixture: &Fixture) {
    let kept = fixture.place.bucket("backups", "");
    let place = kept.flag("backup.config-file");
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
    let new = fixture.place.bucket("new", "");
    let flag = new.flag("objstore.config-file");
    json(&["backup", "restore", &flag, &place, "--dry-run"]);
    assert!(new.keys("team-a").is_empty());
    let chosen = format!("--id={}", made[0]["backup"].as_str().unwrap());
    let done = json(&["backup", "restore", &flag, &place, &chosen]);
    assert_eq!((done[0]["blocks"].as_u64(), done[0]["committed"].as_bool()), (Some(3), Some(true)));
    let scratch = fixture.scratch();
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
    let beside = new.flag("backup.config-file");
    let refused = pyrrha(&["backup", "create", &fixture.flag, &beside]);
    let errors = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && errors.contains("bucket that lives"), "{errors}");
    kept.flip(&format!("team-a/{}/index", id(1)), 30);
    assert!(pyrrha(&["backup", "verify", &place, "--lengths-only"]).status.success());
    let found = pyrrha(&["backup", "verify", &place]);
    assert_eq!(found.status.code(), Some(1));
    assert!(text(&found).contains("file=index: expected crc32c="), "{}", text(&found));
    let third = fixture.place.bucket("third", "");
    let part =
        pyrrha(&["backup", "restore", &third.flag("objstore.config-file"), &place, "--leave-out-damaged"]);
    assert_eq!(part.status.code(), Some(1));
    assert!(text(&part).contains(&format!("LEFT OUT block={} resolution=raw", id(1))), "{}", text(&part));
    assert_eq!(json(&["bucket", "ls", &third.flag("objstore.config-file")])["total"]["blocks"], 2);
    new.remove("team-a");
    assert!(!pyrrha(&["backup", "restore", &flag, &place, "--tenant=team-a"]).status.success());
    assert_eq!(json(&["bucket", "ls", &flag, "--tenant=team-a"])["total"]["blocks"], 0);
}

#[test]
fn a_backup_that_is_damaged_is_mended_by_the_next_that_verifies() {
    let fixture = Fixture::new(crate::place::Place::directory());
    let kept = fixture.place.bucket("backups", "");
    let place = kept.flag("backup.config-file");
    json(&["backup", "create", &fixture.flag, &place]);
    kept.flip(&format!("team-a/{}/chunks/000001", id(2)), 40);
    let made = json(&["backup", "create", &fixture.flag, &place, "--verify"]);
    assert_eq!((made[0]["knownBlocks"].as_u64(), made[0]["mendedBlocks"].as_u64()), (Some(2), Some(1)));
    assert!(pyrrha(&["backup", "verify", &place]).status.success());
}
