//! `pyrrha bucket rewrite` and `retention`.

use crate::bucket::{Fixture, id};
use crate::place::on_each_bucket;

on_each_bucket! {
    blocks_are_rewritten_by_rules_in_files_and_flags
    what_is_past_retention_leaves_once_and_is_shown_before
}

fn blocks_are_rewritten_by_rules_in_files_and_flags(fixture: &Fixture) {
    let scratch = fixture.scratch();
    let delete = "--rewrite.to-delete-config=- matchers: '{__name__=\"m\", i=~\"000|001\"}'";
    assert_eq!(fixture.try_run("rewrite", &[delete, &scratch]).0, Some(1), "all is to be said");
    assert_eq!(fixture.try_run("rewrite", &["--all", &scratch]).0, Some(1), "no rules");
    let bad = "--rewrite.to-delete-config=- matchers: '{'";
    assert_eq!(fixture.try_run("rewrite", &["--all", bad, &scratch]).0, Some(1));
    let looked = fixture.json("rewrite", &["--all", delete, &scratch, "--dry-run"]);
    assert_eq!(looked.as_array().unwrap().len(), 3);
    assert_eq!(
        (looked[0]["changes"]["deletedSeries"].as_u64(), looked[0]["committed"].as_bool()),
        (Some(2), Some(false))
    );
    assert_eq!(fixture.json("ls", &[])["total"]["samples"], 7200);
    let one = format!("--id={}", id(2));
    let done = fixture.json("rewrite", &[&one, delete, &scratch]);
    assert_eq!((done.as_array().unwrap().len(), done[0]["committed"].as_bool()), (1, Some(true)));
    assert_eq!(fixture.json("ls", &[])["total"]["samples"], 7200 - 2 * 480);
    let made = done[0]["rewrittenTo"].as_str().unwrap();
    let log = String::from_utf8(fixture.objects.get(&format!("team-a/{made}/change.log")).unwrap()).unwrap();
    assert_eq!(log.lines().count(), 2, "{log}");
    let file = fixture.place.home().join("relabel.yml");
    std::fs::write(&file, "- action: labeldrop\n  regex: i\n").unwrap();
    let relabel = format!("--rewrite.to-relabel-config-file={}", file.display());
    let said = fixture.run("rewrite", &["--all", &relabel, &scratch]);
    assert!(said.contains("relabelled=5") && said.contains("blocks=3 changed=3"), "{said}");
    assert_eq!(fixture.json("ls", &[])["blocks"][0]["series"], 1);
    assert_eq!(fixture.try_run("verify", &["--deep", &scratch, "--strict"]).0, Some(0));
    // What was replaced goes as after any job.
    fixture.run("cleanup", &[&scratch, "--log.level=error", "--compactor.delete-delay=0s"]);
    assert!(!fixture.objects.has(&format!("team-a/{}/index", id(2))));
}

fn what_is_past_retention_leaves_once_and_is_shown_before(fixture: &Fixture) {
    let scratch = fixture.scratch();
    let keep = ["--retention.resolution-raw=1h", "--downsampling.disable", &scratch];
    let waits = fixture.run("retention", &["--retention.resolution-raw=1h", &scratch]);
    assert!(waits.contains("stays until its windows are made") && waits.contains("blocks=0"), "{waits}");
    let shown = fixture.run("retention", &[&keep[..], &["--dry-run"]].concat());
    assert!(shown.contains("would be done") && shown.contains("blocks=3"), "{shown}");
    assert_eq!(fixture.json("ls", &[])["total"]["blocks"], 3);
    let done = fixture.json("retention", &keep);
    assert_eq!((done.as_array().unwrap().len(), done[0]["committed"].as_bool()), (3, Some(true)));
    assert_eq!(fixture.json("ls", &[])["total"]["blocks"], 0);
    assert!(fixture.objects.has(&format!("team-a/{}/index", id(1))), "until cleanup");
}
