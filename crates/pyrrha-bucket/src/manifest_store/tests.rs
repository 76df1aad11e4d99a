//! Many writers commit at once to a bucket that fails: nothing is lost, nothing comes twice.

use std::collections::BTreeSet;
use std::sync::Arc;

use object_store::memory::InMemory;
use pyrrha_storage::block::{BlockId, BlockMeta};
use pyrrha_storage::manifest::{BlockEntry, Manifest, ManifestError};
use pyrrha_testkit::SimClock;

use super::*;
use crate::config::open_directory;
use crate::door::{Operation, RetryPolicy};
use crate::faulty::{Faults, FaultyStore};

fn policy() -> RetryPolicy {
    RetryPolicy {
        attempts: 4,
        first_wait: std::time::Duration::from_millis(1),
        longest_wait: std::time::Duration::from_millis(4),
        timeout: std::time::Duration::from_millis(25),
        ..RetryPolicy::default()
    }
}

fn id(n: u64) -> BlockId {
    BlockId::from_parts(n, 1)
}

fn entry(n: u64) -> BlockEntry {
    let (min, max) = (n as i64 * 100, n as i64 * 100 + 100);
    BlockEntry::of(&BlockMeta::of_head(id(n), min, max), 1000)
}

fn manifest(bucket: &Bucket, runtime: &Arc<BucketRuntime>) -> Result<Manifest, ManifestError> {
    let store = BucketManifestStore::new(bucket.clone(), runtime.clone(), &TenantId::anonymous());
    Manifest::open(Arc::new(store), Arc::new(SimClock::new(1)))
}

/// Tries until it gets through. What a job removes it can only remove once.
fn patiently<T>(mut attempt: impl FnMut() -> Result<T, ManifestError>) -> T {
    for _ in 0..200 {
        match attempt() {
            Ok(done) => return done,
            Err(ManifestError::Io { .. } | ManifestError::Contended { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("no attempt got through");
}

fn race(writers: u64, seed: u64) {
    let runtime = Arc::new(BucketRuntime::start(2).expect("threads"));
    let objects = Arc::new(InMemory::new());
    let on = |seed| {
        let store = FaultyStore::over(objects.clone(), seed, Faults::ROUGH);
        Bucket::new(Arc::new(store), "faulty", "p", policy())
    };
    std::thread::scope(|scope| {
        for writer in 0..writers {
            let (bucket, runtime) = (on(seed * 100 + writer), &runtime);
            scope.spawn(move || {
                let mut manifest = patiently(|| super::tests::manifest(&bucket, runtime));
                for n in 0..4 {
                    let block = writer * 1000 + n;
                    // As a compaction does: the block replaces the one before.
                    let gone = if n % 2 == 1 { vec![id(block - 1)] } else { Vec::new() };
                    patiently(|| manifest.commit(&[entry(block)], &gone));
                    if n == 1 {
                        manifest = patiently(|| super::tests::manifest(&bucket, runtime));
                    }
                }
            });
        }
    });
    let calm = Bucket::new(objects, "memory", "p", policy());
    let state = manifest(&calm, &runtime).expect("no fault").current();
    let found: BTreeSet<BlockId> = state.blocks.keys().copied().collect();
    let expected: BTreeSet<BlockId> = (0..writers).flat_map(|w| [1, 3].map(|n| id(w * 1000 + n))).collect();
    assert_eq!(found, expected, "writers={writers} seed={seed}");
}

#[test]
fn two_four_and_eight_writers_lose_nothing() {
    for (writers, seeds) in [(2, 0..4), (4, 0..2), (8, 0..1)] {
        for seed in seeds {
            race(writers, seed);
        }
    }
}

#[test]
fn opening_costs_a_hint_and_no_listing() {
    let runtime = Arc::new(BucketRuntime::start(1).expect("a thread"));
    let dir = tempfile::tempdir().expect("a temporary directory");
    let bucket = open_directory(dir.path()).expect("a directory");
    let writer = manifest(&bucket, &runtime).expect("empty");
    for n in 0..5 {
        writer.commit(&[entry(n)], &[]).expect("no fault");
    }
    let before = bucket.counters().attempts(Operation::List);
    let state = manifest(&bucket, &runtime).expect("no fault").current();
    assert_eq!((state.number, state.blocks.len()), (5, 5));
    assert_eq!(bucket.counters().attempts(Operation::List), before);
    std::fs::write(dir.path().join("anonymous/manifest/hint"), "not a number").expect("written");
    std::fs::write(dir.path().join("anonymous/manifest/7.json"), "not ours").expect("written");
    assert_eq!(manifest(&bucket, &runtime).expect("no fault").current(), state);
}
