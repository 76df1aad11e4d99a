//! `pyrrha bucket mark` and `unmark`, and what workers make of marks.

use crate::bucket::{Fixture, id};
use crate::place::on_each_bucket;

on_each_bucket! { marks_are_shown_obeyed_and_taken_back }

fn marks_are_shown_obeyed_and_taken_back(fixture: &Fixture) {
    let (scratch, quiet) = (fixture.scratch(), "--log.level=error");
    let one = format!("--id={}", id(2));
    assert_eq!(fixture.try_run("mark", &["--marker=no-compact"]).0, Some(1), "all is to be said");
    assert_eq!(fixture.try_run("mark", &["--marker=no-compact", "--min-time=-1h"]).0, Some(1), "none");
    let looked = fixture.json("mark", &["--marker=no-compact", &one, "--dry-run"]);
    assert_eq!(
        (looked[0]["blocks"][0].as_str(), looked[0]["committed"].as_bool()),
        (Some(&*id(2).to_string()), Some(false))
    );
    fixture.run("mark", &["--marker=no-compact", &one, "--details=leave it"]);
    let file = format!("team-a/{}/no-compact-mark.json", id(2));
    let said: serde_json::Value = serde_json::from_slice(&fixture.objects.get(&file).unwrap()).unwrap();
    assert_eq!((said["details"].as_str(), said["reason"].as_str()), (Some("leave it"), Some("manual")));
    assert!(fixture.run("ls", &[]).contains("marked no-compact"));
    fixture.run("compact", &[&scratch, quiet, "--once"]);
    let raw = || fixture.json("ls", &["--resolution=raw"])["total"]["blocks"].as_u64();
    assert_eq!(raw(), Some(2), "the others are one");
    assert!(fixture.json("ls", &["--resolution=5m"])["total"]["blocks"].as_u64() > Some(0));
    fixture.run("unmark", &["--marker=no-compact", &one]);
    assert!(!fixture.objects.has(&file));
    fixture.run("compact", &[&scratch, quiet, "--once"]);
    assert_eq!(raw(), Some(1));
    // What is marked for deletion goes with the next look, where there is no delay.
    fixture.run("mark", &["--marker=deletion", "--all"]);
    fixture.run("cleanup", &[&scratch, quiet]);
    assert_eq!(raw(), Some(1), "not before the delay");
    fixture.run("cleanup", &[&scratch, quiet, "--compactor.delete-delay=0s"]);
    assert_eq!(fixture.json("ls", &[])["total"]["blocks"], 0);
    let left = fixture.objects.keys("team-a").into_iter().filter(|key| key.ends_with("/index"));
    assert_eq!(left.count(), 0);
}
