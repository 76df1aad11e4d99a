//! Blocks that are rewritten by rules, and blocks that leave when somebody says so.

use pyrrha_model::contract::Exemplars;
use pyrrha_model::{ErrorKind, Exemplar, Labels, StoreError};
use pyrrha_storage::block::{BlockMeta, BlockWriter};

use super::super::lease::Lease;
use super::*;
use crate::rewrite::RewriteRules;
use crate::tools::BlockSelector;

fn parse(text: &str) -> Result<Vec<Matcher>, String> {
    let (name, value) = text.split_once('=').ok_or("no matcher")?;
    Ok(vec![Matcher::equal(name, value)])
}

fn rules(delete: Option<&str>, relabel: Option<&str>) -> Arc<RewriteRules> {
    Arc::new(RewriteRules::parse(delete, None, relabel, &parse).expect("rules"))
}

fn rewrite(
    worker: &Worker,
    selector: &BlockSelector,
    rules: &Arc<RewriteRules>,
    dry_run: bool,
) -> Result<Vec<RewrittenBlock>, pyrrha_model::StoreError> {
    let (tenant, cancel) = (TenantId::anonymous(), CancelToken::default());
    worker.compactor.rewrite(&tenant, selector, rules, dry_run, &cancel, &mut |_, _, _| {})
}

fn now(objects: &Arc<InMemory>) -> Samples {
    let world = World::on(SimDisk::new(2), objects.clone(), 8 << 20);
    world.tenants.discover().expect("reads");
    samples(&world.queryable([]))
}

fn worker(objects: &Arc<InMemory>) -> Worker {
    let mut worker = Worker::new(objects, 1, Faults::default());
    worker.reconfigure(|config| config.leaves = Vec::new());
    worker.compactor.tenants().discover().expect("reads");
    worker
}

#[test]
fn series_and_times_go_and_windows_are_made_anew() {
    let objects = Arc::new(InMemory::new());
    let before = fill(&objects, |disk| (0..2).map(|n| block(disk, n, 9)).collect());
    let worker = worker(&objects);
    while worker.round().jobs > 0 {}
    let windows = worker.state().blocks.values().filter(|b| b.resolution > 0).count();
    assert!(windows > 0);
    let delete = "- matchers: __name__=metric_1\n- matchers: __name__=metric_2\n  \
                  intervals: [{mint: 0, maxt: 600000}]\n";
    let rules = rules(Some(delete), None);
    let looked = rewrite(&worker, &BlockSelector::default(), &rules, true).expect("no fault");
    assert_eq!(now(&objects), before, "nothing was written");
    let done = rewrite(&worker, &BlockSelector::default(), &rules, false).expect("no fault");
    assert_eq!(
        looked.iter().map(|b| b.changes).collect::<Vec<_>>(),
        done.iter().map(|b| b.changes).collect::<Vec<_>>()
    );
    assert_eq!((done.len(), done[0].committed, done[0].changes.deleted_series), (1, true, 3));
    assert!(done[0].changes.cut_series > 0 && done[0].windows.len() == windows);
    let expected: Samples = before
        .iter()
        .filter(|(series, _)| !series.contains("metric_1"))
        .map(|(series, samples)| {
            let cut = series.contains("metric_2");
            let stays = samples.iter().filter(|(t, _)| !cut || **t > 600_000);
            (series.clone(), stays.map(|(t, v)| (*t, *v)).collect())
        })
        .collect();
    assert_eq!(now(&objects), expected);
    // The log of it lies beside the block, and its meta says what was applied.
    let made = done[0].rewritten_to.clone().expect("something is left");
    let get = |key: String| {
        let bucket = worker.compactor.tenants().bucket().clone();
        let found = worker.compactor.runtime().wait(async move { bucket.get(&key, 1 << 20).await });
        String::from_utf8(found.expect("no fault").expect("it is there").to_vec()).expect("text")
    };
    let log = get(format!("anonymous/{made}/change.log"));
    assert_eq!(log.lines().filter(|line| line.starts_with("deleted metric_1{")).count(), 3, "{log}");
    assert!(log.contains("[0 600000]"), "{log}");
    assert!(get(format!("anonymous/{made}/meta.json")).contains("deletions_applied"));
    // Windows come back from what is left.
    while worker.round().jobs > 0 {}
    assert_eq!(worker.state().blocks.values().filter(|b| b.resolution > 0).count(), windows);
    assert_eq!(now(&objects), expected);
    // The same once more changes nothing.
    let raw = BlockSelector { resolutions: [0].into(), ..BlockSelector::default() };
    let number = worker.state().number;
    let again = rewrite(&worker, &raw, &rules, false).expect("no fault");
    assert!(!again[0].committed && !again[0].changes.is_any(), "{again:?}");
    assert_eq!(worker.state().number, number);
}

#[test]
fn labels_change_and_series_that_become_one_are_merged() {
    let objects = Arc::new(InMemory::new());
    let before = fill(&objects, |disk| vec![block(disk, 0, 30)]);
    let worker = worker(&objects);
    let relabel = "- {action: labeldrop, regex: instance}\n\
                   - {source_labels: [zone], regex: a, target_label: Zone, replacement: up}\n";
    let done =
        rewrite(&worker, &BlockSelector::default(), &rules(None, Some(relabel)), false).expect("no fault");
    assert_eq!((done[0].changes.series, done[0].changes.relabelled_series), (30, 30));
    let after = now(&objects);
    assert_eq!(after.len(), 6, "three metrics in two zones: {:?}", after.keys());
    assert!(after.keys().all(|series| !series.contains("instance")));
    assert_eq!(after.keys().filter(|series| series.contains("Zone=\"up\"")).count(), 3);
    let times = |all: &Samples| all.values().flat_map(|s| s.keys().copied()).collect::<BTreeSet<_>>();
    assert_eq!(times(&after), times(&before));
}

#[test]
fn what_cannot_be_rewritten_is_refused_with_what_is_right() {
    let objects = Arc::new(InMemory::new());
    fill(&objects, |disk| (0..2).map(|n| block(disk, n, 9)).collect());
    let worker = worker(&objects);
    while worker.round().jobs > 0 {}
    let rules = rules(Some("- matchers: __name__=metric_1\n"), None);
    let windows = BlockSelector { resolutions: [300_000].into(), ..BlockSelector::default() };
    let error = rewrite(&worker, &windows, &rules, false).expect_err("windows alone");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("choose these, too"), "{error}");
    // Raw samples go, their windows stay.
    let manifest = worker.compactor.tenants().manifest(&TenantId::anonymous()).expect("opens");
    let raw =
        worker.state().blocks.values().filter(|b| b.resolution == 0).map(|b| b.ulid).collect::<Vec<_>>();
    manifest.commit(&[], &raw).expect("no fault");
    let error = rewrite(&worker, &windows, &rules, true).expect_err("raw samples are gone");
    assert!(error.to_string().contains("are gone"), "{error}");
}

#[test]
fn all_that_is_deleted_leaves_no_block() {
    let objects = Arc::new(InMemory::new());
    fill(&objects, |disk| vec![block(disk, 0, 9)]);
    let worker = worker(&objects);
    let rules = rules(Some("- matchers: nobody=\n"), None);
    let done = rewrite(&worker, &BlockSelector::default(), &rules, false).expect("no fault");
    assert_eq!((done[0].committed, done[0].rewritten_to.clone()), (true, None));
    assert!(worker.state().blocks.is_empty());
    worker.round();
    assert!(worker.left().0.is_empty(), "its files go as those of any job");
}

#[test]
fn what_is_past_retention_leaves_at_once_on_request() {
    let objects = Arc::new(InMemory::new());
    fill(&objects, |disk| vec![block(disk, 0, 5), block(disk, 90, 5)]);
    let mut worker = worker(&objects);
    worker.reconfigure(|config| {
        config.leaves = JobKind::DOWNSAMPLING.to_vec();
        config.trust_own_clock = true;
        config.retention.raw = Duration::from_millis(50 * RANGE as u64);
    });
    let (tenants, cancel) = ([TenantId::anonymous()], CancelToken::default());
    let looked = worker.compactor.retain(&tenants, true, &cancel).expect("no fault");
    assert_eq!((looked.len(), looked[0].committed, looked[0].max_time), (1, false, RANGE));
    assert_eq!(looked[0].horizon, Some(50 * RANGE));
    assert_eq!(worker.state().blocks.len(), 2);
    let done = worker.compactor.retain(&tenants, false, &cancel).expect("no fault");
    assert_eq!((done.len(), done[0].committed), (1, true));
    assert_eq!(worker.state().blocks.len(), 1);
    assert!(worker.compactor.retain(&tenants, false, &cancel).expect("no fault").is_empty());
    // Raw samples without windows stay until they have some.
    worker.reconfigure(|config| {
        config.leaves = Vec::new();
        config.retention.raw = Duration::from_millis(1);
        config.retention.resolutions = [(300_000, Duration::ZERO), (3_600_000, Duration::ZERO)].into();
    });
    let waits = worker.compactor.retain(&tenants, false, &cancel).expect("no fault");
    assert!(waits[0].awaits_windows && !waits[0].committed);
}

/// Test block 0, made when a delete might be taken back that hides the first ten minutes of a series.
fn hiding(disk: &SimDisk, delete: DeleteId) -> Block {
    let meta = BlockMeta::of_head(crate::worlds::id(1), 0, RANGE);
    let dir = std::path::Path::new("/local").join(meta.ulid.to_string());
    let mut writer = BlockWriter::create(Arc::new(disk.clone()), &dir).expect("no fault");
    writer.knows_deletes(delete);
    for (labels, chunks) in crate::worlds::series(0, 9) {
        writer.add_series(&labels, &chunks).expect("in order");
        if labels.get("instance") == Some("host-00003") {
            writer.hide(delete, TimeRange::new(0, 600_000));
        }
    }
    writer.finish(meta).expect("no fault");
    Block::open(disk, &dir).expect("a sound block")
}

#[test]
fn what_a_delete_hides_that_may_be_taken_back_stays_hidden_in_rewritten_blocks() {
    let objects = Arc::new(InMemory::new());
    let all = fill(&objects, |disk| vec![hiding(disk, DeleteId(7))]);
    let worker = worker(&objects);
    let manifest = worker.compactor.tenants().manifest(&TenantId::anonymous()).expect("opens");
    let deletes = vec![delete(7, "00003", 0, 600_000, false)];
    manifest.commit_change(&Change { deletes, ..Change::default() }).expect("no fault");
    let before = now(&objects);
    assert!(count(&before) < count(&all));
    let drop = rules(Some("- matchers: __name__=metric_1\n"), None);
    let relabel = rules(None, Some("- {action: labeldrop, regex: instance}"));
    for rules in [&drop, &relabel] {
        for dry_run in [true, false] {
            let error =
                rewrite(&worker, &BlockSelector::default(), rules, dry_run).expect_err("it is hidden");
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            assert!(error.to_string().contains("purge"), "{error}");
        }
    }
    assert!(now(&objects) == before);
    // Of one that lists nothing, what the delete matches is told by labels: those must stay.
    fill(&objects, |disk| vec![block(disk, 1, 9)]);
    let deletes = vec![delete(8, "00004", RANGE, 2 * RANGE, false)];
    manifest.commit_change(&Change { deletes, ..Change::default() }).expect("no fault");
    let second = BlockSelector { ids: [crate::worlds::id(2)].into(), ..BlockSelector::default() };
    assert!(rewrite(&worker, &second, &relabel, false).is_err());
    let mut expected = now(&objects);
    expected.retain(|series, samples| {
        samples.retain(|t, _| *t < RANGE || !series.contains("metric_1"));
        !samples.is_empty()
    });
    rewrite(&worker, &second, &drop, false).expect("no fault");
    assert!(now(&objects) == expected);
    // Final, all of it is done by a job, and then there is nothing in the way.
    worker.clock.advance(Duration::from_secs(24 * 3600));
    while worker.round().jobs > 0 {}
    let raw = BlockSelector { resolutions: [0].into(), ..BlockSelector::default() };
    rewrite(&worker, &raw, &relabel, false).expect("nothing is hidden");
}

#[test]
fn an_interval_within_a_block_is_cut_once_and_where_nothing_is_nothing_is_done() {
    let objects = Arc::new(InMemory::new());
    let before = fill(&objects, |disk| vec![block(disk, 0, 9)]);
    let worker = worker(&objects);
    let cut = |from: i64, to: i64| {
        let text = format!("- matchers: __name__=metric_2\n  intervals: [{{mint: {from}, maxt: {to}}}]\n");
        rules(Some(&text), None)
    };
    let all = BlockSelector::default();
    for dry_run in [true, false] {
        let nothing = rewrite(&worker, &all, &cut(300_001, 314_999), dry_run).expect("no fault");
        assert!(!nothing[0].committed && !nothing[0].changes.is_any(), "between two samples {nothing:?}");
    }
    let middle = cut(300_000, 600_000);
    let done = rewrite(&worker, &all, &middle, false).expect("no fault");
    assert_eq!((done[0].committed, done[0].changes.cut_series), (true, 3));
    let expected: Samples = before
        .into_iter()
        .map(|(series, mut samples)| {
            samples.retain(|t, _| !series.contains("metric_2") || !(300_000..=600_000).contains(t));
            (series, samples)
        })
        .collect();
    assert!(now(&objects) == expected);
    let number = worker.state().number;
    for dry_run in [true, false] {
        let again = rewrite(&worker, &all, &middle, dry_run).expect("no fault");
        assert!(!again[0].committed && !again[0].changes.is_any(), "{again:?}");
    }
    assert_eq!(worker.state().number, number);
}

#[test]
fn exemplars_between_samples_go_with_their_interval() {
    let objects = Arc::new(InMemory::new());
    fill(&objects, |disk| {
        let meta = BlockMeta::of_head(crate::worlds::id(1), 0, RANGE);
        let dir = std::path::Path::new("/local").join(meta.ulid.to_string());
        let mut writer = BlockWriter::create(Arc::new(disk.clone()), &dir).expect("no fault");
        let series = crate::worlds::series(0, 3);
        for (labels, chunks) in &series {
            writer.add_series(labels, chunks).expect("in order");
        }
        let exemplar =
            |timestamp| Exemplar { labels: Labels::from_pairs([("trace_id", "abc")]), value: 1.0, timestamp };
        let of = |labels: &Labels| Exemplars {
            series: labels.clone(),
            exemplars: vec![exemplar(7), exemplar(20_000)],
        };
        writer.write_exemplars(series.iter().map(|(l, _)| Ok::<_, StoreError>(of(l)))).expect("no fault");
        writer.finish(meta).expect("no fault");
        vec![Block::open(disk, &dir).expect("a sound block")]
    });
    let worker = worker(&objects);
    let rules = rules(Some("- matchers: __name__=metric_2\n  intervals: [{mint: 1, maxt: 14999}]\n"), None);
    let all = BlockSelector::default();
    let looked = rewrite(&worker, &all, &rules, true).expect("no fault");
    let done = rewrite(&worker, &all, &rules, false).expect("no fault");
    assert!(done[0].committed && done[0].changes == looked[0].changes, "{done:?} {looked:?}");
    let again = rewrite(&worker, &all, &rules, false).expect("no fault");
    assert!(!again[0].committed, "{again:?}");
}

#[test]
fn a_mark_that_another_tool_made_is_kept_by_a_rewrite() {
    let objects = Arc::new(InMemory::new());
    fill(&objects, |disk| vec![block(disk, 0, 9)]);
    let worker = worker(&objects);
    let file = crate::marks::Mark::by_hand(1_000_000, "large")
        .encode(crate::worlds::id(1), crate::MarkKind::NoCompact);
    super::marked::put(&worker, &format!("anonymous/{}/no-compact-mark.json", crate::worlds::id(1)), file);
    let rules = rules(Some("- matchers: __name__=metric_1\n"), None);
    let done = rewrite(&worker, &BlockSelector::default(), &rules, false).expect("no fault");
    let made: BlockId = done[0].rewritten_to.as_ref().expect("something is left").parse().expect("an id");
    assert_eq!(crate::marks(&worker.state().blocks[&made])[&crate::MarkKind::NoCompact].details, "large");
    assert!(worker.keys().iter().any(|key| *key == format!("anonymous/{made}/no-compact-mark.json")));
}

/// A clock at whose ticks a lease beats.
#[derive(Debug)]
struct Beating(Arc<SimClock>, Lease);

impl Clock for Beating {
    fn now_ms(&self) -> i64 {
        self.0.now_ms()
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }

    fn sleep(&self, duration: Duration) {
        self.1.hold().expect("nobody has taken over");
        self.0.sleep(duration);
    }
}

/// The lease of a worker that has begun to rewrite the first block.
fn begun(worker: &Worker) -> Lease {
    let entry = worker.state().blocks[&crate::worlds::id(1)].clone();
    let spec = JobSpec {
        kind: JobKind::Rewrite,
        inputs: vec![entry.ulid],
        replaces: vec![entry.ulid],
        outputs: 1,
        min_time: entry.min_time,
        max_time: entry.max_time,
        bytes: entry.bytes,
    };
    let new = || BlockId::new(&*worker.clock);
    let record = super::super::record::JobRecord::taken(&spec, new(), new(), vec![new()], 0, None);
    let directory = worker.compactor.directory(&TenantId::anonymous());
    // By itself it beats in half an hour.
    let timeout = Duration::from_secs(7200);
    let lease = Lease::take(&directory, &spec.id(), 1, record, timeout, CancelToken::default());
    lease.expect("no fault").expect("nobody has it")
}

#[test]
fn a_rewrite_that_was_killed_is_run_again_once_its_worker_is_taken_for_dead() {
    let objects = Arc::new(InMemory::new());
    let before = fill(&objects, |disk| (0..3).map(|n| block(disk, n, 9)).collect());
    let worker = worker(&objects);
    drop(begun(&worker));
    let rules = rules(Some("- matchers: __name__=metric_1\n"), None);
    let done = rewrite(&worker, &BlockSelector::default(), &rules, false).expect("it is taken over");
    assert!(done.len() == 3 && done.iter().all(|one| one.committed), "{done:?}");
    assert_eq!(worker.compactor.metrics().jobs_taken_over.load(Ordering::Relaxed), 1);
    assert!(count(&now(&objects)) < count(&before));
}

#[test]
fn a_block_that_a_living_worker_holds_is_named_and_the_others_are_rewritten() {
    let objects = Arc::new(InMemory::new());
    fill(&objects, |disk| (0..3).map(|n| block(disk, n, 9)).collect());
    let worker = worker(&objects);
    let clock = Arc::new(Beating(worker.clock.clone(), begun(&worker)));
    let (tenants, runtime) = (worker.compactor.tenants().clone(), worker.compactor.runtime().clone());
    let config = CompactorConfig { scratch_dir: "/third".into(), ..worker.compactor.config().clone() };
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(78));
    let asked = Compactor::new(tenants, runtime, disk, clock, config).expect("a free directory");
    let rules = rules(Some("- matchers: __name__=metric_1\n"), None);
    let one = |selector: &BlockSelector| {
        asked.rewrite(
            &TenantId::anonymous(),
            selector,
            &rules,
            false,
            &CancelToken::default(),
            &mut |_, _, _| {},
        )
    };
    let selector = BlockSelector { ids: [crate::worlds::id(1)].into(), ..BlockSelector::default() };
    let refused = one(&selector).expect_err("it is held");
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert!(refused.to_string().contains("worker="), "{refused}");
    let done = one(&BlockSelector::default()).expect("the others are free");
    let said: Vec<_> = done.iter().map(|one| (one.committed, one.refused.is_some())).collect();
    assert_eq!(said, [(false, true), (true, false), (true, false)]);
    assert_eq!(asked.metrics().jobs_taken_over.load(Ordering::Relaxed), 0);
}
