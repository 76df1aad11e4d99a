//! Marks in entries and files.

use std::sync::Arc;

use super::*;
use crate::worlds::{World, block, id};

fn entry(n: u64) -> BlockEntry {
    let meta = pyrrha_storage::block::BlockMeta::of_head(id(n), 0, 10);
    let mut entry = crate::block_files::entry(&meta, Vec::new());
    entry.other.insert("files".to_owned(), json!([]));
    entry
}

#[test]
fn entries_have_marks_beside_what_else_they_have() {
    let plain = entry(1);
    let mark = Mark::by_hand(1_700_000_000_123, "as I say");
    let marked = with_mark(&plain, MarkKind::NoCompact, Some(&mark));
    let both = with_mark(&marked, MarkKind::Deletion, Some(&Mark { at: 5, ..Mark::default() }));
    assert_eq!(marks(&both).into_keys().collect::<Vec<_>>(), [MarkKind::Deletion, MarkKind::NoCompact]);
    assert_eq!(mark_of(&both, MarkKind::NoCompact), Some(mark));
    assert!(!is_marked(&both, MarkKind::NoDownsample));
    assert_eq!(with_mark(&both, MarkKind::Deletion, None), marked);
    assert_eq!(with_mark(&marked, MarkKind::NoCompact, None), plain);
    // What nobody wrote is no reason to panic, and a mark that does not read is one.
    let mut odd = plain.clone();
    odd.other.insert("marks".to_owned(), json!(7));
    assert!(marks(&odd).is_empty());
    odd.other.insert("marks".to_owned(), json!({"deletion": "soon"}));
    assert!(is_marked(&odd, MarkKind::Deletion) && marks(&odd).len() == 1);
}

#[test]
fn what_is_made_of_marked_blocks_has_what_all_of_them_have() {
    let mark = Mark::by_hand(1, "");
    let of = |kinds: &[MarkKind]| {
        let marked = kinds.iter().fold(entry(1), |entry, kind| with_mark(&entry, *kind, Some(&mark)));
        Arc::new(marked)
    };
    let mut made = entry(2);
    carry_over(&[of(&MarkKind::ALL), of(&[MarkKind::NoDownsample])], &mut made);
    assert_eq!(marks(&made).into_keys().collect::<Vec<_>>(), [MarkKind::NoDownsample]);
    let mut made = entry(3);
    carry_over(&[of(&[MarkKind::Deletion])], &mut made);
    assert_eq!(
        marks(&made).into_keys().collect::<Vec<_>>(),
        [MarkKind::Deletion],
        "it goes as the old one would"
    );
}

#[test]
fn files_are_those_of_other_tools() {
    let mark = Mark::by_hand(1_700_000_000_999, "broken \"disk\"");
    let json = |kind| -> Value { serde_json::from_slice(&mark.encode(id(1), kind)).expect("JSON") };
    let name = id(1).to_string();
    assert_eq!(
        json(MarkKind::Deletion),
        json!({"id": name, "version": 1, "details": "broken \"disk\"", "deletion_time": 1_700_000_000})
    );
    assert_eq!(
        json(MarkKind::NoCompact),
        json!({"id": name, "version": 1, "details": "broken \"disk\"", "no_compact_time": 1_700_000_000,
               "reason": "manual"})
    );
    assert_eq!(json(MarkKind::NoDownsample)["no_downsample_time"], 1_700_000_000);
    for kind in MarkKind::ALL {
        let read = Mark::decode(kind, &mark.encode(id(1), kind)).expect("reads");
        assert_eq!((read.at, read.details.as_str()), (1_700_000_000_000, "broken \"disk\""));
        assert!(Mark::decode(kind, b"{}").is_err() && Mark::decode(kind, b"\xff").is_err());
    }
}

#[test]
fn nothing_that_others_change_at_the_same_time_is_lost() {
    let world = World::new();
    world.ship(&[block(&world.disk, 0, 10), block(&world.disk, 1, 10)]).expect("no fault");
    let other = World::on(world.disk.clone(), world.bucket.store(), 1 << 20);
    let (mine, theirs) = (
        world.tenants.manifest(&World::tenant()).expect("opens"),
        other.tenants.manifest(&World::tenant()).expect("opens"),
    );
    let mark = Mark::by_hand(1, "");
    let add = |kind: MarkKind| {
        let mark = mark.clone();
        move |entry: &BlockEntry| Some(with_mark(entry, kind, Some(&mark)))
    };
    change_entries(&theirs, &[id(1)], add(MarkKind::NoCompact)).expect("no fault");
    // This one has not read that.
    change_entries(&mine, &[id(1), id(2), id(77)], add(MarkKind::NoDownsample)).expect("no fault");
    let state = mine.refresh().expect("no fault");
    assert_eq!(marks(&state.blocks[&id(1)]).len(), 2);
    assert_eq!(marks(&state.blocks[&id(2)]).len(), 1);
    // A commit that was made from an entry as it was before comes too late.
    let before = theirs.current().blocks[&id(1)].clone();
    let change = Change { removed: vec![id(1)], expects: vec![before], ..Change::default() };
    let late = theirs.commit_change(&change).expect_err("it was marked");
    assert!(matches!(late, ManifestError::Changed { .. }), "{late}");
}
