//! The door over a directory, a store in memory, and one that fails.

use std::sync::Arc;
use std::time::Duration;

use object_store::memory::InMemory;
use pyrrha_env::{Disk, OsDisk};
use pyrrha_storage::block::BlockId;

use super::*;
use crate::config::open_directory;
use crate::faulty::{Faults, FaultyStore};

pub(crate) fn impatient() -> RetryPolicy {
    RetryPolicy {
        attempts: 12,
        first_wait: Duration::from_millis(1),
        longest_wait: Duration::from_millis(4),
        timeout: Duration::from_millis(60),
        ..RetryPolicy::default()
    }
}

fn faulty(seed: u64, faults: Faults) -> Bucket {
    Bucket::new(Arc::new(FaultyStore::new(seed, faults)), "faulty", "some/prefix", impatient())
}

async fn behaves(bucket: &Bucket) {
    assert_eq!(bucket.get("a/none", 10).await.expect("no fault"), None);
    assert_eq!(bucket.head("a/none").await.expect("no fault"), None);
    bucket.delete("a/none").await.expect("nothing to do");
    bucket.put("a/b", Bytes::from("0123456789")).await.expect("no fault");
    assert_eq!(bucket.get("a/b", 10).await.expect("no fault"), Some(Bytes::from("0123456789")));
    let error = bucket.get("a/b", 9).await.expect_err("too large");
    assert!(error.to_string().contains("bytes=10 limit=9"), "{error}");
    assert_eq!(bucket.get_range("a/b", 2..5).await.expect("no fault"), "234");
    assert_eq!(bucket.get_range("a/b", 8..50).await.expect("cut at the end"), "89");
    assert!(matches!(bucket.get_range("a/c", 0..1).await, Err(BucketError::NotFound { .. })));
    assert_eq!(
        bucket.head("a/b").await.expect("no fault").map(|o| (o.key, o.bytes)),
        Some(("a/b".into(), 10))
    );
    bucket.put("c/x/y", Bytes::from("!")).await.expect("no fault");
    bucket.put("a/a", Bytes::from("!")).await.expect("no fault");
    let keys = |objects: Vec<ObjectInfo>| objects.into_iter().map(|o| o.key).collect::<Vec<_>>();
    assert_eq!(keys(bucket.list("").await.expect("no fault")), ["a/a", "a/b", "c/x/y"]);
    assert_eq!(keys(bucket.list("a").await.expect("no fault")), ["a/a", "a/b"]);
    assert_eq!(bucket.list_dirs("").await.expect("no fault"), ["a", "c"]);
    bucket.probe(BlockId::from_parts(1, 1)).await.expect("conditions are honoured");
    bucket.delete("a/a").await.expect("no fault");
    assert_eq!(keys(bucket.list("a").await.expect("no fault")), ["a/b"]);
}

#[tokio::test]
async fn a_directory_behaves() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let bucket = open_directory(&dir.path().join("new/bucket")).expect("it is created");
    behaves(&bucket).await;
    assert_eq!(bucket.create("k", Bytes::from("1")).await.expect("no fault"), Created::Created);
    assert_eq!(bucket.create("k", Bytes::from("2")).await.expect("no fault"), Created::Exists);
    assert_eq!(bucket.get("k", 9).await.expect("no fault"), Some(Bytes::from("1")));
}

#[tokio::test]
async fn a_store_in_memory_behaves_with_and_without_prefix() {
    for prefix in ["", "deep/er"] {
        behaves(&Bucket::new(Arc::new(InMemory::new()), "memory", prefix, impatient())).await;
    }
}

#[tokio::test]
async fn faults_are_tried_again_and_counted() {
    let mut failures = 0;
    for seed in 0..12 {
        let bucket = faulty(seed, Faults::ROUGH);
        behaves(&bucket).await;
        failures += Operation::ALL.iter().map(|&o| bucket.counters().failures(o)).sum::<u64>();
        assert!(bucket.counters().sent_bytes() > 12);
    }
    assert!(failures > 20, "{failures}");
}

#[tokio::test]
async fn a_store_that_is_down_says_so() {
    let bucket = faulty(1, Faults { unavailable: 100, ..Faults::default() });
    let error = bucket.get("k", 1).await.expect_err("it is down");
    assert!(error.to_string().contains("operation=get key=k attempts=12"), "{error}");
    let bucket = faulty(1, Faults { hangs: 100, ..Faults::default() });
    let error = bucket.head("k").await.expect_err("it hangs");
    assert!(matches!(error, BucketError::TimedOut { attempts: 12, timeout_ms: 60, .. }), "{error}");
}

#[tokio::test]
async fn a_store_that_ignores_conditions_is_refused() {
    let bucket = faulty(1, Faults { ignores_conditions: true, ..Faults::default() });
    let error = bucket.probe(BlockId::from_parts(1, 1)).await.expect_err("the second create came through");
    assert!(error.to_string().starts_with("bucket ignores conditions: bucket=faulty"), "{error}");
    assert!(bucket.list("").await.expect("no fault").is_empty(), "the probe is removed");
}

#[tokio::test]
async fn of_many_creates_one_wins() {
    let objects = Arc::new(InMemory::new());
    let race = (0..16u64).map(|seed| {
        let faults = Faults { conflict: 30, slow: 50, ..Faults::default() };
        let store = Arc::new(FaultyStore::over(objects.clone(), seed, faults));
        let bucket = Bucket::new(store, "faulty", "", impatient());
        async move { bucket.create("k", Bytes::from(seed.to_string())).await.expect("no fault") }
    });
    let won = futures::future::join_all(race).await.into_iter().filter(|&c| c == Created::Created).count();
    assert_eq!(won, 1);
}

#[tokio::test]
async fn a_large_file_goes_up_in_parts() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let content: Vec<u8> = (0..40_000_000u32).map(|i| (i >> 7) as u8 ^ i as u8).collect();
    let path = dir.path().join("file");
    std::fs::write(&path, &content).expect("written");
    let file: Arc<dyn pyrrha_env::DiskFile> = Arc::from(OsDisk.open(&path).expect("it exists"));
    let sum = pyrrha_encoding::crc::checksum(&content);
    let stores = [
        faulty(3, Faults { unavailable: 5, ..Faults::default() }),
        open_directory(&dir.path().join("bucket")).expect("a directory"),
    ];
    for bucket in stores {
        for bytes in [content.len() as u64, 0] {
            let sent = bucket.upload("k", file.clone(), bytes).await.expect("after retries");
            assert_eq!(sent, if bytes == 0 { 0 } else { sum });
            let got = bucket.get("k", u64::MAX).await.expect("no fault").expect("it is there");
            assert!(got == content[..bytes as usize]);
        }
    }
}

#[tokio::test]
async fn a_large_object_is_copied_in_parts_and_tried_again() {
    let content: Bytes = (0..17_000_000u32).map(|i| (i >> 7) as u8 ^ i as u8).collect::<Vec<u8>>().into();
    let sum = pyrrha_encoding::crc::checksum(&content);
    let bytes = content.len() as u64;
    let from = Bucket::new(Arc::new(InMemory::new()), "from", "", impatient());
    from.put("a", content.clone()).await.expect("no fault");
    for seed in 0..4 {
        let bucket = faulty(seed, Faults { unavailable: 50, ..Faults::default() });
        assert_eq!(bucket.copy_from("k", &from, "a", bytes, Some(sum)).await.expect("after retries"), sum);
        assert!(bucket.get("k", u64::MAX).await.expect("no fault") == Some(content.clone()));
        let error = bucket.copy_from("l", &from, "a", bytes, Some(sum ^ 1)).await.expect_err("damaged");
        assert!(error.to_string().contains("key=a"), "{error}");
        assert_eq!(bucket.head("l").await.expect("no fault"), None);
    }
}

#[tokio::test]
async fn what_is_there_is_told_from_what_was_meant() {
    for seed in 0..6 {
        let bucket = faulty(seed, Faults { lost_reply: 50, ..Faults::default() });
        assert!(bucket.create_or_mine("k", Bytes::from("mine")).await.expect("no fault"));
        assert!(!bucket.create_or_mine("k", Bytes::from("your")).await.expect("no fault"));
        assert!(!bucket.create_or_mine("k", Bytes::from("me")).await.expect("no fault"), "it is longer");
    }
    let bucket = Bucket::new(Arc::new(InMemory::new()), "memory", "", impatient());
    assert!(bucket.create_or_mine("k", Bytes::from("mine")).await.expect("no fault"));
    assert_eq!(bucket.counters().attempts(Operation::Get), 0, "the reply says it");
}

#[tokio::test]
async fn it_is_told_once_that_requests_hang_however_many_do() {
    let faults = Faults { hangs: 100, ..Faults::default() };
    let policy = RetryPolicy { attempts: 1, slow: Duration::from_millis(5), ..impatient() };
    let told = |bucket: &Bucket| *bucket.0.told_slow.lock();
    let bucket = Bucket::new(Arc::new(FaultyStore::new(1, faults)), "hangs", "", policy.clone());
    let (a, b) = tokio::join!(bucket.head("a"), bucket.list("b"));
    assert!(matches!((a, b), (Err(BucketError::TimedOut { .. }), Err(BucketError::TimedOut { .. }))));
    let first = told(&bucket).expect("it was told");
    bucket.0.told_slow.lock().replace(first + Duration::from_secs(60));
    assert!(bucket.head("a").await.is_err());
    assert_eq!(told(&bucket), Some(first + Duration::from_secs(60)), "a moment ago");
    let calm = Bucket::new(Arc::new(InMemory::new()), "answers", "", policy);
    calm.head("a").await.expect("no fault");
    assert_eq!(told(&calm), None);
}
