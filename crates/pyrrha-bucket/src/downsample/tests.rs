//! Blocks of windows in a bucket, against the samples that they were made of.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pyrrha_encoding::windows::Windows;
use pyrrha_encoding::{SeriesSamples, Want, decode_series, encode_series};
use pyrrha_model::contract::{
    CancelToken, Delete, DeleteId, QueryContext, Queryable, SelectHints, SeriesBatch, Value, WindowHints,
};
use pyrrha_model::{Labels, Matcher, TimeRange};
use pyrrha_storage::block::{Block, BlockMeta};
use pyrrha_storage::manifest::{Change, DeleteEntry, ManifestState};

use super::*;
use crate::jobs::{Compactor, CompactorConfig, JobKind, Retention};
use crate::shard::{Shard, Split};
use crate::worlds::{RANGE, World, id, write};

const DAY: i64 = 24 * HOUR;

/// Samples of series `n` from `from` to `to`, each minute; one series in three ends early.
fn samples(n: i64, from: i64, to: i64) -> Vec<(i64, i64, Value)> {
    let to = if n % 3 == 2 { from + (to - from) / 2 } else { to };
    let times =
        (from / 60_000 * 60_000..to).step_by(60_000).map(|t| t + n * 13).filter(|t| *t >= from && *t < to);
    let value = |t: i64| match n % 3 {
        0 => ((t / 60_000) % 700 * (n + 1)) as f64,
        _ => ((t / 60_000 * 7919 + n) % 1000) as f64 / 8.0,
    };
    times.map(|t| (0, t, Value::Float(value(t)))).collect()
}

fn labels(n: i64) -> Labels {
    Labels::from_pairs([("__name__", "m".to_owned()), ("n", format!("{n:03}"))])
}

fn raw(world: &World, block: u64, from: i64, to: i64, series: std::ops::Range<i64>) -> Block {
    let meta = BlockMeta::of_head(id(block), from, to);
    let series: Vec<_> = series.map(|n| (labels(n), encode_series(&samples(n, from, to), false))).collect();
    write(&world.disk, meta, &series)
}

/// Does all that there is to do; gives the number of jobs.
fn run_all(world: &World) -> u64 {
    run_with(world, |_| {})
}

/// The same, by another configuration.
fn run_with(world: &World, change: impl FnOnce(&mut CompactorConfig)) -> u64 {
    let mut config = CompactorConfig {
        leaves: JobKind::OTHERS.to_vec(),
        memory_bytes: 64 << 20,
        ..CompactorConfig::new("/work")
    };
    change(&mut config);
    let (tenants, runtime) = (world.tenants.clone(), world.runtime.clone());
    let worker = Compactor::new(tenants, runtime, Arc::new(world.disk.clone()), world.clock.clone(), config);
    worker.expect("a free directory").round(&CancelToken::default()).expect("no fault").jobs
}

fn planned(world: &World) -> Vec<DownsampleTask> {
    plan(&world.tenants.manifest(&World::tenant()).expect("opens").current(), &[])
}

fn hints(step: i64, range: i64) -> SelectHints {
    let windows = WindowHints { edges: true, values: true, counter: false, max_resolution_ms: i64::MAX };
    SelectHints { step_ms: step, range_ms: range, windows: Some(windows), ..SelectHints::default() }
}

fn read(
    world: &World,
    range: TimeRange,
    hints: &SelectHints,
) -> (BTreeMap<Labels, SeriesSamples>, Vec<String>) {
    read_of(&world.queryable([]), range, hints)
}

fn read_of(
    queryable: &dyn Queryable,
    range: TimeRange,
    hints: &SelectHints,
) -> (BTreeMap<Labels, SeriesSamples>, Vec<String>) {
    let ctx = QueryContext::unlimited();
    let mut set = queryable.select(&ctx, &[], range, hints).expect("sound");
    let (mut batch, mut all) = (SeriesBatch::default(), BTreeMap::new());
    while set.next_batch(10, &mut batch).expect("sound") {
        for entry in &batch.series {
            let mut samples = SeriesSamples::default();
            decode_series(entry, range, Want::default(), &mut samples).expect("sound");
            all.insert(batch.resolve(&ctx.symbols, entry), samples);
        }
    }
    (all, ctx.notices.warnings())
}

/// The windows that samples of a series make.
fn expected(n: i64, from: i64, to: i64, resolution: i64) -> Windows {
    let (times, values): (Vec<i64>, Vec<f64>) = samples(n, from, to)
        .into_iter()
        .filter_map(|(_, t, v)| if let Value::Float(v) = v { Some((t, v)) } else { None })
        .unzip();
    let mut windows = Windows::default();
    pyrrha_encoding::windows::fold_floats(&times, &values, resolution, &mut windows);
    windows
}

fn live(world: &World, resolution: i64) -> Vec<Arc<pyrrha_storage::manifest::BlockEntry>> {
    let state = world.tenants.manifest(&World::tenant()).expect("opens").current();
    state.blocks.values().filter(|b| b.resolution == resolution).cloned().collect()
}

#[test]
fn every_block_gets_windows_of_both_lengths_and_queries_read_them() {
    let world = World::new();
    let blocks: Vec<Block> =
        (0..3).map(|i| raw(&world, i + 1, i as i64 * DAY, (i as i64 + 1) * DAY, 0..7)).collect();
    world.ship(&blocks).expect("no fault");
    assert_eq!(run_all(&world), 6);
    assert!(planned(&world).is_empty(), "nothing is left to do");
    for resolution in [FIVE_MINUTES, HOUR] {
        let made = live(&world, resolution);
        assert_eq!(made.len(), 3);
        assert!(made.iter().all(|b| Origin::of(b).is_some_and(|o| o.from.len() == 1)));
        let (found, warnings) = read(&world, TimeRange::new(0, 3 * DAY), &hints(resolution, resolution));
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!(found.len(), 7);
        for (n, samples) in (0..7).zip(found.values()) {
            assert!(samples.floats.times.is_empty());
            let mut all = Windows::default();
            for day in 0..3 {
                let windows = expected(n, day * DAY, (day + 1) * DAY, resolution);
                all.extend(&windows, 0..windows.len());
            }
            assert_eq!(samples.windows.edges, all.edges, "series {n}");
            assert_eq!(
                (&samples.windows.values.mins, &samples.windows.values.maxs),
                (&all.values.mins, &all.values.maxs)
            );
            for (a, b) in samples.windows.values.sums.iter().zip(&all.values.sums) {
                assert!((a - b).abs() <= 1e-12 * b.abs());
            }
        }
    }
    // A query that is too fine for windows gets samples.
    let (found, _) = read(&world, TimeRange::new(0, 3 * DAY), &hints(60_000, 120_000));
    assert!(found.values().all(|s| s.windows.is_empty() && s.floats.times.len() > 2000));
    // One that knows nothing of windows too.
    let (found, _) = read(&world, TimeRange::new(0, 3 * DAY), &SelectHints::default());
    assert!(found.values().all(|s| s.windows.is_empty()));
}

#[test]
fn where_samples_are_gone_windows_answer() {
    let world = World::new();
    let blocks = [raw(&world, 1, 0, DAY, 0..4), raw(&world, 2, DAY, 2 * DAY, 0..4)];
    world.ship(&blocks).expect("no fault");
    run_all(&world);
    let manifest = world.tenants.manifest(&World::tenant()).expect("opens");
    manifest.commit(&[], &[id(1)]).expect("no fault");
    let (found, warnings) = read(&world, TimeRange::new(0, 2 * DAY), &hints(60_000, 120_000));
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("range [2m] was widened to 5m"), "{warnings:?}");
    let series = &found[&labels(0)];
    assert_eq!((series.windows.len(), series.floats.times.len()), (288, 1440));
    // What is gone cannot be built again, and is left as it is.
    assert!(planned(&world).is_empty());
    // Labels are still known.
    let query = pyrrha_model::contract::LabelQuery::all(TimeRange::new(0, HOUR));
    let names = world.queryable([]).label_values(&QueryContext::unlimited(), "n", &query).expect("sound");
    assert_eq!(names.len(), 4);
}

#[test]
fn what_comes_late_is_read_beside_windows_whose_samples_are_gone() {
    let world = World::new();
    world.ship(&[raw(&world, 1, 0, DAY, 0..2)]).expect("no fault");
    run_all(&world);
    let manifest = world.tenants.manifest(&World::tenant()).expect("opens");
    manifest.commit(&[], &[id(1)]).expect("no fault");
    world.ship(&[raw(&world, 2, 6 * HOUR, 8 * HOUR, 1..4)]).expect("no fault");
    run_all(&world);
    for (step, range) in [(60_000, 120_000), (HOUR, HOUR)] {
        let (found, _) = read(&world, TimeRange::new(0, DAY), &hints(step, range));
        for n in 0..2 {
            let wanted = expected(n, 0, DAY, if step == HOUR { HOUR } else { FIVE_MINUTES });
            assert_eq!(found[&labels(n)].windows.starts, wanted.starts, "series {n} step {step}");
        }
        assert!((2..4).all(|n| !found[&labels(n)].floats.times.is_empty()), "step {step}");
    }
}

#[test]
fn samples_past_retention_are_told_by_windows() {
    let world = World::new();
    world.ship(&[raw(&world, 1, 0, DAY, 0..2), raw(&world, 2, DAY, 2 * DAY, 0..2)]).expect("no fault");
    run_all(&world);
    // Samples count from the 36th hour on, in the middle of a block, and windows of an hour from the 6th.
    let keep = |hours: i64| Duration::from_millis((100 * RANGE - hours * HOUR) as u64);
    let retention = Retention {
        raw: keep(36),
        resolutions: [(FIVE_MINUTES, keep(12)), (HOUR, keep(6))].into(),
        ..Retention::default()
    };
    let kept = world.queryable([]).with_retention(retention, world.clock.clone());
    let (found, warnings) = read_of(&kept, TimeRange::new(0, 2 * DAY), &hints(60_000, 120_000));
    assert_eq!(warnings.len(), 2, "windows of an hour and of five minutes: {warnings:?}");
    let series = &found[&labels(0)];
    assert_eq!(series.windows.starts.first(), Some(&(6 * HOUR)));
    assert_eq!(series.windows.starts.last(), Some(&(36 * HOUR - FIVE_MINUTES)));
    assert_eq!(series.floats.times.first(), Some(&(36 * HOUR)));
    assert_eq!(series.floats.times.len(), 12 * 60);
    // Who cannot read windows is told what there is.
    let (found, warnings) = read_of(&kept, TimeRange::new(0, 2 * DAY), &SelectHints::default());
    assert_eq!(found[&labels(0)].floats.times.first(), Some(&(36 * HOUR)));
    assert!(warnings.iter().any(|w| w.contains("no samples: from=43200 to=129600")), "{warnings:?}");
}

#[test]
fn deletes_reach_windows_whose_samples_are_gone() {
    let world = World::new();
    world.ship(&[raw(&world, 1, 0, DAY, 0..4)]).expect("no fault");
    run_all(&world);
    let manifest = world.tenants.manifest(&World::tenant()).expect("opens");
    manifest.commit(&[], &[id(1)]).expect("no fault");
    let delete = |n: u128, series: &str, range| {
        let matcher_sets = vec![vec![Matcher::equal("n", series)]];
        DeleteEntry::of(&Delete { id: DeleteId(n), matcher_sets, range, at: 0, is_final: false })
    };
    let hour = TimeRange::new(6 * HOUR + 1, 7 * HOUR - 1);
    let deletes = vec![delete(1, "001", hour), delete(2, "002", TimeRange::ALL)];
    manifest.commit_change(&Change { deletes, ..Change::default() }).expect("no fault");
    let check = |world: &World| {
        for (step, resolution) in [(60_000, FIVE_MINUTES), (HOUR, HOUR)] {
            let (found, _) = read(world, TimeRange::new(0, DAY), &hints(step, 2 * step));
            assert_eq!(found[&labels(0)].windows.starts, expected(0, 0, DAY, resolution).starts);
            let mut left = expected(1, 0, DAY, resolution).starts;
            left.retain(|start| !(6 * HOUR..7 * HOUR).contains(start));
            let series = &found[&labels(1)];
            assert_eq!(series.windows.starts, left, "step {step}");
            assert!(series.windows.has_edges() && series.windows.has_values());
            assert!(found.get(&labels(2)).is_none_or(|series| series.windows.is_empty()));
        }
    };
    check(&world);
    let purged = |config: &mut CompactorConfig| config.leaves.retain(|kind| *kind != JobKind::Purge);
    assert_eq!(run_with(&world, purged), 0, "what may be taken back is not written");
    let deletes_final = manifest.current().deletes.iter().map(|d| d.number).collect();
    manifest.commit_change(&Change { deletes_final, ..Change::default() }).expect("no fault");
    assert_eq!(run_with(&world, purged), 2, "both resolutions");
    assert_eq!(run_with(&world, purged), 0, "once");
    check(&world);
    let query = pyrrha_model::contract::LabelQuery::all(TimeRange::new(0, DAY));
    let names = world.queryable([]).label_values(&QueryContext::unlimited(), "n", &query).expect("sound");
    assert_eq!(names, ["000", "001", "003"]);
    // Nothing needs them any more.
    let now = 1000 * DAY;
    let due = crate::deletes::due(&manifest.current(), now, Duration::ZERO).expect("something");
    assert_eq!(due.deletes_done.len(), 2);
}

#[test]
fn late_data_and_deletes_have_windows_built_anew() {
    let world = World::new();
    world.ship(&[raw(&world, 1, 0, RANGE, 0..3)]).expect("no fault");
    assert_eq!(run_all(&world), 2);
    // Samples of other series come late.
    world.ship(&[raw(&world, 2, RANGE / 2, RANGE, 3..5)]).expect("no fault");
    let (found, _) = read(&world, TimeRange::new(0, RANGE), &hints(FIVE_MINUTES, FIVE_MINUTES));
    assert!(found.len() == 5 && found.values().all(|s| s.windows.is_empty()), "samples until windows know");
    let before: Vec<_> = live(&world, FIVE_MINUTES).iter().map(|b| b.ulid).collect();
    assert_eq!(run_all(&world), 2);
    let after = live(&world, FIVE_MINUTES);
    assert_eq!((after.len(), live(&world, HOUR).len()), (1, 1));
    assert!(!before.contains(&after[0].ulid));
    assert_eq!(Origin::of(&after[0]).map(|o| o.from), Some(vec![id(1), id(2)]));
    let (found, _) = read(&world, TimeRange::new(0, RANGE), &hints(FIVE_MINUTES, FIVE_MINUTES));
    assert!(found.len() == 5 && found.values().all(|s| s.floats.times.is_empty()));
    // A delete: windows are not used any more until they are built without what it hides.
    let delete = DeleteEntry {
        number: 0,
        selector: "m".into(),
        min_time: 0,
        max_time: 1000,
        ..DeleteEntry::default()
    };
    let manifest = world.tenants.manifest(&World::tenant()).expect("opens");
    manifest.commit_change(&Change { deletes: vec![delete], ..Change::default() }).expect("no fault");
    let (found, _) = read(&world, TimeRange::new(0, RANGE), &hints(FIVE_MINUTES, FIVE_MINUTES));
    assert!(found.values().all(|s| s.windows.is_empty()));
    assert!(planned(&world).is_empty(), "raw blocks come first");
}

#[test]
fn a_series_of_nan_alone_stays() {
    let world = World::new();
    let nans: Vec<_> = (0..RANGE).step_by(60_000).map(|t| (0, t, Value::Float(f64::NAN))).collect();
    let series = [(labels(0), encode_series(&nans, false))];
    world.ship(&[write(&world.disk, BlockMeta::of_head(id(1), 0, RANGE), &series)]).expect("no fault");
    assert_eq!(run_all(&world), 2);
    for (resolution, counts) in [(FIVE_MINUTES, [5; 24].to_vec()), (HOUR, vec![60, 60])] {
        let (found, _) = read(&world, TimeRange::new(0, RANGE), &hints(resolution, resolution));
        let windows = &found[&labels(0)].windows;
        assert_eq!((&windows.counts, &windows.values.nans), (&counts, &counts));
    }
}

#[test]
fn windows_of_others_answer_too() {
    let world = World::new();
    let block = raw(&world, 1, 0, DAY, 0..3);
    let task = DownsampleTask {
        resolution: FIVE_MINUTES,
        inputs: vec![Arc::new(pyrrha_storage::manifest::BlockEntry::of(block.meta(), 1))],
        replaces: Vec::new(),
        origin: Origin::default(),
        keeps_custom_buckets: false,
    };
    let disk: Arc<dyn pyrrha_env::Disk> = Arc::new(world.disk.clone());
    let ctx = QueryContext::unlimited();
    let series = block.select(&ctx, &[], TimeRange::ALL, &SelectHints::default()).expect("sound");
    let home = std::path::Path::new("/thanos");
    let split = Split::new([Shard::WHOLE], 1);
    let place = Built { disk: &disk, home, outputs: &[id(9)], split };
    build(&place, &task, &[block.meta().clone()], series, &ctx).expect("no fault");
    // As Thanos would have written it: nothing beside the standard files.
    let dir = home.join(id(9).to_string());
    for name in [pyrrha_storage::block::WINDOWS_FILE, pyrrha_storage::block::WINDOWS_VALUES_FILE] {
        disk.remove_file(&dir.join(name)).expect("it is there");
    }
    let foreign = Block::open(&world.disk, &dir).expect("sound");
    assert!(
        foreign.verify(&ctx).is_ok()
            && foreign.meta().thanos.as_ref().is_some_and(|t| t.downsample.resolution == FIVE_MINUTES)
    );
    world.ship(&[foreign]).expect("no fault");
    let (found, _) = read(&world, TimeRange::new(0, DAY - 1), &hints(FIVE_MINUTES, 2 * FIVE_MINUTES));
    let (first, wanted) = (&found[&labels(0)], expected(0, 0, DAY, FIVE_MINUTES));
    assert_eq!((&first.windows.counts, &first.windows.values.sums), (&wanted.counts, &wanted.values.sums));
    let mean = wanted.values.sums[7] / f64::from(wanted.counts[7]);
    assert_eq!(first.windows.edges.last_values[7], mean);
}

/// Thanos makes hours of blocks of ten days alone: a bucket that is adopted before has none of its last days, and
/// five minutes of others have no first and last samples to make them of.
#[test]
fn windows_of_others_are_made_anew_where_there_are_no_hours() {
    let entry = |n: u64, resolution: i64| {
        let meta = BlockMeta::of_head(id(1), 0, DAY);
        let mut entry = pyrrha_storage::manifest::BlockEntry::of(&meta, 1);
        (entry.ulid, entry.resolution) = (id(n), resolution);
        (entry.ulid, Arc::new(entry))
    };
    let mut state = ManifestState::default();
    state.blocks.extend([entry(1, 0), entry(2, FIVE_MINUTES)]);
    let tasks = plan(&state, &[]);
    let made = |task: &DownsampleTask| (task.resolution, task.inputs[0].ulid, task.replaces.clone());
    assert_eq!(tasks.iter().map(made).collect::<Vec<_>>(), [(FIVE_MINUTES, id(1), vec![id(2)])]);
    state.blocks.extend([entry(3, HOUR)]);
    assert_eq!(plan(&state, &[]), [], "theirs are enough");
    // What a delete hides is in them: once it is out of the samples, windows are made of those.
    state.deletes.push(DeleteEntry {
        number: 7,
        id: DeleteId(7).to_string(),
        selector: "m".into(),
        min_time: 0,
        max_time: 1000,
        is_final: true,
        ..DeleteEntry::default()
    });
    assert_eq!(plan(&state, &[]), [], "samples come first");
    let mut purged = pyrrha_storage::manifest::BlockEntry::clone(&state.blocks[&id(1)]);
    note_deletes_applied(&mut purged, 7);
    state.blocks.insert(id(1), Arc::new(purged));
    assert_eq!(plan(&state, &[]).iter().map(made).collect::<Vec<_>>(), [(FIVE_MINUTES, id(1), vec![id(2)])]);
}

#[test]
fn a_series_that_is_larger_than_the_memory_of_a_job_gets_its_windows_in_slices() {
    let world = World::new();
    // Four a second, at odd times, with resets and gaps: decoded they take five megabytes.
    let times = (0..DAY).step_by(250).map(|t| t + t % 7).filter(|t| (t / 100_000) % 13 != 4);
    let points: Vec<(i64, f64)> = times.map(|t| (t, ((t / 250) % 911) as f64)).collect();
    let all: Vec<_> = points.iter().map(|&(t, v)| (0, t, Value::Float(v))).collect();
    let series = [(labels(0), encode_series(&all, false))];
    world.ship(&[write(&world.disk, BlockMeta::of_head(id(1), 0, DAY), &series)]).expect("no fault");
    assert_eq!(run_with(&world, |config| config.memory_bytes = 4 << 20), 2);
    let (times, values): (Vec<i64>, Vec<f64>) = points.into_iter().unzip();
    for resolution in [FIVE_MINUTES, HOUR] {
        let mut wanted = Windows::default();
        pyrrha_encoding::windows::fold_floats(&times, &values, resolution, &mut wanted);
        let (found, _) = read(&world, TimeRange::new(0, DAY - 1), &hints(resolution, resolution));
        let windows = &found[&labels(0)].windows;
        assert_eq!((&windows.starts, &windows.counts), (&wanted.starts, &wanted.counts));
        assert_eq!((&windows.values.mins, &windows.values.maxs), (&wanted.values.mins, &wanted.values.maxs));
        assert_eq!(windows.edges.last_times, wanted.edges.last_times);
        assert_eq!(windows.edges.first_times, wanted.edges.first_times);
        assert_eq!(windows.edges.resets, wanted.edges.resets);
    }
}

mod histograms;
