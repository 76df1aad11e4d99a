//! `pyrrha bucket adopt` and `pyrrha migrate …` over buckets as Thanos and Mimir leave them.

use std::path::{Path, PathBuf};

use pyrrha_testkit::foreign_bucket::{ForeignBlock, ForeignBucket};
use serde_json::Value;

use crate::run::{pyrrha, pyrrha_ok, text};

const HOUR: i64 = 3_600_000;

struct Place {
    home: tempfile::TempDir,
}

impl Place {
    fn new(foreign: &ForeignBucket) -> Self {
        let home = tempfile::tempdir().unwrap();
        foreign.write_to(&home.path().join("theirs")).unwrap();
        for name in ["theirs", "ours"] {
            let dir = home.path().join(name);
            let yaml = format!("type: FILESYSTEM\nconfig:\n  directory: {}\n", dir.display());
            std::fs::write(home.path().join(format!("{name}.yml")), yaml).unwrap();
        }
        Self { home }
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// The flag that names a bucket.
    fn flag(&self, flag: &str, name: &str) -> String {
        format!("--{flag}={}", self.dir(&format!("{name}.yml")).display())
    }

    /// Exit code and what was printed as JSON.
    fn json(&self, command: &[&str]) -> (Option<i32>, Value) {
        let from = self.flag("objstore.config-file", "theirs");
        let output = pyrrha(&[command, &[&from, "--output=json"]].concat());
        let found = serde_json::from_str(&text(&output));
        (output.status.code(), found.unwrap_or_else(|e| panic!("{e}: {:?}", output)))
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().map(Result::unwrap) {
        names.push(entry.path().display().to_string());
        names.extend(names_below(&entry.path()));
    }
    names.sort();
    names
}

fn names_below(path: &Path) -> Vec<String> {
    if path.is_dir() { names(path) } else { Vec::new() }
}

fn block(ulid: &str, hour: i64, labels: &[(&str, &str)]) -> ForeignBlock {
    let samples: Vec<(i64, f64)> = (0..240).map(|i| (hour * HOUR + i * 30_000, i as f64)).collect();
    ForeignBlock::new(ulid, hour * HOUR, (hour + 2) * HOUR, labels)
        .with_floats(&[("__name__", "requests_total"), ("job", "api")], &samples)
}

fn thanos() -> ForeignBucket {
    let mut foreign = ForeignBucket::default();
    foreign.add("", &block("01BX5ZZKBKACTAV9WEVGEMMVR0", 0, &[("cluster", "eu"), ("replica", "a")]));
    foreign.add("", &block("01BX5ZZKBKACTAV9WEVGEMMVR1", 0, &[("cluster", "eu"), ("replica", "b")]));
    foreign.add("", &block("01BX5ZZKBKACTAV9WEVGEMMVR2", 2, &[("cluster", "us")]));
    foreign.put("01BX5ZZKBKACTAV9WEVGEMMVR3/index", vec![0; 9]);
    foreign
}

#[test]
fn a_thanos_bucket_is_adopted_merged_and_compared() {
    let place = Place::new(&thanos());
    let before = names(&place.dir("theirs"));
    let (code, plan) = place.json(&["migrate", "plan"]);
    assert_eq!((code, plan["tenants"][0]["blocks"].as_u64()), (Some(0), Some(3)), "{plan}");
    assert_eq!((&plan["tenants"][0]["samples"], &plan["hidden"][0]["why"]), (&720.into(), &"partial".into()));
    let (_, dry) = place.json(&["bucket", "adopt", "--dry-run"]);
    assert_eq!(dry["tenants"][0]["committed"], false);
    assert_eq!(names(&place.dir("theirs")), before, "nothing is written so far");
    let (code, done) = place.json(&["migrate", "run", "--in-place"]);
    assert_eq!((code, done["tenants"][0]["blocks"].as_array().map(Vec::len)), (Some(0), Some(3)), "{done}");
    assert!(before.iter().all(|name| names(&place.dir("theirs")).contains(name)));
    let scratch = format!("--scratch-dir={}", place.dir("scratch").display());
    let verify = ["migrate", "verify", "--in-place", &scratch, "--deduplication.replica-label=replica"];
    let (code, same) = place.json(&verify);
    assert_eq!(code, Some(0), "{same}");
    assert_eq!(same[0]["ranges"][0]["source"]["series"], 2, "replicas are one");
    assert_eq!(same[0]["ranges"][0]["source"], same[0]["ranges"][0]["destination"]);
    // Blocks are told with their labels, and merged; readers of the bucket see the same.
    let flag = place.flag("objstore.config-file", "theirs");
    let chosen = pyrrha_ok(&["bucket", "ls", &flag, "--label={cluster=\"us\"}"]);
    assert!(chosen.contains("01BX5ZZKBKACTAV9WEVGEMMVR2") && chosen.contains("blocks=1 "), "{chosen}");
    let work = format!("--scratch-dir={}", place.dir("work").display());
    let compact = [
        "bucket",
        "compact",
        "--once",
        "--log.level=error",
        "--deduplication.replica-label=replica",
        &flag,
        &work,
    ];
    pyrrha_ok(&[&compact[..], &["--compactor.delete-delay=0s", "--downsampling.disable"]].concat());
    let (code, same) = place.json(&verify);
    assert_eq!(code, Some(0), "{same}");
    // A store in a directory leaves empty directories.
    assert!(
        !place.dir("theirs/01BX5ZZKBKACTAV9WEVGEMMVR0/index").exists(),
        "it was merged and the delay is over"
    );
    assert!(place.dir("theirs/01BX5ZZKBKACTAV9WEVGEMMVR3").exists(), "no job has named it");
    pyrrha_ok(&["bucket", "verify", &flag, "--deep", &scratch]);
    let (_, again) = place.json(&["bucket", "adopt"]);
    assert_eq!(again["tenants"][0]["blocks"].as_array().map(Vec::len), Some(0), "{again}");
}

#[test]
fn a_mimir_bucket_is_copied_by_tenant_and_compared() {
    let mut foreign = ForeignBucket::default();
    foreign.add("team-a", &block("01BX5ZZKBKACTAV9WEVGEMMVR0", 0, &[("__org_id__", "team-a")]));
    foreign.add("team-b", &block("01BX5ZZKBKACTAV9WEVGEMMVR1", 0, &[]));
    let place = Place::new(&foreign);
    let before = names(&place.dir("theirs"));
    let to = place.flag("objstore-to.config-file", "ours");
    assert_eq!(
        place.json(&["migrate", "run", &to, "--dry-run"]).1[1]["blocks"].as_array().map(Vec::len),
        Some(1)
    );
    assert!(names(&place.dir("ours")).is_empty());
    let scratch = format!("--scratch-dir={}", place.dir("scratch").display());
    let (code, differs) = place.json(&["migrate", "verify", &to, &scratch]);
    assert_eq!((code, &differs[0]["ranges"][0]["destination"]["series"]), (Some(1), &0.into()), "{differs}");
    let (_, done) = place.json(&["migrate", "run", &to]);
    assert_eq!((&done[0]["tenant"], done[0]["blocks"].as_array().map(Vec::len)), (&"team-a".into(), Some(1)));
    let (_, again) = place.json(&["migrate", "run", &to]);
    assert_eq!((&again[1]["knownBlocks"], &again[1]["copiedBytes"]), (&1.into(), &0.into()));
    let (code, same) = place.json(&["migrate", "verify", &to, &scratch]);
    assert_eq!(code, Some(0), "{same}");
    assert_eq!(names(&place.dir("theirs")), before, "nothing was written there");
    pyrrha_ok(&["bucket", "verify", &place.flag("objstore.config-file", "ours"), "--checksums", "--strict"]);
    // Both or neither target is refused.
    let from = place.flag("objstore.config-file", "theirs");
    assert_eq!(pyrrha(&["migrate", "run", &from]).status.code(), Some(2));
    assert_eq!(pyrrha(&["migrate", "run", &from, &to, "--in-place"]).status.code(), Some(2));
}
