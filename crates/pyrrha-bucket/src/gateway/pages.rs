//! Caches of pages of bucket objects: in memory, within a hard budget of bytes, and behind it on disk.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use pyrrha_env::Disk;
use std::collections::HashMap;

use super::GatewayConfig;
use super::disk_cache::{self, DiskCache};
use super::open_blocks::OpenBlocks;

/// Objects are read and kept in pages of so many bytes.
pub(super) const PAGE: u64 = 32 << 10;
/// What a page costs beside its bytes, about: keys in the map and in the queue.
const OVERHEAD: usize = 96;

/// The caches of a gateway.
#[derive(Debug)]
pub(super) struct Caches {
    pub(super) memory: PageCache,
    pub(super) disk: Option<Arc<DiskCache>>,
    pub(super) open: OpenBlocks,
}

impl Caches {
    pub(super) fn new(disk: Arc<dyn Disk>, config: &GatewayConfig) -> Self {
        let dir = disk_cache::dir(&config.cache_dir);
        let on_disk = (config.disk_bytes > 0).then(|| Arc::new(DiskCache::new(disk, dir, config.disk_bytes)));
        let open = OpenBlocks::new(config.header_bytes);
        Self { memory: PageCache::new(config.cache_bytes), disk: on_disk, open }
    }
}

/// A page: number of the object in this process, number of the page in the object.
type Key = (u64, u64);

/// Pages, of which those that are not asked for again go first (second chance).
#[derive(Debug)]
pub(super) struct PageCache {
    limit: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    pages: HashMap<Key, Page>,
    order: VecDeque<Key>,
    stats: CacheStats,
}

#[derive(Debug)]
struct Page {
    bytes: Bytes,
    again: bool,
}

/// What a cache holds and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheStats {
    /// Bytes held, with what it costs to hold them.
    pub bytes: usize,
    /// Pages, or opened blocks, that were found.
    pub hits: u64,
    /// What was not found.
    pub misses: u64,
    /// What had to go.
    pub evicted: u64,
}

/// What the caches of a gateway hold and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GatewayStats {
    /// Pages in memory.
    pub memory: CacheStats,
    /// Pages on disk.
    pub disk: CacheStats,
    /// Opened blocks: tables of their headers.
    pub headers: CacheStats,
}

impl Caches {
    pub(super) fn stats(&self) -> GatewayStats {
        GatewayStats {
            memory: self.memory.stats(),
            disk: self.disk.as_ref().map(|disk| disk.stats()).unwrap_or_default(),
            headers: self.open.stats(),
        }
    }
}

impl PageCache {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, inner: Mutex::default() }
    }

    pub(super) fn stats(&self) -> CacheStats {
        self.inner.lock().stats
    }

    /// The bytes of a page; fewer than [`PAGE`] at the end of an object.
    pub(super) fn get(&self, key: Key) -> Option<Bytes> {
        let inner = &mut *self.inner.lock();
        let found = inner.pages.get_mut(&key).map(|page| {
            page.again = true;
            page.bytes.clone()
        });
        if found.is_some() {
            inner.stats.hits += 1
        } else {
            inner.stats.misses += 1
        }
        found
    }

    /// Keeps a copy of a page: what it was cut from is a larger allocation. Gives the copy; `None` if there is
    /// no room for it.
    pub(super) fn put(&self, key: Key, bytes: &[u8]) -> Option<Bytes> {
        let cost = bytes.len() + OVERHEAD;
        if cost > self.limit {
            return None;
        }
        let inner = &mut *self.inner.lock();
        if let Some(page) = inner.pages.get(&key) {
            return Some(page.bytes.clone());
        }
        while inner.stats.bytes + cost > self.limit && inner.evict_one() {}
        let bytes = Bytes::copy_from_slice(bytes);
        inner.pages.insert(key, Page { bytes: bytes.clone(), again: false });
        inner.order.push_back(key);
        inner.stats.bytes += cost;
        Some(bytes)
    }
}

impl Inner {
    /// Removes the oldest page that was not asked for since its last turn; false if there is none.
    fn evict_one(&mut self) -> bool {
        while let Some(key) = self.order.pop_front() {
            match self.pages.get_mut(&key) {
                Some(page) if page.again => {
                    page.again = false;
                    self.order.push_back(key);
                }
                _ => {
                    if let Some(page) = self.pages.remove(&key) {
                        self.stats.bytes -= page.bytes.len() + OVERHEAD;
                        self.stats.evicted += 1;
                        return true;
                    }
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_hard_and_what_is_asked_for_stays() {
        let cache = PageCache::new(10 * (100 + OVERHEAD));
        for page in 0..1000 {
            cache.put((1, page), &[page as u8; 100]);
            assert!(cache.stats().bytes <= 10 * (100 + OVERHEAD));
            // Page 0 is asked for all the time.
            assert_eq!(cache.get((1, 0)).as_deref(), Some(&[0u8; 100][..]));
        }
        assert_eq!(cache.get((1, 999)).map(|b| b.len()), Some(100));
        assert_eq!(cache.get((1, 500)), None);
        assert_eq!(cache.get((2, 0)), None);
        assert_eq!(cache.stats().evicted, 990);
        cache.put((3, 0), &[0; 100_000]);
        assert_eq!(cache.get((3, 0)), None, "larger than the whole cache");
    }
}
