//! What a query fetched from an object store: requests are what stores bill.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of one query. Sources add to them; whoever answers the query shows them.
#[derive(Debug, Default)]
pub struct Fetched {
    requests: AtomicU64,
    bytes: AtomicU64,
    memory_bytes: AtomicU64,
    disk_bytes: AtomicU64,
}

/// [`Fetched`] at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FetchedCounts {
    /// Requests that were sent to the store.
    pub requests: u64,
    /// Bytes that the store sent.
    pub bytes: u64,
    /// Bytes that a cache in memory had instead.
    pub memory_bytes: u64,
    /// Bytes that a cache on disk had instead.
    pub disk_bytes: u64,
}

impl Fetched {
    /// Counts an answered request.
    pub fn request(&self, bytes: u64) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts bytes that were in memory.
    pub fn from_memory(&self, bytes: u64) {
        self.memory_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts bytes that were on disk.
    pub fn from_disk(&self, bytes: u64) {
        self.disk_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The counts so far.
    pub fn counts(&self) -> FetchedCounts {
        FetchedCounts {
            requests: self.requests.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            memory_bytes: self.memory_bytes.load(Ordering::Relaxed),
            disk_bytes: self.disk_bytes.load(Ordering::Relaxed),
        }
    }
}
