//! What jobs make of marks.

use super::*;
use crate::marks::{Mark, MarkKind, change_entries, is_marked, with_mark};

pub(super) fn put(worker: &Worker, key: &str, bytes: Bytes) {
    let (bucket, key) = (worker.compactor.tenants().bucket().clone(), key.to_owned());
    worker.compactor.runtime().wait(async move { bucket.put(&key, bytes).await }).expect("no fault");
}

fn mark(worker: &Worker, block: BlockId, kind: MarkKind, at: i64) {
    let manifest = worker.compactor.tenants().manifest(&TenantId::anonymous()).expect("opens");
    let mark = Mark::by_hand(at, "");
    change_entries(&manifest, &[block], |entry| Some(with_mark(entry, kind, Some(&mark)))).expect("no fault");
}

fn ranges(state: &ManifestState, resolution: i64) -> Vec<(i64, i64)> {
    let blocks = state.overlapping(TimeRange::ALL);
    let wanted = blocks.iter().filter(|b| b.resolution == resolution);
    wanted.map(|b| (b.min_time / RANGE, b.max_time / RANGE)).collect()
}

#[test]
fn a_block_that_another_tool_marked_no_compact_is_not_merged_but_downsampled() {
    let objects = Arc::new(InMemory::new());
    let expected = fill(&objects, |disk| (0..14).map(|n| block(disk, n, 5)).collect());
    let mut worker = Worker::new(&objects, 1, Faults::default());
    worker.reconfigure(|config| config.leaves = Vec::new());
    worker.compactor.tenants().discover().expect("reads");
    let marked = worker.state().overlapping(TimeRange::ALL)[2].ulid;
    let file = Mark::by_hand(1_000_000, "index is broken").encode(marked, MarkKind::NoCompact);
    put(&worker, &format!("anonymous/{marked}/no-compact-mark.json"), file);
    while worker.round().jobs > 0 {}
    let state = worker.state();
    assert_eq!(ranges(&state, 0), [(0, 12), (2, 3), (12, 14)]);
    let entry = &state.blocks[&marked];
    assert!(is_marked(entry, MarkKind::NoCompact) && !entry.other.contains_key("setAside"));
    assert_eq!(crate::marks(entry)[&MarkKind::NoCompact].details, "index is broken");
    let windows = |state: &ManifestState| {
        let of = state.blocks.values().filter(|b| b.resolution == 300_000);
        of.flat_map(|b| b.sources.clone()).collect::<BTreeSet<_>>()
    };
    assert!(windows(&state).contains(&marked), "it got its windows");
    let world = World::on(SimDisk::new(2), objects.clone(), 8 << 20);
    world.tenants.discover().expect("reads");
    assert_eq!(samples(&world.queryable([])), expected);
    // Taken back, it is merged with the rest.
    let tools = crate::tools::tests::tools(&world);
    let selector = crate::tools::BlockSelector { ids: [marked].into(), ..Default::default() };
    let what = crate::tools::Unmark::Mark(MarkKind::NoCompact);
    tools.unmark(&TenantId::anonymous(), &selector, what, false).expect("no fault");
    while worker.round().jobs > 0 {}
    assert!(!worker.state().blocks.contains_key(&marked));
    assert_eq!(ranges(&worker.state(), 0), [(0, 12), (12, 14)]);
}

#[test]
fn a_block_marked_no_downsample_gets_no_windows_and_is_merged_with_its_like_alone() {
    let objects = Arc::new(InMemory::new());
    fill(&objects, |disk| (0..14).map(|n| block(disk, n, 5)).collect());
    let mut worker = Worker::new(&objects, 1, Faults::default());
    worker.reconfigure(|config| config.leaves = Vec::new());
    worker.compactor.tenants().discover().expect("reads");
    let all: Vec<BlockId> = worker.state().overlapping(TimeRange::ALL).iter().map(|b| b.ulid).collect();
    for block in &all[..2] {
        mark(&worker, *block, MarkKind::NoDownsample, 5);
    }
    while worker.round().jobs > 0 {}
    let state = worker.state();
    assert_eq!(ranges(&state, 0), [(0, 2), (2, 12), (12, 14)]);
    let made = state.blocks.values().find(|b| b.resolution == 0 && b.sources.contains(&all[0]));
    assert!(is_marked(made.expect("it is live"), MarkKind::NoDownsample), "what is made of them too");
    let windows = state.blocks.values().filter(|b| b.resolution > 0);
    assert!(windows.flat_map(|b| &b.sources).all(|source| !all[..2].contains(source)));
}

#[test]
fn what_is_marked_for_deletion_goes_after_the_delay_and_not_before() {
    let objects = Arc::new(InMemory::new());
    fill(&objects, |disk| vec![block(disk, 0, 5), block(disk, 20, 5)]);
    let mut worker = Worker::new(&objects, 1, Faults::default());
    worker.reconfigure(|config| {
        config.delete_delay = Duration::from_secs(3600);
        config.trust_own_clock = true;
    });
    worker.compactor.tenants().discover().expect("reads");
    let victim = worker.state().overlapping(TimeRange::ALL)[0].ulid;
    mark(&worker, victim, MarkKind::Deletion, worker.clock.now_ms());
    assert_eq!(worker.round().jobs, 0);
    assert!(worker.state().blocks.contains_key(&victim));
    worker.clock.advance(Duration::from_secs(3601));
    assert_eq!(worker.round().jobs, 1);
    let state = worker.state();
    assert!(!state.blocks.contains_key(&victim) && state.gone.contains(&victim));
    assert!(worker.left().0.contains(&victim.to_string()), "its files wait for the delay, too");
    worker.reconfigure(|config| config.delete_delay = Duration::ZERO);
    worker.round();
    assert!(!worker.left().0.contains(&victim.to_string()));
}

#[test]
fn a_mark_that_comes_while_a_job_works_is_not_lost() {
    let objects = Arc::new(InMemory::new());
    fill(&objects, |disk| (0..14).map(|n| block(disk, n, 5)).collect());
    let worker = Worker::new(&objects, 1, Faults::default());
    worker.compactor.tenants().discover().expect("reads");
    let before = worker.state();
    let job = worker.compactor.planned(&TenantId::anonymous(), &before, &BTreeSet::new(), None).remove(0);
    mark(&worker, job.inputs[0], MarkKind::Deletion, worker.clock.now_ms());
    let manifest = worker.compactor.tenants().manifest(&TenantId::anonymous()).expect("opens");
    let expects = job.inputs.iter().map(|id| before.blocks[id].clone()).collect();
    let change = Change { removed: job.replaces.clone(), expects, ..Change::default() };
    assert!(manifest.commit_change(&change).is_err());
    worker.round();
    assert!(
        worker.state().blocks.contains_key(&job.inputs[0]) || worker.state().gone.contains(&job.inputs[0])
    );
}

#[test]
fn who_leaves_removal_to_others_leaves_what_is_marked_too() {
    let objects = Arc::new(InMemory::new());
    fill(&objects, |disk| vec![block(disk, 0, 5), block(disk, 20, 5)]);
    let mut worker = Worker::new(&objects, 1, Faults::default());
    worker.reconfigure(|config| config.leaves = JobKind::OTHERS.to_vec());
    worker.compactor.tenants().discover().expect("reads");
    let victim = worker.state().overlapping(TimeRange::ALL)[0].ulid;
    mark(&worker, victim, MarkKind::Deletion, 0);
    worker.round();
    assert!(worker.state().blocks.contains_key(&victim));
    worker.reconfigure(|config| config.leaves = JobKind::DOWNSAMPLING.to_vec());
    worker.round();
    assert!(!worker.state().blocks.contains_key(&victim));
}

#[test]
fn a_mark_that_another_tool_made_is_kept_by_a_purge() {
    let objects = Arc::new(InMemory::new());
    fill(&objects, |disk| vec![block(disk, 0, 8)]);
    let worker = Worker::new(&objects, 1, Faults::default());
    worker.compactor.tenants().discover().expect("reads");
    let file = Mark::by_hand(1_000_000, "large").encode(crate::worlds::id(1), MarkKind::NoCompact);
    put(&worker, &format!("anonymous/{}/no-compact-mark.json", crate::worlds::id(1)), file);
    let manifest = worker.compactor.tenants().manifest(&TenantId::anonymous()).expect("opens");
    let deletes = vec![delete(7, "00003", i64::MIN, i64::MAX, true)];
    manifest.commit_change(&Change { deletes, ..Change::default() }).expect("no fault");
    assert_eq!(worker.round().jobs, 1);
    let state = worker.state();
    let (made, entry) = state.blocks.first_key_value().expect("one is live");
    assert_ne!(*made, crate::worlds::id(1), "it was written anew");
    assert_eq!(crate::marks(entry)[&MarkKind::NoCompact].details, "large");
    assert!(worker.keys().iter().any(|key| *key == format!("anonymous/{made}/no-compact-mark.json")));
}
