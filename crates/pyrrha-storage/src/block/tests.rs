//! Blocks: what is written is read, on damage and power loss nothing wrong is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use pyrrha_encoding::chunk::xor;
use pyrrha_env::Disk;
use pyrrha_model::contract::{
    ChunkRef, LabelQuery, MemoryBudget, Projection, QueryContext, Queryable, SelectHints, SeriesBatch,
    Timestamps,
};
use pyrrha_model::{ChunkEncoding, ErrorKind, Labels, MatchOp, Matcher, StoreError, TimeRange};
use pyrrha_testkit::SimDisk;

use super::*;

type Series = (Labels, Vec<ChunkRef>);

fn id() -> BlockId {
    BlockId::from_parts(1_700_000_000_000, 42)
}

fn dir() -> PathBuf {
    Path::new("/bucket/anonymous").join(id().to_string())
}

fn chunk(times: std::ops::Range<i64>) -> ChunkRef {
    let times: Vec<i64> = times.step_by(10).collect();
    let values: Vec<f64> = times.iter().map(|&t| t as f64 / 4.0).collect();
    ChunkRef {
        min_time: times[0],
        max_time: times[times.len() - 1],
        encoding: ChunkEncoding::Xor,
        timestamps: Timestamps::Own,
        bytes: xor::encode(&times, &values).into(),
    }
}

fn sample_series(count: usize) -> Vec<Series> {
    let labels = |i: usize| {
        Labels::from_pairs([
            ("__name__", format!("metric_{}", i % 3)),
            ("instance", format!("host-{i:05}")),
            ("zone", if i.is_multiple_of(2) { "a".to_owned() } else { String::new() }),
        ])
    };
    let mut series: Vec<Series> = (0..count)
        .map(|i| (labels(i), (0..=(i % 3) as i64).map(|c| chunk(c * 1000..c * 1000 + 500)).collect()))
        .collect();
    series.sort_by(|a, b| a.0.cmp(&b.0));
    series
}

fn write(disk: &SimDisk, series: &[Series], segment_bytes: u64) -> Result<BlockMeta, BlockError> {
    let mut writer =
        BlockWriter::with_segment_bytes(Arc::new(disk.clone()), &dir(), Layout::Standard, segment_bytes)?;
    for (labels, chunks) in series {
        writer.add_series(labels, chunks)?;
    }
    writer.finish(BlockMeta::of_head(id(), 0, 7_200_000))
}

fn select(
    block: &Block,
    ctx: &QueryContext,
    matchers: &[Matcher],
    range: TimeRange,
    hints: &SelectHints,
) -> Result<Vec<(Labels, SeriesBatchEntry)>, StoreError> {
    let mut set = block.select(ctx, matchers, range, hints)?;
    let (mut batch, mut all) = (SeriesBatch::default(), Vec::new());
    while set.next_batch(7, &mut batch)? {
        for entry in &batch.series {
            let chunks = entry.chunks.iter().map(|c| (c.min_time, c.max_time, c.bytes.to_vec())).collect();
            all.push((batch.resolve(&ctx.symbols, entry), (chunks, entry.deleted.to_vec())));
        }
    }
    Ok(all)
}

type SeriesBatchEntry = (Vec<(i64, i64, Vec<u8>)>, Vec<TimeRange>);

fn expected(series: &[Series], matchers: &[Matcher], range: TimeRange) -> Vec<(Labels, SeriesBatchEntry)> {
    let chosen = |l: &Labels| matchers.iter().all(|m| m.matches(l.get(&m.name).unwrap_or("")));
    let in_range = |c: &&ChunkRef| TimeRange::new(c.min_time, c.max_time).overlaps(&range);
    let chunks = |chunks: &[ChunkRef]| -> Vec<_> {
        chunks.iter().filter(in_range).map(|c| (c.min_time, c.max_time, c.bytes.to_vec())).collect()
    };
    let rows = series.iter().filter(|(l, _)| chosen(l)).map(|(l, c)| (l.clone(), (chunks(c), Vec::new())));
    rows.filter(|(_, (chunks, _))| !chunks.is_empty()).collect()
}

fn matcher(op: MatchOp, name: &str, value: &str) -> Matcher {
    Matcher::new(op, name, value).expect("a valid expression")
}

#[test]
fn what_is_written_is_read() {
    let disk = SimDisk::new(1);
    let series = sample_series(100);
    // Small segments, so that there are several.
    let meta = write(&disk, &series, 2000).expect("no fault");
    assert!(disk.list(&dir().join("chunks")).expect("a directory").len() > 3);
    assert_eq!((meta.stats.num_series, meta.stats.num_chunks), (100, 199));
    assert_eq!((meta.stats.num_samples, meta.stats.num_float_samples), (199 * 50, 199 * 50));
    let block = Block::open(&disk, &dir()).expect("a sound block");
    assert_eq!(block.meta(), &meta);
    let ctx = QueryContext::unlimited();
    assert_eq!(block.verify(&ctx).expect("sound"), 199);
    for range in
        [TimeRange::ALL, TimeRange::new(1000, 1000), TimeRange::new(500, 999), TimeRange::new(5000, 9000)]
    {
        for matchers in [
            vec![],
            vec![matcher(MatchOp::Equal, "__name__", "metric_1")],
            vec![matcher(MatchOp::Regex, "instance", "host-000[12].*"), matcher(MatchOp::Equal, "zone", "")],
        ] {
            let found = select(&block, &ctx, &matchers, range, &SelectHints::default()).expect("sound");
            assert_eq!(found, expected(&series, &matchers, range), "{matchers:?} {range:?}");
            let labels: Vec<Labels> = found.into_iter().map(|(labels, _)| labels).collect();
            assert_eq!(block.series(&ctx, &LabelQuery::new([matchers], range)).expect("sound"), labels);
        }
    }
    assert_eq!(ctx.budget.used(), 0);
    let names = block.label_names(&ctx, &LabelQuery::all(TimeRange::ALL)).expect("sound");
    assert_eq!(names, ["__name__", "instance", "zone"]);
    let sets = ["metric_2", "metric_0"].map(|m| vec![Matcher::equal("__name__", m)]);
    let values =
        block.label_values(&ctx, "__name__", &LabelQuery::new(sets.clone(), TimeRange::ALL)).expect("sound");
    assert_eq!(values, ["metric_0", "metric_2"]);
}

#[test]
fn hints_are_honoured() {
    let disk = SimDisk::new(1);
    let series = sample_series(40);
    write(&disk, &series, u64::MAX).expect("no fault");
    let block = Block::open(&disk, &dir()).expect("a sound block");
    let ctx = QueryContext::unlimited();
    let find = |hints: SelectHints| select(&block, &ctx, &[], TimeRange::ALL, &hints).expect("sound");
    let projection = Some(Projection { include: true, labels: vec!["zone".to_owned()] });
    for (labels, _) in find(SelectHints { projection, ..SelectHints::default() }) {
        assert!(labels.iter().all(|l| l.name == "zone"));
    }
    assert_eq!(find(SelectHints { limit: 9, ..SelectHints::default() }).len(), 9);
    let shards: Vec<_> =
        (0..3).map(|i| find(SelectHints { shard: Some((i, 3)), ..SelectHints::default() })).collect();
    assert!(shards.iter().all(|s| !s.is_empty()));
    let mut joined = shards.concat();
    joined.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(joined, find(SelectHints::default()));
}

#[test]
fn deleted_intervals_travel_along() {
    let disk = SimDisk::new(1);
    write(&disk, &sample_series(5), u64::MAX).expect("no fault");
    let first = {
        let block = Block::open(&disk, &dir()).expect("a sound block");
        block.index().label_value_counts().expect("sound").count();
        use pyrrha_index::LabelIndex;
        block.index().all().expect("sound").to_bitmap().min().expect("it has series")
    };
    let mut tombstones = Tombstones::default();
    tombstones.add(u64::from(first), TimeRange::new(100, 200));
    crate::durable::write_new(&disk, &dir().join("tombstones"), &tombstones.encode()).expect("no fault");
    let block = Block::open(&disk, &dir()).expect("a sound block");
    let ctx = QueryContext::unlimited();
    let found = select(&block, &ctx, &[], TimeRange::ALL, &SelectHints::default()).expect("sound");
    let deleted: Vec<_> = found.iter().map(|(_, (_, deleted))| deleted.len()).collect();
    assert_eq!(deleted, [1, 0, 0, 0, 0]);
    assert_eq!(found[0].1.1, [TimeRange::new(100, 200)]);
}

#[test]
fn damage_names_block_file_and_offset() {
    let disk = SimDisk::new(1);
    write(&disk, &sample_series(20), u64::MAX).expect("no fault");
    disk.flip_bit(&dir().join("chunks/000001"), 40, 3).expect("the file is longer");
    let block = Block::open(&disk, &dir()).expect("chunks are checked when they are read");
    let error = block.verify(&QueryContext::unlimited()).expect_err("a chunk is damaged");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let text = error.to_string();
    for part in [&format!("block={}", id()), "file=chunks/000001", "offset=8"] {
        assert!(text.contains(part), "{text}");
    }
    disk.flip_bit(&dir().join("index"), 12, 0).expect("the file is longer");
    let error = Block::open(&disk, &dir()).expect_err("symbols are damaged");
    assert!(error.to_string().contains(&format!("block={} file=index", id())), "{error}");
}

#[test]
fn an_incomplete_answer_lacks_the_damaged_chunk_alone_and_says_so() {
    let disk = SimDisk::new(1);
    write(&disk, &sample_series(20), u64::MAX).expect("no fault");
    let read = |partial_response: bool| {
        let block = Block::open(&disk, &dir()).expect("chunks are checked when they are read");
        let ctx = QueryContext { partial_response, ..QueryContext::unlimited() };
        let found = select(&block, &ctx, &[], TimeRange::ALL, &SelectHints::default());
        (found, ctx.notices.gaps())
    };
    let whole = read(true).0.expect("sound");
    disk.flip_bit(&dir().join("chunks/000001"), 40, 3).expect("the file is longer");
    assert_eq!(read(false).0.map(drop).map_err(|e| e.kind()), Err(ErrorKind::Corrupt));
    let (found, gaps) = read(true);
    let found = found.expect("the rest is sound");
    assert_eq!(found.len(), whole.len() - 1, "the first series has one chunk");
    assert!(found.iter().all(|series| whole.contains(series)));
    let [(range, why)] = &gaps[..] else { panic!("{gaps:?}") };
    assert_eq!(*range, TimeRange::new(0, 490));
    assert!(why.contains("file=chunks/000001 offset=8"), "{why}");
}

#[test]
fn a_budget_is_asked_first() {
    let disk = SimDisk::new(1);
    write(&disk, &sample_series(50), u64::MAX).expect("no fault");
    let block = Block::open(&disk, &dir()).expect("a sound block");
    let budget = MemoryBudget::new("query", 10, None);
    let ctx = QueryContext::new(pyrrha_model::TenantId::anonymous(), budget, Default::default());
    let error = block.select(&ctx, &[], TimeRange::ALL, &SelectHints::default()).err().expect("too little");
    assert_eq!(error.kind(), ErrorKind::Limit);
    assert_eq!(ctx.budget.used(), 0);
}

#[test]
fn the_writer_refuses_what_a_block_cannot_hold() {
    let disk: Arc<SimDisk> = Arc::new(SimDisk::new(1));
    let labels = |v: &str| Labels::from_pairs([("a", v)]);
    let mut writer = BlockWriter::create(disk.clone(), &dir()).expect("no fault");
    writer.add_series(&labels("b"), &[chunk(0..100)]).expect("in order");
    assert_eq!(
        writer.add_series(&labels("b"), &[chunk(0..100)]).expect_err("again").kind(),
        ErrorKind::Internal
    );
    assert!(writer.add_series(&labels("a"), &[chunk(0..100)]).is_err(), "out of order");
    assert!(writer.add_series(&labels("c"), &[chunk(0..100), chunk(90..200)]).is_err(), "overlap");
    drop(writer);
    assert!(disk.list(&dir().with_file_name("")).expect("a directory").is_empty(), "nothing is left behind");
}

#[test]
fn the_range_is_widened_to_what_is_there() {
    let disk: Arc<SimDisk> = Arc::new(SimDisk::new(1));
    let mut writer = BlockWriter::create(disk, &dir()).expect("no fault");
    writer.add_series(&Labels::from_pairs([("a", "b")]), &[chunk(-50..101)]).expect("in order");
    let meta = writer.finish(BlockMeta::of_head(id(), 0, 100)).expect("no fault");
    assert_eq!((meta.min_time, meta.max_time), (-50, 101));
}

#[test]
fn unknown_fields_of_meta_are_kept() {
    let json = r#"{"ulid":"01HF7YAT00000000000000001A","minTime":1,"maxTime":5,"new":[1],
        "stats":{"numSamples":3,"numFoos":7},"compaction":{"level":2,"sources":["01HF7YAT00000000000000001A"],
        "parents":[{"ulid":"01HF7YAT00000000000000001A","minTime":1,"maxTime":5}],"hints":["from-out-of-order"]},
        "version":1,"thanos":{"labels":{"__org_id__":"a"},"downsample":{"resolution":300000},"source":"compactor",
        "files":[{"rel_path":"index","size_bytes":9}],"more":{"x":null}}}"#;
    let meta = BlockMeta::parse("b", json.as_bytes()).expect("valid");
    assert_eq!(meta.stats.num_samples, 3);
    assert_eq!(meta.thanos.as_ref().map(|t| t.downsample.resolution), Some(300_000));
    let again: serde_json::Value = serde_json::from_slice(&meta.to_json()).expect("valid");
    let before: serde_json::Value = serde_json::from_str(json).expect("valid");
    assert_eq!(again, before);
    let newer = json.replace(r#""version":1"#, r#""version":2"#);
    assert!(matches!(
        BlockMeta::parse("b", newer.as_bytes()),
        Err(BlockError::UnknownVersion { version: 2, .. })
    ));
    let child = BlockMeta::of_compaction(id(), &[meta.clone(), meta]);
    assert_eq!(
        (child.compaction.level, child.compaction.sources.len(), child.compaction.parents.len()),
        (3, 1, 2)
    );
}

#[test]
fn power_loss_leaves_a_whole_block_or_none() {
    let series = sample_series(12);
    let mut written = 0;
    for operation in 0..40 {
        let disk = SimDisk::new(operation);
        disk.fail_in(operation, pyrrha_testkit::Fault::PowerOff);
        let result = write(&disk, &series, 1500);
        disk.crash();
        match Block::open(&disk, &dir()) {
            Ok(block) => {
                assert_eq!(block.verify(&QueryContext::unlimited()).expect("sound"), 24);
                written += 1;
            }
            Err(error) => {
                assert!(result.is_err(), "a finished block is durable: operation={operation} {error}");
                assert_eq!(error.kind(), ErrorKind::NotFound);
            }
        }
        if disk.exists(Path::new("/bucket/anonymous")) {
            remove_unfinished(&disk, Path::new("/bucket/anonymous")).expect("no fault");
        }
    }
    assert!(written > 0, "the last cases write everything");
}

proptest! {
    #[test]
    fn any_damage_is_an_error_or_harmless(
        file in prop::sample::select(&["index", "chunks/000001", "meta.json"]),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let disk = SimDisk::new(1);
        write(&disk, &sample_series(10), u64::MAX).expect("no fault");
        let path = dir().join(file);
        let len = disk.read(&path).expect("the file").len();
        disk.poke(&path, at.index(len) as u64, byte).expect("inside");
        if let Ok(block) = Block::open(&disk, &dir()) {
            let _ = block.verify(&QueryContext::unlimited());
        }
    }
}
