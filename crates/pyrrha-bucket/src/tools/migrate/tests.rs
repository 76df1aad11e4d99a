//! A bucket as Thanos leaves it, planned, copied and compared.

use pyrrha_testkit::foreign_bucket::{ForeignBlock, ForeignBucket, deletion_mark, no_compact_mark};

use super::*;
use crate::tools::adopt::tests::{config, fill, thanos, ulid};
use crate::tools::tests::{let_go, put, tools};
use crate::worlds::{RANGE, World};

fn quiet() -> impl FnMut(&str, u64, u64) {
    |_, _, _| {}
}

fn options(dry_run: bool) -> CopyOptions {
    CopyOptions { dry_run, ..CopyOptions::default() }
}

fn compared(from: &World, to: &World, replica: &[&str]) -> Vec<ComparedTenant> {
    tools(from)
        .compare_with(&config(replica), &tools(to), 2 * RANGE, 256 << 20, &mut quiet())
        .expect("both answer")
}

#[test]
fn a_plan_says_what_there_is_and_what_would_be_refused() {
    let world = World::new();
    let mut foreign = thanos();
    let marked = ForeignBlock::new(&ulid(300), 0, RANGE, &[]).with_floats(&[("__name__", "x")], &[(1, 1.0)]);
    foreign.add("", &marked);
    foreign.put(&format!("{}/deletion-mark.json", ulid(300)), deletion_mark(&ulid(300), 100 * RANGE / 1000));
    foreign.put(&format!("{}/meta.json", ulid(301)), b"{".to_vec());
    let torn = ForeignBlock::new(&ulid(302), 0, RANGE, &[]).with_floats(&[("__name__", "x")], &[(1, 1.0)]);
    for (name, bytes) in torn.files() {
        let bytes = if name == "index" { bytes[..bytes.len() - 9].to_vec() } else { bytes };
        foreign.put(&format!("{}/{name}", ulid(302)), bytes);
    }
    fill(&world, &foreign);
    let plan = tools(&world).migration_plan(&config(&[]), &mut quiet()).expect("no fault");
    let own = &plan.tenants[0];
    assert_eq!((own.blocks, own.label_sets, own.resolutions.get(&0)), (25, 5, Some(&25)));
    assert_eq!((own.min_time, own.max_time), (0, 6 * RANGE));
    assert!(own.samples > 10_000 && own.bytes > 10_000 && own.series == 49, "{own:?}");
    assert_eq!(own.hidden, BTreeMap::from([("deleted".to_owned(), 1)]));
    let mut refused: Vec<&str> = plan.refused.iter().map(|left| left.dir.as_str()).collect();
    refused.sort_unstable();
    assert_eq!(refused, [ulid(301).as_str(), ulid(302).as_str()]);
}

#[test]
fn a_copy_answers_the_same_and_differences_are_told() {
    let (from, to) = (World::new(), World::new());
    fill(&from, &thanos());
    let copy = |dry_run| {
        let done = tools(&from).copy_from_others(&config(&[]), &tools(&to), options(dry_run), &mut quiet());
        done.expect("no fault").remove(0)
    };
    let dry = copy(true);
    assert_eq!(dry.blocks.len(), 25);
    assert!(tools(&to).state(&World::tenant()).expect("no fault").blocks.is_empty());
    let nothing = compared(&from, &to, &[]);
    assert!(
        !nothing[0].is_equal() && nothing[0].ranges[0].differences[0].ends_with("not in the destination")
    );
    let done = copy(false);
    assert_eq!((done.blocks.len(), done.known_blocks, done.copied_bytes), (25, 0, dry.copied_bytes));
    let again = copy(false);
    assert_eq!((again.blocks.len(), again.known_blocks, again.copied_bytes), (0, 25, 0));
    for replica in [&[][..], &["replica"]] {
        let same = compared(&from, &to, replica);
        assert!(same[0].is_equal() && same[0].ranges.len() == 3, "{same:?}");
        assert!(same[0].ranges[0].source.samples > 1000);
    }
    // The same files in another tenant's place are the same answers; one sample more is not.
    let more = ForeignBlock::new(&ulid(400), RANGE, 2 * RANGE, &[("cluster", "eu"), ("replica", "a")])
        .with_floats(&[("__name__", "x")], &[(RANGE + 7, 7.0)]);
    let mut late = ForeignBucket::default();
    late.add("", &more);
    fill(&from, &late);
    let differs = compared(&from, &to, &[]);
    let bad: Vec<_> = differs[0].ranges.iter().filter(|r| !r.is_equal()).collect();
    assert_eq!((bad.len(), bad[0].start, bad[0].differences.len()), (1, 0, 1));
    assert_eq!(bad[0].source.samples, bad[0].destination.samples + 1);
    assert!(bad[0].differences[0].contains("cluster=\"eu\""), "{:?}", bad[0].differences);
}

#[test]
fn a_bucket_adopted_in_place_compares_with_itself_and_damage_is_an_error() {
    let world = World::new();
    fill(&world, &thanos());
    tools(&world).adopt(&config(&[]), &[], false).expect("no fault");
    assert!(compared(&world, &world, &["replica"])[0].is_equal());
    let files = ForeignBlock::new(&ulid(1), 0, RANGE, &[]).with_floats(&[("a", "b")], &[(1, 1.0)]).files();
    put(&world, &format!("{}/chunks/000001", ulid(1)), files[0].1.clone());
    let result = tools(&world).compare_with(&config(&[]), &tools(&world), RANGE, 256 << 20, &mut quiet());
    assert!(result.is_err());
}

#[test]
fn a_copy_keeps_marks() {
    let (from, to) = (World::new(), World::new());
    let mut foreign = ForeignBucket::default();
    foreign
        .add("", &ForeignBlock::new(&ulid(4), 0, RANGE, &[]).with_floats(&[("__name__", "x")], &[(1, 1.0)]));
    foreign.put(&format!("{}/no-compact-mark.json", ulid(4)), no_compact_mark(&ulid(4), 1));
    fill(&from, &foreign);
    tools(&from).copy_from_others(&config(&[]), &tools(&to), options(false), &mut quiet()).expect("no fault");
    let state = tools(&to).state(&World::tenant()).expect("no fault");
    let mark =
        state.blocks.values().next().and_then(|b| crate::marks::mark_of(b, crate::MarkKind::NoCompact));
    assert_eq!(mark.map(|mark| mark.reason).as_deref(), Some("index-size-exceeding"));
}

#[test]
fn what_went_for_good_in_the_other_bucket_is_not_copied_again() {
    let (from, to) = (World::new(), World::new());
    fill(&from, &thanos());
    let copy = || {
        let done = tools(&from).copy_from_others(&config(&[]), &tools(&to), options(false), &mut quiet());
        done.expect("no fault").remove(0)
    };
    assert_eq!(copy().blocks.len(), 25);
    let_go(&to);
    let again = copy();
    assert_eq!((again.blocks.len(), again.copied_bytes, again.left_out.len()), (0, 0, 25));
    assert!(again.left_out.iter().all(|left| left.why == "gone"), "{:?}", again.left_out);
}
