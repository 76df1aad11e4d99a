//! Reading ranges of one object: pages from the cache, the rest from the bucket, near pages in one
//! request.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use futures::stream::{StreamExt, TryStreamExt};

use super::pages::{PAGE, PageCache};
use crate::door::Bucket;
use crate::error::BucketError;

/// Pages that nobody asked for are fetched along if no more than so many lie between two that
/// somebody did: a request costs as much as some hundred kilobytes.
const GAP_PAGES: u64 = 4;
/// Pages of one request.
const RUN_PAGES: u64 = 128;
/// Requests of one call under way at once.
const REQUESTS_AT_ONCE: usize = 16;

/// An object of the bucket that never changes.
#[derive(Debug)]
pub(super) struct RangedObject {
    bucket: Bucket,
    key: String,
    cache: Arc<PageCache>,
    /// Its number in the cache.
    number: u64,
    /// Its length; more as long as that is not known.
    bytes: AtomicU64,
}

/// Consecutive bytes that are at hand.
struct Run {
    start: u64,
    bytes: Bytes,
}

impl RangedObject {
    /// An object of `bytes` bytes; `u64::MAX` if that is not known.
    pub(super) fn new(bucket: Bucket, key: String, cache: Arc<PageCache>, bytes: u64) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        Self { bucket, key, cache, number: NUMBERS.fetch_add(1, Ordering::Relaxed), bytes: bytes.into() }
    }

    /// The bytes of each range, fewer where the object ends before it.
    pub(super) async fn read(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, BucketError> {
        let mut pages = BTreeSet::new();
        for range in ranges {
            let range = self.clip(range);
            if !range.is_empty() {
                pages.extend(range.start / PAGE..range.end.div_ceil(PAGE));
            }
        }
        let (mut runs, mut missing) = (Vec::new(), Vec::new());
        for page in pages {
            match self.cache.get((self.number, page)) {
                Some(bytes) => runs.push(Run { start: page * PAGE, bytes }),
                None => missing.push(page),
            }
        }
        let fetched = futures::stream::iter(merged(&missing).into_iter().map(|run| self.fetch(run)))
            .buffer_unordered(REQUESTS_AT_ONCE)
            .try_collect::<Vec<Run>>()
            .await?;
        runs.extend(fetched);
        runs.sort_by_key(|run| run.start);
        Ok(ranges.iter().map(|range| cut(&runs, &self.clip(range))).collect())
    }

    fn clip(&self, range: &Range<u64>) -> Range<u64> {
        let end = range.end.min(self.bytes.load(Ordering::Relaxed));
        range.start.min(end)..end
    }

    /// Fetches pages and keeps them.
    async fn fetch(&self, pages: Range<u64>) -> Result<Run, BucketError> {
        let start = pages.start * PAGE;
        let known = self.bytes.load(Ordering::Relaxed);
        let end = pages.end.saturating_mul(PAGE).min(known);
        let bytes = self.bucket.get_range(&self.key, start..end).await?;
        if (bytes.len() as u64) < end.saturating_sub(start) {
            if known != u64::MAX {
                let what = format!("object is shorter than bytes={known}");
                return Err(BucketError::Corrupt { key: self.key.clone(), what });
            }
            // Where a request ends early the object does.
            self.bytes.fetch_min(start + bytes.len() as u64, Ordering::Relaxed);
        }
        for (page, content) in pages.zip(bytes.chunks(PAGE as usize)) {
            self.cache.put((self.number, page), content);
        }
        Ok(Run { start, bytes })
    }
}

/// Ascending pages as ranges, near ones together.
fn merged(pages: &[u64]) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    for &page in pages {
        match runs.last_mut() {
            Some(run) if page - run.end <= GAP_PAGES && page + 1 - run.start <= RUN_PAGES => {
                run.end = page + 1
            }
            _ => runs.push(page..page + 1),
        }
    }
    runs
}

/// The bytes of a range from sorted runs, which may overlap; a slice where one run has them all.
fn cut(runs: &[Run], range: &Range<u64>) -> Bytes {
    let end_of = |run: &Run| run.start + run.bytes.len() as u64;
    let (mut at, mut parts) = (range.start, Vec::new());
    while at < range.end {
        // Of the runs that begin before, the last but few reaches farthest; all of them are near.
        let candidates = &runs[..runs.partition_point(|run| run.start <= at)];
        let best = candidates.iter().rev().take(RUN_PAGES as usize + 1).max_by_key(|run| end_of(run));
        let Some(run) = best.filter(|run| end_of(run) > at) else { break };
        let upto = range.end.min(end_of(run));
        parts.push(run.bytes.slice((at - run.start) as usize..(upto - run.start) as usize));
        at = upto;
    }
    match parts.len() {
        0 => Bytes::new(),
        1 => parts.swap_remove(0),
        _ => {
            let mut whole = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
            parts.iter().for_each(|part| whole.extend_from_slice(part));
            whole.freeze()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use object_store::memory::InMemory;
    use proptest::prelude::*;

    use super::*;
    use crate::door::{Operation, RetryPolicy};

    const LEN: u64 = 70 * PAGE + 1234;

    fn content() -> Bytes {
        (0..LEN).map(|i| (i ^ (i >> 8) ^ (i >> 15)) as u8).collect()
    }

    fn object(cache: usize, bytes: u64) -> (tokio::runtime::Runtime, RangedObject) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let policy = RetryPolicy { timeout: Duration::from_secs(9), ..RetryPolicy::default() };
        let bucket = Bucket::new(Arc::new(InMemory::new()), "memory", "", policy);
        runtime.block_on(bucket.put("k", content())).expect("no fault");
        (runtime, RangedObject::new(bucket, "k".to_owned(), Arc::new(PageCache::new(cache)), bytes))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn ranges_are_what_the_object_has(
            rounds in prop::collection::vec(prop::collection::vec((0..LEN, 0u64..200_000), 0..20), 1..5),
            cache in prop_oneof![Just(0usize), Just(300_000), Just(usize::MAX)],
            known in any::<bool>(),
        ) {
            let (runtime, object) = object(cache, if known { LEN } else { u64::MAX });
            let content = content();
            for round in rounds {
                let ranges: Vec<_> = round.iter().map(|&(start, len)| start..start + len).collect();
                let found = runtime.block_on(object.read(&ranges)).expect("no fault");
                for (range, found) in ranges.iter().zip(found) {
                    prop_assert!(found == content[range.start as usize..range.end.min(LEN) as usize]);
                }
            }
        }
    }

    #[test]
    fn near_ranges_are_one_request_and_known_ones_none() {
        let (runtime, object) = object(usize::MAX, LEN);
        let ranges = [0..10, 3 * PAGE..3 * PAGE + 5, 40 * PAGE..41 * PAGE];
        for _ in 0..3 {
            runtime.block_on(object.read(&ranges)).expect("no fault");
            assert_eq!(object.bucket.counters().attempts(Operation::GetRange), 2);
        }
    }
}
