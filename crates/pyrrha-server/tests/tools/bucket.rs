//! `pyrrha bucket …`.

use std::path::Path;
use std::sync::Arc;

use pyrrha_bucket::{BucketTenants, Shipper};
use pyrrha_encoding::encode_series;
use pyrrha_env::{Clock, Disk, OsDisk, SystemClock};
use pyrrha_model::contract::Value;
use pyrrha_model::{Labels, TenantId};
use pyrrha_storage::block::{Block, BlockId, BlockMeta, BlockWriter};

use crate::place::{Objects, Place, on_each_bucket};
use crate::run::{pyrrha, pyrrha_ok, text};

const RANGE: i64 = 7_200_000;
const BLOCKS: u64 = 3;

/// A bucket with three blocks of five series.
pub(crate) struct Fixture {
    pub(crate) place: Place,
    pub(crate) objects: Objects,
    pub(crate) flag: String,
}

pub(crate) fn id(n: u64) -> BlockId {
    BlockId::from_parts(n, 7)
}

impl Fixture {
    pub(crate) fn new(place: Place) -> Self {
        let objects = place.bucket("bucket", "");
        let flag = objects.flag("objstore.config-file");
        let fixture = Self { place, objects, flag };
        let disk: Arc<dyn Disk> = Arc::new(OsDisk);
        let local = fixture.place.home().join("local");
        fixture.ship("team-a", (0..BLOCKS).map(|n| block_of(&disk, &local, n, 5)).collect());
        fixture
    }

    fn ship(&self, tenant: &str, blocks: Vec<Block>) {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let runtime = self.objects.runtime.clone();
        let tenants = Arc::new(BucketTenants::new(self.objects.bucket.clone(), runtime.clone(), clock));
        let shipper = Shipper::new(tenants, runtime, Arc::new(OsDisk));
        shipper.ship(&[(TenantId::new(tenant).unwrap(), blocks)], &|| false).unwrap();
    }

    /// The flag for a directory to work in.
    pub(crate) fn scratch(&self) -> String {
        format!("--scratch-dir={}", self.place.home().join("scratch").display())
    }

    pub(crate) fn run(&self, command: &str, more: &[&str]) -> String {
        pyrrha_ok(&[&["bucket", command, &self.flag], more].concat())
    }

    pub(crate) fn json(&self, command: &str, more: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.run(command, &[more, &["--output=json"]].concat())).unwrap()
    }

    /// Exit code and output.
    pub(crate) fn try_run(&self, command: &str, more: &[&str]) -> (Option<i32>, String) {
        let output = pyrrha(&[&["bucket", command, &self.flag], more].concat());
        (output.status.code(), text(&output))
    }
}

fn block_of(disk: &Arc<dyn Disk>, home: &Path, n: u64, series: u64) -> Block {
    let start = n as i64 * RANGE;
    let meta = BlockMeta::of_head(id(n + 1), start, start + RANGE);
    let dir = home.join(meta.ulid.to_string());
    std::fs::create_dir_all(home).unwrap();
    let mut writer = BlockWriter::create(disk.clone(), &dir).unwrap();
    for i in 0..series {
        let labels = Labels::from_pairs([("__name__", "m".to_owned()), ("i", format!("{i:03}"))]);
        let samples: Vec<_> =
            (0..480).map(|s| (0, start + s * 15_000, Value::Float((s % 7) as f64))).collect();
        writer.add_series(&labels, &encode_series(&samples, false)).unwrap();
    }
    writer.finish(meta).unwrap();
    Block::open(&**disk, &dir).unwrap()
}

on_each_bucket! {
    blocks_are_listed_sorted_and_chosen
    room_is_told_by_purpose
    damage_is_found_and_the_exit_code_says_so
    a_lost_manifest_is_rebuilt
    windows_are_made_and_what_jobs_left_goes_on_demand
    what_nobody_names_goes_only_on_request_and_only_if_it_is_old
    a_bucket_is_copied_and_the_copy_goes_on_where_it_stopped
    blocks_that_would_be_too_large_become_shards
}

fn blocks_are_listed_sorted_and_chosen(fixture: &Fixture) {
    let listed = fixture.run("ls", &[]);
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(lines.len(), 5, "{listed}");
    assert!(lines[0].starts_with("TENANT") && lines[0].contains("RESOLUTION"), "{listed}");
    assert!(lines[1].contains(&id(1).to_string()) && lines[1].contains("2h0m0s"), "{listed}");
    assert!(lines[4].starts_with("blocks=3 samples=7200 "), "{listed}");
    let all = fixture.json("inspect", &["--sort=from", "--reverse"]);
    assert_eq!(all["blocks"][0]["ulid"], id(3).to_string());
    assert_eq!(all["blocks"][0]["series"], 5);
    assert!(all["blocks"][0]["chunks"].as_u64().unwrap() >= 20, "{all}");
    assert_eq!(all["total"]["samples"], 7200);
    let count = |more: &[&str]| fixture.json("ls", more)["blocks"].as_array().unwrap().len();
    assert_eq!(count(&["--min-time=7200000", "--max-time=7200001"]), 1);
    assert_eq!(count(&["--min-time=-1h"]), 0);
    assert_eq!(count(&["--id", &id(2).to_string()]), 1);
    assert_eq!((count(&["--resolution=5m"]), count(&["--resolution=raw"])), (0, 3));
    assert_eq!((count(&["--min-level=2"]), count(&["--max-level=1"])), (0, 3));
    assert_eq!((count(&["--tenant=team-a"]), count(&["--label={cluster=\"eu\"}"])), (3, 0));
    assert_eq!(fixture.try_run("ls", &["--tenant=nobody"]).0, Some(1));
}

fn room_is_told_by_purpose(fixture: &Fixture) {
    fixture.objects.put(&format!("team-a/{}/index", id(99)), vec![0; 1234]);
    let usage = fixture.json("du", &[]);
    let sum = |class: &str| -> u64 {
        let rows = usage[0]["rows"].as_array().unwrap().iter().filter(|row| row["class"] == class);
        rows.map(|row| row["bytes"].as_u64().unwrap()).sum()
    };
    assert_eq!(sum("orphaned"), 1234);
    assert_eq!(sum("live"), fixture.json("ls", &[])["total"]["bytes"].as_u64().unwrap());
    assert!(sum("manifest") > 0);
    let shown = fixture.run("du", &[]);
    assert!(shown.contains("orphaned=1.2KiB") && shown.contains("blocks=3 samples=7200"), "{shown}");
}

fn damage_is_found_and_the_exit_code_says_so(fixture: &Fixture) {
    let scratch = fixture.scratch();
    let (code, said) = fixture.try_run("verify", &["--deep", &scratch, "--strict"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("team-a: sound manifest=3 blocks=3") && said.contains("samples=7200"), "{said}");
    let chunks = format!("team-a/{}/chunks/000001", id(2));
    fixture.objects.flip(&chunks, 100);
    assert_eq!(fixture.try_run("verify", &[]).0, Some(0));
    let (code, said) = fixture.try_run("verify", &["--checksums"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("DAMAGED") && said.contains("file=chunks/000001: expected crc32c="), "{said}");
    let (code, said) = fixture.try_run("verify", &["--deep", &scratch, "--output=json"]);
    assert_eq!(code, Some(1));
    let report: serde_json::Value = serde_json::from_str(&said).unwrap();
    let issues = report[0]["issues"].as_array().unwrap();
    let damage = issues.iter().find(|issue| issue["kind"] == "damage").unwrap();
    assert!(damage["offset"].is_u64() && damage["block"] == id(2).to_string(), "{said}");
    fixture.objects.remove(&chunks);
    let (code, said) = fixture.try_run("verify", &[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("object is not there"), "{said}");
}

fn a_lost_manifest_is_rebuilt(fixture: &Fixture) {
    let tenant = "--tenant=team-a";
    assert_eq!(fixture.try_run("rebuild-manifest", &[tenant]).0, Some(1), "it reads");
    let before = fixture.json("ls", &[]);
    fixture.objects.remove("team-a/manifest");
    assert_eq!(fixture.json("ls", &[])["total"]["blocks"], 0);
    let found = fixture.json("rebuild-manifest", &[tenant, "--dry-run"]);
    assert_eq!((found["live"].as_array().unwrap().len(), found["committed"].as_bool()), (3, Some(false)));
    assert_eq!(fixture.json("ls", &[])["total"]["blocks"], 0);
    fixture.run("rebuild-manifest", &[tenant]);
    assert_eq!(fixture.json("ls", &[]), before);
    assert_eq!(fixture.try_run("verify", &["--strict"]).0, Some(0));
}

/// Blocks with a deletion mark beside them.
fn marked(fixture: &Fixture) -> usize {
    let keys = fixture.objects.keys("team-a");
    keys.iter().filter(|key| key.ends_with("/deletion-mark.json")).count()
}

fn windows_are_made_and_what_jobs_left_goes_on_demand(fixture: &Fixture) {
    let scratch = fixture.scratch();
    let quiet = "--log.level=error";
    let planned = fixture.run("downsample", &[&scratch, quiet, "--dry-run"]);
    assert!(planned.contains("downsample-5m") && !planned.contains("compact "), "{planned}");
    assert_eq!(fixture.json("ls", &[])["total"]["blocks"], 3);
    fixture.run("downsample", &[&scratch, quiet]);
    let of = |resolution: &str| {
        let flag = format!("--resolution={resolution}");
        fixture.json("ls", &[&flag])["total"]["blocks"].as_u64().unwrap()
    };
    assert_eq!((of("raw"), of("5m") > 0, of("1h") > 0), (3, true, true));
    // A merge leaves its inputs, until somebody cleans up; others are told by marks and an index.
    fixture.run("compact", &[&scratch, quiet, "--once", "--objstore.mirror=mimir"]);
    assert!(of("raw") < 3);
    assert!(fixture.objects.has("team-a/bucket-index.json.gz"));
    assert_eq!(fixture.objects.keys("team-a/markers").len(), marked(fixture));
    assert!(marked(fixture) >= 3);
    let leaving =
        || fixture.json("du", &[])[0]["rows"].as_array().unwrap().iter().any(|r| r["class"] == "leaving");
    assert!(leaving());
    fixture.run("cleanup", &[&scratch, quiet]);
    assert!(leaving(), "not before the delay");
    assert!(fixture.run("cleanup", &[&scratch, quiet, "--dry-run"]).contains("goes after the delay"));
    fixture.run("cleanup", &[&scratch, quiet, "--compactor.delete-delay=0s"]);
    assert!(!leaving() && marked(fixture) == 0);
    assert!(fixture.objects.keys("team-a/markers").is_empty(), "the copies of marks go with the blocks");
    assert_eq!(fixture.try_run("verify", &["--deep", &scratch]).0, Some(0));
    fixture.run("mark", &["--marker=deletion", "--resolution=raw"]);
    let shown = fixture.run("cleanup", &[&scratch, quiet, "--dry-run"]);
    assert!(shown.contains("marked for deletion, leaves at "), "{shown}");
}

fn what_nobody_names_goes_only_on_request_and_only_if_it_is_old(fixture: &Fixture) {
    let orphan = format!("team-a/{}/chunks/000001", id(99));
    fixture.objects.put(&orphan, vec![7; 100]);
    let scratch = fixture.scratch();
    let quiet = "--log.level=error";
    fixture.run("cleanup", &[&scratch, quiet, "--compactor.delete-delay=0s"]);
    fixture.run("cleanup", &[&scratch, quiet, "--orphans-older-than=1h"]);
    let looked = fixture.run("cleanup", &[&scratch, quiet, "--orphans-older-than=0s", "--dry-run"]);
    assert!(looked.contains(&format!("orphan={} objects=1 size=100B goes", id(99))), "{looked}");
    assert!(fixture.objects.has(&orphan));
    let done = fixture.run("cleanup", &[&scratch, quiet, "--orphans-older-than=0s"]);
    assert!(done.contains("removed"), "{done}");
    assert!(!fixture.objects.has(&orphan));
    fixture.run("verify", &["--strict", "--checksums"]);
}

fn a_bucket_is_copied_and_the_copy_goes_on_where_it_stopped(fixture: &Fixture) {
    let copy = fixture.place.bucket("copy", "safe");
    let to = copy.flag("objstore-to.config-file");
    let looked = fixture.json("replicate", &[&to, "--dry-run"]);
    assert_eq!(looked[0]["blocks"].as_array().unwrap().len(), 3);
    assert!(copy.keys("").is_empty());
    let one = fixture.json("replicate", &[&to, "--max-time=0"]);
    assert_eq!(one[0]["blocks"][0], id(1).to_string());
    // As if it had been killed within the second block.
    let index = format!("team-a/{}/index", id(2));
    let present = fixture.objects.get(&index).unwrap();
    copy.put(&index, present.clone());
    let rest = fixture.json("replicate", &[&to]);
    assert_eq!((rest[0]["knownBlocks"].as_u64(), rest[0]["blocks"].as_array().unwrap().len()), (Some(1), 2));
    assert_eq!(rest[0]["presentBytes"].as_u64(), Some(present.len() as u64));
    let copied = one[0]["copiedBytes"].as_u64().unwrap() + rest[0]["copiedBytes"].as_u64().unwrap();
    assert_eq!(
        copied + rest[0]["presentBytes"].as_u64().unwrap(),
        looked[0]["copiedBytes"].as_u64().unwrap()
    );
    let flag = copy.flag("objstore.config-file");
    let listed = pyrrha_ok(&["bucket", "ls", &flag, "--output=json"]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&listed).unwrap(), fixture.json("ls", &[]));
    pyrrha_ok(&["bucket", "verify", &flag, "--checksums", "--strict"]);
}

fn blocks_that_would_be_too_large_become_shards(fixture: &Fixture) {
    let scratch = fixture.scratch();
    let (disk, large): (Arc<dyn Disk>, _) = (Arc::new(OsDisk), fixture.place.home().join("large"));
    fixture.ship("team-b", (50..52).map(|n| block_of(&disk, &large, n, 70)).collect());
    fixture.run("compact", &[&scratch, "--log.level=error", "--once", "--compactor.block-series=20"]);
    let listed = fixture.json("inspect", &["--tenant=team-b", "--resolution=raw"]);
    let shards: Vec<&str> =
        listed["blocks"].as_array().unwrap().iter().filter_map(|row| row["shard"].as_str()).collect();
    assert_eq!(shards.len(), 4, "{listed}");
    assert!((1..=4).all(|i| shards.contains(&format!("{i}_of_4").as_str())), "{shards:?}");
    let series: u64 =
        listed["blocks"].as_array().unwrap().iter().map(|row| row["series"].as_u64().unwrap()).sum();
    assert_eq!(series, 70);
    assert!(fixture.run("inspect", &["--tenant=team-b"]).contains("2_of_4"));
    assert!(!fixture.run("ls", &["--tenant=team-a"]).contains("_of_"), "small blocks stay one");
    assert_eq!(fixture.try_run("verify", &["--deep", "--strict", &scratch]).0, Some(0));
}

#[test]
fn a_directory_that_is_not_there_is_no_empty_bucket() {
    let fixture = Fixture::new(Place::directory());
    let (missing, file) = (fixture.place.home().join("mistyped"), fixture.place.home().join("mistyped.yml"));
    std::fs::write(&file, pyrrha_testkit::object_stores::directory_yml(&missing, "")).unwrap();
    let flag = format!("--objstore.config-file={}", file.display());
    let (kept, scratch) = (format!("--backup.dir={}", missing.display()), fixture.scratch());
    for command in [
        &["bucket", "ls", &flag][..],
        &["bucket", "du", &flag],
        &["bucket", "verify", &flag],
        &["bucket", "compact", "--once", &flag, &scratch],
        &["backup", "ls", &kept],
        &["backup", "create", "--dry-run", &fixture.flag, &kept],
    ] {
        let output = pyrrha(command);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && errors.contains("mistyped"), "{command:?}: {errors}");
        assert!(!missing.exists(), "{command:?}");
    }
}

#[test]
fn ids_that_no_block_has_are_errors() {
    let fixture = Fixture::new(Place::directory());
    let (known, unknown) = (format!("--id={}", id(1)), "--id=01ARZ3NDEKTSV4RRFFQ69G5FAV");
    let mark = ["--marker=no-compact", &known];
    for (command, more) in
        [("ls", &[][..]), ("inspect", &[]), ("du", &[]), ("verify", &[]), ("mark", &mark[..])]
    {
        assert_eq!(fixture.try_run(command, &[more, &[unknown]].concat()).0, Some(1), "{command}");
    }
    assert_eq!(
        fixture.json("ls", &[&known])["blocks"][0]["marks"],
        serde_json::Value::Null,
        "all or nothing"
    );
    assert_eq!(fixture.try_run("verify", &[&known]).0, Some(0));
}

#[test]
fn what_workers_do_once_is_told_in_json_too() {
    let fixture = Fixture::new(Place::directory());
    let quiet = [fixture.scratch(), "--log.level=error".to_owned()];
    let quiet: Vec<&str> = quiet.iter().map(String::as_str).collect();
    let jobs = fixture.json("jobs", &[]);
    let planned = fixture.json("compact", &[&quiet[..], &["--dry-run"]].concat());
    assert_eq!(planned["tenants"], jobs);
    assert!(!jobs[0]["jobs"].as_array().unwrap().is_empty());
    let done = fixture.json("downsample", &quiet);
    assert!(done["jobs"].as_u64().unwrap() > 0 && done["failed"].is_null(), "{done}");
    assert!(fixture.json("compact", &[&quiet[..], &["--once"]].concat())["jobs"].is_u64());
    let orphans = [&quiet[..], &["--dry-run", "--orphans-older-than=1d"]].concat();
    let cleaned = fixture.json("cleanup", &orphans);
    assert!(cleaned["leaving"].is_array() && cleaned["orphans"].as_array().unwrap().is_empty(), "{cleaned}");
    let nothing = Fixture::new(Place::directory()).run("cleanup", &["--dry-run", "--log.level=error"]);
    assert!(nothing.contains("leaving=0"), "{nothing}");
}

#[test]
fn workers_keep_what_the_file_of_the_servers_says() {
    let fixture = Fixture::new(Place::directory());
    let file = fixture.place.home().join("pyrrha.yml");
    std::fs::write(&file, "compactor: {downsampling: false}\nlimits: {team-a: {bucket_retention: 0}}\n")
        .unwrap();
    let (scratch, file) = (fixture.scratch(), format!("--config.file={}", file.display()));
    let short = "--retention.resolution-raw=1h";
    let kept = fixture.json("retention", &[short, &scratch, &file]);
    assert_eq!(kept.as_array().unwrap().len(), 0, "{kept}");
    let jobs = fixture.json("jobs", &[&file]);
    assert!(jobs[0]["jobs"].as_array().unwrap().iter().all(|job| job["kind"] == "compact"), "{jobs}");
    let gone = fixture.json("retention", &[short, &scratch, "--downsampling.disable", "--dry-run"]);
    assert_eq!(gone.as_array().unwrap().len(), 3);
}
