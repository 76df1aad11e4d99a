//! Directories looked into, verified and mended, with damage of every kind.

use std::collections::BTreeMap;

use proptest::prelude::*;
use pyrrha_encoding::encode_series;
use pyrrha_env::{Clock, Disk, SystemClock};
use pyrrha_model::contract::{Exemplars, LabelQuery, QueryContext, Queryable, Value};
use pyrrha_model::{Exemplar, Labels, Matcher, Metadata, TenantId, TimeRange};
use pyrrha_testkit::SimDisk;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::*;
use crate::block::{Block, BlockId, BlockMeta, BlockWriter, Tombstones};
use crate::manifest::{BlockEntry, DiskManifestStore, Manifest};

type Model = BTreeMap<String, Vec<(i64, u64)>>;

fn labels(i: usize) -> Labels {
    Labels::from_pairs([
        ("__name__", format!("m{}", i % 3)),
        ("i", format!("{i:03}")),
        ("job", "tools".to_owned()),
    ])
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

/// A block of `series` series with 300 samples each.
fn write_block(disk: &Arc<dyn Disk>, home: &Path, number: u64, series: usize) -> BlockMeta {
    let id = BlockId::from_parts(1_000 + number, u128::from(number));
    let start = number as i64 * 7_200_000;
    let mut writer = BlockWriter::create(disk.clone(), &home.join(id.to_string())).expect("creates");
    let mut all: Vec<Labels> = (0..series).map(labels).collect();
    all.sort();
    for (i, labels) in all.iter().enumerate() {
        let samples: Vec<_> = (0..300)
            .map(|s| (0, start + s * 15_000, Value::Float((s * 7 + i as i64) as f64 / 3.0)))
            .collect();
        writer.add_series(labels, &encode_series(&samples, false)).expect("adds");
    }
    let exemplars = all.iter().map(|labels| {
        let exemplar = Exemplar { labels: labels.clone(), value: 1.0, timestamp: start };
        Ok::<_, TsdbError>(Exemplars { series: labels.clone(), exemplars: vec![exemplar] })
    });
    writer.write_exemplars(exemplars).expect("exemplars");
    writer.write_metadata([("m0", &Metadata::default())]).expect("metadata");
    writer.finish(BlockMeta::of_head(id, start, start + 7_200_000)).expect("finishes")
}

/// Number of exemplars and of families with metadata.
fn sidecars(block: &Block) -> (usize, usize) {
    let ctx = QueryContext::unlimited();
    let exemplars = block.exemplars(&ctx, &LabelQuery::all(TimeRange::ALL)).expect("exemplars");
    (exemplars.iter().map(|e| e.exemplars.len()).sum(), block.metadata(&ctx, None).expect("metadata").len())
}

fn read(sources: &[&Block]) -> Model {
    let sources: Vec<&dyn Queryable> = sources.iter().map(|&b| b as &dyn Queryable).collect();
    let mut model = Model::new();
    visit_series::<TsdbError>(
        &QueryContext::unlimited(),
        &sources,
        &[],
        TimeRange::ALL,
        |labels, samples| {
            let values = samples.iter().map(|(_, t, v)| match v {
                Value::Float(v) => (*t, v.to_bits()),
                other => panic!("not a float: {other:?}"),
            });
            model.insert(labels.to_string(), values.collect());
            Ok(())
        },
    )
    .expect("reads");
    model
}

fn file_of(disk: &dyn Disk, path: &Path) -> Vec<u8> {
    disk.read(path).expect("a file").to_vec()
}

fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) {
    if disk.exists(path) {
        disk.remove_file(path).expect("removes");
    }
    disk.create_new(path).and_then(|f| f.write_at(0, bytes)).expect("writes");
}

fn flip(disk: &dyn Disk, path: &Path, at: usize) {
    let mut bytes = file_of(disk, path);
    bytes[at] ^= 0x10;
    replace(disk, path, &bytes);
}

fn prometheus_directory(series: usize) -> (Arc<dyn Disk>, PathBuf, BlockMeta) {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
    let home = PathBuf::from("/prometheus");
    let meta = write_block(&disk, &home, 1, series);
    (disk, home, meta)
}

#[test]
fn a_prometheus_directory_has_its_blocks_without_those_that_were_replaced() {
    let (disk, home, first) = prometheus_directory(3);
    let second = write_block(&disk, &home, 2, 3);
    let directory = Directory::find(disk.clone(), &home, &TenantId::anonymous()).expect("finds");
    assert_eq!(directory.kind(), &DirectoryKind::Prometheus);
    let ids: Vec<_> = directory.blocks().expect("lists").iter().map(|b| (b.id, b.standing)).collect();
    assert_eq!(ids, [(first.ulid, Standing::Live), (second.ulid, Standing::Live)]);
    let merged = BlockId::from_parts(9_999, 1);
    let inputs =
        directory.blocks().expect("lists").into_iter().filter_map(|b| b.block.ok()).collect::<Vec<_>>();
    crate::compact::compact(&disk, &home, merged, Default::default(), &inputs, &QueryContext::unlimited())
        .expect("compacts");
    let standing: Vec<_> = directory.blocks().expect("lists").iter().map(|b| (b.id, b.standing)).collect();
    let replaced =
        [(first.ulid, Standing::Replaced), (merged, Standing::Live), (second.ulid, Standing::Replaced)];
    assert_eq!(standing, replaced);
}

#[test]
fn a_pyrrha_directory_has_the_blocks_that_its_manifest_names() {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
    let (data, tenant) = (PathBuf::from("/data"), TenantId::anonymous());
    let home = data.join("bucket/anonymous");
    let (live, stray) = (write_block(&disk, &home, 1, 2), write_block(&disk, &home, 2, 2));
    let store = DiskManifestStore::open(disk.clone(), &home.join("manifest")).expect("opens");
    let manifest = Manifest::open(Arc::new(store), clock()).expect("opens");
    let gone = BlockMeta::of_head(BlockId::from_parts(5, 5), 0, 1);
    manifest.commit(&[BlockEntry::of(&live, 1), BlockEntry::of(&gone, 1)], &[]).expect("commits");
    let directory = Directory::find(disk.clone(), &data, &tenant).expect("finds");
    let mut standing: Vec<_> =
        directory.blocks().expect("lists").iter().map(|b| (b.id, b.standing)).collect();
    standing.sort_by_key(|s| s.0);
    let expected =
        [(gone.ulid, Standing::Missing), (live.ulid, Standing::Live), (stray.ulid, Standing::Unlisted)];
    assert_eq!(standing, expected);
    let other = TenantId::new("other").expect("a tenant");
    let error = Directory::find(disk, &data, &other).expect_err("no such tenant").to_string();
    assert!(error.contains("tenants here: anonymous"), "{error}");
}

#[test]
fn an_analysis_counts_labels_and_chunks() {
    let (disk, home, meta) = prometheus_directory(30);
    let block = Block::open(&*disk, &home.join(meta.ulid.to_string())).expect("opens");
    let analysis = analyze(&block, &[], 2).expect("analyses");
    assert_eq!((analysis.series, analysis.label_names, analysis.label_pairs), (30, 3, 3 + 30 + 1));
    assert_eq!(analysis.postings_entries, 90);
    let count = |name: &str, count| Count { name: name.to_owned(), count };
    assert_eq!(analysis.common_pairs, [count("job=tools", 30), count("__name__=m0", 10)]);
    assert_eq!(analysis.cardinality, [count("i", 30), count("__name__", 3)]);
    assert_eq!(analysis.value_bytes, [count("i", 90), count("__name__", 6)]);
    assert_eq!(analysis.metrics, [count("m0", 10), count("m1", 10)]);
    // Each lasts 299 * 15 s of 7200 s.
    assert_eq!(analysis.churning_names[0], count("__name__", (30.0 * (1.0 - 4485.0 / 7200.0)) as u64));
    let fill = &analysis.chunks["Xor"];
    assert_eq!((fill.samples, fill.chunks), (30 * 300, fill.by_samples.iter().sum()));
    let matcher = Matcher::equal("i", "007");
    assert_eq!(analyze(&block, &[matcher], 2).expect("analyses").series, 1);
}

#[test]
fn a_sound_block_verifies_and_needs_no_repair() {
    let (disk, home, meta) = prometheus_directory(40);
    let dir = home.join(meta.ulid.to_string());
    let report = verify_block(&*disk, &dir);
    assert!(report.is_sound() && report.notes.is_empty(), "{report:?}");
    assert_eq!((report.series, report.samples), (40, 40 * 300));
    let repair = plan_repair(&*disk, &dir).expect("plans");
    assert_eq!((repair.series, repair.chunks), (40, meta.stats.num_chunks));
    assert!(repair.losses.is_empty() && repair.notes.is_empty(), "{repair:?}");
}

#[test]
fn a_wrong_count_in_the_meta_is_found_and_mended() {
    let (disk, home, meta) = prometheus_directory(4);
    let dir = home.join(meta.ulid.to_string());
    let mut lying = meta.clone();
    lying.stats.num_series = 5;
    replace(&*disk, &dir.join("meta.json"), &lying.to_json());
    let report = verify_block(&*disk, &dir);
    assert_eq!(report.problems.len(), 1);
    assert_eq!(report.problems[0].what, "numSeries is 5, counted 4");
    let directory = Directory::find(disk.clone(), &home, &TenantId::anonymous()).expect("finds");
    let repaired = repair(&directory, &dir, &clock()).expect("repairs").block.expect("a block");
    assert!(verify_block(&*disk, &home.join(repaired.to_string())).is_sound());
}

#[test]
fn without_toc_and_postings_every_series_is_rebuilt() {
    let (disk, home, meta) = prometheus_directory(50);
    let dir = home.join(meta.ulid.to_string());
    let before = read(&[&Block::open(&*disk, &dir).expect("opens")]);
    let mut index = file_of(&*disk, &dir.join("index"));
    let cut = index.len() - 60;
    index.truncate(cut);
    replace(&*disk, &dir.join("index"), &index);
    assert!(!verify_block(&*disk, &dir).is_sound());
    let directory = Directory::find(disk.clone(), &home, &TenantId::anonymous()).expect("finds");
    let repaired = repair(&directory, &dir, &clock()).expect("repairs");
    assert!(repaired.repair.losses.is_empty(), "{repaired:?}");
    assert!(disk.exists(&repaired.original) && !disk.exists(&dir));
    let blocks = directory.blocks().expect("lists");
    assert_eq!(blocks.len(), 1, "the original is no block any more");
    let block = blocks[0].block.as_ref().expect("opens");
    assert_eq!(read(&[block]), before);
    assert_eq!(sidecars(block), (50, 1));
    assert_eq!(block.meta().compaction.sources, meta.compaction.sources);
}

#[test]
fn a_damaged_sidecar_is_found_and_costs_no_sample() {
    let (disk, home, meta) = prometheus_directory(20);
    let dir = home.join(meta.ulid.to_string());
    let before = read(&[&Block::open(&*disk, &dir).expect("opens")]);
    for file in ["exemplars", "metadata"] {
        let len = file_of(&*disk, &dir.join(file)).len();
        flip(&*disk, &dir.join(file), len / 2);
    }
    assert_eq!(verify_block(&*disk, &dir).problems.len(), 1);
    let directory = Directory::find(disk.clone(), &home, &TenantId::anonymous()).expect("finds");
    let repaired = repair(&directory, &dir, &clock()).expect("repairs");
    assert!(!repaired.repair.notes.is_empty() && repaired.repair.losses.is_empty(), "{repaired:?}");
    let dir = home.join(repaired.block.expect("a block").to_string());
    assert!(verify_block(&*disk, &dir).is_sound());
    assert_eq!(read(&[&Block::open(&*disk, &dir).expect("opens")]), before);
}

#[test]
fn a_repair_in_a_pyrrha_directory_is_one_commit() {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
    let home = PathBuf::from("/data/bucket/anonymous");
    let meta = write_block(&disk, &home, 1, 10);
    let dir = home.join(meta.ulid.to_string());
    let directory = Directory::find(disk.clone(), Path::new("/data"), &TenantId::anonymous()).expect("finds");
    flip(&*disk, &dir.join("chunks/000001"), 40);
    let error = repair(&directory, &dir, &clock()).expect_err("no manifest names it");
    assert!(error.to_string().contains("no part of the data"), "{error}");
    let manifest = directory.open_manifest(clock()).expect("opens").expect("a manifest");
    manifest.commit(&[BlockEntry::of(&meta, 1)], &[]).expect("commits");
    let repaired = repair(&directory, &dir, &clock()).expect("repairs");
    assert_eq!(repaired.repair.losses.len(), 1, "{repaired:?}");
    let state = directory.manifest().expect("reads").expect("a manifest");
    assert_eq!(state.blocks.keys().copied().collect::<Vec<_>>(), [repaired.block.expect("a block")]);
    assert!(state.covers(meta.ulid), "an import does not bring the damaged one back");
}

#[test]
fn each_file_of_a_block_tells_of_flipped_bits() {
    let (disk, home, meta) = prometheus_directory(6);
    let dir = home.join(meta.ulid.to_string());
    let mut tombstones = Tombstones::default();
    let first = Block::open(&*disk, &dir).and_then(|b| b.series_matching(&[])).expect("opens").min();
    let range = TimeRange::new(meta.min_time + 60_000, meta.min_time + 90_000);
    tombstones.add(first.expect("a series").into(), range);
    replace(&*disk, &dir.join("tombstones"), &tombstones.encode());
    let block = Block::open(&*disk, &dir).expect("opens");
    let files = ["meta.json", "index", "chunks/000001", "tombstones", "exemplars", "metadata"];
    let sizes = files.map(|file| file_of(&*disk, &dir.join(file)).len() as u64);
    assert_eq!(block.bytes(), sizes.iter().sum::<u64>(), "its size is that of its files, as promtool has it");
    // A range that is too long in meta.json does no harm; in a tenant's manifest it has a checksum.
    let covers = |b: &Block| b.meta().min_time <= meta.min_time && meta.max_time <= b.meta().max_time;
    let told = |block: &Block| (covers(block), read(&[block]), sidecars(block));
    let whole = told(&block);
    for file in files {
        let path = dir.join(file);
        let good = file_of(&*disk, &path);
        for at in (0..good.len()).step_by(good.len() / 120 + 1) {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            replace(&*disk, &path, &bad);
            let report = verify_block(&*disk, &dir);
            let place = |p: &Problem| p.file == file && p.offset.is_none_or(|from| from <= at as u64);
            if report.is_sound() {
                // Padding, and what meta.json says beside times.
                let block = Block::open(&*disk, &dir).unwrap_or_else(|e| panic!("{file} at {at}: {e}"));
                assert!(told(&block) == whole, "{file} at {at}: not found");
                assert!(file != "chunks/000001" || (5..8).contains(&at), "{file} at {at}: not found");
            } else {
                // A time or number of meta.json that is not that of the rest may be blamed on either.
                let named = format!("file={file} offset=");
                let found = report.problems.iter().any(|p| place(p) || p.what.contains(&named));
                let either = ["meta.json", "index"].contains(&file);
                assert!(found || either, "{file} at {at}: {:?}", report.problems);
            }
        }
        replace(&*disk, &path, &good);
    }
    assert!(told(&Block::open(&*disk, &dir).expect("opens")) == whole);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_flipped_byte_is_found_and_costs_only_what_it_hit(
        file in prop::sample::select(vec!["index", "chunks/000001"]),
        at in any::<prop::sample::Index>(),
    ) {
        let (disk, home, meta) = prometheus_directory(12);
        let dir = home.join(meta.ulid.to_string());
        let before = read(&[&Block::open(&*disk, &dir).expect("opens")]);
        let path = dir.join(file);
        let bytes = file_of(&*disk, &path);
        let at = at.index(bytes.len());
        flip(&*disk, &path, at);
        // The three bytes after the version of a segment mean nothing, nor does padding.
        let unread = (file != "index" && (5..8).contains(&at)) || (file == "index" && bytes[at] == 0);
        let report = verify_block(&*disk, &dir);
        prop_assert!(!report.is_sound() || unread, "not found at {}", at);
        let directory = Directory::find(disk.clone(), &home, &TenantId::anonymous()).expect("finds");
        match repair(&directory, &dir, &clock()) {
            Err(TsdbError::Beyond { .. }) => prop_assert_eq!(file, "index", "only symbols are irreplaceable"),
            Err(error) => prop_assert!(false, "{}", error),
            Ok(repaired) => {
                let dir = home.join(repaired.block.expect("most of it").to_string());
                prop_assert!(verify_block(&*disk, &dir).is_sound());
                let after = read(&[&Block::open(&*disk, &dir).expect("opens")]);
                let kept = after.iter().filter(|(series, samples)| before.get(*series) == Some(samples)).count();
                prop_assert!(kept >= before.len() - 1, "{} of {} series are whole", kept, before.len());
                for (series, samples) in &after {
                    prop_assert!(samples.iter().all(|s| before[series].contains(s)), "an invented sample");
                }
                prop_assert!(after.len() == before.len() || !repaired.repair.losses.is_empty());
            }
        }
    }

    #[test]
    fn noise_in_place_of_a_file_never_panics(
        file in prop::sample::select(vec!["index", "chunks/000001", "meta.json", "tombstones"]),
        noise in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let (disk, home, meta) = prometheus_directory(2);
        let dir = home.join(meta.ulid.to_string());
        if disk.exists(&dir.join(file)) {
            disk.remove_file(&dir.join(file)).expect("removes");
        }
        disk.create_new(&dir.join(file)).and_then(|f| f.write_at(0, &noise)).expect("writes");
        let _ = verify_block(&*disk, &dir);
        let _ = plan_repair(&*disk, &dir);
    }
}
