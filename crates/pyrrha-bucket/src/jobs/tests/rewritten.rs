//! Blocks that are rewritten by rules, and blocks that leave when somebody says so.

use pyrrha_model::ErrorKind;

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
    });
    let waits = worker.compactor.retain(&tenants, false, &cancel).expect("no fault");
    assert!(waits[0].awaits_windows && !waits[0].committed);
}
