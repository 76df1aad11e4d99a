//! Backups of a bucket in memory, and what comes back of them.

use pyrrha_model::TimeRange;
use pyrrha_model::contract::{DeleteId, QueryContext, SelectHints};
use pyrrha_storage::manifest::{Change, DeleteEntry, ManifestState};

use super::*;
use crate::downsample::{deletes_applied, note_deletes_applied};
use crate::marks::{MarkKind, marks};
use crate::tools::tests::{clean_up, let_go, put, tools};
use crate::tools::{BlockSelector, Depth, VerifyOptions};
use crate::worlds::{Rows, World, block, id, select};

fn quiet(_: &str, _: u64, _: u64) {}

fn bucket_of(blocks: std::ops::Range<u64>) -> World {
    let world = World::new();
    ship(&world, blocks);
    world
}

fn ship(world: &World, blocks: std::ops::Range<u64>) {
    let blocks: Vec<_> = blocks.map(|n| block(&world.disk, n, 40)).collect();
    world.ship(&blocks).expect("no fault");
}

fn create(backups: &Backups, from: &World) -> BackedUp {
    backups.create(&tools(from), &World::tenant(), BackupOptions::default(), &mut quiet).expect("no fault")
}

fn restore(backups: &Backups, to: &World) -> Result<Restored, StoreError> {
    let (tenant, tools) = (World::tenant(), tools(to));
    backups.restore(&tenant, BackupChoice::Newest, (&tools, &tenant), RestoreOptions::default(), &mut quiet)
}

fn verify(backups: &Backups) -> BackupReport {
    backups.verify(&World::tenant(), None, false, &mut quiet).expect("a bucket that answers")
}

fn state(world: &World) -> std::sync::Arc<ManifestState> {
    tools(world).state(&World::tenant()).expect("no fault")
}

fn rows(world: &World) -> Rows {
    let ctx = QueryContext::unlimited();
    select(&world.queryable([]), &ctx, &[], TimeRange::ALL, &SelectHints::default()).expect("reads")
}

#[test]
fn a_backup_comes_back_as_it_was_and_answers() {
    let (from, kept, to) = (bucket_of(0..3), World::new(), World::new());
    let selector = BlockSelector { ids: [id(2)].into(), ..BlockSelector::default() };
    tools(&from).mark(&World::tenant(), &selector, MarkKind::NoCompact, "", false).expect("no fault");
    let backups = Backups::new(tools(&kept));
    let dry = BackupOptions { dry_run: true, ..BackupOptions::default() };
    let looked = backups.create(&tools(&from), &World::tenant(), dry, &mut quiet).expect("no fault");
    assert!(looked.backup.is_none() && looked.copied_bytes > 0);
    assert_eq!(backups.list(&World::tenant()).expect("no fault"), []);
    let made = create(&backups, &from);
    assert_eq!((made.blocks, made.known_blocks, made.copied_bytes), (3, 0, looked.copied_bytes));
    let listed = backups.list(&World::tenant()).expect("no fault");
    assert_eq!((listed.len(), listed[0].blocks, listed[0].manifest), (1, 3, state(&from).number));
    let report = verify(&backups);
    assert!(report.issues.is_empty() && report.read_bytes == report.bytes, "{:?}", report.issues);
    let done = restore(&backups, &to).expect("no fault");
    assert_eq!((done.blocks, done.committed, done.copied_bytes), (3, true, made.copied_bytes));
    assert_eq!(state(&to).blocks, state(&from).blocks);
    assert_eq!(marks(&state(&to).blocks[&id(2)]).len(), 1);
    assert_eq!(rows(&to), rows(&from));
    let options =
        VerifyOptions { depth: Depth::Deep, scratch_dir: "/scratch".into(), ..VerifyOptions::default() };
    let report = tools(&to).verify(&World::tenant(), &options, &mut quiet).expect("answers");
    assert!(report.issues.is_empty(), "{:?}", report.issues);
    // Again there is nothing to do, and where something else is it is refused.
    let again = restore(&backups, &to).expect("no fault");
    assert!(again.was_restored && !again.committed);
    let refused = restore(&backups, &bucket_of(7..8)).expect_err("there are blocks");
    assert_eq!(refused.kind(), ErrorKind::Invalid);
}

#[test]
fn the_next_backup_copies_what_is_new_and_the_older_one_stays() {
    let (from, kept) = (bucket_of(0..2), World::new());
    let backups = Backups::new(tools(&kept));
    let first = create(&backups, &from);
    ship(&from, 2..3);
    // A merge replaces a block, and cleanup removes it.
    from.tenants.manifest(&World::tenant()).expect("opens").commit(&[], &[id(1)]).expect("no fault");
    let second = create(&backups, &from);
    assert_eq!((second.blocks, second.known_blocks), (2, 1));
    assert!(second.copied_bytes < first.copied_bytes);
    let third = create(&backups, &from);
    assert_eq!((third.known_blocks, third.copied_bytes), (2, 0));
    assert_eq!(verify(&backups).blocks, 3);
    let to = World::new();
    let oldest = first.backup.expect("written").parse().expect("an id");
    let (tenant, elsewhere) = (World::tenant(), TenantId::new("other").expect("valid"));
    let tools = tools(&to);
    let place = (&tools, &elsewhere);
    backups
        .restore(&tenant, BackupChoice::Id(oldest), place, RestoreOptions::default(), &mut quiet)
        .expect("no fault");
    let live = tools.state(&elsewhere).expect("no fault");
    assert_eq!(live.blocks.keys().copied().collect::<Vec<_>>(), [id(1), id(2)]);
    assert!(state(&to).blocks.is_empty());
}

#[test]
fn what_was_interrupted_goes_on_and_what_is_damaged_is_named() {
    let (from, kept) = (bucket_of(0..2), World::new());
    let get = |world: &World, key: &str| {
        let (bucket, key) = (world.bucket.clone(), key.to_owned());
        let found = world.runtime.wait(async move { bucket.get(&key, u64::MAX).await }).expect("no fault");
        found.expect("it is there").to_vec()
    };
    let index = format!("anonymous/{}/index", id(1));
    put(&kept, &index, get(&from, &index));
    let backups = Backups::new(tools(&kept));
    let made = create(&backups, &from);
    assert_eq!(made.present_bytes, get(&from, &index).len() as u64);
    // A byte of what is kept turns over: lengths agree, checksums do not, and it is not restored.
    let mut damaged = get(&kept, &index);
    damaged[20] ^= 1;
    put(&kept, &index, damaged);
    let quick = backups.verify(&World::tenant(), None, true, &mut quiet).expect("answers");
    assert!(quick.issues.is_empty() && quick.read_bytes == 0);
    let report = verify(&backups);
    assert_eq!(report.issues.len(), 1);
    assert_eq!(report.issues[0].block, Some(id(1).to_string()));
    assert!(report.issues[0].what.contains("crc32c"), "{:?}", report.issues);
    let to = World::new();
    assert_eq!(restore(&backups, &to).expect_err("a byte is wrong").kind(), ErrorKind::Corrupt);
    assert!(state(&to).blocks.is_empty(), "all or nothing");
    put(&kept, &index, get(&from, &index));
    restore(&backups, &to).expect("it goes on");
    assert_eq!(rows(&to), rows(&from));
    // A backup whose own file is damaged is named, and never restored.
    let key = Backups::key(&World::tenant(), made.backup.expect("written").parse().expect("an id"));
    let mut file = get(&kept, &key);
    file[10] ^= 1;
    put(&kept, &key, file);
    assert!(verify(&backups).issues[0].what.contains("checksum"));
    assert_eq!(restore(&backups, &World::new()).expect_err("damaged").kind(), ErrorKind::Corrupt);
}

#[test]
fn deletes_stand_after_a_restore_as_they_did_before() {
    let (from, kept, to) = (bucket_of(0..2), World::new(), World::new());
    let manifest = from.tenants.manifest(&World::tenant()).expect("opens");
    let delete = DeleteEntry {
        number: 0,
        selector: "{__name__=\"metric_1\"}".to_owned(),
        min_time: 0,
        max_time: i64::MAX,
        id: DeleteId(7).to_string(),
        matchers: vec![vec![("__name__".to_owned(), "=".to_owned(), "metric_1".to_owned())]],
        at: 5,
        is_final: true,
    };
    manifest.commit_change(&Change { deletes: vec![delete], ..Change::default() }).expect("no fault");
    let number = state(&from).deletes[0].number;
    let mut known = (*state(&from).blocks[&id(1)]).clone();
    note_deletes_applied(&mut known, number);
    manifest.commit(&[known], &[id(1)]).expect("no fault");
    let backups = Backups::new(tools(&kept));
    create(&backups, &from);
    restore(&backups, &to).expect("no fault");
    let restored = state(&to);
    assert_eq!((restored.deletes.len(), restored.deletes[0].is_final), (1, true));
    assert_eq!(deletes_applied(&restored.blocks[&id(1)]), restored.deletes[0].number);
    assert_eq!(deletes_applied(&restored.blocks[&id(2)]), 0);
    assert_eq!(rows(&to), rows(&from));
}

#[test]
fn a_bucket_that_lives_keeps_no_backups() {
    let from = bucket_of(0..1);
    let refused = Backups::new(tools(&bucket_of(3..4)))
        .create(&tools(&from), &World::tenant(), BackupOptions::default(), &mut quiet)
        .expect_err("it has manifests");
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    let none = restore(&Backups::new(tools(&World::new())), &World::new()).expect_err("there is none");
    assert_eq!(none.kind(), ErrorKind::NotFound);
}

#[test]
fn what_a_job_is_about_to_remove_is_not_restored() {
    let (from, kept) = (bucket_of(0..2), World::new());
    let backups = Backups::new(tools(&kept));
    create(&backups, &from);
    let before = rows(&from);
    let_go(&from);
    let refused = restore(&backups, &from).expect_err("their files go");
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert!(refused.to_string().contains("bucket cleanup"), "{refused}");
    clean_up(&from, std::time::Duration::ZERO);
    // Who marked it just then came too late: that is of its earlier life.
    let stale = [
        format!("anonymous/{}/deletion-mark.json", id(1)),
        format!("anonymous/markers/{}-deletion-mark.json", id(1)),
    ];
    let mark = crate::Mark::by_hand(1_000, "").encode(id(1), MarkKind::Deletion);
    stale.iter().for_each(|key| put(&from, key, mark.to_vec()));
    // Whoever restores knows that it went: it comes back.
    assert!(restore(&backups, &from).expect("no fault").committed);
    for key in stale {
        let (bucket, at) = (from.bucket.clone(), key.clone());
        let found = from.runtime.wait(async move { bucket.head(&at).await }).expect("no fault");
        assert_eq!(found, None, "{key}");
    }
    clean_up(&from, std::time::Duration::ZERO);
    assert_eq!(rows(&from), before);
    // A worker may still commit what it gave up.
    let to = World::new();
    let manifest = to.tenants.manifest(&World::tenant()).expect("opens");
    manifest.commit_change(&Change { revoked: vec![id(1)], ..Change::default() }).expect("no fault");
    assert_eq!(restore(&backups, &to).expect_err("it is revoked").kind(), ErrorKind::Unavailable);
}

#[test]
fn the_newest_backup_is_read_alone() {
    let (from, kept) = (bucket_of(0..1), World::new());
    let backups = Backups::new(tools(&kept));
    (0..3).for_each(|_| drop(create(&backups, &from)));
    let gets = || kept.bucket.counters().attempts(crate::Operation::Get);
    let before = gets();
    let (tenant, to) = (World::tenant(), tools(&World::new()));
    let dry = RestoreOptions { dry_run: true, ..RestoreOptions::default() };
    backups.restore(&tenant, BackupChoice::Newest, (&to, &tenant), dry, &mut quiet).expect("no fault");
    assert_eq!(gets() - before, 1);
    let before = gets();
    create(&backups, &from);
    assert_eq!(gets() - before, 3, "those before it, and not itself");
}

#[test]
fn damaged_blocks_are_copied_anew_or_left_out_and_named() {
    let (from, kept) = (bucket_of(0..3), World::new());
    let backups = Backups::new(tools(&kept));
    create(&backups, &from);
    let index = format!("anonymous/{}/index", id(2));
    let get = |key: &str| {
        let (bucket, key) = (kept.bucket.clone(), key.to_owned());
        let found = kept.runtime.wait(async move { bucket.get(&key, u64::MAX).await }).expect("no fault");
        found.expect("it is there").to_vec()
    };
    let mut damaged = get(&index);
    damaged[20] ^= 1;
    put(&kept, &index, damaged.clone());
    // Lengths alone do not tell.
    let blind = create(&backups, &from);
    assert_eq!((blind.known_blocks, blind.mended_blocks, verify(&backups).issues.len()), (3, 0, 1));
    // The others come back, if that is what is wanted; what does not is named either way.
    let refused = restore(&backups, &World::new()).expect_err("a byte is wrong").to_string();
    assert!(refused.contains(&id(2).to_string()) && !refused.contains(&id(1).to_string()), "{refused}");
    let (to, tenant) = (World::new(), World::tenant());
    let options = RestoreOptions { leaves_out_damaged: true, ..RestoreOptions::default() };
    let done = backups.restore(&tenant, BackupChoice::Newest, (&tools(&to), &tenant), options, &mut quiet);
    let done = done.expect("two are sound");
    let named: Vec<&str> = done.left_out.iter().map(|one| one.block.as_str()).collect();
    assert_eq!((done.committed, named), (true, vec![id(2).to_string().as_str()]));
    assert_eq!(state(&to).blocks.keys().copied().collect::<Vec<_>>(), [id(1), id(3)]);
    assert!(!rows(&to).is_empty());
    // While the bucket has them they are mended.
    let options = BackupOptions { verifies: true, ..BackupOptions::default() };
    let made = backups.create(&tools(&from), &tenant, options, &mut quiet).expect("no fault");
    assert_eq!((made.known_blocks, made.mended_blocks, made.copied_bytes), (2, 1, damaged.len() as u64));
    assert!(verify(&backups).issues.is_empty());
    let to = World::new();
    restore(&backups, &to).expect("all is sound");
    assert_eq!(rows(&to), rows(&from));
}
