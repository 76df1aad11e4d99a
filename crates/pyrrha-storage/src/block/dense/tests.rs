//! Dense blocks: other bytes, the same chunks; damage of any byte is found where it is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use pyrrha_encoding::{decode_stored, encode_series};
use pyrrha_env::Disk;
use pyrrha_model::contract::{
    ChunkRef, QueryContext, Queryable, SelectHints, SeriesBatch, Timestamps, Value,
};
use pyrrha_model::{ChunkEncoding, Histogram, Labels, TimeRange};
use pyrrha_testkit::SimDisk;

use crate::block::{Block, BlockId, BlockMeta, BlockWriter, Layout};
use crate::compact::{compact, to_standard};
use crate::tsdb::verify_block;

type Series = (Labels, Vec<ChunkRef>);
type Found = Vec<(String, Vec<(i64, i64, u8, Vec<u8>)>)>;

fn home() -> PathBuf {
    PathBuf::from("/bucket/anonymous")
}

fn id(number: u64) -> BlockId {
    BlockId::from_parts(1_700_000_000_000 + number, 42)
}

/// Series of some targets: those of one target share their times.
fn series(count: usize, samples: i64, histograms: bool) -> Vec<Series> {
    let mut all: Vec<Series> = (0..count)
        .map(|i| {
            let labels = Labels::from_pairs([
                ("__name__", format!("metric_{}", i / 4)),
                ("instance", format!("host-{}", i % 4)),
            ]);
            let sample = |n: i64| {
                let jitter = (n * 7 + i as i64 % 4) % 5;
                let value = match i {
                    1 if histograms => {
                        Value::Histogram(Box::new(Histogram { count: n as u64, ..Histogram::default() }))
                    }
                    2 => Value::Float(f64::from_bits((n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))),
                    _ => Value::Float((n * n % 1000) as f64 / 10.0),
                };
                (0, n * 15_000 + jitter, value)
            };
            let samples: Vec<_> = (0..samples).map(sample).collect();
            (labels, encode_series(&samples, i == 3))
        })
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

fn write(disk: &Arc<dyn Disk>, number: u64, layout: Layout, series: &[Series], segment: u64) -> Block {
    let dir = layout.home(&home()).join(id(number).to_string());
    let mut writer = BlockWriter::with_segment_bytes(disk.clone(), &dir, layout, segment).expect("creates");
    for (labels, chunks) in series {
        writer.add_series(labels, chunks).expect("adds");
    }
    let times = || series.iter().flat_map(|s| &s.1);
    let (first, last) = (times().map(|c| c.min_time).min(), times().map(|c| c.max_time).max());
    let meta = BlockMeta::of_head(id(number), first.unwrap_or(0), last.unwrap_or(0) + 1);
    writer.finish(meta).expect("finishes");
    Block::open(&**disk, &dir).expect("opens")
}

fn entries(block: &Block, mut visit: impl FnMut(&str, &pyrrha_model::contract::SeriesEntry)) {
    let ctx = QueryContext::unlimited();
    let mut set = block.select(&ctx, &[], TimeRange::ALL, &SelectHints::default()).expect("selects");
    let mut batch = SeriesBatch::default();
    while set.next_batch(7, &mut batch).expect("reads") {
        for entry in &batch.series {
            visit(&batch.resolve(&ctx.symbols, entry).to_string(), entry);
        }
    }
    drop(set);
    assert_eq!(ctx.budget.used(), 0);
}

fn chunks(block: &Block) -> Found {
    let mut found = Vec::new();
    entries(block, |labels, entry| {
        let parts = entry.chunks.iter().map(|c| (c.min_time, c.max_time, c.encoding as u8, c.bytes.to_vec()));
        found.push((labels.to_owned(), parts.collect()));
    });
    found
}

fn samples(block: &Block) -> String {
    let mut found = String::new();
    entries(block, |labels, entry| {
        let samples = decode_stored(entry, TimeRange::ALL).expect("decodes");
        // A float's bits show in its text, but for NaN.
        found.push_str(&format!("{labels} {samples:?}\n"));
    });
    found
}

#[test]
fn a_block_becomes_dense_and_comes_back_bit_for_bit() {
    for segment in [3000, u64::MAX] {
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
        let series = series(16, 500, true);
        let standard = write(&disk, 1, Layout::Standard, &series, segment);
        let dense = write(&disk, 2, Layout::Dense, &series, segment);
        assert_eq!((standard.layout(), dense.layout()), (Layout::Standard, Layout::Dense));
        assert!(!disk.exists(&dense.dir().join("meta.json")));
        assert!(dense.meta().stats.num_samples == standard.meta().stats.num_samples);
        assert_eq!(samples(&dense), samples(&standard));
        let report = verify_block(&*disk, dense.dir());
        assert!(report.is_sound() && report.notes.is_empty(), "{report:?}");
        let (mut shared, mut kinds) = (0, BTreeSet::new());
        entries(&dense, |_, entry| {
            kinds.extend(entry.chunks.iter().map(|c| c.encoding as u8));
            shared += entry.chunks.iter().filter(|c| matches!(c.timestamps, Timestamps::Shared(_))).count();
        });
        assert_eq!(
            kinds.into_iter().collect::<Vec<_>>(),
            [2, 4, 0xD1],
            "histograms and XOR2 stay as they are"
        );
        // Of each target's series all but the first, and those of other kinds.
        assert!(shared >= 8, "{shared}");
        let ctx = QueryContext::unlimited();
        let back = home().join("back");
        to_standard(&disk, &dense, &back, &ctx).expect("writes").expect("not empty");
        let back = Block::open(&*disk, &back).expect("opens");
        assert_eq!(chunks(&back), chunks(&standard));
        assert_eq!(back.meta().ulid, dense.meta().ulid);
        // Compaction copies dense chunks, times and all, and turns them back where that is wanted.
        for (layout, number) in [(Layout::Dense, 3), (Layout::Standard, 4)] {
            compact(&disk, &home(), id(number), layout, std::slice::from_ref(&dense), &ctx)
                .expect("compacts");
            let dir = layout.home(&home()).join(id(number).to_string());
            let again = Block::open(&*disk, &dir).expect("opens");
            assert!(verify_block(&*disk, &dir).is_sound());
            assert_eq!(samples(&again), samples(&standard));
            if layout == Layout::Standard {
                assert_eq!(chunks(&again), chunks(&standard));
            }
        }
    }
}

#[test]
fn dense_is_smaller() {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
    let series: Vec<Series> =
        series(40, 480, false).into_iter().filter(|(l, _)| l.get("__name__") != Some("metric_0")).collect();
    let bytes = |number, layout| write(&disk, number, layout, &series, u64::MAX).bytes() as f64;
    let (standard, dense) = (bytes(1, Layout::Standard), bytes(2, Layout::Dense));
    assert!(dense < standard * 0.5, "{dense} of {standard}");
}

#[test]
fn a_dense_chunk_in_a_standard_block_is_damage() {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
    let dense = write(&disk, 2, Layout::Dense, &series(8, 200, false), u64::MAX);
    let json = dense.meta().to_json();
    crate::durable::write_new(&*disk, &dense.dir().join("meta.json"), &json).expect("writes");
    let error = Block::open(&*disk, dense.dir()).expect_err("another header").to_string();
    assert!(error.contains("segment header") && error.contains("file=chunks/000001"), "{error}");
}

/// What a reader gets of a block, or where it is damaged.
fn read_all(disk: &dyn Disk, dir: &Path) -> Result<(), String> {
    let report = verify_block(disk, dir);
    match report.problems.first() {
        None => Ok(()),
        Some(problem) => Err(format!("file={} offset={:?}: {}", problem.file, problem.offset, problem.what)),
    }
}

#[test]
fn damage_of_any_byte_is_found_with_file_and_offset() {
    let disk = SimDisk::new(1);
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let block = write(&shared, 2, Layout::Dense, &series(12, 130, true), u64::MAX);
    let (dir, whole) = (block.dir().to_owned(), samples(&block));
    drop(block);
    for file in ["dense.json", "chunks/000001", "index"] {
        let path = dir.join(file);
        let bytes = disk.read(&path).expect("the file");
        for (at, &byte) in bytes.iter().enumerate() {
            disk.poke(&path, at as u64, byte ^ 1 << (at % 8)).expect("inside");
            match read_all(&disk, &dir) {
                Err(error) => {
                    assert!(error.contains(&format!("file={file}")), "{file} at {at}: {error}");
                    assert!(file == "index" || error.contains("offset=Some"), "{file} at {at}: {error}");
                }
                // The index has bytes between series that say nothing.
                Ok(()) => {
                    assert_eq!(file, "index", "at {at}");
                    assert_eq!(samples(&Block::open(&disk, &dir).expect("opens")), whole, "at {at}");
                }
            }
            disk.poke(&path, at as u64, byte).expect("inside");
        }
    }
    assert_eq!(read_all(&disk, &dir), Ok(()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_chunks_come_back(
        data in prop::collection::vec(
            prop::collection::vec((1i64..9_000_000, prop_oneof![Just(1.5f64), any::<u64>().prop_map(f64::from_bits)]), 1..300),
            1..6,
        ),
        cut in 1usize..150,
    ) {
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
        let series: Vec<Series> = data.iter().enumerate().map(|(i, steps)| {
            let mut time = 0;
            let samples: Vec<_> = steps.iter().map(|(step, value)| {
                time += step;
                (0, time, Value::Float(*value))
            }).collect();
            let chunks = samples.chunks(cut).flat_map(|piece| encode_series(piece, false)).collect();
            (Labels::from_pairs([("__name__", format!("m{i}"))]), chunks)
        }).collect();
        let standard = write(&disk, 1, Layout::Standard, &series, u64::MAX);
        let dense = write(&disk, 2, Layout::Dense, &series, 2000);
        let back = home().join("back");
        to_standard(&disk, &dense, &back, &QueryContext::unlimited()).expect("writes");
        prop_assert_eq!(chunks(&Block::open(&*disk, &back).expect("opens")), chunks(&standard));
        prop_assert!(standard.meta().stats.num_samples == dense.meta().stats.num_samples);
        entries(&dense, |_, entry| assert!(entry.chunks.iter().all(|c| c.encoding == ChunkEncoding::Dense)));
    }
}
