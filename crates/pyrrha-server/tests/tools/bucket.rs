//! `pyrrha bucket …` over a bucket in a directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pyrrha_bucket::{BucketRuntime, BucketTenants, Shipper, config};
use pyrrha_encoding::encode_series;
use pyrrha_env::{Clock, Disk, OsDisk, SystemClock};
use pyrrha_model::contract::Value;
use pyrrha_model::{Labels, TenantId};
use pyrrha_storage::block::{Block, BlockId, BlockMeta, BlockWriter};
use pyrrha_testkit::object_stores::directory_yml;

use crate::run::{pyrrha, pyrrha_ok, text};

const RANGE: i64 = 7_200_000;
const BLOCKS: u64 = 3;

/// A bucket in a directory with three blocks of five series.
pub(crate) struct Fixture {
    pub(crate) home: tempfile::TempDir,
    pub(crate) flag: String,
}

pub(crate) fn id(n: u64) -> BlockId {
    BlockId::from_parts(n, 7)
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("objstore.yml");
        let bucket = home.path().join("bucket");
        std::fs::write(&file, directory_yml(&bucket, "")).unwrap();
        let disk: Arc<dyn Disk> = Arc::new(OsDisk);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let runtime = Arc::new(BucketRuntime::start(2).unwrap());
        let opened = config::open_file(&file).unwrap();
        let tenants = Arc::new(BucketTenants::new(opened, runtime.clone(), clock));
        let blocks: Vec<Block> = (0..BLOCKS).map(|n| block(&disk, &home.path().join("local"), n)).collect();
        let shipper = Shipper::new(tenants, runtime, disk);
        shipper.ship(&[(TenantId::new("team-a").unwrap(), blocks)], &|| false).unwrap();
        let flag = format!("--objstore.config-file={}", file.display());
        Self { home, flag }
    }

    pub(crate) fn tenant(&self) -> PathBuf {
        self.home.path().join("bucket/team-a")
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

fn block(disk: &Arc<dyn Disk>, home: &Path, n: u64) -> Block {
    block_of(disk, home, n, 5)
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

#[test]
fn blocks_are_listed_sorted_and_chosen() {
    let fixture = Fixture::new();
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

#[test]
fn room_is_told_by_purpose() {
    let fixture = Fixture::new();
    std::fs::create_dir(fixture.tenant().join(id(99).to_string())).unwrap();
    std::fs::write(fixture.tenant().join(id(99).to_string()).join("index"), [0; 1234]).unwrap();
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

#[test]
fn damage_is_found_and_the_exit_code_says_so() {
    let fixture = Fixture::new();
    let scratch = format!("--scratch-dir={}", fixture.home.path().join("scratch").display());
    let (code, said) = fixture.try_run("verify", &["--deep", &scratch, "--strict"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("team-a: sound manifest=3 blocks=3") && said.contains("samples=7200"), "{said}");
    let chunks = fixture.tenant().join(id(2).to_string()).join("chunks/000001");
    let mut bytes = std::fs::read(&chunks).unwrap();
    bytes[100] ^= 0x40;
    std::fs::write(&chunks, &bytes).unwrap();
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
    std::fs::remove_file(&chunks).unwrap();
    let (code, said) = fixture.try_run("verify", &[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("object is not there"), "{said}");
}

#[test]
fn a_lost_manifest_is_rebuilt() {
    let fixture = Fixture::new();
    let tenant = "--tenant=team-a";
    assert_eq!(fixture.try_run("rebuild-manifest", &[tenant]).0, Some(1), "it reads");
    let before = fixture.json("ls", &[]);
    std::fs::remove_dir_all(fixture.tenant().join("manifest")).unwrap();
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
    let blocks = std::fs::read_dir(fixture.tenant()).unwrap().map(|entry| entry.unwrap().path());
    blocks.filter(|block| block.join("deletion-mark.json").exists()).count()
}

#[test]
fn windows_are_made_and_what_jobs_left_goes_on_demand() {
    let fixture = Fixture::new();
    let scratch = format!("--scratch-dir={}", fixture.home.path().join("scratch").display());
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
    assert!(fixture.tenant().join("bucket-index.json.gz").exists());
    assert_eq!(std::fs::read_dir(fixture.tenant().join("markers")).unwrap().count(), marked(&fixture));
    assert!(marked(&fixture) >= 3);
    let leaving =
        || fixture.json("du", &[])[0]["rows"].as_array().unwrap().iter().any(|r| r["class"] == "leaving");
    assert!(leaving());
    fixture.run("cleanup", &[&scratch, quiet]);
    assert!(leaving(), "not before the delay");
    assert!(fixture.run("cleanup", &[&scratch, quiet, "--dry-run"]).contains("goes after the delay"));
    fixture.run("cleanup", &[&scratch, quiet, "--compactor.delete-delay=0s"]);
    assert!(!leaving() && marked(&fixture) == 0);
    let copies = std::fs::read_dir(fixture.tenant().join("markers"));
    assert_eq!(copies.map_or(0, Iterator::count), 0, "the copies of marks go with the blocks");
    assert_eq!(fixture.try_run("verify", &["--deep", &scratch]).0, Some(0));
    fixture.run("mark", &["--marker=deletion", "--resolution=raw"]);
    let shown = fixture.run("cleanup", &[&scratch, quiet, "--dry-run"]);
    assert!(shown.contains("marked for deletion, leaves at "), "{shown}");
}

#[test]
fn what_nobody_names_goes_only_on_request_and_only_if_it_is_old() {
    let fixture = Fixture::new();
    let orphan = fixture.tenant().join(id(99).to_string());
    std::fs::create_dir_all(orphan.join("chunks")).unwrap();
    std::fs::write(orphan.join("chunks/000001"), [7; 100]).unwrap();
    let scratch = format!("--scratch-dir={}", fixture.home.path().join("scratch").display());
    let quiet = "--log.level=error";
    fixture.run("cleanup", &[&scratch, quiet, "--compactor.delete-delay=0s"]);
    fixture.run("cleanup", &[&scratch, quiet, "--orphans-older-than=1h"]);
    let looked = fixture.run("cleanup", &[&scratch, quiet, "--orphans-older-than=0s", "--dry-run"]);
    assert!(looked.contains(&format!("orphan={} objects=1 size=100B goes", id(99))), "{looked}");
    assert!(orphan.join("chunks/000001").exists());
    let done = fixture.run("cleanup", &[&scratch, quiet, "--orphans-older-than=0s"]);
    assert!(done.contains("removed"), "{done}");
    assert!(!orphan.join("chunks/000001").exists());
    fixture.run("verify", &["--strict", "--checksums"]);
}

#[test]
fn a_bucket_is_copied_and_the_copy_goes_on_where_it_stopped() {
    let fixture = Fixture::new();
    let (file, bucket) = (fixture.home.path().join("to.yml"), fixture.home.path().join("copy"));
    std::fs::write(&file, directory_yml(&bucket, "safe")).unwrap();
    let to = format!("--objstore-to.config-file={}", file.display());
    let looked = fixture.json("replicate", &[&to, "--dry-run"]);
    assert_eq!(looked[0]["blocks"].as_array().unwrap().len(), 3);
    assert!(!bucket.join("safe").exists());
    let one = fixture.json("replicate", &[&to, "--max-time=0"]);
    assert_eq!(one[0]["blocks"][0], id(1).to_string());
    // As if it had been killed within the second block.
    let index = format!("safe/team-a/{}/index", id(2));
    std::fs::create_dir_all(bucket.join(&index).parent().unwrap()).unwrap();
    std::fs::copy(fixture.tenant().join(id(2).to_string()).join("index"), bucket.join(&index)).unwrap();
    let rest = fixture.json("replicate", &[&to]);
    assert_eq!((rest[0]["knownBlocks"].as_u64(), rest[0]["blocks"].as_array().unwrap().len()), (Some(1), 2));
    assert_eq!(rest[0]["presentBytes"].as_u64(), Some(bucket.join(&index).metadata().unwrap().len()));
    let copied = one[0]["copiedBytes"].as_u64().unwrap() + rest[0]["copiedBytes"].as_u64().unwrap();
    assert_eq!(
        copied + rest[0]["presentBytes"].as_u64().unwrap(),
        looked[0]["copiedBytes"].as_u64().unwrap()
    );
    let flag = format!("--objstore.config-file={}", file.display());
    let listed = pyrrha_ok(&["bucket", "ls", &flag, "--output=json"]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&listed).unwrap(), fixture.json("ls", &[]));
    pyrrha_ok(&["bucket", "verify", &flag, "--checksums", "--strict"]);
}

#[test]
fn blocks_that_would_be_too_large_become_shards() {
    let fixture = Fixture::new();
    let scratch = format!("--scratch-dir={}", fixture.home.path().join("scratch").display());
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let runtime = Arc::new(BucketRuntime::start(2).unwrap());
    let opened = config::open_file(&fixture.home.path().join("objstore.yml")).unwrap();
    let tenants = Arc::new(BucketTenants::new(opened, runtime.clone(), clock));
    let blocks: Vec<Block> =
        (50..52).map(|n| block_of(&disk, &fixture.home.path().join("large"), n, 70)).collect();
    let shipper = Shipper::new(tenants, runtime, disk);
    shipper.ship(&[(TenantId::new("team-b").unwrap(), blocks)], &|| false).unwrap();
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
