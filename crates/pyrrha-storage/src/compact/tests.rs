//! What a compaction keeps, drops and plans.

use std::collections::BTreeMap;
use std::path::PathBuf;

use proptest::prelude::*;
use pyrrha_encoding::{SeriesSamples, Want, decode_series, encode_series};
use pyrrha_model::contract::{CancelReason, Exemplars, LabelQuery, SeriesBatch, Value};
use pyrrha_model::{Exemplar, Labels, Metadata, Timestamp};
use pyrrha_testkit::SimDisk;

use super::*;
use crate::block::BlockWriter;

type Model = BTreeMap<String, BTreeMap<Timestamp, u64>>;

fn home() -> PathBuf {
    PathBuf::from("/bucket/anonymous")
}

fn labels(series: u8) -> Labels {
    Labels::from_pairs([("__name__", format!("m{}", series % 3)), ("i", format!("{series:03}"))])
}

fn write_block(disk: &Arc<dyn Disk>, number: u64, data: &BTreeMap<u8, BTreeMap<Timestamp, f64>>) -> Block {
    let ulid = BlockId::from_parts(1_000 + number, u128::from(number));
    let dir = home().join(ulid.to_string());
    let mut writer = BlockWriter::create(disk.clone(), &dir).expect("creates");
    let mut series: Vec<_> = data.iter().map(|(s, samples)| (labels(*s), samples)).collect();
    series.sort_by(|a, b| a.0.cmp(&b.0));
    for (labels, samples) in series {
        let values: Vec<_> = samples.iter().map(|(t, v)| (0, *t, Value::Float(*v))).collect();
        let chunks = encode_series(&values, false);
        writer.add_series(&labels, &chunks).expect("adds");
    }
    let times = || data.values().flat_map(|s| s.keys().copied());
    let (min, max) = (times().min().unwrap_or(0), times().max().unwrap_or(0));
    writer.finish(BlockMeta::of_head(ulid, min, max + 1)).expect("finishes");
    Block::open(&**disk, &dir).expect("opens")
}

fn read(block: &Block) -> Model {
    let ctx = QueryContext::unlimited();
    let mut set = block.select(&ctx, &[], TimeRange::ALL, &SelectHints::default()).expect("selects");
    let (mut model, mut batch, mut samples) =
        (Model::new(), SeriesBatch::default(), SeriesSamples::default());
    while set.next_batch(100, &mut batch).expect("reads") {
        for entry in &batch.series {
            decode_series(entry, TimeRange::ALL, Want::default(), &mut samples).expect("decodes");
            let pairs =
                samples.floats.times.iter().copied().zip(samples.floats.values.iter().map(|v| v.to_bits()));
            model.insert(batch.resolve(&ctx.symbols, entry).to_string(), pairs.collect());
        }
    }
    model
}

fn run(disk: &Arc<dyn Disk>, inputs: &[Block]) -> Option<Block> {
    let output = BlockId::from_parts(9_999, 1);
    let merged = compact(disk, &home(), output, Layout::Standard, inputs, &QueryContext::unlimited())
        .expect("compacts")?;
    assert_eq!(merged.meta.ulid, output);
    Some(Block::open(&**disk, &home().join(output.to_string())).expect("opens"))
}

fn disk() -> Arc<dyn Disk> {
    Arc::new(SimDisk::new(1))
}

fn blocks_strategy() -> impl Strategy<Value = Vec<BTreeMap<u8, BTreeMap<Timestamp, f64>>>> {
    let samples = prop::collection::btree_map(0i64..5_000, -50i32..50, 1..200)
        .prop_map(|m| m.into_iter().map(|(t, v)| (t, f64::from(v))).collect());
    prop::collection::vec(prop::collection::btree_map(0u8..12, samples, 1..6), 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_compaction_keeps_each_sample_once_and_the_older_block_wins(data in blocks_strategy()) {
        let disk = disk();
        let blocks: Vec<Block> = (0..).zip(&data).map(|(n, d)| write_block(&disk, n, d)).collect();
        let mut want: BTreeMap<String, BTreeMap<Timestamp, Vec<u64>>> = BTreeMap::new();
        for (series, samples) in data.iter().flatten() {
            let row = want.entry(labels(*series).to_string()).or_default();
            samples.iter().for_each(|(t, v)| row.entry(*t).or_default().push(v.to_bits()));
        }
        let got = read(&run(&disk, &blocks).expect("not empty"));
        prop_assert_eq!(got.keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>());
        for (series, samples) in &want {
            let row = &got[series];
            prop_assert_eq!(row.keys().collect::<Vec<_>>(), samples.keys().collect::<Vec<_>>());
            for (t, choices) in samples {
                prop_assert!(choices.contains(&row[t]), "{} at {}: an invented value", series, t);
            }
        }
    }

    #[test]
    fn plans_end_and_never_mix_what_is_not_adjacent(spans in prop::collection::vec((0i64..60, 1i64..4), 0..20)) {
        let ranges = CompactionRanges::up_to(2, 54);
        let mut blocks: Vec<BlockMeta> = spans.iter().enumerate().map(|(i, (start, len))| {
            BlockMeta::of_head(BlockId::from_parts(i as u64, 7), start * 2, (start + len) * 2)
        }).collect();
        for round in 0..100u64 {
            let chosen = plan(&blocks, &ranges);
            if chosen.is_empty() {
                break;
            }
            prop_assert!(round < 60, "planning does not end");
            prop_assert!(chosen.len() > 1);
            let parents: Vec<_> = chosen.iter().map(|&i| blocks[i].clone()).collect();
            let merged = BlockMeta::of_compaction(BlockId::from_parts(1_000 + round, 7), &parents);
            blocks.retain(|b| !parents.iter().any(|p| p.ulid == b.ulid));
            blocks.push(merged);
        }
        blocks.sort_by_key(|b| b.min_time);
        prop_assert!(blocks.windows(2).all(|w| w[0].max_time <= w[1].min_time), "overlaps are merged first");
    }
}

#[test]
fn what_overlaps_nothing_is_copied_byte_for_byte() {
    let disk = disk();
    let range =
        |times: std::ops::Range<i64>| BTreeMap::from([(1u8, times.map(|t| (t, t as f64 / 3.0)).collect())]);
    let blocks = [write_block(&disk, 1, &range(0..100)), write_block(&disk, 2, &range(100..200))];
    let output = run(&disk, &blocks).expect("not empty");
    assert_eq!(output.meta().stats.num_chunks, 2);
    assert_eq!(output.meta().stats.num_samples, 200);
    let meta = output.meta();
    assert_eq!(
        (meta.compaction.level, meta.compaction.sources.len(), meta.compaction.parents.len()),
        (2, 2, 2)
    );
    assert_eq!((meta.min_time, meta.max_time), (0, 200));
}

#[test]
fn the_greater_value_wins_a_conflict_whichever_block_has_it() {
    let at = |v: f64| BTreeMap::from([(1u8, BTreeMap::from([(10i64, v)]))]);
    for (older, newer) in [(1.0, 2.0), (2.0, 1.0), (pyrrha_model::stale_nan(), 2.0)] {
        let disk = disk();
        let blocks = [write_block(&disk, 1, &at(older)), write_block(&disk, 2, &at(newer))];
        let model = read(&run(&disk, &blocks).expect("not empty"));
        assert_eq!(model.values().next().and_then(|row| row.get(&10)), Some(&2.0f64.to_bits()));
    }
}

#[test]
fn a_cancelled_compaction_leaves_no_block() {
    let disk = disk();
    let data = BTreeMap::from([(1u8, BTreeMap::from([(10i64, 1.0)]))]);
    let block = write_block(&disk, 1, &data);
    let ctx = QueryContext::unlimited();
    ctx.cancel.cancel(CancelReason::Canceled);
    let output = BlockId::from_parts(9_999, 1);
    assert!(compact(&disk, &home(), output, Layout::Standard, &[block], &ctx).is_err());
    let names: Vec<_> = disk.list(&home()).expect("lists").into_iter().map(|e| e.name).collect();
    assert_eq!(names.len(), 1, "only the input is there: {names:?}");
}

#[test]
fn ranges_grow_threefold_up_to_the_largest() {
    let hour = 3_600_000;
    assert_eq!(CompactionRanges::up_to(2 * hour, 31 * 24 * hour).as_slice().len(), 6);
    assert_eq!(CompactionRanges::up_to(2 * hour, hour).as_slice(), [2 * hour]);
}

#[test]
fn the_newest_block_waits_and_full_windows_merge() {
    let block = |n: u64, min, max| BlockMeta::of_head(BlockId::from_parts(n, 0), min, max);
    let ranges = CompactionRanges::up_to(2, 18);
    let blocks = [block(1, 0, 2), block(2, 2, 4), block(3, 4, 6)];
    assert!(
        plan(&blocks, &ranges).is_empty(),
        "the third block is the newest, and its window not known to be full"
    );
    let blocks = [block(1, 0, 2), block(2, 2, 4), block(3, 4, 6), block(4, 6, 8)];
    assert_eq!(plan(&blocks, &ranges), [0, 1, 2]);
    let straddling = [block(1, 0, 2), block(2, 4, 8), block(3, 10, 12), block(4, 20, 22)];
    assert_eq!(plan(&straddling, &ranges), [0, 1, 2], "what straddles a range joins the next");
}

#[test]
fn sidecars_are_merged() {
    let disk = disk();
    let exemplar = |t: i64| Exemplar { labels: Labels::default(), value: t as f64, timestamp: t };
    let block = |number: u64, times: &[i64], help: &str| {
        let ulid = BlockId::from_parts(1_000 + number, 0);
        let dir = home().join(ulid.to_string());
        let mut writer = BlockWriter::create(disk.clone(), &dir).expect("creates");
        let at = number as i64 * 100;
        writer.add_series(&labels(1), &encode_series(&[(0, at, Value::Float(1.0))], false)).expect("adds");
        let exemplars = times.iter().map(|&t| exemplar(t)).collect();
        let own = Exemplars { series: labels(number as u8), exemplars: vec![exemplar(1)] };
        let mut all = vec![Exemplars { series: labels(9), exemplars }, own];
        all.sort_by(|a, b| a.series.cmp(&b.series));
        writer.write_exemplars(all.into_iter().map(Ok::<_, StoreError>)).expect("writes");
        let (old, new) = (Metadata { help: help.into(), ..Metadata::default() }, Metadata::default());
        writer
            .write_metadata([("both", &old), (if number == 1 { "first" } else { "second" }, &new)])
            .expect("writes");
        writer.finish(BlockMeta::of_head(ulid, at, at + 1)).expect("finishes");
        Block::open(&*disk, &dir).expect("opens")
    };
    let output = run(&disk, &[block(2, &[5, 7], "newer"), block(1, &[3, 5], "older")]).expect("not empty");
    let ctx = QueryContext::unlimited();
    let found = output.exemplars(&ctx, &LabelQuery::all(TimeRange::ALL)).expect("reads");
    let times: Vec<Vec<i64>> =
        found.iter().map(|e| e.exemplars.iter().map(|e| e.timestamp).collect()).collect();
    assert_eq!(times, [vec![3, 5, 7], vec![1], vec![1]], "each once, by labels");
    let metadata = output.metadata(&ctx, None).expect("reads");
    assert_eq!(metadata.keys().collect::<Vec<_>>(), ["both", "first", "second"]);
    assert_eq!(metadata["both"][0].help, "newer");
}
