//! Commits survive races, lost replies, overslept writers and power loss.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use proptest::prelude::*;
use pyrrha_model::{ErrorKind, TimeRange};
use pyrrha_testkit::{Fault, SimClock, SimDisk};

use super::*;

const DIR: &str = "/bucket/anonymous/manifest";

fn id(n: u64) -> BlockId {
    BlockId::from_parts(n, 1)
}

fn entry(n: u64) -> BlockEntry {
    let (min, max) = (n as i64 * 100, n as i64 * 100 + 100);
    BlockEntry::of(&crate::block::BlockMeta::of_head(id(n), min, max), 1000)
}

fn open(disk: &SimDisk) -> Result<Manifest, ManifestError> {
    let io = |source| ManifestError::Io { number: 0, source };
    let store = DiskManifestStore::open(Arc::new(disk.clone()), Path::new(DIR)).map_err(io)?;
    Manifest::open(Arc::new(store), Arc::new(SimClock::new(1_700_000_000_000)))
}

fn live(state: &ManifestState) -> BTreeSet<BlockId> {
    state.blocks.keys().copied().collect()
}

/// A store as an object store is: durable at once, with a hint, and sometimes with lost replies.
#[derive(Debug, Default)]
struct MemStore {
    files: Mutex<BTreeMap<u64, Bytes>>,
    hint: Mutex<Option<u64>>,
    lose_reply: AtomicBool,
    lists: AtomicUsize,
    reads: AtomicUsize,
    heads: AtomicUsize,
    written: AtomicUsize,
}

impl ManifestStore for MemStore {
    fn create(&self, number: u64, bytes: &[u8]) -> io::Result<Created> {
        let mut files = self.files.lock();
        let exists = files.contains_key(&number);
        if !exists {
            self.written.store(bytes.len(), Ordering::Relaxed);
            files.insert(number, Bytes::copy_from_slice(bytes));
        }
        if self.lose_reply.swap(false, Ordering::Relaxed) {
            return Err(io::Error::from(io::ErrorKind::TimedOut));
        }
        Ok(if exists { Created::Exists } else { Created::Created })
    }

    fn get(&self, number: u64) -> io::Result<Option<Bytes>> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        Ok(self.files.lock().get(&number).cloned())
    }

    fn exists(&self, number: u64) -> io::Result<bool> {
        self.heads.fetch_add(1, Ordering::Relaxed);
        Ok(self.files.lock().contains_key(&number))
    }

    fn list(&self) -> io::Result<Vec<u64>> {
        self.lists.fetch_add(1, Ordering::Relaxed);
        Ok(self.files.lock().keys().copied().collect())
    }

    fn remove(&self, number: u64) -> io::Result<()> {
        self.files.lock().remove(&number);
        Ok(())
    }

    fn hint(&self) -> io::Result<Option<u64>> {
        Ok(*self.hint.lock())
    }

    fn set_hint(&self, number: u64) -> io::Result<()> {
        *self.hint.lock() = Some(number);
        Ok(())
    }

    fn reads_are_durable(&self) -> bool {
        true
    }
}

fn on(store: &Arc<MemStore>, wall_ms: i64) -> Manifest {
    Manifest::open(store.clone(), Arc::new(SimClock::new(wall_ms))).expect("a sound store")
}

#[test]
fn what_was_committed_is_read_by_the_next_process() {
    let disk = SimDisk::new(1);
    let manifest = open(&disk).expect("no fault");
    assert_eq!(manifest.current().number, 0);
    manifest.commit(&[entry(1)], &[]).expect("no fault");
    manifest.commit(&[entry(2)], &[]).expect("no fault");
    let state = manifest.commit(&[entry(3)], &[id(1), id(2)]).expect("no fault");
    assert_eq!((state.number, live(&state)), (3, BTreeSet::from([id(3)])));
    let again = open(&disk).expect("no fault").current();
    assert_eq!(again, state);
    assert!(again.covers(id(3)) && !again.covers(id(1)));
    assert_eq!(again.overlapping(TimeRange::new(399, 500)).len(), 1);
    assert_eq!(again.overlapping(TimeRange::new(400, 500)).len(), 0);
}

#[test]
fn a_look_costs_two_heads_and_one_walk() {
    let store = Arc::new(MemStore::default());
    let (reader, writer) = (on(&store, 1), on(&store, 1));
    writer.commit(&[entry(1)], &[]).expect("no fault");
    assert_eq!(reader.refresh().expect("no fault").number, 1);
    let look = || {
        let before = store.heads.load(Ordering::Relaxed);
        let number = reader.refresh().expect("no fault").number;
        (number, store.heads.load(Ordering::Relaxed) - before)
    };
    assert_eq!(look(), (1, 2));
    for n in 2..=20 {
        writer.commit(&[entry(n)], &[]).expect("no fault");
    }
    // The hint, the number after it and the one before; the numbers between are not walked.
    assert_eq!(look(), (20, 4));
    assert_eq!(look(), (20, 2));
}

#[test]
fn of_two_writers_both_get_through() {
    let store = Arc::new(MemStore::default());
    let (a, b) = (on(&store, 1), on(&store, 1));
    a.commit(&[entry(1)], &[]).expect("alone");
    b.commit(&[entry(2)], &[]).expect("after a lost race");
    a.commit(&[entry(3)], &[id(2)]).expect("after another");
    assert_eq!(live(&b.refresh().expect("sound")), BTreeSet::from([id(1), id(3)]));
    let error = b.commit(&[entry(4)], &[id(2)]).expect_err("another job replaced it");
    assert!(matches!(error, ManifestError::InputGone { .. }), "{error}");
    assert_eq!(store.files.lock().len(), 3);
}

#[test]
fn a_look_that_finds_nothing_new_reads_nothing() {
    let store = Arc::new(MemStore::default());
    let (a, b) = (on(&store, 1), on(&store, 1));
    let requests =
        |store: &MemStore| (store.reads.load(Ordering::Relaxed), store.lists.load(Ordering::Relaxed));
    for n in 1..4 {
        a.commit(&[entry(n)], &[]).expect("alone");
    }
    assert_eq!(b.refresh().expect("sound"), a.current());
    let before = requests(&store);
    assert_eq!(b.refresh().expect("sound"), a.current());
    assert_eq!(requests(&store), before);
    // What was known is collected, and a writer that had overslept uses the number after it.
    for n in 4..7 * KEEP {
        a.commit(&[entry(n)], &[id(n - 1)]).expect("alone");
    }
    assert!(!store.files.lock().contains_key(&3), "it is collected");
    let stale = store.files.lock().values().next().cloned().expect("some are left");
    store.files.lock().insert(4, stale);
    assert_eq!(b.refresh().expect("sound"), a.current());
}

#[test]
fn a_lost_reply_is_not_a_lost_race() {
    let store = Arc::new(MemStore::default());
    let manifest = on(&store, 1);
    manifest.commit(&[entry(1)], &[]).expect("no fault");
    store.lose_reply.store(true, Ordering::Relaxed);
    let state = manifest.commit(&[entry(2)], &[id(1)]).expect("it was committed");
    assert_eq!((state.number, live(&state)), (2, BTreeSet::from([id(2)])));
    store.lose_reply.store(true, Ordering::Relaxed);
    let other = on(&store, 1);
    other.commit(&[entry(3)], &[]).expect("the reply was lost, not the commit");
    assert_eq!(other.current().number, 3);
}

#[test]
fn a_writer_that_overslept_collection_does_not_win() {
    let store = Arc::new(MemStore::default());
    let (sleeper, busy) = (on(&store, 1), on(&store, 1));
    for n in 0..KEEP * 6 {
        let gone: Vec<BlockId> = if n > 0 { vec![id(n - 1)] } else { Vec::new() };
        busy.commit(&[entry(n)], &gone).expect("no race");
    }
    let oldest = *store.files.lock().keys().next().expect("not empty");
    assert!(oldest > KEEP, "history is collected: {oldest}");
    assert_eq!(sleeper.current().number, 0);
    // Number 1 is free again; creating it must not count.
    let state = sleeper.commit(&[entry(9999)], &[]).expect("at the newest number");
    assert_eq!(state.number, KEEP * 6 + 1);
    // Numbers 2 and later as well.
    let asleep = on(&store, 1);
    let mut state = ManifestState::default();
    (state.number, state.base) = (5, 1);
    *asleep.current.write() = Arc::new(state);
    let state = asleep.commit(&[entry(9998)], &[]).expect("at the newest number");
    assert_eq!(state.number, KEEP * 6 + 2);
    assert_eq!(live(&state), BTreeSet::from([id(KEEP * 6 - 1), id(9999), id(9998)]));
    assert!(!store.files.lock().contains_key(&6), "what it created in the gap is gone");
}

#[test]
fn readers_follow_a_hint_that_lags() {
    let store = Arc::new(MemStore::default());
    let manifest = on(&store, 1);
    for n in 0..10 {
        manifest.commit(&[entry(n)], &[]).expect("no fault");
    }
    let lists = store.lists.load(Ordering::Relaxed);
    for hint in [10, 3, 1] {
        store.set_hint(hint).expect("in memory");
        assert_eq!(on(&store, 1).current().number, 10);
    }
    assert_eq!(store.lists.load(Ordering::Relaxed), lists, "nothing was listed");
    for hint in [Some(99), None] {
        *store.hint.lock() = hint;
        assert_eq!(on(&store, 1).current().number, 10);
    }
}

#[test]
fn a_commit_among_ten_thousand_blocks_writes_kilobytes() {
    let store = Arc::new(MemStore::default());
    let manifest = on(&store, 1);
    let all: Vec<BlockEntry> = (0..10_000).map(entry).collect();
    manifest.commit(&all, &[]).expect("no fault");
    let mut sizes = Vec::new();
    for n in 10_000..10_000 + 2 * KEEP {
        let state = manifest.commit(&[entry(n)], &[id(n - 10_000)]).expect("no fault");
        sizes.push(store.written.load(Ordering::Relaxed));
        assert_eq!(state.blocks.len(), 10_000);
    }
    sizes.sort_unstable();
    assert!(sizes[sizes.len() * 9 / 10] < 20_000, "{sizes:?}");
    assert_eq!(*on(&store, 1).current(), *manifest.current());
}

#[test]
fn deletions_and_revocations_stop_stale_jobs() {
    let store = Arc::new(MemStore::default());
    let manifest = on(&store, 1);
    let start = manifest.commit(&[entry(1), entry(5)], &[]).expect("no fault").number;
    let delete = DeleteEntry {
        number: 0,
        selector: "up".to_owned(),
        min_time: 120,
        max_time: 130,
        ..DeleteEntry::default()
    };
    let change = Change { deletes: vec![delete], revoked: vec![id(8)], ..Change::default() };
    let state = manifest.commit_change(&change).expect("no fault");
    assert_eq!(state.deletes[0].number, state.number);
    let job = |output, input| Change {
        added: vec![entry(output)],
        removed: vec![id(input)],
        based_on: Some(start),
        ..Change::default()
    };
    let error = manifest.commit_change(&job(7, 1)).expect_err("its data was deleted meanwhile");
    assert!(matches!(error, ManifestError::DeletedSince { .. }), "{error}");
    let error = manifest.commit_change(&job(8, 5)).expect_err("the job was given up");
    assert!(matches!(error, ManifestError::Revoked { .. }), "{error}");
    manifest.commit_change(&job(9, 5)).expect("another range");
    let done =
        Change { deletes_done: vec![state.number], revocations_done: vec![id(8)], ..Change::default() };
    let state = manifest.commit_change(&done).expect("no fault");
    assert!(state.deletes.is_empty() && state.revoked.is_empty());
}

#[test]
fn what_was_planned_on_an_older_manifest_is_not_made() {
    let store = Arc::new(MemStore::default());
    let (mine, others) = (on(&store, 1), on(&store, 2));
    let planned = mine.commit(&[entry(1)], &[]).expect("no fault").number;
    let change = Change { added: vec![entry(2)], planned_on: Some(planned), ..Change::default() };
    // The other has it already, and has replaced it by what was made of it.
    others.refresh().expect("reads");
    others.commit(&[entry(2)], &[]).expect("no fault");
    others.commit(&[entry(3)], &[id(2)]).expect("no fault");
    let error = mine.commit_change(&change).expect_err("it would come back");
    assert!(matches!(error, ManifestError::Overtaken { planned: 1, number: 3 }), "{error}");
    let state = mine.refresh().expect("reads");
    assert_eq!(state.blocks.keys().copied().collect::<Vec<_>>(), [id(1), id(3)]);
    let change = Change { added: vec![entry(4)], planned_on: Some(state.number), ..Change::default() };
    assert_eq!(mine.commit_change(&change).expect("nobody came between").number, 4);
}

#[test]
fn a_rebuilt_manifest_stands_above_a_damaged_history() {
    let store = Arc::new(MemStore::default());
    let manifest = on(&store, 1);
    let delete = DeleteEntry {
        number: 0,
        selector: "up".to_owned(),
        min_time: 120,
        max_time: 130,
        ..DeleteEntry::default()
    };
    manifest.commit(&[entry(1), entry(2)], &[]).expect("no fault");
    manifest.commit_change(&Change { deletes: vec![delete], ..Change::default() }).expect("no fault");
    let clock: Arc<dyn Clock> = Arc::new(SimClock::new(1));
    let rebuilt = Manifest::rebuild(store.clone(), clock.clone(), &[entry(2), entry(3)]).expect("sound");
    assert_eq!((rebuilt.current().number, rebuilt.current().deletes.len()), (3, 1));
    assert_eq!(*on(&store, 1).current(), *rebuilt.current());
    store.files.lock().insert(3, Bytes::from_static(b"noise"));
    assert!(Manifest::open(store.clone(), clock.clone()).is_err());
    Manifest::rebuild(store.clone(), clock.clone(), &[entry(3)]).expect("sound");
    manifest.commit(&[entry(9)], &[id(3)]).expect("a writer that was there before goes on");
    let state = on(&store, 1).current();
    assert_eq!((state.number, live(&state)), (5, BTreeSet::from([id(9)])));
}

#[test]
fn damage_is_named() {
    let disk = SimDisk::new(1);
    open(&disk).and_then(|m| m.commit(&[entry(1)], &[])).expect("no fault");
    let path = Path::new(DIR).join("00000000000000000001.json");
    disk.flip_bit(&path, 30, 2).expect("the file is longer");
    let error = open(&disk).expect_err("damaged");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("number=1"), "{error}");
}

#[test]
fn an_acknowledged_commit_survives_power_loss_at_any_moment() {
    for operation in 0..60 {
        for fault in [Fault::PowerOff, Fault::Io] {
            let disk = SimDisk::new(operation);
            disk.fail_in(operation, fault);
            let (mut sure, mut maybe) = (BTreeSet::new(), BTreeSet::new());
            for process in 0..3 {
                let Ok(manifest) = open(&disk) else { break };
                for n in 0..3 {
                    let n = process * 10 + n;
                    maybe.insert(id(n));
                    let mut tries = (0..2).map(|_| manifest.commit(&[entry(n)], &[]));
                    if tries.any(|result| result.is_ok()) {
                        sure.insert(id(n));
                    }
                }
            }
            disk.crash();
            let found = live(&open(&disk).expect("power is back").current());
            assert!(
                found.is_superset(&sure),
                "operation={operation} {fault:?}: {found:?} lacks some of {sure:?}"
            );
            assert!(found.is_subset(&maybe), "operation={operation} {fault:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_sequence_of_commits_reads_back(
        steps in prop::collection::vec((0u64..30, any::<bool>(), 0usize..2), 1..150),
    ) {
        let store = Arc::new(MemStore::default());
        let writers = [on(&store, 1), on(&store, 2)];
        let mut model = BTreeSet::new();
        for (n, replace, writer) in steps {
            let live_already = model.contains(&id(n));
            let (added, removed) = match (live_already, replace) {
                (false, _) => (vec![entry(n)], vec![]),
                (true, false) => (vec![], vec![id(n)]),
                (true, true) if model.contains(&id(n + 30)) => (vec![], vec![id(n + 30), id(n)]),
                (true, true) => (vec![entry(n + 30)], vec![id(n)]),
            };
            writers[writer].commit(&added, &removed).expect("what it names is as it says");
            model.retain(|b| !removed.contains(b));
            model.extend(added.iter().map(|b| b.ulid));
            prop_assert_eq!(live(&on(&store, 3).current()), model.clone());
        }
    }

    #[test]
    fn noise_does_not_panic(noise in prop::collection::vec(any::<u8>(), 0..100)) {
        let mut bytes = noise;
        bytes.push(b'\n');
        let sum = pyrrha_encoding::crc::checksum(&bytes);
        let _ = Record::decode(1, &bytes);
        bytes.extend_from_slice(format!("{sum:08x}\n").as_bytes());
        prop_assert!(Record::decode(1, &bytes).is_err());
    }
}
