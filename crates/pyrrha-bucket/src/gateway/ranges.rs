//! Reading ranges of one object: pages from the cache, the rest from the bucket, near pages in one
//! request.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use futures::stream::{StreamExt, TryStreamExt};

use pyrrha_model::StoreError;
use pyrrha_model::contract::Fetched;

use super::budget::Reserved;
use super::pages::{Caches, PAGE};
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
    caches: Arc<Caches>,
    /// Its number in the cache.
    number: u64,
    /// Its length; more as long as that is not known.
    bytes: AtomicU64,
}

/// A page that is at hand, where it lies.
struct Page {
    start: u64,
    bytes: Bytes,
}

impl RangedObject {
    /// An object of `bytes` bytes; `u64::MAX` if that is not known.
    pub(super) fn new(bucket: Bucket, key: String, caches: Arc<Caches>, bytes: u64) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        Self { bucket, key, caches, number: NUMBERS.fetch_add(1, Ordering::Relaxed), bytes: bytes.into() }
    }

    /// The bytes of each range, fewer where the object ends before it. `reserved` grows by what they
    /// hold, and for a while by what has to be fetched for them.
    pub(super) async fn read(
        &self,
        ranges: &[Range<u64>],
        reserved: &mut Reserved,
    ) -> Result<Vec<Bytes>, StoreError> {
        let mut pages = BTreeSet::new();
        for range in ranges {
            let range = self.clip(range);
            if !range.is_empty() {
                pages.extend(range.start / PAGE..range.end.div_ceil(PAGE));
            }
        }
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for page in pages {
            match self.caches.memory.get((self.number, page)) {
                Some(bytes) => found.push(Page { start: page * PAGE, bytes }),
                None => missing.push(page),
            }
        }
        let mut held: u64 = found.iter().map(|page| page.bytes.len() as u64).sum();
        reserved.grow(held)?;
        reserved.fetched().from_memory(held);
        if !missing.is_empty() {
            held += self.look_on_disk(&mut missing, &mut found, reserved).await?;
        }
        let wanted = merged(&missing);
        let fetch: u64 =
            wanted.iter().map(|run| self.clip(&(run.start * PAGE..run.end * PAGE))).map(len).sum();
        reserved.grow(fetch)?;
        held += fetch;
        let fetched = reserved.fetched().clone();
        let fetched = futures::stream::iter(wanted.into_iter().map(|run| self.fetch(run, &fetched)))
            .buffer_unordered(REQUESTS_AT_ONCE)
            .try_collect::<Vec<Vec<Page>>>()
            .await?;
        found.extend(fetched.into_iter().flatten());
        found.sort_by_key(|page| page.start);
        let mut parts: Vec<Bytes> = ranges.iter().map(|range| cut(&found, &self.clip(range))).collect();
        let kept: u64 = parts.iter().map(|bytes| bytes.len() as u64).sum();
        if kept.saturating_mul(2) < held {
            // Slices would keep all that was fetched along.
            parts.iter_mut().for_each(|bytes| *bytes = Bytes::copy_from_slice(bytes));
            reserved.shrink(held - kept);
        }
        Ok(parts)
    }

    /// The bytes of one range.
    pub(super) async fn one(&self, range: Range<u64>, reserved: &mut Reserved) -> Result<Bytes, StoreError> {
        Ok(self.read(&[range], reserved).await?.pop().unwrap_or_default())
    }

    /// Moves pages that the disk has from `missing` to `pages`; gives their bytes.
    async fn look_on_disk(
        &self,
        missing: &mut Vec<u64>,
        found: &mut Vec<Page>,
        reserved: &mut Reserved,
    ) -> Result<u64, StoreError> {
        let Some(disk) = self.caches.disk.clone() else { return Ok(0) };
        let most = missing.len() as u64 * PAGE;
        reserved.grow(most)?;
        let (key, pages) = (self.disk_key(), missing.clone());
        // A task that was stopped has found nothing.
        let on_disk = tokio::task::spawn_blocking(move || disk.get(&key, &pages)).await.unwrap_or_default();
        let mut held = 0;
        let mut there = Vec::new();
        for (&page, bytes) in missing.iter().zip(on_disk) {
            let Some(bytes) = bytes else { continue };
            held += bytes.len() as u64;
            there.push(page);
            let kept = self.caches.memory.put((self.number, page), &bytes);
            found.push(Page { start: page * PAGE, bytes: kept.unwrap_or(bytes) });
        }
        missing.retain(|page| there.binary_search(page).is_err());
        reserved.fetched().from_disk(held);
        reserved.shrink(most - held);
        Ok(held)
    }

    /// Keeps bytes that begin with a page.
    pub(super) async fn keep(&self, first: u64, bytes: Bytes) {
        self.kept(first, bytes).await;
    }

    /// Keeps bytes that begin with a page. Gives their pages, as the cache has them: what is cut from these
    /// takes no memory beside it.
    async fn kept(&self, first: u64, bytes: Bytes) -> Vec<Page> {
        let keep = |(page, at): (u64, usize)| {
            let content = bytes.slice(at..bytes.len().min(at + PAGE as usize));
            let kept = self.caches.memory.put((self.number, page), &content);
            (page, kept.unwrap_or(content))
        };
        let pages: Vec<(u64, Bytes)> =
            (first..).zip((0..bytes.len()).step_by(PAGE as usize)).map(keep).collect();
        drop(bytes);
        let kept =
            pages.iter().map(|(page, bytes)| Page { start: page * PAGE, bytes: bytes.clone() }).collect();
        if let Some(disk) = self.caches.disk.clone() {
            let key = self.disk_key();
            // The answer does not depend on it.
            let _ = tokio::task::spawn_blocking(move || disk.put(&key, &pages)).await;
        }
        kept
    }

    fn disk_key(&self) -> String {
        format!("{}/{}", self.bucket.name(), self.key)
    }

    fn clip(&self, range: &Range<u64>) -> Range<u64> {
        let end = range.end.min(self.bytes.load(Ordering::Relaxed));
        range.start.min(end)..end
    }

    /// Fetches pages and keeps them.
    async fn fetch(&self, pages: Range<u64>, fetched: &Fetched) -> Result<Vec<Page>, BucketError> {
        let start = pages.start * PAGE;
        let known = self.bytes.load(Ordering::Relaxed);
        let end = pages.end.saturating_mul(PAGE).min(known);
        let bytes = self.bucket.get_range(&self.key, start..end).await?;
        fetched.request(bytes.len() as u64);
        if (bytes.len() as u64) < end.saturating_sub(start) {
            if known != u64::MAX {
                let what = format!("object is shorter than bytes={known}");
                return Err(BucketError::Corrupt { key: self.key.clone(), what });
            }
            // Where a request ends early the object does.
            self.bytes.fetch_min(start + bytes.len() as u64, Ordering::Relaxed);
        }
        Ok(self.kept(pages.start, bytes).await)
    }
}

fn len(range: Range<u64>) -> u64 {
    range.end - range.start
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

/// The bytes of a range from sorted pages, of which some may be there twice; a slice where one has them all.
fn cut(pages: &[Page], range: &Range<u64>) -> Bytes {
    let end_of = |page: &Page| page.start + page.bytes.len() as u64;
    // The bytes from `at` on that a page has.
    let part_at = |at: u64| {
        let page = pages[..pages.partition_point(|page| page.start <= at)].last()?;
        let upto = range.end.min(end_of(page));
        (at < upto).then(|| page.bytes.slice((at - page.start) as usize..(upto - page.start) as usize))
    };
    let Some(first) = part_at(range.start) else { return Bytes::new() };
    let len = range.end - range.start;
    if first.len() as u64 == len {
        return first;
    }
    // No more than the pages have, whatever was asked for.
    let most = pages.iter().map(|page| page.bytes.len()).sum();
    let mut whole = BytesMut::with_capacity(usize::try_from(len).unwrap_or(most).min(most));
    whole.extend_from_slice(&first);
    while let Some(part) = part_at(range.start + whole.len() as u64) {
        whole.extend_from_slice(&part);
    }
    whole.freeze()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use object_store::memory::InMemory;
    use proptest::prelude::*;
    use pyrrha_model::contract::{MemoryBudget, QueryContext};
    use pyrrha_testkit::SimDisk;

    use pyrrha_model::contract::FetchedCounts;

    use super::*;
    use crate::GatewayConfig;
    use crate::door::{Operation, RetryPolicy};

    const LEN: u64 = 70 * PAGE + 1234;

    fn content() -> Bytes {
        (0..LEN).map(|i| (i ^ (i >> 8) ^ (i >> 15)) as u8).collect()
    }

    fn object(cache: usize, disk_bytes: u64, bytes: u64) -> (tokio::runtime::Runtime, RangedObject) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let policy = RetryPolicy { timeout: Duration::from_secs(9), ..RetryPolicy::default() };
        let bucket = Bucket::new(Arc::new(InMemory::new()), "memory", "", policy);
        runtime.block_on(bucket.put("k", content())).expect("no fault");
        let config =
            GatewayConfig { cache_dir: "/c".into(), cache_bytes: cache, disk_bytes, header_bytes: 0 };
        let caches = Arc::new(Caches::new(Arc::new(SimDisk::new(1)), &config));
        (runtime, RangedObject::new(bucket, "k".to_owned(), caches, bytes))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn ranges_are_what_the_object_has(
            rounds in prop::collection::vec(prop::collection::vec((0..LEN, 0u64..200_000), 0..20), 1..5),
            cache in prop_oneof![Just(0usize), Just(300_000), Just(usize::MAX)],
            known in any::<bool>(),
            disk in prop_oneof![Just(0u64), Just(20 * PAGE), Just(1 << 30)],
        ) {
            let (runtime, object) = object(cache, disk, if known { LEN } else { u64::MAX });
            let content = content();
            for round in rounds {
                let ranges: Vec<_> = round.iter().map(|&(start, len)| start..start + len).collect();
                let ctx = QueryContext { budget: MemoryBudget::new("query", 100 << 20, None), ..QueryContext::unlimited() };
                let mut reserved = Reserved::new(&ctx, 0).expect("fits");
                let found = runtime.block_on(object.read(&ranges, &mut reserved)).expect("no fault");
                drop(reserved);
                prop_assert_eq!(ctx.budget.used(), 0);
                for (range, found) in ranges.iter().zip(found) {
                    prop_assert!(found == content[range.start as usize..range.end.min(LEN) as usize]);
                }
            }
        }
    }

    #[test]
    fn near_ranges_are_one_request_and_known_ones_none() {
        let (runtime, object) = object(usize::MAX, 0, LEN);
        let ranges = [0..10, 3 * PAGE..3 * PAGE + 5, 40 * PAGE..41 * PAGE];
        for _ in 0..3 {
            let ctx = QueryContext::unlimited();
            let mut reserved = Reserved::new(&ctx, 0).expect("fits");
            runtime.block_on(object.read(&ranges, &mut reserved)).expect("no fault");
            assert_eq!(object.bucket.counters().attempts(Operation::GetRange), 2);
            let counts = ctx.fetched.counts();
            let cold = FetchedCounts { requests: 2, bytes: 5 * PAGE, ..FetchedCounts::default() };
            let warm = FetchedCounts { memory_bytes: 3 * PAGE, ..FetchedCounts::default() };
            assert!([cold, warm].contains(&counts), "{counts:?}");
        }
    }
}
