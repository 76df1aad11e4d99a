//! Files of the format as it is frozen, under `testdata/format/v1`: the writers still produce these
//! very bytes, and the readers still read them. `PYRRHA_BLESS=1` writes them anew, which is right
//! only for a format that was never released.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pyrrha_encoding::encode_series;
use pyrrha_env::{Clock, Disk, OsDisk};
use pyrrha_index::TablesOrigin;
use pyrrha_model::contract::{
    ChunkRef, Exemplars, LabelQuery, QueryContext, Queryable, SelectHints, SeriesBatch, Value,
};
use pyrrha_model::{Exemplar, Histogram, Labels, Metadata, MetricType, Span, TimeRange};
use pyrrha_storage::block::{Block, BlockError, BlockId, BlockMeta, BlockWriter, Tombstones};
use pyrrha_storage::manifest::{BlockEntry, Change, DeleteEntry, DiskManifestStore, Manifest};
use pyrrha_testkit::{SimClock, SimDisk};

const START: i64 = 1_700_000_000_000;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/format/v1")
}

fn id() -> BlockId {
    BlockId::from_parts(START as u64, 1)
}

fn series() -> Vec<(Labels, Vec<ChunkRef>)> {
    let encode = |samples: Vec<(i64, i64, Value)>| encode_series(&samples, false);
    let counter = |factor: f64| {
        let value = |i: i64| Value::Float((i as f64 * factor).floor());
        encode((0..200).map(|i| (0, START + i * 15_000 + i % 3, value(i))).collect())
    };
    let histogram = |i: i64| Histogram {
        schema: 1,
        zero_threshold: 0.001,
        count: 6 * i as u64,
        sum: i as f64,
        positive_spans: vec![Span { offset: 0, length: 2 }],
        positive_buckets: vec![2 * i, 2 * i],
        ..Histogram::default()
    };
    let histograms =
        encode((1..20).map(|i| (0, START + i * 15_000, Value::Histogram(Box::new(histogram(i))))).collect());
    let mut series = vec![
        (Labels::from_pairs([("__name__", "latency_seconds"), ("job", "api")]), histograms),
        (Labels::from_pairs([("__name__", "requests_total"), ("job", "api"), ("code", "200")]), counter(3.7)),
        (Labels::from_pairs([("__name__", "requests_total"), ("job", "api"), ("code", "500")]), counter(0.1)),
    ];
    series.sort_by(|a, b| a.0.cmp(&b.0));
    series
}

fn exemplars() -> Vec<Exemplars> {
    let exemplar = |trace: &str, value, timestamp| Exemplar {
        labels: Labels::from_pairs([("trace_id", trace)]),
        value,
        timestamp,
    };
    let of = |code: &str, exemplars| Exemplars {
        series: Labels::from_pairs([("__name__", "requests_total"), ("job", "api"), ("code", code)]),
        exemplars,
    };
    vec![
        of("200", vec![exemplar("abc", 0.25, START), exemplar("abd", f64::INFINITY, START + 15_000)]),
        of("500", vec![Exemplar { labels: Labels::default(), value: -0.0, timestamp: START + 7 }]),
    ]
}

fn families() -> BTreeMap<String, Metadata> {
    let of = |metric_type, help: &str, unit: &str| Metadata {
        metric_type,
        help: help.to_owned(),
        unit: unit.to_owned(),
    };
    BTreeMap::from([
        ("latency_seconds".to_owned(), of(MetricType::Histogram, "How long.", "seconds")),
        ("requests_total".to_owned(), of(MetricType::Counter, "Wie viele \u{fc}berhaupt.", "")),
    ])
}

/// Writes everything into a simulated disk; gives the paths of its files.
fn write(disk: &Arc<SimDisk>) -> Vec<PathBuf> {
    let block = Path::new("/block").join(id().to_string());
    let mut writer = BlockWriter::create(disk.clone(), &block).unwrap();
    for (labels, chunks) in &series() {
        writer.add_series(labels, chunks).unwrap();
    }
    writer.write_exemplars(exemplars().into_iter().map(Ok::<_, BlockError>)).unwrap();
    let families = families();
    writer.write_metadata(families.iter().map(|(name, m)| (name.as_str(), m))).unwrap();
    let meta = writer.finish(BlockMeta::of_head(id(), START, START + 7_200_000)).unwrap();
    let mut tombstones = Tombstones::default();
    tombstones.add(9, TimeRange::new(START, START + 60_000));
    let file = disk.create_new(&block.join("tombstones")).unwrap();
    file.write_at(0, &tombstones.encode()).unwrap();
    write_manifest(disk, &meta);
    let tables = Block::open(&**disk, &block).unwrap().index().encode_tables().unwrap().unwrap();
    disk.create_dir_all(Path::new("/index-tables")).unwrap();
    disk.create_new(&tables_file()).unwrap().write_at(0, &tables).unwrap();
    let manifest = Path::new("/manifest");
    let numbers = disk.list(manifest).unwrap().into_iter().map(|e| manifest.join(e.name));
    ["meta.json", "index", "chunks/000001", "tombstones", "exemplars", "metadata"]
        .map(|f| block.join(f))
        .into_iter()
        .chain(numbers)
        .chain([tables_file()])
        .collect()
}

fn write_manifest(disk: &Arc<SimDisk>, meta: &BlockMeta) {
    let store = DiskManifestStore::open(disk.clone(), Path::new("/manifest")).unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SimClock::new(START));
    let manifest = Manifest::open_as(Arc::new(store), clock, BlockId::from_parts(START as u64, 2)).unwrap();
    manifest.commit(&[BlockEntry::of(meta, 4000)], &[]).unwrap();
    let child = BlockMeta::of_compaction(BlockId::from_parts(START as u64, 3), std::slice::from_ref(meta));
    manifest.commit(&[BlockEntry::of(&child, 3900)], &[meta.ulid]).unwrap();
    let delete = DeleteEntry {
        number: 0,
        selector: r#"{job="api"}"#.to_owned(),
        min_time: START,
        max_time: START + 1000,
        ..DeleteEntry::default()
    };
    manifest.commit_change(&Change { deletes: vec![delete], ..Change::default() }).unwrap();
}

/// The tables of the block's index.
fn tables_file() -> PathBuf {
    Path::new("/index-tables").join(id().to_string())
}

fn in_golden(path: &Path) -> PathBuf {
    golden().join(path.strip_prefix("/").unwrap())
}

#[test]
fn writers_produce_the_frozen_bytes() {
    let disk = Arc::new(SimDisk::new(1));
    for path in write(&disk) {
        let bytes = disk.read(&path).unwrap();
        if std::env::var_os("PYRRHA_BLESS").is_some() {
            std::fs::create_dir_all(in_golden(&path).parent().unwrap()).unwrap();
            std::fs::write(in_golden(&path), &bytes).unwrap();
        }
        assert!(std::fs::read(in_golden(&path)).unwrap() == bytes, "{} differs", path.display());
    }
}

#[test]
fn readers_read_the_frozen_bytes() {
    let dir = golden().join("block").join(id().to_string());
    check_block(&Block::open(&OsDisk, &dir).unwrap(), TablesOrigin::Index);
    let tables = in_golden(&tables_file());
    check_block(&Block::open_with_tables(&OsDisk, &dir, Some(&tables)).unwrap(), TablesOrigin::Kept);
}

fn check_block(block: &Block, origin: TablesOrigin) {
    let ctx = QueryContext::unlimited();
    let mut set = block.select(&ctx, &[], TimeRange::ALL, &SelectHints::default()).unwrap();
    let mut batch = SeriesBatch::default();
    assert!(set.next_batch(10, &mut batch).unwrap());
    let expected = series();
    assert_eq!(batch.series.len(), expected.len());
    for (entry, (labels, chunks)) in batch.series.iter().zip(&expected) {
        assert_eq!(&batch.resolve(&ctx.symbols, entry), labels);
        let bytes = |chunks: &[ChunkRef]| chunks.iter().map(|c| c.bytes.to_vec()).collect::<Vec<_>>();
        assert_eq!(bytes(&entry.chunks), bytes(chunks));
    }
    let ctx = QueryContext::unlimited();
    assert_eq!(block.exemplars(&ctx, &LabelQuery::all(TimeRange::ALL)).unwrap(), exemplars());
    let found = block.metadata(&ctx, None).unwrap();
    assert_eq!(found, families().into_iter().map(|(name, m)| (name, vec![m])).collect());
    let deleted: usize = batch.series.iter().map(|s| s.deleted.len()).sum();
    assert_eq!(deleted, 1);
    assert_eq!(block.index().tables_origin(), origin);
}

#[test]
fn the_frozen_manifest_is_read() {
    let disk = Arc::new(SimDisk::new(1));
    let dir = Path::new("/manifest");
    disk.create_dir_all(dir).unwrap();
    for entry in std::fs::read_dir(golden().join("manifest")).unwrap() {
        let entry = entry.unwrap();
        let file = disk.create_new(&dir.join(entry.file_name())).unwrap();
        file.write_at(0, &std::fs::read(entry.path()).unwrap()).unwrap();
    }
    let store = DiskManifestStore::open(disk, dir).unwrap();
    let state = Manifest::open(Arc::new(store), Arc::new(SimClock::new(START))).unwrap().current();
    assert_eq!((state.number, state.base, state.blocks.len(), state.deletes.len()), (3, 1, 1, 1));
    let live = state.blocks.values().next().unwrap();
    assert_eq!((live.level, live.sources.as_slice(), live.parents.as_slice()), (2, &[id()][..], &[id()][..]));
}
